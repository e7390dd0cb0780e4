"""The metric behind the expectations: one scan of a batch.

Great Expectations computes a metric once per validation and set of arguments, so equal expectations share a scan.
"""

from __future__ import annotations

import dataclasses
import json
from contextlib import AbstractContextManager
from typing import Any

from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.execution_engine.sparkdf_execution_engine import SparkDFExecutionEngine
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

from foretaste import InputError, Policy, Roles, scan
from foretaste.expectations import _rows
from foretaste.reading.database import Rows

SCAN = "foretaste.scan"


class BatchScan(TableMetricProvider):
    """``{"report": Report}``, or ``{"error": str}`` where nothing could be checked.

    ``policy`` is JSON: the path of a policy file or an inline policy. ``check`` is the id of the only check that runs,
    or empty. ``roles`` and ``options`` are JSON mappings; ``options`` are further arguments of :func:`foretaste.scan`.
    """

    metric_name = SCAN
    value_keys = ("policy", "check", "roles", "options")

    @metric_value(engine=PandasExecutionEngine)
    def _pandas(
        cls, execution_engine: Any, metric_domain_kwargs: Any, metric_value_kwargs: Any, **_: Any
    ) -> dict[str, Any]:
        return _scan(execution_engine, metric_domain_kwargs, metric_value_kwargs)

    @metric_value(engine=SqlAlchemyExecutionEngine)
    def _sqlalchemy(
        cls, execution_engine: Any, metric_domain_kwargs: Any, metric_value_kwargs: Any, **_: Any
    ) -> dict[str, Any]:
        return _scan(execution_engine, metric_domain_kwargs, metric_value_kwargs)

    @metric_value(engine=SparkDFExecutionEngine)
    def _spark(
        cls, execution_engine: Any, metric_domain_kwargs: Any, metric_value_kwargs: Any, **_: Any
    ) -> dict[str, Any]:
        return _scan(execution_engine, metric_domain_kwargs, metric_value_kwargs)


def _scan(engine: Any, domain: Any, values: Any) -> dict[str, Any]:
    try:
        policy = Policy.load(json.loads(values["policy"]))
        if values["check"]:
            policy = policy.only(values["check"])
        wanted = Roles.from_mapping(json.loads(values["roles"]))
        with _rows_of(engine, domain, wanted) as (data, roles, guessed):
            report = scan(data, policy, roles=roles, **json.loads(values["options"]))
    # A metric that raises is computed three times, and its message reaches Data Docs unescaped.
    except Exception as e:  # noqa: BLE001
        return {"error": f"{type(e).__name__}: {e}"}
    return {"report": dataclasses.replace(report, data=dataclasses.replace(report.data, guessed_roles=guessed))}


def _rows_of(engine: Any, domain: Any, wanted: Roles) -> AbstractContextManager[Rows]:
    """The batch's rows, with the row condition applied."""
    try:
        batch = engine.get_compute_domain(domain_kwargs=domain, domain_type=MetricDomainTypes.TABLE)[0]
    except Exception as e:
        if domain.get("row_condition") is None:
            raise
        said = f"{type(e).__name__}: {e}"
        raise InputError(f"the row_condition selects nothing ({said}); check its columns and its parser") from e
    if isinstance(engine, PandasExecutionEngine):
        return _rows.from_pandas(batch, wanted)
    if isinstance(engine, SqlAlchemyExecutionEngine):
        return _rows.from_sql(engine, batch, wanted)
    return _rows.from_spark(batch, wanted)
