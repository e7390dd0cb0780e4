"""Passages planted for retrieval that do not repeat their question: claim after claim, as many wordings of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal
from foretaste.signals.near_duplicates import ALONE, Clusters, NearDuplicates

if TYPE_CHECKING:
    from foretaste.text.islands import Islands

_BYTES = 40  # of a word in a document, while islands are looked for
_SHARE = 8  # of the memory
_UNIFORM = 0.05  # share of random groups of documents that are as equal in length
_DRAWS = 2000
_SMALLEST = 3  # documents of an island that may be planted; smaller ones tell what is usual
_EXAMPLES = 6


@dataclass
class _State:
    """Rare words and lengths of the documents, as far as they fit."""

    room: int
    seed: int
    clusters: Clusters
    words: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    rows: list[npt.NDArray[np.int32]] = field(default_factory=list)
    lengths: list[npt.NDArray[np.int32]] = field(default_factory=list)
    held: int = 0
    documents: int = 0
    left_out: int = 0

    def add(self, words: npt.NDArray[np.uint64], rows: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32]) -> None:
        """Take documents, or count them where there is no room left."""
        if self.left_out or self.held + len(words) > self.room:
            self.left_out += len(lengths)
            return
        self.words.append(words)
        self.rows.append(rows + np.int32(self.documents))
        self.lengths.append(lengths)
        self.held += len(words)
        self.documents += len(lengths)


@dataclass(frozen=True, kw_only=True)
class PlantedPassages(Check[_State]):
    """Passages planted for retrieval: several claims, each in the same number of wordings of the same length.

    For each question that an attacker wants to answer, a generator is asked for so many passages of so many words. An
    *island* is a group of documents that are each other's nearest by their rare words, and ``gap`` times as near as the
    next document. Reports of one event, versions and translations make islands as well, so one proves nothing. But fewer
    of them are larger, and their lengths differ. Passages made to order are islands of one size, which is more frequent
    than the next smaller one, and of one length: their lengths spread less than those of nineteen in twenty random
    groups. Islands in which two documents are near-duplicates do not count.

    Reviews: islands of even length, of a size that has more of them than the next smaller size and where more of all
    islands are even than of those of other sizes from three documents on (hypergeometric test at ``family_wise`` over
    all sizes), in ``review_rows`` rows together and at most ``max_share`` of all.
    Never blocks: a catalogue with five descriptions of each article looks the same.

    Misses: fewer than about ten claims, another number of passages for each, passages of different lengths, claims
    that the corpus discusses as well, data whose islands are even by nature (short entries, translated pages), documents
    beyond those that memory holds.

    Poisoned: for each of fifty questions five passages of thirty words that name the wrong answer. Clean: news, where
    two report one event often, three less often, at any length.

    The threat: Zou et al. 2024 (PoisonedRAG, arXiv 2402.07867), whose attack plants five passages a question.

    Args:
        gap: least ratio of the cosine within an island to that with the nearest document outside.
        family_wise: probability of a false finding, over all sizes, if even length had nothing to do with size.
        review_rows: rows from which islands go to review.
        max_share: share of the documents from which on the data are made so.
    """

    id: ClassVar[str] = "planted-passages"
    gap: float = 1.5
    family_wise: float = 0.001
    review_rows: int = 20
    max_share: float = 0.05

    def applies(self, context: Context) -> str:
        """Applies to documents."""
        return "" if context.kind == "documents" else "the data are not documents"

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Near-duplicates."""
        return (NearDuplicates(),)

    def start(self, context: Context) -> _State:
        """No document."""
        return _State(context.memory // _SHARE // _BYTES, context.seed, context.value(NearDuplicates()))

    def scan(self, state: _State, batch: Batch) -> None:
        """List the words of each document that few documents of the batch hold."""
        from foretaste.text.islands import MOST_ROWS, rare_words

        tokens = batch.tokens("text")
        words, rows = np.empty(len(tokens.hashes), np.uint64), np.empty(len(tokens.hashes), np.int32)
        n = rare_words(tokens.hashes, tokens.offsets, 0, words, rows)
        words, rows = words[:n], rows[:n]
        _, number, frequency = np.unique(words, return_inverse=True, return_counts=True)
        rare = frequency[number] <= MOST_ROWS
        state.add(words[rare], rows[rare], np.diff(tokens.offsets).astype(np.int32))

    def merge(self, left: _State, right: _State) -> _State:
        """Append the documents."""
        start = 0
        for words, rows, lengths in zip(right.words, right.rows, right.lengths):
            left.add(words, rows - np.int32(start), lengths)
            start += len(lengths)
        left.left_out += right.left_out
        return left

    def finish(self, state: _State) -> RawResult:
        """The size of islands that is too frequent and too even."""
        from foretaste.text.islands import find_islands

        note = f"{state.left_out:,} documents had no room in memory and were not compared" if state.left_out else ""
        if not state.documents:
            return RawResult(note=note)
        words, rows = np.concatenate(state.words), np.concatenate(state.rows)
        islands = find_islands(words, rows, state.documents, self.gap)
        kept = np.array([not _copies(state.clusters, members) for members in islands], np.bool_)
        even = _even(islands, np.log1p(np.concatenate(state.lengths)), state.seed)
        findings = [
            finding
            for size in np.unique(islands.sizes[kept & even]).tolist()
            if size >= _SMALLEST
            for finding in self._judge(islands, kept, even, size, state.documents)
        ]
        metrics = {"islands": float((islands.sizes[kept] >= _SMALLEST).sum())}
        return RawResult(findings=tuple(findings), metrics=metrics, note=note)

    def _judge(
        self,
        islands: Islands,
        kept: npt.NDArray[np.bool_],
        even: npt.NDArray[np.bool_],
        size: int,
        documents: int,
    ) -> Iterator[RawFinding]:
        """A finding where islands of this size are more than those of the next smaller one, and too even."""
        from scipy.stats import hypergeom

        from foretaste.text.islands import LARGEST

        sizes = islands.sizes
        mine = kept & (sizes == size)
        found = int((mine & even).sum())
        smaller = int((kept & even & (sizes == size - 1)).sum())
        usual = kept & (sizes >= _SMALLEST)
        chance = float(hypergeom.sf(found - 1, usual.sum(), (usual & even).sum(), mine.sum()))
        chance = min(1.0, chance * (LARGEST - _SMALLEST + 1))
        if found <= smaller or chance > self.family_wise:
            return
        members = [islands.members(i) for i in np.flatnonzero(mine & even).tolist()]
        rows = np.unique(np.concatenate(members))
        if not self.review_rows <= len(rows) <= self.max_share * documents:
            return
        others = usual & (sizes != size)
        share = float(even[others].mean()) if others.any() else 0.0
        yield RawFinding(
            kind="planted passages",
            severity=Severity.REVIEW,
            message=(
                f"{found} groups of {size} documents each say one thing in different words and at one length; "
                f"{smaller} groups of {size - 1} do, and {share:.0%} of the groups of other sizes are of one length"
            ),
            rows=rows,
            observed=float(len(rows)),
            limit=float(self.review_rows),
            statistic={
                "groups": float(found),
                "documents_per_group": float(size),
                "p_value": chance,
            },
            examples=tuple(RawExample(row=int(r)) for r in np.concatenate(members[:2])[:_EXAMPLES]),
        )


def _copies(clusters: Clusters, members: npt.NDArray[np.int64]) -> bool:
    """Whether two of the members are near-duplicates."""
    labels = clusters.labels[members]
    labels = labels[labels != ALONE]
    return len(np.unique(labels)) < len(labels)


def _even(islands: Islands, lengths: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.bool_]:
    """Whether the logarithms of the lengths spread less within each island than in nineteen of twenty random groups."""
    spread = np.array([lengths[members].std() for members in islands])
    even = np.zeros(len(spread), np.bool_)
    rng = np.random.default_rng(seed)
    for size in np.unique(islands.sizes).tolist():
        drawn = lengths[rng.integers(0, len(lengths), (_DRAWS, size))].std(axis=1)
        mine = islands.sizes == size
        even[mine] = spread[mine] <= np.quantile(drawn, _UNIFORM)
    return even
