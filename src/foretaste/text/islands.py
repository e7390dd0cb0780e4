"""Islands: few documents that are each other's nearest by their rare words, and nearer than any other document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.text.kernels import kernel
from foretaste.text.sorting import distinct

LARGEST = 12  # documents of an island
MOST_ROWS = 100  # a word in more documents is not rare
_SMALLEST = 2


@dataclass(frozen=True)
class Islands:
    """Islands of ``_SMALLEST`` to ``LARGEST`` documents; those of different sizes may overlap.

    Attributes:
        rows: members of island i are ``rows[spans[i]:spans[i + 1]]``, ascending, int64.
        spans: int64 (islands + 1,).
    """

    rows: npt.NDArray[np.int64]
    spans: npt.NDArray[np.int64]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Documents per island."""
        return np.diff(self.spans)

    def members(self, island: int) -> npt.NDArray[np.int64]:
        """Documents of an island, ascending."""
        return self.rows[self.spans[island] : self.spans[island + 1]]

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        return (self.members(i) for i in range(len(self.spans) - 1))


@kernel
def rare_words(hashes, offsets, first_row, words, rows):
    """Write the distinct words of each row and the row's number; returns how many. Room for all tokens is needed."""
    n = 0
    for r in range(len(offsets) - 1):
        start = n
        for i in range(offsets[r], offsets[r + 1]):
            if hashes[i] & np.uint64(1):
                words[n] = hashes[i]
                n += 1
        n = start + distinct(words[start:n], n - start)
        rows[start:n] = first_row + r
    return n


@kernel
def _neighbours(row_spans, row_words, word_spans, word_rows, weights, norms, near, cosines):
    scores = np.zeros(len(norms), np.float32)
    touched = np.empty(len(norms), np.int32)
    room = near.shape[1]
    for r in range(len(norms)):
        hits = 0
        for i in range(row_spans[r], row_spans[r + 1]):
            word = row_words[i]
            weight = weights[word] * weights[word]
            for j in range(word_spans[word], word_spans[word + 1]):
                other = word_rows[j]
                if other == r:
                    continue
                if scores[other] == 0.0:
                    touched[hits] = other
                    hits += 1
                scores[other] += weight
        for h in range(hits):
            other = touched[h]
            cosine = scores[other] / (norms[r] * norms[other])
            scores[other] = 0.0
            at = room
            while at > 0 and (
                near[r, at - 1] < 0
                or cosine > cosines[r, at - 1]
                or (cosine == cosines[r, at - 1] and other < near[r, at - 1])
            ):
                if at < room:
                    near[r, at] = near[r, at - 1]
                    cosines[r, at] = cosines[r, at - 1]
                at -= 1
            if at < room:
                near[r, at] = other
                cosines[r, at] = cosine


@kernel
def _list_islands(near, cosines, gap, smallest, rows, spans):
    n, found = 0, 0
    for r in range(len(near)):
        for size in range(smallest, near.shape[1] + 1):
            if near[r, size - 2] < 0:
                break
            if cosines[r, size - 2] < gap * cosines[r, size - 1]:
                continue
            first = True
            for i in range(size - 1):
                first = first and near[r, i] > r
            if not first:
                continue
            whole = True
            for i in range(size - 1):
                member = near[r, i]
                whole = whole and cosines[member, size - 2] >= gap * cosines[member, size - 1]
                for j in range(size - 1):
                    other = near[member, j]
                    known = other == r
                    for k in range(size - 1):
                        known = known or other == near[r, k]
                    whole = whole and known
                if not whole:
                    break
            if whole:
                rows[n] = r
                for i in range(size - 1):
                    rows[n + 1 + i] = near[r, i]
                n += size
                found += 1
                spans[found] = n
    return found


def find_islands(words: npt.NDArray[np.uint64], rows: npt.NDArray[np.int32], documents: int, gap: float) -> Islands:
    """Groups in which each document's nearest are exactly the others, ``gap`` times as near as the next one.

    Near is the cosine of the documents' rare words (of two to ``MOST_ROWS`` documents and not of all), weighed by their
    inverse document frequency.

    Args:
        words, rows: word hashes and the document of each, one pair per document and word, by document.
        documents: how many documents there are.
        gap: smallest ratio of the cosine within to that with the nearest document outside.
    """
    _, number, frequency = np.unique(words, return_inverse=True, return_counts=True)
    rare = (frequency >= 2) & (frequency <= MOST_ROWS) & (frequency < documents)  # a word of all weighs nothing
    renumbered = np.cumsum(rare) - 1
    kept = rare[number]
    number, rows = renumbered[number[kept]].astype(np.int32), rows[kept]
    weights = np.log(documents / frequency[rare]).astype(np.float32)
    row_spans = np.searchsorted(rows, np.arange(documents + 1)).astype(np.int64)
    order = np.argsort(number, kind="stable")
    word_rows = rows[order]
    word_spans = np.concatenate([[0], np.cumsum(frequency[rare])]).astype(np.int64)
    norms = np.sqrt(np.bincount(rows, weights=weights[number] ** 2, minlength=documents)).astype(np.float32)
    near = np.full((documents, LARGEST), -1, np.int32)
    cosines = np.zeros((documents, LARGEST), np.float32)
    kernel: Any = _neighbours
    kernel(row_spans, number, word_spans, word_rows, weights, np.maximum(norms, 1e-9), near, cosines)
    members = np.empty(documents * LARGEST, np.int64)
    spans = np.zeros(documents * LARGEST + 1, np.int64)
    found = _list_islands(near, cosines, gap, _SMALLEST, members, spans)
    spans = spans[: found + 1]
    members = members[: spans[-1]]
    owner = np.repeat(np.arange(found), np.diff(spans))
    return Islands(members[np.lexsort((members, owner))], spans)
