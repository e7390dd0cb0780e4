"""Rules of the Airflow gate that need no scheduler."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("airflow")

from airflow.sdk import DAG, Asset, ObjectStoragePath, task_group
from airflow.sdk.exceptions import AirflowFailException

from foretaste.operators import _gate, airflow
from foretaste.operators.airflow import PoisonGateOperator, require_asset
from foretaste.operators.airflow_approval import PoisonApprovalOperator
from foretaste.operators.airflow_provenance import VerifyDataOperator

ASSET = Asset("answers")


def test_a_log_names_the_file_where_the_page_has_no_host() -> None:
    summary = {"report_url": "/foretaste/run?dag_id=d", "files": {"report.html": "/out/report.html"}}
    assert airflow._to_open(summary) == "/out/report.html, and /foretaste/run?dag_id=d in Airflow"
    assert airflow._to_open(summary | {"report_url": "https://airflow.example/foretaste/run"}).startswith("https://")


@pytest.fixture
def told(tmp_path: Path, clean_table: pa.Table) -> dict[str, Any]:
    path = tmp_path / "data.parquet"
    pq.write_table(clean_table, path)
    return {"verdict": "pass", "action": "pass", "proceed": True, "path": str(path), "digest": _gate.digest_of(path)}


def context(*extras: dict[str, Any]) -> Any:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    events = [SimpleNamespace(extra=extra, timestamp=start + timedelta(hours=i)) for i, extra in enumerate(extras)]
    return {"triggering_asset_events": {ASSET: events}}


class TestRequireAsset:
    def test_an_event_of_a_gate_that_passed_gives_the_path(self, told: dict[str, Any]) -> None:
        assert require_asset(ASSET, context({"foretaste": told})) == told["path"]

    @pytest.mark.parametrize("change", [
        {"verdict": "block", "action": "warn"}, {"verdict": "error"}, {"proceed": False}, {"path": None},
        {"digest": "sha256:0"}, {"verdict": "block", "action": "quarantine", "recheck": None},
    ])  # fmt: skip
    def test_anything_else_is_refused(self, told: dict[str, Any], change: dict[str, Any]) -> None:
        with pytest.raises(AirflowFailException):
            require_asset(ASSET, context({"foretaste": told | change}))

    def test_a_run_without_an_event_and_an_event_without_a_gate_are_refused(self, told: dict[str, Any]) -> None:
        for events in ([], [{"foretaste": told}, {}]):
            with pytest.raises(AirflowFailException):
                require_asset(ASSET, context(*events))

    def test_review_passes_unless_pass_alone_is_asked_for(self, told: dict[str, Any]) -> None:
        given = context({"foretaste": told | {"verdict": "review"}})
        assert require_asset(ASSET, given) == told["path"]
        with pytest.raises(AirflowFailException):
            require_asset(ASSET, given, verdicts=("pass",))

    def test_after_a_quarantine_the_second_scan_counts(self, told: dict[str, Any]) -> None:
        apart = told | {"verdict": "block", "action": "quarantine", "recheck": "PASS: 0 rows to block"}
        assert require_asset(ASSET, context({"foretaste": apart})) == told["path"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conn_id": "{{ rendered }}"}, "opens no Airflow connection"),
        ({"data": [1]}, "takes a path or an address, not list"),
    ],
)
def test_another_python_refuses_what_it_cannot_reach(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    given = {"task_id": "gate", "data": "/data.parquet", "out": str(tmp_path), "python": sys.executable, **change}
    with pytest.raises(AirflowFailException, match=said):
        PoisonGateOperator(**given).execute(_execution({}))


@pytest.mark.parametrize("elsewhere", [{"python": "/srv/foretaste/bin/python"}, {"deferrable": True}])
@pytest.mark.parametrize(("change", "said"), [
    ({"conn_id": "vendor"}, "^conn_id: .*leave python and deferrable out"),
    ({"out_conn_id": "reports"}, "^out_conn_id: .*leave python and deferrable out"),
    ({"out": "s3://gates/{{ run_id }}"}, "^out: .*name a folder on a disk that both see"),
    ({"data": "s3://vendor@bucket/{{ ds }}.parquet"}, "^data: .*an address that Arrow opens itself"),
    ({"state": "s3://vendor@bucket/history"}, "^state: .*an address that Arrow opens itself"),
    ({"data": ObjectStoragePath("s3://vendor@bucket/key")}, "^data: .*an address that Arrow opens itself"),
])  # fmt: skip
def test_what_a_scan_elsewhere_cannot_have_is_refused_in_the_dag_file_with_a_next_step(
    change: dict[str, Any], said: str, elsewhere: dict[str, Any]
) -> None:
    given = {"task_id": "gate", "data": "/data.parquet", "out": "/gates", **change}
    with pytest.raises(ValueError, match=said):
        PoisonGateOperator(**given, **elsewhere)


@pytest.mark.parametrize("change", [
    {"data": "s3://key:secret@bucket/{{ ds }}.parquet"}, {"data": "abfs://train@vendor.dfs.core.windows.net/{{ ds }}"},
    {"data": Asset("answers")}, {"out": "file:///gates"},
    {"conn_id": "{{ params.conn | default(None) }}"},
])  # fmt: skip
def test_what_may_still_fit_is_left_to_the_run(change: dict[str, Any]) -> None:
    PoisonGateOperator(**{"task_id": "gate", "data": "/data.parquet", "out": "/gates", **change}, deferrable=True)


class TestOut:
    """Reports of two gates must not lie in the same place."""

    def test_two_gates_of_one_dag_with_one_out_are_refused_in_the_dag_file(self) -> None:
        with DAG("deliveries"):
            PoisonGateOperator(task_id="first", data="a", out="/gates/{{ run_id }}/")
            with pytest.raises(ValueError, match=r'"first" and "second" .*/gates/\{\{ run_id }}/\{\{ task.task_id }}"'):
                PoisonGateOperator(task_id="second", data="b", out="/gates/{{ run_id }}")

    def test_outs_that_differ_by_text_or_by_task_are_fine(self) -> None:
        with DAG("deliveries"):
            for task_id in ("first", "second"):
                PoisonGateOperator(task_id=task_id, data="a", out="/gates/{{ run_id }}/{{ ti.task_id }}")
                PoisonGateOperator(task_id=f"{task_id}_again", data="a", out=f"/gates/{task_id}")

    def test_a_gate_in_a_mapped_group_needs_an_out_for_each_index(self) -> None:
        made: list[str] = []

        def deliveries(out: str) -> None:
            @task_group
            def one(path: str) -> None:
                made.append(PoisonGateOperator(task_id="gate", data=path, out=out).task_id)

            with DAG("deliveries"):
                one.expand(path=["a", "b"])

        with pytest.raises(ValueError, match=r"give each an out of its own: .*ti\.map_index"):
            deliveries("/gates/{{ run_id }}")
        deliveries("/gates/{{ run_id }}/{{ ti.map_index }}")
        assert made == ["one.gate"]

    @pytest.mark.parametrize("out", ["/gates/{{ run_id }}", "/gates/{{ run_id }}/{{ ti.map_index }}"])
    def test_a_gate_that_is_mapped_by_itself_needs_one_too(self, out: str) -> None:
        with DAG("deliveries"):
            if "map_index" in out:
                PoisonGateOperator.partial(task_id="gate", out=out).expand(data=["a", "b"])
                return
            with pytest.raises(ValueError, match="give each an out of its own"):
                PoisonGateOperator.partial(task_id="gate", out=out).expand(data=["a", "b"])


def test_with_another_python_the_task_needs_none_of_the_heavy_packages(tmp_path: Path, clean_table: pa.Table) -> None:
    pq.write_table(clean_table.slice(0, 200), tmp_path / "data.parquet")
    code = (
        "import sys\n"
        "heavy = ['numpy', 'pyarrow', 'pandas', 'scipy', 'sklearn', 'numba', 'polars', 'publicsuffixlist']\n"
        "sys.modules.update(dict.fromkeys(heavy))\n"  # an import of None is an ImportError
        "from types import SimpleNamespace as N\n"
        "from foretaste.operators.airflow import PoisonGateOperator\n"
        "ti = N(xcom_push=lambda **_: None, dag_id='d', run_id='r', task_id='t', map_index=-1)\n"
        "policy = {'version': 1, 'checks': {'hidden-text': {'block_rows': '3'}}}\n"
        "gate = PoisonGateOperator(task_id='t', data=sys.argv[1], out=sys.argv[2], policy=policy, python=sys.executable)\n"
        "print('read', gate.execute({'ti': ti, 'outlet_events': {}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "data.parquet", tmp_path / "out"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert f"read {tmp_path / 'data.parquet'}" in done.stdout, done.stdout + done.stderr


def _execution(pushed: dict[str, Any]) -> Any:
    ti = SimpleNamespace(
        xcom_push=lambda key, value: pushed.update({key: value}), dag_id="d", run_id="r", task_id="gate", map_index=-1
    )
    return {"ti": ti, "outlet_events": {}}


# With the default policy, or without a state, the scan would be a weaker one.
CAME_TO_NOTHING = [
    ({"policy": " "}, "the policy argument came out empty, though the DAG file names one; give"),
    ({"policy": "None"}, "the policy argument came out empty"),
    ({"policy": None}, "the policy argument came out empty"),
    ({"state": ""}, "the state argument came out empty"),
    # Without it a forged signature of a waiver would not be looked at.
    ({"trust": ""}, "the trust argument came out empty"),
    ({"certify_with": " "}, "the certify_with argument came out empty"),
]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *CAME_TO_NOTHING,
        *(({"deferrable": True, **change}, said) for change, said in CAME_TO_NOTHING),
        ({"policy": 5}, "a policy is a path, a mapping or a Policy, not int 5"),
        ({"roles": ["text"]}, 'roles must be a mapping such as {"text": "body"}, not'),
        ({"roles": {"text": 5}}, "the column of role text must be text, not 5"),
        ({"spark": "yes please"}, "spark must be true or a mapping such as"),
    ],
)
def test_what_a_template_made_wrong_fails_at_the_first_try_with_its_reason(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    pq.write_table(pa.table({"text": [f"row {i}" for i in range(9)]}), tmp_path / "data.parquet")
    templated = {"policy", "state", "trust", "certify_with"} & {"policy", "state", *change}
    given = {name: f"{{{{ params.{name} }}}}" for name in templated}
    given["data"] = str(tmp_path / "data.parquet")
    gate = PoisonGateOperator(task_id="gate", out=str(tmp_path / "out"), **given)
    for name, value in {"policy": {"version": 1}, "state": str(tmp_path / "state"), **change}.items():
        setattr(gate, name, value)  # as rendering does
    pushed: dict[str, Any] = {}
    with pytest.raises(AirflowFailException) as refused:
        gate.execute(_execution(pushed))
    assert said in str(refused.value)
    assert pushed["foretaste"]["verdict"] == "error"


@pytest.mark.parametrize("name", ["policy", "chain", "name", "min_sequence", "copy_to"])
def test_a_pin_of_a_verification_that_comes_to_nothing_is_refused(tmp_path: Path, name: str) -> None:
    # Without the pin the task would take an older certificate, that of another data set, or hand over the file itself.
    pq.write_table(pa.table({"text": [f"row {i}" for i in range(9)]}), tmp_path / "data.parquet")
    given = {"data": str(tmp_path / "data.parquet"), "certificate": "c.jsonl", "trust": "trust.yaml"}
    task = VerifyDataOperator(task_id="verify", **given, **{name: "{{ params.pin }}"})
    setattr(task, name, "")  # as rendering does
    pushed: dict[str, Any] = {}
    with pytest.raises(AirflowFailException, match=f"the {name} argument came out empty"):
        task.execute(_execution(pushed))
    assert pushed["foretaste"]["verified"] is False


@pytest.mark.parametrize("name", ["key", "trust", "waivers"])
def test_an_approval_that_lost_its_key_or_trust_is_refused_before_anybody_is_asked(name: str) -> None:
    task = PoisonApprovalOperator(task_id="approval", gate="gate", **{name: "{{ params.file }}"})
    setattr(task, name, "None")  # as rendering does
    with pytest.raises(AirflowFailException, match=f"the {name} argument came out empty"):
        task.execute(_execution({}))
