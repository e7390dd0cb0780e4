"""Hashes of the first tokens of rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from foretaste.text.ngrams import extend

U64 = np.uint64


@njit(cache=True, nogil=True)
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
