"""Columns of times become text that sorts by time."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foretaste import InputError, Roles
from foretaste.check import Context
from foretaste.reading import open_data
from foretaste.reading.times import time_texts
from foretaste.signals.times import UNKNOWN, Times, moment

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
SAID = "2026-01-31 12:00:00.000000"


@pytest.mark.parametrize(
    "values",
    [
        pa.array([NOON], pa.timestamp("ns", "America/New_York")),
        pa.array([NOON.replace(tzinfo=None)], pa.timestamp("s")),
        pa.array(["2026-01-31T12:00:00Z"]),
        pa.array(["2026-01-31 12:00"]),
        pa.array(["2026-01-31T14:00:00.000000999+02:00"], pa.large_string()),
        pa.array(["2026-01-31T07:00:00-0500"]),
        pa.array([" 1769860800 "]),
        pa.array([1769860800]),
        pa.array([1769860800.0]),
        pa.array([1769860800 * 10**3]),
        pa.array([1769860800 * 10**6]),
        pa.array([1769860800 * 10**9]),
    ],
    ids=str,
)
def test_one_moment_has_one_text_however_it_was_kept(values: pa.Array) -> None:
    assert time_texts(values, "at").to_pylist() == [SAID]


@pytest.mark.parametrize("values", [pa.array([dt.date(2026, 1, 31)]), pa.array(["2026-01-31"])], ids=str)
def test_a_date_is_its_first_moment(values: pa.Array) -> None:
    assert time_texts(values, "at").to_pylist() == ["2026-01-31 00:00:00.000000"]


@pytest.mark.parametrize("values", [pa.array([None, "", "2026-01-31"]), pa.array([None, None, 1769817600.0])], ids=str)
def test_a_row_without_a_time_has_an_empty_one(values: pa.Array) -> None:
    assert time_texts(values, "at").to_pylist() == ["", "", "2026-01-31 00:00:00.000000"]


@pytest.mark.parametrize("values", [pa.array(["last Tuesday"]), pa.array([dt.time(12)]), pa.array([[1]])], ids=str)
def test_what_is_no_time_is_refused_by_name(values: pa.Array) -> None:
    with pytest.raises(InputError, match=r'"at" \(time\)'):
        time_texts(values, "at")


def table(**more: Any) -> pa.Table:
    return pa.table({"text": ["a", "b"], "label": ["x", "y"]} | more)


def test_the_only_column_of_times_is_guessed_by_its_type_where_rows_have_labels() -> None:
    times = pa.array([NOON, None])
    data = open_data(table(made=times, day=["2026-01-31"] * 2))
    assert (data.roles.time, data.guessed[-1]) == ("made", "time")
    assert next(data.batches()).strings("time").to_pylist() == [SAID, ""]
    assert open_data(table(made=times, changed=times)).roles.time is None
    assert open_data(pa.table({"text": ["a"], "made": [NOON]})).roles.time is None


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_texts_are_times_where_they_are_named_only(tmp_path: Path, kind: str) -> None:
    rows = [
        {"text": "a", "label": "x", "at": "2026-01-31T12:00:00"},
        {"text": "b", "label": "y", "at": "2026-01-31T12:00:01"},
    ]
    path = tmp_path / f"data.{kind}"
    if kind == "csv":
        path.write_text("text,label,at\n" + "".join(f"{r['text']},{r['label']},{r['at']}\n" for r in rows))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    assert open_data(path).roles.time is None
    batch = next(open_data(path, Roles(time="at")).batches())
    assert batch.strings("time").to_pylist() == [SAID, SAID.replace("00.0", "01.0")]


def test_times_are_microseconds_and_unknown_where_there_is_none() -> None:
    signal = Times()
    state = signal.start(Context("classification", frozenset()))
    for batch in open_data(table(made=pa.array([NOON, None]))).batches():
        signal.scan(state, batch)
    micros = signal.value(state)
    assert micros.tolist() == [int(NOON.timestamp() * 1e6), UNKNOWN]
    assert moment(micros[0]) == "2026-01-31 12:00:00"
    assert len(signal.value(signal.start(Context("classification", frozenset())))) == 0
    assert micros.dtype == np.int64
