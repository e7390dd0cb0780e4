"""Keys and trust files on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from foretaste.commands import options
from foretaste.errors import InputError

if TYPE_CHECKING:
    from foretaste.provenance.keys import TrustRoot

ROLES = ("certificate", "scan", "step", "waiver", "approval", "baseline", "delivery", "quarantine")


@click.group(short_help="Make keys, and say whom to trust.")
def keys() -> None:
    """Make keys, and say in a trust file whose signatures count."""


@keys.command("generate")
@click.argument("file", metavar="KEY.pem", type=click.Path(dir_okay=False))
@click.option("--type", "keytype", type=click.Choice(["ed25519", "ecdsa"]), default="ed25519", show_default=True)
@click.option("--passphrase", is_flag=True, help="Lock the private key; FORETASTE_KEY_PASSPHRASE, or asked for.")
def generate(file: str, keytype: str, passphrase: bool) -> None:
    """Make a key pair: KEY.pem to sign with, readable by you alone, and KEY.pub to give away."""
    import os

    from foretaste.provenance import signers

    secret = None
    if passphrase:
        secret = os.environ.get(signers.PASSPHRASE) or click.prompt(
            "Passphrase", hide_input=True, confirmation_prompt=True, err=True
        )
    key = signers.generate(file, "ed25519" if keytype == "ed25519" else "ecdsa", secret)
    public = signers.public_path(Path(file))
    click.echo(f"wrote {file} (keep it secret) and {public}\nkey id: {key.keyid}")
    click.echo(f"next: foretaste keys trust trust.yaml {public} --role certificate")


@keys.command("trust")
@click.argument("trust", metavar="TRUST.yaml", type=click.Path(dir_okay=False))
@click.argument("key", metavar="KEY")
@click.option("--name", help="Name of the key; that of the file without it.")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), help="What it may sign; several times.")
@click.option("--owner", default="", help="Who answers for it.")
@click.option("--expires", metavar="YYYY-MM-DD", help="Last day on which its signatures count.")
@click.option("--threshold", type=int, help="Distinct keys that must sign in these roles.")
def trust(
    trust: str, key: str, name: str | None, roles: tuple[str, ...], owner: str, expires: str | None,
    threshold: int | None,
) -> None:  # fmt: skip
    """Add KEY to a trust file, made if needed: a PEM file, or a key of a service (awskms:, gcpkms:, hv:, hsm:, sigstore:).

    A key of a service is asked for once; what it answered stands in the file. Comments in the file are not kept.
    """
    import dataclasses

    from foretaste.provenance import signers
    from foretaste.provenance.keys import Role, TrustRoot, trusted

    if ":" in key and not Path(key).exists():
        address, public = signers.import_key(key)
        click.echo(f"sign with: --key {address}")
    else:
        public = signers.read_public(key, ask)
    root = TrustRoot.load(trust) if Path(trust).exists() else TrustRoot()
    name = name or Path(key).stem
    try:
        old_key = root.keys.get(name)
        ours = trusted(
            public, name, owner=owner or (old_key.owner if old_key else ""),
            expires=expires or (old_key.expires if old_key else None), revoked=old_key.revoked if old_key else None,
        )  # fmt: skip
        if old_key is not None and old_key.keyid != ours.keyid:
            raise ValueError(f'the name "{name}" belongs to another key; choose another one with --name')
        made = dict(root.roles)
        for role in roles:
            old = made.get(role)
            names = dict.fromkeys([*(old.keys if old else ()), name])
            made[role] = Role(
                keys=tuple(names),
                threshold=threshold or (old.threshold if old else 1),
                max_age_days=old.max_age_days if old else None,
            )
        added = dataclasses.replace(root, keys={**root.keys, name: ours}, roles=made)
    except ValueError as e:
        raise InputError(f"{e}; nothing was written") from e
    _write(trust, added)
    click.echo(f'{trust}: key "{name}" ({ours.keyid[:12]}), roles: {", ".join(roles) or "none"}')


@keys.command("revoke")
@click.argument("trust", metavar="TRUST.yaml", type=click.Path(exists=True, dir_okay=False))
@click.argument("name", metavar="NAME")
@click.option("--reason", required=True, help="Stands in every refusal.")
def revoke(trust: str, name: str, reason: str) -> None:
    """Revoke a key by NAME, or one statement by its sha256:DIGEST; nothing is deleted."""
    import dataclasses

    from foretaste.errors import did_you_mean
    from foretaste.provenance.keys import TrustRoot

    root = TrustRoot.load(trust)
    if name.startswith("sha256:"):
        root = dataclasses.replace(root, revoked={**root.revoked, name: reason})
    elif name in root.keys:
        gone = dataclasses.replace(root.keys[name], revoked=reason)
        root = dataclasses.replace(root, keys={**root.keys, name: gone})
    else:
        raise InputError(f'{trust} has no key "{name}"; {did_you_mean(name, root.keys)}')
    _write(trust, root)
    click.echo(f"{trust}: {name} is revoked")


@keys.command("show")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def show(file: str) -> None:
    """Show a trust file, or the id of a PEM key."""
    if Path(file).suffix in (".pem", ".pub"):
        from foretaste.provenance import signers

        key = signers.read_public(file, ask)
        click.echo(f"{key.keyid}  {key.scheme}")
        return
    from foretaste.provenance.keys import TrustRoot

    root = TrustRoot.load(file)
    options.show(lambda console: console.print(_table(root)))


def _table(root: TrustRoot) -> object:
    from datetime import UTC, datetime

    from rich.table import Table
    from rich.text import Text

    from foretaste.report.escape import visible

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("key", "id", "scheme", "owner", "roles", "expires", "state"):
        table.add_column(title)
    for key in root.keys.values():
        roles = [
            f"{n} ({r.threshold} of {len(r.keys)})" if len(r.keys) > 1 else n
            for n, r in root.roles.items()
            if key.name in r.keys
        ]
        fault = key.fault(datetime.now(UTC))
        state = "good" if fault is None else f"revoked: {key.revoked}" if key.revoked is not None else "expired"
        cells = (
            key.name,
            key.keyid[:12],
            f"{key.scheme} {key.identity}".strip(),
            key.owner,
            ", ".join(roles),
            key.expires or "never",
            state,
        )
        table.add_row(*(Text(visible(c)) for c in cells))
    for digest, reason in root.revoked.items():
        table.add_row(Text("(statement)"), Text(digest[7:19]), "", "", "", "", Text(visible(f"revoked: {reason}")))
    return table


def _write(path: str, root: TrustRoot) -> None:
    try:
        Path(path).write_text(root.to_yaml(), encoding="utf-8")
    except OSError as e:
        raise InputError(f"cannot write {path}: {e.strerror}; choose another place") from e


def ask() -> str:
    """Ask a person for a passphrase."""
    return str(click.prompt("Passphrase", hide_input=True, err=True))


def register(main: click.Group) -> None:
    """Add the commands to ``foretaste``."""
    main.add_command(keys)
