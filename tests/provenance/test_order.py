"""Hashes are sorted by their bytes, whatever they are."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.provenance.order import SIZE, in_order

ZEROS = st.just(bytes(8)) | st.binary(min_size=8, max_size=8)
HASH = st.tuples(ZEROS, ZEROS, ZEROS, ZEROS).map(b"".join)


def plainly(hashes: list[bytes]) -> bytes:
    return b"".join(sorted(hashes))


@given(st.lists(HASH, max_size=40))
@settings(max_examples=60, deadline=None)
def test_hashes_that_begin_or_end_alike_are_in_the_order_of_their_bytes(hashes: list[bytes]) -> None:
    assert in_order([b"".join(hashes)]).tobytes() == plainly(hashes)


@pytest.mark.parametrize("same", [0, 1, 2, 8, 31])
def test_more_hashes_with_one_beginning_than_a_bucket_takes_are_sorted_too(same: int) -> None:
    hashes = [b"\xf0" * same + os.urandom(SIZE - same) for _ in range(3000)]
    assert in_order([b"".join(hashes)]).tobytes() == plainly(hashes)
    assert in_order([b"".join(hashes)] * 2).tobytes() == plainly(hashes * 2)
