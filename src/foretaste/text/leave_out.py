"""Label probabilities of a group of rows, from all rows outside of the group."""

from __future__ import annotations

import numpy as np

from foretaste.text.bayes import ALPHA
from foretaste.text.kernels import kernel
from foretaste.text.sorting import distinct, find
from foretaste.text.tokens import mix

U64 = np.uint64


@kernel
def _distinct_buckets(tokens, start, stop, mask, out):
    n = np.int64(0)  # not a literal, for which numba compiles a variant of its own
    for i in range(start, stop):
        out[n] = mix(tokens[i]) & mask
        n += 1
    return distinct(out, n)


@kernel
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
    n = np.int64(0)
    for p in places:
        m = _distinct_buckets(tokens, offsets[p], offsets[p + 1], mask, scratch)
        for i in range(m):  # not by slices: numba then compiles the message of a shape that does not fit
            held[n + i] = scratch[i]
        n += m
    vocabulary = held[: distinct(held, n)]
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
            own[find(vocabulary, scratch[i]), labels[j]] += 1
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
            v = find(vocabulary, scratch[i])
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
