"""Files -> pyarrow dataset: formats, globs, directories, file systems."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.json

from foretaste.errors import InputError

_COMPRESSED = {".gz", ".bz2", ".zst", ".lz4"}
_FORMATS = {
    ".parquet": "parquet", ".pq": "parquet",
    ".arrow": "ipc", ".feather": "ipc", ".ipc": "ipc",
    ".csv": "csv", ".tsv": "tsv",
    ".jsonl": "json", ".ndjson": "json", ".json": "json",
}  # fmt: skip
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
        for path, stamp, info in zip(
            self.paths, self.stamps, self.filesystem.get_file_info(list(self.paths))
        ):
            if (info.size, info.mtime_ns) != stamp:
                return path
        return None

    def digest(self) -> str:
        """``sha256:<hex>`` over the sorted records (name, algorithm, digest) of the files.

        A name is the path below the common folder, so that a copy of a data set keeps its digest.
        """
        base = PurePosixPath(self.paths[0]).parent
        while not all(PurePosixPath(p).is_relative_to(base) for p in self.paths):
            base = base.parent
        with ThreadPoolExecutor(max_workers=2) as pool:
            digests = list(pool.map(self._digest_file, self.paths))
        root = hashlib.sha256()
        for path, digest in sorted(zip(self.paths, digests)):
            name = str(PurePosixPath(path).relative_to(base))
            root.update(f"{len(name.encode())}:{name}:sha256:{digest}\n".encode())
        return f"sha256:{root.hexdigest()}"

    def _digest_file(self, path: str) -> str:
        digest = hashlib.sha256()
        with self.filesystem.open_input_stream(path, compression=None, buffer_size=0) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def dataset(self, strings: Sequence[str]) -> ds.Dataset:
        """A pyarrow dataset; text formats read the named columns as strings, whatever they look like."""
        return ds.dataset(
            list(self.paths), filesystem=self.filesystem, format=_file_format(self.format, strings)
        )

    def column_names(self) -> list[str]:
        """Columns, from the first file's schema."""
        return list(self.dataset(()).schema.names)


def _file_format(name: str, strings: Sequence[str]) -> ds.FileFormat:
    if name == "parquet":
        return ds.ParquetFileFormat()
    if name == "ipc":
        return ds.IpcFileFormat()
    if name == "json":
        # Nothing is declared here: a label may be a number, and a message list is nested.
        return ds.JsonFileFormat(read_options=pa.json.ReadOptions(block_size=16 << 20))
    return ds.CsvFileFormat(
        parse_options=pa.csv.ParseOptions(delimiter="\t" if name == "tsv" else ",", newlines_in_values=True),
        read_options=pa.csv.ReadOptions(block_size=16 << 20),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(strings, pa.string()), strings_can_be_null=False
        ),
    )


def format_of(path: str) -> str | None:
    """Format by file name, looking through a compression suffix; ``None`` where it is unknown."""
    suffixes = PurePosixPath(path).suffixes
    if suffixes and suffixes[-1].lower() in _COMPRESSED:
        suffixes = suffixes[:-1]
    return _FORMATS.get(suffixes[-1].lower()) if suffixes else None


def list_files(data: str | Path, filesystem: pa.fs.FileSystem | None = None) -> Files:
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
            f"unknown format: {odd}; known suffixes: {', '.join(sorted(_FORMATS))} (also with "
            f"{', '.join(sorted(_COMPRESSED))}); name a glob that leaves other files out"
        )
    if len(formats) > 1:
        raise InputError(
            f"{name} mixes formats ({', '.join(sorted(filter(None, formats)))}); scan them one by one"
        )
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
            i
            for i in filesystem.get_file_info(selector)
            if i.type == pa.fs.FileType.File and not _hidden(i.path, path)
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
