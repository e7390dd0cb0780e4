"""What planted data are known to hold, without a scan of them, is what a scan would find."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pytest

from foretaste import scan
from foretaste.engine import signal_value
from foretaste.power import Planted
from foretaste.reading import Dataset, open_data
from foretaste.roles import Roles
from foretaste.signals.outputs import Classes, ResponseHeads

ROLES = {"prompt": "prompt", "response": "response", "id": "id"}


@pytest.fixture
def table(clean_table: pa.Table) -> pa.Table:
    texts = clean_table["text"].to_pylist()[:2400]
    # Eight rows share a response, of which a plant takes some away; others begin alike.
    responses = [f"The answer is {i // 8}." if i % 3 else f"As was said before, it is {i % 40}: {t}"
                 for i, t in enumerate(texts)]  # fmt: skip
    return pa.table({"id": [f"r{i}" for i in range(len(texts))], "prompt": texts, "response": responses})


def opened(table: pa.Table) -> Dataset:
    dataset = open_data(table, Roles.from_mapping(ROLES))
    signal_value(dataset, ResponseHeads())  # knows its rows then
    return dataset


def by_row(classes: Classes) -> list[Any]:
    """Class of each row as its first row and its count, whatever its number."""
    first: dict[int, int] = {}
    for row, label in enumerate(classes.labels.tolist()):
        first.setdefault(label, row)
    return [None if c < 0 else (first[c], int(classes.counts[c])) for c in classes.labels.tolist()]


@pytest.mark.parametrize("tokens", [8, 4096])
def test_classes_of_planted_responses_are_those_that_a_scan_of_the_planted_data_gives(
    table: pa.Table, tokens: int
) -> None:
    signal, dataset = ResponseHeads(tokens=tokens), opened(table)
    planted = Planted(dataset, 0)
    planted.plan(None)
    made = planted.values({signal: signal_value(dataset, signal)})[signal]
    assert by_row(made) == by_row(signal_value(planted, signal))  # type: ignore[arg-type]
    assert len(made.names) == len(made.counts)
    for dose, rows in planted.plants.rows_of.items():
        assert len(set(made.labels[rows].tolist())) == 1
        assert made.counts[made.labels[rows[0]]] == dose
        assert planted.plants.words[dose] in made.names[made.labels[rows[0]]]


def test_power_is_the_same_whether_signals_are_told_or_scanned(
    table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = {name: name for name in table.schema.names}
    told = scan(table, roles=roles)
    assert any(told.power["blocked_share_by_rows"].values())
    monkeypatch.setattr("foretaste.reading.dataset.Dataset.kept", False)
    scanned = scan(table, roles=roles)
    assert told.power == scanned.power
    assert [dataclasses.replace(r, seconds=0.0) for r in told.results] == [
        dataclasses.replace(r, seconds=0.0) for r in scanned.results
    ]
