"""A Dagster project made with ``dg``, whose gate and checks are written in ``defs.yaml``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
dg = pytest.importorskip("dagster")

from foretaste import Policy  # noqa: E402
from foretaste.checks import registry  # noqa: E402
from foretaste.cli import main  # noqa: E402
from foretaste.operators import dagster_components as components  # noqa: E402

pytestmark = [
    pytest.mark.host,
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning", "ignore::dagster.BetaWarning"),
]

ONLY_HIDDEN_TEXT = {"checks": {i: {"enabled": False} for i in registry() if i != "hidden-text"}}
GATE = f"{components.__name__}.PoisonGateComponent"
GX_GATE = f"{components.__name__}.GXGateComponent"
CHECKS = f"{components.__name__}.PoisonChecksComponent"
PROJECT = """
[project]
name = "proj"
version = "0.1"
requires-python = ">=3.11"
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "{name}"
"""


class Project:
    """A project of ``dg`` in a folder, with an asset ``corpus`` that returns the path of a file."""

    def __init__(self, folder: Path, name: str, corpus: Path) -> None:
        self.folder = folder
        self.corpus = corpus
        self.defs = folder / "src" / name / "defs"
        self.defs.mkdir(parents=True)
        (folder / "pyproject.toml").write_text(PROJECT.format(name=name))
        for package in (self.defs, self.defs.parent):
            (package / "__init__.py").touch()
        (self.defs.parent / "definitions.py").write_text(
            "from pathlib import Path\nimport dagster as dg\n\n"
            "@dg.definitions\ndef defs():\n    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
        )
        (self.defs / "assets.py").write_text(
            "import dagster as dg\n\n\n@dg.asset\ndef corpus() -> str:\n"
            f"    return {str(corpus)!r}\n\n\n@dg.asset\ndef model(checked_corpus: str) -> None: ...\n"
        )

    def write(self, folder: str, text: str) -> Path:
        """A component's ``defs.yaml``; returns its folder."""
        place = self.defs / folder
        place.mkdir()
        (place / "defs.yaml").write_text(text)
        return place

    def load(self) -> Any:
        """The project's definitions."""
        return dg.load_from_defs_folder(path_within_project=self.defs)

    def run(self) -> Any:
        """Materialize all assets, and run all checks."""
        defs = self.load()
        with dg.DagsterInstance.ephemeral(tempdir=str(self.folder)) as instance:
            job = defs.resolve_implicit_global_asset_job_def()
            return job.execute_in_process(instance=instance, raise_on_error=False)

    def dg(self, *arguments: str) -> str:
        """Output of the real command."""
        command = shutil.which("dg", path=str(Path(sys.executable).parent)) or pytest.skip("dagster-dg-cli is missing")
        environment = os.environ | {
            "PYTHONPATH": str(self.folder / "src"), "VIRTUAL_ENV": sys.prefix, "COLUMNS": "200",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip
        done = subprocess.run([command, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[pa.Table], Project]:
    """Makes a project around a table."""

    def make(table: pa.Table) -> Project:
        corpus = tmp_path / "corpus.parquet"
        pq.write_table(table.slice(0, 200), corpus)
        # A name of its own: Python keeps what it has imported.
        name = f"proj_{tmp_path.name.replace('-', '_')}"
        monkeypatch.syspath_prepend(tmp_path / "src")
        return Project(tmp_path, name, corpus)

    return make


def gate_yaml(**more: Any) -> str:
    fields = {"name": "checked_corpus", "asset": "corpus", "out": "reports", "policy": "policy.yaml"} | more
    return json.dumps({"type": GATE, "attributes": fields})


def test_dg_lists_scaffolds_and_checks_the_components(project: Any, clean_table: pa.Table) -> None:
    made = project(clean_table)
    listed = made.dg("list", "components", "--json")
    assert GATE in listed
    assert CHECKS in listed
    assert GX_GATE in listed
    made.dg("scaffold", "defs", GX_GATE, "gx_gate", "--asset", "corpus", "--name", "met_corpus")
    made.dg("scaffold", "defs", GATE, "gate", "--asset", "corpus", "--out", "reports")
    made.dg("scaffold", "defs", CHECKS, "checks", "--asset", "corpus")
    assert "asset: corpus" in (made.defs / "gate" / "defs.yaml").read_text()
    made.dg("check", "yaml")
    graph = made.load().resolve_asset_graph()
    assert {dg.AssetKey("checked_corpus"), dg.AssetKey("met_corpus")} <= graph.get_all_asset_keys()
    assert [key.name for key in graph.asset_check_keys] == ["no_poison"]


@pytest.mark.parametrize("poison", [False, True])
def test_a_gate_from_yaml_hands_on_what_passes_and_nothing_else(
    project: Any, clean_table: pa.Table, poisoned_table: pa.Table, poison: bool
) -> None:
    made = project(poisoned_table if poison else clean_table)
    place = made.write("gate", gate_yaml(snapshot=True))
    (place / "policy.yaml").write_text(json.dumps(ONLY_HIDDEN_TEXT))
    result = made.run()
    assert result.success is not poison
    stored = {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()}
    assert ("model" in stored) is not poison
    # Relative paths start at the folder of the file.
    assert list((place / "reports").rglob("report.html"))


@pytest.mark.parametrize("column", ["text", "body"])
def test_a_gate_around_a_checkpoint_hands_on_the_frame_that_met_every_expectation(
    project: Any, clean_table: pa.Table, column: str
) -> None:
    gx = pytest.importorskip("great_expectations")
    made = project(clean_table)
    context = gx.get_context(mode="file", project_root_dir=str(made.folder))
    batch = context.data_sources.add_pandas("frames").add_dataframe_asset("corpus")
    expected = [gx.expectations.ExpectColumnToExist(column=column)]
    suite = context.suites.add(gx.ExpectationSuite(name="s", expectations=expected))
    data = batch.add_batch_definition_whole_dataframe("all")
    validation = context.validation_definitions.add(gx.ValidationDefinition(name="v", data=data, suite=suite))
    context.checkpoints.add(gx.Checkpoint(name="gate", validation_definitions=[validation]))
    (made.defs / "assets.py").write_text(
        "import dagster as dg\nimport pandas as pd\n\n\n@dg.asset\ndef corpus():\n"
        f"    return pd.read_parquet({str(made.corpus)!r})\n\n\n@dg.asset\ndef model(checked_corpus) -> None: ...\n"
    )
    # A relative path starts at the folder of the file.
    fields = {"name": "checked_corpus", "asset": "corpus", "checkpoint": "gate", "project_dir": "../../../../gx"}
    made.write("gate", json.dumps({"type": GX_GATE, "attributes": fields}))
    result = made.run()
    assert result.success is (column == "text")
    stored = {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()}
    assert ("model" in stored) is (column == "text")


def test_what_init_writes_into_a_project_is_a_gate(
    project: Any, clean_table: pa.Table, poisoned_table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = project(clean_table)
    monkeypatch.chdir(made.folder)
    written = CliRunner().invoke(main, ["init", "dagster", "--data", str(made.corpus)])
    assert written.exit_code == 0, written.output
    file = made.defs / "foretaste_gate" / "defs.yaml"
    file.write_text(f"{file.read_text()}  policy: {json.dumps(ONLY_HIDDEN_TEXT)}\n")
    assert made.run().success
    pq.write_table(poisoned_table.slice(0, 200), made.corpus)
    refused = made.run()
    assert not refused.success
    assert "model" not in {e.asset_key.to_user_string() for e in refused.get_asset_materialization_events()}


def test_a_resource_of_the_project_holds_for_a_gate_from_yaml(
    project: Any, poisoned_table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = project(poisoned_table)
    (made.folder / "policy.yaml").write_text(json.dumps(ONLY_HIDDEN_TEXT))
    monkeypatch.setenv("POISON_POLICY", str(made.folder / "policy.yaml"))
    (made.defs / "resources.py").write_text(
        "import dagster as dg\nfrom foretaste.operators.dagster import PoisonPolicyResource\n\n\n"
        "@dg.definitions\ndef resources():\n"
        "    poison = PoisonPolicyResource(policy=dg.EnvVar('POISON_POLICY'))\n"
        "    return dg.Definitions(resources={'poison': poison})\n"
    )
    made.write("gate", gate_yaml(resource_key="poison", policy=None))
    fields = {"assets": ["corpus"], "resource_key": "poison", "blocking": False}
    made.write("checks", json.dumps({"type": CHECKS, "attributes": fields}))
    result = made.run()
    assert not result.success
    (check,) = result.get_asset_check_evaluations()
    assert check.metadata["policy_digest"].value == Policy.load(ONLY_HIDDEN_TEXT).digest


def test_checks_from_yaml_block_what_is_downstream(project: Any, poisoned_table: pa.Table) -> None:
    made = project(poisoned_table)
    (made.defs / "assets.py").write_text(
        (made.defs / "assets.py").read_text().replace("checked_corpus: str", "corpus: str")
    )
    fields = {"assets": ["corpus"], "policy": ONLY_HIDDEN_TEXT, "per_check": ["hidden-text"]}
    made.write("checks", json.dumps({"type": CHECKS, "attributes": fields}))
    result = made.run()
    passed = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}
    assert passed == {"no_poison": False, "no_poison_hidden_text": False}
    assert [e.step_key for e in result.get_step_skipped_events()] or not result.success
    assert "model" not in {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()}


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [
        (GATE, {"on_blok": "fail"}, "on_blok"),
        (GATE, {"on_block": "ignore"}, "quarantine"),
        (GATE, {"path": "a", "sql": {"url": "sqlite://", "table": "t"}}, "keep one"),
        (GATE, {"sql": {"url": "sqlite://"}}, "either table or query"),
        # Dagster lets a string stand for everything, as it may be a template.
        (GATE, {"snapshot": "maybe"}, "snapshot must be true or false, not 'maybe'"),
        (GATE, {"out": ""}, "out is empty"),
        (GATE, {"policy": " "}, "policy is empty"),
        (GATE, {"policy": "{{ env.NOWHERE }}"}, "policy comes to nothing: {{ env.NOWHERE }}; set what it names"),
        (GATE, {"roles": {"text": "{{ env.NOWHERE }}"}}, "roles comes to nothing: {{ env.NOWHERE }}"),
        (GATE, {"attestations": "a.json"}, "attestations must be a list; write attestations: [a.json]"),
        (CHECKS, {"assets": "corpus"}, "assets must be a list; write assets: [corpus]"),
        (CHECKS, {"assets": []}, "assets names no asset"),
        (CHECKS, {"per_check": "hidden-text"}, "per_check must be a list; write per_check: [hidden-text]"),
    ],
)
def test_a_wrong_field_is_refused_by_name(
    project: Any, clean_table: pa.Table, kind: str, wrong: dict[str, Any], said: str
) -> None:
    made = project(clean_table)
    fields = {"assets": ["corpus"]} | wrong
    made.write("wrong", json.dumps({"type": kind, "attributes": fields}) if kind == CHECKS else gate_yaml(**wrong))
    with pytest.raises(Exception) as refused:  # noqa: PT011 - Dagster wraps it in one of many
        made.load()
    assert said in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"path": "{partition}.parquet"}, "this run has none; give partitions_def"),
        ({"policy": "."}, 'write one with "foretaste policy init"'),
        ({"resource_key": "poison"}, "the resource poison is no PoisonPolicyResource, but dict; give one"),
    ],
)
def test_what_cannot_be_scanned_fails_with_its_reason_and_is_not_tried_again(
    project: Any, clean_table: pa.Table, wrong: dict[str, Any], said: str
) -> None:
    made = project(clean_table)
    (made.defs / "resources.py").write_text(
        "import dagster as dg\n\n\n@dg.definitions\ndef resources():\n"
        "    return dg.Definitions(resources={'poison': {'policy': 'policy.yaml'}})\n"
    )
    made.write("gate", gate_yaml(**{"policy": ONLY_HIDDEN_TEXT} | wrong))
    result = made.run()
    assert not result.success
    (failed,) = [e for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
    assert "NOT CHECKED" in failed.step_failure_data.user_failure_data.description
    assert said in failed.step_failure_data.user_failure_data.description
    assert "model" not in {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()}
