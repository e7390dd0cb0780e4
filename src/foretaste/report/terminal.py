"""The report on a terminal: what a person can read in ten seconds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from foretaste.report.escape import visible
from foretaste.report.wording import against_limit, caveats, count, duration, next_steps, number, size
from foretaste.results import Fate, Finding, Outcome, Report, Severity

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from foretaste.report.compare import Comparison

MAX_FINDINGS = 10
LOG_WIDTH = 120
WIDE = 100
_STYLE = {
    Outcome.PASS: "green",
    Outcome.REVIEW: "yellow",
    Outcome.BLOCK: "red",
    Outcome.ERROR: "magenta",
    Outcome.SKIPPED: "bright_black",
}
_CAVEAT = {"error": _STYLE[Outcome.ERROR], "skipped": _STYLE[Outcome.SKIPPED], "power": ""}


def make_console(stream: TextIO | None = None) -> Console:
    """A console that interprets no markup (texts come from data); 120 columns wide without a screen."""
    from rich.console import Console

    console = Console(file=stream, markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = LOG_WIDTH
    return console


def print_report(report: Report, console: Console, paths: Mapping[str, Path] | None = None) -> None:
    """Print verdict, findings, what was not checked, and the next step; ``paths`` are the written files."""
    from rich.padding import Padding

    console.print()
    console.print(_verdict(report))
    console.print(Padding(_facts(report), (1, 0, 0, 1)))
    if report.findings:
        console.print(Padding(_findings(report, console.width), (1, 0, 0, 1)))
    if report.waivers:
        console.print(Padding(_waivers(report), (1, 0, 0, 1)))
    rows = [(c.word, visible(c.said, 400), _CAVEAT.get(c.word, "yellow")) for c in caveats(report)]
    if rows:
        console.print(Padding(_pairs(rows), (1, 0, 0, 1)))
    rows = [(name, visible(str(paths[file])), "bold") for name, file in _SHOWN_FILES if paths and file in paths]
    rows += [("next" if i == 0 else "", visible(step), "bold") for i, step in enumerate(next_steps(report))]
    console.print(Padding(_pairs(rows), (1, 0, 0, 1)))
    console.print()


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print what changed between two scans: verdicts, numbers, and every finding that is not as it was."""
    from rich.padding import Padding

    from foretaste.report.compare import Fate as Became

    console.print()
    console.print(f" {comparison.headline()}", style=f"bold {_STYLE[comparison.new.verdict]}")
    facts = [(name, before if before == now else f"{before} → {now}", "") for name, before, now in comparison.facts()]
    console.print(Padding(_pairs(facts), (1, 0, 0, 1)))
    if comparison.lost:
        said = f"{', '.join(visible(c) for c in comparison.lost)}: nobody looked for these findings"
        console.print(Padding(_pairs([("not checked any more", said, "yellow")]), (1, 0, 0, 1)))
    changed = [
        (
            c.fate.value,
            f"{c.finding.severity.value}{', waived' if c.finding.waived else ''}, {visible(c.finding.check)}: "
            f"{_what(c.finding)}, {c.rows_said()}",
            _STYLE[Outcome(c.finding.severity.value)] if c.fate in (Became.NEW, Became.GROWN, Became.WORSE) else "",
        )
        for c in comparison.changes
        if c.fate is not Became.UNCHANGED
    ]
    if changed:
        console.print(Padding(_pairs(changed), (1, 0, 0, 1)))
    console.print()


_SHOWN_FILES = (("report", "report.html"), ("rows", "flagged.parquet"))


def _verdict(report: Report) -> Text:
    from rich.text import Text

    colour = _STYLE[report.verdict]
    block, review = len(report.flagged_rows(Severity.BLOCK)), len(report.flagged_rows(Severity.REVIEW))
    line = Text(" ")
    line.append(f" {report.verdict.value.upper()} ", style=f"bold reverse {colour}")
    line.append(f"  {count(block, 'row')} to block, {review:,} to review, of {report.data.rows:,} scanned", "bold")
    if waived := sum(f.waived for f in report.findings):
        line.append(f", {count(waived, 'finding')} waived", "yellow")
    return line


def _facts(report: Report) -> RenderableType:
    data = report.data
    about = [visible(data.name, 200), data.kind, count(data.rows, "row")]
    if data.files:
        about += [count(data.files, "file"), size(data.bytes)]
    about += [duration(report.seconds), f"{count(_ran(report), 'check')} run"]
    roles = ", ".join(f"{role} = {visible(column, 60)}" for role, column in data.roles.items())
    rows = [("data", " · ".join(about), ""), ("roles", roles, "")]
    if data.shape:
        rows.insert(1, ("shape", data.shape, ""))
    if data.guessed_roles:
        names = " ".join(f"--{role} {visible(data.roles[role], 60)}" for role in data.guessed_roles)
        rows.append(("guessed", f"from common names; to be sure, say {names}", "yellow"))
    if report.history:
        rows += _history(report.history)
    return _pairs(rows)


def _history(told: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    before = f"{count(told['batches'], 'earlier batch', 'earlier batches')}, {count(told['rows'], 'row')}"
    rows = [("state", visible(f"{before}; {told['note']}", 300), "" if told["advanced"] else "yellow")]
    near = told["near_duplicates"]
    if near["rows"]:
        shown = ", ".join(f"{n['id']} of {n['earlier']} (batch {n['batch']})" for n in near["listed"][:3])
        rows.append(
            ("copies", visible(f"{count(near['rows'], 'row')} nearly the same as earlier ones: {shown}", 300), "")
        )
    return rows


def _ran(report: Report) -> int:
    return sum(r.outcome not in (Outcome.SKIPPED, Outcome.ERROR) for r in report.results)


def _pairs(rows: list[tuple[str, str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=7)
    table.add_column(overflow="fold")
    for name, value, style in rows:
        table.add_row(Text(name, style=style or "bright_black"), Text(value))
    return table


def _findings(report: Report, width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    wide = width >= WIDE
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1),
        pad_edge=False,
        header_style="bright_black",
        expand=True,
    )
    table.add_column("severity", no_wrap=True)
    if wide:
        table.add_column("check, kind", overflow="fold", max_width=30)
    table.add_column("feature → target" if wide else "finding", overflow="fold", ratio=1)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("limit", justify="right", no_wrap=True)
    if wide:
        table.add_column("top source", no_wrap=True, overflow="ellipsis", max_width=34)
    shown = report.findings[:MAX_FINDINGS]
    for f in shown:
        kind = Text(visible(f.kind, 60), style="bright_black")
        severity = Text(f.severity.value, style=f"bold {_STYLE[Outcome(f.severity.value)]}")
        if f.waived:
            severity = Text(f"{f.severity.value}, waived", style="bright_black")
        rows = Text(f"{len(f.rows):,}" + (f"\n+ {len(f.earlier):,} earlier" if f.earlier else ""))
        # The limit alone where the rows reached it; both values where something else was compared, or fell short.
        limit = Text(number(f.limit) if f.limit <= f.observed == len(f.rows) else against_limit(f))
        if wide:
            name = Text.assemble(f.check, "\n", kind)
            table.add_row(severity, name, Text(_what(f)), rows, limit, Text(_top_source(f)))
        else:
            lines = [Text.assemble(f.check, ", ", kind), Text(_what(f))]
            lines += [Text(f"from {_top_source(f)}", style="bright_black")] if f.sources else []
            table.add_row(severity, Text("\n").join(lines), rows, limit)
    if len(report.findings) > len(shown):
        rest = Text(f"and {len(report.findings) - len(shown):,} more in the report", style="bright_black")
        table.add_row(Text(""), rest)
    return table


def _waivers(report: Report) -> Table:
    """What became of each waiver, and who answers for it."""
    rows = []
    for w in report.waivers:
        said = f"{w.check} {w.finding[:8]}: {w.fate.value}, {w.status}, until {w.expired_at}, {visible(w.owner, 60)}"
        said += f", signed by {', '.join(visible(a, 40) for a in w.approvers)}" if w.approvers else ", not signed"
        said += f"; {visible(w.reason, 300)}" if w.reason else f"; {visible(w.statement, 200)}"
        rows.append(("waiver", said, "" if w.fate is Fate.APPLIED else "yellow"))
    return _pairs(rows)


def _what(finding: Finding) -> str:
    feature = f'"{visible(finding.feature, 90)}"' if finding.feature else visible(finding.message, 120)
    return feature + (f' → "{visible(finding.target, 40)}"' if finding.target else "")


def _top_source(finding: Finding) -> str:
    if not finding.sources:
        return "–"
    name, rows = next(iter(finding.sources.items()))
    return f"{visible(name, 24) or '(empty)'} ({rows:,})"
