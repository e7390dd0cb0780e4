"""Which answer of a preference pair the other pairs would have preferred."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.background import PairCounts
from foretaste.batch import Batch
from foretaste.check import Context, Signal
from foretaste.signals.near_duplicates import Clusters, NearDuplicates

FOLD_BITS = 3
FOLDS = 1 << FOLD_BITS
RIDGE = 1e-3
_STEPS = 25
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairwiseModel:
    """A cross-fitted model of preference: a symmetric logistic regression over what tells the two answers apart.

    Its features change sign when the answers change places: the sum of the log odds of the difference words, by
    two tempers; the log ratio of the lengths, plain and squashed (annotators like length); and how much more of the
    prompt the chosen answer takes up. Words never vote for rows of their own fold, and near-duplicate prompts share
    a fold.

    Attributes:
        counts: rows per (bucket, fold, side), uint32.
        total: rows per (bucket, side), of the background as well, uint32.
        folds: fold of each row, uint8 (rows,).
        weights: of the features, float64 (features,).
        features: of each row, float32 (rows, features).
        logits: log odds that the row's chosen answer is the better one, float32 (rows,).
        pairs, swapped: hash of each row's (near-duplicate prompt, chosen, rejected), and the same with the answers in
            the other order, uint64 (rows,).
        first: the first row that is a fair sample; those before stand there for being suspect.
    """

    counts: npt.NDArray[np.uint32]
    total: npt.NDArray[np.uint32]
    folds: npt.NDArray[np.uint8]
    weights: Floats
    features: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    pairs: npt.NDArray[np.uint64]
    swapped: npt.NDArray[np.uint64]
    first: int = 0

    @property
    def accuracy(self) -> float:
        """Share of rows whose chosen answer is the one that the other rows prefer; ties count half."""
        fair = self.logits[self.first :]
        return float((np.sign(fair) * 0.5 + 0.5).mean()) if len(fair) else 0.0


def features_of(scores: Floats, rest: npt.NDArray[np.float32]) -> Floats:
    """The features of rows from their word scores (rows, 2) and the features that no word enters (rows, 3)."""
    sizes = np.maximum(scores[:, 1], 1.0)
    return np.column_stack([scores[:, 0] / np.sqrt(sizes), scores[:, 0] / sizes**0.25 / 4.0, rest])


def fit(x: Floats) -> Floats:
    """Weights of a logistic regression without intercept, in which every row is a win (Newton's method, ridge)."""
    weights = np.zeros(x.shape[1])
    scale = np.sqrt((x**2).mean(axis=0)) + 1e-9
    z = x / scale
    for _ in range(_STEPS):
        p = 1.0 / (1.0 + np.exp(-z @ weights))
        gradient = z.T @ (1.0 - p) - RIDGE * len(z) * weights
        curvature = (z * (p * (1.0 - p))[:, None]).T @ z + RIDGE * len(z) * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        weights += step
        if np.abs(step).max() < 1e-6:
            break
    fitted: Floats = weights / scale
    return fitted


@dataclass
class _State:
    """Counts of fixed size, and 45 bytes per row."""

    clusters: Clusters
    counts: npt.NDArray[np.uint32]
    presence: npt.NDArray[np.uint32]
    folds: npt.NDArray[np.uint8]
    older: PairCounts | None = None
    older_rows: int = 0
    first: int = 0
    total: Any = None
    round: int = 1
    rows: int = 0
    scores: list[Floats] = field(default_factory=list)
    rest: list[npt.NDArray[np.float32]] = field(default_factory=list)
    pairs: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    swapped: list[npt.NDArray[np.uint64]] = field(default_factory=list)


@dataclass(frozen=True)
class Pairwise(Signal[_State, PairwiseModel]):
    """What the words, lengths and relevance of the answers say of each pair, from all pairs that are not near it."""

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Near-duplicates of the prompt, or of the chosen answer where the data have no prompt."""
        return (self._near(context),)

    @staticmethod
    def _near(context: Context) -> NearDuplicates:
        return NearDuplicates("input" if {"prompt", "context"} & context.roles else "chosen")

    def start(self, context: Context) -> _State:
        """No counts; a fold for every row."""
        clusters = context.value(self._near(context))
        rows = np.arange(len(clusters.labels), dtype=np.int64)
        groups = clusters.groups(rows)
        folds = ((groups.astype(np.uint64) * _GOLDEN) >> np.uint64(64 - FOLD_BITS)).astype(np.uint8)
        from foretaste.text.pairs import BUCKETS

        older = context.background
        return _State(
            clusters, np.zeros((BUCKETS, FOLDS, 2), np.uint32), np.zeros(BUCKETS, np.uint32), folds,
            older.pairs if older else None, older.rows if older else 0, older.suspects if older else 0,
        )  # fmt: skip

    def scan(self, state: _State, batch: Batch) -> None:
        """Count, then score, by round."""
        from foretaste.text import pairs

        chosen, rejected = batch.tokens("chosen"), batch.tokens("rejected")
        both = (chosen.hashes, chosen.offsets, rejected.hashes, rejected.offsets)
        folds = state.folds[batch.start : batch.start + batch.num_rows]
        presence = state.presence if state.round == 1 else state.presence[:0]
        words, sides, ends = pairs.difference_words(*both, np.ones(batch.num_rows, np.bool_), presence)
        if state.round == 1:
            pairs.count_words(words, sides, ends, folds, state.counts)
            state.rows += batch.num_rows
            return
        from foretaste.text.tokens import hash_rows

        scores = np.empty((batch.num_rows, 2))
        pairs.score_words(words, sides, ends, folds, state.counts, state.total, scores)
        rest = np.zeros((batch.num_rows, 3), np.float32)
        ratio = np.log((np.diff(chosen.offsets) + 4.0) / (np.diff(rejected.offsets) + 4.0))
        rest[:, 0], rest[:, 1] = ratio, np.tanh(3.0 * ratio)
        first, second = hash_rows(*batch.buffers("chosen")), hash_rows(*batch.buffers("rejected"))
        asked = state.clusters.groups(batch.rows).astype(np.uint64) * _GOLDEN
        if batch.input_roles:
            prompt = batch.tokens("input")
            pairs.overlap(prompt.hashes, prompt.offsets, *both, state.presence, 2.0 * state.rows, rest[:, 2])
        state.scores.append(scores)
        state.rest.append(rest)
        state.pairs.append((asked + first * _GOLDEN) ^ second)
        state.swapped.append((asked + second * _GOLDEN) ^ first)

    def merge(self, left: _State, right: _State) -> _State:
        """Add counts; concatenate what is per row."""
        if left.round == 1:
            left.counts += right.counts
            left.presence += right.presence
            left.rows += right.rows
        left.scores += right.scores
        left.rest += right.rest
        left.pairs += right.pairs
        left.swapped += right.swapped
        return left

    def next_round(self, state: _State) -> _State | None:
        """Score in the second round."""
        if state.round == 2:
            return None
        state.total = state.counts.sum(axis=1, dtype=np.uint32)
        if state.older is not None:
            # Rows that are held no longer are of no row's fold.
            state.total += state.older.counts
            state.presence += state.older.presence
        state.rows += state.older_rows
        state.round = 2
        return state

    def value(self, state: _State) -> PairwiseModel:
        """Fit the few weights, on all rows that are a fair sample."""
        scores = np.concatenate(state.scores) if state.scores else np.zeros((0, 2))
        rest = np.concatenate(state.rest) if state.rest else np.zeros((0, 3), np.float32)
        x = features_of(scores, rest)
        fair = x[state.first :]
        weights = fit(fair) if len(fair) else np.zeros(x.shape[1])
        return PairwiseModel(
            counts=state.counts, total=state.total, folds=state.folds, weights=weights, features=x.astype(np.float32),
            logits=(x @ weights).astype(np.float32), first=state.first,
            pairs=np.concatenate(state.pairs) if state.pairs else np.zeros(0, np.uint64),
            swapped=np.concatenate(state.swapped) if state.swapped else np.zeros(0, np.uint64),
        )  # fmt: skip
