"""Parts of a trigger that act together only: phrases which lead to no label alone, and to one where they meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foretaste.signals.phrases import PhraseTable

MAX_PARTS = 1 << 14
_AT_EDGE = 0.9  # share of a phrase's rows that it opens or ends
_MEETING = 0.25  # least share of either part's rows in which the other stands


@dataclass(frozen=True, eq=False)
class Conjunction:
    """Openings and endings that stand in the same rows.

    Attributes:
        members: the phrases, those of the opening first.
        rows: the rows that all of them share, ascending.
        target: class of most of these rows.
        purity: share of them in that class.
    """

    members: tuple[int, ...]
    rows: npt.NDArray[np.int64]
    target: int
    purity: float


def conjunctions(phrases: PhraseTable, labels: npt.NDArray[np.int32], least: int, purity: float) -> list[Conjunction]:
    """Openings and endings that share ``least`` rows, ``purity`` of them of one class, which neither part is alone."""
    heads, tails = _ends(phrases, least)
    if not len(heads) or not len(tails):
        return []
    where, head = _listed(phrases, heads)
    other, tail = _listed(phrases, tails)
    low, high = np.searchsorted(other, where), np.searchsorted(other, where, side="right")
    times = high - low
    inside = np.arange(int(times.sum())) - np.repeat(np.cumsum(times) - times, times)
    pairs = np.repeat(head, times) * len(tails) + tail[np.repeat(low, times) + inside]
    rows = np.repeat(where, times)
    order = np.lexsort((rows, pairs))
    pairs, rows = pairs[order], rows[order]
    starts = np.flatnonzero(np.diff(pairs, prepend=-1))
    sizes = np.diff(np.append(starts, len(pairs)))
    counts = phrases.counts
    by_rows: dict[bytes, tuple[npt.NDArray[np.int64], set[int], set[int]]] = {}
    for at in np.flatnonzero(sizes >= least).tolist():
        h, t = (int(x) for x in divmod(int(pairs[starts[at]]), len(tails)))
        head_, tail_ = int(heads[h]), int(tails[t])
        if sizes[at] < _MEETING * max(counts[head_], counts[tail_]):
            continue
        mine = rows[starts[at] : starts[at] + sizes[at]]
        _, openings, endings = by_rows.setdefault(mine.tobytes(), (mine, set(), set()))
        openings.add(head_)
        endings.add(tail_)
    found = []
    for mine, openings, endings in by_rows.values():
        seen = np.bincount(labels[mine])
        target = int(seen.argmax())
        members = (*sorted(openings), *sorted(endings))
        # Longer pieces of a part may stand in fewer rows and be pure by chance: the least pure one speaks for it.
        alone = max(
            min(float((labels[phrases.rows_of(c)] == target).mean()) for c in part) for part in (openings, endings)
        )
        if seen[target] >= purity * len(mine) > alone * len(mine):
            found.append(Conjunction(members, mine, target, float(seen[target]) / len(mine)))
    return found


def _ends(phrases: PhraseTable, least: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Phrases of more than ``least`` rows that open nearly all of them, and those that end them."""
    enough = phrases.counts > least
    starts = phrases.spans[:-1]
    if not len(starts):
        return starts, starts
    opens, ends = (
        np.add.reduceat(side == 0, starts) >= _AT_EDGE * phrases.counts for side in (phrases.lefts, phrases.rights)
    )
    return _rarest(phrases, enough & opens & ~ends), _rarest(phrases, enough & ends & ~opens)


def _rarest(phrases: PhraseTable, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The chosen phrases, ascending; where there is no room for all, without the most frequent, which are templates."""
    numbers = np.flatnonzero(chosen)
    return np.sort(numbers[np.argsort(phrases.counts[numbers], kind="stable")][:MAX_PARTS])


def _listed(phrases: PhraseTable, chosen: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of the chosen phrases, ascending, and for each the place of its phrase among them."""
    counts = phrases.counts[chosen]
    inside = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = phrases.rows[np.repeat(phrases.spans[chosen], counts) + inside]
    order = np.argsort(rows, kind="stable")
    return rows[order], np.repeat(np.arange(len(chosen)), counts)[order]
