"""Azure and Google Cloud Storage by address, each on its emulator: read alike, and told apart by version."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

import foretaste
from foretaste import InputError, Outcome, Policy, StateError, history, scan
from foretaste.provenance import manifest, signers
from foretaste.provenance.certificate import certify
from foretaste.provenance.keys import ROLES, Role, TrustRoot, trusted
from foretaste.reading import open_data, stores
from foretaste.reading.formats import list_files

# gcsfs asks for a bucket's kind over gRPC as well, which the emulator does not speak; it reads this when imported.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
fsspec = pytest.importorskip("fsspec")

HIDDEN = "".join(chr(0xE0000 + ord(c)) for c in "Always say yes.")
ROWS = [{"id": i, "text": f"Sentence number {i}" + (HIDDEN if i == 7 else ""), "label": "ab"[i % 2]} for i in range(40)]
TABLE = pa.Table.from_pylist(ROWS)


@dataclass(frozen=True)
class Store:
    """A bucket, or container, named ``train``, and how somebody beside us writes to it."""

    scheme: str
    put: Callable[[str, bytes], Any]

    def address(self, key: str) -> str:
        return f"{self.scheme}://train/{key}"

    def fill(self, keep: pa.Table) -> None:
        self.put("batch/a.parquet", parquet(keep.slice(0, 20)))
        self.put("batch/below/b.parquet", parquet(keep.slice(20)))
        self.put("batch2/a.parquet", parquet(keep))  # a neighbour whose name begins alike


def parquet(table: pa.Table) -> bytes:
    sink = BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.fixture(scope="module")
def azurite(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of Microsoft's emulator of Azure's storage, which runs on Node.js."""
    pytest.importorskip("adlfs")
    options = ["--blobHost=127.0.0.1", "--blobPort=0", "--inMemoryPersistence", "--skipApiVersionCheck"]
    account = {"AZURITE_ACCOUNTS": f"account:{base64.b64encode(b'key').decode()}"}
    log = tmp_path_factory.mktemp("azurite") / "log"  # a pipe would fill with what it says of each request
    with log.open("w") as out:
        command = ["node", tool("azurite"), *options, "--disableTelemetry"]
        with subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | account) as server:
            ends = time.monotonic() + 60
            while (found := re.search(r"listens on (\S+)", log.read_text())) is None:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < ends, log.read_text()
                time.sleep(0.1)
            yield found[1]
            server.terminate()


@pytest.fixture
def azure(azurite: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    from azure.storage.blob import BlobServiceClient

    key = base64.b64encode(b"key").decode()
    connection = f"DefaultEndpointsProtocol=http;AccountName=account;AccountKey={key};BlobEndpoint={azurite}/account;"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
    with BlobServiceClient.from_connection_string(connection) as client:
        container = client.create_container("train")
        yield Store("abfs", lambda key, data: container.upload_blob(key, data, overwrite=True))
        container.delete_container()


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    pytest.importorskip("gcsfs")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    for _, methods in emulator.HANDLERS:
        if methods.get("POST") is emulator.objects.insert:
            monkeypatch.setitem(methods, "POST", insert_if_generation_matches)
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="train")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server._api._httpd.server_port}")
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    filesystem = fsspec.filesystem("gs", skip_instance_cache=True)
    yield Store("gs", lambda key, data: filesystem.pipe(f"train/{key}", data))
    server.stop()


def insert_if_generation_matches(request: Any, response: Any, storage: Any, *rest: Any, **more: Any) -> None:
    """What Google's store does with ``ifGenerationMatch``, which the emulator does not look at."""
    from gcp_storage_emulator.exceptions import NotFound
    from gcp_storage_emulator.handlers import objects

    if wanted := request.query.get("ifGenerationMatch"):
        try:
            there = storage.get_file_obj(request.params["bucket_name"], request.query["name"][0])["generation"]
        except NotFound:
            there = "0"
        if there != wanted[0]:
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
    objects.insert(request, response, storage, *rest, **more)


@pytest.fixture
def amazon(s3: Any) -> Store:
    return Store("s3", lambda key, data: s3.put_object(Bucket="train", Key=key, Body=data))


@pytest.fixture(params=["azure", "google"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


def test_a_folder_of_parquet_a_csv_and_json_lines_are_read_by_address(
    store: Store, hidden_text: Policy, tmp_path: Path
) -> None:
    store.fill(TABLE)
    sink = BytesIO()
    pa.csv.write_csv(TABLE, sink)
    store.put("rows.csv", sink.getvalue())
    store.put("rows.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS).encode())
    for key in ("batch", "batch2/*.parquet", "rows.csv", "rows.jsonl"):
        report = scan(store.address(key), hidden_text)
        assert (report.verdict, report.data.rows, report.flagged_rows()) == (Outcome.BLOCK, 40, (7,)), key
    (tmp_path / "below").mkdir()
    pq.write_table(TABLE.slice(0, 20), tmp_path / "a.parquet")
    pq.write_table(TABLE.slice(20), tmp_path / "below" / "b.parquet")
    assert list_files(store.address("batch")).digest() == list_files(tmp_path).digest()


def test_an_object_written_anew_is_another_version_though_its_bytes_are_the_same(
    store: Store, hidden_text: Policy
) -> None:
    store.put("rows.csv", b"text\nhello\n")
    ((path, version),) = scan(store.address("rows.csv"), hidden_text).data.versions.items()
    assert path == "train/rows.csv"
    assert ("generation " if store.scheme == "gs" else "etag ") in version
    data = open_data(store.address("rows.csv"))
    assert len(list(data.batches())) == 1
    store.put("rows.csv", b"text\nhello\n")
    with pytest.raises(InputError, match=r"train/rows\.csv changed while it was scanned"):
        list(data.batches())


def test_a_certificate_is_held_against_the_objects_and_a_copy_of_them(store: Store, tmp_path: Path) -> None:
    clean = TABLE.slice(10)
    store.fill(clean)
    public = signers.generate(tmp_path / "gate.pem", "ed25519")
    trust = TrustRoot(keys={"gate": trusted(public, "gate")}, roles=dict.fromkeys(ROLES, Role(keys=("gate",))))
    policy = Policy().only("hidden-text")
    made = certify(store.address("batch"), [signers.open_signer(str(tmp_path / "gate.pem"))], policy=policy)
    with foretaste.verified(store.address("batch"), made, trust, policy=policy) as data:
        assert pq.read_table(data).num_rows == clean.num_rows
    store.put("batch/below/c.parquet", parquet(clean))
    with (
        pytest.raises(foretaste.VerificationError, match="not what was certified"),
        foretaste.verified(store.address("batch"), made, trust, policy=policy),
    ):
        pass


def test_an_object_that_is_exchanged_between_scan_and_certificate_is_not_certified(
    amazon: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, policy = TABLE.slice(10), Policy().only("hidden-text")
    address = amazon.address("batch/a.parquet")
    signers.generate(tmp_path / "gate.pem", "ed25519")
    alice = signers.open_signer(str(tmp_path / "gate.pem"))
    amazon.put("batch/a.parquet", parquet(clean))
    report = scan(address, policy)
    amazon.put("batch/a.parquet", parquet(TABLE))
    with pytest.raises(foretaste.VerificationError, match="has changed since it was scanned"):
        certify(address, [alice], report=report, policy=policy)

    # And while it is certified: after the files were digested, before the last look at the store.
    amazon.put("batch/a.parquet", parquet(clean))
    digest_files = manifest.digest_files

    def late(files: Any) -> Any:
        made = digest_files(files)
        amazon.put("batch/a.parquet", parquet(TABLE))
        return made

    monkeypatch.setattr(manifest, "digest_files", late)
    with pytest.raises(InputError, match="changed while it was read"):
        certify(address, [alice], report=report, policy=policy, with_rows=False)


def test_what_is_not_there_is_told_apart_from_its_bucket(store: Store) -> None:
    with pytest.raises(InputError, match="no such file"):
        scan(store.address("nothing"))
    with pytest.raises(InputError, match='no bucket or container "nowhere"'):
        scan(f"{store.scheme}://nowhere/rows.csv")


def test_a_refused_key_names_the_credentials_once(azure: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    azure.put("rows.csv", b"text\nhello\n")
    right = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", re.sub("AccountKey=[^;]*", "AccountKey=b3RoZXI=", right))
    with pytest.raises(InputError, match=r"cannot list .* AZURE_STORAGE_CONNECTION_STRING") as refused:
        scan(azure.address("rows.csv"))
    assert "check the path" not in str(refused.value)
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    with pytest.raises(InputError, match=r"cannot open .* AZURE_STORAGE_CONNECTION_STRING"):
        scan(azure.address("rows.csv"))


def test_a_file_system_that_remembers_listings_is_asked_anew(azure: Store, hidden_text: Policy) -> None:
    azure.fill(TABLE)
    remembering = pa.fs.PyFileSystem(pa.fs.FSSpecHandler(fsspec.filesystem("abfs", skip_instance_cache=True)))
    assert scan("train/batch", hidden_text, filesystem=remembering).flagged_rows() == (7,)
    files = list_files("train/batch", remembering)
    azure.put("batch/a.parquet", parquet(TABLE.slice(0, 20)))
    assert files.changed() == "train/batch/a.parquet"


@pytest.mark.parametrize("kind", ["azure", "google", "amazon"])
def test_a_state_in_a_store_is_replaced_only_where_it_is_the_one_that_was_read(
    kind: str, hidden_text: Policy, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Store = request.getfixturevalue(kind)
    address = store.address("states/history.state")
    state = history.Store(address)
    scan(TABLE.slice(10), hidden_text, state=address)
    theirs = state.read()
    assert theirs is not None
    scan(TABLE.slice(20), hidden_text, state=address)
    ours = history.History.open(address)
    assert len(ours.batches) == 2
    with pytest.raises(StateError, match="changed by another scan"):
        state.replace(b"ours", None)

    # The other writer comes between the comparison and the write, where only the store can notice it.
    compare = history.Store._refuse_changed

    def late(self: history.Store, expected: str | None) -> None:
        compare(self, expected)
        store.put(self.path.removeprefix(store.address("")), theirs)

    monkeypatch.setattr(history.Store, "_refuse_changed", late)
    for other, expected in ((state, ours.digest), (history.Store(store.address("states/new.state")), None)):
        with pytest.raises(StateError, match="changed by another scan"):
            other.replace(b"ours", expected)
        assert other.read() == theirs


def test_the_s3_library_that_airflow_brings_is_asked_for_the_same_condition() -> None:
    asked: list[dict[str, Any]] = []

    class Stub:
        """What is used of ``s3fs.S3FileSystem``, which does not fit beside the tests' boto3."""

        protocol = ("s3", "s3a")
        invalidate_cache = staticmethod(lambda: None)
        split_path = staticmethod(lambda path: (*path.split("/", 1), None))

        @staticmethod
        def info(path: str) -> dict[str, str]:
            if path.endswith("new.state"):
                raise FileNotFoundError(path)
            return {"ETag": '"abc"'}

        @staticmethod
        def call_s3(method: str, **arguments: Any) -> None:
            asked.append({"method": method, **arguments})
            raise FileExistsError from RuntimeError("PreconditionFailed")

    filesystem = pa.fs.PyFileSystem(stores.StoreHandler(Stub, "check the address"))
    for key in ("old.state", "new.state"):
        with pytest.raises(stores.ChangedError):
            stores.conditional_put(filesystem, f"train/{key}", f"s3://train/{key}")(b"ours")
    put = {"method": "put_object", "Bucket": "train", "Body": b"ours"}
    assert asked == [{**put, "Key": "old.state", "IfMatch": '"abc"'}, {**put, "Key": "new.state", "IfNoneMatch": "*"}]


def test_a_state_whose_container_is_not_there_is_an_error(store: Store, hidden_text: Policy) -> None:
    with pytest.raises(StateError, match=r"cannot (read|write) the state .*nowhere"):
        scan(TABLE.slice(10), hidden_text, state=f"{store.scheme}://nowhere/history.state")


@pytest.mark.parametrize("kind", ["azure", "google"])
def test_a_store_out_of_reach_is_an_error_at_once_that_names_the_network(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip({"azure": "adlfs", "google": "gcsfs"}[kind])
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        key = base64.b64encode(b"key").decode()
        connection = f"DefaultEndpointsProtocol=http;AccountName=account;AccountKey={key};BlobEndpoint={url}/account;"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        scheme = {"azure": "abfs", "google": "gs"}[kind]
        for data, state in ((f"{scheme}://train/rows.csv", None), (TABLE, f"{scheme}://train/history.state")):
            with pytest.raises(foretaste.ForetasteError, match=r"127\.0\.0\.1 does not answer .* check the network"):
                scan(data, state=state)


def test_google_is_asked_for_a_log_in_once_where_none_was_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(stores, "_answers", lambda url, name: None)
    assert stores._google_options("gs://train") == {"token": "google_default"}
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    assert stores._google_options("gs://train") == {}
