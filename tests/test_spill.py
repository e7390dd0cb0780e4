"""Rows that spill to a file are the rows that stay in memory."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from foretaste import spill
from foretaste.errors import CheckError
from foretaste.spill import Column, by_bucket, by_hash

ROWS = 3000


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "BLOCK", 700)
    monkeypatch.setattr(spill, "_WRITE", 2000)


@pytest.fixture(scope="module")
def hashes() -> npt.NDArray[np.uint64]:
    return np.random.default_rng(1).integers(0, 1 << 64, ROWS // 3, dtype=np.uint64).repeat(3)


def column(values: npt.NDArray[Any], room: int, step: int = 450) -> Column:
    made = Column(values.dtype, values.shape[1:], room=room)
    for at in range(0, len(values), step):
        made.append(values[at : at + step])
    return made


@pytest.mark.usefixtures("short_blocks")
class TestColumns:
    @pytest.mark.parametrize("room", [1 << 20, 5000, 0])
    def test_what_comes_back_is_what_was_appended(self, room: int) -> None:
        values = np.arange(ROWS * 8, dtype=np.uint8).reshape(ROWS, 8)
        held = column(values, room)
        assert held.spilled == (room < values.nbytes)
        assert len(held) == ROWS
        assert np.array_equal(held.whole(), values)
        assert np.array_equal(np.concatenate(list(held.blocks())), values)
        assert {len(b) for b in held.blocks()} == {700, ROWS % 700}
        held.extend(column(values[:10], 1 << 20))
        assert np.array_equal(held.whole()[-10:], values[:10])

    def test_a_column_travels_whole_and_takes_more_rows_there(self) -> None:
        values = np.arange(ROWS, dtype=np.int32)
        there = pickle.loads(pickle.dumps(column(values, 100)))
        there.append(values[:5])
        assert np.array_equal(there.whole(), np.concatenate([values, values[:5]]))

    def test_a_cleared_column_is_empty(self) -> None:
        held = column(np.arange(ROWS), 100)
        held.clear()
        assert not len(held)
        assert not list(held.blocks())

    @pytest.mark.parametrize("room", [1 << 20, 4000])
    def test_ranges_of_hashes_ascend_and_hold_every_row_once_in_order(
        self, room: int, hashes: npt.NDArray[np.uint64]
    ) -> None:
        mixed = hashes[np.random.default_rng(2).permutation(ROWS)]
        parts = list(by_hash(column(mixed, room), column(np.arange(ROWS, dtype=np.int32), room)))
        assert (len(parts) > 5) == (room == 4000)
        assert all((np.diff(rows.astype(np.int64)) > 0).all() for rows, _, _ in parts)
        assert all(a[1].max() < b[1].min() for a, b in pairwise(parts))
        rows, found, others = (np.concatenate(c) for c in zip(*parts))
        assert np.array_equal(np.sort(rows), np.arange(ROWS))
        assert np.array_equal(found, mixed[rows])
        assert np.array_equal(others, rows)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_full_disk_is_an_error_that_names_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("r+b", buffering=0) as full:
        monkeypatch.setattr(spill, "_file", lambda: full)
        with pytest.raises(CheckError, match=r"No space left on device.*TMPDIR"):
            column(np.arange(ROWS), 100)


def test_no_blocks_make_no_buckets() -> None:
    assert not list(by_bucket([], 1))
    assert not list(by_bucket([], 4))
