"""How much of a text's flow is known: adjacent token pairs that other rows hold too, in a sliding window."""

from __future__ import annotations

import numpy as np

from foretaste.text.kernels import kernel
from foretaste.text.ngrams import extend
from foretaste.text.sorting import sort_small
from foretaste.text.tokens import mix

U64 = np.uint64
BEFORE = 5  # pairs before a break, at least; as many more are taken for half known, or few would tell much


@kernel
def _look(tokens, starts, ends, data, low, high, out):
    """Shares of distinct tokens and of letters, and characters per word, of tokens ``low`` to ``high``: ``out`` (3,)."""
    part = tokens[low:high].copy()
    sort_small(part)
    distinct = 1
    for i in range(1, high - low):
        if part[i] != part[i - 1]:
            distinct += 1
    letters = 0
    size = 0
    characters = 0
    words = 0
    for i in range(low, high):
        if tokens[i] & U64(1):
            words += 1
            for j in range(starts[i], ends[i]):
                c = data[j]
                size += 1
                if (c & 0xC0) != 0x80:
                    characters += 1
                if (65 <= c <= 90) or (97 <= c <= 122) or c >= 128:
                    letters += 1
    out[0] = distinct / (high - low)
    out[1] = letters / max(1, size)
    out[2] = characters / max(1, words)


@kernel
def unknown_flow(
    tokens, starts, ends, data, offsets, bigrams_a, bigrams_b, window, known, max_known, least_drop, out
):  # fmt: skip
    """For each row, where its flow is least known, and where it breaks: ``out`` (rows, 10).

    A pair is known where the data hold it ``known`` times or more. Columns 0 and 1: the least share of known pairs in
    ``window`` pairs (the whole row, if at least half of that; 1 for shorter ones), and its first token in the row. Columns 5
    and 6: the largest difference between the shares of up to ``window`` known pairs before and after a token, at least
    ``BEFORE`` and half a window, and that token. Columns 2 to 4 tell, where the share is at most ``max_known``, and
    7 to 9, where the difference is at least ``least_drop``, what the window there consists of: the share of distinct tokens,
    that of letters among the bytes of its words (bytes beyond ASCII count as letters), and the characters per word.
    """
    mask = U64(len(bigrams_a) - 1)
    longest = 1
    for r in range(len(offsets) - 1):
        longest = max(longest, offsets[r + 1] - offsets[r])
    sums = np.empty(longest + 1, np.int32)
    out[:] = 0.0
    for r in range(len(offsets) - 1):
        a = offsets[r]
        n = offsets[r + 1] - a - 1
        out[r, 0] = 1.0
        if n < window // 2:
            continue
        sums[0] = 0
        for i in range(n):
            h = extend(extend(U64(0), tokens[a + i]), tokens[a + i + 1])
            seen = min(bigrams_a[(h >> U64(8)) & mask], bigrams_b[mix(h) & mask])
            sums[i + 1] = sums[i] + (1 if seen >= known else 0)
        w = min(window, n)
        best = sums[w]
        at = 0
        for i in range(1, n - w + 1):
            total = sums[i + w] - sums[i]
            if total < best:
                best = total
                at = i
        out[r, 0] = best / w
        out[r, 1] = at
        if out[r, 0] <= max_known:
            _look(tokens, starts, ends, data, a + at, a + at + w, out[r, 2:5])
        drop = 0.0
        for i in range(BEFORE, n - window // 2 + 1):
            low = max(0, i - window)
            high = min(n, i + window)
            fall = (sums[i] - sums[low] + 0.5 * BEFORE) / (i - low + BEFORE) - (sums[high] - sums[i]) / (high - i)
            if fall > drop:
                drop = fall
                at = i
        out[r, 5] = drop
        out[r, 6] = at
        if drop >= least_drop:
            _look(tokens, starts, ends, data, a + at, a + min(n, at + window), out[r, 7:10])
