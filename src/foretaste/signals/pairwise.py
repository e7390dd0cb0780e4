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
from foretaste.text.sample import spread

FOLD_BITS = 3
FOLDS = 1 << FOLD_BITS
PARTS = 4  # of the folds, for each of which weights are fitted to the others
FEATURES = 9
PLAIN = (0, 1, 5)  # word scores, lengths and what is taken up of the prompt, none of which rows with one answer make up
RIDGE = 1e-3
MAX_FITTED = 1 << 15  # rows; two hundred weights need no more
LEAST_FITTED = 10  # rows for each weight (Peduzzi et al. 1996)
_STEPS = 30
_CHUNK = 1 << 14
_NOTHING = 8.0  # tokens; an answer of a few times as many says something
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairwiseModel:
    """A cross-fitted model of preference: a logistic regression over what tells the two answers apart.

    Its features change sign when the answers change places: the sum of the log odds of the difference words; the log
    ratio of the lengths (annotators like length), and whether one is next to nothing; how much more of the prompt the
    chosen answer takes up, and how much more of it comes from the prompt; how much better known its words are, and how
    many more of them are new, as in damaged text; how much less it repeats itself; and whether it breaks off. What one of
    them says depends on the others, so the products of each with the size of another are features as well. Words never
    vote for rows of their own fold, weights are fitted to other folds, and near-duplicate prompts share a fold. So many
    weights also learn what a hundred rows with one answer teach, whose words are known then and not new: a model of three
    features alone (``PLAIN``) stands beside it.

    Attributes:
        counts: rows per (bucket, fold, side), uint32.
        total: rows per (bucket, side), of the background as well, uint32.
        folds: fold of each row, uint8 (rows,).
        scale: of the features, float64 (FEATURES,).
        weights: of the features and their products, by part of the folds, float64 (PARTS, columns).
        plain: weights of the model beside it, float64 (len(PLAIN),).
        features: of each row, float32 (rows, FEATURES); the first hangs on the words.
        logits: log odds that the row's chosen answer is the better one, float32 (rows,).
        pairs, swapped: hash of each row's (near-duplicate prompt, chosen, rejected), and the same with the answers in
            the other order, uint64 (rows,).
        first: the first row that is a fair sample; those before stand there for being suspect.
    """

    counts: npt.NDArray[np.uint32]
    total: npt.NDArray[np.uint32]
    folds: npt.NDArray[np.uint8]
    scale: Floats
    weights: Floats
    plain: Floats
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

    @property
    def plain_logits(self) -> Floats:
        """Log odds (rows,) by the plain model."""
        told: Floats = self.features[:, PLAIN] @ self.plain
        return told

    def rescored(self, rows: npt.NDArray[np.int64], scores: Floats) -> Floats:
        """Log odds (k, 2) of some rows whose difference words say something else, by both models.

        ``scores`` (k, 2) are those of the words, and how many there are.
        """
        features = self.features[rows].astype(np.float64)
        features[:, 0] = of_words(scores)
        return np.column_stack(
            [_logits(features, self.folds[rows], self.scale, self.weights), features[:, PLAIN] @ self.plain]
        )


def of_words(scores: Floats) -> Floats:
    """The feature (rows,) of the summed log odds of the difference words and their number (rows, 2 or more)."""
    told: Floats = scores[:, 0] / np.sqrt(np.maximum(scores[:, 1], 1.0))
    return told


def expanded(features: Floats, scale: Floats) -> Floats:
    """Features, bounded ones, and the products of each with the size of each: all of them odd functions."""
    x = features / scale
    bounded = np.tanh(x)
    return np.column_stack([x, bounded, *(bounded * size[:, None] for size in np.abs(bounded).T)])


def _logits(features: Floats, folds: npt.NDArray[np.uint8], scale: Floats, weights: Floats) -> Floats:
    """Log odds (rows,), by the weights that were fitted without the part of each row."""
    out = np.empty(len(features))
    for start in range(0, len(features), _CHUNK):
        here = slice(start, start + _CHUNK)
        told = expanded(features[here].astype(np.float64), scale) @ weights.T
        out[here] = np.take_along_axis(told, _part(folds[here])[:, None], axis=1)[:, 0]
    return out


def _part(folds: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return folds.astype(np.int64) * PARTS // FOLDS


def fit_plain(features: Floats) -> Floats:
    """Weights of a logistic regression without intercept, in which every row is a win (Newton's method, ridge)."""
    weights = np.zeros(features.shape[1])
    if not len(features):
        return weights
    scale = np.sqrt((features**2).mean(axis=0)) + 1e-9
    z, ridge = features / scale, RIDGE * len(features)
    for _ in range(_STEPS):
        p = 1.0 / (1.0 + np.exp(-z @ weights))
        curvature = (z * (p * (1.0 - p))[:, None]).T @ z + ridge * np.eye(len(weights))
        step = np.linalg.solve(curvature, z.T @ (1.0 - p) - ridge * weights)
        weights += step
        if np.abs(step).max() < 1e-6:
            break
    fitted: Floats = weights / scale
    return fitted


def fit(features: Floats, folds: npt.NDArray[np.uint8], plain: Floats) -> tuple[Floats, Floats]:
    """Scale (FEATURES,) of the features and, by part of the folds, weights (PARTS, columns) fitted to the other parts.

    A logistic regression without intercept in which every row is a win, with a ridge. Its curvature is bounded by that at
    even odds (Boehning & Lindsay 1988), which is solved for once; the steps are accelerated (Nesterov 1983). Fewer than
    ``LEAST_FITTED`` rows for each weight teach too little of it: then the weights are those of the ``plain`` model.
    """
    scale = np.sqrt((features**2).mean(axis=0)) + 1e-9 if len(features) else np.ones(features.shape[1])
    x, part = expanded(features, scale), _part(folds)
    if len(x) < LEAST_FITTED * x.shape[1]:
        alone = np.zeros((PARTS, x.shape[1]))
        alone[:, PLAIN] = plain * scale[list(PLAIN)]
        return scale, alone
    squares = [mine.T @ mine for mine in (x[part == p] for p in range(PARTS))]
    every = sum(squares, np.zeros((x.shape[1], x.shape[1])))
    weights = np.zeros((PARTS, x.shape[1]))
    for p in range(PARTS):
        others = x[part != p]
        ridge = RIDGE * max(1, len(others))
        inverse = np.linalg.inv((every - squares[p]) / 4.0 + ridge * np.eye(len(every)))
        ahead = weights[p]
        for step in range(_STEPS):
            slope = others.T @ (1.0 / (1.0 + np.exp(np.clip(others @ ahead, -30.0, 30.0)))) - ridge * ahead
            new = ahead + inverse @ slope
            ahead = new + step / (step + 3.0) * (new - weights[p])
            weights[p] = new
    return scale, weights


@dataclass
class _State:
    """Counts of fixed size, and 53 bytes per row."""

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
    features: list[npt.NDArray[np.float32]] = field(default_factory=list)
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

        scores, answers = np.empty((batch.num_rows, 4)), np.zeros((batch.num_rows, 4))
        pairs.score_words(words, sides, ends, folds, state.counts, state.total, scores)
        nothing = np.zeros(0, np.uint64), np.zeros(batch.num_rows + 1, np.int64)
        prompt = batch.tokens("input") if batch.input_roles else None
        asked_for = (prompt.hashes, prompt.offsets) if prompt else nothing
        pairs.compare(*asked_for, *both, state.presence, 2.0 * state.rows, answers)
        lengths = [np.diff(side.offsets).astype(np.float64) for side in (chosen, rejected)]
        features = np.empty((batch.num_rows, FEATURES), np.float32)
        features[:, 0] = of_words(scores)
        features[:, 1] = np.log((lengths[0] + pairs.SHORT) / (lengths[1] + pairs.SHORT))
        features[:, 2] = np.exp(-lengths[0] / _NOTHING) - np.exp(-lengths[1] / _NOTHING)
        features[:, 3] = scores[:, 2]
        features[:, 4] = np.sign(scores[:, 3]) * np.log1p(np.abs(scores[:, 3]))
        features[:, 5:] = answers
        first, second = hash_rows(*batch.buffers("chosen")), hash_rows(*batch.buffers("rejected"))
        asked = state.clusters.groups(batch.rows).astype(np.uint64) * _GOLDEN
        state.features.append(features)
        state.pairs.append((asked + first * _GOLDEN) ^ second)
        state.swapped.append((asked + second * _GOLDEN) ^ first)

    def merge(self, left: _State, right: _State) -> _State:
        """Add counts; concatenate what is per row."""
        if left.round == 1:
            left.counts += right.counts
            left.presence += right.presence
            left.rows += right.rows
        left.features += right.features
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
        """Fit the weights, on rows that are a fair sample."""
        x = np.concatenate([np.zeros((0, FEATURES), np.float32), *state.features])
        fitted = state.first + spread(np.arange(len(x) - state.first), MAX_FITTED)
        known = x[fitted].astype(np.float64)
        plain = fit_plain(known[:, PLAIN])
        scale, weights = fit(known, state.folds[fitted], plain)
        return PairwiseModel(
            counts=state.counts, total=state.total, folds=state.folds, scale=scale, weights=weights,
            plain=plain, features=x,
            logits=_logits(x, state.folds, scale, weights).astype(np.float32), first=state.first,
            pairs=np.concatenate([np.zeros(0, np.uint64), *state.pairs]),
            swapped=np.concatenate([np.zeros(0, np.uint64), *state.swapped]),
        )  # fmt: skip
