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


_ROUNDS = np.repeat(np.array(_fractions(3, 64), dtype=np.uint32), LANES).reshape(64, LANES)
_START = np.repeat(np.array(_fractions(2, 8), dtype=np.uint32), LANES).reshape(8, LANES)


@intrinsic
def _sixteen_rounds(typing: Any, state: Any, words: Any, constants: Any) -> Any:
    """Sixteen rounds of sixteen messages, and the words of the next sixteen rounds.

    Takes addresses: of (8, 16) words of state, of (16, 16) words of the messages, and of (16, 16) round constants.
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

        def cells(address: Any, count: int) -> list[Any]:
            base = builder.inttoptr(address, _VECTOR.as_pointer())
            return [builder.gep(base, [ir.Constant(_WORD, i)]) for i in range(count)]

        def load(cell: Any) -> Any:
            return builder.load(cell, align=4)

        states, messages, rounds = (cells(a, n) for a, n in zip(arguments, (8, 16, 16)))
        a, b, c, d, e, f, g, h = map(load, states)
        w = list(map(load, messages))
        for t in range(16):
            chosen = xor(g, builder.and_(e, xor(f, g)))
            one = add(h, xor(rotate(e, 6), rotate(e, 11), rotate(e, 25)), chosen, load(rounds[t]), w[t])
            majority = builder.or_(builder.and_(a, b), builder.and_(c, builder.or_(a, b)))
            two = add(xor(rotate(a, 2), rotate(a, 13), rotate(a, 22)), majority)
            a, b, c, d, e, f, g, h = add(one, two), a, b, c, add(d, one), e, f, g
        for t in range(16):
            x, y = w[(t + 1) % 16], w[(t + 14) % 16]
            low, high = xor(rotate(x, 7), rotate(x, 18), shift(x, 3)), xor(rotate(y, 17), rotate(y, 19), shift(y, 10))
            w[t] = add(w[t], low, w[(t + 9) % 16], high)
        for value, cell in zip((a, b, c, d, e, f, g, h, *w), states + messages):
            builder.store(value, cell, align=4)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.uintp), emit


@njit(cache=True, nogil=True)
def _hash_blocks(words: Any, starts: Any, counts: Any, order: Any, start: Any, rounds: Any, out: Any) -> None:
    state, before = np.empty((8, LANES), np.uint32), np.empty((8, LANES), np.uint32)
    block = np.zeros((16, LANES), np.uint32)
    for first in range(0, len(order), LANES):
        many = min(LANES, len(order) - first)
        state[:] = start
        for at in range(counts[order[first + many - 1]]):
            for lane in range(many):
                row = order[first + lane]
                if at < counts[row]:
                    word = (starts[row] + at) * 16
                    for i in range(16):
                        x = words[word + i]
                        block[i, lane] = (x >> 24) | ((x >> 8) & 0xFF00) | ((x << 8) & 0xFF0000) | (x << 24)
            before[:] = state
            for sixteen in range(0, 64, 16):
                _sixteen_rounds(state.ctypes.data, block.ctypes.data, rounds[sixteen:].ctypes.data)  # type: ignore[call-arg]
            state += before
            for lane in range(many):
                row = order[first + lane]
                if at == counts[row] - 1:
                    for i in range(8):
                        x = state[i, lane]
                        out[row, i] = (x >> 24) | ((x >> 8) & 0xFF00) | ((x << 8) & 0xFF0000) | (x << 24)


class Messages:
    """Room for messages of known lengths, each padded to whole blocks as the standard has it.

    Attributes:
        bytes: the messages, all zero at first, shape (64 * blocks,).
        at: where each message begins in ``bytes``, shape (messages,).
    """

    def __init__(self, lengths: npt.NDArray[np.int64]) -> None:
        self._lengths = lengths
        self._counts = (lengths + 8) // BLOCK + 1
        ends = np.cumsum(self._counts)
        self._starts = ends - self._counts
        self.bytes = np.zeros(int(ends[-1]) * BLOCK if len(ends) else 0, dtype=np.uint8)
        self.at = self._starts * BLOCK

    def digests(self) -> npt.NDArray[np.uint8]:
        """SHA-256 of each message, shape (messages, 32).

        Raises:
            RuntimeError: if this machine's code does not agree with ``hashlib``.
        """
        out = np.empty((len(self.at), SIZE), dtype=np.uint8)
        if not len(out):
            return out
        self.bytes[self.at + self._lengths] = 0x80
        bits = (self._lengths * 8).astype(">u8").view(np.uint8).reshape(-1, 8)
        self.bytes.reshape(-1, BLOCK)[self._starts + self._counts - 1, -8:] = bits
        order = np.argsort(self._counts, kind="stable")  # messages side by side are of the same length, or nearly
        words = self.bytes.view(np.uint32)
        _hash_blocks(words, self._starts, self._counts, order, _START, _ROUNDS, out.view(np.uint32))
        if out[0].tobytes() != hashlib.sha256(self.bytes[: self._lengths[0]].data).digest():
            raise RuntimeError("the compiled SHA-256 and hashlib disagree; report this machine, and use no row digests")
        return out
