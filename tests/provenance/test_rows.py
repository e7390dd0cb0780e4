"""Canonical bytes of rows: the same row has the same bytes wherever it lies, and no two rows share them."""

from __future__ import annotations

import datetime
import decimal
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.errors import InputError
from foretaste.provenance import manifest, rows
from foretaste.provenance.leaves import leaf_hashes
from foretaste.provenance.merkle import leaf_hash


def reference(value: Any) -> bytes:
    """The encoding in plain Python, for the values that Python and Arrow agree on."""
    if value is None:
        return b"[4:null]0:"
    if isinstance(value, dict):
        pairs = sorted((k.encode(), v) for k, v in value.items() if v is not None)
        return b"(" + b"".join(b"(%d:%s" % (len(k), k) + reference(v) + b")" for k, v in pairs) + b")"
    if isinstance(value, list):
        return b"(" + b"".join(map(reference, value)) + b")"
    if isinstance(value, bool):
        raw = b"true" if value else b"false"
    elif isinstance(value, float):
        raw = struct.pack(">d", value)
    else:
        raw = value if isinstance(value, bytes) else str(value).encode()
    return b"%d:%s" % (len(raw), raw)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
ROW = st.fixed_dictionaries(
    {
        "text": st.none() | TEXT,
        "number": st.none() | st.integers(-(2**63), 2**63 - 1),
        "yes": st.none() | st.booleans(),
        "score": st.none() | st.floats(allow_nan=False),
        "raw": st.none() | st.binary(max_size=5),
        "tags": st.none() | st.lists(st.none() | TEXT, max_size=3),
        "turns": st.none()
        | st.lists(st.none() | st.fixed_dictionaries({"role": TEXT, "content": st.none() | TEXT}), max_size=2),
    }
)
SCHEMA = pa.schema(
    {
        "text": pa.string(), "number": pa.int64(), "yes": pa.bool_(), "score": pa.float64(), "raw": pa.binary(),
        "tags": pa.list_(pa.string()),
        "turns": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
    }
)  # fmt: skip


@given(st.lists(ROW, min_size=1, max_size=6), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_rows_have_the_bytes_that_the_definition_gives_them(made: list[dict[str, Any]], skip: int) -> None:
    batch = pa.RecordBatch.from_pylist(made, schema=SCHEMA)
    assert rows.encoded(batch).to_pylist() == [reference(r) for r in made]
    assert rows.encoded(batch.slice(skip)).to_pylist() == [reference(r) for r in made][skip:]
    assert b"".join(leaf_hashes([batch.slice(skip)])) == b"".join(leaf_hash(reference(r)) for r in made[skip:])


@pytest.mark.parametrize("size", [0, 9, 10, 99, 100, 12345])
def test_a_leaf_is_the_hash_of_the_row_s_bytes_whatever_its_length(size: int) -> None:
    batch = pa.RecordBatch.from_pylist([{"text": "x" * size, "raw": None}, {"text": "é", "raw": b"y" * size}, {}])
    assert b"".join(leaf_hashes([batch, batch.slice(1)])) == b"".join(
        leaf_hash(raw) for part in (batch, batch.slice(1)) for raw in rows.encoded(part).to_pylist()
    )


def test_how_a_value_is_stored_makes_no_difference() -> None:
    words = ["a", None, "b"]
    plain = pa.record_batch({"x": pa.array(words), "n": pa.array([1, 2, 3])})
    other = pa.record_batch(
        {"n": pa.array([1, 2, 3], pa.int8()), "x": pa.array(words, pa.large_string()).dictionary_encode()}
    )
    assert rows.encoded(plain) == rows.encoded(other)


def test_times_maps_and_other_types_have_bytes() -> None:
    noon = datetime.datetime(2020, 1, 1, 12, tzinfo=datetime.UTC)
    batch = pa.record_batch(
        {
            "a": pa.array([noon], pa.timestamp("s", "Europe/Paris")),
            "b": pa.array([decimal.Decimal("1.50")]),
            "c": pa.array([[("k", 1), ("l", None)]], pa.map_(pa.string(), pa.int64())),
            "d": pa.array([datetime.date(2020, 1, 2)]),
            "e": pa.array([[1, 2]], pa.list_(pa.int32(), 2)),
            "f": pa.array([float("nan")], pa.float32()),
        }
    )
    [raw] = rows.encoded(batch).to_pylist()
    nan = struct.pack(">d", float("nan"))
    assert raw == (
        b"((1:a19:2020-01-01 12:00:00)(1:b4:1.50)(1:c((1:k1:1)(1:l[4:null]0:)))(1:d10:2020-01-02)(1:e(1:11:2))(1:f8:"
        + nan + b"))"
    )  # fmt: skip


def test_what_has_no_bytes_is_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        rows.encoded(pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]))
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    with pytest.raises(InputError, match="no canonical bytes"):
        rows.encoded(pa.RecordBatch.from_arrays([union], names=["u"]))


def test_the_row_root_does_not_know_of_files_order_or_compression(tmp_path: Path) -> None:
    table = pa.table({"text": [f"row {i}" for i in range(100)], "label": [i % 3 for i in range(100)]})
    pq.write_table(table, tmp_path / "one.parquet", compression="zstd")
    (tmp_path / "many").mkdir()
    turned = table.take(list(reversed(range(100)))).select(["label", "text"])
    for at in range(4):
        pq.write_table(turned.slice(25 * at, 25), tmp_path / "many" / f"{at}.parquet")
    one, many = manifest.build(tmp_path / "one.parquet"), manifest.build(tmp_path / "many")
    assert one.row_root == many.row_root
    assert one.digest != many.digest
    changed = table.set_column(0, "text", pa.array([f"row {i}" for i in range(99)] + ["row x"]))
    pq.write_table(changed, tmp_path / "changed.parquet")
    assert manifest.build(tmp_path / "changed.parquet").row_root != one.row_root
