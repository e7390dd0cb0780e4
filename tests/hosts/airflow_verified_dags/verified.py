"""DAGs that verify a certificate before they train."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, ObjectStoragePath, task

from foretaste.operators.airflow_provenance import VerifyDataOperator

HOME = os.environ["GATE_TEST_HOME"]
CERTIFIED, CHANGED = f"{HOME}/certified/train.parquet", f"{HOME}/changed/train.parquet"
POLICY = f"{HOME}/policy.yaml"
# Relative paths: they count from this file.
PROOF: dict[str, Any] = {"certificate": "train.intoto.jsonl", "trust": "trust.yaml", "policy": POLICY}


@task
def train_on(path: str) -> str:
    return path


@task.verified(**PROOF, retries=2)
def train_verified(path: str, epochs: int = 1, ds: Any = None) -> dict[str, Any]:
    import pyarrow.parquet as pq

    return {"rows": pq.read_table(path).num_rows, "path": path, "epochs": epochs, "ds": str(ds)}


def verify(data: str, **changes: Any) -> Any:
    return VerifyDataOperator(task_id="verify", data=data, **(PROOF | changes))


with DAG("verify_certified"):
    train_on(verify(CERTIFIED).output)

with DAG("verify_changed"):
    train_on(verify(CHANGED, retries=3).output)

with DAG("verify_other_policy"):
    train_on(verify(CERTIFIED, policy="sha256:{{ '0' * 64 }}").output)

with DAG("verify_no_trust"):
    train_on(verify(CERTIFIED, trust="{{ none }}").output)

with DAG("verify_other_name"):
    train_on(verify(CERTIFIED, name="vendor", min_sequence="{{ 7 }}").output)

with DAG("verify_copied"):
    # Any store that fsspec knows; here its own name for local files.
    there = ObjectStoragePath(f"file://{CERTIFIED}")
    train_on(verify(there, copy_to=f"{HOME}/copies/{{{{ ti.try_number }}}}").output)

with DAG("train_certified"):
    train_verified(CERTIFIED, epochs=3)

with DAG("train_changed"):
    train_verified(CHANGED)
