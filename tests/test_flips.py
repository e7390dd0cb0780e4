from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from foretaste.check import RawFinding, Severity
from foretaste.concentration import above_rest, excursions, pairs
from foretaste.flips import FlipRules, Opinion, fit_rate, replaced
from foretaste.signals.outputs import Classes
from foretaste.signals.sources import SourceNumbers
from foretaste.signals.times import UNKNOWN


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
        best_log=np.log(chances.max(axis=1)).astype(np.float32),
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
            rows=opinion.rows, labels=moved, own=own, best=opinion.best, best_log=opinion.best_log, classes=4,
            basis="their probabilities",
        ).odds  # fmt: skip
        pooled = replaced(np.exp(own[victims].astype(float)), fit_rate(np.exp(own.astype(float)), 4), 4)
        assert odds[victims].mean() > pooled.mean() + 0.05

    def test_a_rare_class_that_words_do_not_tell_is_not_taken_for_replaced(self) -> None:
        labels = np.where(np.random.default_rng(0).random(6000) < 0.02, 1, 0).astype(np.int32)
        shares = np.bincount(labels) / len(labels)
        opinion = Opinion(
            rows=np.arange(len(labels)), labels=labels, own=np.log(shares[labels]).astype(np.float32),
            best=np.zeros(len(labels), np.int32), best_log=np.full(len(labels), np.log(shares[0]), np.float32),
            classes=2, basis="nothing",
        )  # fmt: skip
        assert (opinion.odds < 0.5).all()


class TestTypical:
    def test_labels_replaced_at_random_stand_in_typical_rows_as_often_as_in_any(self) -> None:
        _, _, opinion = _labelled(0.05)
        assert opinion.typical == pytest.approx(0.05, abs=0.02)

    def test_doubt_between_classes_is_no_larger_share_of_replaced_labels(self) -> None:
        _, _, opinion = _labelled(0.0)
        sure = dataclasses.replace(opinion, own=opinion.own * 3)  # a model that is surer than it knows
        assert sure.odds.mean() > FlipRules().noise_share > sure.typical
        finding = _findings(sure)["improbable labels"]
        assert len(finding.rows) <= FlipRules().quiet_share * len(sure.rows)
        assert (
            finding.statistic["false_discovery_rate"] >= 1 - sure.typical * len(sure.rows) / len(finding.rows) - 0.001
        )

    def test_no_class_is_known_without_rows_that_agree(self) -> None:
        _, _, opinion = _labelled(0.0, rows=20)
        assert dataclasses.replace(opinion, best=(opinion.labels + 1) % 4).typical == 1.0


def _confusing(rows: int = 8000, seed: int = 0, share: float = 0.03) -> Opinion:
    """Six classes in a ring, a ``share`` of whose typical rows carry the label of the next class, as nature has it."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 6, rows)
    chances = np.full((rows, 6), 1e-4)
    toward = random.beta(0.5, 4.0, rows)
    chances[np.arange(rows), truth], chances[np.arange(rows), (truth + 1) % 6] = 1 - toward, toward + 0.01
    chances /= chances.sum(axis=1, keepdims=True)
    labels = _draw(chances, seed + 1)
    confused = random.random(rows) < share
    return _opinion(chances, np.where(confused, (truth + 1) % 6, labels))


class TestDrawn:
    @staticmethod
    def _flipped(opinion: Opinion, flips: int) -> tuple[Opinion, np.ndarray]:
        random = np.random.default_rng(5)
        rows = random.choice(len(opinion.rows), flips, replace=False)
        labels, own = opinion.labels.copy(), opinion.own.copy()
        labels[rows] = (labels[rows] + random.integers(1, 6, flips)) % 6
        drawn = np.full(flips, np.log(1e-4), np.float32)
        own[rows] = np.where(labels[rows] == opinion.best[rows], opinion.best_log[rows], drawn)
        return dataclasses.replace(opinion, labels=labels, own=own), rows

    def test_evenly_drawn_labels_are_told_from_confused_ones_by_classes_that_nobody_would_take_the_rows_for(
        self,
    ) -> None:
        assert sum(_confusing(seed=seed).at_random for seed in range(20)) <= 2
        assert all(self._flipped(_confusing(seed=seed), 150)[0].at_random for seed in range(5))

    def test_a_list_grows_where_labels_were_drawn(self) -> None:
        opinion, rows = self._flipped(_confusing(share=0.0), 400)
        named = _findings(opinion)["improbable labels"].rows
        assert len(named) > FlipRules().max_share * len(opinion.rows)
        assert np.isin(rows, named).mean() > 0.5 > 0.1 > (~np.isin(named, rows)).mean()

    def test_two_classes_cannot_tell(self) -> None:
        assert not _labelled(0.05, classes=2)[2].at_random

    def test_a_model_that_is_right_no_more_often_than_chance_lists_nothing(self) -> None:
        _, _, opinion = _labelled(0.0, rows=4000, classes=2)
        wrong = opinion.labels == opinion.best
        own = np.where(wrong, np.log(0.3), np.log(0.7)).astype(np.float32)
        contrary = dataclasses.replace(
            opinion, best=1 - opinion.labels, own=own, best_log=np.full(4000, np.log(0.7), np.float32)
        )
        assert opinion.tells
        assert not contrary.tells
        assert "improbable labels" not in _findings(contrary)


def _sure(rows: int, classes: int, seed: int = 0, sharpness: float = 12.0) -> np.ndarray:
    """Probabilities of mostly clear rows, shape (rows, classes)."""
    logits = np.random.default_rng(seed).normal(0, sharpness, (rows, classes))
    logits -= logits.max(axis=1, keepdims=True)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def _opinion(chances: np.ndarray, labels: np.ndarray) -> Opinion:
    return Opinion(
        rows=np.arange(len(labels)), labels=labels.astype(np.int32),
        own=np.log(np.maximum(chances[np.arange(len(labels)), labels], 1e-30)).astype(np.float32),
        best=chances.argmax(axis=1).astype(np.int32), best_log=np.log(chances.max(axis=1)).astype(np.float32),
        classes=chances.shape[1], basis="their probabilities",
    )  # fmt: skip


def _draw(chances: np.ndarray, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (chances.cumsum(axis=1) < random.random((len(chances), 1))).sum(axis=1).clip(0, chances.shape[1] - 1)


def _findings(opinion: Opinion, phrases: Any = None, people: Any = None, times: Any = None) -> dict[str, RawFinding]:
    counts = np.bincount(opinion.labels, minlength=opinion.classes)
    classes = Classes(opinion.labels, counts, tuple(f"c{i}" for i in range(opinion.classes)), np.zeros_like(counts))
    return {f.kind: f for f in FlipRules().flips(opinion, classes, people or {}, phrases, times)}


class TestStretch:
    def test_excursions_begin_after_a_low_and_know_their_peak(self) -> None:
        starts, stops, peaks = excursions(np.array([-1.0, 2.0, 1.0, -2.0, -5.0, 3.0, -1.0]))
        assert starts.tolist() == [1, 5]
        assert stops.tolist() == [4, 7]
        assert peaks.tolist() == [3.0, 3.0]

    def test_a_sum_that_many_others_come_near_does_not_stand_out(self) -> None:
        alone = above_rest(np.append(np.linspace(0, 3, 100), 60.0))[-1]
        among = above_rest(np.append(np.linspace(0, 60, 100), 60.0))[-1]
        assert alone > 50
        assert among < 5

    @pytest.mark.parametrize("share", [0.4, 1.0])
    def test_labels_flipped_side_by_side_block(self, share: float) -> None:
        chances = _sure(8000, 4)
        labels = _draw(chances)
        flipped = 3000 + np.flatnonzero(np.random.default_rng(2).random(120) < share)
        labels[flipped] = (labels[flipped] + 1) % 4
        found = _findings(_opinion(chances, labels))["flipped stretch"]
        assert found.severity is Severity.BLOCK
        assert np.isin(flipped, found.rows).mean() > 0.8
        assert np.isin(found.rows, flipped).mean() > 0.8

    def test_the_same_flips_all_over_the_data_do_not(self) -> None:
        chances = _sure(8000, 4)
        labels = _draw(chances)
        flipped = np.random.default_rng(2).choice(8000, 120, replace=False)
        labels[flipped] = (labels[flipped] + 1) % 4
        assert set(_findings(_opinion(chances, labels))) == {"improbable labels"}

    def test_text_that_the_model_does_not_know_is_for_review_and_few_rows(self) -> None:
        random = np.random.default_rng(3)
        chances = _sure(8000, 2)
        labels = _draw(chances)
        chances[3000:3400, 0] = random.uniform(0.2, 0.8, 400)
        chances[3000:3400, 1] = 1 - chances[3000:3400, 0]
        labels[3000:3400] = random.integers(0, 2, 400)
        found = _findings(_opinion(chances, labels))["flipped stretch"]
        assert found.severity is Severity.REVIEW
        assert len(found.rows) <= 0.004 * 8000


class TestPeriod:
    @pytest.mark.parametrize("share", [0.4, 1.0])
    def test_labels_flipped_within_an_hour_block_wherever_their_rows_lie(self, share: float) -> None:
        random = np.random.default_rng(3)
        chances = _sure(8000, 4)
        labels = _draw(chances)
        times = random.integers(0, 30 * 86_400_000_000, 8000)
        hour = random.choice(8000, 120, replace=False)
        times[hour] = 10 * 86_400_000_000 + random.integers(0, 3_600_000_000, 120)
        flipped = hour[random.random(120) < share]
        labels[flipped] = (labels[flipped] + 1) % 4
        assert "flipped stretch" not in _findings(_opinion(chances, labels))
        found = _findings(_opinion(chances, labels), times=times)["flipped period"]
        assert found.severity is Severity.BLOCK
        assert found.feature is not None
        assert found.feature.startswith("1970-01-1")
        assert " to 1970-01-11 0" in found.feature
        assert np.isin(flipped, found.rows).mean() > 0.8
        assert np.isin(found.rows, flipped).mean() > 0.8

    def test_rows_without_a_time_stand_in_no_period(self) -> None:
        chances = _sure(8000, 4)
        labels = _draw(chances)
        flipped = np.random.default_rng(2).choice(8000, 120, replace=False)
        labels[flipped] = (labels[flipped] + 1) % 4
        times = np.arange(8000)
        times[flipped] = UNKNOWN
        assert set(_findings(_opinion(chances, labels), times=times)) == {"improbable labels"}


class TestPeople:
    @pytest.mark.parametrize("role", ["source", "annotator"])
    def test_who_flips_labels_is_named_by_role(self, role: str) -> None:
        chances = _sure(8000, 4)
        labels = _draw(chances)
        numbers = np.random.default_rng(5).integers(0, 40, 8000).astype(np.int32)
        flipped = np.flatnonzero(numbers == 7)[::2]
        labels[flipped] = (labels[flipped] + 1) % 4
        people = {role: SourceNumbers(numbers, tuple(f"p{i}" for i in range(40)))}
        found = _findings(_opinion(chances, labels), people=people)[f"flipped {role}"]
        assert (found.feature, found.severity) == ("p7", Severity.BLOCK)
        assert f"{role} p7" in found.message


class TestTopic:
    def test_flips_in_the_rows_of_a_word_are_for_review(self) -> None:
        chances = _sure(8000, 4)
        labels = _draw(chances)
        random = np.random.default_rng(4)
        words = [np.sort(random.choice(8000, n, replace=False)) for n in [100] * 60]
        flipped = words[7][::2]
        labels[flipped] = (labels[flipped] + 1) % 4
        table = SimpleNamespace(
            n=np.ones(60, int), counts=np.full(60, 100), text=[f"w{i}" for i in range(60)], rows_of=lambda w: words[w]
        )
        found = _findings(_opinion(chances, labels), table)["flipped topic"]
        assert (found.feature, found.severity) == ("w7", Severity.REVIEW)
        assert np.isin(flipped, found.rows).mean() > 0.8


class TestPair:
    @staticmethod
    def _neighbours(flips: int, seed: int = 7) -> Opinion:
        """Thirty classes in a ring, each confused with the next at their boundary; flips from 5 to 6."""
        random = np.random.default_rng(seed)
        truth = np.repeat(np.arange(30), 150)
        toward = random.beta(0.4, 1.6, len(truth))  # few rows lie near the next class
        chances = np.full((len(truth), 30), 1e-4)
        chances[np.arange(len(truth)), truth] = 1 - toward
        chances[np.arange(len(truth)), (truth + 1) % 30] = toward
        chances /= chances.sum(axis=1, keepdims=True)
        labels = _draw(chances, seed + 1)
        labels[random.choice(np.flatnonzero(labels == 5), flips, replace=False)] = 6
        return _opinion(chances, labels)

    def test_flips_between_two_neighbours_are_told_from_their_confusion(self) -> None:
        found = _findings(self._neighbours(60))["flipped pair"]
        assert (found.feature, found.severity) == ("c5 -> c6", Severity.REVIEW)
        assert len(found.rows) >= 50

    def test_confusion_alone_is_hardly_ever_one(self) -> None:
        named = sum("flipped pair" in _findings(self._neighbours(0, seed)) for seed in range(40))
        assert named <= 2, "a false-discovery rate of 1 % names one in a hundred"

    def test_classes_that_are_confused_both_ways_are_of_one_kind(self) -> None:
        opinion = self._neighbours(0)
        labels = opinion.labels.copy()
        for looks, other in ((5, 6), (6, 5)):
            labels[np.flatnonzero(opinion.labels == looks)[::3]] = other
        both = dataclasses.replace(opinion, labels=labels)
        assert "flipped pair" not in _findings(both)

    def test_few_pairs_tell_no_law(self) -> None:
        chances = _sure(4000, 4, sharpness=1.0)
        opinion = _opinion(chances, _draw(chances))
        opinion = dataclasses.replace(opinion, labels=np.where(opinion.best == 1, 2, opinion.labels).astype(np.int32))
        assert pairs(opinion.labels, opinion.best, opinion.best_log, 4, 0.01) == []
