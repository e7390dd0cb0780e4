"""Whatever is wrong with the data: one line that says what and what to do next, and never a pass."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from foretaste import InputError, Policy, scan
from foretaste.batch import Batch
from foretaste.check import Check, Context, RawResult
from foretaste.reading import InputOptions, open_data, spool

Writers = dict[str, Callable[[pa.Table, Path], None]]


def refusal(data: Any, **options: Any) -> str:
    """What a scan with every check says when it refuses the data."""
    with pytest.raises(InputError) as error:
        scan(data, **options)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 700
    return text


def table(**columns: list[Any]) -> pa.Table:
    return pa.table(columns)


class TestColumns:
    def test_a_missing_column_is_named_with_the_nearest_one(self, clean_table: pa.Table) -> None:
        assert 'no column "txt" for role text; did you mean "text"?' in refusal(clean_table, roles={"text": "txt"})

    def test_a_column_that_only_some_files_have_is_missing(
        self, writers: Writers, file_name: str, clean_table: pa.Table, tmp_path: Path
    ) -> None:
        writers[file_name](clean_table.slice(0, 50), tmp_path / f"1{file_name}")
        writers[file_name](clean_table.slice(50, 50).drop(["source"]), tmp_path / f"2{file_name}")
        said = refusal(tmp_path)
        assert 'no column "source"' in said
        assert f"2{file_name}" in said

    def test_a_dataset_does_not_fill_a_missing_column_with_nulls(self, clean_table: pa.Table, tmp_path: Path) -> None:
        pq.write_table(clean_table, tmp_path / "1.parquet")
        pq.write_table(clean_table.drop(["source"]), tmp_path / "2.parquet")
        assert 'no column "source"' in refusal(ds.dataset(tmp_path))

    def test_two_columns_of_one_name_are_not_chosen_from(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("text,text\na,b\n")
        for data in (tmp_path / "a.csv", pa.table([["a"], ["b"]], names=["text", "text"])):
            assert 'column "text" (text) is there twice' in refusal(data)

    def test_data_of_no_known_shape_list_their_columns(self) -> None:
        assert "columns: foo" in refusal(table(foo=["a"]))

    @pytest.mark.parametrize(
        ("column", "said"),
        [
            (pa.array([["a"], ["b"]]), "holds list"),
            (pa.array([{"a": 1}, {"a": 2}]), "holds struct"),
            (pa.array([1, 2]), "holds int64, not text"),
            (pa.array([b"a", b"b"]), "holds binary, not text"),
            (pa.array([1, 2], pa.timestamp("s")), "holds timestamp[s], not text"),
        ],
    )
    def test_text_of_another_type_is_refused(self, column: pa.Array, said: str) -> None:
        assert said in refusal(pa.table({"text": column}))

    def test_a_nested_label_is_refused(self) -> None:
        assert 'column "label" (label) holds list' in refusal(table(text=["a"], label=[["x"]]))

    def test_a_pandas_column_of_mixed_types_is_named(self) -> None:
        assert "column text" in refusal(pd.DataFrame({"text": ["a", 1]}, dtype=object))

    def test_json_lines_that_change_type_are_named_by_row(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": 1}\n')
        said = refusal(tmp_path / "a.jsonl")
        assert "changed from string to number in row 1" in said
        assert "write one type per column" in said


class TestEmpty:
    def test_a_file_of_no_bytes_is_refused(self, file_name: str, tmp_path: Path) -> None:
        (tmp_path / file_name).touch()
        assert "is empty (0 bytes)" in refusal(tmp_path / file_name)

    def test_a_file_of_no_bytes_among_others_is_refused(self, clean_table: pa.Table, tmp_path: Path) -> None:
        pq.write_table(clean_table, tmp_path / "1.parquet")
        (tmp_path / "2.parquet").touch()
        assert "2.parquet is empty (0 bytes)" in refusal(tmp_path)

    def test_no_rows_are_refused(self, writers: Writers, file_name: str, clean_table: pa.Table, tmp_path: Path) -> None:
        nothing = clean_table.slice(0, 0)
        writers[file_name](nothing, tmp_path / file_name)
        if ".json" in file_name or ".ndjson" in file_name:  # a JSON lines file of no rows has no bytes
            assert refusal(tmp_path / file_name)
            return
        assert "has no rows" in refusal(tmp_path / file_name)

    @pytest.mark.parametrize("convert", [lambda t: t, lambda t: t.to_pandas(), pl.from_arrow, ds.dataset])
    def test_objects_of_no_rows_are_refused(self, convert: Callable[[pa.Table], Any], clean_table: pa.Table) -> None:
        assert "has no rows" in refusal(convert(clean_table.slice(0, 0)))

    def test_blank_json_lines_are_no_rows(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text("\n\n")
        assert "no rows" in refusal(tmp_path / "a.jsonl")

    def test_nothing_there_is_refused(self, tmp_path: Path) -> None:
        for data in (tmp_path, tmp_path / "*.parquet", tmp_path / "a.parquet"):
            assert "no data at" in refusal(data)


class TestBroken:
    @pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
    @pytest.mark.parametrize(
        "name", ["data.parquet", "data.arrow", "data.arrows", "data.feather", "data.csv.gz", "data.tsv.bz2",
                 "data.jsonl.zst", "data.jsonl.lz4"],
    )  # fmt: skip
    def test_a_file_that_is_cut_short_is_refused(
        self, kept: float, name: str, writers: Writers, clean_table: pa.Table, tmp_path: Path
    ) -> None:
        writers[name](clean_table, tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(kept * len(whole))])
        assert name in refusal(tmp_path / name)

    def test_a_stream_that_stops_between_two_batches_is_refused(
        self, writers: Writers, clean_table: pa.Table, tmp_path: Path
    ) -> None:
        path = tmp_path / "data.arrows"
        writers["data.arrows"](clean_table, path)
        path.write_bytes(path.read_bytes()[:-8])  # without its end mark
        assert "is cut short" in refusal(path)

    def test_a_broken_second_row_group_is_refused(self, clean_table: pa.Table, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        pq.write_table(clean_table, path, row_group_size=1000, compression="none", use_dictionary=False)
        at = pq.read_metadata(path).row_group(1).column(1).data_page_offset
        raw = bytearray(path.read_bytes())
        raw[at : at + 200] = b"\xff" * 200
        path.write_bytes(raw)
        said = refusal(path)
        assert "a.parquet" in said
        assert "write or copy it again" in said

    def test_a_broken_second_file_is_named(self, clean_table: pa.Table, tmp_path: Path) -> None:
        pq.write_table(clean_table, tmp_path / "1.parquet")
        (tmp_path / "2.parquet").write_bytes((tmp_path / "1.parquet").read_bytes()[:5000])
        assert "2.parquet" in refusal(tmp_path)

    def test_text_under_a_packed_name_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv.gz").write_text("text\na\n")
        assert "a.csv.gz" in refusal(tmp_path / "a.csv.gz")

    def test_bytes_of_another_format_are_refused(self, tmp_path: Path) -> None:
        for name in ("a.parquet", "a.arrow", "a.jsonl"):
            (tmp_path / name).write_bytes(b"these are no rows at all")
            assert name in refusal(tmp_path / name)

    @pytest.mark.parametrize("text", ['id,text\n1,"a\n2,b\n', 'id,text\n1,b\n2,"a', '"id,text\n1,a\n'])
    def test_a_quote_that_is_never_closed_does_not_swallow_rows(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(text)
        refusal(tmp_path / "a.csv", roles={"text": "text"})

    def test_quotes_inside_cells_are_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text('id,text\n1,a 5" nail\n2,"say ""hi"""\n3,"two\nlines"')
        batch = next(open_data(tmp_path / "a.csv").batches())
        assert batch.strings("text").to_pylist() == ['a 5" nail', 'say "hi"', "two\nlines"]

    def test_a_row_of_too_few_cells_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("id,text\n1,a\n2\n")
        assert "Expected 2 columns, got 1" in refusal(tmp_path / "a.csv")

    def test_one_json_array_is_told_from_json_lines(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text('[{"text": "a"}]')
        assert "one object a line" in refusal(tmp_path / "a.json")

    def test_formats_are_not_mixed_and_not_guessed(self, tmp_path: Path) -> None:
        (tmp_path / "a.docx").write_text("a")
        assert "known suffixes" in refusal(tmp_path)
        (tmp_path / "a.docx").rename(tmp_path / "a.csv")
        (tmp_path / "b.jsonl").write_text("{}")
        assert "mixes formats (csv, json)" in refusal(tmp_path)


class TestEncodings:
    def test_text_that_is_not_utf8_is_refused(self, tmp_path: Path) -> None:
        for name, text in (
            ("a.csv", "id,text\n1,café\n"),
            ("a.tsv", "id\ttext\n1\tcafé\n"),
            ("a.jsonl", '{"text":"é"}'),
        ):
            (tmp_path / name).write_text(text, encoding="latin-1")
            said = refusal(tmp_path / name)
            assert "UTF8" in said
            assert "write it again as UTF-8" in said

    def test_a_file_of_two_encodings_names_the_row(self, tmp_path: Path) -> None:
        lines = [b'{"text": "plain"}\n'] * 20_000 + ['{"text": "café"}\n'.encode("latin-1")]
        (tmp_path / "a.jsonl").write_bytes(b"".join(lines))
        assert "in row 20000" in refusal(tmp_path / "a.jsonl")

    def test_utf16_is_named(self, tmp_path: Path) -> None:
        for name, text in (("a.csv", "id,text\n1,x\n"), ("a.jsonl", '{"text": "x"}\n')):
            (tmp_path / name).write_text(text, encoding="utf-16")
            assert "is UTF-16" in refusal(tmp_path / name)

    def test_a_byte_order_mark_is_not_part_of_a_name(self, tmp_path: Path) -> None:
        for name, text in (("a.csv", "text\nx\n"), ("a.jsonl", '{"text": "x"}\n')):
            (tmp_path / name).write_text(text, encoding="utf-8-sig")
            assert next(open_data(tmp_path / name).batches()).strings("text").to_pylist() == ["x"]

    def test_parquet_whose_strings_are_no_text_names_the_row(self, tmp_path: Path) -> None:
        values = [b"ok"] * 30 + [b"caf\xe9"] + [b"ok"]
        text = pa.array(values, pa.binary()).cast(pa.string(), safe=False)
        pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
        assert 'column "text" (text) is not valid in row 30' in refusal(tmp_path / "a.parquet")

    def test_a_lone_surrogate_in_a_frame_is_named_by_column_and_row(self) -> None:
        frame = pd.DataFrame({"text": ["a", "b\ud800"]}, dtype=object)
        assert 'column "text" has a lone surrogate in row 1' in refusal(frame)

    def test_a_lone_surrogate_in_json_is_named_by_row(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text('{"text": "plain"}\n' * 300_000 + '{"text": "b\\ud800"}\n')
        said = refusal(path)
        assert "surrogate" in said
        assert "in row 300000" in said


class TestCells:
    @pytest.mark.parametrize("column", ["text", "label", "id"])
    @pytest.mark.parametrize("convert", [lambda t: t, lambda t: t.to_pandas()])
    def test_a_null_is_refused_and_named(self, convert: Callable[[pa.Table], Any], column: str) -> None:
        data = {"id": ["1", "2"], "text": ["a", "b"], "label": ["x", "y"]}
        data[column] = ["a", None]  # type: ignore[list-item]
        said = refusal(convert(pa.table(data)))
        assert f'column "{column}" ({column}) is null' in said
        assert "first in row 1" in said

    def test_a_key_that_json_leaves_out_is_null(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"other": "b"}\n')
        assert "first in row 1" in refusal(tmp_path / "a.jsonl")

    def test_nulls_read_as_empty_where_the_policy_says_so(self, hidden_text: Policy) -> None:
        data = table(text=["a", None])
        policy = Policy(checks=hidden_text.checks, input=InputOptions(nulls="empty"))
        assert scan(data, policy).data.rows == 2

    def test_a_source_may_be_null_and_reads_as_empty(self) -> None:
        batch = next(open_data(table(text=["a", "b"], source=["x", None])).batches())
        assert batch.strings("source").to_pylist() == ["x", ""]

    def test_a_cell_of_ten_megabytes_is_refused_in_every_format(self, writers: Writers, tmp_path: Path) -> None:
        data = table(text=["a", "x" * (10 << 20)])
        for name in ("data.parquet", "data.csv", "data.jsonl", "data.arrow"):
            writers[name](data, tmp_path / name)
        for source in (data, *tmp_path.iterdir()):
            said = refusal(source)
            assert "10,485,760 bytes in row 1" in said
            assert "input.max_cell_bytes" in said

    def test_a_cell_of_ten_megabytes_is_read_where_the_policy_says_so(
        self, writers: Writers, hidden_text: Policy, tmp_path: Path
    ) -> None:
        policy = Policy(checks=hidden_text.checks, input=InputOptions(max_cell_bytes=1 << 24))
        for name in ("data.parquet", "data.csv", "data.jsonl"):
            writers[name](table(text=["a", "x" * (10 << 20)]), tmp_path / name)
            assert scan(tmp_path / name, policy).data.rows == 2

    def test_an_id_that_names_two_rows_is_refused(self) -> None:
        data = table(id=["a", "b", "a"], text=["x", "y", "z"])
        assert "first rows 0 and 2" in refusal(data)
        allow = Policy(input=InputOptions(duplicate_ids="allow")).only("hidden-text")
        assert scan(data, allow).data.rows == 3


class TestObjects:
    def test_what_can_be_read_once_is_refused_with_the_way_out(self, clean_table: pa.Table, tmp_path: Path) -> None:
        pq.write_table(clean_table, tmp_path / "a.parquet")
        with (tmp_path / "a.parquet").open("rb") as file:
            for data in (clean_table.to_reader(), iter(clean_table.to_batches()), file):
                assert "foretaste.reading.spool" in refusal(data)

    @pytest.mark.parametrize("data", [None, 5, ["a"], {"text": ["a"]}, object()])
    def test_what_is_no_data_is_refused(self, data: Any) -> None:
        assert "cannot scan an object of type" in refusal(data)

    def test_a_frame_whose_columns_cannot_be_told_apart_is_refused(self) -> None:
        for columns in (["text", "text"], ["text", 1]):
            assert "unique strings" in refusal(pd.DataFrame([["a", "b"]], columns=columns))

    def test_a_plan_that_fails_is_refused(self, clean_table: pa.Table, tmp_path: Path) -> None:
        frame = pl.from_arrow(clean_table)
        assert isinstance(frame, pl.DataFrame)
        assert "polars" in refusal(frame.lazy().with_columns(pl.col("text").str.to_integer()))
        assert "check the path" in refusal(pl.scan_parquet(tmp_path / "none.parquet"))

    def test_a_stream_without_batches_has_no_rows(self) -> None:
        with spool(iter([])) as path, pytest.raises(InputError):
            scan(path)


class _Meddler(Check[list[int]]):
    """Changes the data behind the scan's back, once, between its two rounds. Misses everything."""

    id = "meddler"

    def __init__(self, meddle: Callable[[], None]) -> None:
        self.meddle = meddle

    parameters = {}  # type: ignore[assignment]  # noqa: RUF012

    def applies(self, context: Context) -> str:
        return ""

    def start(self, context: Context) -> list[int]:
        return []

    def scan(self, state: list[int], batch: Batch) -> None:
        pass

    def merge(self, left: list[int], right: list[int]) -> list[int]:
        return left

    def next_round(self, state: list[int]) -> list[int] | None:
        if state:
            return None
        self.meddle()
        return [1]

    def finish(self, state: list[int]) -> RawResult:
        return RawResult()


class TestChanging:
    def refused(self, data: Any, meddle: Callable[[], None]) -> str:
        return refusal(data, policy=Policy(checks=(_Meddler(meddle),)))

    def test_a_file_that_changes_between_rounds_is_refused(self, clean_table: pa.Table, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        pq.write_table(clean_table, path)

        def rewrite() -> None:
            pq.write_table(clean_table.slice(1), path)

        assert "changed while it was scanned" in self.refused(path, rewrite)

    def test_a_file_that_vanishes_between_rounds_is_refused(self, clean_table: pa.Table, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        pq.write_table(clean_table, path)
        assert "a.parquet" in self.refused(path, lambda: os.remove(path))

    def test_a_frame_that_changes_between_rounds_is_refused(self) -> None:
        frame = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})

        def swap() -> None:
            frame.loc[0, "label"] = "y"

        assert "changed while it was scanned" in self.refused(frame, swap)

    def test_a_frame_that_grows_between_rounds_is_refused(self) -> None:
        frame = pd.DataFrame({"text": ["a", "b"]})

        def grow() -> None:
            frame.loc[len(frame)] = ["c"]

        assert "had 2 rows and now has 3" in self.refused(frame, grow)

    def test_a_file_that_changes_before_its_digest_is_taken_is_refused(
        self, clean_table: pa.Table, tmp_path: Path
    ) -> None:
        path = tmp_path / "a.parquet"
        pq.write_table(clean_table, path)
        dataset = open_data(path)
        for _ in dataset.batches():
            pass
        pq.write_table(clean_table.slice(1), path)
        with pytest.raises(InputError, match="changed while it was scanned"):
            _ = dataset.digest

    def test_a_packed_file_that_is_cut_after_opening_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv.gz"
        path.write_bytes(gzip.compress(b"text\n" + b"hello\n" * 5000))
        dataset = open_data(path)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(InputError, match=r"a\.csv\.gz"):
            list(dataset.batches())
