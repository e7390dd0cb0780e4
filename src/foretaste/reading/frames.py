"""In-memory objects of pandas, polars and pyarrow, and whatever speaks Arrow's C stream interface."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs

from foretaste.errors import InputError
from foretaste.reading.readers import Arrow, Source, refuse_renamed, require

_ONCE = (
    "can be read once only, and the checks read several times; write it down first: "
    "with foretaste.reading.spool(batches) as path: foretaste.scan(path)"
)
_DATASET_ROWS = 16_384
_LIST = pa.list_(pa.null())


@dataclass(frozen=True)
class Frame:
    """An object that gives its rows again and again.

    Attributes:
        name: what it is, for people.
        arrow_schema: its columns.
        read: batches of the named columns, in order.
        known_rows: number of rows, where it is known without reading.
        bytes: size in memory, 0 where it is not known.
    """

    name: str
    arrow_schema: pa.Schema
    read: Callable[[Sequence[str]], Iterator[pa.RecordBatch]]
    known_rows: int | None = None
    bytes: int = 0

    def schema(self) -> pa.Schema:
        """Its columns."""
        return self.arrow_schema

    def rows(self) -> int | None:
        """Number of rows, where it is known without reading."""
        return self.known_rows

    def batches(self, columns: Sequence[str], strings: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """All rows with these columns; the types are those of the object, whatever ``strings`` names."""
        return self.read(columns)

    def original(self) -> Iterator[pa.RecordBatch]:
        """All rows with all columns."""
        return self.read(self.arrow_schema.names)


def open_frame(data: Any) -> Frame:
    """Open an in-memory object.

    Raises:
        InputError: if it is of no known kind, can be read only once, or its columns cannot be told apart.
    """
    if isinstance(data, pa.RecordBatch):
        return _of_table(pa.Table.from_batches([data]), "pyarrow record batch")
    if isinstance(data, pa.Table):
        return _of_table(data, "pyarrow table")
    if type(data).__module__ == "pyarrow._dataset" and hasattr(data, "get_fragments"):
        return of_dataset(data)
    if isinstance(data, pa.RecordBatchReader) or hasattr(data, "__next__"):
        raise InputError(f"an object of type {type(data).__name__} {_ONCE}")
    module = type(data).__module__.split(".")[0]
    if module == "pandas" and hasattr(data, "columns"):
        return _of_pandas(data)
    if module == "polars" and hasattr(data, "sink_ipc"):
        return _of_lazy(data)
    if module == "polars" and hasattr(data, "to_arrow") and hasattr(data, "columns"):
        return _of_table(data.to_arrow(), "polars frame")  # shares its memory
    if hasattr(data, "__arrow_c_stream__"):
        return _of_table(pa.table(data), f"{module} table")
    raise InputError(
        f"cannot scan an object of type {type(data).__name__}; pass a path, a pandas, polars or pyarrow object, or "
        "anything with __arrow_c_stream__"
    )


def _of_table(table: pa.Table, name: str) -> Frame:
    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from table.select(list(columns)).to_batches()

    refuse_renamed(table.schema, f"the {name}")
    return Frame(name, table.schema, read, table.num_rows, table.nbytes)


def of_dataset(dataset: Any) -> Frame:
    """Open a pyarrow data set."""
    import pyarrow.dataset as ds  # brings pandas in, where that is installed

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for fragment in dataset.get_fragments():
            names = [*fragment.physical_schema.names, *ds.get_partition_keys(fragment.partition_expression)]
            # Arrow fills a column that a file lacks with nulls.
            require(names, columns, getattr(fragment, "path", "a fragment"))
            refuse_renamed(fragment.physical_schema, getattr(fragment, "path", "a fragment"))
        # Small read-ahead: Arrow's default holds up to 16 batches of 128 thousand rows for every file in flight.
        yield from dataset.to_batches(
            columns=list(columns), batch_size=_DATASET_ROWS, batch_readahead=2, fragment_readahead=1
        )

    refuse_renamed(dataset.schema, "the pyarrow dataset")
    return Frame("pyarrow dataset", dataset.schema, read)


def _of_pandas(frame: Any) -> Frame:
    if not frame.columns.is_unique or not all(isinstance(c, str) for c in frame.columns):
        raise InputError("the frame's column names must be unique strings; rename its columns")

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            table = pa.Table.from_pandas(frame[list(columns)], preserve_index=False)
        except UnicodeEncodeError as e:
            raise _surrogate(frame, columns, e) from e
        yield from table.to_batches()

    # Types are inferred from the rows when they are read; here only the names are needed, and which hold lists.
    first = {name: frame[name].iloc[0] if len(frame) else None for name in frame.columns}
    schema = pa.schema([(name, _LIST if _is_list(value) else pa.null()) for name, value in first.items()])
    return Frame("pandas frame", schema, read, len(frame), int(frame.memory_usage(index=False).sum()))


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or (hasattr(value, "ndim") and value.ndim == 1)


def _surrogate(frame: Any, columns: Sequence[str], error: UnicodeEncodeError) -> InputError:
    for column in columns:
        for row, value in enumerate(frame[column]):
            if isinstance(value, str) and value == error.object:
                return InputError(
                    f'column "{column}" has a lone surrogate in row {row} (character {error.start}), which is no text; '
                    "replace it, then scan again"
                )
    return InputError(f"the pandas frame has a lone surrogate ({error.reason}); replace it, then scan again")


def _of_lazy(frame: Any) -> Frame:
    import polars

    # A plan may give other rows, or another order, when it runs again: it runs once, streamed into a file.
    folder = tempfile.TemporaryDirectory(prefix="foretaste-")
    path = str(Path(folder.name) / "frame.arrow")
    try:
        frame.sink_ipc(path, compat_level=polars.CompatLevel.oldest())
    except polars.exceptions.PolarsError as e:
        folder.cleanup()
        raise InputError(f"the polars plan failed: {str(e).strip().splitlines()[0]}; repair it, then scan again") from e
    source = Source(pa.fs.LocalFileSystem(), path)

    def read(columns: Sequence[str], _folder: Any = folder) -> Iterator[pa.RecordBatch]:
        yield from Arrow().batches(source, columns)  # the folder lives as long as this function

    return Frame("polars lazy frame", Arrow().schema(source), read, bytes=Path(path).stat().st_size)
