"""Kernels for openings and endings that many rows share: sketch them, then list where they stand."""

from __future__ import annotations

import numpy as np

from foretaste.text.kernels import kernel
from foretaste.text.ngrams import extend
from foretaste.text.tokens import mix

U64 = np.uint64
MAX_TOKENS = 8
LEAST_REST = 3  # tokens that have to be left of a row without its opening or ending
UNKNOWN, TORN, APART = 0, 1, 2
_FIRST = np.int64(0)  # not a literal, for which numba compiles a variant of its own


@kernel
def _at(tokens, start, stop, side, i):
    """Token i of a row, from its start (side 0) or from its end (side 1)."""
    return tokens[start + i] if side == 0 else tokens[stop - 1 - i]


@kernel
def sketch_affixes(tokens, offsets, cells, following, edges, pairs, words):
    """Count the openings and endings of up to eight tokens.

    ``cells`` uint16 saturating counts of rows, ``following`` uint64 linear counters of the next token (of the two before an
    ending), both by hash;
    ``edges`` and ``pairs`` uint32 (2, cells): rows by their first (last) token and by their first (last) two;
    ``words`` uint32: occurrences of every token.
    """
    mask = U64(len(cells) - 1)
    edge_mask = U64(edges.shape[1] - 1)
    word_mask = U64(len(words) - 1)
    for r in range(len(offsets) - 1):
        start = offsets[r]
        stop = offsets[r + 1]
        for i in range(start, stop):
            words[mix(tokens[i]) & word_mask] += np.uint32(1)
        for side in range(2):
            if stop > start:
                edges[side, mix(_at(tokens, start, stop, side, _FIRST)) & edge_mask] += np.uint32(1)
            if stop > start + 1:
                h = extend(_at(tokens, start, stop, side, _FIRST), _at(tokens, start, stop, side, _FIRST + 1))
                pairs[side, h & edge_mask] += np.uint32(1)
            h = U64(side)
            for n in range(1, MAX_TOKENS + 1):
                if stop - start < n + LEAST_REST:
                    break
                h = extend(h, _at(tokens, start, stop, side, n - 1))
                cell = h & mask
                if cells[cell] < 65535:
                    cells[cell] += np.uint16(1)
                after = _at(tokens, start, stop, side, n)
                if side == 1:  # most texts end with a full stop: the word before it tells them apart
                    after = extend(after, _at(tokens, start, stop, side, n + 1))
                following[cell] |= U64(1) << (mix(after) & U64(63))


@kernel
def list_affixes(
    tokens, offsets, starts, ends, data, first_row, wanted, keys, rows, sides, lengths, nexts, pairs, seams
):
    """Write the openings and endings whose cell is wanted (bool); returns how many.

    For each: its hash, row, side, tokens, the token that comes next (before an ending), the hash of the next two as
    :func:`sketch_affixes` has it, and whether its seam is that of two texts: what follows an opening begins with a
    capital (ASCII only), an ending stands behind one space (behind line breaks stand the parts of a template).
    """
    mask = U64(len(wanted) - 1)
    n_out = 0
    for r in range(len(offsets) - 1):
        start = offsets[r]
        stop = offsets[r + 1]
        for side in range(2):
            h = U64(side)
            for n in range(1, MAX_TOKENS + 1):
                if stop - start < n + LEAST_REST:
                    break
                h = extend(h, _at(tokens, start, stop, side, n - 1))
                if not wanted[h & mask]:
                    continue
                following = _at(tokens, start, stop, side, n)
                keys[n_out] = h
                rows[n_out] = first_row + r
                sides[n_out] = side
                lengths[n_out] = n
                nexts[n_out] = following
                pairs[n_out] = extend(following, _at(tokens, start, stop, side, n + 1))
                if side == 1:
                    end = ends[stop - n - 1]
                    seams[n_out] = APART if starts[stop - n] == end + 1 and data[end] == 32 else TORN
                else:
                    byte = data[starts[start + n]]
                    seams[n_out] = APART if 65 <= byte <= 90 else TORN if 97 <= byte <= 122 else UNKNOWN
                n_out += 1
    return n_out


@kernel
def capitals(offsets, starts, data):
    """Rows that begin with an ASCII capital, and rows that begin with an ASCII letter."""
    upper = 0
    letters = 0
    for r in range(len(offsets) - 1):
        if offsets[r + 1] > offsets[r]:
            byte = data[starts[offsets[r]]]
            if 65 <= byte <= 90:
                upper += 1
                letters += 1
            elif 97 <= byte <= 122:
                letters += 1
    return upper, letters
