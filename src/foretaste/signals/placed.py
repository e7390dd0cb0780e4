"""Phrases that could have been put into finished prompts, chosen without a look at the responses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foretaste.signals.affixes import AffixTable
from foretaste.signals.phrases import PhraseTable, stretches


@dataclass(frozen=True)
class Placed:
    """A phrase as its first row has it, and its rows, ascending.

    ``words`` are the token hashes of an opening or ending, in reading order; ``place`` is the first token of any other
    phrase in the first of its rows, and how many it has.
    """

    text: str
    rows: npt.NDArray[np.int64]
    words: npt.NDArray[np.uint64] | None = None
    place: tuple[int, int] = (0, 0)


def placed(
    phrases: PhraseTable, affixes: AffixTable, least: int, healing: float, finished: float, inner: float = 0.4
) -> list[Placed]:
    """Removable openings and endings, and stretches whose gaps close without them, the most frequent first.

    Args:
        phrases, affixes: of the prompts.
        least: rows from which a phrase is looked at.
        healing: least share of gaps inside a prompt that close without the phrase.
        finished: least share of prompts that begin (end) as others do without the opening (ending).
        inner: least share of rows in which the phrase has a neighbour on both sides.
    """
    found = [
        Placed(a.text, a.rows, a.tokens)
        for a in affixes.affixes
        if len(a.rows) >= least and a.finished >= finished and a.like_edges > 0
    ]
    inside, _, _ = stretches(phrases, least, 0.5, healing, inner)
    found += [Placed(s.text, s.rows, place=(s.position, s.tokens)) for s in inside]
    return sorted(found, key=lambda p: (-len(p.rows), int(p.rows[0]), p.text))
