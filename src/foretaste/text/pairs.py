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
SHORT = 4.0  # words that every answer is taken to have besides, so that a short one is no extreme


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
    """What the difference words of each row say for its chosen answer, from rows of other folds; ``out`` (rows, 4).

    Columns: the sum of log((wins + PSEUDO) / (losses + PSEUDO)), signed by the side that holds the word; the number of
    difference words; how much more the words of the chosen answer are known than those of the other (mean log(1 + rows));
    and how many more of them no other row holds. ``total`` (buckets, 2) is ``counts`` over all folds.
    """
    for r in range(len(offsets) - 1):
        score = 0.0
        fold = folds[r]
        known = 0.0
        known_other = 0.0
        size = 0
        new = 0
        for i in range(offsets[r], offsets[r + 1]):
            w = words[i]
            wins = float(total[w, 0]) - counts[w, fold, 0] + PSEUDO
            losses = float(total[w, 1]) - counts[w, fold, 1] + PSEUDO
            told = np.log(wins / losses)
            rows = wins + losses - 2.0 * PSEUDO
            familiar = np.log(1.0 + rows) if rows > 0.0 else 0.0
            if sides[i] == 0:
                score += told
                size += 1
                known += familiar
                new += rows == 0.0
            else:
                score -= told
                known_other += familiar
                new -= rows == 0.0
        out[r, 0] = score
        out[r, 1] = offsets[r + 1] - offsets[r]
        out[r, 2] = known / (size + SHORT) - known_other / (offsets[r + 1] - offsets[r] - size + SHORT)
        out[r, 3] = new


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
def compare(prompt, prompt_offsets, chosen, chosen_offsets, rejected, rejected_offsets, presence, answers, out):
    """How the chosen answer differs from the rejected one, into ``out`` (rows, 4).

    Columns, each the difference of two numbers from 0 to 1: the share of the prompt's distinct words that the answer takes
    up, each weighted by log(answers / answers that hold it); the share of the answer's distinct words that the prompt holds;
    distinct words per word; whether the answer breaks off with a word.
    """
    mask = U64(len(presence) - 1)
    p = np.empty(_longest(prompt_offsets), np.uint64)
    a = np.empty(max(_longest(chosen_offsets), _longest(rejected_offsets)), np.uint64)
    for r in range(len(chosen_offsets) - 1):
        n_p = _distinct(prompt, prompt_offsets[r], prompt_offsets[r + 1], p)
        whole = 0.0
        for i in range(n_p):
            whole += np.log((answers + 1.0) / (presence[mix(p[i]) & mask] + 1.0))
        for side in range(2):
            sign = 1.0 if side == 0 else -1.0
            tokens = chosen if side == 0 else rejected
            start = chosen_offsets[r] if side == 0 else rejected_offsets[r]
            stop = chosen_offsets[r + 1] if side == 0 else rejected_offsets[r + 1]
            words = 0
            for i in range(start, stop):
                words += tokens[i] & U64(1) != U64(0)
            n_a = _distinct(tokens, start, stop, a)
            taken = 0.0
            held = 0
            i = 0
            j = 0
            while i < n_p and j < n_a:
                if p[i] < a[j]:
                    i += 1
                elif a[j] < p[i]:
                    j += 1
                else:
                    taken += np.log((answers + 1.0) / (presence[mix(p[i]) & mask] + 1.0))
                    held += 1
                    i += 1
                    j += 1
            out[r, 0] += sign * taken / whole if whole > 0.0 else 0.0
            out[r, 1] += sign * held / (n_a + SHORT)
            out[r, 2] += sign * n_a / (words + SHORT)
            if stop > start and tokens[stop - 1] & U64(1):
                out[r, 3] += sign
