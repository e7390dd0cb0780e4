"""A picture of a report for Dagster's pages: where the flagged rows lie, and what flagged them.

Dagster shows Markdown metadata with its pictures. The picture is one SVG in a data address: nothing is loaded, no script
runs in it, and it reads on a light and on a dark page. No text of rows stands in it, only ids of checks and numbers.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape

from foretaste.results import Finding, Outcome, Report, Severity

BINS = 60
MAX_CHECKS = 8
_WIDTH, _LEFT, _ROW = 720, 190, 24
_BLOCK, _REVIEW, _INK, _PAPER, _RULE = "#b3261e", "#d98e04", "#1f2937", "#ffffff", "#d1d5db"
_COLOURS = {Outcome.PASS: "#1a7f37", Outcome.REVIEW: "#8a5a00", Outcome.BLOCK: _BLOCK, Outcome.ERROR: "#6b21a8"}


def markdown(report: Report) -> str:
    """Markdown with the picture; its alternative text says the same in words."""
    coded = base64.b64encode(svg(report).encode()).decode()
    return f"![{_told(report)}](data:image/svg+xml;base64,{coded})"


def svg(report: Report) -> str:
    """The picture alone."""
    counted = _by_check(report.findings)
    top = 64
    over = top + 118
    height = over + 46 + _ROW * max(1, len(counted)) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="13" fill="{_INK}">',
        f"<title>{escape(_told(report))}</title>",
        f'<rect width="{_WIDTH}" height="{height}" rx="6" fill="{_PAPER}"/>',
        _text(16, 30, report.headline(), size=16, weight=600, colour=_COLOURS.get(report.verdict, _INK)),
        f'<rect x="{_WIDTH - 156}" y="44" width="10" height="10" fill="{_BLOCK}"/>',
        _text(_WIDTH - 142, 53, "block", size=12),
        f'<rect x="{_WIDTH - 86}" y="44" width="10" height="10" fill="{_REVIEW}"/>',
        _text(_WIDTH - 72, 53, "review", size=12),
        _text(16, 54, "Flagged rows over the data", weight=600),
        *_strip(report, 16, top, _WIDTH - 32, 88),
        _text(16, over + 28, "Flagged rows by check", weight=600),
        *_bars(counted, over + 40),
        "</svg>",
    ]
    return "".join(parts)


def _told(report: Report) -> str:
    counted = ", ".join(f"{check} {block + review}" for check, block, review in _by_check(report.findings))
    return f"{report.headline()}. Flagged rows by check: {counted or 'none'}".replace("]", ")").replace("[", "(")


def _strip(report: Report, x: float, y: float, width: float, height: float) -> Iterator[str]:
    rows = report.data.rows
    bins = max(1, min(BINS, rows))
    tall = [[0, 0] for _ in range(bins)]
    block = set(report.flagged_rows(Severity.BLOCK))
    review = set(report.flagged_rows(Severity.REVIEW)) - block
    for which, flagged in enumerate((block, review)):
        for row in flagged:
            tall[min(bins - 1, row * bins // max(rows, 1))][which] += 1
    most = max((a + b for a, b in tall), default=0)
    yield f'<line x1="{x}" x2="{x + width}" y1="{y + height}" y2="{y + height}" stroke="{_RULE}"/>'
    step = width / bins
    for i, (blocked, reviewed) in enumerate(tall):
        base = y + height
        for count, colour in ((blocked, _BLOCK), (reviewed, _REVIEW)):
            if count:
                size = max(2.0, (height - 14) * count / most)
                base -= size
                yield (
                    f'<rect x="{x + i * step:.1f}" y="{base:.1f}" width="{step - 1:.1f}" height="{size:.1f}" '
                    f'fill="{colour}"/>'
                )
    if most:
        yield _text(x + width, y + 6, f"fullest bar: {most:,} of {-(-rows // bins):,} rows", size=11, anchor="end")
    yield _text(x, y + height + 15, "row 0", size=11)
    yield _text(x + width, y + height + 15, f"row {rows:,}", size=11, anchor="end")


def _bars(counted: Sequence[tuple[str, int, int]], y: float) -> Iterator[str]:
    if not counted:
        yield _text(16, y + 16, "nothing was found")
        return
    most = max(block + review for _, block, review in counted)
    room = _WIDTH - _LEFT - 90
    for i, (check, block, review) in enumerate(counted):
        at, x = y + i * _ROW, float(_LEFT)
        yield _text(_LEFT - 8, at + 15, check, anchor="end", size=12)
        for count, colour in ((block, _BLOCK), (review, _REVIEW)):
            if count:
                size = max(2.0, room * count / most)
                yield f'<rect x="{x:.1f}" y="{at + 4}" width="{size:.1f}" height="14" fill="{colour}"/>'
                x += size
        yield _text(x + 6, at + 15, f"{block + review:,}", size=12)


def _by_check(findings: Sequence[Finding]) -> list[tuple[str, int, int]]:
    """Check, rows to block and rows to review of each check that found something; most rows first."""
    rows: dict[str, tuple[set[int], set[int]]] = {}
    for finding in findings:
        if not finding.waived:
            block, review = rows.setdefault(finding.check, (set(), set()))
            (block if finding.severity is Severity.BLOCK else review).update(finding.rows)
    counted = [(check, len(block), len(review - block)) for check, (block, review) in rows.items()]
    counted.sort(key=lambda one: (-one[1], -one[2], one[0]))
    rest = counted[MAX_CHECKS:]
    if rest:
        counted = [*counted[:MAX_CHECKS], (f"{len(rest)} more", sum(b for _, b, _ in rest), sum(r for _, _, r in rest))]
    return counted


def _text(
    x: float, y: float, said: str, *, size: int = 13, weight: int = 400, anchor: str = "start", colour: str = _INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(said)}</text>'
    )
