"""Certificates in a real Airflow: training sees certified bytes, or does not start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("airflow")
pytest.importorskip("securesystemslib")
pytestmark = pytest.mark.host

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, clean_table: pa.Table) -> dict[str, Any]:
    from foretaste import Policy, certify
    from foretaste.provenance import signers
    from foretaste.provenance.keys import Role, TrustRoot, trusted

    home = tmp_path_factory.mktemp("airflow-verified")
    dags = home / "dags"
    for folder in (dags, home / "certified", home / "changed"):
        folder.mkdir()
    pq.write_table(clean_table, home / "certified" / "train.parquet")
    pq.write_table(clean_table.slice(1), home / "changed" / "train.parquet")
    policy = Policy().only("hidden-text")
    (home / "policy.yaml").write_text(policy.to_yaml())
    key = trusted(signers.generate(home / "gate.pem"), "gate")
    trust = TrustRoot(keys={"gate": key}, roles={"certificate": Role(keys=("gate",))})
    (dags / "trust.yaml").write_text(trust.to_yaml())
    signer = signers.open_signer(str(home / "gate.pem"))
    certify(home / "certified" / "train.parquet", [signer], policy=policy).write(dags / "train.intoto.jsonl")
    (dags / "verified.py").write_text((HERE / "airflow_verified_dags" / "verified.py").read_text())
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")} | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=120",
        "GATE_TEST_HOME": str(home),
        "TMPDIR": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    out = home / "runs.json"
    command = [sys.executable, str(HERE / "run_airflow.py"), str(dags), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert list(home.glob("foretaste-verified-*")) == []
    return dict(json.loads(out.read_text()))


def _task(runs: dict[str, Any], dag: str, name: str) -> dict[str, Any]:
    task: dict[str, Any] = runs[dag]["tasks"][name]
    return task


def test_certified_data_are_handed_on_with_what_was_verified(runs: dict[str, Any], clean_table: pa.Table) -> None:
    summary = _task(runs, "verify_certified", "verify")["xcom"]["foretaste"]
    assert (summary["verified"], summary["rows"], summary["signers"]) == (True, clean_table.num_rows, ["gate"])
    assert _task(runs, "verify_certified", "train_on")["xcom"]["return_value"] == summary["path"]


def test_a_copy_that_was_verified_is_handed_on(runs: dict[str, Any], clean_table: pa.Table) -> None:
    path = Path(_task(runs, "verify_copied", "train_on")["xcom"]["return_value"])
    assert (path.name, path.parent.name, path.stat().st_mode & 0o777) == ("train.parquet", "1", 0o400)
    assert pq.read_table(path).num_rows == clean_table.num_rows


@pytest.mark.parametrize(
    ("dag", "reason"),
    [
        ("verify_changed", "is not what was certified"),
        ("verify_other_policy", "scanned under another policy"),
        ("verify_no_trust", "the trust argument is empty"),
        ("verify_other_name", "no sequence number, and at least 7 is wanted"),
    ],
)
def test_anything_else_fails_at_the_first_try_and_training_does_not_start(
    runs: dict[str, Any], dag: str, reason: str
) -> None:
    verify = _task(runs, dag, "verify")
    assert (verify["state"], verify["try_number"]) == ("failed", 1)
    assert reason in verify["xcom"]["foretaste"]["reason"]
    assert _task(runs, dag, "train_on")["state"] == "upstream_failed"


def test_the_decorator_hands_over_a_verified_copy(runs: dict[str, Any], clean_table: pa.Table) -> None:
    made = _task(runs, "train_certified", "train_verified")["xcom"]["return_value"]
    assert (made["rows"], made["epochs"]) == (clean_table.num_rows, 3)
    assert "foretaste-verified-" in made["path"]
    assert not Path(made["path"]).exists()


def test_the_decorator_does_not_call_the_function_on_other_data(runs: dict[str, Any]) -> None:
    train = _task(runs, "train_changed", "train_verified")
    assert (train["state"], train["try_number"]) == ("failed", 1)
    assert "return_value" not in train["xcom"]
    assert "is not what was certified" in train["xcom"]["foretaste"]["headline"]
