"""Run every DAG of a folder with ``dag.test()`` and write down what Airflow's database says of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: str, out: str) -> None:
    """Run in a process of its own: Airflow reads its configuration once, at import."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.models.asset import AssetEvent
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    runs: dict[str, Any] = {}
    bag = DagBag(folder)
    assert not bag.import_errors, bag.import_errors
    for dag_id, dag in sorted(bag.dags.items()):
        run = dag.test()
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
            }
    Path(out).write_text(json.dumps(runs, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
