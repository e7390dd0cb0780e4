"""What a prompt would lead one to expect of its response, and how responses differ from that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Context, Signal

PRESENCE_CELLS = 1 << 20
WORDS = 1 << 15
SAMPLE = 4096
RIDGE = 10.0
# As where one response in a thousand praises or finds fault: in another language than English next to none does, and a
# single word would lie any number of such deviations off.
_LEAST_OPINION = 0.02
# Of a direction, as a share of what even responses have. Where most responses only say what their prompts hold, the rest of
# them is next to nothing, and the few words that do not would lie any number of deviations off.
LEAST_VARIANCE = 0.5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Expectation:
    """A cross-fitted model of responses, from the words of the prompts.

    Attributes:
        rarity: inverse document frequency of the words of the responses, by their cell, float32.
        added, weights: what a word of a prompt adds to a prediction, and its own weight, by fold and cell.
        mean: mean response vector, (DIMS,).
        linear: model from features to measures of a row, (FEATURES, MEASURES).
        whitening: makes the residuals of response vectors white, (DIMS, DIMS).
        spread: standard deviation of the residuals of fit, overlap, length and opinion, (4,), and of the sum of the first
            two, each over its own.
        alike: mean cosine of any two prompts.
    """

    rarity: npt.NDArray[np.float32]
    added: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    mean: Floats
    linear: Floats
    whitening: Floats
    spread: tuple[Floats, float]
    alike: float

    def measure(
        self, batch: Batch, places: npt.NDArray[np.int64], own: npt.NDArray[np.uint64], spans: npt.NDArray[np.int64]
    ) -> tuple[Floats, Floats, Floats]:
        """Measures, features and prompt vectors of rows of a batch; see :func:`foretaste.text.projection.measure`."""
        return _measure(batch, places, own, spans, self.rarity, self.added, self.weights, self.mean)


def _measure(
    batch: Batch,
    places: npt.NDArray[np.int64],
    own: npt.NDArray[np.uint64],
    spans: npt.NDArray[np.int64],
    *model: Any,
) -> tuple[Floats, Floats, Floats]:
    from foretaste.text.opinions import lexicon
    from foretaste.text.projection import DIMS, FEATURES, MEASURES, measure

    asked, answered = batch.tokens("input"), batch.tokens("response")
    out = np.zeros((len(places), MEASURES)), np.zeros((len(places), FEATURES)), np.zeros((len(places), DIMS))
    kernel: Any = measure
    kernel(
        asked.hashes, asked.offsets, answered.hashes, answered.offsets, batch.start, places, own, spans,
        *model, *lexicon(), *out,
    )  # fmt: skip
    return out


@dataclass
class _State:
    """A sketch, two tables, and what was measured of a sample."""

    presence: Any
    rarity: Any = None
    table: Any = None
    counts: Any = None
    total: Any = None
    lessons: Any = None
    round: int = 1
    rows: int = 0
    sample: list[tuple[Floats, Floats, Floats]] = field(default_factory=list)


@dataclass(frozen=True)
class Expected(Signal[_State, Expectation]):
    """A model of what responses are like, given their prompts. Three rounds: count words, learn, measure a sample."""

    def start(self, context: Context) -> _State:
        """An empty sketch."""
        return _State(np.zeros(context.cells(PRESENCE_CELLS), np.uint32))

    def scan(self, state: _State, batch: Batch) -> None:
        """Count, learn or measure, by round."""
        from foretaste.text import projection
        from foretaste.text.tokens import mix_all

        answered = batch.tokens("response")
        if state.round == 1:
            projection.count_rows(answered.hashes, answered.offsets, state.presence)
            state.rows += batch.num_rows
        elif state.round == 2:
            asked = batch.tokens("input")
            projection.learn(
                asked.hashes, asked.offsets, answered.hashes, answered.offsets, batch.start, state.rarity,
                state.table, state.counts, state.total,
            )  # fmt: skip
        else:
            below = np.uint64(min(1.0, SAMPLE / max(1, state.rows)) * float(1 << 63))
            places = np.flatnonzero(mix_all(batch.rows.astype(np.uint64) + np.uint64(1)) >> np.uint64(1) < below)
            none, spans = np.zeros(0, np.uint64), np.zeros(len(places) + 1, np.int64)
            model = state.rarity, *state.lessons, self._mean(state)
            state.sample.append(_measure(batch, places, none, spans, *model))

    def merge(self, left: _State, right: _State) -> _State:
        """Add the tables, append the sample."""
        if left.round == 1:
            left.presence += right.presence
            left.rows += right.rows
        elif left.round == 2:
            for name in ("table", "counts", "total"):
                getattr(left, name)[...] += getattr(right, name)
        left.sample += right.sample
        return left

    def next_round(self, state: _State) -> _State | None:
        """Weigh the words and make room for the tables, then draw the lessons."""
        from foretaste.text.projection import DIMS, inverse_frequency, lessons

        if state.round == 3:
            return None
        if state.round == 1:
            state.rarity, state.presence = inverse_frequency(state.presence, state.rows), None
            state.table = np.zeros((2, WORDS, DIMS), np.int32)
            state.counts = np.zeros((2, WORDS), np.int32)
            state.total = np.zeros(DIMS, np.int64)
        else:
            state.lessons = lessons(state.table, state.counts, self._mean(state), state.rows)
            state.table = state.counts = None
        state.round += 1
        return state

    @staticmethod
    def _mean(state: _State) -> Floats:
        from foretaste.text.projection import SCALE

        mean: Floats = state.total / (SCALE * max(1, state.rows))
        return mean

    def value(self, state: _State) -> Expectation:
        """Fit the linear model to the sample."""
        from foretaste.text.projection import DIMS, FEATURES, MEASURES

        if state.sample:
            measures, features, prompts = (np.concatenate(column) for column in zip(*state.sample))
        else:
            measures, features, prompts = np.zeros((0, MEASURES)), np.zeros((0, FEATURES)), np.zeros((0, DIMS))
        n = max(1, len(measures))
        linear = np.linalg.solve(features.T @ features + RIDGE * np.eye(FEATURES), features.T @ measures)
        rest = measures - features @ linear
        values, vectors = np.linalg.eigh(rest[:, :DIMS].T @ rest[:, :DIMS] / n)
        spread = np.sqrt((rest[:, DIMS:] ** 2).sum(axis=0) / n) + 1e-9
        spread[-1] = max(spread[-1], _LEAST_OPINION)
        both = (rest[:, DIMS : DIMS + 2] / spread[:2]).sum(axis=1)
        whole = prompts.sum(axis=0)
        return Expectation(
            rarity=state.rarity, added=state.lessons[0], weights=state.lessons[1], mean=self._mean(state), linear=linear,
            whitening=vectors / np.sqrt(np.maximum(values, LEAST_VARIANCE / DIMS)),
            spread=(spread, float(np.sqrt((both**2).sum() / n)) + 1e-9),
            alike=float((whole @ whole - n) / max(1, n * (n - 1))),
        )  # fmt: skip
