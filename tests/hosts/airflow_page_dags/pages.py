"""DAGs that run in a real scheduler; the places come from the environment, which the fixture sets."""

from __future__ import annotations

import os

from airflow.sdk import DAG, Asset, task

from foretaste.operators.airflow import PoisonGateOperator

HOME = os.environ["GATE_TEST_HOME"]
PASSED = Asset("passed")


def gate(name: str, **kwargs: object) -> PoisonGateOperator:
    given = {
        "task_id": "gate",
        "data": f"{HOME}/{name}.parquet",
        "policy": f"{HOME}/policy.yaml",
        "out": f"{HOME}/out/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}",
        "outlets": [PASSED],
        **kwargs,
    }
    return PoisonGateOperator(**given)


@task
def train(**context: object) -> str:
    (events,) = context["triggering_asset_events"].values()
    return str(events[-1].extra["foretaste"]["path"])


with DAG("clean"):
    gate("clean")

with DAG("poisoned"):
    gate("poisoned", dataset="<script>alert('named')</script>")

with DAG("trains_on_passes", schedule=[PASSED]):
    train()
