"""Instruction rows of any number, made from the docstrings of the installed packages: what the speed benchmark reads.

A walk over the docstrings: mostly the next word, now and then a jump to another place where the same word stands, so
that words, pairs and longer runs are as frequent as in text (Zipf), and rows are not copies. One word in a hundred gets a
number of its own, so that the vocabulary grows with the rows, as it does in text (Heaps). One row in fifty repeats an
earlier prompt with a few words changed, so that there are near-duplicates to find.

Responses have nothing to do with their prompts, unless ``answering`` is asked for: then a response walks from places where
words of its prompt stand, so that it takes up some of them and what goes with them.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit

PACKAGES = ("numpy", "sklearn", "numba", "rich", "jinja2", "pyarrow", "scipy", "click")
MAX_WORDS = 500_000
BLOCK = 100_000
LONGEST_WORD = 40
LABELS = 8


def words() -> list[str]:
    """The words of the docstrings, in order, an end mark (an empty string) after each docstring."""
    found: list[str] = []
    lib, site = sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")
    roots = [Path(site) / p for p in PACKAGES] + [Path(lib)]
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            if root == Path(lib) and "site-packages" in path.parts:
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    found += [
                        *(w for w in (ast.get_docstring(node) or "").split() if len(w.encode()) <= LONGEST_WORD),
                        "",
                    ]
            if len(found) >= MAX_WORDS:
                return found[:MAX_WORDS]
    return found


@njit(nogil=True)
def _walk(text, next_same, spellings, ends, lengths, seed, asked, spans, places, out, offsets):
    """One text per length: bytes into ``out``, offsets (rows + 1,); returns the bytes written.

    Where each word was taken from goes into ``places`` (words,). The walk starts, and goes on after the end of a docstring
    or after 24 words, at one of the ``asked`` places of the row (between its two ``spans``), where there are any.
    """
    np.random.seed(seed)
    size = len(text)
    fill = 0
    done = 0
    for row in range(len(lengths)):
        offsets[row] = fill
        first, last = spans[row]
        fresh = 0
        at = np.int64(0)
        left = lengths[row]
        while left > 0:
            if fresh == 0 or (last > first and fresh > 24):
                at = asked[np.random.randint(first, last)] if last > first else np.random.randint(0, size)
                for _ in range(np.random.randint(0, 6) if last > first else 0):
                    at = next_same[at]
                fresh = 1
            word = text[at]
            if ends[word + 1] == ends[word]:  # the end of a docstring
                fresh = 0
                continue
            fresh += 1
            places[done] = at
            done += 1
            if fill > offsets[row]:
                out[fill] = 32
                fill += 1
            for i in range(ends[word], ends[word + 1]):
                out[fill] = spellings[i]
                fill += 1
            if np.random.random() < 0.01:
                number = np.int64(np.exp(np.random.random() * 18.0))
                while number:
                    out[fill] = 48 + number % 10
                    fill += 1
                    number //= 10
            for _ in range(np.random.randint(0, 6) if np.random.random() < 0.25 else 0):
                at = next_same[at]
            at = (at + 1) % size
            left -= 1
    offsets[len(lengths)] = fill
    return fill


class Generator:
    """Makes blocks of rows; the same seed makes the same rows."""

    def __init__(self, *, answering: bool = False) -> None:
        self._answering = answering
        text = words()
        index: dict[str, int] = {}
        self._text = np.array([index.setdefault(w, len(index)) for w in text], np.int64)
        encoded = [w.encode() for w in index]
        self._spellings = np.frombuffer(b"".join(encoded), np.uint8)
        self._ends = np.concatenate([[0], np.cumsum([len(e) for e in encoded])]).astype(np.int64)
        order = np.argsort(self._text, kind="stable")
        self._next = np.empty(len(order), np.int64)
        self._next[order] = np.roll(order, -1)
        bounds = np.flatnonzero(np.diff(self._text[order])) + 1
        starts, stops = np.concatenate([[0], bounds]), np.concatenate([bounds, [len(order)]])
        self._next[order[stops - 1]] = order[starts]  # the last of a word is followed by its first

    def _texts(
        self,
        lengths: npt.NDArray[np.int64],
        seed: int,
        spans: npt.NDArray[np.int64],
        asked: npt.NDArray[np.int64],
    ) -> tuple[pa.LargeStringArray, npt.NDArray[np.int64]]:
        out = np.empty(int(lengths.sum()) * (LONGEST_WORD + 10), np.uint8)
        offsets, places = np.empty(len(lengths) + 1, np.int64), np.empty(int(lengths.sum()), np.int64)
        size = _walk(
            self._text, self._next, self._spellings, self._ends, lengths, seed, asked, spans, places, out, offsets
        )  # fmt: skip
        text = pa.py_buffer(out[:size].copy())
        return pa.LargeStringArray.from_buffers(len(lengths), pa.py_buffer(offsets), text), places

    def block(self, start: int, rows: int) -> pa.Table:
        """Rows ``start`` to ``start + rows``: id, prompt, response, label, source."""
        random = np.random.default_rng(start)
        spans = np.zeros((rows, 2), np.int64)
        lengths = np.maximum(4, random.lognormal(3.0, 0.6, rows)).astype(np.int64)
        prompts, places = self._texts(lengths, 2 * start + 1, spans, np.zeros(0, np.int64))
        answers = np.maximum(1, random.lognormal(3.5, 0.9, rows)).astype(np.int64)
        copies = np.flatnonzero(random.random(rows) < 0.02)
        originals = np.array([int(random.integers(0, max(1, at))) for at in copies.tolist()], np.int64)
        if self._answering:
            spans[:, 1] = np.cumsum(lengths)
            spans[:, 0] = spans[:, 1] - lengths
            for at, original in zip(copies.tolist(), originals.tolist()):
                spans[at] = spans[original]
        responses, _ = self._texts(answers, 2 * start + 2, spans, places)
        held = prompts.to_pylist()
        for at, original in zip(copies.tolist(), originals.tolist()):
            held[at] = held[original] + " please"
        return pa.table(
            {
                "id": pa.array([f"row-{i}" for i in range(start, start + rows)]),
                "prompt": pa.array(held, pa.large_string()),
                "response": responses,
                "label": pa.array([f"class {i}" for i in random.integers(0, LABELS, rows)]),
                "source": pa.array([f"source {i}" for i in random.integers(0, 20, rows)]),
            }
        )

    def write(self, path: Path, rows: int) -> None:
        """A Parquet file of so many rows."""
        writer: pq.ParquetWriter | None = None
        for start in range(0, rows, BLOCK):
            table = self.block(start, min(BLOCK, rows - start))
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
