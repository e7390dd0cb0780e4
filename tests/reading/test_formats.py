"""The same data say the same, in whatever file, folder or object they lie."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from foretaste import InputError, Outcome, Policy, Report, scan
from foretaste.reading import open_data, spool
from foretaste.reading.formats import format_of, list_files

Writers = dict[str, Callable[[pa.Table, Path], None]]


def flagged(report: Report) -> list[str]:
    return [i for f in report.findings for i in f.ids]


@pytest.fixture(scope="session")
def expected(poisoned_table: pa.Table, hidden_text: Policy) -> Report:
    report = scan(poisoned_table, hidden_text)
    assert report.verdict is Outcome.BLOCK
    assert flagged(report) == [f"r{i:05d}" for i in range(100, 130)]
    return report


def test_every_format_gives_the_same_findings(
    file_name: str, writers: Writers, poisoned_table: pa.Table, hidden_text: Policy, expected: Report, tmp_path: Path
) -> None:
    writers[file_name](poisoned_table, tmp_path / file_name)
    assert scan(tmp_path / file_name, hidden_text).findings == expected.findings


OBJECTS: dict[str, Callable[[pa.Table], Any]] = {
    "pyarrow table": lambda t: t,
    "pyarrow record batch": lambda t: t.combine_chunks().to_batches()[0],
    "pyarrow dataset": ds.dataset,
    "pandas": lambda t: t.to_pandas(),
    "pandas objects": lambda t: t.to_pandas().astype(object),
    "pandas categories": lambda t: t.to_pandas().astype({"source": "category"}),
    "polars": lambda t: pl.from_arrow(t),
    "polars lazy": lambda t: pl.from_arrow(t).lazy(),  # type: ignore[union-attr]
    "string views": lambda t: t.set_column(1, "text", t["text"].cast(pa.string_view())),
    "dictionaries": lambda t: t.set_column(1, "text", t["text"].combine_chunks().dictionary_encode()),
    "sliced": lambda t: pa.concat_tables([t.slice(0, 1), t]).slice(1),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_every_object_gives_the_same_findings_and_digest(
    kind: str, poisoned_table: pa.Table, hidden_text: Policy, expected: Report
) -> None:
    report = scan(OBJECTS[kind](poisoned_table), hidden_text)
    assert report.findings == expected.findings
    assert report.data.digest == expected.data.digest
    assert report.data.rows == poisoned_table.num_rows


def test_a_stream_that_was_spooled_gives_the_same_findings(
    poisoned_table: pa.Table, hidden_text: Policy, expected: Report
) -> None:
    with spool(poisoned_table.to_reader(max_chunksize=500)) as path:
        assert scan(path, hidden_text).findings == expected.findings
    assert not path.exists()


@pytest.mark.parametrize("name", ["data.parquet", "data.jsonl.gz", "data.csv", "data.arrows"])
@pytest.mark.parametrize("ask", ["directory", "glob"])
def test_a_directory_and_a_glob_give_the_findings_of_one_file(
    ask: str, name: str, writers: Writers, poisoned_table: pa.Table, hidden_text: Policy, expected: Report,
    tmp_path: Path,
) -> None:  # fmt: skip
    cuts = [0, 110, 111, 2000, poisoned_table.num_rows]
    for number, (start, stop) in enumerate(itertools.pairwise(cuts)):
        folder = tmp_path / f"day{number // 2}"
        folder.mkdir(exist_ok=True)
        writers[name](poisoned_table.slice(start, stop - start), folder / f"{number}-{name}")
    (tmp_path / "_SUCCESS").touch()
    report = scan(tmp_path if ask == "directory" else tmp_path / "*" / f"*-{name}", hidden_text)
    assert report.findings == expected.findings
    assert report.data.files == 4


def test_a_file_system_can_be_given(
    writers: Writers, poisoned_table: pa.Table, hidden_text: Policy, expected: Report, tmp_path: Path
) -> None:
    writers["data.parquet"](poisoned_table, tmp_path / "data.parquet")
    below = pa.fs.SubTreeFileSystem(str(tmp_path), pa.fs.LocalFileSystem())
    for data in ("data.parquet", "*.parquet"):
        assert scan(data, hidden_text, filesystem=below).findings == expected.findings
    assert scan(f"file://{tmp_path}/data.parquet", hidden_text).findings == expected.findings


def test_labels_that_look_like_numbers_or_dates_stay_as_they_are(writers: Writers, tmp_path: Path) -> None:
    table = pa.table(
        {"text": ["2020-01-01", "one", "two"], "label": ["01", "1", "2020-01-02"], "id": ["007", "7", "8"]}
    )
    for name in ("data.csv", "data.jsonl"):
        writers[name](table, tmp_path / name)
        batch = next(open_data(tmp_path / name).batches())
        assert batch.strings("text").to_pylist() == table["text"].to_pylist()
        assert batch.strings("label").to_pylist() == table["label"].to_pylist()
        assert batch.strings("id").to_pylist() == table["id"].to_pylist()


def test_a_label_may_be_a_number_or_a_truth_value(writers: Writers, tmp_path: Path) -> None:
    for labels, shown in (([0, 1], ["0", "1"]), ([True, False], ["true", "false"])):
        table = pa.table({"text": ["a", "b"], "label": labels})
        writers["data.jsonl"](table, tmp_path / "data.jsonl")
        for data in (table, tmp_path / "data.jsonl", table.to_pandas()):
            assert next(open_data(data).batches()).strings("label").to_pylist() == shown


def test_a_copy_of_the_files_keeps_the_digest_and_another_name_does_not(
    writers: Writers, clean_table: pa.Table, tmp_path: Path
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        writers["data.parquet"](clean_table, tmp_path / folder / "a.parquet")
    first, second = (list_files(tmp_path / folder).digest() for folder in ("one", "two"))
    assert first == second
    os.rename(tmp_path / "two" / "a.parquet", tmp_path / "two" / "b.parquet")
    assert list_files(tmp_path / "two").digest() != first


def test_a_packed_seekable_file_is_refused_and_not_guessed_at(
    writers: Writers, clean_table: pa.Table, tmp_path: Path
) -> None:
    writers["data.arrow"](clean_table, tmp_path / "data.arrow.gz")
    with pytest.raises(InputError, match=r"unpack it"):
        scan(tmp_path / "data.arrow.gz")


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("a.parquet", "parquet"),
        ("a.CSV.GZ", "csv"),
        ("b.c/a.jsonl", "json"),
        ("a.txt", None),
        ("a", None),
        ("a.gz", None),
    ],
)
def test_the_format_is_told_by_the_suffix(path: str, known: str | None) -> None:
    assert format_of(path) == known


def test_a_row_longer_than_a_block_is_read_once(writers: Writers, tmp_path: Path) -> None:
    texts = ["short"] * 40_000 + ["x" * (3 << 20)] + ['quoted,\n"cell"'] * 40_000
    writers["data.csv"](pa.table({"text": texts}), tmp_path / "data.csv")
    read = [t for b in open_data(tmp_path / "data.csv").batches() for t in b.strings("text").to_pylist()]
    assert read == texts


def test_original_keeps_every_column_of_every_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": pa.array([1], pa.int32())}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"text": ["b"], "n": pa.array([2], pa.int64()), "more": ["x"]}), tmp_path / "2.parquet")
    rows = [r for b in open_data(tmp_path).original() for r in b.to_pylist()]
    assert rows == [{"text": "a", "n": 1, "more": None}, {"text": "b", "n": 2, "more": "x"}]


def test_original_of_json_lines_keeps_a_field_that_appears_late(tmp_path: Path) -> None:
    lines = ['{"text": "%s", "n": 1}' % ("x" * 1000)] * 5000 + ['{"text": "y", "n": 1.5, "late": {"deep": [1]}}']
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    rows = [r for b in open_data(tmp_path / "data.jsonl").original() for r in b.to_pylist()]
    assert len(rows) == 5001
    assert rows[-1] == {"text": "y", "n": 1.5, "late": {"deep": [1]}}


def test_a_pandas_index_is_not_taken_for_a_column() -> None:
    frame = pd.DataFrame({"text": ["a", "b"]}, index=["i", "j"])
    assert open_data(frame).columns == ["text"]
