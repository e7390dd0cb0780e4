"""DAGs in which a person decides; ``run_airflow.py`` answers for her, through the REST API."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import DAG, task, task_group

from foretaste.operators.airflow import PoisonGateOperator, require_gate
from foretaste.operators.airflow_approval import PoisonApprovalOperator

HOME = os.environ["GATE_TEST_HOME"]


@task
def train() -> str:
    return str(require_gate("approval"))


def approval(dag_id: str, *, data: str = "poisoned", policy: str = f"{HOME}/policy.yaml", **kwargs: object) -> None:
    with DAG(dag_id):
        gate = PoisonGateOperator(
            task_id="gate", data=f"{HOME}/{data}.parquet", policy=policy, out=f"{HOME}/out/{dag_id}"
        )
        gate >> PoisonApprovalOperator(task_id="approval", gate="gate", **kwargs) >> train()


approval("approval_given")
approval("approval_signed", key=f"{HOME}/alice.pem", trust=f"{HOME}/trust.yaml")
approval("approval_forged", key=f"{HOME}/mallory.pem", trust=f"{HOME}/trust.yaml")
approval("approval_rejected")
approval("approval_silent")
approval("approval_not_needed", data="clean")
approval("approval_swapped", data="approval_swapped")
approval("approval_of_error", data="no_such_file")
approval("approval_late", response_timeout=timedelta(seconds=1), retries=2)


@task
def train_one() -> str:
    return str(require_gate("one.approval"))


with DAG("approval_mapped"):

    @task_group
    def one(path: str) -> None:
        gate = PoisonGateOperator(
            task_id="gate", data=path, policy=f"{HOME}/policy.yaml", out=f"{HOME}/out/mapped/{{{{ ti.map_index }}}}"
        )
        gate >> PoisonApprovalOperator(task_id="approval", gate="one.gate") >> train_one()

    one.expand(path=[f"{HOME}/{name}.parquet" for name in ("poisoned", "poisoned", "clean")])
