"""Every flagged row, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from foretaste.results import Report

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("row", pa.int64()),
        ("check", pa.string()),
        ("finding", pa.string()),
        ("severity", pa.string()),
        ("kind", pa.string()),
        ("feature", pa.string()),
        ("target", pa.string()),
        ("waived", pa.bool_()),
    ]
)


def flagged_table(report: Report) -> pa.Table:
    """One row per flagged row and finding; ``finding`` is the finding's fingerprint."""
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for finding in report.findings:
        n = len(finding.rows)
        columns["id"] += finding.ids
        columns["row"] += finding.rows
        columns["check"] += [finding.check] * n
        columns["finding"] += [finding.fingerprint] * n
        columns["severity"] += [finding.severity.value] * n
        columns["kind"] += [finding.kind] * n
        columns["feature"] += [finding.feature] * n
        columns["target"] += [finding.target] * n
        columns["waived"] += [finding.waived] * n
    return pa.table(columns, schema=SCHEMA)


def rows_by_finding(source: Any) -> dict[tuple[str, str], tuple[tuple[int, ...], tuple[str, ...]]]:
    """Rows, ascending, and their ids of each (check, fingerprint) of a table that :func:`write_flagged` wrote, from a path
    or an Arrow buffer."""
    table = pq.read_table(source, columns=["check", "finding", "row", "id"])
    found: dict[tuple[str, str], dict[int, str]] = {}
    # A Python loop over the flagged rows, which a report holds as Python objects anyway.
    for check, finding, row, name in zip(*(column.to_pylist() for column in table.columns)):
        found.setdefault((check, finding), {})[row] = name
    return {key: (tuple(sorted(rows)), tuple(rows[r] for r in sorted(rows))) for key, rows in found.items()}


def write_flagged(report: Report, path: str | Path) -> None:
    """Write :func:`flagged_table` as Parquet."""
    pq.write_table(flagged_table(report), path)
