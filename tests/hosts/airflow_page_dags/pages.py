"""DAGs that run in a real scheduler; the places come from the environment, which the fixture sets."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG, Asset, task

from foretaste.operators.airflow import PoisonGateOperator, require_asset
from foretaste.operators.airflow_notifier import PoisonNotifier

HOME = os.environ["GATE_TEST_HOME"]
PASSED = Asset("passed")


def gate(name: str, **kwargs: object) -> PoisonGateOperator:
    given = {
        "task_id": "gate",
        "data": f"{HOME}/{name}.parquet",
        "policy": f"{HOME}/policy.yaml",
        "out": f"{HOME}/out/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}/{{{{ ti.task_id }}}}",
        "outlets": [PASSED],
        **kwargs,
    }
    return PoisonGateOperator(**given)


def note(text: str) -> None:
    Path(HOME, "notified.txt").write_text(text)


@task
def train() -> str:
    return require_asset(PASSED)


with DAG("clean"):
    gate("clean")

with DAG("poisoned"):
    gate("poisoned", dataset="<script>alert('named')</script>", on_failure_callback=PoisonNotifier(note))

with DAG("trains_on_passes", schedule=[PASSED]):
    train()

with DAG("elsewhere"):
    gate("poisoned", outlets=[], python=os.environ["GATE_TEST_PYTHON"], on_block="quarantine")

with DAG("restarted"):
    gate("poisoned", outlets=[], python=os.environ["GATE_TEST_STUCK"], deferrable=True, dataset="restarted")

with DAG("deferred"):
    gate("clean", outlets=[], deferrable=True)
    gate("poisoned", outlets=[], deferrable=True, task_id="refused")
    gate("absent", outlets=[], deferrable=True, task_id="unreadable")
