"""When rows came: columns of times, in any of the forms that people keep them in, as text that sorts by time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foretaste.errors import InputError
from foretaste.reading.readers import first_line

_NUMBER = r"^[+-]?\d+(\.\d+)?$"
_ZONE = r":.*(?:Z|[+-]\d\d(?::?\d\d)?)$"
_FINER = r"(\.\d{6})\d+"  # than microseconds
# Seconds, milliseconds, microseconds or nanoseconds since 1970, by how large a number is: each unit from March 1973 on, and
# seconds up to the year 5138.
_UNITS = ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0), (np.inf, 1e-3))


def is_temporal(kind: pa.DataType) -> bool:
    """Whether a column of this type holds points in time."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def time_texts(array: pa.Array, column: str) -> pa.LargeStringArray:
    """Timestamps, dates, ISO 8601 texts or numbers since 1970 as ``2026-01-31 12:00:00.000000`` in UTC; null as empty.

    Without a zone they are taken for UTC.

    Raises:
        InputError: if a value is no time.
    """
    kind = array.type
    try:
        if is_temporal(kind):
            times = _moments(array)
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            times = _since_1970(array)
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
            times = _read(array.cast(pa.large_string()))
        elif pa.types.is_null(kind):
            times = array
        else:
            raise InputError(
                f'column "{column}" (time) holds {kind}; a time is a timestamp, date, ISO 8601 text or number'
            )
        return pc.fill_null(times.cast(pa.large_string()), "")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        raise InputError(
            f'column "{column}" (time) cannot be read: {first_line(e)}; write times as ISO 8601 (2026-01-31T12:00:00Z), or '
            "leave --time out"
        ) from e


def _moments(array: pa.Array) -> pa.Array:
    """Timestamps in microseconds, without a zone."""
    zone = getattr(array.type, "tz", None)
    return array.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64()).cast(pa.timestamp("us"))


def _since_1970(array: pa.Array) -> pa.Array:
    values = np.asarray(array.cast(pa.float64(), safe=False))
    size = np.abs(values)
    scaled = np.select([size < most for most, _ in _UNITS], [values * scale for _, scale in _UNITS])
    absent = np.isnan(values) | np.asarray(array.is_null())
    micros = np.where(absent, 0, scaled).round().astype(np.int64)
    return pa.array(micros, pa.int64(), mask=absent).cast(pa.timestamp("us"))


def _read(texts: pa.Array) -> pa.Array:
    texts = pc.utf8_trim_whitespace(texts)
    none = pa.scalar(None, pa.large_string())
    texts = pc.if_else(pc.equal(texts, ""), none, texts)
    numeric = pc.match_substring_regex(texts, _NUMBER)
    counted = _since_1970(pc.if_else(numeric, texts, none).cast(pa.float64()))
    written = pc.replace_substring_regex(pc.if_else(numeric, none, texts), _FINER, r"\1")
    timed = pc.if_else(
        pc.match_substring_regex(written, _ZONE), "", pc.if_else(pc.match_substring(written, ":"), "Z", "T00:00:00Z")
    )
    zoned = pc.binary_join_element_wise(written, timed.cast(pa.large_string()), pa.scalar("", pa.large_string()))
    return pc.coalesce(counted, _moments(zoned.cast(pa.timestamp("us", "UTC"))))
