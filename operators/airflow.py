"""Airflow 3: a gate task before training, as an operator, as a decorator, and around a GX checkpoint.

Nothing here touches data, or imports what reads them, before ``execute``: Airflow parses DAG files again and
again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

from airflow.sdk import Asset, BaseOperator, BaseOperatorLink
from airflow.sdk.bases.decorator import DecoratedOperator, determine_kwargs, task_decorator_factory
from airflow.sdk.definitions.context import context_merge
from airflow.sdk.exceptions import AirflowFailException

from foretaste.errors import ForetasteError, InputError, did_you_mean
from foretaste.operators import _gate
from foretaste.operators._gate import FailOn, GateResult, OnBlock

if TYPE_CHECKING:
    import pyarrow.fs
    from airflow.sdk import Context, ObjectStoragePath
    from airflow.sdk.bases.decorator import TaskDecorator
    from airflow.sdk.types import TaskInstanceKey
    from great_expectations import Checkpoint, ExpectationSuite
    from great_expectations.data_context.data_context.abstract_data_context import AbstractDataContext

XCOM_KEY = "foretaste"


class PoisonReportLink(BaseOperatorLink):
    """Button on the task instance that opens the HTML report."""

    name = "Poison report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Address of the report, empty where the task wrote none. Airflow stores it when the task ends."""
        from airflow.sdk.execution_time.xcom import XCom

        summary = XCom.get_value(ti_key=ti_key, key=XCOM_KEY)
        return str(summary.get("report_url") or "") if isinstance(summary, Mapping) else ""


class PoisonGateOperator(BaseOperator):
    """Scan data for poison, and fail before what is downstream can train on it.

    The task pushes a summary to XCom under the key ``foretaste``, then fails without a retry; a storage out
    of reach is tried again as usual. It returns the path that training should read: ``train(gate.output)``.
    An error of a check always fails the task, whatever ``on_block`` says.

    All arguments but ``recheck`` and ``out_conn_id`` are templated; a template may also give the numbers in a
    policy.

    Args:
        data: path, glob, directory, address, ``Asset`` or ``ObjectStoragePath``; or the output of another
            task.
        out: directory or address for ``report.json``, ``report.html`` and ``flagged.parquet``. Give every run its own:
            ``/data/gates/{{ run_id }}``. Workers with their own disks need an address.
        policy: YAML file (a relative path counts from the DAG file), YAML text, or a mapping; the default
            policy where ``None``.
        roles: which column plays which role, ``{"text": "body", "label": "class"}``; guessed from common
            names where ``None``.
        conn_id: Airflow connection that opens ``data``; also as ``s3://conn_id@bucket/key``.
        out_conn_id: Airflow connection that opens ``out``; also as part of the address.
        on_block: ``fail``; ``quarantine`` sets the poisoned rows apart and returns the path of the clean
            rest; ``warn`` logs and lets the data through.
        fail_on: ``block``, or ``review`` to act on findings for review too.
        recheck: after a quarantine, scan the clean rest and fail unless it passes.
        waivers: local waiver file (see :mod:`foretaste.waivers`).
        attestations: local files in which sources signed for ``data`` (see :mod:`foretaste.deliveries`), for the source
            allowlist. They are about files: none fits a frame.
        trust: local trust file by which the signatures of waivers and attestations are judged.
        certify_with: local PEM file of the private key that signs a certificate for what passed, into ``out``.
        report_url: address under which people open what lies in ``out``, for the link; that of ``out`` itself
            where ``None``.
        state: path or address of a file with what earlier batches left, so that a slow drip adds up; made where there is
            none. Opened with ``out_conn_id``. Let one task at a time write it (``max_active_tis_per_dag=1``).
        spark: scan on Spark: ``True``, or its configuration, such as ``{"spark.master": "spark://host:7077"}``. The
            task is the driver; ``data`` must be readable by the workers, who need foretaste.

    Raises:
        AirflowFailException: if the data are refused, or cannot be read as they stand.
    """

    template_fields: Sequence[str] = (
        "data", "out", "policy", "roles", "conn_id", "on_block", "fail_on", "waivers", "attestations", "trust",
        "certify_with", "report_url", "state", "spark",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = {"policy": "py", "roles": "py"}
    operator_extra_links = (PoisonReportLink(),)
    ui_color = "#f4e3d7"

    def __init__(
        self,
        *,
        data: Any,
        out: str,
        policy: str | Path | Mapping[str, Any] | None = None,
        roles: Mapping[str, str | None] | str | None = None,
        conn_id: str | None = None,
        out_conn_id: str | None = None,
        on_block: OnBlock = "fail",
        fail_on: FailOn = "block",
        recheck: bool = True,
        waivers: str | None = None,
        attestations: Sequence[str] | str | None = None,
        trust: str | None = None,
        certify_with: str | None = None,
        report_url: str | None = None,
        state: str | None = None,
        spark: bool | Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.data = data
        self.out = out
        self.policy = policy
        self.roles = roles
        self.conn_id = conn_id
        self.out_conn_id = out_conn_id
        self.on_block = on_block
        self.fail_on = fail_on
        self.recheck = recheck
        self.waivers = waivers
        self.attestations = attestations
        self.trust = trust
        self.certify_with = certify_with
        self.report_url = report_url
        self.state = state
        self.spark = spark

    def execute(self, context: Context) -> str:
        """Scan; push the summary; fail, or return the path that training should read."""
        try:
            summary = self._run(context)
        except ForetasteError as e:
            retry = _gate.worth_retrying(e)
            _push(context, _unreadable(e))
            self.log.error("%s%s", e, "; worth another try" if retry else "")
            if retry:
                raise
            raise AirflowFailException(str(e)) from e
        _push(context, summary)
        if not summary["proceed"]:
            raise AirflowFailException(f"{summary['reason']}; report: {summary['report_url']}")
        if summary["action"] == "warn":
            self.log.warning("let through because on_block is warn: %s", summary["reason"])
        self._tell_assets(context, summary)
        return str(summary["path"])

    def _run(self, context: Context) -> dict[str, Any]:
        source = _Source.find(self.data, _text(self.conn_id))
        with _Out.open(self.out, self.out_conn_id) as out:
            result = _gate.run_gate(
                source.data,
                self._policy(),
                out=out.folder,
                roles=_roles(self.roles),
                filesystem=source.filesystem,
                on_block=self.on_block,
                fail_on=self.fail_on,
                recheck=self.recheck,
                waivers=_text(self.waivers),
                attestations=_files(self.attestations),
                trust=_text(self.trust),
                state=_store(self.state, _text(self.out_conn_id)),
                spark=_gate.parsed(self.spark) or None,
                certify_with=_text(self.certify_with),
                progress=_gate.ProgressLog(self.log.info),
            )
            self._log(result)
            out.publish()

        def locate(path: str) -> str:
            return out.address(path) if out.holds(path) else source.name

        summary = result.summary(locate)
        ours = result.path is not None and out.holds(result.path)
        summary["conn_id"] = _text(self.out_conn_id if ours else self.conn_id)
        summary["data"]["conn_id"] = _text(self.out_conn_id if out.holds(result.scanned) else self.conn_id)
        base = _text(self.report_url)
        page = summary["files"]["report.html"]
        summary["report_url"] = f"{base.rstrip('/')}/report.html" if base else _as_url(page)
        return summary

    def _policy(self) -> str | Path | Mapping[str, Any] | None:
        policy = self.policy
        if isinstance(policy, str):
            if not policy.strip() or policy.strip() == "None":
                return None
            if "\n" not in policy.strip() and not policy.lstrip().startswith("{"):
                beside = Path(self.dag.fileloc).parent / policy
                return beside if beside.is_file() else Path(policy)
            policy = _gate.parsed(policy)
            if not isinstance(policy, Mapping):
                raise InputError("the policy is neither a path nor a YAML mapping; see foretaste policy init")
        return _gate.untemplated(policy) if isinstance(policy, Mapping) else policy

    def _log(self, result: GateResult) -> None:
        say = self.log.info if result.decision.action == "pass" else self.log.warning
        for line in _gate.evidence(result.report):
            say("%s", line)
        if result.quarantine:
            apart = result.quarantine
            say(f"set {apart.quarantined_rows:,} rows apart, {apart.clean_rows:,} are left")
        if result.recheck:
            say(f"second scan, of what is left: {result.recheck.headline()}")

    def _tell_assets(self, context: Context, summary: Mapping[str, Any]) -> None:
        names = ("verdict", "headline", "action", "path", "digest", "rows", "block_rows", "review_rows")
        extra = {n: summary[n] for n in (*names, "policy_digest", "version", "report_url")}
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra["foretaste"] = extra


class _PoisonGateDecoratedOperator(DecoratedOperator, PoisonGateOperator):
    """What ``@task.poison_gate`` makes: a function returns the data, the gate scans them."""

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(f for f in PoisonGateOperator.template_fields if f != "data"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **PoisonGateOperator.template_fields_renderers,
    }
    custom_operator_name: str = "@task.poison_gate"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            data=None,
            **kwargs,
        )

    def execute(self, context: Context) -> str:
        """Call the function and scan what it returns."""
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        # Not rendered: what the function returns is data, and a template in data is an injection.
        self.data = self.python_callable(*self.op_args, **kwargs)
        return PoisonGateOperator.execute(self, context)


def poison_gate_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """``@task.poison_gate``: the function returns a path or a frame, and the task returns the path to read.

    A frame is written to ``out/data.parquet`` first, and that file is what is scanned and returned. The other
    arguments are those of :class:`PoisonGateOperator`.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=False,
        decorated_operator_class=_PoisonGateDecoratedOperator,
        **kwargs,
    )


class GXCheckpointOperator(BaseOperator):
    """Run a Great Expectations checkpoint, and fail on what GX itself lets slip.

    GX drops an expectation whose class is not imported and goes on, and an empty suite succeeds. This operator
    imports ``foretaste.expectations``, compares what the suites store with what was evaluated, and fails without a
    retry on any difference, on an empty suite and on every expectation that was not met or could not be evaluated.
    It pushes a summary to XCom under the key ``foretaste`` before it fails. A data source out of reach is tried
    again as usual.

    Args:
        checkpoint: name of a stored checkpoint (templated).
        configure: instead of a name, a function from the data context to a checkpoint.
        context_root_dir: directory of ``great_expectations.yml`` (templated); an ephemeral context where ``None``.
        batch_parameters: passed on to the checkpoint (templated).
        expectation_parameters: passed on to the checkpoint (templated).

    Raises:
        ValueError: in a DAG file that names neither or both of ``checkpoint`` and ``configure``.
        AirflowFailException: if the checkpoint does not exist or is not met in full.
    """

    template_fields: Sequence[str] = (
        "checkpoint", "context_root_dir", "batch_parameters", "expectation_parameters"
    )  # fmt: skip
    ui_color = "#f4e3d7"

    def __init__(
        self,
        *,
        checkpoint: str | None = None,
        configure: Callable[[AbstractDataContext], Checkpoint] | None = None,
        context_root_dir: str | None = None,
        batch_parameters: Mapping[str, Any] | None = None,
        expectation_parameters: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (checkpoint is None) == (configure is None):
            raise ValueError("name a checkpoint, or give a function that makes one (configure), and not both")
        self.checkpoint = checkpoint
        self.configure = configure
        self.context_root_dir = context_root_dir
        self.batch_parameters = batch_parameters
        self.expectation_parameters = expectation_parameters

    def execute(self, context: Context) -> None:
        """Run the checkpoint; push the summary; fail, or end."""
        try:
            summary = self._run()
        except ForetasteError as e:
            _push(context, _unreadable(e))
            raise AirflowFailException(str(e)) from e
        _push(context, summary)
        self.log.info("%s", summary["headline"])
        if not summary["proceed"]:
            for line in summary["problems"]:
                self.log.error("%s", line)
            raise AirflowFailException(f"{summary['headline']}: {summary['problems'][0]}")

    def _run(self) -> dict[str, Any]:
        try:
            # Registers our expectations, before a suite that names them is read.
            import foretaste.expectations  # noqa: F401
        except ImportError as e:
            raise InputError(f'{e}; install "foretaste[gx]" where the task runs') from e
        checkpoint = self._checkpoint()
        validations = checkpoint.validation_definitions
        if not validations:
            raise InputError(f"checkpoint {checkpoint.name} has no validation definition, so it checks nothing")
        stored = {v.name: _stored(v.suite) for v in validations}
        result = checkpoint.run(
            batch_parameters=dict(self.batch_parameters or {}),
            expectation_parameters=dict(self.expectation_parameters or {}),
        )
        by_id = {r.meta.get("validation_id"): r for r in result.run_results.values()}
        return _checked(checkpoint.name, stored, {v.name: by_id[v.id] for v in validations if v.id in by_id})

    def _checkpoint(self) -> Checkpoint:
        import great_expectations as gx
        from great_expectations.exceptions.exceptions import DataContextError

        root = _text(self.context_root_dir)
        if root is None:
            context: AbstractDataContext = gx.get_context(mode="ephemeral")
        else:
            # GX would make an empty project where there is none.
            if not (Path(root) / "great_expectations.yml").is_file():
                raise InputError(f"no great_expectations.yml in {root}; name the directory that holds it")
            context = gx.get_context(mode="file", context_root_dir=root)
        if self.configure is not None:
            return self.configure(context)
        try:
            return context.checkpoints.get(str(self.checkpoint))
        except DataContextError as e:
            names = [c.name for c in context.checkpoints.all()]
            raise InputError(f'no checkpoint "{self.checkpoint}"; {did_you_mean(str(self.checkpoint), names)}') from e


def require_gate(gate: str, context: Context | None = None, *, verify: bool = True) -> Any:
    """Refuse to go on unless a gate task of this run has let its data through, and they are still the same.

    A trigger rule such as ``all_done`` starts a task after a failed gate. Call this first in such a task, or
    hang it before any operator: ``pre_execute=functools.partial(require_gate, "gate")``.

    In a mapped task group that the gate lies in as well, the gate of the same map index is meant; elsewhere all of them.

    Args:
        gate: task id of the gate, with its task groups.
        context: the task's context; the current one where ``None``.
        verify: read the data again and compare their digest with that of the scan.

    Returns:
        the path to read (``None`` for a checkpoint); a list of them for a mapped gate.

    Raises:
        AirflowFailException: if the gate did not run or let nothing through, or the data have changed since.
    """
    if context is None:
        from airflow.sdk import get_current_context

        context = get_current_context()
    states, found = gate_results(gate, context)
    bad = {name: state for name, state in states.items() if state != "success"}
    if bad:
        raise AirflowFailException(f"the gate has not let its data through: {bad}")
    summaries = [s for s in found if s.get("proceed") is True]
    if len(summaries) != len(states):
        raise AirflowFailException(
            f'{len(states) - len(summaries)} of {len(states)} gates "{gate}" left no result that lets data '
            "through; clear the gate and run it again (one marked as success by hand has checked nothing)"
        )
    for summary in summaries:
        if verify and summary["path"] is not None:
            refuse_changed(summary["path"], summary["digest"], summary.get("conn_id"))
    paths = [s["path"] for s in summaries]
    return paths[0] if list(states) == [gate] or _same_index(gate, context) is not None else paths


def gate_results(gate: str, context: Context) -> tuple[Mapping[str, str], list[Mapping[str, Any]]]:
    """States of the task instances of a gate in this run, and the summaries that they pushed.

    Of a gate that lies in the same mapped task group as the task that asks, those of the same map index alone.

    Raises:
        AirflowFailException: if there is no such task.
    """
    ti, index = context["ti"], _same_index(gate, context)
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[gate], run_ids=[ti.run_id], map_index=index)
    states = states.get(ti.run_id, {})
    if not states:
        raise AirflowFailException(f'no task "{gate}" in this run; name the gate with its task groups')
    only: dict[str, Any] = {} if index is None else {"map_indexes": [index]}
    found = ti.xcom_pull(task_ids=[gate], key=XCOM_KEY, **only)
    return states, [s for s in found if isinstance(s, Mapping)]


def _same_index(gate: str, context: Context) -> int | None:
    """The map index of the task that asks, where the gate lies in the same mapped task group."""
    task, index = context["task"], context["ti"].map_index
    other = task.dag.task_dict.get(gate) if task.dag is not None else None
    if other is None or index is None or index < 0:
        return None
    mine, theirs = task.get_closest_mapped_task_group(), other.get_closest_mapped_task_group()
    return index if mine is not None and theirs is not None and mine.group_id == theirs.group_id else None


def refuse_changed(path: str, wanted: str, conn_id: str | None) -> None:
    """Compare the digest of the data at a path with that of their scan.

    Raises:
        AirflowFailException: if they differ, or the data cannot be read as they stand.
    """
    try:
        source = _Source.find(path, conn_id)
        digest = _gate.digest_of(source.data, source.filesystem)
    except ForetasteError as e:
        if _gate.worth_retrying(e):
            raise
        raise AirflowFailException(str(e)) from e
    if digest != wanted:
        raise AirflowFailException(
            f"{path} has changed since the gate scanned it (now {digest}, scanned {wanted}); run the gate again"
        )


def _stored(suite: ExpectationSuite) -> list[str]:
    """Types of the expectations as the store has them: the suite itself has lost those that it could not build."""
    store = suite._store
    raw = store.get(store.get_key(name=suite.name, id=suite.id))
    return [e["type"] for e in raw["expectations"]]


def _checked(name: str, stored: Mapping[str, list[str]], results: Mapping[str, Any]) -> dict[str, Any]:
    """Summary of a checkpoint's run. What GX would have let slip is among its problems.

    Args:
        name: of the checkpoint.
        stored: types of the stored expectations, by validation definition.
        results: results of the suites, by validation definition.
    """
    from foretaste.expectations.guard import gaps

    # What GX dropped or never ran; what it ran and did not meet follows below.
    problems = gaps(stored, results)
    shown: list[dict[str, Any]] = []
    for validation in stored:
        result = results.get(validation)
        for one in result.results if result else []:
            outcome = _expectation(validation, one)
            shown.append(outcome)
            if not outcome["success"]:
                said = outcome["exception"] or f"observed {outcome['observed']}"
                problems.append(f"{validation}: {outcome['expectation']} was not met: {said}")
        if result is not None and not result.success and not problems:
            problems.append(f"{validation}: not successful")
    met = sum(e["success"] for e in shown)
    verdict = "PASS" if not problems else "BLOCK"
    headline = f"{verdict}: checkpoint {name}, {met} of {sum(map(len, stored.values()))} stored expectations met"
    return {
        "verdict": verdict.lower(),
        "headline": headline,
        "action": "fail" if problems else "pass",
        "proceed": not problems,
        "reason": problems[0] if problems else headline,
        "path": None,
        "digest": None,
        "problems": problems[: _gate.MAX_FINDINGS],
        "problems_total": len(problems),
        "expectations": shown[: _gate.MAX_FINDINGS],
    }


def _expectation(validation: str, result: Any) -> dict[str, Any]:
    raised = [
        str(info.get("exception_message"))
        for info in _exceptions(result.exception_info or {})
        if info.get("raised_exception")
    ]
    return {
        "validation": validation,
        "expectation": result.expectation_config.type,
        "success": bool(result.success) and not raised,
        "observed": _gate.printable(str(result.result.get("observed_value"))),
        "unexpected_count": result.result.get("unexpected_count"),
        "exception": _gate.printable(raised[0]) if raised else None,
    }


def _exceptions(info: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """GX gives one record, or one per metric."""
    if "raised_exception" in info:
        yield info
    else:
        yield from (i for i in info.values() if isinstance(i, Mapping))


class _Source:
    """Where the data lie: what ``foretaste.scan`` takes, and the name under which people know them."""

    def __init__(self, data: Any, filesystem: pyarrow.fs.FileSystem | None, name: str) -> None:
        self.data = data
        self.filesystem = filesystem
        self.name = name

    @classmethod
    def find(cls, data: Any, conn_id: str | None) -> _Source:
        """Resolve an address and its connection. A frame stays what it is."""
        if isinstance(data, Asset):
            data = data.uri
        if data is None or (isinstance(data, str) and _text(data) is None):
            raise InputError("the data argument is empty; did the task before return a path?")
        path = _object_path(data, conn_id)
        if path is None:
            local = isinstance(data, str | Path)
            return cls(str(data) if local else data, None, str(data) if local else "")
        import pyarrow.fs

        filesystem = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(_fs(path)))
        return cls(f"{path.protocol or 'file'}://{path.path}", filesystem, str(data))


class _Out:
    """Where the report goes: a local folder, uploaded when it is complete if ``out`` is an address."""

    def __init__(self, folder: Path, remote: ObjectStoragePath | None, name: str) -> None:
        self.folder = folder
        self.remote = remote
        self.name = name.rstrip("/")

    @classmethod
    @contextmanager
    def open(cls, out: str, conn_id: str | None) -> Iterator[_Out]:
        """Find the place and remove an earlier report, so that a scan that fails leaves no pass behind."""
        name = _text(str(out))
        if name is None:
            raise InputError("the out argument is empty; name a directory or address for the report")
        remote = _object_path(name, conn_id)
        if remote is not None:
            fs, old = _fs(remote), f"{remote.path.rstrip('/')}/report.json"
            if fs.exists(old):
                fs.rm_file(old)
            with tempfile.TemporaryDirectory(prefix="foretaste-") as folder:
                yield cls(Path(folder), remote, name)
            return
        address = urlsplit(name)
        if "://" in name and address.scheme != "file":
            raise InputError(_no_filesystem(address.scheme))
        yield cls(Path(unquote(address.path) if "://" in name else name).absolute(), None, name)

    def publish(self) -> None:
        """Upload, ``report.json`` last: whoever finds it finds the rest."""
        if self.remote is None:
            return
        fs, base = _fs(self.remote), self.remote.path.rstrip("/")
        files = [p.relative_to(self.folder) for p in sorted(self.folder.rglob("*")) if p.is_file()]
        for file in sorted(files, key=lambda f: f == Path("report.json")):
            target = f"{base}/{file.as_posix()}"
            fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            fs.put_file(str(self.folder / file), target)

    def address(self, path: str) -> str:
        """Where a written file is to be found later."""
        if self.remote is None or not self.holds(path):
            return path
        return f"{self.name}/{Path(path).relative_to(self.folder).as_posix()}"

    def holds(self, path: str) -> bool:
        """Whether a path lies in the local folder."""
        return Path(path).is_relative_to(self.folder)


def _store(state: str | None, conn_id: str | None) -> Any:
    """Where the state lies; ``None`` where none is kept."""
    from foretaste.history import Store

    name = _text(None if state is None else str(state))
    path = None if name is None else _object_path(name, conn_id)
    if name is None or path is None:
        return name
    import pyarrow.fs

    filesystem = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(_fs(path)))
    return Store(f"{path.protocol or 'file'}://{path.path}", filesystem)


def _object_path(address: Any, conn_id: str | None) -> ObjectStoragePath | None:
    """The address as Airflow opens it; ``None`` for local paths, frames, and addresses left to Arrow."""
    from airflow.sdk import ObjectStoragePath
    from airflow.sdk.io import has_fs

    if isinstance(address, ObjectStoragePath):
        return address
    if not isinstance(address, str | Path):
        return None
    text = str(address)
    path = ObjectStoragePath(text, conn_id=conn_id) if conn_id or "://" in text else None
    if path is None or (path.conn_id is None and (path.protocol in ("", "file") or not has_fs(path.protocol))):
        return None
    return path


def open_address(address: str, conn_id: str | None) -> ObjectStoragePath | Path:
    """A file that a gate wrote, to read or write: on this machine, or in a storage that Airflow opens."""
    remote = _object_path(address, conn_id)
    if remote is not None:
        return remote
    return Path(unquote(urlsplit(address).path) if "://" in address else address)


def _fs(path: ObjectStoragePath) -> Any:
    try:
        return path.fs
    except ValueError as e:  # what Airflow says of a scheme that no provider brings
        raise InputError(_no_filesystem(path.protocol)) from e


def _no_filesystem(scheme: str) -> str:
    return f'no file system for "{scheme}://"; install the Airflow provider of that storage'


def _text(value: str | None) -> str | None:
    """A rendered template's text; ``None`` where it came out empty."""
    return None if value is None or value.strip() in ("", "None") else value.strip()


def _files(files: Any) -> list[str]:
    """Paths, from a list or what a template made of one; a single path is a list of one."""
    found = _gate.parsed(files)
    listed = [found] if isinstance(found, str | Path) else list(found or ())
    return [name for f in listed if (name := _text(str(f)))]


def _roles(roles: Any) -> Any:
    if isinstance(roles, str):
        given, roles = roles, _gate.parsed(roles)
        if roles is not None and not isinstance(roles, Mapping):
            raise InputError(f'roles must be a mapping such as {{"text": "body"}}, not {given!r}')
    if isinstance(roles, Mapping):
        return {role: _text(column) if isinstance(column, str) else column for role, column in roles.items()}
    return roles


def _as_url(path: str) -> str:
    return path if "://" in path else Path(path).as_uri()


def _push(context: Context, summary: Mapping[str, Any]) -> None:
    context["ti"].xcom_push(key=XCOM_KEY, value=dict(summary))


def _unreadable(error: ForetasteError) -> dict[str, Any]:
    said = _gate.printable(str(error), 500)
    return {
        "verdict": "error",
        "headline": f"ERROR: {said}",
        "action": "fail",
        "proceed": False,
        "reason": said,
        "path": None,
        "digest": None,
        "report_url": None,
    }
