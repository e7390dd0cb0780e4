"""Statistics of a group of rows that share a phrase, with the phrase left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.text.bayes import ALPHA, row_logits
from foretaste.text.kernels import kernel
from foretaste.text.ngrams import extend
from foretaste.text.sorting import find, sort_small
from foretaste.text.tokens import mix

U64 = np.uint64
LIKELIEST = -1  # stands for a class


@kernel
def coherence(ids, offsets, members, weights, skip, scratch):
    """Mean pairwise cosine of rows, as weighted sets of words, without the tokens in ``skip`` (sorted ids).

    The closed form (|sum v|^2 - k) / (k (k - 1)) of unit vectors v. ``scratch`` float64 (vocabulary,) is all zero before
    and after. A row without any other word counts as equal to every row.
    """
    total = 0
    for m in members:
        total += offsets[m + 1] - offsets[m]
    touched = np.empty(total, np.int64)
    n = 0
    k = 0
    empty = 0
    longest = 1
    for m in members:
        longest = max(longest, offsets[m + 1] - offsets[m])
    row = np.empty(longest, np.int64)
    for m in members:
        length = 0
        for i in range(offsets[m], offsets[m + 1]):
            if find(skip, ids[i]) < 0:
                row[length] = ids[i]
                length += 1
        part = row[:length]
        sort_small(part)
        norm = 0.0
        for i in range(length):
            if i == 0 or part[i] != part[i - 1]:
                norm += weights[part[i]] ** 2
        k += 1
        if norm == 0.0:
            empty += 1
            continue
        norm = np.sqrt(norm)
        for i in range(length):
            if i == 0 or part[i] != part[i - 1]:
                scratch[part[i]] += weights[part[i]] / norm
                touched[n] = part[i]
                n += 1
    square = 0.0
    for i in range(n):
        square += scratch[touched[i]] ** 2
        scratch[touched[i]] = 0.0
    if k < 2:
        return 1.0
    full = k - empty
    pairs_with_empty = k * (k - 1.0) - full * (full - 1.0)
    return (square - full + pairs_with_empty) / (k * (k - 1.0))


@kernel
def rest_log_probability(tokens, offsets, members, labels, target, skip, counts, base, mass, strength, power, out):
    """log P(target | the row without the tokens in ``skip`` (sorted hashes)) of each member, into ``out``; that of the class
    that is likeliest for it where ``target`` is ``LIKELIEST``."""
    longest = 1
    for m in members:
        longest = max(longest, offsets[m + 1] - offsets[m])
    kept = np.empty(longest, np.uint64)
    buckets = np.empty(longest, np.uint64)
    raw = np.empty(counts.shape[1])
    first = np.int64(0)  # not a literal, for which numba compiles a variant of its own
    for j in range(len(members)):
        m = members[j]
        n = first
        for i in range(offsets[m], offsets[m + 1]):
            if find(skip, tokens[i]) < 0:
                kept[n] = tokens[i]
                n += 1
        size = row_logits(kept, first, n, labels[j], counts, mass, raw, buckets)
        scale = strength / max(1.0, float(size)) ** power
        top = -np.inf
        for c in range(len(raw)):
            raw[c] = np.log(base[c]) + scale * raw[c]
            top = max(top, raw[c])
        total = 0.0
        for c in range(len(raw)):
            total += np.exp(raw[c] - top)
        out[j] = (0.0 if target == LIKELIEST else raw[target] - top) - np.log(total)


@kernel
def _most_frequent(spans, rows, labels, counts, out_label, out_count):
    for c in range(len(spans) - 1):
        best = 0
        label = -1
        for i in range(spans[c], spans[c + 1]):
            mine = labels[rows[i]]
            if mine >= 0:
                counts[mine] += 1
                if counts[mine] > best or (counts[mine] == best and mine < label):
                    best = counts[mine]
                    label = mine
        for i in range(spans[c], spans[c + 1]):
            if labels[rows[i]] >= 0:
                counts[labels[rows[i]]] = 0
        out_label[c] = label
        out_count[c] = best


def majority(
    spans: npt.NDArray[np.int64],
    rows: npt.NDArray[np.integer[Any]],
    labels: npt.NDArray[np.int32],
    out_label: npt.NDArray[np.int32],
    out_count: npt.NDArray[np.int64],
) -> None:
    """The most frequent non-negative label of each span of rows (of equals the smallest), and how many rows have it."""
    counts = np.zeros(int(labels.max(initial=-1)) + 1, np.int64)
    # Rows as occurrences have them, so that the kernel is compiled for one type.
    _most_frequent(spans, rows.astype(np.int32, copy=False), labels, counts, out_label, out_count)


@kernel
def inverse_frequency(vocabulary, presence, rows, out):
    """log(rows / rows with it) of each token hash, from the sketch; never below zero."""
    mask = U64(len(presence) - 1)
    for i in range(len(vocabulary)):
        n = float(presence[extend(U64(0), vocabulary[i]) & mask])
        out[i] = max(0.0, np.log(rows / max(1.0, n)))


@kernel
def contradictions(
    words, word_spans, raw, sizes, places, spans, lefts, rights, labels, targets, counts, base, mass, strength, power,
    cap, out,
):  # fmt: skip
    """Mean capped log(base / P(target | row without the phrase)) over the target rows of every phrase, in nats.

    ``lefts`` and ``rights`` (of the shape of ``places``, or empty) are hashes of words that are left out of that row as
    well, 0 for none.

    ``raw`` float32 (rows, classes) and ``sizes`` (rows,) are the leave-one-out logits of all stored rows; what a phrase
    adds to them is taken out again, so that a row is not read once per phrase. ``words[word_spans[c]:word_spans[c + 1]]``
    are the token hashes of phrase c, ``places[spans[c]:spans[c + 1]]`` its stored rows, ``labels`` the labels of all
    stored rows.
    """
    mask = U64(counts.shape[0] - 1)
    classes = len(base)
    whole = np.empty(classes)  # what the phrase adds to a row of another class
    less = np.empty(classes)  # and to a row of this class, whose own count is left out
    added = np.empty(classes)
    buckets = np.empty(64, np.uint64)
    for c in range(len(spans) - 1):
        m = 0
        for i in range(word_spans[c], word_spans[c + 1]):
            if m == 64:
                break
            bucket = mix(words[i]) & mask
            known = False
            for j in range(m):
                known = known or buckets[j] == bucket
            if not known:
                buckets[m] = bucket
                m += 1
        for k in range(classes):
            whole[k] = 0.0
            less[k] = 0.0
            for j in range(m):
                n = float(counts[buckets[j], k])
                whole[k] += np.log1p(n / (ALPHA * mass[k]))
                less[k] += np.log1p(max(0.0, n - 1.0) / (ALPHA * mass[k]))
        target = targets[c]
        total = 0.0
        rows = 0
        for i in range(spans[c], spans[c + 1]):
            row = places[i]
            if labels[row] != target:
                continue
            taken = m
            for k in range(classes):
                added[k] = less[k] if k == target else whole[k]
            for side in range(2 if len(lefts) else 0):
                beside = lefts[i] if side == 0 else rights[i]
                bucket = mix(beside) & mask
                known = beside == U64(0) or (side == 1 and beside == lefts[i])
                for j in range(m):
                    known = known or buckets[j] == bucket
                if not known:
                    taken += 1
                    for k in range(classes):
                        n = float(counts[bucket, k]) - (1.0 if k == target else 0.0)
                        added[k] += np.log1p(max(0.0, n) / (ALPHA * mass[k]))
            scale = strength / max(1.0, float(sizes[row] - taken)) ** power
            top = -np.inf
            for k in range(classes):
                top = max(top, np.log(base[k]) + scale * (raw[row, k] - added[k]))
            sum_ = 0.0
            for k in range(classes):
                sum_ += np.exp(np.log(base[k]) + scale * (raw[row, k] - added[k]) - top)
            rest = np.log(base[target]) + scale * (raw[row, target] - added[target]) - top - np.log(sum_)
            total += min(cap, np.log(base[target]) - rest)
            rows += 1
        out[c] = total / max(1, rows)


@kernel
def class_gain(ids, offsets, members, frequency, base, skip, scratch, out):
    """How much the words of each member row speak for the members' own class, in nats, leave-one-out.

    The sum over the row's distinct words (without ``skip``, sorted ids) of log(P(class | word) / base), over the square
    root of their number. ``frequency`` is the number of rows with each id in all data, ``scratch`` float64 (vocabulary,)
    all zero before and after.
    """
    longest = 1
    for m in members:
        longest = max(longest, offsets[m + 1] - offsets[m])
    row = np.empty(longest, np.int64)
    for pass_ in range(3):
        for j in range(len(members)):
            m = members[j]
            length = 0
            for i in range(offsets[m], offsets[m + 1]):
                if find(skip, ids[i]) < 0:
                    row[length] = ids[i]
                    length += 1
            part = row[:length]
            sort_small(part)
            total = 0.0
            n = 0
            for i in range(length):
                if i and part[i] == part[i - 1]:
                    continue
                if pass_ == 0:
                    scratch[part[i]] += 1.0
                elif pass_ == 1:
                    n += 1
                    seen = scratch[part[i]] - 1.0
                    total += np.log((seen + base) / (max(frequency[part[i]] - 1.0, seen) + 1.0) / base)
                else:
                    scratch[part[i]] = 0.0
            if pass_ == 1:
                out[j] = total / np.sqrt(max(1, n))


@kernel
def companions(ids, offsets, places, spans, own, own_spans, weights, seldom, share, least_rows, tally, seen, out):
    """Ids of the few words, apart from a phrase's own, that nearly all its rows hold and seldom any other row.

    ``places[spans[g]:spans[g + 1]]`` are the stored rows of phrase g, ``own[own_spans[g]:own_spans[g + 1]]`` the ids of
    its words. A word counts where ``weights`` (vocabulary,), its inverse frequency, is at least ``seldom`` and ``share`` of
    64 rows hold it; phrases of fewer than ``least_rows`` rows have none. Into ``out`` int64 (phrases, most), filled with
    -1; where there are more than ``most``, none is given.
    ``tally`` int64 (vocabulary,) is all zero, and ``seen`` int64 (vocabulary,) all -1, before and after.
    """
    most = out.shape[1]
    for g in range(len(spans) - 1):
        for j in range(most):
            out[g, j] = -1
        k = spans[g + 1] - spans[g]
        if k < least_rows:
            continue
        step = max(1, k // 64)
        # Three rows tell most phrases apart: without a word that two of them share there is none.
        for look in range(2):
            rows = min(3, k) if look == 0 else (k + step - 1) // step
            least = 2.0 if look == 0 else share * rows
            found = 0
            for r in range(rows):
                row = places[spans[g] + (r if look == 0 else r * step)]
                for i in range(offsets[row], offsets[row + 1]):
                    word = ids[i]
                    if weights[word] >= seldom and seen[word] != r:
                        seen[word] = r
                        tally[word] += 1
            for r in range(rows):
                row = places[spans[g] + (r if look == 0 else r * step)]
                for i in range(offsets[row], offsets[row + 1]):
                    word = ids[i]
                    if tally[word] >= least:
                        mine = False
                        for j in range(own_spans[g], own_spans[g + 1]):
                            mine = mine or own[j] == word
                        if not mine:
                            if look == 1 and found < most:
                                out[g, found] = word
                            found += 1
                    tally[word] = 0
                    seen[word] = -1
            if found == 0:
                break
            if look == 1 and found > most:
                for j in range(most):
                    out[g, j] = -1
