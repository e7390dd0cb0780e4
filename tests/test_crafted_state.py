"""A state that somebody wrote with its digests right: what it holds has to be what a state holds, or it is refused.

Kernels take sketches for as large as they always are and read tables as they lie, so what is let through here reads or
writes beyond the end of an array there.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foretaste import Policy, StateError, scan
from foretaste.history import History, HistoryOptions
from foretaste.history.file import digest_of

LINES = [f"line {i} of the play, as {i * 7 % 31} of us heard it" for i in range(40)]
Members = dict[str, bytes]


def made(folder: Path, held: int) -> Path:
    """A state of two batches that holds so many of the forty rows; the others are counted."""
    file = folder / "history.state"
    policy = Policy(history=HistoryOptions(rows=held)).only("hidden-text")
    for at in (0, 20):
        data = folder / f"{at}.parquet"
        pq.write_table(pa.table({"text": LINES[at : at + 20]}), data)
        scan(data, policy, state=str(file))
    return file


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds some rows and the counts of the others."""
    return made(tmp_path_factory.mktemp("small"), 8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds all rows."""
    return made(tmp_path_factory.mktemp("whole"), 1000)


def members_of(file: Path) -> Members:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def crafted(members: Members, path: Path, **header: Any) -> Path:
    """The members in a file whose digests are right."""
    said = json.loads(members["header.json"]) | header
    said["members"] = {n: hashlib.sha256(raw).hexdigest() for n, raw in members.items() if n != "header.json"}
    said["digest"] = digest_of(said)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, raw in (members | {"header.json": json.dumps(said).encode()}).items():
            archive.writestr(name, raw)
    return path


def npy(array: npt.NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def claiming(shape: str) -> bytes:
    """The head of an array of this shape, and a few bytes of it."""
    return npy(np.zeros(1 << 6, np.uint8)).replace(b"(64,), }" + b" " * 14, f"{shape}, }}".encode().ljust(22))


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("input/cells", npy(np.zeros(16, np.uint8)), "not that of its sketch"),
        ("input/cells", npy(np.zeros((1 << 24, 2), np.uint8)), "not that of its sketch"),
        ("input/bigrams_b", npy(np.zeros(0, np.uint8)), "not that of its sketch"),
        ("input/unigrams", npy(np.zeros(1 << 22, np.int32)), "not that of its sketch"),
        ("input/presence", npy(np.zeros(1 << 21, np.uint64)), "not that of its sketch"),
        ("input/unigrams", npy(np.zeros(1 << 22, np.float32)), "not that of its sketch"),
        ("input/cells", npy(np.zeros((2, 8), np.uint8).T), "not that of its sketch"),
        ("input/cells", claiming("(33554432,)"), "cut, or longer"),
        ("input/cells", claiming("(9999999999,)"), "not that of its sketch"),
        ("input/sample_words", npy(np.zeros(1 << 17, np.uint64)), "not that of its sketch"),
        ("input/sample_words", npy(np.zeros(0, np.uint64)), "more words than places"),
        ("input/cells", b"\x93NUMPY\x01\x00", "no array as numpy writes it"),
        ("response/cells", npy(np.zeros(1 << 25, np.uint8)), "no place in it"),
        ("input/../../evil", b"", "no place in it"),
        ("words", npy(np.zeros((4, 2), np.uint32)), "no place in it"),
        ("input/cells", None, "is missing"),
        ("input/cells", bytes(1 << 27), "larger than any array"),
    ],
)
def test_an_array_of_another_shape_or_type_is_refused(
    small: Path, tmp_path: Path, name: str, raw: bytes | None, said: str
) -> None:
    members = members_of(small)
    if raw is None:
        del members[f"background/{name}.npy"]
    else:
        members[f"background/{name}.npy"] = raw
    with pytest.raises(StateError, match=f"is damaged: .*{said}"):
        History.open(crafted(members, tmp_path / "s.state"))


def cell(table: pa.Table, name: str, value: Any) -> pa.Table:
    """The table with another first value in a column."""
    column = table[name].combine_chunks()
    values = pa.concat_arrays([pa.array([value], column.type), column.slice(1)])
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)


def not_text(table: pa.Table) -> pa.Table:
    raw = pa.array([b"\xff\xfe"] * len(table), pa.large_binary())
    text = pa.Array.from_buffers(pa.large_string(), len(raw), raw.buffers())
    return table.set_column(table.schema.get_field_index("text"), "text", text)


@pytest.mark.parametrize(
    ("member", "change", "said"),
    [
        ("rows", lambda t: cell(t, "text", None), "lacks a value"),
        ("rows", lambda t: cell(t, "_batch", 3), "of no batch"),
        ("rows", lambda t: cell(t, "_batch", 0), "of no batch"),
        ("rows", lambda t: t.slice(1), "not the 40 of its batches"),
        ("rows", lambda t: pa.concat_tables([t, t]), "not the 40 of its batches"),
        ("rows", lambda t: pa.table({}), "not the 40 of its batches"),
        ("rows", not_text, "Invalid UTF8"),
        ("rows", lambda t: t.drop(["_id"]), "other columns"),
        (
            "seen",
            lambda t: t.drop(["signature"]).append_column("signature", pa.array([b"x"] * len(t))),
            "other columns",
        ),
        ("seen", lambda t: cell(t, "signature", None), "lacks a value"),
        ("seen", lambda t: cell(t, "batch", -1), "of no batch"),
        ("seen", lambda t: t.set_column(2, "text", pa.array([1.5] * len(t))), "other columns"),
    ],
)
def test_a_table_that_is_none_of_a_state_is_refused(
    whole: Path, tmp_path: Path, member: str, change: Callable[[pa.Table], pa.Table], said: str
) -> None:
    members = members_of(whole)
    name = f"{member}.parquet"
    members[name] = parquet(change(pq.read_table(pa.BufferReader(members[name]))))
    with pytest.raises(StateError, match=f"is damaged: .*{said}"):
        History.open(crafted(members, tmp_path / "s.state"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "other"}, "no kind of data"),
        ({"sources": {"web": -1}}, "fewer rows than none"),
        ({"sources": {"web": 41}}, "not the 40 of its batches"),
        ({"background": {"rows": -1, "labels": {}}}, "fewer rows than none|missing"),
        ({"background": {"rows": 1, "labels": {}}}, "missing"),
        ({"background": {"rows": 0, "labels": {"a": 1}}}, "labels do not add up"),
        ({"batches": []}, "not the 0 of its batches"),
    ],
)
def test_counts_that_do_not_add_up_are_refused(whole: Path, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(StateError, match=f"is damaged: .*({said})"):
        History.open(crafted(members_of(whole), tmp_path / "s.state", **change))


def test_bytes_that_flip_in_a_state_are_noticed_or_leave_a_state(whole: Path, tmp_path: Path) -> None:
    """In the file as it lies, and in a table whose digest is put right again."""
    rng, raw, members = random.Random(0), whole.read_bytes(), members_of(whole)
    refused = 0
    for turn in range(120):
        if turn % 2:
            broken = bytearray(raw)
        else:
            name = rng.choice(["rows.parquet", "seen.parquet"])
            broken = bytearray(members[name])
        for _ in range(rng.choice([1, 1, 8])):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        if rng.random() < 0.2:
            del broken[rng.randrange(len(broken)) :]
        file = tmp_path / "s.state"
        if turn % 2:
            file.write_bytes(broken)
        else:
            crafted(members | {name: bytes(broken)}, file)
        try:
            assert History.open(file).summary()["rows"] == 40
        except StateError:
            refused += 1
    assert refused > 60
