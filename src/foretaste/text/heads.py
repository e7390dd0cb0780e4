"""Hashes of the first tokens of rows, and the classes of rows that share one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foretaste.spill import Column, by_hash
from foretaste.text.kernels import kernel
from foretaste.text.ngrams import extend

U64 = np.uint64


@kernel
def _hash_heads(tokens, offsets, n, out):
    for row in range(len(offsets) - 1):
        h = U64(0)
        for i in range(offsets[row], min(offsets[row] + n, offsets[row + 1])):
            h = extend(h, tokens[i])
        out[row] = h


def hash_heads(tokens: npt.NDArray[np.uint64], offsets: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.uint64]:
    """Hash of the first ``n`` tokens of each row (of all where there are fewer), uint64 (rows,)."""
    out = np.empty(len(offsets) - 1, np.uint64)
    _hash_heads(tokens, offsets, n, out)
    return out


def share_heads(
    heads: Column, lengths: Column, least: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Classes of at least ``least`` rows with the same head, in the order of the heads.

    Returns:
        class of each row (int32, -1 for none); and of each class (int64) its rows, its first row, its greatest length.
    """
    labels = np.full(len(heads), -1, np.int32)
    counts, firsts, longest = ([np.zeros(0, np.int64)] for _ in range(3))
    classes = 0
    for rows, hashes, sizes in by_hash(heads, lengths):
        order = np.argsort(hashes, kind="stable")
        starts = np.flatnonzero(np.concatenate([[True], hashes[order[1:]] != hashes[order[:-1]]]))
        many = np.diff(starts, append=len(order))
        kept = many >= least
        number = np.where(kept, np.cumsum(kept) - 1 + classes, -1).astype(np.int32)
        labels[rows[order]] = np.repeat(number, many)
        counts.append(many[kept])
        firsts.append(rows[order[starts[kept]]].astype(np.int64))
        longest.append(np.maximum.reduceat(sizes[order], starts)[kept].astype(np.int64))
        classes += int(kept.sum())
    return labels, np.concatenate(counts), np.concatenate(firsts), np.concatenate(longest)
