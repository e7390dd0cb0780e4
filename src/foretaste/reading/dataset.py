"""The one input type of the engine: re-iterable batches in canonical columns, validated while they are first read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs

from foretaste.batch import TEXT_ROLES, Batch
from foretaste.errors import InputError
from foretaste.reading.chat import split_messages
from foretaste.reading.formats import Files, list_files
from foretaste.roles import Roles

BATCH_ROWS = 16_384
# A batch of long documents is cut further, so that what is derived from it stays small.
BATCH_BYTES = 32 << 20
_MAY_BE_NULL = frozenset({"context", "source"})


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """How strict reading is.

    Attributes:
        nulls: ``error`` refuses a null text, label, prompt or response; ``empty`` reads it as an empty string.
        max_cell_bytes: longest text of one cell, in bytes; a longer one is refused.
        duplicate_ids: ``error`` refuses an id that names two rows; ``allow`` takes it.
    """

    nulls: Literal["error", "empty"] = "error"
    max_cell_bytes: int = 8 << 20
    duplicate_ids: Literal["error", "allow"] = "error"


class Dataset:
    """Data that can be read again and again. Make one with :func:`open_data`.

    Attributes:
        name: path or type of the data, for people.
        columns: names of all columns, in the order of the data.
        roles: complete roles.
        guessed: roles that were guessed.
        rows: number of rows, or ``None`` before the first full pass where the format does not tell.
    """

    def __init__(
        self,
        *,
        name: str,
        columns: list[str],
        roles: Roles,
        read: Callable[[list[str]], Iterator[pa.RecordBatch]],
        rows: int | None,
        bytes: int,  # noqa: A002 - the name of the unit
        files: Files | None,
        options: InputOptions,
    ) -> None:
        self.name = name
        self.columns = columns
        self.roles, self.guessed = roles.resolve(columns)
        self.kind = self.roles.kind
        self.rows = rows
        self.bytes = bytes
        self.files = files
        self.options = options
        self._read = read
        self._validated = False
        self._digest: str | None = None

    @property
    def canonical_roles(self) -> frozenset[str]:
        """Roles of the batches: ``messages`` is replaced by what it is split into."""
        names = set(self.roles.as_dict())
        if "messages" in names:
            names = (names - {"messages"}) | {"context", "prompt", "response"}
        return frozenset(names)

    def batches(self) -> Iterator[Batch]:
        """All rows in order. The first complete pass validates; a later pass sees the same rows or fails.

        Raises:
            InputError: if a row cannot be read as text, or the data changed between two passes.
        """
        if self.files is not None and (changed := self.files.changed()):
            raise InputError(
                f"{changed} changed while it was scanned; scan a copy, or again when it is at rest"
            )
        start = 0
        ids: list[npt.NDArray[np.uint64]] = []
        hasher = hashlib.sha256() if self.files is None and self._digest is None else None
        columns = list(dict.fromkeys(self.roles.as_dict().values()))
        for raw in self._guarded(columns):
            for piece in self._pieces(raw):
                canonical = self._canonical(piece, start)
                if not self._validated:
                    self._validate(canonical, start, ids)
                if hasher is not None:
                    _update(hasher, canonical)
                yield Batch(canonical, start=start, kind=self.kind)
                start += canonical.num_rows
        if start == 0:
            raise InputError(f"{self.name} has no rows; nothing was checked, and nothing is not a pass")
        if self._validated and self.rows is not None and self.rows != start:
            raise InputError(
                f"{self.name} had {self.rows} rows and now has {start}; scan a copy that is at rest"
            )
        if not self._validated and ids and self.options.duplicate_ids == "error":
            _refuse_duplicates(np.concatenate(ids), self.roles.id or "")
        if self.files is not None and (changed := self.files.changed()):
            raise InputError(
                f"{changed} changed while it was scanned; scan a copy, or again when it is at rest"
            )
        self.rows = start
        self._validated = True
        if hasher is not None:
            self._digest = f"sha256:{hasher.hexdigest()}"

    @property
    def digest(self) -> str:
        """``sha256:<hex>``: of the files' bytes and names, or of the rows of an in-memory object (after one pass)."""
        if self._digest is None:
            if self.files is None:
                for _ in self.batches():
                    pass
            else:
                try:
                    self._digest = self.files.digest()
                except OSError as e:
                    raise InputError(f"cannot read {self.name}: {e}") from e
        assert self._digest is not None
        return self._digest

    def original(self) -> Iterator[pa.RecordBatch]:
        """All rows in the order of :meth:`batches`, with all columns as they are (those of CSV as strings).

        Raises:
            InputError: if the data cannot be read.
        """
        for raw in self._guarded(self.columns):
            yield from self._pieces(raw)

    def _guarded(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._read(columns)
        except (pa.ArrowException, OSError, UnicodeError) as e:
            raise InputError(_explain(self.name, e)) from e

    @staticmethod
    def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        step = max(1, min(BATCH_ROWS, int(batch.num_rows * BATCH_BYTES / max(1, batch.nbytes))))
        for at in range(0, batch.num_rows, step):
            yield batch.slice(at, step)

    def _canonical(self, batch: pa.RecordBatch, start: int) -> pa.RecordBatch:
        arrays: dict[str, pa.Array] = {}
        for role, column in self.roles.as_dict().items():
            array = batch.column(batch.schema.get_field_index(column))
            if role == "messages":
                arrays |= split_messages(array, column, start)
                continue
            arrays[role] = self._strings(array, role, column, start)
        return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))

    def _strings(self, array: pa.Array, role: str, column: str, start: int) -> pa.Array:
        kind = array.type
        if pa.types.is_dictionary(kind):
            array = array.dictionary_decode()
            kind = array.type
        textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()
        if role in TEXT_ROLES and not textual and not pa.types.is_null(kind):
            hint = "join its parts into one string column first"
            if pa.types.is_list(kind) and role in ("chosen", "rejected", "prompt", "response", "text"):
                hint = "name a column of turns with --messages, or join them into one string column first"
            raise InputError(f'column "{column}" ({role}) holds {kind}, not text; {hint}')
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise InputError(
                f'column "{column}" ({role}) holds {kind}; a {role} must be a string, number or date'
            )
        try:
            array = array.cast(pa.large_string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
            raise InputError(f'column "{column}" ({role}) cannot be read as text: {_first_line(e)}') from e
        if array.null_count:
            if role not in _MAY_BE_NULL and self.options.nulls == "error":
                row = start + int(np.flatnonzero(np.asarray(array.is_null()))[0])
                raise InputError(
                    f'column "{column}" ({role}) is null in {array.null_count} rows of a batch, first in row {row}; '
                    "drop or fill those rows, or set input.nulls: empty in the policy"
                )
            array = pc.fill_null(array, "")
        if array.offset:
            array = pa.concat_arrays([array])
        return array

    def _validate(self, batch: pa.RecordBatch, start: int, ids: list[npt.NDArray[np.uint64]]) -> None:
        for role, array in zip(batch.schema.names, batch.columns):
            column = self.roles.as_dict().get(role, self.roles.messages or role)
            try:
                array.validate(full=True)
            except pa.ArrowInvalid as e:
                row = start + _first_bad_row(array)
                raise InputError(
                    f'column "{column}" ({role}) is not valid UTF-8 in row {row} ({_first_line(e)}); '
                    "decode it with its real encoding and write it again as UTF-8"
                ) from e
            lengths = np.asarray(pc.binary_length(array))
            if len(lengths) and lengths.max() > self.options.max_cell_bytes:
                row = int(lengths.argmax())
                raise InputError(
                    f'column "{column}" ({role}) has {int(lengths[row]):,} bytes in row {start + row}, more than '
                    f"input.max_cell_bytes = {self.options.max_cell_bytes:,}; split the row, or raise the limit in the "
                    "policy"
                )
        if "id" in batch.schema.names and self.options.duplicate_ids == "error":
            ids.append(_hash_strings(batch.column(batch.schema.get_field_index("id"))))


def open_data(
    data: Any,
    roles: Roles | None = None,
    *,
    filesystem: pa.fs.FileSystem | None = None,
    options: InputOptions | None = None,
) -> Dataset:
    """Open data for scanning; see :mod:`foretaste.reading` for what is accepted. Reads the schema, not the rows.

    Raises:
        InputError: if the data cannot be opened, or the roles do not fit the columns.
    """
    roles = roles or Roles()
    options = options or InputOptions()
    if isinstance(data, (str, Path)):
        files = list_files(data, filesystem)
        try:
            names = files.column_names()
        except (pa.ArrowException, OSError, UnicodeError) as e:
            raise InputError(_explain(str(data), e)) from e
        dataset = files.dataset(names)
        rows = None
        if files.format in ("parquet", "ipc"):
            try:
                rows = dataset.count_rows()
            except (pa.ArrowException, OSError) as e:
                raise InputError(_explain(str(data), e)) from e
        return Dataset(
            name=files.name, columns=names, roles=roles, read=_dataset_reader(dataset), rows=rows,
            bytes=files.bytes, files=files, options=options,
        )  # fmt: skip
    if isinstance(data, ds.Dataset):
        return Dataset(
            name="pyarrow dataset", columns=list(data.schema.names), roles=roles, read=_dataset_reader(data),
            rows=None, bytes=0, files=None, options=options,
        )  # fmt: skip
    names, to_table, label = _frame(data)
    return Dataset(
        name=label, columns=names, roles=roles,
        read=lambda columns: iter(to_table(columns).to_batches(max_chunksize=BATCH_ROWS)),
        rows=None, bytes=0, files=None, options=options,
    )  # fmt: skip


def _dataset_reader(dataset: ds.Dataset) -> Callable[[list[str]], Iterator[pa.RecordBatch]]:
    def read(columns: list[str]) -> Iterator[pa.RecordBatch]:
        # Small read-ahead: Arrow's default holds up to 16 batches of 128 thousand rows for every file in flight.
        yield from dataset.to_batches(
            columns=columns, batch_size=BATCH_ROWS, batch_readahead=2, fragment_readahead=1, use_threads=True
        )

    return read


def _frame(data: Any) -> tuple[list[str], Callable[[list[str]], pa.Table], str]:
    """Columns, a reader of some of them and a name, for an in-memory object."""
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    if isinstance(data, pa.Table):
        table: pa.Table = data
        return list(table.schema.names), table.select, "pyarrow table"
    if isinstance(data, pa.RecordBatchReader):
        raise InputError(
            "a record batch reader can be read once only; wrap it: with foretaste.reading.spool(reader)"
        )
    module = type(data).__module__.split(".")[0]
    if module == "pandas":
        frame = data
        if not frame.columns.is_unique or not all(isinstance(c, str) for c in frame.columns):
            raise InputError("the frame's column names must be unique strings; rename its columns")

        def from_pandas(columns: list[str]) -> pa.Table:
            return pa.Table.from_pandas(frame[columns], preserve_index=False)

        return list(frame.columns), from_pandas, "pandas frame"
    if module == "polars":
        if hasattr(data, "collect"):
            lazy = data
            return (
                list(lazy.collect_schema()),
                lambda columns: lazy.select(columns).collect().to_arrow(),
                "polars frame",
            )
        frame = data
        return list(frame.columns), lambda columns: frame.select(columns).to_arrow(), "polars frame"
    if hasattr(data, "__arrow_c_stream__"):
        table = pa.table(data)
        return list(table.schema.names), table.select, f"{module} table"
    raise InputError(
        f"cannot scan a {type(data).__name__}; pass a path, a pandas, polars or pyarrow object, or anything with "
        "__arrow_c_stream__"
    )


def _update(hasher: Any, batch: pa.RecordBatch) -> None:
    # Lengths and bytes, not the IPC form: the digest must not depend on how rows fall into batches.
    for row_hash in _row_digests(batch):
        hasher.update(row_hash)


def _row_digests(batch: pa.RecordBatch) -> Iterator[bytes]:
    # A Python loop over rows: a row's digest names it in evidence, and hashlib takes one message at a time.
    columns = [(role, column.to_pylist()) for role, column in zip(batch.schema.names, batch.columns)]
    for at in range(batch.num_rows):
        digest = hashlib.sha256()
        for role, values in columns:
            raw = values[at].encode()
            digest.update(f"{role}:{len(raw)}:".encode() + raw)
        yield digest.digest()


def row_ids(batch: pa.RecordBatch) -> list[str]:
    """Ids of the rows: the id role, or the first 16 hex digits of the row's SHA-256."""
    if "id" in batch.schema.names:
        ids: list[str] = batch.column(batch.schema.get_field_index("id")).to_pylist()
        return ids
    return [digest.hex()[:16] for digest in _row_digests(batch)]


def _hash_strings(array: pa.Array) -> npt.NDArray[np.uint64]:
    from foretaste.text.tokens import hash_rows

    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, dtype=np.uint8)
    return hash_rows(raw, ends)


def _refuse_duplicates(hashes: npt.NDArray[np.uint64], column: str) -> None:
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    twin = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(twin):
        first, second = int(order[twin[0]]), int(order[twin[0] + 1])
        raise InputError(
            f'column "{column}" (id) names {len(twin)} rows twice, first rows {first} and {second}; make the ids '
            "unique, leave --id out, or set input.duplicate_ids: allow in the policy"
        )


def _first_bad_row(array: pa.Array) -> int:
    low, high = 0, len(array)
    while high - low > 1:  # the halves are validated, so a batch costs log2(rows) passes
        middle = (low + high) // 2
        try:
            array.slice(low, middle - low).validate(full=True)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _explain(name: str, error: BaseException) -> str:
    text = _first_line(error)
    low = text.lower()
    if "utf8" in low or "utf-8" in low or isinstance(error, UnicodeError):
        step = "decode it with its real encoding (or replace lone surrogates) and write it again as UTF-8"
    elif "straddling" in low or "block_size" in low or "block size" in low:
        step = "a row is larger than 16 MiB; split it, or convert the file to Parquet"
    elif "parquet" in low or "magic" in low or "footer" in low or "thrift" in low:
        step = "the file is cut short or is no Parquet file; write or copy it again"
    elif "empty" in low:
        step = "the file is empty; write or copy it again"
    else:
        step = "repair or convert the file, then scan again"
    return f"cannot read {name}: {text}; {step}"
