"""Report <-> JSON, in one canonical shape."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import datetime
from typing import Any, TypedDict

from foretaste.results import (
    REPORT_FORMAT,
    CheckResult,
    DataInfo,
    Example,
    Fate,
    Finding,
    Outcome,
    Report,
    Severity,
    WaiverRecord,
)
from foretaste.typed import refuse_misfit, shaped

# flagged.parquet holds every row; the JSON names so many per finding, to stay readable.
MAX_JSON_ROWS = 1000


def to_dict(report: Report, max_rows: int | None = MAX_JSON_ROWS) -> dict[str, Any]:
    """The report as plain values.

    ``rows`` and ``ids`` are cut at ``max_rows``; ``row_count`` tells the whole number.
    """
    results = []
    for result in report.results:
        plain = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
        plain["findings"] = [_finding(f, max_rows) for f in result.findings]
        results.append(plain)
    tree = {
        "format": REPORT_FORMAT,
        "verdict": report.verdict,
        "headline": report.headline(),
        "version": report.version,
        "started": report.started,
        "seconds": report.seconds,
        "policy_digest": report.policy_digest,
        "data": dataclasses.asdict(report.data),
        "results": results,
        "power": report.power,
        "charts": report.charts,
        "waivers": [dataclasses.asdict(w) for w in report.waivers],
        "history": report.history,
    }
    safe: dict[str, Any] = json.loads(json.dumps(_finite(tree), default=list))
    return safe


def to_json(report: Report, max_rows: int | None = MAX_JSON_ROWS) -> str:
    """:func:`to_dict` as text; lone surrogates are escaped, so that it is valid UTF-8."""
    return json.dumps(to_dict(report, max_rows), indent=1, ensure_ascii=True) + "\n"


class _OverFile(TypedDict, total=False):
    edges: list[int]
    block: list[int]
    review: list[int]


class _Group(TypedDict):
    name: str
    rows: int
    block: int
    review: int


class _Charts(TypedDict, total=False):
    over_file: _OverFile
    by_source: list[_Group]
    by_label: list[_Group]


class _Power(TypedDict, total=False):
    note: str
    smallest_blocked: int | None


class _Twin(TypedDict):
    row: int
    id: str
    earlier: str
    batch: int
    similarity: float


class _Twins(TypedDict):
    rows: int
    listed: list[_Twin]


class _History(TypedDict):
    state: str
    note: str
    batches: int
    rows: int
    held_rows: int
    background_rows: int
    near_duplicates: _Twins
    advanced: bool


def from_dict(tree: dict[str, Any]) -> Report:
    """The report that :func:`to_dict` wrote; its findings hold the rows that were kept.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: if it is none.
    """
    results = tuple(_result(r) for r in tree["results"])
    data = shaped(DataInfo, {**tree["data"], "guessed_roles": tuple(tree["data"]["guessed_roles"]),
                             "notes": tuple(tree["data"].get("notes", ()))})  # fmt: skip
    waivers = tuple(
        shaped(WaiverRecord, {**w, "fate": Fate(w["fate"]), "approvers": tuple(w["approvers"])})
        for w in tree["waivers"]
    )
    fields = {name: tree[name] for name in ("policy_digest", "started", "seconds", "power", "charts", "version")}
    report: Report = shaped(
        Report, {**fields, "data": data, "results": results, "waivers": waivers, "history": tree.get("history", {})}
    )
    for name, value, kind in (
        ("power", report.power, _Power), ("charts", report.charts, _Charts),
        *([("history", report.history, _History)] if report.history else []),
    ):  # fmt: skip
        refuse_misfit(value, kind, name)
    over = report.charts.get("over_file", {})
    if any(len(over.get("edges", ())) != len(over[s]) + 1 for s in ("block", "review") if over.get(s)):
        raise ValueError("charts.over_file has bins without edges")
    if odd := set(report.data.guessed_roles) - report.data.roles.keys():
        raise ValueError(f"the role {min(odd)} was guessed, and no column has it")
    if not (report.policy_digest + report.data.digest).isascii():
        raise ValueError("a digest is no text in ASCII")
    datetime.fromisoformat(report.started)
    return report


def _result(tree: dict[str, Any]) -> CheckResult:
    findings = tuple(
        shaped(
            Finding,
            {
                **{k: v for k, v in f.items() if k != "row_count"},
                "severity": Severity(f["severity"]),
                "rows": tuple(f["rows"]),
                "ids": tuple(f["ids"]),
                "earlier": tuple(f.get("earlier", ())),
                "examples": tuple(shaped(Example, e) for e in f["examples"]),
            },
        )
        for f in tree["findings"]
    )
    if odd := next((f.check for f in findings if f.check != tree["check"]), None):
        raise ValueError(f"the check {tree['check']!r:.60} has a finding of {odd!r:.60}")
    result: CheckResult = shaped(CheckResult, {**tree, "outcome": Outcome(tree["outcome"]), "findings": findings})
    return result


def _finding(finding: Finding, max_rows: int | None) -> dict[str, Any]:
    plain = {f.name: getattr(finding, f.name) for f in dataclasses.fields(finding)}
    plain["examples"] = [dataclasses.asdict(e) for e in finding.examples]
    plain["rows"] = finding.rows[:max_rows]
    plain["ids"] = finding.ids[:max_rows]
    plain["earlier"] = finding.earlier[:max_rows]
    return plain | {"row_count": len(finding.rows)}


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else math.copysign(1e308, value)
    return value
