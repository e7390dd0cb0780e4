"""Rows whose inputs are nearly the same text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Context, Signal
from foretaste.spill import Column

ALONE = -1
_SHARE = 16  # of the memory, for the signatures and for a part of them while they are compared


@dataclass(frozen=True)
class Clusters:
    """Near-duplicate clusters of two rows or more, numbered by their first row.

    Attributes:
        labels: cluster of each row, int32 (rows,); ``ALONE`` for a row that is near no other.
        long: whether each row has enough words to be compared, bool (rows,).
        rows: rows of cluster c are ``rows[spans[c]:spans[c + 1]]``, ascending, int64 (members,).
        texts: hash of the words in order of each of these rows, uint64 (members,).
        spans: int64 (clusters + 1,).
    """

    labels: npt.NDArray[np.int32]
    long: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.int64]
    texts: npt.NDArray[np.uint64]
    spans: npt.NDArray[np.int64]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Rows per cluster."""
        return np.diff(self.spans)

    def members(self, cluster: int) -> npt.NDArray[np.int64]:
        """Row numbers of a cluster, ascending."""
        return self.rows[self.spans[cluster] : self.spans[cluster + 1]]

    def texts_of(self, cluster: int) -> npt.NDArray[np.uint64]:
        """Hashes of the texts of a cluster's rows, in their order."""
        return self.texts[self.spans[cluster] : self.spans[cluster + 1]]

    def groups(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """A number for each of some rows that those of one cluster share and no others, shape (rows,)."""
        mine = self.labels[rows].astype(np.int64)
        return np.where(mine == ALONE, -1 - rows, mine)


@dataclass
class _State:
    """A signature (64 bytes) and a hash of the text per row, which spill past a part of the memory."""

    signatures: Column
    texts: Column


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
        from foretaste.text.minhash import BINS

        room = context.memory // _SHARE
        return _State(Column(np.uint8, (BINS,), room=room), Column(np.uint64, room=room // 4))

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
        """Append the rows."""
        left.signatures.extend(right.signatures)
        left.texts.extend(right.texts)
        return left

    def value(self, state: _State) -> Clusters:
        """Unite equal texts, then the texts that are near."""
        from foretaste.text.minhash import BINS, join_rows, list_clusters

        labels, rows, spans = list_clusters(join_rows(state.signatures, state.texts, round(self.similarity * BINS)))
        state.signatures.clear()
        long, kept = np.zeros(len(labels), np.bool_), [np.zeros(0, np.uint64)]
        start = 0
        for block in state.texts.blocks():
            long[start : start + len(block)] = block != 0
            kept.append(block[labels[start : start + len(block)] != ALONE])
            start += len(block)
        state.texts.clear()
        texts = np.empty(len(rows), np.uint64)
        texts[np.argsort(rows)] = np.concatenate(kept)
        return Clusters(labels, long, rows, texts, spans)
