"""What is kept of every row: in memory up to a bound, past it in a temporary file, so that rows do not decide how much
memory a scan takes.

Files lie in the folder for temporary files (``TMPDIR``), without a name, and end with the process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from foretaste.errors import CheckError

BLOCK = 1 << 16  # rows that are read, or written, at a time
MAX_BUCKETS = 256
_WRITE = 4 << 20
_SORTING = 3  # times the size of rows, with an order of them and a sorted copy

Array = npt.NDArray[Any]


class Column:
    """Values of fixed size, one per row, in the order in which they were appended.

    Appending raises a :class:`~foretaste.errors.CheckError` where the file cannot be written.

    Args:
        dtype: of a number.
        shape: numbers of a row.
        room: bytes that stay in memory; more than that lies in a file.
    """

    def __init__(self, dtype: npt.DTypeLike, shape: tuple[int, ...] = (), *, room: int) -> None:
        self.dtype, self.shape, self.room = np.dtype(dtype), shape, room
        self._parts: list[Array] = []
        self._held = 0
        self._file: IO[bytes] | None = None
        self._written = 0
        self._rows = 0

    def __len__(self) -> int:
        """Rows."""
        return self._rows

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(self.dtype.itemsize * np.prod(self.shape, dtype=np.int64))

    @property
    def spilled(self) -> bool:
        """Whether rows lie in a file."""
        return self._file is not None

    def append(self, values: Array) -> None:
        """Rows (rows, *shape), which the column may keep as they are."""
        self._parts.append(np.ascontiguousarray(values, self.dtype))
        self._rows += len(values)
        self._held += self._parts[-1].nbytes
        if self._held > (_WRITE if self.spilled else self.room):
            self._write()

    def extend(self, other: Column) -> None:
        """The rows of another column."""
        for part in other.blocks():
            self.append(part)

    def blocks(self) -> Iterator[Array]:
        """All rows in order, ``BLOCK`` at a time and fewer at the end."""
        pending: list[Array] = []
        rows = 0
        for part in self._stored():
            at = 0
            while at < len(part):
                take = min(BLOCK - rows, len(part) - at)
                pending.append(part[at : at + take])
                rows, at = rows + take, at + take
                if rows == BLOCK:
                    yield pending[0] if len(pending) == 1 else np.concatenate(pending)
                    pending, rows = [], 0
        if pending:
            yield np.concatenate(pending)

    def whole(self) -> Array:
        """All rows in memory, (rows, *shape)."""
        made = np.empty((self._rows, *self.shape), self.dtype)
        at = 0
        for part in self._stored():
            made[at : at + len(part)] = part
            at += len(part)
        return made

    def clear(self) -> None:
        """Forget all rows."""
        if self._file is not None:
            self._file.close()
        self._parts, self._held, self._file, self._written, self._rows = [], 0, None, 0, 0

    def _write(self) -> None:
        with _writing():
            self._file = self._file or _file()
            self._file.seek(0, 2)
            for part in self._parts:
                self._file.write(part.data)
                self._written += len(part)
            self._file.flush()
        self._parts, self._held = [], 0

    def _stored(self) -> Iterator[Array]:
        for start in range(0, self._written, BLOCK):
            part = np.empty((min(BLOCK, self._written - start), *self.shape), self.dtype)
            assert self._file is not None
            self._file.seek(start * self.row_bytes)
            _read(self._file, part)
            yield part
        yield from self._parts

    def __getstate__(self) -> dict[str, Any]:
        """A file stays where it is: its rows travel."""
        parts = [self.whole()] if self.spilled else self._parts
        held = sum(p.nbytes for p in parts)
        return self.__dict__ | {"_parts": parts, "_held": held, "_file": None, "_written": 0}


def by_hash(hashes: Column, *others: Column) -> Iterator[tuple[Array, ...]]:
    """Row numbers (uint32), hashes (uint64) and other values of the rows, one range of hashes at a time.

    Ranges ascend, and rows do within each. A range, and what sorting it takes, fit about the room of the column of hashes.
    """
    columns = (hashes, *others)
    number = buckets(_SORTING * len(hashes) * (4 + sum(c.row_bytes for c in columns)), hashes.room)

    def blocks() -> Iterator[tuple[Array, tuple[Array, ...]]]:
        start = 0
        for parts in zip(*(c.blocks() for c in columns)):
            rows = np.arange(start, start + len(parts[0]), dtype=np.uint32)
            start += len(rows)
            yield ((parts[0] >> np.uint64(56)) * np.uint64(number)) >> np.uint64(8), (rows, *parts)

    return by_bucket(blocks(), number)


def buckets(size: int, room: int) -> int:
    """How many buckets ``size`` bytes make that take ``room`` bytes each."""
    return min(MAX_BUCKETS, max(1, -(-size // max(1, room))))


def by_bucket(blocks: Iterable[tuple[Array, tuple[Array, ...]]], number: int) -> Iterator[tuple[Array, ...]]:
    """Arrays that come in blocks, each with the bucket of every row, put together again by bucket.

    One bucket is in memory at a time; rows keep their order in it. Empty buckets are left out.
    """
    if number == 1:
        held = [arrays for _, arrays in blocks]
        if held:
            yield tuple(np.concatenate(parts) for parts in zip(*held))
        return
    with _file() as file:
        written: list[tuple[Array, list[int]]] = []  # of each block, where the buckets end and the arrays begin
        like: tuple[Array, ...] = ()
        for of, arrays in blocks:
            order = np.argsort(of.astype(np.uint8), kind="stable")
            places = []
            with _writing():
                for array in arrays:
                    places.append(file.tell())
                    file.write(array[order].data)
                file.flush()
            written.append((np.cumsum(np.bincount(of.astype(np.int64), minlength=number)), places))
            like = arrays
        for bucket in range(number):
            spans = [(int(ends[bucket - 1]) if bucket else 0, int(ends[bucket])) for ends, _ in written]
            rows = sum(stop - start for start, stop in spans)
            made = tuple(np.empty((rows, *array.shape[1:]), array.dtype) for array in like)
            at = 0
            for (start, stop), (_, places) in zip(spans, written):
                for array, place in zip(made, places):
                    file.seek(place + start * array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64)))
                    _read(file, array[at : at + stop - start])
                at += stop - start
            if rows:
                yield made


@contextmanager
def _writing() -> Iterator[None]:
    """What the disk says, as an error that names the next step."""
    try:
        yield
    except OSError as e:
        raise CheckError(
            f"rows that memory does not hold cannot be written to {tempfile.gettempdir()} ({e.strerror or e}); free room "
            "there, name another folder in TMPDIR, or allow more memory"
        ) from e


def _file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="foretaste-")


def _read(file: IO[bytes], into: Array) -> None:
    """Fill an array."""
    if into.size and file.readinto(into.data.cast("B")) != into.nbytes:  # type: ignore[attr-defined]
        raise OSError("a temporary file of the scan is shorter than what was written to it")
