"""Dagster components: the gates and the checks, written in a ``defs.yaml``.

``dg list components`` shows them, and ``dg scaffold defs`` writes the file. A relative path in it starts at the folder
in which it lies. Importing this module loads Dagster and nothing else that is heavy.
"""

# No annotations as strings here: Dagster reads those of a component's fields.
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Self

import dagster as dg
from dagster.components.resolved.core_models import (
    DailyPartitionsDefinitionModel,
    HourlyPartitionsDefinitionModel,
    ResolvedAssetKey,
    StaticPartitionsDefinitionModel,
    TimeWindowPartitionsDefinitionModel,
    WeeklyPartitionsDefinitionModel,
    resolve_partitions_def,
)
from pydantic import BaseModel, Field

from foretaste.operators.dagster import Load, build_poison_checks, build_poison_gate, sql_rows, with_partition


class SqlSource(dg.Model, dg.Resolvable):
    """Rows of a database: a table, or what a query returns."""

    url: Annotated[
        str,
        dg.Resolver.default(
            description="Address of the database, as SQLAlchemy wants it; take passwords from the environment.",
            examples=["{{ env.WAREHOUSE_URL }}", "duckdb:////data/warehouse.duckdb"],
        ),
    ]
    table: Annotated[
        str | None, dg.Resolver.default(description="Table, with its schema.", examples=["analytics.reviews"])
    ] = None
    query: Annotated[
        str | None,
        dg.Resolver.default(
            description="Query instead of a table; {partition} is the partition of the run, quoted.",
            examples=["SELECT * FROM reviews WHERE day = {partition}"],
        ),
    ] = None


Partitions = Annotated[
    dg.PartitionsDefinition[Any] | None,
    dg.Resolver(
        resolve_partitions_def,
        model_field_type=HourlyPartitionsDefinitionModel
        | DailyPartitionsDefinitionModel
        | WeeklyPartitionsDefinitionModel
        | TimeWindowPartitionsDefinitionModel
        | StaticPartitionsDefinitionModel,
        description="Partitions of the asset: one is scanned per run. Without them all are scanned together.",
    ),
]
PolicyField = Annotated[
    str | dict[str, Any] | None,
    dg.Resolver.default(description="Policy file, or the policy itself; the default policy where missing."),
]
RolesField = Annotated[
    dict[str, str] | None,
    dg.Resolver.default(
        description="Which column plays which role; guessed from common names where missing.",
        examples=[{"text": "review", "label": "stars", "source": "shop", "id": "id"}],
    ),
]
ResourceField = Annotated[
    str | None,
    dg.Resolver.default(
        description="Key of a PoisonPolicyResource, for the policy, state, baseline, waivers and trust not named here.",
        examples=["poison"],
    ),
]
FailOnField = Annotated[str, dg.Resolver.default(description='"block", or "review" to treat a review like a block.')]
PathField = Annotated[
    str | None,
    dg.Resolver.default(
        description="Where the asset's files are, if no IO manager loads it; {partition} is the partition of the run.",
        examples=["s3://lake/reviews/{partition}/*.parquet"],
    ),
]
GateNameField = Annotated[str, dg.Resolver.default(description="Name of the gate asset: training depends on it.")]
KeyPrefixField = Annotated[str | None, dg.Resolver.default(description="Prefix of the gate asset's key.")]
GroupField = Annotated[str | None, dg.Resolver.default(description="Group of the gate asset.")]
DescriptionField = Annotated[str | None, dg.Resolver.default(description="Of the gate asset.")]
IOManagerField = Annotated[
    str | None, dg.Resolver.default(description="IO manager that stores what the gate hands on.")
]
AutomaticField = Annotated[
    bool, dg.Resolver.default(description="Run whenever the asset is updated (AutomationCondition.eager()).")
]
PoolField = Annotated[str | None, dg.Resolver.default(description="Concurrency pool of the op.")]
SqlField = Annotated[
    SqlSource | None, dg.Resolver.default(description="The asset is a table, a dbt model for example.")
]


class _GateParams(BaseModel):
    """What ``dg scaffold defs`` asks for; a click option each."""

    asset: str = Field(default="corpus", description="Key of the asset to guard, such as raw/reviews.")
    name: str | None = Field(default=None, description="Name of the gate asset; checked_<asset> where missing.")
    out: str = Field(default="/tmp/foretaste", description="Directory for reports.")


class _ChecksParams(BaseModel):
    asset: str = Field(default="corpus", description="Key of the asset to check, such as raw/reviews.")
    out: str = Field(default="/tmp/foretaste", description="Directory for reports.")


class _GXGateParams(BaseModel):
    asset: str = Field(default="corpus", description="Key of the asset to guard, such as raw/reviews.")
    name: str | None = Field(default=None, description="Name of the gate asset; checked_<asset> where missing.")
    checkpoint: str = Field(default="gate", description="Name of a stored checkpoint.")
    project_dir: str = Field(default="gx", description="Folder that holds great_expectations.yml.")


class PoisonGateScaffolder(dg.Scaffolder[_GateParams]):
    """Writes a ``defs.yaml`` with a gate."""

    @classmethod
    def get_scaffold_params(cls) -> type[_GateParams]:
        """What may be said on the command line."""
        return _GateParams

    def scaffold(self, request: dg.ScaffoldRequest[_GateParams]) -> None:
        """Write the file."""
        said = request.params
        name = said.name or f"checked_{said.asset.split('/')[-1]}"
        attributes = {"name": name, "asset": said.asset, "out": said.out, "on_block": "fail", "snapshot": True}
        dg.scaffold_component(request, attributes)


class PoisonChecksScaffolder(dg.Scaffolder[_ChecksParams]):
    """Writes a ``defs.yaml`` with blocking checks."""

    @classmethod
    def get_scaffold_params(cls) -> type[_ChecksParams]:
        """What may be said on the command line."""
        return _ChecksParams

    def scaffold(self, request: dg.ScaffoldRequest[_ChecksParams]) -> None:
        """Write the file."""
        attributes = {"assets": [request.params.asset], "out": request.params.out, "blocking": True}
        dg.scaffold_component(request, attributes)


class GXGateScaffolder(dg.Scaffolder[_GXGateParams]):
    """Writes a ``defs.yaml`` with a gate around a checkpoint."""

    @classmethod
    def get_scaffold_params(cls) -> type[_GXGateParams]:
        """What may be said on the command line."""
        return _GXGateParams

    def scaffold(self, request: dg.ScaffoldRequest[_GXGateParams]) -> None:
        """Write the file."""
        said = request.params
        name = said.name or f"checked_{said.asset.split('/')[-1]}"
        dg.scaffold_component(request, said.model_dump() | {"name": name})


class _Refusing:
    """Refuses by name what Dagster lets through, since a template may stand for any field: text where something else is
    meant, and a template that comes to nothing, which would count as a field that was left out."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]  # those that derive from it are dataclasses
            value = getattr(self, field.name)
            if isinstance(value, str) and not value.strip():
                raise _refused(field.name, "is empty; give it a value, or leave it out")
            if isinstance(field.default, bool) and not isinstance(value, bool):
                raise _refused(field.name, f"must be true or false, not {value!r}")
            if field.name in _LISTS:
                _refuse_text(field.name, value)

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: BaseModel) -> Self:
        """The component of a ``defs.yaml``."""
        # Dagster would make an asset key of each letter.
        for name in model.model_fields_set.intersection(_LISTS):
            _refuse_text(name, context.resolve_value(getattr(model, name)))
        made: Self = super().resolve_from_model(context, model)  # type: ignore[misc]
        for name in model.model_fields_set:
            if template := _come_to_nothing(getattr(model, name), getattr(made, name)):
                raise _refused(name, f"comes to nothing: {template}; set what it names, or leave the field out")
        return made


_LISTS = ("assets", "per_check", "attestations")


def _refused(name: str, said: str) -> dg.DagsterInvalidDefinitionError:
    return dg.DagsterInvalidDefinitionError(f"{name} {said}")


def _refuse_text(name: str, value: Any) -> None:
    if isinstance(value, str):
        raise _refused(name, f"must be a list; write {name}: [{value}]")


def _come_to_nothing(written: Any, resolved: Any) -> str | None:
    """The first text that was written and left nothing behind."""
    if isinstance(written, str):
        return written if resolved is None else None
    if isinstance(written, BaseModel):
        written = {name: getattr(written, name) for name in written.model_fields_set}
        resolved = vars(resolved) if hasattr(resolved, "__dict__") else None
    if isinstance(written, dict) and isinstance(resolved, dict):
        pairs = [(value, resolved.get(key)) for key, value in written.items()]
    elif isinstance(written, list | tuple) and isinstance(resolved, list | tuple):
        pairs = list(zip(written, resolved))
    else:
        return None
    return next(filter(None, (_come_to_nothing(*pair) for pair in pairs)), None)


@dg.scaffold_with(PoisonGateScaffolder)
@dataclass(kw_only=True)
class PoisonGateComponent(_Refusing, dg.Component, dg.Resolvable):
    """A gate asset: hands an asset's data on only where a scan for poison did not refuse them."""

    name: GateNameField
    asset: ResolvedAssetKey
    out: Annotated[str, dg.Resolver.default(description="Local directory for reports, quarantined rows and snapshots.")]
    policy: PolicyField = None
    roles: RolesField = None
    resource_key: ResourceField = None
    on_block: Annotated[
        str, dg.Resolver.default(description='"fail", "quarantine" (set flagged rows apart) or "warn".')
    ] = "fail"
    fail_on: FailOnField = "block"
    snapshot: Annotated[bool, dg.Resolver.default(description="Copy files first, and scan and hand on the copy.")] = (
        False
    )
    waivers: Annotated[str | None, dg.Resolver.default(description="Waiver file.")] = None
    attestations: Annotated[
        Sequence[str], dg.Resolver.default(description="Files in which sources signed for the data.")
    ] = ()
    trust: Annotated[str | None, dg.Resolver.default(description="Trust file for both of these.")] = None
    state: Annotated[
        str | None, dg.Resolver.default(description="History of accepted batches; set a pool of one slot with it.")
    ] = None
    certify_with: Annotated[
        str | None, dg.Resolver.default(description="PEM file of the key that signs what passed.")
    ] = None
    path: PathField = None
    sql: SqlField = None
    partitions_def: Partitions = None
    key_prefix: KeyPrefixField = None
    group_name: GroupField = None
    description: DescriptionField = None
    io_manager_key: IOManagerField = None
    automatic: AutomaticField = False
    pool: PoolField = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The gate asset."""
        here = _from(context.path)
        gate = build_poison_gate(
            name=self.name, asset=self.asset, out=here(self.out), roles=self.roles, on_block=self.on_block,  # type: ignore[arg-type]
            fail_on=self.fail_on, snapshot=self.snapshot, policy=_policy(self.policy, here),  # type: ignore[arg-type]
            waivers=here(self.waivers), attestations=[here(a) for a in self.attestations], trust=here(self.trust),
            state=here(self.state), certify_with=here(self.certify_with), load=_load(self.path, self.sql, here),
            resource_key=self.resource_key, partitions_def=self.partitions_def, key_prefix=self.key_prefix,
            group_name=self.group_name, description=self.description, io_manager_key=self.io_manager_key, pool=self.pool,
            automation_condition=dg.AutomationCondition.eager() if self.automatic else None,  # type: ignore[arg-type]
        )  # fmt: skip
        return dg.Definitions(assets=[gate])


@dg.scaffold_with(PoisonChecksScaffolder)
@dataclass(kw_only=True)
class PoisonChecksComponent(_Refusing, dg.Component, dg.Resolvable):
    """Asset checks that scan assets for poison, defined elsewhere and named by their keys."""

    assets: Annotated[
        Sequence[ResolvedAssetKey],
        dg.Resolver.default(description="Keys of the assets.", examples=[["raw/reviews"]]),
    ]
    policy: PolicyField = None
    roles: RolesField = None
    resource_key: ResourceField = None
    name: Annotated[str, dg.Resolver.default(description="Name of the check.")] = "no_poison"
    per_check: Annotated[
        Sequence[str], dg.Resolver.default(description="Ids of checks that get a result of their own as well.")
    ] = ()
    fail_on: FailOnField = "block"
    blocking: Annotated[
        bool, dg.Resolver.default(description="A failure keeps what is downstream in the same run from starting.")
    ] = True
    out: Annotated[str | None, dg.Resolver.default(description="Local directory for reports.")] = None
    path: PathField = None
    sql: SqlField = None
    partitions_def: Partitions = None
    pool: PoolField = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """A check for each asset."""
        here = _from(context.path)
        checks = build_poison_checks(
            assets=self.assets, policy=_policy(self.policy, here), roles=self.roles, name=self.name,
            per_check=list(self.per_check), fail_on=self.fail_on, blocking=self.blocking, out=here(self.out),  # type: ignore[arg-type]
            severity=dg.AssetCheckSeverity.ERROR if self.blocking else dg.AssetCheckSeverity.WARN,
            load=_load(self.path, self.sql, here), partitions_def=self.partitions_def, pool=self.pool,
            resource_key=self.resource_key,
        )  # fmt: skip
        return dg.Definitions(asset_checks=list(checks))


@dg.scaffold_with(GXGateScaffolder)
@dataclass(kw_only=True)
class GXGateComponent(_Refusing, dg.Component, dg.Resolvable):
    """A gate asset: hands an asset's data on only where a Great Expectations 1.x checkpoint met every expectation."""

    name: GateNameField
    asset: ResolvedAssetKey
    checkpoint: Annotated[str, dg.Resolver.default(description="Name of a stored checkpoint.")]
    project_dir: Annotated[str, dg.Resolver.default(description="Folder that holds great_expectations.yml.")]
    dataframe: Annotated[
        bool,
        dg.Resolver.default(
            description="Hand the asset's frame to the checkpoint; false where the checkpoint reads files by itself."
        ),
    ] = True
    batch_parameters: Annotated[
        dict[str, str] | None,
        dg.Resolver.default(
            description="Passed on; {partition} is the partition of the run.", examples=[{"path": "{partition}.csv"}]
        ),
    ] = None
    path: PathField = None
    partitions_def: Partitions = None
    key_prefix: KeyPrefixField = None
    group_name: GroupField = None
    description: DescriptionField = None
    io_manager_key: IOManagerField = None
    automatic: AutomaticField = False
    pool: PoolField = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The gate asset."""
        from foretaste.operators.dagster_expectations import build_gx_gate

        here, said = _from(context.path), dict(self.batch_parameters or {})
        gate = build_gx_gate(
            name=self.name, asset=self.asset, checkpoint=self.checkpoint, project_dir=here(self.project_dir),
            dataframe=self.dataframe, load=_load(self.path, None, here), partitions_def=self.partitions_def,
            batch_parameters=lambda run: {key: with_partition(value, run) for key, value in said.items()},
            key_prefix=self.key_prefix, group_name=self.group_name, description=self.description,
            io_manager_key=self.io_manager_key, pool=self.pool,
            automation_condition=dg.AutomationCondition.eager() if self.automatic else None,  # type: ignore[arg-type]
        )  # fmt: skip
        return dg.Definitions(assets=[gate])


def _from(folder: Path) -> Callable[[Any], Any]:
    """Paths as they are meant from a folder; addresses and nothing stay what they are."""
    base = folder if folder.is_dir() else folder.parent

    def here(path: str | None) -> str | None:
        return path if path is None or "://" in path else str(base / path)

    return here


def _policy(policy: str | Mapping[str, Any] | None, here: Callable[[Any], Any]) -> Any:
    return here(policy) if isinstance(policy, str) else policy


def _load(path: str | None, sql: SqlSource | None, here: Callable[[Any], Any]) -> Load | None:
    if path is not None and sql is not None:
        raise dg.DagsterInvalidDefinitionError("path and sql both say where the data are; keep one of them")
    if path is not None:
        return lambda context: with_partition(here(path), context)
    if sql is None:
        return None
    if (sql.table is None) == (sql.query is None):
        raise dg.DagsterInvalidDefinitionError("sql needs either table or query, and not both")
    return sql_rows(sql.url, sql.table or sql.query or "")


__all__ = ["GXGateComponent", "PoisonChecksComponent", "PoisonGateComponent"]
