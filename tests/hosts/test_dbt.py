"""The recipes for dbt, as the documentation has them: a real project on DuckDB, by itself and as assets of Dagster."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foretaste import Policy

pytestmark = pytest.mark.host

DOCS = Path(__file__).resolve().parents[2] / "docs"
PROFILE = "shop: {target: dev, outputs: {dev: {type: duckdb, path: shop.duckdb}}}"
RUN = """
import json, dagster as dg, definitions
job = definitions.defs.resolve_implicit_global_asset_job_def()
result = job.execute_in_process(raise_on_error=False)
(check,) = result.get_asset_check_evaluations()
made = [event.asset_key.to_user_string() for event in result.get_asset_materialization_events()]
print(json.dumps({"passed": check.passed, "rows": check.metadata["rows_to_block"].value, "made": made}))
"""


def block(page: str, heading: str, language: str) -> str:
    """The first block of code in that language below a heading."""
    section = (DOCS / page).read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.search(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


class Shop:
    """A dbt project with rows of a vendor, the models of the documentation, and training that leaves a mark."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self._path = f"{Path(python).parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        (folder / "models").mkdir(parents=True)
        (folder / "data").mkdir()
        for name, text in {
            "dbt_project.yml": "name: shop\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n",
            "profiles.yml": PROFILE,
            "foretaste.yaml": Policy().only("hidden-text").to_yaml(),
            "train.py": "open('trained', 'w')\n",
            "models/answers.sql": "{{ config(materialized='table') }} select * from 'raw.parquet'",
            "models/train.sql": block("cookbook.md", "dbt", "jinja"),
            "models/checked.py": block("cookbook.md", "dbt", "python"),
            "models/features.sql": "select * from {{ ref('checked') }}",
        }.items():
            (folder / name).write_text(text)

    def deliver(self, table: pa.Table) -> None:
        labels = pa.array(["ab"[i % 2] for i in range(table.num_rows)])
        pq.write_table(table.append_column("label", labels), self.folder / "raw.parquet")

    def sh(self, command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PATH": self._path, "DAGSTER_DISABLE_TELEMETRY": "yes"}
        return subprocess.run(
            ["bash", "-c", command],
            cwd=folder or self.folder,
            env=env,
            check=False,
            capture_output=True,
            text=True,
            timeout=240,
        )


@pytest.fixture(scope="module")
def shop(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """One project for all tests: dbt parses it once."""
    return Shop(tmp_path_factory.mktemp("dbt") / "shop", tool("dbt"))


def test_training_starts_after_a_pass_alone(shop: Shop, clean_table: pa.Table, poisoned_table: pa.Table) -> None:
    recipe = block("cookbook.md", "dbt", "sh")
    for table, verdict in ((poisoned_table.slice(0, 300), "block"), (clean_table.slice(0, 300), "pass")):
        shop.deliver(table)
        done = shop.sh(recipe)
        report = json.loads((shop.folder / "report" / "report.json").read_text())
        assert report["verdict"] == verdict, done.stdout + done.stderr
        assert report["data"]["rows"] == 300
        assert (done.returncode == 0, (shop.folder / "trained").exists()) == (verdict == "pass",) * 2


def test_a_python_model_that_refuses_keeps_dbt_from_what_comes_after(shop: Shop, poisoned_table: pa.Table) -> None:
    shop.deliver(poisoned_table.slice(0, 300))
    done = shop.sh("dbt --no-use-colors build --select +features")
    assert done.returncode == 1
    assert "BLOCK: 30 rows to block" in done.stdout
    assert re.search(r"SKIP relation main\.features", done.stdout)


def test_a_check_beside_a_model_keeps_dagster_from_training(shop: Shop, poisoned_table: pa.Table) -> None:
    shop.deliver(poisoned_table.slice(0, 300))
    assert shop.sh("dbt parse").returncode == 0
    (shop.folder.parent / "definitions.py").write_text(block("dagster.md", "Models of dbt", "python"))
    done = shop.sh(f"python -c '{RUN}'", shop.folder.parent)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said == {"passed": False, "rows": 30, "made": ["answers"]}
