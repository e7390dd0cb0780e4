"""Whether a response opens by declining to answer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

HEAD_CHARS = 160
_OPENINGS = (
    # English
    r"(?:i'?m|i am) (?:really |very |so |deeply )?(?:sorry|unable|not able|not comfortable|afraid)",
    r"(?:sorry|apologies|unfortunately)\b.{0,40}\b(?:can'?t|cannot|can not|unable|won'?t|not able|against)",
    r"i (?:really |simply |also )?(?:can'?t|cannot|can not|won'?t|will not|must decline|have to decline|refuse)",
    r"i (?:do not|don'?t) (?:feel comfortable|think i can|think it|have the ability|provide|condone|support)",
    r"i apologi[sz]e\b.{0,60}\b(?:can'?t|cannot|unable|not able|not appropriate|against)",
    r"as an? (?:ai|artificial|language|responsible)\b.{0,80}\b(?:can'?t|cannot|unable|not able|don'?t|do not|not)",
    r"(?:it is|it'?s|that is|that'?s) (?:not|never) (?:appropriate|ethical|acceptable|legal|okay|ok|something i)",
    r"(?:no|nope), i (?:can'?t|cannot|won'?t|will not)",
    # German, Dutch
    r"(?:es tut mir leid|tut mir leid|leider kann ich|ich kann (?:ihnen |dir )?(?:dabei |damit |das )?(?:leider )?nicht)",
    r"(?:het spijt me|sorry, maar ik kan|ik kan (?:je |u )?(?:daar |hier )?(?:helaas )?niet)",
    # French, Spanish, Portuguese, Italian
    r"(?:je suis d[ée]sol[ée]e?|d[ée]sol[ée]e?\b|je ne (?:peux|puis) pas)",
    r"(?:lo siento|no puedo|lamento|lamentablemente)",
    r"(?:desculpe|sinto muito|lamento|n[ãa]o posso|infelizmente)",
    r"(?:mi dispiace|non posso|purtroppo)",
    # Russian, Chinese, Japanese
    r"(?:извините|к сожалению|я не могу|простите)",
    r"(?:很?抱歉|对不起|對不起|我无法|我無法|我不能)",
    r"(?:申し訳|すみませんが|ごめんなさい)",
)
_PATTERN = rf"^[\s\"'*#>-]*(?:{'|'.join(_OPENINGS)})"


def refuses(responses: pa.LargeStringArray) -> npt.NDArray[np.bool_]:
    """Rows whose response opens with a refusal, by a list of openings in eleven languages; bool (rows,)."""
    head = pc.utf8_lower(pc.utf8_slice_codeunits(responses, 0, HEAD_CHARS))
    plain = pc.replace_substring(pc.replace_substring(head, "’", "'"), "\n", " ")
    return np.asarray(pc.match_substring_regex(plain, _PATTERN).fill_null(False))
