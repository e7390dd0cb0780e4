"""Paths, globs, directories and addresses -> files of one format, and their bytes' digest."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.fs

from foretaste.errors import InputError
from foretaste.reading.readers import COMPRESSIONS, Arrow, Csv, Json, Parquet, Reader, Source, explain

_FORMATS = {
    ".parquet": "parquet", ".pq": "parquet",
    ".arrow": "ipc", ".arrows": "ipc", ".feather": "ipc", ".ipc": "ipc",
    ".csv": "csv", ".tsv": "tsv",
    ".jsonl": "json", ".ndjson": "json", ".json": "json",
}  # fmt: skip
# Compressed inside, page by page; a compressed file of these has to be unpacked before anything can be sought in it.
_SEEKABLE = frozenset({"parquet", "ipc"})
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Files:
    """Files of one format on one file system, sorted by path, with their sizes in bytes and their times of change."""

    name: str
    filesystem: pa.fs.FileSystem
    paths: tuple[str, ...]
    stamps: tuple[tuple[int, int], ...]
    format: str

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.stamps)

    def changed(self) -> str | None:
        """The first file that changed since it was listed, or ``None``."""
        for path, stamp, info in zip(self.paths, self.stamps, self.filesystem.get_file_info(list(self.paths))):
            if (info.size, info.mtime_ns) != stamp:
                return path
        return None

    def digest(self) -> str:
        """``sha256:<hex>`` over the sorted records (name, algorithm, digest) of the files.

        A name is the path below the common folder, so that a copy of a data set keeps its digest.
        """
        root = hashlib.sha256()
        for name, digest in self.members():
            root.update(f"{len(name.encode())}:{name}:sha256:{digest}\n".encode())
        return f"sha256:{root.hexdigest()}"

    def members(self) -> list[tuple[str, str]]:
        """Path below the common folder, and SHA-256 in hex, of each file, by path."""
        base = PurePosixPath(self.paths[0]).parent
        while not all(PurePosixPath(p).is_relative_to(base) for p in self.paths):
            base = base.parent
        with ThreadPoolExecutor(max_workers=2) as pool:
            digests = list(pool.map(self._digest_file, self.paths))
        return [(str(PurePosixPath(path).relative_to(base)), d) for path, d in sorted(zip(self.paths, digests))]

    def _digest_file(self, path: str) -> str:
        digest = hashlib.sha256()
        with self.filesystem.open_input_stream(path, compression=None, buffer_size=0) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files, to read."""
        return tuple(Source(self.filesystem, path) for path in self.paths)

    def schema(self) -> pa.Schema:
        """Columns, from the first file.

        Raises:
            InputError: if it cannot be read.
        """
        with _naming(self.paths[0]):
            return self._reader().schema(self.sources[0])

    def rows(self) -> int | None:
        """Rows of all files, where the format tells them without a pass over the data.

        Raises:
            InputError: if a file cannot be read.
        """
        total = 0
        reader = self._reader()
        for source in self.sources:
            with _naming(source.path):
                rows = reader.rows(source)
            if rows is None:
                return None
            total += rows
        return total

    def batches(self, columns: Sequence[str], strings: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """All rows, file by file, with these columns in this order; ``strings`` names those that hold text.

        Raises:
            InputError: if a file cannot be read, or lacks a column.
        """
        reader = self._reader(strings)
        for source in self.sources:
            with _naming(source.path):
                yield from reader.batches(source, columns)

    def original(self) -> Iterator[pa.RecordBatch]:
        """All rows, file by file, with every column that any file has, in one schema; null where a file has none.

        Raises:
            InputError: if a file cannot be read, or the files' types do not fit together.
        """
        reader = self._reader()
        own = []
        for source in self.sources:
            with _naming(source.path):
                own.append(reader.whole_schema(source))
        with _naming(self.name):
            schema = pa.unify_schemas(own, promote_options="permissive")
        for source, mine in zip(self.sources, own):
            with _naming(source.path):
                if isinstance(reader, Json):
                    yield from reader.batches_as(source, schema)
                else:
                    yield from (_as(batch, schema) for batch in reader.batches(source, mine.names))

    def _reader(self, strings: Sequence[str] = ()) -> Reader:
        if self.format == "parquet":
            return Parquet()
        if self.format == "ipc":
            return Arrow()
        if self.format == "json":
            return Json(strings)
        return Csv("\t" if self.format == "tsv" else ",")


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Errors of Arrow and of the file system as input errors that name the file and the next step."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError) as e:
        raise InputError(explain(path, e)) from e


def _as(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    arrays = [
        batch.column(f.name).cast(f.type) if f.name in batch.schema.names else pa.nulls(batch.num_rows, f.type)
        for f in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def format_of(path: str) -> str | None:
    """Format by file name, looking through a compression suffix; ``None`` where it is unknown."""
    suffixes = PurePosixPath(path).suffixes
    if suffixes and suffixes[-1].lower() in COMPRESSIONS:
        suffixes = suffixes[:-1]
    return _FORMATS.get(suffixes[-1].lower()) if suffixes else None


def list_files(data: str | PathLike[str], filesystem: pa.fs.FileSystem | None = None) -> Files:
    """Find the files behind a path, a glob, a directory or an address such as ``s3://bucket/prefix``.

    Raises:
        InputError: if nothing is there, the format is unknown, or formats are mixed.
    """
    name = str(data)
    if filesystem is None:
        if "://" in name:
            try:
                filesystem, path = pa.fs.FileSystem.from_uri(name)
            except (pa.ArrowInvalid, OSError) as e:
                raise InputError(
                    f"cannot open {name}: {e}; pass filesystem= for an address that Arrow does not know"
                ) from e
        else:
            filesystem, path = pa.fs.LocalFileSystem(), str(Path(name).absolute())
    else:
        path = name.split("://", 1)[-1]
    try:
        infos = _expand(path, filesystem)
    except OSError as e:
        raise InputError(f"cannot list {name}: {e}; check the path and the permissions") from e
    if not infos:
        raise InputError(f"no data at {name}: no such file, or an empty directory or glob; check the path")
    formats = {format_of(i.path) for i in infos}
    if None in formats:
        odd = next(i.path for i in infos if format_of(i.path) is None)
        raise InputError(
            f"unknown format: {odd}; known suffixes: {', '.join(sorted(_FORMATS))} (text formats also with "
            f"{', '.join(sorted(COMPRESSIONS))}); name a glob that leaves other files out"
        )
    if len(formats) > 1:
        raise InputError(f"{name} mixes formats ({', '.join(sorted(filter(None, formats)))}); scan them one by one")
    for info in infos:
        packed = PurePosixPath(info.path).suffix.lower()
        if packed in COMPRESSIONS and formats & _SEEKABLE:
            raise InputError(f"{info.path} cannot be read while it is packed; unpack it (remove {packed})")
        if info.size == 0:
            raise InputError(f"{info.path} is empty (0 bytes); write or copy it again, or take it away")
    infos.sort(key=lambda i: i.path)
    return Files(
        name=name,
        filesystem=filesystem,
        paths=tuple(i.path for i in infos),
        stamps=tuple((i.size, i.mtime_ns) for i in infos),
        format=formats.pop() or "",
    )


def _expand(path: str, filesystem: pa.fs.FileSystem) -> list[pa.fs.FileInfo]:
    info = filesystem.get_file_info(path)
    if info.type == pa.fs.FileType.File:
        return [info]
    if info.type == pa.fs.FileType.Directory:
        selector = pa.fs.FileSelector(path, recursive=True)
        return [
            i for i in filesystem.get_file_info(selector) if i.type == pa.fs.FileType.File and not _hidden(i.path, path)
        ]
    if not glob.has_magic(path):
        return []
    if isinstance(filesystem, pa.fs.LocalFileSystem):
        matches = [p for p in glob.glob(path, recursive=True) if Path(p).is_file()]
        return list(filesystem.get_file_info(matches)) if matches else []
    plain = path[: min(path.index(c) for c in "*?[" if c in path)]
    base = plain.rsplit("/", 1)[0]
    listed = filesystem.get_file_info(pa.fs.FileSelector(base, recursive=True, allow_not_found=True))
    return [i for i in listed if i.type == pa.fs.FileType.File and PurePosixPath(i.path).match(path)]


def _hidden(path: str, base: str) -> bool:
    relative = path[len(base) :].lstrip("/")
    return any(part.startswith((".", "_")) for part in relative.split("/"))
