"""Rows from a source that nobody allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity
from foretaste.errors import CheckError
from foretaste.signals.sources import OTHER
from foretaste.sources import Decision, Entry, Rules, Standing, list_digest, parse, pinned, suffix_list_version

# Sources whose decision is remembered, and groups that are told apart in the findings.
_REMEMBERED = 65_536
_GROUPS = 200
_OTHER = "(other sources)"
_EMPTY = "(no source)"


@dataclass
class _State:
    """Numbers of the rows that may be flagged, by standing, group and reason; at most ``_GROUPS`` groups."""

    rules: Rules
    remembered: dict[str, Decision] = field(default_factory=dict)
    flagged: dict[tuple[Standing, str, str], list[npt.NDArray[np.int64]]] = field(default_factory=dict)
    limited: dict[int, list[npt.NDArray[np.int64]]] = field(default_factory=dict)
    before: int = 0
    earlier: Mapping[str, int] = field(default_factory=dict)
    standings: Counter[Standing] = field(default_factory=Counter)

    def decide(self, source: str) -> Decision:
        if source not in self.remembered:
            if len(self.remembered) >= _REMEMBERED:
                self.remembered.clear()
            self.remembered[source] = self.rules.decide(source)
        return self.remembered[source]

    def flag(self, standing: Standing, group: str, reason: str, rows: list[npt.NDArray[np.int64]]) -> None:
        key = (standing, group, reason)
        if key not in self.flagged and len(self.flagged) >= _GROUPS:
            key = (standing, _OTHER, "")
        self.flagged.setdefault(key, []).extend(rows)


@dataclass(frozen=True, kw_only=True)
class SourceAllowlist(Check[_State]):
    """Rows from a source that is not on the allowlist, is on the denylist, or hides which source it is.

    Default deny: once either list has an entry, a source that no allow entry names is unknown, and unknown is not a
    pass. A deny entry beats every allow entry. Sources are brought to one form first (IDNA, default ports, dot
    segments, escapes); what carries user information, invisible characters or a host in mixed scripts is refused.

    Blocks: denied and refused sources, sources whose entry has expired, sources that are less attested than their entry
    asks, rows beyond an entry's ``max_rows`` (this batch) or ``max_rows_total`` (all accepted batches and this one), a
    delivery attestation that fails, and unknown or missing sources unless ``unknown`` is ``review``.

    Skipped where no list is configured. An error where one is configured and the data have no source column, or where an
    entry has ``max_rows_total`` and no state is kept.

    Misses: a poisoned row from an allowed source, and a source column that lies.

    Poisoned: ``https://evil.github.io/a`` where the list names ``github.com``.
    Clean: ``https://docs.github.com/a`` where the list names ``github.com``.

    After Carlini et al. 2023 (Poisoning Web-Scale Training Datasets is Practical, arXiv 2302.10149).

    Args:
        allow: sources that rows may come from, as text or as entries with owner, reason, expires, max_rows,
            max_rows_total and min_attestation.
        deny: sources that rows must not come from, whatever ``allow`` says.
        unknown: severity of a source that no entry names.
        block_rows: rows of one source from which a finding blocks; fewer are for review.
    """

    id: ClassVar[str] = "source-allowlist"
    allow: tuple[Entry, ...] = ()
    deny: tuple[Entry, ...] = ()
    unknown: Literal["block", "review"] = "block"
    block_rows: int = 1

    def __post_init__(self) -> None:
        """Refuse entries that promise what they cannot hold.

        Raises:
            ValueError: naming the entry.
        """
        for entry in self.allow:
            if not pinned(entry):
                raise ValueError(
                    f'allow entry "{entry.source}" is not pinned, so its content can change; write '
                    "owner/name@<40 hex digits of the commit>"
                )
        for entry in self.deny:
            bounded = (entry.expires, entry.max_rows, entry.max_rows_total) != (None, None, None)
            if bounded or entry.min_attestation != "none":
                raise ValueError(
                    f'deny entry "{entry.source}" takes neither expires nor limits; remove the entry when it ends'
                )

    def applies(self, context: Context) -> str:
        """Applies where a list is configured.

        Raises:
            CheckError: if a list is configured and the data have no source role.
        """
        if not self.allow and not self.deny and not context.deliveries.failed:
            return (
                "no allowlist is configured; list the sources that rows may come from in the policy, under "
                "checks.source-allowlist.allow"
            )
        total = next((e.source for e in self.allow if e.max_rows_total is not None), None)
        if total is not None and context.background is None:
            raise CheckError(
                f'the entry "{total}" has max_rows_total, which counts over batches, and no state is kept; name one with '
                "--state"
            )
        if "source" not in context.roles and (self.allow or self.deny):
            raise CheckError(
                "an allowlist is configured, but the data have no source column; name it with --source, or switch "
                "source-allowlist off in the policy"
            )
        return ""

    def start(self, context: Context) -> _State:
        """Nothing seen. Expiry is judged by the day on which the scan starts, in UTC."""
        rules = Rules(self.allow, self.deny, datetime.now(UTC).date(), context.deliveries)
        known = context.background
        if known is None:
            return _State(rules)
        return _State(rules, before=known.before, earlier=known.sources)

    def scan(self, state: _State, batch: Batch) -> None:
        """Judge each source of the batch once, and note the rows of those that are not allowed."""
        if not self.allow and not self.deny:
            return
        coded = pc.dictionary_encode(batch.strings("source"))
        codes = np.asarray(coded.indices)
        order = np.argsort(codes, kind="stable")
        ends = np.searchsorted(codes[order], np.arange(len(coded.dictionary) + 1))
        # A Python loop over the distinct sources of a batch, not over its rows.
        for code, source in enumerate(coded.dictionary.to_pylist()):
            rows = batch.start + order[ends[code] : ends[code + 1]].astype(np.int64)
            rows = rows[rows >= state.before]  # those of earlier batches were judged when they came
            if not len(rows):
                continue
            decision = state.decide(source)
            state.standings[decision.standing] += len(rows)
            if decision.standing is not Standing.ALLOWED:
                group = parse(source).group or _EMPTY
                state.flag(decision.standing, group, decision.reason, [rows])
            elif (self.allow[decision.entry].max_rows, self.allow[decision.entry].max_rows_total) != (None, None):
                state.limited.setdefault(decision.entry, []).append(rows)

    def merge(self, left: _State, right: _State) -> _State:
        """Concatenate the rows."""
        for (standing, group, reason), rows in right.flagged.items():
            left.flag(standing, group, reason, rows)
        for entry, rows in right.limited.items():
            left.limited.setdefault(entry, []).extend(rows)
        left.standings.update(right.standings)
        return left

    def finish(self, state: _State) -> RawResult:
        """One finding per group of sources, most rows first."""
        findings = [
            self._finding(standing, group, reason, np.sort(np.concatenate(rows)))
            for (standing, group, reason), rows in state.flagged.items()
        ]
        totals = self._totals(state)
        for entry, parts in state.limited.items():
            rows = np.sort(np.concatenate(parts))
            limit = self.allow[entry].max_rows
            if limit is not None and len(rows) > limit:
                findings.append(self._over_limit(self.allow[entry], rows, len(rows), limit, "a batch"))
            limit, counted = self.allow[entry].max_rows_total, totals.get(entry, 0) + len(rows)
            if limit is not None and counted > limit:
                findings.append(self._over_limit(self.allow[entry], rows, counted, limit, "over all batches"))
        findings += [self._failed(reason) for reason in state.rules.deliveries.failed]
        findings.sort(key=lambda f: (-len(f.rows), f.kind, f.feature or "", f.message))
        return RawResult(
            findings=tuple(findings),
            metrics={f"{s.name.lower()}_rows": float(state.standings[s]) for s in Standing},
            note=f"{len(self.allow)} allow and {len(self.deny)} deny entries, list {list_digest(self.allow, self.deny)}; "
            f"domains by {suffix_list_version()}" + self._signers(state),
        )

    def _finding(self, standing: Standing, group: str, reason: str, rows: npt.NDArray[np.int64]) -> RawFinding:
        severity = Severity(self.unknown) if standing is Standing.UNKNOWN else Severity.BLOCK
        return RawFinding(
            kind=standing.value,
            severity=severity if len(rows) >= self.block_rows else Severity.REVIEW,
            message=f"{len(rows)} rows come from {group}: {standing.value}" + (f", {reason}" if reason else ""),
            feature=group,
            rows=rows,
            observed=len(rows),
            limit=self.block_rows,
            examples=tuple(RawExample(row=int(row)) for row in rows[:3]),
        )

    def _over_limit(self, entry: Entry, rows: npt.NDArray[np.int64], counted: int, limit: int, span: str) -> RawFinding:
        said = f"{len(rows)} rows" if counted == len(rows) else f"{counted} rows, {len(rows)} of them new,"
        return RawFinding(
            kind="more rows than an entry allows",
            severity=Severity.BLOCK,
            message=f"{said} come from {entry.source}, which may give {limit} {span}",
            feature=entry.source,
            target=span,
            rows=rows,
            observed=counted,
            limit=limit + 1,
            examples=tuple(RawExample(row=int(row)) for row in rows[:3]),
        )

    def _totals(self, state: _State) -> dict[int, int]:
        """Rows of earlier batches by the entry that names their source."""
        counted: Counter[int] = Counter()
        capped = [at for at, e in enumerate(self.allow) if e.max_rows_total is not None]
        if not capped:
            return {}
        for source, rows in state.earlier.items():
            # A state tells so many sources apart; rows of the others may be anybody's, so they count for all.
            for entry in capped if source == OTHER else [state.decide(source).entry]:
                counted[entry] += rows
        return dict(counted)

    def _failed(self, reason: str) -> RawFinding:
        return RawFinding(
            kind="failed signature",
            severity=Severity.BLOCK,
            message=f"a delivery attestation fails: {reason}",
            rows=np.zeros(0, np.int64),
            observed=1,
            limit=1,
            waivable=False,
        )

    def _signers(self, state: _State) -> str:
        names = sorted({s.identity or s.name for d in state.rules.deliveries.verified for s in d.signers})
        return f"; delivery signed by {', '.join(names)}" if names else ""
