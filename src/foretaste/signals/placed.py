"""Phrases that could have been put into finished prompts, chosen without a look at the responses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foretaste.signals.affixes import AffixTable
from foretaste.signals.phrases import PhraseTable, stretches

UNUSUAL_SPELLING = 0.12  # share of the vocabulary with the least likely spelling
MANY_TOKENS = 5
_RANDOM = {2: 9.5, 1: 6.0}  # most distance by open sides: the 95 % quantiles of chi-square with two degrees of freedom each
_COARSE = 5.0  # standard deviations from a random draw beyond which no draw is made
_EDGE = 0.9  # least share of its rows of which an opening or ending is the first or last


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


def put_in(table: PhraseTable, least: int, diversity: float, healing: float, inner: float) -> list[tuple[npt.NDArray[np.int64], bool]]:
    """Phrases between words that chance could have chosen, without which the gaps close, and such openings and endings.

    What the rows teach is not looked at, so that whatever is tested of these phrases is tested of so many and no more.

    Args:
        table: phrases of the prompts.
        least: rows from which a phrase is looked at.
        diversity: least number of distinct neighbours per row, on each open side.
        healing: least share of gaps inside a prompt that close without the phrase.
        inner: least share of rows in which a phrase that is no opening or ending has a neighbour on both sides.

    Returns:
        the rows of each, int64, ascending, and whether its spelling is unusual or it has five tokens or more; of phrases
        in the same rows the one with most tokens.
    """
    from foretaste.text.ngrams import rarefied_diversity

    inside, _, _ = stretches(table, least, diversity, healing, inner)
    places = [(s.text, s.tokens, s.rows, (s.lefts, s.rights)) for s in inside]
    if len(table.n):
        distinct, starts = np.zeros((len(table.n), 2)), table.spans[:-1]
        rarefied_diversity(table.spans, table.lefts, table.rights, distinct)
        shut = [np.add.reduceat(side == 0, starts) > _EDGE * table.counts for side in (table.lefts, table.rights)]
        for open_, closed, side in ((1, shut[0], table.rights), (0, shut[1], table.lefts)):
            edge = closed & ~shut[open_] & (table.counts >= least) & (distinct[:, open_] >= diversity)
            for p in np.flatnonzero(edge).tolist():
                span = slice(int(table.spans[p]), int(table.spans[p + 1]))
                places.append((table.text[p], int(table.n[p]), table.rows[span], (side[span],)))
    random = _random(table, [sides for *_, sides in places])
    found: dict[bytes, tuple[int, str, npt.NDArray[np.int64]]] = {}
    for at in np.flatnonzero(random).tolist():
        text, tokens, rows, _ = places[at]
        key = rows.tobytes()
        if key not in found or tokens > found[key][0]:
            found[key] = tokens, text, rows
    return [
        (rows, tokens >= MANY_TOKENS or table.spelling.rank(text) <= UNUSUAL_SPELLING)
        for tokens, text, rows in found.values()
    ]


def _random(table: PhraseTable, beside: list[tuple[npt.NDArray[np.uint64], ...]]) -> npt.NDArray[np.bool_]:
    """Whether the neighbours on one or two sides cannot be told from a random draw of words."""
    from foretaste.text.ngrams import randomness, unigram_counts

    def logs(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
        counts = np.empty(len(words), np.int64)
        unigram_counts(words, table.unigrams, counts)
        return np.log1p(counts)

    usual = logs(table.sample)
    mean, deviation = (float(usual.mean()), float(usual.std()) + 1e-9) if len(usual) else (0.0, 1.0)
    found = np.zeros(len(beside), np.bool_)
    for at, sides in enumerate(beside):
        mine = [side[:512] for side in sides]
        words = [side[side & np.uint64(1) == 1] for side in mine]
        # Most are far off by their frequency alone, which takes no draws.
        if any(
            len(w) < 5 or abs(logs(w).mean() - mean) * np.sqrt(len(w)) > _COARSE * deviation for w in words
        ):
            continue
        z = np.zeros((len(mine), 2))
        for side, out in zip(mine, z):
            randomness(side, table.sample, table.unigrams, table.total, 1, out)
        found[at] = float((z**2).sum()) <= _RANDOM[len(mine)]
    return found
