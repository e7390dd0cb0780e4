"""The chain of custody: how data were made from other data, step by step, as SLSA provenance v1.

One file, one signed statement a line, oldest first. A step names its parents in ``resolvedDependencies``: the digest of
their data, and the digest of the statement that made them. So no step can be taken out, put elsewhere or exchanged
without breaking every later one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from foretaste._version import __version__
from foretaste.errors import InputError, VerificationError, did_you_mean
from foretaste.provenance import dsse
from foretaste.provenance.manifest import digest_files
from foretaste.provenance.statement import Statement, as_digest_set, from_digest_set, parse, timestamp
from foretaste.reading.formats import list_files, naming, root_digest

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from foretaste.provenance.keys import TrustRoot
    from foretaste.quarantine import Quarantine

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://foretaste.dev/transforms/{kind}/v1"
BUILDER = "https://foretaste.dev/builder/v1"
ROLE = "step"
KINDS = {
    "origin": "data as they came from outside",
    "filter": "some rows of the input",
    "join": "columns or rows of several inputs together",
    "dedupe": "the input without repeats",
    "split": "the input in several parts",
    "quarantine": "the input without the rows that a scan flagged, and those rows",
    "transform": "anything else",
}


@dataclass(frozen=True, kw_only=True)
class Parent:
    """Data that a step read: their name and digest, and the digest of the statement about them (``None`` at an origin,
    whose parents lie outside)."""

    name: str
    digest: str | None
    statement: str | None


@dataclass(frozen=True, kw_only=True)
class Link:
    """One step of the chain. ``digest`` is that of its statement."""

    envelope: dsse.Envelope
    statement: Statement
    kind: str
    parents: tuple[Parent, ...]

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of the statement."""
        return self.envelope.digest

    @property
    def rows(self) -> Mapping[str, Any]:
        """Rows of each data set that the step made, by name, where the format tells them."""
        found = self.statement.predicate["buildDefinition"].get("internalParameters", {})
        rows = found.get("rows", {}) if isinstance(found, Mapping) else {}
        return rows if isinstance(rows, Mapping) else {}


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The links of a file, oldest first."""

    links: tuple[Link, ...] = ()

    @classmethod
    def load(cls, source: str | Path | bytes | Chain) -> Chain:
        """Read a chain; whether it holds is for :meth:`verify` to say.

        Raises:
            InputError: if the file cannot be read.
            VerificationError: if it is malformed.
        """
        if isinstance(source, Chain):
            return source
        if not isinstance(source, bytes):
            from foretaste.provenance.certificate import read

            source = read(source, "chain")
        envelopes = dsse.parse_lines(source, "the chain")
        return cls(links=tuple(_link(e, f"link {at} of the chain") for at, e in enumerate(envelopes, 1)))

    def tip(self, digest: str) -> Link:
        """The latest link that made the data with a digest.

        Raises:
            VerificationError: if there is none.
        """
        for link in reversed(self.links):
            if digest in (made for _, made in link.statement.subjects):
                return link
        raise VerificationError(
            f"the chain does not lead to these data: no link of it made {digest}; a link at its end is missing, or the "
            "data were changed after it"
        )

    def ancestors(self, tip: Link) -> Iterator[Link]:
        """The tip and all links that it rests on, newest first, each once."""
        wanted = {tip.digest}
        for link in reversed(self.links):
            if link.digest in wanted:
                yield link
                wanted |= {p.statement for p in link.parents if p.statement}

    def verify(self, trust: TrustRoot, digest: str, now: datetime | None = None) -> Link:
        """Hold every link against the trust file, and the order of the links against what they say.

        Args:
            trust: keys; those of the role ``step`` count.
            digest: of the data that the chain has to lead to.
            now: the time to judge by.

        Returns:
            the link that made the data.

        Raises:
            VerificationError: naming the link and what is wrong: a signature, a missing or reordered link, a parent
                that made other data, or an end that is not these data.
            PolicyError: if the trust file gives the role ``step`` no keys.
        """
        place = {link.digest: at for at, link in enumerate(self.links, 1)}
        if len(place) != len(self.links):
            raise VerificationError("the chain holds a link twice; get it again from where it was made")
        for at, link in enumerate(self.links, 1):
            what = f"link {at} of the chain ({link.kind})"
            dsse.verify(link.envelope, trust, ROLE, now=now, what=what)
            if link.kind == "origin":
                continue
            if not link.parents:
                raise VerificationError(f"{what} names no parents, and is no origin")
            for parent in link.parents:
                _refuse_parent(parent, what, at, place, self.links)
        return self.tip(digest)


def record(
    chain: str | Path,
    kind: str,
    signer: Signer,
    *,
    inputs: Sequence[str | Path] = (),
    outputs: Sequence[str | Path],
    sources: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
    started: datetime | None = None,
) -> Link:
    """Sign a step and append it to a chain, which is made if needed.

    Args:
        chain: file of the chain.
        kind: one of :data:`KINDS`.
        signer: of a key that verifiers trust in the role ``step``.
        inputs: data that the step read; the chain must hold a link that made each of them.
        outputs: data that the step made.
        sources: where an origin came from: addresses.
        parameters: of the step, as JSON values; what somebody needs to do it again.
        started: when the step began.

    Raises:
        InputError: if the kind is unknown, an input is not in the chain, or a file cannot be read or written.
        VerificationError: if the chain is malformed.
    """
    if kind not in KINDS:
        raise InputError(f'no kind of step "{kind}"; {did_you_mean(kind, KINDS)}')
    if kind == "origin" and (inputs or not sources):
        raise InputError("an origin has no inputs in the chain; say where the data came from with sources")
    if kind != "origin" and (sources or not inputs):
        raise InputError(f"a {kind} needs inputs, and they come from the chain; record the origin of the first data")
    if not outputs:
        raise InputError("a step makes data; name them with outputs")
    path = Path(chain)
    held = Chain.load(path) if path.exists() else Chain()
    made = [_described(data) for data in outputs]
    dependencies = [{"uri": source} for source in sources]
    dependencies += [_dependency(data, held, path) for data in inputs]
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE.format(kind=kind),
            "externalParameters": dict(parameters or {}),
            "internalParameters": {"rows": {name: rows for name, _, rows in made if rows is not None}},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"foretaste": __version__}},
            "metadata": {
                "invocationId": str(uuid.uuid4()),
                "startedOn": timestamp(started),
                "finishedOn": timestamp(),
            },
        },
    }
    subjects = tuple((name, digest) for name, digest, _ in made)
    statement = Statement(subjects=subjects, predicate_type=PREDICATE_TYPE, predicate=predicate)
    envelope = dsse.sign(statement.envelope, signer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(f"{envelope.to_json()}\n")
    except OSError as e:
        raise InputError(f"cannot append to the chain {path}: {e.strerror}; choose another place") from e
    return _link(envelope, "the new link")


def record_quarantine(chain: str | Path, data: str | Path, apart: Quarantine, signer: Signer) -> Link:
    """Record what :func:`foretaste.quarantine.split` did: the data went in, the clean and the quarantined rows came out.

    Raises:
        InputError: as :func:`record`.
        VerificationError: as :func:`record`.
    """
    import hashlib

    manifest = hashlib.sha256(apart.manifest.read_bytes()).hexdigest()
    parameters = {
        "manifest": {"name": apart.manifest.name, "digest": {"sha256": manifest}},
        "clean_rows": apart.clean_rows,
        "quarantined_rows": apart.quarantined_rows,
    }
    outputs = (apart.clean, apart.quarantined)
    return record(chain, "quarantine", signer, inputs=[data], outputs=outputs, parameters=parameters)


def _described(data: str | Path) -> tuple[str, str, int | None]:
    files = list_files(data)
    with naming(files.name):
        return PurePosixPath(files.name).name or files.name, root_digest(digest_files(files)), files.rows()


def _dependency(data: str | Path, chain: Chain, path: Path) -> dict[str, Any]:
    name, digest, _ = _described(data)
    try:
        parent = chain.tip(digest)
    except VerificationError as e:
        raise InputError(
            f"no link of {path} made {data} ({digest}); record where it came from first: foretaste record origin"
        ) from e
    return {"name": name, "digest": as_digest_set(digest), "annotations": {"statement": parent.digest}}


def _refuse_parent(parent: Parent, what: str, at: int, place: Mapping[str, int], links: Sequence[Link]) -> None:
    where = place.get(parent.statement or "")
    if parent.digest is None or where is None:
        raise VerificationError(f'{what} rests on the link that made "{parent.name}", which is missing from the chain')
    if where >= at:
        raise VerificationError(f"{what} rests on link {where}, which comes after it: the chain was reordered")
    if parent.digest not in (digest for _, digest in links[where - 1].statement.subjects):
        raise VerificationError(f'{what} read "{parent.name}", but link {where} made other data')


def _link(envelope: dsse.Envelope, what: str) -> Link:
    statement = parse(envelope.payload, what)
    if statement.predicate_type != PREDICATE_TYPE:
        raise VerificationError(f"{what} is {statement.predicate_type!r}, not {PREDICATE_TYPE!r}")
    prefix, suffix = BUILD_TYPE.split("{kind}")
    build = statement.text("buildDefinition", "buildType")
    kind = build.removeprefix(prefix).removesuffix(suffix)
    if kind not in KINDS:
        raise VerificationError(f"{what} has the build type {build!r}, which this release does not know")
    parents = []
    for item in statement.items("buildDefinition", "resolvedDependencies"):
        notes = item.get("annotations")
        said = notes.get("statement") if isinstance(notes, Mapping) else None
        try:
            digest = from_digest_set(item["digest"]) if "digest" in item else None
        except ValueError as e:
            raise VerificationError(f"{what} has a parent whose digest is malformed: {e}") from e
        name = item.get("name", item.get("uri", ""))
        parents.append(Parent(name=str(name), digest=digest, statement=said if isinstance(said, str) else None))
    return Link(envelope=envelope, statement=statement, kind=kind, parents=tuple(parents))
