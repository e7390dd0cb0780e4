"""The round loop: signals and checks see every batch once per round, then say whether they need another."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs

from foretaste.batch import TEXT_ROLES, Batch
from foretaste.check import Check, Context, Fold, NotApplicableError, RawExample, RawResult, Signal
from foretaste.errors import InputError
from foretaste.policy import Policy
from foretaste.power import CHECKS, Planted, summarise
from foretaste.reading import Dataset, open_data
from foretaste.reading.dataset import row_ids
from foretaste.results import CheckResult, DataInfo, Example, Finding, Outcome, Report
from foretaste.roles import Roles
from foretaste.signals.outputs import Classes, Labels

EXCERPT_CHARS = 320
MAX_EXAMPLES = 8
MAX_GROUPS = 40
CHART_BINS = 60


@dataclass(frozen=True)
class Progress:
    """How far a scan is: ``rows`` of ``total`` (``None`` where unknown) in this round."""

    round: int
    stage: str
    rows: int
    total: int | None


ProgressCallback = Callable[[Progress], None]


@dataclass
class _Running:
    fold: Fold[Any]
    state: Any
    seconds: float = 0.0


@dataclass
class _Profile:
    """Rows per source and per label, for the report's charts. Holds at most ``limit`` names of each."""

    limit: int = 10_000
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {"source": Counter(), "label": Counter()})

    def scan(self, batch: Batch) -> None:
        for role, counter in self.counts.items():
            if not batch.has(role):
                continue
            for item in pc.value_counts(batch.strings(role)).to_pylist():
                name = item["values"] if item["values"] in counter or len(counter) < self.limit else "(other)"
                counter[name] += item["counts"]


def scan(
    data: Any,
    policy: Policy | str | Path | Mapping[str, Any] | None = None,
    *,
    roles: Roles | Mapping[str, str | None] | None = None,
    filesystem: pa.fs.FileSystem | None = None,
    progress: ProgressCallback | None = None,
) -> Report:
    """Scan data for poison.

    Args:
        data: a path, glob, directory or address; a pandas, polars or pyarrow object (see :mod:`foretaste.reading`).
        policy: a :class:`Policy`, a mapping, or the path of a YAML file; the default policy where ``None``.
        roles: which column plays which role; what is missing is guessed from common names and reported.
        filesystem: for paths on a file system that Arrow does not know by address.
        progress: called after every batch.

    Returns:
        the report. A check that fails makes the verdict ``error``, never a pass.

    Raises:
        InputError: if the data cannot be read as they stand.
        PolicyError: if the policy is not valid.
    """
    chosen = Policy.load(policy)
    wanted = roles if isinstance(roles, Roles) else Roles.from_mapping(roles or {})
    dataset = open_data(data, wanted, filesystem=filesystem, options=chosen.input)
    return run(dataset, chosen, progress)


def run(dataset: Dataset, policy: Policy, progress: ProgressCallback | None = None) -> Report:
    """Run a policy over an open data set; see :func:`scan`."""
    clock = time.perf_counter()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    loop = _Loop(dataset, policy, progress)
    raw = loop.run()
    results = _with_evidence(dataset, raw, loop)
    charts = loop.charts(results)
    classes = loop.values.get(Labels())
    loop.values.clear()  # the power scan makes its own; both at once would double the memory
    power, demanded = _power(dataset, policy, classes, progress)
    if demanded is not None:
        results.append(demanded)
    info = DataInfo(
        name=dataset.name, kind=dataset.kind, rows=dataset.rows or 0, bytes=dataset.bytes, digest=dataset.digest,
        roles=dataset.roles.as_dict(), guessed_roles=dataset.guessed,
        files=len(dataset.files.paths) if dataset.files else 0,
    )  # fmt: skip
    return Report(
        data=info, results=tuple(results), policy_digest=policy.digest, started=started,
        seconds=round(time.perf_counter() - clock, 3), charts=charts, power=power,
    )  # fmt: skip


def _power(
    dataset: Dataset, policy: Policy, classes: Classes | None, progress: ProgressCallback | None
) -> tuple[dict[str, Any], CheckResult | None]:
    """What planted triggers would have come to, and an error result where the policy demands more than there is."""
    options = policy.power
    ids = [c.id for c in policy.checks if c.id in CHECKS[dataset.kind]]
    large = (dataset.rows or 0) > options.max_rows and options.measure == "auto"
    if options.measure == "never" or large or not ids:
        why = (
            f"not measured: {dataset.rows:,} rows, more than power.max_rows = {options.max_rows:,}"
            if large
            else "not measured: switched off in the policy"
            if options.measure == "never"
            else "not measured: no plant fits these data and checks"
        )
        summary: dict[str, Any] = {"note": why}
    else:
        planted = Planted(dataset, policy.seed)
        planted.plan(classes)
        if planted.rows_of:
            raw = _Loop(planted, policy.only(*ids), progress, label="power").run()
            failed = [f"{i}: {r}" for i, (r, _) in raw.items() if isinstance(r, str)]
            summary = {"note": f"not measured: {failed[0]}"} if failed else summarise(planted, raw)
        else:
            summary = {
                "note": "not measured: too few rows to plant the smallest dose in, or no prompt to plant it into"
            }
    smallest = summary.get("smallest_blocked")
    if options.require is None or (smallest is not None and smallest <= options.require):
        return summary, None
    reached = summary.get("note") or (
        f"the smallest planted trigger that blocked has {smallest} rows" if smallest else "no planted trigger blocked"
    )
    note = f"the policy demands that a trigger of {options.require} rows blocks; {reached}"
    return summary, CheckResult(check="power", outcome=Outcome.ERROR, note=note)


class _Loop:
    """Signals and checks through their rounds. A fold that raises ends with its error noted; the others go on."""

    def __init__(
        self, dataset: Dataset | Planted, policy: Policy, progress: ProgressCallback | None, label: str = ""
    ) -> None:
        self.dataset = dataset
        self.progress = progress
        self.label = label
        self.values: dict[Signal[Any, Any], Any] = {}
        self.context = Context(dataset.kind, dataset.canonical_roles, self.values, policy.seed)
        self.checks = policy.checks
        self.done: dict[str, tuple[RawResult | str, float]] = {}
        self.waiting: list[Fold[Any]] = []
        self.failed: dict[Fold[Any], Exception] = {}
        self.running: list[_Running] = []
        self.profile = _Profile()
        self.round = 0

    def run(self) -> dict[str, tuple[RawResult | str, float]]:
        """Result, or error text, and seconds, by check id."""
        for check in self.checks:
            try:
                reason = check.applies(self.context)
                if reason:
                    self.done[check.id] = (RawResult(skipped=True, note=reason), 0.0)
                else:
                    self._enlist(check)
            except Exception as e:  # noqa: BLE001 - a broken check is an ERROR in the report, never a crash or a pass
                self._fail(check, e, 0.0)
        while True:
            self._start_ready()
            if not self.running:
                if self.round == 0:
                    self._pass("reading")  # the data are read and validated even where no check applies
                break
            self._pass(", ".join(sorted({_name(r.fold) for r in self.running})))
            self._advance()
        for check in self.checks:
            if check.id not in self.done:
                self._fail(check, RuntimeError("it never ran: the signals that it needs wait for each other"), 0.0)
        return self.done

    def _enlist(self, fold: Fold[Any]) -> None:
        if fold in self.waiting:
            return
        for signal in fold.needs(self.context):
            self._enlist(signal)
        self.waiting.append(fold)

    def _start_ready(self) -> None:
        again = True
        while again:
            again = False
            for fold in list(self.waiting):
                needs = fold.needs(self.context)
                broken = next((s for s in needs if s in self.failed), None)
                if broken is not None:
                    self.waiting.remove(fold)
                    cause = self.failed[broken]
                    if not isinstance(cause, NotApplicableError):
                        cause = RuntimeError(f"{_name(broken)} failed: {type(cause).__name__}: {cause}")
                    self._fail(fold, cause, 0.0)
                    again = True
                elif all(s in self.values for s in needs):
                    self.waiting.remove(fold)
                    try:
                        self.running.append(_Running(fold, fold.start(self.context)))
                    except Exception as e:  # noqa: BLE001
                        self._fail(fold, e, 0.0)
                        again = True

    def _pass(self, stage: str) -> None:
        self.round += 1
        rows = 0
        for batch in self.dataset.batches():
            if self.round == 1:
                self.profile.scan(batch)
            for running in list(self.running):
                clock = time.perf_counter()
                try:
                    running.fold.scan(running.state, batch)
                except InputError:
                    raise
                except Exception as e:  # noqa: BLE001
                    self.running.remove(running)
                    self._fail(running.fold, e, running.seconds)
                running.seconds += time.perf_counter() - clock
            rows += batch.num_rows
            if self.progress:
                self.progress(Progress(self.round, self.label or stage, rows, self.dataset.rows))

    def _advance(self) -> None:
        for running in list(self.running):
            clock = time.perf_counter()
            try:
                following = running.fold.next_round(running.state)
                if following is not None:
                    running.state = following
                    continue
                self.running.remove(running)
                if isinstance(running.fold, Signal):
                    self.values[running.fold] = running.fold.value(running.state)
                elif isinstance(running.fold, Check):
                    result = running.fold.finish(running.state)
                    _refuse_unsound(result, self.dataset.rows or 0)
                    seconds = running.seconds + time.perf_counter() - clock
                    self.done[running.fold.id] = (result, seconds)
            except Exception as e:  # noqa: BLE001
                if running in self.running:
                    self.running.remove(running)
                self._fail(running.fold, e, running.seconds)
            finally:
                running.seconds += time.perf_counter() - clock

    def _fail(self, fold: Fold[Any], error: Exception, seconds: float) -> None:
        self.failed[fold] = error
        if isinstance(fold, Check):
            skipped = isinstance(error, NotApplicableError)
            said = RawResult(skipped=True, note=str(error)) if skipped else f"{type(error).__name__}: {error}"
            self.done[fold.id] = (said, seconds)

    def charts(self, results: Sequence[CheckResult]) -> dict[str, Any]:
        """Flagged rows over the file, by source and by label, for the plots of the report."""
        total = self.dataset.rows or 0
        bins = min(CHART_BINS, max(1, total))
        edges = np.linspace(0, total, bins + 1)
        charts: dict[str, Any] = {"over_file": {"edges": [int(e) for e in edges]}}
        for severity in ("block", "review"):
            rows = sorted({r for c in results for f in c.findings if f.severity == severity for r in f.rows})
            charts["over_file"][severity] = np.histogram(rows, bins=edges)[0].tolist() if total else []
        for role, flagged in self.flagged_groups.items():
            totals = self.profile.counts[role]
            names = sorted(totals, key=lambda n: (-sum(flagged.get(n, {}).values()), -totals[n], n))[:MAX_GROUPS]
            charts[f"by_{role}"] = [
                {"name": n, "rows": totals[n]} | {s: flagged.get(n, {}).get(s, 0) for s in ("block", "review")}
                for n in names
            ]
        return charts

    flagged_groups: Mapping[str, Mapping[str, Mapping[str, int]]] = {}


def _refuse_unsound(result: Any, total: int) -> None:
    """Refuse what no evidence can be read for, while it still counts as this check's own error."""
    if not isinstance(result, RawResult):
        raise TypeError(f"finish returned a {type(result).__name__}, not a RawResult")
    for finding in result.findings:
        rows = np.concatenate([finding.rows, [e.row for e in finding.examples]]) if finding.examples else finding.rows
        if len(rows) and (np.min(rows) < 0 or np.max(rows) >= total):
            raise ValueError(f'the finding "{finding.kind}" names rows outside of the {total} that there are')


def _name(fold: Fold[Any]) -> str:
    return fold.id if isinstance(fold, Check) else type(fold).__name__


@dataclass
class _Wanted:
    """Rows whose ids, sources or texts the report shows, filled in one pass over the data."""

    rows: npt.NDArray[np.int64]
    examples: dict[int, set[str | None]]
    ids: dict[int, str] = field(default_factory=dict)
    groups: dict[str, dict[int, str]] = field(default_factory=lambda: {"source": {}, "label": {}})
    texts: dict[tuple[int, str | None], dict[str, str]] = field(default_factory=dict)

    def scan(self, batch: Batch) -> None:
        low, high = np.searchsorted(self.rows, [batch.start, batch.start + batch.num_rows])
        if low == high:
            return
        mine = self.rows[low:high]
        part = batch.columns.take(pa.array(mine - batch.start))
        self.ids.update(zip(mine.tolist(), row_ids(part)))
        for role, held in self.groups.items():
            if batch.has(role):
                held.update(zip(mine.tolist(), part.column(part.schema.get_field_index(role)).to_pylist()))
        shown = [r for r in (*TEXT_ROLES, "label", "source") if batch.has(r)]
        for at, row in enumerate(mine.tolist()):
            for around in self.examples.get(row, ()):
                values = {r: part.column(part.schema.get_field_index(r))[at].as_py() for r in shown}
                self.texts[row, around] = {r: excerpt(v, around) for r, v in values.items()}


def excerpt(text: str, around: str | None = None, chars: int = EXCERPT_CHARS) -> str:
    """At most ``chars`` characters of the text, centred on the first occurrence of ``around`` where there is one."""
    if len(text) <= chars:
        return text
    at = max(0, text.lower().find(around.lower())) if around else 0
    left = max(0, min(at - chars // 2, len(text) - chars))
    return ("…" if left else "") + text[left : left + chars] + ("…" if left + chars < len(text) else "")


def _with_evidence(
    dataset: Dataset, raw: Mapping[str, tuple[RawResult | str, float]], loop: _Loop
) -> list[CheckResult]:
    found = [f for result, _ in raw.values() if isinstance(result, RawResult) for f in result.findings]
    examples: dict[int, set[str | None]] = {}
    for finding in found:
        for example in finding.examples[:MAX_EXAMPLES]:
            examples.setdefault(example.row, set()).add(example.around)
    parts = [f.rows for f in found] + [np.fromiter(examples, dtype=np.int64, count=len(examples))]
    wanted = _Wanted(np.unique(np.concatenate(parts)).astype(np.int64), examples)
    if len(wanted.rows):
        for batch in dataset.batches():
            wanted.scan(batch)
    parameters = {c.id: c.parameters for c in loop.checks}
    results = []
    for check_id in sorted(raw):
        result, seconds = raw[check_id]
        common: dict[str, Any] = {"parameters": parameters[check_id], "seconds": round(seconds, 3)}
        if isinstance(result, str):
            results.append(CheckResult(check=check_id, outcome=Outcome.ERROR, note=result, **common))
        elif result.skipped:
            results.append(CheckResult(check=check_id, outcome=Outcome.SKIPPED, note=result.note, **common))
        else:
            findings = [_finding(check_id, f, wanted) for f in result.findings]
            results.append(
                CheckResult.from_findings(check_id, findings, metrics=dict(result.metrics), note=result.note, **common)
            )
    loop.flagged_groups = {
        role: _flagged_by(held, results) for role, held in wanted.groups.items() if loop.profile.counts[role]
    }
    return results


def _finding(check_id: str, raw: Any, wanted: _Wanted) -> Finding:
    rows = np.unique(raw.rows).tolist()
    by_source = Counter(wanted.groups["source"][r] for r in rows if r in wanted.groups["source"])
    return Finding(
        check=check_id, kind=raw.kind, severity=raw.severity, message=raw.message, feature=raw.feature,
        target=raw.target, rows=tuple(rows), ids=tuple(wanted.ids[r] for r in rows), observed=raw.observed,
        limit=raw.limit, statistic=dict(raw.statistic), sources=dict(by_source.most_common(10)),
        examples=tuple(_example(e, wanted) for e in raw.examples[:MAX_EXAMPLES]),
    )  # fmt: skip


def _example(raw: RawExample, wanted: _Wanted) -> Example:
    return Example(row=raw.row, id=wanted.ids[raw.row], texts=wanted.texts[raw.row, raw.around], counter=raw.counter)


def _flagged_by(held: Mapping[int, str], results: Iterable[CheckResult]) -> dict[str, dict[str, int]]:
    worst: dict[int, str] = {}
    for finding in (f for r in results for f in r.findings):
        for row in finding.rows:
            if worst.get(row) != "block":
                worst[row] = finding.severity.value
    counted: dict[str, dict[str, int]] = {}
    for row, severity in worst.items():
        if row in held:
            group = counted.setdefault(held[row], {"block": 0, "review": 0})
            group[severity] += 1
    return counted
