"""Rows -> leaf hashes: the bytes of :mod:`foretaste.provenance.rows`, written straight into the blocks that are hashed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from foretaste.provenance import rows, sha256
from foretaste.provenance.merkle import WORKERS
from foretaste.provenance.sha256 import BLOCK, LANES, load, store
from foretaste.reading.dataset import text_buffers
from foretaste.text.kernels import kernel
from foretaste.text.prefetch import prefetch_address

# Hashes of so many rows are asked for at once: numpy asks for huge pages from 4 MiB on, and small ones cost as much as
# hashing what is written to them.
_ROOM = 1 << 17
_LINES = 16  # of a cell that are asked for ahead; the processor sees by itself that a long one goes on


def leaf_hashes(batches: Iterable[pa.RecordBatch]) -> list[npt.NDArray[np.uint8]]:
    """RFC 6962 leaf hashes of all rows in order, shape (rows, 32) a batch. Batches are hashed while the next are read.

    Raises:
        InputError: as :func:`foretaste.provenance.rows.encoded`.
    """
    made: list[npt.NDArray[np.uint8]] = []
    room = np.empty((0, sha256.SIZE), np.uint8)
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        waiting: deque[Future[None]] = deque()
        for batch in batches:
            if not batch.num_rows:
                continue
            if len(room) < batch.num_rows:
                room = np.empty((max(_ROOM, batch.num_rows), sha256.SIZE), np.uint8)
            made.append(room[: batch.num_rows])
            room = room[batch.num_rows :]
            waiting.append(pool.submit(_hash_batch, batch, made[-1]))
            if len(waiting) > WORKERS:  # so many batches are in memory, however large the data are
                waiting.popleft().result()
        for future in waiting:
            future.result()
    return made


def _hash_batch(batch: pa.RecordBatch, out: npt.NDArray[np.uint8]) -> None:
    named = rows.by_name(batch.schema.names, batch.columns)
    columns = [(rows.head_of(raw), *rows.flat(column, raw.decode())) for raw, column in named]
    lengths = np.full(batch.num_rows, len(b"\0()"), dtype=np.int64)
    held, table = [], np.zeros((len(columns), 6), np.uint64)
    for at, (head, raw, atom) in enumerate(columns):
        data, ends, valid = _buffers(raw)
        _measure(lengths, len(head), ends, valid, atom)
        padded = np.frombuffer(head + bytes(-len(head) % 8), np.uint8)
        held.append((data, ends, valid, padded))  # or what lies at the addresses would be given back
        table[at] = [*(part.ctypes.data for part in held[-1]), len(head), atom]
    blocks = (lengths + 8) // sha256.BLOCK + 1
    # Messages side by side have to be of one length, or nearly; numpy sorts short numbers by their digits.
    order = np.argsort(blocks.astype(np.uint16) if blocks.max() < 1 << 16 else blocks, kind="stable")
    last = _hash(lengths, blocks, order, table, sha256.START, out.view(np.uint32))
    sha256.compare(out[order[-1]], last)


def _buffers(raw: pa.Array) -> tuple[Any, Any, Any]:
    """Bytes, ends and validity of an array of large_binary."""
    data, ends = text_buffers(raw)
    return data, ends, np.asarray(raw.is_valid()) if raw.null_count else np.ones(len(raw), np.bool_)


@kernel
def _measure(lengths: Any, head: int, ends: Any, valid: Any, atom: bool) -> None:
    """Add to each row's length that of one column."""
    for row in range(len(lengths)):
        if valid[row]:
            size = ends[row + 1] - ends[row]
            lengths[row] += head + size + 1
            if atom:
                lengths[row] += 2
                while size >= 10:
                    size //= 10
                    lengths[row] += 1


@kernel
def _hash(lengths: Any, blocks: Any, order: Any, table: Any, start: Any, out: Any) -> Any:
    """Hash the rows sixteen at a time, each written down right before, while it stays in the nearest cache.

    Returns:
        the last message that was hashed.
    """
    most = 0
    for first in range(0, len(order), LANES):
        most = max(most, blocks[order[first : first + LANES]].sum())
    # Words are written whole, so up to seven bytes behind a message are too: into the next one, which is written later.
    room, state = np.empty(most * BLOCK + 8, np.uint8), np.empty((8, LANES), np.uint32)
    at, counts, own = np.empty(LANES, np.uint64), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    begin = end = np.int64(0)
    for first in range(0, len(order), LANES):
        end = np.int64(0)
        for lane in range(LANES):
            if first + lane < len(order):
                row = order[first + lane]
                begin, end = end, end + blocks[row] * BLOCK
                base = np.uint64(room.ctypes.data) + np.uint64(begin)
                if first + LANES + lane < len(order):
                    _fetch(np.uint64(order[first + LANES + lane]), table)
                _write(base, np.uint64(row), table)
                sha256.pad(base, np.uint64(lengths[row]), np.uint64(blocks[row] * BLOCK))
            at[lane] = np.uint64(room.ctypes.data) + np.uint64(begin)  # what is left over is hashed more than once
            counts[lane], own[lane] = blocks[row], row
        sha256.hash_lanes(at, counts, own, start, state, out)
    return room[begin : begin + lengths[order[-1]]]


@kernel
def _fetch(row: Any, table: Any) -> None:
    """Ask for a row of the next sixteen, which lies where no processor expects it: rows of one length are far apart."""
    line = np.uint64(BLOCK)
    for column in range(len(table)):
        ends = table[column, 1] + np.uint64(8) * row
        at = table[column, 0] + load(ends, types.uint64)  # type: ignore[call-arg]
        end = table[column, 0] + load(ends + np.uint64(8), types.uint64)
        end = min(end, at + line * np.uint64(_LINES))
        while at < end:
            prefetch_address(at)
            at += line


@kernel
def _write(at: Any, row: Any, table: Any) -> None:
    """Write a row at an address, as the leaf that is hashed. Unsigned numbers need no check for being negative."""
    one, eight, ten = np.uint64(1), np.uint64(8), np.uint64(10)
    store(at, np.uint16(40 << 8))  # type: ignore[call-arg]  # zero, and an opening parenthesis
    at += np.uint64(2)
    for column in range(len(table)):
        if not load(table[column, 2] + row, types.uint8):
            continue
        ends = table[column, 1] + eight * row
        begin = load(ends, types.uint64)
        size = load(ends + eight, types.uint64) - begin
        head, done = table[column, 4], np.uint64(0)
        while done < head:
            store(at + done, load(table[column, 3] + done, types.uint64))
            done += eight
        at += head
        if table[column, 5]:
            rest, digits = size, one
            while rest >= ten:
                rest //= ten
                digits += one
            at += digits
            store(at, np.uint8(58))  # a colon
            rest = size
            for back in range(digits):
                store(at - one - np.uint64(back), np.uint8(48 + rest % ten))
                rest //= ten
            at += one
        _copy(at, table[column, 0] + begin, size)
        at += size
        store(at, np.uint8(41))  # a closing parenthesis
        at += one
    store(at, np.uint8(41))


@kernel
def _copy(to: Any, of: Any, size: Any) -> None:
    """Copy bytes from one address to another: a few by words that may overlap, as a call costs more than they do."""
    four, eight = np.uint64(4), np.uint64(8)
    if size > np.uint64(16):
        _copy_many(to, of, size)  # type: ignore[call-arg]
    elif size >= eight:
        last: Any = load(of + size - eight, types.uint64)  # type: ignore[call-arg]
        store(to, load(of, types.uint64))
        store(to + size - eight, last)
    elif size >= four:
        low: Any = load(of + size - four, types.uint32)  # type: ignore[call-arg]
        store(to, load(of, types.uint32))
        store(to + size - four, low)
    else:
        for i in range(size):
            store(to + np.uint64(i), load(of + np.uint64(i), types.uint8))  # type: ignore[call-arg]


@intrinsic
def _copy_many(typing: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy bytes from one address to another."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = cgutils.voidptr_t
        to, of = (builder.inttoptr(a, byte) for a in arguments[:2])
        cgutils.raw_memcpy(builder, to, of, arguments[2], 1)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64), emit
