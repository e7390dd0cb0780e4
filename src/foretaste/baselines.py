"""Baselines: named, signed snapshots of what was accepted, with which a new batch is compared.

A baseline is a folder of numbered snapshots, ``0001.json`` and so on, each a DSSE envelope over an in-toto Statement that
names the one before by digest. A snapshot is never changed; the next one adds a batch, and only a batch that passed, or
that a person approved. It holds counts and no text, so it may lie where the data may not. What makes a slow drip of
triggers add up is the state (:mod:`foretaste.history`); a baseline is what people sign.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from foretaste.batch import TEXT_ROLES, Batch
from foretaste.errors import InputError, VerificationError
from foretaste.provenance import statement as statements
from foretaste.results import Outcome, Report
from foretaste.sources import parse
from foretaste.typed import refuse_misfit, shaped

if TYPE_CHECKING:
    from foretaste.provenance.keys import TrustRoot
    from foretaste.reading import Dataset

PREDICATE_TYPE = "https://foretaste.dev/baseline/v1"
ROLE = "baseline"
NO_SOURCE = "(no source)"
# Labels and groups of sources that are told apart; beyond it, the data name rows and not classes.
MAX_NAMES = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Counts of accepted rows.

    Attributes:
        rows: how many.
        labels: rows per label.
        sources: rows per group of sources: hub repository, registrable domain, bucket, or the name itself.
        lengths: rows per length, by :func:`length_bins`.
    """

    rows: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Profile) -> Profile:
        """Counts of both."""
        parts = {
            name: dict(sorted((Counter(getattr(self, name)) + Counter(getattr(other, name))).items()))
            for name in ("labels", "sources", "lengths")
        }
        return Profile(rows=self.rows + other.rows, **parts)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One snapshot.

    Attributes:
        name: of the baseline.
        number: from 1.
        profile: counts over all its batches.
        batches: name, digest, rows, verdict, policy digest and approval of each batch, oldest first.
        previous: digest of the snapshot before, empty for the first.
        created: time, UTC.
        digest: of this snapshot's payload, ``sha256:<hex>``.
        keys: names of the keys that signed it.
    """

    name: str
    number: int
    profile: Profile
    batches: tuple[Mapping[str, Any], ...]
    previous: str = ""
    created: str = ""
    digest: str = ""
    keys: tuple[str, ...] = ()


def length_bins(batch: Batch) -> npt.NDArray[np.int8]:
    """Length of each row, int8 (rows,): the bits of the number of bytes in all of its texts."""
    total = np.zeros(batch.num_rows, np.int64)
    for role in TEXT_ROLES:
        if batch.has(role):
            total += np.asarray(pc.binary_length(batch.strings(role)), dtype=np.int64)
    return np.ceil(np.log2(total + 1)).astype(np.int8)


def describe(bits: int | str) -> str:
    """A length bin as text: ``64 to 127 bytes``."""
    n = int(bits)
    return "no text" if n == 0 else f"{2 ** (n - 1):,} to {2**n - 1:,} bytes"


def group_of(source: str) -> str:
    """What sources of one origin share."""
    return parse(source).group or NO_SOURCE


def profile(dataset: Dataset) -> Profile:
    """Counts over the data, in one pass.

    Raises:
        InputError: if the data cannot be read.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("labels", "sources", "lengths")}
    rows = 0
    for batch in dataset.batches():
        rows += batch.num_rows
        bins, n = np.unique(length_bins(batch), return_counts=True)
        counts["lengths"].update({str(b): c for b, c in zip(bins.tolist(), n.tolist())})
        for role, name in (("label", "labels"), ("source", "sources")):
            if batch.has(role):
                for item in pc.value_counts(batch.strings(role)).to_pylist():
                    counts[name][group_of(item["values"]) if role == "source" else item["values"]] += item["counts"]
    kept = {k: dict(sorted(c.items())) if len(c) <= MAX_NAMES else {} for k, c in counts.items()}
    return Profile(rows=rows, **kept)


def read(folder: str | Path, trust: TrustRoot | str | Path) -> tuple[Snapshot, ...]:
    """All snapshots of a baseline, oldest first, each signed by the trust file's role ``baseline``.

    Raises:
        InputError: if there is none, or they cannot be read.
        VerificationError: if one is not signed as the role demands, does not follow on the one before, or the newest is
            older than the trust file wants.
        PolicyError: if the trust file is not valid.
    """
    from foretaste.provenance import dsse
    from foretaste.provenance.keys import TrustRoot

    place, root = Path(folder), TrustRoot.load(trust)
    files = sorted(p for p in place.glob("*.json") if p.stem.isdigit())
    if not files:
        raise InputError(f"no baseline in {folder}; make one with foretaste baseline advance")
    found: list[Snapshot] = []
    for file in files:
        what = f"the snapshot {file}"
        try:
            verified = dsse.verify(dsse.parse(file.read_bytes(), what), root, ROLE, what=what)
        except OSError as e:
            raise InputError(f"cannot read {file}: {e.strerror}") from e
        snapshot = _snapshot(verified.payload, what)
        previous = found[-1].digest if found else ""
        expected = (place.name if not found else found[-1].name, len(found) + 1, previous)
        if (snapshot.name, snapshot.number, snapshot.previous) != expected or file.name != _file(snapshot.number):
            raise VerificationError(
                f"{what} is number {snapshot.number} of {snapshot.name} after {snapshot.previous or 'none'}; expected "
                f"number {expected[1]} of {expected[0]} after {previous or 'none'}: one was removed, renamed or swapped"
            )
        found.append(dataclasses.replace(snapshot, digest=verified.digest, keys=tuple(k.name for k in verified.keys)))
    newest = found[-1]
    if newest.number < (lowest := root.snapshots.get(newest.name, 0)):
        raise VerificationError(
            f"the newest snapshot in {folder} is number {newest.number}, and the trust file wants {lowest} or later: newer "
            "ones were taken away"
        )
    return tuple(found)


def advance(
    folder: str | Path,
    data: Any,
    report: Report,
    *,
    keys: Sequence[str],
    trust: TrustRoot | str | Path,
    approved_by: str = "",
    reason: str = "",
) -> Snapshot:
    """Add a batch that was accepted to a baseline, as its next snapshot. The folder's name is that of the baseline.

    Args:
        folder: made where there is none.
        data: what was scanned.
        report: of that scan, with waivers applied.
        keys: private keys that sign the snapshot.
        trust: by which the snapshots are read, this one too.
        approved_by: who approves findings for review; a block verdict has to be waived finding by finding.
        reason: why.

    Raises:
        InputError: if the data are not those of the report, were refused, need an approval, or are in the baseline.
        VerificationError: if an earlier snapshot does not hold, or the keys are not those of the role.
    """
    from foretaste.provenance import canonical, dsse
    from foretaste.provenance.signers import open_signer
    from foretaste.reading import open_data
    from foretaste.roles import Roles

    place = Path(folder)
    if not _NAME.fullmatch(place.name):
        raise InputError(f'"{place.name}" is no name for a baseline: letters, digits, dots, dashes and underscores')
    _refuse_unaccepted(report, approved_by, reason)
    dataset = open_data(data, Roles.from_mapping(report.data.roles))
    counts = profile(dataset)
    if dataset.digest != report.data.digest:
        raise InputError(f"{dataset.name} is not what was scanned ({report.data.digest}); scan it again")
    earlier = read(place, trust) if place.is_dir() and any(place.glob("*.json")) else ()
    batches = earlier[-1].batches if earlier else ()
    if any(b["digest"] == report.data.digest for b in batches):
        raise InputError(f"{dataset.name} is in this baseline already; it counts once")
    batch = {
        "name": report.data.name, "digest": report.data.digest, "rows": counts.rows, "verdict": report.verdict.value,
        "policy_digest": report.policy_digest, "waivers": sum(f.waived for f in report.findings),
        "approved_by": approved_by, "reason": reason,
    }  # fmt: skip
    made = Snapshot(
        name=place.name, number=len(earlier) + 1, batches=(*batches, batch),
        profile=earlier[-1].profile + counts if earlier else counts, previous=earlier[-1].digest if earlier else "",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    envelope = dsse.Envelope(payload=canonical.encode(_statement(made)))
    for key in keys:
        envelope = dsse.sign(envelope, open_signer(key))
    from foretaste.provenance.keys import TrustRoot

    verified = dsse.verify(envelope, TrustRoot.load(trust), ROLE, what="the new snapshot")
    target = place / _file(made.number)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as stream:  # a snapshot that exists is never replaced
            stream.write(envelope.to_json() + "\n")
    except OSError as e:
        raise InputError(f"cannot write {target}: {e.strerror}; another run may have advanced the baseline") from e
    return dataclasses.replace(made, digest=verified.digest, keys=tuple(k.name for k in verified.keys))


def _refuse_unaccepted(report: Report, approved_by: str, reason: str) -> None:
    if report.verdict not in (Outcome.PASS, Outcome.REVIEW):
        raise InputError(
            f"the verdict is {report.verdict.value}, and a refused batch never enters a baseline; waive its findings, or "
            "set its rows apart and scan what is left"
        )
    if report.verdict is Outcome.REVIEW and not (approved_by.strip() and reason.strip()):
        raise InputError(
            "the verdict is review: somebody has to approve it (--approved-by and --reason), or waive its findings"
        )


def _file(number: int) -> str:
    return f"{number:04d}.json"


def _statement(snapshot: Snapshot) -> dict[str, Any]:
    algorithm, _, digest = str(snapshot.batches[-1]["digest"]).partition(":")
    plain = dataclasses.asdict(snapshot)
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": snapshot.batches[-1]["name"], "digest": {algorithm: digest}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {k: plain[k] for k in ("name", "number", "previous", "created", "profile")}
        | {"batches": list(plain["batches"])},
    }


class _Batch(TypedDict):
    name: str
    digest: str
    rows: int
    verdict: str
    policy_digest: str
    waivers: int
    approved_by: str
    reason: str


def _snapshot(payload: bytes, what: str) -> Snapshot:
    statement = statements.parse(payload, what)
    raw = statement.predicate
    try:
        if statement.predicate_type != PREDICATE_TYPE:
            raise ValueError(f"its predicate is {statement.predicate_type}")
        refuse_misfit(raw["batches"], list[_Batch], "batches")
        counts = shaped(Profile, raw["profile"])
        every = [counts.rows, *(b["rows"] for b in raw["batches"])]
        every += [n for part in (counts.labels, counts.sources, counts.lengths) for n in part.values()]
        if not raw["batches"] or counts.rows < 1 or min(every) < 0:
            raise ValueError("it has no batches, no rows, or fewer than none")
        if not all(b.isdecimal() and int(b) < 64 for b in counts.lengths):
            raise ValueError("its lengths are none")
        made: Snapshot = shaped(
            Snapshot,
            {n: raw[n] for n in ("name", "number", "previous", "created")}
            | {"profile": counts, "batches": tuple(raw["batches"])},
        )
        return made
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise VerificationError(f"{what} is no snapshot of a baseline: {e}") from e
