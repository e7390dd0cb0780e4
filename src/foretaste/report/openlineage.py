"""OpenLineage events: what a scan said of a data set, and how data were made, for a collector such as Marquez.

Needs the extra ``openlineage``. Where events go is the client's own configuration: ``OPENLINEAGE_URL``,
``OPENLINEAGE_API_KEY``, ``openlineage.yml``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid5

from foretaste.errors import InputError
from foretaste.provenance.statement import from_timestamp
from foretaste.report.wording import caveats
from foretaste.results import CheckResult, Outcome, Report, Severity

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

    from foretaste.provenance.chain import Chain, Link

PRODUCER = "https://github.com/foretaste/foretaste"
NAMESPACE = "foretaste"
NOTES_SCHEMA = f"{PRODUCER}/blob/main/docs/schema/openlineage-notes-facet.json#/$defs/ForetasteNotesInputDatasetFacet"
# Names runs and not secrets: the same report or link always has the same run, so sending it twice changes nothing.
_RUNS = UUID("6f0b5a0e-8a1c-5d0f-9a55-b9c6a2a3f7d1")


def report_events(report: Report, *, namespace: str = NAMESPACE, job: str = "scan") -> tuple[RunEvent, ...]:
    """One event for a scan: COMPLETE, or FAIL for the verdict error.

    The data set carries the facets ``dataQualityAssertions`` (an assertion per check that ran without a finding, and
    one per finding: the count in ``actual``, the limit in ``expected``), ``dataQualityMetrics`` (rows and bytes) and
    ``foretaste_notes`` (what was not looked at, and how far the rest reaches), and its digest as version. Names of
    columns are sent, and no text of the data: of a check that could not run, not the reason.

    Raises:
        InputError: if the client library is not there.
    """
    ol = _library()
    assertions = [a for result in report.results for a in _assertions(ol, result)]
    place, name = _place(report.data.name)
    data = ol.event_v2.InputDataset(
        namespace=place,
        name=name,
        facets={"version": ol.facets.datasource_version(report.data.digest)},
        inputFacets={
            "dataQualityAssertions": ol.facets.assertions(assertions),
            "dataQualityMetrics": ol.facets.metrics(report.data.rows, report.data.bytes),
            "foretaste_notes": ol.facets.notes(_notes(report)),
        },
    )
    state = ol.event_v2.RunState.FAIL if report.verdict is Outcome.ERROR else ol.event_v2.RunState.COMPLETE
    run = uuid5(_RUNS, f"{report.data.digest} {report.policy_digest} {report.started}")
    return (_event(ol, state, report.started, run, namespace, job, [data], []),)


def chain_events(chain: Chain, *, namespace: str = NAMESPACE) -> tuple[RunEvent, ...]:
    """One COMPLETE event per link of a chain of custody, oldest first: what it read, what it made, digests as versions.

    Raises:
        InputError: if the client library is not there.
    """
    return tuple(_link_event(_library(), link, namespace) for link in chain.links)


def to_json_lines(events: Iterable[RunEvent]) -> str:
    """Events as a collector takes them, one JSON object per line."""
    from openlineage.client.serde import Serde

    return "".join(f"{Serde.to_json(event)}\n" for event in events)


def emit(events: Iterable[RunEvent], url: str | None = None) -> int:
    """Send events to a collector.

    Args:
        events: from :func:`report_events` or :func:`chain_events`.
        url: of the collector; the client's own configuration where ``None``.

    Returns:
        number of events that the collector took.

    Raises:
        InputError: if no collector is configured, or it does not take an event.
    """
    ol = _library()
    try:
        client = ol.client(url)
    except (ValueError, TypeError, KeyError, OSError) as e:
        raise InputError(
            f"no collector there: {e}; give --url or OPENLINEAGE_URL an address with http:// or https://"
        ) from e
    count = 0
    for event in events:
        try:
            client.emit(event)
        except Exception as e:  # whatever the transport raises, the event did not arrive
            raise InputError(
                f"the collector did not take event {count + 1}: {type(e).__name__}: {e}; check --url or OPENLINEAGE_URL"
            ) from e
        count += 1
    return count


def _assertions(ol: _Library, result: CheckResult) -> Iterable[Any]:
    if result.outcome is Outcome.SKIPPED:
        return
    if not result.findings:
        failed = result.outcome is Outcome.ERROR
        yield ol.assertion(
            assertion=result.check, name=result.check, success=result.outcome is Outcome.PASS,
            severity="error" if failed else None, actual=None if failed else "0",
            description="the check could not run" if failed else None,
        )  # fmt: skip
    for finding in result.findings:
        yield ol.assertion(
            assertion=result.check, name=f"{result.check}: {finding.fingerprint}", success=finding.waived,
            severity="error" if finding.severity is Severity.BLOCK else "warn",
            expected=f"below {finding.limit:g}", actual=f"{finding.observed:g}",
            description=f"{finding.kind}, {len(finding.rows)} rows" + (", waived" if finding.waived else ""),
        )  # fmt: skip


def _notes(report: Report) -> list[dict[str, str]]:
    """What every other format says beside the findings; an error's reason may quote the data, so it stays here."""
    return [
        {"kind": c.word, "text": "the check could not run" if c.word == "error" else c.text}
        | ({"check": c.check} if c.check else {})
        for c in caveats(report)
    ]


def _link_event(ol: _Library, link: Link, namespace: str) -> RunEvent:
    inputs = [
        ol.event_v2.InputDataset(*_place(p.name), facets=_version(ol, p.digest)) for p in link.parents
    ]  # fmt: skip
    outputs = [
        ol.event_v2.OutputDataset(*_place(name), facets=_version(ol, digest))
        for name, digest in link.statement.subjects
    ]
    when = from_timestamp(link.statement.text("runDetails", "metadata", "finishedOn"), "finishedOn").isoformat()
    state = ol.event_v2.RunState.COMPLETE
    return _event(ol, state, when, uuid5(_RUNS, link.digest), namespace, link.kind, inputs, outputs)


def _version(ol: _Library, digest: str | None) -> dict[str, Any]:
    return {} if digest is None else {"version": ol.facets.datasource_version(digest)}


def _event(
    ol: _Library,
    state: Any,
    when: str,
    run: UUID,
    namespace: str,
    job: str,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
) -> RunEvent:
    event: RunEvent = ol.event_v2.RunEvent(
        eventType=state,
        eventTime=datetime.fromisoformat(when).isoformat(),
        run=ol.event_v2.Run(runId=str(run)),
        job=ol.event_v2.Job(namespace=namespace, name=job),
        producer=PRODUCER,
        inputs=list(inputs),
        outputs=list(outputs),
    )
    return event


def _place(name: str) -> tuple[str, str]:
    """Namespace and name of a data set, as OpenLineage's naming has them: ``s3://bucket`` and key, ``file`` and path."""
    try:
        address = urlsplit(name)
    except ValueError:  # such as a bracket without its pair: a name like any other
        return "file", name
    if "://" in name and address.scheme != "file":
        return f"{address.scheme}://{address.netloc}", address.path.lstrip("/") or "/"
    return "file", str(Path(address.path if "://" in name else name).absolute())


class _Library:
    """The client library, imported when it is needed."""

    def __init__(self) -> None:
        try:
            from openlineage.client import event_v2, facet_v2
        except ImportError as e:
            raise InputError(f'{e}; OpenLineage events need more: pip install "foretaste[openlineage]"') from e
        self.event_v2 = event_v2
        self.assertion = facet_v2.data_quality_assertions_dataset.Assertion
        self.facets = _Facets(facet_v2)

    def client(self, url: str | None) -> Any:
        from openlineage.client import OpenLineageClient
        from openlineage.client.transport.http import HttpConfig, HttpTransport

        if url is not None:
            return OpenLineageClient(transport=HttpTransport(HttpConfig(url=url, retry={"total": 2})))
        client = OpenLineageClient()
        # Without a configuration the client prints events, which nobody collects.
        if client.transport.kind == "console":
            raise InputError("no collector is configured; set OPENLINEAGE_URL or name one with --url")
        return client


class _Facets:
    def __init__(self, facet_v2: Any) -> None:
        self._facet_v2 = facet_v2

    def assertions(self, assertions: Sequence[Any]) -> Any:
        module = self._facet_v2.data_quality_assertions_dataset
        return module.DataQualityAssertionsDatasetFacet(assertions=list(assertions), producer=PRODUCER)

    def metrics(self, rows: int, size: int) -> Any:
        module = self._facet_v2.data_quality_metrics_input_dataset
        return module.DataQualityMetricsInputDatasetFacet(
            rowCount=rows, bytes=size, columnMetrics={}, producer=PRODUCER
        )

    def notes(self, notes: Sequence[dict[str, str]]) -> Any:
        from openlineage.client.generated.base import InputDatasetFacet

        facet = InputDatasetFacet(producer=PRODUCER).with_additional_properties(notes=list(notes))
        facet._schemaURL = NOTES_SCHEMA
        return facet

    def datasource_version(self, digest: str) -> Any:
        module = self._facet_v2.dataset_version_dataset
        return module.DatasetVersionDatasetFacet(datasetVersion=digest, producer=PRODUCER)


def _library() -> _Library:
    return _Library()
