"""Great Expectations checkpoints as asset checks of real Dagster runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
dg = pytest.importorskip("dagster")
gx = pytest.importorskip("great_expectations")

import foretaste.expectations as fe  # noqa: E402
from foretaste.operators import _checkpoint  # noqa: E402
from foretaste.operators.dagster_expectations import build_gx_check, build_gx_gate  # noqa: E402

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


# The gate


def gated(value: Any, instance: Any = None, select: Any = None, **options: Any) -> tuple[Any, list[Any]]:
    """The run of a corpus, its gate and training, and what training was given."""
    seen: list[Any] = []

    @dg.asset
    def corpus() -> Any:
        return value

    @dg.asset
    def model(checked) -> None:  # type: ignore[no-untyped-def]
        seen.append(checked)

    gate = build_gx_gate(name="checked", asset=corpus, checkpoint="gate", **options)
    return dg.materialize([corpus, gate, model], instance=instance, selection=select, raise_on_error=False), seen


def failure(result: Any) -> Any:
    return next(e.step_failure_data for e in result.all_events if e.is_step_failure and e.step_key == "checked")


@pytest.mark.parametrize("shape", ["pandas", "polars", "arrow"])
def test_a_gate_hands_on_what_met_every_expectation_as_it_came(project: Any, clean_table: pa.Table, shape: str) -> None:
    table = clean_table.slice(0, 200)
    value = {
        "pandas": table.to_pandas,
        "polars": lambda: pytest.importorskip("polars").from_arrow(table),
        "arrow": lambda: table,
    }[shape]()
    result, seen = gated(value, project_dir=project(fe.ExpectNoHiddenText(**ROLES)))
    assert result.success
    assert [type(s) for s in seen] == [type(value)]


def test_no_later_run_of_training_alone_goes_round_a_gate(
    project: Any, poisoned_table: pa.Table, clean_table: pa.Table, tmp_path: Path
) -> None:
    root = project(fe.ExpectNoHiddenText(**ROLES))
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path / "dagster")) as instance:
        poison = poisoned_table.slice(0, 200).to_pandas()
        result, seen = gated(poison, instance, project_dir=root)
        assert not result.success
        assert "expect_no_hidden_text was not met" in str(failure(result).user_failure_data.description)
        assert failure(result).user_failure_data.metadata["problems"].value == 1
        alone, seen = gated(poison, instance, select=["model"], project_dir=root)
        assert not alone.success
        assert seen == []
        clean = clean_table.slice(0, 200).to_pandas()
        assert gated(clean, instance, project_dir=root)[0].success
        gated(poison, instance, project_dir=root)
        _, seen = gated(poison, instance, select=["model"], project_dir=root)
        assert [len(s) for s in seen] == [200]
        assert seen[0].equals(clean)


def test_a_gate_refuses_what_great_expectations_lets_slip(project: Any, clean_table: pa.Table) -> None:
    root = project(fe.ExpectNoHiddenText(**ROLES))
    (suite,) = (root / "expectations").glob("*.json")
    suite.write_text(suite.read_text().replace("expect_no_hidden_text", "expect_what_nobody_imported"))
    result, seen = gated(clean_table.slice(0, 200).to_pandas(), project_dir=root)
    assert not result.success
    assert "none was evaluated" in str(failure(result).user_failure_data.description)
    assert seen == []


@pytest.mark.parametrize(
    ("value", "said"), [(None, "no data"), ("corpus.parquet", "dataframe=False"), ({"a": 1}, "partitions_def")]
)
def test_what_is_no_frame_is_refused_with_the_next_step(project: Any, value: Any, said: str) -> None:
    result, seen = gated(value, project_dir=project(fe.ExpectNoHiddenText(**ROLES)))
    assert not result.success
    assert said in failure(result).error.to_string()
    assert seen == []


@pytest.mark.parametrize("changes", [False, True])
def test_files_that_the_checkpoint_reads_by_itself_must_not_change_meanwhile(
    clean_table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: bool
) -> None:
    path = tmp_path / "corpus.parquet"
    pq.write_table(clean_table.slice(0, 200), path)
    context = gx.get_context(mode="file", project_root_dir=tmp_path)
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("files").add_parquet_asset("corpus", path=path)
    suite = context.suites.add(gx.ExpectationSuite(name="s", expectations=[fe.ExpectNoHiddenText(**ROLES)]))
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name="v", data=asset.add_batch_definition("whole"), suite=suite)
    )
    context.checkpoints.add(gx.Checkpoint(name="gate", validation_definitions=[definition]))
    if changes:
        real = _checkpoint.run_checkpoint

        def run_and_change(*given: Any) -> Any:
            summary = real(*given)
            pq.write_table(clean_table.slice(0, 100), path)
            return summary

        monkeypatch.setattr(_checkpoint, "run_checkpoint", run_and_change)
    result, seen = gated(str(path), project_dir=tmp_path / "gx", dataframe=False)
    assert result.success is not changes
    assert seen == ([] if changes else [str(path)])
    if changes:
        assert "changed while the checkpoint ran" in failure(result).error.to_string()
