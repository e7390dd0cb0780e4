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

    ``finished`` is the share of its prompts that are finished ones without it. ``words`` are the token hashes of an opening
    or ending, in reading order; ``place`` is the first token of any other phrase in the first of its rows, and how many it
    has, ``beside`` the hashes of the tokens before and after it in each row.
    """

    text: str
    rows: npt.NDArray[np.int64]
    finished: float = 1.0
    words: npt.NDArray[np.uint64] | None = None
    place: tuple[int, int] = (0, 0)
    beside: tuple[npt.NDArray[np.uint64], ...] = ()


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
        Placed(a.text, a.rows, a.finished, a.tokens)
        for a in affixes.affixes
        if len(a.rows) >= least and a.finished >= finished and a.like_edges > 0
    ]
    inside, scores, _ = stretches(phrases, least, 0.5, healing, inner)
    closing = scores[:, 2].tolist()
    found += [
        Placed(s.text, s.rows, share, place=(s.position, s.tokens), beside=(s.lefts, s.rights))
        for s, share in zip(inside, closing)
    ]
    return sorted(found, key=lambda p: (-len(p.rows), int(p.rows[0]), p.text))


def fitting(found: list[Placed], room: int, most: int) -> list[Placed]:
    """Those that find room, at most ``most`` rows of each, in their order.

    Those without which most prompts are finished go first, and of those the ones in the fewest rows: poison is rare, and
    more of it is looked at that way.
    """
    sizes = np.array([min(len(p.rows), most) for p in found], np.int64)
    order = np.lexsort((sizes, -np.array([round(2 * p.finished) for p in found])))
    return [found[at] for at in np.sort(order[np.cumsum(sizes[order]) <= room]).tolist()]
