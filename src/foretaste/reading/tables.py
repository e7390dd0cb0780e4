"""Tables that a system of its own keeps: Delta, Iceberg, Lance, and queries over ADBC, at one version each.

An address gives a :class:`~foretaste.reading.frames.Frame` whose name says what was read, without passwords.

A query is run anew for each pass, over ADBC, whose drivers hand Arrow over: a row that changed between two passes is
refused, as in a file, and a certificate can be held against the rows later. :mod:`foretaste.reading.database` is for
connections that a host has: it reads once, through SQLAlchemy, and so takes any of its drivers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

import pyarrow as pa

from foretaste.errors import InputError
from foretaste.reading.frames import Frame, of_dataset
from foretaste.reading.libraries import failing, library
from foretaste.reading.readers import ROWS, require

_SQL = {"sqlite": "adbc_driver_sqlite", "postgresql": "adbc_driver_postgresql", "postgres": "adbc_driver_postgresql"}
_NAMED = 5  # snapshots that an error names
_OTHER_SQL = frozenset(
    {
        "bigquery",
        "clickhouse",
        "databricks",
        "duckdb",
        "mariadb",
        "mssql",
        "mysql",
        "oracle",
        "redshift",
        "snowflake",
        "trino",
    }
)


def open_table(address: str) -> Frame | None:
    """Open the table behind an address; ``None`` where the address names files.

    ``FOLDER?version=3`` is a Delta table (the newest version where none is named), ``FOLDER.lance?version=3`` a Lance
    table, ``iceberg://CATALOG/NAMESPACE.TABLE
    ?snapshot=ID`` an Iceberg table of a catalog that pyiceberg is configured for, ``sqlite:///FILE?query=SELECT ...``
    and ``postgresql://HOST/DATABASE?query=SELECT ...`` the rows of a query.

    Raises:
        InputError: if the extra is not installed, or there is no such table, version or query.
    """
    scheme = address.split("://", 1)[0] if "://" in address else ""
    if scheme in _SQL:
        return _sql(address, scheme)
    if scheme == "iceberg":
        return _iceberg(address)
    if scheme.partition("+")[0] in _OTHER_SQL:
        raise InputError(
            f"{scheme}:// is not read by address, as sqlite:// and postgresql:// are; export the rows to Parquet, or pass "
            "them to foretaste.scan as an Arrow table or a frame"
        )
    if scheme in ("http", "https"):
        return None
    folder, asked, version = address.partition("?version=")
    if asked and not version.isdecimal():
        raise InputError(f'the version "{version}" of {folder} is no whole number; name one, as in {folder}?version=3')
    if scheme == "lance" or folder.rstrip("/").endswith(".lance"):
        return _lance(folder.removeprefix("lance://"), version)
    if scheme == "delta" or version or (not scheme and (Path(folder) / "_delta_log").is_dir()):
        return _delta(folder.removeprefix("delta://"), version)
    return None


def _delta(folder: str, version: str) -> Frame:
    deltalake = library("deltalake", "foretaste[delta]")
    _refuse_missing(folder, "_delta_log", "a Delta table")
    with failing(folder, "check the path and the version"):
        table = deltalake.DeltaTable(folder)
        _refuse_newer(folder, version, table.version())
        if version:
            table.load_as_version(int(version))
        # Deletes are in the log alone: a table whose deletes this reader does not know is refused by it.
        frame = of_dataset(table.to_pyarrow_dataset())
    return Frame(f"{folder}?version={table.version()}", frame.arrow_schema, frame.read)


def _lance(folder: str, version: str) -> Frame:
    lance = library("lance", "foretaste[lance]")
    _refuse_missing(folder, "_versions", "a Lance table")
    with failing(folder, "check the path and the version"):
        table = lance.dataset(folder)
        _refuse_newer(folder, version, table.latest_version)
        if version:
            table = lance.dataset(folder, version=int(version))
        name, schema, rows = f"{folder}?version={table.version}", table.schema, table.count_rows()

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        require(schema.names, columns, name)
        with failing(name, "scan it again, or name another version"):
            yield from table.to_batches(columns=list(columns), batch_size=ROWS, batch_readahead=2, scan_in_order=True)

    return Frame(name, schema, read, rows)


def _refuse_missing(folder: str, log: str, kind: str) -> None:
    """Refuse a local folder that is not there or has no log; other places are the reader's to look at."""
    if "://" in folder or (Path(folder) / log).is_dir():
        return
    if not Path(folder).is_dir():
        raise InputError(f"no data at {folder}: no such folder; check the path")
    raise InputError(
        f"{folder} is not {kind}: it has no {log}; name the table's own folder, or scan the folder as files"
    )


def _refuse_newer(folder: str, version: str, newest: int) -> None:
    if version and int(version) > newest:
        raise InputError(f"{folder} has no version {version}; its newest is {newest}")


def _iceberg(address: str) -> Frame:
    catalogs = library("pyiceberg.catalog", "foretaste[iceberg]")
    parts = urlsplit(address)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if odd := sorted(options.keys() - {"snapshot"}):
        raise InputError(f'{address} has an unknown option "{odd[0]}"; a snapshot is named as in ?snapshot=ID')
    wanted = options.get("snapshot")
    if wanted is not None and not wanted.isdecimal():
        raise InputError(f'the snapshot "{wanted}" of {address} is no whole number; name one that the table has')
    with failing(address, "check the catalog in .pyiceberg.yaml or PYICEBERG_CATALOG__..., and the table's name"):
        table = catalogs.load_catalog(parts.netloc).load_table(parts.path.strip("/"))
        snapshot = table.snapshot_by_id(int(wanted)) if wanted else table.current_snapshot()
        if snapshot is None:
            known = ", ".join(str(s.snapshot_id) for s in list(table.snapshots())[-_NAMED:]) or "none"
            raise InputError(f"{address} has no such snapshot, or no rows yet; the newest that it has: {known}")
        scan = table.scan(snapshot_id=snapshot.snapshot_id)
        schema = scan.projection().as_arrow()

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with failing(address, "scan it again, or name another snapshot"):
            for batch in scan.select(*columns).to_arrow_batch_reader():
                yield batch.select(list(columns))

    return Frame(f"iceberg://{parts.netloc}{parts.path}?snapshot={snapshot.snapshot_id}", schema, read)


def _sql(address: str, scheme: str) -> Frame:
    dbapi = library(f"{_SQL[scheme]}.dbapi", "foretaste[sql]")
    parts = urlsplit(address)
    options = parse_qsl(parts.query, keep_blank_values=True)
    query = next((value for name, value in options if name == "query"), "")
    host = parts.netloc.rpartition("@")[2]
    place = urlunsplit((parts.scheme, host, parts.path, "", "")) if host else f"{scheme}://{parts.path}"
    if not query:
        raise InputError(
            f"{place} names no query; add one in quotes, as in '{place}?query=SELECT * FROM t ORDER BY id'"
        )
    if scheme == "sqlite":
        path = unquote(parts.path)[1:]
        if not Path(path).is_file():
            raise InputError(f"no data base at {path or place}; write sqlite:///FILE or sqlite:////ABSOLUTE/FILE")
        uri = f"file:{quote(str(Path(path).absolute()))}?mode=ro"
    else:
        rest = "&".join(f"{quote(name)}={quote(value)}" for name, value in options if name != "query")
        uri = urlunsplit((parts.scheme, parts.netloc, parts.path, rest, ""))
    advice = "check the address, the credentials and the query"

    @contextmanager
    def opened() -> Iterator[Any]:
        # Nothing is committed: what a query writes is rolled back. The driver's words may hold the password.
        with (
            failing(place, advice, hide=scheme != "sqlite"),
            dbapi.connect(uri) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(query)
            with cursor.fetch_record_batch() as reader:
                yield reader

    with opened() as reader:
        schema = reader.schema
    if not len(schema):
        raise InputError(f"cannot read {place}: the query returns no columns, and was rolled back; write a SELECT")

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with opened() as reader:
            require(reader.schema.names, columns, place)
            for batch in reader:
                yield batch.select(list(columns))

    return Frame(f"{place}?query={query}", schema, read)
