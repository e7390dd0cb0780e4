"""DAGs around Great Expectations checkpoints; the fixture makes the project."""

from __future__ import annotations

import os

from airflow.sdk import DAG, task

from foretaste.operators.airflow import GXCheckpointOperator, require_gate

HOME = os.environ["GATE_TEST_HOME"]


@task
def train_anyway() -> str:
    return "trained"


@task
def train_required() -> None:
    require_gate("gate")


def checked(name: str, **kwargs: object) -> None:
    with DAG(f"gx_{name}"):
        gate = GXCheckpointOperator(
            task_id="gate",
            checkpoint="{{ params.name }}",
            params={"name": name},
            context_root_dir=f"{HOME}/gx",
            retries=3,
            **kwargs,
        )
        gate >> train_anyway()
        gate >> train_required()


checked("met")
checked("unmet")
checked("dropped")
checked("empty")
checked("absent")
checked("parameters", expectation_parameters={"regex": "{{ params.regex | default('one|two') }}"})


def configure(context):
    import great_expectations as gx

    assets = context.data_sources.add_pandas_filesystem("files", base_directory=HOME)
    batch = assets.add_csv_asset("csv").add_batch_definition_path("batch", path="batch.csv")
    suite = context.suites.add(gx.ExpectationSuite(name="made"))
    suite.add_expectation(gx.expectations.ExpectColumnToExist(column="text"))
    validation = gx.ValidationDefinition(name="made", data=batch, suite=suite)
    context.validation_definitions.add(validation)
    return gx.Checkpoint(name="made", validation_definitions=[validation])


with DAG("gx_configured"):
    GXCheckpointOperator(task_id="gate", configure=configure) >> train_anyway()
