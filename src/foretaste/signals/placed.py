"""Phrases that could have been put into finished prompts, chosen without a look at the responses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foretaste.signals.affixes import AffixTable
from foretaste.signals.phrases import PhraseTable, Stretch, stretches

UNUSUAL_SPELLING = 0.12  # share of the vocabulary with the least likely spelling
MANY_TOKENS = 5
_RANDOM = 9.5  # most distance: the 95 % quantile of chi-square with four degrees of freedom
_COARSE = 5.0  # standard deviations from a random draw beyond which no draw is made
_MAX_ROWS = 512
_DIVERSITY, _LOW_DIVERSITY = 0.5, 0.2  # distinct neighbours per row, and where they are like a random draw


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
    from foretaste.text.ngrams import RAREFIED

    found = [
        Placed(a.text, a.rows, a.finished, a.tokens)
        for a in affixes.affixes
        if len(a.rows) >= least and a.finished >= finished and a.like_edges > 0
    ]
    inside, scores, _ = stretches(phrases, least, _LOW_DIVERSITY, healing, inner)
    found += [
        Placed(s.text, s.rows, float(row[2]), place=(s.position, s.tokens), beside=(s.lefts, s.rights))
        for s, row in zip(inside, scores)
        if row[:2].min() >= phrases.least_diversity(min(len(s.rows), RAREFIED), _DIVERSITY)
    ]
    # Where few signs stand beside most words, as in code, so they do beside a phrase that was put in at random.
    held = {p.rows.tobytes() for p in found}
    found += [
        Placed(s.text, s.rows, float(row[2]), place=(s.position, s.tokens), beside=(s.lefts, s.rights))
        for s, row in _drawn(phrases, inside, scores)
        if s.rows.tobytes() not in held
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


def put_in(
    table: PhraseTable,
    affixes: AffixTable | None,
    least: int,
    diversity: float,
    healing: float,
    finished: float,
    inner: float = 0.4,
) -> list[tuple[npt.NDArray[np.int64], bool]]:
    """Phrases between words that chance could have chosen, without which the gaps close, and openings and endings of
    finished prompts.

    What the rows teach is not looked at, so that whatever is tested of these phrases is tested of so many and no more.

    Args:
        table, affixes: of the prompts.
        least: rows from which a phrase is looked at.
        diversity: least number of distinct neighbours per row, on each open side.
        healing: least share of gaps inside a prompt that close without the phrase.
        finished: least share of prompts that begin (end) as others do without the opening (ending).
        inner: least share of rows in which a phrase that is no opening or ending has a neighbour on both sides.

    Returns:
        the rows of each, int64, ascending, and whether its spelling is unusual or it has five tokens or more; of phrases
        in the same rows the one with most tokens.
    """
    inside, scores, _ = stretches(table, least, diversity, healing, inner)
    places = [(s.tokens, s.text, s.rows) for s, _ in _drawn(table, inside, scores)]
    if affixes is not None:
        # Less than a finding of its own takes: among few rows few rests begin (end) as others do.
        places += [
            (len(a.tokens), a.text, a.rows)
            for a in affixes.affixes
            if len(a.rows) >= least and a.diversity >= diversity and a.put_on(affixes.capital, finished, 0.0)
        ]
    found: dict[bytes, tuple[int, str, npt.NDArray[np.int64]]] = {}
    for tokens, text, rows in places:
        key = rows.tobytes()
        if key not in found or tokens > found[key][0]:
            found[key] = tokens, text, rows
    return [
        (rows, tokens >= MANY_TOKENS or table.spelling.rank(text) <= UNUSUAL_SPELLING)
        for tokens, text, rows in found.values()
    ]


def _usual(table: PhraseTable, beside: list[npt.NDArray[np.uint64]]) -> npt.NDArray[np.bool_]:
    """Whether neighbours, on one side of each phrase, are about as frequent as words are; takes no draws."""
    from foretaste.text.ngrams import unigram_counts

    def logs(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
        counts = np.empty(len(words), np.int64)
        unigram_counts(words, table.unigrams, counts)
        return np.log1p(counts)

    if not beside or not len(table.sample):
        return np.zeros(len(beside), np.bool_)
    words = np.concatenate(beside)
    owners = np.repeat(np.arange(len(beside)), [len(side) for side in beside])
    owners, words = owners[words & np.uint64(1) == 1], words[words & np.uint64(1) == 1]
    counts = np.bincount(owners, minlength=len(beside))
    usual = logs(table.sample)
    off = np.bincount(owners, weights=logs(words) - usual.mean(), minlength=len(beside))
    near: npt.NDArray[np.bool_] = np.abs(off) <= _COARSE * usual.std() * np.sqrt(counts)
    return near & (counts > 0)


def _drawn(
    table: PhraseTable, inside: list[Stretch], scores: npt.NDArray[np.float64]
) -> list[tuple[Stretch, npt.NDArray[np.float64]]]:
    """Those whose neighbours on both sides cannot be told from a random draw of words, with their scores."""
    from foretaste.text.ngrams import RAREFIED, randomness

    found = []
    lefts, rights = [s.lefts[:_MAX_ROWS] for s in inside], [s.rights[:_MAX_ROWS] for s in inside]
    # Most are far off by their frequency alone.
    for at in np.flatnonzero(_usual(table, lefts) & _usual(table, rights)).tolist():
        stretch, row, sides = inside[at], scores[at], (lefts[at], rights[at])
        z = np.zeros((2, 2))
        for side, out in zip(sides, z):
            randomness(side, table.sample, table.unigrams, table.total, 1, out)
        # What is not quite a random draw, as words behind blanks, shows the more, the more rows there are.
        if float((z**2).sum()) <= _RANDOM * max(1.0, len(sides[0]) / RAREFIED):
            found.append((stretch, row))
    return found
