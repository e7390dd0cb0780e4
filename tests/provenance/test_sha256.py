"""The compiled SHA-256 is SHA-256."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.provenance import sha256


def digests(messages: list[bytes]) -> list[bytes]:
    held = sha256.Messages(np.array([len(m) for m in messages], dtype=np.int64))
    for at, message in zip(held.at, messages):
        held.bytes[at : at + len(message)] = np.frombuffer(message, np.uint8)
    return [row.tobytes() for row in held.digests()]


def test_every_length_around_the_blocks_gives_the_digest_of_hashlib() -> None:
    messages = [bytes(i % 251 for i in range(n)) for n in range(200)]
    assert digests(messages) == [hashlib.sha256(m).digest() for m in messages]


def test_the_constants_are_those_of_the_standard() -> None:
    assert [hex(v) for v in sha256._START[:, 0][:2]] == ["0x6a09e667", "0xbb67ae85"]
    assert [hex(v) for v in (sha256._ROUNDS[0], sha256._ROUNDS[63])] == ["0x428a2f98", "0xc67178f2"]


def test_no_message_has_no_digest() -> None:
    assert digests([]) == []


@given(st.lists(st.binary(max_size=300), max_size=40))
@settings(max_examples=60, deadline=None)
def test_messages_of_any_lengths_side_by_side_give_the_digests_of_hashlib(messages: list[bytes]) -> None:
    assert digests(messages) == [hashlib.sha256(m).digest() for m in messages]


def test_code_that_disagrees_with_hashlib_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sha256, "_START", sha256._START + 1)
    with pytest.raises(RuntimeError, match="disagree"):
        digests([b"row"])
    with pytest.raises(RuntimeError, match="disagree"):
        sha256.nodes(np.zeros((1, 64), np.uint8))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 40])
def test_a_level_of_a_tree_has_the_digests_of_hashlib(count: int) -> None:
    pairs = np.random.default_rng(count).integers(0, 256, (count, 64), dtype=np.uint8)
    assert [row.tobytes() for row in sha256.nodes(pairs)] == [
        hashlib.sha256(b"\x01" + pair.tobytes()).digest() for pair in pairs
    ]
