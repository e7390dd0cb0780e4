"""Manifests, certificates and the chain of custody on the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from foretaste.commands.keys import ask
from foretaste.commands.options import debug_option, role_options, show
from foretaste.errors import InputError, VerificationError

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from foretaste.provenance.chain import Chain, Link

KINDS = ("origin", "filter", "join", "dedupe", "split", "quarantine", "transform")
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _signing(command: _Command) -> _Command:
    """Options that name private keys."""
    key = click.option(
        "--key", "keys", multiple=True, required=True, metavar="KEY",
        help="PEM file, or address of a key service, to sign with; several times.",
    )  # fmt: skip
    known = click.option("--as", "known_as", metavar="NAME", help="Name in --trust that the key has to have.")
    return key(known(command))


def _trusting(required: bool) -> Callable[[_Command], _Command]:
    return click.option(
        "--trust", required=required, metavar="FILE", type=click.Path(), help="Trust file: whose signatures count."
    )


@click.command(short_help="Digest files and rows.")
@click.argument("data", type=click.Path())
@click.option(
    "--no-rows", is_flag=True, help="Files only: about a quarter of the work. Proofs about rows and frames need rows."
)
@click.option("--source", metavar="COL", help="Column that says where a row comes from, to count rows per source.")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False), help="File for the manifest; printed without.")
@debug_option
def manifest(data: str, no_rows: bool, source: str | None, out: str | None) -> None:
    """Digest the files of DATA, and its rows: the digest that reports carry, and the root of a tree over the rows."""
    from foretaste.provenance.certificate import dump_json
    from foretaste.provenance.manifest import build

    made = build(data, with_rows=not no_rows, source=source)
    if out is None:
        click.echo(made.to_json(), nl=False)
        return
    dump_json(out, made.to_dict())
    click.echo(f"{made.digest}\nwrote {out}")


@click.command(short_help="Sign that data passed.")
@click.argument("data", type=click.Path())
@click.option("--report", metavar="FILE", type=click.Path(), help="report.json of these data; scanned now without it.")
@click.option("--unsigned-report", is_flag=True, help="Take a report that nobody signed: who can write it, decides.")
@click.option("--policy", metavar="FILE", type=click.Path(), help="Policy file (YAML) of the scan.")
@role_options
@_signing
@_trusting(False)
@click.option("--name", help="Name of the data set; that of the file without it.")
@click.option("--sequence", type=click.IntRange(min=0), help="Number of this state of the data set; ever higher.")
@click.option("--chain", metavar="FILE", type=click.Path(), help="Chain of custody that the certificate is bound to.")
@click.option(
    "--no-rows",
    is_flag=True,
    help="No tree over the rows: digesting is a quarter of the work. Proofs about rows and frames need it.",
)
@click.option("--out", required=True, metavar="FILE", type=click.Path(dir_okay=False), help="File for the certificate.")
@debug_option
def certify(
    data: str, report: str | None, unsigned_report: bool, policy: str | None, keys: tuple[str, ...],
    known_as: str | None, trust: str | None, name: str | None, sequence: int | None, chain: str | None, no_rows: bool,
    out: str, **roles: str | None,
) -> None:  # fmt: skip
    """Certify DATA: scan them, or take the report of a scan, and sign what came of it as in-toto statements.

    A report is taken where "scan --sign-with" signed it with a key of the role "scan" in --trust.

    Exit code 0: certified. 1: refused, because the data did not pass or are not those of the report. 2: an error.
    """
    from foretaste.provenance.certificate import certify

    made = certify(
        data, _signers(keys, known_as, trust), report=report, trust=trust if report else None,
        unsigned_report=unsigned_report, policy=policy, name=name, sequence=sequence, chain=chain,
        roles={k.removeprefix("role_"): v for k, v in roles.items()}, with_rows=not no_rows,
    )  # fmt: skip
    made.write(out)
    statement = made.statement()
    click.echo(f"certified: verdict {statement.text('verdict')}, digest {statement.subjects[0][1]}")
    click.echo(f"wrote {out} ({made.digest})")


@click.command(short_help="Add a signature to a certificate.")
@click.argument("certificate", type=click.Path())
@_signing
@_trusting(False)
@click.option("--data", metavar="DATA", type=click.Path(), help="Read the data first, and sign only if they fit.")
@debug_option
def countersign(
    certificate: str, keys: tuple[str, ...], known_as: str | None, trust: str | None, data: str | None
) -> None:
    """Add one's own signature to CERTIFICATE, for a threshold or a new key, after showing what it says."""
    from foretaste.provenance.certificate import Certificate
    from foretaste.provenance.manifest import build
    from foretaste.report.escape import visible

    held = Certificate.load(certificate)
    statement = held.statement()
    [(name, digest)] = statement.subjects
    said = f"{name}: {statement.number('data', 'rows'):,} rows, verdict {statement.text('verdict')}, {digest}"
    click.echo(visible(said))
    if data is not None and build(data, with_rows=False).digest != digest:
        raise VerificationError(f"{data} is not what was certified; nothing was signed")
    for signer in _signers(keys, known_as, trust):
        held = held.signed(signer)
    held.write(certificate)
    click.echo(f"{certificate} carries {len(held.envelopes[0].signatures)} signatures now")


@click.command(short_help="Hold data against a certificate.")
@click.argument("data", type=click.Path())
@click.option("--certificate", required=True, metavar="FILE", type=click.Path(), help="File of the certificate.")
@_trusting(True)
@click.option("--policy", metavar="FILE|sha256:…", help="The policy that holds now; the default policy without it.")
@click.option("--chain", metavar="FILE", type=click.Path(), help="Chain of custody.")
@click.option("--fail-on", type=click.Choice(["block", "review"]), default="block", show_default=True,
              help="review refuses a certificate with findings for review.")  # fmt: skip
@click.option("--name", help="Name of the data set that is wanted.")
@click.option("--min-sequence", type=int, help="Lowest sequence number that is wanted.")
@click.option("--copy", metavar="DIR", type=click.Path(), help="New folder for a copy, verified while it is written.")
@click.option("--json", "as_json", is_flag=True, help="Print the verified statement instead of the summary.")
@click.option("--quiet", "-q", is_flag=True, help="No output where the data are verified.")
@debug_option
def verify(
    data: str, certificate: str, trust: str, policy: str | None, chain: str | None, fail_on: str, name: str | None,
    min_sequence: int | None, copy: str | None, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Hold DATA against a certificate, right before training.

    Whoever may write to DATA can still change them afterwards: --copy leaves exactly the bytes that were verified in a
    folder that only you may read, which is the way for addresses (s3://, gs://, and what fsspec knows).

    Exit code 0: verified. 1: refused, with the reason. 2: something could not be read, which is never a pass.
    """
    from foretaste.provenance.verify import fetch, verify
    from foretaste.report.escape import visible

    wanted: dict[str, Any] = {
        "policy": policy, "chain": chain, "fail_on": fail_on, "name": name, "min_sequence": min_sequence
    }  # fmt: skip
    if copy is None:
        found = verify(data, certificate, trust, **wanted)
    else:
        found = fetch(data, copy, certificate, trust, **wanted).verification
    if as_json:
        click.echo(json.dumps(dict(found.statement.predicate), indent=1))
    elif not quiet:
        click.echo(visible(found.headline()))


@click.group(short_help="Prove that a row is, or is not, in certified data.")
def proof() -> None:
    """Prove that a row is, or is not, in certified data, without showing the data."""


@proof.command("make")
@click.argument("data", type=click.Path())
@click.option("--row", "number", type=click.IntRange(min=0), help="Number of the row, from 0.")
@click.option("--json", "text", metavar="JSON|-", help="The row itself: an object with all of its columns.")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False), help="File for the proof; printed without it.")
@debug_option
def proof_make(data: str, number: int | None, text: str | None, out: str | None) -> None:
    """Prove from DATA that a row is among their rows, or that it is not."""
    from foretaste.provenance.certificate import dump_json
    from foretaste.provenance.proof import prove

    if (number is None) == (text is None):
        raise click.UsageError("name the row with --row or with --json")
    made = prove(data, _row(str(text)) if number is None else number)
    if out is None:
        click.echo(json.dumps(made.to_dict(), indent=1))
    else:
        dump_json(out, made.to_dict())
        click.echo(f"the row is {'' if made.present else 'not '}in the data; wrote {out}")


@proof.command("check")
@click.argument("proof", type=click.Path())
@click.option("--json", "text", required=True, metavar="JSON|-", help="The row that the proof is about.")
@click.option("--certificate", required=True, metavar="FILE", type=click.Path(), help="File of the certificate.")
@_trusting(True)
@click.option("--policy", metavar="FILE|sha256:…", help="The policy that holds now; the default policy without it.")
@click.option("--chain", metavar="FILE", type=click.Path(), help="Chain of custody.")
@debug_option
def proof_check(proof: str, text: str, certificate: str, trust: str, policy: str | None, chain: str | None) -> None:
    """Check PROOF against a certificate; the data are not needed. Prints "in" or "not in".

    Exit code 0: the proof holds, whichever way. 1: it does not, or the certificate is refused. 2: an error.
    """
    from foretaste.provenance.proof import check
    from foretaste.provenance.verify import check_certificate

    found = check_certificate(certificate, trust, policy=policy, chain=chain)
    click.echo("in" if check(proof, _row(text), found.statement) else "not in")


@click.command(short_help="Record a step of the chain of custody.")
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--chain", required=True, metavar="FILE", type=click.Path(), help="File of the chain; made if needed.")
@click.option("--input", "inputs", multiple=True, metavar="DATA", type=click.Path(), help="Data read; several times.")
@click.option("--output", "outputs", multiple=True, required=True, metavar="DATA", type=click.Path(),
              help="Data made; several times.")  # fmt: skip
@click.option("--source", "sources", multiple=True, metavar="URI", help="Where an origin came from; several times.")
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="Parameter of the step.")
@_signing
@_trusting(False)
@debug_option
def record(
    kind: str, chain: str, inputs: tuple[str, ...], outputs: tuple[str, ...], sources: tuple[str, ...],
    parameters: tuple[str, ...], keys: tuple[str, ...], known_as: str | None, trust: str | None,
) -> None:  # fmt: skip
    """Sign a step that made data from other data, as SLSA provenance, and append it to a chain."""
    from foretaste.provenance.chain import record

    named = dict(p.partition("=")[::2] for p in parameters)
    if bad := [p for p in parameters if "=" not in p]:
        raise click.UsageError(f"--param {bad[0]} must be NAME=VALUE")
    if len(keys) != 1:
        raise click.UsageError("a step is signed with one --key")
    [signer] = _signers(keys, known_as, trust)
    link = record(chain, kind, signer, inputs=inputs, outputs=outputs, sources=sources, parameters=named)
    click.echo(f"{chain}: {kind} recorded ({link.digest})")


@click.command(short_help="Show the chain of custody.")
@click.argument("chain", type=click.Path())
@click.option("--data", metavar="DATA", type=click.Path(), help="Start from these data; from the last link without.")
@_trusting(False)
@click.option("--svg", metavar="FILE", type=click.Path(dir_okay=False), help="Draw the chain as a picture too.")
@debug_option
def lineage(chain: str, data: str | None, trust: str | None, svg: str | None) -> None:
    """Show how data came to be, as a tree: the data on top, below them what they were made from.

    With --trust every link is verified first, and a broken chain ends with exit code 1.
    """
    from foretaste.provenance import lineage
    from foretaste.provenance.chain import Chain

    held = Chain.load(chain)
    tip = _tip(held, data)
    if trust is not None:
        from foretaste.provenance.keys import TrustRoot

        held.verify(TrustRoot.load(trust), tip.statement.subjects[0][1])
    show(lambda console: console.print(lineage.tree(held, tip)))
    if trust is None:
        click.echo("signatures were not checked; give --trust", err=True)
    if svg is not None:
        try:
            Path(svg).write_text(lineage.svg(held, tip), encoding="utf-8")
        except OSError as e:
            raise InputError(f"cannot write {svg}: {e.strerror}; choose another place") from e


@click.command(short_help="Fetch the addresses of rows again, and compare.")
@click.argument("data", type=click.Path())
@click.option("--url", required=True, metavar="COL", help="Column with the addresses.")
@click.option("--digest", required=True, metavar="COL", help="Column with the recorded SHA-256.")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False), help="JSON lines of all rows that differ.")
@click.option("--workers", type=click.IntRange(1, 64), default=8, show_default=True, help="Connections at a time.")
@click.option("--timeout", type=float, default=20.0, show_default=True, help="Seconds to wait.")
@click.option("--allow-private", is_flag=True, help="Connect to addresses that are not public; read file:// too.")
@debug_option
def refetch(
    data: str, url: str, digest: str, out: str | None, workers: int, timeout: float, allow_private: bool
) -> None:
    """Fetch the address of every row of DATA again and compare with the digest recorded (split-view poisoning).

    Exit code 0: all the same. 1: some changed or are gone. 2: none did, but some could not be compared.
    """
    from foretaste.provenance import refetch
    from foretaste.report.escape import visible

    options = refetch.Options(workers=workers, timeout=timeout, private=allow_private)
    found = refetch.compare(data, url, digest, options)
    click.echo(", ".join(f"{found.counts.get(state, 0):,} {state.value}" for state in refetch.State))
    for row in found.differing[:20]:
        click.echo(visible(f"row {row.row}: {row.state.value} {row.note} {row.url}", 200))
    if out is not None:
        lines = "".join(json.dumps({**vars(row), "state": row.state.value}) + "\n" for row in found.differing)
        try:
            Path(out).write_text(lines, encoding="utf-8")
        except OSError as e:
            raise InputError(f"cannot write {out}: {e.strerror}; choose another place") from e
    sys.exit(1 if found.changed else 0 if found.complete else 2)


@click.command(short_help="Send OpenLineage events.")
@click.argument("file", metavar="REPORT|CHAIN", type=click.Path())
@click.option("--url", help="Collector; the client's own configuration (OPENLINEAGE_URL) without it.")
@click.option("--namespace", default="foretaste", show_default=True, help="Namespace of the jobs.")
@click.option("--job", default="scan", show_default=True, help="Name of the job that scanned.")
@debug_option
def emit(file: str, url: str | None, namespace: str, job: str) -> None:
    """Send what a report.json or a chain of custody says to an OpenLineage collector.

    Sending the same file again sends the same runs, so nothing is counted twice.
    """
    from foretaste.provenance.certificate import read, read_report
    from foretaste.report import openlineage

    if b"payloadType" in read(file, "file")[:4096]:
        from foretaste.provenance.chain import Chain

        events = openlineage.chain_events(Chain.load(file), namespace=namespace)
    else:
        report, _, _ = read_report(file)
        events = openlineage.report_events(report, namespace=namespace, job=job)
    click.echo(f"sent {openlineage.emit(events, url)} events")


def _signers(keys: tuple[str, ...], known_as: str | None, trust: str | None) -> list[Signer]:
    from foretaste.errors import did_you_mean
    from foretaste.provenance.keys import TrustRoot
    from foretaste.provenance.signers import open_signer

    known = None
    if known_as is not None:
        if trust is None:
            raise click.UsageError("--as names a key of a trust file; give --trust")
        root = TrustRoot.load(trust)
        if known_as not in root.keys:
            raise InputError(f'{trust} has no key "{known_as}"; {did_you_mean(known_as, root.keys)}')
        known = root.keys[known_as]
    return [open_signer(key, known, ask) for key in keys]


def _row(text: str) -> dict[str, Any]:
    from foretaste.provenance import canonical

    row = canonical.decode(sys.stdin.buffer.read() if text == "-" else text, "the row")
    if not isinstance(row, dict):
        raise InputError("a row is a JSON object with the names of all its columns")
    return row


def _tip(chain: Chain, data: str | None) -> Link:
    if data is None:
        return chain.links[-1]
    from foretaste.provenance.manifest import build

    return chain.tip(build(data, with_rows=False).digest)


def register(main: click.Group) -> None:
    """Add the commands to ``foretaste``."""
    for command in (manifest, certify, countersign, verify, proof, record, lineage, refetch, emit):
        main.add_command(command)
