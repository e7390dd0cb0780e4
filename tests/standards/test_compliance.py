"""No line claims more than the checks behind it in this very report."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest

from foretaste import CheckResult, Outcome, Policy, Report, checks, scan
from foretaste.report.html import render_html
from foretaste.standards.compliance import LINES, Coverage, assess


@pytest.fixture(scope="module")
def report(clean_table: pa.Table) -> Report:
    """Every check passed and a trigger of 25 rows would have blocked, which no real report says so simply."""
    every = tuple(CheckResult(check=i, outcome=Outcome.PASS) for i in sorted(checks.registry()))
    made = scan(clean_table, Policy().only("hidden-text"))
    return dataclasses.replace(made, results=every, power={"smallest_blocked": 25})


def coverage(report: Report) -> dict[str, Coverage]:
    return {a.line.id: a.coverage for a in assess(report)}


def test_every_check_of_a_line_exists() -> None:
    assert {c for line in LINES for c in line.checks} <= set(checks.registry())


def test_only_a_full_scan_with_power_is_evidence(report: Report) -> None:
    full = coverage(report)
    assert full.pop("AML.M0014") is Coverage.NONE, "a report is not signed"
    assert set(full.values()) == {Coverage.EVIDENCE}


@pytest.mark.parametrize("outcome", [Outcome.SKIPPED, Outcome.ERROR, None])
@pytest.mark.parametrize("check", sorted({c for line in LINES for c in line.checks}))
def test_a_check_that_did_not_run_is_no_evidence(report: Report, check: str, outcome: Outcome | None) -> None:
    gone = [r for r in report.results if r.check != check]
    if outcome is not None:
        gone.append(CheckResult(check=check, outcome=outcome, note="why"))
    for a in assess(dataclasses.replace(report, results=tuple(gone))):
        if check in a.line.checks:
            assert a.coverage is not Coverage.EVIDENCE
            assert any(m.startswith(f"{check}: ") for m in a.missing)


def test_detection_without_measured_power_is_partial(report: Report) -> None:
    for power in ({}, {"smallest_blocked": None}, {"note": "not measured"}):
        for a in assess(dataclasses.replace(report, power=power)):
            assert (a.coverage is Coverage.PARTIAL) == a.line.power or not a.line.checks


def test_a_scan_in_which_nothing_ran_covers_nothing(report: Report) -> None:
    none = tuple(CheckResult(check=r.check, outcome=Outcome.ERROR) for r in report.results)
    assert set(coverage(dataclasses.replace(report, results=none)).values()) == {Coverage.NONE}


def test_the_page_says_it_and_never_the_word_compliant(report: Report) -> None:
    page = render_html(report)
    for text in ("AML.T0020", "LLM04:2025", "MEASURE 2.7", "Article 15(5)"):
        assert text in page
    assert "compliant" not in page.lower()
