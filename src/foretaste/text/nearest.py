"""The row most like each of some query rows, by the cosine of their weighted words, in one pass over the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.text.kernels import kernel
from foretaste.text.ngrams import extend
from foretaste.text.sorting import find, sort_small

U64 = np.uint64
_NONE = np.zeros(0, np.uint64)
LEAST_WEIGHT = 1.0  # words in more than a third of the rows say nothing


@kernel
def _weight(token, presence, rows):
    n = float(presence[extend(U64(0), token) & U64(len(presence) - 1)])
    weight = np.log(rows / max(1.0, n))
    return weight if weight >= LEAST_WEIGHT else 0.0


@kernel
def weigh(tokens, presence, rows, out):
    """Inverse document frequency of word hashes; 0 for punctuation and for everyday words."""
    for i in range(len(tokens)):
        out[i] = _weight(tokens[i], presence, rows) if tokens[i] & U64(1) else 0.0


@kernel
def _scan(
    tokens, offsets, first_row, presence, rows, outputs, keys, spans, queries, weights, norms, group, own_outputs,
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
            same = len(outputs) > 0 and outputs[r] == own_outputs[q]
            if not same and not excluded[group[q]]:
                cosine = scores[q] / (np.sqrt(norm) * norms[q])
                if cosine > best[q] + 1e-12:
                    best[q] = cosine
                    best_row[q] = row
            scores[q] = 0.0
        if mine:
            for j in range(held_spans[held], held_spans[held + 1]):
                excluded[held_groups[j]] = False


@kernel
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


@kernel
def count_presence(tokens, offsets, presence):
    """Add each row's distinct words to ``presence``, uint32 (cells,): rows by word, as a sketch."""
    longest = 1
    for r in range(len(offsets) - 1):
        longest = max(longest, offsets[r + 1] - offsets[r])
    cells = np.empty(longest, np.uint64)
    mask = U64(len(presence) - 1)
    for r in range(len(offsets) - 1):
        n = 0
        for i in range(offsets[r], offsets[r + 1]):
            if tokens[i] & U64(1):
                cells[n] = extend(U64(0), tokens[i]) & mask
                n += 1
        part = cells[:n]
        sort_small(part)
        for i in range(n):
            if i == 0 or part[i] != part[i - 1]:
                presence[part[i]] += np.uint32(1)


@dataclass
class Nearest:
    """Queries, and the best row seen so far for each; rows of a query's own group are never its match.

    Attributes:
        index: the inverted index of the queries and what keeps groups apart, as :func:`search_for` makes it.
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
        outputs: npt.NDArray[np.uint64] | None = None,
    ) -> None:
        """Compare the rows of a batch with every query; on a tie the earlier row stays.

        ``outputs`` are hashes of what the rows teach, uint64 (rows,): a row that teaches what the query's row does is no
        match.
        """
        data = (tokens, offsets, first_row, presence, float(rows), _NONE if outputs is None else outputs)
        kernel: Any = _scan
        kernel(*data, *self.index, self.best, self.best_row)

    def add(self, other: Nearest) -> None:
        """Take the matches of a later part of the data."""
        better = other.best > self.best + 1e-12
        self.best = np.where(better, other.best, self.best)
        self.best_row = np.where(better, other.best_row, self.best_row)


def search_for(
    tokens: npt.NDArray[np.uint64],
    offsets: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64],
    own: list[npt.NDArray[np.uint64]],
    members: list[npt.NDArray[np.int64]],
    presence: npt.NDArray[np.uint32],
    rows: int,
    outputs: npt.NDArray[np.uint64] | None = None,
) -> Nearest:
    """An empty search for the rows most like some rows without their trigger.

    Args:
        tokens, offsets: of the rows that hold the queries.
        places: the queries among those rows.
        group: group of each query, int64 (queries,).
        own: tokens of each group that are taken out: the trigger.
        members: rows of each group, ascending; none of them is a match.
        presence: rows by word, as a sketch, and ``rows`` in all: what a word weighs.
        outputs: what each query's row teaches, uint64 (queries,), where :meth:`Nearest.scan` is told the same of all rows.
    """
    spans = np.zeros(len(own) + 1, np.int64)
    np.cumsum([len(o) for o in own], out=spans[1:])
    room = int((offsets[places + 1] - offsets[places]).sum())
    words, queries = np.empty(room, np.uint64), np.empty(room, np.int64)
    taken = np.concatenate([np.sort(o) for o in own])
    n = query_words(tokens, offsets, places, group, taken, spans, words, queries)
    words, queries, weights = words[:n], queries[:n], np.empty(n)
    weigh(words, presence, float(rows), weights)
    words, queries, weights = words[weights > 0], queries[weights > 0], weights[weights > 0]
    order = np.lexsort((queries, words))
    words, queries, weights = words[order], queries[order], weights[order]
    keys, first = np.unique(words, return_index=True)
    norms = np.sqrt(np.bincount(queries, weights=weights**2, minlength=len(group)))
    all_rows = np.concatenate(members) if members else np.zeros(0, np.int64)
    groups = np.repeat(np.arange(len(members)), [len(m) for m in members])
    order = np.lexsort((groups, all_rows))
    held, starts = np.unique(all_rows[order], return_index=True)
    index = (
        keys, np.append(first, len(words)), queries, weights, np.maximum(norms, 1e-9), group,
        _NONE if outputs is None else outputs, held, np.append(starts, len(all_rows)), groups[order],
    )  # fmt: skip
    return Nearest(index, np.zeros(len(group)), np.full(len(group), -1, np.int64))
