"""Deliveries: what a source signed about the data that it handed over.

A delivery attestation is an in-toto Statement in a DSSE envelope. Its subject is the data, by the digest that a report
gives; its predicate lists the sources that the signer vouches for, or none for all rows. A vendor makes one with
``foretaste attest``; a scan takes it with ``--attestation`` and ``--trust``, and the source allowlist decides what a
signature is worth.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretaste.errors import InputError, VerificationError

if TYPE_CHECKING:
    from foretaste.provenance.keys import TrustedKey, TrustRoot

PREDICATE_TYPE = "https://foretaste.dev/delivery/v1"
ROLE = "delivery"


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Who signed: a Sigstore identity with its issuer, or a key."""

    name: str
    keyid: str
    identity: str = ""
    issuer: str = ""


@dataclass(frozen=True)
class Delivery:
    """One verified attestation: its signers, and the sources that they vouch for (``None``: all rows)."""

    signers: tuple[Signer, ...]
    sources: frozenset[str] | None


@dataclass(frozen=True)
class Deliveries:
    """What was attested about the data of one scan, and which attestations failed, with the reason."""

    verified: tuple[Delivery, ...] = ()
    failed: tuple[str, ...] = ()

    def signers(self, source: str) -> tuple[Signer, ...]:
        """Who vouches for rows of a source, as it stands in the data."""
        return tuple(s for d in self.verified if d.sources is None or source in d.sources for s in d.signers)


def verify(paths: Iterable[str | Path], digest: str, trust: TrustRoot) -> Deliveries:
    """Hold attestations against the data and the keys of the role ``delivery``.

    Raises:
        InputError: if a file cannot be read.
        PolicyError: if the trust file gives the role no keys.
    """
    from foretaste.reading.stores import read_file

    verified, failed = [], []
    for path in paths:
        try:
            verified.append(_verify(read_file(path), str(path), digest, trust))
        except VerificationError as e:
            failed.append(str(e))
        except OSError as e:
            raise InputError(f"cannot read the attestation {path}: {e.strerror or e}; check the path") from e
    return Deliveries(tuple(verified), tuple(failed))


def sign(name: str, digest: str, keys: Iterable[str], sources: Iterable[str] = ()) -> str:
    """A delivery attestation as JSON.

    Args:
        name: of the data, for people.
        digest: of the data, ``sha256:<hex>``.
        keys: private keys: PEM files or addresses of key services.
        sources: the sources that are vouched for, as they stand in the data; all rows where there is none.

    Raises:
        InputError: if a key cannot be opened.
    """
    from foretaste.provenance import canonical, dsse
    from foretaste.provenance.signers import open_signer

    algorithm, _, value = digest.partition(":")
    listed = sorted(set(sources))
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {algorithm: value}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"sources": listed} if listed else {},
    }
    envelope = dsse.Envelope(payload=canonical.encode(statement))
    for key in keys:
        envelope = dsse.sign(envelope, open_signer(key))
    return envelope.to_json() + "\n"


def _verify(raw: bytes, what: str, digest: str, trust: TrustRoot) -> Delivery:
    from foretaste.provenance import dsse
    from foretaste.provenance.statement import parse

    verified = dsse.verify(dsse.parse(raw, what), trust, ROLE, what=what)
    statement = parse(verified.payload, what)
    if statement.predicate_type != PREDICATE_TYPE:
        raise VerificationError(f"{what} is no delivery attestation; make one with foretaste attest")
    if digest not in (about for _, about in statement.subjects):
        raise VerificationError(f"{what} is for other data than these, whose digest is {digest}")
    if odd := sorted(statement.predicate.keys() - {"sources"}):  # it may narrow what is vouched for
        raise VerificationError(f"{what} says something that this release does not know: {odd[0]!r}")
    sources = None
    if "sources" in statement.predicate:
        listed = statement.predicate["sources"]
        if not (isinstance(listed, list) and listed and all(isinstance(s, str) for s in listed)):
            raise VerificationError(f"{what} has a malformed list of sources: {json.dumps(listed)[:100]}")
        sources = frozenset(listed)
    return Delivery(tuple(_signer(key) for key in verified.keys), sources)


def _signer(key: TrustedKey) -> Signer:
    return Signer(name=key.name, keyid=key.keyid, identity=key.identity, issuer=key.issuer)


def digest_of(data: Any) -> str:
    """The digest that a scan of the data reports; reads files once.

    Raises:
        InputError: if they cannot be read.
    """
    from foretaste.reading.formats import list_files

    try:
        return list_files(data).digest()
    except OSError as e:
        raise InputError(f"cannot read {data}: {e}; check the path") from e
