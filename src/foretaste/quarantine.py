"""Flagged rows set apart in ``clean/`` and ``quarantine/``, and let back in. Nothing is ever deleted.

What is read to be written elsewhere is first copied into a folder that only this user may enter, and digested from the
very bytes that were copied: nobody who may write to the original comes between the comparison and the reading.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from foretaste._version import __version__
from foretaste.errors import InputError, VerificationError, did_you_mean
from foretaste.reading import Dataset, InputOptions, open_data
from foretaste.reading.formats import FileDigest, naming, root_digest
from foretaste.reading.stores import local
from foretaste.results import Finding, Outcome, Report
from foretaste.roles import Roles

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from foretaste.provenance.keys import TrustRoot

ROLE = "quarantine"
MANIFEST = "manifest.json"
SIGNATURE = "manifest.intoto.json"
_CLEAN, _APART = "clean/data.parquet", "quarantine/data.parquet"
_AGAIN = "name a directory that foretaste quarantine made"
MANIFEST_FORMAT = "https://foretaste.dev/quarantine/v1"
RELEASE_FORMAT = "https://foretaste.dev/release/v1"
# Columns that a quarantined row carries beside its own; the lists run side by side, one entry per finding.
COLUMNS = pa.schema(
    [
        ("foretaste_row", pa.int64()),
        ("foretaste_check", pa.list_(pa.string())),
        ("foretaste_finding", pa.list_(pa.string())),
        ("foretaste_reason", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Quarantine:
    """Where the rows of one run lie.

    Attributes:
        clean: Parquet file of the rows that may be used, in their order, with their own columns only.
        quarantined: Parquet file of the rows set apart, with the columns ``foretaste_row`` (number from 0),
            ``foretaste_check``, ``foretaste_finding`` (fingerprint) and ``foretaste_reason``.
        manifest: JSON file with the digests of input and outputs, the counts and the reasons.
        clean_rows: rows in ``clean``.
        quarantined_rows: rows in ``quarantined``.
        digest: of ``clean`` as a data set, ``sha256:<hex>``, as a report of it gives it.
        signature: in-toto statement over the manifest and the two files, in a DSSE envelope; ``None`` without a key.
    """

    clean: Path
    quarantined: Path
    manifest: Path
    clean_rows: int
    quarantined_rows: int
    digest: str = ""
    signature: Path | None = None


def split(
    data: Any,
    report: Report,
    out: str | Path,
    *,
    severities: Iterable[str] = ("block",),
    roles: Roles | Mapping[str, str | None] | None = None,
    filesystem: pa.fs.FileSystem | None = None,
    signers: Sequence[Signer] = (),
    report_signers: Sequence[str] = (),
) -> Quarantine:
    """Write the rows that a report flags and the rows that it does not into two Parquet files.

    The data are streamed with all their columns; files are first copied beside ``out``, which takes as much room as they
    do. Each run makes ``out/<time>-<digest>/`` with ``clean/data.parquet``, ``quarantine/data.parquet`` and
    ``manifest.json``, written beside its place and moved there at the end: a directory that exists is complete, and no
    run touches another's.

    Args:
        data: what was scanned: the same path, or the same object.
        report: the report of that scan, as :func:`foretaste.scan` returned it. One from a file says what whoever can
            write to it wants; :func:`foretaste.provenance.scans.read` takes what a key of the role ``scan`` signed.
        out: directory of all runs.
        severities: findings of these severities set their rows apart.
        roles: column roles; those of the report where ``None``.
        filesystem: for paths on a file system that Arrow does not know by address.
        signers: see :func:`foretaste.provenance.signers.open_signer`; each signs the manifest, in ``manifest.intoto.json``.
        report_signers: names of the keys that signed the report, for the manifest.

    Raises:
        InputError: if the data are not those of the report or cannot be read, if the report holds an error or
            does not name all rows, if the directory cannot be written, or a key cannot sign.
    """
    chosen = [f for f in report.findings if f.severity in set(severities) and not f.waived]
    _refuse_unsplittable(report, chosen)
    wanted = roles if isinstance(roles, Roles) else Roles.from_mapping(roles or report.data.roles)
    # The scan has judged how the data read; here every row only has to arrive as it is.
    lenient = InputOptions(nulls="empty", max_cell_bytes=2**62, duplicate_ids="allow")
    dataset = open_data(data, wanted, filesystem=filesystem, options=lenient)
    reasons = _reasons(chosen)
    folder = local(out, "a quarantine")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _draft(folder) as spool, _draft(folder) as draft:
            held = _held(dataset, wanted, report, spool)
            counts = _write(held, reasons, draft)
            _refuse_lost(counts, len(reasons), report)
            if held.files is None:  # a table or a query may give other rows each time; this compares their digest
                for _ in held.batches():
                    pass
            manifest = _manifest(report, chosen, counts, draft)
            manifest["report"]["signers"] = list(report_signers)
            raw = (json.dumps(manifest, indent=1) + "\n").encode()
            (draft / MANIFEST).write_bytes(raw)
            if signers:
                (draft / SIGNATURE).write_text(_signed(raw, manifest, signers), encoding="utf-8")
            run = _publish(draft, folder, report.data.digest)
    except OSError as e:
        raise InputError(f"cannot write the quarantine to {folder}: {e}; choose another directory") from e
    clean = manifest["outputs"][_CLEAN]["digest"].removeprefix("sha256:")
    return Quarantine(
        clean=run / _CLEAN,
        quarantined=run / _APART,
        manifest=run / MANIFEST,
        clean_rows=counts["clean"],
        quarantined_rows=counts["quarantine"],
        digest=root_digest([FileDigest(Path(_CLEAN).name, 0, clean)]),
        signature=run / SIGNATURE if signers else None,
    )


@dataclass(frozen=True, kw_only=True)
class Release:
    """A new data set: the clean rows of a run and those that were let back in.

    Attributes:
        data: Parquet file of the rows, in the order of the data that were scanned, with their own columns only.
        manifest: JSON file with the digests of inputs and output, the counts, who released which rows, and why.
        rows: rows in ``data``.
        released_rows: those of them that came out of quarantine.
        kept_rows: rows that stay in quarantine.
        signers: names of the keys by which the quarantine's manifest was judged; empty without a trust file.
    """

    data: Path
    manifest: Path
    rows: int
    released_rows: int
    kept_rows: int
    signers: tuple[str, ...] = ()


def release(
    run: str | Path,
    out: str | Path,
    *,
    owner: str,
    reason: str,
    rows: Iterable[int] = (),
    findings: Iterable[str] = (),
    everything: bool = False,
    trust: str | Path | Mapping[str, Any] | TrustRoot | None = None,
) -> Release:
    """Let rows out of a quarantine: write them and the clean rows of that run as a new data set.

    The run stays as it is. What is released has to be scanned again before training, as any data set. A row is let out
    by a finding only where all of its findings are named. The files are read from a private copy, which is what is held
    against the manifest; without ``trust``, whoever may write to the run may write a manifest to go with other files.

    Args:
        run: directory of one run of :func:`split`, with its manifest.
        out: directory of all releases; each makes ``out/<time>-<digest>/`` with ``data.parquet`` and
            ``manifest.json``.
        owner: who answers for the release.
        reason: why the rows are let out.
        rows: numbers of rows, as in ``foretaste_row``.
        findings: fingerprints of findings.
        everything: all rows of the quarantine.
        trust: trust file; its role ``quarantine`` has to have signed the manifest.

    Raises:
        VerificationError: if a file is not what the manifest says, or ``trust`` is given and the manifest is not signed by
            enough keys of its role ``quarantine``, or is not what they signed.
        InputError: if the run cannot be read, if nobody or no reason is named, if a row or finding is not in it, if no
            row is chosen, or if the directory cannot be written.
        PolicyError: if the trust file is not valid, or gives the role no keys.
    """
    for name, value in (("an owner", owner), ("a reason", reason)):
        if not value.strip():
            raise InputError(f"a release needs {name}; say who answers for it, and why")
    place, folder = Path(run), local(out, "a release")
    manifest, raw, names = _read_manifest(place, trust)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _draft(folder) as spool, _draft(folder) as draft:
            for name, said in manifest["outputs"].items():
                _copy(place / name, spool / name, said["digest"])
            held = _set_apart(spool / _APART, place / _APART)
            chosen = _chosen(held, set(rows), set(findings), everything)
            with naming(str(place)):
                written = _join(spool / _CLEAN, held, chosen, draft / "data.parquet")
            clean, apart = (manifest["outputs"][name]["rows"] for name in (_CLEAN, _APART))
            if (written, held.num_rows) != (clean + len(chosen), apart):
                raise InputError(
                    f"the rows do not add up: {clean} clean + {len(chosen)} released, but {written} written, and "
                    f"{held.num_rows} of {apart} set apart; nothing was released"
                )
            kept = apart - len(chosen)
            said = {
                "format": RELEASE_FORMAT,
                "version": __version__,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "owner": owner,
                "reason": reason,
                "input": manifest["input"],
                "quarantine": {
                    "manifest": f"sha256:{hashlib.sha256(raw).hexdigest()}",
                    "outputs": manifest["outputs"],
                    "signers": list(names),
                },
                "output": {"data.parquet": {"rows": written, "digest": _digest(draft / "data.parquet")}},
                "released": {"rows": sorted(chosen), "count": len(chosen), "kept": kept},
            }
            (draft / MANIFEST).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
            made = _publish(draft, folder, said["output"]["data.parquet"]["digest"])
    except OSError as e:
        raise InputError(f"cannot write the release to {folder}: {e}; choose another directory") from e
    return Release(
        data=made / "data.parquet",
        manifest=made / MANIFEST,
        rows=written,
        released_rows=len(chosen),
        kept_rows=kept,
        signers=names,
    )


def _read_manifest(run: Path, trust: Any) -> tuple[dict[str, Any], bytes, tuple[str, ...]]:
    """The manifest of a run, its bytes, and the names of the keys that signed them; none without a trust file."""
    from foretaste.provenance import canonical

    raw = _bytes_of(run / MANIFEST)
    names = () if trust is None else _signers(run, raw, trust)
    try:
        return _manifest_of(canonical.decode(raw, str(run / MANIFEST))), raw, names
    except (VerificationError, ValueError) as e:
        raise InputError(f"{run} is no complete quarantine: {e}; {_AGAIN}") from e


def _manifest_of(tree: Any) -> dict[str, Any]:
    """What a release takes from a manifest, once it is what :func:`split` writes.

    Raises:
        ValueError: naming what is not.
    """
    if not isinstance(tree, dict) or tree.get("format") != MANIFEST_FORMAT:
        raise ValueError(f"its manifest is not a {MANIFEST_FORMAT}")
    if not isinstance(tree.get("input"), dict):
        raise ValueError("its manifest names no input")
    outputs = tree.get("outputs")
    if not isinstance(outputs, dict) or set(outputs) != {_CLEAN, _APART}:
        raise ValueError(f"the outputs of its manifest are not {_CLEAN} and {_APART}")
    for name, said in outputs.items():
        if not isinstance(said, dict) or set(said) != {"rows", "digest"}:
            raise ValueError(f"its manifest does not say rows and digest of {name}")
        if type(said["rows"]) is not int or said["rows"] < 0:
            raise ValueError(f"the rows of {name} are {said['rows']!r:.40}")
        if not isinstance(said["digest"], str) or not re.fullmatch(r"sha256:[0-9a-f]{64}", said["digest"]):
            raise ValueError(f"the digest of {name} is {said['digest']!r:.100}")
    return tree


def _signed(raw: bytes, manifest: Mapping[str, Any], signers: Iterable[Signer]) -> str:
    """The envelope over the statement that this is the manifest of these two files."""
    from foretaste.provenance import canonical, dsse
    from foretaste.provenance.statement import Statement, as_digest_set, timestamp

    envelope = Statement(
        subjects=tuple((name, said["digest"]) for name, said in manifest["outputs"].items()),
        predicate_type=MANIFEST_FORMAT,
        predicate={
            "manifest": {"name": MANIFEST, "digest": as_digest_set(canonical.digest(raw))},
            "input": {"digest": as_digest_set(manifest["input"]["digest"])},
            "tool": {"name": "foretaste", "version": __version__},
            "timeCreated": timestamp(),
        },
    ).envelope
    for signer in signers:
        envelope = dsse.sign(envelope, signer)
    return envelope.to_json() + "\n"


def _signers(run: Path, raw: bytes, trust: Any) -> tuple[str, ...]:
    """Names of the keys of the role that signed this manifest.

    Raises:
        VerificationError: if too few did, or it is not what they signed.
    """
    from foretaste.provenance import canonical, dsse
    from foretaste.provenance.keys import TrustRoot
    from foretaste.provenance.statement import as_digest_set, parse

    root, file = TrustRoot.load(trust), run / SIGNATURE
    if not file.is_file():
        raise VerificationError(
            f"nobody signed {run / MANIFEST}: {SIGNATURE} is not beside it; set the rows apart with --key, or judge them "
            "without --trust"
        )
    proven = dsse.verify(dsse.parse(_bytes_of(file), str(file)), root, ROLE, what=str(file))
    said = parse(proven.payload, str(file))
    if said.predicate_type != MANIFEST_FORMAT:
        raise VerificationError(f"{file} holds {said.predicate_type!r}, not {MANIFEST_FORMAT!r}")
    wanted = {"name": MANIFEST, "digest": as_digest_set(canonical.digest(raw))}
    if said.predicate.get("manifest") != wanted:
        raise VerificationError(
            f"{run / MANIFEST} is not the manifest that was signed; restore it, or scan and split again"
        )
    return tuple(sorted(k.name for k in proven.keys))


def _bytes_of(file: Path) -> bytes:
    if file.exists() and not file.is_file():
        raise InputError(f"{file} is no file; {_AGAIN}")
    try:
        return file.read_bytes()
    except OSError as e:
        raise InputError(f"cannot read {file}: {e.strerror}; {_AGAIN}") from e


def _copy(file: Path, target: Path, digest: str) -> None:
    """Copy a file of a run, and refuse it unless the bytes that were copied have the digest."""
    if not file.is_file():
        raise InputError(f"{file} is not there, or no file; {_AGAIN}")
    seen = hashlib.sha256()
    target.parent.mkdir(parents=True)
    with file.open("rb") as source, target.open("xb") as copy:
        while chunk := source.read(1 << 20):
            seen.update(chunk)
            copy.write(chunk)
    if f"sha256:{seen.hexdigest()}" != digest:
        raise VerificationError(f"{file} has changed since it was set apart; restore it, or scan and split again")


def _set_apart(copy: Path, file: Path) -> pa.Table:
    """The rows in quarantine, ascending."""
    with naming(str(file)):
        held = pq.read_table(copy)
        held.validate(full=True)  # Arrow takes text from Parquet for UTF-8, as it comes
    added = held.select(list(range(held.num_columns))[-len(COLUMNS) :])
    if not added.schema.equals(COLUMNS):
        raise InputError(
            f"{file} does not end with the columns that the quarantine adds ({', '.join(COLUMNS.names)}); {_AGAIN}"
        )
    numbers = added[0]
    if numbers.null_count or np.any(np.diff(np.asarray(numbers), prepend=-1) < 1):
        raise InputError(f"{file} does not number its rows in their order; {_AGAIN}")
    return held


def _chosen(held: pa.Table, rows: set[int], findings: set[str], everything: bool) -> set[int]:
    table = held.select(list(range(held.num_columns))[-len(COLUMNS) :]).to_pydict()
    named_in = {row: set(named or ()) for row, named in zip(table["foretaste_row"], table["foretaste_finding"])}
    if strange := sorted(rows - named_in.keys()):
        raise InputError(f"rows {strange[:10]} are not in this quarantine, which holds {len(named_in)} rows")
    known: set[str] = set().union(*named_in.values())
    if strange_names := sorted(findings - known):
        raise InputError(f'no row here has the finding "{strange_names[0]}"; {did_you_mean(strange_names[0], known)}')
    # A row that names no finding is let out by its number alone.
    by_finding = {row for row, named in named_in.items() if named and named <= findings}
    chosen = set(named_in) if everything else rows | by_finding
    if not chosen:
        raise InputError("no row is chosen: name rows, all findings of a row, or everything")
    return chosen


def _join(clean_file: Path, held: pa.Table, chosen: set[int], target: Path) -> int:
    """Clean and chosen rows in their old order, streamed; returns the rows that the file's footer counts."""
    with pq.ParquetFile(clean_file) as clean:
        schema = clean.schema_arrow
        numbers = np.asarray(held["foretaste_row"], dtype=np.int64)
        wanted = np.isin(numbers, np.fromiter(chosen, np.int64, len(chosen)))
        # A row set apart stood before the clean row with this number.
        places = (numbers - np.arange(len(numbers)))[wanted]
        back = held.filter(pa.array(wanted)).select(list(range(held.num_columns - len(COLUMNS))))
        if not back.schema.equals(schema):
            raise InputError(f"the clean rows and those set apart have other columns; {_AGAIN}")
        back = back.replace_schema_metadata(schema.metadata)
        start = at = 0
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for batch in clean.iter_batches(batch_size=16_384):
                part, end = pa.Table.from_batches([batch], schema), start + batch.num_rows
                pieces, low = [], 0
                while at < len(places) and places[at] < end:
                    pieces += [part.slice(low, places[at] - start - low), back.slice(at, 1)]
                    low, at = places[at] - start, at + 1
                writer.write_table(pa.concat_tables([*pieces, part.slice(low)]))
                start = end
            writer.write_table(back.slice(at))
    rows: int = pq.read_metadata(target).num_rows
    return rows


def _refuse_unsplittable(report: Report, chosen: list[Finding]) -> None:
    if report.verdict is Outcome.ERROR:
        raise InputError(
            f"no row can be called clean after a failed scan ({report.headline()}); repair that, scan again"
        )
    for finding in chosen:
        named = f"finding {finding.fingerprint} of {finding.check} ({finding.kind})"
        if not finding.rows:
            raise InputError(f"{named} names no rows, so setting rows apart does not settle it; refuse all the data")
        # The fingerprint covers the ids of all rows: a report that was cut for reading does not reproduce it.
        if replace(finding, fingerprint="").fingerprint != finding.fingerprint:
            raise InputError(
                f"{named} does not name all of its rows: the report was cut when it was written as JSON; "
                "scan again and pass the report itself"
            )


def _held(dataset: Dataset, roles: Roles, report: Report, spool: Path) -> Dataset:
    """The data as they lie in a private copy, where they are files; refused unless what was copied is what was scanned."""
    held, files = dataset, dataset.files
    if files is not None:
        with naming(files.name):
            digests = files.digests(spool)
            held = Dataset(files.copied(digests, spool), roles, dataset.options)
        digest = root_digest(digests)
    else:
        digest = dataset.digest
    if digest != report.data.digest:
        raise InputError(
            f"{dataset.name} has changed since it was scanned (digest {digest}, report {report.data.digest}); scan it again"
        )
    return held


def _refuse_lost(counts: Mapping[str, int], flagged: int, report: Report) -> None:
    total = counts["clean"] + counts["quarantine"]
    if total != report.data.rows or counts["quarantine"] != flagged:
        raise InputError(
            f"the rows do not add up: {counts['clean']} clean + {counts['quarantine']} set apart, but "
            f"{report.data.rows} scanned and {flagged} flagged; nothing was written; scan again"
        )


def _reasons(findings: Iterable[Finding]) -> dict[int, list[Finding]]:
    reasons: dict[int, list[Finding]] = {}
    for finding in findings:
        for row in finding.rows:
            reasons.setdefault(row, []).append(finding)
    return reasons


def _write(dataset: Dataset, reasons: Mapping[int, list[Finding]], draft: Path) -> dict[str, int]:
    """Stream the data into the two files; returns the rows that each file's own footer counts."""
    apart = np.array(sorted(reasons), dtype=np.int64)
    paths = {name: draft / name / "data.parquet" for name in ("clean", "quarantine")}
    for path in paths.values():
        path.parent.mkdir()
    writers: dict[str, pq.ParquetWriter] = {}
    start = 0
    try:
        for batch in dataset.original():
            if not writers:
                schemas = {"clean": batch.schema, "quarantine": _with_columns(batch.schema)}
                writers = {name: _writer(paths[name], schema) for name, schema in schemas.items()}
            flagged = np.zeros(batch.num_rows, dtype=bool)
            low, high = np.searchsorted(apart, [start, start + batch.num_rows])
            flagged[apart[low:high] - start] = True
            writers["clean"].write_batch(batch.filter(pa.array(~flagged)))
            if low < high:
                named = _named(batch.filter(pa.array(flagged)), apart[low:high], reasons)
                writers["quarantine"].write_batch(named)
            start += batch.num_rows
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as e:
        raise InputError(f"cannot write {dataset.name} as Parquet: {e}; convert it to Parquet, then scan that") from e
    finally:
        for writer in writers.values():
            writer.close()
    return {name: pq.read_metadata(path).num_rows for name, path in paths.items()}


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression="zstd")


def _with_columns(schema: pa.Schema) -> pa.Schema:
    if taken := sorted(set(schema.names) & set(COLUMNS.names)):
        raise InputError(f"the data have columns that the quarantine adds: {', '.join(taken)}; rename them first")
    for field in COLUMNS:
        schema = schema.append(field)
    return schema


def _named(batch: pa.RecordBatch, rows: npt.NDArray[np.int64], reasons: Mapping[int, list[Finding]]) -> pa.RecordBatch:
    found = [reasons[row] for row in rows.tolist()]
    added: dict[str, list[Any]] = {
        "foretaste_row": rows.tolist(),
        "foretaste_check": [[f.check for f in findings] for findings in found],
        "foretaste_finding": [[f.fingerprint for f in findings] for findings in found],
        "foretaste_reason": [[_plain(f.message) for f in findings] for findings in found],
    }
    columns = [*batch.columns, *(pa.array(added[f.name], f.type) for f in COLUMNS)]
    return pa.RecordBatch.from_arrays(columns, schema=_with_columns(batch.schema))


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _manifest(report: Report, chosen: list[Finding], counts: Mapping[str, int], draft: Path) -> dict[str, Any]:
    return {
        "format": MANIFEST_FORMAT,
        "version": report.version,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": {"name": report.data.name, "rows": report.data.rows, "digest": report.data.digest},
        "outputs": {
            path: {"rows": counts[name], "digest": _digest(draft / path)}
            for name, path in (("clean", _CLEAN), ("quarantine", _APART))
        },
        "report": {
            "verdict": report.verdict.value,
            "started": report.started,
            "policy_digest": report.policy_digest,
        },
        "reasons": [
            {
                "check": f.check,
                "finding": f.fingerprint,
                "kind": f.kind,
                "severity": f.severity.value,
                "message": f.message,
                "rows": len(f.rows),
            }
            for f in chosen
        ],
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix=".foretaste-", dir=folder))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # moved away where all went well


def _publish(draft: Path, folder: Path, digest: str) -> Path:
    draft.chmod(0o755)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    run = folder / f"{stamp}-{digest.removeprefix('sha256:')[:8]}"
    os.rename(draft, run)  # fails where a complete run of this name exists, so none is ever replaced
    return run


__all__ = ["COLUMNS", "Quarantine", "Release", "release", "split"]
