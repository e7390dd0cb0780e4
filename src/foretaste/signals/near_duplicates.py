"""Rows whose inputs are nearly the same text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Context, Signal

ALONE = -1


@dataclass(frozen=True)
class Clusters:
    """Near-duplicate clusters of two rows or more, numbered by their first row.

    Attributes:
        labels: cluster of each row, int32 (rows,); ``ALONE`` for a row that is near no other.
        texts: hash of each row's words in order, uint64 (rows,); 0 for a row with too few words.
        rows: rows of cluster c are ``rows[spans[c]:spans[c + 1]]``, ascending, int64.
        spans: int64 (clusters + 1,).
    """

    labels: npt.NDArray[np.int32]
    texts: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.int64]
    spans: npt.NDArray[np.int64]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Rows per cluster."""
        return np.diff(self.spans)

    def members(self, cluster: int) -> npt.NDArray[np.int64]:
        """Row numbers of a cluster, ascending."""
        return self.rows[self.spans[cluster] : self.spans[cluster + 1]]

    def groups(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """A number for each of some rows that those of one cluster share and no others, shape (rows,)."""
        mine = self.labels[rows].astype(np.int64)
        return np.where(mine == ALONE, -1 - rows, mine)


@dataclass
class _State:
    """72 bytes per row: a signature and a hash of the text."""

    signatures: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    texts: list[npt.NDArray[np.uint64]] = field(default_factory=list)


@dataclass(frozen=True)
class NearDuplicates(Signal[_State, Clusters]):
    """Clusters of rows that are linked by an estimated Jaccard similarity of at least ``similarity`` over word pairs.

    Links chain: two rows of a cluster may be less alike than that.
    """

    role: str = "input"
    similarity: float = 0.6
    least_words: int = 4

    def start(self, context: Context) -> _State:
        """No row seen."""
        return _State()

    def scan(self, state: _State, batch: Batch) -> None:
        """Sign the rows."""
        from foretaste.text.minhash import BINS, sign_rows

        tokens = batch.tokens(self.role)
        signatures = np.empty((batch.num_rows, BINS), np.uint8)
        texts = np.empty(batch.num_rows, np.uint64)
        sign_rows(tokens.hashes, tokens.offsets, self.least_words, signatures, texts)
        state.signatures.append(signatures)
        state.texts.append(texts)

    def merge(self, left: _State, right: _State) -> _State:
        """Concatenate rows."""
        left.signatures += right.signatures
        left.texts += right.texts
        return left

    def value(self, state: _State) -> Clusters:
        """Unite equal texts, then the texts that are near."""
        from foretaste.text.minhash import BAND_BYTES, BINS, band_keys, join_band, root

        texts: Any = np.concatenate(state.texts) if state.texts else np.zeros(0, np.uint64)
        # Equal texts count once in the search, so that a thousand copies cost no more than one.
        _, first, inverse = np.unique(texts, return_index=True, return_inverse=True)
        clusters = np.full(len(texts), ALONE, np.int32)
        if len(texts):
            signatures = np.concatenate(state.signatures)[first]
            long = np.flatnonzero(texts[first] != 0)
            parents = np.arange(len(first), dtype=np.int64)
            for band in range(BINS // BAND_BYTES):
                keys = band_keys(signatures, band)
                order = long[np.argsort(keys[long], kind="stable")]
                join_band(signatures, keys, order, round(self.similarity * BINS), parents)
            roots = np.array([root(parents, i) for i in range(len(parents))], dtype=np.int64)[inverse]
            roots[texts == 0] = len(parents)
            _, start, number, size = np.unique(roots, return_index=True, return_inverse=True, return_counts=True)
            kept = np.flatnonzero((size >= 2) & (texts[start] != 0))
            kept = kept[np.argsort(start[kept], kind="stable")]
            renumbered = np.full(len(size), ALONE, np.int32)
            renumbered[kept] = np.arange(len(kept), dtype=np.int32)
            clusters = renumbered[number]
        rows = np.argsort(clusters, kind="stable")
        rows = rows[np.count_nonzero(clusters == ALONE) :].astype(np.int64)
        counts = np.bincount(clusters[rows], minlength=int(clusters.max(initial=ALONE)) + 1)
        spans = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=spans[1:])
        return Clusters(clusters, texts, rows, spans)
