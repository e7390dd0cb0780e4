from __future__ import annotations

import numpy as np
import pytest

from foretaste.flips import Opinion, fit_rate, replaced


def _labelled(
    rate: float, rows: int = 20_000, classes: int = 4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, Opinion]:
    """Labels drawn from known probabilities, ``rate`` of them replaced: which ones, the class labels, the opinion."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3.0, (rows, classes))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(classes, p=p) for p in chances])
    flipped = random.random(rows) < rate
    labels[flipped] = (labels[flipped] + random.integers(1, classes, int(flipped.sum()))) % classes
    opinion = Opinion(
        rows=np.arange(rows),
        labels=labels.astype(np.int32),
        own=np.log(chances[np.arange(rows), labels]).astype(np.float32),
        best=chances.argmax(axis=1).astype(np.int32),
        classes=classes,
        basis="their probabilities",
    )
    return flipped, labels, opinion


class TestRate:
    @pytest.mark.parametrize("rate", [0.0, 0.02, 0.1])
    def test_the_share_of_replaced_labels_is_recovered(self, rate: float) -> None:
        _, _, opinion = _labelled(rate)
        assert fit_rate(opinion.chance, opinion.classes, steps=500) == pytest.approx(rate, abs=0.006)

    def test_nothing_was_replaced_among_no_rows(self) -> None:
        assert 0 <= fit_rate(np.zeros(0), 3) <= 0.01

    def test_a_less_probable_label_is_more_likely_replaced(self) -> None:
        assert np.all(np.diff(replaced(np.array([0.9, 0.5, 0.1, 0.001, 0.0]), 0.02, 3)) > 0)


class TestOdds:
    def test_rows_named_at_one_half_are_mostly_replaced_ones(self) -> None:
        flipped, _, opinion = _labelled(0.05)
        named = opinion.odds >= 0.5
        assert flipped[named].mean() > 0.6
        assert 1 - opinion.odds[named].mean() == pytest.approx(1 - flipped[named].mean(), abs=0.05)

    def test_clean_labels_are_hardly_ever_named(self) -> None:
        _, _, opinion = _labelled(0.0)
        assert (opinion.odds >= 0.5).mean() < 0.001

    def test_the_label_that_was_flipped_to_has_a_rate_of_its_own(self) -> None:
        _, labels, opinion = _labelled(0.0)
        random = np.random.default_rng(1)
        victims = random.permutation(np.flatnonzero(labels == 1))[:300]
        moved = opinion.labels.copy()
        moved[victims] = 2
        own = opinion.own.copy()
        own[victims] = np.log(random.uniform(0.001, 0.05, len(victims)))
        odds = Opinion(
            rows=opinion.rows, labels=moved, own=own, best=opinion.best, classes=4, basis="their probabilities"
        ).odds
        pooled = replaced(np.exp(own[victims].astype(float)), fit_rate(np.exp(own.astype(float)), 4), 4)
        assert odds[victims].mean() > pooled.mean() + 0.05
