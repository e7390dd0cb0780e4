"""The Airflow gate in a real Airflow: DAGs run by ``dag.test()`` against a database of their own."""

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

from foretaste import Outcome, Policy, scan
from foretaste.checks.source_allowlist import SourceAllowlist
from foretaste.deliveries import digest_of, sign
from foretaste.history import History
from foretaste.provenance import signers
from foretaste.provenance.keys import Role, TrustRoot, trusted
from foretaste.sources import Entry
from foretaste.waivers import Waivers

pytest.importorskip("airflow")
pytestmark = pytest.mark.host

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory, clean_table: pa.Table, poisoned_table: pa.Table) -> Path:
    home = tmp_path_factory.mktemp("airflow")
    pq.write_table(clean_table, home / "clean.parquet")
    pq.write_table(poisoned_table, home / "poisoned.parquet")
    policy = Policy().only("hidden-text")
    (home / "policy.yaml").write_text(policy.to_yaml())
    pq.write_table(poisoned_table, home / "approval_swapped.parquet")
    alice = trusted(signers.generate(home / "alice.pem"), "alice")
    signers.generate(home / "mallory.pem")
    only_alice = Role(keys=("alice",))
    trust = TrustRoot(keys={"alice": alice}, roles={"waiver": only_alice, "delivery": only_alice})
    (home / "trust.yaml").write_text(trust.to_yaml())
    _deliveries(home, clean_table, Entry(source=alice.keyid, kind="signer"))
    dags = home / "dags"
    dags.mkdir()
    for file in (HERE / "airflow_dags").glob("*.py"):
        (dags / file.name).write_text(file.read_text())
    _gx_project(home)
    (dags / "beside.yaml").write_text(policy.to_yaml())
    return home


def _deliveries(home: Path, table: pa.Table, signer: Entry) -> None:
    """Three batches of one vendor, two policies about it, and what alice signed for the first batch."""
    table = table.set_column(2, "source", pa.array(["vendor"] * table.num_rows))
    for day, start, rows in (("first", 0, 30), ("second", 30, 30), ("third", 60, 5)):
        pq.write_table(table.slice(start, rows), home / f"{day}.parquet")
    for name, entry in {"capped": Entry(source="vendor", max_rows_total=40), "signed": signer}.items():
        (home / f"{name}.yaml").write_text(Policy(checks=(SourceAllowlist(allow=(entry,)),)).to_yaml())
    signed = sign("first", digest_of(home / "first.parquet"), [str(home / "alice.pem")])
    (home / "delivery.json").write_text(signed)


def _gx_project(home: Path) -> None:
    gx = pytest.importorskip("great_expectations")
    (home / "batch.csv").write_text("id,text\n1,one\n2,two\n")
    context = gx.get_context(mode="file", project_root_dir=str(home))
    assets = context.data_sources.add_pandas_filesystem("files", base_directory=str(home))
    batch = assets.add_csv_asset("csv").add_batch_definition_path("batch", path="batch.csv")
    exists = gx.expectations.ExpectColumnToExist
    suites = {
        "met": [exists(column="text")],
        "unmet": [exists(column="text"), exists(column="label")],
        "dropped": [exists(column="text")],
        "empty": [],
        "parameters": [gx.expectations.ExpectColumnValuesToMatchRegex(column="text", regex={"$PARAMETER": "regex"})],
    }
    for name, expectations in suites.items():
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
        validation = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
        context.checkpoints.add(gx.Checkpoint(name=name, validation_definitions=[validation]))
    stored = home / "gx" / "expectations" / "dropped.json"
    suite = json.loads(stored.read_text())
    foreign = {"type": "expect_column_to_be_free_of_what_nobody_imports", "kwargs": {"column": "text"}}
    suite["expectations"].append(foreign | {"meta": {}, "id": "00000000-0000-4000-8000-000000000000"})
    stored.write_text(json.dumps(suite))


@pytest.fixture(scope="session")
def environment(airflow_home: Path) -> dict[str, str]:
    policy = Policy().only("hidden-text").as_dict()
    env = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW") and k != "PYTHONDONTWRITEBYTECODE"}
    return env | {
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(airflow_home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{airflow_home}/airflow.db?timeout=120",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        "GATE_TEST_HOME": str(airflow_home),
        "GX_ANALYTICS_ENABLED": "false",
        "GATE_TEST_POLICY": json.dumps(policy),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.fixture(scope="session")
def log_and_runs(airflow_home: Path, environment: dict[str, str]) -> tuple[str, dict[str, Any]]:
    out = airflow_home / "runs.json"
    log = _run(environment, str(HERE / "run_airflow.py"), str(airflow_home / "dags"), str(out))
    return log, json.loads(out.read_text())


@pytest.fixture(scope="session")
def runs(log_and_runs: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return log_and_runs[1]


def _run(env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def _states(run: dict[str, Any]) -> dict[str, str]:
    return {name: task["state"] for name, task in run["tasks"].items()}


def _gate(runs: dict[str, Any], dag_id: str) -> dict[str, Any]:
    task: dict[str, Any] = runs[dag_id]["tasks"]["gate"]
    return task


def _summary(runs: dict[str, Any], dag_id: str) -> dict[str, Any]:
    summary: dict[str, Any] = _gate(runs, dag_id)["xcom"]["foretaste"]
    return summary


def test_poisoned_data_leave_training_upstream_failed(runs: dict[str, Any]) -> None:
    assert _states(runs["poisoned"]) == {"gate": "failed", "train_anyway": "upstream_failed"}
    assert runs["poisoned"]["state"] == "failed"


@pytest.mark.parametrize("dag_id", ["poisoned", "decorated_path", "missing_column", "nothing_returned"])
def test_bad_data_are_not_tried_again(runs: dict[str, Any], dag_id: str) -> None:
    assert (_gate(runs, dag_id)["state"], _gate(runs, dag_id)["try_number"]) == ("failed", 1)


def test_a_storage_out_of_reach_is_tried_again(runs: dict[str, Any]) -> None:
    assert (_gate(runs, "storage_down")["state"], _gate(runs, "storage_down")["try_number"]) == ("failed", 2)


def test_the_summary_and_the_link_survive_the_failure(runs: dict[str, Any]) -> None:
    summary = _summary(runs, "poisoned")
    assert (summary["verdict"], summary["action"], summary["block_rows"]) == ("block", "fail", 30)
    assert summary["findings"][0]["ids"][0] == "r00100"
    assert "return_value" not in _gate(runs, "poisoned")["xcom"]
    link = _gate(runs, "poisoned")["xcom"]["_link_PoisonReportLink"]
    assert link == summary["report_url"] == "https://reports.example/poisoned/report.html"


def test_without_a_report_url_the_link_names_the_page(runs: dict[str, Any], airflow_home: Path) -> None:
    link = _gate(runs, "warn")["xcom"]["_link_PoisonReportLink"]
    assert "/foretaste/run?dag_id=warn&" in link
    assert (airflow_home / "out" / "warn" / "report.html").is_file()


def test_what_could_not_be_read_is_an_error_that_names_the_column(runs: dict[str, Any]) -> None:
    summary = _summary(runs, "missing_column")
    assert summary["verdict"] == "error"
    assert not summary["proceed"]
    assert 'did you mean "text"' in summary["reason"]


def test_clean_data_are_trained_on_in_full(runs: dict[str, Any], clean_table: pa.Table) -> None:
    assert runs["clean"]["tasks"]["train"]["xcom"]["return_value"] == clean_table.num_rows


def test_the_asset_event_carries_verdict_and_digest(runs: dict[str, Any], airflow_home: Path) -> None:
    extra = runs["clean"]["assets"]["gated"]["foretaste"]
    assert extra["verdict"] == "pass"
    assert extra["digest"] == _summary(runs, "clean")["data"]["digest"]
    assert extra["path"] == str(airflow_home / "clean.parquet")


def test_a_refused_batch_emits_no_asset_event(runs: dict[str, Any]) -> None:
    assert runs["poisoned"]["assets"] == {}


@pytest.mark.parametrize(("dag_id", "task"), [("quarantine", "train"), ("frame", "train"), ("storage", "count")])
def test_after_a_quarantine_training_reads_the_clean_rows(
    runs: dict[str, Any], poisoned_table: pa.Table, dag_id: str, task: str
) -> None:
    assert runs[dag_id]["tasks"][task]["xcom"]["return_value"] == poisoned_table.num_rows - 30
    assert _summary(runs, dag_id)["quarantine"]["quarantined_rows"] == 30
    assert _summary(runs, dag_id)["recheck"].startswith("PASS")


def test_the_asset_event_of_a_quarantine_names_the_clean_file(runs: dict[str, Any]) -> None:
    extra = runs["quarantine"]["assets"]["set_apart"]["foretaste"]
    assert extra["path"] == _gate(runs, "quarantine")["xcom"]["return_value"]


def test_warn_trains_on_all_rows_and_keeps_the_verdict(runs: dict[str, Any], poisoned_table: pa.Table) -> None:
    assert runs["warn"]["tasks"]["train"]["xcom"]["return_value"] == poisoned_table.num_rows
    assert _summary(runs, "warn")["verdict"] == "block"


def test_fail_on_review_stops_what_a_person_should_look_at(runs: dict[str, Any]) -> None:
    assert _gate(runs, "review")["state"] == "failed"
    assert _summary(runs, "review")["verdict"] == "review"


def test_templates_reach_the_data_the_roles_and_the_numbers_of_the_policy(
    runs: dict[str, Any], airflow_home: Path
) -> None:
    summary = _summary(runs, "templated")
    # 30 rows under a limit of 31: with the default limit of one row this would block.
    assert (summary["verdict"], summary["review_rows"]) == ("review", 30)
    rendered = _gate(runs, "templated")["rendered"]
    assert rendered["data"] == f"file://{airflow_home}/poisoned.parquet"
    assert rendered["on_block"] == "fail"
    assert rendered["out"].endswith("/out/templated")


def test_a_relative_policy_counts_from_the_dag_file(runs: dict[str, Any]) -> None:
    assert _summary(runs, "relative_policy")["checks"]["hidden-text"] == "pass"


def test_a_frame_is_stored_and_training_gets_the_scanned_file(
    runs: dict[str, Any], airflow_home: Path, clean_table: pa.Table
) -> None:
    tasks = runs["frame_passes"]["tasks"]
    assert tasks["gate"]["xcom"]["return_value"] == str(airflow_home / "out/frame_passes/data.parquet")
    assert tasks["train"]["xcom"]["return_value"] == clean_table.num_rows


def test_a_connection_opens_the_data_and_takes_the_report(runs: dict[str, Any]) -> None:
    summary = _summary(runs, "storage")
    assert summary["files"]["report.json"].startswith("memory://reports/")
    assert summary["path"].startswith("memory://reports/")
    assert runs["storage"]["tasks"]["verified"]["xcom"]["return_value"] == summary["path"]


def test_all_done_runs_after_a_failed_gate_unless_the_task_requires_it(runs: dict[str, Any]) -> None:
    assert _states(runs["all_done"]) == {
        "gate": "failed",
        "unguarded": "success",  # Airflow's rule, and the hole
        "guarded": "failed",
        "guarded_before": "failed",
    }


def test_require_gate_returns_the_path_of_a_passed_gate_and_knows_no_other(
    runs: dict[str, Any], airflow_home: Path
) -> None:
    tasks = runs["all_done_clean"]["tasks"]
    assert tasks["trained"]["xcom"]["return_value"] == str(airflow_home / "clean.parquet")
    assert tasks["misnamed"]["state"] == "failed"


def test_require_gate_refuses_data_that_changed_after_the_scan(runs: dict[str, Any]) -> None:
    assert _states(runs["tampered"])["gate"] == "success"
    assert _states(runs["tampered"])["verified"] == "failed"


def test_require_gate_wants_every_instance_of_a_mapped_gate(runs: dict[str, Any], airflow_home: Path) -> None:
    assert _states(runs["mapped"]) == {"gate_0": "success", "gate_1": "failed", "all_gates": "failed"}
    assert _states(runs["mapped_over_nothing"]) == {"gate": "skipped", "all_gates": "failed"}
    assert (
        runs["mapped_clean"]["tasks"]["all_gates"]["xcom"]["return_value"] == [str(airflow_home / "clean.parquet")] * 2
    )


def test_a_gate_with_a_state_judges_a_batch_with_those_before_and_keeps_refused_ones_out(
    runs: dict[str, Any], airflow_home: Path
) -> None:
    assert _states(runs["with_state"]) == {
        "first": "success", "second": "failed", "third": "success",
        "train_first": "success", "train_second": "upstream_failed", "train_third": "success",
    }  # fmt: skip
    assert [b["rows"] for b in History.open(airflow_home / "with_state.history").batches] == [30, 5]


def test_a_gate_takes_what_a_source_signed_for_a_file(runs: dict[str, Any]) -> None:
    assert _states(runs["attested"]) == {
        "signed": "success", "train_signed": "success", "unsigned": "failed", "train_unsigned": "upstream_failed",
    }  # fmt: skip


@pytest.mark.parametrize("dag_id", ["gx_met", "gx_parameters"])
def test_a_checkpoint_that_is_met_lets_training_start(runs: dict[str, Any], dag_id: str) -> None:
    assert set(_states(runs[dag_id]).values()) == {"success"}
    assert _summary(runs, dag_id)["verdict"] == "pass"


def test_a_configured_checkpoint_runs_without_a_project(runs: dict[str, Any]) -> None:
    assert runs["gx_configured"]["state"] == "success"
    assert [e["expectation"] for e in _summary(runs, "gx_configured")["expectations"]] == ["expect_column_to_exist"]


@pytest.mark.parametrize(
    ("dag_id", "said"),
    [
        ("gx_unmet", "expect_column_to_exist was not met"),
        ("gx_dropped", "expect_column_to_be_free_of_what_nobody_imports is stored"),
        ("gx_empty", "the suite is empty"),
        ("gx_absent", 'no checkpoint "absent"'),
    ],
)
def test_what_great_expectations_lets_slip_fails_at_the_first_try(runs: dict[str, Any], dag_id: str, said: str) -> None:
    assert _gate(runs, dag_id)["state"] == "failed"
    assert _gate(runs, dag_id)["try_number"] == 1
    assert said in _summary(runs, dag_id)["reason"]
    assert _states(runs[dag_id])["train_anyway"] == "upstream_failed"


def test_the_log_has_the_headline_and_the_ids(log_and_runs: tuple[str, dict[str, Any]]) -> None:
    assert "BLOCK: 30 rows to block, 0 to review" in log_and_runs[0]
    assert "r00100" in log_and_runs[0]


def test_airflow_lists_the_provider(environment: dict[str, str]) -> None:
    listed = json.loads(_run(environment, "-m", "airflow", "providers", "list", "-o", "json").splitlines()[0])
    assert "foretaste" in {p["package_name"] for p in listed}


def test_parsing_a_dag_reads_and_imports_nothing_heavy(environment: dict[str, str], airflow_home: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import gates;"
        "heavy = {'pyarrow', 'numpy', 'pandas', 'sklearn', 'great_expectations', 'foretaste.engine'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    elsewhere = environment | {"GATE_TEST_HOME": "/nowhere"}
    assert _run(elsewhere, "-c", code, str(airflow_home / "dags")).splitlines()[-1] == "[]"


class TestApproval:
    def test_the_person_sees_the_findings_in_code_spans(self, runs: dict[str, Any]) -> None:
        body = runs["approval_given"]["asked"]["body"]
        assert "BLOCK: 30 rows to block" in body
        assert "hidden-text, 30 rows: `" in body
        assert "r00100" in body
        assert runs["approval_given"]["asked"]["options"] == ["Approve", "Reject"]

    def test_approving_lets_training_read_what_was_scanned_while_the_gate_stays_red(
        self, runs: dict[str, Any], airflow_home: Path
    ) -> None:
        run = runs["approval_given"]
        assert _states(run) == {"gate": "failed", "approval": "success", "train": "success"}
        assert run["tasks"]["train"]["xcom"]["return_value"] == f"{airflow_home}/poisoned.parquet"
        said = run["tasks"]["approval"]["xcom"]["foretaste"]["approval"]
        assert (said["by"], said["reason"], said["signed"]) == ("ann", "the vendor's watermark", False)

    def test_approving_leaves_waivers_that_a_later_scan_takes(self, runs: dict[str, Any], airflow_home: Path) -> None:
        assert _states(runs["approval_signed"])["train"] == "success"
        file = runs["approval_signed"]["tasks"]["approval"]["xcom"]["foretaste"]["approval"]["waivers"]
        waivers = Waivers.load(file, airflow_home / "trust.yaml")
        demanding = Policy.load({"waivers": {"signed": True}}).only("hidden-text")
        report = scan(airflow_home / "poisoned.parquet", demanding, waivers=waivers)
        assert report.verdict is Outcome.PASS
        assert {(w.owner, w.approvers) for w in report.waivers} == {("ann", ("alice",))}

    def test_each_index_of_a_mapped_group_is_answered_for_itself(
        self, runs: dict[str, Any], airflow_home: Path
    ) -> None:
        states = _states(runs["approval_mapped"])
        assert [states[f"one.gate_{i}"] for i in range(3)] == ["failed", "failed", "success"]
        assert [states[f"one.approval_{i}"] for i in range(3)] == ["success", "failed", "success"]
        assert [states[f"one.train_one_{i}"] for i in range(3)] == ["success", "upstream_failed", "success"]
        trained = runs["approval_mapped"]["tasks"]["one.train_one_2"]["xcom"]["return_value"]
        assert trained == f"{airflow_home}/clean.parquet"

    def test_an_approval_that_is_mapped_by_itself_is_refused_in_the_dag_file(self) -> None:
        from foretaste.operators.airflow_approval import PoisonApprovalOperator

        with pytest.raises(ValueError, match="map that"):
            PoisonApprovalOperator.partial(task_id="approval", gate="gate")

    def test_no_answer_in_time_is_not_tried_again(self, runs: dict[str, Any]) -> None:
        assert runs["approval_late"]["tasks"]["approval"]["try_number"] == 1

    @pytest.mark.parametrize("name", ["rejected", "silent", "forged", "swapped", "of_error", "late"])
    def test_anything_but_a_good_answer_keeps_training_blocked(self, runs: dict[str, Any], name: str) -> None:
        states = _states(runs[f"approval_{name}"])
        assert states == {"gate": "failed", "approval": "failed", "train": "upstream_failed"}

    def test_what_was_not_checked_is_not_even_asked_about(self, runs: dict[str, Any]) -> None:
        assert runs["approval_of_error"]["asked"] is None

    def test_nobody_is_asked_about_data_that_passed(self, runs: dict[str, Any]) -> None:
        assert runs["approval_not_needed"]["asked"] is None
        assert set(_states(runs["approval_not_needed"]).values()) == {"success"}
