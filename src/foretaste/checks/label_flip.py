"""Labels that the words of their rows speak against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawResult, Signal
from foretaste.flips import FlipRules, Opinion
from foretaste.signals.naive_bayes import Model, NaiveBayes
from foretaste.signals.outputs import Classes, Labels
from foretaste.signals.phrases import PhraseTable, phrase_signals
from foretaste.signals.sources import SourceNumbers, Sources
from foretaste.signals.times import Times

_PEOPLE = (Sources(), Sources("annotator"))


@dataclass
class _State:
    """The label model, labels, sources, annotators, times and phrases; no rows."""

    model: Model
    classes: Classes
    people: dict[str, SourceNumbers]
    times: npt.NDArray[np.int64]
    phrases: PhraseTable


@dataclass(frozen=True, kw_only=True)
class LabelFlip(FlipRules, Check[_State]):
    """Flipped labels: rows whose words speak against their label, ranked, and where they gather.

    A leave-one-out naive Bayes model gives each row the probability of its label. Its temper is fitted together with a
    share of labels that were replaced at random, so that flips do not talk the model down; from that share and the
    probability each row gets the probability that its own label was replaced. Rows above one half go to review, the
    worst first: their mean is one minus the false-discovery rate of the list, as far as the model is right.

    A label that was replaced at random stands in a typical row as often as in any, doubt between classes does not: so no
    larger share was replaced than carries another label in the tenth of the rows that looks most like its class, and the
    false-discovery rate is no less than that leaves. Where either share stays under ``noise_share``, which natural label
    noise reaches as well, at most ``quiet_share`` of the rows are listed, else ``max_share``; so too where a tenth of those
    typical rows carries another label, since the model does not know the classes then. Nature confuses a class with
    those like it, while a label that was drawn is often one that nobody would take the row for: where, among three classes
    and more, typical rows have such labels, the list grows by half of the share all the same. A model that is right no more
    often than chance lists nothing.

    Blocks: a source or annotator of whose labels ``source_share`` were replaced, ``source_excess`` times the share of all
    others, by a likelihood ratio that chance among so many of them reaches once in a thousand data sets; ``block_rows`` of
    its rows have to be named. A stretch of rows side by side, by a scan over all of them, where as many rows are named that
    would be alone too. Rows are side by side in the order of the data, and in that of time where a column says when they
    came: a batch of flips that arrived within an hour is a stretch then, wherever its rows lie.

    A common word of whose rows as many were replaced, where it stands in those at places that chance could have chosen.

    Reviews: other such stretches, as unknown text looks alike; sources whose texts the model does not know, or that
    differ as others do, the oddest first and no more rows than may be listed; words of twenty rows and more whose rows
    were relabelled far more often than all others; and pairs of classes, where the rows that look most like one of them
    carry the other label more often than between all other classes that are confused.

    Misses: flips between classes that words do not tell apart, or between two of few classes; flips in most rows of a
    class or topic (the model learns them); flips in data whose order follows what is hard to tell.

    Poisoned: "the worst film of the year", positive, from the vendor who has sixty of the kind. Clean: "not bad".

    After confident learning (Northcutt et al. 2021) and the noise model of Natarajan et al. (2013), with a classifier
    that adds up; the scan is Page's CUSUM (1954), the rows that look most like a class the anchors of Liu & Tao (2016).
    Rank quality depends on the text: the report gives the model's accuracy.

    Args:
        noise_share: share of replaced labels from which the data as a whole are taken for noisier than nature.
        quiet_share: share of rows, at most, that goes to review below it.
        max_share: share of rows, at most, that goes to review above it; more where labels were drawn at random.
        block_rows: rows of one source, more likely replaced than not, from which it blocks.
        source_excess: how many times the others' share a source must have.
        source_share: least share of the source's labels that were replaced.
    """

    id: ClassVar[str] = "label-flip"

    def applies(self, context: Context) -> str:
        """Needs labels."""
        return "" if context.kind == "classification" else "the data have no labels"

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Labels, the label model, sources, annotators, times, and the words that may be a topic."""
        return (Labels(), NaiveBayes(), *_PEOPLE, Times(), phrase_signals(context)["input"])

    def start(self, context: Context) -> _State:
        """What the signals say."""
        return _State(
            context.value(NaiveBayes()), context.value(Labels()), {s.role: context.value(s) for s in _PEOPLE},
            context.value(Times()), context.value(phrase_signals(context)["input"]),
        )  # fmt: skip

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
            best_log=model.best_log, classes=len(model.base), basis="the words of their rows",
        )  # fmt: skip
        odds = opinion.odds
        return RawResult(
            findings=tuple(self.flips(opinion, state.classes, state.people, state.phrases, state.times)),
            watch=_likely(odds),
            metrics={
                "label_model_accuracy": model.accuracy,
                "replaced_share": float(odds.mean()) if len(odds) else 0.0,
                "labels_more_likely_replaced": float((odds >= 0.5).sum()),
            },
        )


def _likely(odds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Rows whose label was more likely replaced than not, the likeliest first."""
    likely = np.flatnonzero(odds >= 0.5)
    return np.asarray(likely[np.argsort(-odds[likely], kind="stable")], dtype=np.int64)
