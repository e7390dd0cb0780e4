"""The Data Provenance Standards record is complete, or names what is missing; nothing is made up."""

from __future__ import annotations

import copy
import json
import os
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


FULL: dict[str, Any] = {
    "source": SAID["source"] | {"location": "https://vendor.example", "issuer": [{"name": "Vendor Ltd", "address": ["X"]}]},
    "provenance": SAID["provenance"] | {
        "source": "https://vendor.example/raw", "origin": [{"name": "Crowd Ltd"}], "previous-date": "2025-01-31",
        "generation-period": {"start": "2025-02-01", "end": "2026-01-01"}, "format": ["text"],
        "sub-provenance": SAID["provenance"],
    },
    "use": SAID["use"] | {
        "classification": [{"regulation": {"code": "GDPR"}, "evaluated": True, "tool": "by hand"}],
        "consents": ["https://vendor.example/consent"],
        "privacy-enhancing": [{"tool": "x", "tool-used": "x 1.0", "tool-category": {"code": "masking"}, "result": ["y"]}],
        "processing-included": [{"country": "DE", "state": "BE"}], "processing-excluded": [{"country": "XX"}],
        "storage-allowed": [{"country": "DE"}], "storage-forbidden": [{"country": "XX"}], "license": ["CC-BY-4.0"],
        "copyright": ["c"], "patent": ["p"], "trademark": ["t"],
    },
}  # fmt: skip


def test_every_field_of_the_standard_has_its_place(report: Report) -> None:
    assert validate(export(report, FULL)) == []
    assert {f for s in FULL.values() for f in s} | {"version", "title", "id"} == {
        f for section in SCHEMA["properties"].values() for f in section["properties"]
    }


def test_the_published_schema_accepts_what_is_exported(report: Report) -> None:
    """The file is in no registry, so whoever has it names it; what is mended in it is said here."""
    if "DPS_SCHEMA" not in os.environ:
        pytest.skip("DPS_SCHEMA names no data-provenance-standards-1.0.0.schema.json (github.com/oasis-tcs/dps)")
    published = json.loads(Path(os.environ["DPS_SCHEMA"]).read_text())
    properties = published["properties"]
    if isinstance(properties.get("required"), list):  # one brace too deep: a list is no schema of a property
        published["required"] = properties.pop("required")
    inner = properties["provenance"]["properties"]
    if inner["sub-provenance"] == {"$ref": "/provenance"}:  # an address on the web, not a place in the schema
        inner["sub-provenance"] = {"$ref": "#/properties/provenance"}
    validator = jsonschema.Draft202012Validator(published)
    validator.check_schema(published)
    for said in (SAID, FULL):
        document = export(report, said)
        assert list(validator.iter_errors(document)) == []
        for section, fields in document.items():
            for name in properties[section]["required"]:
                lacking = document | {section: {k: v for k, v in fields.items() if k != name}}
                assert list(validator.iter_errors(lacking))
                assert validate(lacking)
