from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import xmlschema

from foretaste.report.junit import render_junit
from foretaste.results import CheckResult, Outcome, Report, Severity

from .conftest import CAVEATS, blocked, finding, make_report


def _suite(report: Report) -> ET.Element:
    suite = ET.fromstring(render_junit(report)).find("testsuite")
    assert suite is not None
    return suite


def test_each_check_is_a_case_by_its_outcome() -> None:
    report = make_report(
        blocked(finding()),
        CheckResult.from_findings("label-flip", [finding(check="label-flip", severity=Severity.REVIEW)]),
        CheckResult(check="hidden-text", outcome=Outcome.ERROR, note="broke"),
        CheckResult(check="planted-affix", outcome=Outcome.SKIPPED, note="no prompts"),
    )
    suite = _suite(report)
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    made = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert made == {
        "trigger-association": ["failure"], "label-flip": ["system-out"], "hidden-text": ["error"],
        "planted-affix": ["skipped"],
    }  # fmt: skip
    failure = next(suite.iter("failure"))
    assert failure.get("message") == "48 rows to block in 1 finding"
    assert "48 ≥ 15" in str(failure.text)


@pytest.mark.parametrize("name", ["blocked_report", "clean_report", "hostile_report", "full_report"])
def test_it_fits_the_schema_of_jenkins(name: str, request: pytest.FixtureRequest) -> None:
    # Of Jenkins' xUnit plugin, in the version against which pytest tests its own files.
    schema = xmlschema.XMLSchema(Path(__file__).parents[1] / "data" / "junit-10.xsd")
    text = render_junit(request.getfixturevalue(name))
    assert [f"{e.path}: {e.reason}" for e in schema.iter_errors(text)] == []
    assert not schema.is_valid(text.replace("<testcase", "<case").replace("</testcase", "</case"))


def test_what_was_not_looked_at_stands_in_the_output(full_report: Report) -> None:
    text = render_junit(full_report)
    assert [said for said in CAVEATS if said not in text] == []
    (other,) = (case for case in _suite(full_report).iter("testcase") if case.get("name") == "other")
    assert other.findtext("system-out") == "limit: looked from 4 rows on"


@pytest.mark.parametrize("results", [(), (CheckResult(check="x", outcome=Outcome.SKIPPED, note="n"),)])
def test_a_scan_that_checked_nothing_never_looks_green(results: tuple[CheckResult, ...]) -> None:
    assert int(_suite(make_report(*results)).get("errors", "0")) == 1


def test_hostile_text_makes_no_element_and_no_control_character(hostile_report: Report) -> None:
    text = render_junit(hostile_report)
    assert "<script" not in text
    assert "\x1b" not in text
    assert {e.tag for e in _suite(hostile_report).iter()} <= {
        "testsuite", "properties", "property", "testcase", "failure", "error", "skipped", "system-out",
    }  # fmt: skip
