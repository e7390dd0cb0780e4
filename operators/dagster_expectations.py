"""Dagster: a Great Expectations 1.x checkpoint as an asset check, and as a gate asset that hands only checked data on.

What Great Expectations lets slip is a failure: an expectation that it dropped because nobody imported its class, a suite
that is empty, a checkpoint that evaluates nothing, an expectation that raised. A check guards the runs that contain it; a
later run that selects only training does not go round a gate. Importing this module loads Dagster and nothing else that
is heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from foretaste.errors import ForetasteError, InputError, did_you_mean
from foretaste.operators import _checkpoint
from foretaste.operators._gate import digest_of, printable, worth_retrying
from foretaste.operators.dagster import AssetLike, Load, _error_metadata, _input, _not_checked, _one_key, _table

if TYPE_CHECKING:
    from great_expectations import Checkpoint
    from great_expectations.data_context.data_context.abstract_data_context import AbstractDataContext


def build_gx_check(
    *,
    asset: AssetLike,
    checkpoint: str | None = None,
    configure: Callable[[AbstractDataContext], Checkpoint] | None = None,
    project_dir: str | Path | None = None,
    name: str = "gx_checkpoint",
    blocking: bool = True,
    dataframe: bool = False,
    batch_parameters: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None = None,
    expectation_parameters: Mapping[str, Any] | None = None,
    load: Load | None = None,
    asset_in: dg.AssetIn | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
) -> dg.AssetChecksDefinition:
    """An asset check that runs a checkpoint with its actions, and fails on what Great Expectations lets slip.

    Args:
        asset: the asset, or its key.
        checkpoint: name of a stored checkpoint.
        configure: instead of a name, a function from the data context to a checkpoint.
        project_dir: folder that holds ``great_expectations.yml``; an ephemeral context where ``None``.
        name: name of the check.
        blocking: a failure keeps what is downstream in the same run from starting.
        dataframe: hand the asset's value to the checkpoint as the batch parameter ``dataframe``.
        batch_parameters: passed on, or a function from the execution context to them.
        expectation_parameters: passed on.
        load: with ``dataframe``, returns the value for assets that no IO manager loads.
        asset_in: how the IO manager loads the asset; its key is not used.
        partitions_def: partitions of the check.

    Raises:
        DagsterInvalidDefinitionError: if neither or both of ``checkpoint`` and ``configure`` are given, or ``asset``
            defines several assets.
    """
    run = _Run(
        checkpoint=checkpoint, configure=configure, project_dir=project_dir, batch_parameters=batch_parameters,
        expectation_parameters=expectation_parameters, dataframe=dataframe,
    )  # fmt: skip
    key, partitions = _one_key(asset, "a check stands beside one asset")
    takes_input = dataframe and load is None

    @dg.multi_asset_check(
        name=f"{key.to_python_identifier()}_{name}",
        specs=[
            dg.AssetCheckSpec(
                name, asset=key, blocking=blocking, partitions_def=partitions_def or partitions,
                description="Runs a Great Expectations checkpoint; what was dropped or not evaluated fails as well.",
            )
        ],
        ins={"data": _input(key, asset_in)} if takes_input else None,
        compute_kind="great_expectations",
    )  # fmt: skip
    def checked(context, **inputs):  # type: ignore[no-untyped-def]  # Dagster refuses annotations that are strings
        try:
            data = None
            if dataframe:
                data = load(context) if load else inputs["data"]
            summary = run.summary(context, data)
        except ForetasteError as e:
            yield dg.AssetCheckResult(
                asset_key=key, check_name=name, passed=False, metadata=_error_metadata(e), description=_not_checked(e)
            )
            return
        for line in summary["problems"]:
            context.log.error(line)
        yield _result(key, name, summary)

    return checked


def build_gx_gate(
    *,
    name: str,
    asset: AssetLike,
    checkpoint: str | None = None,
    configure: Callable[[AbstractDataContext], Checkpoint] | None = None,
    project_dir: str | Path | None = None,
    dataframe: bool = True,
    batch_parameters: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None = None,
    expectation_parameters: Mapping[str, Any] | None = None,
    load: Load | None = None,
    asset_in: dg.AssetIn | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    key_prefix: str | Sequence[str] | None = None,
    group_name: str | None = None,
    description: str | None = None,
    io_manager_key: str | None = None,
    automation_condition: dg.AutomationCondition[dg.AssetKey] | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    pool: str | None = None,
) -> dg.AssetsDefinition:
    """A gate asset: its output is the data of ``asset``, handed on only where a checkpoint met every expectation.

    Let training depend on this asset and not on ``asset``. A refusal raises :class:`dagster.Failure` with what was not
    met and is not retried; no output is written, and the gate's earlier output stays what it was.

    Args:
        name: name of the gate asset.
        asset: the asset to check, or its key.
        checkpoint: name of a stored checkpoint.
        configure: instead of a name, a function from the data context to a checkpoint.
        project_dir: folder that holds ``great_expectations.yml``; an ephemeral context where ``None``.
        dataframe: hand the asset's frame to the checkpoint as the batch parameter ``dataframe``, so that what is
            evaluated is what is handed on. Where it is false the checkpoint reads by itself, and nothing holds what it
            reads against what is handed on, except that files handed over as a path must not change meanwhile.
        batch_parameters: passed on, or a function from the execution context to them.
        expectation_parameters: passed on.
        load: returns the data, from the execution context, for assets that no IO manager loads.
        asset_in: how the IO manager loads the asset; its key is not used.
        partitions_def: of the gate; taken from ``asset`` where that is an ``AssetsDefinition`` or ``AssetSpec``.
        key_prefix: of the gate asset.
        group_name: of the gate asset.
        description: of the gate asset.
        io_manager_key: of the IO manager that stores what the gate hands on.
        automation_condition: of the gate asset.
        retry_policy: for errors of the infrastructure.
        pool: concurrency pool of the op.

    Raises:
        DagsterInvalidDefinitionError: as :func:`build_gx_check`.
    """
    run = _Run(
        checkpoint=checkpoint, configure=configure, project_dir=project_dir, batch_parameters=batch_parameters,
        expectation_parameters=expectation_parameters, dataframe=dataframe,
    )  # fmt: skip
    key, partitions = _one_key(asset, "a gate guards one asset")

    @dg.asset(
        name=name,
        key_prefix=key_prefix,
        ins=None if load else {"data": _input(key, asset_in)},
        deps=[key] if load else None,
        partitions_def=partitions_def or partitions,
        group_name=group_name,
        description=description or f"{key.to_user_string()}, handed on only if a checkpoint met every expectation.",
        io_manager_key=io_manager_key,
        automation_condition=automation_condition,
        retry_policy=retry_policy,
        pool=pool,
        kinds={"great_expectations"},
    )
    def gated(context, **inputs):  # type: ignore[no-untyped-def]  # Dagster refuses annotations that are strings
        return _pass_or_fail(context, partial(load, context) if load else lambda: inputs["data"], run)

    return gated


def _pass_or_fail(context: dg.AssetExecutionContext, given: Callable[[], Any], run: _Run) -> dg.Output[Any]:
    try:
        data = given()
        if data is None:
            raise InputError("the asset handed over no data (None): it stores them itself; say where with load=")
        files = not run.dataframe and isinstance(data, str | Path)
        before = digest_of(data) if files else None
        summary = run.summary(context, data)
        if files and digest_of(data) != before:
            raise InputError(f"{data} changed while the checkpoint ran; run the gate again when nobody writes there")
    except ForetasteError as e:
        if worth_retrying(e):
            raise
        raise dg.Failure(_not_checked(e), metadata=_error_metadata(e), allow_retries=False) from e
    for line in summary["problems"]:
        context.log.error(line)
    if not summary["proceed"]:
        raise dg.Failure(_description(summary), metadata=_metadata(summary), allow_retries=False)
    return dg.Output(data, metadata=_metadata(summary))


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A checkpoint, and what it is run with."""

    checkpoint: str | None
    configure: Callable[[AbstractDataContext], Checkpoint] | None
    project_dir: str | Path | None
    batch_parameters: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None
    expectation_parameters: Mapping[str, Any] | None
    dataframe: bool

    def __post_init__(self) -> None:
        if (self.checkpoint is None) == (self.configure is None):
            raise dg.DagsterInvalidDefinitionError("name a checkpoint, or give a function that makes one, and not both")

    def summary(self, context: Any, data: Any) -> dict[str, Any]:
        """What came of it; see :func:`foretaste.operators._checkpoint.run_checkpoint`."""
        chosen = self.batch_parameters
        given = dict(chosen(context) if callable(chosen) else chosen or {})
        if self.dataframe:
            given["dataframe"] = _frame(data)
        _checkpoint.register()
        checkpoint = _find(self.project_dir, self.checkpoint, self.configure)
        return _checkpoint.run_checkpoint(checkpoint, given, self.expectation_parameters)


def _frame(data: Any) -> Any:
    """The frame as Great Expectations takes it: pandas, or a Spark frame as it is.

    Raises:
        InputError: if it is no frame.
    """
    if data is None or isinstance(data, str | Path | Mapping | list | tuple):
        raise InputError(
            f"the asset handed over a {type(data).__name__} and no frame; for files let the checkpoint read them and say "
            "dataframe=False, and for partitions give partitions_def"
        )
    if type(data).__module__.split(".")[0] not in ("polars", "pyarrow"):
        return data
    return (data.collect() if hasattr(data, "collect") else data).to_pandas()


def _find(
    project_dir: str | Path | None, name: str | None, configure: Callable[[AbstractDataContext], Checkpoint] | None
) -> Checkpoint:
    import great_expectations as gx
    from great_expectations.exceptions.exceptions import DataContextError

    if project_dir is None:
        context: AbstractDataContext = gx.get_context(mode="ephemeral")
    else:
        # GX would make an empty project where there is none.
        if not (Path(project_dir) / "great_expectations.yml").is_file():
            raise InputError(f"no great_expectations.yml in {project_dir}; name the directory that holds it")
        context = gx.get_context(mode="file", context_root_dir=str(project_dir))
    if configure is not None:
        return configure(context)
    try:
        return context.checkpoints.get(str(name))
    except DataContextError as e:
        names = [c.name for c in context.checkpoints.all()]
        raise InputError(f'no checkpoint "{name}"; {did_you_mean(str(name), names)}') from e


def _result(key: dg.AssetKey, name: str, summary: Mapping[str, Any]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=summary["proceed"],
        severity=dg.AssetCheckSeverity.ERROR,
        description=_description(summary),
        metadata=_metadata(summary),
    )


def _description(summary: Mapping[str, Any]) -> str:
    return printable("; ".join([summary["headline"], *summary["problems"][:3]]), 1500)


def _metadata(summary: Mapping[str, Any]) -> dict[str, dg.MetadataValue[Any]]:
    columns = {
        "expectation": ("string", "type of the expectation"),
        "met": ("string", "yes or no"),
        "observed": ("string", "what was observed, or why it could not be evaluated"),
        "validation": ("string", "validation definition"),
    }
    return {
        "headline": dg.MetadataValue.text(printable(summary["headline"], 500)),
        "problems": dg.MetadataValue.int(summary["problems_total"]),
        "expectations": _table(columns, list(_records(summary["expectations"]))),
    }


def _records(expectations: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for one in expectations:
        said = one["exception"] or one["observed"]
        yield one["expectation"], "yes" if one["success"] else "no", printable(str(said), 500), one["validation"]


__all__ = ["build_gx_check", "build_gx_gate"]
