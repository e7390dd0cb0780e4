"""Real Dagster runs, in process, through the checks and the gate asset."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
dg = pytest.importorskip("dagster")

from foretaste.check import Check, Context, RawResult  # noqa: E402
from foretaste.checks.hidden_text import HiddenText  # noqa: E402
from foretaste.checks.source_allowlist import SourceAllowlist  # noqa: E402
from foretaste.deliveries import digest_of, sign  # noqa: E402
from foretaste.errors import InputError  # noqa: E402
from foretaste.history import History  # noqa: E402
from foretaste.operators import dagster as adapter  # noqa: E402
from foretaste.operators.dagster import (  # noqa: E402
    build_poison_checks,
    build_poison_gate,
    report_metadata,
)
from foretaste.policy import Policy  # noqa: E402
from foretaste.provenance import signers  # noqa: E402
from foretaste.provenance.keys import Role, TrustRoot, trusted  # noqa: E402
from foretaste.report import read  # noqa: E402
from foretaste.results import (  # noqa: E402
    CheckResult,
    DataInfo,
    Finding,
    Outcome,
    Report,
    Severity,
)
from foretaste.sources import Entry  # noqa: E402
from foretaste.waivers import Waiver, Waivers  # noqa: E402

pytestmark = [
    pytest.mark.host,
    # Partitions of a check are a preview in this Dagster.
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]

# One check, so that these tests say what the adapter does and not what the checks of the day find.
POLICY = Policy(checks=(HiddenText(),))
REVIEW = Policy(checks=(HiddenText(block_rows=10_000),))
ROWS = 200


@pytest.fixture(scope="module")
def clean(clean_table: pa.Table) -> pa.Table:
    return clean_table.slice(0, ROWS)


@pytest.fixture(scope="module")
def poisoned(poisoned_table: pa.Table) -> pa.Table:
    return poisoned_table.slice(0, ROWS)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Any]:
    """An instance that stores what assets return in files, as a deployment does."""
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path / "dagster")) as instance:
        yield instance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Broken(Check[None]):
    """Fails on the first batch."""

    id: ClassVar[str] = "broken"

    def applies(self, context: Context) -> str:
        return ""

    def start(self, context: Context) -> None:
        return None

    def scan(self, state: None, batch: Any) -> None:
        raise RuntimeError("the check is \u202ebroken")

    def merge(self, left: None, right: None) -> None:
        return None

    def finish(self, state: None) -> RawResult:
        return RawResult()


@dataclasses.dataclass(frozen=True, kw_only=True)
class NotForThese(Broken):
    """Does not apply."""

    id: ClassVar[str] = "not-for-these"

    def applies(self, context: Context) -> str:
        return "needs a label"


class Training:
    """An asset ``train`` that notes what it was given."""

    def __init__(self, upstream: str = "corpus", partitions_def: Any = None) -> None:
        self.seen: list[Any] = []

        @dg.asset(name="train", ins={"data": dg.AssetIn(upstream)}, partitions_def=partitions_def)
        def train(data) -> None:  # type: ignore[no-untyped-def]
            self.seen.append(data)

        self.asset = train


def corpus_of(value: Any, **options: Any) -> Any:
    """An asset ``corpus`` that returns the value, or what the value returns when called."""

    @dg.asset(name="corpus", **options)
    def corpus() -> Any:
        return value() if callable(value) else value

    return corpus


def run(
    assets: Sequence[Any],
    select: Sequence[str] | None = None,
    instance: Any = None,
    partition: str | None = None,
) -> Any:
    return dg.materialize(assets, selection=select, instance=instance, partition_key=partition, raise_on_error=False)


def check_results(result: Any) -> dict[str, Any]:
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


def step_failure(result: Any, step: str) -> Any:
    """Data of the failure of a step."""
    return next(e.step_failure_data for e in result.all_events if e.is_step_failure and e.step_key == step)


def output_metadata(result: Any, asset: str) -> Mapping[str, Any]:
    [event] = result.asset_materializations_for_node(asset)
    return {key: value.value for key, value in event.metadata.items()}


def table(metadata: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    return [dict(record.data) for record in metadata[key].records]


SHAPES: dict[str, Callable[[pa.Table, Path], Any]] = {
    "pandas": lambda t, _: t.to_pandas().set_index(pa.array(range(7, 7 + t.num_rows)).to_pandas()),
    "polars": lambda t, _: pytest.importorskip("polars").from_arrow(t),
    "polars lazy": lambda t, _: pytest.importorskip("polars").from_arrow(t).lazy(),
    "arrow": lambda t, _: t,
    "path": lambda t, d: written(t, d / "corpus.parquet"),
    "address": lambda t, d: str(written(t, d / "corpus.parquet")),
}


def written(data: pa.Table, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(data, path)
    return path


def ids_of(data: Any) -> list[str]:
    if isinstance(data, str | Path):
        data = pq.read_table(data)
    elif hasattr(data, "collect"):
        data = data.collect()
    column = data["id"]
    return list(column.to_pylist() if isinstance(column, pa.ChunkedArray) else column.to_list())


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> Callable[[pa.Table, Path], Any]:
    return SHAPES[request.param]


# Checks


def test_a_check_fails_and_training_does_not_start_on_poison_of_any_shape(
    shape: Callable[..., Any], poisoned: pa.Table, tmp_path: Path
) -> None:
    corpus, training = corpus_of(shape(poisoned, tmp_path)), Training()
    result = run([corpus, training.asset, *build_poison_checks(assets=[corpus], policy=POLICY)])
    evaluation = check_results(result)["no_poison"]
    assert not result.success
    assert not evaluation.passed
    assert evaluation.severity is dg.AssetCheckSeverity.ERROR
    assert training.seen == []
    [finding] = table(evaluation.metadata, "findings")
    assert finding["rows"] == 30
    assert finding["observed"] == 30
    assert finding["limit"] == 1
    assert finding["first_rows"].startswith("r00100, r00101")


def test_a_check_passes_and_training_runs_on_clean_data_of_any_shape(
    shape: Callable[..., Any], clean: pa.Table, tmp_path: Path
) -> None:
    corpus, training = corpus_of(shape(clean, tmp_path)), Training()
    result = run([corpus, training.asset, *build_poison_checks(assets=[corpus], policy=POLICY)])
    evaluation = check_results(result)["no_poison"]
    assert result.success
    assert evaluation.passed
    assert evaluation.metadata["verdict"].value == "pass"
    assert evaluation.metadata["rows"].value == ROWS
    assert table(evaluation.metadata, "findings") == []
    assert len(training.seen) == 1


def test_a_later_run_of_training_alone_passes_by_a_failed_check(poisoned: pa.Table, instance: Any) -> None:
    # Dagster's rule, and the reason for the gate asset. If this fails, the documentation has to change.
    corpus, training = corpus_of(poisoned), Training()
    everything = [corpus, training.asset, *build_poison_checks(assets=[corpus], policy=POLICY)]
    assert not run(everything, instance=instance).success
    assert run(everything, select=["train"], instance=instance).success
    assert len(training.seen) == 1


def test_a_failure_of_severity_warn_does_not_block_and_the_definition_says_so(poisoned: pa.Table) -> None:
    corpus, training = corpus_of(poisoned), Training()
    with pytest.warns(UserWarning, match="does not block"):
        checks = build_poison_checks(assets=[corpus], policy=POLICY, severity=dg.AssetCheckSeverity.WARN)
    result = run([corpus, training.asset, *checks])
    assert result.success
    assert not check_results(result)["no_poison"].passed
    assert len(training.seen) == 1


def test_no_warning_is_given_where_nothing_was_meant_to_block() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_poison_checks(assets=["corpus"], severity=dg.AssetCheckSeverity.WARN, blocking=False)


def test_a_review_shows_as_a_warning_and_blocks_only_where_asked(poisoned: pa.Table) -> None:
    corpus, training = corpus_of(poisoned), Training()
    result = run([corpus, training.asset, *build_poison_checks(assets=[corpus], policy=REVIEW)])
    evaluation = check_results(result)["no_poison"]
    assert result.success
    assert not evaluation.passed
    assert evaluation.severity is dg.AssetCheckSeverity.WARN
    assert len(training.seen) == 1

    strict = build_poison_checks(assets=[corpus], policy=REVIEW, fail_on="review")
    assert not run([corpus, training.asset, *strict]).success
    assert len(training.seen) == 1


def test_a_scan_that_ends_in_an_error_never_passes(clean: pa.Table) -> None:
    corpus, training = corpus_of(clean), Training()
    policy = Policy(checks=(Broken(), HiddenText()))
    result = run([corpus, training.asset, *build_poison_checks(assets=[corpus], policy=policy)])
    evaluation = check_results(result)["no_poison"]
    assert not evaluation.passed
    assert evaluation.severity is dg.AssetCheckSeverity.ERROR
    assert "broken failed: RuntimeError" in evaluation.description
    assert evaluation.description.isprintable()
    assert training.seen == []


@pytest.mark.parametrize(
    ("data", "policy", "said"),
    [
        (pa.table({"words": ["a"]}), POLICY, "columns: words"),
        (pa.table({"text": pa.array([], pa.string())}), POLICY, "has no rows"),
        (None, POLICY, "load="),
        ({}, POLICY, "holds no data"),
        ("/nowhere/corpus.parquet", POLICY, "no data at /nowhere/corpus.parquet"),
        (pa.table({"text": ["a"]}), "/nowhere/policy.yaml", "cannot read the policy"),
        (pa.table({"text": ["a"]}), {"chekcs": {}}, 'did you mean "checks"'),
    ],
)
def test_what_cannot_be_read_fails_the_check_with_its_reason_and_is_not_tried_again(
    data: Any, policy: Any, said: str
) -> None:
    corpus, training = corpus_of(data), Training()
    retry = dg.RetryPolicy(max_retries=2)
    checks = build_poison_checks(assets=[corpus], policy=policy, retry_policy=retry)
    result = run([corpus, training.asset, *checks])
    evaluation = check_results(result)["no_poison"]
    assert not evaluation.passed
    assert evaluation.description.startswith("NOT CHECKED")
    assert said in evaluation.description
    assert evaluation.metadata["verdict"].value == "error"
    assert not [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]
    assert training.seen == []


def test_a_storage_out_of_reach_is_tried_again_and_holds_training_back(
    clean: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import foretaste.engine

    tried = []

    def scan(*args: Any, **options: Any) -> Any:
        tried.append(args)
        raise InputError("cannot read the corpus") from TimeoutError(110, "connection timed out")

    monkeypatch.setattr(foretaste.engine, "scan", scan)
    corpus, retry = corpus_of(clean), dg.RetryPolicy(max_retries=2)
    checks = build_poison_checks(assets=[corpus], policy=POLICY, retry_policy=retry)
    gate = build_poison_gate(name="checked", asset=corpus, out=tmp_path, policy=POLICY, retry_policy=retry)
    for guard, training in ((checks, Training()), ([gate], Training("checked"))):
        tried.clear()
        assert not run([corpus, *guard, training.asset]).success
        assert len(tried) == 3
        assert training.seen == []


def test_a_check_loads_what_the_asset_stores_itself(poisoned: pa.Table, tmp_path: Path) -> None:
    path = written(poisoned, tmp_path / "corpus.parquet")
    corpus, training = corpus_of(None), Training()
    checks = build_poison_checks(assets=[corpus], policy=POLICY, load=lambda context: path)
    result = run([corpus, training.asset, *checks])
    assert check_results(result)["no_poison"].metadata["rows_to_block"].value == 30
    assert training.seen == []


def test_roles_name_the_columns(poisoned: pa.Table) -> None:
    corpus = corpus_of(poisoned.rename_columns(["id", "utterance", "source"]))
    checks = build_poison_checks(assets=[corpus], policy=POLICY, roles={"text": "utterance"})
    evaluation = check_results(run([corpus, *checks]))["no_poison"]
    assert evaluation.metadata["rows_to_block"].value == 30
    assert "text = utterance" in evaluation.metadata["roles"].value


def test_results_per_check_come_from_one_scan_and_only_the_gate_blocks(
    poisoned: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    import foretaste.engine

    scans = []
    real = foretaste.engine.scan
    monkeypatch.setattr(foretaste.engine, "scan", lambda *a, **k: scans.append(a) or real(*a, **k))
    corpus, training = corpus_of(poisoned), Training()
    policy = Policy(checks=(HiddenText(), NotForThese()))
    checks = build_poison_checks(
        assets=[corpus], policy=policy, per_check=["hidden-text", "not-for-these", "elsewhere"]
    )
    assert [spec.blocking for spec in checks[0].check_specs] == [True, False, False, False]
    found = check_results(run([corpus, training.asset, *checks]))
    assert len(scans) == 1
    assert training.seen == []
    assert list(found) == [
        "no_poison", "no_poison_hidden_text", "no_poison_not_for_these", "no_poison_elsewhere",
    ]  # fmt: skip
    assert not found["no_poison_hidden_text"].passed
    assert found["no_poison_hidden_text"].metadata["rows_flagged"].value == 30
    # Green means that a check has looked: one that did not apply warns, one that never ran fails.
    assert not found["no_poison_not_for_these"].passed
    assert found["no_poison_not_for_these"].severity is dg.AssetCheckSeverity.WARN
    assert found["no_poison_not_for_these"].description == "NOT CHECKED: needs a label"
    assert not found["no_poison_elsewhere"].passed
    assert found["no_poison_elsewhere"].severity is dg.AssetCheckSeverity.ERROR


def test_results_per_check_follow_the_policy_where_none_is_named() -> None:
    [checks] = build_poison_checks(assets=["corpus"], policy=POLICY, per_check=True)
    assert {key.name for key in checks.check_keys} == {"no_poison", "no_poison_hidden_text"}


def test_one_result_can_be_run_alone(clean: pa.Table, instance: Any) -> None:
    corpus = corpus_of(clean)
    checks = build_poison_checks(assets=[corpus], policy=POLICY, per_check=True)
    key = dg.AssetCheckKey(corpus.key, "no_poison_hidden_text")
    job = dg.define_asset_job("one", selection=dg.AssetSelection.checks(key))
    defs = dg.Definitions(assets=[corpus], asset_checks=checks, jobs=[job])
    run([corpus], instance=instance)
    result = defs.resolve_job_def("one").execute_in_process(instance=instance)
    assert list(check_results(result)) == ["no_poison_hidden_text"]


def test_every_asset_gets_its_own_definition_and_report(clean: pa.Table, poisoned: pa.Table, tmp_path: Path) -> None:
    @dg.multi_asset(outs={"good": dg.AssetOut(), "bad": dg.AssetOut(key_prefix="raw")})
    def both():  # type: ignore[no-untyped-def]
        return clean, poisoned

    checks = build_poison_checks(assets=[both], policy=POLICY, out=tmp_path)
    assert len(checks) == 2
    result = run([both, *checks])
    passed = {e.asset_key.to_user_string(): e.passed for e in result.get_asset_check_evaluations()}
    assert passed == {"good": True, "raw/bad": False}
    for path in ("good", "raw/bad"):
        folder = tmp_path / path / result.run_id
        assert json.loads((folder / "report.json").read_text())["verdict"] in ("pass", "block")
        assert (folder / "report.html").exists()


# The gate asset


def test_a_gate_refuses_with_the_evidence_and_does_not_try_again(poisoned: pa.Table, tmp_path: Path) -> None:
    corpus, training = corpus_of(poisoned), Training("checked")
    gate = build_poison_gate(
        name="checked", asset=corpus, out=tmp_path, policy=POLICY, retry_policy=dg.RetryPolicy(max_retries=2)
    )
    result = run([corpus, gate, training.asset])
    failure = step_failure(result, "checked").user_failure_data
    assert training.seen == []
    assert "hidden-text: Unicode tag characters (30 rows)" in failure.description
    assert failure.metadata["verdict"].value == "block"
    assert table(failure.metadata, "findings")[0]["rows"] == 30
    assert Path(failure.metadata["report"].value).exists()
    assert not [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]


def test_a_gate_hands_clean_data_on_unchanged(shape: Callable[..., Any], clean: pa.Table, tmp_path: Path) -> None:
    given = shape(clean, tmp_path)
    corpus, training = corpus_of(given), Training("checked")
    gate = build_poison_gate(name="checked", asset=corpus, out=tmp_path / "out", policy=POLICY)
    result = run([corpus, gate, training.asset])
    [handed] = training.seen
    assert type(handed) is type(given)
    assert ids_of(handed) == ids_of(given)
    metadata = output_metadata(result, "checked")
    assert metadata["verdict"] == "pass"
    assert metadata["dagster/row_count"] == ROWS
    assert metadata["data_digest"].startswith("sha256:")
    # Dagster stores the data; the gate leaves no second copy.
    assert not list((tmp_path / "out").rglob("data.parquet"))


def test_no_run_trains_on_what_a_gate_refused(
    clean: pa.Table, poisoned: pa.Table, instance: Any, tmp_path: Path
) -> None:
    delivered = [poisoned, clean, poisoned]
    corpus, training = corpus_of(lambda: delivered.pop(0)), Training("checked")
    gate = build_poison_gate(name="checked", asset=corpus, out=tmp_path, policy=POLICY)
    everything = [corpus, gate, training.asset]
    assert not run(everything, instance=instance).success
    assert not run(everything, select=["train"], instance=instance).success  # the gate has no output yet
    assert training.seen == []
    assert run(everything, instance=instance).success
    assert not run(everything, instance=instance).success
    assert run(everything, select=["train"], instance=instance).success  # what passed before, not what came since
    assert [data.equals(clean) for data in training.seen] == [True, True]


def test_a_snapshot_outlives_the_overwriting_of_the_file_that_passed(
    clean: pa.Table, poisoned: pa.Table, instance: Any, tmp_path: Path
) -> None:
    path = written(clean, tmp_path / "corpus.parquet")
    corpus = corpus_of(path)
    for snapshot, trained_on in ((False, poisoned), (True, clean)):
        written(clean, path)
        training = Training("checked")
        gate = build_poison_gate(name="checked", asset=corpus, out=tmp_path / "out", policy=POLICY, snapshot=snapshot)
        everything = [corpus, gate, training.asset]
        assert run(everything, instance=instance).success
        written(poisoned, path)
        assert not run(everything, instance=instance).success
        assert run(everything, select=["train"], instance=instance).success
        assert pq.read_table(training.seen[-1]).equals(trained_on)


def test_a_snapshot_keeps_a_directory_as_it_is_and_goes_where_the_data_are_refused(
    clean: pa.Table, poisoned: pa.Table, tmp_path: Path
) -> None:
    folder = tmp_path / "corpus"
    written(clean.slice(0, 100), folder / "a" / "part.parquet")
    written(clean.slice(100), folder / "b" / "part.parquet")
    corpus, training = corpus_of(str(folder)), Training("checked")
    gate = build_poison_gate(name="checked", asset=corpus, out=tmp_path / "out", policy=POLICY, snapshot=True)
    run([corpus, gate, training.asset])
    [copy] = training.seen
    assert copy != str(folder)
    assert sorted(p.relative_to(copy).as_posix() for p in Path(copy).rglob("*.parquet")) == [
        "a/part.parquet", "b/part.parquet",
    ]  # fmt: skip
    for refused in (poisoned.slice(100), clean.slice(100).rename_columns(["id", "words", "source"])):
        written(refused, folder / "b" / "part.parquet")
        result = run([corpus, gate, training.asset])
        assert not result.success
        assert not (tmp_path / "out" / "checked" / result.run_id / "snapshot").exists()
    assert len(training.seen) == 1


@pytest.mark.parametrize("snapshot", [False, True])
def test_a_quarantine_hands_on_the_rest_in_the_same_shape(
    shape: Callable[..., Any], poisoned: pa.Table, tmp_path: Path, snapshot: bool
) -> None:
    given = shape(poisoned, tmp_path)
    corpus, training = corpus_of(given), Training("checked")
    gate = build_poison_gate(
        name="checked",
        asset=corpus,
        out=tmp_path / "out",
        policy=POLICY,
        on_block="quarantine",
        snapshot=snapshot,
    )
    result = run([corpus, gate, training.asset])
    [kept] = training.seen
    assert type(kept) is type(given)
    names = poisoned["id"].to_pylist()
    assert ids_of(kept) == names[:100] + names[130:]
    metadata = output_metadata(result, "checked")
    assert metadata["verdict"] == "block"
    assert metadata["action"] == "quarantine"
    assert metadata["dagster/row_count"] == ROWS - 30
    assert metadata["recheck"].startswith("PASS")
    assert pq.read_table(metadata["quarantined"])["id"].to_pylist() == names[100:130]
    assert Path(metadata["manifest"]).exists()


def test_a_quarantine_keeps_the_index_of_a_pandas_frame(poisoned: pa.Table, tmp_path: Path) -> None:
    corpus, training = corpus_of(SHAPES["pandas"](poisoned, tmp_path)), Training("checked")
    gate = build_poison_gate(
        name="checked", asset=corpus, out=tmp_path, policy=REVIEW, on_block="quarantine", fail_on="review"
    )
    run([corpus, gate, training.asset])
    assert list(training.seen[0].index) == [*range(7, 107), *range(137, 7 + ROWS)]


def test_a_quarantine_that_leaves_no_row_is_a_refusal(poisoned: pa.Table, tmp_path: Path) -> None:
    corpus, training = corpus_of(poisoned.slice(100, 30)), Training("checked")
    gate = build_poison_gate(name="checked", asset=corpus, out=tmp_path, policy=POLICY, on_block="quarantine")
    result = run([corpus, gate, training.asset])
    assert "no row is left" in step_failure(result, "checked").user_failure_data.description
    assert training.seen == []


def test_a_gate_that_warns_hands_poison_on_and_says_so(poisoned: pa.Table, instance: Any, tmp_path: Path) -> None:
    corpus, training = corpus_of(poisoned), Training("checked")
    gate = build_poison_gate(name="checked", asset=corpus, out=tmp_path, policy=POLICY, on_block="warn")
    result = run([corpus, gate, training.asset], instance=instance)
    assert training.seen[0].equals(poisoned)
    assert output_metadata(result, "checked")["action"] == "warn"
    assert "BLOCK: 30 rows" in " ".join(log.user_message for log in instance.all_logs(result.run_id))


@pytest.mark.parametrize("on_block", ["fail", "quarantine", "warn"])
@pytest.mark.parametrize(
    ("data", "policy"),
    [
        (pa.table({"text": ["a"]}), Policy(checks=(Broken(),))),
        (pa.table({"words": ["a"]}), POLICY),
        (None, POLICY),
        (pa.table({"text": ["a"]}), {"chekcs": {}}),
    ],
)
def test_a_gate_refuses_what_it_could_not_check_whatever_it_does_with_poison(
    data: Any, policy: Any, on_block: Any, tmp_path: Path
) -> None:
    corpus, training = corpus_of(data), Training("checked")
    retry = dg.RetryPolicy(max_retries=2)
    gate = build_poison_gate(
        name="checked", asset=corpus, out=tmp_path, policy=policy, on_block=on_block, retry_policy=retry
    )
    result = run([corpus, gate, training.asset])
    assert step_failure(result, "checked").user_failure_data.metadata["verdict"].value == "error"
    assert not [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]
    assert training.seen == []


def test_a_gate_loads_what_the_asset_stores_itself(clean: pa.Table, tmp_path: Path) -> None:
    path = written(clean, tmp_path / "corpus.parquet")
    corpus, training = corpus_of(None), Training("checked")
    gate = build_poison_gate(
        name="checked", asset=corpus, out=tmp_path / "out", policy=POLICY, load=lambda context: path
    )
    assert run([corpus, gate, training.asset]).success
    assert training.seen == [path]


# Partitions

DAYS = dg.StaticPartitionsDefinition(["monday", "../tuesday"])


@pytest.fixture
def daily(clean: pa.Table, poisoned: pa.Table) -> Any:
    """An asset whose second partition is poisoned."""

    @dg.asset(name="corpus", partitions_def=DAYS)
    def corpus(context) -> Any:  # type: ignore[no-untyped-def]
        return clean if context.partition_key == "monday" else poisoned

    return corpus


def test_a_check_of_a_partitioned_asset_scans_the_partition_of_the_run(
    daily: Any, instance: Any, tmp_path: Path
) -> None:
    training = Training(partitions_def=DAYS)
    checks = build_poison_checks(assets=[daily], policy=POLICY, out=tmp_path)
    passed = {}
    for day in ("../tuesday", "monday"):
        result = run([daily, training.asset, *checks], instance=instance, partition=day)
        evaluation = check_results(result)["no_poison"]
        passed[evaluation.partition] = evaluation.passed
        report = Path(evaluation.metadata["report"].value)
        assert report.is_relative_to(tmp_path / "corpus")
        assert "partition=monday" in report.parts or "partition=..%2Ftuesday" in report.parts
    assert passed == {"../tuesday": False, "monday": True}
    assert len(training.seen) == 1


def test_a_check_beside_a_key_takes_the_partitions_that_it_is_given(daily: Any, instance: Any) -> None:
    checks = build_poison_checks(assets=["corpus"], policy=POLICY, partitions_def=DAYS)
    result = run([daily, *checks], instance=instance, partition="monday")
    assert check_results(result)["no_poison"].metadata["rows"].value == ROWS


@pytest.mark.parametrize("as_path", [False, True])
def test_a_check_without_partitions_scans_all_of_them_as_one(
    as_path: bool, poisoned: pa.Table, instance: Any, tmp_path: Path
) -> None:
    # Fifteen rows lie in each partition: only together do they reach a limit of thirty.
    halves = {"monday": poisoned.slice(0, 115), "../tuesday": poisoned.slice(115)}

    @dg.asset(partitions_def=DAYS)
    def corpus(context) -> Any:  # type: ignore[no-untyped-def]
        half = halves[context.partition_key]
        place = tmp_path / ("a.parquet" if context.partition_key == "monday" else "b.parquet")
        return written(half, place) if as_path else half.to_pandas()

    checks = build_poison_checks(assets=["corpus"], policy=Policy(checks=(HiddenText(block_rows=30),)))
    for day in halves:
        result = run([corpus, *checks], instance=instance, partition=day)
    evaluation = check_results(result)["no_poison"]
    assert evaluation.metadata["rows"].value == ROWS
    assert evaluation.metadata["rows_to_block"].value == 30
    assert not evaluation.passed


def test_partitions_that_do_not_fit_together_fail_the_check_with_the_reason(clean: pa.Table) -> None:
    corpus = corpus_of({"a": clean, "b": clean.drop_columns(["source"])})
    evaluation = check_results(run([corpus, *build_poison_checks(assets=[corpus], policy=POLICY)]))["no_poison"]
    assert not evaluation.passed
    assert "partitions_def" in evaluation.description


def test_parts_that_differ_in_type_only_are_scanned_as_one(poisoned: pa.Table) -> None:
    coded = poisoned.set_column(2, "source", pc.dictionary_encode(poisoned["source"]))
    bare = poisoned.slice(150).set_column(2, "source", pa.nulls(50))
    corpus = corpus_of([coded.slice(0, 120), poisoned.slice(120, 30).to_pandas(), bare])
    evaluation = check_results(run([corpus, *build_poison_checks(assets=[corpus], policy=POLICY)]))["no_poison"]
    assert evaluation.metadata["rows"].value == ROWS
    assert evaluation.metadata["rows_to_block"].value == 30


def test_a_gate_guards_each_partition(daily: Any, instance: Any, tmp_path: Path) -> None:
    training = Training("checked", partitions_def=DAYS)
    gate = build_poison_gate(name="checked", asset=daily, out=tmp_path, policy=POLICY)
    assert gate.partitions_def == DAYS
    everything = [daily, gate, training.asset]
    assert run(everything, instance=instance, partition="monday").success
    assert not run(everything, instance=instance, partition="../tuesday").success
    assert not run(everything, select=["train"], instance=instance, partition="../tuesday").success
    assert len(training.seen) == 1


def test_a_gate_over_all_partitions_hands_them_on_as_they_came_or_refuses(
    daily: Any, clean: pa.Table, instance: Any, tmp_path: Path
) -> None:
    training = Training("checked")
    gate = build_poison_gate(name="checked", asset="corpus", out=tmp_path, policy=REVIEW_ALLOWED, on_block="quarantine")
    for day in DAYS.get_partition_keys():
        run([daily], instance=instance, partition=day)
    result = run([daily, gate, training.asset], select=["checked", "train"], instance=instance)
    assert result.success
    assert {day: data.num_rows for day, data in training.seen[0].items()} == dict.fromkeys(
        DAYS.get_partition_keys(), ROWS
    )
    strict = build_poison_gate(name="checked", asset="corpus", out=tmp_path, policy=ALLOWED, on_block="quarantine")
    result = run([daily, strict, training.asset], select=["checked", "train"], instance=instance)
    assert "one partition at a time" in step_failure(result, "checked").user_failure_data.description
    assert len(training.seen) == 1


# The two days hold the same ids, so reading both as one must allow that.
_DUPLICATES = dataclasses.replace(POLICY.input, duplicate_ids="allow")
ALLOWED = dataclasses.replace(POLICY, input=_DUPLICATES)
REVIEW_ALLOWED = dataclasses.replace(REVIEW, input=_DUPLICATES)


# Metadata, logs, files


def _report(*findings: Finding, note: str = "") -> Report:
    data = DataInfo(name="d", kind="documents", rows=9, bytes=1, digest="sha256:0", roles={"text": NASTY})
    results = (
        CheckResult(check="x", outcome=Outcome.BLOCK, findings=findings),
        CheckResult(check="y", outcome=Outcome.ERROR, note=note, seconds=float("nan")),
    )
    return Report(data=data, results=results, policy_digest="sha256:1", started="now", seconds=1.0)


NASTY = "<script>alert(1)</script>[a](javascript:b) \x1b[31m\u202e\u200b\n\ud800\U000e0041 " + "x" * 5000


def test_metadata_hold_text_from_the_data_cut_printable_as_json_and_never_as_markdown() -> None:
    finding = Finding(
        check="x", kind=NASTY, severity=Severity.BLOCK, message=NASTY, feature=NASTY, target=NASTY, rows=(1, 2),
        ids=(NASTY, "b"), observed=float("inf"), limit=float("nan"), sources={NASTY: 2},
    )  # fmt: skip
    metadata = report_metadata(_report(finding, note=NASTY))
    # The chart is the only Markdown: a picture of numbers and ids of checks, in base64.
    assert [k for k, v in metadata.items() if isinstance(v, dg.MarkdownMetadataValue)] == ["chart"]
    assert re.fullmatch(r"!\[[\w :,.;()-]*\]\(data:image/svg\+xml;base64,[\w+/=]+\)", metadata["chart"].value)
    for key in ("findings", "checks"):
        for record in table(metadata, key):
            json.dumps(record, allow_nan=False)
            for value in record.values():
                assert not isinstance(value, str) or (value.isprintable() and len(value) < 4000)
    for value in metadata.values():
        assert not isinstance(value, dg.TextMetadataValue) or value.value.isprintable()
    # Dagster's own way into its database and out again.
    event = dg.AssetCheckResult(passed=False, metadata=metadata)
    stored = json.dumps(dg.serialize_value(event.metadata["findings"])).encode("utf-8")
    assert b"<script>" in stored  # kept as text: the page that shows a table escapes it


def test_metadata_say_what_was_not_looked_at_and_whose_checks_ran() -> None:
    report = _report(note="broke")
    data = dataclasses.replace(report.data, shape="ShareGPT", notes=("half of it is unread",))
    ours = CheckResult(check="z", outcome=Outcome.PASS, note="looked from 4 rows on", package="foretaste-z 0.1")
    power = {"smallest_blocked": None}
    metadata = report_metadata(dataclasses.replace(report, data=data, results=(*report.results, ours), power=power))
    assert metadata["shape"].value == "ShareGPT"
    assert metadata["not_looked_at"].value == (
        "error: y: broke; limit: z: looked from 4 rows on; note: half of it is unread; "
        "power: no planted trigger would have blocked"
    )
    assert [r["package"] for r in table(metadata, "checks")] == ["", "", "foretaste-z 0.1"]


def test_metadata_of_many_findings_are_cut_and_the_counts_stay_whole() -> None:
    findings = [
        Finding(check="x", kind="k", severity=Severity.BLOCK, message="m", rows=(row,), ids=(str(row),))
        for row in range(500)
    ]
    metadata = report_metadata(_report(*findings))
    assert len(metadata["findings"].records) == adapter.MAX_FINDINGS
    assert metadata["rows_to_block"].value == 500


def test_progress_goes_to_the_log(clean: pa.Table, instance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "PROGRESS_SECONDS", 0.0)
    corpus = corpus_of(clean)
    result = run([corpus, *build_poison_checks(assets=[corpus], policy=POLICY)], instance=instance)
    logs = " ".join(log.user_message for log in instance.all_logs(result.run_id))
    assert f"round 1 (hidden-text): {ROWS} rows of {ROWS}" in logs


@pytest.mark.parametrize("key", [["..", "..", "corpus"], ["a", "."], ["..."]])
def test_reports_stay_below_their_directory_whatever_an_asset_is_called(
    key: list[str], clean: pa.Table, tmp_path: Path
) -> None:
    @dg.asset(key=key)
    def corpus() -> Any:
        return clean

    out = tmp_path / "a" / "b" / "out"
    [check] = build_poison_checks(assets=[corpus], policy=POLICY, out=out)
    assert check_results(run([corpus, check]))["no_poison"].passed
    assert len(list(out.rglob("report.json"))) == len(list(tmp_path.rglob("report.json"))) == 1


# Definitions


def test_definitions_load_nothing_heavy_and_touch_no_data() -> None:
    code = """
import sys
from foretaste.operators.dagster import build_poison_checks, build_poison_gate
build_poison_checks(assets=["corpus"], policy="/nowhere.yaml", per_check=["hidden-text"], out="/nowhere")
build_poison_gate(name="checked", asset="corpus", policy="/nowhere.yaml", out="/nowhere")
print([m for m in ("pyarrow", "numpy", "numba", "sklearn", "pandas") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: build_poison_checks(assets="corpus"), r"assets=\['corpus'\]"),
        (lambda: build_poison_checks(assets=["corpus"], per_check="hidden-text"), r"per_check=\['hidden-text'\]"),
        (lambda: build_poison_checks(assets=["corpus"], fail_on="blocked"), 'did you mean "block"'),  # type: ignore[arg-type]
        (
            lambda: build_poison_gate(name="g", asset="corpus", out="o", on_block="warm"),
            'did you mean "warn"',
        ),  # type: ignore[arg-type]
        (lambda: build_poison_gate(name="g", asset=_TWO, out="o"), "asset defines one, two"),
    ],
)
def test_a_mistake_in_a_definition_is_named_when_it_is_loaded(build: Callable[[], Any], said: str) -> None:
    with pytest.raises((dg.DagsterInvalidDefinitionError, InputError), match=said):
        build()


@dg.multi_asset(specs=[dg.AssetSpec("one"), dg.AssetSpec("two")])
def _TWO():  # type: ignore[no-untyped-def]
    ...


def test_the_examples_of_the_documentation_load() -> None:
    page = Path(__file__).parents[2] / "docs" / "dagster.md"
    examples = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    for example in (e for e in examples if "dagster_dbt" not in e):  # test_dbt.py runs that one
        names: dict[str, Any] = {}
        exec(example, names)
        if "defs" in names:
            dg.Definitions.validate_loadable(names["defs"])


def test_the_command_line_of_dagster_stops_before_training(poisoned: pa.Table, tmp_path: Path) -> None:
    written(poisoned, tmp_path / "corpus.parquet")
    (tmp_path / "definitions.py").write_text(
        f"""
from pathlib import Path
import dagster as dg
from foretaste import Policy
from foretaste.operators.dagster import build_poison_checks, build_poison_gate

here = Path({str(tmp_path)!r})
policy = Policy().only("hidden-text")

@dg.asset
def corpus() -> Path:
    return here / "corpus.parquet"

checked = build_poison_gate(name="checked", asset=corpus, out=here / "out", policy=policy)

@dg.asset
def train(checked: Path) -> None:
    (here / "trained").touch()

defs = dg.Definitions(
    assets=[corpus, checked, train],
    asset_checks=build_poison_checks(assets=[corpus], blocking=False, policy=policy),
)
"""
    )
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    command = [
        sys.executable,
        "-m",
        "dagster",
        "asset",
        "materialize",
        "--select",
        "*",
        "-f",
        "definitions.py",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"DAGSTER_HOME": str(home)}, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "BLOCK: 30 rows to block" in done.stderr
    assert not (tmp_path / "trained").exists()
    assert list((tmp_path / "out" / "checked").rglob("report.html"))


def test_a_gate_lets_through_what_somebody_answers_for(poisoned: pa.Table, tmp_path: Path) -> None:
    corpus, training = corpus_of(poisoned), Training("checked")
    refused = build_poison_gate(name="checked", asset=corpus, out=tmp_path, policy=POLICY)
    metadata = step_failure(run([corpus, refused, training.asset]), "checked").user_failure_data.metadata
    report = read(Path(metadata["report"].value).parent)
    waivers = Waivers()
    for finding in report.findings:
        waivers = waivers.add(
            Waiver.of(
                report, finding.fingerprint, statement="a watermark", owner="ann", expired_at="2999-01-01",
                status="not_affected", impact_statement="stripped before training",
            )
        )  # fmt: skip
    (tmp_path / "waivers.yaml").write_text(waivers.to_yaml())
    gate = build_poison_gate(
        name="checked", asset=corpus, out=tmp_path, policy=POLICY, waivers=tmp_path / "waivers.yaml"
    )
    run([corpus, gate, training.asset])
    assert len(training.seen) == 1


def test_a_gate_with_a_state_judges_a_batch_with_those_before_and_keeps_refused_ones_out(
    clean: pa.Table, tmp_path: Path
) -> None:
    delivered = clean.set_column(2, "source", pa.array(["vendor"] * ROWS))
    days = {"first": delivered.slice(0, 30), "second": delivered.slice(30, 30), "third": delivered.slice(60, 5)}
    partitions = dg.StaticPartitionsDefinition(list(days))

    @dg.asset(name="corpus", partitions_def=partitions)
    def corpus(context) -> pa.Table:  # type: ignore[no-untyped-def]
        return days[context.partition_key]

    policy = Policy(checks=(SourceAllowlist(allow=(Entry(source="vendor", max_rows_total=40),)),))
    training = Training("checked", partitions)
    gate = build_poison_gate(
        name="checked", asset=corpus, out=tmp_path / "out", policy=policy, state=tmp_path / "gate.state", pool="gate"
    )
    done = [run([corpus, gate, training.asset], partition=day).success for day in days]
    assert done == [True, False, True]
    assert [ids_of(data)[0] for data in training.seen] == ["r00000", "r00060"]
    assert [b["rows"] for b in History.open(tmp_path / "gate.state").batches] == [30, 5]


def test_a_gate_takes_what_a_source_signed_for_a_file(clean: pa.Table, tmp_path: Path) -> None:
    path = written(clean, tmp_path / "corpus.parquet")
    vendor = trusted(signers.generate(tmp_path / "vendor.pem"), "vendor")
    trust = TrustRoot(keys={"vendor": vendor}, roles={"delivery": Role(keys=("vendor",))})
    (tmp_path / "trust.yaml").write_text(trust.to_yaml())
    (tmp_path / "delivery.json").write_text(sign("corpus", digest_of(path), [str(tmp_path / "vendor.pem")]))
    policy = Policy(checks=(SourceAllowlist(allow=(Entry(source=vendor.keyid, kind="signer"),)),))
    corpus, training = corpus_of(path), Training("checked")
    given: dict[str, Any] = {"name": "checked", "asset": corpus, "out": tmp_path / "out", "policy": policy}
    assert not run([corpus, build_poison_gate(**given), training.asset]).success
    signed = build_poison_gate(**given, attestations=[tmp_path / "delivery.json"], trust=tmp_path / "trust.yaml")
    assert run([corpus, signed, training.asset]).success
    assert training.seen == [path]
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="attestations="):
        build_poison_gate(**given, attestations="delivery.json")
