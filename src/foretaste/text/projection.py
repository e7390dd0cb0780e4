"""Prompts and responses as random projections of their words, and what the words of a prompt say of its response.

Every word has a vector of 64 signs, from the bits of its hash (random indexing; Kanerva et al. 2000, after Johnson and
Lindenstrauss 1984); a text is the weighted sum of its words. All functions work on flat arrays: ``tokens`` uint64
(n_tokens,), ``offsets`` int64 (rows + 1,). Tables hold integers, so that parts of the data add up in any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.text.forms import FORMS
from foretaste.text.kernels import kernel
from foretaste.text.ngrams import extend
from foretaste.text.sorting import find
from foretaste.text.tokens import mix

U64 = np.uint64
DIMS = 64
SCALE = 256.0  # of the integers in a table
FINE = 1e6  # and of sums over rows
SHRINK = 5.0  # rows that a word is short of being believed by half
SCALARS = 3  # odds that a response is its prompt's own, length and opinion
TAKEN = 7  # what the odds are of
SURE = 4.0
RIDGE = 1.0
MEASURES = DIMS + SCALARS + len(FORMS)
FEATURES = DIMS + 3


@kernel
def _add(out, word, weight):
    bits = mix(word)
    for d in range(DIMS):  # reads nothing from memory but ``out``, so that it becomes vector instructions
        out[d] += weight if (bits >> U64(d)) & U64(1) else -weight


@kernel
def _to_unit(out):
    norm = 0.0
    for d in range(DIMS):
        norm += out[d] * out[d]
    norm = np.sqrt(norm)
    if norm > 0.0:
        for d in range(DIMS):
            out[d] /= norm
    return norm


@kernel
def _slot(word, slots, stamps, stamp, mask):
    """Where a word is among those that were put in under this stamp, or would be."""
    at = (word >> U64(1)) & mask  # the lowest bit is that of a word
    while stamps[at] == stamp and slots[at] != word:
        at = (at + U64(1)) & mask
    return at


@kernel
def _mask(tokens):
    """Of the slots for so many tokens, which are at most half full."""
    mask = 1
    while mask < 2 * tokens:
        mask = 2 * mask + 1
    return U64(mask)


@kernel
def _words(tokens, start, stop, slots, stamps, stamp, out):
    """The distinct words of a stretch of tokens, in their order, into ``out``; returns how many.

    ``slots`` and ``stamps`` hold more than :func:`_mask` of the tokens; a ``stamp`` is used once.
    """
    n = np.int64(0)  # not a literal, for which numba compiles a variant of its own
    mask = _mask(stop - start)
    for i in range(start, stop):
        word = tokens[i]
        if word & U64(1):
            at = _slot(word, slots, stamps, stamp, mask)
            if stamps[at] != stamp:
                stamps[at] = stamp
                slots[at] = word
                out[n] = word
                n += 1
    return n


@kernel
def longest(offsets):
    """Tokens of the longest row, at least one."""
    most = 1
    for r in range(len(offsets) - 1):
        most = max(most, offsets[r + 1] - offsets[r])
    return most


@kernel
def _empty_slots(offsets):
    """Slots and stamps for :func:`_words` of any row, and room for its words."""
    most = longest(offsets)
    room = np.int64(_mask(most)) + 1
    return np.empty(room, np.uint64), np.full(room, -1, np.int64), np.empty(most, np.uint64)


@kernel
def count_rows(tokens, offsets, presence):
    """Count the rows of each word in a sketch uint32 (cells,)."""
    mask = U64(len(presence) - 1)
    slots, stamps, words = _empty_slots(offsets)
    for r in range(len(offsets) - 1):
        for i in range(_words(tokens, offsets[r], offsets[r + 1], slots, stamps, r, words)):
            presence[extend(U64(0), words[i]) & mask] += 1


@kernel
def _respond(words, n, held, stamps, stamp, held_mask, rarity, out):
    """Unit vector of the response's words that its prompt does not hold; returns the weight of the others, all together
    and of the rarest.

    ``held``, ``stamps``, ``stamp`` and ``held_mask`` are the slots of the prompt's words.
    """
    mask = U64(len(rarity) - 1)
    shared = 0.0
    rarest = 0.0
    for d in range(DIMS):
        out[d] = 0.0
    for i in range(n):
        weight = np.float64(rarity[extend(U64(0), words[i]) & mask])
        if weight <= 0.0:
            continue
        if stamps[_slot(words[i], held, stamps, stamp, held_mask)] == stamp:
            shared += weight
            rarest = max(rarest, weight)
        else:
            _add(out, words[i], weight)
    _to_unit(out)
    return shared, rarest


@kernel
def _marked(lexicon):
    """Where words of the lexicon fall; few others do, so that few have to be looked up."""
    marked = np.zeros(8192, np.bool_)
    for i in range(len(lexicon)):
        marked[(lexicon[i] >> U64(1)) & U64(8191)] = True
    return marked


@kernel
def _opinion(words, n, held, stamps, stamp, held_mask, lexicon, marked, signs):
    """How much a response praises or finds fault, in words that its prompt does not hold (see :func:`_respond`)."""
    balance = 0.0
    told = 0.0
    for i in range(n):
        at = find(lexicon, words[i]) if marked[(words[i] >> U64(1)) & U64(8191)] else -1
        if at >= 0 and stamps[_slot(words[i], held, stamps, stamp, held_mask)] != stamp:
            balance += signs[at]
            told += 1.0
    return balance / np.sqrt(told + 1.0)


@kernel
def learn(tokens, offsets, answers, answer_offsets, numbers, rarity, table, counts, total):
    """Add the response vectors of a batch to ``total`` int64 (DIMS,) and, by fold, to every word of their prompts:
    ``table`` int32 (2, words, DIMS), ``counts`` int32 (2, words). ``numbers`` int64 (rows,) choose the folds, ``rarity``
    float32 (cells,) weighs the words of responses."""
    mask = U64(counts.shape[1] - 1)
    held, stamps, asked = _empty_slots(offsets)
    slots, answer_stamps, words = _empty_slots(answer_offsets)
    vector = np.empty(DIMS)
    whole = np.empty(DIMS, np.int32)
    for r in range(len(offsets) - 1):
        m = _words(tokens, offsets[r], offsets[r + 1], held, stamps, r, asked)
        n = _words(answers, answer_offsets[r], answer_offsets[r + 1], slots, answer_stamps, r, words)
        _respond(words, n, held, stamps, r, _mask(offsets[r + 1] - offsets[r]), rarity, vector)
        for d in range(DIMS):
            whole[d] = np.int32(np.rint(vector[d] * SCALE))
            total[d] += whole[d]
        fold = mix(U64(numbers[r] + 1)) & U64(1)
        for i in range(m):
            cell = mix(asked[i]) & mask
            counts[fold, cell] += 1
            for d in range(DIMS):
                table[fold, cell, d] += whole[d]


def inverse_frequency(counts: npt.NDArray[Any], rows: float) -> npt.NDArray[np.float32]:
    """log(rows / count) of every cell, never below zero."""
    frequency: npt.NDArray[np.float32] = np.log(max(1.0, rows) / np.maximum(counts, 1)).astype(np.float32)
    return np.maximum(frequency, np.float32(0.0))


def lessons(
    table: npt.NDArray[np.int32], counts: npt.NDArray[np.int32], mean: npt.NDArray[np.float64], rows: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """What every word of a prompt adds to the prediction of its response, float32 (2, words, DIMS), and its weight."""
    weights = inverse_frequency(counts, rows / 2.0)
    share = (weights / (counts + SHRINK)).astype(np.float32)
    added: npt.NDArray[np.float32] = table.astype(np.float32)
    added *= (share / np.float32(SCALE))[:, :, None]
    added -= (share * counts).astype(np.float32)[:, :, None] * mean.astype(np.float32)
    return added, weights


@kernel
def _ask(word, added, weights, fold, mask, sign, prompt, predicted):
    """Add a word of a prompt to the prompt's vector and to the prediction of its response, or take it out again."""
    cell = mix(word) & mask
    weight = weights[fold, cell]
    if weight > 0.0:
        _add(prompt, word, sign * weight)
        for d in range(DIMS):
            predicted[d] += sign * added[fold, cell, d]


@kernel
def holding(tokens, offsets, rows, lasts, own, own_spans, chosen):
    """The last prompt of a row that holds all of some tokens, into ``chosen`` int64 (k,); ``lasts`` (k,) where none does.

    ``rows`` int64 (prompts,) says whose each prompt is, ``lasts`` are the last prompts of the rows that are asked for.
    """
    for j in range(len(lasts)):
        at = lasts[j]
        row = rows[at]
        chosen[j] = at
        while at >= 0 and rows[at] == row:
            found = True
            for i in range(own_spans[j], own_spans[j + 1]):
                held = False
                for t in range(offsets[at], offsets[at + 1]):
                    held = held or tokens[t] == own[i]
                found = found and held
            if found:
                chosen[j] = at
                break
            at -= 1


@kernel
def measure(
    tokens, offsets, answers, answer_offsets, numbers, places, own, own_spans, rarity, added, weights, mean,
    lexicon, signs, measures, features, prompts, taken,
):  # fmt: skip
    """What the responses of some rows are like, and what their prompts would have led to.

    ``places`` int64 (k,) are rows of the batch, equal ones side by side as far as may be, ``numbers`` int64 (k,) their
    numbers in the data; ``own[own_spans[j]:own_spans[j + 1]]`` are token hashes, sorted, to leave out of the j-th prompt.
    Predictions come from the other fold, by ``added`` and ``weights`` of :func:`lessons`. Into ``measures`` (k, MEASURES)
    the response vector, a zero for what comes of ``taken``, the log of its length, its opinion by a ``lexicon`` of sorted
    token hashes with their ``signs``, and zeros for its forms; into ``features`` (k, FEATURES) one, the unit prediction, the
    logs of its norm and of the prompt's length; into ``prompts`` (k, DIMS) the unit vector of the prompt; into ``taken``
    (k, TAKEN), for :func:`odds`, one, the cosine of response and prediction, the weight of the words that the response takes
    up from its prompt (as a log) and of the rarest of them, and the three logs above.
    """
    mask = U64(weights.shape[1] - 1)
    held, stamps, asked = _empty_slots(offsets)
    slots, answer_stamps, words = _empty_slots(answer_offsets)
    response = np.empty(DIMS)
    whole_prompt = np.empty(DIMS)
    whole_predicted = np.empty(DIMS)
    last = -1
    seen = 0  # stamp of the prompt and the response at hand: a row may come again after another
    m = 0
    marked = _marked(lexicon)
    held_mask = U64(0)
    shared = 0.0
    rarest = 0.0
    opinion = 0.0
    fold = U64(0)
    for j in range(len(places)):
        r = places[j]
        if r != last:
            last = r
            seen = j
            held_mask = _mask(offsets[r + 1] - offsets[r])
            m = _words(tokens, offsets[r], offsets[r + 1], held, stamps, seen, asked)
            n = _words(answers, answer_offsets[r], answer_offsets[r + 1], slots, answer_stamps, seen, words)
            shared, rarest = _respond(words, n, held, stamps, seen, held_mask, rarity, response)
            opinion = _opinion(words, n, held, stamps, seen, held_mask, lexicon, marked, signs)
            fold = U64(1) - (mix(U64(numbers[j] + 1)) & U64(1))
            for d in range(DIMS):
                whole_prompt[d] = 0.0
                whole_predicted[d] = 0.0
            for i in range(m):
                _ask(asked[i], added, weights, fold, mask, 1.0, whole_prompt, whole_predicted)
        prompt = prompts[j]
        predicted = features[j, 1 : DIMS + 1]
        # Not by slices: numba then compiles the message of a shape that does not fit, with all of its strings.
        for d in range(DIMS):
            prompt[d] = whole_prompt[d]
            predicted[d] = whole_predicted[d]
        left = m
        for i in range(own_spans[j], own_spans[j + 1]):
            if stamps[_slot(own[i], held, stamps, seen, held_mask)] == seen:
                left -= 1
                _ask(own[i], added, weights, fold, mask, -1.0, prompt, predicted)
        _to_unit(prompt)
        norm = _to_unit(predicted)
        fit = 0.0
        for d in range(DIMS):
            measures[j, d] = response[d]
            fit += predicted[d] * (response[d] - mean[d])
        measures[j, DIMS] = 0.0
        measures[j, DIMS + 1] = np.log1p(float(answer_offsets[r + 1] - answer_offsets[r]))
        measures[j, DIMS + 2] = opinion
        features[j, 0] = 1.0
        features[j, DIMS + 1] = np.log1p(norm)
        features[j, DIMS + 2] = np.log1p(float(left))
        taken[j, 0] = 1.0
        taken[j, 1] = fit
        taken[j, 2] = np.log1p(shared)
        taken[j, 3] = rarest
        taken[j, 4] = measures[j, DIMS + 1]
        taken[j, 5] = features[j, DIMS + 1]
        taken[j, 6] = features[j, DIMS + 2]


def tell_apart(own: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weights (TAKEN,) of a logistic regression, by Newton's method, that tells own from others' (n, TAKEN).

    The columns are scaled for it, so that the ridge weighs them alike; the first of them is one.
    """
    both = np.concatenate([own, others])
    if not len(both):
        return np.zeros(own.shape[1])
    signs = np.repeat([1.0, -1.0], [len(own), len(others)])
    scale = np.sqrt(np.mean((both - both.mean(axis=0)) ** 2, axis=0)) + 1e-9
    scale[0] = 1.0
    x = both / scale * signs[:, None]
    weights = np.zeros(both.shape[1])
    for _ in range(12):
        wrong = 1.0 / (1.0 + np.exp(np.clip(x @ weights, -30.0, 30.0)))
        slope = x.T @ wrong - RIDGE * weights
        curvature = (x * (wrong * (1.0 - wrong))[:, None]).T @ x + RIDGE * np.eye(len(weights))
        weights += np.linalg.solve(curvature, slope)
    told: npt.NDArray[np.float64] = weights / scale
    return told


def odds(taken: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Log odds (k,) that responses are their prompts' own and not another's; no single row tells more than SURE."""
    bounded: npt.NDArray[np.float64] = np.clip(taken @ weights, -SURE, SURE)
    return bounded


@kernel
def tally(measures, features, prompts, owners, group, sums, asked):
    """Add rows to what they belong to: ``sums`` int64 (owners, groups, MEASURES + FEATURES), ``asked`` int64 (owners, DIMS).

    The values are rounded to a millionth, so that parts of the data add up to the same in any order.
    """
    for j in range(len(owners)):
        out = sums[owners[j], group[j]]
        for i in range(MEASURES):
            out[i] += np.int64(np.rint(measures[j, i] * FINE))
        for i in range(FEATURES):
            out[MEASURES + i] += np.int64(np.rint(features[j, i] * FINE))
        for d in range(DIMS):
            asked[owners[j], d] += np.int64(np.rint(prompts[j, d] * FINE))
