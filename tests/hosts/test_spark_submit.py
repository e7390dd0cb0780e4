"""The command line under spark-submit, and Airflow's operator for it: a refused batch fails, and training waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("pyspark")
pytestmark = pytest.mark.host

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
SUBMIT = Path(sys.executable).parent / "spark-submit"
DAG = """
from airflow.sdk import dag, task
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

@dag
def submitted():
{scan}
    @task
    def train(): ...
    scan >> train()

submitted()
"""


def block(page: str, word: str) -> str:
    """The block of Python on a page of the documentation that holds the word."""
    found = [part.split("```")[0] for part in (DOCS / page).read_text(encoding="utf-8").split("```python\n")[1:]]
    (only,) = [text for text in found if word in text]
    return only


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("application") / "foretaste_scan.py"
    path.write_text(block("spark.md", "foretaste.cli"))
    return path


def test_a_submitted_scan_ends_with_its_own_exit_code(application: Path, tmp_path: Path, clean_table: pa.Table) -> None:
    pq.write_table(clean_table.slice(0, 300), tmp_path / "clean.parquet")
    arguments = ["scan", "clean.parquet", "--spark", "--checks", "hidden-text", "--out", "report"]
    done = subprocess.run(
        [SUBMIT, "--master", "local[2]", "--conf", "spark.ui.enabled=false", application, *arguments],
        env=os.environ | {"PYSPARK_PYTHON": sys.executable}, cwd=tmp_path, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if "JAVA_HOME" in done.stderr and "report" not in os.listdir(tmp_path):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "report" / "report.json").read_text())["verdict"] == "pass"


def test_a_refused_batch_fails_the_task_of_airflow_and_training_does_not_start(
    tool: Callable[[str], str], application: Path, tmp_path: Path, poisoned_table: pa.Table
) -> None:
    python = tool("spark-submit")
    pq.write_table(poisoned_table.slice(0, 300), tmp_path / "poisoned.parquet")
    scan = block("airflow.md", "SparkSubmitOperator(")
    for said, here in {
        "/srv/foretaste/foretaste_scan.py": str(application),
        "/data/gates/{{ ds }}": str(tmp_path / "report"),
        "/data/{{ ds }}": str(tmp_path / "poisoned.parquet"),
        "/srv/foretaste/bin/python": sys.executable,
        '"--spark"': '"--spark", "--checks", "hidden-text"',
    }.items():
        assert said in scan
        scan = scan.replace(said, here)
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "submitted.py").write_text(DAG.format(scan=textwrap.indent(scan, "    ")))
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")} | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db?timeout=120",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
        "PATH": f"{SUBMIT.parent}{os.pathsep}{os.environ['PATH']}",
    }
    runs = tmp_path / "runs.json"
    command = [python, HERE / "run_airflow.py", tmp_path / "dags", runs]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    states = {name: task["state"] for name, task in json.loads(runs.read_text())["submitted"]["tasks"].items()}
    assert states == {"scan": "failed", "train": "upstream_failed"}, done.stdout[-4000:]
    assert json.loads((tmp_path / "report" / "report.json").read_text())["verdict"] == "block"
