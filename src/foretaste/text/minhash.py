"""MinHash signatures of rows, and the pairs of rows whose signatures agree.

The signature is the fast similarity sketch of Dahlgaard, Knudsen and Thorup (2017, arXiv 1704.04370): a short row fills
its bins in several rounds, a long one in a single pass, and both estimate the Jaccard similarity as well as 64
independent permutations do. Each bin keeps one byte (b-bit minwise hashing, Li and Koenig 2010), so two unlike rows
agree in one bin of 256.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from foretaste.spill import Column, buckets, by_bucket, by_hash
from foretaste.text.kernels import kernel
from foretaste.text.ngrams import extend
from foretaste.text.tokens import mix

U64 = np.uint64
BINS = 64
BAND_BYTES = 3
SHINGLE = 2
_REPRESENTATIVES = 16
_GOLDEN = U64(0x9E3779B97F4A7C15)


@kernel
def sign_rows(tokens, offsets, least_words, signatures, texts):
    """Signature and text hash of each row; ``signatures`` uint8 (rows, 64), ``texts`` uint64 (rows,).

    Shingles are word pairs; punctuation and case do not count. A row with fewer than ``least_words`` words gets
    the text hash 0: it says too little to be called a near-duplicate.
    """
    longest = 1
    for r in range(len(offsets) - 1):
        longest = max(longest, offsets[r + 1] - offsets[r])
    words = np.empty(longest, np.uint64)
    shingles = np.empty(longest, np.uint64)
    values = np.empty(BINS, np.uint64)
    filled = np.empty(BINS, np.bool_)
    for r in range(len(offsets) - 1):
        n = 0
        for i in range(offsets[r], offsets[r + 1]):
            if tokens[i] & U64(1):
                words[n] = tokens[i]
                n += 1
        for b in range(BINS):
            signatures[r, b] = np.uint8(0)
        texts[r] = U64(0)
        if n < least_words or n == 0:
            continue
        whole = U64(0)
        for i in range(n):
            whole = extend(whole, words[i])
        texts[r] = max(whole, U64(1))
        k = max(1, n - SHINGLE + 1)
        for i in range(k):
            h = U64(0)
            for j in range(i, min(i + SHINGLE, n)):
                h = extend(h, words[j])
            shingles[i] = h
        _sketch(shingles[:k], values, filled)
        for b in range(BINS):
            signatures[r, b] = np.uint8(mix(values[b] + U64(b)) & U64(255))


@kernel
def _sketch(shingles, values, filled):
    for b in range(BINS):
        filled[b] = False
    open_bins = BINS
    for turn in range(2 * BINS):
        if open_bins == 0:
            return
        values_turn = U64(turn + 1) * _GOLDEN
        # A bin filled in an earlier turn stays; within a turn the smallest hash wins.
        fresh = np.zeros(BINS, np.bool_)
        for s in shingles:
            v = mix(s ^ values_turn)
            b = np.int64(v & U64(BINS - 1)) if turn < BINS else turn - BINS
            if filled[b]:
                continue
            v >>= U64(6)
            if not fresh[b] or v < values[b]:
                values[b] = v
                fresh[b] = True
        for b in range(BINS):
            if fresh[b]:
                filled[b] = True
                open_bins -= 1


@kernel
def agreement(signatures, a, b):
    """Bins in which two rows agree, of 64."""
    n = 0
    for i in range(BINS):
        if signatures[a, i] == signatures[b, i]:
            n += 1
    return n


@kernel
def root(parents, i):
    """Root of an element of a union-find forest, with path halving."""
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@kernel
def _pack_band(signatures, places, band, out):
    first = band * BAND_BYTES
    for i in range(len(places)):
        at = places[i]
        key = U64(0)
        for b in range(BAND_BYTES):
            key |= U64(signatures[at, first + b]) << U64(8 * b)
        out[i] = key << U64(32) | U64(at)


def band_keys(signatures: npt.NDArray[np.uint8], band: int) -> npt.NDArray[np.uint32]:
    """The bytes of one band as a number, uint32 (rows,)."""
    out = np.empty(len(signatures), np.uint64)
    _pack_band(signatures, np.arange(len(signatures), dtype=np.uint32), band, out)
    return (out >> U64(32)).astype(np.uint32)


@kernel
def _join_band(signatures, rows, packed, least, parents):
    held = np.empty(_REPRESENTATIVES, np.int64)
    n = 0
    for i in range(len(packed)):
        at = np.int64(packed[i] & U64(0xFFFFFFFF))
        if i == 0 or packed[i] >> U64(32) != packed[i - 1] >> U64(32):
            n = 0
        alone = True
        for j in range(n):
            a = root(parents, np.int64(rows[held[j]]))
            b = root(parents, np.int64(rows[at]))
            if a == b:
                alone = False
                continue
            if agreement(signatures, held[j], at) >= least:
                alone = False
                parents[max(a, b)] = min(a, b)
        if alone and n < _REPRESENTATIVES:
            held[n] = at
            n += 1


@kernel
def _join_equal(texts, rows, parents):
    for i in range(1, len(rows)):
        if texts[i] == texts[i - 1] and texts[i] != U64(0):
            parents[rows[i]] = parents[rows[i - 1]]


@kernel
def _resolve(parents):
    for i in range(len(parents)):
        parents[i] = parents[parents[i]]  # a root is the smallest row of its cluster, so it was resolved before


def join_rows(signatures: Column, texts: Column, least: int) -> npt.NDArray[np.int32]:
    """The smallest row of each row's cluster, int32 (rows,): equal texts, and texts that agree in ``least`` bins.

    ``signatures`` (rows, 64) and ``texts`` (rows,) are those of :func:`sign_rows`; a row whose text hash is 0 stays
    alone. Equal texts count once in the search, so that a thousand copies cost no more than one, and within a band a
    row is compared with at most 16 rows that agree with none before them, so that a frequent band costs no square.

    Signatures that lie in a file are cut into ranges of keys there, band after band, so that a part of them is in
    memory at a time. Keys, and rows of one key, come in the same order either way, and so do the clusters.
    """
    parents: npt.NDArray[np.int32] = np.arange(len(texts), dtype=np.int32)
    asked = np.zeros(len(texts), np.bool_)
    for rows, hashes in by_hash(texts):
        order = np.argsort(hashes, kind="stable")
        hashes, rows = hashes[order], rows[order]
        _join_equal(hashes, rows, parents)
        asked[rows] = (hashes != 0) & (parents[rows] == rows)
    number = buckets(len(signatures) * (4 + signatures.row_bytes), signatures.room) if signatures.spilled else 1
    if number == 1:
        whole, every = signatures.whole(), np.arange(len(texts), dtype=np.uint32)
        places = np.flatnonzero(asked).astype(np.uint32)
        for band in range(BINS // BAND_BYTES):
            _join(whole, every, places, band, least, parents)
    else:
        for band in range(BINS // BAND_BYTES):
            for rows, part in by_bucket(_by_key(signatures, asked, band, number), number):
                _join(part, rows, np.arange(len(rows), dtype=np.uint32), band, least, parents)
    _resolve(parents)
    return parents


def _join(
    signatures: npt.NDArray[np.uint8], rows: npt.NDArray[np.uint32], places: npt.NDArray[np.uint32], band: int,
    least: int, parents: npt.NDArray[np.int32],
) -> None:  # fmt: skip
    """Unite the rows at some places that share a key in a band; ``rows`` numbers those of the signatures."""
    # Sorted with the place in the low bits, rows of one key stay in order, and no index is sorted beside the keys.
    packed = np.empty(len(places), np.uint64)
    _pack_band(signatures, places, band, packed)
    packed.sort()
    _join_band(signatures, rows, packed, least, parents)


def _by_key(
    signatures: Column, asked: npt.NDArray[np.bool_], band: int, number: int
) -> Iterator[tuple[npt.NDArray[np.uint8], tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]]]:
    """Blocks of the rows in question, each with the bucket of its key: the highest byte decides."""
    highest, start = band * BAND_BYTES + BAND_BYTES - 1, 0
    for block in signatures.blocks():
        mine = np.flatnonzero(asked[start : start + len(block)])
        part = block[mine]
        of = (part[:, highest].astype(np.uint16) * number >> 8).astype(np.uint8)
        yield of, ((mine + start).astype(np.uint32), part)
        start += len(block)


@kernel
def _count_members(parents, sizes):
    clusters = 0
    members = 0
    for i in range(len(parents)):
        sizes[parents[i]] += 1
    for i in range(len(parents)):
        if sizes[i] >= 2:
            clusters += 1
            members += sizes[i]
    return clusters, members


@kernel
def _list_members(parents, sizes, spans, rows):
    n = 0
    for i in range(len(sizes)):
        if sizes[i] >= 2:
            spans[n + 1] = spans[n] + sizes[i]
            sizes[i] = n
            n += 1
        else:
            sizes[i] = -1
    fill = spans[:-1].copy()
    for i in range(len(parents)):
        c = sizes[parents[i]]
        parents[i] = c
        if c >= 0:
            rows[fill[c]] = i
            fill[c] += 1


def list_clusters(
    parents: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Clusters of two rows or more, numbered by their first row, from what :func:`join_rows` gives.

    Returns:
        the cluster of each row, -1 for a row that is alone, in the array that was given; the rows of all clusters, one
        cluster after the other and ascending in each; where each cluster begins and the last one ends.
    """
    sizes: npt.NDArray[np.int32] = np.zeros(len(parents), np.int32)
    clusters, members = _count_members(parents, sizes)
    spans, rows = np.zeros(clusters + 1, np.int64), np.empty(members, np.int64)
    _list_members(parents, sizes, spans, rows)
    return parents, rows, spans


@kernel
def _nearest(old, new, starts, stops, order, least, match, best):
    for i in range(len(new)):
        for p in range(starts[i], min(stops[i], starts[i] + _REPRESENTATIVES)):
            j = order[p]
            n = 0
            for b in range(BINS):
                if old[j, b] == new[i, b]:
                    n += 1
            if n >= least and n > best[i]:
                best[i] = n
                match[i] = j


def nearest_earlier(
    old: npt.NDArray[np.uint8],
    old_texts: npt.NDArray[np.uint64],
    new: npt.NDArray[np.uint8],
    new_texts: npt.NDArray[np.uint64],
    similarity: float = 0.6,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each new row the earlier row that is most alike, -1 for none, and the bins in which they agree, of 64.

    Signatures (rows, 64) and text hashes (rows,) as :func:`sign_rows` makes them; of a band at most 16 rows are compared.
    """
    match = np.full(len(new), -1, np.int64)
    best = np.zeros(len(new), np.int64)
    long = np.flatnonzero(new_texts != 0)
    known = np.argsort(old_texts, kind="stable")
    at = np.minimum(np.searchsorted(old_texts[known], new_texts[long]), len(known) - 1)
    same = old_texts[known[at]] == new_texts[long]
    match[long[same]], best[long[same]] = known[at[same]], BINS
    rest = long[~same]
    mine, found, agree = np.ascontiguousarray(new[rest]), match[rest], best[rest]
    for band in range(BINS // BAND_BYTES):
        keys = band_keys(old, band)
        order = np.argsort(keys, kind="stable")
        wanted = band_keys(mine, band)
        starts, stops = (np.searchsorted(keys[order], wanted, side=s) for s in ("left", "right"))
        _nearest(old, mine, starts, stops, order, round(similarity * BINS), found, agree)
    match[rest], best[rest] = found, agree
    return match, best
