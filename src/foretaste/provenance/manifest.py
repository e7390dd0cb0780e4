"""What a data set consists of: a digest per file, one over all of them, and a tree over the hashes of the rows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs

from foretaste.errors import InputError, did_you_mean
from foretaste.provenance import rows
from foretaste.provenance.merkle import SortedTree
from foretaste.reading.formats import FileDigest, Files, list_files, naming, root_digest
from foretaste.reading.frames import Frame, open_frame

FORMAT = "https://foretaste.dev/manifest/v1"
MAX_SOURCES = 1000
OTHERS = "(other sources)"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The parts of a data set, by digest.

    Attributes:
        name: of the data, for people.
        digest: ``sha256:<hex>`` over the sorted names and digests of the files, the one that reports carry; of a frame
            that of :func:`rows_digest`.
        files: the files that are read; none for a frame.
        left_out: data files in the same folder that reading leaves out, because of a dot or underscore before a name.
        rows: number of rows; ``None`` where rows were not read.
        row_root: root of the tree over the sorted row hashes, 64 hex digits; ``None`` as above.
        schema: name and Arrow type of every column.
        sources: rows per source, most first, the first thousand; empty without a source column.
    """

    name: str
    digest: str
    files: tuple[FileDigest, ...] = ()
    left_out: tuple[FileDigest, ...] = ()
    rows: int | None = None
    row_root: str | None = None
    schema: tuple[tuple[str, str], ...] = ()
    sources: Mapping[str, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes of all files that are read."""
        return sum(f.bytes for f in self.files)

    def to_dict(self) -> dict[str, Any]:
        """The manifest as JSON values."""
        return {
            "format": FORMAT,
            "name": self.name,
            "digest": self.digest,
            "files": [dataclasses.asdict(f) for f in self.files],
            "left_out": [dataclasses.asdict(f) for f in self.left_out],
            "rows": {"count": self.rows, "root": self.row_root, "encoding": rows.ENCODING} if self.row_root else None,
            "schema": [{"name": n, "type": t} for n, t in self.schema],
            "sources": dict(self.sources),
        }

    def to_json(self) -> str:
        """:meth:`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=True) + "\n"


def build(
    data: str | Path,
    *,
    with_rows: bool = True,
    source: str | None = None,
    filesystem: pa.fs.FileSystem | None = None,
) -> Manifest:
    """Digest the files behind a path and, unless told otherwise, their rows. Streamed; 32 bytes are kept per row.

    Args:
        data: path, glob, directory or address.
        with_rows: read the rows too, for proofs about single rows.
        source: column that says where a row comes from, to count rows per source.
        filesystem: for a path on a file system that Arrow does not know by address.

    Raises:
        InputError: if the data cannot be read, change meanwhile, or hold names that pass for one another.
    """
    files = list_files(data, filesystem)
    counted: Counter[str] = Counter()
    tree, schema = None, pa.schema([])
    with naming(files.name), ThreadPoolExecutor(max_workers=1) as pool:
        digesting = pool.submit(digest_files, files)  # while the rows are read
        if with_rows:
            tree, schema = _read_rows(files, source, counted)
        digests, left_out = digesting.result(), files.digests_left_out()
        refuse_changed(files)
    return Manifest(
        name=files.name,
        digest=root_digest(digests),
        files=digests,
        left_out=left_out,
        rows=tree.size if tree else None,
        row_root=tree.root.hex() if tree else None,
        schema=tuple((f.name, str(f.type)) for f in schema),
        sources=_most(counted),
    )


def build_frame(data: Any, source: str | None = None) -> Manifest:
    """Digest the rows of a pandas, polars or pyarrow object in memory: of all columns, in any order.

    Args:
        data: the object. What only describes rows (a lazy frame, a dataset of files) may give others when it is read
            again, and is refused.
        source: column that says where a row comes from, to count rows per source.

    Raises:
        InputError: if it is no such object, or its rows have no canonical bytes.
    """
    frame = open_frame(data)
    if frame.known_rows is None:
        raise InputError(f"a {frame.name} may give other rows when it is read again; collect it, or write it to a file")
    counted: Counter[str] = Counter()
    with naming(f"the {frame.name}"):
        tree, schema = _read_rows(frame, source, counted)
    return Manifest(
        name=frame.name,
        digest=rows_digest(tree.size, tree.root),
        rows=tree.size,
        row_root=tree.root.hex(),
        schema=tuple((f.name, str(f.type)) for f in schema),
        sources=_most(counted),
    )


def rows_digest(count: int, root: bytes) -> str:
    """``sha256:<hex>`` of a set of rows, wherever they lie: over the encoding's name, their number and the tree's root."""
    return f"sha256:{hashlib.sha256(f'{rows.ENCODING}:{count}:{root.hex()}'.encode()).hexdigest()}"


def row_tree(data: str | Path | Files) -> tuple[SortedTree, pa.Schema]:
    """The tree over the rows, to make proofs with, and the columns.

    Raises:
        InputError: if the data cannot be read.
    """
    files = data if isinstance(data, Files) else list_files(data)
    with naming(files.name):
        return _read_rows(files, None, Counter())


def digest_files(files: Files, copy_to: Path | None = None) -> tuple[FileDigest, ...]:
    """Digests of the files, whose names must not pass for one another.

    Raises:
        InputError: if two names look alike after Unicode normalisation and case folding: a copy on another system would
            lose one of the two.
    """
    digests = files.digests(copy_to)
    seen: dict[str, str] = {}
    for name in (d.name for d in digests):
        if (twin := seen.setdefault(folded(name), name)) != name:
            raise InputError(f"{name!a} and {twin!a} are one name on other systems; rename one of the two")
    return digests


def folded(name: str) -> str:
    """What names that pass for one another have in common: Unicode's compatible form, without case."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def refuse_changed(files: Files) -> None:
    """Refuse files that changed since they were listed.

    Raises:
        InputError: naming the first.
    """
    if changed := files.changed():
        raise InputError(f"{changed} changed while it was read; read a copy, or again when it is at rest")


def _read_rows(files: Files | Frame, source: str | None, counted: Counter[str]) -> tuple[SortedTree, pa.Schema]:
    from foretaste.provenance.leaves import leaf_hashes

    schema: list[pa.Schema] = []

    def watched() -> Iterator[pa.RecordBatch]:
        for batch in files.original():
            if not schema:
                schema.append(batch.schema)
                if source is not None and source not in batch.schema.names:
                    raise InputError(f'no column "{source}"; {did_you_mean(source, batch.schema.names)}')
            if source is not None:
                _count(batch.column(batch.schema.get_field_index(source)), counted)
            yield batch

    tree = SortedTree(leaf_hashes(watched()))
    if not schema or tree.size == 0:
        raise InputError(f"{files.name} has no rows; nothing was digested")
    return tree, schema[0]


def _count(column: pa.Array, counted: Counter[str]) -> None:
    for item in pc.value_counts(column.cast(pa.large_string())).to_pylist():
        counted["" if item["values"] is None else item["values"]] += item["counts"]


def _most(counted: Counter[str]) -> dict[str, int]:
    listed: Iterable[tuple[str, int]] = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    most = dict(list(listed)[:MAX_SOURCES])
    rest = sum(counted.values()) - sum(most.values())
    return most | ({OTHERS: rest} if rest else {})
