"""DAGs that the Airflow tests run; the places come from the environment, which the fixture sets."""

from __future__ import annotations

import json
import os
from functools import partial

from airflow.sdk import DAG, Asset, task
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

from foretaste.operators.airflow import PoisonGateOperator, require_gate

HOME = os.environ["GATE_TEST_HOME"]
CLEAN, POISONED = f"{HOME}/clean.parquet", f"{HOME}/poisoned.parquet"
POLICY_FILE = f"{HOME}/policy.yaml"
POLICY = json.loads(os.environ["GATE_TEST_POLICY"])
OUT = f"{HOME}/out/{{{{ dag.dag_id }}}}"


class StorageDown(MemoryFileSystem):
    """A storage that nobody can reach."""

    cachable = False

    def info(self, path: str, **kwargs: object) -> dict[str, object]:
        raise ConnectionError("connection refused")


attach("memory", "vendor", fs=MemoryFileSystem())
attach("memory", "down", fs=StorageDown())


@task
def train(path: str) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_table(path).num_rows)


@task
def train_anyway() -> str:
    return "trained"


def gate(**kwargs: object) -> PoisonGateOperator:
    given = {"task_id": "gate", "data": POISONED, "policy": POLICY_FILE, "out": OUT, **kwargs}
    return PoisonGateOperator(**given)


with DAG("poisoned"):
    refused = gate(retries=3, outlets=[Asset("refused")], report_url="https://reports.example/{{ dag.dag_id }}/")
    refused >> train_anyway()

with DAG("clean"):
    train(gate(data=CLEAN, outlets=[Asset("gated")]).output)

with DAG("quarantine"):
    train(gate(on_block="quarantine", outlets=[Asset("set_apart")]).output)

with DAG("warn"):
    train(gate(on_block="warn").output)

templated = POLICY | {"checks": POLICY["checks"] | {"hidden-text": {"block_rows": "{{ params.block_rows }}"}}}

with DAG("templated", params={"name": "poisoned", "block_rows": "31", "text": "text", "then": "fail"}):
    gate(
        data=f"file://{HOME}/{{{{ params.name }}}}.parquet",
        policy=templated,
        roles={"text": "{{ params.text }}", "id": "id", "source": "{{ params.source | default('') }}"},
        on_block="{{ params.then }}",
        conn_id="{{ params.conn | default(None) }}",
    )

with DAG("review"):
    gate(policy=POLICY | {"checks": POLICY["checks"] | {"hidden-text": {"block_rows": 31}}}, fail_on="review")

with DAG("relative_policy"):
    gate(data=CLEAN, policy="beside.yaml")

with DAG("frame"):

    @task.poison_gate(policy=POLICY_FILE, out=OUT, on_block="quarantine", task_id="gate")
    def batch(name: str, run_id: str | None = None):
        import pyarrow.parquet as pq

        assert run_id
        return pq.read_table(f"{HOME}/{name}.parquet").to_pandas()

    train(batch("poisoned"))

with DAG("frame_passes"):

    @task.poison_gate(policy=POLICY_FILE, out=OUT, task_id="gate")
    def clean_batch():
        import pyarrow.parquet as pq

        return pq.read_table(CLEAN)

    train(clean_batch())

with DAG("decorated_path"):

    @task.poison_gate(policy=POLICY_FILE, out=OUT, task_id="gate", retries=3)
    def fetched():
        return POISONED

    fetched() >> train_anyway()

with DAG("storage"):

    @task
    def upload() -> str:
        fs = MemoryFileSystem()
        fs.put_file(POISONED, "/vendor/batch.parquet")
        return "memory://vendor/batch.parquet"

    @task
    def count(path: str) -> int:
        import pyarrow.parquet as pq

        with MemoryFileSystem().open(path) as file:
            return int(pq.read_table(file).num_rows)

    stored = gate(
        data=upload(),
        conn_id="vendor",
        out="memory://reports/{{ run_id }}",
        out_conn_id="vendor",
        on_block="quarantine",
    )
    count(stored.output)

    @task
    def verified() -> str:
        return str(require_gate("gate"))

    stored >> verified()

with DAG("storage_down"):
    gate(data="memory://vendor/batch.parquet", conn_id="down", retries=1, retry_delay=0.01)

with DAG("missing_column"):
    gate(roles={"text": "txet"}, retries=3)

with DAG("nothing_returned"):

    @task
    def nothing() -> None:
        return None

    gate(data=nothing(), retries=3)

with DAG("all_done"):
    blocked = gate()

    @task(trigger_rule="all_done")
    def guarded() -> str:
        return str(require_gate("gate"))

    blocked >> task(train_anyway.function, task_id="unguarded", trigger_rule="all_done")()
    blocked >> guarded()
    (
        blocked
        >> task(
            train_anyway.function,
            task_id="guarded_before",
            trigger_rule="all_done",
            pre_execute=partial(require_gate, "gate"),
        )()
    )

with DAG("all_done_clean"):

    @task(trigger_rule="all_done")
    def trained() -> str:
        return str(require_gate("gate"))

    @task
    def misnamed() -> str:
        return str(require_gate("gaet"))

    passed = gate(data=CLEAN)
    passed >> trained()
    passed >> misnamed()

with DAG("tampered"):

    @task
    def batch_copy() -> str:
        import shutil

        return str(shutil.copy(CLEAN, f"{HOME}/tampered.parquet"))

    @task
    def tamper() -> None:
        import shutil

        shutil.copy(POISONED, f"{HOME}/tampered.parquet")

    gate(data=batch_copy()) >> tamper() >> verified()

with DAG("mapped"):

    @task(trigger_rule="all_done")
    def all_gates() -> list[str]:
        return list(require_gate("gate"))

    each = PoisonGateOperator.partial(task_id="gate", policy=POLICY_FILE, out=OUT + "/{{ ti.map_index }}").expand(
        data=[CLEAN, POISONED]
    )
    each >> all_gates()

with DAG("mapped_clean"):
    both = PoisonGateOperator.partial(task_id="gate", policy=POLICY_FILE, out=OUT + "/{{ ti.map_index }}").expand(
        data=[CLEAN, CLEAN]
    )
    both >> task(all_gates.function, task_id="all_gates")()

with DAG("mapped_over_nothing"):
    none = PoisonGateOperator.partial(task_id="gate", out=OUT + "/{{ ti.map_index }}").expand(data=[])
    none >> task(all_gates.function, task_id="all_gates", trigger_rule="all_done")()

with DAG("with_state"):
    # One file per batch, one gate after the other, whatever came of the one before.
    last = None
    for day in ("first", "second", "third"):
        judged = gate(
            task_id=day, data=f"{HOME}/{day}.parquet", policy=f"{HOME}/capped.yaml", out=f"{OUT}/{day}",
            state=f"{HOME}/{{{{ dag.dag_id }}}}.history", trigger_rule="all_done",
        )  # fmt: skip
        if last is not None:
            last >> judged
        judged >> task(train_anyway.function, task_id=f"train_{day}")()
        last = judged

with DAG("attested"):
    for name, files in {"signed": [f"{HOME}/{{{{ params.file }}}}.json"], "unsigned": None}.items():
        delivered = gate(
            task_id=name, data=f"{HOME}/first.parquet", policy=f"{HOME}/signed.yaml", out=f"{OUT}/{name}",
            attestations=files, trust=f"{HOME}/trust.yaml", params={"file": "delivery"},
        )  # fmt: skip
        delivered >> task(train_anyway.function, task_id=f"train_{name}")()
