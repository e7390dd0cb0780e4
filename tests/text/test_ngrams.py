"""The kernels against a plain count: same n-grams, same rows, wherever a batch or a chunk ends."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from foretaste.check import Context
from foretaste.reading import open_data
from foretaste.reading.dataset import Dataset
from foretaste.signals.phrases import Phrases, PhraseTable, stretches
from foretaste.text.merging import empty_table
from foretaste.text.ngrams import (
    MAX_N,
    RAREFIED,
    count_ngrams,
    extend,
    frequent_ngrams,
    neighbour_diversity,
    rarefied_diversity,
    sketch_ngrams,
)
from foretaste.text.tokens import mix

SMALL = {"cells": 1 << 16, "bigrams": 1 << 16, "unigrams": 1 << 16}


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    """Rows of 0 to 40 words with Zipf's frequencies; one is longer than two chunks of the kernels."""
    random = np.random.default_rng(0)
    lengths = [*random.integers(0, 40, 300).tolist(), 1500, 0]
    return [(random.zipf(1.3, n) % 500 + 1).tolist() for n in lengths]


def flat(rows: list[list[int]]) -> tuple[Any, Any]:
    """Token hashes and offsets."""
    tokens = np.array([int(mix(np.uint64(w))) | 1 for row in rows for w in row], np.uint64)
    return tokens, np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)


def grams(tokens: Any, offsets: Any) -> list[list[tuple[int, int, int]]]:
    """(n, hash, position) of every n-gram of every row, by the definition."""
    found = []
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist()):
        mine = []
        for i in range(start, stop):
            h = np.uint64(0)
            for n in range(1, min(MAX_N, stop - i) + 1):
                h = np.uint64(extend(h, tokens[i + n - 1]))
                mine.append((n, int(h), i - start))
        found.append(mine)
    return found


def sketches() -> list[Any]:
    """Empty: n-grams, bigrams twice, unigrams, presence, last row."""
    return [
        *(np.zeros(SMALL[k], np.uint8) for k in ("cells", "bigrams", "bigrams")),
        *(np.zeros(SMALL["unigrams"], np.uint32) for _ in range(2)), np.full(SMALL["unigrams"], -1, np.int32),
    ]  # fmt: skip


def test_sketches_hold_the_counts_of_a_plain_loop(rows: list[list[int]]) -> None:
    tokens, offsets = flat(rows)
    made = sketches()
    sketch_ngrams(tokens, offsets, offsets, 0, *made)
    cells, bigrams, unigrams, presence = Counter[int](), Counter[int](), Counter[int](), Counter[int]()
    for row in grams(tokens, offsets):
        cells.update(h % SMALL["cells"] for n, h, _ in row if n > 2)
        bigrams.update((h >> 8) % SMALL["bigrams"] for n, h, _ in row if n == 2)
        unigrams.update(h % SMALL["unigrams"] for n, h, _ in row if n == 1)
        presence.update({h % SMALL["unigrams"] for n, h, _ in row if n == 1})
    for array, counted in zip((made[0], made[1], made[3], made[4]), (cells, bigrams, unigrams, presence)):
        most = 255 if array.dtype == np.uint8 else 1 << 31
        assert {int(i): int(array[i]) for i in np.flatnonzero(array)} == {i: min(k, most) for i, k in counted.items()}


def test_counts_are_those_of_a_plain_loop(rows: list[list[int]]) -> None:
    tokens, offsets = flat(rows)
    made = sketches()
    sketch_ngrams(tokens, offsets, offsets, 0, *made)
    table = empty_table(1 << 14)
    labels = np.full(len(rows), -1, np.int32)
    flags = np.empty(len(tokens), np.uint8)
    frequent_ngrams(tokens, offsets, *made[:4], 3, flags)
    count_ngrams(
        tokens,
        offsets,
        offsets,
        0,
        labels,
        flags,
        *(table[name] for name in ("index", "keys", "tallies", "where", "size")),
    )
    counted, first = Counter[int](), dict[int, tuple[int, int, int]]()
    for number, row in enumerate(grams(tokens, offsets)):
        counted.update({h for _, h, _ in row})
        for n, h, position in row:
            first.setdefault(h, (number, position, n))
    used = range(int(table["size"][0]))
    exact = {int(table["keys"][s]): int(table["tallies"]["count"][s]) for s in used}
    assert {h: k for h, k in exact.items() if k >= 3} == {h: k for h, k in counted.items() if k >= 3}
    assert all(tuple(table["where"][s].tolist()) == first[int(table["keys"][s])] for s in used)


def phrases(texts: list[str], cuts: list[int], memory: int = 2 << 30) -> PhraseTable:
    """The phrases of texts that come in batches cut at the given rows."""
    signal = Phrases("input", insertion_least=2, insertion_diversity=0.0)
    state = signal.start(Context("documents", frozenset({"text"}), memory=memory))
    whole = next(open_data(pa.table({"text": texts})).batches())
    bounds = [0, *cuts, len(texts)]
    following: Any = state
    while following is not None:
        state = following
        for a, b in itertools.pairwise(bounds):
            part = whole.columns.slice(a, b - a)
            joined = pa.RecordBatch.from_arrays([pa.concat_arrays([c]) for c in part.columns], schema=part.schema)
            signal.scan(state, type(whole)(_copied(joined), start=a, kind=whole.kind))
        following = signal.next_round(state)
    return signal.value(state)


def _copied(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows at offset 0."""
    return pa.RecordBatch.from_pydict(batch.to_pydict(), schema=batch.schema)


@pytest.fixture(scope="module")
def texts(rows: list[list[int]]) -> list[str]:
    return [" ".join(f"w{w}" for w in row) or "empty" for row in rows]


def test_phrases_do_not_depend_on_how_rows_fall_into_batches(texts: list[str]) -> None:
    one, many = phrases(texts, []), phrases(texts, [1, 7, 100, 299])
    assert one.text == many.text
    for name in ("n", "spans", "rows", "positions", "lefts", "rights", "purity"):
        assert np.array_equal(getattr(one, name), getattr(many, name)), name


def test_occurrences_are_those_of_a_plain_search(texts: list[str]) -> None:
    table = phrases(texts, [50])
    words = [t.split() for t in texts]
    for p in range(0, len(table.n), 7):
        wanted = table.text[p].split()
        holding = [
            r for r, w in enumerate(words) if any(w[i : i + len(wanted)] == wanted for i in range(len(w)))
        ]  # fmt: skip
        assert table.rows_of(p).tolist() == holding


def test_short_memory_leaves_rare_phrases_out_and_says_so(monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> None:
    assert phrases(texts, []).loss == ""
    short = phrases(texts, [], memory=1 << 18)
    assert "were not looked at (memory_mb)" in short.loss
    assert short.counts.min() >= 3


def test_without_outputs_phrases_too_rare_to_be_inserted_take_no_room(texts: list[str]) -> None:
    def counted(least: int) -> tuple[int, tuple[str, ...]]:
        signal = Phrases("input", least=least, insertion_least=10)
        state = signal.start(Context("documents", frozenset({"text"})))
        batch = next(open_data(pa.table({"text": texts})).batches())
        for _ in range(2):
            signal.scan(state, batch)
            following = signal.next_round(state) if state.round == 1 else None
            state = following or state
        used = int(state.table["size"][0])
        following = signal.next_round(state)
        assert following is not None
        signal.scan(following, batch)
        return used, signal.value(following).text

    assert counted(3) == counted(10)


def test_diversity_counts_distinct_neighbours() -> None:
    random = np.random.default_rng(1)
    values = random.integers(0, 30, 2000).astype(np.uint64)
    spans = np.array([0, 1, 40, 40, 700, 2000], np.int64)
    out = np.zeros((5, 2))
    neighbour_diversity(spans, values, values[::-1].copy(), out)
    for c, (a, b) in enumerate(itertools.pairwise(spans)):
        part = values[a : min(b, a + 512)]
        assert out[c, 0] == len(np.unique(part)) / max(1, len(part))


def test_rarefied_diversity_is_that_of_a_draw_of_few_rows() -> None:
    random = np.random.default_rng(2)
    values = (random.zipf(1.4, 340) % 200).astype(np.uint64)
    spans = np.array([0, 20, 40, 340], np.int64)
    out, plain = np.zeros((3, 2)), np.zeros((3, 2))
    rarefied_diversity(spans, values, values[::-1].copy(), out)
    neighbour_diversity(spans, values, values[::-1].copy(), plain)
    assert out[:2] == pytest.approx(plain[:2])
    draws = [len(np.unique(random.choice(values[40:], RAREFIED, replace=False))) for _ in range(4000)]
    assert out[2, 0] == pytest.approx(np.mean(draws) / RAREFIED, abs=0.005)
    assert out[2, 0] > 1.5 * plain[2, 0]


@pytest.mark.parametrize("n", [25, 100, 250, 500])
def test_a_word_between_few_others_is_an_insertion_in_many_rows_as_in_few(n: int) -> None:
    random = np.random.default_rng(3)
    lefts, rights = random.integers(1, 60, (2, n)).astype(np.uint64)
    none = np.zeros(64, np.uint8)
    table = PhraseTable(
        n=np.array([1]), text=("honestly",), spans=np.array([0, n]), rows=np.arange(n), positions=np.full(n, 3),
        lefts=lefts, rights=rights, purity=np.zeros(1), bigrams=(none, none), unigrams=np.ones(64, np.uint32),
        presence=np.ones(64, np.uint32), total=64.0, sample=np.arange(4096, dtype=np.uint64), lost=0, documents=6000,
    )  # fmt: skip
    assert [len(s.rows) for s in stretches(table, 10, 0.5)[0]] == [n]


def test_a_data_set_reads_the_same_rows_from_memory(texts: list[str]) -> None:
    def seen(keep: int) -> list[tuple[int, int]]:
        dataset: Dataset = open_data(pa.table({"text": texts}))
        dataset.keep_bytes = keep
        found: list[tuple[int, int]] = []

        class Look:
            def scan(self, state: Any, batch: Any) -> None:
                found.append((batch.start, int(batch.tokens("input").hashes.sum())))

            def merge(self, left: Any, right: Any) -> Any:
                return left

        from foretaste.sweep import Part

        for _ in range(2):
            dataset.sweep([Part(Look(), None)], lambda rows: None)
        assert dataset.kept == bool(keep)
        return found

    assert seen(0) == seen(1 << 30)
