"""What an address serves today, against what it served when it was recorded; on a server of this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from foretaste.cli import main
from foretaste.errors import InputError
from foretaste.provenance import refetch
from foretaste.provenance.refetch import Options, State

from .collector import Server, serving

PRIVATE = Options(private=True, timeout=5, max_bytes=1000)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.pages = {
            "/same": (200, b"as it was"), "/changed": (200, b"bought by somebody else"), "/gone": (404, b""),
            "/broken": (500, b""), "/moved": "/same", "/long": (200, b"x" * 1001), "/cut": (299, b"as it was"),
        }  # fmt: skip
        yield running


def data(folder: Path, server: Server, *paths: str, recorded: str | None = None) -> Path:
    before = hashlib.sha256(b"as it was").hexdigest() if recorded is None else recorded
    path = folder / "urls.parquet"
    pq.write_table(
        pa.table({"url": [p if "://" in p else server.url + p for p in paths], "sha": [before] * len(paths)}), path
    )
    return path


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("/same", State.SAME), ("/moved", State.SAME), ("/changed", State.CHANGED), ("/gone", State.GONE),
        ("/broken", State.UNREACHABLE), ("/long", State.UNREACHABLE), ("/cut", State.UNREACHABLE),
        ("ftp://example.org/x", State.UNREACHABLE), ("http://127.0.0.1:1/x", State.UNREACHABLE),
    ],
)  # fmt: skip
def test_an_address_is_the_same_only_if_it_serves_the_same_bytes(
    server: Server, tmp_path: Path, path: str, state: State
) -> None:
    found = refetch.compare(data(tmp_path, server, path), "url", "sha", PRIVATE)
    assert dict(found.counts) == {state: 1}
    assert found.changed == (state in (State.CHANGED, State.GONE))
    assert found.complete == (state is not State.UNREACHABLE)


@pytest.mark.parametrize("path", ["/same", "http://localhost:1/", "http://[::1]:1/", "file:///etc/hostname"])
def test_the_data_do_not_choose_where_inside_this_machine_connects_to(
    server: Server, tmp_path: Path, path: str
) -> None:
    found = refetch.compare(data(tmp_path, server, path), "url", "sha", Options(timeout=5))
    assert dict(found.counts) == {State.UNREACHABLE: 1}
    if path == "/same":
        assert "not a public address" in found.differing[0].note
        assert server.received == []


def test_files_are_compared_where_that_is_allowed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_bytes(b"as it was")
    urls = (f"file://{tmp_path}/a%20b.txt", f"file://{tmp_path}/none.txt")
    found = refetch.compare(data(tmp_path, server, *urls), "url", "sha", PRIVATE)
    assert dict(found.counts) == {State.SAME: 1, State.GONE: 1}


def test_a_row_without_a_digest_is_not_called_the_same(server: Server, tmp_path: Path) -> None:
    found = refetch.compare(data(tmp_path, server, "/same", recorded=""), "url", "sha", PRIVATE)
    assert dict(found.counts) == {State.UNRECORDED: 1}
    assert found.differing[0].now == hashlib.sha256(b"as it was").hexdigest()
    assert not found.complete
    upper = "SHA256:" + hashlib.sha256(b"as it was").hexdigest().upper()
    assert refetch.compare(data(tmp_path, server, "/same", recorded=upper), "url", "sha", PRIVATE).complete


def test_a_missing_column_says_what_there_is(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match='no column "link"'):
        refetch.compare(data(tmp_path, server, "/same"), "link", "sha", PRIVATE)


@pytest.mark.parametrize(("paths", "code"), [(["/same"] * 20, 0), (["/same", "/changed"], 1), (["/broken"], 2)])
def test_the_exit_code_follows_what_was_found(server: Server, tmp_path: Path, paths: list[str], code: int) -> None:
    out = tmp_path / "out.jsonl"
    arguments = [
        str(data(tmp_path, server, *paths)),
        "--url",
        "url",
        "--digest",
        "sha",
        "--allow-private",
        "--out",
        str(out),
    ]
    result = CliRunner().invoke(main, ["refetch", *arguments])
    assert result.exit_code == code, result.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["row"] for r in rows] == [at for at, p in enumerate(paths) if p != "/same"]
