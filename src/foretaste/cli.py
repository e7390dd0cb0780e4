"""The command line."""

from __future__ import annotations

import sys

import click

from foretaste._version import __version__
from foretaste.errors import ForetasteError


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Read a data set before a model does."""


@main.command()
@click.argument("data")
@click.option("--policy")
@click.option("--text")
@click.option("--label")
@click.option("--prompt")
@click.option("--context")
@click.option("--response")
@click.option("--chosen")
@click.option("--rejected")
@click.option("--messages")
@click.option("--source")
@click.option("--id", "id_")
@click.option("--out", required=True)
def scan(data: str, policy: str | None, out: str, id_: str | None, **roles: str | None) -> None:
    """Scan DATA."""
    from foretaste.engine import scan
    from foretaste.report import write

    try:
        report = scan(data, policy, roles=roles | {"id": id_})
        write(report, out)
    except ForetasteError as e:
        click.echo(f"error: {e}", err=True)
        sys.exit(2)
    click.echo(report.headline())
    for finding in report.findings[:20]:
        click.echo(f"{finding.severity} {finding.check} {finding.kind}: {finding.feature!r} {len(finding.rows)}")
    sys.exit({"pass": 0, "review": 0, "block": 1}.get(report.verdict.value, 2))
