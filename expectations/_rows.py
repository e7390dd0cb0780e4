"""A batch of Great Expectations -> data that can be scanned, with only the columns that a scan reads.

A pandas frame is scanned where it lies, a Spark frame on its cluster, and the rows of a database from a temporary file
(:mod:`foretaste.reading.database`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from foretaste.reading.database import Rows, spooled
from foretaste.roles import Roles


@contextmanager
def from_pandas(frame: Any, wanted: Roles) -> Iterator[Rows]:
    """The frame's columns that play a role.

    Raises:
        InputError: if the roles do not fit the columns.
    """
    names = [name for name in frame.columns if isinstance(name, str)]
    roles, guessed = wanted.resolve(names)
    yield frame[roles.reads(names)], roles, guessed


@contextmanager
def from_sql(engine: Any, selectable: Any, wanted: Roles) -> Iterator[Rows]:
    """The rows of a table or query, in the order in which the database gives them.

    Raises:
        InputError: see :func:`foretaste.reading.database.spooled`.
    """
    import sqlalchemy as sa

    # GX filters by a row condition with a Select, which is no table yet.
    table = selectable if isinstance(selectable, sa.sql.FromClause) else selectable.subquery()
    # Not through execute_query: it closes the connection first, and DuckDB then returns no rows.
    with engine.get_connection() as connection, spooled(connection, table, wanted) as rows:
        yield rows


@contextmanager
def from_spark(frame: Any, wanted: Roles) -> Iterator[Rows]:
    """The Spark frame, which is scanned where it lies: the workers need foretaste.

    Raises:
        InputError: if the roles do not fit the columns.
    """
    roles, guessed = wanted.resolve(frame.columns)
    yield frame, roles, guessed
