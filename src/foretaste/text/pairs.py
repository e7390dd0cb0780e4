"""Kernels of the pairwise model: which of two answers to one prompt was preferred, from the words in which they differ.

A *difference word* is a token, or two tokens side by side, of the one answer that the other does not hold. All arrays
are flat: tokens uint64 (n_tokens,), offsets int64 (rows + 1,). ``counts`` is uint32 (folds, buckets, 2): rows in which
the chosen answer alone, or the rejected one alone, holds the word.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from foretaste.text.ngrams import extend
from foretaste.text.tokens import mix

U64 = np.uint64
PSEUDO = 2.0  # rows that every word is taken to have been seen in on either side: most words say little


@njit(cache=True, nogil=True)
def _buckets(tokens, start, stop, mask, out):
    """Distinct buckets of the words and pairs of words of one row, sorted, into ``out``; returns their number."""
    n = 0
    for i in range(start, stop):
        out[n] = mix(tokens[i]) & mask
        n += 1
        if i + 1 < stop:
            out[n] = extend(tokens[i], tokens[i + 1]) & mask
            n += 1
    part = out[:n]
    part.sort()
    m = 0
    for i in range(n):
        if i == 0 or part[i] != part[i - 1]:
            part[m] = part[i]
            m += 1
    return m


@njit(cache=True, nogil=True)
def _difference(a, n_a, b, n_b, out, side):
    """Buckets of one sorted list alone, with side 0 for the first list and 1 for the second; returns their number."""
    i = 0
    j = 0
    n = 0
    while i < n_a or j < n_b:
        if j == n_b or (i < n_a and a[i] < b[j]):
            out[n] = a[i]
            side[n] = 0
            n += 1
            i += 1
        elif i == n_a or b[j] < a[i]:
            out[n] = b[j]
            side[n] = 1
            n += 1
            j += 1
        else:
            i += 1
            j += 1
    return n


@njit(cache=True, nogil=True)
def _longest(offsets):
    longest = 1
    for r in range(len(offsets) - 1):
        longest = max(longest, offsets[r + 1] - offsets[r])
    return 2 * longest


@njit(cache=True, nogil=True)
def count_differences(chosen, chosen_offsets, rejected, rejected_offsets, folds, counts, presence):
    """Add a batch: difference words by fold and side, and the answers that hold each word (``presence``)."""
    mask = U64(counts.shape[1] - 1)
    a = np.empty(_longest(chosen_offsets), np.uint64)
    b = np.empty(_longest(rejected_offsets), np.uint64)
    words = np.empty(len(a) + len(b), np.uint64)
    side = np.empty(len(words), np.int8)
    for r in range(len(chosen_offsets) - 1):
        n_a = _buckets(chosen, chosen_offsets[r], chosen_offsets[r + 1], mask, a)
        n_b = _buckets(rejected, rejected_offsets[r], rejected_offsets[r + 1], mask, b)
        for i in range(n_a):
            presence[a[i]] += np.uint32(1)
        for i in range(n_b):
            presence[b[i]] += np.uint32(1)
        n = _difference(a, n_a, b, n_b, words, side)
        for i in range(n):
            counts[folds[r], words[i], side[i]] += np.uint32(1)


@njit(cache=True, nogil=True)
def score_differences(
    chosen, chosen_offsets, rejected, rejected_offsets, places, folds, total, counts, vocabulary, own, out
):
    """What the difference words of each row say for its chosen answer, from rows of other folds; ``out`` (places, 2).

    Columns: the sum of log((wins + PSEUDO) / (losses + PSEUDO)), signed by the side that holds the word, and the number
    of difference words. ``total`` (buckets, 2) is ``counts`` over all folds, ``folds`` that of each place.
    ``own`` (words, folds, 2) holds the counts of the sorted buckets ``vocabulary`` that must not vote either.
    """
    mask = U64(counts.shape[1] - 1)
    a = np.empty(_longest(chosen_offsets), np.uint64)
    b = np.empty(_longest(rejected_offsets), np.uint64)
    words = np.empty(len(a) + len(b), np.uint64)
    side = np.empty(len(words), np.int8)
    for j in range(len(places)):
        r = places[j]
        fold = folds[j]
        n_a = _buckets(chosen, chosen_offsets[r], chosen_offsets[r + 1], mask, a)
        n_b = _buckets(rejected, rejected_offsets[r], rejected_offsets[r + 1], mask, b)
        n = _difference(a, n_a, b, n_b, words, side)
        score = 0.0
        for i in range(n):
            w = words[i]
            wins = float(total[w, 0]) - counts[fold, w, 0]
            losses = float(total[w, 1]) - counts[fold, w, 1]
            if len(vocabulary):
                v = np.searchsorted(vocabulary, w)
                for f in range(counts.shape[0]):
                    if f != fold:
                        wins -= own[v, f, 0]
                        losses -= own[v, f, 1]
            weight = np.log((wins + PSEUDO) / (losses + PSEUDO))
            score += weight if side[i] == 0 else -weight
        out[j, 0] = score
        out[j, 1] = n


@njit(cache=True, nogil=True)
def own_counts(chosen, chosen_offsets, rejected, rejected_offsets, places, folds, buckets, n_folds):
    """The difference words of some rows as (sorted buckets, counts (words, folds, 2))."""
    mask = U64(buckets - 1)
    a = np.empty(_longest(chosen_offsets), np.uint64)
    b = np.empty(_longest(rejected_offsets), np.uint64)
    words = np.empty(len(a) + len(b), np.uint64)
    side = np.empty(len(words), np.int8)
    size = 0
    for r in places:
        size += 2 * (chosen_offsets[r + 1] - chosen_offsets[r] + rejected_offsets[r + 1] - rejected_offsets[r])
    held = np.empty(size, np.uint64)
    n_held = 0
    for r in places:
        n_a = _buckets(chosen, chosen_offsets[r], chosen_offsets[r + 1], mask, a)
        n_b = _buckets(rejected, rejected_offsets[r], rejected_offsets[r + 1], mask, b)
        n = _difference(a, n_a, b, n_b, words, side)
        held[n_held : n_held + n] = words[:n]
        n_held += n
    vocabulary = np.unique(held[:n_held])
    own = np.zeros((len(vocabulary), n_folds, 2), np.int32)
    for j in range(len(places)):
        r = places[j]
        n_a = _buckets(chosen, chosen_offsets[r], chosen_offsets[r + 1], mask, a)
        n_b = _buckets(rejected, rejected_offsets[r], rejected_offsets[r + 1], mask, b)
        n = _difference(a, n_a, b, n_b, words, side)
        for i in range(n):
            own[np.searchsorted(vocabulary, words[i]), folds[j], side[i]] += 1
    return vocabulary, own


@njit(cache=True, nogil=True)
def _distinct(tokens, start, stop, out):
    """Distinct words of a row, sorted, without punctuation; returns their number."""
    n = 0
    for i in range(start, stop):
        if tokens[i] & U64(1):
            out[n] = tokens[i]
            n += 1
    part = out[:n]
    part.sort()
    m = 0
    for i in range(n):
        if i == 0 or part[i] != part[i - 1]:
            part[m] = part[i]
            m += 1
    return m


@njit(cache=True, nogil=True)
def overlap(prompt, prompt_offsets, chosen, chosen_offsets, rejected, rejected_offsets, presence, answers, out):
    """How much more of the prompt the chosen answer takes up than the rejected one, -1 to 1, into ``out`` (rows,).

    Shares of the prompt's distinct words, each weighted by log(answers / answers that hold it).
    """
    mask = U64(len(presence) - 1)
    p = np.empty(_longest(prompt_offsets), np.uint64)
    a = np.empty(_longest(chosen_offsets), np.uint64)
    b = np.empty(_longest(rejected_offsets), np.uint64)
    for r in range(len(prompt_offsets) - 1):
        n_p = _distinct(prompt, prompt_offsets[r], prompt_offsets[r + 1], p)
        n_a = _distinct(chosen, chosen_offsets[r], chosen_offsets[r + 1], a)
        n_b = _distinct(rejected, rejected_offsets[r], rejected_offsets[r + 1], b)
        whole = 0.0
        more = 0.0
        for i in range(n_p):
            weight = np.log((answers + 1.0) / (presence[mix(p[i]) & mask] + 1.0))
            whole += weight
            at = np.searchsorted(a[:n_a], p[i])
            if at < n_a and a[at] == p[i]:
                more += weight
            at = np.searchsorted(b[:n_b], p[i])
            if at < n_b and b[at] == p[i]:
                more -= weight
        out[r] = more / whole if whole > 0.0 else 0.0
