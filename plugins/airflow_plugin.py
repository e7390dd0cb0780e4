"""What Airflow's plugin manager reads; light, because every Airflow process loads it.

Airflow finds it by the entry point ``airflow.plugins`` of the installed package, or as a file in
``$AIRFLOW_HOME/plugins`` on an API server without the package. Where both are there, the file leaves it to the package.
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

PREFIX = "/foretaste"
# Airflow may live below a path of its host.
_PLACE = urlsplit(conf.get("api", "base_url", fallback="/")).path.rstrip("/") + PREFIX

if __package__ or not any(e.value.startswith("foretaste.plugins.") for e in entry_points(group="airflow.plugins")):

    class ForetastePlugin(AirflowPlugin):
        """A page of all gate runs, and a tab with the report on each task instance."""

        name = "foretaste"

        external_views = [  # noqa: RUF012 - Airflow takes entries out of the list
            {
                "name": "foretaste",
                "href": f"{_PLACE}/",
                "url_route": "foretaste",
                "destination": "nav",
                "category": "browse",
            },
            {
                "name": "Poison report",
                "href": f"{_PLACE}/report?dag_id={{DAG_ID}}&run_id={{RUN_ID}}&task_id={{TASK_ID}}&map_index={{MAP_INDEX}}",
                "url_route": "poison_report",
                "destination": "task_instance",
            },
        ]

        @cached_property
        def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
            """The page's application; only an API server asks for it."""
            page = import_module("foretaste.plugins.airflow_page" if __package__ else "airflow_page")
            return [{"app": page.application(), "url_prefix": PREFIX, "name": "foretaste"}]
