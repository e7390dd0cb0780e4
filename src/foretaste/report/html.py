"""The report as one HTML file: no external resource, one script of ours, every value from the data escaped.

The script sorts, filters and reads out what is on the page; without it, everything is still there. The content
policy of the page names style and script by their digests, so nothing else can run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from foretaste import checks
from foretaste.errors import ForetasteError
from foretaste.report import wording
from foretaste.report.escape import pieces, visible
from foretaste.results import REPORT_FORMAT, CheckResult, Example, Finding, Outcome, Report, Severity
from foretaste.standards.compliance import assess

if TYPE_CHECKING:
    from jinja2 import Template

    from foretaste.report.compare import Comparison

MAX_CARDS = 100
MAX_IDS = 500
MAX_GROUPS_OPEN = 12
SHOWN_EXAMPLES = 3
SHOWN_COUNTERS = 2
LOW_RATIO = 0.1
PLACES = 120


def render_html(report: Report) -> str:
    """A self-contained page. Reads nothing but the report and the docstrings of its checks."""
    css, js = _asset("report.css"), _asset("report.js")
    findings = report.findings[:MAX_CARDS]
    return _template("report.html").render(
        report=report,
        css=Markup(css),
        js=Markup(js),
        style_hash=_digest(css),
        script_hash=_digest(js),
        scale=_scale(findings),
        places=[_places(f.rows, report.data.rows) for f in findings],
        curve=_curve(report.power),
        verdict=report.verdict.value,
        steps=wording.next_steps(report),
        block_rows=len(report.flagged_rows(Severity.BLOCK)),
        review_rows=len(report.flagged_rows(Severity.REVIEW)),
        waived=sum(f.waived for f in report.findings),
        tally=_tally(report.results),
        findings=findings,
        more_findings=max(0, len(report.findings) - MAX_CARDS),
        over_file=_over_file(report.charts.get("over_file", {})),
        groups=[g for role in ("source", "label") if (g := _groups(role, report.charts.get(f"by_{role}", [])))],
        power=_tables({name: told for name, told in report.power.items() if name not in ("note", "smallest_blocked")}),
        power_said=wording.power_said(report),
        about={r.check: _about(r.check) for r in report.results},
        report_format=REPORT_FORMAT,
        compliance=assess(report),
    )


def render_comparison_html(comparison: Comparison) -> str:
    """Two scans compared, as a page of the same kind."""
    css, js = _asset("report.css"), _asset("report.js")
    return _template("compare.html").render(
        made=comparison, css=Markup(css), js=Markup(js), style_hash=_digest(css), script_hash=_digest(js)
    )


def evidence(text: str, feature: str | None = None) -> Markup:
    """Text as HTML: the feature in ``<mark>``, unseen characters spelt out in a span of class ``unseen``."""
    made = []
    for piece in pieces(text, feature):
        part = escape(piece.shown)
        if piece.hidden:
            part = Markup('<span class="unseen">{}</span>').format(part)
        elif piece.newline:
            part = Markup('<span class="space">{}</span>\n').format(part)
        made.append(Markup("<mark>{}</mark>").format(part) if piece.hit else part)
    return Markup("").join(made)


@cache
def _template(name: str) -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finalize
    )
    environment.filters.update(
        evidence=evidence,
        number=wording.number,
        size=wording.size,
        duration=wording.duration,
        against_limit=wording.against_limit,
        owner=wording.owner,
        about_value=_about_value,
        split_examples=_split_examples,
    )
    environment.globals.update(count=wording.count, max_ids=MAX_IDS)
    return environment.from_string(_asset(name))


def _finalize(value: Any) -> Any:
    """Every string that the template prints, before it is escaped: no call in the template can forget it."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else visible(value)


def _asset(name: str) -> str:
    return (files("foretaste.report") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """SHA-256 in base64, as a content policy names a style or a script."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@dataclass(frozen=True)
class _Scale:
    """Observed over limit on one logarithmic scale for all findings; widths are 0 to 100.

    ``widths`` has an entry per finding, ``None`` where its ratio is not a positive number.
    """

    limit: float
    widths: tuple[float | None, ...]


def _scale(findings: Sequence[Finding]) -> _Scale:
    ratios = [f.observed / f.limit if f.limit > 0 and 0 < f.observed < 1e300 else None for f in findings]
    known = [r for r in ratios if r is not None]
    low, high = min([LOW_RATIO, *known]), max([1 / LOW_RATIO, *known])
    span = math.log(high / low)

    def at(ratio: float) -> float:
        return round(100 * math.log(ratio / low) / span, 2)

    return _Scale(at(1), tuple(None if r is None else at(r) for r in ratios))


def _places(rows: Sequence[int], of: int) -> list[tuple[int, float]]:
    """(part of the file, height) of every part that holds rows; heights are shares of the fullest, 0 to 100."""
    held = Counter(min(PLACES - 1, row * PLACES // of) for row in rows) if of else Counter[int]()
    tallest = max(held.values(), default=1)
    return [(part, round(100 * n / tallest, 1)) for part, n in sorted(held.items())]


@dataclass(frozen=True)
class _Curve:
    """Per dose in rows, ascending: the share of its rows that a block finding names, 0 to 1, and its point, x and y."""

    doses: tuple[tuple[int, float, float, float], ...]

    @property
    def line(self) -> str:
        """The points in SVG's words."""
        return " ".join(f"{x},{y}" for _, _, x, y in self.doses)


def _curve(power: Mapping[str, Any]) -> _Curve | None:
    shares = power.get("blocked_share_by_rows")
    if not isinstance(shares, Mapping) or not all(str(k).isdigit() for k in shares):
        return None
    known = sorted((int(k), float(v)) for k, v in shares.items() if isinstance(v, int | float) and 0 <= v <= 1)
    if len(known) < 2:
        return None
    step = 540 / (len(known) - 1)
    return _Curve(tuple((n, share, round(40 + i * step, 1), round(130 - 110 * share, 1))
                        for i, (n, share) in enumerate(known)))  # fmt: skip


def _tally(results: Sequence[CheckResult]) -> dict[str, int]:
    """Checks that ran, did not apply and failed."""
    outcomes = [r.outcome for r in results]
    skipped, failed = outcomes.count(Outcome.SKIPPED), outcomes.count(Outcome.ERROR)
    return {"ran": len(outcomes) - skipped - failed, "skipped": skipped, "failed": failed}


@dataclass(frozen=True)
class _Examples:
    shown: tuple[Example, ...]
    rest: tuple[Example, ...]


def _split_examples(examples: Sequence[Example]) -> _Examples:
    """The first rows with the feature and the first matched rows without it; the rest is folded away."""
    with_it = [e for e in examples if not e.counter]
    without = [e for e in examples if e.counter]
    rest = with_it[SHOWN_EXAMPLES:] + without[SHOWN_COUNTERS:]
    return _Examples((*with_it[:SHOWN_EXAMPLES], *without[:SHOWN_COUNTERS]), tuple(rest))


def _about(check_id: str) -> str:
    """First line of a check's docstring; empty for a check that is not installed here."""
    with suppress(ForetasteError):
        return (checks.get(check_id).__doc__ or "").strip().split("\n")[0]
    return ""


def _about_value(value: Any) -> str:
    """A parameter's value."""
    if isinstance(value, str | int | float) or value is None:
        return wording.number(value)
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    return vars(value) if hasattr(value, "__dict__") else str(value)


@dataclass(frozen=True)
class _Bar:
    """A bin of the file, rows ``first`` to ``last``; heights are shares of the tallest bin, 0 to 100."""

    x: int
    first: int
    last: int
    block: int
    review: int
    block_height: float
    review_height: float


@dataclass(frozen=True)
class _OverFile:
    bars: tuple[_Bar, ...]
    bins: int
    rows: int
    tallest: int
    flagged_bins: int


def _over_file(chart: Mapping[str, Any]) -> _OverFile | None:
    edges, block, review = (chart.get(k) or [] for k in ("edges", "block", "review"))
    tallest = max((b + r for b, r in zip(block, review)), default=0)
    if not tallest:
        return None
    bars = tuple(
        _Bar(x, edges[x], max(edges[x], edges[x + 1] - 1), b, r, 100 * b / tallest, 100 * r / tallest)
        for x, (b, r) in enumerate(zip(block, review))
        if b or r
    )
    return _OverFile(bars, len(block), edges[-1], tallest, len(bars))


@dataclass(frozen=True)
class _Group:
    """A source or label; widths are shares of the group with most flagged rows, 0 to 100."""

    name: str
    rows: int
    block: int
    review: int
    block_width: float
    review_width: float

    @property
    def share(self) -> float:
        """Flagged rows as a fraction of the group's rows."""
        return (self.block + self.review) / max(1, self.rows)


@dataclass(frozen=True)
class _Groups:
    role: str
    shown: tuple[_Group, ...]
    rest: tuple[_Group, ...]


def _groups(role: str, chart: Sequence[Mapping[str, Any]]) -> _Groups | None:
    most = max((g["block"] + g["review"] for g in chart), default=0)
    if not most:
        return None
    made = [
        _Group(
            g["name"] or "(empty)",
            g["rows"],
            g["block"],
            g["review"],
            100 * g["block"] / most,
            100 * g["review"] / most,
        )
        for g in chart
    ]
    shown = [g for g in made if g.block or g.review][:MAX_GROUPS_OPEN]
    return _Groups(role, tuple(shown), tuple(g for g in made if g not in shown))


@dataclass(frozen=True)
class _Table:
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _tables(tree: Mapping[str, Any], title: str = "") -> list[_Table]:
    """Any mapping as tables: one level of nesting becomes columns, a deeper one tables of their own."""
    if not tree:
        return []
    nested = {k: v for k, v in tree.items() if isinstance(v, Mapping) and v}
    plain = {k: v for k, v in tree.items() if k not in nested}
    tables = []
    if plain:
        counts = all(str(k).isdigit() for k in plain)
        rows = tuple((str(k), _share(v) if counts else _about_value(v)) for k, v in plain.items())
        tables.append(_Table(title, ("planted rows", "detected") if counts else ("name", "value"), rows))
    flat = {k: v for k, v in nested.items() if not any(isinstance(x, Mapping) for x in v.values())}
    if flat:
        columns = tuple(dict.fromkeys(str(c) for v in flat.values() for c in v))
        counts = all(c.isdigit() for c in columns)
        body = []
        for name, values in flat.items():
            by_text = {str(k): v for k, v in values.items()}
            say = _share if counts else _about_value
            cells = (say(by_text[c]) if c in by_text else "–" for c in columns)
            body.append((str(name), *cells))
        tables.append(_Table(title, ("planted rows" if counts else "name", *columns), tuple(body)))
    for name, value in nested.items():
        if name not in flat:
            tables += _tables(value, f"{title} · {name}" if title else str(name))
    return tables


def _share(value: Any) -> str:
    """A detected share as a percentage, anything else as it is."""
    if isinstance(value, float) and 0 <= value <= 1:
        return f"{value:.0%}"
    return _about_value(value)
