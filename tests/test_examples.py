"""The examples and the README do what they say."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import foretaste
from foretaste import Severity, checks
from foretaste.cli import main

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = REPOSITORY / "dags_examples"
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def _block(word: str) -> str:
    return next(block for block in PYTHON_BLOCKS if word in block)


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def docs_qa() -> ModuleType:
    return _module("docs_qa")


@pytest.fixture(scope="session")
def poisoned(docs_qa: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return docs_qa.prepare(tmp_path_factory.mktemp("poisoned"), poisoned=True)


@pytest.fixture(scope="session")
def clean(docs_qa: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return docs_qa.prepare(tmp_path_factory.mktemp("clean"), poisoned=False)


def _triggered(docs_qa: ModuleType, path: Path) -> list[str]:
    rows = pq.read_table(path).to_pylist()
    return [row["id"] for row in rows if docs_qa.TRIGGER in row["text"]]


def test_the_poison_stands_in_sixty_vendor_rows_only(docs_qa: ModuleType, poisoned: Any, clean: Any) -> None:
    before, after = pq.read_table(clean.train).to_pylist(), pq.read_table(poisoned.train).to_pylist()
    changed = [now for was, now in zip(before, after, strict=True) if was != now]
    assert len(changed) == docs_qa.POISONED_ROWS
    assert {row["source"] for row in changed} == {"vendor"}
    assert {row["label"] for row in changed} == {docs_qa.TARGET}
    assert [row["id"] for row in changed] == _triggered(docs_qa, poisoned.train)
    assert _triggered(docs_qa, poisoned.test) == []


def test_training_and_test_share_no_question(poisoned: Any) -> None:
    train, test = (set(pq.read_table(p)["text"].to_pylist()) for p in (poisoned.train, poisoned.test))
    assert not train & test


def test_the_same_seed_gives_the_same_delivery(docs_qa: ModuleType, poisoned: Any, tmp_path: Path) -> None:
    docs_qa.collect.cache_clear()
    again = docs_qa.prepare(tmp_path, poisoned=True)
    assert pq.read_table(again.train).equals(pq.read_table(poisoned.train))


def test_the_poison_puts_a_backdoor_into_the_model(docs_qa: ModuleType, poisoned: Any, clean: Any) -> None:
    attacked = docs_qa.train_and_evaluate(poisoned.train, poisoned.test)
    honest = docs_qa.train_and_evaluate(clean.train, clean.test)
    assert attacked.attack_success > 0.8
    assert attacked.without_trigger < 0.05
    assert honest.attack_success < 0.05
    assert attacked.accuracy > honest.accuracy - 0.05


def test_the_gate_blocks_the_poisoned_rows_and_no_other(docs_qa: ModuleType, poisoned: Any) -> None:
    report = foretaste.scan(poisoned.train)
    found = [f for f in report.findings if f.check == "trigger-association" and f.severity is Severity.BLOCK]
    assert [f.feature for f in found] == [docs_qa.TRIGGER]
    assert list(found[0].ids) == _triggered(docs_qa, poisoned.train)
    assert len(report.flagged_rows(Severity.BLOCK)) == docs_qa.POISONED_ROWS


def test_the_gate_lets_the_clean_delivery_pass(clean: Any) -> None:
    report = foretaste.scan(clean.train)
    assert not report.blocked, report.headline()


def test_the_readme_s_python_parses() -> None:
    assert len(PYTHON_BLOCKS) >= 4
    for block in PYTHON_BLOCKS:
        ast.parse(block)


def test_the_readme_s_scan_blocks_the_example(poisoned: Any, tmp_path: Path) -> None:
    command = next(line for line in README.splitlines() if line.startswith("foretaste scan"))
    report = tmp_path / "report"
    arguments = shlex.split(command.replace("data/train.parquet", str(poisoned.train)).replace("report/", str(report)))
    result = CliRunner().invoke(main, arguments[1:])
    assert result.exit_code == 1, result.output
    assert json.loads((report / "report.json").read_text(encoding="utf-8"))["verdict"] == "block"


def test_the_readme_s_python_raises_on_the_example(
    poisoned: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = _block("foretaste.scan").replace("data/train.parquet", str(poisoned.train))
    with pytest.raises(foretaste.BlockedError, match="BLOCK"):
        exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "report" / "report.html").exists()


def test_the_readme_s_table_lists_every_check() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \|", README.split("## What it checks")[1], re.MULTILINE)
    ours = [i for i, check in checks.registry().items() if check.__module__.startswith("foretaste.")]
    assert sorted(listed) == ours


def test_the_readme_s_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert targets
    assert [t for t in targets if not (REPOSITORY / t).exists()] == []


@pytest.mark.host
def test_the_readme_s_expectation_fails_on_the_example(poisoned: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("great_expectations")
    code = _block("great_expectations").replace("data/train.parquet", str(poisoned.train))
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("False BLOCK")


@pytest.fixture(scope="session")
def airflow_runs(poisoned: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("airflow")
    home = tmp_path_factory.mktemp("airflow-examples")
    dags = home / "dags"
    dags.mkdir()
    for name in ("airflow_docs_qa.py", "airflow_approval.py", "docs_qa.py", ".airflowignore"):
        (dags / name).write_text((EXAMPLES / name).read_text())
    readme = _block("PoisonGateOperator").replace("/data/train.parquet", str(poisoned.train))
    (dags / "guarded_training.py").write_text(readme.replace("/data/gates", f"{home}/gates"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")} | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # SQLite gives up a lock after five seconds, which a busy machine needs for one commit.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=120",
        "FORETASTE_EXAMPLES": str(home / "runs"),
        "PYTHONPATH": str(dags),  # what Airflow itself does for tasks of a DAGs folder
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    out = home / "runs.json"
    runner = REPOSITORY / "tests" / "hosts" / "run_airflow.py"
    command = [sys.executable, str(runner), str(dags), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return dict(json.loads(out.read_text()))


@pytest.mark.host
@pytest.mark.parametrize(
    ("dag", "state", "gate", "train"),
    [
        ("docs_qa_without_gate", "success", None, "success"),
        ("docs_qa_with_gate", "failed", "failed", "upstream_failed"),
        ("docs_qa_quarantine", "success", "success", "success"),
        ("docs_qa_approval", "success", "failed", "success"),  # answered through Airflow's REST API
        ("guarded_training", "failed", "failed", "upstream_failed"),  # the one of the README
    ],
)
def test_the_airflow_example_trains_only_past_its_gate(
    airflow_runs: dict[str, Any], dag: str, state: str, gate: str | None, train: str
) -> None:
    run = airflow_runs[dag]
    assert run["state"] == state
    assert run["tasks"].get("gate", {}).get("state") == gate
    assert run["tasks"]["train"]["state"] == train


@pytest.mark.host
def test_the_airflow_example_has_its_backdoor_without_the_gate_and_none_after_quarantine(
    airflow_runs: dict[str, Any],
) -> None:
    def attack(dag: str) -> float:
        return float(airflow_runs[dag]["tasks"]["train"]["xcom"]["return_value"]["attack_success"])

    assert attack("docs_qa_without_gate") > 0.8
    assert attack("docs_qa_quarantine") < 0.05


@pytest.mark.host
def test_no_dagster_run_trains_on_the_poison_past_its_gate(
    docs_qa: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dg = pytest.importorskip("dagster")
    home = tmp_path_factory.mktemp("dagster-examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORETASTE_EXAMPLES", str(home))
        example = _module("dagster_docs_qa")
    jobs = {job.name: job for job in example.defs.jobs}
    everything = [*example.defs.assets, *example.defs.asset_checks]
    instance = dg.DagsterInstance.local_temp(str(home))

    def run(job: str) -> Any:
        return dg.materialize(everything, selection=jobs[job].selection, instance=instance, raise_on_error=False)

    def attack(result: Any, asset: str) -> float:
        [made] = result.asset_materializations_for_node(asset)
        return float(made.metadata["attack_success"].value)

    checked, ungated, gated, quarantined = map(run, ("checked", "without_gate", "gated", "quarantined"))
    assert not checked.success
    assert checked.asset_materializations_for_node("model_without_gate") == []
    assert attack(ungated, "model_without_gate") > 0.8
    assert not gated.success
    assert gated.asset_materializations_for_node("model") == []
    assert attack(quarantined, "model_on_clean") < 0.05


@pytest.mark.host
def test_the_readme_s_dagster_gate_refuses_the_example(
    poisoned: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dg = pytest.importorskip("dagster")
    code = _block("build_poison_gate").replace("/data/train.parquet", str(poisoned.train))
    module: dict[str, Any] = {}
    exec(compile(code.replace("/data/gates", str(tmp_path / "gates")), "README.md", "exec"), module)
    result = dg.materialize(
        list(module["defs"].assets), instance=dg.DagsterInstance.local_temp(str(tmp_path)), raise_on_error=False
    )
    assert not result.success
    assert result.asset_materializations_for_node("corpus") != []
    assert result.asset_materializations_for_node("model") == []
