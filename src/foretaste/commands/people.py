"""What people decide about findings: waivers, quarantine and release."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foretaste.commands.options import debug_option
from foretaste.errors import InputError
from foretaste.waivers import JUSTIFICATIONS, STATUSES

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from foretaste.results import Report
    from foretaste.waivers import Waiver

trusted_report = click.option(
    "--trust", metavar="FILE", type=click.Path(), help="Trust file: its role scan has signed the report."
)


def read_report(
    report: str, trust: str | None, policy: str | None = None, remedy: str = "give --trust"
) -> tuple[Report, tuple[str, ...]]:
    """A report and who signed it, as the trust file judges; nobody without one, which is said.

    Raises:
        ForetasteError: as :func:`foretaste.provenance.scans.read`.
    """
    if trust is None:
        from foretaste.report import read

        click.echo(f"the report's signature was not checked; {remedy}", err=True)
        return read(report), ()
    from foretaste.policy import Policy
    from foretaste.provenance import scans
    from foretaste.provenance.keys import TrustRoot

    return scans.read(report, TrustRoot.load(trust), None if policy is None else Policy.load(policy).digest)


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
@trusted_report
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
    trust: str | None,
) -> None:
    """Write waivers for each FINDING (its fingerprint, or the first digits of it) of REPORT into a waiver file.

    REPORT is the --out folder of a scan, or its report.json. A waiver holds for exactly the data of that report. Scan
    again with --waivers to apply it; the verdict and the report then say who answers for what.
    """
    from foretaste.waivers import Waiver

    loaded, _ = read_report(report, trust)
    fields = {
        "statement": statement, "owner": owner, "expired_at": expires, "status": status,
        "justification": justification or "", "impact_statement": impact or "", "action_statement": action or "",
    }  # fmt: skip
    made = [Waiver.of(loaded, fingerprint, **fields) for fingerprint in findings or ("",)]
    add_to_file(made, file, keys)
    for waiver in made:
        click.echo(f"{waiver.check} {waiver.finding}: {status} until {expires}, {owner}" + (" (signed)" * bool(keys)))
    click.echo(f"wrote {file}; apply it with: foretaste scan DATA --waivers {file} --out DIR")


def opened(keys: Sequence[str]) -> list[Signer]:
    """Private keys, opened before any work is done for them.

    Raises:
        InputError: if one cannot be opened.
    """
    if not keys:
        return []
    from foretaste.commands.keys import ask
    from foretaste.provenance.signers import open_signer

    return [open_signer(key, ask=ask) for key in keys]


def add_to_file(made: Sequence[Waiver], file: str, keys: Sequence[str]) -> None:
    """Add waivers to a waiver file, made if needed, signed by each key.

    Raises:
        InputError: if a key or the file cannot be used.
    """
    from foretaste.waivers import Waivers, sign

    target = Path(file)
    held = Waivers.load(target) if target.exists() else Waivers()
    for waiver in made:
        held = held.add(waiver, sign(waiver, *keys) if keys else None)
    try:
        target.write_text(held.to_yaml(), encoding="utf-8")
    except OSError as e:
        raise InputError(f"cannot write {file}: {e.strerror}; choose another --file") from e


@click.command(short_help="Set the flagged rows of a scan apart.")
@click.argument("data", type=click.Path())
@click.option("--report", required=True, metavar="DIR", type=click.Path(), help="The --out folder of the scan.")
@click.option("--out", required=True, metavar="DIR", type=click.Path(), help="Folder of all quarantines.")
@click.option("--review", is_flag=True, help="Set rows for review apart too.")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Private key that signs the manifest; repeatable.")
@trusted_report
@click.option("--policy", metavar="FILE", type=click.Path(), help="The policy that the scan has to have followed.")
@debug_option
def quarantine(
    data: str, report: str, out: str, review: bool, keys: tuple[str, ...], trust: str | None, policy: str | None
) -> None:
    """Write the clean rows of DATA and its flagged rows, with their reasons, into two Parquet files with a manifest.

    DATA must be what was scanned, byte for byte. Rows whose findings are waived stay with the clean ones. Nothing is
    deleted, and each run makes a folder of its own below --out.

    The report says which rows are flagged, and whoever can write it decides that: "scan --sign-with" signs it, and --trust
    takes only what the trust file's role scan signed.

    Exit code 0: set apart. 1: refused, as the report or its signature is not what it should be. 2: an error.
    """
    from foretaste.quarantine import split

    if policy is not None and trust is None:
        raise click.UsageError("--policy is held against a signed report; say whose with --trust.")
    severities = ("block", "review") if review else ("block",)
    loaded, names = read_report(report, trust, policy)
    made = split(data, loaded, out, severities=severities, signers=opened(keys), report_signers=names)
    click.echo(f"{made.clean_rows:,} clean rows: {made.clean}")
    click.echo(f"{made.quarantined_rows:,} rows set apart: {made.quarantined}")
    click.echo(f"manifest: {made.manifest}" + (f", signed in {made.signature}" if made.signature else ""))
    click.echo(f"next: scan {made.clean} before training; foretaste release {made.manifest.parent} lets rows back in")


@click.command(short_help="Let rows out of a quarantine.")
@click.argument("run", type=click.Path())
@click.option("--out", required=True, metavar="DIR", type=click.Path(), help="Folder of all releases.")
@click.option("--owner", required=True, help="Who answers for it.")
@click.option("--reason", required=True, help="Why, for people.")
@click.option(
    "--row", "rows", multiple=True, type=int, metavar="N", help="Number of a row (foretaste_row); repeatable."
)
@click.option("--finding", "findings", multiple=True, metavar="FINGERPRINT", help="Rows with no other finding.")
@click.option("--all", "everything", is_flag=True, help="All rows of the quarantine.")
@click.option(
    "--trust", metavar="FILE", type=click.Path(), help="Trust file: its role quarantine has signed the manifest."
)
@debug_option
def release(
    run: str, out: str, owner: str, reason: str, rows: tuple[int, ...], findings: tuple[str, ...], everything: bool,
    trust: str | None,
) -> None:  # fmt: skip
    """Write the clean rows of the quarantine RUN and the chosen rows as a new data set, in their old order.

    RUN is a folder that foretaste quarantine made; it stays as it is, and its files must be those of its manifest.
    Without --trust, whoever may write to RUN may also write a manifest for other files.

    Exit code 0: released. 1: refused, as a file or a signature is not what it should be. 2: an error.
    """
    from foretaste.quarantine import release

    made = release(
        run, out, owner=owner, reason=reason, rows=rows, findings=findings, everything=everything, trust=trust
    )
    if not made.signers:
        click.echo("the quarantine's signature was not checked; give --trust", err=True)
    click.echo(f"{made.rows:,} rows, of which {made.released_rows:,} were released: {made.data}")
    click.echo(f"{made.kept_rows:,} rows stay in quarantine; manifest: {made.manifest}")
    click.echo(f"next: scan {made.data} before training")


@click.command(short_help="Sign what you deliver.")
@click.argument("data", type=click.Path())
@click.option("--digest", metavar="sha256:…", help="Sign this digest under the name DATA, and read nothing.")
@click.option("--key", "keys", multiple=True, required=True, metavar="KEY", help="Private key; repeatable.")
@click.option("--vouch", "sources", multiple=True, metavar="SOURCE", help="A source of rows that you answer for.")
@click.option("--out", required=True, metavar="FILE", type=click.Path(), help="Where the attestation goes.")
@debug_option
def attest(data: str, digest: str | None, keys: tuple[str, ...], sources: tuple[str, ...], out: str) -> None:
    """Sign that DATA is what you hand over, for whoever scans it with --attestation.

    Without --vouch it speaks for all rows. It holds for exactly these files: their bytes and names. For rows that no file
    holds, such as a batch of Great Expectations, --digest takes the data digest that a scan of them reported.
    """
    from foretaste import deliveries

    if digest is None:
        digest = deliveries.digest_of(data)
    elif not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise click.UsageError(f"--digest {digest} is no digest; write sha256: and 64 hex digits")
    text = deliveries.sign(Path(data).name, digest, keys, sources)
    try:
        Path(out).write_text(text, encoding="utf-8")
    except OSError as e:
        raise InputError(f"cannot write {out}: {e.strerror}; choose another --out") from e
    click.echo(f"wrote {out} over {digest}")


def register(group: click.Group) -> None:
    """Add the commands to the command line."""
    for command in (waive, quarantine, release, attest):
        group.add_command(command)
