"""Make Airflow's database, run every DAG of a folder with ``dag.test()`` and write down what the database says of it."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
import time
import traceback
from datetime import datetime
from pathlib import Path
from typing import Any

# Of one DAG; ``dag.test()`` waits without an end for an answer that does not come.
DAG_SECONDS = 300
# A task that is parked: in Airflow 3.3 and later, and before.
PARKED = ("awaiting_input", "deferred")


def main(folder: str, out: str, day: str | None = None) -> None:
    """Run in a process of its own: Airflow reads its configuration once, at import."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.models.asset import AssetEvent
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.xcom import XComModel
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session
    from sqlalchemy import select

    initdb()
    runs: dict[str, Any] = {}
    bag = DagBag(folder)
    assert not bag.import_errors, bag.import_errors
    asked: dict[str, Any] = {}
    if any("Approval" in task.task_type for dag in bag.dags.values() for task in dag.tasks):
        threading.Thread(target=_answer_or_end, args=(asked,), daemon=True).start()
    for dag_id, dag in sorted(bag.dags.items()):
        print(f"run_airflow: {dag_id}", flush=True)
        faulthandler.dump_traceback_later(DAG_SECONDS, exit=True)
        run = dag.test(logical_date=datetime.fromisoformat(f"{day}T00:00:00+00:00") if day else None)
        with create_session() as session:
            tasks = {
                ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}": {
                    "state": str(ti.state),
                    "try_number": ti.try_number,
                    "rendered": RenderedTaskInstanceFields.get_templated_fields(ti, session=session),
                }
                for ti in run.get_task_instances(session=session)
            }
            for row in session.scalars(
                select(XComModel).where(XComModel.dag_id == dag_id, XComModel.run_id == run.run_id)
            ):
                name = row.task_id if row.map_index < 0 else f"{row.task_id}_{row.map_index}"
                tasks[name].setdefault("xcom", {})[row.key] = XComModel.deserialize_value(row)
            events = session.scalars(select(AssetEvent).where(AssetEvent.source_dag_id == dag_id)).all()
            runs[dag_id] = {
                "state": str(run.state),
                "tasks": tasks,
                "assets": {e.asset.name: e.extra for e in events},
                "asked": asked.get(dag_id),
            }
    faulthandler.cancel_dump_traceback_later()
    Path(out).write_text(json.dumps(runs, default=str))


def _answer_or_end(asked: dict[str, Any]) -> None:
    """A person who is gone must not keep the DAGs waiting: the process ends with the reason."""
    try:
        _answer(asked)
    except BaseException:  # noqa: BLE001 - whatever it is
        traceback.print_exc()
        print("run_airflow: nobody answers any more", file=sys.stderr, flush=True)
        os._exit(3)


def _answer(asked: dict[str, Any]) -> None:
    """Answer every required action through Airflow's own REST API, as a signed-in user, until the process ends.

    A DAG whose name ends with ``rejected`` is rejected, one with ``silent`` approved without a reason, and one with
    ``late`` not answered; of a mapped task, index 1 is rejected. Time-outs are swept as the scheduler does.
    """
    import logging
    from types import SimpleNamespace

    from airflow.api_fastapi.app import create_app
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from fastapi.testclient import TestClient

    app = create_app(apps="core")
    token = app.state.auth_manager.generate_jwt(SimpleAuthManagerUser(username="ann", role="admin"))
    client = TestClient(app, headers={"Authorization": f"Bearer {token}"})
    scheduler: Any = SimpleNamespace(log=logging.getLogger(__name__))
    parked: set[str] = set()
    while True:
        try:
            SchedulerJobRunner.check_awaiting_input_timeouts(scheduler)
            found = client.get("/api/v2/dags/~/dagRuns/~/hitlDetails", params={"response_received": False})
        except RuntimeError as e:
            if "Session must be set" not in str(e):
                raise
            time.sleep(0.3)  # between two runs Airflow lets go of its database for a moment
            continue
        for one in found.raise_for_status().json()["hitl_details"]:
            ti = one["task_instance"]
            place = (
                f"/api/v2/dags/{ti['dag_id']}/dagRuns/{ti['dag_run_id']}/taskInstances/{ti['task_id']}"
                f"/{ti['map_index']}/hitlDetails"
            )
            # SQLite locks no row, so an answer that meets the parking of its task would be lost, and the task wait for ever:
            # only one that was parked when it was looked at before is answered.
            if ti["dag_id"].endswith("late") or ti["state"] not in PARKED:
                continue
            if place not in parked:
                parked.add(place)
                continue
            asked[ti["dag_id"]] = {"subject": one["subject"], "body": one["body"], "options": one["options"]}
            reason = "" if ti["dag_id"].endswith("silent") else "the vendor's watermark"
            answer = {
                "chosen_options": [
                    "Reject" if ti["dag_id"].endswith("rejected") or ti["map_index"] == 1 else "Approve"
                ],
                "params_input": {"reason": reason, "status": "not_affected"},
            }
            swapped = Path(os.environ.get("GATE_TEST_HOME", "")) / f"{ti['dag_id']}.parquet"
            if swapped.exists():  # somebody changes the file while the question is open
                swapped.write_bytes(b"swapped")
            client.patch(place, json=answer).raise_for_status()
        time.sleep(0.3)


if __name__ == "__main__":
    main(*sys.argv[1:])
