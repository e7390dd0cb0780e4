"""The poisoned delivery of ``dags_examples`` in a real Airflow and a real Dagster, and what came of it.

Run by ``make demo`` with the Python of an environment that has the extras airflow and dagster. Airflow runs as
``airflow standalone`` (scheduler, DAG processor, triggerer and API server on free loopback ports, its own
AIRFLOW_HOME); the DAG runs are triggered, and their states read back, over its REST API. Dagster runs as
``dagster job execute`` on an instance of its own, whose event log is read back. Everything lies below ``.demo/``. The
exit code is 0 where every run ended as it has to, the refused ones included.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = REPOSITORY / "dags_examples"
HOME = REPOSITORY / ".demo"
RUN_ID = "demo"
START_SECONDS = 300
RUN_SECONDS = 420
STOP_SECONDS = 30

# What each run has to come to: its state, and the states of its tasks or steps.
AIRFLOW = {
    "docs_qa_without_gate": ("success", {"delivery": "success", "train": "success"}),
    "docs_qa_with_gate": ("failed", {"delivery": "success", "gate": "failed", "train": "upstream_failed"}),
    "docs_qa_quarantine": ("success", {"delivery": "success", "gate": "success", "train": "success"}),
}
DAGSTER = {
    "checked": (
        "FAILURE",
        {"delivery": "SUCCESS", "questions_no_poison": "FAILURE", "model_without_gate": "not started"},
    ),
    "without_gate": ("SUCCESS", {"model_without_gate": "SUCCESS"}),
    "gated": ("FAILURE", {"accepted_questions": "FAILURE", "model": "not started"}),
    "quarantined": ("SUCCESS", {"cleaned_questions": "SUCCESS", "model_on_clean": "SUCCESS"}),
}  # fmt: skip


class DemoError(Exception):
    """The demonstration did not go as it has to; says what happened and where the log lies."""


@dataclass
class Run:
    """How one run ended, with what its gate and its training step left behind."""

    name: str
    state: str
    steps: Mapping[str, str]
    evaluation: Mapping[str, Any] | None = None
    headline: str = ""
    findings: list[Mapping[str, Any]] = field(default_factory=list)
    report: str = ""


def main() -> int:
    """Both hosts, one after the other; 0 where all went as it has to."""
    signal.signal(signal.SIGTERM, _interrupted)  # so that a stopped demonstration stops Airflow too
    began = time.monotonic()
    try:
        shutil.rmtree(HOME, ignore_errors=True)
        HOME.mkdir()
        print(f"Everything that this writes lies in {HOME}\n")
        airflow = _airflow()
        for run in airflow:
            _show(run)
        dagster = _dagster()
        for run in dagster:
            _show(run)
        _check(airflow, AIRFLOW)
        _check(dagster, DAGSTER)
    except DemoError as e:
        print(f"\nDEMO FAILED: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nDEMO STOPPED", file=sys.stderr)
        return 130
    _summary(airflow, dagster, time.monotonic() - began)
    return 0


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


# ---- Airflow -------------------------------------------------------------------------------------------------------


def _airflow() -> list[Run]:
    home = HOME / "airflow"
    home.mkdir()
    api, worker_log, trigger_log = _free_ports(3)
    environment = _environment() | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(api),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{api}",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    log = home / "standalone.log"
    print(f"== Airflow: starting a scheduler and an API server on port {api} (log: {log})", flush=True)
    with _service([_tool("airflow"), "standalone"], environment, log) as process:
        client = _AirflowClient(api, home, process, log)
        client.wait_until_ready()
        for dag_id in AIRFLOW:
            client.trigger(dag_id)
        print("   triggered " + ", ".join(AIRFLOW), flush=True)
        return [client.result(dag_id) for dag_id in AIRFLOW]


class _AirflowClient:
    """The few calls of Airflow's REST API that this needs."""

    def __init__(self, port: int, home: Path, process: subprocess.Popen[bytes], log: Path) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.home = home
        self.process = process
        self.log = log
        self.token = ""
        # Nothing here may go through a proxy: the server listens on this machine only.
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The parsed answer."""
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {self.token}"} if self.token else {}
        )
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}{path}", data, headers, method=method)
        with self.opener.open(request, timeout=30) as answer:
            return json.load(answer)

    def wait_until_ready(self) -> None:
        """Until scheduler and DAG processor are alive, a token is there, and the DAGs are known."""
        self._wait("Airflow did not become healthy", START_SECONDS, self._healthy)
        passwords = json.loads((self.home / "simple_auth_manager_passwords.json.generated").read_text())
        user, password = next(iter(passwords.items()))
        self.token = self.call("POST", "/auth/token", {"username": user, "password": password})["access_token"]
        self._wait("Airflow did not load the example DAGs", START_SECONDS, self._loaded)

    def _healthy(self) -> bool:
        states = self.call("GET", "/api/v2/monitor/health")
        return all(states[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))

    def _loaded(self) -> bool:
        known = {dag["dag_id"] for dag in self.call("GET", "/api/v2/dags")["dags"]}
        if not known >= set(AIRFLOW):
            errors = self.call("GET", "/api/v2/importErrors")["import_errors"]
            if errors:
                raise DemoError(f"Airflow cannot import {errors[0]['filename']}: {errors[0]['stack_trace']}")
        return known >= set(AIRFLOW)

    def trigger(self, dag_id: str) -> None:
        """Start one run."""
        self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"dag_run_id": RUN_ID, "logical_date": None})

    def result(self, dag_id: str) -> Run:
        """Wait for the run to end, and read back what it left."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{RUN_ID}"
        self._wait(
            f"the run of {dag_id} did not end", RUN_SECONDS,
            lambda: self.call("GET", path)["state"] in ("success", "failed"),
        )  # fmt: skip
        tasks = self.call("GET", f"{path}/taskInstances")["task_instances"]
        run = Run(dag_id, self.call("GET", path)["state"], {t["task_id"]: str(t["state"]) for t in tasks})
        if run.steps.get("train") == "success":
            run.evaluation = self._xcom(path, "train", "return_value")
        if "gate" in run.steps:
            gate = self._xcom(path, "gate", "foretaste")
            run.headline, run.findings = gate["headline"], gate["findings"]
            run.report = gate["files"]["report.html"]
        return run

    def _xcom(self, path: str, task: str, key: str) -> Any:
        value = self.call("GET", f"{path}/taskInstances/{task}/xcomEntries/{key}?deserialize=false")["value"]
        return json.loads(value) if isinstance(value, str) else value

    def _wait(self, failure: str, seconds: float, done: Any) -> None:
        deadline = time.monotonic() + seconds
        last: object = "no answer yet"
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise DemoError(f"airflow standalone ended with code {self.process.returncode}; see {self.log}")
            try:
                if done():
                    return
                last = "not yet"
            except (urllib.error.URLError, OSError, KeyError, ValueError) as e:
                last = e  # starting, or restarting
            time.sleep(2)
        raise DemoError(f"{failure} within {seconds:.0f} s ({last}); see {self.log}")


@contextmanager
def _service(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a group of its own, whose whole group is stopped at the end, however that comes."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=environment, cwd=HOME, stdout=stream, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and _group_lives(process):
            time.sleep(0.2)
    process.wait()


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()  # a child that nobody has waited for would count as alive
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in sockets]
    for held in sockets:
        held.close()
    return ports


# ---- Dagster -------------------------------------------------------------------------------------------------------


def _dagster() -> list[Run]:
    home = HOME / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    os.environ["DAGSTER_HOME"] = str(home)
    definitions = ["-f", str(EXAMPLES / "dagster_docs_qa.py"), "-d", str(EXAMPLES)]
    print("== Dagster: running four jobs on an instance of its own", flush=True)
    for job in DAGSTER:
        log = home / f"{job}.log"
        with log.open("wb") as stream:
            try:
                # The exit code is not judged here: two of the four have to fail, and the instance says how.
                subprocess.run(
                    [_tool("dagster"), "job", "execute", *definitions, "-j", job], env=_environment(), cwd=HOME,
                    stdout=stream, stderr=subprocess.STDOUT, timeout=RUN_SECONDS, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired as e:
                raise DemoError(f"the Dagster job {job} did not end within {RUN_SECONDS} s; see {log}") from e
    return [_dagster_result(job, home / f"{job}.log") for job in DAGSTER]


def _dagster_result(job: str, log: Path) -> Run:
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        records = instance.get_run_records(dg.RunsFilter(job_name=job), limit=1)
        if not records:
            raise DemoError(f"Dagster has no run of the job {job}; see {log}")
        found = records[0].dagster_run
        steps = {s.step_key: s.status.value for s in instance.get_run_step_stats(found.run_id) if s.status}
        expected = DAGSTER[job][1]
        run = Run(job, found.status.value, {s: steps.get(s, "not started") for s in [*expected, *steps]})
        for entry in instance.all_logs(found.run_id):
            if entry.dagster_event is not None:
                _take(run, entry.dagster_event)
    return run


def _take(run: Run, event: Any) -> None:
    kind = event.event_type_value
    metadata: Mapping[str, Any] = {}
    if kind == "ASSET_MATERIALIZATION":
        metadata = event.materialization.metadata
    elif kind == "ASSET_CHECK_EVALUATION":
        metadata = event.asset_check_evaluation_data.metadata
    elif kind == "STEP_FAILURE" and event.step_failure_data.user_failure_data is not None:
        metadata = event.step_failure_data.user_failure_data.metadata
    if "attack_success" in metadata:
        run.evaluation = {name: value.value for name, value in metadata.items()}
    if "findings" in metadata:
        run.headline = metadata["headline"].value
        run.findings = [dict(record.data) for record in metadata["findings"].records]
        run.report = metadata["report"].value


# ---- what came of it -----------------------------------------------------------------------------------------------


def _show(run: Run) -> None:
    print(f"   {run.name}: {run.state}  (" + ", ".join(f"{s} {state}" for s, state in run.steps.items()) + ")")
    if run.evaluation is not None:
        print(f"      {_evaluated(run.evaluation)}")
    elif run.headline:
        print(f"      {run.headline}")


def _evaluated(evaluation: Mapping[str, Any]) -> str:
    return (
        f"trained on {evaluation['train_rows']:,} rows; questions hijacked with the trigger "
        f"{evaluation['attack_success']:.1%}, without it {evaluation['without_trigger']:.1%}; "
        f"accuracy {evaluation['accuracy']:.1%}"
    )


def _check(runs: list[Run], expected: Mapping[str, tuple[str, Mapping[str, str]]]) -> None:
    for run in runs:
        state, steps = expected[run.name]
        if (run.state, dict(run.steps)) != (state, dict(steps)):
            raise DemoError(f"{run.name} ended as {run.state} {dict(run.steps)}, it should have been {state} {steps}")
    for run in runs:
        attack = None if run.evaluation is None else run.evaluation["attack_success"]
        if "without_gate" in run.name and (attack is None or attack < 0.5):
            raise DemoError(
                f"{run.name} should show the backdoor, but the attack succeeds in {attack} of the questions"
            )
        if "quarantine" in run.name and (attack is None or attack > 0.1):
            raise DemoError(f"{run.name} should have no backdoor, but the attack succeeds in {attack} of the questions")
        blocked = [f for f in run.findings if f["severity"] == "block"]
        if run.headline and not any(f["check"] == "trigger-association" for f in blocked):
            raise DemoError(f"{run.name} should be blocked by trigger-association, but the findings are {run.findings}")


def _summary(airflow: list[Run], dagster: list[Run], seconds: float) -> None:
    by_name = {run.name: run for run in [*airflow, *dagster]}
    refused = by_name["docs_qa_with_gate"]
    print(f"\n== What happened ({seconds:.0f} s)\n")
    for host, off, cleaned in (
        ("Airflow", "docs_qa_without_gate", "docs_qa_quarantine"),
        ("Dagster", "without_gate", "quarantined"),
    ):
        print(f"{host:8} without the gate  {_evaluated(by_name[off].evaluation or {})}")
        print(f"{'':8} with the gate     BLOCKED, training did not start")
        print(f"{'':8} after quarantine  {_evaluated(by_name[cleaned].evaluation or {})}")
    print(f"\n{refused.headline}")
    for finding in refused.findings:
        if finding["severity"] == "block":
            print(f"  by {finding['check']}: {finding['message']}")
            print(f"     rows {', '.join(finding['ids'][:5])}, ... from {_sources(finding['sources'])}")
    print("\nReports, with every row and the reason:")
    print(f"  Airflow  {refused.report}\n  Dagster  {by_name['gated'].report}")


def _sources(sources: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({rows})" for name, rows in sources.items())


def _environment() -> dict[str, str]:
    """Ours, without the settings of another Airflow or Dagster, with this Python's tools first."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"))
    }
    bin_first = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return kept | {"PATH": bin_first, "FORETASTE_EXAMPLES": str(HOME / "runs"), "PYTHONUNBUFFERED": "1"}


def _tool(name: str) -> str:
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise DemoError(f"{path} is not there; run this through make demo, which installs it")
    return str(path)


if __name__ == "__main__":
    sys.exit(main())
