"""Tokens against a plain loop over characters."""

from __future__ import annotations

import random

import numpy as np

from foretaste.text import tokens as module
from foretaste.text.tokens import mix, tokenize

ALPHABET = "abzAZ09_ \t\n\x7f''’-.,!?!!()é\xadÉß\u200b\u0301ªЖж中文あ😀ก؟\ufe0f"


def plain(text: str) -> list[tuple[str, int, int]]:
    """(characters that are hashed, first byte, last byte) of each token, character by character."""
    found: list[tuple[str, int, int]] = []
    held, kind_held, start, at = "", module._SPACE, 0, 0
    for i, c in enumerate(text):
        width = len(c.encode())
        kind = module._class.py_func(ord(c))
        if kind == module._SKIP:
            at += width
            continue
        if c in "'’":
            after = text[i + 1 : i + 2]
            inner = after and (after.encode()[0] >= 0xC3 or (after.isascii() and after.isalpha()))
            kind = module._WORD if kind_held == module._WORD and inner else module._PUNCT
            c = "'"
        joins = kind == kind_held and (kind == module._WORD or (kind == module._PUNCT and held[-1] == c))
        if held and not joins:
            found.append((held, start, at))
            held = ""
        if kind != module._SPACE:
            start = start if held else at
            low = c.lower()
            held += low if ord(c) < module._LOWER_LIMIT and len(low) == 1 else c
        kind_held = kind
        at += width
    return [*found, (held, start, at)] if held else found


def hashed(characters: str) -> int:
    """FNV-1a over code points, finalised; odd for words and even for punctuation."""
    h = 0xCBF29CE484222325
    for c in characters:
        h = (h ^ ord(c)) * 0x100000001B3 % (1 << 64)
    mixed = int(mix(np.uint64(h)))
    return mixed & ~1 if module._class.py_func(ord(characters[0])) == module._PUNCT else mixed | 1


def test_tokens_are_those_of_a_plain_loop() -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices(ALPHABET, k=draw.randrange(40))) for _ in range(2000)]
    texts += ["", "Don't stop", "l’été 's rock'n'roll'", "a" * 300, "x  y", "…", "end.", "'", "v1.2_b"]
    raw = [t.encode() for t in texts]
    made = tokenize(np.frombuffer(b"".join(raw), np.uint8), np.cumsum([0, *map(len, raw)]).astype(np.int64))
    at = 0
    for text, data, first, last in zip(texts, raw, made.offsets[:-1].tolist(), made.offsets[1:].tolist()):
        wanted = plain(text)
        assert [
            (int(h), s - at, e - at)
            for h, s, e in zip(
                made.hashes[first:last], made.starts[first:last].tolist(), made.ends[first:last].tolist()
            )
        ] == [(hashed(t), s, e) for t, s, e in wanted], text
        at += len(data)
