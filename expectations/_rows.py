"""A batch of Great Expectations -> data that can be scanned, with only the columns that a scan reads.

A pandas frame is scanned where it lies, a Spark frame on its cluster. The rows of a database are read once, written to a
temporary file and scanned from there: a scan reads its data several times, and a query that runs again may return other
rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.dataset as ds

from foretaste.batch import TEXT_ROLES
from foretaste.errors import InputError
from foretaste.reading import spool
from foretaste.roles import Roles

# Rows that are Python objects at a time, between a database's cursor and Arrow.
SQL_ROWS = 2_000

# Data that can be scanned, complete roles, and the names of those that were guessed.
Rows = tuple[Any, Roles, tuple[str, ...]]


@contextmanager
def from_pandas(frame: Any, wanted: Roles) -> Iterator[Rows]:
    """The frame's columns that play a role.

    Raises:
        InputError: if the roles do not fit the columns.
    """
    roles, guessed = wanted.resolve([name for name in frame.columns if isinstance(name, str)])
    yield frame[_columns(roles)], roles, guessed


@contextmanager
def from_sql(engine: Any, selectable: Any, wanted: Roles) -> Iterator[Rows]:
    """The rows of a table or query, in the order in which the database gives them.

    Raises:
        InputError: if the roles do not fit the columns, values of a column differ in type, or the database returns
            other rows than it counts.
    """
    import sqlalchemy as sa

    # GX filters by a row condition with a Select, which is no table yet.
    table = selectable if isinstance(selectable, sa.sql.FromClause) else selectable.subquery()
    with ExitStack() as held:
        # Not through execute_query: it closes the connection first, and DuckDB then returns no rows.
        with engine.get_connection() as connection:
            head = connection.execute(sa.select(sa.text("*")).select_from(table).limit(0))
            roles, guessed = wanted.resolve(head.keys())
            columns = _columns(roles)
            query: Any = sa.select(*[sa.column(name) for name in columns]).select_from(table)
            with closing(connection.execute(query, execution_options={"yield_per": SQL_ROWS})) as result:
                parts = (_arrow(part, columns, roles) for part in result.partitions())
                data, read = held.enter_context(_spooled(parts, columns))
            counted = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar()
        _refuse_mismatch(read, counted)
        yield data, roles, guessed


@contextmanager
def from_spark(frame: Any, wanted: Roles) -> Iterator[Rows]:
    """The Spark frame, which is scanned where it lies: the workers need foretaste.

    Raises:
        InputError: if the roles do not fit the columns.
    """
    roles, guessed = wanted.resolve(frame.columns)
    yield frame, roles, guessed


def _columns(roles: Roles) -> list[str]:
    return list(dict.fromkeys(roles.as_dict().values()))


@contextmanager
def _spooled(batches: Iterable[pa.RecordBatch], columns: Sequence[str]) -> Iterator[tuple[ds.Dataset, int]]:
    """The batches in a temporary file, and how many rows there were."""
    read = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal read
        for batch in batches:
            read += batch.num_rows
            yield batch

    with ExitStack() as held:
        try:
            path = held.enter_context(spool(counted()))
        except pa.ArrowException as e:
            raise InputError(f"cannot read the columns {', '.join(columns)}: {e}; store one type per column") from e
        yield ds.dataset(path, format="ipc"), read


def _arrow(part: Sequence[Any], columns: Sequence[str], roles: Roles) -> pa.RecordBatch:
    """Rows of a cursor, with numbers and dates as strings where a role allows them, so that parts agree on types."""
    played = {column: role for role, column in roles.as_dict().items()}
    arrays = []
    for column, values in zip(columns, zip(*part)):
        array = pa.array([str(v) if isinstance(v, UUID) else v for v in values])
        kind, role = array.type, played[column]
        loose = role not in TEXT_ROLES and not pa.types.is_nested(kind) and not pa.types.is_binary(kind)
        if role != "messages" and (loose or pa.types.is_string(kind) or pa.types.is_null(kind)):
            array = array.cast(pa.large_string())
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _refuse_mismatch(read: int, counted: Any) -> None:
    if counted == 0 and read == 0:
        raise InputError("the batch has no rows; nothing was checked, and nothing is not a pass")
    if counted != read:
        raise InputError(f"the batch has {counted} rows and {read} were read; validate a table that nothing writes to")
