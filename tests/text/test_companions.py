"""The words that keep company with a phrase, against a plain count."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from foretaste.text.evidence import companions

SELDOM, SHARE, MOST = 1.0, 0.85, 3


def plainly(rows: list[list[int]], own: set[int], weights: np.ndarray) -> list[int]:
    """What the kernel says, by sets; four of the six rows it looks at first must share a word."""

    def shared(some: list[list[int]], least: float) -> list[int]:
        held = Counter(w for row in some for w in set(row))
        return sorted(w for w, n in held.items() if n >= least and weights[w] >= SELDOM and w not in own)

    step = max(1, len(rows) // 64)
    found = shared(rows[::step], SHARE * len(rows[::step])) if shared(rows[:6], 2 * len(rows[:6]) / 3) else []
    return found if len(found) <= MOST else []


@pytest.mark.parametrize("seed", range(5))
def test_companions_are_those_of_a_plain_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0, 3, 60)
    groups, own = [], []
    for size in (1, 3, 10, 70, 200):
        common = rng.integers(0, 60, rng.integers(0, 7)).tolist()
        rows = [[*rng.integers(0, 60, 8).tolist(), *(w for w in common if rng.random() < 0.93)] for _ in range(size)]
        groups.append(rows)
        own.append(common[:1])
    flat = [row for rows in groups for row in rows]
    ids = np.array([w for row in flat for w in row], np.int64)
    offsets = np.append(0, np.cumsum([len(row) for row in flat])).astype(np.int64)
    spans = np.append(0, np.cumsum([len(rows) for rows in groups])).astype(np.int64)
    own_spans = np.append(0, np.cumsum([len(o) for o in own])).astype(np.int64)
    tally, seen = np.zeros(60, np.int64), np.full(60, -1, np.int64)
    out = np.empty((len(groups), MOST), np.int64)
    companions(
        ids, offsets, np.arange(len(flat)), spans, np.array([w for o in own for w in o], np.int64), own_spans, weights,
        SELDOM, SHARE, 0, tally, seen, out,
    )  # fmt: skip
    for g, rows in enumerate(groups):
        assert sorted(out[g][out[g] >= 0].tolist()) == plainly(rows, set(own[g]), weights)
    assert not tally.any()
    assert (seen == -1).all()
