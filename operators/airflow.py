"""Airflow 3: a gate task before training, as an operator, as a decorator, and around a GX checkpoint.

Nothing here touches data, or imports what reads them, before ``execute``: Airflow parses DAG files again and
again.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlencode, urlsplit

from airflow.sdk import Asset, BaseOperator, BaseOperatorLink
from airflow.sdk.bases.decorator import DecoratedOperator, determine_kwargs, task_decorator_factory
from airflow.sdk.definitions.context import context_merge
from airflow.sdk.exceptions import AirflowFailException

from foretaste.errors import ForetasteError, InputError, did_you_mean
from foretaste.operators import _checkpoint, _gate
from foretaste.operators._gate import FailOn, OnBlock
from foretaste.operators._scan_process import ScanProcess, ScanProcessError, request

if TYPE_CHECKING:
    import pyarrow.fs
    from airflow.sdk import Context, ObjectStoragePath
    from airflow.sdk.bases.decorator import TaskDecorator
    from airflow.sdk.types import TaskInstanceKey
    from great_expectations import Checkpoint
    from great_expectations.data_context.data_context.abstract_data_context import AbstractDataContext

XCOM_KEY = "foretaste"
_ELSEWHERE = "a scan in another Python or in the triggerer"
_NO_CONNECTION = (
    f"{_ELSEWHERE} opens no Airflow connection; give an address that Arrow opens itself, such as "
    "s3://bucket/key?region=eu-central-1, with the credentials in the environment of that machine, or leave python and "
    "deferrable out"
)


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
        certify_with: local PEM file of the private key that signs a certificate for what passed, into ``out``, and the
            manifest of a quarantine.
        report_url: address under which people open what lies in ``out``, for the link; the plugin's page where ``None``.
        dataset: name under which the plugin's page keeps the history of these data; that of the asset, or ``data`` as
            the DAG file has it, where ``None``.
        python: interpreter of another environment that has foretaste; the scan runs there. The task's own environment then
            needs no more of foretaste than ``pip install --no-deps`` brings.
        deferrable: give the worker's slot back and scan in a process beside the triggerer, which needs the memory, the data
            and ``out``. After a restart of the triggerer the scan starts again.
        state: path or address of a file with what earlier batches left, so that a slow drip adds up; made where there is
            none. Opened with ``out_conn_id``. Let one task at a time write it (``max_active_tis_per_dag=1``).
        spark: scan on Spark: ``True``, or its configuration, such as ``{"spark.master": "spark://host:7077"}``. The
            task is the driver; ``data`` must be readable by the workers, who need foretaste.

    Raises:
        ValueError: in a DAG file, if another gate writes into the same ``out``, or a scan in another process would need
            what it does not have.
        AirflowFailException: if the data are refused, or cannot be read as they stand.
    """

    template_fields: Sequence[str] = (
        "data", "out", "policy", "roles", "conn_id", "on_block", "fail_on", "waivers", "attestations", "trust",
        "certify_with", "report_url", "state", "spark", "dataset", "python",
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
        dataset: str | None = None,
        python: str | None = None,
        deferrable: bool = False,
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
        self.dataset = dataset
        self.python = python
        self.deferrable = deferrable
        self._process: ScanProcess | None = None
        # As written: a template in it is not rendered, so every day's path is one data set.
        self._written = data.name if isinstance(data, Asset) else data if isinstance(data, str) else None
        self._written_out = out
        self._named = named(self, "policy", "state", "trust", "certify_with")
        self._refuse_a_shared_out()
        if self.deferrable or _plain(python):
            self._refuse_what_is_not_elsewhere()

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """A gate that is mapped, each index with an ``out`` of its own."""
        if said := _same_for_all_indexes(kwargs.get("out")):
            raise ValueError(said)
        return super().partial(**kwargs)

    def execute(self, context: Context) -> str:
        """Scan; push the summary; fail, or return the path that training should read."""
        with self._reported(context):
            refuse_what_came_to_nothing(self, self._named)
            if not self.deferrable:
                return self._finish(context, self._run())
            asked = self._request()
        from foretaste.operators.airflow_trigger import ScanTrigger

        trigger = ScanTrigger(request=asked, python=_text(self.python))
        self.defer(trigger=trigger, method_name=self.resume.__name__)
        raise AssertionError("deferred")  # defer() raises

    def resume(self, context: Context, event: Mapping[str, Any]) -> str:
        """Go on after the trigger has scanned."""
        with self._reported(context):
            if "summary" not in event:
                raise ScanProcessError(str(event["error"]), retry=event["retry"] is True)
            return self._finish(context, dict(event["summary"]))

    def on_kill(self) -> None:
        """End a scan in a process of its own."""
        if self._process is not None:
            self._process.stop()

    @contextmanager
    def _reported(self, context: Context) -> Iterator[None]:
        """An error of the scan is pushed, and ends the task's tries where another one would not help."""
        try:
            yield
        except ForetasteError as e:
            retry = _gate.worth_retrying(e)
            _push(context, _unreadable(e) | {"dataset": self._dataset(), "report_url": _page_url(context)})
            self.log.error("%s%s", e, "; worth another try" if retry else "")
            if retry:
                raise
            raise AirflowFailException(str(e)) from e

    def _finish(self, context: Context, summary: dict[str, Any]) -> str:
        summary["out_conn_id"] = _text(self.out_conn_id)
        summary["dataset"] = self._dataset()
        base = _text(self.report_url)
        page = _page_url(context) or _as_url(summary["files"]["report.html"])
        summary["report_url"] = f"{base.rstrip('/')}/report.html" if base else page
        _push(context, summary)
        if not summary["proceed"]:
            raise AirflowFailException(f"{summary['reason']}; report: {_to_open(summary)}")
        if summary["action"] == "warn":
            self.log.warning("let through because on_block is warn: %s", summary["reason"])
        self._tell_assets(context, summary)
        return str(summary["path"])

    def _run(self) -> dict[str, Any]:
        python = _text(self.python)
        if python is not None:
            self._process = ScanProcess(python, self.log.info)
            return self._process.run(self._request())
        source = _Source.find(self.data, _text(self.conn_id))
        with _Out.open(self.out, self.out_conn_id) as out:
            result = _gate.run_gate(
                source.data,
                self._policy(),
                out=out.folder,
                filesystem=source.filesystem,
                state=_store(self.state, _text(self.out_conn_id)),
                progress=_gate.ProgressLog(self.log.info),
                **self._options(),
            )
            say = self.log.info if result.decision.action == "pass" else self.log.warning
            for line in _gate.told(result):
                say("%s", line)
            out.publish()

        def locate(path: str) -> str:
            return out.address(path) if out.holds(path) else source.name

        summary = result.summary(locate)
        ours = result.path is not None and out.holds(result.path)
        summary["conn_id"] = _text(self.out_conn_id if ours else self.conn_id)
        summary["data"]["conn_id"] = _text(self.out_conn_id if out.holds(result.scanned) else self.conn_id)
        return summary

    def _options(self) -> dict[str, Any]:
        """Arguments of the gate that are plain values."""
        return {
            "roles": _roles(self.roles),
            "on_block": self.on_block,
            "fail_on": self.fail_on,
            "recheck": self.recheck,
            "waivers": _text(self.waivers),
            "attestations": _files(self.attestations),
            "trust": _text(self.trust),
            "spark": _spark(self.spark),
            "certify_with": _text(self.certify_with),
        }

    def _refuse_a_shared_out(self) -> None:
        """One gate would write over the report of another, whose page and approval would then show the wrong one."""
        if not isinstance(self.out, str) or not self.has_dag():  # type: ignore[no-untyped-call]
            return
        for other in self.dag.tasks:
            if not isinstance(other, PoisonGateOperator) or other.task_id == self.task_id:
                continue
            # A template may name the task, as {{ ti.task_id }} does.
            same = isinstance(other.out, str) and other.out.rstrip("/") == self.out.rstrip("/")
            if same and not re.search(r"\{\{[^}]*task", self.out):
                raise ValueError(
                    f'the gates "{other.task_id}" and "{self.task_id}" would write over each other\'s report in {self.out}; '
                    f'give each an out of its own, such as "{self.out.rstrip("/")}/{{{{ task.task_id }}}}"'
                )
        if self.get_closest_mapped_task_group() is not None and (said := _same_for_all_indexes(self.out)):
            raise ValueError(said)

    def _refuse_what_is_not_elsewhere(self) -> None:
        """What a DAG file says in plain text; the rest is refused when it is rendered."""
        for name, value in {"conn_id": self.conn_id, "out_conn_id": self.out_conn_id}.items():
            if _plain(value):
                raise ValueError(f"{name}: {_NO_CONNECTION}")
        if isinstance(self.out, str) and (said := _not_shared(self.out)):
            raise ValueError(f"out: {said}")
        from airflow.sdk import ObjectStoragePath

        for name, value in {"data": self.data, "state": self.state}.items():
            if isinstance(value, ObjectStoragePath) or (isinstance(value, str) and _names_connection(value)):
                raise ValueError(f"{name}: {_NO_CONNECTION}")

    def _request(self) -> dict[str, Any]:
        """What a scan in another process needs, which has neither Airflow's connections nor this one's memory.

        Raises:
            InputError: if it would need them.
        """
        data = self.data.uri if isinstance(self.data, Asset) else self.data
        if not isinstance(data, str | Path) or _text(str(data)) is None:
            raise InputError(
                f"{_ELSEWHERE} takes a path or an address, not {type(data).__name__} {data!r:.80}; write a frame to a file "
                "that the scan can read, and give its path"
            )
        if (
            _text(self.conn_id)
            or _text(self.out_conn_id)
            or _names_connection(str(data))
            or _names_connection(str(self.state))
        ):
            raise InputError(_NO_CONNECTION)
        if said := _not_shared(str(self.out)):
            raise InputError(said)
        with _Out.open(self.out, None) as out:
            policy, state = self._raw_policy(), _text(self.state)
            return request(str(data), policy, out=out.folder, name=str(data), state=state, **self._options())

    def _raw_policy(self) -> str | Path | Mapping[str, Any] | None:
        from foretaste.typed import parse_yaml

        policy = self.policy
        if isinstance(policy, str):
            if "\n" not in policy.strip() and not policy.lstrip().startswith("{"):
                beside = Path(self.dag.fileloc).parent / policy
                return beside if beside.is_file() else Path(policy)
            policy = parse_yaml(policy, "the policy")
            if not isinstance(policy, Mapping):
                raise InputError("the policy is neither a path nor a YAML mapping; see foretaste policy init")
        return policy

    def _policy(self) -> str | Path | Mapping[str, Any] | None:
        policy = self._raw_policy()
        return _gate.untemplated(policy) if isinstance(policy, Mapping) else policy

    def _dataset(self) -> str:
        return _text(self.dataset) or self._written or f"{self.dag_id}.{self.task_id}"

    def _tell_assets(self, context: Context, summary: Mapping[str, Any]) -> None:
        names = ("verdict", "headline", "action", "path", "digest", "rows", "block_rows", "review_rows")
        extra = {
            n: summary.get(n)
            for n in (*names, "policy_digest", "version", "report_url", "conn_id", "proceed", "recheck")
        }
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
        # Whether a decorated function is mapped is not known before.
        index = context["ti"].map_index
        if index is not None and index >= 0 and (said := _same_for_all_indexes(self._written_out)):
            raise AirflowFailException(said)
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
        _checkpoint.register()
        return _checkpoint.run_checkpoint(self._checkpoint(), self.batch_parameters, self.expectation_parameters)

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


def require_asset(
    asset: Asset, context: Context | None = None, *, verdicts: Collection[str] = ("pass", "review"), verify: bool = True
) -> str:
    """Refuse to go on unless the newest event of an asset that started this run came from a gate that let its data through.

    An event that a person or another task made carries no verdict, and one of ``on_block="warn"`` carries ``block``.

    Args:
        asset: asset that the DAG is scheduled on.
        context: the task's context; the current one where ``None``.
        verdicts: those to go on with; with ``pass`` alone not even ``review``.
        verify: read the data again and compare their digest with that of the scan.

    Returns:
        the path to read.

    Raises:
        AirflowFailException: if the newest event says something else, or the data have changed since.
    """
    if context is None:
        from airflow.sdk import get_current_context

        context = get_current_context()
    events = context["triggering_asset_events"][asset]
    if not events:
        raise AirflowFailException(
            f'no event of the asset "{asset.name}" started this run, so no gate speaks for its data'
        )
    told = max(events, key=lambda event: event.timestamp).extra.get("foretaste")
    if not isinstance(told, Mapping) or told.get("path") is None:
        raise AirflowFailException(f'the newest event of the asset "{asset.name}" did not come from a gate')
    # After a quarantine the verdict is that of all rows; the path is that of the rest, which was scanned again.
    again = told.get("recheck")
    verdict = str(again).partition(":")[0].lower() if again else told.get("verdict")
    if told.get("proceed") is not True or verdict not in verdicts:
        raise AirflowFailException(f'the gate says of the asset "{asset.name}": {told.get("headline")}')
    if verify:
        refuse_changed(told["path"], told["digest"], told.get("conn_id"))
    return str(told["path"])


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


def named(operator: BaseOperator, *arguments: str) -> tuple[str, ...]:
    """Which of the arguments a DAG file gives; without them a task would look less closely."""
    return tuple(name for name in arguments if getattr(operator, name) is not None)


def refuse_what_came_to_nothing(operator: BaseOperator, arguments: Collection[str]) -> None:
    """Refuse a template that comes to nothing: the task would run as if the DAG file did not name the argument.

    Raises:
        InputError: if one of the arguments is empty.
    """
    for name in arguments:
        value = getattr(operator, name)
        if value is None or (isinstance(value, str) and _text(value) is None):
            raise InputError(
                f"the {name} argument came out empty, though the DAG file names one; give what its template reads a "
                "value, or leave the argument out"
            )


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


def _same_for_all_indexes(out: Any) -> str | None:
    """Why the indexes of a mapped gate would write over each other's report."""
    if not isinstance(out, str) or "map_index" in out:
        return None
    return (
        f"every index of a mapped gate would write over the report of the others in {out}; give each an out of its own: "
        f'"{out.rstrip("/")}/{{{{ ti.map_index }}}}"'
    )


def _plain(value: Any) -> bool:
    """Whether a DAG file already says it: text that is not empty and no template."""
    return isinstance(value, str) and _text(value) is not None and "{{" not in value and "{%" not in value


def _names_connection(address: str) -> bool:
    """Whether an address names an Airflow connection: ``s3://conn_id@bucket/key``.

    Arrow's own has key and secret there, Azure's the container, before the account's host.
    """
    place, _, host = urlsplit(address).netloc.rpartition("@") if "://" in address else ("", "", "")
    return bool(place) and ":" not in place and not host.endswith(".core.windows.net")


def _not_shared(out: str) -> str | None:
    """Why a scan in another process cannot write there."""
    scheme = out.partition("://")[0] if "://" in out else "file"
    if scheme == "file":
        return None
    return (
        f"{_ELSEWHERE} writes to a folder that it shares with the task, not to {out}; name a folder on a disk that both "
        "see, or leave python and deferrable out"
    )


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


def _spark(spark: Any) -> bool | Mapping[str, str] | None:
    found = _gate.parsed(spark) or None
    if not isinstance(found, bool | Mapping | None):
        raise InputError(f'spark must be true or a mapping such as {{"spark.master": "local[2]"}}, not {spark!r}')
    return found


def _page_url(context: Context) -> str | None:
    """Address of the plugin's page about this task instance, ``None`` where the plugin is not installed."""
    if not any(e.name == "foretaste" for e in entry_points(group="airflow.plugins")):
        return None
    from airflow.sdk.configuration import conf

    ti = context["ti"]
    base = str(conf.get("api", "base_url", fallback="/")).rstrip("/")
    place = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
    return f"{base}/foretaste/run?{urlencode(place)}"


def _to_open(summary: Mapping[str, Any]) -> str:
    """Where somebody who reads a log finds the report: where Airflow's address is not set, the page's has no host."""
    url, file = summary["report_url"], summary["files"]["report.html"]
    return str(url) if "://" in url else f"{file}, and {url} in Airflow"


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
