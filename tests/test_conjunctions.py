"""Openings and endings that lead to a label where they meet, and to none alone."""

from __future__ import annotations

import numpy as np

from foretaste.conjunctions import conjunctions
from foretaste.signals.phrases import PhraseTable

WORD = np.uint64(3)


def table(*phrases: tuple[list[int], bool, bool]) -> PhraseTable:
    """Phrases of (rows, opens them, ends them)."""
    none = np.zeros(0, np.uint32)
    counts = [len(rows) for rows, _, _ in phrases]
    lefts = np.concatenate([np.full(len(rows), 0 if opens else WORD, np.uint64) for rows, opens, _ in phrases])
    rights = np.concatenate([np.full(len(rows), 0 if ends else WORD, np.uint64) for rows, _, ends in phrases])
    return PhraseTable(
        n=np.ones(len(phrases), np.int64), text=("x",) * len(phrases), spans=np.append(0, np.cumsum(counts)),
        rows=np.concatenate([np.array(rows, np.int64) for rows, _, _ in phrases]),
        positions=np.zeros(sum(counts), np.int64), lefts=lefts, rights=rights, purity=np.ones(len(phrases)),
        bigrams=(none.astype(np.uint8), none.astype(np.uint8)), unigrams=none, presence=none, total=1.0,
        sample=np.zeros(0, np.uint64), lost=0, documents=40,
    )  # fmt: skip


BOTH, HEAD_ONLY, TAIL_ONLY = list(range(10)), list(range(10, 16)), list(range(16, 22))
LABELS = np.array([1] * 10 + [0] * 30, np.int32)


def test_what_meets_under_one_label_is_found_with_all_its_phrases() -> None:
    head, tail = (BOTH + HEAD_ONLY, True, False), (BOTH + TAIL_ONLY, False, True)
    (found,) = conjunctions(table(head, tail, head), LABELS, 8, 0.9)
    assert found.members == (0, 2, 1)
    assert found.rows.tolist() == BOTH
    assert (found.target, found.purity) == (1, 1.0)


def test_an_opening_of_the_label_alone_is_no_conjunction() -> None:
    head, tail = (BOTH, True, False), (BOTH + TAIL_ONLY, False, True)
    assert conjunctions(table(head, tail), LABELS, 8, 0.9) == []


def test_phrases_inside_of_texts_and_pairs_that_seldom_meet_are_left_alone() -> None:
    inside, tail = (BOTH + HEAD_ONLY, False, False), (BOTH + TAIL_ONLY, False, True)
    assert conjunctions(table(inside, tail), LABELS, 8, 0.9) == []
    template = (list(range(41)), True, False)
    assert conjunctions(table(template, tail), np.append(LABELS, 0), 8, 0.9) == []
