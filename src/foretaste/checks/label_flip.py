"""Labels that the words of their rows speak against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawResult, Signal
from foretaste.flips import FlipRules, Opinion
from foretaste.signals.naive_bayes import TAIL, Model, NaiveBayes
from foretaste.signals.outputs import Classes, Labels
from foretaste.signals.sources import SourceNumbers, Sources


@dataclass
class _State:
    """The label model, labels and sources; no rows."""

    model: Model
    classes: Classes
    sources: SourceNumbers


@dataclass(frozen=True, kw_only=True)
class LabelFlip(FlipRules, Check[_State]):
    """Flipped labels: rows whose words speak against their label, ranked, and the source that they come from.

    A leave-one-out naive Bayes model, tempered on held-out predictions, gives each row the probability of its label.
    By its own account it expects a certain number of labels with a probability below one percent; natural noise adds
    some. Where the labels under one percent outnumber the expected ones ``excess`` times, labels were probably flipped
    and those rows go to review; otherwise only the worst ``quiet_share`` of all rows do.

    Blocks: a source (vendor, annotator) whose rows hold ``source_excess`` times as many such labels as the model
    expects there, compared with all other sources, at least ``block_rows`` of them and at least ``source_share`` of its
    rows.

    Misses: flips between classes that words do not tell apart, fewer flips than natural noise where no source owns
    them, flips in most rows (the model learns them), systematic relabelling of one topic.

    Poisoned: "the worst film of the year", positive, from the vendor who has sixty of the kind. Clean: "not bad".

    After confident learning (Northcutt et al. 2021), with a model that adds up. Rank quality depends on the text: the
    report gives the model's accuracy.

    Args:
        excess: ratio of observed to expected improbable labels from which the data as a whole go to review.
        quiet_share: share of rows, at most, that goes to review below that ratio.
        max_share: share of rows, at most, that goes to review above it.
        block_rows: improbable labels of one source from which it blocks.
        source_excess: how many times the others' ratio a source must have.
        source_share: least share of the source's rows that are improbable.
    """

    id: ClassVar[str] = "label-flip"

    def applies(self, context: Context) -> str:
        """Needs labels."""
        return "" if context.kind == "classification" else "the data have no labels"

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Labels, the label model, and sources."""
        return (Labels(), NaiveBayes(), Sources())

    def start(self, context: Context) -> _State:
        """What the signals say."""
        return _State(context.value(NaiveBayes()), context.value(Labels()), context.value(Sources()))

    def scan(self, state: _State, batch: Batch) -> None:
        """Nothing to add: the signals have seen every row."""

    def merge(self, left: _State, right: _State) -> _State:
        """Both are the same."""
        return left

    def finish(self, state: _State) -> RawResult:
        """Sources that block, then the rows to review."""
        model = state.model
        opinion = Opinion(
            rows=np.arange(len(model.own), dtype=np.int64), labels=state.classes.labels, own=model.own, best=model.best,
            best_log=model.best_log, tail=model.tail, limit=TAIL, basis="the words of their rows",
        )  # fmt: skip
        improbable = np.flatnonzero(opinion.improbable)
        return RawResult(
            findings=tuple(self.flips(opinion, state.classes, state.sources)),
            watch=improbable[np.argsort(-opinion.margin[improbable], kind="stable")],
            metrics={
                "label_model_accuracy": model.accuracy,
                "improbable_labels": float(opinion.improbable.sum()),
                "expected_improbable_labels": float(model.tail.sum()),
            },
        )
