"""What a prompt would lead one to expect of its response, and how responses differ from that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.batch import TURN, Batch
from foretaste.check import Context, Signal

PRESENCE_CELLS = 1 << 20
WORDS = 1 << 15
SAMPLE = 4096
PAIRS = 1024  # of those rows whose responses are tried on other prompts as well
MAX_TOKENS = 1024  # of a text of such a pair
RIDGE = 10.0
# As where one response in a thousand praises or finds fault: in another language than English next to none does, and a
# single word would lie any number of such deviations off.
_LEAST_OPINION = 0.02
# Of a direction, as a share of what even responses have. Where most responses only say what their prompts hold, the rest of
# them is next to nothing, and the few words that do not would lie any number of deviations off.
LEAST_VARIANCE = 0.5
_LEAST_FORM = 0.1  # as where one response in a hundred has the form

Floats = npt.NDArray[np.float64]
Flat = tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Expectation:
    """A cross-fitted model of responses, from the words of the prompts.

    Attributes:
        rarity: inverse document frequency of the words of the responses, by their cell, float32.
        added, weights: what a word of a prompt adds to a prediction, and its own weight, by fold and cell.
        mean: mean response vector, (DIMS,).
        linear: model from features to measures of a row, (FEATURES, MEASURES).
        whitening: makes the residuals of response vectors white, (DIMS, DIMS).
        odds: weights of what tells whether a response is its prompt's own, (TAKEN,).
        spread: standard deviation of the residuals of odds, length, opinion and forms, (3 + FORMS,).
        misfit: how much less the odds of responses to other prompts are, at least ``spread[0]``.
        alike: mean cosine of any two prompts.
    """

    rarity: npt.NDArray[np.float32]
    added: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    mean: Floats
    odds: Floats
    linear: Floats
    whitening: Floats
    spread: Floats
    misfit: float
    alike: float

    def measure(
        self,
        batch: Batch,
        texts: Exchanges,
        places: npt.NDArray[np.int64],
        own: npt.NDArray[np.uint64],
        spans: npt.NDArray[np.int64],
    ) -> tuple[Floats, Floats, Floats]:
        """Measures, features and prompt vectors of rows of a batch; see :func:`foretaste.text.projection.measure`.

        ``texts`` are the exchanges of the batch. Of a conversation it is the last exchange whose prompt holds all of
        ``own``, or the last one where none does.
        """
        from foretaste.text.projection import DIMS, holding, odds

        lessons = self.rarity, self.added, self.weights, self.mean
        if len(texts.rows) > batch.num_rows:
            lasts = np.searchsorted(texts.rows, places, side="right") - 1
            chosen = np.empty(len(places), np.int64)
            holding(*texts.asked, texts.rows, lasts, own, spans, chosen)
        else:
            chosen = places
        flat = *texts.asked, *texts.answered
        measures, features, prompts, taken = _measure(*flat, places + batch.start, chosen, own, spans, *lessons)
        measures[:, DIMS] = odds(taken, self.odds)
        texts.form(chosen, measures)
        return measures, features, prompts


@dataclass(frozen=True)
class Exchanges:
    """Responses of a batch, each with what it answers: one of a row, but of a conversation as many as it has.

    Attributes:
        asked, answered: tokens and offsets (exchanges + 1,) of each. Of a row with one response all of its input is asked,
            of others the prompt before the response.
        rows: place of each exchange's row in the batch, ascending, int64 (exchanges,).
        written: UTF-8 bytes of the responses, and where each begins, (exchanges + 1,).
    """

    asked: Flat
    answered: Flat
    rows: npt.NDArray[np.int64]
    written: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]

    @classmethod
    def of(cls, batch: Batch) -> Exchanges:
        """The exchanges of a batch."""
        from foretaste.text.rowstore import prompt_before

        whole, answered = batch.tokens("input"), batch.tokens("response")
        data, ends = batch.buffers("response")
        answers, rows = batch.turns("response")
        prompts, prompt_rows = batch.turns("prompt")
        if len(rows) == batch.num_rows or not np.array_equal(rows, prompt_rows):
            rows = np.arange(batch.num_rows)
            return cls((whole.hashes, whole.offsets), (answered.hashes, answered.offsets), rows, (data, ends))
        at = prompt_before(prompts.offsets, np.arange(len(rows)), np.searchsorted(rows, rows))
        alone = np.bincount(rows, minlength=batch.num_rows)[rows] == 1
        starts = np.where(alone, whole.offsets[rows], len(whole.hashes) + prompts.offsets[at])
        lengths = np.where(alone, np.diff(whole.offsets)[rows], prompts.offsets[at + 1] - prompts.offsets[at])
        offsets = np.append(0, np.cumsum(lengths))
        both = np.concatenate([whole.hashes, prompts.hashes])
        asked = both[np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])]
        cuts = np.flatnonzero(data[ends[0] : ends[-1]] == ord(TURN)) + ends[0]
        return cls((asked, offsets), (answers.hashes, answers.offsets), rows, (data, np.sort(np.append(ends, cuts))))

    def form(self, places: npt.NDArray[np.int64], measures: Floats) -> None:
        """Put the forms of some responses to the other measures."""
        from foretaste.text.forms import FORMS, forms

        forms(*self.written, places, measures[:, -len(FORMS) :])


def _room(rows: int) -> tuple[Floats, Floats, Floats, Floats]:
    from foretaste.text.projection import DIMS, FEATURES, MEASURES, TAKEN

    return tuple(np.zeros((rows, width)) for width in (MEASURES, FEATURES, DIMS, TAKEN))  # type: ignore[return-value]


def _measure(*arguments: Any) -> tuple[Floats, Floats, Floats, Floats]:
    """What :func:`foretaste.text.projection.measure` gives; all its arguments but the lexicon and what it writes to."""
    from foretaste.text.opinions import lexicon
    from foretaste.text.projection import measure

    out = _room(len(arguments[5]))
    kernel: Any = measure
    kernel(*arguments, *lexicon(), *out)
    return out


@dataclass
class _State:
    """A sketch, two tables, what was measured of a sample, and numbers and tokens of a part of it."""

    presence: Any
    rarity: Any = None
    table: Any = None
    counts: Any = None
    total: Any = None
    lessons: Any = None
    round: int = 1
    rows: int = 0
    sample: list[tuple[Floats, Floats, Floats, Floats]] = field(default_factory=list)
    pairs: list[tuple[npt.NDArray[np.int64], Flat, Flat]] = field(default_factory=list)


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

        texts = Exchanges.of(batch)
        numbers = texts.rows + batch.start
        if state.round == 1:
            projection.count_rows(*texts.answered, state.presence)
            state.rows += len(numbers)
        elif state.round == 2:
            projection.learn(
                *texts.asked, *texts.answered, numbers, state.rarity, state.table, state.counts, state.total
            )
        else:
            drawn = mix_all(numbers.astype(np.uint64) + np.uint64(1)) >> np.uint64(1)
            places, paired = (np.flatnonzero(drawn < self._below(n, state.rows)) for n in (SAMPLE, PAIRS))
            state.sample.append(_measured(texts.asked, texts.answered, numbers[places], places, *self._model(state)))
            texts.form(places, state.sample[-1][0])
            state.pairs.append((numbers[paired], _cut(*texts.asked, paired), _cut(*texts.answered, paired)))

    @staticmethod
    def _below(rows: int, of: int) -> np.uint64:
        """The bound below which the hashes of about so many rows lie."""
        return np.uint64(min(1.0, rows / max(1, of)) * float(1 << 63))

    def merge(self, left: _State, right: _State) -> _State:
        """Add the tables, append the sample."""
        if left.round == 1:
            left.presence += right.presence
            left.rows += right.rows
        elif left.round == 2:
            for name in ("table", "counts", "total"):
                getattr(left, name)[...] += getattr(right, name)
        left.sample += right.sample
        left.pairs += right.pairs
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

    def _model(self, state: _State) -> tuple[Any, ...]:
        return state.rarity, *state.lessons, self._mean(state)

    @staticmethod
    def _mean(state: _State) -> Floats:
        from foretaste.text.projection import SCALE

        mean: Floats = state.total / (SCALE * max(1, state.rows))
        return mean

    def value(self, state: _State) -> Expectation:
        """Fit the models to the sample."""
        from foretaste.text.projection import DIMS, FEATURES, SCALARS, odds, tell_apart

        own, others = self._paired(state)
        told = tell_apart(own, others)
        if state.sample:
            measures, features, prompts, taken = (np.concatenate(column) for column in zip(*state.sample))
        else:
            measures, features, prompts, taken = _room(0)
        measures[:, DIMS] = odds(taken, told)
        n = max(1, len(measures))
        linear = np.linalg.solve(features.T @ features + RIDGE * np.eye(FEATURES), features.T @ measures)
        rest = measures - features @ linear
        values, vectors = np.linalg.eigh(rest[:, :DIMS].T @ rest[:, :DIMS] / n)
        spread = np.sqrt((rest[:, DIMS:] ** 2).sum(axis=0) / n) + 1e-9
        least = np.zeros(len(spread))
        least[2], least[SCALARS:] = _LEAST_OPINION, _LEAST_FORM
        spread = np.maximum(spread, least)
        less = float(odds(own, told).mean() - odds(others, told).mean()) if len(own) else 0.0
        whole = prompts.sum(axis=0)
        return Expectation(
            rarity=state.rarity, added=state.lessons[0], weights=state.lessons[1], mean=self._mean(state), odds=told,
            linear=linear, whitening=vectors / np.sqrt(np.maximum(values, LEAST_VARIANCE / DIMS)), spread=spread,
            misfit=max(less, float(spread[0])), alike=float((whole @ whole - n) / max(1, n * (n - 1))),
        )  # fmt: skip

    def _paired(self, state: _State) -> tuple[Floats, Floats]:
        """What is taken up of the prompts of a sample by their responses, and by those of other rows, (pairs, TAKEN)."""
        asked, answered = _joined([a for _, a, _ in state.pairs]), _joined([a for _, _, a in state.pairs])
        numbers = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in state.pairs)])
        order, places = np.argsort(numbers), np.arange(len(numbers))
        asked, numbers = _cut(*asked, order), numbers[order]
        own, others = (_cut(*answered, rows) for rows in (order, np.roll(order, len(order) // 2)))
        return tuple(_measured(asked, texts, numbers, places, *self._model(state))[3] for texts in (own, others))  # type: ignore[return-value]


def _measured(
    asked: Flat, answered: Flat, numbers: npt.NDArray[np.int64], places: npt.NDArray[np.int64], *model: Any
) -> tuple[Floats, Floats, Floats, Floats]:
    """What is measured of some rows, with nothing left out of their prompts."""
    none, spans = np.zeros(0, np.uint64), np.zeros(len(places) + 1, np.int64)
    return _measure(*asked, *answered, numbers, places, none, spans, *model)


def _cut(hashes: npt.NDArray[np.uint64], offsets: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> Flat:
    """The first MAX_TOKENS tokens of each of some rows, and their offsets."""
    sizes = np.minimum(offsets[rows + 1] - offsets[rows], MAX_TOKENS)
    spans = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(sizes, out=spans[1:])
    return hashes[np.arange(spans[-1]) + np.repeat(offsets[rows] - spans[:-1], sizes)], spans


def _joined(parts: list[Flat]) -> Flat:
    """Texts one after the other."""
    hashes = np.concatenate([np.zeros(0, np.uint64), *(h for h, _ in parts)])
    sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(o) for _, o in parts)])
    return hashes, np.cumsum(sizes)
