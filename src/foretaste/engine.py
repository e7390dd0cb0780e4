"""The round loop: signals and checks see every batch once per round, then say whether they need another."""

from __future__ import annotations

import ctypes
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs

from foretaste import checks, warming
from foretaste import deliveries as deliveries_module
from foretaste.batch import TEXT_ROLES, TURN, Batch
from foretaste.check import Check, Context, Fold, NotApplicableError, RawExample, RawFinding, RawResult, Signal
from foretaste.deliveries import Deliveries
from foretaste.errors import CheckError, InputError
from foretaste.policy import Policy
from foretaste.power import CHECKS, Planted, summarise
from foretaste.reading import Dataset, open_data
from foretaste.reading.dataset import row_ids
from foretaste.results import CheckResult, DataInfo, Example, Finding, Outcome, Report, WaiverRecord
from foretaste.roles import Roles
from foretaste.signals.outputs import Classes, Labels
from foretaste.sweep import Data, Input, Itself, Part, cores
from foretaste.twins import with_twins
from foretaste.waivers import Waivers

if TYPE_CHECKING:
    from foretaste.background import Background
    from foretaste.history import History, Store
    from foretaste.provenance.keys import TrustRoot

EXCERPT_CHARS = 320
MAX_EXAMPLES = 8
MAX_GROUPS = 40
CHART_BINS = 60
SIDE_BY_SIDE_ROWS = 2_000_000
TRIM_ROWS = 100_000
_FIXED_MB = 400  # Python, Arrow and compiled code, and some batches


@dataclass(frozen=True)
class Progress:
    """How far a scan is: ``rows`` of ``total`` (``None`` where unknown) in this round."""

    round: int
    stage: str
    rows: int
    total: int | None


ProgressCallback = Callable[[Progress], None]
_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


@dataclass
class _Running(Part):
    """A fold between its first round and its last; not ``supplied`` while it started without some values it needs."""

    fold: Fold[Any]
    supplied: bool = True


@dataclass
class _Profile:
    """Rows per source and per label from row ``first`` on, for the report's charts; at most ``limit`` names of each."""

    first: int = 0
    limit: int = 10_000
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {"source": Counter(), "label": Counter()})
    flagged: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)

    def scan(self, batch: Batch) -> None:
        if batch.start < self.first:
            return
        for role, counter in self.counts.items():
            if batch.has(role):
                for item in pc.value_counts(batch.strings(role)).to_pylist():
                    self._count(counter, item["values"], item["counts"])

    def merge(self, other: _Profile) -> None:
        for role, counter in self.counts.items():
            for name, rows in other.counts[role].items():
                self._count(counter, name, rows)

    def _count(self, counter: Counter[str], name: str, rows: int) -> None:
        counter[name if name in counter or len(counter) < self.limit else "(other)"] += rows


def scan(
    data: Any,
    policy: Policy | str | Path | Mapping[str, Any] | None = None,
    *,
    roles: Roles | Mapping[str, str | None] | None = None,
    filesystem: pa.fs.FileSystem | None = None,
    waivers: Waivers | str | Path | None = None,
    attestations: Sequence[str | Path] = (),
    trust: TrustRoot | str | Path | None = None,
    memory_mb: int | None = None,
    progress: ProgressCallback | None = None,
    state: str | Path | Store | None = None,
    advance: bool = True,
    accept: Literal["review", "pass"] | None = None,
    spark: Any = None,
) -> Report:
    """Scan data for poison.

    Args:
        data: a path, glob, directory or address; a pandas, polars, pyarrow or Spark object (see
            :mod:`foretaste.reading` and :mod:`foretaste.spark`).
        policy: a :class:`Policy`, a mapping, or the path of a YAML file; the default policy where ``None``.
        roles: which column plays which role; what is missing is guessed from common names and reported.
        filesystem: for paths on a file system that Arrow does not know by address.
        waivers: a waiver file, or what :meth:`foretaste.waivers.Waivers.load` made of it.
        attestations: files of delivery attestations (see :mod:`foretaste.deliveries`), judged by ``trust``.
        trust: keys that may sign deliveries; a trust file or what was read from one.
        memory_mb: mebibytes that the process may take; those of the policy where ``None``.
        progress: called after every batch.
        state: what earlier batches left (see :mod:`foretaste.history`): a path or address, made where there is none.
        advance: whether data that are accepted enter the state.
        accept: the worst verdict with which data enter it; that of the policy where ``None``.
        spark: scan files on this Spark session; ``True`` or a mapping of its configuration makes one.

    Returns:
        the report. A check that fails makes the verdict ``error``, never a pass.

    Raises:
        InputError: if the data cannot be read as they stand.
        PolicyError: if the policy or the waiver file is not valid.
        StateError: if the state cannot be read, does not fit the data, or was changed by another scan meanwhile.
        CheckError: if a check of another package cannot be loaded, or ends the process.
    """
    chosen = Policy.load(policy)
    root = _trust(trust)
    waived = Waivers.load(waivers, root)
    if memory_mb is not None:
        chosen = dataclasses.replace(chosen, memory_mb=memory_mb)
    wanted = roles if isinstance(roles, Roles) else Roles.from_mapping(roles or {})
    with _opened(data, wanted, filesystem, chosen, spark) as dataset, _helped(dataset), _ending_nothing():
        deliveries = Deliveries()
        if attestations:
            if root is None:
                raise InputError("attestations are given and no trust file says what they are worth; name one")
            deliveries = deliveries_module.verify(attestations, dataset.digest, root)
        if state is None:
            return run(dataset, chosen, progress, waivers=waived, deliveries=deliveries)
        from foretaste.history import History, Store

        history = History.load(state if isinstance(state, Store) else Store(str(state)), dataset)
        report = run(dataset, chosen, progress, history, waived, deliveries)
        return history.settle(report, dataset, chosen, advance=advance, accept=accept or chosen.history.accept)


@contextmanager
def _ending_nothing() -> Iterator[None]:
    """A check that ends the process with code 0 would look like a pass to whoever started it."""
    try:
        yield
    except SystemExit as e:
        raise CheckError(
            f"a check ended the process with code {e.code}: nothing is passed; repair or uninstall it"
        ) from e


@contextmanager
def _opened(
    data: Any, roles: Roles, filesystem: pa.fs.FileSystem | None, policy: Policy, spark: Any
) -> Iterator[Input]:
    """The data, opened here or on Spark."""
    if spark is None and not type(data).__module__.startswith("pyspark."):
        yield open_data(data, roles, filesystem=filesystem, options=policy.input)
        return
    from foretaste.spark import open_files, open_spark, session

    if spark is None:
        with open_spark(data, roles, policy.input) as opened:
            yield opened
        return
    with session(spark) as running:
        yield open_files(data, roles, policy.input, running, filesystem)


def _helped(dataset: Input) -> AbstractContextManager[None]:
    """On Spark it is the workers that compile."""
    return warming.helped(dataset.kind) if isinstance(dataset, Dataset) else nullcontext()


def tables_bytes(memory_mb: int) -> int:
    """Bytes for what grows with the data, of the mebibytes that the whole process may take."""
    return max(memory_mb - _FIXED_MB, memory_mb // 8) << 20


def _give_back() -> None:
    """Return to the system what was freed: between two rounds the C library and Arrow would keep it."""
    pa.default_memory_pool().release_unused()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return  # not the GNU C library


def _trust(trust: TrustRoot | str | Path | None) -> TrustRoot | None:
    if trust is None:
        return None
    from foretaste.provenance.keys import TrustRoot

    return TrustRoot.load(trust)


def run(
    dataset: Input,
    policy: Policy,
    progress: ProgressCallback | None = None,
    history: History | None = None,
    waivers: Waivers | None = None,
    deliveries: Deliveries | None = None,
) -> Report:
    """Run a policy over an open data set; see :func:`scan`."""
    clock = time.perf_counter()
    if isinstance(dataset, Dataset):
        dataset.keep_bytes = tables_bytes(policy.memory_mb) // 4
    started = datetime.now(UTC).isoformat(timespec="seconds")
    raw: dict[str, tuple[RawResult | str, float]] = {}
    loop: _Loop | None = None
    classes: Classes | None = None
    values: dict[Signal[Any, Any], Any] = {}
    for view in history.views(policy) if history is not None else (None,):
        if view is None:
            mine = _Loop(dataset, policy, progress, deliveries=deliveries)
            raw |= mine.run()
            if dataset.kept:
                values = dict(mine.values)
        else:
            part = policy.only(*view.checks)
            mine = _Loop(view.over(dataset), part, progress, view.background, view.rows, deliveries=deliveries)
            raw |= {i: (view.apart(r) if isinstance(r, RawResult) else r, s) for i, (r, s) in mine.run().items()}
        loop = loop or mine
        found = mine.values.get(Labels())
        if found is not None:
            classes = dataclasses.replace(found, labels=found.labels[view.rows if view else 0 :])
        mine.values.clear()
    assert loop is not None
    raw = with_twins(dataset, raw)
    results, records = _with_evidence(dataset, raw, policy, loop.profile, history, waivers or Waivers())
    charts = _charts(dataset, results, loop.profile)
    power, demanded = _power(dataset, policy, classes, progress, values)
    dataset.refuse_changed()
    if demanded is not None:
        results.append(demanded)
    info = DataInfo(
        name=dataset.name, kind=dataset.kind, rows=dataset.rows or 0, bytes=dataset.bytes, digest=dataset.digest,
        roles=dataset.roles.as_dict(), guessed_roles=dataset.guessed,
        files=len(dataset.files.paths) if dataset.files else 0, shape=dataset.shape,
        notes=dataset.notes,
        versions=dataset.files.versions if dataset.files else {},
    )  # fmt: skip
    if history is not None:
        history.remember(raw)
    return Report(
        data=info, results=tuple(results), policy_digest=policy.digest, started=started,
        seconds=round(time.perf_counter() - clock, 3), charts=charts, power=power,
        waivers=records,
    )  # fmt: skip


def _power(
    dataset: Input,
    policy: Policy,
    classes: Classes | None,
    progress: ProgressCallback | None,
    known: dict[Signal[Any, Any], Any],
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
        if planted.plants.rows_of:
            loop = _Loop(planted, policy.only(*ids), progress, label="power")
            loop.values.update(planted.values(known) if known else {})
            known.clear()
            raw = loop.run()
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
        self,
        dataset: Data,
        policy: Policy,
        progress: ProgressCallback | None,
        background: Background | None = None,
        before: int = 0,
        label: str = "",
        deliveries: Deliveries | None = None,
    ) -> None:
        self.dataset = dataset
        self.progress = progress
        self.label = label
        self.values: dict[Signal[Any, Any], Any] = {}
        self.context = Context(
            dataset.kind,
            dataset.canonical_roles,
            self.values,
            policy.seed,
            background,
            deliveries or Deliveries(),
            tables_bytes(policy.memory_mb),
            # An object in memory takes other sizes with other libraries and on a cluster, and the sketches must not differ.
            getattr(dataset, "bytes", 0) if getattr(dataset, "files", None) is not None else 0,
        )
        self.checks = policy.checks
        self.done: dict[str, tuple[RawResult | str, float]] = {}
        self.waiting: list[Fold[Any]] = []
        self.failed: dict[Fold[Any], Exception] = {}
        self.running: list[_Running] = []
        self.paused: list[_Running] = []
        self.profile = _Profile(before)
        self.round = 0

    def run(self) -> dict[str, tuple[RawResult | str, float]]:
        """Result, or error text, and processor seconds, by check id."""
        for check in self.checks:
            try:
                reason = check.applies(self.context)
                if reason:
                    self.done[check.id] = (RawResult(skipped=True, note=reason), 0.0)
                else:
                    self.enlist(check)
            except Exception as e:  # noqa: BLE001 - a broken check is an ERROR in the report, never a crash or a pass
                self._fail(check, e, 0.0)
        self.rounds()
        for check in self.checks:
            if check.id not in self.done:
                self._fail(check, RuntimeError("it never ran: the signals that it needs wait for each other"), 0.0)
        return self.done

    def rounds(self) -> None:
        """Round after round, until no fold asks for another."""
        while True:
            self._start_ready()
            if not self.running:
                if self.round == 0:
                    self._pass("reading")  # the data are read and validated even where no check applies
                break
            self._pass(", ".join(sorted({_name(r.fold) for r in self.running})))
            self._advance()

    def enlist(self, fold: Fold[Any]) -> None:
        """Have a fold run, and the signals that it needs before it."""
        if fold in self.waiting or fold in self.values:
            return
        for signal in fold.needs(self.context):
            self.enlist(signal)
        self.waiting.append(fold)

    def _start_ready(self) -> None:
        again = True
        while again:
            again = False
            ready: list[Fold[Any]] = []
            for fold in list(self.waiting):
                needs = fold.needs_first(self.context)
                if self._broken(fold):
                    self.waiting.remove(fold)
                    again = True
                elif all(s in self.values for s in needs):
                    self.waiting.remove(fold)
                    ready.append(fold)
            for fold, started in zip(ready, self._side_by_side(self._begin, ready)):
                if isinstance(started, Exception):
                    self._fail(fold, started, 0.0)
                    again = True
                else:
                    self.running.append(started)

    def _begin(self, fold: Fold[Any]) -> _Running | Exception:
        """A fold with the state that it starts from, or what it raised."""
        clock = time.thread_time()
        try:
            state = fold.start(self.context)
            supplied = all(s in self.values for s in fold.needs(self.context))
        except Exception as e:  # noqa: BLE001 - a broken check is an error in the report, never a crash or a pass
            return e
        return _Running(fold, state, seconds=time.thread_time() - clock, supplied=supplied)

    def _side_by_side(self, do: Callable[[_Given], _Made], items: list[_Given]) -> list[_Made]:
        """What comes of each item; one after the other where there are many rows, as what concludes sorts and takes room."""
        threads = 1 if (self.dataset.rows or 0) > SIDE_BY_SIDE_ROWS else min(cores(), len(items))
        if threads < 2:
            return [do(item) for item in items]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(do, items))

    def _broken(self, fold: Fold[Any]) -> bool:
        """Whether a signal that the fold needs has failed; then it fails as well."""
        broken = next((s for s in fold.needs(self.context) if s in self.failed), None)
        if broken is None:
            return False
        cause = self.failed[broken]
        if not isinstance(cause, NotApplicableError):
            cause = RuntimeError(f"{_name(broken)} failed: {type(cause).__name__}: {cause}")
        self._fail(fold, cause, 0.0)
        return True

    def _supplied(self) -> list[_Running]:
        """Those of the paused folds whose missing values have come."""
        self.paused = [r for r in self.paused if not self._broken(r.fold)]
        ready = [r for r in self.paused if all(s in self.values for s in r.fold.needs(self.context))]
        self.paused = [r for r in self.paused if r not in ready]
        for running in ready:
            running.supplied = True
            running.fold.supply(running.state, self.context)
        return ready

    def _pass(self, stage: str) -> None:
        self.round += 1
        parts: list[Part] = list(self.running)
        profile = Part(Itself(), self.profile)
        if self.round == 1:
            parts.append(profile)

        def tick(rows: int) -> None:
            if self.progress:
                self.progress(Progress(self.round, self.label or stage, rows, self.dataset.rows))

        self.dataset.sweep(parts, tick)
        if (self.dataset.rows or 0) > TRIM_ROWS:
            _give_back()
        if profile.error:
            raise profile.error
        self.profile = profile.state
        for running in list(self.running):
            if running.error is not None:
                self.running.remove(running)
                self._fail(running.fold, running.error, running.seconds)

    def _advance(self) -> None:
        self.paused += [r for r in self.running if not r.supplied]
        ready = [r for r in self.running if r.supplied]
        self.running = []
        while ready:
            for running, (outcome, error) in zip(ready, self._side_by_side(self._conclude, ready)):
                fold = running.fold
                if error is not None:
                    self._fail(fold, error, running.seconds)
                elif outcome is None:
                    self.running.append(running)
                elif isinstance(fold, Signal):
                    self.values[fold] = outcome[0]
                elif isinstance(fold, Check):
                    self.done[fold.id] = (outcome[0], running.seconds)
            ready = self._supplied()
        if (self.dataset.rows or 0) > TRIM_ROWS:
            _give_back()

    def _conclude(self, running: _Running) -> tuple[tuple[Any] | None, Exception | None]:
        """The value or result of a fold that has seen enough, ``None`` before that, or what it raised."""
        clock = time.thread_time()
        fold = running.fold
        try:
            following = fold.next_round(running.state)
            if following is not None:
                running.state = following
                return None, None
            if isinstance(fold, Check):
                result = fold.finish(running.state)
                _refuse_unsound(result, self.dataset.rows or 0)
                return (result,), None
            return (fold.value(running.state) if isinstance(fold, Signal) else None,), None
        except Exception as e:  # noqa: BLE001 - a broken check is an error in the report, never a crash or a pass
            return None, e
        finally:
            running.seconds += time.thread_time() - clock

    def _fail(self, fold: Fold[Any], error: Exception, seconds: float) -> None:
        self.failed[fold] = error
        if isinstance(fold, Check):
            skipped = isinstance(error, NotApplicableError)
            said = RawResult(skipped=True, note=str(error)) if skipped else f"{type(error).__name__}: {error}"
            self.done[fold.id] = (said, seconds)


def _charts(dataset: Input, results: Sequence[CheckResult], profile: _Profile) -> dict[str, Any]:
    """Flagged rows over the file, by source and by label, for the plots of the report."""
    total = dataset.rows or 0
    bins = min(CHART_BINS, max(1, total))
    edges = np.linspace(0, total, bins + 1)
    charts: dict[str, Any] = {"over_file": {"edges": [int(e) for e in edges]}}
    for severity in ("block", "review"):
        found = (f for c in results for f in c.findings if f.severity == severity and not f.waived)
        rows = sorted({r for f in found for r in f.rows})
        charts["over_file"][severity] = np.histogram(rows, bins=edges)[0].tolist() if total else []
    for role, flagged in profile.flagged.items():
        totals = profile.counts[role]
        names = sorted(totals, key=lambda n: (-sum(flagged.get(n, {}).values()), -totals[n], n))[:MAX_GROUPS]
        charts[f"by_{role}"] = [
            {"name": n, "rows": totals[n]} | {s: flagged.get(n, {}).get(s, 0) for s in ("block", "review")}
            for n in names
        ]
    return charts


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


_Spot = tuple[str | None, str | None]  # what is shown of a row: the text around a trigger, and what it teaches


@dataclass
class _Wanted:
    """Rows whose ids, sources or texts the report shows, filled in one pass over the data."""

    rows: npt.NDArray[np.int64]
    examples: dict[int, set[_Spot]]
    ids: dict[int, str] = field(default_factory=dict)
    groups: dict[str, dict[int, str]] = field(default_factory=lambda: {"source": {}, "label": {}})
    texts: dict[tuple[int, _Spot], dict[str, str]] = field(default_factory=dict)

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
        shown = [r for r in (*TEXT_ROLES, "label", "source", "annotator", "time") if batch.has(r)]
        for at, row in enumerate(mine.tolist()):
            for spot in self.examples.get(row, ()):
                values = {r: part.column(part.schema.get_field_index(r))[at].as_py() for r in shown}
                self.texts[row, spot] = _excerpts(values, *spot)

    def merge(self, other: _Wanted) -> None:
        self.ids |= other.ids
        self.texts |= other.texts
        for role, held in self.groups.items():
            held.update(other.groups[role])


def _excerpts(texts: Mapping[str, str], around: str | None, target: str | None) -> dict[str, str]:
    """Excerpts of the texts of a row, by role; of a conversation, the turn that holds what is shown, with its number.

    That is the prompt with the trigger and the response that begins with the target, or else the response to that prompt.
    """
    turns = {role: text.split(TURN) for role, text in texts.items()}
    sought = {"prompt": around, "response": target}
    held = {
        role: next((i for i, turn in enumerate(turns[role]) if words.lower() in turn.lower()), None)
        for role, words in sought.items()
        if words and role in turns
    }
    known = [at for at in held.values() if at is not None]
    shown = {}
    for role, mine in turns.items():
        at = held.get(role)
        if at is None:
            at = min(known[0] if known and role in sought else 0, len(mine) - 1)
        said = f"[turn {at + 1} of {len(mine)}] " if len(mine) > 1 else ""
        shown[role] = said + excerpt(mine[at], around)
    return shown


def excerpt(text: str, around: str | None = None, chars: int = EXCERPT_CHARS) -> str:
    """At most ``chars`` characters of the text, centred on the first occurrence of ``around`` where there is one."""
    if len(text) <= chars:
        return text
    at = max(0, text.lower().find(around.lower())) if around else 0
    left = max(0, min(at - chars // 2, len(text) - chars))
    return ("…" if left else "") + text[left : left + chars] + ("…" if left + chars < len(text) else "")


def _with_evidence(
    dataset: Input,
    raw: Mapping[str, tuple[RawResult | str, float]],
    policy: Policy,
    profile: _Profile,
    history: History | None,
    waivers: Waivers,
) -> tuple[list[CheckResult], tuple[WaiverRecord, ...]]:
    found = [f for result, _ in raw.values() if isinstance(result, RawResult) for f in result.findings]
    examples: dict[int, set[_Spot]] = {}
    for finding in found:
        for example in finding.examples[:MAX_EXAMPLES]:
            examples.setdefault(example.row, set()).add((example.around, finding.target))
    parts = [f.rows for f in found] + [np.fromiter(examples, dtype=np.int64, count=len(examples))]
    wanted = _Wanted(np.unique(np.concatenate(parts)).astype(np.int64), examples)
    if len(wanted.rows):
        part = Part(Itself(), wanted)
        dataset.sweep([part], lambda rows: None)
        if part.error:
            raise part.error
        wanted = part.state
    parameters = {c.id: c.parameters for c in policy.checks}
    results = []
    for check_id in sorted(raw):
        result, seconds = raw[check_id]
        package = checks.packages().get(check_id, "")
        common: dict[str, Any] = {
            "parameters": parameters[check_id],
            "seconds": round(seconds, 3),
            "package": package,
        }
        if isinstance(result, str):
            results.append(CheckResult(check=check_id, outcome=Outcome.ERROR, note=result, **common))
        elif result.skipped:
            results.append(CheckResult(check=check_id, outcome=Outcome.SKIPPED, note=result.note, **common))
        else:
            findings = [_finding(check_id, f, wanted, history, profile.counts["source"]) for f in result.findings]
            results.append(
                CheckResult.from_findings(check_id, findings, metrics=dict(result.metrics), note=result.note, **common)
            )
    results, records = waivers.apply(results, dataset.digest, policy.waivers)
    for role, held in wanted.groups.items():
        if profile.counts[role]:
            profile.flagged[role] = _flagged_by(held, results)
    return results, records


def _finding(
    check_id: str, raw: RawFinding, wanted: _Wanted, history: History | None, totals: Mapping[str, int]
) -> Finding:
    rows = np.unique(raw.rows).tolist()
    by_source = Counter(wanted.groups["source"][r] for r in rows if r in wanted.groups["source"])
    return Finding(
        check=check_id, kind=raw.kind, severity=raw.severity, message=raw.message, feature=raw.feature,
        target=raw.target, rows=tuple(rows), ids=tuple(wanted.ids[r] for r in rows), observed=raw.observed,
        limit=raw.limit, statistic=dict(raw.statistic) | concentration(by_source, totals),
        sources=dict(by_source.most_common(10)),
        examples=tuple(_example(e, raw.target, wanted) for e in raw.examples[:MAX_EXAMPLES]), waivable=raw.waivable,
        earlier=history.names(raw.earlier) if history is not None else (),
    )  # fmt: skip


def concentration(rows: Mapping[str, int], totals: Mapping[str, int]) -> dict[str, float]:
    """How far one source owns the rows of a finding, as evidence and never as a verdict.

    Args:
        rows: rows of the finding by source.
        totals: rows of the data by source; more than the top source's are needed to compare.

    Returns:
        ``source_share``: share of the finding's rows that are from its most frequent source, a fraction;
        ``source_expected``: share of all rows from there; ``source_p``: probability that so many of them would come from
        any one source if the rows were drawn without regard to it (hypergeometric tail, Bonferroni over the sources).
        Nothing where the data have one source or none.
    """
    if not rows or len(totals) < 2:
        return {}
    from scipy.stats import hypergeom

    name, top = max(rows.items(), key=lambda item: item[1])
    found, every, mine = sum(rows.values()), sum(totals.values()), totals.get(name, top)
    tail = float(hypergeom.sf(top - 1, every, mine, found))
    return {
        "source_share": top / found,
        "source_expected": mine / every,
        "source_p": min(1.0, tail * len(totals)),
    }


def _example(raw: RawExample, target: str | None, wanted: _Wanted) -> Example:
    texts = wanted.texts[raw.row, (raw.around, target)]
    return Example(row=raw.row, id=wanted.ids[raw.row], texts=texts, counter=raw.counter)


def _flagged_by(held: Mapping[int, str], results: Iterable[CheckResult]) -> dict[str, dict[str, int]]:
    worst: dict[int, str] = {}
    for finding in (f for r in results for f in r.findings if not f.waived):
        for row in finding.rows:
            if worst.get(row) != "block":
                worst[row] = finding.severity.value
    counted: dict[str, dict[str, int]] = {}
    for row, severity in worst.items():
        if row in held:
            group = counted.setdefault(held[row], {"block": 0, "review": 0})
            group[severity] += 1
    return counted


def signal_value(dataset: Dataset, signal: Signal[Any, Any], seed: int = 0) -> Any:
    """The value of one signal, with those that it needs, over an open data set.

    Raises:
        Exception: what the signal, or one that it needs, raises.
    """
    loop = _Loop(dataset, Policy(checks=(), seed=seed), None)
    loop.enlist(signal)
    loop.rounds()
    if signal in loop.failed:
        raise loop.failed[signal]
    return loop.values[signal]
