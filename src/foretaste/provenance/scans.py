"""Signed scans: a ``report.json`` bound to the key of whoever scanned, so that it can be certified, or acted on, elsewhere.

An in-toto Statement about the data's digest, in a DSSE envelope beside the report: it names the bytes of the report and of
``flagged.parquet``, and what they were made from, whatever the verdict. Without it, whoever can write to the report decides
what is certified, and which rows a quarantine calls clean.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretaste.errors import VerificationError
from foretaste.provenance import canonical, dsse
from foretaste.provenance.certificate import read as read_bytes
from foretaste.provenance.certificate import read_report, write_text
from foretaste.provenance.statement import Statement, as_digest_set, from_digest_set, parse, timestamp
from foretaste.report import FLAGGED, file_of, whole

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from foretaste.provenance.keys import TrustRoot
    from foretaste.results import Report

PREDICATE_TYPE = "https://foretaste.dev/scan/v1"
ROLE = "scan"
FILE = "scan.intoto.json"


def sign(report: str | Path, signers: Iterable[Signer]) -> Path:
    """Sign a ``report.json``, and the ``flagged.parquet`` beside it: writes :data:`FILE` beside them.

    Raises:
        InputError: if the report cannot be read, or a key cannot sign.
        VerificationError: if the report is malformed.
    """
    made, _, raw = read_report(report)
    predicate: dict[str, Any] = {
        "report": {"mediaType": "application/json", "digest": as_digest_set(canonical.digest(raw))},
        "policy": {"digest": as_digest_set(made.policy_digest)},
        "tool": {"name": "foretaste", "version": made.version},
        "verdict": made.verdict.value,
        "timeCreated": timestamp(),
    }
    flagged = Path(report).with_name(FLAGGED)
    if flagged.is_file():
        predicate["flagged"] = {"name": FLAGGED, "digest": as_digest_set(canonical.digest(read_bytes(flagged, "rows")))}
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
    made, tree, raw, names, _ = _verified(report, trust)
    return made, tree, raw, names


def read(path: str | Path, trust: TrustRoot, policy: str | None = None) -> tuple[Report, tuple[str, ...]]:
    """The report of an earlier scan with all its rows, and the names of the keys that signed it in the role ``scan``.

    Args:
        path: folder of the report, or its ``report.json``.
        trust: keys by which it is judged.
        policy: digest of the policy that the scan has to have followed: a report of the same data under fewer checks is
            as well signed.

    Raises:
        VerificationError: if it, or the table of its rows, is not signed by enough keys, or is not what they signed, or the
            scan followed another policy.
        InputError: if a file cannot be read.
        PolicyError: if the trust file gives the role no keys.
    """
    file = file_of(path)
    made, tree, _, names, said = _verified(file, trust)
    if policy is not None and policy != made.policy_digest:
        raise VerificationError(f"{file} is of a scan under the policy {made.policy_digest}, not {policy}; scan again")

    def flagged() -> bytes:
        raw = read_bytes(file.with_name(FLAGGED), "rows")
        if "flagged" not in said.predicate:
            raise VerificationError(f"{FLAGGED} beside {file} was not signed; scan again with --sign-with")
        if _digest(said, "flagged") != canonical.digest(raw):
            raise VerificationError(f"{FLAGGED} beside {file} is not what was signed; scan again")
        return raw

    return whole(tree, file, flagged), names


def _verified(report: str | Path, trust: TrustRoot) -> tuple[Report, dict[str, Any], bytes, tuple[str, ...], Statement]:
    beside = Path(report).with_name(FILE)
    made, tree, raw = read_report(report)
    if not beside.is_file():
        raise VerificationError(f"nobody signed {report}: {FILE} is not beside it; scan again with --sign-with")
    proven = dsse.verify(dsse.parse(read_bytes(beside, "signed scan"), str(beside)), trust, ROLE, what=str(beside))
    said = parse(proven.payload, str(beside))
    if said.predicate_type != PREDICATE_TYPE:
        raise VerificationError(f"{beside} holds {said.predicate_type!r}, not {PREDICATE_TYPE!r}")
    theirs = (said.subjects[0][1], *(_digest(said, name) for name in ("report", "policy")), said.text("verdict"))
    if theirs != (made.data.digest, canonical.digest(raw), made.policy_digest, made.verdict.value):
        raise VerificationError(f"{report} is not the report that was signed; scan again")
    return made, tree, raw, tuple(sorted(k.name for k in proven.keys)), said


def _digest(statement: Statement, name: str) -> str:
    part = statement.predicate.get(name)
    try:
        return from_digest_set(part.get("digest") if isinstance(part, dict) else None)
    except ValueError as e:
        raise VerificationError(f"the signed scan is malformed: {e}") from e
