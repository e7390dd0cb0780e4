"""Reports of earlier scans: in the formats of others, and two of them compared."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import click

from foretaste.commands.options import debug_option
from foretaste.errors import InputError

if TYPE_CHECKING:
    from foretaste.report.compare import Comparison
    from foretaste.results import Report

FORMATS = ("text", "markdown", "html", "json", "sarif", "junit", "openlineage")
_COMPARED = ("text", "markdown", "html")
EXIT_CHANGED, EXIT_ERROR = 1, 2


@click.command(short_help="Show a report in another format, or compare two.")
@click.argument("report", type=click.Path())
@click.argument("newer", required=False, type=click.Path())
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False), help="Write to FILE, not standard output.")
@click.option(
    "--fail-on",
    type=click.Choice(["new"]),
    help="With two reports: exit code 1 where a finding is new, grown or graver, or a check does not run any more.",
)
@debug_option
def report(report: str, newer: str | None, form: str, out: str | None, fail_on: str | None) -> None:
    """Show REPORT (the --out folder of a scan, or its report.json), or what changed from REPORT to NEWER.

    The exit code is 0 whatever the verdict, as nothing was scanned; with --fail-on new it is 1 where NEWER has got
    worse, and 2 where its verdict is error.
    """
    from foretaste.report import read

    if newer is None:
        if fail_on is not None:
            raise click.UsageError("--fail-on compares; name the newer report too.")
        _put(render(read(report), form), out)
        return
    if form not in _COMPARED:
        raise click.UsageError(f"two reports are compared as {', '.join(_COMPARED)}, not as {form}.")
    from foretaste.report.compare import Fate, compare
    from foretaste.results import Outcome

    made = compare(read(report), read(newer))
    _put(_compared(made, form), out)
    if fail_on is None:
        return
    if made.new.verdict is Outcome.ERROR:
        sys.exit(EXIT_ERROR)
    if made.lost or made.of(Fate.NEW, Fate.GROWN, Fate.WORSE):
        sys.exit(EXIT_CHANGED)


def render(report: Report, form: str) -> str:
    """The text of a report in one of :data:`FORMATS`.

    Raises:
        InputError: if the format needs a library that is not there.
    """
    if form == "markdown":
        from foretaste.report.markdown import render_markdown

        return render_markdown(report)
    if form == "html":
        from foretaste.report.html import render_html

        return render_html(report)
    if form == "json":
        from foretaste.report.model import to_json

        return to_json(report)
    if form == "sarif":
        from foretaste.report.sarif import render_sarif

        return render_sarif(report)
    if form == "junit":
        from foretaste.report.junit import render_junit

        return render_junit(report)
    if form == "openlineage":
        from foretaste.report.openlineage import report_events, to_json_lines

        return to_json_lines(report_events(report))
    from foretaste.report.terminal import make_console, print_report

    buffer = io.StringIO()
    print_report(report, make_console(buffer))
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def write_as(report: Report, form: str, file: str) -> None:
    """Write a report in one of :data:`FORMATS`.

    Raises:
        InputError: if it cannot be written.
    """
    _write(render(report, form), file)


def _compared(made: Comparison, form: str) -> str:
    if form == "markdown":
        from foretaste.report.markdown import render_comparison

        return render_comparison(made)
    if form == "html":
        from foretaste.report.html import render_comparison_html

        return render_comparison_html(made)
    from foretaste.report.terminal import make_console, print_comparison

    buffer = io.StringIO()
    print_comparison(made, make_console(buffer))
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def _put(text: str, out: str | None) -> None:
    if out is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        click.echo(text, nl=False)
        return
    _write(text, out)
    click.echo(f"wrote {out}")


def _write(text: str, file: str) -> None:
    from foretaste.reading.stores import local

    try:
        local(file, "a report").write_text(text, encoding="utf-8")
    except OSError as e:
        raise InputError(f"cannot write {file}: {e.strerror}; choose another file") from e


def register(group: click.Group) -> None:
    """Add the command to the command line."""
    group.add_command(report)
