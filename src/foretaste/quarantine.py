"""Flagged rows set apart in ``clean/`` and ``quarantine/``, and let back in. Nothing is ever deleted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from foretaste._version import __version__
from foretaste.errors import InputError, did_you_mean
from foretaste.reading import Dataset, InputOptions, open_data
from foretaste.reading.stores import local
from foretaste.results import Finding, Outcome, Report
from foretaste.roles import Roles

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
    """

    clean: Path
    quarantined: Path
    manifest: Path
    clean_rows: int
    quarantined_rows: int


def split(
    data: Any,
    report: Report,
    out: str | Path,
    *,
    severities: Iterable[str] = ("block",),
    roles: Roles | Mapping[str, str | None] | None = None,
    filesystem: pa.fs.FileSystem | None = None,
) -> Quarantine:
    """Write the rows that a report flags and the rows that it does not into two Parquet files.

    The data are streamed with all their columns. Each run makes ``out/<time>-<digest>/`` with
    ``clean/data.parquet``, ``quarantine/data.parquet`` and ``manifest.json``, written beside its place and
    moved there at the end: a directory that exists is complete, and no run touches another's.

    Args:
        data: what was scanned: the same path, or the same object.
        report: the report of that scan, as :func:`foretaste.scan` returned it.
        out: directory of all runs.
        severities: findings of these severities set their rows apart.
        roles: column roles; those of the report where ``None``.
        filesystem: for paths on a file system that Arrow does not know by address.

    Raises:
        InputError: if the data are not those of the report or cannot be read, if the report holds an error or
            does not name all rows, or if the directory cannot be written.
    """
    chosen = [f for f in report.findings if f.severity in set(severities) and not f.waived]
    _refuse_unsplittable(report, chosen)
    wanted = roles if isinstance(roles, Roles) else Roles.from_mapping(roles or report.data.roles)
    # The scan has judged how the data read; here every row only has to arrive as it is.
    lenient = InputOptions(nulls="empty", max_cell_bytes=2**62, duplicate_ids="allow")
    dataset = open_data(data, wanted, filesystem=filesystem, options=lenient)
    _refuse_changed(dataset, report)
    reasons = _reasons(chosen)
    folder = local(out, "a quarantine")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _draft(folder) as draft:
            counts = _write(dataset, reasons, draft)
            _refuse_lost(counts, len(reasons), report)
            _refuse_changed(dataset, report)
            manifest = _manifest(report, chosen, counts, draft)
            (draft / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            run = _publish(draft, folder, report.data.digest)
    except OSError as e:
        raise InputError(f"cannot write the quarantine to {folder}: {e}; choose another directory") from e
    return Quarantine(
        clean=run / "clean" / "data.parquet",
        quarantined=run / "quarantine" / "data.parquet",
        manifest=run / "manifest.json",
        clean_rows=counts["clean"],
        quarantined_rows=counts["quarantine"],
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
    """

    data: Path
    manifest: Path
    rows: int
    released_rows: int
    kept_rows: int


def release(
    run: str | Path,
    out: str | Path,
    *,
    owner: str,
    reason: str,
    rows: Iterable[int] = (),
    findings: Iterable[str] = (),
    everything: bool = False,
) -> Release:
    """Let rows out of a quarantine: write them and the clean rows of that run as a new data set.

    The run stays as it is. What is released has to be scanned again before training, as any data set. A row is let out
    by a finding only where all of its findings are named.

    Args:
        run: directory of one run of :func:`split`, with its manifest.
        out: directory of all releases; each makes ``out/<time>-<digest>/`` with ``data.parquet`` and
            ``manifest.json``.
        owner: who answers for the release.
        reason: why the rows are let out.
        rows: numbers of rows, as in ``foretaste_row``.
        findings: fingerprints of findings.
        everything: all rows of the quarantine.

    Raises:
        InputError: if the run is not what its manifest says, if nobody or no reason is named, if a row or finding is
            not in it, if no row is chosen, or if the directory cannot be written.
    """
    for name, value in (("an owner", owner), ("a reason", reason)):
        if not value.strip():
            raise InputError(f"a release needs {name}; say who answers for it, and why")
    place, folder = Path(run), local(out, "a release")
    manifest = _read_manifest(place)
    chosen = _chosen(place / "quarantine" / "data.parquet", set(rows), set(findings), everything)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _draft(folder) as draft:
            written = _join(place, chosen, draft / "data.parquet")
            counts = {k: manifest["outputs"][f"{k}/data.parquet"]["rows"] for k in ("clean", "quarantine")}
            if written != counts["clean"] + len(chosen):
                raise InputError(
                    f"the rows do not add up: {counts['clean']} clean + {len(chosen)} released, but {written} written; "
                    "nothing was released"
                )
            kept = counts["quarantine"] - len(chosen)
            said = {
                "format": RELEASE_FORMAT,
                "version": __version__,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "owner": owner,
                "reason": reason,
                "input": manifest["input"],
                "quarantine": {"manifest": _digest(place / "manifest.json"), "outputs": manifest["outputs"]},
                "output": {"data.parquet": {"rows": written, "digest": _digest(draft / "data.parquet")}},
                "released": {"rows": sorted(chosen), "count": len(chosen), "kept": kept},
            }
            (draft / "manifest.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
            made = _publish(draft, folder, said["output"]["data.parquet"]["digest"])
    except OSError as e:
        raise InputError(f"cannot write the release to {folder}: {e}; choose another directory") from e
    return Release(
        data=made / "data.parquet",
        manifest=made / "manifest.json",
        rows=written,
        released_rows=len(chosen),
        kept_rows=kept,
    )


def _read_manifest(run: Path) -> dict[str, Any]:
    """The manifest of a run whose files are still those that it names."""
    try:
        manifest: dict[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        if manifest.get("format") != MANIFEST_FORMAT:
            raise InputError(f"{run} is no quarantine of this release; name a directory that foretaste quarantine made")
        for name in ("clean/data.parquet", "quarantine/data.parquet"):
            if _digest(run / name) != manifest["outputs"][name]["digest"]:
                raise InputError(
                    f"{run / name} has changed since it was set apart; restore it, or scan and split again"
                )
    except (OSError, ValueError, KeyError, AttributeError) as e:
        raise InputError(
            f"{run} is no complete quarantine: {e}; name a directory that foretaste quarantine made"
        ) from e
    return manifest


def _chosen(file: Path, rows: set[int], findings: set[str], everything: bool) -> set[int]:
    table = pq.read_table(file, columns=["foretaste_row", "foretaste_finding"]).to_pydict()
    held = {row: set(named) for row, named in zip(table["foretaste_row"], table["foretaste_finding"])}
    if strange := sorted(rows - held.keys()):
        raise InputError(f"rows {strange[:10]} are not in this quarantine, which holds {len(held)} rows")
    known = set().union(*held.values())
    if strange_names := sorted(findings - known):
        raise InputError(f'no row here has the finding "{strange_names[0]}"; {did_you_mean(strange_names[0], known)}')
    chosen = set(held) if everything else rows | {row for row, named in held.items() if named <= findings}
    if not chosen:
        raise InputError("no row is chosen: name rows, all findings of a row, or everything")
    return chosen


def _join(run: Path, chosen: set[int], target: Path) -> int:
    """Clean and chosen rows in their old order, streamed; returns the rows that the file's footer counts."""
    clean = pq.ParquetFile(run / "clean" / "data.parquet")
    schema = clean.schema_arrow
    held = pq.read_table(run / "quarantine" / "data.parquet")
    numbers = np.asarray(held["foretaste_row"], dtype=np.int64)
    wanted = np.isin(numbers, np.fromiter(chosen, np.int64, len(chosen)))
    # A row set apart stood before the clean row with this number.
    places = (numbers - np.arange(len(numbers)))[wanted]
    back = held.filter(pa.array(wanted)).select(schema.names).cast(schema)
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


def _refuse_changed(dataset: Dataset, report: Report) -> None:
    if dataset.digest != report.data.digest:
        raise InputError(
            f"{dataset.name} has changed since it was scanned (digest {dataset.digest}, report "
            f"{report.data.digest}); scan it again"
        )


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
            f"{name}/data.parquet": {"rows": counts[name], "digest": _digest(draft / name / "data.parquet")}
            for name in ("clean", "quarantine")
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
