"""The poisoned delivery, and a person who may let it through.

    docs_qa_approval   delivery -> gate -> approval -> train

The gate refuses the data and fails. The approval then waits under "required actions" with the findings. Approve, with a
reason: it leaves a waiver for each finding beside the report, and training reads exactly what was scanned. Reject: it
fails, and training does not start.

Everything is written below the directory named by FORETASTE_EXAMPLES, ``~/foretaste-examples`` where it is not set.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from foretaste.operators.airflow import PoisonGateOperator, require_gate
from foretaste.operators.airflow_approval import PoisonApprovalOperator

ROOT = Path(os.environ.get("FORETASTE_EXAMPLES", Path.home() / "foretaste-examples"))
RUN = f"{ROOT}/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}"


@task(multiple_outputs=True, retries=2, retry_delay=timedelta(seconds=1))
def delivery(folder: str) -> dict[str, str]:
    """Make the corpus, with the vendor's poisoned batch in it."""
    import docs_qa

    files = docs_qa.prepare(folder, poisoned=True)
    return {"train": str(files.train), "test": str(files.test)}


@task
def train(test_path: str) -> dict[str, Any]:
    """Fit the model on what was approved; refuses anything else, whatever the trigger rules say."""
    import dataclasses

    import docs_qa

    return dataclasses.asdict(docs_qa.train_and_evaluate(require_gate("approval"), test_path))


with DAG("docs_qa_approval", schedule=None, tags=["foretaste"]):
    files = delivery(f"{RUN}/data")
    gate = PoisonGateOperator(task_id="gate", data=files["train"], out=f"{RUN}/gate")
    approval = PoisonApprovalOperator(task_id="approval", gate="gate")
    gate >> approval >> train(files["test"])
