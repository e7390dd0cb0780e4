"""Signed scans: a ``report.json`` bound to the key of whoever scanned, so that it can be certified elsewhere.

An in-toto Statement about the data's digest, in a DSSE envelope beside the report: it names the bytes of the report, and
what they were made from. Without it, whoever can write to the report decides what is certified.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretaste.errors import VerificationError
from foretaste.provenance import canonical, dsse
from foretaste.provenance.certificate import read, read_report, write_text
from foretaste.provenance.statement import Statement, as_digest_set, from_digest_set, parse, timestamp

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from foretaste.provenance.keys import TrustRoot
    from foretaste.results import Report

PREDICATE_TYPE = "https://foretaste.dev/scan/v1"
ROLE = "scan"
FILE = "scan.intoto.json"


def sign(report: str | Path, signers: Iterable[Signer]) -> Path:
    """Sign a ``report.json``: writes :data:`FILE` beside it.

    Raises:
        InputError: if the report cannot be read, or a key cannot sign.
        VerificationError: if the report is malformed.
    """
    made, _, raw = read_report(report)
    predicate = {
        "report": {"mediaType": "application/json", "digest": as_digest_set(canonical.digest(raw))},
        "policy": {"digest": as_digest_set(made.policy_digest)},
        "tool": {"name": "foretaste", "version": made.version},
        "verdict": made.verdict.value,
        "timeCreated": timestamp(),
    }
    envelope = Statement(
        subjects=((made.data.name, made.data.digest),), predicate_type=PREDICATE_TYPE, predicate=predicate
    ).envelope
    for signer in signers:
        envelope = dsse.sign(envelope, signer)
    return write_text(Path(report).with_name(FILE), envelope.to_json() + "\n")


def verify(report: str | Path, trust: TrustRoot) -> tuple[Report, dict[str, Any], bytes, tuple[str, ...]]:
    """A ``report.json``, its JSON and its bytes, with the names of the keys that signed it in the role ``scan``.

    Raises:
        VerificationError: if it is not signed by enough of them, or is not what they signed.
        InputError: if a file cannot be read.
        PolicyError: if the trust file gives the role no keys.
    """
    beside = Path(report).with_name(FILE)
    made, tree, raw = read_report(report)
    if not beside.is_file():
        raise VerificationError(
            f"nobody signed {report}: {FILE} is not beside it; scan with --sign-with, or leave --report out and scan again"
        )
    proven = dsse.verify(dsse.parse(read(beside, "signed scan"), str(beside)), trust, ROLE, what=str(beside))
    said = parse(proven.payload, str(beside))
    if said.predicate_type != PREDICATE_TYPE:
        raise VerificationError(f"{beside} holds {said.predicate_type!r}, not {PREDICATE_TYPE!r}")
    theirs = (said.subjects[0][1], *(_digest(said, name) for name in ("report", "policy")), said.text("verdict"))
    if theirs != (made.data.digest, canonical.digest(raw), made.policy_digest, made.verdict.value):
        raise VerificationError(f"{report} is not the report that was signed; scan again")
    return made, tree, raw, tuple(sorted(k.name for k in proven.keys))


def _digest(statement: Statement, name: str) -> str:
    part = statement.predicate.get(name)
    try:
        return from_digest_set(part.get("digest") if isinstance(part, dict) else None)
    except ValueError as e:
        raise VerificationError(f"the signed scan is malformed: {e}") from e
