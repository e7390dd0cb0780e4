"""SHA-256 (FIPS 180-4) of many short messages at once, sixteen side by side in the lanes of the processor's vectors.

``hashlib`` takes one message a call and, for short ones, holds the interpreter all the while. The rounds here are
emitted as vectors of sixteen 32-bit words, which LLVM maps to whatever the processor has (AVX-512, AVX2, SSE2, NEON).
Whatever is hashed, ``hashlib`` hashes the first message of every call too, and the two have to agree.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

SIZE = 32
BLOCK = 64
LANES = 16
_WORD = ir.IntType(32)
_VECTOR = ir.VectorType(_WORD, LANES)


def _fractions(root: int, count: int) -> list[int]:
    """The first 32 bits of the fractional parts of the square or cube roots of the first primes."""
    primes = [n for n in range(2, 312) if all(n % d for d in range(2, int(n**0.5) + 1))][:count]
    found = []
    for prime in primes:
        low, high = 0, 1 << 40
        while high - low > 1:  # whole numbers only, so that no bit is rounded
            middle = (low + high) // 2
            low, high = (middle, high) if middle**root <= prime << (32 * root) else (low, middle)
        found.append(low & 0xFFFFFFFF)
    return found


_ROUNDS = _fractions(3, 64)
_START = np.repeat(np.array(_fractions(2, 8), dtype=np.uint32), LANES).reshape(8, LANES)


@intrinsic
def _compress(typing: Any, state: Any, blocks: Any) -> Any:
    """Take one block into each of sixteen states.

    Takes addresses: of (8, 16) words of state, and of the (16,) addresses where the blocks of 64 bytes begin.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        def by(bits: int) -> ir.Constant:
            return ir.Constant(_VECTOR, [bits] * LANES)

        def shift(x: Any, bits: int) -> Any:
            return builder.lshr(x, by(bits))

        def rotate(x: Any, bits: int) -> Any:
            return builder.or_(shift(x, bits), builder.shl(x, by(32 - bits)))

        def xor(*parts: Any) -> Any:
            return functools.reduce(builder.xor, parts)

        def add(*parts: Any) -> Any:
            return functools.reduce(builder.add, parts)

        def cells(address: Any, kind: ir.Type, count: int) -> list[Any]:
            base = builder.inttoptr(address, kind.as_pointer())
            return [builder.gep(base, [ir.Constant(_WORD, i)]) for i in range(count)]

        def block(cell: Any) -> Any:
            whole = builder.inttoptr(builder.load(cell), _VECTOR.as_pointer())
            return swap(builder, builder.load(whole, align=1))

        states = cells(arguments[0], _VECTOR, 8)
        before = [builder.load(cell, align=4) for cell in states]
        w = _transposed(builder, [block(cell) for cell in cells(arguments[1], ir.IntType(64), LANES)])
        a, b, c, d, e, f, g, h = before
        for t, constant in enumerate(_ROUNDS):
            if t >= 16:
                x, y = w[t - 15], w[t - 2]
                low = xor(rotate(x, 7), rotate(x, 18), shift(x, 3))
                w.append(add(w[t - 16], low, w[t - 7], xor(rotate(y, 17), rotate(y, 19), shift(y, 10))))
            chosen = xor(g, builder.and_(e, xor(f, g)))
            one = add(h, xor(rotate(e, 6), rotate(e, 11), rotate(e, 25)), chosen, by(constant), w[t])
            majority = builder.or_(builder.and_(a, b), builder.and_(c, builder.or_(a, b)))
            two = add(xor(rotate(a, 2), rotate(a, 13), rotate(a, 22)), majority)
            a, b, c, d, e, f, g, h = add(one, two), a, b, c, add(d, one), e, f, g
        for old, value, cell in zip(before, (a, b, c, d, e, f, g, h), states):
            builder.store(add(old, value), cell, align=4)
        return context.get_dummy_value()

    def swap(builder: ir.IRBuilder, words: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        name = f"llvm.bswap.v{LANES}i32"
        module = builder.module
        return builder.call(module.globals.get(name) or ir.Function(module, kind, name), [words])

    return types.void(types.uintp, types.uintp), emit


def _transposed(builder: ir.IRBuilder, lanes: list[Any]) -> list[Any]:
    """Sixteen vectors with the first words of all, the second words of all, and so on: four rounds of riffling."""
    half = LANES // 2
    riffle = [
        ir.Constant(ir.VectorType(_WORD, LANES), [at // 2 + side + (at % 2) * LANES for at in range(LANES)])
        for side in (0, half)
    ]
    for _ in range(4):
        lanes = [builder.shuffle_vector(lanes[i], lanes[i + half], mask) for i in range(half) for mask in riffle]
    return lanes


@njit(cache=True, nogil=True)
def _swapped(x: Any) -> Any:
    return (x >> 24) | ((x >> 8) & 0xFF00) | ((x << 8) & 0xFF0000) | (x << 24)


@njit(cache=True, nogil=True)
def _hash_blocks(message: Any, starts: Any, counts: Any, lengths: Any, order: Any, start: Any, out: Any) -> None:
    state = np.empty((8, LANES), np.uint32)
    at, left, rows = np.empty(LANES, np.uint64), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    for first in range(0, len(order), LANES):
        for lane in range(LANES):  # what is left over is hashed more than once, to the same end
            row = order[min(first + lane, len(order) - 1)]
            at[lane] = np.uint64(message.ctypes.data) + np.uint64(starts[row] * BLOCK)
            left[lane], rows[lane] = counts[row], row
            end = (starts[row] + counts[row]) * BLOCK
            tail = message[starts[row] * BLOCK + lengths[row] : end]
            tail[:] = 0
            tail[0] = 0x80
            bits = lengths[row] * 8
            for i in range(1, 9):
                message[end - i] = bits & 0xFF
                bits >>= 8
        state[:] = start
        for _ in range(left[LANES - 1]):
            _compress(state.ctypes.data, at.ctypes.data)  # type: ignore[call-arg]
            for lane in range(LANES):
                left[lane] -= 1
                if left[lane] > 0:
                    at[lane] += np.uint64(BLOCK)
                elif left[lane] == 0:
                    for i in range(8):
                        out[rows[lane], i] = _swapped(state[i, lane])


@njit(cache=True, nogil=True)
def _hash_pairs(pairs: Any, start: Any, out: Any) -> None:
    state, at = np.empty((8, LANES), np.uint32), np.empty(LANES, np.uint64)
    room = np.zeros((LANES, 2 * BLOCK), np.uint8)
    room[:, 0], room[:, 1 + 2 * SIZE] = 1, 0x80
    room[:, -2], room[:, -1] = (1 + 2 * SIZE) * 8 >> 8, (1 + 2 * SIZE) * 8 & 0xFF
    for first in range(0, len(pairs), LANES):
        many = min(LANES, len(pairs) - first)
        for lane in range(LANES):
            at[lane] = np.uint64(room.ctypes.data) + np.uint64(lane * 2 * BLOCK)
        for lane in range(many):
            target, source = room[lane, 1 : 1 + 2 * SIZE], pairs[first + lane]
            for i in range(2 * SIZE):
                target[i] = source[i]
        state[:] = start
        _compress(state.ctypes.data, at.ctypes.data)  # type: ignore[call-arg]
        at += np.uint64(BLOCK)
        _compress(state.ctypes.data, at.ctypes.data)
        for lane in range(many):
            for i in range(8):
                out[first + lane, i] = _swapped(state[i, lane])


def nodes(pairs: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """SHA-256 of 0x01 and each pair of hashes, shapes (pairs, 64) and (pairs, 32): a level of a Merkle tree (RFC 6962).

    Raises:
        RuntimeError: if this machine's code does not agree with ``hashlib``.
    """
    out = np.empty((len(pairs), SIZE), dtype=np.uint8)
    _hash_pairs(pairs, _START, out.view(np.uint32))
    if len(out):
        _compare(out[0], b"\x01" + pairs[0].tobytes())
    return out


def _compare(found: npt.NDArray[np.uint8], message: Any) -> None:
    if found.tobytes() != hashlib.sha256(message).digest():
        raise RuntimeError("the compiled SHA-256 and hashlib disagree; report this machine, and use no row digests")


class Messages:
    """Room for messages of known lengths, each padded to whole blocks as the standard has it.

    Attributes:
        bytes: room for the messages, shape (64 * blocks,).
        at: where each message begins in ``bytes``, shape (messages,).
    """

    def __init__(self, lengths: npt.NDArray[np.int64]) -> None:
        self._lengths = lengths
        self._counts = (lengths + 8) // BLOCK + 1
        ends = np.cumsum(self._counts)
        self._starts = ends - self._counts
        self.bytes = np.empty(int(ends[-1]) * BLOCK if len(ends) else 0, dtype=np.uint8)
        self.at = self._starts * BLOCK

    def digests(self) -> npt.NDArray[np.uint8]:
        """SHA-256 of each message, shape (messages, 32).

        Raises:
            RuntimeError: if this machine's code does not agree with ``hashlib``.
        """
        out = np.empty((len(self.at), SIZE), dtype=np.uint8)
        if not len(out):
            return out
        order = np.argsort(self._counts, kind="stable")  # messages side by side are of the same length, or nearly
        _hash_blocks(self.bytes, self._starts, self._counts, self._lengths, order, _START, out.view(np.uint32))
        _compare(out[0], self.bytes[: self._lengths[0]].data)
        return out
