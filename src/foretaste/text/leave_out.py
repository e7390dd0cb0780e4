"""Label probabilities of a group of rows, from all rows outside of the group."""

from __future__ import annotations

import numpy as np
from numba import njit

from foretaste.text.bayes import ALPHA
from foretaste.text.sorting import sort_small
from foretaste.text.tokens import mix

U64 = np.uint64


@njit(cache=True, nogil=True)
def _unique(items, n):
    """Sort the first ``n`` items and move the distinct ones to the front; returns how many."""
    sort_small(items[:n])
    m = 0
    for i in range(n):
        if i == 0 or items[i] != items[m - 1]:
            items[m] = items[i]
            m += 1
    return m


@njit(cache=True, nogil=True)
def _place(ordered, item):
    """The place of an item in the sorted array that holds it."""
    low = 0
    high = len(ordered)
    while low < high:
        middle = (low + high) // 2
        if ordered[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def _distinct_buckets(tokens, start, stop, mask, out):
    n = 0
    for i in range(start, stop):
        out[n] = mix(tokens[i]) & mask
        n += 1
    return _unique(out, n)


@njit(cache=True, nogil=True)
def leave_group_out(tokens, offsets, places, labels, counts, class_rows, class_words, strength, power, out):
    """Log-probability of every class for each row of a group, none of whose rows votes; ``out`` (places, classes).

    ``tokens`` and ``offsets`` hold the rows, ``places`` the group's rows among them (int64), ``labels`` the classes of
    those rows. ``counts`` (buckets, classes), ``class_rows`` and ``class_words`` (classes,), the sum of the
    counts, are those of all rows, this group included.
    """
    mask = U64(counts.shape[0] - 1)
    classes = counts.shape[1]
    total = 0
    longest = 1
    for p in places:
        total += offsets[p + 1] - offsets[p]
        longest = max(longest, offsets[p + 1] - offsets[p])
    scratch = np.empty(longest, np.uint64)
    held = np.empty(total, np.uint64)
    n = 0
    for p in places:
        m = _distinct_buckets(tokens, offsets[p], offsets[p + 1], mask, scratch)
        held[n : n + m] = scratch[:m]
        n += m
    vocabulary = held[: _unique(held, n)]
    own = np.zeros((len(vocabulary), classes), np.int64)
    base = np.empty(classes)
    mass = np.empty(classes)
    mine = np.zeros(classes)
    words = np.zeros(classes)
    all_rows = 0.0
    all_words = 0.0
    for j in range(len(places)):
        mine[labels[j]] += 1.0
        m = _distinct_buckets(tokens, offsets[places[j]], offsets[places[j] + 1], mask, scratch)
        words[labels[j]] += m
        for i in range(m):
            own[_place(vocabulary, scratch[i]), labels[j]] += 1
    for c in range(classes):
        base[c] = max(0.0, class_rows[c] - mine[c]) + 0.5
        mass[c] = max(0.0, class_words[c] - words[c]) + 0.5
        all_rows += base[c]
        all_words += mass[c]
    for c in range(classes):
        base[c] /= all_rows
        mass[c] /= all_words
    weight = np.zeros((len(vocabulary), classes))
    for v in range(len(vocabulary)):
        for c in range(classes):
            k = float(counts[vocabulary[v], c]) - own[v, c]
            if k > 0.0:
                weight[v, c] = np.log1p(k / (ALPHA * mass[c]))
    for j in range(len(places)):
        m = _distinct_buckets(tokens, offsets[places[j]], offsets[places[j] + 1], mask, scratch)
        for c in range(classes):
            out[j, c] = 0.0
        for i in range(m):
            v = _place(vocabulary, scratch[i])
            for c in range(classes):
                out[j, c] += weight[v, c]
        scale = strength / max(1.0, float(m)) ** power
        top = -np.inf
        for c in range(classes):
            out[j, c] = np.log(base[c]) + scale * out[j, c]
            top = max(top, out[j, c])
        sum_ = 0.0
        for c in range(classes):
            sum_ += np.exp(out[j, c] - top)
        for c in range(classes):
            out[j, c] -= top + np.log(sum_)
