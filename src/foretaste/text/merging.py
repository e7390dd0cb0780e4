"""Kernels that join what two parts of the data counted or listed: tables by key, occurrences in the order of rows.

What a part holds travels packed: only the places in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.text.kernels import kernel
from foretaste.text.ngrams import slot_of
from foretaste.text.tokens import mix

U64 = np.uint64
Arrays = dict[str, Any]

# What is counted of an n-gram lies side by side, so that one n-gram costs one access to memory.
TALLY = np.dtype(
    [("left", "u8"), ("right", "u8"), ("last", "i4"), ("count", "i4"), ("label", "i4"), ("vote", "i4")], align=True
)
_SLOTTED = ("keys", "count", "label", "vote", "left", "right", "where")
_LISTED = ("rows", "positions", "lefts", "rights")


@dataclass(frozen=True)
class Sparse:
    """An array that is mostly zero, by the places that are not."""

    size: int
    places: npt.NDArray[np.uint32]
    values: Any


def packed_sketch(array: Any) -> Any:
    """The array, or where at most one place in 16 is in use those places; ``None`` stays ``None``."""
    if array is None:
        return None
    places = np.flatnonzero(array)
    if len(places) * 16 > len(array):
        return array
    return Sparse(len(array), places.astype(np.uint32), array[places])


def unpacked_sketch(packed: Any) -> Any:
    """The array again."""
    if not isinstance(packed, Sparse):
        return packed
    array = np.zeros(packed.size, packed.values.dtype)
    array[packed.places] = packed.values
    return array


@kernel
def _insert(
    index, keys, tallies, where, new_keys, new_count, new_label, new_vote, new_left, new_right, new_where, size,
):  # fmt: skip
    slots = U64(len(index) - 1)
    used = size[0]
    lost = size[1]
    for i in range(len(new_keys)):
        mixed = mix(new_keys[i])
        slot = slot_of(index, mixed)
        at = np.int64(index[slot] & slots) - 1
        if at < 0:
            if used >= len(keys):
                lost += new_count[i]
                continue
            at = used
            used += 1
            index[slot] = (mixed & ~slots) | U64(used)
            keys[at] = new_keys[i]
            where[at, 0] = new_where[i, 0]
            where[at, 1] = new_where[i, 1]
            where[at, 2] = new_where[i, 2]
            tallies[at].last = -1
            tallies[at].label = new_label[i]
            tallies[at].vote = new_vote[i]
        elif tallies[at].label == new_label[i]:
            tallies[at].vote += new_vote[i]
        elif tallies[at].vote >= new_vote[i]:
            tallies[at].vote -= new_vote[i]
        else:
            tallies[at].label = new_label[i]
            tallies[at].vote = new_vote[i] - tallies[at].vote
        tallies[at].count += new_count[i]
        tallies[at].left |= new_left[i]
        tallies[at].right |= new_right[i]
    size[0] = used
    size[1] = lost


def packed_table(table: Arrays) -> Arrays:
    """What a table of :func:`foretaste.text.ngrams.count_ngrams` holds, and how many slots its index has."""
    used = slice(int(table["size"][0]))
    tallies = {n: table["tallies"][n][used].copy() for n in TALLY.names or () if n != "last"}
    beside = {"size": table["size"], "slots": len(table["index"])}
    return {"keys": table["keys"][used].copy(), "where": table["where"][used].copy()} | tallies | beside


def unpacked_table(packed: Arrays) -> Arrays:
    """The table again."""
    table = empty_table(packed["slots"])
    add_table(table, packed)
    table["size"][1] += packed["size"][1]
    return table


def empty_table(slots: int) -> Arrays:
    """A table without an n-gram: an index of so many slots (a power of two), and room for three quarters as many."""
    room = slots * 3 // 4
    return {
        "index": np.zeros(slots, np.uint64),
        "keys": np.empty(room, np.uint64),
        "tallies": np.zeros(room, TALLY),
        "where": np.empty((room, 3), np.int32),
        "size": np.zeros(2, np.int64),
    }


def add_table(table: Arrays, packed: Arrays) -> None:
    """Add the packed table of later rows: counts add, counters join, the first occurrence stays the first.

    Votes are Misra-Gries summaries of one counter, which merge with their guarantee (Agarwal et al. 2012, Mergeable
    Summaries): of k rows with v votes left, no label has more than (k + v) / 2.
    """
    order = np.lexsort((packed["where"][:, 2], packed["where"][:, 1], packed["where"][:, 0]))
    mine: list[Any] = [table[name] for name in ("index", "keys", "tallies", "where")]
    arguments: list[Any] = [*mine, *(packed[name][order] for name in _SLOTTED), table["size"]]
    _insert(*arguments)


@kernel
def _place(spans, fill, counts, rows, positions, lefts, rights, new_rows, new_positions, new_lefts, new_rights):
    at = 0
    for c in range(len(counts)):
        place = fill[c]
        for _ in range(counts[c]):
            rows[place] = new_rows[at]
            positions[place] = new_positions[at]
            lefts[place] = new_lefts[at]
            rights[place] = new_rights[at]
            place += 1
            at += 1
        fill[c] = place


def empty_occurrences(spans: npt.NDArray[np.int64]) -> Arrays:
    """Room for the occurrences of candidates, ``spans[c]`` to ``spans[c + 1]`` for candidate c."""
    size = int(spans[-1])
    return {
        "spans": spans,
        "fill": spans[:-1].copy(),
        "seen": np.full(len(spans) - 1, -1, np.int32),
        "rows": np.zeros(size, np.int32),
        "positions": np.zeros(size, np.int32),
        "lefts": np.zeros(size, np.uint64),
        "rights": np.zeros(size, np.uint64),
    }


def packed_occurrences(found: Arrays) -> Arrays:
    """The places in use, and how many each candidate uses."""
    spans, fill = found["spans"], found["fill"]
    counts = fill - spans[:-1]
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    places = np.arange(total) + np.repeat(spans[:-1] - (ends - counts), counts)
    return {name: found[name][places] for name in _LISTED} | {"counts": counts}


def add_occurrences(found: Arrays, packed: Arrays) -> None:
    """Append the packed occurrences of later rows to those of each candidate."""
    _place(found["spans"], found["fill"], packed["counts"], *(found[n] for n in _LISTED),
           *(packed[n] for n in _LISTED))  # fmt: skip
