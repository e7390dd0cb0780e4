"""Kernels of the leave-one-out naive Bayes model: additive counts, and the logits of a row without itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foretaste.text.kernels import kernel
from foretaste.text.sorting import sort_small
from foretaste.text.tokens import mix

U64 = np.uint64
ALPHA = 1.0  # pseudo-counts of a bucket, spread like the words of the classes


@kernel
def count_classes(tokens, offsets, labels, counts, last, first_row):
    """Rows per (bucket, class), presence only; rows of a negative class are left out."""
    mask = U64(counts.shape[0] - 1)
    for r in range(len(offsets) - 1):
        lab = labels[r]
        if lab < 0:
            continue
        row = first_row + r
        for i in range(offsets[r], offsets[r + 1]):
            b = mix(tokens[i]) & mask
            if last[b] != row:
                last[b] = row
                counts[b, lab] += np.uint32(1)


@kernel
def row_logits(tokens, start, stop, own, counts, mass, out, buckets):
    """Sum of the log weights of a row's distinct tokens for each class, into ``out`` (classes,); returns their number.

    The row's own contribution is taken out of the counts, so that the result is exactly leave-one-out. Counts are taken
    relative to the share of all words that a class holds (``mass``): a class of long rows is not the likelier one for
    every word. Weights are relative to those of a class that never saw the token, which a softmax does not notice.
    """
    mask = U64(counts.shape[0] - 1)
    n = 0
    for i in range(start, stop):
        buckets[n] = mix(tokens[i]) & mask
        n += 1
    distinct = buckets[:n]
    sort_small(distinct)
    m = 0
    classes = counts.shape[1]
    for c in range(classes):
        out[c] = 0.0
    for i in range(n):
        if i and distinct[i] == distinct[i - 1]:
            continue
        m += 1
        b = distinct[i]
        for c in range(classes):
            k = float(counts[b, c])
            if c == own:
                k -= 1.0
            if k > 0.0:
                out[c] += np.log1p(k / (ALPHA * mass[c]))
    return m


@kernel
def batch_logits(tokens, offsets, labels, counts, mass, wanted, out, sizes):
    """Leave-one-out logits of the wanted rows of a batch, in order; ``out`` (n_wanted, classes)."""
    longest = 1
    for r in range(len(offsets) - 1):
        longest = max(longest, offsets[r + 1] - offsets[r])
    buckets = np.empty(longest, np.uint64)
    at = 0
    for r in range(len(offsets) - 1):
        if wanted[r]:
            sizes[at] = row_logits(tokens, offsets[r], offsets[r + 1], labels[r], counts, mass, out[at], buckets)
            at += 1


@kernel
def log_softmax(raw, sizes, log_base, strength, power, out):
    """Calibrated log-probabilities: base rates plus ``strength * raw / size**power``; shapes (rows, classes)."""
    for r in range(raw.shape[0]):
        scale = strength / max(1.0, float(sizes[r])) ** power
        top = -np.inf
        for c in range(raw.shape[1]):
            out[r, c] = log_base[c] + scale * raw[r, c]
            top = max(top, out[r, c])
        total = 0.0
        for c in range(raw.shape[1]):
            total += np.exp(out[r, c] - top)
        shift = top + np.log(total)
        for c in range(raw.shape[1]):
            out[r, c] -= shift


@kernel
def _bucket_counts(tokens, counts, target, out):
    mask = U64(counts.shape[0] - 1)
    for i in range(len(tokens)):
        b = mix(tokens[i]) & mask
        total = 0
        for c in range(counts.shape[1]):
            total += counts[b, c]
        out[i, 0] = total
        out[i, 1] = counts[b, target]


def bucket_counts(tokens: npt.NDArray[np.uint64], counts: npt.NDArray[np.uint32], target: int) -> npt.NDArray[np.int64]:
    """Rows that hold each token, and those of them in the target class, int64 (tokens, 2)."""
    out = np.zeros((len(tokens), 2), np.int64)
    _bucket_counts(tokens, counts, target, out)
    return out
