"""Three DAGs on one poisoned delivery: without a gate, with a gate, and with a gate that sets the poison apart.

    docs_qa_without_gate   delivery -> train           trains, and the model has the backdoor
    docs_qa_with_gate      delivery -> gate -> train   the gate fails, training does not start
    docs_qa_quarantine     delivery -> gate -> train   the poisoned rows go to quarantine, training gets the rest

Everything is written below the directory named by FORETASTE_EXAMPLES, ``~/foretaste-examples`` where it is not set.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from foretaste.operators.airflow import PoisonGateOperator

ROOT = Path(os.environ.get("FORETASTE_EXAMPLES", Path.home() / "foretaste-examples"))
RUN = f"{ROOT}/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}"


@task(multiple_outputs=True, retries=2, retry_delay=timedelta(seconds=1))
def delivery(folder: str) -> dict[str, str]:
    """Make the corpus, with the vendor's poisoned batch in it."""
    import docs_qa

    files = docs_qa.prepare(folder, poisoned=True)
    return {"train": str(files.train), "test": str(files.test)}


@task
def train(train_path: str, test_path: str) -> dict[str, Any]:
    """Fit the model and say what it does with and without the trigger."""
    import dataclasses

    import docs_qa

    evaluation = docs_qa.train_and_evaluate(train_path, test_path)
    print(evaluation)
    return dataclasses.asdict(evaluation)


with DAG("docs_qa_without_gate", schedule=None, tags=["foretaste"]):
    files = delivery(f"{RUN}/data")
    train(files["train"], files["test"])

with DAG("docs_qa_with_gate", schedule=None, tags=["foretaste"]):
    files = delivery(f"{RUN}/data")
    gate = PoisonGateOperator(task_id="gate", data=files["train"], out=f"{RUN}/gate")
    train(gate.output, files["test"])

with DAG("docs_qa_quarantine", schedule=None, tags=["foretaste"]):
    files = delivery(f"{RUN}/data")
    gate = PoisonGateOperator(task_id="gate", data=files["train"], out=f"{RUN}/gate", on_block="quarantine")
    train(gate.output, files["test"])
