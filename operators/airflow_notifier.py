"""A notification that names the finding: trigger, rows, source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from foretaste.operators import _gate
from foretaste.operators.airflow import XCOM_KEY

if TYPE_CHECKING:
    from airflow.sdk import Context

MAX_FINDINGS = 5
MAX_IDS = 3
# What a template, a chat or a mail client would act on; the text is full of what an attacker wrote.
_INERT = str.maketrans({"{": "❴", "}": "❵", "<": "‹", ">": "›", "&": "＆", "@": "＠", "`": "'"})


class PoisonNotifier(BaseNotifier):
    """Says what a gate found, for ``on_failure_callback`` of the gate.

    Args:
        send: takes the text. What it returns may be another notifier, which is then called with the task's context:
            ``PoisonNotifier(lambda text: SlackWebhookNotifier(slack_webhook_conn_id="chat", text=text))``. The task's log
            gets the text where ``None``.
        gate: task id of the gate, for the callback of another task of its run.
    """

    template_fields = ()

    def __init__(self, send: Callable[[str], Any] | None = None, *, gate: str | None = None) -> None:
        super().__init__()
        self.send = send
        self.gate = gate

    def notify(self, context: Context) -> None:
        """Make the text and send it."""
        text = notification(context, self.gate)
        if self.send is None:
            self.log.error("%s", text)
            return
        sent = self.send(text)
        if isinstance(sent, BaseNotifier):
            sent(context)


def notification(context: Context, gate: str | None = None) -> str:
    """Several lines about the gate of a context: verdict, findings with trigger, rows and sources, and the report.

    Nothing from the data acts in a template, in a chat or in a mail: braces, angle brackets, mentions and links are
    replaced by characters that look alike.
    """
    ti: Any = context["ti"]
    task_id = gate or ti.task_id
    # A callback that Airflow runs for a task that died elsewhere has no access to XCom.
    pull = getattr(ti, "xcom_pull", None)
    which = {"task_ids": ti.task_id, "map_indexes": ti.map_index} if gate is None else {"task_ids": [gate]}
    found = pull(**which, key=XCOM_KEY) if pull else None
    place = f"DAG {inert(ti.dag_id)}, task {inert(task_id)}, run {inert(ti.run_id)}, try {ti.try_number}"
    summaries = [s for s in (found if isinstance(found, list) else [found]) if isinstance(s, Mapping)]
    if not summaries:
        error = context.get("exception")
        return f"The gate left no result, so nothing was checked: {inert(str(error or 'see the log'))}\n{place}."
    return "\n".join([line for s in summaries for line in _lines(s)] + [f"{place}."])


def inert(text: str) -> str:
    """Text on one line in which no template, mention, markup or link acts."""
    return _gate.printable(text.translate(_INERT).replace("://", ":⁄⁄"), 300)


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    held = "held the data back" if summary.get("proceed") is not True else "let the data through"
    yield f"foretaste {held}. {inert(str(summary.get('headline')))}"
    data = summary.get("data")
    if isinstance(data, Mapping):
        yield f"Data: {inert(str(data.get('path')))}"
    findings = [f for f in summary.get("findings") or [] if not f["waived"]]
    for number, finding in enumerate(findings[:MAX_FINDINGS], 1):
        yield f"{number}. {finding['check']} ({finding['severity']}), {finding['rows']:,} rows: {_finding(finding)}"
    more = len(findings) - MAX_FINDINGS
    if more > 0:
        yield f"and {more} more findings"
    for problem in (summary.get("problems") or [])[:MAX_FINDINGS]:
        yield f"- {inert(problem)}"
    if summary.get("report_url"):
        yield f"Report: {summary['report_url']}"


def _finding(finding: Mapping[str, Any]) -> str:
    said = [inert(finding["message"])]
    if finding["feature"]:
        said.append(
            f"trigger “{inert(finding['feature'])}”" + (f" → {inert(finding['target'])}" if finding["target"] else "")
        )
    if finding["sources"]:
        most = sorted(finding["sources"].items(), key=lambda item: -item[1])[:MAX_IDS]
        said.append("from " + ", ".join(f"{inert(name) or '(no source)'} ({rows:,} rows)" for name, rows in most))
    if finding["ids"]:
        said.append("first ids " + ", ".join(inert(i) for i in finding["ids"][:MAX_IDS]))
    return "; ".join(said)
