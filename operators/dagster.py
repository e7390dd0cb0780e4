"""Dagster: asset checks that scan an asset for poison, and a gate asset that hands only checked data on.

A check is seen beside its asset and stops what is downstream *in the same run*. A later run that selects only
the training asset never meets it. A gate asset has no such hole: training reads the gate's output, and a gate
that refuses the data has none. Importing this module loads Dagster and nothing else that is heavy;
definitions touch no data.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg

from foretaste.errors import ForetasteError, InputError
from foretaste.operators import _dagster_chart
from foretaste.operators._gate import (
    FailOn,
    GateResult,
    OnBlock,
    ProgressLog,
    choice,
    decide,
    evidence,
    printable,
    run_gate,
    worth_retrying,
)
from foretaste.operators.dagster_policy import PoisonPolicyResource, Terms, file_name, terms
from foretaste.results import CheckResult, Finding, Outcome, Report, Severity

if TYPE_CHECKING:
    import pyarrow as pa

    from foretaste.policy import Policy
    from foretaste.roles import Roles

AssetLike: TypeAlias = dg.AssetKey | str | Sequence[str] | dg.AssetsDefinition | dg.SourceAsset | dg.AssetSpec
RunContext: TypeAlias = dg.AssetExecutionContext | dg.AssetCheckExecutionContext
Load: TypeAlias = Callable[[Any], Any]

# Dagster keeps metadata in its event log for ever; the report has everything.
MAX_FINDINGS = 50
MAX_NAMES = 5
PROGRESS_SECONDS = 5.0


def build_poison_checks(
    *,
    assets: Sequence[AssetLike],
    policy: Policy | str | Path | Mapping[str, Any] | None = None,
    roles: Roles | Mapping[str, str | None] | None = None,
    name: str = "no_poison",
    per_check: bool | Sequence[str] = False,
    fail_on: FailOn = "block",
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
    blocking: bool = True,
    out: str | Path | None = None,
    resource_key: str | None = None,
    load: Load | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    asset_in: dg.AssetIn | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    op_tags: Mapping[str, Any] | None = None,
    pool: str | None = None,
) -> Sequence[dg.AssetChecksDefinition]:
    """Asset checks that scan each asset for poison, once.

    The check passes on the verdict pass. On review it fails with severity WARN, which shows and does not
    block. On block and error it fails with ``severity``. Data or a policy that cannot be read fail the check,
    they do not raise, so no retry repeats them; a storage out of reach raises, which stops what is downstream
    as well.

    A blocking check guards only the runs that contain it. Where training may be started on its own, put
    :func:`build_poison_gate` between the data and the training.

    Args:
        assets: assets, or their keys.
        policy: path of a policy file, a mapping or a policy; the default policy where ``None``. Read in the
            run.
        roles: which column plays which role; guessed from common names where missing.
        name: name of the check.
        per_check: also give a result for each foretaste check, named ``{name}_{check}``, from the same scan.
            ``True`` takes those that the policy runs and reads the policy at definition time; a list of check
            ids needs neither. These results never block by themselves. A check that did not apply is not a
            pass: it shows as a warning.
        fail_on: ``review`` treats a review verdict like a block.
        severity: of a failed check. Only ERROR blocks.
        blocking: a failure of ERROR severity keeps the rest of the run from starting.
        out: local directory for reports, one directory per asset, partition and run; no report is written
            where ``None``.
        resource_key: of a :class:`PoisonPolicyResource`: its policy, where none is given here, its waivers and
            attestations, its baseline and its state, which is read and left as it is.
        load: returns the data, from the execution context, for assets that no IO manager loads: a frame, a path, or
            :func:`sql_rows`.
        partitions_def: scan the partition of the run instead of the whole asset. Taken from the asset where
            an ``AssetsDefinition`` or ``AssetSpec`` is given; needed beside the key of a partitioned asset.
        asset_in: how the IO manager loads the asset (metadata, partition mapping, type); its key is not used.
        retry_policy: for errors of the infrastructure.
        op_tags: tags of the op.
        pool: concurrency pool of the op.

    Returns:
        one definition per asset.

    Raises:
        InputError: if ``fail_on`` is none of its choices.
        PolicyError: with ``per_check=True``, if the policy is not valid.
        DagsterInvalidDefinitionError: if ``assets`` is empty, or one asset, or ``per_check`` one id, and not a sequence; if
            ``per_check=True`` meets a policy that only the resource knows.
    """
    choice("fail_on", fail_on, FailOn)
    if isinstance(assets, str | dg.AssetKey | dg.AssetsDefinition | dg.SourceAsset | dg.AssetSpec):
        raise dg.DagsterInvalidDefinitionError(f"assets must be a sequence of assets; write assets=[{assets!r}]")
    if not assets:
        raise dg.DagsterInvalidDefinitionError("assets names no asset, so nothing would be checked; name one")
    if isinstance(per_check, str):
        raise dg.DagsterInvalidDefinitionError(f"per_check must be a list of ids; write per_check=[{per_check!r}]")
    if blocking and severity is not dg.AssetCheckSeverity.ERROR:
        warnings.warn(
            f"the check {name} does not block: Dagster runs downstream assets after a failure of severity "
            f"{severity.value}; use severity=AssetCheckSeverity.ERROR, or say blocking=False",
            stacklevel=2,
        )
    if per_check is True:
        if resource_key is not None and policy is None:
            raise dg.DagsterInvalidDefinitionError(
                f"per_check=True reads the policy now, and the resource {resource_key} is known only in a run; list ids"
            )
        from foretaste.policy import Policy

        per_check = [check.id for check in Policy.load(policy).checks]
    options = _CheckOptions(
        terms=Terms(policy=policy), resource_key=resource_key, roles=roles, out=out, fail_on=fail_on, severity=severity,
        name=name, ids={f"{name}_{i.replace('-', '_')}": i for i in per_check or ()},
    )  # fmt: skip
    return [
        _checks_of(
            key, options, blocking=blocking, load=load, asset_in=asset_in, retry_policy=retry_policy,
            partitions_def=partitions_def or partitions, op_tags=op_tags, pool=pool,
        )
        for asset in assets
        for key, partitions in _keys_of(asset)
    ]  # fmt: skip


def build_poison_gate(
    *,
    name: str,
    asset: AssetLike,
    out: str | Path,
    policy: Policy | str | Path | Mapping[str, Any] | None = None,
    roles: Roles | Mapping[str, str | None] | None = None,
    on_block: OnBlock = "fail",
    fail_on: FailOn = "block",
    snapshot: bool = False,
    waivers: str | Path | None = None,
    attestations: Sequence[str | Path] = (),
    trust: str | Path | None = None,
    state: str | Path | None = None,
    certify_with: str | None = None,
    resource_key: str | None = None,
    load: Load | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    asset_in: dg.AssetIn | None = None,
    key_prefix: str | Sequence[str] | None = None,
    group_name: str | None = None,
    description: str | None = None,
    io_manager_key: str | None = None,
    automation_condition: dg.AutomationCondition[dg.AssetKey] | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    op_tags: Mapping[str, Any] | None = None,
    pool: str | None = None,
) -> dg.AssetsDefinition:
    """A gate asset: its output is the data of ``asset``, handed on only where the scan did not refuse them.

    Let training depend on this asset and not on ``asset``: then no run, however it selects its assets, trains
    on data that the gate refused. A refusal raises :class:`dagster.Failure` with the evidence and is not
    retried; no output is written, and the gate's earlier output stays what it was. For data handed over as a
    path that means the earlier *path*: where files are overwritten in place, use ``snapshot``.

    Args:
        name: name of the gate asset.
        asset: the asset to check, or its key.
        out: local directory for reports, quarantined rows and snapshots, one directory per asset, partition
            and run.
        policy: path of a policy file, a mapping or a policy; the default policy where ``None``. Read in the
            run.
        roles: which column plays which role; guessed from common names where missing.
        on_block: ``fail`` refuses the data; ``quarantine`` sets the flagged rows apart, scans the rest again
            and hands it on if it passes; ``warn`` hands the data on with a warning. A scan that ended in an
            error is refused in any case.
        fail_on: ``review`` treats a review verdict like a block.
        snapshot: for data handed over as a path: copy the files below ``out`` first, scan the copy and hand
            the copy on, so that nobody can change the files between the scan and a later training.
        waivers: waiver file (see :mod:`foretaste.waivers`): findings that somebody answers for do not refuse the data.
        attestations: for data handed over as a path: files in which sources signed for the data (see
            :mod:`foretaste.deliveries`), for the source allowlist.
        trust: trust file by which the signatures of waivers and attestations are judged.
        state: path or address of a file with what earlier runs or partitions left, so that a slow drip adds up; made
            where there is none. Give the gate a ``pool`` of one slot, as one run at a time may write it.
        certify_with: for data handed over as a path: PEM file of the private key that signs a certificate for what
            passed, ``certificate.intoto.jsonl`` beside the report, and the manifest of a quarantine.
        resource_key: of a :class:`PoisonPolicyResource`, for what of policy, waivers, attestations, trust and state is
            not given here.
        load: returns the data, from the execution context, for assets that no IO manager loads: a frame, a path, or
            :func:`sql_rows`, whose rows are handed on as the path of a Parquet file below ``out``.
        partitions_def: of the gate; taken from ``asset`` where that is an ``AssetsDefinition`` or
            ``AssetSpec``.
        asset_in: how the IO manager loads the asset (metadata, partition mapping, type); its key is not used.
        key_prefix: of the gate asset.
        group_name: of the gate asset.
        description: of the gate asset.
        io_manager_key: of the IO manager that stores what the gate hands on.
        automation_condition: of the gate asset.
        retry_policy: for errors of the infrastructure.
        op_tags: tags of the op.
        pool: concurrency pool of the op.

    Raises:
        InputError: if ``on_block`` or ``fail_on`` is none of its choices.
        DagsterInvalidDefinitionError: if ``asset`` defines several assets, or ``attestations`` is one file and not a
            sequence.
    """
    choice("on_block", on_block, OnBlock)
    choice("fail_on", fail_on, FailOn)
    if isinstance(attestations, str | Path):
        raise dg.DagsterInvalidDefinitionError(f"attestations must be files; write attestations=[{attestations!r}]")
    key, partitions = _one_key(asset, "a gate guards one asset")
    gate = _GateOptions(
        terms=Terms(policy=policy, waivers=waivers, attestations=attestations, trust=trust, state=state),
        resource_key=resource_key, roles=roles, out=out, on_block=on_block, fail_on=fail_on, snapshot=snapshot,
        certify_with=certify_with, guarded=key,
    )  # fmt: skip

    @dg.asset(
        name=name,
        key_prefix=key_prefix,
        ins=None if load else {"data": _input(key, asset_in)},
        deps=[key] if load else None,
        partitions_def=partitions_def or partitions,
        group_name=group_name,
        description=description or f"{key.to_user_string()}, scanned for poison and handed on only if not refused.",
        io_manager_key=io_manager_key,
        automation_condition=automation_condition,
        retry_policy=retry_policy,
        op_tags=op_tags,
        pool=pool,
        required_resource_keys={resource_key} if resource_key else None,
        kinds={"foretaste"},
    )
    def gated(context, **inputs):  # type: ignore[no-untyped-def]  # Dagster refuses annotations that are strings
        return _pass_or_fail(context, partial(load, context) if load else lambda: inputs["data"], gate)

    return gated


def sql_rows(url: str, source: str) -> Load:
    """What ``load`` wants for an asset that is a table, a dbt model for example: rows from a database, streamed.

    ``{partition}`` in the source stands for the partition of the run, as a quoted string of SQL.

    Args:
        url: of the database, as SQLAlchemy wants it.
        source: name of a table, with its schema, or a query.
    """

    def load(context: Any) -> Any:
        from foretaste.reading.database import SqlRows

        return SqlRows(url, with_partition(source, context, spelt=_sql_string))

    return load


def with_partition(text: str, context: Any, spelt: Callable[[str], str] = str) -> str:
    """The text with the partition of the run in the place of ``{partition}``.

    Raises:
        InputError: if it names a partition and the run has none.
    """
    if "{partition}" not in text:
        return text
    run = context.op_execution_context if hasattr(context, "op_execution_context") else context
    if not run.has_partition_key:
        raise InputError(f"{text!r} names a partition, and this run has none; give partitions_def")
    return text.replace("{partition}", spelt(run.partition_key))


def _sql_string(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def report_metadata(report: Report, files: Mapping[str, Path] | None = None) -> dict[str, dg.MetadataValue[Any]]:
    """A report as Dagster metadata: verdict, counts, a chart, digests, and tables of the findings and of the checks.

    Text from the data is cut, has its invisible, control and bidi characters escaped, and never stands in Markdown.

    Args:
        report: the report.
        files: written files of the report by name, as :func:`foretaste.write` returns them.
    """
    files = files or {}
    places = {"report": "report.html", "flagged_rows": "flagged.parquet", "certificate": "certificate.intoto.jsonl"}
    return {
        "verdict": dg.MetadataValue.text(report.verdict.value),
        "headline": dg.MetadataValue.text(report.headline()),
        "chart": dg.MetadataValue.md(_dagster_chart.markdown(report)),
        "rows": dg.MetadataValue.int(report.data.rows),
        "rows_to_block": dg.MetadataValue.int(len(report.flagged_rows(Severity.BLOCK))),
        "rows_to_review": dg.MetadataValue.int(len(report.flagged_rows(Severity.REVIEW))),
        "findings": _findings_table(report.findings),
        "checks": _checks_table(report.results),
        "shape": dg.MetadataValue.text(report.data.shape or report.data.kind),
        "roles": dg.MetadataValue.text(_roles(report)),
        "not_looked_at": dg.MetadataValue.text(_notes(report)),
        "data_digest": dg.MetadataValue.text(report.data.digest),
        "policy_digest": dg.MetadataValue.text(report.policy_digest),
        "foretaste_version": dg.MetadataValue.text(report.version),
    } | {key: dg.MetadataValue.path(files[file].absolute()) for key, file in places.items() if file in files}


@dataclass(frozen=True, kw_only=True)
class _CheckOptions:
    """``ids`` maps the names of the additional results to ids of foretaste checks."""

    terms: Terms
    resource_key: str | None
    roles: Roles | Mapping[str, str | None] | None
    out: str | Path | None
    fail_on: FailOn
    severity: dg.AssetCheckSeverity
    name: str
    ids: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class _GateOptions:
    guarded: dg.AssetKey
    terms: Terms
    resource_key: str | None
    roles: Roles | Mapping[str, str | None] | None
    out: str | Path
    on_block: OnBlock
    fail_on: FailOn
    snapshot: bool
    certify_with: str | None


def _keys_of(asset: AssetLike) -> Iterator[tuple[dg.AssetKey, dg.PartitionsDefinition[Any] | None]]:
    if isinstance(asset, dg.AssetsDefinition):
        for key in sorted(asset.keys):
            yield key, asset.specs_by_key[key].partitions_def
    elif isinstance(asset, dg.AssetSpec | dg.SourceAsset):
        yield asset.key, asset.partitions_def
    elif isinstance(asset, str):  # as Dagster's page writes a key: raw/reviews
        yield dg.AssetKey.from_user_string(asset), None
    else:
        yield dg.AssetKey.from_coercible(asset), None


def _one_key(asset: AssetLike, why: str) -> tuple[dg.AssetKey, dg.PartitionsDefinition[Any] | None]:
    found = list(_keys_of(asset))
    if len(found) != 1:
        listed = ", ".join(sorted(key.to_user_string() for key, _ in found))
        raise dg.DagsterInvalidDefinitionError(f"asset defines {listed}; pass the key of one, {why}")
    return found[0]


def _input(key: dg.AssetKey, asset_in: dg.AssetIn | None) -> dg.AssetIn:
    return asset_in._replace(key=key, key_prefix=None) if asset_in else dg.AssetIn(key=key)


def _checks_of(
    key: dg.AssetKey,
    options: _CheckOptions,
    *,
    blocking: bool,
    load: Load | None,
    asset_in: dg.AssetIn | None,
    partitions_def: dg.PartitionsDefinition[Any] | None,
    retry_policy: dg.RetryPolicy | None,
    op_tags: Mapping[str, Any] | None,
    pool: str | None,
) -> dg.AssetChecksDefinition:
    specs = [
        dg.AssetCheckSpec(
            options.name,
            asset=key,
            description="Scans the data for poison. The findings table names what was found and where.",
            blocking=blocking,
            partitions_def=partitions_def,
        ),
        *(
            dg.AssetCheckSpec(
                name,
                asset=key,
                description=f"The part of {options.name} that the check {check} found.",
                partitions_def=partitions_def,
            )
            for name, check in options.ids.items()
        ),
    ]

    # can_subset: without it Dagster's page cannot run the checks of a multi-check at all.
    @dg.multi_asset_check(
        name=f"{key.to_python_identifier()}_{options.name}",
        specs=specs,
        can_subset=True,
        ins=None if load else {"data": _input(key, asset_in)},
        retry_policy=retry_policy,
        op_tags=op_tags,
        pool=pool,
        required_resource_keys={options.resource_key} if options.resource_key else None,
        compute_kind="foretaste",
    )
    def scanned(context, **inputs):  # type: ignore[no-untyped-def]  # Dagster refuses annotations that are strings
        given = partial(load, context) if load else lambda: inputs["data"]
        yield from _check_results(context, key, given, options)

    return scanned


def _check_results(
    context: dg.AssetCheckExecutionContext, key: dg.AssetKey, given: Callable[[], Any], options: _CheckOptions
) -> Iterator[dg.AssetCheckResult]:
    from foretaste.engine import scan
    from foretaste.report import write

    selected = {k.name for k in context.selected_asset_check_keys}
    wanted = [n for n in (options.name, *options.ids) if n in selected]
    files: dict[str, Path] = {}
    try:
        held = terms(context, key, options.terms, options.resource_key)
        with _as_one(given(), options.roles) as whole:
            progress = ProgressLog(context.log.info, every=PROGRESS_SECONDS)
            report = scan(whole, roles=options.roles, progress=progress, advance=False, **vars(held))
        if options.out is not None:
            files = write(report, _folder(options.out, key, context))
    except ForetasteError as e:
        if worth_retrying(e):
            raise
        metadata = _error_metadata(e)
        for name in wanted:
            yield dg.AssetCheckResult(
                asset_key=key, check_name=name, passed=False, severity=options.severity, metadata=metadata,
                description=_not_checked(e),
            )  # fmt: skip
        return
    for line in evidence(report):
        context.log.info(line)
    for name in wanted:
        if name == options.name:
            yield _overall(key, report, files, options)
        else:
            yield _part(key, name, report, files, options)


def _overall(
    key: dg.AssetKey, report: Report, files: Mapping[str, Path], options: _CheckOptions
) -> dg.AssetCheckResult:
    refused = decide(report, fail_on=options.fail_on).action != "pass"
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=options.name,
        passed=report.verdict is Outcome.PASS,
        severity=options.severity if refused else dg.AssetCheckSeverity.WARN,
        description=_summary(report),
        metadata=report_metadata(report, files),
    )


def _part(
    key: dg.AssetKey, name: str, report: Report, files: Mapping[str, Path], options: _CheckOptions
) -> dg.AssetCheckResult:
    check = options.ids[name]
    result = next((r for r in report.results if r.check == check), None)
    if result is None:
        result = CheckResult(
            check=check,
            outcome=Outcome.ERROR,
            note="the policy does not run this check; enable it there, or take it out of per_check",
        )
    warned = result.outcome is Outcome.SKIPPED or (result.outcome is Outcome.REVIEW and options.fail_on == "block")
    head = "NOT CHECKED" if result.outcome is Outcome.SKIPPED else result.outcome.value.upper()
    rows = len({row for f in result.findings for row in f.rows})
    note = printable(result.note, 500)
    body = f"findings: {len(result.findings)}, rows: {rows:,}" if result.findings else note
    metadata: dict[str, dg.MetadataValue[Any]] = {
        "outcome": dg.MetadataValue.text(result.outcome.value),
        "rows_flagged": dg.MetadataValue.int(rows),
        "findings": _findings_table(result.findings),
        "note": dg.MetadataValue.text(note),
        "seconds": dg.MetadataValue.float(float(result.seconds)),
    }
    if "report.html" in files:
        metadata["report"] = dg.MetadataValue.path(files["report.html"].absolute())
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=result.outcome is Outcome.PASS,
        severity=dg.AssetCheckSeverity.WARN if warned else options.severity,
        description=f"{head}: {body}" if body else head,
        metadata=metadata,
    )


def _pass_or_fail(context: dg.AssetExecutionContext, given: Callable[[], Any], gate: _GateOptions) -> dg.Output[Any]:
    folder = _folder(gate.out, context.asset_key, context)
    keep_snapshot = False
    try:
        data = given()
        # Rows are set apart in one file, and several partitions could not be handed on as such.
        several = gate.on_block == "quarantine" and isinstance(data, Mapping | list | tuple)
        on_block = "fail" if several else gate.on_block
        held = terms(context, gate.guarded, gate.terms, gate.resource_key)
        if gate.snapshot and isinstance(data, str | Path):
            data = _copied(data, folder / "snapshot")
        data = _saved(data, folder / "snapshot")
        # A certificate is about files: those of a frame go away again.
        key = gate.certify_with if isinstance(data, str | Path) else None
        with _as_one(data, gate.roles) as whole:
            result = run_gate(
                whole, out=folder, roles=gate.roles, fail_on=gate.fail_on, on_block=on_block, certify_with=key,
                progress=ProgressLog(context.log.info, every=PROGRESS_SECONDS), **vars(held),
            )  # fmt: skip
        keep_snapshot = result.decision.action in ("pass", "warn")
    except ForetasteError as e:
        if worth_retrying(e):
            raise
        raise dg.Failure(_not_checked(e), metadata=_error_metadata(e), allow_retries=False) from e
    finally:
        # What the IO manager handed over it also keeps: the gate leaves no second copy of it behind.
        with suppress(OSError):
            (folder / "data.parquet").unlink()
        if not keep_snapshot:
            shutil.rmtree(folder / "snapshot", ignore_errors=True)
    metadata = report_metadata(result.report, result.files) | _gate_metadata(result)
    for line in evidence(result.report):
        (context.log.info if result.decision.action == "pass" else context.log.warning)(line)
    if not result.decision.proceed:
        description = _summary(result.report)
        if result.decision.reason != result.report.headline():
            description += f". {printable(result.decision.reason, 500)}"
        if several:
            description += ". A quarantine takes one partition at a time: give the gate the asset's partitions_def"
        raise dg.Failure(description, metadata=metadata, allow_retries=False)
    kept, rows = data, result.report.data.rows
    if result.decision.action == "warn":
        context.log.warning("the data are handed on all the same: on_block is warn")
    if result.quarantine is not None:
        apart = result.quarantine
        kept, rows = _without_flagged(data, result, gate.fail_on), apart.clean_rows
        context.log.warning(f"{apart.quarantined_rows:,} rows set apart in {apart.quarantined}, {rows:,} handed on")
    return dg.Output(kept, metadata=metadata | {"dagster/row_count": rows})


def _gate_metadata(result: GateResult) -> dict[str, dg.MetadataValue[Any]]:
    metadata: dict[str, dg.MetadataValue[Any]] = {"action": dg.MetadataValue.text(result.decision.action)}
    if result.quarantine is not None:
        metadata |= {
            "clean": dg.MetadataValue.path(result.quarantine.clean.absolute()),
            "clean_rows": dg.MetadataValue.int(result.quarantine.clean_rows),
            "quarantined": dg.MetadataValue.path(result.quarantine.quarantined.absolute()),
            "quarantined_rows": dg.MetadataValue.int(result.quarantine.quarantined_rows),
            "manifest": dg.MetadataValue.path(result.quarantine.manifest.absolute()),
        }
    if result.recheck is not None:
        metadata["recheck"] = dg.MetadataValue.text(result.recheck.headline())
    if result.report.history:
        metadata["state"] = dg.MetadataValue.text(printable((result.recheck or result.report).history["note"], 500))
    return metadata


def _without_flagged(data: Any, result: GateResult, fail_on: FailOn) -> Any:
    """The rows that were not set apart, in the type in which the data came."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert result.quarantine is not None
    if isinstance(data, str | Path):
        return type(data)(result.quarantine.clean)
    keep = np.ones(result.report.data.rows, dtype=bool)
    keep[list(result.report.flagged_rows(None if fail_on == "review" else Severity.BLOCK))] = False
    if keep.sum() != result.quarantine.clean_rows:
        raise dg.Failure(
            f"{int(keep.sum())} rows were not flagged, but {result.quarantine.clean_rows} are in "
            f"{result.quarantine.clean}; the data are not handed on",
            allow_retries=False,
        )
    module = type(data).__module__.split(".")[0]
    if module == "pandas":
        return data[keep]
    if module == "polars":
        return data.collect().filter(keep).lazy() if hasattr(data, "collect") else data.filter(keep)
    if isinstance(data, pa.Table | pa.RecordBatch):
        return data.filter(pa.array(keep))
    return pq.read_table(result.quarantine.clean)


@contextmanager
def _as_one(data: Any, roles: Roles | Mapping[str, str | None] | None) -> Iterator[Any]:
    """One input for the scan from what an IO manager hands over; several partitions become one file.

    Partitions are scanned together, because a trigger spread thinly over them is seen only in all of them. Of a
    database, the columns that play a role are read.
    """
    from foretaste.reading.database import SqlRows
    from foretaste.roles import Roles

    if data is None:
        raise InputError(
            "the asset handed over no data (None): it stores them itself; say where with load=, for example "
            'load=lambda context: "s3://bucket/corpus.parquet"'
        )
    if isinstance(data, SqlRows):
        wanted = roles if isinstance(roles, Roles) else Roles.from_mapping(roles or {})
        with data.spooled(wanted) as (rows, _, _):
            yield rows
        return
    if not isinstance(data, Mapping | list | tuple):
        yield data
        return
    parts = list(data.values()) if isinstance(data, Mapping) else list(data)
    if not parts or any(part is None for part in parts):
        missing = "a partition" if parts else "the asset"
        raise InputError(f"{missing} holds no data; materialize it, then scan again")
    if len(parts) == 1:
        yield parts[0]
        return
    from foretaste.reading import spool

    with spool(_batches(parts, roles)) as path:
        yield path


def _batches(parts: Sequence[Any], roles: Roles | Mapping[str, str | None] | None) -> Iterator[pa.RecordBatch]:
    """The rows of all parts, in the columns and types of the first."""
    import pyarrow as pa

    from foretaste.reading import open_data
    from foretaste.roles import Roles

    wanted = roles if isinstance(roles, Roles) else Roles.from_mapping(roles or {})
    schema: pa.Schema | None = None
    for part in parts:
        dataset = open_data(part, wanted)
        for batch in dataset.original():
            if schema is None:
                # An Arrow file holds one dictionary per column, and every part brings its own.
                plain = [f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in batch.schema]
                schema = pa.schema(list(zip(batch.schema.names, plain)))
            try:
                yield batch.select(schema.names).cast(schema)
            except (pa.ArrowException, KeyError, ValueError) as e:
                raise InputError(
                    f"{dataset.name} does not fit the {len(parts)} parts that are scanned as one: {e}; give "
                    "every part the same columns, or give partitions_def to scan one partition at a time"
                ) from e


def _copied(data: str | Path, folder: Path) -> str | Path:
    """The files behind a path, copied; the copy's path, in the type in which the path came."""
    import pyarrow as pa

    from foretaste.reading.formats import list_files

    files = list_files(data)
    try:
        shutil.rmtree(folder, ignore_errors=True)  # a retry of the same run
        files.digests(folder)
    except (OSError, pa.ArrowException) as e:
        raise InputError(f"cannot copy {files.name} to {folder}: {e}; check both places, or snapshot=False") from e
    only = folder / PurePosixPath(files.paths[0]).name
    return type(data)(only if len(files.paths) == 1 else folder)


def _saved(data: Any, folder: Path) -> Any:
    """Rows of a database as a file: who reads the table again reads what nobody scanned."""
    from foretaste.reading.database import SqlRows

    if not isinstance(data, SqlRows):
        return data
    path = folder / "data.parquet"
    data.save(path)
    return str(path)


def _folder(out: str | Path, key: dg.AssetKey, context: RunContext) -> Path:
    op = context.op_execution_context
    parts = [file_name(part) for part in key.path]
    if op.has_partition_key:
        parts.append(f"partition={file_name(op.partition_key)}")
    elif op.has_partition_key_range:
        span = op.partition_key_range
        parts.append(f"partition={file_name(f'{span.start}...{span.end}')}")
    return Path(out).joinpath(*parts, op.run_id)


def _not_checked(error: ForetasteError) -> str:
    return f"NOT CHECKED, so not passed: {printable(str(error), 1000)}"


def _error_metadata(error: ForetasteError) -> dict[str, dg.MetadataValue[Any]]:
    return {
        "verdict": dg.MetadataValue.text(Outcome.ERROR.value),
        "error": dg.MetadataValue.text(f"{type(error).__name__}: {printable(str(error), 1000)}"),
    }


def _summary(report: Report) -> str:
    """Headline, what was found by kind, and what failed; no text from the data."""
    kinds = [f"{f.check}: {f.kind} ({len(f.rows):,} rows)" for f in report.findings[:MAX_NAMES]]
    if len(report.findings) > MAX_NAMES:
        kinds.append(f"and {len(report.findings) - MAX_NAMES} more")
    failed = [f"{r.check} failed: {r.note}" for r in report.results if r.outcome is Outcome.ERROR]
    return printable(". ".join([report.headline(), *filter(None, ["; ".join(kinds), "; ".join(failed)])]), 1500)


def _roles(report: Report) -> str:
    named = [
        f"{role} = {printable(column, 80)}{' (guessed)' if role in report.data.guessed_roles else ''}"
        for role, column in report.data.roles.items()
    ]
    return ", ".join(named)


def _notes(report: Report) -> str:
    """What was not looked at, and how far the rest reaches."""
    from foretaste.report.wording import caveats

    return "; ".join(printable(f"{c.word}: {c.said}", 500) for c in caveats(report))


def _findings_table(findings: Sequence[Finding]) -> dg.TableMetadataValue:
    columns = {
        "severity": ("string", "block refuses the data, review asks a person to look"),
        "check": ("string", "check that found it"),
        "kind": ("string", "what was found"),
        "feature": ("string", "the trigger, cluster or source; odd characters are escaped"),
        "goes_with": ("string", "the output that it goes with"),
        "rows": ("int", "rows concerned"),
        "observed": ("float", "what was counted"),
        "limit": ("float", "the limit that it was held against"),
        "sources": ("string", "rows by source"),
        "first_rows": ("string", "ids of the first rows"),
        "message": ("string", "the finding in one sentence"),
    }
    records = [
        (
            f.severity.value,
            f.check,
            printable(f.kind),
            printable(f.feature or ""),
            printable(f.target or ""),
            len(f.rows),
            _finite(f.observed),
            _finite(f.limit),
            ", ".join(f"{printable(s, 80)} ({n})" for s, n in list(f.sources.items())[:MAX_NAMES]),
            ", ".join(printable(i, 80) for i in f.ids[:MAX_NAMES]),
            printable(f.message, 500),
        )
        for f in findings[:MAX_FINDINGS]
    ]
    return _table(columns, records)


def _checks_table(results: Sequence[CheckResult]) -> dg.TableMetadataValue:
    columns = {
        "check": ("string", "id of the check"),
        "outcome": ("string", "pass, review, block, skipped or error"),
        "findings": ("int", "number of findings"),
        "seconds": ("float", "time that the check took"),
        "package": ("string", "package and version of a check that another package brings"),
        "note": ("string", "reason of a skip or an error, limits of what was looked at"),
    }
    records = [
        (r.check, r.outcome.value, len(r.findings), _finite(r.seconds), r.package, printable(r.note, 500))
        for r in results
    ]
    return _table(columns, records)


def _table(
    columns: Mapping[str, tuple[str, str]], records: Sequence[tuple[str | int | float | None, ...]]
) -> dg.TableMetadataValue:
    return dg.TableMetadataValue(
        records=[dg.TableRecord(dict(zip(columns, values, strict=True))) for values in records],
        schema=dg.TableSchema(
            columns=[dg.TableColumn(name=name, type=kind, description=told) for name, (kind, told) in columns.items()]
        ),
    )


def _finite(value: float) -> float | None:
    """JSON has no infinity and no NaN."""
    number = float(value)
    return number if math.isfinite(number) else None


__all__ = ["PoisonPolicyResource", "build_poison_checks", "build_poison_gate", "report_metadata", "sql_rows"]
