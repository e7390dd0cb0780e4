"""Setting rows apart loses none, deletes none, and never calls unchecked rows clean."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from foretaste import CheckResult, InputError, Outcome, Policy, Report, VerificationError, scan
from foretaste.checks.source_allowlist import SourceAllowlist
from foretaste.cli import main
from foretaste.quarantine import COLUMNS, Quarantine, release, split
from foretaste.report import write
from foretaste.report.model import from_dict, to_dict
from foretaste.sources import Entry

ONLY = Policy().only("hidden-text")


@pytest.fixture(scope="module")
def table(poisoned_table: pa.Table) -> pa.Table:
    """The poisoned table with columns that no check reads."""
    rows = poisoned_table.num_rows
    extra = pa.array([{"page": i, "tags": ["a", str(i)]} for i in range(rows)])
    return poisoned_table.append_column("meta", extra).append_column("n", pa.array(range(rows), pa.int16()))


@pytest.fixture(scope="module")
def report(table: pa.Table) -> Report:
    return scan(table, ONLY)


def as_parquet(table: pa.Table, folder: Path) -> Any:
    pq.write_table(table, folder / "data.parquet", row_group_size=500)
    return folder / "data.parquet"


def as_folder(table: pa.Table, folder: Path) -> Any:
    (folder / "data").mkdir()
    pq.write_table(table.slice(0, 105), folder / "data" / "1.parquet")
    pq.write_table(table.slice(105), folder / "data" / "2.parquet")
    return folder / "data"


def as_jsonl(table: pa.Table, folder: Path) -> Any:
    (folder / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in table.to_pylist()))
    return folder / "data.jsonl"


@pytest.mark.parametrize(
    "store",
    [as_parquet, as_folder, as_jsonl, lambda t, _: t, lambda t, _: t.to_pandas(), lambda t, _: pl.from_arrow(t).lazy()],
    ids=["parquet", "folder", "json lines", "arrow", "pandas", "polars lazy"],
)
def test_both_parts_together_are_the_data(
    store: Callable[[pa.Table, Path], Any], table: pa.Table, tmp_path: Path
) -> None:
    data = store(table, tmp_path)
    made = split(data, scan(data, ONLY), tmp_path / "out")
    clean, apart = pq.read_table(made.clean), pq.read_table(made.quarantined)
    assert clean.schema.names == table.schema.names
    assert apart.schema.names == [*table.schema.names, *COLUMNS.names]
    assert apart["foretaste_row"].to_pylist() == list(range(100, 130))
    rows = table.to_pylist()
    assert clean.to_pylist() == rows[:100] + rows[130:]
    assert apart.drop(COLUMNS.names).to_pylist() == rows[100:130]
    assert (made.clean_rows, made.quarantined_rows) == (len(rows) - 30, 30)


def test_csv_keeps_its_cells_as_they_are_written(table: pa.Table, tmp_path: Path) -> None:
    pa.csv.write_csv(table.drop(["meta"]), tmp_path / "data.csv")
    data = tmp_path / "data.csv"
    made = split(data, scan(data, ONLY), tmp_path / "out")
    assert pq.read_table(made.clean)["n"].to_pylist()[:3] == ["0", "1", "2"]


def test_each_row_carries_every_reason(table: pa.Table, tmp_path: Path) -> None:
    allow = SourceAllowlist(allow=(Entry(source="nowhere"),))
    report = scan(table, Policy(checks=(*ONLY.checks, allow)))
    made = split(table, report, tmp_path)
    apart = pq.read_table(made.quarantined)
    assert made.clean_rows == 0
    assert pq.read_table(made.clean).num_rows == 0
    reasons = {tuple(sorted(c)) for c in apart["foretaste_check"].to_pylist()}
    assert reasons == {("source-allowlist",), ("hidden-text", "source-allowlist")}
    known = {f.fingerprint: f.message for f in report.findings}
    for row in apart.slice(100, 2).to_pylist():
        assert [known[f] for f in row["foretaste_finding"]] == row["foretaste_reason"]


def test_only_the_severities_asked_for_are_set_apart(table: pa.Table, tmp_path: Path) -> None:
    review = scan(table, Policy.load({"checks": {"hidden-text": {"block_rows": 1000}}}).only("hidden-text"))
    assert review.verdict is Outcome.REVIEW
    assert split(table, review, tmp_path).quarantined_rows == 0
    assert split(table, review, tmp_path, severities=("block", "review")).quarantined_rows == 30


def test_the_clean_part_passes_the_same_scan(table: pa.Table, report: Report, tmp_path: Path) -> None:
    assert scan(split(table, report, tmp_path).clean, ONLY).verdict is Outcome.PASS


def test_the_manifest_accounts_for_input_outputs_and_reasons(table: pa.Table, report: Report, tmp_path: Path) -> None:
    made = split(table, report, tmp_path)
    manifest = json.loads(made.manifest.read_text())
    assert manifest["input"] == {"name": "pyarrow table", "rows": table.num_rows, "digest": report.data.digest}
    for name, path, rows in (
        ("clean", made.clean, made.clean_rows), ("quarantine", made.quarantined, made.quarantined_rows),
    ):  # fmt: skip
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert manifest["outputs"][f"{name}/data.parquet"] == {"rows": rows, "digest": f"sha256:{digest}"}
    assert sum(o["rows"] for o in manifest["outputs"].values()) == manifest["input"]["rows"]
    assert manifest["report"]["verdict"] == "block"
    assert manifest["report"]["policy_digest"] == report.policy_digest
    assert [r["finding"] for r in manifest["reasons"]] == [f.fingerprint for f in report.findings]


def test_every_run_keeps_its_own_directory(table: pa.Table, report: Report, tmp_path: Path) -> None:
    first, second = (split(table, report, tmp_path) for _ in range(2))
    assert first.manifest.parent != second.manifest.parent
    assert first.clean.read_bytes() == second.clean.read_bytes()
    assert sorted(p for p in tmp_path.iterdir()) == sorted({first.manifest.parent, second.manifest.parent})


def test_it_works_through_a_file_system(table: pa.Table, tmp_path: Path) -> None:
    as_parquet(table, tmp_path)
    below = pa.fs.SubTreeFileSystem(str(tmp_path), pa.fs.LocalFileSystem())
    report = scan("data.parquet", ONLY, filesystem=below)
    assert split("data.parquet", report, tmp_path / "out", filesystem=below).quarantined_rows == 30


class TestRefusals:
    def refusal(self, data: Any, report: Report, out: Path, **rest: Any) -> str:
        with pytest.raises(InputError) as error:
            split(data, report, out, **rest)
        assert not out.exists() or not list(out.iterdir()), "nothing may be left behind"
        return str(error.value)

    def test_data_that_changed_since_the_scan_are_refused(
        self, table: pa.Table, report: Report, tmp_path: Path
    ) -> None:
        swapped = pa.concat_tables([table.slice(1, 1), table.slice(0, 1), table.slice(2)])
        for other in (swapped, table.slice(1)):
            assert "has changed since it was scanned" in self.refusal(other, report, tmp_path / "out")

    def test_a_file_that_changed_since_the_scan_is_refused(self, table: pa.Table, tmp_path: Path) -> None:
        data = as_parquet(table, tmp_path)
        report = scan(data, ONLY)
        pq.write_table(table.set_column(4, "n", pa.array([0] * len(table))), data)
        assert "has changed since it was scanned" in self.refusal(data, report, tmp_path / "out")

    def test_a_failed_scan_calls_no_row_clean(self, table: pa.Table, report: Report, tmp_path: Path) -> None:
        failed = CheckResult(check="other", outcome=Outcome.ERROR, note="broken")
        broken = dataclasses.replace(report, results=(*report.results, failed))
        assert "no row can be called clean" in self.refusal(table, broken, tmp_path / "out")

    def test_a_report_that_was_cut_does_not_leave_poison_in_the_clean_part(
        self, table: pa.Table, report: Report, tmp_path: Path
    ) -> None:
        cut = from_dict(to_dict(report, max_rows=10))
        assert "does not name all of its rows" in self.refusal(table, cut, tmp_path / "out")
        assert split(table, from_dict(to_dict(report, max_rows=None)), tmp_path / "out").quarantined_rows == 30

    def test_a_finding_without_rows_is_not_settled_by_setting_rows_apart(
        self, table: pa.Table, report: Report, tmp_path: Path
    ) -> None:
        whole = dataclasses.replace(report.findings[0], rows=(), ids=(), fingerprint="")
        result = dataclasses.replace(report.results[0], findings=(whole,))
        said = self.refusal(table, dataclasses.replace(report, results=(result,)), tmp_path / "out")
        assert "names no rows" in said

    def test_columns_of_an_earlier_quarantine_are_not_overwritten(self, table: pa.Table, tmp_path: Path) -> None:
        marked = table.append_column("foretaste_row", pa.array(range(len(table))))
        assert "foretaste_row" in self.refusal(marked, scan(marked, ONLY), tmp_path / "out")

    def test_files_that_disagree_about_a_type_are_refused_whole(self, table: pa.Table, tmp_path: Path) -> None:
        data = as_folder(table, tmp_path)
        other = table.slice(105).set_column(4, "n", pa.array(["x"] * (len(table) - 105)))
        pq.write_table(other, data / "2.parquet")
        self.refusal(data, scan(data, ONLY), tmp_path / "out")

    def test_a_place_that_cannot_be_written_is_named(self, table: pa.Table, report: Report, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="choose another directory"):
            split(table, report, tmp_path / "file" / "out")


class TestRelease:
    by: ClassVar[dict[str, str]] = {"owner": "ann", "reason": "a watermark of the vendor"}

    @pytest.fixture
    def run(self, table: pa.Table, report: Report, tmp_path: Path) -> Quarantine:
        return split(table, report, tmp_path / "q")

    @pytest.mark.parametrize("rows", [(100,), (129,), (100, 115, 129), tuple(range(100, 130))])
    def test_clean_and_released_rows_are_the_data_without_the_rest_in_their_order(
        self, table: pa.Table, run: Quarantine, tmp_path: Path, rows: tuple[int, ...]
    ) -> None:
        made = release(run.manifest.parent, tmp_path / "r", rows=rows, **self.by)
        gone = set(range(100, 130)) - set(rows)
        assert pq.read_table(made.data).to_pylist() == [r for i, r in enumerate(table.to_pylist()) if i not in gone]
        assert made.rows == run.clean_rows + len(rows)
        assert made.released_rows + made.kept_rows == run.quarantined_rows

    def test_rows_at_both_ends_return_to_their_places(self, table: pa.Table, tmp_path: Path) -> None:
        texts = table["text"].to_pylist()
        hidden = texts[100]
        last = len(texts) - 1
        ends = table.set_column(1, "text", pa.array([hidden, *texts[1:last], hidden]))
        run = split(ends, scan(ends, ONLY), tmp_path / "q")
        assert {0, last} <= set(pq.read_table(run.quarantined)["foretaste_row"].to_pylist())
        made = release(run.manifest.parent, tmp_path / "r", everything=True, **self.by)
        assert pq.read_table(made.data).equals(ends)

    def test_it_is_on_record_and_the_quarantine_stays_as_it_is(self, run: Quarantine, tmp_path: Path) -> None:
        before = [p.read_bytes() for p in (run.clean, run.quarantined, run.manifest)]
        made = release(run.manifest.parent, tmp_path / "r", rows=(101,), **self.by)
        said = json.loads(made.manifest.read_text())
        assert (said["owner"], said["reason"]) == ("ann", "a watermark of the vendor")
        assert said["released"] == {"rows": [101], "count": 1, "kept": 29}
        digest = hashlib.sha256(made.data.read_bytes()).hexdigest()
        assert said["output"]["data.parquet"] == {"rows": run.clean_rows + 1, "digest": f"sha256:{digest}"}
        assert [p.read_bytes() for p in (run.clean, run.quarantined, run.manifest)] == before

    def test_a_finding_releases_only_rows_that_have_no_other(self, table: pa.Table, tmp_path: Path) -> None:
        allow = SourceAllowlist(allow=(Entry(source="nowhere"),))
        report = scan(table, Policy(checks=(*ONLY.checks, allow)))
        run = split(table, report, tmp_path / "q")
        names = [f.fingerprint for f in report.findings if f.check == "source-allowlist"]
        made = release(run.manifest.parent, tmp_path / "r", findings=names, **self.by)
        assert (made.released_rows, made.kept_rows) == (table.num_rows - 30, 30)

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"rows": (99,)}, "not in this quarantine"),
            ({"findings": ("0" * 32,)}, "no row here has the finding"),
            ({}, "no row is chosen"),
            ({"everything": True, "owner": " "}, "needs an owner"),
            ({"everything": True, "reason": ""}, "needs a reason"),
        ],
    )
    def test_what_is_not_there_or_not_explained_is_refused(
        self, run: Quarantine, tmp_path: Path, given: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(InputError, match=said):
            release(run.manifest.parent, tmp_path / "r", **{**self.by, **given})
        assert not list((tmp_path / "r").glob("*"))

    def test_a_file_that_changed_in_quarantine_is_refused(
        self, table: pa.Table, run: Quarantine, tmp_path: Path
    ) -> None:
        pq.write_table(pq.read_table(run.clean).slice(1), run.clean)
        with pytest.raises(VerificationError, match="has changed since it was set apart"):
            release(run.manifest.parent, tmp_path / "r", everything=True, **self.by)


def test_quarantine_and_release_on_the_command_line_account_for_every_row(table: pa.Table, tmp_path: Path) -> None:
    data = as_parquet(table, tmp_path)
    write(scan(data, ONLY), tmp_path / "report")
    told = CliRunner().invoke(
        main, ["quarantine", str(data), "--report", str(tmp_path / "report"), "--out", str(tmp_path / "q")]
    )
    assert told.exit_code == 0, told.output
    (run,) = (tmp_path / "q").iterdir()
    by = ["--owner", "ann", "--reason", "watermark", "--out", str(tmp_path / "r")]
    told = CliRunner().invoke(main, ["release", str(run), *by, "--row", "100", "--row", "101"])
    assert told.exit_code == 0, told.output
    assert f"{table.num_rows - 28:,} rows, of which 2 were released" in told.stdout
    assert "28 rows stay in quarantine" in told.stdout
