"""Dagster: training that starts by itself, and only after a gate that passed.

A gate that refuses its data materializes nothing, so ``AutomationCondition.eager()`` on the gate and on what reads its
output never trains on refused data. The sensor is stricter where a gate may hand data on with a warning or after a
quarantine: it looks at what the gate said. Importing this module loads Dagster and nothing else that is heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from foretaste.operators.dagster import AssetLike, _one_key


def build_gate_sensor(
    *,
    gate: AssetLike,
    job: Any,
    name: str | None = None,
    actions: Sequence[str] = ("pass",),
    verdicts: Sequence[str] = ("pass",),
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds: int | None = None,
) -> dg.SensorDefinition:
    """A sensor that starts a job for each new output of a gate asset that passed; others are skipped with the reason.

    The run carries the digest of the scanned data and the run of the gate as tags.

    Args:
        gate: the gate asset, or its key.
        job: the job that trains.
        name: of the sensor; ``<gate>_sensor`` where ``None``.
        actions: what the gate may have done: ``pass``, ``quarantine``, ``warn``.
        verdicts: verdicts of the scan that start the job. Add ``review`` to train on what a person should look at, and
            ``block`` with ``quarantine``: the verdict is that of the data before rows were set apart.
        default_status: whether the sensor runs as soon as it is deployed.
        minimum_interval_seconds: between two looks.

    Raises:
        DagsterInvalidDefinitionError: if ``gate`` defines several assets.
    """
    key, _ = _one_key(gate, "a sensor watches one asset")

    @dg.asset_sensor(
        asset_key=key, job=job, name=name or f"{key.to_python_identifier()}_sensor", default_status=default_status,
        minimum_interval_seconds=minimum_interval_seconds,
    )  # fmt: skip
    def passed(context, asset_event):  # type: ignore[no-untyped-def]  # Dagster refuses annotations that are strings
        stored = asset_event.asset_materialization
        said = {k: v.value for k, v in (stored.metadata if stored else {}).items()}
        # Whatever says nothing, a materialization reported by hand for example, is not a pass.
        action, verdict = said.get("action"), said.get("verdict")
        if action not in actions or verdict not in verdicts:
            yield dg.SkipReason(f"{key.to_user_string()}: action {action}, verdict {verdict}; no training")
            return
        yield dg.RunRequest(
            run_key=f"{asset_event.run_id}:{stored.partition or ''}",
            partition_key=stored.partition,
            tags={"foretaste/gate_run": asset_event.run_id, "foretaste/data_digest": str(said.get("data_digest"))},
        )

    return passed


__all__ = ["build_gate_sensor"]
