"""OpenLineage events, as a collector on loopback receives them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

pytest.importorskip("openlineage.client")
pytest.importorskip("securesystemslib")

from foretaste.cli import main
from foretaste.errors import InputError
from foretaste.provenance import chain, signers
from foretaste.report import openlineage, write
from foretaste.results import CheckResult, DataInfo, Finding, Outcome, Report, Severity

from ..provenance.collector import serving

ROOT = Path(__file__).parents[2]
FOUND = Finding(
    check="hidden-text", kind="tag characters", severity=Severity.BLOCK, message="m", feature="SECRET", rows=(1, 2),
    ids=("SECRET-1", "SECRET-2"), observed=2.0, limit=1.0,
)  # fmt: skip


def report(*results: CheckResult) -> Report:
    data = DataInfo(
        name="s3://bucket/a/train.parquet", kind="documents", rows=9, bytes=99, digest=f"sha256:{'0' * 64}", roles={}
    )
    return Report(
        data=data, results=results, policy_digest=f"sha256:{'1' * 64}", started="2026-11-25T10:00:00+00:00", seconds=1.0
    )


def sent(*arguments: str) -> list[Any]:
    with serving() as server:
        result = CliRunner().invoke(main, ["emit", *arguments, "--url", server.url])
        assert result.exit_code == 0, result.output
    assert {path for path, _ in server.received} == {"/api/v1/lineage"}
    return [event for _, event in server.received]


def test_a_collector_gets_the_data_quality_facet_and_no_text_of_the_data(tmp_path: Path) -> None:
    results = (
        CheckResult.from_findings("hidden-text", [FOUND]),
        CheckResult.from_findings("label-flip", []),
        CheckResult(check="response-burst", outcome=Outcome.SKIPPED),
        CheckResult(check="near-duplicates", outcome=Outcome.ERROR, note="SECRET"),
    )
    path = write(report(*results), tmp_path)["report.json"]
    [event] = sent(str(path))
    assert event["eventType"] == "FAIL"
    assert event["schemaURL"].startswith("https://openlineage.io/spec/")
    [data] = event["inputs"]
    assert (data["namespace"], data["name"]) == ("s3://bucket", "a/train.parquet")
    assert data["facets"]["version"]["datasetVersion"] == f"sha256:{'0' * 64}"
    assert data["inputFacets"]["dataQualityMetrics"]["rowCount"] == 9
    facet = data["inputFacets"]["dataQualityAssertions"]
    assert "DataQualityAssertionsDatasetFacet" in facet["_schemaURL"]
    told = {
        a["name"]: (a["success"], a.get("severity"), a.get("expected"), a.get("actual")) for a in facet["assertions"]
    }
    assert told == {
        f"hidden-text: {FOUND.fingerprint}": (False, "error", "below 1", "2"),
        "label-flip": (True, None, None, "0"),
        "near-duplicates": (False, "error", None, None),
    }
    assert "SECRET" not in json.dumps(event)


def test_what_was_not_looked_at_goes_with_it_as_a_facet_that_fits_its_schema() -> None:
    results = (
        CheckResult(check="label-flip", outcome=Outcome.PASS, note="words of rare classes were not judged"),
        CheckResult(check="response-burst", outcome=Outcome.SKIPPED, note="no responses"),
        CheckResult(check="near-duplicates", outcome=Outcome.ERROR, note="SECRET"),
    )
    made = report(*results)
    made = dataclasses.replace(
        made, data=dataclasses.replace(made.data, notes=("the column tools was not read",)), power={"note": "no rows"}
    )
    event = json.loads(openlineage.to_json_lines(openlineage.report_events(made)))
    [facet] = [data["inputFacets"]["foretaste_notes"] for data in event["inputs"]]
    assert [(note["kind"], note.get("check"), note["text"]) for note in facet["notes"]] == [
        ("error", "near-duplicates", "the check could not run"),
        ("limit", "label-flip", "words of rare classes were not judged"),
        ("skipped", "response-burst", "no responses"),
        ("note", None, "the column tools was not read"),
        ("power", None, "no rows"),
    ]
    schema = json.loads((ROOT / "docs/schema/openlineage-notes-facet.json").read_text(encoding="utf-8"))
    assert facet["_schemaURL"] == f"{schema['$id']}#/$defs/ForetasteNotesInputDatasetFacet"
    base, own = schema["$defs"]["ForetasteNotesInputDatasetFacet"]["allOf"]
    assert base["$ref"].startswith("https://openlineage.io/spec/")
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(own)
    jsonschema.validate(facet, own)


def test_the_same_report_is_always_the_same_run(tmp_path: Path) -> None:
    made = report(CheckResult.from_findings("label-flip", []))
    one, two = (openlineage.report_events(made)[0] for _ in range(2))
    assert one.run.runId == two.run.runId
    assert one.eventType.value == "COMPLETE"


def test_a_chain_goes_out_link_by_link(tmp_path: Path) -> None:
    signers.generate(tmp_path / "k.pem")
    signer = signers.open_signer(str(tmp_path / "k.pem"))
    for name in ("raw", "kept"):
        pq.write_table(pa.table({"text": [name]}), tmp_path / f"{name}.parquet")
    file = tmp_path / "chain.jsonl"
    chain.record(file, "origin", signer, outputs=[tmp_path / "raw.parquet"], sources=["s3://vendor/raw.parquet"])
    chain.record(file, "filter", signer, inputs=[tmp_path / "raw.parquet"], outputs=[tmp_path / "kept.parquet"])
    origin, filtered = sent(str(file))
    assert [d["namespace"] for d in origin["inputs"]] == ["s3://vendor"]
    assert origin["outputs"][0]["facets"]["version"] == filtered["inputs"][0]["facets"]["version"]
    assert filtered["job"]["name"] == "filter"


def test_a_collector_that_refuses_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = openlineage.report_events(report(CheckResult.from_findings("label-flip", [])))
    with serving() as server:
        server.status = 400
        with pytest.raises(InputError, match="did not take event 1"):
            openlineage.emit(events, server.url)
    for name in ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no collector is configured"):
        openlineage.emit(events)


@pytest.mark.parametrize("url", ["not a url", "collector.example.org", "file:///etc/passwd", ""])
def test_an_address_that_is_none_is_an_error_and_no_bug(url: str) -> None:
    with pytest.raises(InputError, match="no collector there"):
        openlineage.emit([], url)
