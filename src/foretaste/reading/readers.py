"""One reader per file format: a file -> record batches of some of its columns, a bounded part in memory at a time."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.json
import pyarrow.parquet as pq

from foretaste.errors import InputError, did_you_mean
from foretaste.reading.chat import TURN_FIELDS, json_texts
from foretaste.reading.libraries import StoreError
from foretaste.roles import ROLE_NAMES

COMPRESSIONS = {".bz2": "bz2", ".gz": "gzip", ".lz4": "lz4", ".zst": "zstd"}
# Rows and bytes that a reader holds at a time, as far as the file lets it.
ROWS = 16_384
BYTES = 32 << 20
_JSON_BLOCK = 4 << 20
# Arrow reads up to 32 blocks ahead, so blocks are small; a row that does not fit gets the second size.
_CSV_BLOCKS = (1 << 20, 16 << 20)
_LONGEST_LINE = 1 << 28
_ARROW_MAGIC = b"ARROW1"
_FEATHER_1_MAGIC = b"FEA1"
_STREAM_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_LONGEST_QUOTE = 300
_ROW = re.compile(r" in row (\d+)$")
# Fields that reading looks at: those of turns, and columns that play a role by their names.
READ_FIELDS = TURN_FIELDS | ROLE_NAMES
_DEEPEST = 100
_END = "\x02foretaste end of file\x03"


@dataclass(frozen=True)
class Source:
    """A file on a file system."""

    filesystem: pa.fs.FileSystem
    path: str

    @property
    def compression(self) -> str | None:
        """Name of the compression that the suffix tells, or ``None``."""
        return COMPRESSIONS.get(PurePosixPath(self.path).suffix.lower())

    def stream(self) -> pa.NativeFile:
        """The decompressed bytes, front to back."""
        return self.filesystem.open_input_stream(self.path, compression=self.compression)

    def file(self) -> pa.NativeFile:
        """The bytes as they are, with random access."""
        return self.filesystem.open_input_file(self.path)


class Reader(ABC):
    """A format. Errors of Arrow pass through; the data set that reads names the file."""

    @abstractmethod
    def schema(self, source: Source) -> pa.Schema:
        """Columns, from the head of the file."""

    @abstractmethod
    def batches(self, source: Source, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows in order, with these columns in this order.

        Raises:
            InputError: if a column is missing.
        """

    def whole_schema(self, source: Source) -> pa.Schema:
        """All columns of the whole file, with types that hold every row."""
        return self.schema(source)

    def rows(self, source: Source) -> int | None:
        """Number of rows, where the file tells it without being read."""
        return None


class Parquet(Reader):
    """Parquet, with the compression that it carries inside."""

    def schema(self, source: Source) -> pa.Schema:
        """From the footer."""
        with source.file() as file, pq.ParquetFile(file) as parquet:
            return parquet.schema_arrow

    def batches(self, source: Source, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Row groups are streamed, not loaded."""
        return self.groups(source, columns, None)

    def groups(self, source: Source, columns: Sequence[str], groups: Sequence[int] | None) -> Iterator[pa.RecordBatch]:
        """The rows of some row groups, or of all."""
        # A buffered stream reads a column chunk page by page: a file of one large row group stays out of memory.
        with source.file() as file, pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as parquet:
            _refuse_footer(parquet, file, source)
            require(parquet.schema_arrow.names, columns, source.path)
            chosen = None if groups is None else list(groups)
            for batch in parquet.iter_batches(_batch_rows(parquet, columns), row_groups=chosen, columns=list(columns)):
                yield batch.select(list(columns))

    def rows(self, source: Source) -> int | None:
        """From the footer."""
        with source.file() as file, pq.ParquetFile(file) as parquet:
            _refuse_footer(parquet, file, source)
            return int(parquet.metadata.num_rows)

    def weights(self, source: Source) -> list[int]:
        """Bytes of each row group, before they are compressed."""
        with source.file() as file, pq.ParquetFile(file) as parquet:
            _refuse_footer(parquet, file, source)
            return [parquet.metadata.row_group(g).total_byte_size for g in range(parquet.num_row_groups)]


class Arrow(Reader):
    """Arrow IPC files (Feather version 2 among them) and streams, told apart by their first bytes."""

    def schema(self, source: Source) -> pa.Schema:
        """From the head of the file."""
        with self._open(source) as reader:
            return reader.schema

    def batches(self, source: Source, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Batches as they were written."""
        with self._open(source) as reader:
            refuse_renamed(reader.schema, source.path)
            require(reader.schema.names, columns, source.path)
            if isinstance(reader, pa.RecordBatchFileReader):
                for at in range(reader.num_record_batches):
                    yield reader.get_batch(at).select(list(columns))
            else:
                for batch in reader:
                    yield batch.select(list(columns))

    def _open(self, source: Source) -> Any:
        with source.file() as file:
            head = file.read(len(_ARROW_MAGIC))
            file.seek(max(0, file.size() - len(_STREAM_END)))
            tail = file.read()
        if head == _ARROW_MAGIC:
            return pa.ipc.open_file(source.file())
        if head.startswith(_FEATHER_1_MAGIC):
            raise InputError(f"{source.path} is a Feather file of version 1; write it again as Feather version 2")
        reader = pa.ipc.open_stream(source.file())
        if tail != _STREAM_END:  # Arrow takes a stream that stops between two messages for a whole one
            raise InputError(f"{source.path} is an Arrow stream without its end mark; it is cut short; write it again")
        return reader


class Csv(Reader):
    """CSV and TSV with a header line; every cell is read as a string, so that a label 01 stays 01."""

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter
        self._names: dict[str, list[str]] = {}
        self._block: dict[str, int] = {}

    def schema(self, source: Source) -> pa.Schema:
        """From the header line, all strings."""
        if source.path not in self._names:
            with source.stream() as stream:
                _refuse_utf16(stream.read(2), source)
            # Arrow has to parse the header, quotes and all, as it will parse the rows.
            self._names[source.path] = next(self._parsed(source, b"", [], [])).names
        return pa.schema([(name, pa.string()) for name in self._names[source.path]])

    def batches(self, source: Source, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Blocks of the file."""
        names = self.schema(source).names
        require(names, columns, source.path)
        # A quote that is never closed takes the rest of the file into one cell, and Arrow does not mind. A last row
        # of our own tells: it arrives as a row exactly where every quote is closed.
        mark = "\n" + self.delimiter.join([_END] * len(names)) + "\n"
        parsed = self._parsed(source, mark.encode(), names, columns)
        next(parsed)
        held: pa.RecordBatch | None = None
        for batch in parsed:
            if held is not None:
                yield held
            held = batch
        if held is None or any(c[-1].as_py() != _END for c in held.columns):
            raise InputError(f"{source.path} ends inside a quoted cell; close the quote, or write the file again")
        yield held.slice(0, held.num_rows - 1)

    def _parsed(self, source: Source, tail: bytes, names: Sequence[str], columns: Sequence[str]) -> Iterator[Any]:
        """The schema, then the batches that hold rows."""
        parse = pa.csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True)
        convert = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, include_columns=columns
        )
        given = -1  # rows handed over; -1 before the schema is
        while True:
            seen = 0
            block = self._block.setdefault(source.path, _CSV_BLOCKS[0])
            try:
                with source.stream() as stream:
                    whole = pa.PythonFile(_Appended(stream, tail), mode="r")
                    reader = pa.csv.open_csv(whole, pa.csv.ReadOptions(block_size=block), parse, convert)
                    if given < 0:
                        given = 0
                        yield reader.schema
                    for batch in reader:
                        seen += batch.num_rows
                        if seen > given:  # after a second start, what was handed over before is passed by
                            fresh = batch.slice(batch.num_rows - min(seen - given, batch.num_rows))
                            given = seen
                            yield fresh
                    return
            except pa.ArrowInvalid as e:
                if "straddling" not in str(e) or block == _CSV_BLOCKS[-1]:
                    raise
                self._block[source.path] = _CSV_BLOCKS[-1]


class Json(Reader):
    """JSON lines: one object a line. Types come from the first block; what looks like a date stays a string."""

    def __init__(self, strings: Sequence[str] = (), late: dict[str, str] | None = None) -> None:
        self.strings = frozenset(strings)
        self.late = {} if late is None else late
        self._schemas: dict[str, pa.Schema] = {}

    def schema(self, source: Source) -> pa.Schema:
        """From the first block."""
        if source.path not in self._schemas:
            with source.stream() as stream:
                block = next(_lines(stream, source), b"")
            head = block.lstrip(b"\xef\xbb\xbf \t\r\n")
            _refuse_utf16(head, source)
            if head.startswith(b"["):
                raise InputError(f"{source.path} is one JSON array; write JSON lines, one object a line")
            if not head:
                raise InputError(f"{source.path} starts with no rows; nothing could be checked; write it again")
            self._schemas[source.path] = _settled(_parse(block, None, 0).schema)
        return self._schemas[source.path]

    def batches(self, source: Source, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Blocks of the file."""
        found = self.schema(source)
        require(found.names, columns, source.path)
        # Nested values whose fields differ from row to row have no type of Arrow's that holds them all.
        nested = [c for c in columns if c in self.strings and pa.types.is_nested(found.field(c).type)]
        types = {c: pa.string() if c in self.strings else found.field(c).type for c in columns if c not in nested}
        wanted = pa.schema(types.items())
        unseen = [(name, f'"{name}"'.encode()) for name in sorted(READ_FIELDS - set(_fields(found)))]
        start = 0
        with source.stream() as stream:
            for block in _lines(stream, source):
                # Only a block that holds such a word is parsed in full: it may be a field, or a text.
                odd = start > 0 and any(word in block for _, word in unseen)
                table = _parse(block, wanted, start, new_fields=odd)
                for name in table.schema.names:
                    if name not in found.names:
                        self.late.setdefault(name, f"{source.path}, after row {start}")
                start += table.num_rows
                for column in nested:
                    table = table.append_column(column, _json_texts(block, column))
                yield from table.select(list(columns)).to_batches()

    def batches_as(self, source: Source, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """All rows with the columns and types of a schema."""
        start = 0
        with source.stream() as stream:
            for block in _lines(stream, source):
                table = _parse(block, schema, start)
                start += table.num_rows
                yield from table.select(schema.names).to_batches()

    def whole_schema(self, source: Source) -> pa.Schema:
        """From all blocks: a field may appear late, or turn from whole numbers to fractions."""
        start, schemas = 0, []
        with source.stream() as stream:
            for block in _lines(stream, source):
                table = _parse(block, None, start)
                start += table.num_rows
                schemas.append(_settled(table.schema))
        return pa.unify_schemas(schemas, promote_options="permissive")


class _Appended:
    """A stream with a few bytes more at its end."""

    def __init__(self, stream: IO[bytes], tail: bytes) -> None:
        self.stream = stream
        self.tail = tail
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        chunk = self.stream.read(size)
        if not chunk:
            chunk, self.tail = self.tail, b""
        return chunk

    def close(self) -> None:
        self.closed = True


def require(names: Sequence[str], columns: Sequence[str], place: str) -> None:
    """Refuse a place without one of the columns.

    Raises:
        InputError: naming the columns that it has.
    """
    for column in columns:
        if column not in names:
            raise InputError(f'no column "{column}" in {place}; {did_you_mean(column, names)}')


def refuse_renamed(schema: pa.Schema, place: str) -> None:
    """Refuse columns that pandas gives other names, by what stands in the schema for it alone.

    Raises:
        InputError: naming one: whoever trains with pandas would read another column than the one that is scanned.
    """
    try:
        said = schema.pandas_metadata or {}
        index = [name for name in said.get("index_columns", ()) if isinstance(name, str)]
        named = {c.get("field_name"): c.get("name") for c in said.get("columns", ())}
    except (ValueError, TypeError, AttributeError, RecursionError) as e:
        raise InputError(f"{place} has notes for pandas that cannot be read ({e}); write it again without them") from e
    for field in schema.names:
        name = named.get(field)
        if name is not None and name != field and field not in index:
            raise InputError(
                f'{place} has the column "{field}", which pandas is told to call "{name}", so that it would read other rows '
                "than are scanned; write it again without notes for pandas"
            )


def _refuse_footer(parquet: pq.ParquetFile, file: pa.NativeFile, source: Source) -> None:
    """Refuse a footer that readers take differently: rows that do not add up, columns in other files, other names.

    What is encrypted is refused before its columns are looked at, as Arrow would end the process.
    """
    refuse_renamed(parquet.schema_arrow, source.path)
    meta, said = parquet.metadata, ""
    # The signature of a footer with encrypted columns lies behind what it says.
    if int.from_bytes(file.read_at(4, file.size() - 8), "little") != meta.serialized_size:
        raise InputError(
            f"the footer of {source.path} has more behind it, such as the signature of encrypted columns, which "
            "readers take differently; write the file again, without encryption"
        )
    flat = [i for i in range(meta.num_columns) if parquet.schema.column(i).max_repetition_level == 0]
    total = 0
    for at in range(meta.num_row_groups):
        group = meta.row_group(at)
        total += group.num_rows
        for column in map(group.column, range(meta.num_columns)):
            if column.file_path:
                said = f"says that {column.path_in_schema} lies in another file, {column.file_path}"
        for column in map(group.column, flat):
            if column.num_values != group.num_rows:
                said = f"counts {column.num_values} values of {column.path_in_schema} in {group.num_rows} rows"
    if total != meta.num_rows:
        said = f"counts {meta.num_rows} rows, and its parts {total}"
    if said:
        raise InputError(f"the footer of {source.path} {said}, which readers take differently; write the file again")


def _batch_rows(parquet: pq.ParquetFile, columns: Sequence[str]) -> int:
    """Rows that fit into ``BYTES``, from the footer's sizes."""
    meta = parquet.metadata
    size = rows = 0
    for group in range(meta.num_row_groups):
        chunks = (meta.row_group(group).column(i) for i in range(meta.num_columns))
        size += sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] in columns)
        rows += meta.row_group(group).num_rows
    return max(1, min(ROWS, BYTES * rows // max(1, size)))


def _lines(stream: IO[bytes], source: Source) -> Iterator[bytes]:
    """Blocks of whole lines."""
    pending: list[bytes] = []
    held = 0
    while chunk := stream.read(_JSON_BLOCK):
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            pending.append(chunk)
            held += len(chunk)
            if held > _LONGEST_LINE:
                raise InputError(f"{source.path} has a line of more than {_LONGEST_LINE:,} bytes; split that row")
            continue
        yield b"".join([*pending, chunk[:cut]])
        pending, held = [chunk[cut:]], len(chunk) - cut
    if rest := b"".join(pending):
        yield rest


def _fields(schema: Any) -> Iterator[str]:
    """Names of all fields, nested ones too."""
    for field in schema:
        yield field.name
        kind = field.type
        while pa.types.is_list(kind):
            kind = kind.value_type
        if pa.types.is_struct(kind):
            yield from _fields(kind)


def _parse(block: bytes, schema: pa.Schema | None, start: int, new_fields: bool = False) -> pa.Table:
    from foretaste.text.nesting import deepest

    if not block.strip(b"\xef\xbb\xbf \t\r\n"):
        return (schema or pa.schema([])).empty_table()
    # Arrow takes values apart level by level, and ends the process where the stack does.
    if deepest(block) > _DEEPEST:
        raise pa.ArrowInvalid(f"a value after row {start} is nested more than {_DEEPEST} levels deep")
    try:
        return pa.json.read_json(
            pa.BufferReader(block),
            read_options=pa.json.ReadOptions(block_size=len(block) + 1),
            parse_options=pa.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore" if schema and not new_fields else "infer"
            ),
        )
    except pa.ArrowInvalid as e:  # Arrow counts rows from the start of the block
        text = _ROW.sub(lambda m: f" in row {start + int(m[1])}", str(e))
        raise pa.ArrowInvalid(text) from e


def _json_texts(block: bytes, column: str) -> pa.Array:
    """One field of each line as JSON, nulls where there is none."""
    lines = (line for line in block.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip())
    return json_texts(json.loads(line, object_pairs_hook=_unique).get(column) for line in lines)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """What Arrow refuses as well where it reads the field: one reader takes the first of two, another the last."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise pa.ArrowInvalid(f"a row names a field twice, among {', '.join(sorted(found))[:100]}")
    return found


def _settled(schema: pa.Schema) -> pa.Schema:
    """What Arrow took for a date, because it looks like one, is a string in JSON; so may be what was null so far."""

    def settle(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_timestamp(kind) or pa.types.is_null(kind):
            return pa.string()
        if pa.types.is_list(kind):
            return pa.list_(settle(kind.value_type))
        if pa.types.is_struct(kind):
            return pa.struct([(field.name, settle(field.type)) for field in kind])
        return kind

    return pa.schema([(field.name, settle(field.type)) for field in schema])


def _refuse_utf16(head: bytes, source: Source) -> None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{source.path} is UTF-16; write it again as UTF-8")


def explain(name: str, error: BaseException) -> str:
    """One line for a person: what could not be read, why, and the next step."""
    text = first_line(error)
    low = text.lower()
    if isinstance(error, StoreError):
        return f"cannot read {name}: {text}"
    if isinstance(error, FileNotFoundError):
        step = "check the path"
    elif isinstance(error, PermissionError):
        step = "check the permissions"
    elif "surrogate" in low or "utf8" in low or "utf-8" in low or isinstance(error, UnicodeError):
        step = "decode it with its real encoding, replace lone surrogates, and write it again as UTF-8"
    elif "straddling" in low or "block_size" in low or "block size" in low:
        step = f"a row is larger than {_CSV_BLOCKS[-1] >> 20} MiB; split it, or convert the file to Parquet"
    elif "changed from" in low or "couldn't parse" in low or "unable to merge" in low or "incompatible type" in low:
        step = "write one type per column, then scan again"
    elif "parquet" in low or "magic" in low or "footer" in low or "thrift" in low:
        step = "the file is cut short or is no Parquet file; write or copy it again"
    elif "metadata bytes" in low or "expected to be able to read" in low:
        step = "the file is cut short or is no Arrow file; write or copy it again"
    else:
        step = "repair or convert the file, then scan again"
    return f"cannot read {name}: {text}; {step}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, cut where it quotes data at length."""
    parts = error.args if all(isinstance(a, str) for a in error.args) else (str(error),)
    lines = "; ".join(parts).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= _LONGEST_QUOTE else lines[0][:_LONGEST_QUOTE] + "…"
