"""Rows of a batch that a state takes in: chosen, measured, named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foretaste.batch import TEXT_ROLES, Batch
from foretaste.sweep import Data, Edit, Part

if TYPE_CHECKING:
    from foretaste.history.state import HistoryOptions

Rows = npt.NDArray[np.int64]


@dataclass
class Survey:
    """Of each new row: bytes of text, and for the last ones an id; 4 bytes per row."""

    ids_from: int
    lengths: list[npt.NDArray[np.int64]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    def scan(self, batch: Batch) -> None:
        """Measure each row, and name the last ones."""
        self.lengths.append(sizes_of(batch.columns))
        first = max(0, self.ids_from - batch.start)
        if first < batch.num_rows:
            self.ids += ids_of(batch.columns.slice(first))

    def merge(self, other: Survey) -> None:
        """Append."""
        self.lengths += other.lengths
        self.ids += other.ids


@dataclass
class Keep:
    """Chosen rows (ascending numbers), whole."""

    rows: Rows
    parts: list[pa.RecordBatch] = field(default_factory=list)

    def scan(self, batch: Batch) -> None:
        """Take the chosen rows."""
        low, high = np.searchsorted(self.rows, [batch.start, batch.start + batch.num_rows])
        if low < high:
            self.parts.append(batch.columns.take(pa.array(self.rows[low:high] - batch.start)))

    def merge(self, other: Keep) -> None:
        """Append."""
        self.parts += other.parts


@dataclass(frozen=True)
class Blank:
    """Takes the text out of all rows but some."""

    kept: npt.NDArray[np.bool_]

    def __call__(self, batch: Batch) -> Batch:
        """The batch, with empty texts in the rows that are not kept."""
        blank = pa.array(~self.kept[batch.start : batch.start + batch.num_rows])
        empty = pa.scalar("", pa.large_string())
        columns = [
            pc.if_else(blank, empty, column) if role in TEXT_ROLES else column
            for role, column in zip(batch.columns.schema.names, batch.columns.columns)
        ]
        return Batch(
            pa.RecordBatch.from_arrays(columns, names=batch.columns.schema.names), start=batch.start, kind=batch.kind
        )


def sweep(data: Data, parts: Sequence[Part], edit: Edit | None = None, before: Sequence[pa.RecordBatch] = ()) -> None:
    """One pass over the data, in which nothing may fail.

    Raises:
        Exception: what a part raised.
    """
    data.sweep(parts, lambda rows: None, edit=edit, before=before)
    for part in parts:
        if part.error is not None:
            raise part.error


def fitting(sizes: Rows, options: HistoryOptions) -> npt.NDArray[np.bool_]:
    """Which rows, from the first on, fit half of the budget."""
    return (np.arange(len(sizes)) < options.rows // 2) & (np.cumsum(sizes) <= options.bytes // 2)


def sizes_of(columns: pa.RecordBatch) -> Rows:
    """Bytes of each row."""
    parts = [np.asarray(pc.binary_length(c), dtype=np.int64) for c in columns.columns]
    return np.asarray(np.sum(parts, axis=0), dtype=np.int64)


def ids_of(columns: pa.RecordBatch) -> list[str]:
    """Id of each row, as the report names it."""
    from foretaste.reading.dataset import row_ids

    return row_ids(columns)


def described(kept: Keep, batch: int) -> pa.Table:
    """The rows with their batch, number and id, as they are held."""
    table = pa.Table.from_batches(kept.parts)
    ids = [i for part in kept.parts for i in ids_of(part)]
    for name, array in (
        ("_batch", pa.array(np.full(len(ids), batch, np.int32))),
        ("_row", pa.array(kept.rows)),
        ("_id", pa.array(ids, pa.large_string())),
    ):
        table = table.append_column(name, array)
    return table


def signatures_of(seen: pa.Table) -> npt.NDArray[np.uint8]:
    """The signature column as an array, uint8 (rows, bins)."""
    column = seen.column("signature").combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    width = column.type.byte_width
    raw = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * width : (column.offset + len(column)) * width]
    return raw.reshape(len(column), width)
