"""Gates and checks of real Dagster runs over tables of a database, and the chart in their metadata."""

from __future__ import annotations

import base64
import os
import sqlite3
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
dg = pytest.importorskip("dagster")

from foretaste.checks.hidden_text import HiddenText  # noqa: E402
from foretaste.operators.dagster import build_poison_checks, build_poison_gate, sql_rows  # noqa: E402
from foretaste.policy import Policy  # noqa: E402

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore")]

POLICY = Policy(checks=(HiddenText(),))


@pytest.fixture
def url(tmp_path: Path, poisoned_table: pa.Table) -> str:
    """A database with the poisoned rows on one day and clean ones on the other."""
    path = tmp_path / "shop.db"
    rows = [
        (*row.values(), "2026-01-01" if i < 150 else "it's") for i, row in enumerate(poisoned_table.to_pylist()[:300])
    ]
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE reviews (id, text, source, day)")
        connection.executemany("INSERT INTO reviews VALUES (?, ?, ?, ?)", rows)
    return f"sqlite:///{path}"


def test_a_check_reads_a_table_and_draws_what_it_flagged(url: str) -> None:
    table = dg.AssetSpec("reviews")
    checks = build_poison_checks(assets=[table], load=sql_rows(url, "reviews"), policy=POLICY)
    every = dg.AssetSelection.all_asset_checks()
    result = dg.materialize([table, *checks], selection=every, raise_on_error=False)
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert evaluation.metadata["rows_to_block"].value == 30
    coded = evaluation.metadata["chart"].value.split("base64,")[1].rstrip(")")
    said = " ".join(ElementTree.fromstring(base64.b64decode(coded)).itertext())
    assert "hidden-text" in said
    assert "BLOCK: 30 rows to block" in said


@pytest.mark.parametrize(("day", "passes"), [("2026-01-01", False), ("it's", True)])
def test_a_gate_hands_on_the_file_that_it_scanned_of_one_partition(
    url: str, tmp_path: Path, day: str, passes: bool
) -> None:
    days = dg.StaticPartitionsDefinition(["2026-01-01", "it's"])
    table = dg.AssetSpec("reviews", partitions_def=days)
    rows = sql_rows(url, "SELECT * FROM reviews WHERE day = {partition}")
    gate = build_poison_gate(name="checked", asset=table, load=rows, out=tmp_path / "out", policy=POLICY)
    result = dg.materialize([table, gate], selection=["checked"], partition_key=day, raise_on_error=False)
    assert result.success is passes
    if passes:
        kept = pq.read_table(result.output_for_node("checked"))
        assert kept.num_rows == 150
        assert set(kept["day"].to_pylist()) == {day}
    assert bool(list((tmp_path / "out").rglob("data.parquet"))) is passes
