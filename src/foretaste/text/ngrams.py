"""Kernels over token hashes: n-gram sketches, exact tables of the n-grams that matter, and their occurrences.

Every function works on flat arrays: ``tokens`` uint64 (n_tokens,), ``offsets`` int64 (rows + 1,), and ``turns`` int64, the
offsets of the texts in the rows: no n-gram lies in two of them. Presence is counted per row, never per occurrence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foretaste.text.kernels import kernel
from foretaste.text.prefetch import prefetch
from foretaste.text.sorting import sort_small, z_of_last
from foretaste.text.tokens import mix

U64 = np.uint64
_N_BITS = 2
MAX_N = 1 << _N_BITS
BOUNDARY = U64(0)  # neighbour of a token at the edge of its turn; no token hashes to 0 in practice
DRAWS = 200  # of random words, with which neighbours are compared
RAREFIED = 25  # rows in which the neighbours of frequent phrases are compared
EDGE = U64(1)  # linear counter of neighbours that has seen the edge alone, as mix(BOUNDARY) is 0


@kernel
def extend(h, token):
    """Hash of an n-gram from the hash of its first n - 1 tokens (0 for none) and its last token."""
    return mix((h * U64(0x9E3779B97F4A7C15)) ^ token)


# Kernels work on chunks of so many tokens, one array at a time: a loop of nothing but loads keeps many of them in flight,
# where a loop that decides after each one waits for memory.
_CHUNK = 512
_TAG_BITS = U64(40)  # bits from there on choose an n-gram's tag


@kernel
def _hash_chunk(tokens, low, size, hashes):
    """Hashes of the n-grams that begin at ``size`` tokens from ``low`` on: ``hashes[n - 1]``."""
    last = len(tokens) - 1
    for i in range(low, low + size):
        h = extend(U64(0), tokens[i])
        hashes[0, i - low] = h
        h = extend(h, tokens[min(i + 1, last)])
        hashes[1, i - low] = h
        h = extend(h, tokens[min(i + 2, last)])
        hashes[2, i - low] = h
        hashes[3, i - low] = extend(h, tokens[min(i + 3, last)])


@kernel
def _place_chunk(offsets, turns, low, high, at, rows, opens, rest):
    """The row of each token from ``low`` to ``high``, whether it opens its turn, and how many tokens its turn has from there
    on (n-grams longer than that are not there). ``at`` are row and turn of ``low``, and then those of ``high``."""
    row = at[0]
    turn = at[1]
    for i in range(low, high):
        while offsets[row + 1] <= i:
            row += 1
        while turns[turn + 1] <= i:
            turn += 1
        rows[i - low] = row
        opens[i - low] = turns[turn] == i
        rest[i - low] = min(turns[turn + 1] - i, 255)
    at[0] = row
    at[1] = turn


@kernel
def sketch_ngrams(tokens, offsets, turns, first_row, cells, bigrams_a, bigrams_b, unigrams, presence, last):
    """Add a batch to the count sketches: n-grams of three and four tokens (uint8, saturating), bigrams (two rows of
    uint8), unigrams (uint32).

    ``presence`` counts the rows of a unigram (``last`` int32 holds the last row seen per cell), everything else counts
    occurrences, which is an upper bound of the rows.
    """
    mask = U64(len(cells) - 1)
    mask2 = U64(len(bigrams_a) - 1)
    mask1 = U64(len(unigrams) - 1)
    hashes = np.empty((MAX_N, _CHUNK), np.uint64)
    rows = np.empty(_CHUNK, np.int64)
    rest = np.empty(_CHUNK, np.uint8)
    opens = np.empty(_CHUNK, np.bool_)
    other = np.empty(_CHUNK, np.uint64)
    place = np.zeros(2, np.int64)
    for low in range(offsets[0], offsets[-1], _CHUNK):
        high = min(low + _CHUNK, offsets[-1])
        _hash_chunk(tokens, low, high - low, hashes)
        _place_chunk(offsets, turns, low, high, place, rows, opens, rest)
        for n in range(2, MAX_N):
            for j in range(high - low):
                prefetch(cells, hashes[n, j] & mask)
        for j in range(high - low):
            other[j] = mix(hashes[1, j]) & mask2
            prefetch(bigrams_a, (hashes[1, j] >> U64(8)) & mask2)
            prefetch(bigrams_b, other[j])
        for n in range(2, MAX_N):
            for j in range(high - low):
                at = hashes[n, j] & mask
                seen = cells[at]
                cells[at] = seen + np.uint8((seen < 255) & (rest[j] > n))
        for j in range(high - low):
            at = (hashes[1, j] >> U64(8)) & mask2
            seen = bigrams_a[at]
            bigrams_a[at] = seen + np.uint8((seen < 255) & (rest[j] > 1))
        for j in range(high - low):
            at = other[j]
            seen = bigrams_b[at]
            bigrams_b[at] = seen + np.uint8((seen < 255) & (rest[j] > 1))
        for j in range(high - low):
            at = hashes[0, j] & mask1
            unigrams[at] += np.uint32(1)
            presence[at] += np.uint32(last[at] != first_row + rows[j])
            last[at] = first_row + rows[j]


@kernel
def frequent_ngrams(tokens, turns, cells, bigrams_a, bigrams_b, unigrams, least, flags):
    """Which n-grams, with each that they begin with, may occur ``least`` times: bit n - 1 of ``flags`` uint8 (n_tokens,)."""
    mask = U64(len(cells) - 1)
    mask2 = U64(len(bigrams_a) - 1)
    mask1 = U64(len(unigrams) - 1)
    hashes = np.empty((MAX_N, _CHUNK), np.uint64)
    rest = np.empty(_CHUNK, np.uint8)
    flag = np.empty((MAX_N, _CHUNK), np.uint8)
    turn = 0
    for low in range(0, len(tokens), _CHUNK):
        size = min(_CHUNK, len(tokens) - low)
        for j in range(size):
            while turns[turn + 1] <= low + j:
                turn += 1
            rest[j] = min(turns[turn + 1] - low - j, 255)
        _hash_chunk(tokens, low, size, hashes)
        for j in range(size):
            flag[0, j] = unigrams[hashes[0, j] & mask1] >= least
        for j in range(size):
            flag[1, j] = bigrams_a[(hashes[1, j] >> U64(8)) & mask2] >= least
        for j in range(size):
            flag[1, j] &= bigrams_b[mix(hashes[1, j]) & mask2] >= least
        for n in range(2, MAX_N):
            for j in range(size):
                flag[n, j] = cells[hashes[n, j] & mask] >= least
        for j in range(size):
            # A longer n-gram cannot be more frequent than its own head.
            two = flag[0, j] & flag[1, j] & (rest[j] > 1)
            three = two & flag[2, j] & (rest[j] > 2)
            four = three & flag[3, j] & (rest[j] > 3)
            flags[low + j] = flag[0, j] | (two << 1) | (three << 2) | (four << 3)


@kernel
def _pick(flags, hashes, size, picked, picked_hashes):
    """Numbers ``j << _N_BITS | n - 1`` and hashes of the n-grams with a flag (n - 1, j), in the order of their tokens;
    returns how many there are."""
    k = 0
    for j in range(size):
        for n in range(MAX_N):
            picked[k] = (j << _N_BITS) | n
            picked_hashes[k] = hashes[n, j]
            k += flags[n, j]
    return k


@kernel
def slot_of(index, mixed):
    """The slot of the n-gram of a mixed hash in an open-addressed index, or the free one that it would take.

    A slot (0 where it is free) holds the place of an n-gram among those counted, from 1 on, in the bits that address a slot,
    and in the others those of the mixed hash. With what the slot's own number tells they are nearly all of its 64: two
    n-grams are taken for one in one of ten thousand scans at most.
    """
    slots = U64(len(index) - 1)
    at = mixed & slots
    while index[at] != U64(0) and ((index[at] ^ mixed) & ~slots) != U64(0):
        at = (at + U64(1)) & slots
    return at


@kernel
def count_ngrams(
    tokens, offsets, turns, first_row, labels, flags, index, keys, tallies, where, size,
):  # fmt: skip
    """Count exactly the n-grams that :func:`frequent_ngrams` flags, in the order in which they are met.

    ``index`` is that of :func:`slot_of`. ``tallies`` (see ``merging.TALLY``) holds, per n-gram of ``keys``, the number of
    rows, a Boyer-Moore majority vote over the rows' labels, and 64-bit linear counters of the neighbours; ``where``
    (len(keys), 3) row, token in row and n of the first occurrence. ``size`` gets the n-grams counted and those that found no
    room.
    """
    slots = U64(len(index) - 1)
    used = size[0]
    lost = size[1]
    hashes = np.empty((MAX_N, _CHUNK), np.uint64)
    rows = np.empty(_CHUNK, np.int64)
    rest = np.empty(_CHUNK, np.uint8)
    flag = np.empty((MAX_N, _CHUNK), np.uint8)
    # What the n-grams from a token on add to their tallies: the bit of the token before, and of the one after each of them.
    left = np.empty(_CHUNK + MAX_N + 1, np.uint64)
    right = np.empty((MAX_N, _CHUNK), np.uint64)
    label_of = np.empty(_CHUNK, np.int32)
    edge = U64(1) << (mix(BOUNDARY) & U64(63))
    chosen = np.empty(_CHUNK * MAX_N, np.int32)
    chosen_hashes = np.empty(_CHUNK * MAX_N, np.uint64)
    place_of = np.empty(_CHUNK * MAX_N, np.int64)
    opens = np.empty(_CHUNK, np.bool_)
    place = np.zeros(2, np.int64)
    for low in range(offsets[0], offsets[-1], _CHUNK):
        high = min(low + _CHUNK, offsets[-1])
        _hash_chunk(tokens, low, high - low, hashes)
        _place_chunk(offsets, turns, low, high, place, rows, opens, rest)
        for j in range(high - low + MAX_N + 1):
            at = min(max(low + j - 1, 0), len(tokens) - 1)
            left[j] = U64(1) << (mix(tokens[at]) & U64(63))
        for n in range(MAX_N):
            for j in range(high - low):
                right[n, j] = edge if rest[j] == n + 1 else left[j + n + 2]
        for j in range(high - low):
            label_of[j] = labels[first_row + rows[j]]
            if opens[j]:
                left[j] = edge
        for n in range(MAX_N):
            for j in range(high - low):
                flag[n, j] = (flags[low + j] >> np.uint8(n)) & np.uint8(1)
        picked = _pick(flag, hashes, high - low, chosen, chosen_hashes)
        for i in range(picked):
            prefetch(index, mix(chosen_hashes[i]) & slots)
        for i in range(picked):
            mixed = mix(chosen_hashes[i])
            at = slot_of(index, mixed)
            k = np.int64(index[at] & slots) - 1
            if k < 0:
                if used < len(keys):
                    k = used
                    used += 1
                    index[at] = (mixed & ~slots) | U64(used)
                    j = chosen[i] >> _N_BITS
                    keys[k] = chosen_hashes[i]
                    tallies[k].last = -1
                    tallies[k].label = -1
                    where[k, 0] = first_row + rows[j]
                    where[k, 1] = low + j - offsets[rows[j]]
                    where[k, 2] = (chosen[i] & (MAX_N - 1)) + 1
                else:
                    lost += 1
            place_of[i] = k
            prefetch(tallies, max(k, 0))
        for i in range(picked):
            at = place_of[i]
            if at < 0:
                continue
            j = chosen[i] >> _N_BITS
            n = chosen[i] & (MAX_N - 1)
            r = np.int32(first_row + rows[j])
            tally = tallies[at]
            if tally.last == r:
                continue
            tally.last = r
            tally.count += 1
            tally.left |= left[j]
            tally.right |= right[n, j]
            label = label_of[j]
            if tally.label == label:
                tally.vote += 1
            elif tally.vote == 0:
                tally.label = label
                tally.vote = 1
            else:
                tally.vote -= 1
    size[0] = used
    size[1] = lost


@kernel
def index_keys(wanted, keys, chosen):
    """An open-addressed table of the ``wanted`` hashes: ``keys`` zeros, ``chosen`` -1, both (slots,), a power of two."""
    slots = U64(len(keys) - 1)
    for i in range(len(wanted)):
        at = mix(wanted[i]) & slots
        while keys[at] != U64(0):
            at = (at + U64(1)) & slots
        keys[at] = wanted[i]
        chosen[at] = i


def tags(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """One byte for many hashes each, 1 where a key may be: a table that stays in the nearer caches."""
    wanted = keys[keys != 0]
    held = np.zeros(min(1 << 21, max(1 << 10, 1 << (32 * len(wanted)).bit_length())), np.uint8)
    held[(wanted >> _TAG_BITS) & U64(len(held) - 1)] = 1
    return held


@kernel
def find_occurrences(
    tokens, offsets, turns, first_row, keys, chosen, tagged, fill, seen, rows, positions, lefts, rights
):  # fmt: skip
    """Write the first occurrence per row of every chosen n-gram: row, token in row, left and right neighbour.

    ``keys`` and ``chosen`` are those of :func:`index_keys`, ``tagged`` that of :func:`tags`, ``fill`` is the next free place
    of each candidate.
    """
    slots = U64(len(keys) - 1)
    mask = U64(len(tagged) - 1)
    hashes = np.empty((MAX_N, _CHUNK), np.uint64)
    row_of = np.empty(_CHUNK, np.int64)
    rest = np.empty(_CHUNK, np.uint8)
    flags = np.empty((MAX_N, _CHUNK), np.uint8)
    maybe = np.empty(_CHUNK * MAX_N, np.int32)
    maybe_hashes = np.empty(_CHUNK * MAX_N, np.uint64)
    opens = np.empty(_CHUNK, np.bool_)
    reached = np.zeros(2, np.int64)
    for low in range(offsets[0], offsets[-1], _CHUNK):
        high = min(low + _CHUNK, offsets[-1])
        _hash_chunk(tokens, low, high - low, hashes)
        _place_chunk(offsets, turns, low, high, reached, row_of, opens, rest)
        for n in range(MAX_N):
            for j in range(high - low):
                flags[n, j] = tagged[(hashes[n, j] >> _TAG_BITS) & mask] & (rest[j] > n)
        picked = _pick(flags, hashes, high - low, maybe, maybe_hashes)
        for k in range(picked):
            j = maybe[k] >> _N_BITS
            n = maybe[k] & (MAX_N - 1)
            h = maybe_hashes[k]
            at = mix(h) & slots
            while keys[at] != U64(0) and keys[at] != h:
                at = (at + U64(1)) & slots
            if keys[at] == U64(0):
                continue
            c = chosen[at]
            r = first_row + row_of[j]
            if seen[c] == r:
                continue
            seen[c] = r
            place = fill[c]
            fill[c] = place + 1
            start = offsets[row_of[j]]
            i = low + j
            rows[place] = r
            positions[place] = i - start
            lefts[place] = BOUNDARY if opens[j] else tokens[i - 1]
            rights[place] = tokens[i + n + 1] if rest[j] > n + 1 else BOUNDARY


@kernel
def known_occurrences(tokens, cells, bigrams_a, bigrams_b, unigrams):
    """Upper bound of the occurrences of an n-gram in sketched text: the least count of anything in it."""
    least = np.int64(1) << 62
    whole = U64(0)
    for i in range(len(tokens)):
        whole = extend(whole, tokens[i])
        if len(tokens) == 1:
            least = min(least, np.int64(unigrams[whole & U64(len(unigrams) - 1)]))
        if i > 0:
            h = extend(extend(U64(0), tokens[i - 1]), tokens[i])
            mask = U64(len(bigrams_a) - 1)
            least = min(least, np.int64(min(bigrams_a[(h >> U64(8)) & mask], bigrams_b[mix(h) & mask])))
    if len(tokens) > 2:
        least = min(least, np.int64(cells[whole & U64(len(cells) - 1)]))
    return least


@kernel
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


@kernel
def unigram_counts(tokens, sketch, out):
    """Count of each token hash in a unigram sketch: its rows, or its occurrences."""
    mask = U64(len(sketch) - 1)
    for i in range(len(tokens)):
        out[i] = sketch[extend(U64(0), tokens[i]) & mask]


@kernel
def keep_rows(tokens, offsets, first_row, wanted, out, fill):
    """Copy the tokens of the wanted rows (bool per row of the batch) to ``out`` from ``fill``; returns the new fill."""
    for r in range(len(offsets) - 1):
        if wanted[r]:
            for i in range(offsets[r], offsets[r + 1]):
                out[fill] = tokens[i]
                fill += 1
    return fill


@kernel
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


@kernel
def _distinct(values, table, stamps, stamp):
    """Distinct values; ``table`` and ``stamps`` (slots,) hold those seen under this stamp."""
    mask = U64(len(table) - 1)
    found = 0
    for value in values:
        at = mix(value) & mask
        while stamps[at] == stamp and table[at] != value:
            at = (at + U64(1)) & mask
        if stamps[at] != stamp:
            stamps[at] = stamp
            table[at] = value
            found += 1
    return found


@kernel
def neighbour_diversity(spans, lefts, rights, out):
    """Distinct left and right neighbours per row of each phrase, over its first 512 rows; ``out`` (phrases, 2)."""
    table = np.empty(2048, np.uint64)
    stamps = np.zeros(2048, np.int64)
    for c in range(len(spans) - 1):
        a = spans[c]
        k = min(spans[c + 1] - a, 512)
        out[c, 0] = _distinct(lefts[a : a + k], table, stamps, 2 * c + 1) / max(1, k)
        out[c, 1] = _distinct(rights[a : a + k], table, stamps, 2 * c + 2) / max(1, k)


@kernel
def _rarefied(values, table, stamps, seen, stamp, drawn):
    """Distinct values to expect in ``drawn`` of them, without replacement (rarefaction; Hurlbert 1971).

    ``seen`` (slots,) counts the values of ``table`` under this stamp."""
    mask = U64(len(table) - 1)
    k = len(values)
    most = 0
    for value in values:
        at = mix(value) & mask
        while stamps[at] == stamp and table[at] != value:
            at = (at + U64(1)) & mask
        if stamps[at] != stamp:
            stamps[at] = stamp
            table[at] = value
            seen[at] = 0
        seen[at] += 1
        most = max(most, seen[at])
    missed = np.empty(most + 1)  # chance that no draw meets a value, by how often it stands among them
    missed[0] = 1.0
    for c in range(1, most + 1):
        missed[c] = missed[c - 1] * max(0.0, k - c + 1.0 - drawn) / (k - c + 1.0)
    found = 0.0
    for value in values:
        at = mix(value) & mask
        while table[at] != value:
            at = (at + U64(1)) & mask
        found += (1.0 - missed[seen[at]]) / seen[at]
    return found


@kernel
def rarefied_diversity(spans, lefts, rights, out):
    """Distinct left and right neighbours per row to expect in ``RAREFIED`` rows of each phrase (in all, where it has fewer);
    ``out`` (phrases, 2). More rows never make it less, as they do for :func:`neighbour_diversity`."""
    table = np.empty(2048, np.uint64)
    stamps = np.zeros(2048, np.int64)
    seen = np.zeros(2048, np.int64)
    for c in range(len(spans) - 1):
        a = spans[c]
        k = min(spans[c + 1] - a, 512)
        drawn = max(1, min(k, RAREFIED))
        out[c, 0] = _rarefied(lefts[a : a + k], table, stamps, seen, 2 * c + 1, drawn) / drawn
        out[c, 1] = _rarefied(rights[a : a + k], table, stamps, seen, 2 * c + 2, drawn) / drawn


@kernel
def healing(spans, lefts, rights, bigrams_a, bigrams_b, unigrams, total, out):
    """The last three columns of :func:`neighbour_scores`."""
    mask1 = U64(len(unigrams) - 1)
    mask2 = U64(len(bigrams_a) - 1)
    for c in range(len(spans) - 1):
        a = spans[c]
        k = min(spans[c + 1] - a, 512)
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


def neighbour_scores(
    spans: npt.NDArray[np.int64],
    lefts: npt.NDArray[np.uint64],
    rights: npt.NDArray[np.uint64],
    bigrams_a: npt.NDArray[np.uint8],
    bigrams_b: npt.NDArray[np.uint8],
    unigrams: npt.NDArray[np.uint32],
    total: float,
    out: npt.NDArray[np.float64],
) -> None:
    """Statistics of the neighbours of each phrase; ``out`` (phrases, 5).

    Columns: distinct left and right neighbours per row; healing rate (the two neighbours stand side by side elsewhere)
    and healing PMI in nats, over the rows with a neighbour on both sides; the share of such rows.
    """
    distinct = np.empty((len(spans) - 1, 2))
    neighbour_diversity(spans, lefts, rights, distinct)
    out[:, :2] = distinct
    healing(spans, lefts, rights, bigrams_a, bigrams_b, unigrams, total, out)


@kernel
def _words_among(tokens, words):
    """Copy the tokens that are words to ``words``; how many there are. A script inserts between words, so punctuation stands
    on one side of what it inserts and not on the other."""
    k = 0
    for i in range(len(tokens)):
        if tokens[i] & U64(1):
            words[k] = tokens[i]
            k += 1
    return k


@kernel
def _frequency_and_glue(words, unigrams, total):
    """Mean log frequency of some words, which get sorted, and their glue."""
    mask = U64(len(unigrams) - 1)
    total_log = 0.0
    for i in range(len(words)):
        total_log += np.log((unigrams[extend(U64(0), words[i]) & mask] + 1.0) / total)
    sort_small(words)
    return total_log / len(words), _glue(words, unigrams, total)


@kernel
def _draw(sample, k, unigrams, total, seed, means, glues):
    """What :func:`_frequency_and_glue` gives for draws of ``k`` words, into all places but the last."""
    state = U64(seed)
    drawn = np.empty(k, np.uint64)
    for d in range(len(means) - 1):
        for i in range(k):
            state += U64(0x9E3779B97F4A7C15)
            drawn[i] = sample[mix(state) % U64(len(sample))]
        means[d], glues[d] = _frequency_and_glue(drawn, unigrams, total)


@kernel
def randomness(neighbours, sample, unigrams, total, seed, out):
    """How far neighbours are from a random draw of the text's words: two z-scores, into ``out`` (2,).

    The first compares their mean log frequency, the second their glue, with ``DRAWS`` draws of as many words from
    ``sample``. Words only. Fewer than five of them tell nothing: the first is infinite then.
    """
    words = np.empty(len(neighbours), np.uint64)
    k = _words_among(neighbours, words)
    out[0] = np.inf
    out[1] = 0.0
    if k < 5 or len(sample) == 0:
        return
    means = np.empty(DRAWS + 1)
    glues = np.empty(DRAWS + 1)
    _draw(sample, k, unigrams, total, seed, means, glues)
    means[DRAWS], glues[DRAWS] = _frequency_and_glue(words[:k], unigrams, total)
    out[0] = z_of_last(means)
    out[1] = z_of_last(glues)


@kernel
def randomness_of_each(spans, neighbours, sample, unigrams, total, seed, out):
    """What :func:`randomness` gives for each ``neighbours[spans[c] : spans[c + 1]]``, ``out`` (phrases, 2); as many words of
    any phrase are compared with the same draws."""
    most = 1
    for c in range(len(spans) - 1):
        most = max(most, spans[c + 1] - spans[c])
    words = np.empty(most, np.uint64)
    means = np.empty((most + 1, DRAWS + 1))
    glues = np.empty((most + 1, DRAWS + 1))
    known = np.zeros(most + 1, np.bool_)
    for c in range(len(spans) - 1):
        k = _words_among(neighbours[spans[c] : spans[c + 1]], words)
        out[c, 0] = np.inf
        out[c, 1] = 0.0
        if k < 5 or len(sample) == 0:
            continue
        if not known[k]:
            _draw(sample, k, unigrams, total, seed, means[k], glues[k])
            known[k] = True
        means[k, DRAWS], glues[k, DRAWS] = _frequency_and_glue(words[:k], unigrams, total)
        out[c, 0] = z_of_last(means[k])
        out[c, 1] = z_of_last(glues[k])
