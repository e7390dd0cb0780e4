"""What Airflow's provider manager reads; light, because every Airflow process loads it."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """The entry point ``apache_airflow_provider``."""
    return {
        "package-name": "foretaste",
        "name": "foretaste",
        "description": "A gate that keeps poisoned data out of training.",
        "integrations": [
            {
                "integration-name": "foretaste",
                "external-doc-url": "https://github.com/foretaste/foretaste/blob/main/docs/airflow.md",
                "tags": ["software"],
            }
        ],
        "operators": [
            {
                "integration-name": "foretaste",
                "python-modules": [
                    "foretaste.operators.airflow",
                    "foretaste.operators.airflow_approval",
                    "foretaste.operators.airflow_provenance",
                ],
            }
        ],
        "triggers": [
            {"integration-name": "foretaste", "python-modules": ["foretaste.operators.airflow_trigger"]},
        ],
        "notifications": ["foretaste.operators.airflow_notifier.PoisonNotifier"],
        "task-decorators": [
            {"name": "poison_gate", "class-name": "foretaste.operators.airflow.poison_gate_task"},
            {"name": "verified", "class-name": "foretaste.operators.airflow_provenance.verified_task"},
        ],
        "extra-links": ["foretaste.operators.airflow.PoisonReportLink"],
    }
