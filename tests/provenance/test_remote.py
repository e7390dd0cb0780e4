"""Data behind an address: what is handed over is what was verified, whatever the store serves later."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import foretaste
from foretaste.cli import main
from foretaste.errors import InputError, VerificationError
from foretaste.provenance.verify import fetch, verify

from .conftest import Case

ADDRESS = "memory://bucket/train"


@pytest.fixture
def store(case: Case) -> Iterator[Any]:
    """The case's data in fsspec's store in memory, which Arrow does not know."""
    store = fsspec.filesystem("memory")
    for path in case.data.iterdir():
        store.pipe_file(f"/bucket/train/{path.name}", path.read_bytes())
    yield store
    store.rm("/bucket", recursive=True)


def arguments(case: Case) -> list[str]:
    case.certificate.write(case.folder / "c.jsonl")
    (case.folder / "trust.yaml").write_text(case.keys.trust.to_yaml())
    return ["--certificate", str(case.folder / "c.jsonl"), "--trust", str(case.folder / "trust.yaml")]


def test_an_address_that_only_fsspec_knows_is_verified(case: Case, store: Any) -> None:
    assert verify(ADDRESS, case.certificate, case.keys.trust).rows == 6
    with foretaste.verified(ADDRESS, case.certificate, case.keys.trust) as data:
        assert pq.read_table(data).num_rows == 6
    store.pipe_file("/bucket/train/part-2.parquet", (case.data / "part-1.parquet").read_bytes())
    with pytest.raises(VerificationError, match="3 files there, 2 certified"):
        verify(ADDRESS, case.certificate, case.keys.trust)


def test_the_command_leaves_the_bytes_that_it_verified(case: Case, store: Any) -> None:
    copy = case.folder / "verified" / "copy"
    told = CliRunner().invoke(main, ["verify", ADDRESS, *arguments(case), "--copy", str(copy)])
    assert told.exit_code == 0, told.output
    store.pipe_file("/bucket/train/part-0.parquet", b"evil")
    assert (copy / "part-0.parquet").read_bytes() == (case.data / "part-0.parquet").read_bytes()
    assert [stat.S_IMODE(p.stat().st_mode) for p in (copy, copy / "part-0.parquet")] == [0o500, 0o400]
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]


def test_a_refused_copy_leaves_nothing(case: Case, store: Any) -> None:
    store.pipe_file("/bucket/train/part-0.parquet", b"evil")
    copy = case.folder / "verified" / "copy"
    told = CliRunner().invoke(main, ["verify", ADDRESS, *arguments(case), "--copy", str(copy)])
    assert told.exit_code == 1
    assert "not what was certified" in told.output
    assert list(copy.parent.iterdir()) == []


def test_a_store_that_serves_other_bytes_at_every_read_is_refused_or_read_once(
    case: Case, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is digested is what is handed over: there is no second read that could see something else."""
    opened: list[str] = []
    plain = type(store)._open

    def count(self: Any, path: str, *rest: Any, **more: Any) -> Any:
        opened.append(path)
        return plain(self, path, *rest, **more)

    monkeypatch.setattr(type(store), "_open", count)
    with foretaste.verified(ADDRESS, case.certificate, case.keys.trust) as data:
        assert pq.read_table(data).num_rows == 6
    assert sorted(opened) == ["/bucket/train/part-0.parquet", "/bucket/train/part-1.parquet"]


def test_a_copy_replaces_nothing(case: Case, store: Any) -> None:
    with pytest.raises(InputError, match="exists"):
        fetch(ADDRESS, case.folder, case.certificate, case.keys.trust)


def test_a_single_file_is_handed_over_as_a_file(case: Case, tmp_path: Path) -> None:
    from foretaste.provenance.certificate import certify
    from foretaste.provenance.signers import open_signer

    from .conftest import passing

    one = case.data / "part-0.parquet"
    made = certify(one, [open_signer(str(case.keys.pem("alice")))], report=passing(one))
    data = fetch(one, tmp_path / "new", made, case.keys.trust)
    assert data.path == tmp_path / "new" / "part-0.parquet"
    assert pq.read_table(data).num_rows == 4


@pytest.mark.parametrize(
    ("address", "reason"),
    [("hf://datasets/owner/name/train.parquet", "names no commit"), ("nowhere://x", "neither knows")],
)
def test_an_address_that_nothing_opens_is_refused_with_the_reason(case: Case, address: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        verify(address, case.certificate, case.keys.trust)
