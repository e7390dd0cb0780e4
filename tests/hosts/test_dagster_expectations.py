"""Great Expectations checkpoints as asset checks of real Dagster runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
dg = pytest.importorskip("dagster")
gx = pytest.importorskip("great_expectations")

import foretaste.expectations as fe  # noqa: E402
from foretaste.operators.dagster_expectations import build_gx_check  # noqa: E402

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore")]

ROLES = {"text_column": "text", "source_column": "source", "id_column": "id"}


@pytest.fixture
def project(tmp_path: Path) -> Any:
    """A file context with a checkpoint ``gate`` over a suite that is given; returns the folder of its settings."""

    def make(*expectations: Any) -> Path:
        context = gx.get_context(mode="file", project_root_dir=tmp_path)
        context.variables.progress_bars = {"globally": False}
        asset = context.data_sources.add_pandas("files").add_dataframe_asset("corpus")
        suite = context.suites.add(gx.ExpectationSuite(name="not poisoned", expectations=list(expectations)))
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(name="v", data=asset.add_batch_definition_whole_dataframe("whole"), suite=suite)
        )
        docs = gx.checkpoint.UpdateDataDocsAction(name="docs")
        context.checkpoints.add(gx.Checkpoint(name="gate", validation_definitions=[definition], actions=[docs]))
        return tmp_path / "gx"

    return make


def run(table: pa.Table, **options: Any) -> tuple[Any, Any]:
    """The run, and the evaluation of the check."""

    @dg.asset
    def corpus() -> Any:
        return table.slice(0, 200).to_pandas()

    @dg.asset
    def model(corpus) -> None: ...  # type: ignore[no-untyped-def]

    check = build_gx_check(asset=corpus, dataframe=True, **options)
    result = dg.materialize([corpus, model, check], raise_on_error=False)
    (evaluation,) = result.get_asset_check_evaluations()
    return result, evaluation


def trained(result: Any) -> bool:
    return "model" in {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()}


def test_a_stored_checkpoint_decides_and_its_actions_run(
    project: Any, clean_table: pa.Table, poisoned_table: pa.Table
) -> None:
    root = project(fe.ExpectNoHiddenText(**ROLES))
    result, evaluation = run(clean_table, checkpoint="gate", project_dir=root)
    assert evaluation.passed, evaluation.description
    assert trained(result)
    assert list((root / "uncommitted" / "data_docs").rglob("index.html"))
    result, evaluation = run(poisoned_table, checkpoint="gate", project_dir=root)
    assert not evaluation.passed
    assert "expect_no_hidden_text was not met" in evaluation.description
    assert not trained(result)


def test_an_expectation_that_was_dropped_fails_the_check(project: Any, clean_table: pa.Table) -> None:
    root = project(fe.ExpectNoHiddenText(**ROLES))
    (suite,) = (root / "expectations").glob("*.json")
    suite.write_text(suite.read_text().replace("expect_no_hidden_text", "expect_what_nobody_imported"))
    result, evaluation = run(clean_table, checkpoint="gate", project_dir=root)
    assert not evaluation.passed
    assert "holds 1 expectations and none was evaluated" in evaluation.description
    assert not trained(result)


def test_an_empty_suite_fails_the_check(project: Any, clean_table: pa.Table) -> None:
    result, evaluation = run(clean_table, checkpoint="gate", project_dir=project())
    assert not evaluation.passed
    assert not trained(result)


def test_a_checkpoint_or_a_project_that_is_not_there_fails_the_check(
    project: Any, clean_table: pa.Table, tmp_path: Path
) -> None:
    root = project(fe.ExpectNoHiddenText(**ROLES))
    _, evaluation = run(clean_table, checkpoint="gat", project_dir=root)
    assert not evaluation.passed
    assert 'did you mean "gate"' in evaluation.description
    _, evaluation = run(clean_table, checkpoint="gate", project_dir=tmp_path / "nowhere")
    assert not evaluation.passed
    assert not (tmp_path / "nowhere").exists()


def test_one_of_a_name_and_a_function_is_needed() -> None:
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="not both"):
        build_gx_check(asset="corpus")
