"""Files that two readers read differently: what is scanned is what training reads, or it is refused."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.feather
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as parquet_encryption
import pytest

from foretaste import InputError, Policy, scan
from foretaste.reading import InputOptions, open_data
from foretaste.reading.formats import list_files
from foretaste.spark import _Piece, _pieces

GOOD, EVIL = b'{"text": "good"}\n', b'{"text": "evil"}\n'


def scanned(path: Path) -> list[str]:
    batches = open_data(path, options=InputOptions(nulls="empty")).batches()
    return [text for batch in batches for text in batch.strings("text").to_pylist()]


def trained(path: Path) -> list[str]:
    """The column as pandas has it, which ``datasets`` reads CSV with; JSON lines as Python reads them, one a line."""
    if path.suffix == ".csv":
        return [str(text) for text in pd.read_csv(path, dtype=str, keep_default_na=False)["text"]]
    if path.suffix == ".parquet":
        return list(pd.read_parquet(path)["text"])
    unpack: Any = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open)
    with unpack(path, "rb") as stream:
        return [json.loads(line)["text"] for line in stream if line.strip()]


def same_or_refused(path: Path) -> str:
    """What came of it; where both read the file, they have read the same."""
    try:
        ours = scanned(path)
    except InputError:
        return "refused"
    try:
        theirs = trained(path)
    except Exception:  # noqa: BLE001 - what nobody trains on harms nobody
        return "not trained on"
    assert ours == theirs
    return "same"


FILES = {
    "members.jsonl.gz": (gzip.compress(GOOD) + gzip.compress(EVIL), "same"),
    "empty-member.jsonl.gz": (gzip.compress(GOOD) + gzip.compress(b"") + gzip.compress(EVIL), "same"),
    "garbage.jsonl.gz": (gzip.compress(GOOD) + b"garbage", "refused"),
    "zeros.jsonl.gz": (gzip.compress(GOOD) + b"\0" * 20 + gzip.compress(EVIL), "refused"),
    "streams.jsonl.bz2": (bz2.compress(GOOD) + bz2.compress(EVIL), "same"),
    "garbage.jsonl.bz2": (bz2.compress(GOOD) + b"garbage", "refused"),
    "twice.jsonl": (b'{"text": "good", "text": "evil"}\n', "refused"),
    "twice-null.jsonl": (b'{"text": null, "text": "evil"}\n', "refused"),
    "twice-escaped.jsonl": (b'{"text": "good", "te\\u0078t": "evil"}\n', "refused"),
    "twice-late.jsonl": (GOOD * 300_000 + b'{"text": "good", "text": "evil"}\n', "refused"),
    "case.jsonl": (b'{"text": "good", "Text": "evil"}\n', "same"),
    "nul-between.jsonl": (GOOD + b"\0" + EVIL, "refused"),
    "nul-line.jsonl": (GOOD + b"\0\n" + EVIL, "refused"),
    "nul-end.jsonl": (GOOD + EVIL + b"\0", "refused"),
    "nul-escaped.jsonl": (b'{"text": "good\\u0000evil"}\n', "same"),
    "bom-inside.jsonl": (GOOD + b"\xef\xbb\xbf" + EVIL, "refused"),
    "two-on-a-line.jsonl": (b'{"text": "good"}{"text": "evil"}\n', "not trained on"),
    "comment.jsonl": (b'{"text": "good"} // {"text": "evil"}\n', "refused"),
    "nul.csv": (b"id,text\n1,good\0evil\n", "same"),
    "nul-line.csv": (b"id,text\n1,good\n\0\n2,evil\n", "refused"),
    "returns.csv": (b"id,text\n1,good\r2,evil\r", "same"),
    "quotes.csv": (b'id,text\n1,a"b"c\n2,"x"y\n3,"say ""hi"""\n', "same"),
    "quote-after-blank.csv": (b'id,text\n1, "a,b"\n', "refused"),
    "more-cells.csv": (b"text,label\n0,evil,x\n", "refused"),
    "fewer-cells.csv": (b"id,text\n1\n", "refused"),
    "twice.csv": (b"text,text\ngood,evil\n", "refused"),
    "end-mark.csv": (b"id,text\n1,good\n\x1a\n2,evil\n", "refused"),
    "before-the-header.csv": (b"note\nid,text\n1,good\n", "refused"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_rows_that_are_scanned_are_those_that_are_trained_on(name: str, tmp_path: Path) -> None:
    raw, expected = FILES[name]
    (tmp_path / name).write_bytes(raw)
    assert same_or_refused(tmp_path / name) == expected


def test_a_field_that_is_named_twice_where_arrow_does_not_look_is_refused(tmp_path: Path) -> None:
    row = {"prompt": "p", "response": "r", "context": {"a": "x" * 4000}}
    late = '{"prompt": "p", "response": "r", "context": {"a": "good"}, "context": {"a": "evil"}}\n'
    (tmp_path / "a.jsonl").write_text((json.dumps(row) + "\n") * 1500 + late)
    with pytest.raises(InputError, match=r"a\.jsonl.* names a field twice"):
        list(open_data(tmp_path / "a.jsonl").batches())


def test_a_row_that_is_nested_without_end_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    """Arrow would overrun its stack; so this runs in a process of its own."""
    values = "[" * 200_000 + "]" * 200_000, '{"a":' * 200_000 + "1" + "}" * 200_000
    for at, value in enumerate(values):
        row = '{"text": "[[[[ {{{{ \\" [", "x": 1}\n{"text": "a", "x": ' + value + "}\n"
        (tmp_path / f"{at}.jsonl").write_text(row)
    code = f"""
from foretaste import InputError
from foretaste.reading import open_data
for at in range(2):
    try:
        open_data(f"{tmp_path}/{{at}}.jsonl")
    except InputError as e:
        print(e)
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(told) == 2
    assert all("nested more than 100 levels" in line and f"{at}.jsonl" in line for at, line in enumerate(told))


def parquet(table: pa.Table) -> bytes:
    sink = BytesIO()
    pq.write_table(table, sink, compression="none", use_dictionary=False)
    return sink.getvalue()


def footed(raw: bytes, footer: bytes) -> bytes:
    """A Parquet file with another footer."""
    size = struct.unpack("<I", raw[-8:-4])[0]
    return raw[: -8 - size] + footer + struct.pack("<I", len(footer)) + b"PAR1"


def footer_of(raw: bytes) -> bytes:
    return raw[-8 - struct.unpack("<I", raw[-8:-4])[0] : -8]


@pytest.mark.parametrize("raw", [b"garbage", b"\0" * 64])
def test_bytes_behind_or_before_the_rows_of_parquet_are_refused(raw: bytes, tmp_path: Path) -> None:
    good = parquet(pa.table({"text": ["good"] * 5}))
    for name, content in (("behind.parquet", good + raw), ("before.parquet", raw + good)):
        (tmp_path / name).write_bytes(content)
        assert same_or_refused(tmp_path / name) == "refused"


def test_two_parquet_files_in_one_are_read_alike(tmp_path: Path) -> None:
    """The footer at the end counts from the start of the file, so that it may lead to the rows of the other one."""
    good, evil = (parquet(pa.table({"text": [text] * 5})) for text in ("good", "evil"))
    path = tmp_path / "a.parquet"
    for raw in (good + evil, evil + good):
        path.write_bytes(raw)
        assert scanned(path) == trained(path) == pl.read_parquet(path)["text"].to_list()


def test_columns_that_pandas_is_told_to_call_otherwise_are_refused(tmp_path: Path) -> None:
    columns = [{"name": name, "field_name": field, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
               for name, field in (("other", "text"), ("text", "evil"))]  # fmt: skip
    notes = {"index_columns": [], "column_indexes": [], "columns": columns, "pandas_version": "2.2.0"}
    table = pa.table({"text": ["good"] * 3, "evil": ["EVIL"] * 3}).replace_schema_metadata(
        {b"pandas": json.dumps(notes).encode()}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    pa.feather.write_feather(table, tmp_path / "a.feather")
    assert trained(tmp_path / "a.parquet") == list(pd.read_feather(tmp_path / "a.feather")["text"]) == ["EVIL"] * 3
    places: list[Any] = [tmp_path / "a.parquet", tmp_path / "a.feather", table, ds.dataset(tmp_path / "a.parquet")]
    for data in places:
        with pytest.raises(InputError, match='"text", which pandas is told to call "other"'):
            scan(data, Policy().only("hidden-text"))
    for odd in (b"[", b'{"columns": 5}', b"\xff"):
        with pytest.raises(InputError, match="notes for pandas that cannot be read"):
            open_data(table.replace_schema_metadata({b"pandas": odd}))


def test_what_pandas_writes_is_read(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}, index=pd.Index(["p", "q"], name="key"))
    for at, one in enumerate((frame, frame.reset_index(), frame.set_index("label"), frame.rename_axis("text"))):
        one.to_parquet(tmp_path / f"{at}.parquet")
        assert scanned(tmp_path / f"{at}.parquet") == ["a", "b"]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_footer_whose_rows_do_not_add_up_is_refused(at: int, tmp_path: Path) -> None:
    """Some readers go by the file's count, some by the group's, some by the column's."""
    raw = parquet(pa.table({"text": [f"row{i:03}" for i in range(100)]}))
    hundred, seventy = b"\x16\xc8\x01", b"\x16\x8c\x01"  # 64-bit whole numbers in Thrift's compact protocol
    parts = footer_of(raw).split(hundred)
    assert len(parts) == 4
    counts = [seventy if i == at else hundred for i in range(3)]
    changed = parts[0] + b"".join(count + part for count, part in zip(counts, parts[1:]))
    path = tmp_path / "a.parquet"
    path.write_bytes(footed(raw, changed))
    said = r"the footer of .*a\.parquet counts .* readers take differently"
    with pytest.raises(InputError, match=said):
        scanned(path)
    # A worker of Spark reads some row groups alone.
    files = list_files(str(path))
    with pytest.raises(InputError, match=said):
        _pieces(files, 1)
    with pytest.raises(InputError, match=said):
        list(_Piece(files, (0,)).batches(["text"]))


class _Kms(parquet_encryption.KmsClient):
    """Wraps a key in nothing."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return key_bytes

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return wrapped_key


@pytest.mark.parametrize("plain_footer", [True, False])
def test_encrypted_columns_are_refused_before_arrow_ends_the_process(plain_footer: bool, tmp_path: Path) -> None:
    """With a footer in plain text, Arrow aborts where somebody asks for the sizes of a column that it cannot decrypt."""
    factory = parquet_encryption.CryptoFactory(lambda config: _Kms())
    how = parquet_encryption.EncryptionConfiguration(
        footer_key="k", column_keys={"c": ["other"]}, plaintext_footer=plain_footer
    )
    properties = factory.file_encryption_properties(parquet_encryption.KmsConnectionConfig(), how)
    table = pa.table({"text": ["good"] * 5, "other": ["evil"] * 5})
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    with pytest.raises(InputError, match=r"encrypt"):
        scanned(tmp_path / "a.parquet")


def test_bytes_behind_what_a_footer_says_are_refused(tmp_path: Path) -> None:
    raw = parquet(pa.table({"text": ["good"] * 5}))
    (tmp_path / "a.parquet").write_bytes(footed(raw, footer_of(raw) + bytes(28)))
    with pytest.raises(InputError, match="has more behind it"):
        scanned(tmp_path / "a.parquet")


def test_a_parquet_file_whose_columns_lie_in_another_is_refused(tmp_path: Path) -> None:
    raw = parquet(pa.table({"text": ["good"] * 5}))
    (tmp_path / "evil.parquet").write_bytes(parquet(pa.table({"text": ["evil"] * 5})))
    index = pq.read_metadata(tmp_path / "evil.parquet")
    index.set_file_path("evil.parquet")
    sink = BytesIO()
    index.write_metadata_file(sink)
    (tmp_path / "a.parquet").write_bytes(footed(raw, footer_of(sink.getvalue())))
    with pytest.raises(InputError, match=r"lies in another file, evil\.parquet"):
        scanned(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda folder: (folder / "loop").symlink_to("."), "leads back to a folder"),
        (lambda folder: (folder / "sub" / "up").symlink_to(".."), "leads back to a folder"),
        (lambda folder: (folder / "later").symlink_to("/nowhere/yet"), "leads nowhere"),
        (lambda folder: os.mkfifo(folder / "b.csv"), "is no file"),
    ],
)
def test_a_folder_that_holds_itself_or_what_is_not_there_yet_is_refused(
    plant: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "a.csv").write_text("text\ngood\n")
    assert scanned(tmp_path / "data") == ["good"]
    plant(tmp_path / "data")
    with pytest.raises(InputError, match=said):
        scanned(tmp_path / "data")


def test_a_file_that_grows_faster_than_it_is_read_does_not_keep_the_gate_busy(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text\n" + b"row\n" * 1000)
    files = list_files(path)
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as stream:
            while not stop.is_set() and stream.tell() < 1 << 28:
                stream.write(b"row\n" * 500_000)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        with pytest.raises(InputError, match="grew while it was read"):
            files.digest()
    finally:
        stop.set()
        writer.join()


def test_a_file_that_shrinks_after_it_was_listed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text\n" + b"row\n" * 1000)
    dataset = open_data(path)
    os.truncate(path, 5 + 4 * 500)
    with pytest.raises(InputError, match="changed while it was scanned"):
        _ = dataset.digest
