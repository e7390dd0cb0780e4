"""The small kernels against numpy: same order, same spread, same majority."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from foretaste.check import Context
from foretaste.text.evidence import majority
from foretaste.text.sorting import distinct, find, sort_small, z_of_last


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_a_sorted_array_is_that_of_numpy(dtype: Any) -> None:
    random = np.random.default_rng(0)
    for n in (0, 1, 2, 3, 4, 5, 9, 50, 700):
        for most in (3, 2**62):
            items = random.integers(0, most, n).astype(dtype)
            expected = np.sort(items)
            sort_small(items)
            assert (items == expected).all()


def test_distinct_items_are_those_of_numpy_and_are_found_at_their_place() -> None:
    random = np.random.default_rng(3)
    for n in (0, 1, 2, 9, 50):
        items = random.integers(0, 30, n).astype(np.uint64)
        expected = np.unique(items)
        kept = items[: distinct(items, n)]
        assert (kept == expected).all()
        for item in range(32):
            place = np.flatnonzero(expected == item)
            assert find(kept, np.uint64(item)) == (place[0] if len(place) else -1)


def test_the_last_value_is_measured_by_the_spread_of_the_others() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 201)
    assert z_of_last(values) == pytest.approx((values[-1] - values[:-1].mean()) / values[:-1].std())


def test_the_majority_is_the_most_frequent_label_and_the_smallest_of_equals() -> None:
    random = np.random.default_rng(2)
    labels = random.integers(-1, 4, 300).astype(np.int32)
    spans = np.array([0, 0, 1, 7, 60, 200], np.int64)
    rows = np.concatenate([np.sort(random.choice(300, n, replace=False)) for n in np.diff(spans)]).astype(np.int64)
    found, agree = np.zeros(5, np.int32), np.zeros(5, np.int64)
    majority(spans, rows, labels, found, agree)
    for c in range(5):
        mine = labels[rows[spans[c] : spans[c + 1]]]
        counts = np.bincount(mine[mine >= 0], minlength=4)
        assert (found[c], agree[c]) == ((int(counts.argmax()), counts.max()) if counts.any() else (-1, 0))


def test_a_sketch_grows_with_the_data_to_its_bound_and_is_whole_where_their_size_is_unknown() -> None:
    def cells(size: int) -> int:
        return Context("documents", frozenset(), bytes=size).cells(1 << 25)

    sizes = [cells(1 << k) for k in range(1, 40)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == cells(0) == 1 << 25
    assert all(cells(size) >= size for size in (10**6, 10**7, 3 * 10**7))
