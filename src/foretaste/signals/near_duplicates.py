"""Rows whose inputs are nearly the same text."""

from __future__ import annotations

from dataclasses import dataclass, field

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
        from foretaste.text.minhash import BINS, join_rows

        rows = sum(len(t) for t in state.texts)
        # Part by part, so that the signatures are not there twice.
        signatures, texts = np.empty((rows, BINS), np.uint8), np.empty(rows, np.uint64)
        at = 0
        state.signatures.reverse()
        for part in state.texts:
            signatures[at : at + len(part)] = state.signatures.pop()
            texts[at : at + len(part)] = part
            at += len(part)
        first = join_rows(signatures, texts, round(self.similarity * BINS))
        del signatures
        sizes = np.bincount(first, minlength=rows)
        many = sizes >= 2
        number = np.full(rows, ALONE, np.int32)
        number[many] = np.arange(np.count_nonzero(many), dtype=np.int32)
        clusters = number[first]
        members = np.flatnonzero(clusters != ALONE)
        members = members[np.argsort(clusters[members], kind="stable")]
        spans = np.zeros(np.count_nonzero(many) + 1, np.int64)
        np.cumsum(sizes[many], out=spans[1:])
        return Clusters(clusters, texts, members, spans)
