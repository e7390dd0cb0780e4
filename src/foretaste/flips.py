"""Which labels are flips: the rule that every check with an opinion of its own about labels applies.

Labels are taken for a mixture: with probability 1 - e the label comes from the model, with probability e it was
replaced by one of the other classes, drawn evenly. The rate e is fitted by maximum likelihood, for the data, for each
label and for each source, and gives every row the probability that its label was replaced: a local false-discovery rate
(Efron 2008) turned round, under the noise model of Natarajan et al. (2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foretaste.check import RawExample, RawFinding, Severity
from foretaste.signals.outputs import Classes
from foretaste.signals.sources import SourceNumbers

Floats = npt.NDArray[np.float64]

PRIOR_ROWS = 50.0  # rows by which the rate of all data weighs in the rate of one label
_STEPS = 50
_START = 0.01
_FALSE_ALARM = 1e-3
_LEAST_RATE = 0.005


def replaced(own: Floats, rate: Floats | float, classes: int) -> Floats:
    """Probability that a label was replaced, from the model's probability of it, shape (rows,)."""
    other = rate * (1.0 - own) / (classes - 1)
    odds: Floats = other / np.maximum((1.0 - rate) * own + other, 1e-300)
    return odds


def fit_rate(own: Floats, classes: int, steps: int = _STEPS) -> float:
    """The share of replaced labels that makes the labels most probable, by expectation maximisation."""
    rate = _START
    for _ in range(steps if len(own) else 0):
        rate = float(replaced(own, rate, classes).mean())
    return rate


def log_likelihood(own: Floats, rate: float, classes: int) -> float:
    """Log-likelihood of the labels under a rate of replaced ones, in nats."""
    return float(np.log(np.maximum((1.0 - rate) * own + rate * (1.0 - own) / (classes - 1), 1e-300)).sum())


@dataclass(frozen=True)
class Opinion:
    """What a model says of the labels of some rows; arrays of shape (rows,).

    Attributes:
        rows: row numbers, int64, ascending.
        labels: class of each row, int32.
        own: log-probability of the row's label, float32.
        best: most probable class, int32.
        classes: number of classes.
        basis: what the model goes by, as in "by the words of their rows".
    """

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    own: npt.NDArray[np.float32]
    best: npt.NDArray[np.int32]
    classes: int
    basis: str

    @property
    def chance(self) -> Floats:
        """Probability of each label."""
        return np.exp(self.own.astype(np.float64))

    @property
    def odds(self) -> Floats:
        """Probability that each label was replaced, at the rate of its own label, which that of all data steadies."""
        chance, rate = self.chance, fit_rate(self.chance, self.classes)
        n = np.bincount(self.labels, minlength=self.classes)
        rates = np.full(self.classes, rate)
        odds = replaced(chance, rate, self.classes)
        for _ in range(_STEPS):
            seen = np.bincount(self.labels, weights=odds, minlength=self.classes)
            rates = (seen + PRIOR_ROWS * rate) / (n + PRIOR_ROWS)
            odds = replaced(chance, rates[self.labels], self.classes)
        return odds


@dataclass(frozen=True, kw_only=True)
class FlipRules:
    """Parameters of the rule, to be inherited by a check, and the rule."""

    noise_share: float = 0.0125
    quiet_share: float = 0.004
    max_share: float = 0.015
    block_rows: int = 10
    source_excess: float = 6.0
    source_share: float = 0.05

    def flips(self, opinion: Opinion, odds: Floats, classes: Classes, sources: SourceNumbers) -> list[RawFinding]:
        """Sources that block, then the rows to review; ``odds`` are those of the opinion."""
        findings = self._sources(opinion, sources) if len(sources.numbers) else []
        blocked = np.concatenate([f.rows for f in findings]) if findings else np.zeros(0, np.int64)
        noisy = bool(len(odds)) and float(odds.mean()) >= self.noise_share
        most = int((self.max_share if noisy else self.quiet_share) * len(opinion.rows))
        ranked = np.flatnonzero(odds >= 0.5)
        ranked = ranked[np.argsort(-odds[ranked], kind="stable")][:most]
        ranked = ranked[~np.isin(opinion.rows[ranked], blocked)]
        if len(ranked):
            findings.append(self._review(opinion, odds, classes, ranked, noisy))
        return findings

    def _sources(self, opinion: Opinion, sources: SourceNumbers) -> list[RawFinding]:
        numbers, chance = sources.numbers[opinion.rows], opinion.chance
        n = np.bincount(numbers, minlength=len(sources.names))
        findings = []
        # A Python loop over sources: each has a rate of its own.
        for s in np.flatnonzero((n >= self.block_rows) & (n < len(numbers))).tolist():
            inside = numbers == s
            rate = fit_rate(chance[inside], opinion.classes)
            if rate < self.source_share:
                continue
            others = max(_LEAST_RATE, fit_rate(chance[~inside], opinion.classes))
            gain = log_likelihood(chance[inside], rate, opinion.classes)
            gain -= log_likelihood(chance[inside], others, opinion.classes)
            at = np.flatnonzero(inside)
            odds = replaced(chance[at], rate, opinion.classes)
            hits = at[odds >= 0.5]
            if len(hits) < self.block_rows or rate < self.source_excess * others:
                continue
            if gain < np.log(len(sources.names) / _FALSE_ALARM):
                continue
            worst = hits[np.argsort(opinion.own[hits], kind="stable")]
            findings.append(
                RawFinding(
                    kind="flipped source",
                    severity=Severity.BLOCK,
                    message=(
                        f"by {opinion.basis}, {rate:.0%} of the {n[s]} labels of source {sources.names[s]} were replaced, "
                        f"against {others:.1%} elsewhere; {len(hits)} of them are named"
                    ),
                    feature=sources.names[s],
                    rows=opinion.rows[hits],
                    observed=float(len(hits)),
                    limit=float(self.block_rows),
                    statistic={
                        "replaced_share": round(rate, 4),
                        "replaced_share_elsewhere": round(others, 4),
                        "log_likelihood_ratio": round(gain, 1),
                    },
                    examples=tuple(RawExample(row=int(r)) for r in opinion.rows[worst[:6]]),
                )
            )
        return findings

    def _review(
        self, opinion: Opinion, odds: Floats, classes: Classes, ranked: npt.NDArray[np.int64], noisy: bool
    ) -> RawFinding:
        pairs: dict[tuple[str, str], int] = {}
        for at in ranked.tolist():
            pair = (classes.names[int(opinion.best[at])], classes.names[int(opinion.labels[at])])
            pairs[pair] = pairs.get(pair, 0) + 1
        (instead, label), most = max(pairs.items(), key=lambda item: item[1])
        seen = int((odds >= 0.5).sum())
        tone = "much for natural noise" if noisy else "as natural noise may be"
        return RawFinding(
            kind="improbable labels",
            severity=Severity.REVIEW,
            message=(
                f"{seen} labels were more likely replaced than not, by {opinion.basis}: {tone}; the {len(ranked)} worst "
                f"are listed, most often {label} instead of {instead} ({most} rows)"
            ),
            target=label,
            rows=opinion.rows[ranked],
            observed=float(seen),
            limit=round(self.noise_share * len(odds), 1),
            statistic={
                "replaced_share": round(float(odds.mean()), 5),
                "false_discovery_rate": round(float(1.0 - odds[ranked].mean()), 3),
            },
            examples=tuple(RawExample(row=int(r)) for r in opinion.rows[ranked[:6]]),
        )
