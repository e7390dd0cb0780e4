"""Hashes in order: they are spread evenly, so their first bits nearly say where each one belongs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.text.kernels import kernel

SIZE = 32
_FULL = 64  # hashes in a bucket that are worth sorting by insertion; chance fills none with so many
_MOST_BITS = 22  # counters that still fit into a processor's cache


def in_order(parts: Sequence[Any]) -> npt.NDArray[np.uint8]:
    """Hashes of 32 bytes each, sorted by their bytes, shape (hashes, 32); the parts are buffers that hold them.

    A bucket for about four hashes each, then insertion within a bucket. Whoever crafts rows whose hashes begin alike
    gets a sort by comparing, not a quadratic one.
    """
    words = [np.frombuffer(part, np.uint64).reshape(-1, SIZE // 8) for part in parts]
    count = sum(map(len, words))
    out = np.empty((count, SIZE // 8), np.uint64)
    bits = min(_MOST_BITS, max(1, count.bit_length() - 2))
    ends = np.zeros((1 << bits) + 1, np.int64)
    for part in words:
        _count(part, 64 - bits, ends)
    np.cumsum(ends, out=ends)
    for part in words:
        _spread(part, 64 - bits, ends, out)
    if not _settle(out, ends):
        # numpy compares byte strings as memcmp does; it only hides zero bytes at an end, which are still there.
        out.reshape(-1).view(f"S{SIZE}").sort(kind="stable")
    return out.view(np.uint8)


@kernel
def _head(word: Any) -> Any:
    """The first 8 bytes of a hash as a number that orders as they do."""
    for width, mask in ((8, 0x00FF00FF00FF00FF), (16, 0x0000FFFF0000FFFF)):
        by, low = np.uint64(width), np.uint64(mask)
        word = ((word & low) << by) | ((word >> by) & low)
    return (word << np.uint64(32)) | (word >> np.uint64(32))


@kernel
def _count(words: Any, shift: int, ends: Any) -> None:
    """Count the hashes of each bucket, in the cell after its own."""
    down = np.uint64(shift)
    for row in range(len(words)):
        ends[np.int64(_head(words[row, 0]) >> down) + 1] += 1


@kernel
def _spread(words: Any, shift: int, ends: Any, out: Any) -> None:
    """Put hashes into their buckets. Moves each end of the bucket before to the end of its own."""
    down = np.uint64(shift)
    for row in range(len(words)):
        own = np.int64(_head(words[row, 0]) >> down)
        to = ends[own]
        for i in range(4):
            out[to, i] = words[row, i]
        ends[own] = to + 1


@kernel
def _settle(out: Any, ends: Any) -> bool:
    """Order by the first 8 bytes; whether that was enough: there are no full buckets, and none begin alike."""
    first = np.int64(0)
    for bucket in range(len(ends) - 1):
        if ends[bucket] - first <= _FULL:
            for row in range(first + 1, ends[bucket]):
                a, b, c, d = out[row, 0], out[row, 1], out[row, 2], out[row, 3]
                head, to = _head(a), row
                while to > first and _head(out[to - 1, 0]) > head:
                    for i in range(4):
                        out[to, i] = out[to - 1, i]
                    to -= 1
                out[to, 0], out[to, 1], out[to, 2], out[to, 3] = a, b, c, d
        first = ends[bucket]
    steps = 0
    for row in range(1, len(out)):
        steps += _head(out[row, 0]) > _head(out[row - 1, 0])
    return steps == len(out) - 1
