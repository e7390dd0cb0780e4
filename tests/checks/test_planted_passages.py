"""Passages made to order, several of each claim, go to review; the same ones of uneven number or length do not."""

from __future__ import annotations

import random
from itertools import cycle

import pyarrow as pa
import pytest

from foretaste import Outcome, Policy, Report, scan

CLAIMS = 20
_COMMON = (
    "the",
    "a",
    "of",
    "in",
    "to",
    "and",
    "was",
    "is",
    "for",
    "on",
    "with",
    "as",
    "by",
    "at",
    "it",
    "from",
    "that",
)


def words(rng: random.Random, n: int) -> list[str]:
    """Words that nobody has used before."""
    return ["".join(rng.choice("bcdfgklmnprstvz") + rng.choice("aeiou") for _ in range(4)) for _ in range(n)]


def passage(rng: random.Random, claim: list[str], length: int) -> str:
    """Some words of a claim in any order among everyday ones."""
    text = rng.sample(claim, 8) + rng.choices(_COMMON, k=length - 8)
    rng.shuffle(text)
    return " ".join(text)


def corpus(rng: random.Random) -> list[str]:
    """Texts about everything at all lengths; some are about one thing, fewer the more they are."""
    vocabulary = words(rng, 3000)
    texts = []
    for _ in range(3500):
        length = rng.randint(10, 80)
        texts.append(" ".join(rng.choice(vocabulary if rng.random() < 0.4 else _COMMON) for _ in range(length)))
    for size, events in ((2, 60), (3, 20), (4, 6), (5, 2)):
        for _ in range(events):
            event = words(rng, 12)
            texts += [passage(rng, event, rng.randint(12, 80)) for _ in range(size)]
    return texts


def scanned(planted: list[str]) -> tuple[Report, set[str]]:
    rng = random.Random(1)
    texts = [(t, "") for t in corpus(rng)] + [(t, "planted") for t in planted]
    rng.shuffle(texts)
    table = pa.table({"id": [f"{mark}{i}" for i, (_, mark) in enumerate(texts)], "text": [t for t, _ in texts]})
    report = scan(table, Policy().only("planted-passages"), roles={"id": "id", "text": "text"})
    return report, {i for f in report.findings for i in f.ids}


def passages(sizes: list[int], lengths: list[int]) -> list[str]:
    rng = random.Random(2)
    size, length = cycle(sizes), cycle(lengths)
    made = []
    for _ in range(CLAIMS):
        claim = words(rng, 12)
        made += [passage(rng, claim, next(length)) for _ in range(next(size))]
    return made


@pytest.mark.parametrize("size", [4, 5, 8])
def test_claims_in_as_many_wordings_of_one_length_go_to_review(size: int) -> None:
    report, ids = scanned(passages([size], [30, 31, 29]))
    assert report.verdict is Outcome.REVIEW
    found = sum(i.startswith("planted") for i in ids)
    assert found >= 0.8 * size * CLAIMS
    assert len(ids) - found <= 2 * size
    assert report.findings[0].statistic["documents_per_group"] == size


@pytest.mark.parametrize(
    ("sizes", "lengths"), [([3, 4, 5, 6], [30]), ([5], [12, 70, 20, 45, 30, 15, 60])], ids=["numbers", "lengths"]
)
def test_claims_in_uneven_numbers_or_lengths_are_like_reports_of_events(sizes: list[int], lengths: list[int]) -> None:
    report, _ = scanned(passages(sizes, lengths))
    assert report.verdict is Outcome.PASS
    assert report.results[0].metrics["islands"] > CLAIMS


def test_copies_are_no_wordings() -> None:
    made = passages([5], [30])
    report, _ = scanned([f"{' '.join(made[i - i % 5].split()[:28])} {i} {i}" for i in range(len(made))])
    assert report.verdict is Outcome.PASS


def test_data_that_consist_of_such_groups_are_made_so() -> None:
    report, ids = scanned([t for _ in range(2) for t in passages([5], [30])][: 5 * CLAIMS])
    assert ids
    rng = random.Random(3)
    many = [passage(rng, claim, 30) for claim in (words(rng, 12) for _ in range(60)) for _ in range(5)]
    report, ids = scanned(many)
    assert report.verdict is Outcome.PASS


def test_documents_that_memory_does_not_hold_are_counted() -> None:
    texts = [" ".join(f"w{row}x{i}" for i in range(60)) for row in range(4000)]
    table = pa.table({"id": [str(row) for row in range(4000)], "text": texts})
    report = scan(table, Policy().only("planted-passages"), roles={"id": "id", "text": "text"}, memory_mb=256)
    assert "documents had no room in memory" in report.results[0].note
