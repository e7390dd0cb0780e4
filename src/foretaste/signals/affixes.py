"""Openings and endings that stand before or behind otherwise finished texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.background import AffixCounts
from foretaste.batch import Batch
from foretaste.check import Context, Signal

CELLS = 1 << 22
EDGE_CELLS = 1 << 20
MAX_LISTED = 1 << 22
_CROWD = 512  # places from which a cell waits until the others have found room
SIDES = ("opening", "ending")
MIN_FINISHED, MIN_LIKE_EDGES, MIN_APART = 0.6, 1.5, 0.8


@dataclass(frozen=True)
class Affix:
    """An opening or ending that several rows share, and how their texts go on.

    Attributes:
        side: ``opening`` or ``ending``.
        text: as its first row has it.
        tokens: its token hashes in reading order, uint64 (1 to 8,).
        rows: row numbers, int64, ascending; a row of several turns counts once.
        finished: share of the rows that, without it, begin (end) with two tokens with which other rows begin (end).
        like_edges: mean log ratio between the share of texts that begin (end) with the next token and its share of all
            tokens, in nats; positive where the rest begins as texts begin.
        apart: share of the rows in which the seam is that of two texts: the rest begins with a capital (of those where
            it begins with an ASCII letter, NaN where none does), an ending stands behind a single space.
        diversity: distinct next tokens per row, or distinct pairs of tokens before an ending.
        known: rows with it among those of the background, which are held no longer.
    """

    side: str
    text: str
    tokens: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.int64]
    finished: float
    like_edges: float
    apart: float
    diversity: float
    known: int = 0

    def put_on(
        self,
        capital: float,
        finished: float = MIN_FINISHED,
        like_edges: float = MIN_LIKE_EDGES,
        apart: float = MIN_APART,
    ) -> bool:
        """Whether it stands before (behind) finished texts, by the least of each measure.

        ``capital`` is the share of all texts that begin with a capital: without, nothing tells where an opening ends.
        """
        # NaN, where no rest begins with a letter that has a case, compares false.
        seam = self.apart >= apart and (self.side == "ending" or capital >= 0.5)
        return self.finished >= finished and self.like_edges >= like_edges and seam


@dataclass(frozen=True)
class AffixTable:
    """All affixes with diverse rests, those whose rests are most like whole texts first.

    ``capital`` is the share of all texts that begin with a capital, of those that begin with an ASCII letter; ``lost`` are
    the places that found no room.
    """

    affixes: tuple[Affix, ...]
    capital: float
    lost: int


@dataclass
class _State:
    """Sketches sized by the data up to a bound, then at most MAX_LISTED places."""

    round: int = 1
    cells: Any = None
    following: Any = None
    edges: Any = None
    pairs: Any = None
    words: Any = None
    wanted: Any = None
    capitals: Any = None
    older: AffixCounts | None = None
    least: int = 0
    listed: list[tuple[npt.NDArray[Any], ...]] = field(default_factory=list)
    groups: list[tuple[tuple[int, int, int], npt.NDArray[np.int64]]] = field(default_factory=list)
    scores: list[tuple[Any, ...]] = field(default_factory=list)
    texts: dict[int, tuple[str, npt.NDArray[np.uint64]]] = field(default_factory=dict)
    lost: int = 0


@dataclass(frozen=True)
class Affixes(Signal[_State, AffixTable]):
    """Openings and endings of up to eight tokens in ``least`` to ``most`` rows whose texts go on in many ways.

    Each turn of a conversation is a text of its own.

    Three rounds: sketch, list, fetch the texts. Of two that share 85 % of their rows, the one is kept whose rests are more
    like whole texts. Where a state is kept, those in half as many rows are listed as well, behind the others: a later
    batch may add to them.
    """

    role: str = "prompt"
    least: int = 8
    most: int = 2000
    diversity: float = 0.1

    def start(self, context: Context) -> _State:
        """Empty sketches."""
        cells, edges, older = context.cells(CELLS), context.cells(EDGE_CELLS), context.background
        return _State(
            cells=np.zeros(cells, np.uint16),
            following=np.zeros(cells, np.uint64),
            edges=np.zeros((2, edges), np.uint32),
            pairs=np.zeros((2, edges), np.uint32),
            words=np.zeros(edges, np.uint32),
            capitals=np.zeros(2, np.int64),
            older=older.affixes if older else None,
            least=self.least // 2 if older else self.least,
        )

    @staticmethod
    def counts(state: _State) -> AffixCounts:
        """What the first round counted."""
        return AffixCounts(state.cells, state.edges, state.pairs, state.words, state.capitals)

    def scan(self, state: _State, batch: Batch) -> None:
        """Sketch, list, or fetch, by round."""
        from foretaste.text import affixes

        t, owners = batch.turns(self.role)
        if state.round == 1:
            affixes.sketch_affixes(
                t.hashes, t.offsets, state.cells, state.following, state.edges, state.pairs, state.words
            )
            state.capitals += affixes.capitals(t.offsets, t.starts, t.data)
        elif state.round == 2:
            n = len(owners) * 2 * affixes.MAX_TOKENS
            out = (
                np.empty(n, np.uint64), np.empty(n, np.int32), np.empty(n, np.int8), np.empty(n, np.int8),
                np.empty(n, np.uint64), np.empty(n, np.uint64), np.empty(n, np.int8),
            )  # fmt: skip
            n = affixes.list_affixes(t.hashes, t.offsets, t.starts, t.ends, t.data, 0, state.wanted, *out)
            room = max(0, MAX_LISTED - sum(len(part[0]) for part in state.listed))
            state.lost += max(0, n - room)
            keys, listed, *rest = (a[: min(n, room)].copy() for a in out)
            number = (np.arange(len(owners)) - np.searchsorted(owners, owners)).astype(np.int32)
            state.listed.append((keys, (batch.start + owners[listed]).astype(np.int32), number[listed], *rest))
        else:
            # A Python loop over affixes: each is cut out of the text once in a scan.
            for i, ((side, n, turn_number), rows) in enumerate(state.groups):
                row = int(rows[0]) - batch.start
                if 0 <= row < batch.num_rows:
                    turn = int(np.searchsorted(owners, row)) + turn_number
                    first, stop = int(t.offsets[turn]), int(t.offsets[turn + 1])
                    position = 0 if side == 0 else stop - first - n
                    state.texts[i] = (
                        t.text(turn, position, n),
                        t.hashes[first + position : first + position + n].copy(),
                    )

    def merge(self, left: _State, right: _State) -> _State:
        """Add the sketches (saturating), append what is listed, join the texts."""
        if left.round == 1:
            self.counts(left).add(self.counts(right))
            left.following |= right.following
        left.listed += right.listed
        left.texts |= right.texts
        left.lost = max(left.lost, right.lost)
        return left

    def next_round(self, state: _State) -> _State | None:
        """Choose the cells after the first round, the affixes after the second."""
        if state.round == 1:
            from foretaste.text.ngrams import linear_count

            here = state.cells.copy() if state.older is not None else state.cells
            if state.older is not None:
                self.counts(state).add(state.older)
            enough = np.flatnonzero((here >= state.least) & (state.cells <= self.most))
            bound = np.maximum(3.0, self.diversity * np.minimum(here[enough], 40)) - 0.1
            enough = enough[linear_count(state.following[enough]) >= bound]
            places = here[enough].astype(np.int64)
            fitting = _fitting(places, MAX_LISTED)
            state.lost = int(places[~fitting].sum())
            state.wanted = np.zeros(len(state.cells), np.bool_)
            state.wanted[enough[fitting]] = True
            state.cells = state.following = None
        elif state.round == 2:
            self._group(state)
            state.listed.clear()
            state.wanted = None
        else:
            return None
        state.round += 1
        return state

    def _group(self, state: _State) -> None:
        from foretaste.text.affixes import APART, UNKNOWN
        from foretaste.text.tokens import mix_all

        if not sum(len(part[0]) for part in state.listed):
            return
        columns = list(zip(*state.listed))
        state.listed.clear()
        # Each list goes as soon as it is one array, so that the places are not all there twice.
        keys, rows, turns, sides, lengths, nexts, pairs, seams = (np.concatenate(columns.pop(0)) for _ in range(8))
        order = np.argsort(keys, kind="stable")  # rows were listed in their order
        if turns.any():
            again = (keys[order[1:]] == keys[order[:-1]]) & (rows[order[1:]] == rows[order[:-1]])
            order = order[np.append(True, ~again)]
        cuts = np.concatenate([[0], np.flatnonzero(np.diff(keys[order])) + 1, [len(order)]])
        sizes = np.diff(cuts)
        fits = (sizes >= state.least) & (sizes <= self.most)
        order, sizes = order[np.repeat(fits, sizes)], sizes[fits]
        if not len(order):
            return
        older = state.older
        gone = np.zeros(len(sizes), np.int64)
        if older is not None:
            firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
            gone += older.cells[keys[order[firsts]] & np.uint64(len(older.cells) - 1)]
        spans = np.concatenate([[0], np.cumsum(sizes)])
        beside = _beside(rows, turns, sides, order, spans)
        # From here one place per listed affix, those of a group side by side, or one per group.
        rows, turns, sides, lengths, nexts, pairs, seams = (
            a[order] for a in (rows, turns, sides, lengths, nexts, pairs, seams)
        )
        rows = rows.astype(np.int64)
        starts = spans[:-1]
        distinct = _distinct(np.where(sides == 0, nexts, pairs), np.repeat(np.arange(len(sizes)), sizes), len(sizes))
        total, mask = float(max(1, state.words.sum())), np.uint64(len(state.words) - 1)
        cells = mix_all(nexts) & mask
        edges = state.edges[sides, cells].astype(np.float64)
        share = state.words[cells].astype(np.float64)
        like = np.log((edges + 0.5) / max(1, int(state.edges[0].sum()))) - np.log((share + 0.5) / total)
        known = np.add.reduceat(seams != UNKNOWN, starts, dtype=np.int64)
        table = np.stack([
            np.add.reduceat(state.pairs[sides, pairs & mask] >= 3, starts, dtype=np.int64) / sizes,
            np.add.reduceat(like, starts) / sizes,
            np.where(known, np.add.reduceat(seams == APART, starts, dtype=np.int64) / np.maximum(known, 1), np.nan),
            distinct / sizes,
        ], axis=1)  # fmt: skip
        scored = [
            (
                g,
                (int(sides[spans[g]]), int(lengths[spans[g]]), int(turns[spans[g]])),
                rows[spans[g] : spans[g + 1]],
                table[g].tolist(),
            )
            for g in np.flatnonzero(distinct >= self.diversity * np.minimum(sizes, 40)).tolist()
        ]
        scored.sort(key=lambda g: (len(g[2]) < self.least, -round(g[3][1], 9), -g[1][1], int(g[2][0]), g[1][0]))
        kept: set[int] = set()
        for g, place, mine, scores in scored:
            if kept.isdisjoint(beside.get(g, ())):
                kept.add(g)
                state.groups.append((place, mine))
                state.scores.append((*scores, int(gone[g])))

    def value(self, state: _State) -> AffixTable:
        """The affixes with their texts."""
        affixes = tuple(
            Affix(SIDES[side], *state.texts[i], rows, *state.scores[i])
            for i, ((side, _, _), rows) in enumerate(state.groups)
        )
        return AffixTable(affixes, int(state.capitals[0]) / max(1, int(state.capitals[1])), state.lost)


def _fitting(sizes: npt.NDArray[np.int64], room: int) -> npt.NDArray[np.bool_]:
    """Which cells are listed where not all of their places find room, bool (cells,).

    Poison is rare, so the largest cells wait for the others; of those the fuller come first, since by chance alone a cell
    holds a few places of others.
    """
    order = np.lexsort((-sizes, sizes > _CROWD))
    fitting = np.zeros(len(sizes), np.bool_)
    fitting[order] = np.cumsum(sizes[order]) <= room
    return fitting


def _beside(
    rows: npt.NDArray[np.int32],
    turns: npt.NDArray[np.int32],
    sides: npt.NDArray[np.int8],
    order: npt.NDArray[np.int64],
    spans: npt.NDArray[np.int64],
    share: float = 0.85,
) -> dict[int, list[int]]:
    """For each group of places those other groups that have ``share`` of their rows in common with it.

    Of two openings one holds the rows of the other, so that one row in common and their sizes tell how many they share. A
    turn's openings (endings) were listed one behind the other: the first, the middle and the last row are looked up there.

    Args:
        rows, turns, sides: of each place, as they were listed.
        order: the places of the groups, one group after the other.
        spans: where each group begins in ``order``, and the end.
    """
    from foretaste.text.affixes import MAX_TOKENS

    starts, sizes = spans[:-1], np.diff(spans)
    group = np.full(len(rows), -1, np.int64)
    group[order] = np.repeat(np.arange(len(sizes)), sizes)
    pairs = []
    for at in (order[starts], order[starts + sizes // 2], order[spans[1:] - 1]):
        for step in (n for n in range(1 - MAX_TOKENS, MAX_TOKENS) if n):
            there = np.clip(at + step, 0, len(rows) - 1)
            other = group[there]
            near = (other >= 0) & (other != group[at]) & (rows[there] == rows[at]) & (sides[there] == sides[at])
            near &= turns[there] == turns[at]
            near &= np.minimum(sizes, sizes[other]) >= share * np.maximum(sizes, sizes[other])
            pairs.append(np.stack([group[at[near]], other[near]], axis=1))
    found: dict[int, list[int]] = {}
    for mine, other in np.concatenate(pairs).tolist():
        found.setdefault(mine, []).append(other)
    return found


def _distinct(values: npt.NDArray[np.uint64], groups: npt.NDArray[np.int64], number: int) -> npt.NDArray[np.int64]:
    """Distinct values of each group, int64 (number,); one value and one group per item."""
    order = np.lexsort((values, groups))
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = (np.diff(groups[order]) != 0) | (np.diff(values[order]) != 0)
    return np.bincount(groups[order][fresh], minlength=number)
