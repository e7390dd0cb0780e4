"""What the words of a row say about its label, from all other rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.background import Background
from foretaste.batch import Batch
from foretaste.check import Context, NotApplicableError, Signal
from foretaste.flips import fit_rate, log_likelihood
from foretaste.signals.outputs import Labels

MAX_CLASSES = 1000
BEYOND_DOUBT = 4.0  # nats that a word of a class is worth where it names the class
_MAX_CELLS = 1 << 24
_CALIBRATION_ROWS = 8192
_STRENGTHS = np.geomspace(0.05, 4.0, 25)
_POWERS = (0.0, 0.25, 0.5)


@dataclass(frozen=True)
class Model:
    """A calibrated leave-one-out naive Bayes classifier over hashed words (presence, not counts).

    Adding up makes leave-one-out exact: a row's own words are subtracted from the counts. Probabilities are tempered by
    ``strength / distinct_tokens**power``, because words are not independent, fitted by likelihood on held-out predictions
    together with a share of labels that were replaced at random: a few flips would talk the model down.

    Attributes:
        counts: rows per (bucket, class), uint32.
        base: share of each class, float64 (classes,).
        mass: share of each class in all words, float64 (classes,).
        strength, power: the tempering.
        own: log-probability of each row's own label, float32 (rows,).
        best: most probable label of each row, int32 (rows,).
        best_log: its log-probability, float32 (rows,).
        accuracy: share of rows whose label is the most probable one.
    """

    counts: npt.NDArray[np.uint32]
    base: npt.NDArray[np.float64]
    mass: npt.NDArray[np.float64]
    strength: float
    power: float
    own: npt.NDArray[np.float32]
    best: npt.NDArray[np.int32]
    best_log: npt.NDArray[np.float32]

    @property
    def accuracy(self) -> float:
        """Share of rows whose label is the most probable one, leave-one-out."""
        return float(np.mean(self.own >= self.best_log - 1e-6)) if len(self.own) else 0.0


def keyword(
    tokens: npt.NDArray[np.uint64],
    rows: npt.NDArray[np.int64],
    target: int,
    labels: npt.NDArray[np.int32],
    model: Model,
    nats: float = 1.2,
) -> bool:
    """Whether one of the tokens goes with the target class in rows outside the given ones.

    True where at least five such rows hold the token and their log-odds of the class, with one pseudo-count at the base
    rate, lie ``nats`` or more above the base rate's.
    """
    from foretaste.text.bayes import bucket_counts

    inside = len(rows)
    agreeing = int((labels[rows] == target).sum())
    base = float(model.base[target])
    for total, hits in bucket_counts(tokens, model.counts, target).tolist():
        # Nearly all given rows hold the token; what is left stands elsewhere.
        outside, there = total - inside, max(0, hits - agreeing)
        if outside >= 5:
            share = min((there + base) / (outside + 1.0), 0.999)
            if np.log(share / (1 - share)) - np.log(base / (1 - base)) >= nats:
                return True
    return False


@dataclass
class _State:
    """Counts of fixed size, the raw logits of at most 8,192 rows, and three numbers per row."""

    labels: npt.NDArray[np.int32]
    counts: npt.NDArray[np.uint32]
    base: npt.NDArray[np.float64]
    last: npt.NDArray[np.int64]
    every: int
    background: Background | None = None
    round: int = 1
    mass: npt.NDArray[np.float64] | None = None
    sample: list[tuple[Any, Any, Any]] = field(default_factory=list)
    strength: float = 1.0
    power: float = 0.5
    own: list[Any] = field(default_factory=list)
    best: list[Any] = field(default_factory=list)
    best_log: list[Any] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        """What travels is packed: most buckets of a part are empty, and ``last`` is about the rows of one part."""
        from foretaste.text.merging import packed_sketch

        return self.__dict__ | {
            "last": len(self.last),
            "counts": (self.counts.shape, packed_sketch(self.counts.ravel())),
        }

    def __setstate__(self, held: dict[str, Any]) -> None:
        """Make the room again."""
        from foretaste.text.merging import unpacked_sketch

        shape, packed = held["counts"]
        self.__dict__.update(held)
        self.counts = unpacked_sketch(packed).reshape(shape)
        self.last = np.full(held["last"], -1, np.int64)


def buckets_of(classes: int) -> int:
    """Buckets of words that so many classes are counted in."""
    return 1 << min(20, (_MAX_CELLS // classes).bit_length() - 1)


@dataclass(frozen=True)
class NaiveBayes(Signal[_State, Model]):
    """Leave-one-out label probabilities from the words of the input."""

    role: str = "input"

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Labels."""
        return (Labels(),)

    def start(self, context: Context) -> _State:
        """No counts."""
        classes = context.value(Labels())
        n = len(classes.counts)
        if not 2 <= n <= MAX_CLASSES:
            raise NotApplicableError(f"{n} distinct labels; a label model needs 2 to {MAX_CLASSES}")
        buckets = buckets_of(n)
        return _State(
            labels=classes.labels,
            counts=np.zeros((buckets, n), np.uint32),
            base=(classes.counts + 0.5) / (classes.counts.sum() + 0.5 * n),
            last=np.full(buckets, -1, np.int64),
            every=max(1, len(classes.labels) // _CALIBRATION_ROWS),
            background=context.background,
        )

    def scan(self, state: _State, batch: Batch) -> None:
        """Count, sample, or predict, by round."""
        from foretaste.text import bayes

        tokens = batch.tokens(self.role)
        labels = state.labels[batch.start : batch.start + batch.num_rows]
        if state.round == 1:
            bayes.count_classes(tokens.hashes, tokens.offsets, labels, state.counts, state.last, batch.start)
            return
        wanted = np.ones(batch.num_rows, np.bool_)
        if state.round == 2:
            fair = state.background.suspects if state.background else 0
            wanted = (batch.rows % state.every == 0) & (batch.rows >= fair)
        raw = np.empty((int(wanted.sum()), len(state.base)))
        sizes = np.empty(len(raw), np.int64)
        bayes.batch_logits(tokens.hashes, tokens.offsets, labels, state.counts, state.mass, wanted, raw, sizes)
        if state.round == 2:
            state.sample.append((raw, sizes, labels[wanted]))
            return
        out = np.empty_like(raw)
        bayes.log_softmax(raw, sizes, np.log(state.base), state.strength, state.power, out)
        every = np.arange(len(out))
        best = out.argmax(axis=1)
        state.own.append(out[every, labels].astype(np.float32))
        state.best.append(best.astype(np.int32))
        state.best_log.append(out[every, best].astype(np.float32))

    def merge(self, left: _State, right: _State) -> _State:
        """Add counts; concatenate what is per row."""
        if left.round == 1:
            left.counts += right.counts
        left.sample += right.sample
        left.own += right.own
        left.best += right.best
        left.best_log += right.best_log
        return left

    def next_round(self, state: _State) -> _State | None:
        """Calibrate after the second round; predict in the third."""
        if state.round == 3:
            return None
        if state.round == 2:
            self._calibrate(state)
        else:
            if state.background is not None:
                state.counts += state.background.words_like(state.counts)
            words = state.counts.sum(axis=0) + 0.5
            state.mass = words / words.sum()
        state.round += 1
        return state

    @staticmethod
    def _calibrate(state: _State) -> None:
        from foretaste.text.bayes import log_softmax

        raw = np.concatenate([s[0] for s in state.sample])
        sizes = np.concatenate([s[1] for s in state.sample])
        labels = np.concatenate([s[2] for s in state.sample])
        state.sample.clear()
        out = np.empty_like(raw)
        every, classes = np.arange(len(raw)), raw.shape[1]
        best = -np.inf
        for power in _POWERS:
            for strength in _STRENGTHS:
                log_softmax(raw, sizes, np.log(state.base), strength, power, out)
                own = np.exp(out[every, labels])
                fit = log_likelihood(own, fit_rate(own, classes, steps=8), classes)
                if fit > best:
                    best, state.strength, state.power = fit, float(strength), power

    def value(self, state: _State) -> Model:
        """The model and what it says of every row."""
        assert state.mass is not None
        return Model(
            state.counts, state.base, state.mass, state.strength, state.power, np.concatenate(state.own),
            np.concatenate(state.best), np.concatenate(state.best_log),
        )  # fmt: skip
