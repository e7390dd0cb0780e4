"""What a scan says: findings, check results, the report. Everything here is frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from foretaste._version import __version__
from foretaste.errors import BlockedError, CheckError

REPORT_FORMAT = "https://foretaste.dev/report/v1"


class Severity(StrEnum):
    """How much a finding weighs: a block finding refuses the data, a review finding asks a person to look."""

    REVIEW = "review"
    BLOCK = "block"


class Outcome(StrEnum):
    """What came of one check, and the verdict of a whole report. Ordered by :func:`worst`."""

    PASS = "pass"
    SKIPPED = "skipped"
    REVIEW = "review"
    BLOCK = "block"
    ERROR = "error"


_ORDER = [Outcome.SKIPPED, Outcome.PASS, Outcome.REVIEW, Outcome.BLOCK, Outcome.ERROR]


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome that decides: error over block over review over pass. An empty list is an error, never a pass."""
    if not outcomes:
        return Outcome.ERROR
    return max(outcomes, key=_ORDER.index)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row shown as evidence. ``texts`` maps a role to an excerpt, raw: whoever renders it escapes it.

    ``counter`` marks a row for comparison that lacks the feature.
    """

    row: int
    id: str
    texts: Mapping[str, str]
    counter: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a check found, with the rows it concerns and the evidence for it.

    Attributes:
        check: id of the check.
        kind: what was found, in the field's terms, such as ``trigger`` or ``near-duplicate cluster``.
        severity: block or review.
        message: one sentence that a person can judge.
        feature: the trigger, cluster or source in question, as text; raw, so escape it.
        target: the output that the feature goes with (label, response excerpt), or ``None``.
        rows: row numbers from 0, in file order, ascending.
        ids: ids of those rows, in the same order (the id role, or a hash of the row).
        observed: the count that was compared, in rows unless the check says otherwise.
        limit: the limit that ``observed`` reached.
        statistic: named numbers behind the finding, such as ``z`` or ``p_value``.
        sources: rows per source, most first, at most ten.
        examples: rows as evidence, at most eight.
        waivable: whether a person may answer for it; a failed signature is not for a person to overlook.
        waived: an applied waiver answers for it, so it does not count in the verdict (see :class:`WaiverRecord`).
        earlier: rows of earlier batches that it counts too, each as ``id (batch n)``; empty unless a state is kept.
        fingerprint: stable name of the finding, 32 hex digits, from check, kind, feature, target and row ids; not from
            the severity, so that a waiver outlives a change of limits.
    """

    check: str
    kind: str
    severity: Severity
    message: str
    feature: str | None = None
    target: str | None = None
    rows: tuple[int, ...] = ()
    ids: tuple[str, ...] = ()
    observed: float = 0.0
    limit: float = 0.0
    statistic: Mapping[str, float] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    waivable: bool = True
    waived: bool = False
    earlier: tuple[str, ...] = ()

    fingerprint: str = ""

    def __post_init__(self) -> None:
        """Name the finding, unless it was read back from a report."""
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", self._digest())

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from foretaste.report.notebook import finding_cell

        return finding_cell(self)

    def _digest(self) -> str:
        parts = [self.check, self.kind, self.feature or "", self.target or "", *sorted(self.ids)]
        digest = hashlib.sha256()
        for part in parts:
            encoded = part.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
        return digest.hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What one check says.

    ``note`` gives the reason of a skip or an error, and the limits of what was looked at. ``package`` is name and version of
    the package that the check comes from, empty for foretaste itself.
    """

    check: str
    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    seconds: float = 0.0
    package: str = ""

    @classmethod
    def from_findings(cls, check: str, findings: list[Finding], **rest: Any) -> CheckResult:
        """Outcome from the worst finding that nobody waived; pass where there is none."""
        severities = {f.severity for f in findings if not f.waived}
        outcome = Outcome.BLOCK if Severity.BLOCK in severities else Outcome.REVIEW if severities else Outcome.PASS
        return cls(check=check, outcome=outcome, findings=tuple(findings), **rest)


class Fate(StrEnum):
    """What became of a waiver. Only ``APPLIED`` takes a finding out of the verdict."""

    APPLIED = "applied"
    PENDING = "under investigation"
    VOID = "void"
    EXPIRED = "expired"
    UNSIGNED = "unsigned"
    FORGED = "signature failed"
    REFUSED = "not waivable"
    UNUSED = "unused"


@dataclass(frozen=True, kw_only=True)
class WaiverRecord:
    """One waiver that was given to a scan, and what became of it. The other fields are those of the waiver."""

    fate: Fate
    reason: str
    check: str
    finding: str
    data: str
    statement: str
    owner: str
    expired_at: str
    status: str
    justification: str = ""
    impact_statement: str = ""
    action_statement: str = ""
    approvers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What was scanned: ``digest`` is ``sha256:<hex>`` over the bytes read (see :mod:`foretaste.reading`).

    ``shape`` is what people call fine-tuning data of this kind, such as ``ShareGPT``, and empty for other data; ``notes``
    are sentences about columns that play no role, and about what reading left out; ``versions`` are the entity tag and
    version id of each object of a store that gives them, by path.
    """

    name: str
    kind: str
    rows: int
    bytes: int
    digest: str
    roles: Mapping[str, str]
    guessed_roles: tuple[str, ...] = ()
    files: int = 1
    shape: str = ""
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The one canonical result of a scan; everything that people see is rendered from it.

    ``history`` is empty unless a state is kept: what was accepted before, near-duplicates of it, and whether the state
    now holds these data (see :mod:`foretaste.history`).
    """

    data: DataInfo
    results: tuple[CheckResult, ...]
    policy_digest: str
    started: str
    seconds: float
    power: Mapping[str, Any] = field(default_factory=dict)
    charts: Mapping[str, Any] = field(default_factory=dict)
    waivers: tuple[WaiverRecord, ...] = ()
    history: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    @property
    def verdict(self) -> Outcome:
        """error, block, review or pass. Error where any check failed, or where no check ran at all."""
        ran = [r.outcome for r in self.results if r.outcome is not Outcome.SKIPPED]
        return worst(ran)

    @property
    def blocked(self) -> bool:
        """Whether training must not start: anything but pass and review."""
        return self.verdict not in (Outcome.PASS, Outcome.REVIEW)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, block before review, then by rows; waived ones last."""
        found = [f for r in self.results for f in r.findings]
        return tuple(sorted(found, key=lambda f: (f.waived, f.severity is not Severity.BLOCK, -len(f.rows))))

    @property
    def packages(self) -> dict[str, str]:
        """Package and version of the checks that came from other packages, by check."""
        return {r.check: r.package for r in self.results if r.package}

    def flagged_rows(self, severity: Severity | None = None) -> tuple[int, ...]:
        """Rows named by at least one finding that nobody waived (of the severity, where one is given), ascending."""
        chosen = (f for f in self.findings if not f.waived and severity in (None, f.severity))
        return tuple(sorted({row for f in chosen for row in f.rows}))

    def headline(self) -> str:
        """The verdict in one sentence, without any text from the data."""
        block, review = len(self.flagged_rows(Severity.BLOCK)), len(self.flagged_rows(Severity.REVIEW))
        failed = [r.check for r in self.results if r.outcome is Outcome.ERROR]
        skipped = sum(r.outcome is Outcome.SKIPPED for r in self.results)
        head = f"{self.verdict.value.upper()}: {block} rows to block, {review} to review, of {self.data.rows:,}"
        if waived := sum(f.waived for f in self.findings):
            head += f"; {waived} finding{'' if waived == 1 else 's'} waived"
        if failed:
            head += f"; not checked because of an error: {', '.join(failed)}"
        elif self.verdict is Outcome.ERROR:
            head += "; no check ran"
        return head + (f" ({skipped} checks did not apply)" if skipped else "")

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from foretaste.report.notebook import report_cell

        return report_cell(self)

    def raise_if_blocked(self) -> None:
        """Do nothing on pass and review.

        Raises:
            BlockedError: if the data are refused.
            CheckError: if something could not be checked.
        """
        if self.verdict is Outcome.ERROR:
            notes = "; ".join(f"{r.check}: {r.note}" for r in self.results if r.outcome is Outcome.ERROR)
            raise CheckError(f"{self.headline()} [{notes}]")
        if self.blocked:
            raise BlockedError(self.headline())
