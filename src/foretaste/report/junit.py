"""The report as JUnit XML, for test views: a test case per check.

There is no standard; elements and attributes are those of junit-10.xsd of Jenkins' xUnit plugin, which pytest follows too.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from foretaste.report.escape import visible
from foretaste.report.wording import against_limit, caveats, count, power_said
from foretaste.results import CheckResult, Finding, Outcome, Report, Severity

_MAX_IDS = 20


def render_junit(report: Report) -> str:
    """A check that blocks is a failure, one that failed an error, one that did not apply skipped.

    Findings for review pass, as they let training start; they stand in the output of their case, as does what a check
    says about its reach. What was not looked at stands in the output of the suite, the power too. A verdict without any
    check, or a waiver that does not hold, is a case of its own in the results, and so here.
    """
    cases = report.results or (CheckResult(check="foretaste", outcome=Outcome.ERROR, note="no check ran"),)
    outcomes = [r.outcome for r in cases]
    if report.verdict is Outcome.ERROR and Outcome.ERROR not in outcomes:
        cases = (*cases, CheckResult(check="foretaste", outcome=Outcome.ERROR, note="no check ran"))
        outcomes.append(Outcome.ERROR)
    suites = ET.Element("testsuites")
    suite = ET.SubElement(
        suites, "testsuite", name="foretaste", tests=str(len(cases)),
        failures=str(outcomes.count(Outcome.BLOCK)), errors=str(outcomes.count(Outcome.ERROR)),
        skipped=str(outcomes.count(Outcome.SKIPPED)), time=f"{report.seconds:.3f}", timestamp=visible(report.started),
    )  # fmt: skip
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("verdict", report.verdict.value), ("data", report.data.name), ("data.digest", report.data.digest),
        ("policy.digest", report.policy_digest), ("version", report.version), ("shape", report.data.shape),
        ("power", power_said(report)), ("packages", ", ".join(sorted(set(report.packages.values())))),
    ):  # fmt: skip
        ET.SubElement(properties, "property", name=name, value=visible(value))
    for result in cases:
        _case(suite, result)
    if said := [f"{c.word}: {visible(c.said)}" for c in caveats(report)]:
        ET.SubElement(suite, "system-out").text = "\n".join(said)
    ET.indent(suites, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _case(suite: ET.Element, result: CheckResult) -> None:
    case = ET.SubElement(
        suite, "testcase", classname="foretaste", name=visible(result.check),
        time=f"{result.seconds:.3f}",
    )  # fmt: skip
    note = visible(result.note)
    if result.outcome is Outcome.SKIPPED:
        ET.SubElement(case, "skipped", message=note)
    elif result.outcome is Outcome.ERROR:
        ET.SubElement(case, "error", type="error", message=note)
    elif result.outcome is Outcome.BLOCK:
        blocking = [f for f in result.findings if f.severity is Severity.BLOCK and not f.waived]
        rows = count(len({row for f in blocking for row in f.rows}), "row")
        message = f"{rows} to block in {count(len(blocking), 'finding')}" if blocking else note
        failure = ET.SubElement(case, "failure", type="block", message=message)
        failure.text = "\n".join(map(_said, blocking))
    others = [_said(f) for f in result.findings if f.waived or f.severity is Severity.REVIEW]
    if note and result.outcome in (Outcome.PASS, Outcome.REVIEW, Outcome.BLOCK):
        others.append(f"limit: {note}")
    if others:
        ET.SubElement(case, "system-out").text = "\n".join(others)


def _said(f: Finding) -> str:
    ids = ", ".join(visible(i, 80) for i in f.ids[:_MAX_IDS]) + (", …" if len(f.ids) > _MAX_IDS else "")
    state = f"{f.severity.value}, waived" if f.waived else f.severity.value
    return f"{state}: {visible(f.message)} ({against_limit(f)}; fingerprint {f.fingerprint}; ids {ids})"
