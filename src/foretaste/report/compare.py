"""Two scans side by side: what is new, gone, grown, shrunk or as it was."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from foretaste.report.wording import count
from foretaste.results import Finding, Outcome, Report, Severity


class Fate(StrEnum):
    """What became of a finding from one scan to the next."""

    NEW = "new"
    GROWN = "grown"
    WORSE = "graver"
    CHANGED = "other rows"
    SHRUNK = "shrunk"
    UNCHECKED = "not checked any more"
    GONE = "gone"
    UNCHANGED = "unchanged"


_ORDER = list(Fate)


@dataclass(frozen=True)
class Change:
    """A finding, as it is now where it still is, and as it was before where it was."""

    fate: Fate
    finding: Finding
    before: Finding | None

    def rows_said(self) -> str:
        """Rows now and before."""
        now = 0 if self.fate in (Fate.GONE, Fate.UNCHECKED) else len(self.finding.rows)
        was = len(self.before.rows) if self.before else 0
        return count(now, "row") if now == was else f"{was:,} → {count(now, 'row')}"


@dataclass(frozen=True)
class Comparison:
    """Two reports and their changes, those to worry about first.

    ``lost`` names checks that ran before and do not say anything now: their findings are not gone, they were not
    looked for.
    """

    old: Report
    new: Report
    changes: tuple[Change, ...]
    lost: tuple[str, ...]

    def of(self, *fates: Fate) -> list[Change]:
        """Changes of these fates whose finding nobody waived."""
        return [c for c in self.changes if c.fate in fates and not c.finding.waived]

    def headline(self) -> str:
        """Verdicts and counts, without any text from the data."""
        tally = [f"{n} {fate.value}" for fate in Fate if (n := sum(c.fate is fate for c in self.changes))]
        said = ", ".join(tally) or "no findings in either"
        lost = f"; {count(len(self.lost), 'check')} not run any more" if self.lost else ""
        return f"{self.old.verdict.value} → {self.new.verdict.value}; findings: {said}{lost}"

    def facts(self) -> Iterator[tuple[str, str, str]]:
        """(name, before, now) of what is compared beside findings."""
        for name, say in (
            ("verdict", lambda r: r.verdict.value),
            ("rows", lambda r: f"{r.data.rows:,}"),
            ("rows to block", lambda r: f"{len(r.flagged_rows(Severity.BLOCK)):,}"),
            ("rows to review", lambda r: f"{len(r.flagged_rows(Severity.REVIEW)):,}"),
            ("smallest planted trigger that blocks", lambda r: _power(r.power)),
            ("data", lambda r: r.data.digest[:19]),
            ("policy", lambda r: r.policy_digest[:19]),
        ):
            yield name, say(self.old), say(self.new)


def compare(old: Report, new: Report) -> Comparison:
    """Findings with the same fingerprint are the same; those left are matched by check, kind, feature and target.

    A fingerprint covers the ids of the rows, so one that grew has another. Where several share check, kind, feature
    and target, they are matched in order of their rows.
    """
    ran = {r.check for r in new.results if r.outcome not in (Outcome.SKIPPED, Outcome.ERROR)}
    lost = tuple(r.check for r in old.results
                 if r.outcome not in (Outcome.SKIPPED, Outcome.ERROR) and r.check not in ran)  # fmt: skip
    exact: dict[str, list[Finding]] = defaultdict(list)
    for f in old.findings:
        exact[f.fingerprint].append(f)
    pairs: list[tuple[Finding, Finding | None]] = []
    left = []
    for f in new.findings:
        if exact[f.fingerprint]:
            pairs.append((f, exact[f.fingerprint].pop(0)))
        else:
            left.append(f)
    alike: dict[tuple[str, str, str | None, str | None], list[Finding]] = defaultdict(list)
    unmatched = {id(f) for held in exact.values() for f in held}
    for f in sorted((f for f in old.findings if id(f) in unmatched), key=lambda f: -len(f.rows)):
        alike[_key(f)].append(f)
    for f in sorted(left, key=lambda f: -len(f.rows)):
        pairs.append((f, alike[_key(f)].pop(0) if alike[_key(f)] else None))
    changes = [Change(_fate(now, before), now, before) for now, before in pairs]
    for gone in (f for held in alike.values() for f in held):
        changes.append(Change(Fate.GONE if gone.check in ran else Fate.UNCHECKED, gone, gone))
    changes.sort(key=lambda c: (_ORDER.index(c.fate), c.finding.severity.value, -len(c.finding.rows)))
    return Comparison(old, new, tuple(changes), lost)


def _key(f: Finding) -> tuple[str, str, str | None, str | None]:
    return f.check, f.kind, f.feature, f.target


def _fate(now: Finding, before: Finding | None) -> Fate:
    if before is None:
        return Fate.NEW
    graver = now.severity is Severity.BLOCK and before.severity is Severity.REVIEW
    if graver or (before.waived and not now.waived):
        return Fate.WORSE
    if len(now.rows) != len(before.rows):
        return Fate.GROWN if len(now.rows) > len(before.rows) else Fate.SHRUNK
    return Fate.UNCHANGED if now.fingerprint == before.fingerprint else Fate.CHANGED


def _power(power: Mapping[str, Any]) -> str:
    if "smallest_blocked" not in power:
        return "not measured"
    return "none" if power["smallest_blocked"] is None else count(power["smallest_blocked"], "row")
