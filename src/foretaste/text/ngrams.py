"""Kernels over token hashes: n-gram sketches, exact tables of the n-grams that matter, and their occurrences.

Every function works on flat arrays: ``tokens`` uint64 (n_tokens,), ``offsets`` int64 (rows + 1,). Presence is counted per
row, never per occurrence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from foretaste.text.tokens import mix

U64 = np.uint64
MAX_N = 4
BOUNDARY = U64(0)  # neighbour of a token at the edge of its row; no token hashes to 0 in practice
EDGE = U64(1)  # linear counter of neighbours that has seen the edge alone, as mix(BOUNDARY) is 0


@njit(cache=True, inline="always")
def extend(h, token):
    """Hash of an n-gram from the hash of its first n - 1 tokens (0 for none) and its last token."""
    return mix((h * U64(0x9E3779B97F4A7C15)) ^ token)


@njit(cache=True, nogil=True)
def sketch_ngrams(tokens, offsets, first_row, max_n, cells, bigrams_a, bigrams_b, unigrams, presence, last):
    """Add a batch to the count sketches: all n-grams (uint8, saturating), bigrams (two rows of uint8), unigrams.

    ``presence`` counts the rows of a unigram (``last`` int32 holds the last row seen per cell), everything else counts
    occurrences, which is an upper bound of the rows.
    """
    mask = U64(len(cells) - 1)
    mask2 = U64(len(bigrams_a) - 1)
    mask1 = U64(len(unigrams) - 1)
    for row in range(len(offsets) - 1):
        stop = offsets[row + 1]
        for i in range(offsets[row], stop):
            h = U64(0)
            for n in range(1, max_n + 1):
                if i + n > stop:
                    break
                h = extend(h, tokens[i + n - 1])
                at = h & mask
                if cells[at] < 255:
                    cells[at] += np.uint8(1)
                if n == 1:
                    cell = h & mask1
                    unigrams[cell] += np.uint32(1)
                    if last[cell] != first_row + row:
                        last[cell] = first_row + row
                        presence[cell] += np.uint32(1)
                elif n == 2:
                    a = (h >> U64(8)) & mask2
                    b = mix(h) & mask2
                    if bigrams_a[a] < 255:
                        bigrams_a[a] += np.uint8(1)
                    if bigrams_b[b] < 255:
                        bigrams_b[b] += np.uint8(1)


@njit(cache=True, nogil=True)
def count_ngrams(
    tokens,
    offsets,
    first_row,
    labels,
    max_n,
    cells,
    least,
    keys,
    count,
    last,
    label,
    vote,
    left,
    right,
    where,
    size,
):
    """Count exactly the n-grams whose sketch cell reaches ``least``, one slot each in an open-addressed table.

    ``vote`` runs a Boyer-Moore majority vote over the rows' labels, ``left`` and ``right`` are 64-bit linear counters of
    the neighbours, ``where`` holds (row, token in row) of the first occurrence. Returns the slots used and the n-grams
    that found no room.
    """
    mask = U64(len(cells) - 1)
    slots = U64(len(keys) - 1)
    room = len(keys) * 3 // 4
    used = size[0]
    lost = size[1]
    for r in range(len(offsets) - 1):
        start = offsets[r]
        stop = offsets[r + 1]
        row = first_row + r
        lab = labels[row]
        for i in range(start, stop):
            h = U64(0)
            before = tokens[i - 1] if i > start else BOUNDARY
            for n in range(1, max_n + 1):
                if i + n > stop:
                    break
                h = extend(h, tokens[i + n - 1])
                if cells[h & mask] < least:
                    break  # a longer n-gram cannot be more frequent than its own head
                at = mix(h) & slots
                while keys[at] != U64(0) and keys[at] != h:
                    at = (at + U64(1)) & slots
                if keys[at] == U64(0):
                    if used >= room:
                        lost += 1
                        continue
                    used += 1
                    keys[at] = h
                    last[at] = -1
                    where[at, 0] = row
                    where[at, 1] = i - start
                    where[at, 2] = n
                if last[at] == row:
                    continue
                last[at] = row
                count[at] += 1
                if vote[at] == 0:
                    label[at] = lab
                    vote[at] = 1
                elif label[at] == lab:
                    vote[at] += 1
                else:
                    vote[at] -= 1
                after = tokens[i + n] if i + n < stop else BOUNDARY
                left[at] |= U64(1) << (mix(before) & U64(63))
                right[at] |= U64(1) << (mix(after) & U64(63))
    size[0] = used
    size[1] = lost


@njit(cache=True, nogil=True)
def find_occurrences(tokens, offsets, first_row, max_n, keys, chosen, fill, seen, rows, positions, lefts, rights):
    """Write the first occurrence per row of every chosen n-gram: row, token in row, left and right neighbour.

    ``chosen`` maps a slot of the table to a candidate or -1, ``fill`` is the next free place of each candidate.
    """
    slots = U64(len(keys) - 1)
    for r in range(len(offsets) - 1):
        start = offsets[r]
        stop = offsets[r + 1]
        row = first_row + r
        for i in range(start, stop):
            h = U64(0)
            for n in range(1, max_n + 1):
                if i + n > stop:
                    break
                h = extend(h, tokens[i + n - 1])
                at = mix(h) & slots
                while keys[at] != U64(0) and keys[at] != h:
                    at = (at + U64(1)) & slots
                if keys[at] == U64(0):
                    break  # its head is in no table, so no longer n-gram is
                c = chosen[at]
                if c < 0 or seen[c] == row:
                    continue
                seen[c] = row
                place = fill[c]
                fill[c] = place + 1
                rows[place] = row
                positions[place] = i - start
                lefts[place] = tokens[i - 1] if i > start else BOUNDARY
                rights[place] = tokens[i + n] if i + n < stop else BOUNDARY


@njit(cache=True, nogil=True)
def neighbour_bits(spans, lefts, rights, out):
    """64-bit linear counters of the left and right neighbours of each phrase; ``out`` uint64 (phrases, 2)."""
    for c in range(len(spans) - 1):
        for i in range(spans[c], spans[c + 1]):
            out[c, 0] |= U64(1) << (mix(lefts[i]) & U64(63))
            out[c, 1] |= U64(1) << (mix(rights[i]) & U64(63))


def linear_count(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Distinct items behind 64-bit linear counters (Whang et al. 1990); saturates at about 266."""
    zero = 64 - np.bitwise_count(bits).astype(np.float64)
    return np.asarray(-64.0 * np.log(np.maximum(zero, 1.0) / 64.0))


@njit(cache=True, nogil=True)
def unigram_counts(tokens, sketch, out):
    """Count of each token hash in a unigram sketch: its rows, or its occurrences."""
    mask = U64(len(sketch) - 1)
    for i in range(len(tokens)):
        out[i] = sketch[extend(U64(0), tokens[i]) & mask]


@njit(cache=True, nogil=True)
def keep_rows(tokens, offsets, first_row, wanted, out, fill):
    """Copy the tokens of the wanted rows (bool per row of the batch) to ``out`` from ``fill``; returns the new fill."""
    for r in range(len(offsets) - 1):
        if wanted[r]:
            for i in range(offsets[r], offsets[r + 1]):
                out[fill] = tokens[i]
                fill += 1
    return fill


@njit(cache=True, nogil=True)
def _glue(ordered, unigrams, total):
    """Mean log ratio between each neighbour's probability given the others (five pseudo-counts of the background) and
    its background probability; the neighbours are sorted. Edges of rows are left out."""
    mask = U64(len(unigrams) - 1)
    pseudo = 5.0
    k = len(ordered)
    glue = 0.0
    i = 0
    while i < k:
        j = i
        while j < k and ordered[j] == ordered[i]:
            j += 1
        if ordered[i] != BOUNDARY:
            p = (unigrams[extend(U64(0), ordered[i]) & mask] + 1.0) / total
            glue += (j - i) * np.log((j - i - 1 + pseudo * p) / (k - 1 + pseudo) / p)
        i = j
    return glue / max(1, k)


@njit(cache=True, nogil=True)
def neighbour_scores(spans, lefts, rights, bigrams_a, bigrams_b, unigrams, total, out):
    """Statistics of the neighbours of each phrase; ``out`` (phrases, 5).

    Columns: distinct left and right neighbours per row; healing rate (the two neighbours stand side by side elsewhere)
    and healing PMI in nats, over the rows with a neighbour on both sides; the share of such rows.
    """
    mask1 = U64(len(unigrams) - 1)
    mask2 = U64(len(bigrams_a) - 1)
    for c in range(len(spans) - 1):
        a = spans[c]
        k = min(spans[c + 1] - a, 512)
        for side in range(2):
            ordered = lefts[a : a + k].copy() if side == 0 else rights[a : a + k].copy()
            ordered.sort()
            distinct = 1
            for i in range(1, k):
                if ordered[i] != ordered[i - 1]:
                    distinct += 1
            out[c, side] = distinct / max(1, k)
        inner = 0
        healed = 0
        pmi = 0.0
        for i in range(a, a + k):
            if lefts[i] == BOUNDARY or rights[i] == BOUNDARY:
                continue
            inner += 1
            u1 = extend(U64(0), lefts[i])
            h = extend(u1, rights[i])
            seen = min(bigrams_a[(h >> U64(8)) & mask2], bigrams_b[mix(h) & mask2])
            if seen > 0:
                healed += 1
            u2 = extend(U64(0), rights[i])
            expected = float(unigrams[u1 & mask1]) * float(unigrams[u2 & mask1]) / total
            pmi += np.log((seen + 0.2) / (min(expected, 255.0) + 0.2))
        out[c, 2] = healed / max(inner, 1)
        out[c, 3] = pmi / max(inner, 1)
        out[c, 4] = inner / max(k, 1)


@njit(cache=True, nogil=True)
def randomness(neighbours, sample, unigrams, total, seed, out):
    """How far neighbours are from a random draw of the text's words: two z-scores, into ``out`` (2,).

    The first compares their mean log frequency, the second their glue, with 200 draws of as many words from ``sample``.
    Words only: a script inserts between words, so punctuation stands on one side of it and not on the other.
    """
    draws = 200
    words = np.empty(len(neighbours), np.uint64)
    k = 0
    for i in range(len(neighbours)):
        if neighbours[i] & U64(1):
            words[k] = neighbours[i]
            k += 1
    out[0] = 0.0
    out[1] = 0.0
    if k < 5 or len(sample) == 0:
        out[0] = np.inf
        return
    mask = U64(len(unigrams) - 1)
    state = U64(seed)
    means = np.empty(draws + 1)
    glues = np.empty(draws + 1)
    drawn = np.empty(k, np.uint64)
    for d in range(draws + 1):
        for i in range(k):
            if d == draws:
                drawn[i] = words[i]
            else:
                state += U64(0x9E3779B97F4A7C15)
                drawn[i] = sample[mix(state) % U64(len(sample))]
        total_log = 0.0
        for i in range(k):
            total_log += np.log((unigrams[extend(U64(0), drawn[i]) & mask] + 1.0) / total)
        means[d] = total_log / k
        drawn.sort()
        glues[d] = _glue(drawn, unigrams, total)
    out[0] = (means[draws] - means[:draws].mean()) / (means[:draws].std() + 1e-9)
    out[1] = (glues[draws] - glues[:draws].mean()) / (glues[:draws].std() + 1e-9)
