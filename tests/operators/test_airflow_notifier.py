"""What a notification says, and that nothing of the data acts in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow")

from jinja2 import Environment

from foretaste.operators.airflow_notifier import PoisonNotifier, inert, notification

FINDING = {
    "check": "trigger-association", "waived": False, "severity": "block", "message": "a phrase decides the label",
    "feature": "cf zulu", "target": "billing", "rows": 60, "ids": ["r1", "r2", "r3", "r4"],
    "sources": {"vendor-b": 58, "vendor-a": 2},
}  # fmt: skip
SUMMARY = {
    "proceed": False, "headline": "BLOCK: 60 rows to block, 0 to review, of 4,788", "findings": [FINDING],
    "data": {"path": "/data/train.parquet"}, "report_url": "https://airflow.example/foretaste/run?dag_id=d",
}  # fmt: skip


def context(found: Any) -> Any:
    ti = SimpleNamespace(
        dag_id="d", task_id="gate", run_id="r", map_index=-1, try_number=1, xcom_pull=lambda **_: found
    )
    return {"ti": ti}


def test_the_text_names_trigger_rows_source_and_report() -> None:
    text = notification(context(SUMMARY))
    for part in (
        "60 rows",
        "“cf zulu” → billing",
        "vendor-b (58 rows), vendor-a (2 rows)",
        "r1, r2, r3",
        "/run?dag_id=d",
    ):
        assert part in text
    assert "r4" not in text


def test_a_gate_that_left_nothing_is_not_a_pass() -> None:
    assert notification(context(None)).startswith("The gate left no result, so nothing was checked")


def test_waived_findings_are_left_out_and_a_quarantine_is_no_refusal() -> None:
    text = notification(context(SUMMARY | {"proceed": True, "findings": [FINDING | {"waived": True}]}))
    assert "let the data through" in text
    assert "cf zulu" not in text


@pytest.mark.parametrize(
    "hostile", ["{{ conn.x.password }}", "{% raw %}", "{# x", "<!channel>", "@everyone", "http://e.v", "`a`"]
)
def test_nothing_of_the_data_acts_in_a_template_or_a_chat(hostile: str) -> None:
    finding = FINDING | {
        "feature": hostile,
        "message": hostile,
        "ids": [hostile],
        "sources": {hostile: 1},
        "target": hostile,
    }
    text = notification(context(SUMMARY | {"findings": [finding], "data": {"path": hostile}}))
    assert hostile not in text
    assert Environment().from_string(text).render() == text
    assert not set(inert(hostile)) & set("{}<>@&`")


def test_the_text_goes_to_the_notifier_that_send_makes() -> None:
    sent: list[str] = []
    told: list[Any] = []

    class Other(PoisonNotifier):
        def notify(self, context: Any) -> None:
            told.append(context)

    def send(text: str) -> Other:
        sent.append(text)
        return Other()

    given = context(SUMMARY)
    PoisonNotifier(send).notify(given)
    assert "cf zulu" in sent[0]
    assert told[0]["ti"] is given["ti"]
