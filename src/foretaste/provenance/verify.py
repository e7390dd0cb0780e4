"""Right before training: hold data against a certificate, and hand over the very bytes that were held against it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow.fs

from foretaste.errors import InputError, VerificationError
from foretaste.provenance import dsse
from foretaste.provenance.certificate import PREDICATE_TYPE, Certificate
from foretaste.provenance.chain import Chain, Link
from foretaste.provenance.keys import TrustRoot
from foretaste.provenance.manifest import build_frame, digest_files, folded, refuse_changed, row_tree, rows_digest
from foretaste.provenance.rows import ENCODING
from foretaste.provenance.statement import Statement, from_digest_set, from_timestamp, parse
from foretaste.reading.formats import FileDigest, Files, list_files, naming, root_digest

if TYPE_CHECKING:
    from foretaste.policy import Policy

ROLE = "certificate"
# Clocks of two machines differ a little; a certificate from later than that is not from this world.
_CLOCKS = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was verified.

    Attributes:
        name: of the data set, as the certificate has it.
        digest: ``sha256:<hex>`` of the data.
        rows: number of rows.
        verdict: ``pass`` or ``review``.
        created: when the data were certified, as the certificate has it.
        policy_digest: of the policy under which they were scanned.
        signers: names of the keys that signed, at least as many as the threshold.
        certificate: digest of the certificate.
        statement: all that it says.
        made_by: the last link of the chain of custody, where there is a chain.
    """

    name: str
    digest: str
    rows: int
    verdict: str
    created: datetime
    policy_digest: str
    signers: tuple[str, ...]
    certificate: str
    statement: Statement = field(repr=False)
    made_by: Link | None = field(default=None, repr=False)

    def headline(self) -> str:
        """One sentence, with names from the certificate in it: escape it."""
        day = self.created.date().isoformat()
        chain = "" if self.made_by is None else "; chain of custody verified"
        return (
            f"VERIFIED: {self.name}, {self.rows:,} rows, verdict {self.verdict} on {day}, signed by "
            f"{', '.join(self.signers)}{chain}"
        )


@dataclass(frozen=True, kw_only=True)
class VerifiedData(os.PathLike[str]):
    """A private copy of data that were verified while they were copied. Use it as a path.

    Attributes:
        path: of the file, or of the folder where there are several.
        files: all files of the copy.
        verification: what was verified.
    """

    path: Path
    files: tuple[Path, ...]
    verification: Verification

    def __fspath__(self) -> str:
        """The path, as ``open`` and the readers of pandas, polars and pyarrow take it."""
        return str(self.path)


def check_certificate(
    certificate: str | Path | bytes | Certificate,
    trust: str | Path | Mapping[str, Any] | TrustRoot,
    *,
    policy: Policy | str | Path | Mapping[str, Any] | None = None,
    chain: str | Path | bytes | Chain | None = None,
    fail_on: Literal["block", "review"] = "block",
    name: str | None = None,
    min_sequence: int | None = None,
    now: datetime | None = None,
) -> Verification:
    """Hold a certificate against keys, policy, time and chain; not yet against data.

    Args:
        certificate: file, or its bytes.
        trust: trust file: keys, roles and thresholds, and what is revoked. Must come from a safe place.
        policy: the policy that holds now, or its digest ``sha256:<hex>``; the default policy where ``None``.
        chain: chain of custody; needed where the certificate names one.
        fail_on: ``review`` refuses a certificate with findings for review.
        name: of the data set that is wanted; a certificate of another one is refused.
        min_sequence: lowest sequence number that is wanted, beside what the trust file says.
        now: the time to judge by.

    Raises:
        VerificationError: with all reasons that were found.
        InputError: if a file cannot be read.
        PolicyError: if the trust file or the policy is not valid.
    """
    now = now or datetime.now(UTC)
    root, given = TrustRoot.load(trust), Certificate.load(certificate)
    statement, signers = _authentic(given, root, now)
    reasons = list(_objections(statement, root, _digest_of(policy), fail_on, now))
    [(called, digest)] = statement.subjects
    reasons += _stale(statement, called, root, name, min_sequence)
    made_by = None
    try:
        made_by = _chained(statement, digest, chain, root, now)
    except VerificationError as e:
        reasons.append(str(e))
    if reasons:
        raise VerificationError("; ".join(reasons))
    return Verification(
        name=called,
        digest=digest,
        rows=statement.number("data", "rows"),
        verdict=statement.text("verdict"),
        created=from_timestamp(statement.text("timeCreated"), "timeCreated"),
        policy_digest=_policy_of(statement),
        signers=signers,
        certificate=given.digest,
        statement=statement,
        made_by=made_by,
    )


def verify(
    data: Any,
    certificate: str | Path | bytes | Certificate,
    trust: str | Path | Mapping[str, Any] | TrustRoot,
    *,
    filesystem: pyarrow.fs.FileSystem | None = None,
    **options: Any,
) -> Verification:
    """Hold data against a certificate: file by file, or a frame in memory row by row.

    Says what the data were while they were read. Whoever may write to them can change them afterwards: use
    :func:`verified` where the bytes that are trained on must be the bytes that were verified.

    Args:
        data: path, glob, directory or address; or a pandas, polars or pyarrow object in memory, whose rows are held
            against the tree over the rows: in any order, with all columns and without an index.
        certificate: see :func:`check_certificate`, as the other arguments.
        trust: see there.
        filesystem: for a path on a file system that Arrow does not know by address.
        options: policy, chain, fail_on, name, min_sequence and now, see there.

    Raises:
        VerificationError: if the certificate or the data are refused, with the reason.
        InputError: if a file or the object cannot be read.
        PolicyError: if the trust file or the policy is not valid.
    """
    found = check_certificate(certificate, trust, **options)
    if not isinstance(data, str | os.PathLike):
        made = build_frame(data)
        _refuse_other_rows(made.name, made.rows or 0, str(made.row_root), found)
        return found
    files = list_files(data, filesystem)
    with naming(files.name):
        if _about_rows(found):
            tree, _ = row_tree(files)
            _refuse_other_rows(files.name, tree.size, tree.root.hex(), found)
        else:
            _refuse_other(files, digest_files(files), found)
        _refuse_beside(files, found)
        refuse_changed(files)
    return found


@contextmanager
def verified(
    data: str | Path,
    certificate: str | Path | bytes | Certificate,
    trust: str | Path | Mapping[str, Any] | TrustRoot,
    *,
    directory: str | Path | None = None,
    filesystem: pyarrow.fs.FileSystem | None = None,
    **options: Any,
) -> Iterator[VerifiedData]:
    """Verified data to train on: a private copy, digested from the very bytes that were written to it.

    The copy lies in a folder that only this user may enter, readable and not writable, and is removed at the end. So
    nobody else who may write to the original, or to a share that it lies on, can come between the verification and
    the training. Against somebody who acts as this very user, or as root, on this machine, nothing here helps.

    Args:
        data: path, glob, directory or address.
        certificate: see :func:`check_certificate`, as the other arguments.
        trust: see there.
        directory: where the copy goes; the system's folder for temporary files where ``None``. It takes as much room
            as the data.
        filesystem: for a path on a file system that Arrow does not know by address.
        options: policy, chain, fail_on, name, min_sequence and now, see there.

    Raises:
        VerificationError: if the certificate or the data are refused, with the reason.
        InputError: if a file cannot be read or copied.
        PolicyError: if the trust file or the policy is not valid.
    """
    with _copied(data, certificate, trust, directory, filesystem, options) as (_, copy):
        yield copy


def fetch(
    data: str | Path,
    target: str | Path,
    certificate: str | Path | bytes | Certificate,
    trust: str | Path | Mapping[str, Any] | TrustRoot,
    *,
    filesystem: pyarrow.fs.FileSystem | None = None,
    **options: Any,
) -> VerifiedData:
    """Verified data that stay: as :func:`verified`, in a new folder ``target``, which appears when all of it is verified.

    For data behind an address, which somebody may exchange between verifying and training: hand on the copy instead.

    Args:
        data: path, glob, directory or address.
        target: folder that gets the files, readable by this user alone and not writable; must not exist.
        certificate: see :func:`check_certificate`, as the other arguments.
        trust: see there.
        filesystem: for a path on a file system that Arrow does not know by address.
        options: policy, chain, fail_on, name, min_sequence and now, see there.

    Raises:
        VerificationError: if the certificate or the data are refused, with the reason; nothing is left at ``target``.
        InputError: if a file cannot be read or copied, or ``target`` exists.
        PolicyError: if the trust file or the policy is not valid.
    """
    folder = Path(target)
    if folder.exists():
        raise InputError(f"{folder} exists; name a new folder for the verified copy")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(f"cannot make {folder.parent}: {e}; name another folder") from e
    with _copied(data, certificate, trust, folder.parent, filesystem, options) as (private, copy):
        made = private / "data"
        made.chmod(0o700)  # a folder is moved by who may write to it
        made.rename(folder)
        folder.chmod(0o500)
        files = tuple(folder / f.relative_to(made) for f in copy.files)
    return VerifiedData(path=files[0] if len(files) == 1 else folder, files=files, verification=copy.verification)


@contextmanager
def _copied(
    data: Any, certificate: Any, trust: Any, directory: str | Path | None, filesystem: Any, options: Mapping[str, Any]
) -> Iterator[tuple[Path, VerifiedData]]:
    """A private folder, and the verified copy in it."""
    if not isinstance(data, str | os.PathLike):
        raise InputError(
            f"a {type(data).__name__} lies in this process's memory, where a copy would be no safer; call "
            "foretaste.verify(frame, certificate, trust) right before it is used, or write it to a file and give its path"
        )
    found = check_certificate(certificate, trust, **options)
    files = list_files(data, filesystem)
    try:
        private = Path(tempfile.mkdtemp(prefix="foretaste-verified-", dir=directory))
    except OSError as e:
        raise InputError(f"cannot make a folder for the copy: {e}; name another directory") from e
    folder = private / "data"
    try:
        with naming(files.name):
            folder.mkdir()
            digests = digest_files(files, folder)
            if _about_rows(found):
                tree, _ = row_tree(files.copied(digests, folder))
                _refuse_other_rows(files.name, tree.size, tree.root.hex(), found)
            else:
                _refuse_other(files, digests, found)
            _refuse_beside(files, found)
        copies = tuple(folder / d.name for d in digests)
        for path in (*copies, *(p for p in folder.rglob("*") if p.is_dir()), folder):
            path.chmod(0o500 if path.is_dir() else 0o400)
        one = len(copies) == 1
        yield private, VerifiedData(path=copies[0] if one else folder, files=copies, verification=found)
    finally:
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o700)
        shutil.rmtree(private, ignore_errors=True)


def _authentic(given: Certificate, root: TrustRoot, now: datetime) -> tuple[Statement, tuple[str, ...]]:
    """The statement and the names of its signers, after every signature and every binding was checked."""
    statements, keys = [], []
    for at, envelope in enumerate(given.envelopes, 1):
        what = "the certificate" if at == 1 else f"statement {at} of the certificate"
        proven = dsse.verify(envelope, root, ROLE, now=now, what=what)
        statements.append(parse(proven.payload, what))
        keys.append({k.name for k in proven.keys})
    ours = statements[0]
    if ours.predicate_type != PREDICATE_TYPE:
        raise VerificationError(f"the certificate begins with {ours.predicate_type!r}, not with {PREDICATE_TYPE!r}")
    if len(ours.subjects) != 1:
        raise VerificationError(f"the certificate is about {len(ours.subjects)} data sets, not one")
    named = [(s.get("predicateType"), s.get("digest")) for s in ours.items("statements")]
    held = [(s.predicate_type, {"sha256": e.digest[7:]}) for s, e in zip(statements[1:], given.envelopes[1:])]
    if named != held or any(s.subjects != ours.subjects for s in statements):
        raise VerificationError("the certificate is not whole: its statements are not those that it names")
    return ours, tuple(sorted(keys[0]))


def _objections(statement: Statement, root: TrustRoot, policy: str, fail_on: str, now: datetime) -> Iterator[str]:
    created = from_timestamp(statement.text("timeCreated"), "timeCreated")
    limit = root.role(ROLE).max_age_days
    if created > now + _CLOCKS:
        yield f"the certificate is from the future ({created.isoformat()})"
    elif limit is not None and now - created > timedelta(days=limit):
        yield f"the certificate is {(now - created).days} days old, more than the {limit} that the trust file allows"
    verdict = statement.text("verdict")
    if verdict not in (("pass",) if fail_on == "review" else ("pass", "review")):
        yield f"the verdict of the scan was {verdict}"
    if (theirs := _policy_of(statement)) != policy:
        yield f"the data were scanned under another policy ({theirs}) than the one that holds now ({policy})"
    for waiver in statement.items("waivers"):
        if _day(waiver.get("expired_at")) < now.astimezone(UTC).date():
            yield (
                f"the waiver for {waiver.get('check')} {str(waiver.get('finding'))[:8]} expired on "
                f"{waiver.get('expired_at')}"
            )


def _stale(
    statement: Statement, called: str, root: TrustRoot, wanted: str | None, min_sequence: int | None
) -> Iterator[str]:
    """Old data with their own certificate do belong together: what they are, and how old, is for the verifier to say."""
    if wanted is not None and called != wanted:
        yield f"the certificate is for {called!r}, and {wanted!r} is wanted"
    if twin := next((n for n in root.sequences if n != called and folded(n) == folded(called)), None):
        yield f"the certificate is for {called!a}, which passes for {twin!a}, whose sequence the trust file demands"
    limits = [n for n in (min_sequence, root.sequences.get(called)) if n is not None]
    if not limits:
        return
    if "sequence" not in statement.predicate:
        yield f"the certificate has no sequence number, and at least {max(limits)} is wanted"
    elif (sequence := statement.number("sequence")) < max(limits):
        yield f"the certificate has the sequence number {sequence}, and at least {max(limits)} is wanted"


def _chained(
    statement: Statement, digest: str, chain: str | Path | bytes | Chain | None, root: TrustRoot, now: datetime
) -> Link | None:
    named = statement.predicate.get("chain")
    if chain is None:
        if named is not None:
            raise VerificationError("the certificate names a chain of custody, and none was given; give the chain")
        return None
    made_by = Chain.load(chain).verify(root, digest, now)
    if named is not None and (not isinstance(named, Mapping) or _sha256(named.get("statement")) != made_by.digest):
        raise VerificationError("the chain of custody ends with another link than the one that the certificate names")
    return made_by


def _refuse_other(files: Files, digests: tuple[FileDigest, ...], found: Verification) -> None:
    digest = root_digest(digests)
    if digest != found.digest:
        many = f"{len(digests)} files there, {found.statement.number('data', 'files')} certified"
        raise VerificationError(
            f"{files.name} is not what was certified (digest {digest}, certificate {found.digest}; {many}): a file was "
            "changed, added, renamed or taken away"
        )


def _refuse_beside(files: Files, found: Verification) -> None:
    """Other readers may read what is left out here, or follow it to files elsewhere."""
    known = [(f.get("name"), f.get("sha256")) for f in found.statement.items("data", "leftOut")]
    for file in files.digests_left_out():
        if (file.name, file.sha256) not in known:
            raise VerificationError(
                f"{file.name} lies beside the data and was not there when they were certified; take it away"
            )


def _about_rows(found: Verification) -> bool:
    data = found.statement.predicate.get("data")
    return isinstance(data, Mapping) and data.get("subject") == "rows"


def _refuse_other_rows(name: str, count: int, root: str, found: Verification) -> None:
    data = found.statement.predicate.get("data")
    tree = data.get("rowTree") if isinstance(data, Mapping) else None
    if not isinstance(tree, Mapping):
        raise VerificationError("the certificate has no tree over the rows; certify the data without --no-rows")
    if tree.get("encoding") != ENCODING:
        raise VerificationError(f"the certificate's rows are encoded as {tree.get('encoding')!r}, not {ENCODING!r}")
    if (count, root) != (tree.get("count"), tree.get("root")):
        raise VerificationError(
            f"the {name} does not hold the rows that were certified ({count:,} rows with the root {root[:16]}…, certified "
            f"{tree.get('count')} with {str(tree.get('root'))[:16]}…)"
        )
    if _about_rows(found) and rows_digest(count, bytes.fromhex(root)) != found.digest:
        raise VerificationError("the certificate is malformed: its digest is not that of its tree over the rows")


def _digest_of(policy: Any) -> str:
    from foretaste.policy import Policy

    if isinstance(policy, str) and policy.startswith("sha256:"):
        return policy
    return Policy.load(policy).digest


def _policy_of(statement: Statement) -> str:
    policy = statement.predicate.get("policy")
    return _sha256(policy.get("digest") if isinstance(policy, Mapping) else None)


def _sha256(tree: Any) -> str:
    try:
        return from_digest_set(tree)
    except ValueError as e:
        raise VerificationError(f"the certificate is malformed: {e}") from e


def _day(text: Any) -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        return date.min  # a waiver without a day is over
