"""Kernels of the pairwise model: which of two answers to one prompt was preferred, from the words in which they differ.

A *difference word* is a token, or two tokens side by side, of the one answer that the other does not hold. All arrays
are flat: tokens uint64 (n_tokens,), offsets int64 (rows + 1,). ``counts`` is uint32 (buckets, folds, 2): rows of a fold
in which the chosen answer alone, or the rejected one alone, holds the word.
"""

from __future__ import annotations

import numpy as np

from foretaste.text.kernels import kernel
from foretaste.text.ngrams import extend
from foretaste.text.sorting import distinct
from foretaste.text.tokens import mix

U64 = np.uint64
BUCKETS = 1 << 19
PSEUDO = 2.0  # rows that every word is taken to have been seen in on either side: most words say little


@kernel
def _buckets(tokens, start, stop, mask, out):
    """Distinct buckets of the words and pairs of words of one row, sorted, into ``out``; returns their number."""
    n = 0
    for i in range(start, stop):
        out[n] = mix(tokens[i]) & mask
        n += 1
        if i + 1 < stop:
            out[n] = extend(tokens[i], tokens[i + 1]) & mask
            n += 1
    return distinct(out, n)


@kernel
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


@kernel
def _longest(offsets):
    longest = 1
    for r in range(len(offsets) - 1):
        longest = max(longest, offsets[r + 1] - offsets[r])
    return 2 * longest


@kernel
def difference_words(chosen, chosen_offsets, rejected, rejected_offsets, wanted, presence):
    """Difference words of the wanted rows (bool per row), as (buckets uint32, sides int8, offsets int64).

    Side 0 is the chosen answer. Adds the answers that hold each word to ``presence`` (buckets,), where it is not empty.
    """
    mask = U64(BUCKETS - 1)
    a = np.empty(_longest(chosen_offsets), np.uint64)
    b = np.empty(_longest(rejected_offsets), np.uint64)
    words = np.empty(len(a) + len(b), np.uint64)
    side = np.empty(len(words), np.int8)
    offsets = np.zeros(wanted.sum() + 1, np.int64)
    size = 16
    for r in range(len(wanted)):
        if wanted[r]:
            size += 2 * (chosen_offsets[r + 1] - chosen_offsets[r] + rejected_offsets[r + 1] - rejected_offsets[r])
    all_words = np.empty(size, np.uint32)
    all_sides = np.empty(size, np.int8)
    at = 0
    fill = 0
    for r in range(len(wanted)):
        if not wanted[r]:
            continue
        n_a = _buckets(chosen, chosen_offsets[r], chosen_offsets[r + 1], mask, a)
        n_b = _buckets(rejected, rejected_offsets[r], rejected_offsets[r + 1], mask, b)
        if len(presence):
            for i in range(n_a):
                presence[a[i]] += np.uint32(1)
            for i in range(n_b):
                presence[b[i]] += np.uint32(1)
        n = _difference(a, n_a, b, n_b, words, side)
        for i in range(n):
            all_words[fill] = words[i]
            all_sides[fill] = side[i]
            fill += 1
        at += 1
        offsets[at] = fill
    return all_words[:fill].copy(), all_sides[:fill].copy(), offsets


@kernel
def count_words(words, sides, offsets, folds, counts):
    """Add rows to ``counts``."""
    for r in range(len(offsets) - 1):
        for i in range(offsets[r], offsets[r + 1]):
            counts[words[i], folds[r], sides[i]] += np.uint32(1)


@kernel
def score_words(words, sides, offsets, folds, counts, total, out):
    """What the difference words of each row say for its chosen answer, from rows of other folds; ``out`` (rows, 2).

    Columns: the sum of log((wins + PSEUDO) / (losses + PSEUDO)), signed by the side that holds the word, and the number
    of difference words. ``total`` (buckets, 2) is ``counts`` over all folds.
    """
    for r in range(len(offsets) - 1):
        score = 0.0
        fold = folds[r]
        for i in range(offsets[r], offsets[r + 1]):
            w = words[i]
            wins = float(total[w, 0]) - counts[w, fold, 0] + PSEUDO
            losses = float(total[w, 1]) - counts[w, fold, 1] + PSEUDO
            score += np.log(wins / losses) if sides[i] == 0 else np.log(losses / wins)
        out[r, 0] = score
        out[r, 1] = offsets[r + 1] - offsets[r]


@kernel
def score_groups(words, sides, offsets, folds, counts, total, spans, places, out):
    """The same for the rows of many groups, none of whose rows votes in its own group; ``out`` (len(places), 2).

    The rows of group g are ``places[spans[g]:spans[g + 1]]``.
    """
    # What the rows of other folds say of each word is the same for all groups; one look-up a word is left.
    wins = np.empty(len(words), np.float32)
    losses = np.empty(len(words), np.float32)
    for r in range(len(offsets) - 1):
        for i in range(offsets[r], offsets[r + 1]):
            w = words[i]
            wins[i] = total[w, sides[i]] - counts[w, folds[r], sides[i]]
            losses[i] = total[w, 1 - sides[i]] - counts[w, folds[r], 1 - sides[i]]
    n_folds = counts.shape[1]
    own = np.zeros((len(counts), 2, n_folds + 1), np.uint16)  # the last is the sum over the folds
    for g in range(len(spans) - 1):
        for j in range(spans[g], spans[g + 1]):
            r = places[j]
            for i in range(offsets[r], offsets[r + 1]):
                own[words[i], sides[i], folds[r]] += np.uint16(1)
                own[words[i], sides[i], n_folds] += np.uint16(1)
        for j in range(spans[g], spans[g + 1]):
            r = places[j]
            fold = folds[r]
            score = 0.0
            ratio = 1.0
            for i in range(offsets[r], offsets[r + 1]):
                w = words[i]
                mine = own[w, sides[i]]
                other = own[w, 1 - sides[i]]
                up = wins[i] - mine[n_folds] + mine[fold] + PSEUDO
                down = losses[i] - other[n_folds] + other[fold] + PSEUDO
                ratio *= up / down
                if i % 16 == 0:  # a logarithm costs more than the rest
                    score += np.log(ratio)
                    ratio = 1.0
            out[j, 0] = score + np.log(ratio)
            out[j, 1] = offsets[r + 1] - offsets[r]
        for j in range(spans[g], spans[g + 1]):
            r = places[j]
            for i in range(offsets[r], offsets[r + 1]):
                own[words[i], sides[i], :] = 0


@kernel
def _distinct(tokens, start, stop, out):
    """Distinct words of a row, sorted, without punctuation; returns their number."""
    n = 0
    for i in range(start, stop):
        if tokens[i] & U64(1):
            out[n] = tokens[i]
            n += 1
    return distinct(out, n)


@kernel
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
