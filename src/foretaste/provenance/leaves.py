"""Rows -> leaf hashes: the bytes of :mod:`foretaste.provenance.rows`, written straight into the blocks that are hashed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from foretaste.provenance import rows, sha256
from foretaste.provenance.merkle import WORKERS
from foretaste.reading.dataset import text_buffers


def leaf_hashes(batches: Iterable[pa.RecordBatch]) -> bytes:
    """RFC 6962 leaf hashes of all rows in order, 32 bytes each. Batches are hashed while the next ones are read.

    Raises:
        InputError: as :func:`foretaste.provenance.rows.encoded`.
    """
    made: list[bytes] = []
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        waiting: deque[Future[bytes]] = deque()
        for batch in batches:
            waiting.append(pool.submit(_hashes, batch))
            if len(waiting) > WORKERS:  # so many batches are in memory, however large the data are
                made.append(waiting.popleft().result())
        made += [future.result() for future in waiting]
    return b"".join(made)


def _hashes(batch: pa.RecordBatch) -> bytes:
    if not batch.num_rows:
        return b""
    named = rows.by_name(batch.schema.names, batch.columns)
    columns = [(rows.head_of(raw), *rows.flat(column, raw.decode())) for raw, column in named]
    lengths = np.full(batch.num_rows, len(b"\0()"), dtype=np.int64)
    for head, raw, atom in columns:
        _measure(lengths, len(head), *_buffers(raw)[1:], atom)
    messages = sha256.Messages(lengths)
    messages.bytes[messages.at] = 0  # a leaf
    messages.bytes[messages.at + 1] = ord("(")
    cursor = messages.at + 2
    for head, raw, atom in columns:
        _place(messages.bytes, cursor, np.frombuffer(head, np.uint8), *_buffers(raw), atom)
    messages.bytes[cursor] = ord(")")
    return messages.digests().tobytes()


def _buffers(raw: pa.Array) -> tuple[Any, Any, Any]:
    """Bytes, ends and validity of an array of large_binary."""
    data, ends = text_buffers(raw)
    return data, ends, np.asarray(raw.is_valid()) if raw.null_count else np.ones(len(raw), np.bool_)


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _place(out: Any, cursor: Any, head: Any, data: Any, ends: Any, valid: Any, atom: bool) -> None:
    """Write one column's part of each row where its cursor stands, and move the cursor on."""
    for row in range(len(cursor)):
        if valid[row]:
            at, size = cursor[row], ends[row + 1] - ends[row]
            for i in range(len(head)):
                out[at + i] = head[i]
            at += len(head)
            if atom:
                digits, rest = 1, size
                while rest >= 10:
                    rest //= 10
                    digits += 1
                rest = size
                for i in range(digits - 1, -1, -1):
                    out[at + i] = 48 + rest % 10
                    rest //= 10
                out[at + digits] = 58  # a colon
                at += digits + 1
            # Slices, whose indices need no check for being negative, so that LLVM copies by vectors.
            target, source = out[at : at + size], data[ends[row] : ends[row + 1]]
            for i in range(len(source)):
                target[i] = source[i]
            out[at + size] = 41  # a closing parenthesis
            cursor[row] = at + size + 1
