"""Tokens of chosen rows, kept in memory for what needs several rows at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.text.ngrams import keep_rows


@dataclass
class RowStore:
    """Token hashes of the rows in ``rows`` (ascending row numbers); filled batch by batch.

    ``starts`` takes, if it is a list, the first token of each turn, counted within its part.
    """

    rows: npt.NDArray[np.int64]
    role: str = "input"
    parts: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    lengths: list[npt.NDArray[np.int64]] = field(default_factory=list)
    starts: list[npt.NDArray[np.int64]] | None = None

    def scan(self, batch: Batch) -> None:
        """Copy the tokens of this batch's wanted rows."""
        low, high = np.searchsorted(self.rows, [batch.start, batch.start + batch.num_rows])
        if low == high:
            return
        tokens = batch.tokens(self.role)
        wanted = np.zeros(batch.num_rows, np.bool_)
        wanted[self.rows[low:high] - batch.start] = True
        lengths = np.diff(tokens.offsets)[wanted]
        out = np.empty(int(lengths.sum()), np.uint64)
        keep_rows(tokens.hashes, tokens.offsets, batch.start, wanted, out, 0)
        self.parts.append(out)
        self.lengths.append(lengths)
        if self.starts is not None:
            turns = batch.turn_offsets(self.role)[:-1]
            row = np.minimum(np.searchsorted(tokens.offsets, turns, side="right"), batch.num_rows) - 1
            moved = tokens.offsets[:-1] - np.cumsum(np.diff(tokens.offsets) * wanted) + np.diff(tokens.offsets) * wanted
            self.starts.append((turns - moved[row])[wanted[row]])

    def extend(self, other: RowStore) -> None:
        """The rows of another store, after these."""
        self.parts += other.parts
        self.lengths += other.lengths
        if self.starts is not None and other.starts is not None:
            self.starts += other.starts

    def turns(self) -> npt.NDArray[np.int64]:
        """First token of each turn in :meth:`tokens`, and the end, int64 (turns + 1,)."""
        ends = np.cumsum([0, *map(len, self.parts)])
        return np.concatenate([*(s + end for s, end in zip(self.starts or (), ends)), ends[-1:]])

    def tokens(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Hashes (n_tokens,) and offsets (rows + 1,), in the order of ``rows``."""
        lengths = np.concatenate(self.lengths) if self.lengths else np.zeros(0, np.int64)
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        hashes: Any = np.concatenate(self.parts) if self.parts else np.zeros(0, np.uint64)
        return hashes, offsets

    def index(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Positions of row numbers in the store."""
        return np.searchsorted(self.rows, rows)


def prompt_before(
    offsets: npt.NDArray[np.int64], turns: npt.NDArray[np.int64], firsts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The prompts that the responses of some turns answer: of one without a prompt, as behind a tool, the one before.

    Args:
        offsets: first token of each prompt, and the end, (prompts + 1,).
        turns: numbers of prompts, those of the responses.
        firsts: the first prompt of the row of each, beyond which nothing is answered.
    """
    while (empty := (offsets[turns + 1] == offsets[turns]) & (turns > firsts)).any():
        turns = turns - empty
    return turns


class TurnStore(RowStore):
    """Token hashes of chosen prompts of conversations; ``rows`` are the keys of :meth:`key`, ascending.

    They are those that the responses of these turns answer.
    """

    @staticmethod
    def key(rows: npt.NDArray[np.int64], turns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """One number for a row and the number of a turn in it."""
        return (rows << 20) + np.minimum(turns, (1 << 20) - 1)

    def scan(self, batch: Batch) -> None:
        """Copy the tokens of this batch's wanted turns."""
        low, high = np.searchsorted(self.rows, [batch.start << 20, (batch.start + batch.num_rows) << 20])
        if low == high:
            return
        tokens, owners = batch.turns("prompt")
        firsts = np.searchsorted(owners, (self.rows[low:high] >> 20) - batch.start)
        lasts = np.searchsorted(owners, (self.rows[low:high] >> 20) - batch.start, side="right") - 1
        at = np.minimum(firsts + (self.rows[low:high] & ((1 << 20) - 1)), lasts)
        at = prompt_before(tokens.offsets, at, firsts)
        lengths = tokens.offsets[at + 1] - tokens.offsets[at]
        starts = np.repeat(tokens.offsets[at] - np.cumsum(lengths) + lengths, lengths)
        self.parts.append(tokens.hashes[starts + np.arange(len(starts))])
        self.lengths.append(lengths)
