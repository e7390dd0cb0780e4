"""Is what an address serves today what it served when it was recorded? (split-view poisoning)

Data sets that list addresses with digests can be poisoned by whoever buys an expired domain of the list: Carlini et al.
2023, Poisoning Web-Scale Training Datasets is Practical, arXiv 2302.10149. So the addresses are fetched again, and each
answer's SHA-256 is compared with the recorded one.

The addresses come from the data, so whoever wrote a row chooses where this machine connects to. Addresses that are not
public (loopback, private networks, cloud metadata) are refused, judged by the peer of the open connection.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import socket
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from foretaste.errors import InputError, did_you_mean
from foretaste.reading.formats import list_files, naming

_CHUNK = 1 << 16
_GONE = (404, 410)


class State(StrEnum):
    """What became of an address."""

    SAME = "same"
    CHANGED = "changed"
    GONE = "gone"
    UNREACHABLE = "unreachable"
    UNRECORDED = "unrecorded"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to fetch.

    Attributes:
        workers: connections at a time.
        timeout: seconds to wait for an answer, and for each part of it.
        max_bytes: longest answer; a longer one counts as unreachable.
        private: connect to addresses that are not public, and read ``file://`` addresses.
    """

    workers: int = 8
    timeout: float = 20.0
    max_bytes: int = 64 << 20
    private: bool = False


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """One row's address, fetched again. Digests are 64 hex digits, or ``None``; ``note`` says what went wrong."""

    row: int
    url: str
    state: State
    recorded: str | None
    now: str | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What all rows came to: counts by state, and every row that is not the same."""

    counts: Mapping[State, int]
    differing: tuple[Fetched, ...]

    @property
    def changed(self) -> bool:
        """Whether any address serves something else, or nothing any more."""
        return bool(self.counts.get(State.CHANGED) or self.counts.get(State.GONE))

    @property
    def complete(self) -> bool:
        """Whether every row could be compared."""
        return not (self.counts.get(State.UNREACHABLE) or self.counts.get(State.UNRECORDED))


def compare(data: str | Path, url: str, digest: str, options: Options | None = None) -> Comparison:
    """Fetch the address of every row and compare its digest.

    Args:
        data: path, glob, directory or address of the data.
        url: column with the addresses: ``http``, ``https``, or ``file`` where ``private`` is allowed.
        digest: column with the recorded SHA-256, hex digits, ``sha256:`` before them or not; a row without one cannot
            be compared.
        options: how to fetch.

    Raises:
        InputError: if the data cannot be read or a column is missing.
    """
    options = options or Options()
    counts: Counter[State] = Counter()
    differing = []
    for fetched in fetch_all(_rows(data, url, digest), options):
        counts[fetched.state] += 1
        if fetched.state is not State.SAME:
            differing.append(fetched)
    return Comparison(counts=dict(counts), differing=tuple(differing))


def fetch_all(rows: Iterable[tuple[int, str, str | None]], options: Options) -> Iterator[Fetched]:
    """Fetch (row, address, recorded digest), some at a time, in their order."""
    opener = _opener(options)
    waiting = iter(rows)
    with ThreadPoolExecutor(max_workers=options.workers) as pool:
        # A bounded window: the addresses of a large data set would otherwise all stand in the queue.
        while window := list(islice(waiting, options.workers * 8)):
            yield from pool.map(lambda item: _fetch(opener, options, *item), window)


def _fetch(
    opener: urllib.request.OpenerDirector, options: Options, row: int, url: str, recorded: str | None
) -> Fetched:
    def came_to(state: State, now: str | None = None, note: str = "") -> Fetched:
        return Fetched(row=row, url=url, state=state, recorded=recorded, now=now, note=note)

    try:
        scheme = urlsplit(url).scheme.lower()
        if scheme == "file" and options.private:
            with Path(unquote(urlsplit(url).path)).open("rb") as stream:
                now = _digest(stream, options.max_bytes)
        elif scheme in ("http", "https"):
            with opener.open(url, timeout=options.timeout) as answer:
                now = _digest(answer, options.max_bytes)
        else:
            return came_to(State.UNREACHABLE, note=f'the scheme "{scheme}" is not fetched')
    except urllib.error.HTTPError as e:
        e.close()
        return came_to(State.GONE if e.code in _GONE else State.UNREACHABLE, note=f"HTTP {e.code}")
    except FileNotFoundError:
        return came_to(State.GONE, note="no such file")
    except (OSError, ValueError, http.client.HTTPException) as e:
        reason = getattr(e, "reason", None) or e
        return came_to(State.UNREACHABLE, note=f"{type(e).__name__}: {reason}")
    if recorded is None:
        return came_to(State.UNRECORDED, now, "no digest was recorded")
    return came_to(State.SAME if now == recorded else State.CHANGED, now)


def _digest(stream: Any, limit: int) -> str:
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK):
        size += len(chunk)
        if size > limit:
            raise ValueError(f"more than {limit:,} bytes")
        digest.update(chunk)
    missing = getattr(stream, "length", None)
    if missing:
        raise http.client.IncompleteRead(b"", missing)
    return digest.hexdigest()


def _rows(data: str | Path, url: str, digest: str) -> Iterator[tuple[int, str, str | None]]:
    files = list_files(data)
    row = 0
    with naming(files.name):
        for batch in files.original():
            for name in (url, digest):
                if name not in batch.schema.names:
                    raise InputError(f'no column "{name}" in {files.name}; {did_you_mean(name, batch.schema.names)}')
            columns = (_text(batch, name).to_pylist() for name in (url, digest))
            for address, recorded in zip(*columns):  # a Python step per row: each is a request
                yield row, address, recorded.lower().removeprefix("sha256:") or None
                row += 1


def _text(batch: pa.RecordBatch, name: str) -> pa.Array:
    return pc.fill_null(batch.column(batch.schema.get_field_index(name)).cast(pa.large_string()), "")


def _opener(options: Options) -> urllib.request.OpenerDirector:
    if options.private:
        return urllib.request.build_opener()

    class Public(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            _refuse_private(self.sock)

    class PublicTls(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            _refuse_private(self.sock)

    class Http(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Public, req)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(PublicTls, req)

    # Redirects go through the same handlers. A proxy would connect for us, out of sight, so none is used.
    return urllib.request.build_opener(Http, Https, urllib.request.ProxyHandler({}))


def _refuse_private(connected: socket.socket) -> None:
    peer = str(connected.getpeername()[0]).partition("%")[0]
    address = ipaddress.ip_address(peer)
    mapped = getattr(address, "ipv4_mapped", None)
    if not (mapped or address).is_global:
        connected.close()
        raise OSError(f"{peer} is not a public address")
