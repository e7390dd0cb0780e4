"""A certificate: signed in-toto statements that one data set was scanned under one policy, and what came of it.

One file, one envelope a line, all about the same digest: ours first (:data:`PREDICATE_TYPE`), then the standard
test-result, and on a pass the standard simple verification result. Ours names the digests of the other two, so that
none of them can be left out or exchanged.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from foretaste._version import __version__
from foretaste.errors import InputError, VerificationError
from foretaste.provenance import canonical, dsse, manifest
from foretaste.provenance.manifest import Manifest
from foretaste.provenance.statement import Statement, as_digest_set, parse, timestamp
from foretaste.results import Outcome, Report

if TYPE_CHECKING:
    import pyarrow.fs
    from securesystemslib.signer import Signer

    from foretaste.policy import Policy
    from foretaste.provenance.keys import TrustRoot
    from foretaste.roles import Roles

PREDICATE_TYPE = "https://foretaste.dev/data-certificate/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
VERIFICATION_RESULT = "https://in-toto.io/attestation/svr/v0.2"
VERIFIER = "https://foretaste.dev/verifier/v1"
# Findings of a pass are reviews: a certificate names so many, and counts the rest.
MAX_FINDINGS = 1000
_RESULTS = {Outcome.PASS: "PASSED", Outcome.REVIEW: "WARNED"}


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The envelopes of one certificate, ours first."""

    envelopes: tuple[dsse.Envelope, ...]

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of our statement: the certificate's name, for revocation."""
        return self.envelopes[0].digest

    def statement(self) -> Statement:
        """What it says; only :mod:`foretaste.provenance.verify` tells whether that is to be believed.

        Raises:
            VerificationError: if it is malformed.
        """
        return parse(self.envelopes[0].payload, "the certificate")

    def signed(self, signer: Signer) -> Certificate:
        """The certificate with one more signature on every envelope.

        Raises:
            InputError: if the signer fails.
        """
        return replace(self, envelopes=tuple(dsse.sign(e, signer) for e in self.envelopes))

    def to_text(self) -> str:
        """One envelope a line, as an in-toto bundle."""
        return "".join(f"{e.to_json()}\n" for e in self.envelopes)

    def write(self, path: str | Path) -> Path:
        """Write it to a file, such as ``train.intoto.jsonl``.

        Raises:
            InputError: if it cannot be written.
        """
        return write_text(path, self.to_text())

    @classmethod
    def load(cls, source: str | Path | bytes | Certificate) -> Certificate:
        """From a file, or from its bytes.

        Raises:
            InputError: if the file cannot be read.
            VerificationError: if it is malformed.
        """
        if isinstance(source, Certificate):
            return source
        raw = source if isinstance(source, bytes) else read(source, "certificate")
        return cls(envelopes=dsse.parse_lines(raw, "the certificate"))


def certify(
    data: Any,
    signers: Sequence[Signer],
    *,
    report: Report | str | Path | None = None,
    trust: str | Path | Mapping[str, Any] | TrustRoot | None = None,
    unsigned_report: bool = False,
    policy: Policy | str | Path | Mapping[str, Any] | None = None,
    roles: Roles | Mapping[str, str | None] | None = None,
    name: str | None = None,
    sequence: int | None = None,
    chain: str | Path | None = None,
    with_rows: bool = True,
    filesystem: pyarrow.fs.FileSystem | None = None,
) -> Certificate:
    """Certify data that passed a scan. Scans them first where no report is given.

    Whoever can write a ``report.json`` decides what it says. So one from a file has to be signed by who scanned (see
    :mod:`foretaste.provenance.scans`), or ``unsigned_report`` says that nobody else can write there; the certificate
    tells which.

    Args:
        data: path, glob, directory or address; or a pandas, polars or pyarrow object in memory, whose certificate is
            about its rows in any order, with all columns and without an index.
        signers: see :func:`foretaste.provenance.signers.open_signer`; at least one.
        report: report of the scan of these very data, or its ``report.json``.
        trust: trust file whose role ``scan`` says who signs reports; needed for a report from a file.
        unsigned_report: take the report from a file that nobody signed.
        policy: of the scan; a report made with another one is refused.
        roles: column roles, for a scan.
        name: of the data set; the last part of the path where ``None``. A verifier may ask for it.
        sequence: number of this state of the data set, higher than that of any before. A verifier may ask for a lowest
            one, so that nobody puts an older state with its own certificate in the place of this one.
        chain: chain of custody that ends with these data; the certificate is then good only together with it.
        with_rows: build the tree over the rows as well, so that single rows can be proven in or out.
        filesystem: for a path on a file system that Arrow does not know by address.

    Raises:
        VerificationError: if the verdict is neither pass nor review, the report is not signed, the data are not those
            of the report, the policy is not that of the report, or the chain does not end with these data.
        InputError: if something cannot be read, or a key cannot sign.
        PolicyError: if the policy or the trust file is not valid.
    """
    from foretaste.policy import Policy
    from foretaste.reading.dataset import open_data
    from foretaste.report.model import to_dict, to_json
    from foretaste.roles import Roles

    if not signers:
        raise InputError("a certificate needs a signature; name a key")
    framed = not isinstance(data, str | os.PathLike)
    if sequence is not None and not 0 <= sequence < 2**53:
        raise InputError(f"sequence must be a whole number from 0 to 2^53 - 1, not {sequence}")
    chosen = Policy.load(policy)
    if report is None:
        from foretaste.engine import scan

        report = scan(data, chosen, roles=roles, filesystem=filesystem)
    if isinstance(report, Report):
        made, tree, raw, origin = report, to_dict(report), to_json(report).encode(), {"origin": "scanned"}
    else:
        made, tree, raw, origin = _from_file(report, trust, unsigned_report)
    _refuse_verdict(made)
    if policy is not None and chosen.digest != made.policy_digest:
        raise VerificationError(
            f"the report was made with the policy {made.policy_digest}, not with this one ({chosen.digest}); scan again"
        )
    source = made.data.roles.get("source")
    if framed:
        parts = manifest.build_frame(data, source)
        digest = open_data(data, Roles(**made.data.roles), options=chosen.input).digest
    else:
        parts = manifest.build(data, with_rows=with_rows, source=source, filesystem=filesystem)
        digest = parts.digest
    if digest != made.data.digest:
        raise VerificationError(
            f"{parts.name} has changed since it was scanned (digest {digest}, report {made.data.digest}); scan it again"
        )
    predicate = _predicate(made, tree, parts)
    predicate["report"] = {"mediaType": "application/json", "digest": as_digest_set(canonical.digest(raw)), **origin}
    if sequence is not None:
        predicate["sequence"] = sequence
    if chosen.digest == made.policy_digest:
        predicate["policy"]["content"] = chosen.as_dict()
    if chain is not None:
        from foretaste.provenance.chain import Chain

        predicate["chain"] = {"statement": as_digest_set(Chain.load(chain).tip(parts.digest).digest)}
    subject = ((name or PurePosixPath(parts.name).name or parts.name, parts.digest),)
    beside = [Statement(subjects=subject, predicate_type=kind, predicate=p) for kind, p in _standard(made, predicate)]
    predicate["statements"] = [
        {"predicateType": s.predicate_type, "digest": as_digest_set(s.envelope.digest)} for s in beside
    ]
    ours = Statement(subjects=subject, predicate_type=PREDICATE_TYPE, predicate=predicate)
    certificate = Certificate(envelopes=tuple(s.envelope for s in (ours, *beside)))
    for signer in signers:
        certificate = certificate.signed(signer)
    return certificate


def _from_file(path: str | Path, trust: Any, unsigned: bool) -> tuple[Report, dict[str, Any], bytes, dict[str, Any]]:
    """A report, its JSON and bytes, and whether somebody signed it."""
    if unsigned:
        return *read_report(path), {"origin": "unsigned"}
    if trust is None:
        raise VerificationError(
            f"who wrote {path}? Give the trust file whose role scan signs reports (trust, --trust), leave the report "
            "out to scan again, or say that nobody else can write there (unsigned_report, --unsigned-report)"
        )
    from foretaste.provenance import scans
    from foretaste.provenance.keys import TrustRoot

    made, tree, raw, names = scans.verify(path, TrustRoot.load(trust))
    return made, tree, raw, {"origin": "signed", "signers": list(names)}


def read(path: str | Path, what: str) -> bytes:
    """The bytes of a file, on this machine or at an address.

    Raises:
        InputError: if it cannot be read.
    """
    from foretaste.reading.stores import read_file

    try:
        return read_file(path)
    except OSError as e:
        raise InputError(f"cannot read the {what} {path}: {e.strerror or e}; check the path") from e


def write_text(path: str | Path, text: str) -> Path:
    """Write a file, and its folder where that is missing.

    Raises:
        InputError: if it cannot be written.
    """
    from foretaste.reading.stores import local

    target = local(path, "this file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as e:
        raise InputError(f"cannot write {target}: {e.strerror}; choose another place") from e
    return target


def read_report(path: str | Path) -> tuple[Report, dict[str, Any], bytes]:
    """A ``report.json``: the report, its JSON, and its bytes.

    Raises:
        InputError: if it cannot be read, or another release wrote it.
        VerificationError: if it is malformed, or its verdict is not what its results say.
    """
    from foretaste.report.model import from_dict

    raw = read(path, "report")
    tree = canonical.decode(raw, str(path))
    try:
        made = from_dict(tree)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise InputError(f"{path} is no report of this release ({type(e).__name__}: {e}); scan again") from e
    if made.verdict.value != tree.get("verdict"):
        raise VerificationError(
            f'{path} says "{tree.get("verdict")}", but its results say "{made.verdict.value}": it was changed; scan again'
        )
    return made, tree, raw


def _refuse_verdict(report: Report) -> None:
    if report.verdict not in _RESULTS:
        raise VerificationError(f"no certificate for data that did not pass; {report.headline()}")


def _predicate(report: Report, tree: Mapping[str, Any], parts: Manifest) -> dict[str, Any]:
    """What we say. Text of the data stays out: a certificate goes places where the data do not."""
    found = [f for result in tree["results"] for f in result["findings"]]
    told = ("check", "kind", "severity", "fingerprint", "observed", "limit", "waived")
    return {
        "verdict": report.verdict.value,
        "timeCreated": timestamp(),
        "tool": {"name": "foretaste", "version": report.version, "certifiedBy": __version__},
        "data": {
            "kind": report.data.kind,
            "rows": report.data.rows,
            "bytes": parts.bytes,
            "files": len(parts.files),
            "subject": "files" if parts.files else "rows",
            "roles": dict(report.data.roles),
            "schema": [{"name": n, "type": t} for n, t in parts.schema],
            "rowTree": parts.to_dict()["rows"],
            "sources": dict(parts.sources),
            "leftOut": [dataclasses.asdict(f) for f in parts.left_out],
        },
        "policy": {"digest": as_digest_set(report.policy_digest)},
        "checks": [
            {"check": r.check, "outcome": r.outcome.value, "findings": len(r.findings)}
            | ({"package": r.package} if r.package else {})
            for r in report.results
        ],
        "findings": [{k: f[k] for k in told} | {"rows": f["row_count"]} for f in found[:MAX_FINDINGS]],
        "findingsTotal": len(found),
        "waivers": [w for w in tree["waivers"] if w["fate"] == "applied"],
        "power": tree["power"],
    }


def _standard(report: Report, ours: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The standard predicates: which checks passed, and on a pass the summary."""
    policy = [{"name": "foretaste policy", "digest": ours["policy"]["digest"]}]

    def checks(*outcomes: Outcome) -> list[str]:
        return [r.check for r in report.results if r.outcome in outcomes]

    result = {
        "result": _RESULTS[report.verdict],
        "configuration": policy,
        "passedTests": checks(Outcome.PASS),
        "warnedTests": checks(Outcome.REVIEW),
        "failedTests": checks(Outcome.BLOCK, Outcome.ERROR),
    }
    made = [(TEST_RESULT, result)]
    if report.verdict is Outcome.PASS:
        summary = {
            "verifier": {"id": VERIFIER, "policies": policy},
            "timeCreated": ours["timeCreated"],
            "properties": [
                "FORETASTE_PASSED",
                *(f"FORETASTE_{c.upper().replace('-', '_')}" for c in checks(Outcome.PASS)),
            ],
        }
        made.append((VERIFICATION_RESULT, summary))
    return made


def load_json(path: str | Path, what: str) -> Any:
    """JSON of a file, read strictly.

    Raises:
        InputError: if it cannot be read.
        VerificationError: if it is not valid.
    """
    return canonical.decode(read(path, what), f"the {what} {path}")


def dump_json(path: str | Path, tree: Any) -> Path:
    """Write JSON to a file.

    Raises:
        InputError: if it cannot be written.
    """
    return write_text(path, json.dumps(tree, indent=1, ensure_ascii=True) + "\n")
