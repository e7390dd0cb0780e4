"""The file of a state: a zip archive with a header in JSON, two Parquet tables and plain arrays, no pickles."""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from foretaste._version import __version__
from foretaste.errors import StateError, VerificationError
from foretaste.history.counting import Fits, layout
from foretaste.provenance import canonical
from foretaste.typed import refuse_misfit

FORMAT = 2
_HEADER = "header.json"
_AGAIN = "restore a copy of it, or name another path and scan the accepted batches into that, one by one"

TABLES = ("rows", "seen")
_TABLE, _ARRAY = "{}.parquet", "background/{}.npy"
_OPTIONAL = ("words",)  # of data with one label, or more than are counted
# The largest array counts words by label, in 1 << 24 cells of 4 bytes; numpy's head before it is 128 bytes or so.
_MOST_BYTES = (4 << 24) + 1024

Arrays = dict[str, npt.NDArray[Any]]
# What the library of the archive raises for one that is damaged, encrypted, or packed in a way that it does not know.
_UNREADABLE = (KeyError, zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError)


class AcceptedBatch(TypedDict):
    """What a state keeps of a batch besides its rows."""

    batch: int
    digest: str
    name: str
    rows: int
    accepted: str
    verdict: str
    policy: str
    version: str


class Counted(TypedDict):
    """How many rows the background holds, and how many of each label."""

    rows: int
    labels: dict[str, int]


class Header(TypedDict):
    """The header of a state."""

    format: int
    algorithm: str
    version: str
    kind: str
    roles: list[str]
    batches: list[AcceptedBatch]
    sources: dict[str, int]
    suspects: int
    background: Counted
    members: dict[str, str]
    digest: str


def pack(fields: Mapping[str, Any], tables: Mapping[str, pa.Table | None], arrays: Arrays) -> bytes:
    """A state as a file.

    Args:
        fields: what the header holds beside the format and the digests, as plain values.
        tables: by name; ``None`` is kept as such.
        arrays: counts of the background, by name.
    """
    members = {_TABLE.format(name): _parquet(table) for name, table in tables.items()}
    for name, array in arrays.items():
        stream = io.BytesIO()
        np.lib.format.write_array(stream, array, allow_pickle=False)
        members[_ARRAY.format(name)] = stream.getvalue()
    header = {"format": FORMAT, "algorithm": algorithm(), "version": __version__, **fields}
    header["members"] = {name: hashlib.sha256(raw).hexdigest() for name, raw in members.items()}
    header["digest"] = digest_of(header)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(_HEADER, json.dumps(header, indent=1, ensure_ascii=True))
        for name, raw in members.items():
            stored = zipfile.ZIP_STORED if name.endswith(".parquet") else zipfile.ZIP_DEFLATED
            archive.writestr(name, raw, compress_type=stored)
    return out.getvalue()


def unpack(content: bytes, path: str) -> tuple[dict[str, Any], dict[str, pa.Table | None], Arrays]:
    """Header, tables and arrays of a file, as :func:`pack` took them.

    Raises:
        StateError: if it is damaged, or was made by another algorithm.
    """
    header, archive = open_file(content, path)
    if header["algorithm"] != algorithm():
        raise StateError(
            f"the state {path} was made by foretaste {header['version']}, whose hashes and sketches differ "
            f"from those of {__version__}; scan the accepted batches into a new state, one by one: "
            + ", ".join(str(b["name"]) for b in header["batches"][:5])
        )
    tables: dict[str, pa.Table | None] = {}
    arrays: Arrays = {}
    counted = header["background"]
    fits = layout(header["kind"], frozenset(header["roles"]), counted["rows"], len(counted["labels"]))
    if odd := header["members"].keys() - {_TABLE.format(n) for n in TABLES} - {_ARRAY.format(n) for n in fits}:
        raise damaged(path, f"it holds {min(odd)!r:.100}, which has no place in it")
    for name, digest in header["members"].items():
        try:
            if name.endswith(".npy") and archive.getinfo(name).file_size > _MOST_BYTES:
                raise ValueError("it is larger than any array of a state")
            raw = archive.read(name)
        except (*_UNREADABLE, ValueError) as e:
            raise damaged(path, f"{name}: {e}") from e
        if hashlib.sha256(raw).hexdigest() != digest:
            raise damaged(path, f"{name} is not what the header says")
        try:
            if name.endswith(".npy"):
                short = name.removeprefix("background/").removesuffix(".npy")
                arrays[short] = _array(raw, *fits[short])
            else:
                # On this thread alone: one of Arrow's would let go of the bytes while Python ends, and abort it.
                table = pq.ParquetFile(pa.BufferReader(raw)).read(use_threads=False)
                table.validate(full=True)  # Arrow takes text from Parquet for UTF-8, as it comes
                tables[name.removesuffix(".parquet")] = table if table.num_columns else None
        except (ValueError, OSError, EOFError, OverflowError, MemoryError, pa.ArrowException) as e:
            raise damaged(path, f"{name}: {e}") from e
    missing = {_TABLE.format(n) for n in TABLES if n not in tables}
    missing |= {_ARRAY.format(n) for n in fits.keys() - arrays.keys() if n not in _OPTIONAL}
    if missing:
        raise damaged(path, f"{min(missing)} is missing")
    return header, tables, arrays


def _array(raw: bytes, kind: str, fits: Fits) -> npt.NDArray[Any]:
    """An array in numpy's own format, version 1, of the type and shape that a state has there.

    Raises:
        ValueError: if it is none.
    """
    stream = io.BytesIO(raw)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version of the format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except (ValueError, RecursionError, MemoryError) as e:
        raise ValueError(f"it is no array as numpy writes it: {e}") from e
    if fortran or dtype.str != kind or not fits(shape):
        raise ValueError(f"it holds {dtype.str} in the shape {shape}, which is not that of its sketch")
    if len(raw) - stream.tell() != math.prod(shape) * dtype.itemsize:
        raise ValueError("it is cut, or longer than it says")
    return np.frombuffer(raw, dtype, offset=stream.tell()).reshape(shape).copy()


def _parquet(table: pa.Table | None) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({}) if table is None else table, out, compression="zstd")
    return out.getvalue()


def open_file(content: bytes, path: str) -> tuple[dict[str, Any], zipfile.ZipFile]:
    """Header and archive; the header is what it was when it was written.

    Raises:
        StateError: if it is damaged, or of another format.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        if archive.getinfo(_HEADER).file_size > canonical.MAX_BYTES:
            raise ValueError("its header is too large")
        header = canonical.decode(archive.read(_HEADER), _HEADER)
        version, digest = header["format"], header["digest"]
    except (*_UNREADABLE, VerificationError, ValueError, TypeError) as e:
        raise damaged(path, f"it is no foretaste state ({e})") from e
    if version != FORMAT:
        raise StateError(
            f"the state {path} has format {version!r}, this release reads {FORMAT}; use the release that wrote it "
            f"({header.get('version')}), or scan the accepted batches into a new state, one by one"
        )
    if digest != digest_of(header):
        raise damaged(path, "its header was changed")
    try:
        refuse_misfit(header, Header, "its header")
    except ValueError as e:
        raise damaged(path, str(e)) from e
    return header, archive


def damaged(path: str, why: str) -> StateError:
    """The error for a file that is not what was written."""
    return StateError(f"the state {path} is damaged: {why}; {_AGAIN}")


def digest_of(header: Mapping[str, Any]) -> str:
    """``sha256:<hex>`` over the header, which names the digests of everything else."""
    text = json.dumps({k: v for k, v in header.items() if k != "digest"}, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def algorithm() -> str:
    """Sixteen hex digits that change where a token, a hash, a signature or the size of a sketch does.

    Taken from what the kernels make of a probe text, so that nobody has to remember to raise a number.
    """
    from foretaste.signals import affixes, phrases
    from foretaste.text.bayes import bucket_counts
    from foretaste.text.heads import hash_heads
    from foretaste.text.minhash import BINS, sign_rows
    from foretaste.text.pairs import BUCKETS
    from foretaste.text.sample import Sample
    from foretaste.text.tokens import tokenize

    raw = "Don't cf the naïve déjà-vu: 3.14 km, ПРИВЕТ мир, 你好 ... <SUDO> it's a prõbe; A​B the end.".encode()
    tokens = tokenize(np.frombuffer(raw, np.uint8), np.array([0, len(raw)], np.int64))
    signatures, texts = np.empty((1, BINS), np.uint8), np.empty(1, np.uint64)
    sign_rows(tokens.hashes, tokens.offsets, 4, signatures, texts)
    sample = Sample(8)
    sample.scan(tokens, 0)
    buckets = np.arange(1 << 13, dtype=np.uint32).reshape(-1, 2)
    sizes = (
        phrases.SKETCH_CELLS, phrases.BIGRAM_CELLS, phrases.UNIGRAM_CELLS, phrases.SAMPLE, affixes.CELLS,
        affixes.EDGE_CELLS, BUCKETS,
    )  # fmt: skip
    digest = hashlib.sha256(repr(sizes).encode())
    for array in (
        tokens.hashes, hash_heads(tokens.hashes, tokens.offsets, 3), signatures, texts, sample.words(),
        bucket_counts(tokens.hashes, buckets, 1),
    ):  # fmt: skip
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
