"""Words that the renderings share: numbers, and what to do next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foretaste.results import Fate, Finding, Outcome, Report, Severity


def count(n: int, noun: str, plural: str | None = None) -> str:
    """``1 row``, ``2,014 rows``."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def number(value: Any) -> str:
    """A number as a person reads it; anything else as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value) or abs(value) >= 1e300:  # the JSON form writes infinity as 1e308
        return "not a number" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.3g}"


def size(n: int) -> str:
    """Bytes in decimal units."""
    value = float(n)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def against_limit(finding: Finding) -> str:
    """Observed value and limit side by side."""
    relation = "≥" if finding.observed >= finding.limit else "<"
    return f"{number(finding.observed)} {relation} {number(finding.limit)}"


def power_said(report: Report) -> str:
    """What planted triggers would have come to, or why that was not measured; empty where nothing is on record."""
    if "smallest_blocked" not in report.power:
        return str(report.power.get("note", ""))
    least = report.power["smallest_blocked"]
    if least:
        return f"a planted trigger of {count(least, 'row')} would have blocked"
    return "no planted trigger would have blocked"


@dataclass(frozen=True)
class Caveat:
    """Something that was not looked at, or how far a look reaches.

    Attributes:
        word: ``error`` and ``skipped`` for checks, ``limit`` for what one that ran says of itself, ``note`` for the data,
            or ``power``.
        text: a sentence; it may hold names of columns as they are, so escape it.
        check: id of the check, empty where it is about none.
    """

    word: str
    text: str
    check: str = ""

    @property
    def said(self) -> str:
        """The sentence, with the check before it."""
        return f"{self.check}: {self.text}" if self.check else self.text


def caveats(report: Report) -> list[Caveat]:
    """What every rendering has to say besides verdict and findings: a pass means no more than this leaves. Gravest first."""
    word = {Outcome.ERROR: "error", Outcome.SKIPPED: "skipped"}
    found = [
        Caveat(word.get(r.outcome, "limit"), r.note or "no reason was given", r.check)
        for r in report.results
        if r.note or r.outcome in word
    ]
    found.sort(key=lambda caveat: ("error", "limit", "skipped").index(caveat.word))
    found += [Caveat("note", note) for note in report.data.notes]
    power = power_said(report)
    return [*found, Caveat("power", power)] if power else found


def owner(finding: Finding, most: float = 1e-6) -> str:
    """A sentence where one source owns the rows of a finding beyond chance; holds the source's name as it is."""
    share = finding.statistic.get("source_expected")
    if finding.statistic.get("source_p", 1.0) > most or share is None or not finding.sources:
        return ""
    name, rows = next(iter(finding.sources.items()))
    return (
        f"{rows:,} of {len(finding.rows):,} rows come from {name or '(empty)'}, which has {share:.1%} of all rows "
        f"(chance {number(finding.statistic['source_p'])})"
    )


def top_sources(report: Report, most: int = 3) -> list[tuple[str, int]]:
    """Sources with the most rows to block (to review, where none blocks), most first, none without a name."""
    groups: list[Mapping[str, Any]] = list(report.charts.get("by_source", []))
    for severity in Severity.BLOCK, Severity.REVIEW:
        found = sorted(((g[severity], g["name"]) for g in groups if g[severity] and g["name"]), key=lambda s: -s[0])
        if found:
            return [(name, n) for n, name in found[:most]]
    return []


def next_steps(report: Report) -> list[str]:
    """What a person does now, in order. Holds names of sources and checks as they are: escape it."""
    block, review = len(report.flagged_rows(Severity.BLOCK)), len(report.flagged_rows(Severity.REVIEW))
    steps = []
    if report.verdict is Outcome.ERROR:
        failed = [r.check for r in report.results if r.outcome is Outcome.ERROR]
        if failed:
            steps.append(f"Repair what stopped {', '.join(failed)} (the reason is given) and scan again.")
        else:
            steps.append("No check applied to these data: name the columns' roles, or switch fitting checks on.")
        steps.append("Do not train: what could not be checked is not a pass.")
    elif block or report.verdict is Outcome.BLOCK:
        steps.append("Do not train on these data as they are.")
    if any(w.fate in (Fate.EXPIRED, Fate.FORGED) for w in report.waivers):
        steps.append("A waiver does not hold any more: judge its finding again, and renew or remove the waiver.")
    if block:
        steps.append(
            f"Read the evidence, take the {count(block, 'row')} with severity block in flagged.parquet out, "
            "and scan what is left."
        )
    elif review:
        steps.append(f"Have a person judge the {count(review, 'row')} in flagged.parquet.")
        if report.verdict is Outcome.REVIEW:
            steps.append("A review does not stop training, unless --fail-on review is given.")
    if (block or review) and (sources := top_sources(report)):
        named = ", ".join(f"{name} ({count(n, 'row')})" for name, n in sources)
        steps.append(f"Ask where these rows come from: {named}.")
    if block:
        steps.append(
            "If a finding is a false alarm, answer for it with foretaste waive, or change that check's limit in the "
            "policy file: both are on record."
        )
    if waived := sum(f.waived for f in report.findings):
        steps.append(
            f"The verdict rests on waivers for {count(waived, 'finding')}: see who answers for them, until when."
        )
    if report.verdict is Outcome.PASS:
        steps.append("Train on exactly these bytes: another copy or a later version has not been checked.")
        steps.append("A pass says that no limit was reached, not that there is no poison.")
    return steps
