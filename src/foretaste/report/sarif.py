"""The report as SARIF 2.1.0 (OASIS), for code scanning: a rule per check, a result per finding.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from foretaste import checks
from foretaste.errors import ForetasteError
from foretaste.report.escape import visible
from foretaste.report.wording import Caveat, against_limit, caveats
from foretaste.results import Fate, Finding, Outcome, Report, Severity

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
HELP = "https://github.com/foretaste/foretaste/blob/main/docs/detection.md"
# Code scanning shows at most 1,000 places of a result; a person reads fewer.
MAX_PLACES = 100
_LINED = (".jsonl", ".ndjson")


def to_sarif(report: Report) -> dict[str, Any]:
    """The log as plain values.

    The place of a result is its first row, the next rows are related places. Only JSON lines of one uncompressed file
    have line numbers, that of a row being its number plus one; other rows are logical places, ``row 110``. A waived
    finding is a suppressed result, a failed check a notification that the run was not successful.
    """
    ids = list(dict.fromkeys(r.check for r in report.results))
    said = caveats(report)
    run = {
        "tool": {
            "driver": {
                "name": "foretaste",
                "version": report.version,
                "informationUri": "https://github.com/foretaste/foretaste",
                "rules": [_rule(check) for check in ids],
            },
            "extensions": [_extension(package) for package in sorted(set(report.packages.values()))],
        },
        "invocations": [
            {
                "executionSuccessful": report.verdict is not Outcome.ERROR,
                "toolExecutionNotifications": [_notification(c, report, ids) for c in said if c.word != "skipped"],
                "toolConfigurationNotifications": [_notification(c, report, ids) for c in said if c.word == "skipped"],
            }
        ],
        "artifacts": [{"location": {"uri": _uri(report.data.name)}, "roles": ["analysisTarget"]}],
        "results": [_result(f, report, ids.index(f.check)) for f in report.findings],
        "columnKind": "unicodeCodePoints",
        "properties": {
            "verdict": report.verdict.value,
            "headline": visible(report.headline()),
            "dataDigest": visible(report.data.digest),
            "policyDigest": visible(report.policy_digest),
        },
    }
    if match := re.fullmatch(r"sha256:([0-9a-f]{64})", report.data.digest):
        # The digest is over everything that was read; it is the file's own only as one of ours, so it has our name.
        run["artifacts"][0]["hashes"] = {"foretaste-sha-256": match[1]}  # type: ignore[index]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def render_sarif(report: Report) -> str:
    """:func:`to_sarif` as text, in ASCII."""
    return json.dumps(to_sarif(report), indent=1, ensure_ascii=True) + "\n"


def _rule(check: str) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": visible(check),
        "helpUri": HELP,
        "properties": {"tags": ["security", "data-poisoning"]},
    }
    with suppress(ForetasteError):
        about = " ".join((checks.get(check).__doc__ or "").partition("Args:")[0].replace("``", "`").split())
        if about:
            first = about.split(". ")[0].rstrip(".") + "."
            rule |= {
                "shortDescription": {"text": _text(first)},
                "fullDescription": {"text": _text(about)},
                "help": {"text": _text(about)},
            }
    return rule


def _extension(package: str) -> dict[str, Any]:
    name, _, version = package.rpartition(" ")
    return {"name": visible(name or package), "version": visible(version)}


def _notification(caveat: Caveat, report: Report, ids: Sequence[str]) -> dict[str, Any]:
    weak = caveat.word == "power" and not report.power.get("smallest_blocked")
    level = "error" if caveat.word == "error" else "warning" if weak else "note"
    if not caveat.check:
        return {"message": {"text": _text(visible(f"{caveat.word}: {caveat.text}"))}, "level": level}
    rule = {"id": visible(caveat.check), "index": ids.index(caveat.check)}
    return {"message": {"text": _text(visible(caveat.text))}, "level": level, "associatedRule": rule}


def _result(f: Finding, report: Report, rule: int) -> dict[str, Any]:
    said = f"{visible(f.message)} ({len(f.rows):,} rows; observed, limit: {against_limit(f)})"
    result: dict[str, Any] = {
        "ruleId": visible(f.check),
        "ruleIndex": rule,
        "level": "error" if f.severity is Severity.BLOCK else "warning",
        "kind": "fail",
        "message": {"text": _text(said)},
        "locations": [_place(report, f.rows[0] if f.rows else None)],
        "partialFingerprints": {"foretasteFinding/v1": f.fingerprint},
        "occurrenceCount": max(1, len(f.rows)),
        "properties": {"kind": visible(f.kind), "observed": f.observed, "limit": f.limit},
    }
    if len(f.rows) > 1:
        result["relatedLocations"] = [
            _place(report, row) | {"id": i, "message": {"text": f"row {row}"}}
            for i, row in enumerate(f.rows[1 : MAX_PLACES + 1], 1)
        ]
    if f.waived:
        applied = [w for w in report.waivers if w.finding == f.fingerprint and w.fate is Fate.APPLIED]
        result["suppressions"] = [
            {"kind": "external", "status": "accepted", "justification": visible(f"{w.owner}: {w.statement}")}
            for w in applied
        ] or [{"kind": "external", "status": "accepted"}]
    return result


def _place(report: Report, row: int | None) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(report.data.name), "index": 0}}
    place: dict[str, Any] = {"physicalLocation": physical}
    if row is not None:
        if report.data.files == 1 and report.data.name.lower().endswith(_LINED):
            physical["region"] = {"startLine": row + 1}
        place["logicalLocations"] = [{"name": f"row {row}", "kind": "row"}]
    return place


def _uri(name: str) -> str:
    """A path below the working directory as a relative reference, as code scanning needs it; else an absolute one."""
    shown = visible(name)
    if re.match(r"[a-z][a-z0-9+.-]+://", shown):
        return quote(shown, safe=":/?&=%@+,;~")
    path = Path(shown)
    if path.is_absolute():
        if not path.is_relative_to(Path.cwd()):
            return path.as_uri()
        path = path.relative_to(Path.cwd())
    return quote(path.as_posix()) or "data"


def _text(text: str) -> str:
    """A plain text message; brackets would be an embedded link (SARIF 2.1.0, 3.11.6)."""
    return text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
