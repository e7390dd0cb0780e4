"""Flagged rows set apart in ``clean/`` and ``quarantine/``, with a manifest. Nothing is ever deleted."""

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

from foretaste.errors import InputError
from foretaste.reading import Dataset, InputOptions, open_data
from foretaste.results import Finding, Outcome, Report
from foretaste.roles import Roles

MANIFEST_FORMAT = "https://foretaste.dev/quarantine/v1"
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
    folder = Path(out)
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


__all__ = ["COLUMNS", "Quarantine", "split"]
