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
from foretaste.provenance.sha256 import BLOCK, LANES
from foretaste.reading.dataset import text_buffers
from foretaste.text.kernels import kernel

# Hashes of so many rows are asked for at once: numpy asks for huge pages from 4 MiB on, and small ones cost as much as
# hashing what is written to them.
_ROOM = 1 << 17


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
    heads, held, table = [], [], np.zeros((len(columns), 4), np.uint64)
    for at, (head, raw, atom) in enumerate(columns):
        data, ends, valid = buffers = _buffers(raw)
        _measure(lengths, len(head), ends, valid, atom)
        held.append(buffers)  # or what lies at the addresses would be given back
        table[at] = [data.ctypes.data, ends.ctypes.data, valid.ctypes.data, atom]
        heads.append(np.frombuffer(head, np.uint8))
    head_ends = np.cumsum([0, *map(len, heads)])
    blocks = (lengths + 8) // sha256.BLOCK + 1
    # Messages side by side have to be of one length, or nearly; numpy sorts short numbers by their digits.
    order = np.argsort(blocks.astype(np.uint16) if blocks.max() < 1 << 16 else blocks, kind="stable")
    all_heads = np.concatenate(heads) if heads else np.zeros(0, np.uint8)
    last = _hash(lengths, blocks, order, table, all_heads, head_ends, sha256.START, out.view(np.uint32))
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
def _hash(
    lengths: Any, blocks: Any, order: Any, table: Any, heads: Any, head_ends: Any, start: Any, out: Any
) -> Any:  # fmt: skip
    """Hash the rows sixteen at a time, each written down right before, while it stays in the nearest cache.

    Returns:
        the last message that was hashed.
    """
    most = 0
    for first in range(0, len(order), LANES):
        most = max(most, blocks[order[first : first + LANES]].sum())
    room, state = np.empty(most * BLOCK, np.uint8), np.empty((8, LANES), np.uint32)
    at, counts, own = np.empty(LANES, np.uint64), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    begin = end = 0
    for first in range(0, len(order), LANES):
        end = 0
        for lane in range(LANES):
            if first + lane < len(order):
                row = order[first + lane]
                begin, end = end, end + blocks[row] * BLOCK
                _write(room[begin:end], row, table, heads, head_ends)
                sha256.pad(room[begin:end], lengths[row])
            at[lane] = np.uint64(room.ctypes.data) + np.uint64(begin)  # what is left over is hashed more than once
            counts[lane], own[lane] = blocks[row], row
        sha256.hash_lanes(at, counts, own, start, state, out)
    return room[begin : begin + lengths[order[-1]]]


@kernel
def _write(out: Any, row: int, table: Any, heads: Any, head_ends: Any) -> None:
    """Write a row, as the leaf that is hashed. Unsigned indices need no check for being negative."""
    out[0] = 0
    out[1] = 40  # an opening parenthesis
    base, at = np.uint64(out.ctypes.data), np.uint64(2)
    one, ten = np.uint64(1), np.uint64(10)
    for column in range(len(table)):
        if not _load(table[column, 2] + np.uint64(row), types.uint8):  # type: ignore[call-arg]
            continue
        ends = table[column, 1] + np.uint64(8 * row)
        begin = _load(ends, types.uint64)
        size = _load(ends + np.uint64(8), types.uint64) - begin
        for i in range(np.uint64(head_ends[column]), np.uint64(head_ends[column + 1])):
            out[at] = heads[i]
            at += one
        if table[column, 3]:
            rest, digits = size, one
            while rest >= ten:
                rest //= ten
                digits += one
            at += digits
            out[at] = 58  # a colon
            rest = size
            for back in range(digits):
                out[at - one - back] = 48 + rest % ten
                rest //= ten
            at += one
        _copy(base + at, table[column, 0] + begin, size)
        at += size
        out[at] = 41  # a closing parenthesis
        at += one
    out[at] = 41


@intrinsic
def _load(typing: Any, address: Any, kind: Any) -> Any:
    """The number at an address."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], context.get_value_type(kind.dtype).as_pointer()), align=1)

    return kind.dtype(types.uint64, kind), emit


@intrinsic
def _copy(typing: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy bytes from one address to another."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = cgutils.voidptr_t
        to, of = (builder.inttoptr(a, byte) for a in arguments[:2])
        cgutils.raw_memcpy(builder, to, of, arguments[2], 1)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64), emit
