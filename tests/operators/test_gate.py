"""The gate that the orchestrators share."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from foretaste import CheckResult, InputError, Outcome, Policy, PolicyError, Report, scan
from foretaste.engine import Progress
from foretaste.history import History
from foretaste.operators import _gate

ONLY = Policy().only("hidden-text")


@pytest.fixture(scope="module")
def poisoned_file(tmp_path_factory: pytest.TempPathFactory, poisoned_table: pa.Table) -> Path:
    path = tmp_path_factory.mktemp("gate") / "poisoned.parquet"
    pq.write_table(poisoned_table, path)
    return path


@pytest.fixture(scope="module")
def poisoned_report(poisoned_file: Path) -> Report:
    return scan(poisoned_file, ONLY)


def _with_outcome(report: Report, outcome: Outcome) -> Report:
    return dataclasses.replace(
        report, results=(*report.results, CheckResult(check="broken", outcome=outcome, note="KeyError: 'x'"))
    )


@pytest.mark.parametrize("on_block", ["fail", "quarantine", "warn"])
def test_an_error_fails_whatever_the_gate_should_do_about_poison(
    poisoned_report: Report, on_block: _gate.OnBlock
) -> None:
    broken = _with_outcome(poisoned_report, Outcome.ERROR)
    assert _gate.decide(broken, on_block=on_block).action == "fail"
    nothing_ran = dataclasses.replace(poisoned_report, results=())
    assert _gate.decide(nothing_ran, on_block=on_block).action == "fail"


@pytest.mark.parametrize("on_block", ["fail", "quarantine", "warn"])
def test_review_is_acted_on_only_where_it_is_asked_for(poisoned_report: Report, on_block: _gate.OnBlock) -> None:
    review = dataclasses.replace(poisoned_report, results=(CheckResult(check="x", outcome=Outcome.REVIEW),))
    assert _gate.decide(review, on_block=on_block).action == "pass"
    assert _gate.decide(review, on_block=on_block, fail_on="review").action == on_block


def test_an_unknown_choice_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='did you mean "quarantine"'):
        _gate.run_gate("/nowhere", out=tmp_path, on_block="quarantin")  # type: ignore[arg-type]


def test_a_failed_scan_leaves_no_earlier_pass_behind(tmp_path: Path, clean_table: pa.Table) -> None:
    _gate.run_gate(clean_table, ONLY, out=tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["verdict"] == "pass"
    with pytest.raises(InputError, match="no data"):
        _gate.run_gate(tmp_path / "absent.parquet", ONLY, out=tmp_path)
    assert not (tmp_path / "report.json").exists()


def test_a_failed_gate_names_no_path_to_read(tmp_path: Path, poisoned_file: Path) -> None:
    result = _gate.run_gate(poisoned_file, ONLY, out=tmp_path)
    assert (result.decision.action, result.path, result.digest) == ("fail", None, None)
    assert not result.summary()["proceed"]


def test_a_frame_is_scanned_from_the_file_that_training_reads(tmp_path: Path, clean_table: pa.Table) -> None:
    result = _gate.run_gate(clean_table, ONLY, out=tmp_path)
    assert result.path == str(tmp_path / "data.parquet")
    assert result.digest == _gate.digest_of(result.path) == result.report.data.digest
    assert pq.read_table(result.path).equals(clean_table)


def test_an_empty_frame_is_not_a_pass(tmp_path: Path, clean_table: pa.Table) -> None:
    with pytest.raises(InputError, match="no rows"):
        _gate.run_gate(clean_table.slice(0, 0), ONLY, out=tmp_path)


def test_a_quarantine_that_leaves_poison_fails(
    tmp_path: Path, poisoned_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import foretaste.quarantine

    split = foretaste.quarantine.split

    def leaky(data: Any, report: Report, out: Path, **options: Any) -> foretaste.quarantine.Quarantine:
        apart = split(data, report, out, **options)
        apart.clean.write_bytes(poisoned_file.read_bytes())
        return apart

    monkeypatch.setattr(foretaste.quarantine, "split", leaky)
    result = _gate.run_gate(poisoned_file, ONLY, out=tmp_path, on_block="quarantine")
    assert (result.decision.action, result.path) == ("fail", None)
    assert "not clean either" in result.decision.reason


@pytest.mark.parametrize("recheck", [True, False])
def test_the_digest_that_training_compares_is_that_of_the_rows_that_were_set_apart(
    tmp_path: Path, poisoned_file: Path, monkeypatch: pytest.MonkeyPatch, recheck: bool
) -> None:
    """Somebody exchanges the clean file after the last look at it."""
    import foretaste.quarantine
    import foretaste.report

    split, write = foretaste.quarantine.split, foretaste.report.write
    evil, apart = poisoned_file.read_bytes(), []

    def noted(*arguments: Any, **options: Any) -> foretaste.quarantine.Quarantine:
        apart.append(split(*arguments, **options))
        if not recheck:
            apart[0].clean.write_bytes(evil)
        return apart[0]

    def late(report: Report, out: Path) -> dict[str, Path]:
        if out.name == "recheck":
            apart[0].clean.write_bytes(evil)
        return write(report, out)

    monkeypatch.setattr(foretaste.quarantine, "split", noted)
    monkeypatch.setattr(foretaste.report, "write", late)
    result = _gate.run_gate(poisoned_file, ONLY, out=tmp_path, on_block="quarantine", recheck=recheck)
    assert apart[0].clean.read_bytes() == evil, "the attack took place"
    assert result.digest is not None
    assert result.digest != _gate.digest_of(str(result.path))


def test_a_quarantine_of_other_rows_that_pass_fails(
    tmp_path: Path, poisoned_file: Path, clean_table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    import foretaste.quarantine

    split = foretaste.quarantine.split

    def leaky(*arguments: Any, **options: Any) -> foretaste.quarantine.Quarantine:
        apart = split(*arguments, **options)
        pq.write_table(clean_table.slice(0, 50), apart.clean)
        return apart

    monkeypatch.setattr(foretaste.quarantine, "split", leaky)
    result = _gate.run_gate(poisoned_file, ONLY, out=tmp_path, on_block="quarantine")
    assert (result.decision.action, result.path) == ("fail", None)
    assert "changed before it was scanned" in result.decision.reason


def test_a_quarantine_of_all_rows_fails(tmp_path: Path, poisoned_table: pa.Table) -> None:
    result = _gate.run_gate(poisoned_table.slice(100, 30), ONLY, out=tmp_path, on_block="quarantine")
    assert result.decision.action == "fail"
    assert "no row is left" in result.decision.reason


def test_a_finding_without_rows_cannot_be_set_apart(
    tmp_path: Path, poisoned_file: Path, poisoned_report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    import foretaste.engine

    (result,) = (r for r in poisoned_report.results if r.findings)
    rowless = dataclasses.replace(result.findings[0], rows=(), ids=(), fingerprint="")
    report = dataclasses.replace(poisoned_report, results=(dataclasses.replace(result, findings=(rowless,)),))
    monkeypatch.setattr(foretaste.engine, "scan", lambda *a, **k: report)
    gated = _gate.run_gate(poisoned_file, ONLY, out=tmp_path, on_block="quarantine")
    assert (gated.decision.action, gated.path) == ("fail", None)


def test_the_summary_is_json_of_bounded_size_and_without_invisible_characters(
    tmp_path: Path, poisoned_table: pa.Table
) -> None:
    nasty = poisoned_table.set_column(
        0, "id", pa.array([f"r{i}\n\u202e<b>{'x' * 500}" for i in range(poisoned_table.num_rows)])
    )
    summary = _gate.run_gate(nasty, ONLY, out=tmp_path).summary()
    assert [note.partition(":")[0] for note in summary["notes"]] == ["power"]
    text = json.dumps(summary, ensure_ascii=False)
    assert len(text) < 20_000
    assert text.isprintable()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InputError("null text"), False),
        (PolicyError("unknown key"), False),
        (ConnectionError("refused"), True),
        (RuntimeError("anything that is not ours"), True),
    ],
)
def test_only_what_the_data_or_the_policy_say_is_final(error: Exception, expected: bool) -> None:
    assert _gate.worth_retrying(error) is expected


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (ConnectionResetError(104, "reset by peer"), True),
        (TimeoutError(), True),
        (PermissionError(13, "denied"), True),
        (
            OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 28, zlib.parquet"),
            True,
        ),
        (FileNotFoundError(2, "no such file"), False),
        (IsADirectoryError(21, "is a directory"), False),
        (OSError("Couldn't deserialize thrift: TProtocolException: Invalid data"), False),
        (pa.ArrowInvalid("Parquet magic bytes not found in footer"), False),
    ],
)
def test_an_input_error_is_worth_another_try_only_if_a_storage_caused_it(cause: Exception, expected: bool) -> None:
    error = InputError("cannot read the data")
    error.__cause__ = cause
    assert _gate.worth_retrying(error) is expected


@pytest.mark.parametrize("kind", ["parquet", "csv.gz"])
def test_a_truncated_file_is_not_worth_another_try(tmp_path: Path, clean_table: pa.Table, kind: str) -> None:
    path = tmp_path / f"cut.{kind}"
    if kind == "parquet":
        pq.write_table(clean_table, path)
        whole = path.read_bytes()
        # The footer is whole, so the file opens; a page in the middle is not.
        path.write_bytes(whole[:2000] + b"\0" * 4000 + whole[6000:])
    else:
        rows = "\n".join(f"r{i},some text number {i}" for i in range(5000))
        path.write_bytes(gzip.compress(f"id,text\n{rows}\n".encode())[:-2000])
    with pytest.raises(InputError) as caught:
        _gate.run_gate(path, ONLY, out=tmp_path / "out")
    assert not _gate.worth_retrying(caught.value)


def test_a_rendered_policy_gets_the_types_of_its_fields() -> None:
    rendered = {
        "version": "1",
        "seed": "7",
        "input": {"nulls": "empty", "max_cell_bytes": "100"},
        "checks": {"hidden-text": {"enabled": "True", "block_rows": "4"}},
    }
    policy = Policy.load(_gate.untemplated(rendered))
    (check,) = policy.only("hidden-text").checks
    assert check.parameters["block_rows"] == 4
    assert (policy.seed, policy.input.nulls, policy.input.max_cell_bytes) == (7, "empty", 100)


def test_a_rendered_policy_keeps_its_mistakes_for_the_policy_to_name() -> None:
    with pytest.raises(PolicyError, match="blok_rows"):
        Policy.load(_gate.untemplated({"checks": {"hidden-text": {"blok_rows": "4"}}}))
    with pytest.raises(PolicyError, match="hiden-text"):
        Policy.load(_gate.untemplated({"checks": {"hiden-text": {"block_rows": "4"}}}))


def test_progress_writes_one_line_every_few_seconds() -> None:
    now = [0.0]
    lines: list[str] = []
    log = _gate.ProgressLog(lines.append, every=5, clock=lambda: now[0])
    for step in range(1, 13):
        now[0] = float(step)
        log(Progress(1, "hidden-text", step * 1000, 20_000))
    assert lines == [
        "round 1 (hidden-text): 5,000 rows of 20,000, 25%, 1,000 rows/s, 15 s left in this round",
        "round 1 (hidden-text): 10,000 rows of 20,000, 50%, 1,000 rows/s, 10 s left in this round",
    ]


def test_evidence_is_one_line_each_and_names_failed_checks(poisoned_report: Report) -> None:
    lines = list(_gate.evidence(_with_outcome(poisoned_report, Outcome.ERROR)))
    assert all(line.isprintable() for line in lines)
    assert lines[0].startswith("ERROR")
    assert lines[-1] == "ERROR broken: KeyError: 'x'"


def test_a_state_takes_in_what_the_gate_lets_through_and_nothing_else(
    tmp_path: Path, poisoned_file: Path, clean_table: pa.Table
) -> None:
    state, out = tmp_path / "state", tmp_path / "out"
    refused = _gate.run_gate(poisoned_file, ONLY, out=out, state=state)
    assert refused.decision.action == "fail"
    assert not state.exists()
    apart = _gate.run_gate(poisoned_file, ONLY, out=out, state=state, on_block="quarantine")
    assert apart.decision.proceed
    assert History.open(state).rows == clean_table.num_rows - 30
    assert "batch 1" in apart.summary()["state"]
    warned = _gate.run_gate(poisoned_file, ONLY, out=out, state=state, on_block="warn")
    assert warned.decision.proceed
    assert len(History.open(state).batches) == 1


def test_what_a_gate_that_fails_on_review_refuses_does_not_enter_the_state(tmp_path: Path) -> None:
    table = pa.table({"text": ["plain", "runs of nothing" + "\u200b" * 9]})
    refused = _gate.run_gate(table, ONLY, out=tmp_path / "out", state=tmp_path / "state", fail_on="review")
    assert refused.report.verdict is Outcome.REVIEW
    assert not (tmp_path / "state").exists()
    assert _gate.run_gate(table, ONLY, out=tmp_path / "out", state=tmp_path / "state").decision.proceed
    assert (tmp_path / "state").exists()


def test_what_passed_gets_a_certificate_and_what_did_not_gets_none(
    tmp_path: Path, clean_table: pa.Table, poisoned_file: Path
) -> None:
    pytest.importorskip("securesystemslib")
    from foretaste import verify
    from foretaste.provenance import signers
    from foretaste.provenance.keys import Role, TrustRoot, trusted
    from foretaste.quarantine import release

    key = trusted(signers.generate(tmp_path / "gate.pem"), "gate")
    trust = TrustRoot(keys={"gate": key}, roles=dict.fromkeys(("certificate", "quarantine"), Role(keys=("gate",))))
    signed = {"out": tmp_path / "out", "certify_with": str(tmp_path / "gate.pem")}
    pq.write_table(clean_table, tmp_path / "clean.parquet")
    for data, on_block in ((tmp_path / "clean.parquet", "fail"), (poisoned_file, "quarantine")):
        result = _gate.run_gate(data, ONLY, on_block=on_block, **signed)  # type: ignore[arg-type]
        found = verify(str(result.path), result.files[_gate.CERTIFICATE], trust, policy=ONLY)
        assert found.digest == result.digest
    assert result.quarantine is not None
    by = {"owner": "ann", "reason": "a watermark"}
    released = release(
        result.quarantine.manifest.parent, tmp_path / "r", everything=True, trust=trust, **by
    )  # signed too
    assert released.signers == ("gate",)
    for on_block in ("fail", "warn"):
        result = _gate.run_gate(poisoned_file, ONLY, on_block=on_block, **signed)  # type: ignore[arg-type]
        assert _gate.CERTIFICATE not in result.files
        assert not (tmp_path / "out" / _gate.CERTIFICATE).exists()
    with pytest.raises(InputError, match="cannot read the key"):
        _gate.run_gate("/nowhere", ONLY, out=tmp_path / "out", certify_with=str(tmp_path / "none.pem"))
