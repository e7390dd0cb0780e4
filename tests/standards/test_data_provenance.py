"""The Data Provenance Standards record is complete, or names what is missing; nothing is made up."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from click.testing import CliRunner

from foretaste import InputError, Policy, Report, scan
from foretaste.cli import main
from foretaste.report import write
from foretaste.standards.data_provenance import SCHEMA, export, validate

jsonschema = pytest.importorskip("jsonschema")
SAID: dict[str, Any] = {
    "source": {"issuer": [{"name": "Vendor Ltd"}], "description": "Reviews."},
    "provenance": {
        "origin-geography": [{"country": "DE"}],
        "date": "2026-01-31",
        "generation-method": [{"code": "crowdsourced"}],
    },
    "use": {"intended-purpose": [{"code": "training", "description": "sentiment"}]},
}


@pytest.fixture(scope="module")
def report(clean_table: pa.Table) -> Report:
    return scan(clean_table, Policy().only("hidden-text"))


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_what_people_say_and_what_the_report_knows_conform(report: Report) -> None:
    document = export(report, SAID)
    assert validate(document) == []
    assert document["source"]["id"] == report.data.digest
    assert document["source"]["version"] == "1.0.0"
    assert document["provenance"]["origin-geography"] == [{"country": "DE"}]


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ("source", "issuer"), ("source", "description"), ("provenance", "origin-geography"), ("provenance", "date"),
        ("provenance", "generation-method"), ("use", "intended-purpose"),
    ],
)  # fmt: skip
def test_a_required_field_that_nobody_gave_is_named_and_not_made_up(report: Report, section: str, field: str) -> None:
    said = copy.deepcopy(SAID)
    del said[section][field]
    with pytest.raises(InputError, match=field):
        export(report, said)


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        ("source", {"isuer": []}),
        ("source", {"issuer": []}),
        ("provenance", {"origin-geography": ["DE"]}),
        ("use", {"classification": [{"regulation": {"code": "GDPR"}, "evaluated": "yes"}]}),
        ("provenance", {"sub-provenance": {"date": "2026"}}),
    ],
)
def test_what_the_standard_does_not_know_is_refused(report: Report, section: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="ask for more"):
        export(report, SAID | {section: SAID[section] | fields})


def test_the_command_line_writes_it(report: Report, tmp_path: Path) -> None:
    write(report, tmp_path / "out")
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(SAID))
    out = tmp_path / "dps.json"
    given = [
        "export",
        "data-provenance",
        str(tmp_path / "out"),
        "--metadata",
        str(tmp_path / "m.yaml"),
        "--out",
        str(out),
    ]
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 0, done.output
    assert validate(json.loads(out.read_text())) == []
