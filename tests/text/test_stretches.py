"""Stretches: those asked for by their gaps are the same as a choice from all of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from foretaste.engine import signal_value
from foretaste.reading import open_data
from foretaste.roles import Roles
from foretaste.signals.phrases import Phrases, stretches


def test_stretches_whose_gaps_close_are_a_choice_from_all_of_them(clean_table: pa.Table) -> None:
    data = open_data(clean_table.select(["id", "text"]), Roles.from_mapping({"text": "text", "id": "id"}))
    table = signal_value(data, Phrases("input"))
    every, scores, sizes = stretches(table, 5, 0.5)
    assert sizes.tolist() == [len(s.rows) for s in every]
    some, theirs, same = stretches(table, 5, 0.5, 0.3, 0.4)
    kept = (scores[:, 2] >= 0.3) & (scores[:, 4] >= 0.4)
    assert 0 < len(some) < len(every)
    assert [(s.text, s.rows.tolist()) for s in some] == [
        (s.text, s.rows.tolist()) for s, k in zip(every, kept.tolist()) if k
    ]
    assert (theirs == scores[kept]).all()
    assert np.array_equal(same, sizes)
