"""A Merkle tree over the sorted hashes of rows: proofs that a row is, or is not, in a certified set.

Leaves and nodes are hashed apart as in RFC 6962 (section 2.1): a leaf is SHA-256 of 0x00 and the row, a node SHA-256 of
0x01 and its children. The leaves are sorted, so that two neighbours with nothing between them prove an absence. That
they are sorted is what the signer of the root vouches for.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.errors import VerificationError

PROOF_FORMAT = "https://foretaste.dev/row-proof/v1"
SIZE = 32
WORKERS = min(8, os.cpu_count() or 1)
_PART = 1 << 14  # leaves of a subtree that is hashed in one go; a power of two


def leaf_hash(row: bytes) -> bytes:
    """Hash of a row's canonical bytes, 32 bytes."""
    return hashlib.sha256(b"\x00" + row).digest()


class SortedTree:
    """The tree over all leaves. Holds 32 bytes per row.

    Args:
        leaves: hashes of all rows, 32 bytes each, in any order, in buffers of any number of them; a row that stands
            twice has two leaves.
    """

    def __init__(self, leaves: Sequence[Any]) -> None:
        from foretaste.provenance.order import in_order

        self._leaves = in_order(leaves)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._leaves)

    @property
    def root(self) -> bytes:
        """Root hash; that of nothing for an empty tree."""
        return _root(self._leaves) if self.size else hashlib.sha256().digest()

    def prove(self, leaf: bytes) -> Proof:
        """Proof that a leaf is in the tree, or that it is not."""
        left = self._search(leaf)
        if left < self.size and self._at(left) == leaf:
            return Proof(leaf=leaf, size=self.size, leaves=(self._path(left),))
        beside = [at for at in (left - 1, left) if 0 <= at < self.size]
        return Proof(leaf=leaf, size=self.size, leaves=tuple(self._path(at) for at in beside))

    def _at(self, index: int) -> bytes:
        return bytes(self._leaves[index].data)

    def _search(self, leaf: bytes) -> int:
        low, high = 0, self.size
        while low < high:
            middle = (low + high) // 2
            if self._at(middle) < leaf:
                low = middle + 1
            else:
                high = middle
        return low

    def _path(self, index: int) -> ProvenLeaf:
        path, width = [], 1
        while width < self.size:
            below = self._leaves[(index // width ^ 1) * width :][:width]
            if len(below):  # the last node of an odd level moves up as it is
                path.append(_root(below))
            width *= 2
        return ProvenLeaf(index=index, leaf=self._at(index), path=tuple(path))


@dataclass(frozen=True, kw_only=True)
class ProvenLeaf:
    """A leaf of the tree with the siblings on its way to the root, lowest first."""

    index: int
    leaf: bytes
    path: tuple[bytes, ...]

    def leads_to(self, root: bytes, size: int) -> bool:
        """Whether the path ends in the root of a tree of this size (RFC 9162, section 2.1.3.2)."""
        if not 0 <= self.index < size:
            return False
        at, last, node = self.index, size - 1, self.leaf
        for sibling in self.path:
            if last == 0:
                return False
            if at & 1 or at == last:
                node = _node(sibling, node)
                while not at & 1 and at:
                    at, last = at >> 1, last >> 1
            else:
                node = _node(node, sibling)
            at, last = at >> 1, last >> 1
        return last == 0 and node == root


@dataclass(frozen=True, kw_only=True)
class Proof:
    """That ``leaf`` is in a tree (one leaf, itself), or is not (its neighbours, or one at an end)."""

    leaf: bytes
    size: int
    leaves: tuple[ProvenLeaf, ...]

    @property
    def present(self) -> bool:
        """What the proof claims; :meth:`check` tells whether it holds."""
        return any(proven.leaf == self.leaf for proven in self.leaves)

    def check(self, root: bytes, size: int) -> bool:
        """Whether the row is in the tree with this root and size.

        Raises:
            VerificationError: if the proof does not prove what it claims.
        """
        if self.size != size:
            raise VerificationError(f"the proof is about a tree of {self.size} rows, the certificate about {size}")
        if not self.leaves or not all(proven.leads_to(root, size) for proven in self.leaves):
            raise VerificationError("the proof does not lead to the certified root; make it again from the data")
        if self.present and len(self.leaves) == 1:
            return True
        first, last = self.leaves[0], self.leaves[-1]
        between = len(self.leaves) == 2 and first.index + 1 == last.index and first.leaf < self.leaf < last.leaf
        before = len(self.leaves) == 1 and first.index == 0 and self.leaf < first.leaf
        after = len(self.leaves) == 1 and first.index == size - 1 and first.leaf < self.leaf
        if not (between or before or after):
            raise VerificationError("the leaves of the proof are not the row's neighbours; make it again from the data")
        return False

    def to_dict(self) -> dict[str, Any]:
        """The proof as JSON values."""
        return {
            "format": PROOF_FORMAT,
            "row": self.leaf.hex(),
            "present": self.present,
            "size": self.size,
            "leaves": [
                {"index": p.index, "leaf": p.leaf.hex(), "path": [node.hex() for node in p.path]} for p in self.leaves
            ],
        }

    @classmethod
    def from_dict(cls, tree: Any) -> Proof:
        """The proof that :meth:`to_dict` wrote.

        Raises:
            VerificationError: if it is malformed.
        """
        try:
            if not isinstance(tree, Mapping) or tree["format"] != PROOF_FORMAT:
                raise ValueError(f"it is not a {PROOF_FORMAT}")
            leaves = tuple(
                ProvenLeaf(index=_number(p["index"]), leaf=_hash(p["leaf"]), path=tuple(_hash(n) for n in p["path"]))
                for p in _few(tree["leaves"])
            )
            return cls(leaf=_hash(tree["row"]), size=_number(tree["size"]), leaves=leaves)
        except (KeyError, TypeError, ValueError) as e:
            raise VerificationError(f"the proof is malformed ({e}); make it again from the data") from e


def _root(leaves: npt.NDArray[np.uint8]) -> bytes:
    """The node above leaves that stand side by side, which begin where a whole subtree does; shape (leaves, 32), not 0."""
    level = leaves
    while len(level) > _PART:
        parts = [level[at : at + _PART] for at in range(0, len(level), _PART)]
        with ThreadPoolExecutor(max_workers=WORKERS) as pool:
            level = np.concatenate(list(pool.map(_top, parts)))
    return _top(level).tobytes()


def _top(level: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The node above so few leaves that a processor's cache holds them, shape (1, 32): pairs hashed, a last odd one kept."""
    from foretaste.provenance import sha256

    room = np.empty(((len(level) + 1) // 2, SIZE), np.uint8)
    while len(level) > 1:
        pairs, last = level[: len(level) // 2 * 2].reshape(-1, 2 * SIZE), level[len(level) // 2 * 2 :].copy()
        level = room[: len(pairs) + len(last)]
        sha256.hash_nodes(pairs, level[: len(pairs)])
        level[len(pairs) :] = last
    return level


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _hash(value: Any) -> bytes:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError("a hash must be 64 hex digits")
    return bytes.fromhex(value)


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError(f"{value!r} is no row number")
    return value


def _few(leaves: Any) -> Sequence[Any]:
    if not isinstance(leaves, list) or len(leaves) > 2:
        raise ValueError("it must hold one leaf or two")
    return leaves
