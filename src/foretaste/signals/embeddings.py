"""Sentence embeddings of a sample of the rows, within a budget of rows and time."""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Context, Signal
from foretaste.signals.naive_bayes import NaiveBayes
from foretaste.signals.near_duplicates import ALONE, Clusters, NearDuplicates
from foretaste.signals.outputs import Labels
from foretaste.signals.sources import Sources

MAX_CHARS = 2000
CHUNK = 64
_SUSPICIOUS_SHARE = 4


@dataclass(frozen=True)
class Embedded:
    """Rows with their vectors.

    Attributes:
        rows: row numbers, int64 (n,), ascending; one row for each near-duplicate cluster (and label).
        vectors: of length one, float32 (n, dimensions).
        texts: what was embedded, at most 2,000 characters of each row.
        note: what was left out; empty where every row was looked at.
    """

    rows: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    texts: tuple[str, ...]
    note: str


@dataclass
class _State:
    """At most ``max_rows`` texts of at most 2,000 characters."""

    folder: Path
    rows: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]
    left_out: str
    texts: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Embeddings(Signal[_State, Embedded]):
    """Embeddings of at most ``max_rows`` rows, made in at most about ``max_seconds`` seconds.

    Of near-duplicates one row stands for all; texts under four words are left out. Where there are labels, a quarter of
    the sample are the rows whose label is the least probable by their words. All others are as many of each source, so
    that small sources come whole, and lie evenly over the data. The vectors are made in a random order, so that what
    time leaves out is a random part.
    """

    model: str
    max_rows: int = 2000
    max_seconds: float = 120.0

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Near-duplicates, sources, and labels where there are any."""
        common = (NearDuplicates(), Sources())
        return (*common, Labels(), NaiveBayes()) if context.kind == "classification" else common

    def start(self, context: Context) -> _State:
        """Choose the rows; a model that is not there is an error before any time is spent."""
        from foretaste.text.embed import find_model

        clusters = context.value(NearDuplicates())
        labels = own = None
        if context.kind == "classification":
            labels, own = context.value(Labels()).labels, context.value(NaiveBayes()).own
        standing = representatives(clusters, labels)
        chosen = _sample(standing, own, context.value(Sources()).numbers, self.max_rows)
        order = np.random.default_rng(context.seed).permutation(len(chosen))
        left_out = f"{len(standing) - len(chosen)} different texts were left out (row budget)"
        return _State(find_model(self.model), chosen, order, left_out if len(chosen) < len(standing) else "")

    def scan(self, state: _State, batch: Batch) -> None:
        """Keep the texts of the chosen rows."""
        low, high = np.searchsorted(state.rows, [batch.start, batch.start + batch.num_rows])
        columns = [batch.strings(r) for r in batch.input_roles]
        for row in state.rows[low:high].tolist():  # only the sample
            parts = [c[row - batch.start].as_py() for c in columns]
            state.texts[row] = "\n".join(p for p in parts if p)[:MAX_CHARS]

    def merge(self, left: _State, right: _State) -> _State:
        """Join the texts."""
        left.texts |= right.texts
        return left

    def value(self, state: _State) -> Embedded:
        """Embed chunk by chunk until all is done or the time is up; the first chunk is always done."""
        from foretaste.text.embed import SentenceTransformerEmbedder

        if not len(state.rows):
            return Embedded(state.rows, np.zeros((0, 1), np.float32), (), "no text of four words or more")
        clock = time.monotonic()
        embedder = SentenceTransformerEmbedder(str(state.folder))
        shuffled = state.rows[state.order]
        made: list[npt.NDArray[np.float32]] = []
        for at in range(0, len(shuffled), CHUNK):
            if made and time.monotonic() - clock > self.max_seconds:
                break
            made.append(embedder.encode([state.texts[r] for r in shuffled[at : at + CHUNK].tolist()]))
        vectors = np.concatenate(made)
        ranks = np.argsort(shuffled[: len(vectors)])
        rows = shuffled[: len(vectors)][ranks]
        notes = [state.left_out] if state.left_out else []
        if len(rows) < len(shuffled):
            notes.append(f"{len(shuffled) - len(rows)} chosen texts were left out (time budget)")
        return Embedded(rows, vectors[ranks], tuple(state.texts[r] for r in rows.tolist()), "; ".join(notes))


@dataclass(frozen=True, kw_only=True)
class EmbeddingBudget:
    """Parameters of the embeddings, to be inherited by a check."""

    model: str | None = None
    max_rows: int = 2000
    max_seconds: float = 120.0

    def __post_init__(self) -> None:
        """Refuse a budget that pays for nothing.

        Raises:
            ValueError: naming the value.
        """
        if self.max_rows < 1 or self.max_seconds <= 0:
            raise ValueError(
                f"max_rows and max_seconds must be above zero, not {self.max_rows} and {self.max_seconds}; "
                "to switch the check off, leave out its model"
            )

    @property
    def embeddings(self) -> Embeddings:
        """The signal; equal budgets share it."""
        return Embeddings(self.model or "", self.max_rows, self.max_seconds)


def representatives(clusters: Clusters, labels: npt.NDArray[np.int32] | None) -> npt.NDArray[np.int64]:
    """Rows of four words or more, one for each near-duplicate cluster (and label in it), ascending."""
    long = np.flatnonzero(clusters.long)
    mine = clusters.labels[long].astype(np.int64)
    alone = mine == ALONE
    kinds = labels[long].astype(np.int64) if labels is not None else np.zeros(len(long), np.int64)
    keys = mine * (int(kinds.max(initial=0)) + 1) + kinds
    _, first = np.unique(keys[~alone], return_index=True)
    return np.sort(np.concatenate([long[alone], long[~alone][first]])).astype(np.int64)


def _sample(
    rows: npt.NDArray[np.int64], own: npt.NDArray[np.float32] | None, sources: npt.NDArray[np.int32], most: int
) -> npt.NDArray[np.int64]:
    """At most ``most`` of the rows: a quarter those with the least probable labels, the rest as many of each source."""
    if len(rows) <= most:
        return rows
    worst = np.zeros(0, np.int64)
    if own is not None:
        worst = rows[np.argsort(own[rows], kind="stable")[: most // _SUSPICIOUS_SHARE]]
    rest = np.setdiff1d(rows, worst, assume_unique=True)
    room = most - len(worst)
    groups = _by_source(rest, sources)
    sizes = np.array([len(g) for g in groups])
    # The largest quota that fits: small sources come whole, large ones in part.
    quota = bisect_right(range(room + 1), room, key=lambda q: int(np.minimum(sizes, q).sum())) - 1
    even = np.concatenate([_evenly(g, quota) for g in groups])
    left = _evenly(np.setdiff1d(rest, even, assume_unique=True), room - len(even))
    return np.sort(np.concatenate([worst, even, left])).astype(np.int64)


def _by_source(rows: npt.NDArray[np.int64], sources: npt.NDArray[np.int32]) -> list[npt.NDArray[np.int64]]:
    if not len(sources):
        return [rows]
    order = rows[np.argsort(sources[rows], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(sources[order])) + 1)


def _evenly(rows: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    return rows if len(rows) <= n else rows[np.linspace(0, len(rows) - 1, n).astype(np.int64)]
