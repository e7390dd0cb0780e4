"""An auth manager that knows people who may not read everything, as Airflow's simple one does not."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class PerDag(SimpleAuthManager):
    """``bob`` may read the DAG ``clean`` alone; ``eve`` may read every DAG, and no XCom."""

    def is_authorized_dag(self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None) -> bool:
        if user.username == "bob" and (details is None or details.id != "clean"):
            return False
        if user.username == "eve" and access_entity is DagAccessEntity.XCOM:
            return False
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
