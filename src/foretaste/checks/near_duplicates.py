"""Near-duplicates whose label, or whose source, does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal
from foretaste.signals.naive_bayes import BEYOND_DOUBT, Model, NaiveBayes, keyword
from foretaste.signals.near_duplicates import Clusters, NearDuplicates
from foretaste.signals.outputs import Classes, Labels, ResponseHeads
from foretaste.signals.sources import SourceNumbers, Sources
from foretaste.text.sample import spread

MAX_STORED_ROWS = 200_000
EXCERPT = 120
_MAJORITY = 0.5
_COMMON = 0.9  # share of a cluster's rows from which a word belongs to it
_WITNESSES, _KNOWN = 5, 0.5  # rows with such a word from which others know it, and the share of them that is asked for
_REVIEW_RANK = 0.05  # a cluster that more rows than that are as improbable as is nothing to look at

Rows = npt.NDArray[np.int64]


@dataclass
class _State:
    """Clusters, what the rows teach, and the tokens of at most MAX_STORED_ROWS rows of the clusters to judge."""

    clusters: Clusters
    sources: SourceNumbers
    classes: Classes | None
    model: Model | None
    copied: list[int] = field(default_factory=list)
    contested: list[int] = field(default_factory=list)
    owned: list[int] = field(default_factory=list)
    store: Any = None
    first_rows: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    names: dict[int, str] = field(default_factory=dict)
    dropped: int = 0


@dataclass(frozen=True)
class _Conflict:
    """Rows of one cluster whose label the rest of the cluster, and the words, speak against."""

    cluster: int
    rows: Rows
    twins: Rows
    label: int
    instead: int


@dataclass(frozen=True, kw_only=True)
class NearDuplicateClusters(Check[_State]):
    """Near-duplicate clusters that teach a wrong label, contradict another source, or come from one source alone.

    Rows are near-duplicates from an estimated Jaccard similarity of ``similarity`` over word pairs (MinHash, locality
    sensitive hashing, union-find); rows of fewer than four words are left out. Size alone means nothing: clean data are
    full of copies. A cluster counts with its label and its sources, and its own rows have no vote on what the words of
    a text mean: the label model is asked with the whole cluster taken out.

    Blocks: a cluster of ``block_rows`` rows, nearly all under one label, whose words give that label so little that, at
    the rate at which other rows of these data have so improbable a label, chance explains none of the clusters found
    (Benjamini-Hochberg at ``max_false``), while another label has more than half of the probability and the cluster's
    own label has as many rows elsewhere; these have to know half of the words of the copies, and none that stands for the
    label there ("License: Zlib").

    Reviews: a source that labels the same texts otherwise than the other sources do in ``block_rows`` rows, where the
    words side with the others ``side_ratio`` times as often as with it (honest sources may follow two guidelines);
    ``review_rows`` rows of a cluster under a label that the majority of the cluster and the words speak
    against; a cluster of ``owned_rows`` different texts that only one of several sources has; prompts that several
    sources share and that one source alone answers with an opening of its own.

    Misses: copies whose words fit their label (clean-label poison), smaller clusters, texts under four words,
    rewordings that share few word pairs (``paraphrase-clusters`` looks for those), sources that consist of templates.

    Poisoned: "I cant pick the phone right now. Call 0906 179 ... to win" in twelve variants, ham.
    Clean: "Sorry, I'll call later" thirty times, ham.

    After Broder 1997 (MinHash), Lee et al. 2022 (arXiv 2107.06499), and Dahlgaard et al. 2017 (arXiv 1704.04370).

    Args:
        similarity: least estimated Jaccard similarity of two linked rows, from 0 to 1.
        block_rows: rows from which a contradicted cluster, or a contradicting source, blocks.
        review_rows: rows of one cluster under a minority label from which they go to review.
        owned_rows: different texts from which a cluster that one source owns goes to review.
        min_purity: least share of a cluster's rows under its label.
        max_probability: most that the words may give a cluster's label.
        max_false: expected share of false ones among the clusters that block.
        side_ratio: how many times as often the words side with the other sources as with the source that blocks.
        source_share: least share of contradictions among the source's rows whose texts other sources have too.
        owned_share: most rows, as a share, in clusters that one source owns, for these to be listed.
        templates: clusters of ``owned_rows`` texts from which a source is said to consist of templates.
    """

    id: ClassVar[str] = "near-duplicates"
    similarity: float = 0.6
    block_rows: int = 10
    review_rows: int = 5
    owned_rows: int = 20
    min_purity: float = 0.9
    max_probability: float = 0.2
    max_false: float = 0.02
    side_ratio: float = 4.0
    source_share: float = 0.05
    templates: int = 4
    owned_share: float = 0.002

    def __post_init__(self) -> None:
        """Refuse a similarity that links everything or nothing.

        Raises:
            ValueError: naming the value.
        """
        if not 0.3 <= self.similarity <= 1.0:
            raise ValueError(f"similarity must lie between 0.3 and 1, not {self.similarity}")

    def applies(self, context: Context) -> str:
        """Needs labels, or sources to compare."""
        if context.kind == "classification" or "source" in context.roles:
            return ""
        return "without labels and sources a near-duplicate says nothing; name a source column"

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Clusters, sources, and what the rows teach."""
        common = (NearDuplicates(similarity=self.similarity), Sources())
        if context.kind == "classification":
            return (*common, Labels(), NaiveBayes())
        return (*common, ResponseHeads()) if context.kind == "instruct" else common

    def start(self, context: Context) -> _State:
        """Choose the clusters to judge."""
        clusters = context.value(NearDuplicates(similarity=self.similarity))
        state = _State(clusters, context.value(Sources()), None, None)
        sizes = clusters.sizes
        group = clusters.labels[clusters.rows]
        if context.kind == "classification":
            state.classes, state.model = context.value(Labels()), context.value(NaiveBayes())
            most, kinds = _majority(group, state.classes.labels[clusters.rows], len(sizes))
            state.copied = np.flatnonzero((sizes >= self.block_rows) & (most >= self.min_purity * sizes)).tolist()
            contested = np.flatnonzero(kinds > 1)
            contested = contested[np.argsort(-(sizes - most)[contested], kind="stable")]
            state.contested = contested.tolist()
            self._store(state)
        elif context.kind == "instruct":
            state.classes = context.value(ResponseHeads())
        if len(state.sources.names) > 1:
            _, owners = _majority(group, state.sources.numbers[clusters.rows], len(sizes))
            if context.kind == "instruct":
                state.contested = np.flatnonzero((owners > 1) & (sizes >= self.block_rows)).tolist()
            else:
                different = _distinct(group, clusters.texts, len(sizes))
                state.owned = np.flatnonzero((owners == 1) & (different >= self.owned_rows)).tolist()
        shown = {*state.copied, *state.owned, *(c for c in state.contested if sizes[c] > self.review_rows)}
        state.first_rows = clusters.rows[clusters.spans[np.array(sorted(shown), dtype=np.int64)]]
        return state

    @staticmethod
    def _store(state: _State) -> None:
        from foretaste.text.rowstore import RowStore

        room, sizes = MAX_STORED_ROWS, state.clusters.sizes
        fits: set[int] = set()
        for c in dict.fromkeys([*state.copied, *state.contested]):
            if sizes[c] <= room:
                room -= int(sizes[c])
                fits.add(c)
            else:
                state.dropped += 1
        state.copied = [c for c in state.copied if c in fits]
        state.contested = [c for c in state.contested if c in fits]
        wanted = np.isin(state.clusters.labels, np.array(sorted(fits), dtype=np.int32))
        state.store = RowStore(np.flatnonzero(wanted))

    def scan(self, state: _State, batch: Batch) -> None:
        """Keep the tokens of the clusters to judge, and an excerpt of each cluster to show."""
        if state.store is not None:
            state.store.scan(batch)
        low, high = np.searchsorted(state.first_rows, [batch.start, batch.start + batch.num_rows])
        for row in state.first_rows[low:high].tolist():
            state.names[row] = batch.strings(batch.input_roles[-1])[row - batch.start].as_py()[:EXCERPT]

    def merge(self, left: _State, right: _State) -> _State:
        """Concatenate what was kept."""
        if left.store is not None:
            left.store.parts += right.store.parts
            left.store.lengths += right.store.lengths
        left.names |= right.names
        return left

    def finish(self, state: _State) -> RawResult:
        """Copied clusters, contradicting sources, conflicts, then what one source owns."""
        findings: list[RawFinding] = []
        notes = []
        if state.model is not None:
            judge = _Judge(state)
            findings += self._copied(state, judge)
            conflicts = [c for cluster in state.contested for c in judge.conflicts(cluster)]
            findings += self._sources(state, judge, {r for f in findings for r in f.rows.tolist()})
            covered = {r for f in findings for r in f.rows.tolist()}
            findings += [
                self._conflict(state, c)
                for c in conflicts
                if len(c.rows) >= self.review_rows and not covered.issuperset(c.rows.tolist())
            ]
            if state.dropped:
                notes.append(f"{state.dropped} clusters were not compared with the label model (row budget)")
        elif state.classes is not None:
            findings += self._answers(state)
        covered = {r for f in findings for r in f.rows.tolist()}
        owned, templates = self._owned(state, covered)
        # Where much of the data is templates, a template says nothing.
        if sum(len(f.rows) for f in owned) <= max(2 * self.owned_rows, self.owned_share * len(state.clusters.labels)):
            findings += owned
        elif owned:
            notes.append(f"{len(owned)} clusters that one source owns were not listed: the data hold many templates")
        if templates:
            notes.append(f"consist of templates, so their clusters were not listed: {', '.join(templates[:5])}")
        sizes = state.clusters.sizes
        return RawResult(
            findings=tuple(findings),
            metrics={
                "clusters": float(len(sizes)),
                "clustered_rows": float(sizes.sum()),
                "largest_cluster": float(sizes.max(initial=0)),
            },
            note="; ".join(notes),
        )

    def _copied(self, state: _State, judge: _Judge) -> list[RawFinding]:
        """Clusters under one label that the words of all other rows speak against."""
        assert state.model is not None
        assert state.classes is not None
        own = np.sort(state.model.own)
        found = []
        for cluster in state.copied:
            rows, chances = judge.judged(cluster)
            label = int(np.bincount(state.classes.labels[rows]).argmax())
            different = np.unique(state.clusters.texts_of(cluster), return_index=True)[1]
            mean = chances[different].mean(axis=0)
            elsewhere = int(state.classes.counts[label]) - len(rows)
            enough = elsewhere >= max(self.block_rows, len(rows)) and np.exp(mean.max()) >= _MAJORITY
            if not enough or not judge.known(cluster):
                continue  # nobody else says what such a text would be labelled
            rank = (1 + np.searchsorted(own, mean[label], side="right")) / (1 + len(own))
            found.append((float(rank), cluster, label, mean))
        found.sort(key=lambda f: f[:2])
        ranks = np.array([f[0] for f in found])
        passed = np.flatnonzero(ranks <= self.max_false * np.arange(1, len(ranks) + 1) / max(1, len(ranks)))
        blocked = int(passed[-1]) + 1 if len(passed) else 0
        return [
            self._copy(
                state, *f[1:], f[0], Severity.REVIEW if at >= blocked or judge.named(*f[1:3]) else Severity.BLOCK
            )
            for at, f in enumerate(found)
            if np.exp(f[3][f[2]]) <= self.max_probability and f[0] <= _REVIEW_RANK
        ]

    def _copy(self, state: _State, cluster: int, label: int, mean: Any, rank: float, severity: Severity) -> RawFinding:
        assert state.classes is not None
        rows = state.clusters.members(cluster)
        agreeing = state.classes.labels[rows] == label
        mine = rows[agreeing]
        different = len(np.unique(state.clusters.texts_of(cluster)[agreeing]))
        instead, names = int(mean.argmax()), state.classes.names
        return RawFinding(
            kind="near-duplicate cluster",
            severity=severity,
            message=(
                f'{len(mine)} near-duplicate rows ({different} different texts) are labelled "{names[label]}"; by the '
                f"words of all other rows they are that with {np.exp(mean[label]):.1%}, and "
                f'"{names[instead]}" with {np.exp(mean[instead]):.0%}'
            ),
            feature=self._name(state, cluster),
            target=names[label],
            rows=mine,
            observed=float(len(mine)),
            limit=float(self.block_rows),
            statistic={
                "probability": round(float(np.exp(mean[label])), 5),
                "p_value": round(rank, 6),
                "different_texts": float(different),
            },
            examples=tuple(RawExample(row=int(r)) for r in spread(mine, 6).tolist()),
        )

    def _sources(self, state: _State, judge: _Judge, covered: set[int]) -> list[RawFinding]:
        """Sources that label the same texts otherwise than the others do, and the words side with the others."""
        assert state.classes is not None
        sources = state.sources
        if len(sources.names) < 2:
            return []
        against: dict[int, list[tuple[int, int, int]]] = {}
        for_it: dict[int, int] = {}
        for cluster in state.contested:
            for source, row, label, twin, sides_with_others in judge.between_sources(cluster):
                if sides_with_others:
                    against.setdefault(source, []).append((row, label, twin))
                else:
                    for_it[source] = for_it.get(source, 0) + 1
        findings = []
        shared = self._shared_rows(state)
        for source, hits in sorted(against.items()):
            rows = np.array([h[0] for h in hits], dtype=np.int64)
            share, sided = len(rows) / shared[source], for_it.get(source, 0)
            if len(rows) < max(self.block_rows, self.side_ratio * sided) or share < self.source_share:
                continue
            if covered.issuperset(rows.tolist()):
                continue
            label = int(np.bincount([h[1] for h in hits]).argmax())
            findings.append(
                RawFinding(
                    kind="contradicting source",
                    severity=Severity.REVIEW,
                    message=(
                        f"source {sources.names[source]} labels {len(rows) + sided} rows otherwise than other sources "
                        f"label the same texts; the words side with the others in {len(rows)} of them "
                        f'(most often it says "{state.classes.names[label]}")'
                    ),
                    feature=sources.names[source],
                    target=state.classes.names[label],
                    rows=rows,
                    observed=float(len(rows)),
                    limit=float(self.block_rows),
                    statistic={
                        "words_side_with_it": float(sided),
                        "shared_rows": float(shared[source]),
                        "share": round(float(share), 4),
                    },
                    examples=tuple(
                        RawExample(row=r, counter=bool(at))
                        for row, _, twin in hits[:4]
                        for at, r in enumerate((row, twin))
                    ),
                )
            )
        return findings

    @staticmethod
    def _shared_rows(state: _State) -> npt.NDArray[np.int64]:
        """Rows of each source in clusters that another source has rows in, shape (sources,)."""
        clusters = state.clusters
        group, numbers = clusters.labels[clusters.rows], state.sources.numbers[clusters.rows]
        _, owners = _majority(group, numbers, len(clusters.sizes))
        return np.bincount(numbers[owners[group] > 1], minlength=len(state.sources.names)).astype(np.int64)

    def _conflict(self, state: _State, conflict: _Conflict) -> RawFinding:
        assert state.classes is not None
        names, size = state.classes.names, int(state.clusters.sizes[conflict.cluster])
        return RawFinding(
            kind="conflicting labels",
            severity=Severity.REVIEW,
            message=(
                f"{len(conflict.rows)} of {size} near-duplicate rows are labelled otherwise than most, for example "
                f'"{names[conflict.label]}" instead of "{names[conflict.instead]}", and the words side with most'
            ),
            feature=self._name(state, conflict.cluster),
            target=names[conflict.label],
            rows=conflict.rows,
            observed=float(len(conflict.rows)),
            limit=float(self.review_rows),
            statistic={"cluster_rows": float(size)},
            examples=(
                *(RawExample(row=int(r)) for r in conflict.rows[:4]),
                *(RawExample(row=int(r), counter=True) for r in conflict.twins[:2]),
            ),
        )

    def _answers(self, state: _State) -> Iterator[RawFinding]:
        """Prompts that several sources share and that one source answers with an opening of its own."""
        assert state.classes is not None
        for cluster in state.contested:
            rows = state.clusters.members(cluster)
            numbers, answers = state.sources.numbers[rows], state.classes.labels[rows]
            for source in np.unique(numbers).tolist():
                mine = numbers == source
                counts = np.bincount(answers[mine & (answers >= 0)], minlength=1)
                opening, most = int(counts.argmax()), int(counts.max())
                others = rows[~mine]
                if most < max(self.block_rows, self.min_purity * mine.sum()) or len(others) < self.review_rows:
                    continue
                if (answers[~mine] == opening).any():
                    continue
                burst = rows[mine & (answers == opening)]
                yield RawFinding(
                    kind="answers of one source",
                    severity=Severity.REVIEW,
                    message=(
                        f"{len(burst)} near-duplicate prompts of source {state.sources.names[source]} get one opening, "
                        f"and none of the {len(others)} such prompts of other sources gets it"
                    ),
                    feature=self._name(state, cluster),
                    target=state.classes.names[opening],
                    rows=burst,
                    observed=float(len(burst)),
                    limit=float(self.block_rows),
                    statistic={"rows_of_other_sources": float(len(others))},
                    examples=(
                        *(RawExample(row=int(r)) for r in spread(burst, 4).tolist()),
                        *(RawExample(row=int(r), counter=True) for r in spread(others, 2).tolist()),
                    ),
                )

    def _owned(self, state: _State, covered: set[int]) -> tuple[list[RawFinding], list[str]]:
        """Clusters that one source owns, and the sources that have so many of them that they are templates."""
        numbers = state.sources.numbers
        by_source: dict[int, list[int]] = {}
        for cluster in state.owned:
            by_source.setdefault(int(numbers[state.clusters.members(cluster)[0]]), []).append(cluster)
        findings, templates = [], []
        for source, clusters in sorted(by_source.items()):
            if len(clusters) >= self.templates:
                templates.append(state.sources.names[source])
                continue
            for cluster in clusters:
                rows = state.clusters.members(cluster)
                if covered.isdisjoint(rows.tolist()):
                    findings.append(self._own(state, cluster, source, rows))
        return findings, templates

    def _own(self, state: _State, cluster: int, source: int, rows: Rows) -> RawFinding:
        different = len(np.unique(state.clusters.texts_of(cluster)))
        everyone = int(np.count_nonzero(state.sources.numbers == source))
        return RawFinding(
            kind="cluster of one source",
            severity=Severity.REVIEW,
            message=(
                f"{different} near-duplicate texts ({len(rows)} of the {everyone} rows of source "
                f"{state.sources.names[source]}) that no other source has"
            ),
            feature=self._name(state, cluster),
            target=None,
            rows=rows,
            observed=float(different),
            limit=float(self.owned_rows),
            statistic={"source_rows": float(everyone)},
            examples=tuple(RawExample(row=int(r)) for r in spread(rows, 6).tolist()),
        )

    @staticmethod
    def _name(state: _State, cluster: int) -> str:
        return state.names.get(int(state.clusters.members(cluster)[0]), "")


class _Judge:
    """What the words of a cluster's rows say, the whole cluster left out."""

    def __init__(self, state: _State) -> None:
        assert state.model is not None
        assert state.classes is not None
        self.state, self.model, self.classes = state, state.model, state.classes
        self.hashes, self.offsets = state.store.tokens()
        self.class_rows = state.classes.counts.astype(np.float64)
        self.class_words = self.model.counts.sum(axis=0, dtype=np.float64)

    def judged(self, cluster: int) -> tuple[Rows, npt.NDArray[np.float64]]:
        """Rows of the cluster, and their log-probabilities (rows, classes)."""
        from foretaste.text.leave_out import leave_group_out

        rows = self.state.clusters.members(cluster)
        out = np.empty((len(rows), len(self.class_rows)))
        leave_group_out(
            self.hashes, self.offsets, self.state.store.index(rows), self.classes.labels[rows], self.model.counts,
            self.class_rows, self.class_words, self.model.strength, self.model.power, out,
        )  # fmt: skip
        return rows, out

    def known(self, cluster: int) -> bool:
        """Whether other rows know half of the words that nearly all rows of the cluster hold, and so can speak of it."""
        from foretaste.text.bayes import bucket_counts

        common, inside = self._common(cluster)
        outside = bucket_counts(common, self.model.counts, 0)[:, 0] - inside
        return bool((outside >= _WITNESSES).sum() >= _KNOWN * len(common))

    def named(self, cluster: int, label: int) -> bool:
        """Whether a word that nearly all rows of the cluster hold stands for the label in other rows, beyond doubt."""
        rows = self.state.clusters.members(cluster)
        return keyword(self._common(cluster)[0], rows, label, self.classes.labels, self.model, nats=BEYOND_DOUBT)

    def _common(self, cluster: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Words that nearly all rows of the cluster hold, and how many of its rows do."""
        places = self.state.store.index(self.state.clusters.members(cluster))
        held = [np.unique(self.hashes[self.offsets[p] : self.offsets[p + 1]]) for p in places.tolist()]
        words, counts = np.unique(np.concatenate(held), return_counts=True)
        often = counts >= _COMMON * len(places)
        return words[often], counts[often]

    def conflicts(self, cluster: int) -> Iterator[_Conflict]:
        """The cluster's rows under a minority label, where the words prefer the majority's label; at most one.

        Where no label has most of the rows, they are a template, and what fills it tells the label.
        """
        rows, chances = self.judged(cluster)
        labels = self.classes.labels[rows]
        counts = np.bincount(labels)
        most = int(counts.argmax())
        every = np.arange(len(rows))
        wrong = (counts[labels] < counts[most]) & (chances[every, labels] < chances[:, most])
        if wrong.any() and 2 * counts[most] > len(rows):
            label = int(np.bincount(labels[wrong]).argmax())
            yield _Conflict(cluster, rows[wrong], rows[labels == most], label, most)

    def between_sources(self, cluster: int) -> Iterator[tuple[int, int, int, int, bool]]:
        """(source, row, label, a row of another source with the others' label, whether the words side with them).

        Of every row whose label differs from the one that the cluster's rows of other sources mostly have.
        """
        rows, chances = self.judged(cluster)
        labels, sources = self.classes.labels[rows], self.state.sources.numbers[rows]
        for source in np.unique(sources).tolist():
            others = sources != source
            if not others.any():
                return
            instead = int(np.bincount(labels[others]).argmax())
            twin = int(rows[others & (labels == instead)][0])
            for at in np.flatnonzero(~others & (labels != instead)).tolist():
                sides = bool(chances[at, instead] > chances[at, labels[at]])
                yield source, int(rows[at]), int(labels[at]), twin, sides


def _majority(
    group: npt.NDArray[Any], values: npt.NDArray[Any], groups: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of the most frequent value (from 0) in each group, and distinct values, shapes (groups,)."""
    width = int(values.max(initial=0)) + 1
    pairs, counts = np.unique(group.astype(np.int64) * width + values, return_counts=True)
    most = np.zeros(groups, np.int64)
    np.maximum.at(most, pairs // width, counts)
    return most, np.bincount(pairs // width, minlength=groups).astype(np.int64)


def _distinct(group: npt.NDArray[Any], hashes: npt.NDArray[np.uint64], groups: int) -> npt.NDArray[np.int64]:
    """Distinct hashes in each group, shape (groups,)."""
    order = np.lexsort((hashes, group))
    group, hashes = group[order], hashes[order]
    fresh = np.ones(len(group), np.bool_)
    fresh[1:] = (group[1:] != group[:-1]) | (hashes[1:] != hashes[:-1])
    return np.bincount(group[fresh], minlength=groups).astype(np.int64)
