"""Which labels are flips: the rule that every check with an opinion of its own about labels applies.

Labels are taken for a mixture: with probability 1 - e the label comes from the model, with probability e it was
replaced by one of the other classes, drawn evenly. The rate e is fitted by maximum likelihood, for the data, for each
label and for each source, and gives every row the probability that its label was replaced: a local false-discovery rate
(Efron 2008) turned round, under the noise model of Natarajan et al. (2013).
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foretaste.check import RawExample, RawFinding, Severity
from foretaste.concentration import Gathering, above_others, groups, pairs, stretches
from foretaste.signals.outputs import Classes
from foretaste.signals.phrases import PhraseTable, edges_of
from foretaste.signals.sources import SourceNumbers
from foretaste.signals.times import UNKNOWN, moment

Floats = npt.NDArray[np.float64]

PRIOR_ROWS = 50.0  # rows by which the rate of all data weighs in the rate of one label
_STEPS = 50
_PART = 1 << 18  # rows
_START = 0.01
_FALSE_ALARM = 1e-3
_FALSE_PAIRS = 0.01
_LEAST_RATE = 0.005
_LEAST_TYPICAL = 10  # rows of a class from which its typical ones are known
_FAR_ALARM = 0.02  # false alarms per data set of what only makes a list longer
# Of rows that look most like a class, one in ten is labelled otherwise: the model does not know the classes, for who
# replaces so many labels has other names than noise.
_KNOWN = 0.1
_TOPIC_ROWS = 20  # rows from which a word makes a topic
_UNKNOWN_BY = "typical_rows_to_limit"  # what a source has in its statistic that others or the model explain
# A common word that was put into the named rows: as ``trigger-association`` asks it of a phrase.
_PUT_IN_DISTANCE, _PUT_IN_HEALING, _PUT_IN_DIVERSITY, _PUT_IN_PURITY = 30.0, 0.5, 0.4, 0.85


def _parts(rows: int) -> Iterator[slice]:
    """Some rows at a time, so that what is made on the way takes no room for all of them."""
    return (slice(at, at + _PART) for at in range(0, rows, _PART))


def replaced(own: Floats, rate: Floats | float, classes: int) -> Floats:
    """Probability that a label was replaced, from the model's probability of it, shape (rows,)."""
    other = rate * (1.0 - own) / (classes - 1)
    odds: Floats = other / np.maximum((1.0 - rate) * own + other, 1e-300)
    return odds


def fit_rate(own: Floats, classes: int, steps: int = _STEPS) -> float:
    """The share of replaced labels that makes the labels most probable, by expectation maximisation."""
    rate = _START
    for _ in range(steps if len(own) else 0):
        rate = float(sum(replaced(own[part], rate, classes).sum() for part in _parts(len(own))) / len(own))
    return rate


def log_likelihood(own: Floats, rate: float, classes: int) -> float:
    """Log-likelihood of the labels under a rate of replaced ones, in nats."""
    return float(sum(_log_mixture(own[part], rate, classes).sum() for part in _parts(len(own))))


def _log_mixture(own: Floats, rate: Floats | float, classes: int) -> Floats:
    mixture: Floats = (1.0 - rate) * own + rate * (1.0 - own) / (classes - 1)
    return np.log(np.maximum(mixture, 1e-300))


@dataclass(frozen=True)
class Opinion:
    """What a model says of the labels of some rows; arrays of shape (rows,).

    Attributes:
        rows: row numbers, int64, ascending.
        labels: class of each row, int32.
        own: log-probability of the row's label, float32.
        best: most probable class, int32.
        best_log: its log-probability, float32.
        classes: number of classes.
        basis: what the model goes by, as in "by the words of their rows".
    """

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    own: npt.NDArray[np.float32]
    best: npt.NDArray[np.int32]
    best_log: npt.NDArray[np.float32]
    classes: int
    basis: str

    @functools.cached_property
    def chance(self) -> Floats:
        """Probability of each label, were all classes of equal size.

        What speaks for a replaced label is that its row is no typical one of the class, by p / share of the class against
        (1 - p) / share of the others, and not that the class is rare: the labels of a rare class that words do not tell
        apart would else all pass for replaced.
        """
        shares = (np.bincount(self.labels, minlength=self.classes) + 0.5) / (len(self.labels) + 0.5 * self.classes)
        chance = np.empty(len(self.rows))
        for part in _parts(len(self.rows)):
            own = np.exp(self.own[part].astype(np.float64))
            odds = own / np.maximum(1.0 - own, 1e-12) * (1.0 / shares - 1.0)[self.labels[part]]
            chance[part] = odds / (odds + self.classes - 1.0)
        return chance

    @functools.cached_property
    def typical(self) -> float:
        """Share of other labels among the rows that look most like their class: as typical as its upper tenth; 1 if none.

        Natural noise lies between the classes and labels that were replaced at random do not, so no larger share was.
        """
        seen = wrong = 0
        order = np.argsort(self.best, kind="stable")
        spans = np.searchsorted(self.best[order], np.arange(self.classes + 1))
        for c in range(self.classes):
            mine = order[spans[c] : spans[c + 1]]
            agree = self.labels[mine] == c
            if agree.sum() >= _LEAST_TYPICAL:
                top = self.best_log[mine] >= np.quantile(self.best_log[mine[agree]], 0.9)
                seen, wrong = seen + int(top.sum()), wrong + int((top & ~agree).sum())
        return wrong / seen if seen else 1.0

    @functools.cached_property
    def rates(self) -> Floats:
        """Share of replaced labels of each class, which that of all data steadies, shape (classes,)."""
        chance, rate = self.chance, fit_rate(self.chance, self.classes)
        n = np.bincount(self.labels, minlength=self.classes)
        rates = np.full(self.classes, rate)
        for _ in range(_STEPS):
            seen = np.zeros(self.classes)
            for part in _parts(len(self.rows)):
                labels = self.labels[part]
                odds = replaced(chance[part], rates[labels], self.classes)
                seen += np.bincount(labels, weights=odds, minlength=self.classes)
            rates = (seen + PRIOR_ROWS * rate) / (n + PRIOR_ROWS)
        return rates

    @functools.cached_property
    def odds(self) -> Floats:
        """Probability that each label was replaced, at the rate of its class."""
        odds = np.empty(len(self.rows))
        for part in _parts(len(self.rows)):
            odds[part] = replaced(self.chance[part], self.rates[self.labels[part]], self.classes)
        return odds

    @functools.cached_property
    def anchors(self) -> npt.NDArray[np.bool_]:
        """Rows that look at least as much like a class as the median row of that class does, shape (rows,).

        Text that the model does not know is judged wrongly as well, but seldom surely; labels that were replaced stand in
        rows that are as typical of their true class as any (Liu & Tao 2016).
        """
        agree, least = self.best == self.labels, np.full(self.classes, np.inf)
        for c in np.unique(self.best).tolist():
            own = self.best_log[agree & (self.best == c)]
            if len(own) >= _LEAST_TYPICAL:
                least[c] = np.median(own)
        return np.asarray(self.best_log >= least[self.best])

    @functools.cached_property
    def tells(self) -> bool:
        """Whether the model agrees with the labels more often than chance would (Cohen's kappa, 1960)."""
        said, given = (np.bincount(x, minlength=self.classes) / max(1, len(x)) for x in (self.best, self.labels))
        return bool(np.count_nonzero(self.best == self.labels) > len(self.labels) * float(said @ given))

    @functools.cached_property
    def at_random(self) -> bool:
        """Whether labels that contradict the model were drawn evenly, rather than confused.

        Nature confuses a class with the few that are like it, so that a wrong label is one of the likelier ones, whether the
        row is typical of its class or not. A label that was drawn is often one that nobody would take the row for, and among
        typical rows (``anchors``) drawn labels are most of the wrong ones. Their share of labels less likely than an even
        draw is held against that of all other rows, by a binomial test. Two classes cannot tell.
        """
        if self.classes < 3:
            return False
        from scipy.special import bdtrc

        own, best = np.exp(self.own), np.exp(self.best_log)
        wrong, far = self.best != self.labels, own * (self.classes - 1) < 1.0 - best
        typical, others = wrong & self.anchors, wrong & ~self.anchors
        usual = (np.count_nonzero(far & others) + 1) / (np.count_nonzero(others) + 2)
        found = np.count_nonzero(far & typical) - 1
        return bool(bdtrc(found, np.count_nonzero(typical), usual) <= _FAR_ALARM)

    def gain(self, rate: float) -> Floats:
        """Log-likelihood ratio of each label at a share of replaced ones, against the rate of its class, in nats."""
        gained = np.empty(len(self.rows))
        for part in _parts(len(self.rows)):
            chance, usual = self.chance[part], self.rates[self.labels[part]]
            gained[part] = _log_mixture(chance, rate, self.classes) - _log_mixture(chance, usual, self.classes)
        return gained


@dataclass(frozen=True, kw_only=True)
class FlipRules:
    """Parameters of the rule, to be inherited by a check, and the rule."""

    noise_share: float = 0.0125
    quiet_share: float = 0.004
    max_share: float = 0.015
    block_rows: int = 10
    source_excess: float = 6.0
    source_share: float = 0.05

    def flips(
        self,
        opinion: Opinion,
        classes: Classes,
        people: Mapping[str, SourceNumbers],
        phrases: PhraseTable | None = None,
        times: npt.NDArray[np.int64] | None = None,
    ) -> list[RawFinding]:
        """Where flips gather: sources, stretches of the order, words and pairs of classes; then the rows to review.

        Args:
            opinion: what a model says of the labels.
            classes: their names.
            people: who answers for each row, by role: its source and its annotator.
            phrases: words that may be topics.
            times: when each row came, as :class:`foretaste.signals.times.Times` gives it.
        """
        odds = opinion.odds
        share = min(float(odds.mean()), opinion.typical) if len(odds) else 0.0
        drawn = share > self.quiet_share and opinion.at_random
        noisy = drawn or (share >= self.noise_share and opinion.typical < _KNOWN)
        most = int((self.max_share + (share / 2 if drawn else 0.0) if noisy else self.quiet_share) * len(opinion.rows))
        findings = _distinct([
            *(f for role, who in people.items() if len(who.numbers) for f in self._sources(opinion, role, who, most)),
            *(self._periods(opinion, most, times) if times is not None and len(times) else ()),
            *self._stretches(opinion, most),
            *(self._topics(opinion, phrases) if phrases is not None else ()),
            *self._pairs(opinion, classes),
        ])  # fmt: skip
        named = np.concatenate([f.rows for f in findings]) if findings else np.zeros(0, np.int64)
        unknown = sum(len(f.rows) for f in findings if _UNKNOWN_BY in f.statistic)
        ranked = np.flatnonzero(odds >= 0.5) if opinion.tells else np.zeros(0, np.int64)
        ranked = ranked[np.argsort(-odds[ranked], kind="stable")][: max(0, most - unknown)]
        ranked = ranked[~np.isin(opinion.rows[ranked], named)]
        if len(ranked):
            findings.append(self._review(opinion, classes, ranked, noisy))
        return findings

    def _sources(self, opinion: Opinion, role: str, sources: SourceNumbers, most: int) -> Iterator[RawFinding]:
        """Sources that block; then those that others or the model explain, the oddest first, of ``most`` rows at most."""
        numbers = sources.numbers[opinion.rows]
        n = np.bincount(numbers, minlength=len(sources.names))
        limit = float(np.log(len(sources.names) / _FALSE_ALARM))
        standing: Floats | None = None
        unknown: list[tuple[float, RawFinding]] = []
        # A Python loop over sources: each has a rate of its own.
        for s in np.flatnonzero((n >= self.block_rows) & (n < len(numbers))).tolist():
            at = np.flatnonzero(numbers == s)
            where = f"{role} {sources.names[s]}"
            for finding in self._gathered(opinion, at, f"flipped {role}", where, sources.names[s], limit=limit):
                if standing is None:
                    standing = self._standing(opinion, numbers, len(sources.names))
                if standing[s] >= 1.0:
                    yield finding
                else:
                    unknown.append((float(standing[s]), self._unknown(finding, opinion, float(standing[s]))))
        unknown.sort(key=lambda u: -u[0])
        yield from (finding for _, finding in unknown[: max(1, most // self.block_rows)])

    def _standing(self, opinion: Opinion, numbers: npt.NDArray[np.int32], names: int) -> Floats:
        """How far the labels of each source's most typical rows were replaced more often than all others, (sources,).

        One is the limit of a false alarm in a thousand data sets. Every source has a style and guidelines of its own,
        so that nats of honest sources add up to more than chance gives: where there are enough of them, the others tell by
        how much (an empirical null, Efron 2004).
        """
        chance, gains = opinion.chance, np.zeros(names)
        typical = np.flatnonzero(opinion.anchors)
        usual = max(_LEAST_RATE, fit_rate(chance[typical], opinion.classes))
        for s in np.unique(numbers[typical]).tolist():
            own = chance[typical[numbers[typical] == s]]
            rate = fit_rate(own, opinion.classes)
            if rate >= max(self.source_share, usual):
                gains[s] = log_likelihood(own, rate, opinion.classes) - log_likelihood(own, usual, opinion.classes)
        return above_others(gains, _FALSE_ALARM)

    def _unknown(self, finding: RawFinding, opinion: Opinion, standing: float) -> RawFinding:
        """The worst rows of the same, for review: words that the model does not know, or a style, explain them as well."""
        own = opinion.own[np.searchsorted(opinion.rows, finding.rows)]
        rows = finding.rows[np.argsort(own, kind="stable")[: self.block_rows]]
        return dataclasses.replace(
            finding,
            severity=Severity.REVIEW,
            message=(
                f"by {opinion.basis}, labels of {finding.feature} were replaced more often than elsewhere, but few of its "
                f"texts look like typical ones of a class, or other sources differ as much; the {len(rows)} worst are listed"
            ),
            rows=rows,
            statistic=dict(finding.statistic) | {_UNKNOWN_BY: round(standing, 2)},
        )

    def _stretches(self, opinion: Opinion, most: int) -> Iterator[RawFinding]:
        for found in stretches(opinion.gain, _FALSE_ALARM):
            first, last = (int(opinion.rows[found.at[i]]) for i in (0, -1))
            where = f"rows {first} to {last}"
            yield from self._gathered(opinion, found.at, "flipped stretch", where, where, found, most=most)

    def _periods(self, opinion: Opinion, most: int, times: npt.NDArray[np.int64]) -> Iterator[RawFinding]:
        """Stretches in the order of time, of rows whose time is known; rows of one time stand in their own order."""
        mine = times[opinion.rows]
        order = np.argsort(mine, kind="stable")
        order = order[mine[order] != UNKNOWN]
        if not len(order):
            return
        for found in stretches(lambda rate: opinion.gain(rate)[order], _FALSE_ALARM):
            at = order[found.at]
            where = f"{moment(mine[at[0]])} to {moment(mine[at[-1]])}"
            for finding in self._gathered(opinion, at, "flipped period", f"{where} (UTC)", where, found, most=most):
                yield dataclasses.replace(finding, rows=np.sort(finding.rows))

    def _topics(self, opinion: Opinion, phrases: PhraseTable) -> Iterator[RawFinding]:
        words = np.flatnonzero((phrases.n == 1) & (phrases.counts >= _TOPIC_ROWS))
        if not len(words):
            return
        rows = [phrases.rows_of(w) for w in words.tolist()]
        spans = np.append(0, np.cumsum([len(r) for r in rows]))
        for g, found in groups(opinion.gain, np.concatenate(rows), spans, _FALSE_ALARM):
            word = phrases.text[words[g]]
            for finding in self._gathered(opinion, found.at, "flipped topic", f'rows with "{word}"', word, found):
                yield self._put_in(finding, opinion, phrases, int(words[g]))

    def _put_in(self, finding: RawFinding, opinion: Opinion, phrases: PhraseTable, word: int) -> RawFinding:
        """A block where most named rows share a label, and the word stands in those where chance could have put it.

        Which rows are named follows from their labels alone, so where the word stands in them is a sign of its own.
        """
        labels = opinion.labels[np.searchsorted(opinion.rows, finding.rows)]
        label = int(np.bincount(labels).argmax())
        rows = np.sort(finding.rows[labels == label])
        if len(rows) < max(self.block_rows, _PUT_IN_PURITY * len(labels)):
            return finding
        edges = edges_of(phrases, [word], rows)
        diverse = edges.diversity >= phrases.least_diversity(len(rows), _PUT_IN_DIVERSITY)
        random = edges.distance <= _PUT_IN_DISTANCE * max(1.0, len(rows) / 100)
        if edges.anchored or not (diverse and random and edges.healing >= _PUT_IN_HEALING):
            return finding
        return dataclasses.replace(
            finding,
            kind="trigger of a common word",
            severity=Severity.BLOCK,
            message=f"{finding.message}; in the {len(rows)} under the most frequent label it stands between words that "
            "chance could have chosen: it was put in",
            rows=rows,
            observed=float(len(rows)),
            statistic=dict(finding.statistic) | {"distance_from_random": round(edges.distance, 1)},
            examples=tuple(e for e in finding.examples if e.row in rows),
        )

    def _gathered(
        self,
        opinion: Opinion,
        at: npt.NDArray[np.int64],
        kind: str,
        where: str,
        feature: str,
        found: Gathering | None = None,
        *,
        limit: float = 0.0,
        most: int = 0,
    ) -> Iterator[RawFinding]:
        """A finding where the labels at some places were replaced far more often than all others; or none.

        A source or annotator answers for its rows and blocks. A stretch of text that the model does not know looks flipped
        too: it blocks only where enough of its rows would be named without their neighbours, and at most ``most`` of its
        rows are listed unless that is so or most labels are the contrary of what the words say. A word may turn what is
        said: never a block.
        """
        chance = opinion.chance
        elsewhere = np.delete(chance, at)
        rate = fit_rate(chance[at], opinion.classes)
        others = max(_LEAST_RATE, fit_rate(elsewhere, opinion.classes))
        if rate < max(self.source_share, self.source_excess * others):
            return
        hits = at[replaced(chance[at], rate, opinion.classes) >= 0.5]
        gain = log_likelihood(chance[at], rate, opinion.classes) - log_likelihood(chance[at], others, opinion.classes)
        if len(hits) < self.block_rows or (found is None and gain < limit):
            return
        alone = int((opinion.odds[at] >= 0.5).sum())
        plain = alone >= max(self.block_rows, self.source_share * len(at))
        contrary = rate >= 1.0 - 0.5 / opinion.classes
        worst = hits[np.argsort(opinion.own[hits], kind="stable")]
        listed = worst[:most] if most and not plain and not contrary else hits
        blocks = kind in ("flipped source", "flipped annotator") or (
            kind in ("flipped stretch", "flipped period") and plain
        )
        yield RawFinding(
            kind=kind,
            severity=Severity.BLOCK if blocks else Severity.REVIEW,
            message=(
                f"by {opinion.basis}, {rate:.0%} of the {len(at)} labels of {where} were replaced, "
                f"against {others:.1%} elsewhere; {len(listed)} of them are named"
            ),
            feature=feature,
            rows=opinion.rows[listed],
            observed=float(len(hits)),
            limit=float(self.block_rows),
            statistic={
                "replaced_share": round(rate, 4),
                "replaced_share_elsewhere": round(others, 4),
                "log_likelihood_ratio": round(gain, 1),
            }
            | ({"nats_above_rest": round(found.nats, 1), "nats_needed": round(found.limit, 1)} if found else {}),
            examples=tuple(RawExample(row=int(r)) for r in opinion.rows[worst[:6]]),
        )

    def _pairs(self, opinion: Opinion, classes: Classes) -> Iterator[RawFinding]:
        for pair in pairs(opinion.labels, opinion.best, opinion.best_log, opinion.classes, _FALSE_PAIRS):
            if len(pair.at) < self.block_rows:
                continue
            looks, label = classes.names[pair.looks], classes.names[pair.labelled]
            worst = pair.at[np.argsort(opinion.own[pair.at], kind="stable")]
            yield RawFinding(
                kind="flipped pair",
                severity=Severity.REVIEW,
                message=(
                    f"by {opinion.basis}, {pair.crossed} of the {pair.anchors} rows that look most like {looks} are "
                    f"labelled {label}, where other classes that are confused have {pair.usual:.1%}"
                ),
                feature=f"{looks} -> {label}",
                target=label,
                rows=opinion.rows[pair.at],
                observed=float(len(pair.at)),
                limit=float(self.block_rows),
                statistic={"probability": float(f"{pair.probability:.2g}"), "usual_share": round(pair.usual, 4)},
                examples=tuple(RawExample(row=int(r)) for r in opinion.rows[worst[:6]]),
            )

    def _review(self, opinion: Opinion, classes: Classes, ranked: npt.NDArray[np.int64], noisy: bool) -> RawFinding:
        odds = opinion.odds
        seen_as = Counter(
            (classes.names[int(opinion.best[at])], classes.names[int(opinion.labels[at])]) for at in ranked.tolist()
        )
        ((instead, label), most) = seen_as.most_common(1)[0]
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
                "replaced_share_at_most": round(opinion.typical, 5),
                # The model may be surer than it knows, so the list is held against what could have been replaced at all.
                "false_discovery_rate": round(
                    max(float(1.0 - odds[ranked].mean()), 1.0 - opinion.typical * len(odds) / len(ranked)), 3
                ),
            },
            examples=tuple(RawExample(row=int(r)) for r in opinion.rows[ranked[:6]]),
        )


def _distinct(findings: list[RawFinding]) -> list[RawFinding]:
    """Findings in order, without those most of whose rows an earlier one has named."""
    kept: list[RawFinding] = []
    for finding in findings:
        if not any(np.isin(finding.rows, other.rows).mean() > 0.5 for other in kept):
            kept.append(finding)
    return kept
