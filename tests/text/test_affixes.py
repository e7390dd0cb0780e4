"""Openings and endings: which groups share most of their rows."""

from __future__ import annotations

import numpy as np

from foretaste.signals.affixes import _beside


def test_groups_beside_each_other_are_those_of_one_side_that_share_most_rows() -> None:
    random = np.random.default_rng(0)
    # Nested openings and endings, as the rows' trees of prefixes make them: a row lists each side from short to long.
    rows, sides, keys = [], [], []
    for row in range(400):
        for side in range(2):
            key = ""
            for _ in range(8):
                key += str(random.choice(3, p=[0.9, 0.08, 0.02]))
                if random.random() < 0.9:  # its cell is full
                    rows.append(row)
                    sides.append(side)
                    keys.append(f"{side}{key}")
    groups = [np.flatnonzero(np.array(keys) == k) for k in sorted(set(keys))]
    groups = [g for g in groups if len(g) >= 8]
    spans = np.cumsum([0, *map(len, groups)])
    found = _beside(
        np.array(rows), np.zeros(len(rows), np.int32), np.array(sides, np.int8), np.concatenate(groups), spans
    )
    members = [set(np.array(rows)[g].tolist()) for g in groups]
    wanted = {
        (g, h)
        for g in range(len(groups))
        for h in range(len(groups))
        if g != h
        and sides[groups[g][0]] == sides[groups[h][0]]
        and members[h] & {sorted(members[g])[at] for at in (0, len(members[g]) // 2, -1)}
        and min(len(members[g]), len(members[h])) >= 0.85 * max(len(members[g]), len(members[h]))
    }
    assert wanted
    assert {(g, h) for g, others in found.items() for h in others} == wanted
