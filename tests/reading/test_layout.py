"""Batches follow from the rows alone: not from files, row groups, chunks or blocks."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste import Policy, scan
from foretaste.reading import dataset as module
from foretaste.reading import open_data

TEXTS = st.lists(st.text(max_size=30), min_size=1, max_size=60)


def chunked(texts: list[str], cuts: list[int]) -> pa.Table:
    edges = [0, *sorted(c % (len(texts) + 1) for c in cuts), len(texts)]
    return pa.table({"text": pa.chunked_array([texts[a:b] for a, b in itertools.pairwise(edges)], pa.string())})


def layout(table: pa.Table) -> list[tuple[int, list[str]]]:
    return [(b.start, b.strings("text").to_pylist()) for b in open_data(table).batches()]


@given(texts=TEXTS, cuts=st.lists(st.integers(0, 60), max_size=6), rows=st.integers(1, 9), size=st.integers(1, 80))
@settings(max_examples=60, deadline=None)
def test_chunks_do_not_show_in_batches(texts: list[str], cuts: list[int], rows: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH_ROWS", rows)
        patch.setattr(module, "BATCH_BYTES", size)
        batches = layout(chunked(texts, cuts))
        assert batches == layout(chunked(texts, []))
    assert [t for _, part in batches for t in part] == texts
    assert [start for start, _ in batches] == [0, *itertools.accumulate(len(p) for _, p in batches[:-1])]
    assert all(len(p) <= rows for _, p in batches)
    assert all(len(p) == 1 or sum(len(t.encode()) for t in p) <= size for _, p in batches)


@given(texts=TEXTS, cuts=st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=40, deadline=None)
def test_chunks_do_not_show_in_the_digest(texts: list[str], cuts: list[int]) -> None:
    assert open_data(chunked(texts, cuts)).digest == open_data(chunked(texts, [])).digest


def test_the_digest_tells_apart_what_differs_in_one_place() -> None:
    tables = [
        {"text": ["ab", "c"]}, {"text": ["a", "bc"]}, {"text": ["abc", ""]}, {"text": ["c", "ab"]},
        {"text": ["ab", "c"], "label": ["x", "y"]}, {"text": ["ab", "c"], "label": ["y", "x"]},
    ]  # fmt: skip
    digests = [open_data(pa.table(t)).digest for t in tables]
    assert len(set(digests)) == len(digests)


def test_no_column_of_a_batch_starts_at_an_offset() -> None:
    table = pa.table({"text": [f"row {i}" for i in range(40_000)]})
    batches = list(open_data(table).batches())
    assert [b.num_rows for b in batches] == [16_384, 16_384, 7_232]
    assert all(b.strings("text").offset == 0 for b in batches)


@pytest.mark.parametrize("group", [1, 999, 50_000])
def test_findings_do_not_depend_on_row_groups_or_files(
    group: int, poisoned_table: pa.Table, hidden_text: Policy, tmp_path: Path
) -> None:
    table = pa.concat_tables([poisoned_table] * 6)  # more rows than a batch holds
    ids = pa.array([f"r{i}" for i in range(table.num_rows)])
    table = table.set_column(0, "id", ids)
    expected = scan(table, hidden_text).findings
    pq.write_table(table.slice(0, 5_000), tmp_path / "1.parquet", row_group_size=group)
    pq.write_table(table.slice(5_000), tmp_path / "2.parquet", row_group_size=50_000)
    assert scan(tmp_path, hidden_text).findings == expected
    assert len(expected[0].rows) == 180


def test_rows_without_an_id_are_named_by_what_they_hold(clean_table: pa.Table, poisoned_table: pa.Table) -> None:
    policy = Policy().only("hidden-text")
    first = scan(poisoned_table.drop(["id"]), policy).findings[0]
    moved = pa.concat_tables([clean_table.slice(0, 50), poisoned_table]).drop(["id"])
    second = scan(moved, policy).findings[0]
    assert first.ids == second.ids
    assert (np.array(second.rows) - 50).tolist() == list(first.rows)
    assert len(set(first.ids)) == 30
