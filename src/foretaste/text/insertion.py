"""How far the neighbours of a phrase are from words drawn at random from the rows in which it stands."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foretaste.text.kernels import kernel
from foretaste.text.ngrams import _glue, extend
from foretaste.text.sorting import sort_small, z_of_last
from foretaste.text.tokens import mix

U64 = np.uint64
DRAWN = 32  # words kept of each row
_DRAWS = 200


@kernel
def draw_words(tokens, offsets, places, rows, seed, out):
    """Draw words of each row with replacement, into ``out`` uint64 (2, rows, DRAWN); 0 where it has none to draw.

    The first half is drawn from words that no punctuation follows, as they stand before what a script put between two
    words, the second from words that no punctuation precedes. ``places`` are the rows' numbers in the batch, ``rows``
    those in the data, from which the draw follows.
    """
    longest = 1
    for p in places:
        longest = max(longest, offsets[p + 1] - offsets[p])
    words = np.empty(longest, np.uint64)
    for side in range(2):
        for j in range(len(places)):
            start = offsets[places[j]]
            stop = offsets[places[j] + 1]
            n = 0
            for i in range(start, stop):
                beside = i + 1 if side == 0 else i - 1
                alone = beside < start or beside >= stop or tokens[beside] & U64(1)
                if tokens[i] & U64(1) and alone:
                    words[n] = tokens[i]
                    n += 1
            state = mix(U64(rows[j] + 1)) ^ U64(seed + side)
            for d in range(DRAWN):
                state += U64(0x9E3779B97F4A7C15)
                out[side, j, d] = words[mix(state) % U64(n)] if n else U64(0)


@kernel
def distance_within(neighbours, pool, sizes, unigrams, total, seed, out):
    """Two z-scores into ``out`` (2,): the neighbours against 200 draws of one word from each of the same rows.

    ``pool`` uint64 (rows, DRAWN) holds words of each row, of which the first ``sizes`` count; the phrase itself is not
    among them. The first score compares the mean log frequency, the second the repetition. Both are infinite where fewer
    than five rows have a word for a neighbour.
    """
    mask = U64(len(unigrams) - 1)
    k = 0
    for i in range(len(neighbours)):
        if neighbours[i] & U64(1) and sizes[i] > 0:
            k += 1
    if k < 5:
        out[0] = np.inf
        out[1] = np.inf
        return
    state = U64(seed)
    means = np.empty(_DRAWS + 1)
    glues = np.empty(_DRAWS + 1)
    drawn = np.empty(k, np.uint64)
    for d in range(_DRAWS + 1):
        n = 0
        log = 0.0
        for i in range(len(neighbours)):
            if not (neighbours[i] & U64(1) and sizes[i] > 0):
                continue
            if d == _DRAWS:
                drawn[n] = neighbours[i]
            else:
                state += U64(0x9E3779B97F4A7C15)
                drawn[n] = pool[i, mix(state) % U64(sizes[i])]
            log += np.log((unigrams[extend(U64(0), drawn[n]) & mask] + 1.0) / total)
            n += 1
        means[d] = log / k
        sort_small(drawn)
        glues[d] = _glue(drawn, unigrams, total)
    out[0] = z_of_last(means)
    out[1] = z_of_last(glues)


def without(
    pool: npt.NDArray[np.uint64], own: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The drawn words without those of the phrase, moved to the front of each row, and how many are left."""
    kept = ~np.isin(pool, own) & (pool != 0)
    order = np.argsort(~kept, axis=1, kind="stable")
    return np.take_along_axis(pool, order, axis=1), kept.sum(axis=1).astype(np.int64)
