"""The tree over row hashes: what it proves, and what nobody can prove with it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.errors import VerificationError
from foretaste.provenance import merkle
from foretaste.provenance.merkle import Proof, ProvenLeaf, SortedTree, leaf_hash


def reference_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, as it is written there, over hashed leaves."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + reference_root(leaves[:k]) + reference_root(leaves[k:])).digest()


def hashes(count: int) -> list[bytes]:
    return [leaf_hash(b"row %d" % i) for i in range(count)]


@given(st.lists(st.binary(max_size=3), max_size=40))
@settings(deadline=None)
def test_the_root_is_that_of_the_standard_over_the_sorted_leaves(rows: list[bytes]) -> None:
    leaves = [leaf_hash(r) for r in rows]
    assert SortedTree(leaves).root == reference_root(sorted(leaves))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 31, 33])
def test_every_row_can_be_proven_in_and_any_other_out(count: int) -> None:
    tree = SortedTree(hashes(count))
    for leaf in hashes(count):
        assert Proof.from_dict(json.loads(json.dumps(tree.prove(leaf).to_dict()))).check(tree.root, count)
    for at in range(30):
        assert not tree.prove(leaf_hash(b"other %d" % at)).check(tree.root, count)


@pytest.mark.parametrize("count", [3, 4, 5, 8, 13, 16, 17, 33])
def test_subtrees_that_are_hashed_apart_make_the_same_tree(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merkle, "_PART", 4)
    tree = SortedTree(hashes(count))
    assert tree.root == reference_root(sorted(hashes(count)))
    assert all(tree.prove(leaf).check(tree.root, count) for leaf in hashes(count))


def test_a_row_that_stands_twice_is_in() -> None:
    tree = SortedTree(hashes(3) * 2)
    assert tree.size == 6
    assert tree.prove(hashes(3)[1]).check(tree.root, 6)


def test_leaves_that_end_with_zero_bytes_are_kept_apart() -> None:
    ends = [b"\1" * 31 + b"\0", b"\1" * 30 + b"\0\0", b"\1" * 32]
    tree = SortedTree(ends)
    assert tree.root == reference_root(sorted(ends))
    assert all(tree.prove(e).check(tree.root, 3) for e in ends)


def test_no_proof_holds_for_another_root_size_or_row() -> None:
    tree = SortedTree(hashes(9))
    proof = tree.prove(hashes(9)[4])
    with pytest.raises(VerificationError, match="does not lead to"):
        proof.check(bytes(32), 9)
    with pytest.raises(VerificationError, match="tree of 9 rows"):
        proof.check(tree.root, 10)
    with pytest.raises(VerificationError, match="not the row's neighbours"):
        replace(proof, leaf=leaf_hash(b"other")).check(tree.root, 9)
    [leaf] = proof.leaves
    for forged in (replace(leaf, index=leaf.index ^ 1), replace(leaf, path=leaf.path[:-1]), replace(leaf, path=())):
        with pytest.raises(VerificationError, match="does not lead to"):
            replace(proof, leaves=(forged,)).check(tree.root, 9)


def test_an_absence_needs_true_neighbours() -> None:
    tree = SortedTree(hashes(9))
    present = hashes(9)[4]
    far = tuple(tree._path(at) for at in (0, 8))
    with pytest.raises(VerificationError, match="not the row's neighbours"):
        Proof(leaf=leaf_hash(b"other"), size=9, leaves=far).check(tree.root, 9)
    with pytest.raises(VerificationError, match="not the row's neighbours"):
        Proof(leaf=present, size=9, leaves=far).check(tree.root, 9)
    with pytest.raises(VerificationError, match="does not lead"):
        Proof(leaf=present, size=9, leaves=()).check(tree.root, 9)


def test_a_node_does_not_pass_for_a_leaf() -> None:
    leaves = sorted(hashes(4))
    tree = SortedTree(leaves)
    node = hashlib.sha256(b"\1" + leaves[0] + leaves[1]).digest()
    other = hashlib.sha256(b"\1" + leaves[2] + leaves[3]).digest()
    forged = Proof(leaf=node, size=4, leaves=(ProvenLeaf(index=0, leaf=node, path=(other,)),))
    with pytest.raises(VerificationError, match="does not lead to"):
        forged.check(tree.root, 4)
    assert leaf_hash(leaves[0] + leaves[1]) != node


@pytest.mark.parametrize(
    "bad", [None, {}, {"format": "x"}, {**SortedTree([bytes(32)]).prove(bytes(32)).to_dict(), "row": "zz"},
            {**SortedTree([bytes(32)]).prove(bytes(32)).to_dict(), "size": -1},
            {**SortedTree([bytes(32)]).prove(bytes(32)).to_dict(), "leaves": [1, 2, 3]},
            {**SortedTree([bytes(32)]).prove(bytes(32)).to_dict(), "leaves": [{"index": True, "leaf": "", "path": []}]}],
)  # fmt: skip
def test_a_malformed_proof_is_refused(bad: object) -> None:
    with pytest.raises(VerificationError, match="malformed"):
        Proof.from_dict(bad)
