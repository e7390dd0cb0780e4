"""The kernels of the pairwise model say what a plain count of words says."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyarrow as pa

from foretaste.text.pairs import BUCKETS, PSEUDO, count_words, difference_words, score_groups, score_words
from foretaste.text.tokens import Tokens, tokenize

CHOSEN = ["the long and good answer", "a good one", "it is so", "good", "", "the same"] * 3
REJECTED = ["no", "a bad one", "it is not so", "bad bad bad", "nothing", "the same"] * 3
FOLDS = (np.arange(18) % 4).astype(np.uint8)


def tokens(texts: list[str]) -> Tokens:
    data = "".join(texts).encode()
    ends = np.cumsum([0, *(len(t.encode()) for t in texts)]).astype(np.int64)
    return tokenize(np.frombuffer(data, np.uint8), ends)


def grams(text: str) -> set[str]:
    words = text.split()
    return {*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))}


def plain(row: int, left_out: set[int]) -> float:
    """The score of a row from the rows of other folds, without those that are left out."""
    voters = [r for r in range(len(CHOSEN)) if FOLDS[r] != FOLDS[row] and r not in left_out]
    score = 0.0
    for sign, words in (
        (1, grams(CHOSEN[row]) - grams(REJECTED[row])),
        (-1, grams(REJECTED[row]) - grams(CHOSEN[row])),
    ):
        for word in words:
            wins = sum(word in grams(CHOSEN[r]) - grams(REJECTED[r]) for r in voters)
            losses = sum(word in grams(REJECTED[r]) - grams(CHOSEN[r]) for r in voters)
            score += sign * math.log((wins + PSEUDO) / (losses + PSEUDO))
    return score


def test_scores_are_those_of_a_plain_count_with_and_without_a_group() -> None:
    chosen, rejected = tokens(CHOSEN), tokens(REJECTED)
    every = np.ones(len(CHOSEN), np.bool_)
    presence = np.zeros(BUCKETS, np.uint32)
    words, sides, offsets = difference_words(
        chosen.hashes, chosen.offsets, rejected.hashes, rejected.offsets, every, presence
    )
    assert presence.sum() == sum(len(grams(t)) for t in CHOSEN + REJECTED)
    counts = np.zeros((BUCKETS, 4, 2), np.uint32)
    count_words(words, sides, offsets, FOLDS, counts)
    total = counts.sum(axis=1, dtype=np.uint32)
    scores = np.empty((len(CHOSEN), 4))
    score_words(words, sides, offsets, FOLDS, counts, total, scores)
    assert np.allclose(scores[:, 0], [plain(r, set()) for r in range(len(CHOSEN))])
    groups = [[0, 1, 7], [3], [2, 5, 8, 9, 17]]
    places = np.concatenate(groups).astype(np.int64)
    spans = np.cumsum([0, *map(len, groups)]).astype(np.int64)
    grouped = np.empty((len(places), 2))
    score_groups(words, sides, offsets, FOLDS, counts, total, spans, places, grouped)
    assert np.allclose(grouped[:, 0], [plain(r, set(group)) for group in groups for r in group])


def test_exchanging_the_answers_changes_the_sign() -> None:
    texts = pa.array(CHOSEN).to_pylist(), pa.array(REJECTED).to_pylist()
    scores = []
    for chosen, rejected in ((tokens(texts[0]), tokens(texts[1])), (tokens(texts[1]), tokens(texts[0]))):
        words, sides, offsets = difference_words(
            chosen.hashes,
            chosen.offsets,
            rejected.hashes,
            rejected.offsets,
            np.ones(18, np.bool_),
            np.zeros(0, np.uint32),
        )
        if not scores:
            counts = np.zeros((BUCKETS, 4, 2), np.uint32)
            count_words(words, sides, offsets, FOLDS, counts)
        out = np.empty((18, 4))
        score_words(words, sides, offsets, FOLDS, counts, counts.sum(axis=1, dtype=np.uint32), out)
        scores.append(out[:, 0])
    assert np.allclose(scores[0], -scores[1])
