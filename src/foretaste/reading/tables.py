"""Tables that a system of its own keeps: Delta, Iceberg, and queries over ADBC, at one version each.

An address gives a :class:`~foretaste.reading.frames.Frame` whose name says what was read, without passwords.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

import pyarrow as pa

from foretaste.errors import InputError, did_you_mean
from foretaste.reading.frames import Frame, of_dataset

_SQL = {"sqlite": "adbc_driver_sqlite", "postgresql": "adbc_driver_postgresql", "postgres": "adbc_driver_postgresql"}


def open_table(address: str) -> Frame | None:
    """Open the table behind an address; ``None`` where the address names files.

    ``FOLDER?version=3`` is a Delta table (the newest version where none is named), ``iceberg://CATALOG/NAMESPACE.TABLE
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
    folder, _, version = address.partition("?version=")
    if scheme == "delta" or version or (not scheme and (Path(folder) / "_delta_log").is_dir()):
        return _delta(folder.removeprefix("delta://"), version)
    return None


def _delta(folder: str, version: str) -> Frame:
    deltalake = _library("deltalake", "delta")
    if version and not version.isdecimal():
        raise InputError(f'the version "{version}" of {folder} is no whole number; name one, as in {folder}?version=3')
    with _failing(folder, "check the path and the version"):
        table = deltalake.DeltaTable(folder, version=int(version) if version else None)
        # Deletes are in the log alone: a table whose deletes this reader does not know is refused by it.
        frame = of_dataset(table.to_pyarrow_dataset())
    return Frame(f"{folder}?version={table.version()}", frame.arrow_schema, frame.read)


def _iceberg(address: str) -> Frame:
    catalogs = _library("pyiceberg.catalog", "iceberg")
    parts = urlsplit(address)
    wanted = dict(parse_qsl(parts.query)).get("snapshot")
    if wanted is not None and not wanted.isdecimal():
        raise InputError(f'the snapshot "{wanted}" of {address} is no whole number; name one that the table has')
    with _failing(address, "check the catalog in .pyiceberg.yaml or PYICEBERG_CATALOG__..., and the table's name"):
        table = catalogs.load_catalog(parts.netloc).load_table(parts.path.strip("/"))
        snapshot = table.snapshot_by_id(int(wanted)) if wanted else table.current_snapshot()
        if snapshot is None:
            raise InputError(f"{address} has no such snapshot, or no rows yet; name a snapshot that it has")
        scan = table.scan(snapshot_id=snapshot.snapshot_id)
        schema = scan.projection().as_arrow()

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with _failing(address, "scan it again, or name another snapshot"):
            for batch in scan.select(*columns).to_arrow_batch_reader():
                yield batch.select(list(columns))

    return Frame(f"iceberg://{parts.netloc}{parts.path}?snapshot={snapshot.snapshot_id}", schema, read)


def _sql(address: str, scheme: str) -> Frame:
    dbapi = _library(f"{_SQL[scheme]}.dbapi", "sql")
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
            raise InputError(f"no data base at {path}; write sqlite:///FILE or sqlite:////ABSOLUTE/FILE")
        uri = f"file:{quote(str(Path(path).absolute()))}?mode=ro"
    else:
        rest = "&".join(f"{quote(name)}={quote(value)}" for name, value in options if name != "query")
        uri = urlunsplit((parts.scheme, parts.netloc, parts.path, rest, ""))
    advice = "check the address, the credentials and the query"

    @contextmanager
    def opened() -> Iterator[Any]:
        # Nothing is committed: what a query writes is rolled back. The driver's words may hold the password.
        with (
            _failing(place, advice, hide=scheme != "sqlite"),
            dbapi.connect(uri) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(query)
            with cursor.fetch_record_batch() as reader:
                yield reader

    with opened() as reader:
        schema = reader.schema

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with opened() as reader:
            for column in columns:
                if column not in reader.schema.names:
                    raise InputError(f'no column "{column}" in {place}; {did_you_mean(column, reader.schema.names)}')
            for batch in reader:
                yield batch.select(list(columns))

    return Frame(f"{place}?query={query}", schema, read)


def _library(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise InputError(f"{name.split('.')[0]} is not installed; run: pip install 'foretaste[{extra}]'") from e


@contextmanager
def _failing(name: str, advice: str, hide: bool = False) -> Iterator[None]:
    """What a library raises, as an input error; without its words where they may hold what has to be hidden."""
    try:
        yield
    except (InputError, GeneratorExit):
        raise
    except Exception as e:  # noqa: BLE001 - each library has errors of its own, down to those of Rust
        state = getattr(e, "sqlstate", None)
        said = (state and f", SQLSTATE {state}") or "" if hide else f": {(str(e).strip().splitlines() or [''])[0]}"
        raise InputError(f"cannot read {name} ({type(e).__name__}{said}); {advice}") from (None if hide else e)
