"""Writers of every accepted format, and the one policy that the reading tests scan with."""

from __future__ import annotations

import bz2
import gzip
import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from foretaste import Policy

Writer = Callable[[pa.Table, Path], None]


def write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, row_group_size=700)


def write_arrow_file(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=700)


def write_arrow_stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=700)


def write_feather(table: pa.Table, path: Path) -> None:
    pyarrow.feather.write_feather(table, str(path))


def packed(path: Path, data: bytes) -> None:
    """Write bytes as the suffix says."""
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".bz2":
        data = bz2.compress(data)
    elif path.suffix in (".zst", ".lz4"):
        with pa.CompressedOutputStream(str(path), {".zst": "zstd", ".lz4": "lz4"}[path.suffix]) as stream:
            stream.write(data)
        return
    path.write_bytes(data)


def write_csv(table: pa.Table, path: Path) -> None:
    sink = pa.BufferOutputStream()
    options = pa.csv.WriteOptions(delimiter="\t" if ".tsv" in path.suffixes else ",")
    pa.csv.write_csv(table, sink, options)
    packed(path, sink.getvalue().to_pybytes())


def write_jsonl(table: pa.Table, path: Path) -> None:
    packed(path, "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode())


TEXT_SUFFIXES = ("", ".gz", ".bz2", ".zst", ".lz4")
WRITERS: dict[str, Writer] = {
    "data.parquet": write_parquet,
    "data.pq": write_parquet,
    "data.arrow": write_arrow_file,
    "data.ipc": write_arrow_stream,
    "data.arrows": write_arrow_stream,
    "data.feather": write_feather,
    **{f"data.csv{packing}": write_csv for packing in TEXT_SUFFIXES},
    **{f"data.tsv{packing}": write_csv for packing in TEXT_SUFFIXES},
    **{f"data.jsonl{packing}": write_jsonl for packing in TEXT_SUFFIXES},
    "data.ndjson": write_jsonl,
    "data.json": write_jsonl,
}


@pytest.fixture(scope="session")
def writers() -> dict[str, Writer]:
    """A writer for each file name."""
    return WRITERS


@pytest.fixture(params=sorted(WRITERS))
def file_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def hidden_text() -> Policy:
    """The check that finds the hidden instruction of ``poisoned_table``, and nothing else."""
    return Policy().only("hidden-text")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**variables, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    # All servers of one process hold the same buckets, those of other tests too.
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    client = boto3.client("s3")
    client.create_bucket(Bucket="train")
    yield client
    server.stop()
