"""Words with a capital inside of a sentence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foretaste.text.kernels import kernel
from foretaste.text.tokens import mix

U64 = np.uint64


@kernel
def _list(tokens, offsets, starts, ends, data, hashes, rows, places):
    n = 0
    for r in range(len(offsets) - 1):
        for i in range(offsets[r] + 1, offsets[r + 1]):
            # Behind a word, a comma or a bracket; a line break or a full stop begins a sentence.
            if not tokens[i] & U64(1) or ends[i] - starts[i] < 3:
                continue
            gap = starts[i] - ends[i - 1]
            before = data[ends[i - 1] - 1]
            inside = tokens[i - 1] & U64(1) or before == 44 or before == 40
            if not (inside and 0 <= gap <= 1) or (gap == 1 and data[starts[i] - 1] != 32):
                continue
            c = data[starts[i]]
            upper = 65 <= c <= 90
            if c == 0xC3:
                upper = 0x80 <= data[starts[i] + 1] <= 0x9E
            elif c == 0xD0:
                upper = 0x80 <= data[starts[i] + 1] <= 0xAF
            elif c == 0xCE:
                upper = 0x86 <= data[starts[i] + 1] <= 0xAB
            if not upper:
                continue
            hashes[n] = mix(tokens[i])
            rows[n] = r
            places[n] = i
            n += 1
    return n


def capitalised(
    tokens: npt.NDArray[np.uint64],
    offsets: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    data: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Mixed hash, row of the batch, and token of every such word, once per row: Latin, Greek and Cyrillic capitals."""
    hashes = np.empty(len(tokens), np.uint64)
    rows, places = np.empty(len(tokens), np.int64), np.empty(len(tokens), np.int64)
    n = _list(tokens, offsets, starts, ends, data, hashes, rows, places)
    hashes, rows, places = hashes[:n], rows[:n], places[:n]
    order = np.lexsort((hashes, rows))
    fresh = np.ones(n, np.bool_)
    fresh[1:] = (np.diff(rows[order]) != 0) | (np.diff(hashes[order]) != 0)
    kept = np.sort(order[fresh])
    return hashes[kept], rows[kept], places[kept]


@kernel
def count_cells(hashes, cells):
    """Count hashes in a sketch uint32 (cells,)."""
    mask = U64(len(cells) - 1)
    for i in range(len(hashes)):
        cells[hashes[i] & mask] += 1
