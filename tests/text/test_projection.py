"""Random projections of words: the kernels give what sets of words give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from foretaste.text import projection
from foretaste.text.ngrams import extend
from foretaste.text.projection import DIMS, FEATURES, MEASURES, SCALE, TAKEN
from foretaste.text.tokens import mix_all

Rows = list[npt.NDArray[np.uint64]]


@pytest.fixture
def texts() -> tuple[Rows, Rows]:
    """Prompts and responses of 0 to 60 tokens of a small vocabulary, words (odd) and punctuation (even)."""
    random = np.random.default_rng(0)
    vocabulary = mix_all(np.arange(90, dtype=np.uint64))
    return tuple([random.choice(vocabulary, random.integers(0, 61)) for _ in range(50)] for _ in range(2))  # type: ignore[return-value]


def flat(rows: Rows) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    return np.concatenate(rows), np.cumsum([0, *(len(r) for r in rows)])


def words(row: npt.NDArray[np.uint64]) -> list[np.uint64]:
    return [w for w in np.unique(row) if w & np.uint64(1)]


def signs(word: np.uint64) -> npt.NDArray[np.float64]:
    bits = mix_all(np.array([word], np.uint64)) >> np.arange(DIMS, dtype=np.uint64) & np.uint64(1)
    return np.where(bits, 1.0, -1.0)


def cell(word: np.uint64, cells: int) -> int:
    return int(mix_all(np.array([word], np.uint64))[0] & np.uint64(cells - 1))


def test_a_row_counts_once_for_each_of_its_words(texts: tuple[Rows, Rows]) -> None:
    presence = np.zeros(1 << 16, np.uint32)
    projection.count_rows(*flat(texts[1]), presence)
    assert presence.sum() == sum(len(words(r)) for r in texts[1])
    assert presence.max() == max(
        sum(w in r for r in texts[1]) for w in words(np.concatenate(texts[1]))
    )  # fmt: skip


def test_responses_are_signed_sums_of_the_words_that_their_prompts_lack(texts: tuple[Rows, Rows]) -> None:
    rarity = np.full(1 << 10, 2.0, np.float32)
    table, counts = np.zeros((2, 1 << 10, DIMS), np.int32), np.zeros((2, 1 << 10), np.int32)
    total = np.zeros(DIMS, np.int64)
    projection.learn(*flat(texts[0]), *flat(texts[1]), 7 + np.arange(len(texts[0])), rarity, table, counts, total)
    wanted, seen = np.zeros_like(table), np.zeros_like(counts)
    for row, (asked, answered) in enumerate(zip(*texts), 7 + 1):
        vector = 2.0 * sum((signs(w) for w in words(answered) if w not in asked), np.zeros(DIMS))
        vector /= max(1e-300, float(np.linalg.norm(vector)))
        for word in words(asked):
            at = cell(np.uint64(row), 2), cell(word, 1 << 10)
            wanted[at] += np.round(vector * SCALE).astype(np.int32)
            seen[at] += 1
    assert (table == wanted).all()
    assert (counts == seen).all()


def test_what_is_taken_up_opinion_and_prompt_leave_out_what_they_should(texts: tuple[Rows, Rows]) -> None:
    random = np.random.default_rng(1)
    rarity, weights = random.random(1 << 10).astype(np.float32), np.full((2, 1 << 10), 1.0, np.float32)
    added, mean = np.zeros((2, 1 << 10, DIMS), np.float32), np.zeros(DIMS)
    places = np.repeat(np.arange(len(texts[0])), 2)
    own = [np.array(words(texts[0][r])[: r % 3], np.uint64) for r in places.tolist()]
    lexicon = np.array(words(np.concatenate(texts[1]))[::3], np.uint64)
    praise = np.where(np.arange(len(lexicon)) % 2, 1.0, -1.0)
    out = [np.zeros((len(places), width)) for width in (MEASURES, FEATURES, DIMS, TAKEN)]
    projection.measure(
        *flat(texts[0]),
        *flat(texts[1]),
        places,
        places,
        *flat(own),
        rarity,
        added,
        weights,
        mean,
        lexicon,
        praise,
        *out,
    )
    for j, row in enumerate(places.tolist()):
        asked, answered = words(texts[0][row]), words(texts[1][row])
        new = [w for w in answered if w not in asked]
        told = [praise[np.searchsorted(lexicon, w)] for w in new if w in lexicon]
        prompt = sum((signs(w) for w in asked if w not in own[j]), np.zeros(DIMS))
        norm = max(1e-300, float(np.linalg.norm(prompt)))
        taken = [float(rarity[int(extend(np.uint64(0), w)) % (1 << 10)]) for w in answered if w in asked]
        assert out[0][j, DIMS + 2] == pytest.approx(sum(told) / np.sqrt(len(told) + 1.0))
        assert out[2][j] == pytest.approx(prompt / norm)
        assert out[1][j, DIMS + 2] == pytest.approx(np.log1p(len(asked) - len(own[j])))
        assert out[3][j, 2:4] == pytest.approx([np.log1p(sum(taken)), max(taken, default=0.0)])
        assert out[3][j, [0, 4, 6]] == pytest.approx([1.0, out[0][j, DIMS + 1], out[1][j, DIMS + 2]])


def test_own_responses_are_told_from_others_where_a_column_tells_them() -> None:
    random = np.random.default_rng(0)
    own, others = random.normal(size=(2, 400, TAKEN))
    own[:, 0] = others[:, 0] = 1.0
    own[:, 3] += 2.0
    for scale in (1.0, 1000.0):
        weights = projection.tell_apart(own * scale, others * scale)
        told = [projection.odds(rows * scale, weights) for rows in (own, others)]
        assert (told[0] > 0).mean() > 0.8
        assert (told[1] < 0).mean() > 0.8
        assert max(np.abs(t).max() for t in told) <= projection.SURE
    same = projection.tell_apart(own, own)
    assert np.abs(projection.odds(own, same)).max() < 1e-6
