"""One-shot streams (a SQL cursor, Spark partitions, a record batch reader) made re-iterable."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa


@contextmanager
def spool(batches: Iterable[pa.RecordBatch], directory: str | Path | None = None) -> Iterator[Path]:
    """Write a stream of batches to a temporary Arrow file and yield its path; the file is removed on exit.

    The checks read the data several times. A stream can be read once, and a query that runs again may return other
    rows, so both are written down first, compressed, and scanned from there. Memory stays at one batch.

    Raises:
        pa.ArrowInvalid: if the batches do not share a schema.
    """
    with tempfile.TemporaryDirectory(prefix="foretaste-", dir=directory) as folder:
        path = Path(folder) / "spool.arrow"
        writer: pa.RecordBatchFileWriter | None = None
        try:
            for batch in batches:
                if writer is None:
                    options = pa.ipc.IpcWriteOptions(compression="lz4")
                    writer = pa.ipc.new_file(str(path), batch.schema, options=options)
                writer.write_batch(batch)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            pa.ipc.new_file(str(path), pa.schema([])).close()
        yield path
