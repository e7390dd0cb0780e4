"""Dagster: a Great Expectations 1.x checkpoint as an asset check.

What Great Expectations lets slip fails the check: an expectation that it dropped because nobody imported its class, a
suite that is empty, a checkpoint that evaluates nothing, an expectation that raised. Importing this module loads Dagster
and nothing else that is heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from foretaste.errors import ForetasteError, InputError, did_you_mean
from foretaste.operators import _checkpoint
from foretaste.operators._gate import printable
from foretaste.operators.dagster import AssetLike, Load, _error_metadata, _input, _keys_of, _not_checked, _table

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
    if (checkpoint is None) == (configure is None):
        raise dg.DagsterInvalidDefinitionError("name a checkpoint, or give a function that makes one, and not both")
    found = list(_keys_of(asset))
    if len(found) != 1:
        raise dg.DagsterInvalidDefinitionError("pass one asset: a check stands beside one")
    [(key, partitions)] = found
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
        given = dict(batch_parameters(context) if callable(batch_parameters) else batch_parameters or {})
        if dataframe:
            given["dataframe"] = load(context) if load else inputs["data"]
        try:
            _checkpoint.register()
            summary = _checkpoint.run_checkpoint(
                _find(project_dir, checkpoint, configure), given, expectation_parameters
            )
        except ForetasteError as e:
            yield dg.AssetCheckResult(
                asset_key=key, check_name=name, passed=False, metadata=_error_metadata(e), description=_not_checked(e)
            )
            return
        for line in summary["problems"]:
            context.log.error(line)
        yield _result(key, name, summary)

    return checked


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
    columns = {
        "expectation": ("string", "type of the expectation"),
        "met": ("string", "yes or no"),
        "observed": ("string", "what was observed, or why it could not be evaluated"),
        "validation": ("string", "validation definition"),
    }
    records = list(_records(summary["expectations"]))
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=summary["proceed"],
        severity=dg.AssetCheckSeverity.ERROR,
        description=printable("; ".join([summary["headline"], *summary["problems"][:3]]), 1500),
        metadata={
            "headline": dg.MetadataValue.text(summary["headline"]),
            "problems": dg.MetadataValue.int(summary["problems_total"]),
            "expectations": _table(columns, records),
        },
    )


def _records(expectations: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for one in expectations:
        said = one["exception"] or one["observed"]
        yield one["expectation"], "yes" if one["success"] else "no", printable(str(said), 500), one["validation"]


__all__ = ["build_gx_check"]
