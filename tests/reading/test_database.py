"""Tables of databases, read in parts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foretaste import Roles, scan
from foretaste.errors import InputError
from foretaste.reading import database
from foretaste.reading.database import SqlRows

pytest.importorskip("sqlalchemy")


@pytest.fixture
def reviews(tmp_path: Path) -> str:
    path = tmp_path / "reviews.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE reviews (id INTEGER, text TEXT, note TEXT, stars REAL)")
        rows = [(i, f"some text {i}", None if i < 9 else "late", i / 2) for i in range(20)]
        connection.executemany("INSERT INTO reviews VALUES (?, ?, ?, ?)", rows)
    return f"sqlite:///{path}"


@pytest.mark.parametrize("source", ["reviews", "main.reviews", "SELECT id, text FROM reviews WHERE id < 20;"])
def test_a_table_or_a_query_is_scanned_in_the_columns_that_play_a_role(reviews: str, source: str) -> None:
    with SqlRows(reviews, source).spooled(Roles(text="text")) as (data, roles, _):
        assert set(data.schema.names) == {"id", "text"}
        assert scan(data, {"checks": {"hidden-text": {}}}, roles=roles).data.rows == 20


def test_all_columns_are_saved_part_by_part(reviews: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "SQL_ROWS", 4)  # the first parts show no type of note
    assert SqlRows(reviews, "reviews").save(tmp_path / "out" / "saved.parquet") == 20
    table = pq.read_table(tmp_path / "out" / "saved.parquet")
    assert table["note"].to_pylist() == [None] * 9 + ["late"] * 11
    assert table["stars"].type == pa.float64()
    assert table["id"].to_pylist() == list(range(20))


@pytest.mark.parametrize(
    ("url", "source", "said"),
    [
        (None, "no_such_table", "no_such_table"),
        (None, "SELECT * FROM reviews WHERE id > 99", "no rows"),
        ("nosuchbase://host/x", "reviews", "driver"),
    ],
)
def test_what_cannot_be_read_is_refused(reviews: str, url: str | None, source: str, said: str) -> None:
    with (
        pytest.raises(InputError, match=said),
        SqlRows(url or reviews, source).spooled(Roles(text="text")),
    ):
        pass
