"""What people decide about findings: waivers, quarantine and release."""

from __future__ import annotations

from pathlib import Path

import click

from foretaste.commands.options import debug_option
from foretaste.errors import InputError
from foretaste.waivers import JUSTIFICATIONS, STATUSES


@click.command(short_help="Answer for findings of a report.")
@click.argument("report", type=click.Path())
@click.argument("findings", nargs=-1, metavar="FINDING...")
@click.option("--statement", required=True, help="Why, for people.")
@click.option("--owner", required=True, help="Who answers for it.")
@click.option("--expires", required=True, metavar="YYYY-MM-DD", help="Last day on which it holds, in UTC.")
@click.option("--status", type=click.Choice(STATUSES), default="not_affected", show_default=True)
@click.option("--justification", type=click.Choice(JUSTIFICATIONS), help="Why not affected.")
@click.option("--impact", help="Why not affected, in words.")
@click.option("--action", help="What is done about it, where affected.")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Private key that signs (a PEM file); repeatable.")
@click.option("--file", default="waivers.yaml", show_default=True, type=click.Path(), help="Waiver file to add to.")
@debug_option
def waive(
    report: str,
    findings: tuple[str, ...],
    statement: str,
    owner: str,
    expires: str,
    status: str,
    justification: str | None,
    impact: str | None,
    action: str | None,
    keys: tuple[str, ...],
    file: str,
) -> None:
    """Write waivers for each FINDING (its fingerprint, or the first digits of it) of REPORT into a waiver file.

    REPORT is the --out folder of a scan, or its report.json. A waiver holds for exactly the data of that report. Scan
    again with --waivers to apply it; the verdict and the report then say who answers for what.
    """
    from foretaste.report import read
    from foretaste.waivers import Waiver, Waivers, sign

    loaded = read(report)
    target = Path(file)
    held = Waivers.load(target) if target.exists() else Waivers()
    fields = {
        "statement": statement, "owner": owner, "expired_at": expires, "status": status,
        "justification": justification or "", "impact_statement": impact or "", "action_statement": action or "",
    }  # fmt: skip
    made = [Waiver.of(loaded, fingerprint, **fields) for fingerprint in findings or ("",)]
    for waiver in made:
        held = held.add(waiver, sign(waiver, *keys) if keys else None)
    try:
        target.write_text(held.to_yaml(), encoding="utf-8")
    except OSError as e:
        raise InputError(f"cannot write {file}: {e.strerror}; choose another --file") from e
    for waiver in made:
        click.echo(f"{waiver.check} {waiver.finding}: {status} until {expires}, {owner}" + (" (signed)" * bool(keys)))
    click.echo(f"wrote {file}; apply it with: foretaste scan DATA --waivers {file} --out DIR")


def register(group: click.Group) -> None:
    """Add the commands to the command line."""
    group.add_command(waive)
