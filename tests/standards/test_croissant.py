"""The reference reader accepts the Croissant document, and reads the data through it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from foretaste import InputError, Policy, scan
from foretaste.cli import main
from foretaste.report import write
from foretaste.standards.croissant import export

mlc = pytest.importorskip("mlcroissant")
SAID = {
    "name": "vendor-reviews", "description": "Reviews of one vendor.", "license": "CC-BY-4.0", "creator": "Vendor",
    "url": "https://example.org/reviews",
}  # fmt: skip


def accepted(document: dict[str, Any], folder: Path) -> Any:
    """The document as the reference reader sees it; it raises on errors."""
    (folder / "croissant.json").write_text(json.dumps(document))
    dataset = mlc.Dataset(folder / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    return dataset


@pytest.fixture
def table(poisoned_table: pa.Table) -> pa.Table:
    return poisoned_table.slice(0, 200).append_column("stars", pa.array([1.5] * 200))


def test_the_reference_reader_accepts_it_and_reads_every_row(table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "d.parquet")
    policy = Policy().only("hidden-text", "source-allowlist")
    report = scan(tmp_path / "d.parquet", policy)
    document = export(str(tmp_path / "d.parquet"), parents=["https://example.org/raw"], report=report, **SAID)
    dataset = accepted(document, tmp_path)
    assert str(dataset.metadata.conforms_to[0]).endswith("croissant/1.1")
    rows = list(dataset.records("d.parquet/records"))
    assert [r["d.parquet/records/id"].decode() for r in rows] == table["id"].to_pylist()
    assert rows[0]["d.parquet/records/stars"] == 1.5
    assert any("not checked: source-allowlist" in text for text in dataset.metadata.data_limitations)
    assert any("block: hidden-text" in text for text in dataset.metadata.data_limitations)


def test_each_file_has_its_digest(table: pa.Table, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "b").mkdir(parents=True)
    pa.csv.write_csv(table.slice(0, 100), folder / "a.csv")
    pa.csv.write_csv(table.slice(100), folder / "b" / "c.csv")
    document = export(str(folder), **SAID)
    accepted(document, folder)
    assert {f["contentUrl"]: f["sha256"] for f in document["distribution"]} == {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.csv")
    }
    assert document["isLiveDataset"] is False


def test_a_changed_file_is_refused_by_the_reader(table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "d.parquet")
    dataset = accepted(export(str(tmp_path / "d.parquet"), **SAID), tmp_path)
    pq.write_table(table.slice(1), tmp_path / "d.parquet")
    with pytest.raises(mlc.GenerationError) as error:
        list(dataset.records("d.parquet/records"))
    assert "not identical" in str(error.value.__cause__)


def test_the_report_of_other_data_is_refused(table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(InputError, match="other data"):
        export(str(tmp_path / "d.parquet"), report=scan(table, Policy().only("hidden-text")), **SAID)


def test_the_command_line_writes_what_the_reader_accepts(table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "d.parquet")
    write(scan(tmp_path / "d.parquet", Policy().only("hidden-text")), tmp_path / "out")
    given = [w for k, v in SAID.items() for w in (f"--{k}", v)]
    out = tmp_path / "croissant.json"
    done = CliRunner().invoke(
        main,
        [
            "export",
            "croissant",
            str(tmp_path / "d.parquet"),
            "--report",
            str(tmp_path / "out"),
            "--out",
            str(out),
            *given,
        ],
    )
    assert done.exit_code == 0, done.output
    accepted(json.loads(out.read_text()), tmp_path)
