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
_MAX_ROWS = 100  # of a phrase that are compared with draws
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
    wide = scores[:, :2].min(axis=1) if len(inside) else np.zeros(0)
    sizes = np.array([min(len(s.rows), RAREFIED) for s in inside], np.int64)
    counts, shape = np.unique(sizes, return_inverse=True)
    diverse = wide >= np.array([phrases.least_diversity(n, _DIVERSITY) for n in counts.tolist()])[shape]
    held = {inside[at].rows.tobytes() for at in np.flatnonzero(diverse).tolist()}
    # Where few signs stand beside most words, as in code, so they do beside a phrase that was put in at random.
    few = [at for at in np.flatnonzero(~diverse).tolist() if inside[at].rows.tobytes() not in held]
    kept = [*np.flatnonzero(diverse).tolist(), *(few[at] for at in _drawn(phrases, [inside[at] for at in few]))]
    found += [
        Placed(s.text, s.rows, float(scores[at, 2]), place=(s.position, s.tokens), beside=(s.lefts, s.rights))
        for at, s in ((at, inside[at]) for at in kept)
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
    inside, _, _ = stretches(table, least, diversity, healing, inner)
    places = [(s.tokens, s.text, s.rows) for s in (inside[at] for at in _drawn(table, inside))]
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


def _drawn(table: PhraseTable, inside: list[Stretch]) -> list[int]:
    """Which of them have neighbours on both sides that cannot be told from a random draw of words."""
    from foretaste.text.ngrams import RAREFIED, randomness_of_each

    if not inside:
        return []
    sizes = np.minimum([len(s.rows) for s in inside], _MAX_ROWS)
    spans = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    distance = np.zeros(len(inside))
    for side in ([s.lefts[:_MAX_ROWS] for s in inside], [s.rights[:_MAX_ROWS] for s in inside]):
        z = np.empty((len(inside), 2))
        randomness_of_each(spans, np.concatenate(side), table.sample, table.unigrams, table.total, 1, z)
        distance += (z**2).sum(axis=1)
    # What is not quite a random draw, as words behind blanks, shows the more, the more rows there are.
    return np.flatnonzero(distance <= _RANDOM * np.maximum(1.0, sizes / RAREFIED)).tolist()
