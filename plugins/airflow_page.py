"""The pages of the Airflow plugin: gate runs, their history, and the report of one run.

Every request is judged by Airflow's own authorisation, for each DAG. Imports Airflow and what it brings, not foretaste:
an API server may have this folder alone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlencode, urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagModel
from airflow.models.xcom import XComModel
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import HTMLResponse
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from sqlalchemy import select

XCOM_KEY = "foretaste"
MAX_READ = 2000
MAX_RUNS = 100
MAX_SETS = 12
MAX_BARS = 48
MAX_REPORT_BYTES = 64 * 2**20
# What every report starts with, so that no other file of the server is shown under its name.
_REPORT_MARK = b'<meta name="generator" content="foretaste '

# Airflow keeps the colours that the user chose in its page, not in the browser's preference.
_THEME = "try{const t=localStorage.getItem('theme');if(t)document.documentElement.dataset.theme=t}catch(e){}"
# A report is hostile until proven otherwise: an origin of its own, nothing loaded, no script but that of this package.
_REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src {script}; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


@dataclass(frozen=True, kw_only=True)
class GateRun:
    """One result that a gate pushed to XCom."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    at: datetime
    summary: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """``pass``, ``review`` or ``block``; ``error`` for everything else, for it is no pass."""
        said = self.summary.get("verdict")
        return said if said in ("pass", "review", "block") else "error"

    @property
    def dataset(self) -> str:
        """Name under which the history is kept."""
        data = self.summary.get("data")
        name = self.summary.get("dataset") or (data.get("name") if isinstance(data, Mapping) else None)
        return str(name or f"{self.dag_id}.{self.task_id}")

    @property
    def outcome(self) -> str:
        """What the gate did, in a word or two."""
        approval = self.summary.get("approval")
        if isinstance(approval, Mapping):
            return f"approved by {approval.get('by')}" if self.summary.get("proceed") is True else "not approved"
        if self.summary.get("proceed") is not True:
            return "held back"
        action = self.summary.get("action")
        return {"quarantine": "rest let through", "warn": "let through with a warning"}.get(str(action), "let through")

    def rows(self, name: str) -> int:
        """A count of the summary; 0 where it has none."""
        count = self.summary.get(name)
        return count if isinstance(count, int) else 0

    @property
    def query(self) -> str:
        """The run in an address."""
        return urlencode(
            {"dag_id": self.dag_id, "run_id": self.run_id, "task_id": self.task_id, "map_index": self.map_index}
        )


@dataclass(frozen=True)
class Bar:
    """A run in the chart of a data set; the height is a share of the tallest bar, 0 to 100."""

    run: GateRun
    x: int
    height: float


@dataclass(frozen=True)
class History:
    """Runs over one data set, the newest last."""

    dataset: str
    bars: tuple[Bar, ...]
    total: int
    refused: int

    @classmethod
    def of(cls, dataset: str, runs: list[GateRun]) -> History:
        """The history of runs, the newest first."""
        shown = runs[:MAX_BARS][::-1]
        counts = [(r.rows("block_rows") + r.rows("review_rows")) ** 0.5 for r in shown]
        most = max(counts, default=0) or 1
        bars = tuple(Bar(run, x, max(14.0, 100 * count / most)) for x, (run, count) in enumerate(zip(shown, counts)))
        return cls(dataset, bars, len(runs), sum(r.summary.get("proceed") is not True for r in runs))


def application() -> FastAPI:
    """The application that Airflow mounts."""
    app = FastAPI(title="foretaste", openapi_url=None, docs_url=None, redoc_url=None)
    app.get("/", response_class=HTMLResponse)(list_runs)
    app.get("/run", response_class=HTMLResponse)(show_run)
    app.get("/report", response_class=HTMLResponse)(show_report)
    return app


def list_runs(user: GetUserDep, session: SessionDep, dataset: str | None = None) -> HTMLResponse:
    """Recent gate runs over the DAGs that the user may read, and the history of each data set."""
    found = list(_readable_runs(user, session))
    by_set: dict[str, list[GateRun]] = {}
    for run in found:
        if "approval" not in run.summary:
            by_set.setdefault(run.dataset, []).append(run)
    shown = [r for r in found if dataset is None or r.dataset == dataset]
    sets = [History.of(name, runs) for name, runs in by_set.items() if dataset is None or name == dataset]
    return _page(
        "runs", runs=shown[:MAX_RUNS], total=len(shown), sets=sets[:MAX_SETS], more_sets=max(0, len(sets) - MAX_SETS),
        dataset=dataset, read=MAX_READ if len(found) >= MAX_READ else None,
    )  # fmt: skip


def readable_run(
    user: GetUserDep, session: SessionDep, dag_id: str, run_id: str, task_id: str, map_index: str = "-1"
) -> GateRun:
    """The run that a request names.

    Raises:
        HTTPException: 403 where the user may not read the DAG and its XComs, 404 where the task left no result of a gate.
    """
    if not _may_read(user, dag_id):
        raise HTTPException(403, "Forbidden")
    # Airflow leaves the place holder in the address where the task is not mapped.
    index = int(map_index) if map_index.isdecimal() else -1
    place = (XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.task_id == task_id)
    row = session.scalar(select(XComModel).where(*place, XComModel.map_index == index, XComModel.key == XCOM_KEY))
    run = None if row is None else _run(row)
    if run is None:
        raise HTTPException(404, "This task instance has no result of a foretaste gate (yet).")
    return run


RunDep = Annotated[GateRun, Depends(readable_run)]


def show_run(run: RunDep) -> HTMLResponse:
    """What came of one run, over its report."""
    return _page("run", run=run, place=_place(run))


def show_report(run: RunDep) -> HTMLResponse:
    """The HTML report, from where the gate says that it wrote it."""
    place = _place(run)
    if place is None:
        return _page("absent", run=run, place=None, why="The gate wrote no report.")
    try:
        content = _read(place, run.summary.get("out_conn_id"))
    except Exception as e:  # noqa: BLE001 - whatever a storage says, the page says where the report lies
        why = f"{type(e).__name__}: {e}"
        return _page("absent", run=run, place=place, why=why, status=404)
    if content is None:
        return _page("absent", run=run, place=place, why="What lies there is no report of foretaste.", status=404)
    headers = {"Content-Security-Policy": _REPORT_POLICY.format(script=_report_script()), **_HEADERS}
    return HTMLResponse(content, headers=headers)


@cache
def _report_script() -> str:
    """The script that a report may run, by its digest: the one of the package that this file came with.

    Of the folder alone, and of a report that another version wrote, none runs; such a report shows everything unsorted.
    """
    script = Path(__file__).parent.parent / "report" / "report.js"
    return f"'sha256-{_hash(script.read_text('utf-8'))}'" if __package__ and script.is_file() else "'none'"


def _may_read(user: Any, dag_id: str) -> bool:
    manager = get_auth_manager()
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    return all(
        manager.is_authorized_dag(method="GET", access_entity=entity, details=details, user=user)
        for entity in (None, DagAccessEntity.XCOM)
    )


def _readable_runs(user: Any, session: Any) -> Iterator[GateRun]:
    """The newest runs first, of DAGs that the user may read."""
    gated = session.scalars(select(XComModel.dag_id).where(XComModel.key == XCOM_KEY).distinct())
    readable = [dag_id for dag_id in gated if _may_read(user, dag_id)]
    chosen = select(XComModel).where(XComModel.key == XCOM_KEY, XComModel.dag_id.in_(readable))
    for row in session.scalars(chosen.order_by(XComModel.timestamp.desc()).limit(MAX_READ)):
        if (run := _run(row)) is not None:
            yield run


def _run(row: Any) -> GateRun | None:
    summary = XComModel.deserialize_value(row)
    if not isinstance(summary, Mapping) or "verdict" not in summary:
        return None
    return GateRun(
        dag_id=row.dag_id, run_id=row.run_id, task_id=row.task_id, map_index=row.map_index, at=row.timestamp,
        summary=summary,
    )  # fmt: skip


def _place(run: GateRun) -> str | None:
    """Address of the report as the gate recorded it; of no other file."""
    files = run.summary.get("files")
    place = files.get("report.html") if isinstance(files, Mapping) else None
    return place if isinstance(place, str) and place.rpartition("/")[2] == "report.html" else None


def _read(place: str, conn_id: Any) -> bytes | None:
    """The report, ``None`` where the file is something else.

    Raises:
        OSError: and whatever else a storage raises, if it cannot be read from here.
    """
    if conn_id or ("://" in place and not place.startswith("file://")):
        from airflow.sdk import ObjectStoragePath

        path: Any = ObjectStoragePath(place, conn_id=conn_id if isinstance(conn_id, str) else None)
    else:
        path = Path(unquote(urlsplit(place).path) if "://" in place else place)
    with path.open("rb") as file:
        content = file.read(MAX_REPORT_BYTES + 1)
    return content if len(content) <= MAX_REPORT_BYTES and _REPORT_MARK in content[:8192] else None


def _printable(value: Any) -> Any:
    """Strings without characters that draw nothing or steer the reader's screen; the template escapes them."""
    if isinstance(value, Markup) or not isinstance(value, str) or value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store"}
_TEMPLATES = Environment(
    autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_printable
)


def _page(kind: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    css, template = (Path(__file__).with_name(f"airflow_page.{end}").read_text("utf-8") for end in ("css", "html"))
    made = _TEMPLATES.from_string(template).render(kind=kind, css=Markup(css), theme=Markup(_THEME), **values)
    policy = (
        f"default-src 'none'; style-src 'sha256-{_hash(css)}'; script-src 'sha256-{_hash(_THEME)}'; frame-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    return HTMLResponse(made, status_code=status, headers={"Content-Security-Policy": policy, **_HEADERS})


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
