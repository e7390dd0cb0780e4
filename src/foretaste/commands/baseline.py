"""What later batches are compared with."""

from __future__ import annotations

import click

from foretaste.commands.options import debug_option


@click.group(short_help="Advance or show a signed baseline.")
def baseline() -> None:
    """Keep signed snapshots of what was accepted, for the check baseline-drift to compare a new batch with."""


@baseline.command("advance")
@click.argument("folder", type=click.Path())
@click.argument("data", type=click.Path())
@click.option("--report", required=True, metavar="DIR", type=click.Path(), help="The --out folder of the scan of DATA.")
@click.option("--key", "keys", multiple=True, required=True, metavar="KEY", help="Private key that signs; repeatable.")
@click.option("--trust", required=True, metavar="FILE", type=click.Path(), help="Trust file with the role baseline.")
@click.option("--approved-by", default="", metavar="NAME", help="Who approves findings for review.")
@click.option("--reason", default="", help="Why.")
@debug_option
def advance(
    folder: str, data: str, report: str, keys: tuple[str, ...], trust: str, approved_by: str, reason: str
) -> None:
    """Add DATA to the baseline FOLDER as its next signed snapshot, made if needed.

    Only what passed enters, or what had findings for review that somebody approves. A refused batch never does. Where the
    trust file has keys for the role scan, one of them has to have signed the report ("scan --sign-with"); else whoever can
    write the report decides that.
    """
    from foretaste import baselines
    from foretaste.commands.people import read_report
    from foretaste.provenance import scans
    from foretaste.provenance.keys import TrustRoot

    demanded = scans.ROLE in TrustRoot.load(trust).roles
    loaded, _ = read_report(report, trust if demanded else None, remedy="give the role scan in the trust file keys")
    made = baselines.advance(folder, data, loaded, keys=keys, trust=trust, approved_by=approved_by, reason=reason)
    click.echo(f"{folder}: snapshot {made.number}, {made.profile.rows:,} rows in {len(made.batches)} accepted")
    click.echo(f"digest: {made.digest}")


@baseline.command("show")
@click.argument("folder", type=click.Path())
@click.option("--trust", required=True, metavar="FILE", type=click.Path(), help="Trust file with the role baseline.")
@debug_option
def show(folder: str, trust: str) -> None:
    """Verify the baseline FOLDER, snapshot by snapshot, and show its batches and largest sources and labels."""
    from foretaste import baselines
    from foretaste.report.escape import visible
    from foretaste.report.wording import count

    snapshots = baselines.read(folder, trust)
    newest = snapshots[-1]
    click.echo(f"{visible(newest.name)}: {count(len(snapshots), 'snapshot')}, each follows on the one before")
    for snapshot in snapshots:
        batch = snapshot.batches[-1]
        approved = f", approved by {visible(batch['approved_by'], 60)}" if batch["approved_by"] else ""
        click.echo(
            f"  {snapshot.number}: {visible(str(batch['name']), 80)}, {batch['rows']:,} rows, "
            f"{visible(batch['verdict'])}{approved}, "
            f"signed by {', '.join(visible(k, 60) for k in snapshot.keys)}, {visible(snapshot.created)}"
        )
    for kind in ("labels", "sources"):
        counts = getattr(newest.profile, kind)
        top = sorted(counts.items(), key=lambda item: -item[1])[:10]
        if top:
            click.echo(f"{kind}: " + ", ".join(f"{visible(n, 40) or '(empty)'} ({c:,})" for n, c in top))
    click.echo(f"digest: {newest.digest}")


def register(group: click.Group) -> None:
    """Add the commands to the command line."""
    group.add_command(baseline)
