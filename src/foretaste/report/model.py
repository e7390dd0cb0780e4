"""Report <-> JSON, in one canonical shape."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

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


def from_dict(tree: dict[str, Any]) -> Report:
    """The report that :func:`to_dict` wrote; its findings hold the rows that were kept."""
    results = []
    for r in tree["results"]:
        findings = tuple(
            Finding(
                **{
                    **{k: v for k, v in f.items() if k != "row_count"},
                    "severity": Severity(f["severity"]),
                    "rows": tuple(f["rows"]),
                    "ids": tuple(f["ids"]),
                    "earlier": tuple(f.get("earlier", ())),
                    "examples": tuple(Example(**e) for e in f["examples"]),
                }
            )
            for f in r["findings"]
        )
        results.append(CheckResult(**{**r, "outcome": Outcome(r["outcome"]), "findings": findings}))
    data = DataInfo(**{**tree["data"], "guessed_roles": tuple(tree["data"]["guessed_roles"]),
                       "notes": tuple(tree["data"].get("notes", ()))})  # fmt: skip
    return Report(
        data=data, results=tuple(results), policy_digest=tree["policy_digest"], started=tree["started"],
        seconds=tree["seconds"], power=tree["power"], charts=tree["charts"], history=tree.get("history", {}),
        version=tree["version"],
        waivers=tuple(
            WaiverRecord(**{**w, "fate": Fate(w["fate"]), "approvers": tuple(w["approvers"])}) for w in tree["waivers"]
        ),
    )  # fmt: skip


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
