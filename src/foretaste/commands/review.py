"""Judge the findings of a report one by one, in a terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from foretaste.commands.options import debug_option, show
from foretaste.commands.people import add_to_file, opened, read_report, trusted_report
from foretaste.errors import ForetasteError, InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from foretaste.results import Finding, Report
    from foretaste.waivers import Waiver

SHOWN_ROWS = 3
AROUND = 1
_TEXT_CHARS = 600
_STATUS = {"n": "not_affected", "a": "affected", "u": "under_investigation"}
_Rows = Mapping[int, Mapping[str, str]]


@click.command(short_help="Judge findings one by one, in the terminal.")
@click.argument("report", type=click.Path())
@click.option("--data", type=click.Path(), help="What was scanned: shows the rows around each, and lets you set apart.")
@click.option("--owner", help="Who answers for the waivers; asked for without it.")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Private key that signs what is written; repeatable.")
@click.option("--file", default="waivers.yaml", show_default=True, type=click.Path(), help="Waiver file to add to.")
@click.option("--quarantine", metavar="DIR", type=click.Path(), help="Folder of all quarantines; needs --data.")
@trusted_report
@debug_option
def review(
    report: str, data: str | None, owner: str | None, keys: tuple[str, ...], file: str, quarantine: str | None,
    trust: str | None,
) -> None:  # fmt: skip
    """Walk through the findings of REPORT, the --out folder of a scan, and decide on each.

    w writes a waiver for it, s sets its rows apart (with --data and --quarantine), l leaves it, b goes back, q quits.
    Nothing is written before you confirm at the end. Rows are shown escaped, with the trigger marked.
    """
    from foretaste.report.escape import visible

    if quarantine is not None and data is None:
        raise click.UsageError("--quarantine splits the data; name them with --data.")
    loaded, names = read_report(report, trust)
    findings = [f for f in loaded.findings if not f.waived]
    if not findings:
        click.echo(f"{loaded.headline()}\nthere is nothing to decide")
        return
    around = {} if data is None else _around(data, loaded, findings)
    waivers: dict[str, Waiver] = {}
    apart: set[str] = set()
    at = 0
    while at < len(findings):
        finding = findings[at]
        show(lambda console, f=finding, n=at: _draw(console, loaded, f, f"{n + 1} of {len(findings)}", around))  # type: ignore[misc]
        choices = ["w", *(["s"] if quarantine else []), "l", *(["b"] if at else []), "q"]
        said = {"w": "waive", "s": "set apart", "l": "leave", "b": "back", "q": "quit"}
        answer = click.prompt(
            ", ".join(f"{c} {said[c]}" for c in choices), type=click.Choice(choices), show_choices=False
        )
        if answer == "q":
            click.echo("nothing was written")
            return
        if answer == "b":
            at -= 1
            continue
        waivers.pop(finding.fingerprint, None)
        apart.discard(finding.fingerprint)
        if answer == "w":
            made = _ask(loaded, finding, owner)
            owner = made.owner
            waivers[finding.fingerprint] = made
        elif answer == "s":
            apart.add(finding.fingerprint)
        at += 1
    click.echo(f"{len(waivers)} to waive, {len(apart)} to set apart, {len(findings) - len(waivers) - len(apart)} left")
    if not (waivers or apart) or not click.confirm("Write this?", default=False):
        click.echo("nothing was written")
        return
    if waivers:
        add_to_file(list(waivers.values()), file, keys)
        click.echo(f"wrote {visible(file)}; apply it with: foretaste scan DATA --waivers {visible(file)} --out DIR")
    if apart and data is not None and quarantine is not None:
        _set_apart(loaded, data, quarantine, apart, list(waivers.values()), keys, names)


def _draw(console: Console, report: Report, finding: Finding, place: str, around: _Rows) -> None:
    from rich.text import Text

    from foretaste.report.escape import visible
    from foretaste.report.wording import against_limit, count

    console.print()
    console.rule(f"{place}: {finding.severity.value}, {finding.check}", align="left")
    console.print(Text(visible(finding.message, 600), style="bold"))
    facts = [f"{count(len(finding.rows), 'row')} of {report.data.rows:,}", f"observed, limit: {against_limit(finding)}"]
    if finding.target:
        facts.append(f"goes with {visible(finding.target, 80)}")
    if finding.sources:
        facts.append("from " + ", ".join(f"{visible(n, 40)} ({k:,})" for n, k in list(finding.sources.items())[:3]))
    console.print(Text("; ".join(facts)))
    if not finding.waivable:
        console.print(Text("a waiver counts only where the policy sets waivers.failed_signatures", style="yellow"))
    shown = [e for e in finding.examples if not e.counter][:SHOWN_ROWS]
    for example in shown:
        near = [r for r in range(example.row - AROUND, example.row + AROUND + 1) if r in around]
        for row in (r for r in near if r < example.row):
            console.print(_row(f"  before, row {row}", around[row], None, "bright_black"))
        console.print(_row(f"row {example.row}, id {visible(example.id, 60)}", example.texts, finding.feature, ""))
        for row in (r for r in near if r > example.row):
            console.print(_row(f"  after, row {row}", around[row], None, "bright_black"))
    for example in [e for e in finding.examples if e.counter][:SHOWN_ROWS]:
        console.print(_row(f"without it, row {example.row}", example.texts, None, "green"))
    console.print()


def _row(head: str, texts: Mapping[str, str], feature: str | None, style: str) -> Text:
    from rich.text import Text

    from foretaste.report.escape import pieces, visible

    line = Text(f"{head}: ", style=style or "bold")
    for role, text in texts.items():
        line.append(f"{visible(role, 30)} ", style="cyan")
        for piece in pieces(text[:_TEXT_CHARS], feature):
            line.append(piece.shown, style="reverse" if piece.hit else "magenta" if piece.hidden else style)
        line.append("… " if len(text) > _TEXT_CHARS else " ")
    return line


def _around(data: str, report: Report, findings: Sequence[Finding]) -> _Rows:
    """Texts of the rows beside those that are shown, from one pass over data that are those of the report."""
    from foretaste.reading import open_data
    from foretaste.reading.dataset import InputOptions
    from foretaste.roles import Roles

    wanted = {
        row
        for f in findings
        for e in [e for e in f.examples if not e.counter][:SHOWN_ROWS]
        for row in range(e.row - AROUND, e.row + AROUND + 1)
        if row != e.row
    }
    lenient = InputOptions(nulls="empty", max_cell_bytes=2**62, duplicate_ids="allow")
    dataset = open_data(data, Roles.from_mapping(report.data.roles), options=lenient)
    if dataset.digest != report.data.digest:
        raise InputError(f"{data} is not what was scanned (digest {dataset.digest}); scan it again, then review that")
    columns = {role: column for role, column in report.data.roles.items() if role != "id"}
    found: dict[int, dict[str, str]] = {}
    start = 0
    for batch in dataset.original():
        for row in (r for r in wanted if start <= r < start + batch.num_rows):
            found[row] = {
                role: str(batch.column(column)[row - start].as_py())
                for role, column in columns.items()
                if column in batch.schema.names
            }
        start += batch.num_rows
    return found


def _ask(report: Report, finding: Finding, owner: str | None) -> Waiver:
    """A waiver from answers; asked again until they make one."""
    from foretaste.waivers import Waiver

    while True:
        who = click.prompt("Owner", default=owner)
        why = click.prompt("Reason")
        day = (datetime.now(UTC) + timedelta(days=90)).date().isoformat()
        until = click.prompt("Last day, YYYY-MM-DD", default=day)
        status = _STATUS[
            click.prompt(
                "n not affected, a affected and the risk is taken, u under investigation",
                type=click.Choice(list(_STATUS)), show_choices=False,
            )
        ]  # fmt: skip
        more = {}
        if status == "not_affected":
            more["impact_statement"] = click.prompt("Why it does not matter", default=why)
        elif status == "affected":
            more["action_statement"] = click.prompt("What is done about it")
        try:
            return Waiver.of(
                report, finding.fingerprint, owner=who, statement=why, expired_at=until, status=status, **more
            )
        except ForetasteError as e:
            click.echo(f"{e}; once more")


def _set_apart(
    report: Report, data: str, out: str, apart: set[str], made: Sequence[Waiver], keys: Sequence[str],
    names: Sequence[str],
) -> None:  # fmt: skip
    """Set the chosen findings apart, and every other one that blocks and is not waived: no such row is clean."""
    from foretaste.quarantine import split
    from foretaste.results import Severity
    from foretaste.waivers import WaiverOptions, Waivers, waive

    judged = waive(report, Waivers(tuple((w, None) for w in made)), WaiverOptions())
    results = tuple(
        dataclasses.replace(
            r, findings=tuple(f for f in r.findings if f.severity is Severity.BLOCK or f.fingerprint in apart)
        )
        for r in judged.results
    )
    left = dataclasses.replace(judged, results=results)
    split_off = split(data, left, out, severities=("block", "review"), signers=opened(keys), report_signers=names)
    click.echo(f"{split_off.quarantined_rows:,} rows set apart: {split_off.quarantined}")
    click.echo(f"{split_off.clean_rows:,} clean rows: {split_off.clean}; scan them before training")


def register(group: click.Group) -> None:
    """Add the command to the command line."""
    group.add_command(review)
