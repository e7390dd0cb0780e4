"""SHA-256 (FIPS 180-4) of many short messages at once, sixteen side by side in the lanes of the processor's vectors.

``hashlib`` takes one message a call and, for short ones, holds the interpreter all the while. The rounds here are
emitted as vectors of sixteen 32-bit words, which LLVM maps to whatever the processor has (AVX-512, AVX2, SSE2, NEON).
Of whatever is hashed, ``hashlib`` hashes one message of every call too, and the two have to agree.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from foretaste.text.kernels import kernel

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
START = np.repeat(np.array(_fractions(2, 8), dtype=np.uint32), LANES).reshape(8, LANES)


@intrinsic
def _compress(typing: Any, state: Any, blocks: Any) -> Any:
    """Take one block into each of sixteen states.

    Takes addresses: of (8, 16) words of state, and of the (16,) addresses where the blocks of 64 bytes begin.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        states = _cells(builder, arguments[0], _VECTOR, 8)
        blocks = [_words(builder, builder.load(c)) for c in _cells(builder, arguments[1], ir.IntType(64), LANES)]
        after = _rounds(builder, [builder.load(c, align=4) for c in states], _transposed(builder, blocks))
        for value, cell in zip(after, states):
            builder.store(value, cell, align=4)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp), emit


@intrinsic
def _node(typing: Any, pairs: Any, out: Any) -> Any:
    """Hash 0x01 and a pair of hashes, sixteen times.

    Takes addresses: of (16, 64) bytes with the pairs, and of (16, 32) bytes for their hashes.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        def moved(before: Any, after: Any) -> Any:  # what the byte in front makes of two words
            return builder.or_(builder.shl(before, _by(24)), builder.lshr(after, _by(8)))

        at = [builder.add(arguments[0], ir.Constant(ir.IntType(64), lane * 2 * SIZE)) for lane in range(LANES)]
        pair = _transposed(builder, [_words(builder, address) for address in at])
        state = _rounds(builder, [_by(word) for word in _fractions(2, 8)], list(map(moved, [_by(1), *pair], pair)))
        end = builder.or_(builder.shl(pair[-1], _by(24)), _by(0x80 << 16))
        state = _rounds(builder, state, [end, *[_by(0)] * 14, _by((1 + 2 * SIZE) * 8)])
        rows = _transposed(builder, [_swap(builder, word) for word in state] + [_by(0)] * 8)
        half = ir.Constant(ir.VectorType(_WORD, 8), list(range(8)))
        for row, cell in zip(rows, _cells(builder, arguments[1], ir.VectorType(_WORD, 8), LANES)):
            builder.store(builder.shuffle_vector(row, row, half), cell, align=1)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp), emit


@intrinsic
def load(typing: Any, address: Any, kind: Any) -> Any:
    """The number at an address."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], context.get_value_type(kind.dtype).as_pointer()), align=1)

    return kind.dtype(types.uint64, kind), emit


@intrinsic
def store(typing: Any, address: Any, number: Any) -> Any:
    """Write a number at an address, as wide as it is."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        to = builder.inttoptr(arguments[0], arguments[1].type.as_pointer())
        builder.store(arguments[1], to, align=1)
        return context.get_dummy_value()

    return types.void(types.uint64, number), emit


def _rounds(builder: ir.IRBuilder, before: list[Any], block: list[Any]) -> list[Any]:
    """The eight words of state after a block of sixteen words."""

    def rotate(x: Any, bits: int) -> Any:
        return builder.or_(builder.lshr(x, _by(bits)), builder.shl(x, _by(32 - bits)))

    def xor(*parts: Any) -> Any:
        return functools.reduce(builder.xor, parts)

    def add(*parts: Any) -> Any:
        return functools.reduce(builder.add, parts)

    w = list(block)
    a, b, c, d, e, f, g, h = before
    for t, constant in enumerate(_ROUNDS):
        if t >= 16:
            x, y = w[t - 15], w[t - 2]
            low = xor(rotate(x, 7), rotate(x, 18), builder.lshr(x, _by(3)))
            w.append(add(w[t - 16], low, w[t - 7], xor(rotate(y, 17), rotate(y, 19), builder.lshr(y, _by(10)))))
        chosen = xor(g, builder.and_(e, xor(f, g)))
        one = add(h, xor(rotate(e, 6), rotate(e, 11), rotate(e, 25)), chosen, _by(constant), w[t])
        majority = builder.or_(builder.and_(a, b), builder.and_(c, builder.or_(a, b)))
        two = add(xor(rotate(a, 2), rotate(a, 13), rotate(a, 22)), majority)
        a, b, c, d, e, f, g, h = add(one, two), a, b, c, add(d, one), e, f, g
    return [add(old, value) for old, value in zip(before, (a, b, c, d, e, f, g, h))]


def _by(bits: int) -> ir.Constant:
    return ir.Constant(_VECTOR, [bits] * LANES)


def _cells(builder: ir.IRBuilder, address: Any, kind: ir.Type, count: int) -> list[Any]:
    base = builder.inttoptr(address, kind.as_pointer())
    return [builder.gep(base, [ir.Constant(_WORD, i)]) for i in range(count)]


def _words(builder: ir.IRBuilder, address: Any) -> Any:
    """The sixteen words of the 64 bytes at an address."""
    return _swap(builder, builder.load(builder.inttoptr(address, _VECTOR.as_pointer()), align=1))


def _swap(builder: ir.IRBuilder, words: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR])
    name = f"llvm.bswap.v{LANES}i32"
    module = builder.module
    return builder.call(module.globals.get(name) or ir.Function(module, kind, name), [words])


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


@kernel
def _swapped(x: Any) -> Any:
    return (x >> 24) | ((x >> 8) & 0xFF00) | ((x << 8) & 0xFF0000) | (x << 24)


@kernel
def pad(at: Any, size: Any, whole: Any) -> None:
    """End a message of ``size`` bytes at an address, in the ``whole`` bytes of its blocks, as the standard has it.

    Writes up to seven bytes behind the blocks.
    """
    eight = np.uint64(8)
    store(at + size, np.uint64(0x80))  # type: ignore[call-arg]
    done = size + eight
    while done < whole:
        store(at + done, np.uint64(0))
        done += eight
    bits = size * eight
    head, tail = _swapped(np.uint32(bits >> np.uint64(32))), _swapped(np.uint32(bits))
    store(at + whole - eight, np.uint32(head))
    store(at + whole - np.uint64(4), np.uint32(tail))


@kernel
def hash_lanes(at: Any, counts: Any, rows: Any, start: Any, state: Any, out: Any) -> None:
    """Hash sixteen padded messages side by side.

    Args:
        at: where each begins, addresses, shape (16,), ascending within one array; changed.
        counts: of blocks, ascending, shape (16,): what lies behind a message that ended early is read, to no end.
        rows: of ``out`` to write to, shape (16,).
        start: :data:`START`.
        state: room, shape (8, 16).
        out: hashes as words, shape (rows, 8).
    """
    state[:] = start
    taken, lane = 0, 0
    while lane < LANES:
        while taken < counts[lane]:
            _compress(state.ctypes.data, at.ctypes.data)  # type: ignore[call-arg]
            at += np.uint64(BLOCK)
            taken += 1
        while lane < LANES and counts[lane] == taken:
            for i in range(8):
                out[rows[lane], i] = _swapped(state[i, lane])
            lane += 1


@kernel
def _hash_pairs(pairs: Any, out: Any) -> None:
    whole = len(pairs) // LANES * LANES
    for first in range(0, whole, LANES):
        _node(pairs[first:].ctypes.data, out[first:].ctypes.data)  # type: ignore[call-arg]
    if whole < len(pairs):
        room, made = np.zeros((LANES, 2 * SIZE), np.uint8), np.empty((LANES, SIZE), np.uint8)
        room[: len(pairs) - whole] = pairs[whole:]
        _node(room.ctypes.data, made.ctypes.data)  # type: ignore[call-arg]
        out[whole:] = made[: len(pairs) - whole]


def hash_nodes(pairs: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8]) -> None:
    """SHA-256 of 0x01 and each pair of hashes, shapes (pairs, 64) and (pairs, 32): a level of a Merkle tree (RFC 6962).
    ``out`` may lie where the pairs begin: what is written was read before.

    Raises:
        RuntimeError: if this machine's code does not agree with ``hashlib``.
    """
    first = b"\x01" + pairs[:1].tobytes()
    _hash_pairs(pairs, out)
    if len(out):
        compare(out[0], first)


def compare(found: npt.NDArray[np.uint8], message: Any) -> None:
    """Hold a hash against ``hashlib``.

    Raises:
        RuntimeError: if they do not agree.
    """
    if found.tobytes() != hashlib.sha256(message).digest():
        raise RuntimeError("the compiled SHA-256 and hashlib disagree; report this machine, and use no row digests")
