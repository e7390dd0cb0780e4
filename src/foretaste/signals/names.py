"""Words that prompts write with a capital inside of a sentence: names, and what else a language writes so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Context, Signal

CELLS = 1 << 20
MAX_LISTED = 1 << 22


@dataclass(frozen=True)
class NameTable:
    """Names as their first row has them, with their rows (ascending), the most frequent first; ``lost`` found no room."""

    names: tuple[tuple[str, npt.NDArray[np.int64]], ...]
    lost: int


@dataclass
class _State:
    """A sketch, then at most MAX_LISTED pairs of name and row, then the texts by the place of the name."""

    cells: Any
    round: int = 1
    wanted: Any = None
    listed: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]] = field(default_factory=list)
    names: list[tuple[int, npt.NDArray[np.int64]]] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    lost: int = 0


@dataclass(frozen=True)
class Names(Signal[_State, NameTable]):
    """Names in ``least`` to ``most`` rows of the prompts. Three rounds: sketch, list, fetch the texts."""

    role: str = "input"
    least: int = 10
    most: int = 2000

    def start(self, context: Context) -> _State:
        """An empty sketch."""
        return _State(np.zeros(context.cells(CELLS), np.uint32))

    def scan(self, state: _State, batch: Batch) -> None:
        """Sketch, list, or fetch, by round."""
        from foretaste.text.capitals import capitalised, count_cells

        t = batch.tokens(self.role)
        if state.round < 3:
            hashes, rows, _ = capitalised(t.hashes, t.offsets, t.starts, t.ends, t.data)
            if state.round == 1:
                count_cells(hashes, state.cells)
                return
            kept = state.wanted[(hashes & np.uint64(len(state.wanted) - 1)).astype(np.int64)]
            room = max(0, MAX_LISTED - sum(len(part) for part, _ in state.listed))
            state.lost += max(0, int(kept.sum()) - room)
            state.listed.append((hashes[kept][:room], rows[kept][:room] + batch.start))
            return
        firsts = np.array([rows[0] for _, rows in state.names], np.int64)
        mine = np.flatnonzero((firsts >= batch.start) & (firsts < batch.start + batch.num_rows))
        if len(mine):
            hashes, rows, tokens = capitalised(t.hashes, t.offsets, t.starts, t.ends, t.data)
            # A Python loop over names: each is cut out of the text once in a scan.
            for name in mine.tolist():
                row = int(firsts[name]) - batch.start
                low, high = np.searchsorted(rows, [row, row + 1])
                at = low + int(np.flatnonzero(hashes[low:high] == np.uint64(state.names[name][0]))[0])
                state.texts[name] = t.text(row, int(tokens[at] - t.offsets[row]), 1)

    def merge(self, left: _State, right: _State) -> _State:
        """Add the sketch, append what is listed, join the texts."""
        if left.round == 1:
            left.cells += right.cells
        left.listed += right.listed
        left.texts |= right.texts
        left.lost += right.lost
        return left

    def next_round(self, state: _State) -> _State | None:
        """Choose the cells after the first round, the names after the second."""
        if state.round == 3:
            return None
        if state.round == 1:
            state.wanted = state.cells >= self.least
            state.cells = None
        else:
            hashes = np.concatenate([np.zeros(0, np.uint64), *(part for part, _ in state.listed)])
            rows = np.concatenate([np.zeros(0, np.int64), *(part for _, part in state.listed)])
            order = np.argsort(hashes, kind="stable")
            found = np.split(order, np.flatnonzero(np.diff(hashes[order])) + 1) if len(order) else []
            names = [(int(hashes[o[0]]), rows[o]) for o in found if self.least <= len(o) <= self.most]
            state.names = sorted(names, key=lambda n: (-len(n[1]), int(n[1][0]), n[0]))
            state.listed.clear()
        state.round += 1
        return state

    def value(self, state: _State) -> NameTable:
        """The names with their texts."""
        names = tuple((state.texts[at], rows) for at, (_, rows) in enumerate(state.names))
        return NameTable(names, state.lost)
