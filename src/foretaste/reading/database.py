"""Rows of a database, through SQLAlchemy, a few thousand at a time.

A scan reads its data several times, and a query that runs again may return other rows: so the rows are read once, into a
temporary file, and scanned from there. SQLAlchemy comes with the hosts and is imported where it is used. This is for
hosts, which have a connection, or the address of one, of any driver; an address that a person names is read by
:mod:`foretaste.reading.tables`, without Python objects between the database and Arrow.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from foretaste.batch import TEXT_ROLES
from foretaste.errors import InputError
from foretaste.reading.libraries import library, no_rows
from foretaste.reading.spool import spool
from foretaste.roles import Roles

# Rows that are Python objects at a time, between a database's cursor and Arrow.
SQL_ROWS = 2_000

# Data that can be scanned, complete roles, and the names of those that were guessed.
Rows = tuple[Any, Roles, tuple[str, ...]]


@dataclass(frozen=True)
class SqlRows:
    """A table, or what a query returns, in a database that SQLAlchemy reaches.

    Attributes:
        url: of the database, as SQLAlchemy wants it: ``postgresql+psycopg2://...``, ``duckdb:///...``.
        source: name of a table, with its schema where it has one (``main.reviews``), or a query (``SELECT ...``).
    """

    url: str
    source: str

    @contextmanager
    def spooled(self, wanted: Roles) -> Iterator[Rows]:
        """The columns that play a role, in a temporary file.

        Raises:
            InputError: as :func:`spooled`, and where the database refuses the query.
        """
        with self._open() as (connection, table), spooled(connection, table, wanted) as rows:
            yield rows

    def save(self, path: Path) -> int:
        """Write all columns as Parquet, and return the number of rows.

        Columns have the types that their first rows show.

        Raises:
            InputError: as :meth:`spooled`.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as (connection, table), ExitStack() as held:
            import sqlalchemy as sa

            columns = list(connection.execute(sa.select(sa.text("*")).select_from(table).limit(0)).keys())
            writer, read = None, 0
            with closing(_parts(connection, table, columns)) as parts:
                for part in parts:
                    try:
                        batch = pa.RecordBatch.from_arrays(
                            [pa.array([str(v) if isinstance(v, UUID) else v for v in values]) for values in zip(*part)],
                            names=columns,
                        )
                        if writer is None:
                            kept = [pa.string() if pa.types.is_null(f.type) else f.type for f in batch.schema]
                            schema = pa.schema(list(zip(columns, kept)))
                            writer = held.enter_context(pq.ParquetWriter(path, schema))
                        writer.write_batch(batch.cast(schema))
                    except (pa.ArrowException, ValueError) as e:
                        raise InputError(
                            f"cannot keep the columns {', '.join(columns)}: {e}; cast them to one type in the query"
                        ) from e
                    read += batch.num_rows
            refuse_mismatch(read, connection.execute(sa.select(sa.func.count()).select_from(table)).scalar())
        return read

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        sa = library("sqlalchemy", "sqlalchemy")
        try:
            engine = sa.create_engine(self.url)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as e:
            # The address holds a password: it is not named.
            raise InputError(f"cannot use the database address: {e}; install the driver that it names") from e
        try:
            with engine.connect() as connection:
                yield connection, self._table(sa)
        except sa.exc.DBAPIError as e:
            # Without a statement there was no connection: another try may have one.
            if e.statement is None or e.connection_invalidated:
                raise
            raise InputError(f"the database refuses to read {self.source!r}: {e.orig}") from e
        finally:
            engine.dispose()

    def _table(self, sa: Any) -> Any:
        if len(self.source.split()) > 1:
            columns = sa.text(self.source.strip().rstrip(";")).columns()
            # A textual select has no columns of its own, and is a subquery all the same.
            return columns.subquery("given")
        *schema, name = self.source.split(".")
        return sa.table(name, schema=".".join(schema) or None)


@contextmanager
def spooled(connection: Any, table: Any, wanted: Roles) -> Iterator[Rows]:
    """The rows of a table or subquery, in the order in which the database gives them.

    Args:
        connection: of SQLAlchemy.
        table: what it may select from.
        wanted: the roles that are given; the others are guessed from the names of the columns.

    Raises:
        InputError: if the roles do not fit the columns, values of a column differ in type, or the database returns
            other rows than it counts.
    """
    import sqlalchemy as sa

    with ExitStack() as held:
        head = connection.execute(sa.select(sa.text("*")).select_from(table).limit(0))
        roles, guessed = wanted.resolve(head.keys())
        columns = roles.reads(head.keys())
        with closing(_parts(connection, table, columns)) as parts:
            data, read = held.enter_context(_spooled((_arrow(part, columns, roles) for part in parts), columns))
        counted = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar()
        refuse_mismatch(read, counted)
        yield data, roles, guessed


def _parts(connection: Any, table: Any, columns: Sequence[str]) -> Generator[Sequence[Any], None, None]:
    import sqlalchemy as sa

    query: Any = sa.select(*[sa.column(name) for name in columns]).select_from(table)
    # yield_per asks for a cursor on the server where the driver has one: no other way holds only a part in memory.
    with closing(connection.execute(query, execution_options={"yield_per": SQL_ROWS})) as result:
        yield from result.partitions()


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
        kind, role = array.type, played.get(column, "context")
        loose = role not in TEXT_ROLES and not pa.types.is_nested(kind) and not pa.types.is_binary(kind)
        if role != "messages" and (loose or pa.types.is_string(kind) or pa.types.is_null(kind)):
            array = array.cast(pa.large_string())
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def refuse_mismatch(read: int, counted: Any) -> None:
    """Refuse a batch without rows, and one of which the database counts other rows than it returns.

    Raises:
        InputError: naming both numbers.
    """
    if counted == 0 and read == 0:
        raise no_rows("the batch")
    if counted != read:
        raise InputError(f"the batch has {counted} rows and {read} were read; validate a table that nothing writes to")
