"""Samples: of rows, and of words, which does not depend on how the text was cut into batches or parts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from foretaste.text.kernels import kernel
from foretaste.text.tokens import Tokens, mix

U64 = np.uint64


def spread(rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """At most so many of the rows, evenly over the list."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


@kernel
def _lowest(tokens, offsets, first_row, below, words, keys):
    n = 0
    for r in range(len(offsets) - 1):
        row = mix(U64(first_row + r + 1))
        for i in range(offsets[r], offsets[r + 1]):
            if tokens[i] & U64(1):
                key = mix(row ^ U64(i - offsets[r]))
                if key < below:
                    words[n] = tokens[i]
                    keys[n] = key
                    n += 1
    return n


@dataclass
class Sample:
    """The ``size`` words whose places (row, token in row) have the smallest hashes: a bottom-k sketch (Cohen 1997)."""

    size: int
    held: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    keys: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    def scan(self, tokens: Tokens, first_row: int) -> None:
        """Take the words of a batch whose first row has the given number."""
        below = self.keys.max() if len(self.keys) == self.size else np.uint64(np.iinfo(np.uint64).max)
        words, keys = np.empty(len(tokens.hashes), np.uint64), np.empty(len(tokens.hashes), np.uint64)
        n = _lowest(tokens.hashes, tokens.offsets, first_row, below, words, keys)
        self._take(words[:n], keys[:n])

    def add(self, other: Sample) -> None:
        """Take the sample of another part."""
        self._take(other.held, other.keys)

    def words(self) -> npt.NDArray[np.uint64]:
        """The words, in the order of their hashes."""
        return self.held[np.argsort(self.keys, kind="stable")]

    def _take(self, words: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64]) -> None:
        self.held, self.keys = np.concatenate([self.held, words]), np.concatenate([self.keys, keys])
        if len(self.keys) > self.size:
            kept = np.argpartition(self.keys, self.size - 1)[: self.size]
            self.held, self.keys = self.held[kept], self.keys[kept]
