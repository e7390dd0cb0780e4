"""What a scan is evidence for, and what it is not, in the lists of MITRE ATLAS, OWASP, NIST and the EU AI Act.

Nothing here says that anything complies. A line is only as good as the checks behind it in this very report: one that
was skipped or failed is no evidence, and detection whose power was not measured is partial at best.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from foretaste.results import CheckResult, Outcome, Report

TRIGGERS = ("trigger-association", "inserted-phrase", "response-burst", "syntactic-trigger", "gibberish-payload")
LABELS = ("label-flip", "embedding-label-consistency")
PASSAGES = ("near-duplicates", "paraphrase-clusters", "planted-passages", "question-islands", "hidden-text")
SOURCES = ("source-allowlist",)
DRIFT = ("baseline-drift",)


class Coverage(StrEnum):
    """How much of what a line needs from data was looked at."""

    EVIDENCE = "evidence"
    PARTIAL = "partial evidence"
    NONE = "not covered"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One entry of a list.

    Attributes:
        framework: name and edition of the list.
        id: of the entry.
        title: of the entry.
        checks: ids of the checks whose results are evidence for it.
        power: whether the evidence is detection, which counts by its measured power.
        outside: what the entry asks for that no scan of data can show.
    """

    framework: str
    id: str
    title: str
    checks: tuple[str, ...]
    power: bool = False
    outside: str


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What this report says about a line.

    Attributes:
        line: the entry.
        coverage: how much was looked at.
        looked: checks that ran, each with its outcome.
        missing: checks that did not run, each with the reason, and the power where it is lacking.
    """

    line: Line
    coverage: Coverage
    looked: tuple[str, ...]
    missing: tuple[str, ...]


_ATLAS, _OWASP, _NIST, _EU = (
    "MITRE ATLAS", "OWASP Top 10 for LLM Applications 2025", "NIST AI RMF 1.0", "EU AI Act (2024/1689)",
)  # fmt: skip
_MODEL = "tests of the trained model; poison in weights, tools and prompts"
LINES = (
    Line(
        framework=_ATLAS, id="AML.T0020", title="Poison Training Data", checks=TRIGGERS + LABELS + PASSAGES, power=True,
        outside="poison that keeps every statistic, such as facts changed one by one",
    ),
    Line(
        framework=_ATLAS, id="AML.T0019", title="Publish Poisoned Datasets", checks=SOURCES + PASSAGES,
        outside="who controls a source that the list allows",
    ),
    Line(
        framework=_ATLAS, id="AML.T0059", title="Erode Dataset Integrity", checks=LABELS + DRIFT,
        outside="whether the bytes are still those that were scanned; verify a certificate for that",
    ),
    Line(
        framework=_ATLAS, id="AML.T0018.000", title="Manipulate AI Model: Poison AI Model", checks=TRIGGERS, power=True,
        outside="backdoors that come with pretrained weights",
    ),
    Line(
        framework=_ATLAS, id="AML.T0010.002", title="AI Supply Chain Compromise: Data", checks=SOURCES,
        outside="how the suppliers make and keep their data",
    ),
    Line(
        framework=_ATLAS, id="AML.M0007", title="Sanitize Training Data", checks=TRIGGERS + LABELS + PASSAGES, power=True,
        outside="whether flagged rows were taken out before training; the quarantine's manifest says that",
    ),
    Line(
        framework=_ATLAS, id="AML.M0014", title="Verify AI Artifacts", checks=(),
        outside="a report is not signed: certify the data, and verify the certificate right before training",
    ),
    Line(
        framework=_ATLAS, id="AML.M0025", title="Maintain AI Dataset Provenance", checks=SOURCES + DRIFT,
        outside="the steps by which the data were made; record them as a chain of custody",
    ),
    Line(
        framework=_OWASP, id="LLM04:2025", title="Data and Model Poisoning",
        checks=TRIGGERS + LABELS + PASSAGES + SOURCES, power=True, outside=_MODEL,
    ),
    Line(
        framework=_NIST, id="MEASURE 2.7", title="AI system security and resilience are evaluated and documented",
        checks=TRIGGERS + LABELS + PASSAGES + SOURCES, power=True, outside=_MODEL,
    ),
    Line(
        framework=_EU, id="Article 10(2)", title="Data governance of training, validation and testing data",
        checks=SOURCES + LABELS + DRIFT,
        outside="design choices, preparation, assumptions, suitability, bias, and gaps in the data",
    ),
    Line(
        framework=_EU, id="Article 15(5)", title="Measures against data poisoning",
        checks=TRIGGERS + LABELS + PASSAGES + SOURCES, power=True,
        outside="model poisoning, adversarial examples and confidentiality attacks; the response to an incident",
    ),
)  # fmt: skip


def assess(report: Report) -> tuple[Assessment, ...]:
    """Every line of :data:`LINES` against a report. A check that is not in the report counts as missing."""
    results = {r.check: r for r in report.results}
    return tuple(_assess(line, report, results) for line in LINES)


def _assess(line: Line, report: Report, results: dict[str, CheckResult]) -> Assessment:
    looked, missing = [], []
    for check in line.checks:
        result = results.get(check)
        if result is None:
            missing.append(f"{check}: switched off")
        elif result.outcome in (Outcome.SKIPPED, Outcome.ERROR):
            missing.append(f"{check}: {result.outcome.value}, {result.note}")
        else:
            looked.append(_said(result))
    if line.power and looked and not report.power.get("smallest_blocked"):
        note = report.power.get("note") or "no planted trigger would have blocked"
        missing.append(f"power: {note}")
    coverage = Coverage.NONE if not looked else Coverage.PARTIAL if missing else Coverage.EVIDENCE
    return Assessment(line=line, coverage=coverage, looked=tuple(looked), missing=tuple(missing))


def _said(result: CheckResult) -> str:
    waived = sum(f.waived for f in result.findings)
    said = f"{result.check}: {result.outcome.value}"
    if len(result.findings) > waived:
        said += f", {len(result.findings) - waived} open findings"
    return said + (f", {waived} waived" if waived else "")
