"""The one input type of the engine: re-iterable batches in canonical columns, validated while they are first read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs

from foretaste.batch import TEXT_ROLES, Batch
from foretaste.errors import InputError
from foretaste.reading.chat import (
    TURN_ROLES,
    as_text,
    is_turns,
    shape_of,
    split_messages,
    split_turns,
    turns_canonical,
)
from foretaste.reading.formats import Files, list_files
from foretaste.reading.frames import Frame, open_frame
from foretaste.reading.libraries import no_rows
from foretaste.reading.readers import explain, first_line
from foretaste.reading.tables import open_table
from foretaste.reading.times import is_temporal, time_texts
from foretaste.roles import Roles
from foretaste.spill import Column, by_hash
from foretaste.sweep import Edit, Part, Tick, numbered, scan_all

BATCH_ROWS = 16_384
# A batch of long documents holds fewer rows, so that what is derived from it stays small.
BATCH_BYTES = 32 << 20
# Data that are small with their tokens stay in memory between the rounds.
KEEP_BYTES = 512 << 20
# Hashes of ids take that much memory, and more than that a file.
IDS_BYTES = 32 << 20
_TOKENS_PER_BYTE = 6  # bytes of text and tokens per byte of text, at most
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
        shape: what people call the shape of fine-tuning data, such as ``ShareGPT``; empty for other data.
        notes: what to know about columns that play no role.
        rows: number of rows, or ``None`` before the first full pass where the format does not tell.
        ids: hashes of the ids after that pass, where they have to differ.
        keep_bytes: memory for rows and tokens that stay between two passes.
    """

    def __init__(self, data: Files | Frame, roles: Roles, options: InputOptions) -> None:
        self.name = data.name
        self.files = data if isinstance(data, Files) else None
        schema = data.schema()
        self.columns = schema.names
        self.roles, self.guessed = resolved(roles, schema, self.files.format if self.files else "")
        self.shape = shape_of(self.roles, schema)
        self.notes = self.roles.notes(self.columns)
        self._beside = self.roles.beside(self.columns)
        self._given = roles
        self.kind = self.roles.kind
        self.rows = data.rows()
        self.bytes = data.bytes
        self.options = options
        self._data = data
        self._names = self.roles.as_dict()
        self.keep_bytes = KEEP_BYTES
        self._kept: dict[tuple[int, int], tuple[Any, list[Batch]]] = {}
        self._kept_bytes = 0
        self._validated = False
        self.ids: Column | None = None
        self._digest: str | None = None
        for role, column in self._read():
            if self.columns.count(column) > 1:
                raise InputError(f'column "{column}" ({role}) is there twice in {self.name}; rename one of the two')
        self._turns = frozenset(
            role for role, column in self._names.items() if role in TURN_ROLES and is_turns(schema.field(column).type)
        )
        # What a text role holds besides text is refused, but for the context, which is written as JSON.
        self._textual = frozenset(
            role
            for role, column in self._names.items()
            if role in ("context", "time") or (role in TEXT_ROLES and not pa.types.is_nested(schema.field(column).type))
        )

    @property
    def canonical_roles(self) -> frozenset[str]:
        """Roles of the batches: columns of turns are replaced by what they are split into."""
        turns = turns_canonical(self._turns, self.roles.prompt is not None)
        return self.roles.canonical.union(turns, self._beside.values())

    def trust(self) -> None:
        """Take the data for validated: a pass before this one has seen the same rows."""
        self._validated = True

    def batches(self, allow_empty: bool = False) -> Iterator[Batch]:
        """All rows in order. The first complete pass validates; a later pass sees the same rows or fails.

        How rows fall into batches follows from the rows alone, not from files, row groups or chunks: the same data
        give the same batches however they are stored.

        Args:
            allow_empty: whether no rows are an answer, as in a part of larger data.

        Raises:
            InputError: if a row cannot be read as text, or the data changed between two passes.
        """
        self._refuse_changed()
        start = 0
        ids = Column(np.uint64, room=IDS_BYTES)
        digest = _RowsDigest() if self.files is None else None
        for columns in _even(self._canonical_pieces(ids)):
            if digest is not None:
                digest.update(columns)
            yield Batch(columns, start=start, kind=self.kind)
            start += columns.num_rows
        if start == 0 and not allow_empty:
            raise no_rows(self.name)
        if self._validated and self.rows not in (None, start):
            raise InputError(f"{self.name} had {self.rows} rows and now has {start}; scan a copy that is at rest")
        if not self._validated and len(ids):
            self.ids = ids
            refuse_duplicates(ids, self.roles.id or "")
        if self.files is not None and not self._validated:
            self._refuse_late(self.files.late)
        self._refuse_changed()
        if digest is not None:
            seen = digest.hexdigest()
            if self._digest not in (None, seen):
                raise InputError(f"{self.name} changed while it was scanned; scan a copy that nothing writes to")
            self._digest = seen
        self.rows = start
        self._validated = True

    def sweep(
        self, parts: Sequence[Part], tick: Tick, *, edit: Edit | None = None, before: Sequence[pa.RecordBatch] = ()
    ) -> None:
        """One pass over all rows; see :class:`foretaste.sweep.Data`."""
        scan_all(self._batches_again(edit, before), parts, tick)

    @property
    def kept(self) -> bool:
        """Whether the rows were small enough to stay in memory after the first pass."""
        return (0, 0) in self._kept

    def _batches_again(self, edit: Edit | None, before: Sequence[pa.RecordBatch]) -> Iterator[Batch]:
        """The batches of a pass; from memory, with their tokens, where ``keep_bytes`` hold them.

        What is kept is what the first pass saw, so that every pass sees the same rows; :meth:`refuse_changed` tells
        at the end whether the data are still the same.
        """
        key = (id(edit) if edit else 0, id(before) if len(before) else 0)
        if key in self._kept:
            self._refuse_changed()
            yield from self._kept[key][1]
            return
        source = self._kept[0, 0][1] if self.kept else self.batches()
        held: list[Batch] | None = []
        room = self.keep_bytes - self._kept_bytes
        for batch in numbered(before, source, self.kind, edit):
            if held is not None:
                room -= _TOKENS_PER_BYTE * batch.columns.nbytes
                held.append(batch)
                if room < 0:
                    held = None
            yield batch
        if held is not None:
            self._kept_bytes = self.keep_bytes - room
            self._kept[key] = ((edit, before), held)  # the key's objects are held, so that no other gets their id

    def refuse_changed(self) -> None:
        """Read the data once more where rows were kept and no file tells that they changed.

        Raises:
            InputError: if they are no longer those that were scanned.
        """
        if self.kept and self.files is None:
            for _ in self.batches():
                pass
        self._refuse_changed()

    def head(self, rows: int) -> pa.RecordBatch:
        """The first rows (fewer where a batch or the data end), in canonical columns.

        Raises:
            InputError: if they cannot be read.
        """
        columns = next(_even(self._canonical_pieces(Column(np.uint64, room=IDS_BYTES))), None)
        if columns is None:
            raise no_rows(self.name)
        return columns.slice(0, rows)

    def original(self) -> Iterator[pa.RecordBatch]:
        """All rows in the order of :meth:`batches`, with all columns as they are (those of CSV as strings).

        Raises:
            InputError: if the data cannot be read, or files disagree about a column's type.
        """
        with _reading(self.name):
            yield from self._data.original()

    @property
    def digest(self) -> str:
        """``sha256:<hex>``: of the files' bytes and names, or of the rows of an in-memory object in their roles."""
        if self._digest is None:
            if self.files is None:
                for _ in self.batches():
                    pass
            else:
                with _reading(self.name):
                    digest = self.files.digest()
                self._refuse_changed()
                self._digest = digest
        assert self._digest is not None
        return self._digest

    def _refuse_late(self, late: Mapping[str, str]) -> None:
        """Refuse columns that no first row showed, and that would have been read; note the others."""
        columns = [*self.columns, *(c for c in late if c not in self.columns)]
        roles = self._given.resolve(columns)[0]
        for role, column in roles.as_dict().items():
            if column in late and getattr(self.roles, role) != column:
                raise InputError(
                    f'column "{column}" ({role}) first appears in {late[column]}, and the first rows have none; write it '
                    "in every row (null where there is none), or name the roles of all columns that are to be read"
                )
        for column in self.roles.beside(columns):
            if column not in self._beside:
                raise InputError(
                    f'column "{column}", which reaches a model, first appears in {late[column]}; write it in every row '
                    "(null where there is none), or drop it where no model is trained on it"
                )
        self.notes = self.roles.notes(columns)

    def _refuse_changed(self) -> None:
        if self.files is None:
            return
        with _reading(self.name):
            changed = self.files.changed()
        if changed:
            raise InputError(f"{changed} changed while it was scanned; scan a copy, or again when it is at rest")

    def _canonical_pieces(self, ids: Column) -> Iterator[pa.RecordBatch]:
        columns = self.roles.reads(self.columns)
        text = [column for role, column in self._names.items() if role in self._textual] + list(self._beside)
        start = 0
        with _reading(self.name):
            for raw in self._data.batches(columns, text):
                # Cut before anything is derived: a reader may hand over a whole frame or row group.
                step = max(1, min(BATCH_ROWS, raw.num_rows * BATCH_BYTES // max(1, raw.nbytes)))
                for at in range(0, raw.num_rows, step):
                    piece = self._canonical(raw.slice(at, step), start)
                    if not self._validated:
                        self._validate(piece, start, ids)
                    yield piece
                    start += piece.num_rows

    def _canonical(self, batch: pa.RecordBatch, start: int) -> pa.RecordBatch:
        arrays: dict[str, pa.Array] = {}
        turns: dict[str, pa.Array] = {}
        for role, column in self._read():
            array = batch.column(batch.schema.get_field_index(column))
            if not self._validated:
                _refuse_invalid(array, role, column, start)
            if role == "messages" or role in self._turns:
                turns[role] = array
            elif role in arrays:
                arrays[role] = _lines(arrays[role], self._strings(array, role, column, start))
            else:
                arrays[role] = self._strings(array, role, column, start)
        if "messages" in turns:
            arrays |= split_messages(turns["messages"], self._names["messages"], start, arrays.get("context"))
        elif turns:
            arrays |= split_turns(arrays, turns, self._names, start)
        return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))

    def _read(self) -> Iterator[tuple[str, str]]:
        """Role and column of all that is read."""
        yield from self._names.items()
        yield from ((role, column) for column, role in self._beside.items())

    def _strings(self, array: pa.Array, role: str, column: str, start: int) -> pa.Array:
        kind = array.type
        if pa.types.is_dictionary(kind):
            array = array.dictionary_decode()
            kind = array.type
        if role == "time":
            return time_texts(array, column)
        if role == "tools" or (role == "context" and pa.types.is_nested(kind)):
            return as_text(array, unescape=role == "tools")
        textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()
        if role in TEXT_ROLES and not textual and not pa.types.is_null(kind):
            nested = pa.types.is_nested(kind)
            hint = "join its parts into one string column first" if nested else "write it again as a string column"
            if pa.types.is_list(kind) and role in ("chosen", "rejected", "prompt", "response", "text"):
                hint = "name a column of turns with --messages, or join them into one string column first"
            raise InputError(f'column "{column}" ({role}) holds {kind}, not text; {hint}')
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise InputError(f'column "{column}" ({role}) holds {kind}; a {role} must be a string, number or date')
        try:
            array = array.cast(pa.large_string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
            raise InputError(f'column "{column}" ({role}) cannot be read as text: {first_line(e)}') from e
        if array.null_count:
            if role not in _MAY_BE_NULL and self.options.nulls == "error":
                row = start + int(np.flatnonzero(np.asarray(array.is_null()))[0])
                raise InputError(
                    f'column "{column}" ({role}) is null in {array.null_count} rows of a batch, first in row {row}; '
                    "drop or fill those rows, or set input.nulls: empty in the policy"
                )
            array = pc.fill_null(array, "")
        return array

    def _validate(self, batch: pa.RecordBatch, start: int, ids: Column) -> None:
        for role, array in zip(batch.schema.names, batch.columns):
            column = self._names.get(role, self.roles.messages or role)
            lengths = np.diff(text_buffers(array)[1])
            if len(lengths) and lengths.max() > self.options.max_cell_bytes:
                row = int(lengths.argmax())
                raise InputError(
                    f'column "{column}" ({role}) has {int(lengths[row]):,} bytes in row {start + row}, more than '
                    f"input.max_cell_bytes = {self.options.max_cell_bytes:,}; split the row, or raise the limit in the "
                    "policy"
                )
        if "id" in batch.schema.names and self.options.duplicate_ids == "error":
            ids.append(_hash_strings(batch.column(batch.schema.get_field_index("id"))))


def resolved(roles: Roles, schema: pa.Schema, format: str = "") -> tuple[Roles, tuple[str, ...]]:
    """Complete roles for columns, and which of them were guessed; see :meth:`foretaste.roles.Roles.resolve`.

    A time is guessed by the type of its column, and JSON, of the ``format`` of files, has no times: what looks like one in
    the first rows may be anything in the next.

    Raises:
        InputError: as there.
    """
    named, guessed = roles.resolve(schema.names)
    whole = named.with_time(field.name for field in schema if format != "json" and is_temporal(field.type))
    return whole, guessed if whole == named else (*guessed, "time")


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
    opened: Files | Frame
    if isinstance(data, str | os.PathLike):
        opened = (open_table(str(data)) if filesystem is None else None) or list_files(data, filesystem)
    else:
        with _reading(f"the {type(data).__name__}"):
            opened = open_frame(data)
    return Dataset(opened, roles, options)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """What Arrow or the file system raise, as an input error."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError) as e:
        raise InputError(explain(name, e)) from e


def _even(pieces: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of ``BATCH_ROWS``, or of fewer where those would be more than ``BATCH_BYTES``."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for piece in pieces:
        lengths = [np.diff(text_buffers(column)[1]) for column in piece.columns]
        ends = np.concatenate([[0], np.cumsum(np.sum(lengths, axis=0))])
        at = 0
        while at < piece.num_rows:
            fit = int(np.searchsorted(ends, ends[at] + BATCH_BYTES - size, side="right")) - 1 - at
            take = min(BATCH_ROWS - rows, max(fit, 0 if rows else 1), piece.num_rows - at)
            if take:
                held.append(piece.slice(at, take))
                rows += take
                size += int(ends[at + take] - ends[at])
                at += take
            if at < piece.num_rows or rows == BATCH_ROWS:
                yield _joined(held)
                held, rows, size = [], 0, 0
    if held:
        yield _joined(held)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """One batch whose columns start at offset 0, so that a check may read their buffers as they are."""
    if len(batches) == 1 and not any(column.offset for column in batches[0].columns):
        return batches[0]
    columns = zip(*(batch.columns for batch in batches))
    return pa.RecordBatch.from_arrays([pa.concat_arrays(c) for c in columns], schema=batches[0].schema)


def _lines(first: pa.Array, second: pa.Array) -> pa.Array:
    """Two texts of a row as lines of one; an empty one makes no line."""
    joined = pc.binary_join_element_wise(first, second, pa.scalar("\n", pa.large_string()))
    return pc.if_else(pc.equal(second, ""), first, pc.if_else(pc.equal(first, ""), second, joined))


class _RowsDigest:
    """SHA-256 over the lengths and over the bytes of each column, so that it does not know of batches."""

    def __init__(self) -> None:
        self._columns: dict[str, tuple[Any, Any]] = {}

    def update(self, batch: pa.RecordBatch) -> None:
        for role, column in zip(batch.schema.names, batch.columns):
            lengths, text = self._columns.setdefault(role, (hashlib.sha256(), hashlib.sha256()))
            data, ends = text_buffers(column)
            lengths.update(np.diff(ends).astype("<i8").data)
            text.update(data[ends[0] : ends[-1]].data)

    def hexdigest(self) -> str:
        root = hashlib.sha256()
        for role, (lengths, text) in self._columns.items():
            root.update(f"{role}:{lengths.hexdigest()}:{text.hexdigest()}\n".encode())
        return f"sha256:{root.hexdigest()}"


def row_ids(batch: pa.RecordBatch) -> list[str]:
    """Ids of the rows: the id role, or the first 16 hex digits of the row's SHA-256.

    For the few rows that a report names: the digest is a Python loop over rows.
    """
    if "id" in batch.schema.names:
        ids: list[str] = batch.column(batch.schema.get_field_index("id")).to_pylist()
        return ids
    columns = [(role, column.to_pylist()) for role, column in zip(batch.schema.names, batch.columns)]
    names = []
    for at in range(batch.num_rows):
        digest = hashlib.sha256()
        for role, values in columns:
            raw = values[at].encode()
            digest.update(f"{role}:{len(raw)}:".encode() + raw)
        names.append(digest.hexdigest()[:16])
    return names


def text_buffers(array: pa.LargeStringArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """A column's UTF-8 bytes and offsets, shapes (n_bytes,) and (len(array) + 1,); views, not copies."""
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, dtype=np.uint8)
    return raw, ends


def _hash_strings(array: pa.LargeStringArray) -> npt.NDArray[np.uint64]:
    from foretaste.text.tokens import hash_rows

    return hash_rows(*text_buffers(array))


def _refuse_invalid(array: pa.Array, role: str, column: str, start: int) -> None:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as e:
        where = "" if pa.types.is_nested(array.type) else f" in row {start + _first_bad_row(array)}"
        raise InputError(
            f'column "{column}" ({role}) is not valid{where} ({first_line(e)}); decode it with its real encoding and '
            "write it again as UTF-8"
        ) from e


def refuse_duplicates(hashes: Column, column: str) -> None:
    """Refuse ids (as hashes, one per row) that name two rows.

    Raises:
        InputError: naming two such rows.
    """
    twins, first = 0, (0, 0)
    for rows, part in by_hash(hashes):
        order = np.argsort(part, kind="stable")
        same = np.flatnonzero(part[order[1:]] == part[order[:-1]])
        if len(same) and not twins:
            first = (int(rows[order[same[0]]]), int(rows[order[same[0] + 1]]))
        twins += len(same)
    if twins:
        raise InputError(
            f'column "{column}" (id) names {twins} rows twice, first rows {first[0]} and {first[1]}; make the ids '
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
