"""Rows as canonical bytes, and their hashes.

A row is a canonical S-expression (RFC 9804): ``((5:label8:negative)(4:text11:a dull film))``, one pair of name and
value per column that is not null, sorted by the name's UTF-8 bytes. So a null and a missing column are the same, and
how columns are ordered, files are cut or pages compressed makes no difference. Values are

- text: its UTF-8 bytes; binary: its bytes
- whole numbers, booleans (``true``, ``false``), decimals, dates and times: as Arrow writes them as text, times in UTC
- floating point: the 8 bytes of its IEEE 754 double, big-endian, with one NaN
- lists: ``(`` their elements ``)``, a null among them as ``[4:null]0:``
- structs: like rows; maps: lists of pairs

All in Arrow's kernels, without an object per row. :mod:`foretaste.provenance.leaves` writes the same bytes for hashing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foretaste.errors import InputError

ENCODING = "https://foretaste.dev/row-encoding/v1"
_BINARY = pa.large_binary()
_NOTHING = pa.scalar(b"", _BINARY)
_OPEN, _CLOSE, _COLON = (pa.scalar(b, _BINARY) for b in (b"(", b")", b":"))
_NULL = pa.scalar(b"[4:null]0:", _BINARY)


def encoded(batch: pa.RecordBatch) -> pa.Array:
    """The canonical bytes of every row, as Arrow large_binary.

    Raises:
        InputError: if a column has a type that has no canonical bytes, or a name stands twice.
    """
    return _struct(batch.schema.names, batch.columns, batch.num_rows)


def by_name(names: list[str], columns: list[Any]) -> list[tuple[bytes, Any]]:
    """Names as bytes with their columns, in the order of the bytes.

    Raises:
        InputError: if a name stands twice.
    """
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise InputError(f'column "{twice}" is there twice, so a row has no canonical bytes; rename one of the two')
    return sorted(((n.encode(), c) for n, c in zip(names, columns)), key=lambda pair: pair[0])


def head_of(name: bytes) -> bytes:
    """What stands before a value."""
    return b"(%d:%s" % (len(name), name)


def _struct(names: list[str], columns: list[Any], rows: int) -> pa.Array:
    pairs = [  # each null where the value is
        _join(pa.scalar(head_of(raw), _BINARY), _value(column, raw.decode()), _CLOSE)
        for raw, column in by_name(names, columns)
    ]
    if not pairs:
        return pa.array([b"()"] * rows, _BINARY)
    return pc.binary_join_element_wise(_OPEN, *pairs, _CLOSE, _NOTHING, null_handling="replace", null_replacement=b"")


def _value(array: pa.Array, name: str) -> pa.Array:
    """Bytes of every value, null where it is null."""
    raw, atom = flat(array, name)
    return _atom(raw) if atom else raw


def flat(array: pa.Array, name: str) -> tuple[pa.Array, bool]:
    """Bytes of every value, null where it is null, and whether their length has still to be written before them.

    Raises:
        InputError: if the type has no canonical bytes.
    """
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return flat(array.storage, name)
    if pa.types.is_dictionary(kind):
        return flat(array.dictionary_decode(), name)
    if pa.types.is_struct(kind):
        fields = [kind.field(i).name for i in range(kind.num_fields)]
        return _where_valid(array, _struct(fields, array.flatten(), len(array))), False
    if pa.types.is_map(kind):
        pairs = _join(_OPEN, _or_null(_value(array.keys, name)), _or_null(_value(array.items, name)), _CLOSE)
        return _list(array, pairs, array.offsets), False
    if pa.types.is_fixed_size_list(kind) or str(kind).startswith(("list_view", "large_list_view")):
        return flat(array.cast(pa.large_list(kind.value_field)), name)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _list(array, array.values, array.offsets, name), False
    return _scalar(array, name), True


def _list(array: pa.Array, values: pa.Array, offsets: pa.Array, name: str | None = None) -> pa.Array:
    ends = offsets.cast(pa.int64())
    first, last = ends[0].as_py(), ends[-1].as_py()
    part = values.slice(first, last - first)
    items = part if name is None else _or_null(_value(part, name))
    joined = pc.binary_join(pa.LargeListArray.from_arrays(pc.subtract(ends, first), items), _NOTHING)
    return _where_valid(array, _join(_OPEN, joined, _CLOSE))


def _scalar(array: pa.Array, name: str) -> pa.Array:
    kind = array.type
    if pa.types.is_floating(kind):
        numbers = np.asarray(array.cast(pa.float64()).fill_null(0.0)).astype(">f8")
        numbers[np.isnan(numbers)] = np.nan
        raw = pa.Array.from_buffers(pa.binary(8), len(numbers), [None, pa.py_buffer(numbers.tobytes())])
        return _where_valid(array, raw.cast(_BINARY))
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        array = array.cast(pa.timestamp(kind.unit))
    elif pa.types.is_duration(kind):
        array = array.cast(pa.int64())
    try:
        textual = str(kind) in ("binary", "large_binary", "binary_view") or pa.types.is_fixed_size_binary(kind)
        return (array if textual else array.cast(pa.large_string())).cast(_BINARY)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as e:
        raise InputError(f'column "{name}" holds {kind}, which has no canonical bytes ({e}); write it as text') from e


def _atom(raw: pa.Array) -> pa.Array:
    return _join(pc.binary_length(raw).cast(pa.large_string()).cast(_BINARY), _COLON, raw)


def _join(*parts: Any) -> pa.Array:
    return pc.binary_join_element_wise(*parts, _NOTHING)


def _or_null(values: pa.Array) -> pa.Array:
    return pc.fill_null(values, _NULL)


def _where_valid(array: pa.Array, values: pa.Array) -> pa.Array:
    return values if not array.null_count else pc.if_else(array.is_valid(), values, pa.scalar(None, _BINARY))
