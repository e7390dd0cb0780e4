"""The compiled SHA-256 is SHA-256."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.provenance import leaves, sha256


def digests(messages: list[bytes]) -> list[bytes]:
    batch = pa.record_batch({"": pa.array(messages, pa.binary())})
    made = b"".join(leaves.leaf_hashes([batch]))
    return [made[at : at + 32] for at in range(0, len(made), 32)]


def expected(messages: list[bytes]) -> list[bytes]:
    return [hashlib.sha256(b"\0((0:%d:%s))" % (len(m), m)).digest() for m in messages]


def test_every_length_around_the_blocks_gives_the_digest_of_hashlib() -> None:
    messages = [bytes(i % 251 for i in range(n)) for n in range(200)]
    assert digests(messages) == expected(messages)


def test_the_constants_are_those_of_the_standard() -> None:
    assert [hex(v) for v in sha256.START[:, 0][:2]] == ["0x6a09e667", "0xbb67ae85"]
    assert [hex(v) for v in (sha256._ROUNDS[0], sha256._ROUNDS[63])] == ["0x428a2f98", "0xc67178f2"]


def test_one_long_message_among_short_ones_gives_the_digests_of_hashlib() -> None:
    messages = [b"a" * n for n in (5, 70_000, 3, 200, 5_000_000, 7)]
    assert digests(messages) == expected(messages)


def test_no_message_has_no_digest() -> None:
    assert digests([]) == []


@given(st.lists(st.binary(max_size=300), max_size=40))
@settings(max_examples=60, deadline=None)
def test_messages_of_any_lengths_side_by_side_give_the_digests_of_hashlib(messages: list[bytes]) -> None:
    assert digests(messages) == expected(messages)


def test_code_that_disagrees_with_hashlib_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sha256, "START", sha256.START + 1)
    with pytest.raises(RuntimeError, match="disagree"):
        digests([b"row"])
    monkeypatch.setattr(sha256, "_hash_pairs", lambda pairs, out: None)
    with pytest.raises(RuntimeError, match="disagree"):
        sha256.hash_nodes(np.zeros((1, 64), np.uint8), np.zeros((1, 32), np.uint8))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 40])
def test_a_level_of_a_tree_has_the_digests_of_hashlib(count: int) -> None:
    pairs = np.random.default_rng(count).integers(0, 256, (count, 64), dtype=np.uint8)
    out = np.empty((count, 32), np.uint8)
    sha256.hash_nodes(pairs, out)
    assert [row.tobytes() for row in out] == [hashlib.sha256(b"\x01" + pair.tobytes()).digest() for pair in pairs]
