"""Object stores: the file system behind an address, and what tells one version of an object from another.

Arrow opens S3 by itself. Azure and Google Cloud Storage are opened by their fsspec libraries (adlfs, gcsfs), as is any
other address that fsspec knows, behind one handler: nothing that was listed is remembered, and what the libraries raise
are errors of files. :func:`conditional_put` replaces an object only where nobody else wrote it meanwhile.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import socket
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs

from foretaste.errors import InputError
from foretaste.reading.libraries import StoreError, library
from foretaste.reading.readers import first_line

_PINNED = re.compile(r"^hf://datasets/[^/@]+/[^/@]+@[0-9a-f]{40}(/|$)")
# Bytes read ahead: of a stream, and of a file in which a reader seeks and asks for what it needs.
_STREAM_BLOCK = 8 << 20
_SEEK_BLOCK = 1 << 18
_REQUESTS = 16
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")  # pathlib drops one of the two
_QUIET = logging.NullHandler()
_PATIENCE = 10.0  # seconds until a store has to answer


@dataclass(frozen=True)
class _Library:
    """What opens addresses of one store, and what to look at where it does not."""

    module: str
    extra: str
    step: str


_AZURE = _Library(
    "adlfs",
    "azure",
    "check the address, and AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, "
    "AZURE_STORAGE_SAS_TOKEN or a log-in (az login); AZURE_STORAGE_ANON=true for a public container",
)
_GOOGLE = _Library(
    "gcsfs",
    "gcs",
    "check the address, and GOOGLE_APPLICATION_CREDENTIALS or a log-in (gcloud auth application-default login); "
    "FSSPEC_GS_TOKEN=anon for a public bucket",
)
_HUB = _Library(
    "huggingface_hub", "hub", "check the address, HF_ENDPOINT, and a log-in or HF_TOKEN where it is private"
)
_LIBRARIES = {"az": _AZURE, "abfs": _AZURE, "abfss": _AZURE, "gs": _GOOGLE, "gcs": _GOOGLE, "hf": _HUB}
# Other names of the same stores, as Spark has them.
_SAME = {"s3a": "s3", "s3n": "s3", "wasb": "abfs", "wasbs": "abfs"}
# Stores whose addresses start with a bucket, or with what Azure calls a container.
BUCKETS = frozenset({"s3", "az", "abfs", "abfss", "gs", "gcs", *_SAME})


def open_address(name: str) -> tuple[pa.fs.FileSystem, str]:
    """The file system of an address, and the path on it.

    Raises:
        InputError: if nothing knows it, its library is not installed or refuses it, or it names a hub without a commit,
            whose files may be others tomorrow.
    """
    if name.startswith("hf://") and not _PINNED.search(name):
        raise InputError(
            f"{name} names no commit, and what it stands for may change at any time; pin it by the commit's 40 hex "
            "digits, as in hf://datasets/owner/name@COMMIT/train.parquet"
        )
    scheme, rest = name.split("://", 1)
    if scheme in BUCKETS and not rest.split("/", 1)[0]:
        raise InputError(f"{name} names no bucket or container; write {scheme}://BUCKET/PATH")
    scheme = _SAME.get(scheme, scheme)
    address = f"{scheme}://{rest}"
    if store := _LIBRARIES.get(scheme):
        library(store.module, f"foretaste[{store.extra}]")
        for logger in ("azure", "gcsfs"):  # they print what they raise, traceback and all, where nobody set up logging
            logging.getLogger(logger).addHandler(_QUIET)
        options: dict[str, Any] = {}
        if store is _GOOGLE:
            options = _google_options(name)
        # Azure's library answers from what it listed before, and fsspec hands out one object for all of a process.
        opened = _through_fsspec(address, store.step, use_listings_cache=False, skip_instance_cache=True, **options)
        if store is _AZURE:
            _answers(opened[0].handler.fs.service_client.url, name)
        return opened
    try:
        found: tuple[pa.fs.FileSystem, str] = pa.fs.FileSystem.from_uri(address)
        return found
    except (pa.ArrowInvalid, OSError) as e:
        known = first_line(e)
    if importlib.util.find_spec("fsspec") is None:
        raise InputError(f"cannot open {name}: {known}; check the address, or install fsspec and the store's library")
    return _through_fsspec(
        address, f"Arrow: {known}; check the address, or pass filesystem= for one that neither knows"
    )


def read_file(path: str | Path) -> bytes:
    """The bytes of a file, on this machine or at an address.

    Raises:
        InputError: if nothing opens the address.
        OSError: if the file cannot be read.
    """
    if "://" not in str(path):
        return Path(path).read_bytes()
    filesystem, inside = open_address(str(path))
    with filesystem.open_input_stream(inside, compression=None) as stream:
        content: bytes = stream.read()
        return content


def local(path: str | Path, what: str) -> Path:
    """Where something is written, which has to be on this machine.

    Raises:
        InputError: if it is an address, of which a folder with an odd name would be made.
    """
    if _ADDRESS.match(str(path)):
        raise InputError(
            f"{path} is an address, and {what} is written to a disk; name a path on this machine, and copy it from there "
            "with the store's own tool (the gate of Airflow writes to addresses itself)"
        )
    return Path(path)


def _google_options(name: str) -> dict[str, Any]:
    """Ask for a log-in in one way, and only after the store answered: the library would ask in four, and each waits."""
    import fsspec

    set_up = {**fsspec.config.conf.get("gcs", {}), **fsspec.config.conf.get("gs", {})}
    server = set_up.get("endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST")
    domain = os.environ.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "googleapis.com")
    _answers(server or f"https://storage.{domain}", name)
    return {} if server or "token" in set_up else {"token": "google_default"}


def _answers(url: str, name: str) -> None:
    """Refuse a server that is out of reach at once: the stores' libraries try again for minutes before they say so.

    Raises:
        InputError: if nothing listens there. Behind a proxy nobody can tell.
    """
    if urllib.request.getproxies():
        return
    server = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = server.port or {"http": 80}.get(server.scheme, 443)
        socket.create_connection((str(server.hostname), port), timeout=_PATIENCE).close()
    except (OSError, ValueError) as e:
        raise InputError(
            f"cannot open {name}: {server.hostname} does not answer ({e}); check the network and the address, and set "
            "HTTPS_PROXY where there is a proxy"
        ) from e


def _through_fsspec(name: str, step: str, **options: Any) -> tuple[pa.fs.FileSystem, str]:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(name, **options)
    except Exception as e:  # the library of a store may raise anything
        raise InputError(f"cannot open {name}: {first_line(e)}; {step}") from e
    return pa.fs.PyFileSystem(StoreHandler(filesystem, step)), path


def steady(filesystem: pa.fs.FileSystem) -> pa.fs.FileSystem:
    """A file system that somebody passed, with the handler of this module where it is one of fsspec."""
    handler = getattr(filesystem, "handler", None)
    if isinstance(handler, pa.fs.FSSpecHandler) and not isinstance(handler, StoreHandler):
        return pa.fs.PyFileSystem(StoreHandler(handler.fs, "check the address and the credentials"))
    return filesystem


class StoreHandler(pa.fs.FSSpecHandler):  # type: ignore[misc]
    """A file system of fsspec for Arrow, which looks anew each time and raises errors of files alone."""

    def __init__(self, fs: Any, step: str) -> None:
        super().__init__(fs)
        self.step = step

    def get_file_info(self, paths: Sequence[str]) -> list[pa.fs.FileInfo]:
        """One request for each path."""
        with _failing(self.step):
            self.fs.invalidate_cache()
            ask = super().get_file_info
            with ThreadPoolExecutor(max_workers=_REQUESTS) as pool:
                return [found for (found,) in pool.map(lambda path: ask([path]), paths)]

    def get_file_info_selector(self, selector: pa.fs.FileSelector) -> list[pa.fs.FileInfo]:
        """What lies below a folder."""
        with _failing(self.step):
            self.fs.invalidate_cache()
            found: list[pa.fs.FileInfo] = super().get_file_info_selector(selector)
            return found

    def open_input_stream(self, path: str) -> pa.PythonFile:
        """Read front to back."""
        return self._open(path, _STREAM_BLOCK)

    def open_input_file(self, path: str) -> pa.PythonFile:
        """Read where the reader seeks."""
        return self._open(path, _SEEK_BLOCK)

    def _open(self, path: str, block: int) -> pa.PythonFile:
        with _failing(self.step):
            file = self.fs.open(path, mode="rb", block_size=block, cache_type="readahead")
        return pa.PythonFile(_Opened(file, self.step), mode="r")

    def version(self, path: str) -> str:
        """What the store says of this version of an object; empty where it says nothing."""
        with _failing(self.step):
            info = {name.lower().replace("_", ""): value for name, value in self.fs.info(path).items()}
        said = [(name, info.get(name.replace(" ", ""))) for name in ("etag", "generation", "version id")]
        return ", ".join(f"{name.removesuffix(' id')} {value}" for name, value in said if value)


class _Opened:
    """An opened file whose errors are those of files."""

    def __init__(self, file: Any, step: str) -> None:
        self._file = file
        self._step = step

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def read(self, size: int = -1) -> bytes:
        with _failing(self._step):
            data: bytes = self._file.read(size)
            return data

    def seek(self, offset: int, whence: int = 0) -> int:
        with _failing(self._step):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()


@contextmanager
def _failing(step: str) -> Iterator[None]:
    """The errors of a store's library, which share no base class, as errors of files."""
    try:
        yield
    except Exception as e:
        if isinstance(e, OSError) and type(e) is not OSError and type(e).__module__ == "builtins":
            raise
        raise StoreError(f"{type(e).__name__}: {first_line(e)}; {step}") from e


def versions(filesystem: pa.fs.FileSystem, paths: Sequence[str]) -> dict[str, str]:
    """Entity tag, generation and version id of each object, where its store gives them.

    They tell a change within a second, and one that was undone.

    Raises:
        OSError: if a store cannot be asked.
    """
    handler = getattr(filesystem, "handler", None)
    if isinstance(handler, StoreHandler):
        handler.fs.invalidate_cache()
        ask = handler.version
    elif filesystem.type_name == "s3":
        ask = partial(_s3_version, filesystem)
    else:
        return {}
    with ThreadPoolExecutor(max_workers=_REQUESTS) as pool:
        return {path: version for path, version in zip(paths, pool.map(ask, paths)) if version}


def _s3_version(filesystem: pa.fs.FileSystem, path: str) -> str:
    with filesystem.open_input_stream(path, compression=None) as stream:
        found = {name.lower(): value.decode("utf-8", "replace") for name, value in (stream.metadata() or {}).items()}
    version = found.get("versionid")
    return f"etag {found.get('etag', 'unknown')}" + (f", version {version}" if version else "")


class ChangedError(Exception):
    """Somebody else wrote an object between a look at it and the write that was to replace it."""


def conditional_put(filesystem: pa.fs.FileSystem, path: str, address: str) -> Callable[[bytes], None]:
    """What replaces an object as a whole, and only if it is then still the one that lies there now (or none is).

    Azure and Google Cloud Storage compare by entity tag and by generation. S3 compares entity tags where ``boto3`` is
    installed, or ``s3fs`` opened the file system; Arrow cannot ask for that. Any other store writes unconditionally.

    Args:
        filesystem: of :func:`open_address` or :func:`steady`.
        path: on it.
        address: of the object, from which S3's options are taken.

    Returns:
        a function of the new bytes, which raises ``ChangedError``, or ``OSError`` where it cannot write.

    Raises:
        OSError: if the store cannot be asked.
    """
    handler = getattr(filesystem, "handler", None)
    if isinstance(handler, StoreHandler):
        with _failing(handler.step):
            return partial(_telling, handler.step, _through_library(handler.fs, path))
    if filesystem.type_name == "s3" and "://" in address and importlib.util.find_spec("boto3"):
        step = "check the address and the credentials"
        with _failing(step):
            return partial(_telling, step, _through_boto(path, address))

    def put(content: bytes) -> None:
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)

    return put


def _telling(step: str, put: Callable[[bytes], Any], content: bytes) -> None:
    try:
        with _failing(step):
            put(content)
    except OSError as e:
        if _refused(e):
            raise ChangedError from e
        raise


def _refused(error: BaseException | None) -> bool:
    """Whether a store did not take a write because of its condition: HTTP's 412, or 409 for one at the same moment."""
    while error is not None:
        answer = getattr(error, "response", None)
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(answer, dict) else None
        said = (status, getattr(error, "status_code", None), getattr(error, "code", None))
        if isinstance(error, FileExistsError) or any(str(code) in ("409", "412") for code in said):
            return True
        error = error.__cause__
    return False


def _through_library(fs: Any, path: str) -> Callable[[bytes], Any]:
    condition: dict[str, Any]
    kinds = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    fs.invalidate_cache()
    try:
        now = fs.info(path)
    except FileNotFoundError:
        now = None
    if "s3" in kinds:
        bucket, key, _ = fs.split_path(path)
        condition = {"IfNoneMatch": "*"} if now is None else {"IfMatch": now["ETag"]}
        return lambda content: fs.call_s3("put_object", Bucket=bucket, Key=key, Body=content, **condition)
    if "gs" in kinds:
        bucket, key, _ = fs.split_path(path)
        url = f"{fs._location}/upload/storage/v1/b/{quote(bucket, safe='')}/o"  # as the library spells it
        condition = {"uploadType": "media", "name": key, "ifGenerationMatch": now["generation"] if now else "0"}
        return lambda content: fs.call("POST", url, data=content, **condition)
    if "abfs" in kinds:
        if now is None:
            return lambda content: fs.pipe_file(path, content, mode="create")
        from azure.core import MatchConditions

        condition = {"etag": now["etag"], "match_condition": MatchConditions.IfNotModified}
        return lambda content: fs.pipe_file(path, content, **condition)
    return lambda content: fs.pipe_file(path, content)


def _through_boto(path: str, address: str) -> Callable[[bytes], Any]:
    """By the same environment as Arrow, and by what the address says of region, server and key."""
    import boto3  # type: ignore[import-untyped]

    parts = urlsplit(address)
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    server = asked.get("endpoint_override")
    if server and "://" not in server:
        server = f"{asked.get('scheme', 'https')}://{server}"
    client = boto3.client(
        "s3",
        region_name=asked.get("region"),
        endpoint_url=server,
        aws_access_key_id=parts.username and unquote(parts.username),
        aws_secret_access_key=parts.password and unquote(parts.password),
    )
    bucket, _, key = path.partition("/")
    condition: dict[str, Any]
    try:
        condition = {"IfMatch": client.head_object(Bucket=bucket, Key=key)["ETag"]}
    except client.exceptions.ClientError as e:
        if e.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        condition = {"IfNoneMatch": "*"}
    return lambda content: client.put_object(Bucket=bucket, Key=key, Body=content, **condition)
