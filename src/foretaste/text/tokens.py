"""Tokens of Arrow string columns, without a Python object per row or token.

A token is a run of letters, digits, underscores and inner apostrophes, lower-cased; one character of a script written
without spaces (Han, kana, Thai, Lao, Khmer, Burmese); or a run of one punctuation character. Invisible characters
(zero-width, soft hyphen, bidi marks, variation selectors) belong to no token: a word that hides one keeps its hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.text.kernels import kernel

U64 = np.uint64

_LOWER_LIMIT = 0x0590
_LOWER = np.array(
    [ord(chr(c).lower()) if len(chr(c).lower()) == 1 else c for c in range(_LOWER_LIMIT)], dtype=np.uint32
)

_LONGEST_GAP = 256
_START, _PRIME = U64(0xCBF29CE484222325), U64(0x100000001B3)  # of FNV-1a
_SPACE, _WORD, _SINGLE, _PUNCT, _SKIP = 0, 1, 2, 3, 4
# Bytes of a word in lower case, 0 for every other byte: most of a text is runs of these, which need no other decision.
_FOLDED = np.array(
    [ord(chr(b).lower()) if chr(b).isalnum() or b == 95 else 0 for b in range(128)] + [0] * 128, np.uint8
)


@dataclass(frozen=True)
class Tokens:
    """Tokens of the rows of a batch.

    Attributes:
        hashes: uint64, shape (n_tokens,); odd for words, even for punctuation, never zero.
        starts, ends: byte offsets of each token in ``data``, int32 (int64 beyond 2 GiB), shape (n_tokens,).
        offsets: first token of each row, int64, shape (num_rows + 1,).
        data: the bytes that ``starts`` and ``ends`` point into.
    """

    hashes: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.signedinteger[Any]]
    ends: npt.NDArray[np.signedinteger[Any]]
    offsets: npt.NDArray[np.int64]
    data: npt.NDArray[np.uint8]

    def text(self, row: int, position: int, n: int) -> str:
        """The text from token ``position`` of a row over ``n`` tokens; tokens of two columns are joined by a space."""
        first = int(self.offsets[row]) + position
        last = min(first + n, int(self.offsets[row + 1])) - 1
        pieces = [[first, first]]
        for token in range(first + 1, last + 1):
            # Columns lie one after the other in ``data``, so a stretch over two of them has a gap of other rows' bytes.
            if 0 <= self.starts[token] - self.ends[token - 1] <= _LONGEST_GAP:
                pieces[-1][1] = token
            else:
                pieces.append([token, token])
        raw = [self.data[self.starts[a] : self.ends[b]].tobytes() for a, b in pieces]
        return b" ".join(raw).decode("utf-8", "replace")

    def texts(self, places: npt.NDArray[np.int64]) -> list[str]:
        """:meth:`text` for each row, position and number of tokens of ``places`` (stretches, 3)."""
        rows, positions, n = places.T
        first = self.offsets[rows] + positions
        last = np.minimum(first + n, self.offsets[rows + 1]) - 1
        whole = np.ones(len(rows), np.bool_)
        for more in range(1, int(n.max(initial=1))):
            token = np.minimum(first + more, last)
            gap = self.starts[token] - self.ends[token - 1]
            whole &= (first + more > last) | ((gap >= 0) & (gap <= _LONGEST_GAP))
        data = self.data.data
        stretches = zip(self.starts[first].tolist(), self.ends[last].tolist(), whole.tolist())
        # No list for each of many thousand places, after which Python's collector would look through all objects.
        return [
            str(data[a:b], "utf-8", "replace") if joined else self.text(*places[i].tolist())
            for i, (a, b, joined) in enumerate(stretches)
        ]


@kernel
def mix(x):
    """Finaliser of SplitMix64 (Steele et al. 2014): a bijection of uint64 with good avalanche."""
    x = U64(x)
    x ^= x >> U64(30)
    x *= U64(0xBF58476D1CE4E5B9)
    x ^= x >> U64(27)
    x *= U64(0x94D049BB133111EB)
    x ^= x >> U64(31)
    return x


def mix_all(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """:func:`mix` of every item of an array."""
    x = x ^ (x >> U64(30))
    x = x * U64(0xBF58476D1CE4E5B9)
    x = x ^ (x >> U64(27))
    x = x * U64(0x94D049BB133111EB)
    return x ^ (x >> U64(31))


@kernel
def _class(c):
    if c < 0x80:
        if (48 <= c <= 57) or (65 <= c <= 90) or (97 <= c <= 122) or c == 95:
            return _WORD
        return _SPACE if c <= 32 or c == 127 else _PUNCT
    if c < 0xC0:
        if c == 0xAD:
            return _SKIP
        if c == 0xAA or c == 0xB5 or c == 0xBA:
            return _WORD
        return _SPACE if c == 0xA0 or c < 0xA0 else _PUNCT
    if c == 0xD7 or c == 0xF7:
        return _PUNCT
    if c < 0x0E00:
        if c == 0x061C or c == 0x034F:
            return _SKIP
        return _PUNCT if c in (0x060C, 0x061B, 0x061F, 0x06D4, 0x0964, 0x0965) else _WORD
    if c < 0x0F00 or (0x1000 <= c < 0x10A0) or (0x1780 <= c < 0x1800):
        return _SINGLE
    if 0x2000 <= c < 0x3040:
        if c == 0x2019:
            return _WORD
        if c <= 0x200A or c == 0x2028 or c == 0x2029 or c == 0x202F or c == 0x205F or c == 0x3000:
            return _SPACE
        if (0x200B <= c <= 0x200F) or (0x202A <= c <= 0x202E) or (0x2060 <= c <= 0x206F):
            return _SKIP
        if 0x2E80 <= c < 0x3000 or c == 0x3005 or c == 0x3007:
            return _SINGLE
        if 0x2C00 <= c < 0x2E00:
            return _WORD
        return _PUNCT
    if 0x3040 <= c < 0xA000:
        return _SINGLE
    if 0xF900 <= c < 0xFB00 or 0x20000 <= c < 0x30000:
        return _SINGLE
    if 0xFE00 <= c < 0xFE10 or c == 0xFEFF or 0xE0000 <= c < 0xE1000:
        return _SKIP
    if 0xFE10 <= c < 0xFE70 or 0xFF00 <= c < 0xFF10 or 0xFF1A <= c < 0xFF21 or 0x1F000 <= c < 0x1FB00:
        return _PUNCT
    return _WORD


@kernel
def _finish(h, kind):
    """Hash of a token of the given class from the FNV-1a hash of its characters."""
    return mix(h) & ~U64(1) if kind == _PUNCT else mix(h) | U64(1)


@kernel
def _tokenize(data, ends, hashes, starts, stops, offsets, lower, folded):
    n = 0
    rows = len(ends) - 1
    for row in range(rows):
        offsets[row] = n
        i = ends[row]
        stop = ends[row + 1]
        h = U64(0)
        open_class = np.int64(_SPACE)  # not a literal, for which numba compiles a variant of its own
        last_char = np.int64(0)
        while i < stop:
            b = data[i]
            letter = folded[b]
            if letter != 0:
                if open_class != _WORD:
                    # What is open is written out in any case, and counts if there was something: one branch less.
                    hashes[n] = _finish(h, open_class)
                    stops[n] = i
                    n += open_class != _SPACE
                    starts[n] = i
                    h = _START
                    open_class = _WORD
                while letter != 0:
                    h = (h ^ U64(letter)) * _PRIME
                    i += 1
                    letter = folded[data[i]] if i < stop else np.uint8(0)
                if i < stop and data[i] == 32:
                    hashes[n] = _finish(h, np.int64(_WORD))
                    stops[n] = i
                    n += 1
                    open_class = _SPACE
                    i += 1
                continue
            if b < 0x80 and b != 39:
                mark = 32 < b < 127
                if not (mark and open_class == _PUNCT and b == last_char):
                    hashes[n] = _finish(h, open_class)
                    stops[n] = i
                    n += open_class != _SPACE
                    starts[n] = i
                    h = _START
                h = (h ^ U64(b)) * _PRIME
                open_class = _PUNCT if mark else _SPACE
                last_char = np.int64(b)
                i += 1
                continue
            if b < 0x80:
                c = np.int64(b)
                width = 1
            elif b < 0xE0:
                c = (np.int64(b & 0x1F) << 6) | np.int64(data[i + 1] & 0x3F)
                width = 2
            elif b < 0xF0:
                c = (np.int64(b & 0x0F) << 12) | (np.int64(data[i + 1] & 0x3F) << 6) | np.int64(data[i + 2] & 0x3F)
                width = 3
            else:
                c = (
                    (np.int64(b & 0x07) << 18)
                    | (np.int64(data[i + 1] & 0x3F) << 12)
                    | (np.int64(data[i + 2] & 0x3F) << 6)
                    | np.int64(data[i + 3] & 0x3F)
                )
                width = 4
            kind = _class(c)
            if kind == _SKIP:
                i += width
                continue
            # An apostrophe between letters is part of the word: "don't" is one token, not a stump.
            if (c == 39 or c == 0x2019) and open_class == _WORD and i + width < stop:
                after = data[i + width]
                letter = (65 <= after <= 90) or (97 <= after <= 122) or after >= 0xC3
                kind = _WORD if letter else _PUNCT
                c = 39
            elif c == 39 or c == 0x2019:
                kind = _PUNCT
                c = 39
            joins = (kind == _WORD and open_class == _WORD) or (
                kind == _PUNCT and open_class == _PUNCT and c == last_char
            )
            if open_class != _SPACE and not joins:
                hashes[n] = _finish(h, open_class)
                stops[n] = i
                n += 1
                open_class = _SPACE
            if kind != _SPACE:
                if not joins:
                    starts[n] = i
                    h = _START
                if c < _LOWER_LIMIT:
                    c = np.int64(lower[c])
                h = (h ^ U64(c)) * _PRIME
                open_class = kind
                last_char = c
            i += width
        if open_class != _SPACE:
            hashes[n] = _finish(h, open_class)
            stops[n] = stop
            n += 1
    offsets[rows] = n
    return n


def tokenize(data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> Tokens:
    """Tokenise a string column given as UTF-8 bytes and row offsets, shapes (n_bytes,) and (num_rows + 1,)."""
    data, ends = _locked(data[ends[0] : ends[-1]]), ends - ends[0]
    hashes = np.empty(len(data) + 1, np.uint64)
    starts, stops = (np.empty(len(data) + 1, _place(len(data))) for _ in range(2))
    offsets = np.empty(len(ends), np.int64)
    n = _tokenize(data, ends, hashes, starts, stops, offsets, _LOWER, _FOLDED)
    for array in (hashes, starts, stops):
        array.resize(n, refcheck=False)  # gives back the room behind the tokens, where a copy would take more
    return Tokens(hashes, starts, stops, offsets, data)


def _locked(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The bytes as an array that cannot be written, as some of Arrow's are: kernels are then compiled for one type."""
    view = data.view()
    view.flags.writeable = False
    return view


def _place(size: int) -> type[np.signedinteger[Any]]:
    """The type of an offset into so many bytes."""
    return np.int32 if size <= np.iinfo(np.int32).max else np.int64


@kernel
def _interleave(first, first_offsets, second, second_offsets, shift, out, out_offsets):
    n = 0
    rows = len(first_offsets) - 1
    for row in range(rows):
        out_offsets[row] = n
        for i in range(first_offsets[row], first_offsets[row + 1]):
            out[n] = first[i]
            n += 1
        for i in range(second_offsets[row], second_offsets[row + 1]):
            out[n] = second[i] + shift
            n += 1
    out_offsets[rows] = n


def join(parts: list[Tokens]) -> Tokens:
    """Rows of several columns, one after the other; the byte offsets point into the columns' bytes, concatenated."""
    joined = parts[0]
    for part in parts[1:]:
        size = len(joined.hashes) + len(part.hashes)
        offsets = np.empty(len(joined.offsets), np.int64)
        hashes = np.empty(size, np.uint64)
        shift = len(joined.data)
        place = _place(shift + len(part.data))
        starts, ends = np.empty(size, place), np.empty(size, place)
        _interleave(joined.hashes, joined.offsets, part.hashes, part.offsets, np.uint64(0), hashes, offsets)
        _interleave(joined.starts, joined.offsets, part.starts, part.offsets, shift, starts, offsets)
        _interleave(joined.ends, joined.offsets, part.ends, part.offsets, shift, ends, offsets)
        joined = Tokens(hashes, starts, ends, offsets, _locked(np.concatenate([joined.data, part.data])))
    return joined


@kernel
def _hash_rows(data, ends, out):
    for row in range(len(ends) - 1):
        h = _START
        for i in range(ends[row], ends[row + 1]):
            h = (h ^ U64(data[i])) * _PRIME
        out[row] = mix(h ^ (U64(ends[row + 1] - ends[row]) << U64(40)))


def hash_rows(data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each row's bytes (FNV-1a, finalised), shape (num_rows,). Not cryptographic."""
    out = np.empty(len(ends) - 1, np.uint64)
    _hash_rows(_locked(data), ends, out)
    return out
