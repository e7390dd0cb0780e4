"""The row most like each of some query rows, by the cosine of their weighted words, in one pass over the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from foretaste.text.ngrams import extend
from foretaste.text.sorting import find, sort_small

U64 = np.uint64
LEAST_WEIGHT = 1.0  # words in more than a third of the rows say nothing


@njit(cache=True, nogil=True)
def _weight(token, presence, rows):
    n = float(presence[extend(U64(0), token) & U64(len(presence) - 1)])
    weight = np.log(rows / max(1.0, n))
    return weight if weight >= LEAST_WEIGHT else 0.0


@njit(cache=True, nogil=True)
def weigh(tokens, presence, rows, out):
    """Inverse document frequency of word hashes; 0 for punctuation and for everyday words."""
    for i in range(len(tokens)):
        out[i] = _weight(tokens[i], presence, rows) if tokens[i] & U64(1) else 0.0


@njit(cache=True, nogil=True)
def _scan(
    tokens, offsets, first_row, presence, rows, keys, spans, queries, weights, norms, group,
    held_rows, held_spans, held_groups, best, best_row,
):  # fmt: skip
    scores = np.zeros(len(norms))
    touched = np.empty(len(norms), np.int64)
    excluded = np.zeros(group.max() + 1 if len(group) else 1, np.bool_)
    longest = 1
    for r in range(len(offsets) - 1):
        longest = max(longest, offsets[r + 1] - offsets[r])
    scratch = np.empty(longest, np.uint64)
    for r in range(len(offsets) - 1):
        n = 0
        for i in range(offsets[r], offsets[r + 1]):
            if tokens[i] & U64(1):
                scratch[n] = tokens[i]
                n += 1
        part = scratch[:n]
        sort_small(part)
        norm = 0.0
        hits = 0
        for i in range(n):
            if i and part[i] == part[i - 1]:
                continue
            weight = _weight(part[i], presence, rows)
            if weight == 0.0:
                continue
            norm += weight * weight
            at = find(keys, part[i])
            if at < 0:
                continue
            for j in range(spans[at], spans[at + 1]):
                q = queries[j]
                if scores[q] == 0.0:
                    touched[hits] = q
                    hits += 1
                scores[q] += weight * weights[j]
        row = first_row + r
        held = np.searchsorted(held_rows, row)
        mine = held < len(held_rows) and held_rows[held] == row
        if mine:
            for j in range(held_spans[held], held_spans[held + 1]):
                excluded[held_groups[j]] = True
        for j in range(hits):
            q = touched[j]
            if not excluded[group[q]]:
                cosine = scores[q] / (np.sqrt(norm) * norms[q])
                if cosine > best[q] + 1e-12:
                    best[q] = cosine
                    best_row[q] = row
            scores[q] = 0.0
        if mine:
            for j in range(held_spans[held], held_spans[held + 1]):
                excluded[held_groups[j]] = False


@njit(cache=True, nogil=True)
def query_words(tokens, offsets, places, group, own, own_spans, words, queries):
    """Write the distinct words of each query row without those of its group; returns how many.

    ``places`` (queries,) are rows of ``tokens`` and ``offsets``; ``own[own_spans[g]:own_spans[g + 1]]`` the tokens of
    group g, sorted; ``words`` and ``queries`` have room for all tokens of the rows.
    """
    n = 0
    for q in range(len(places)):
        first = n
        mine = own[own_spans[group[q]] : own_spans[group[q] + 1]]
        for i in range(offsets[places[q]], offsets[places[q] + 1]):
            if tokens[i] & U64(1) and find(mine, tokens[i]) < 0:
                words[n] = tokens[i]
                n += 1
        part = words[first:n]
        sort_small(part)
        kept = first
        for i in range(first, n):
            if i == first or words[i] != words[kept - 1]:
                words[kept] = words[i]
                queries[kept] = q
                kept += 1
        n = kept
    return n


@dataclass
class Nearest:
    """Queries, and the best row seen so far for each; rows of a query's own group are never its match.

    Attributes:
        index: the inverted index of the queries and what keeps groups apart, as :func:`nearest_index` makes it.
        best: cosine of the best match, float64 (queries,); 0 where none was seen.
        best_row: its row number, -1 where none was seen.
    """

    index: tuple[Any, ...]
    best: npt.NDArray[np.float64]
    best_row: npt.NDArray[np.int64]

    def scan(
        self,
        tokens: npt.NDArray[np.uint64],
        offsets: npt.NDArray[np.int64],
        first_row: int,
        presence: npt.NDArray[np.uint32],
        rows: int,
    ) -> None:
        """Compare the rows of a batch with every query; on a tie the earlier row stays."""
        data = (tokens, offsets, first_row, presence, float(rows))
        kernel: Any = _scan
        kernel(*data, *self.index, self.best, self.best_row)

    def add(self, other: Nearest) -> None:
        """Take the matches of a later part of the data."""
        better = other.best > self.best + 1e-12
        self.best = np.where(better, other.best, self.best)
        self.best_row = np.where(better, other.best_row, self.best_row)


def nearest(
    words: npt.NDArray[np.uint64],
    queries: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    group: npt.NDArray[np.int64],
    members: list[npt.NDArray[np.int64]],
) -> Nearest:
    """An empty search.

    Args:
        words: word hashes of the queries, distinct within a query.
        queries: the query that each word belongs to.
        weights: its weight; words of weight 0 are left out.
        group: group of each query, int64 (queries,).
        members: rows of each group, ascending.
    """
    words, queries, weights = words[weights > 0], queries[weights > 0], weights[weights > 0]
    order = np.lexsort((queries, words))
    words, queries, weights = words[order], queries[order], weights[order]
    keys, first = np.unique(words, return_index=True)
    norms = np.sqrt(np.bincount(queries, weights=weights**2, minlength=len(group)))
    rows = np.concatenate(members) if members else np.zeros(0, np.int64)
    groups = np.repeat(np.arange(len(members)), [len(m) for m in members])
    order = np.lexsort((groups, rows))
    held, starts = np.unique(rows[order], return_index=True)
    index = (
        keys, np.append(first, len(words)), queries, weights, np.maximum(norms, 1e-9), group,
        held, np.append(starts, len(rows)), groups[order],
    )  # fmt: skip
    return Nearest(index, np.zeros(len(group)), np.full(len(group), -1, np.int64))
