"""Paths, globs, directories and addresses -> files of one format, and their bytes' digest."""

from __future__ import annotations

import glob
import hashlib
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pyarrow as pa
import pyarrow.fs

from foretaste.errors import InputError
from foretaste.reading.libraries import StoreError
from foretaste.reading.readers import COMPRESSIONS, Arrow, Csv, Json, Parquet, Reader, Source, explain
from foretaste.reading.stores import BUCKETS, open_address, steady, versions

_FORMATS = {
    ".parquet": "parquet", ".pq": "parquet",
    ".arrow": "ipc", ".arrows": "ipc", ".feather": "ipc", ".ipc": "ipc",
    ".csv": "csv", ".tsv": "tsv",
    ".jsonl": "json", ".ndjson": "json", ".json": "json",
}  # fmt: skip
# Compressed inside, page by page; a compressed file of these has to be unpacked before anything can be sought in it.
_SEEKABLE = frozenset({"parquet", "ipc"})
_CHUNK = 1 << 20
_SAVED = frozenset({"dataset_dict.json", "dataset_info.json", "state.json"})
_INDEX = frozenset(
    {"_metadata", "_common_metadata", ".huggingface.yaml"}
)  # what Dask, Spark and the Hub's reader follow
# What stands beside data for people, as in a repository of a hub.
_CARDS = frozenset({"README", "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "CITATION.cff"})
_DATA_BASES = frozenset({".db", ".sqlite", ".sqlite3"})


@dataclass(frozen=True)
class FileDigest:
    """A file's name below the common folder, its size in bytes, and the SHA-256 of its bytes, 64 hex digits."""

    name: str
    bytes: int
    sha256: str


def root_digest(files: Iterable[FileDigest]) -> str:
    """``sha256:<hex>`` over the sorted records (name, algorithm, digest): the digest of a data set."""
    root = hashlib.sha256()
    for name, sha256 in sorted((f.name, f.sha256) for f in files):
        root.update(f"{len(name.encode())}:{name}:sha256:{sha256}\n".encode())
    return f"sha256:{root.hexdigest()}"


@dataclass(frozen=True)
class Files:
    """Files of one format on one file system, sorted by path, with their sizes in bytes first in their ``stamps``.

    Beside its size, a stamp has what tells that a file changed: its time and, on a local disk, the time that the system
    keeps by itself, as ``utime`` sets the other one back. Not the inode: mounted stores number their files anew.

    ``left_out`` names the data files that reading leaves out of a directory, because a part of their path starts with a
    dot or an underscore, and files that tell other readers which files to read. ``versions`` are what a store says of the
    version of each path (:func:`stores.versions`).
    ``late`` grows while rows are read: columns that the first rows do not have, and where they first appear.
    """

    name: str
    filesystem: pa.fs.FileSystem
    paths: tuple[str, ...]
    stamps: tuple[tuple[int, ...], ...]
    format: str
    left_out: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict, hash=False)
    late: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(size for size, *_ in self.stamps)

    def changed(self) -> str | None:
        """The first file that changed since it was listed, or ``None``."""
        seen = _stamps(self.filesystem, self.filesystem.get_file_info(list(self.paths)))
        for path, stamp, now in zip(self.paths, self.stamps, seen):
            if now != stamp:
                return path
        there = versions(self.filesystem, self.paths) if self.versions else {}
        return next((path for path in self.paths if there.get(path) != self.versions.get(path)), None)

    def digest(self) -> str:
        """``sha256:<hex>`` over the sorted records (name, algorithm, digest) of the files.

        A name is the path below the common folder, so that a copy of a data set keeps its digest.
        """
        return root_digest(self.digests())

    def digests(self, copy_to: Path | None = None) -> tuple[FileDigest, ...]:
        """Digest of every file, two at a time.

        Args:
            copy_to: local folder that gets the very bytes that are digested, under the files' names.

        Raises:
            InputError: if a name would lead out of that folder, as the key of an object store may.
        """
        if copy_to is not None:
            for path in self.paths:
                if ".." in PurePosixPath(path).relative_to(self.folder).parts:
                    raise InputError(f"{path} leads out of its folder; rename it")
        return self._digests(self.paths, copy_to)

    def copied(self, digests: Iterable[FileDigest], folder: Path) -> Files:
        """The copy of these files that :meth:`digests` wrote into a folder, as files to read."""
        # Listing the folder would leave out what a glob named and a dot or underscore hides.
        paths = tuple(str(folder / d.name) for d in digests)
        infos = pa.fs.LocalFileSystem().get_file_info(list(paths))
        return replace(
            self, filesystem=pa.fs.LocalFileSystem(), paths=paths, versions={}, late={},
            stamps=_stamps(pa.fs.LocalFileSystem(), infos),
        )  # fmt: skip

    def digests_left_out(self) -> tuple[FileDigest, ...]:
        """Digest of every data file that reading leaves out."""
        return self._digests(self.left_out, None)

    def _digests(self, paths: Sequence[str], copy_to: Path | None) -> tuple[FileDigest, ...]:
        base = self.folder
        sizes = {path: size for path, (size, *_) in zip(self.paths, self.stamps)}

        def one(path: str) -> FileDigest:
            name = posixpath.relpath(path, base)
            if copy_to is None:
                return FileDigest(name, *self._digest_file(path, None, sizes.get(path)))
            target = copy_to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb", buffering=0) as copy:
                return FileDigest(name, *self._digest_file(path, copy, sizes.get(path)))

        with ThreadPoolExecutor(max_workers=2) as pool:
            return tuple(pool.map(one, paths))

    @property
    def folder(self) -> PurePosixPath:
        """The deepest folder that holds all files that are read: names count from here."""
        base = PurePosixPath(self.paths[0]).parent
        while not all(PurePosixPath(p).is_relative_to(base) for p in self.paths):
            base = base.parent
        return base

    def _digest_file(self, path: str, copy: BinaryIO | None, most: int | None) -> tuple[int, str]:
        digest, size, buffer = hashlib.sha256(), 0, bytearray(_CHUNK)
        view = memoryview(buffer)
        with self.filesystem.open_input_stream(path, compression=None, buffer_size=0) as stream:
            while read := stream.readinto(buffer):
                digest.update(view[:read])
                if copy is not None:
                    copy.write(view[:read])
                size += read
                if most is not None and size > most:  # whoever appends faster than this reads would never be done
                    raise InputError(f"{path} grew while it was read; read a copy, or again when it is at rest")
        return size, digest.hexdigest()

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files, to read."""
        return tuple(Source(self.filesystem, path) for path in self.paths)

    def schema(self) -> pa.Schema:
        """Columns, from the first file.

        Raises:
            InputError: if it cannot be read.
        """
        with naming(self.paths[0]):
            return self._reader().schema(self.sources[0])

    def rows(self) -> int | None:
        """Rows of all files, where the format tells them without a pass over the data.

        Raises:
            InputError: if a file cannot be read.
        """
        total = 0
        reader = self._reader()
        for source in self.sources:
            with naming(source.path):
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
        known: list[str] = []
        for source in self.sources:
            with naming(source.path):
                names = reader.schema(source).names
                known = known or names
                for name in names:
                    if name not in known:
                        self.late.setdefault(name, source.path)
                yield from reader.batches(source, columns)

    def original(self) -> Iterator[pa.RecordBatch]:
        """All rows, file by file, with every column that any file has, in one schema; null where a file has none.

        Raises:
            InputError: if a file cannot be read, or the files' types do not fit together.
        """
        reader = self._reader()
        own = []
        for source in self.sources:
            with naming(source.path):
                own.append(reader.whole_schema(source))
        with naming(self.name):
            schema = pa.unify_schemas(own, promote_options="permissive")
        for source, mine in zip(self.sources, own):
            with naming(source.path):
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
            return Json(strings, self.late)
        return Csv("\t" if self.format == "tsv" else ",")


def _stamps(filesystem: pa.fs.FileSystem, infos: Iterable[pa.fs.FileInfo]) -> tuple[tuple[int, ...], ...]:
    """What tells one state of each file from another, its size first."""
    stamps: list[tuple[int, ...]] = []
    for info in infos:
        kept: tuple[int, ...] = (info.size or 0, info.mtime_ns or 0)
        if isinstance(filesystem, pa.fs.LocalFileSystem) and info.type != pa.fs.FileType.NotFound:
            with suppress(FileNotFoundError):
                kept += (os.stat(info.path).st_ctime_ns,)
        stamps.append(kept)
    return tuple(stamps)


@contextmanager
def naming(path: str) -> Iterator[None]:
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
            filesystem, path = open_address(name)
        else:
            filesystem, path = pa.fs.LocalFileSystem(), str(Path(name).absolute())
    else:
        filesystem, path = steady(filesystem), name.split("://", 1)[-1]
    try:
        infos, left_out = _expand(path, filesystem)
    except OSError as e:
        step = "" if isinstance(e, StoreError) else "; check the path and the permissions"
        raise InputError(f"cannot list {name}: {e}{step}") from e
    if not infos:
        raise InputError(_nothing_at(name, path, filesystem))
    formats = {format_of(i.path) for i in infos}
    if None in formats:
        odd = next(i.path for i in infos if format_of(i.path) is None)
        if PurePosixPath(odd).suffix.lower() in _DATA_BASES:
            raise InputError(
                f"{odd} is a data base; name a query, as in 'sqlite:///{name}?query=SELECT * FROM t ORDER BY id'"
            )
        raise InputError(
            f"unknown format: {odd}; known suffixes: {', '.join(sorted(_FORMATS))} (text formats also with "
            f"{', '.join(sorted(COMPRESSIONS))}); name a glob that leaves other files out"
        )
    if len(formats) > 1:
        raise InputError(
            f"{name} mixes formats ({', '.join(sorted(filter(None, formats)))}); scan them one by one, as in "
            f"'{name.rstrip('/')}/**/*{PurePosixPath(infos[0].path).suffix}'"
        )
    for info in infos:
        packed = PurePosixPath(info.path).suffix.lower()
        if packed in COMPRESSIONS and formats & _SEEKABLE:
            raise InputError(f"{info.path} cannot be read while it is packed; unpack it (remove {packed})")
        if info.size == 0:
            raise InputError(f"{info.path} is empty (0 bytes); write or copy it again, or take it away")
    infos.sort(key=lambda i: i.path)
    paths = tuple(i.path for i in infos)
    with naming(name):
        seen = versions(filesystem, paths)
    return Files(
        name=name,
        filesystem=filesystem,
        paths=paths,
        stamps=_stamps(filesystem, infos),
        format=formats.pop() or "",
        left_out=tuple(sorted(i.path for i in left_out if format_of(i.path) or posixpath.basename(i.path) in _INDEX)),
        versions=seen,
    )


def _nothing_at(name: str, path: str, filesystem: pa.fs.FileSystem) -> str:
    """What to look at where nothing was found."""
    scheme = name.split("://", 1)[0] if "://" in name else ""
    said, bucket = f"no data at {name}: ", path.split("/", 1)[0]
    if scheme in BUCKETS:
        with suppress(pa.ArrowException, OSError):  # who may read objects may not always ask for their bucket
            if filesystem.get_file_info(bucket).type == pa.fs.FileType.NotFound:
                return f'{said}there is no bucket or container "{bucket}"; check its name and the account'
    if scheme in ("http", "https"):
        return f"{said}no such file, or its server does not answer; check the address"
    folder, _, option = name.partition("?")
    if "=" in option:
        return f"{said}no such file, and no such option; a version of a table is named as in {folder}?version=3"
    return f"{said}no such file, or an empty directory or glob; check the path"


def _expand(path: str, filesystem: pa.fs.FileSystem) -> tuple[list[pa.fs.FileInfo], list[pa.fs.FileInfo]]:
    """The files to read, and those below a directory that are left out."""
    info = filesystem.get_file_info(path)
    if info.type == pa.fs.FileType.File:
        return [info], []
    if info.type == pa.fs.FileType.Directory:
        below = filesystem.get_file_info(pa.fs.FileSelector(path, recursive=True))
        files = [i for i in below if i.type == pa.fs.FileType.File]
        _refuse_table(path, files)
        _refuse_odd(path, below, isinstance(filesystem, pa.fs.LocalFileSystem))
        files = [i for i in files if posixpath.basename(i.path) not in _CARDS]
        aside = {i.path for i in files if _hidden(i.path, path) or _saved(i.path, files)}
        return [i for i in files if i.path not in aside], [i for i in files if i.path in aside]
    if not glob.has_magic(path):
        return [], []
    if isinstance(filesystem, pa.fs.LocalFileSystem):
        matches = [p for p in glob.glob(path, recursive=True) if Path(p).is_file()]
        return (list(filesystem.get_file_info(matches)) if matches else []), []
    plain = path[: min(path.index(c) for c in "*?[" if c in path)]
    base = plain.rsplit("/", 1)[0]
    listed = filesystem.get_file_info(pa.fs.FileSelector(base, recursive=True, allow_not_found=True))
    return [i for i in listed if i.type == pa.fs.FileType.File and PurePosixPath(i.path).match(path)], []


def _refuse_table(path: str, files: Sequence[pa.fs.FileInfo]) -> None:
    """The files around a table's log, or of a hub's cache, hold rows of other versions and rows that were deleted."""
    snapshots = f"{path}/snapshots/"
    commits = sorted({i.path.removeprefix(snapshots).split("/")[0] for i in files if i.path.startswith(snapshots)})
    if commits and any(i.path.startswith(f"{path}/blobs/") for i in files):
        raise InputError(
            f"{path} is the Hub's cache of a data set; scan one commit of it, as in {snapshots}{commits[0]}"
        )
    for info in files:
        below = PurePosixPath(info.path).parts
        if "_delta_log" in below:
            raise InputError(f"{path} holds a Delta table; scan the table's own folder, or delta://ADDRESS")
        if below[-2:-1] == ("metadata",) and info.path.endswith(".metadata.json"):
            raise InputError(f"{path} holds an Iceberg table; scan it as iceberg://CATALOG/NAMESPACE.TABLE")


def _refuse_odd(path: str, below: Sequence[pa.fs.FileInfo], local: bool) -> None:
    """A pipe, or a link that leads nowhere yet, gives other readers rows that were not there when the data were listed."""
    odd = [i.path for i in below if i.type not in (pa.fs.FileType.File, pa.fs.FileType.Directory)]
    if local:  # Arrow does not list links that lead nowhere
        folders = [i.path for i in below if i.type == pa.fs.FileType.Directory]
        if back := next((f for f in folders if f"{os.path.realpath(posixpath.dirname(f))}/".startswith(
                f"{os.path.realpath(f)}/")), None):  # fmt: skip
            raise InputError(f"{back} is a link that leads back to a folder that it lies in; take it away")
        for folder in (path, *folders):
            with os.scandir(folder) as entries:
                odd += [e.path for e in entries if e.is_symlink() and not os.path.exists(e.path)]
    for name in odd:
        # What has no suffix may be a folder, once it is there.
        if format_of(name) or posixpath.basename(name) in _INDEX or not PurePosixPath(name).suffix:
            raise InputError(f"{name} is no file (a pipe, or a link that leads nowhere); take it away")


def _saved(path: str, files: Sequence[pa.fs.FileInfo]) -> bool:
    """Whether a file is one that ``datasets.save_to_disk`` writes beside its Arrow files."""
    if posixpath.basename(path) not in _SAVED:
        return False
    folder = posixpath.dirname(path) + "/"
    return any(i.path.startswith(folder) and i.path.endswith(".arrow") for i in files)


def _hidden(path: str, base: str) -> bool:
    relative = path[len(base) :].lstrip("/")
    return any(part.startswith((".", "_")) for part in relative.split("/"))
