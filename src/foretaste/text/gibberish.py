"""How much of a text's flow is known: adjacent token pairs that other rows hold too, in a sliding window."""

from __future__ import annotations

import numpy as np

from foretaste.text.kernels import kernel
from foretaste.text.ngrams import extend
from foretaste.text.sorting import sort_small
from foretaste.text.tokens import mix

U64 = np.uint64


@kernel
def least_known_window(tokens, starts, ends, data, offsets, bigrams_a, bigrams_b, window, known, most, out):
    """For each row, the window of ``window`` pairs (the whole row, if at least half of that) with the fewest known pairs.

    A pair is known where the data hold it ``known`` times or more. ``out`` (rows, 4): share of known pairs in that
    window, its first token in the row, and, where that share is at most ``most`` (0 elsewhere), its share of distinct tokens
    and its share of letters among the bytes of its words (bytes beyond ASCII count as letters). Rows that are too short get
    a share of 1.
    """
    mask = U64(len(bigrams_a) - 1)
    longest = 1
    for r in range(len(offsets) - 1):
        longest = max(longest, offsets[r + 1] - offsets[r])
    flags = np.empty(longest, np.int64)
    for r in range(len(offsets) - 1):
        a = offsets[r]
        n = offsets[r + 1] - a - 1
        out[r, 0] = 1.0
        out[r, 1] = 0.0
        out[r, 2] = 0.0
        out[r, 3] = 0.0
        if n < window // 2:
            continue
        for i in range(n):
            h = extend(extend(U64(0), tokens[a + i]), tokens[a + i + 1])
            seen = min(bigrams_a[(h >> U64(8)) & mask], bigrams_b[mix(h) & mask])
            flags[i] = 1 if seen >= known else 0
        w = min(window, n)
        total = 0
        for i in range(w):
            total += flags[i]
        best = total
        at = 0
        for i in range(w, n):
            total += flags[i] - flags[i - w]
            if total < best:
                best = total
                at = i - w + 1
        out[r, 0] = best / w
        out[r, 1] = at
        if out[r, 0] > most:
            continue
        part = tokens[a + at : a + at + w].copy()
        sort_small(part)
        distinct = 1
        for i in range(1, w):
            if part[i] != part[i - 1]:
                distinct += 1
        out[r, 2] = distinct / w
        letters = 0
        size = 0
        for i in range(a + at, a + at + w):
            if tokens[i] & U64(1):
                for j in range(starts[i], ends[i]):
                    c = data[j]
                    size += 1
                    if (65 <= c <= 90) or (97 <= c <= 122) or c >= 128:
                        letters += 1
        out[r, 3] = letters / max(1, size)
