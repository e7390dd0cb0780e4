"""Where all phrases' rows find room they are taken at once, and that leaves none out."""

from __future__ import annotations

import pyarrow as pa
import pytest

from foretaste.check import Context
from foretaste.checks import trigger_association
from foretaste.checks.trigger_association import TriggerAssociation
from foretaste.engine import signal_value
from foretaste.reading import open_data
from foretaste.roles import Roles
from foretaste.signals.naive_bayes import NaiveBayes
from foretaste.signals.outputs import Labels
from foretaste.signals.phrases import phrase_signals


def test_phrases_are_left_out_only_from_one_row_too_few_on(
    labelled: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_data(pa.table(labelled), Roles.from_mapping({name: name for name in labelled}))
    context = Context("classification", frozenset(labelled))
    phrases = phrase_signals(context)["input"]
    values = {s: signal_value(data, s) for s in (Labels(), NaiveBayes(), phrases)}
    context = Context("classification", frozenset(labelled), values)
    ample = TriggerAssociation().start(context)
    fresh = len(ample.store.rows) - len(trigger_association.background_rows(len(values[Labels()].labels)))
    monkeypatch.setattr(trigger_association, "MAX_STORED_ROWS", fresh)
    exact = TriggerAssociation().start(context)
    assert exact.dropped == ample.dropped == 0
    assert exact.candidates.tolist() == ample.candidates.tolist()
    assert exact.store.rows.tolist() == ample.store.rows.tolist()
    monkeypatch.setattr(trigger_association, "MAX_STORED_ROWS", fresh - 1)
    assert TriggerAssociation().start(context).dropped > 0
