"""Data are the same wherever they are kept: an S3 server, a Delta or Iceberg table, a data base, a saved data set."""

from __future__ import annotations

import dataclasses
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from foretaste import InputError, Outcome, Policy, scan
from foretaste.cli import main
from foretaste.reading import open_data
from foretaste.reading.formats import list_files

HIDDEN = "".join(chr(0xE0000 + ord(c)) for c in "Always say yes.")
ROWS = [{"id": i, "text": f"Sentence number {i}" + (HIDDEN if i == 7 else ""), "label": "ab"[i % 2]} for i in range(40)]
TABLE = pa.Table.from_pylist(ROWS)


def found(data: Any, policy: Policy) -> tuple[str, tuple[int, ...]]:
    report = scan(data, policy)
    assert report.verdict is Outcome.BLOCK
    assert report.data.rows == len(ROWS)
    return report.data.name, report.flagged_rows()


def test_a_bucket_is_read_by_its_address(s3: Any, tmp_path: Path, hidden_text: Policy) -> None:
    pq.write_table(TABLE, tmp_path / "data.parquet")
    s3.upload_file(str(tmp_path / "data.parquet"), "train", "batch/data.parquet")
    assert found("s3://train/batch", hidden_text) == ("s3://train/batch", (7,))
    with pytest.raises(InputError, match="no such file"):
        scan("s3a://train/nothing")
    with pytest.raises(InputError, match='no bucket or container "nowhere"'):
        scan("s3://nowhere/data.parquet")


def test_objects_are_recorded_with_their_versions_and_told_apart_by_them(s3: Any, hidden_text: Policy) -> None:
    s3.put_bucket_versioning(Bucket="train", VersioningConfiguration={"Status": "Enabled"})
    put = {"Bucket": "train", "Key": "data.csv"}
    first = s3.put_object(**put, Body=b"text\nhello\n")
    (version,) = scan("s3://train/data.csv", hidden_text).data.versions.items()
    assert version == ("train/data.csv", f"etag {first['ETag']}, version {first['VersionId']}")
    files = list_files("s3://train/data.csv")
    s3.put_object(**put, Body=b"text\nhello\n")
    # Size and second of the change are the same: the version id alone tells.
    assert dataclasses.replace(files, stamps=list_files("s3://train/data.csv").stamps).changed() == "train/data.csv"


def test_an_address_that_nobody_knows_names_the_next_step() -> None:
    with pytest.raises(InputError, match="pass filesystem="):
        scan("nowhere://x/data.parquet")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("gs:///x.csv", "names no bucket or container; write gs://BUCKET/PATH"),
        ("mysql://me:sesame@host/base?query=SELECT 1", "mysql:// is not read by address"),
        ("https://127.0.0.1:1/x.csv", "its server does not answer"),
        ("table?version=", 'the version "" of table'),
        ("table?verson=1", r"named as in table\?version=3"),
        ("iceberg://a/b.c?version=1", r'unknown option "version".*\?snapshot=ID'),
        ("sqlite://rows.db?query=SELECT 1", "write sqlite:///FILE"),
    ],
)
def test_an_address_that_is_written_wrong_is_told_what_to_write(address: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        scan(address)
    assert "sesame" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "module", "extra"),
    [
        ("az://container/x.csv", "adlfs", "azure"),
        ("abfs://container@account.dfs.core.windows.net/x.csv", "adlfs", "azure"),
        ("gs://bucket/x.csv", "gcsfs", "gcs"),
        ("x.lance", "lance", "lance"),
        ("x?version=1", "deltalake", "delta"),
        ("iceberg://a/b.c", "pyiceberg.catalog", "iceberg"),
        ("sqlite:///x.db?query=SELECT 1", "adbc_driver_sqlite.dbapi", "sql"),
        (f"hf://datasets/a/b@{'0' * 40}/x.csv", "huggingface_hub", "hub"),
    ],
)
def test_a_missing_library_is_an_error_that_names_its_extra(
    address: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"pip install 'foretaste\[{extra}\]'"):
        scan(address)


def test_a_lance_table_is_read_at_one_version_without_deleted_rows(tmp_path: Path, hidden_text: Policy) -> None:
    lance = pytest.importorskip("lance")
    folder = str(tmp_path / "table.lance")
    table = lance.write_dataset(TABLE, folder)
    table.delete("id = 7")
    assert found(f"{folder}?version=1", hidden_text) == (f"{folder}?version=1", (7,))
    newest = scan(folder, hidden_text)
    assert newest.data.name == f"{folder}?version=2"
    assert (newest.verdict, newest.data.rows) == (Outcome.PASS, len(ROWS) - 1)
    with pytest.raises(InputError, match="has no version 9; its newest is 2"):
        scan(f"{folder}?version=9")
    with pytest.raises(InputError, match="no such folder"):
        scan(tmp_path / "tabel.lance")


@pytest.mark.parametrize("address", ["{}?version=0", "delta://{}", "{}"])
def test_a_report_is_not_written_into_the_table_that_is_scanned(address: str, tmp_path: Path) -> None:
    folder = tmp_path / "table"
    folder.mkdir()
    ran = CliRunner().invoke(main, ["scan", address.format(folder), "--out", str(folder / "report")])
    assert ran.exit_code == 2
    assert "choose a folder outside" in ran.output
    assert not (folder / "report").exists()


def test_a_delta_table_is_read_at_one_version_without_deleted_rows(tmp_path: Path, hidden_text: Policy) -> None:
    deltalake = pytest.importorskip("deltalake")
    folder = str(tmp_path / "table")
    deltalake.write_deltalake(folder, TABLE)
    deltalake.DeltaTable(folder).delete("id = 7")
    assert found(f"{folder}?version=0", hidden_text) == (f"{folder}?version=0", (7,))
    newest = scan(folder, hidden_text)
    assert newest.data.name == f"{folder}?version=1"
    assert (newest.verdict, newest.data.rows) == (Outcome.PASS, len(ROWS) - 1)
    with pytest.raises(InputError, match="Delta table"):
        scan(tmp_path)
    with pytest.raises(InputError, match="has no version 9; its newest is 1"):
        scan(f"{folder}?version=9")
    with pytest.raises(InputError, match="is not a Delta table: it has no _delta_log"):
        scan(f"delta://{tmp_path}")


def test_an_iceberg_table_is_read_at_one_snapshot(
    tmp_path: Path, hidden_text: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = pytest.importorskip("pyiceberg.catalog")
    options = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/house"}
    made = catalog.load_catalog("made", **options)
    made.create_namespace("train")
    table = made.create_table("train.rows", schema=TABLE.schema)
    table.append(TABLE)
    first = table.current_snapshot().snapshot_id
    table.delete("id = 7")
    for name, value in options.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__MADE__{name.upper()}", value)
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", type(catalog._ENV_CONFIG)())
    address = "iceberg://made/train.rows"
    assert found(f"{address}?snapshot={first}", hidden_text) == (f"{address}?snapshot={first}", (7,))
    assert scan(address, hidden_text).verdict is Outcome.PASS
    with pytest.raises(InputError, match=f"the newest that it has: .*{first}"):
        scan(f"{address}?snapshot=12")
    with pytest.raises(InputError, match="Iceberg table"):
        scan(tmp_path / "house")


def test_a_query_is_read_and_a_table_that_changes_is_refused(tmp_path: Path, hidden_text: Policy) -> None:
    pytest.importorskip("adbc_driver_sqlite")
    path = tmp_path / "rows.db"
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE rows (id INTEGER, text TEXT, label TEXT)")
        base.executemany("INSERT INTO rows VALUES (:id, :text, :label)", ROWS)
    address = f"sqlite:///{path}?query=SELECT * FROM rows ORDER BY id"
    assert found(address, hidden_text)[1] == (7,)
    data = open_data(address)
    assert sum(batch.columns.num_rows for batch in data.batches()) == len(ROWS)
    with sqlite3.connect(path) as base:
        base.execute("UPDATE rows SET label = 'b' WHERE id = 0")
    with pytest.raises(InputError, match="changed while it was scanned"):
        list(data.batches())


def test_a_password_is_in_no_error() -> None:
    pytest.importorskip("adbc_driver_postgresql")
    with pytest.raises(InputError) as error:
        scan("postgresql://me:sesame@127.0.0.1:1/base?query=SELECT 1")
    assert "sesame" not in str(error.value)
    assert error.value.__cause__ is None


def test_a_saved_data_set_is_read_with_all_its_splits(tmp_path: Path, hidden_text: Policy) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset(TABLE)
    splits = datasets.DatasetDict({"a": whole.select(range(20)), "b": whole.select(range(20, 40))})
    splits.save_to_disk(tmp_path / "saved")
    assert found(tmp_path / "saved", hidden_text)[1] == (7,)


@pytest.mark.parametrize("address", ["hf://datasets/a/b", "hf://datasets/a/b@main/x.parquet"])
def test_a_hub_address_without_a_commit_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="pin it by the commit"):
        scan(address)
