"""Airflow 3.1 and later: a person approves what a gate refused, through Airflow's own required actions.

In a module of its own, as it needs the human-in-the-loop operators of ``apache-airflow-providers-standard``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from foretaste.errors import ForetasteError, InputError
from foretaste.operators import _gate
from foretaste.operators.airflow import (
    XCOM_KEY,
    PoisonReportLink,
    gate_results,
    named,
    open_address,
    refuse_changed,
    refuse_what_came_to_nothing,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from foretaste.results import Report
    from foretaste.waivers import Waivers

APPROVE, REJECT = "Approve", "Reject"


class PoisonApprovalOperator(HITLOperator):
    """Ask a person about data that a gate refused; what trains comes after this task, not after the gate.

    The task shows the findings under "required actions". Approving writes a waiver for each finding, bound to these
    very data, in the name of the person who answered; with ``key`` it is signed. The task then ends well and stands
    for the gate: ``require_gate("approval")`` in the training task accepts it, and compares the data once more. Rejecting
    fails the task, so that training stays ``upstream_failed``. The gate itself stays red: the incident is not hidden.

    Data that the gate let through need no answer. An error of the gate, a finding that is not waivable and data that
    have changed since the scan cannot be approved. An answer by timeout counts as none.

    Several data sets: put gate, approval and training into one mapped task group; each map index is asked about for itself,
    so give the gate an ``out`` of its own, as in ``"/gates/{{ run_id }}/{{ ti.map_index }}"``. Mapping the approval alone
    (``.partial(...).expand(...)``) is refused when the DAG file is parsed.

    Args:
        gate: task id of the gate, with its task groups; hang it before this task.
        ask_on: ``block``, or ``review`` to ask about a review verdict that the gate let through, too.
        valid_days: days for which the waivers hold.
        key: private key that signs the waivers: a PEM file on the worker, or an address of a key service (templated).
        trust: trust file; waivers whose signature it does not know are refused (templated).
        waivers: address of the waiver file that is written, beside the report where ``None`` (templated).
        out_conn_id: Airflow connection that opens the gate's ``out``, where it needs one.
        subject: headline for the person (templated).
        kwargs: of Airflow's ``HITLOperator``, such as ``assigned_users``, ``notifiers`` and ``response_timeout``.

    Raises:
        ValueError: in a DAG file that gives ``options``, ``defaults`` or ``body``, or maps the approval alone.
        AirflowFailException: if the data stay refused.
    """

    template_fields: Sequence[str] = (*HITLOperator.template_fields, "gate", "key", "trust", "waivers")
    operator_extra_links = (PoisonReportLink(),)
    ui_color = "#f4e3d7"
    _ours: ClassVar[tuple[str, ...]] = ("options", "defaults", "multiple", "body", "params")

    def __init__(
        self,
        *,
        gate: str,
        ask_on: Literal["block", "review"] = "block",
        valid_days: int = 30,
        key: str | None = None,
        trust: str | None = None,
        waivers: str | None = None,
        out_conn_id: str | None = None,
        subject: str = "Poison findings: may training start?",
        **kwargs: Any,
    ) -> None:
        for name in self._ours:
            if name in kwargs:
                raise ValueError(f"{name} of a PoisonApprovalOperator is not for the DAG file to say; leave it out")
        reason = Param("", type=["null", "string"], description="Why, for those who read the report later")
        status = Param(
            "not_affected",
            type="string",
            enum=["not_affected", "affected"],
            description="not_affected: no poison, or none that matters. affected: poison, and the risk is taken",
        )
        kwargs.setdefault("trigger_rule", "all_done")
        super().__init__(
            subject=subject, options=[APPROVE, REJECT], params={"reason": reason, "status": status}, **kwargs
        )
        self.gate = gate
        self.ask_on = ask_on
        self.valid_days = valid_days
        self.key = key
        self.trust = trust
        self.waivers = waivers
        self.out_conn_id = out_conn_id
        self._named = named(self, "key", "trust", "waivers")

    @classmethod
    def partial(cls, **kwargs: Any) -> NoReturn:
        """Refuse: an approval that is mapped by itself has no gate of the same index."""
        raise ValueError(
            "a PoisonApprovalOperator is not mapped by itself, as nobody could tell which gate it answers for; put gate and "
            "approval into one task group and map that: group.expand(path=[...])"
        )

    def execute(self, context: Context) -> Any:
        """Let pass what the gate let pass; otherwise ask, and wait."""
        try:
            refuse_what_came_to_nothing(self, self._named)
        except InputError as e:
            raise AirflowFailException(str(e)) from e
        summary = self._summary(context)
        if self._settled(summary):
            self.log.info("nothing to approve: %s", summary["headline"])
            context["ti"].xcom_push(key=XCOM_KEY, value=dict(summary))
            return summary["path"]
        report = self._report(summary)
        stuck = [f for f in report.findings if not f.waivable and not f.waived]
        if stuck:
            raise AirflowFailException(
                f"{stuck[0].check}: {_gate.printable(stuck[0].message)}; nobody can approve that"
            )
        self.body = "\n".join(_body(summary))
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer: write and sign the waivers, or fail."""
        if event.get("error_type") == "timeout":  # Airflow's own error would be tried again, and ask again
            raise AirflowFailException("nobody answered in time; training stays blocked")
        answer = super().execute_complete(context, event)
        who = answer.get("responded_by_user")
        if not who:
            raise AirflowFailException("nobody answered in time; training stays blocked")
        name = _gate.printable(str(who["name"] or who["id"]), 100)
        said = answer["params_input"]
        reason = str(said.get("reason") or "").strip()
        if answer["chosen_options"] != [APPROVE]:
            raise AirflowFailException(f"{name} rejected the data: {_gate.printable(reason) or 'no reason given'}")
        if not reason:
            raise AirflowFailException(f"{name} approved without a reason; clear this task and answer again with one")
        summary = self._summary(context)
        scanned = summary["data"]
        refuse_changed(scanned["path"], scanned["digest"], scanned.get("conn_id"))
        try:
            waivers, address = self._waive(summary, name, reason, str(said.get("status") or "not_affected"))
        except ForetasteError as e:
            if _gate.worth_retrying(e):
                raise
            raise AirflowFailException(str(e)) from e
        approval = {
            "by": name, "reason": _gate.printable(reason, 500), "at": answer["responded_at"].isoformat(),
            "waivers": address, "findings": len(waivers.entries), "signed": self.key is not None,
        }  # fmt: skip
        approved = {
            **summary, "action": "approved", "proceed": True, "path": scanned["path"], "digest": scanned["digest"],
            "conn_id": scanned.get("conn_id"), "reason": f"approved by {name}", "approval": approval,
        }  # fmt: skip
        context["ti"].xcom_push(key=XCOM_KEY, value=approved)
        self.log.warning("approved by %s: %s; waivers: %s", name, approval["reason"], address)
        return scanned["path"]

    def _summary(self, context: Context) -> Mapping[str, Any]:
        states, found = gate_results(self.gate, context)
        if len(states) != 1 or len(found) != 1:
            raise AirflowFailException(
                f'{len(found)} results of the gate "{self.gate}" in {len(states)} task instances; there must be one '
                "of each: a gate that did not come to a result, or is mapped outside of the approval's task group, cannot "
                "be approved"
            )
        if not isinstance(found[0].get("data"), Mapping):
            raise AirflowFailException(f"{found[0].get('headline')}; what was not scanned cannot be approved")
        return found[0]

    def _settled(self, summary: Mapping[str, Any]) -> bool:
        if summary["verdict"] == "error":
            raise AirflowFailException(f"{summary['headline']}; what was not checked cannot be approved")
        return summary["proceed"] is True and not (self.ask_on == "review" and summary["verdict"] == "review")

    def _report(self, summary: Mapping[str, Any]) -> Report:
        from foretaste.errors import VerificationError
        from foretaste.provenance import canonical
        from foretaste.report import MAX_BYTES
        from foretaste.report.model import from_dict

        address = summary["files"]["report.json"]
        try:
            raw = open_address(address, self.out_conn_id).read_bytes()
            report = from_dict(canonical.decode(raw, address, MAX_BYTES))
        except (VerificationError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise AirflowFailException(f"{address} is no report: {e}; run the gate again") from e
        same = (report.data.digest, report.policy_digest, report.headline())
        if same != (summary["data"]["digest"], summary["policy_digest"], summary["headline"]):
            raise AirflowFailException(f"{address} is not the report that the gate wrote; run the gate again")
        return report

    def _waive(self, summary: Mapping[str, Any], owner: str, reason: str, status: str) -> tuple[Waivers, str]:
        """Write a waiver for each open finding, and make sure that they settle the report."""
        from foretaste.provenance.keys import TrustRoot
        from foretaste.results import Outcome
        from foretaste.waivers import Waiver, WaiverOptions, Waivers, sign, waive

        refuse_what_came_to_nothing(self, self._named)  # rendered again, after somebody answered
        report = self._report(summary)
        waivers = Waivers(trust=TrustRoot.load(self.trust) if self.trust else None)
        until = (datetime.now(UTC) + timedelta(days=self.valid_days)).date().isoformat()
        why = {"action_statement" if status == "affected" else "impact_statement": reason}
        for finding in report.findings:
            if not finding.waived:
                waiver = Waiver.of(
                    report, finding.fingerprint, statement=reason, owner=owner, expired_at=until, status=status, **why
                )
                waivers = waivers.add(waiver, sign(waiver, self.key) if self.key else None)
        settled = waive(report, waivers, WaiverOptions(signed=self.trust is not None))
        if settled.verdict is not Outcome.PASS:
            refused = "; ".join(w.reason for w in settled.waivers if w.reason) or settled.headline()
            raise InputError(f"the approval does not settle the report: {refused}")
        beside = f"{summary['files']['report.json'].rpartition('/')[0]}/waivers.yaml"
        address = self.waivers or beside
        open_address(address, self.out_conn_id).write_text(waivers.to_yaml(), encoding="utf-8")
        return waivers, address


def _body(summary: Mapping[str, Any]) -> Iterator[str]:
    """What the person reads, as Markdown. Every text from the data stands in a code span, where nothing acts."""
    yield f"**{summary['headline']}**"
    yield ""
    yield f"Data: {_code(summary['data']['path'])}, digest {_code(summary['data']['digest'])}"
    yield ""
    for finding in summary["findings"]:
        if finding["waived"]:
            continue
        said = f"- **{finding['severity']}** {finding['check']}, {finding['rows']:,} rows: {_code(finding['message'])}"
        if finding["feature"]:
            said += f", feature {_code(finding['feature'])}"
        if finding["ids"]:
            said += f", first ids {', '.join(_code(i) for i in finding['ids'][:3])}"
        yield said
    if summary["findings_total"] > len(summary["findings"]):
        yield f"- and {summary['findings_total'] - len(summary['findings']):,} more findings"
    yield ""
    yield f"Evidence: {_code(summary['report_url'])}"
    yield ""
    yield (
        "Approve: training may read exactly these bytes, and each finding above is waived in your name. "
        "Reject: training stays blocked."
    )


def _code(text: str) -> str:
    return "`" + _gate.printable(text, 300).replace("`", "'") + "`"
