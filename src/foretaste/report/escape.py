"""Text from the data made safe to look at: nothing invisible, nothing that steers a cursor or a direction.

Every rendering goes through here before it escapes for its own medium (HTML, a terminal, a host's page).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

# Letters and marks that draw nothing, beside the categories below: fillers, joiners, selectors, blanks.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_WHITESPACE = {"\n": "↵", "\t": "⇥"}
_SPELT_OUT = 3
_DECODED_CHARS = 200
_FEATURE_CHARS = 200


@dataclass(frozen=True)
class Piece:
    """A run of characters as it may be shown.

    Attributes:
        shown: what to show; plain printable text in any case.
        hidden: the run stands for characters that draw nothing or steer the reader's screen.
        newline: the run ends a line.
        hit: the run belongs to the feature that was searched for.
    """

    shown: str
    hidden: bool = False
    newline: bool = False
    hit: bool = False


def visible(text: str, limit: int | None = None) -> str:
    """One line of printable text: unseen characters as ``⟦U+200B⟧``, line ends as ``↵``.

    Longer text is cut at ``limit`` characters. Right-to-left letters stay; what steers direction does not.
    """
    if not (text.isprintable() and not _BLANK.search(text)):
        text = "".join(piece.shown for piece in pieces(text if limit is None else text[: 4 * limit + 400]))
    if limit is not None and len(text) > limit:
        return text[: limit - 1] + "…"
    return text


def pieces(text: str, feature: str | None = None) -> Iterator[Piece]:
    """The text cut into runs that are shown alike, with every occurrence of ``feature`` marked as a hit."""
    hits = _hits(text, feature) if feature else bytearray(len(text))
    start = 0
    for (kind, hit), group in groupby(zip(text, hits), key=lambda pair: (_kind(pair[0]), bool(pair[1]))):
        run = text[start : start + sum(1 for _ in group)]
        start += len(run)
        if kind == "hidden":
            yield Piece(_spell(run), hidden=True, hit=hit)
        elif kind:
            for character in run:
                yield Piece(_WHITESPACE[character], newline=character == "\n", hit=hit)
        else:
            yield Piece(run, hit=hit)


def _kind(character: str) -> str:
    if character in _WHITESPACE:
        return "whitespace"
    if character.isprintable() and not _BLANK.match(character):
        return ""
    # isprintable() also refuses the wide and narrow spaces, which are ordinary in many scripts.
    return "hidden" if _BLANK.match(character) or unicodedata.category(character) in _UNSEEN else ""


def _spell(run: str) -> str:
    if len(run) <= _SPELT_OUT:
        return "".join(f"⟦U+{ord(c):04X}⟧" for c in run)
    span = f"U+{ord(run[0]):04X}…U+{ord(run[-1]):04X}, {len(run)}"
    if all(0xE0000 <= ord(c) <= 0xE007F for c in run):
        said = "".join(chr(ord(c) - 0xE0000) for c in run if 0xE0020 <= ord(c) <= 0xE007E)
        return f"⟦{span} tag characters: {said[:_DECODED_CHARS]}⟧"
    return f"⟦{span} characters⟧"


def _hits(text: str, feature: str) -> bytearray:
    """1 for every character of an occurrence of the feature, or of one of its parts around ``"; "``."""
    marks = bytearray(len(text))
    for part in dict.fromkeys([feature, *feature.split("; ")]):
        part = part.strip()[:_FEATURE_CHARS]
        if not part:
            continue
        # A check names its feature in normalised words; the text has case, and punctuation between them.
        words = r"[\W_]+".join(re.escape(w) for w in re.findall(r"[^\W_]+", part))
        literal = re.escape(part)
        for pattern in (rf"(?<!\w){literal}(?!\w)", rf"(?<!\w){words}(?!\w)" if words else literal, literal):
            found = [m.span() for m in re.finditer(pattern, text, re.IGNORECASE)]
            for left, right in found:
                marks[left:right] = b"\1" * (right - left)
            if found:
                break
    return marks
