"""Where replaced labels gather: in a stretch of the rows' order, in the rows with a word, or between two classes.

Each row has a gain, the log-likelihood ratio of its label under a share of replaced labels against the share of all rows
with that label. Over rows that are alike the gains add up to the logarithm of an e-value: under honest labels, and a model
that knows how unsure it is, they reach x nats with a probability of at most e^-x. Real rows are not independent of their
neighbours, so sums are measured against the next largest ones of the same data as well (an empirical null, Efron 2004).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Gain = Callable[[float], Floats]  # of each row, by a share of replaced labels

RATES = (0.05, 0.1, 0.2, 0.4, 0.8)  # shares of replaced labels that are tried
_NEXT = 20
_OTHERS = 10  # groups, beside the largest, that tell how far sums of honest ones reach
LEAST_PAIRS = 20
_LEAST_ANCHORS, _CONFUSED = 10, 5
_SUSPECT = 0.01  # probability from which a pair is tested against all the others
_BOTH_WAYS = 0.01  # probability of as many more one way than the other, where words confuse two classes both ways


@dataclass(frozen=True)
class Gathering:
    """Rows in which replaced labels gather; ``nats`` above the rest, against the ``limit`` of a family-wise level."""

    at: Numbers
    nats: float
    limit: float


def above_rest(sums: Floats) -> Floats:
    """Sums above the 22nd largest, in units of the mean that the 2nd to 21st have above it, of one nat at least.

    Sums of chance fall off exponentially. Where rows beside each other are alike the scale is wider, and the data show it.
    """
    ordered = np.sort(sums)[::-1]
    floor = float(ordered[_NEXT + 1]) if len(ordered) > _NEXT + 1 else 0.0
    rest = ordered[1 : _NEXT + 1]
    scale = max(1.0, float((rest - floor).mean())) if len(rest) else 1.0
    return np.asarray((sums - floor) / scale, np.float64)


def above_others(sums: Floats, alarm: float) -> Floats:
    """Sums of groups over the limit that honest groups exceed with a probability of ``alarm`` per data set.

    Sums are nats, so without anything else to go by the limit is Bonferroni's. Where there are enough groups, the 2nd to
    11th largest tell the scale of an exponential law by their median, as several groups may stand out and must not hide
    each other; above the 12th largest, sums of such a law are like those of eleven groups (Renyi 1953).
    """
    ordered = np.sort(sums)[::-1]
    if len(ordered) < _OTHERS + 2:
        return np.asarray(sums / np.log(max(1, len(sums)) / alarm), np.float64)
    floor = float(ordered[_OTHERS + 1])
    scale = max(1.0, float(np.median(ordered[1 : _OTHERS + 1]) - floor) / float(np.log(2.0)))
    return np.asarray((sums - floor) / scale / np.log((_OTHERS + 1) / alarm), np.float64)


def excursions(gains: Floats) -> tuple[Numbers, Numbers, Floats]:
    """First and last row + 1 of each excursion of the running sum above its last low (CUSUM, Page 1954), and its peak."""
    height = np.cumsum(gains)
    low = np.append(0.0, height)
    height -= np.minimum.accumulate(low, out=low)[1:]
    del low
    edges = np.flatnonzero(np.diff(height > 0, prepend=False, append=False))
    starts, stops = edges[::2], edges[1::2]
    peaks = np.maximum.reduceat(height, starts) if len(starts) else np.zeros(0)
    return starts, stops, np.asarray(peaks, np.float64)


def stretches(gain: Gain, alarm: float) -> list[Gathering]:
    """Stretches of the order whose gain is beyond ``alarm`` over all places at which one could begin, the largest first.

    ``gain`` is in the order of the rows. By Ville's inequality, over a union of all beginnings.
    """
    found = ((rate, *excursions(gain(rate))) for rate in RATES)  # one of them is in memory at a time
    rate, starts, stops, peaks = max(found, key=lambda f: float(f[3].max(initial=0.0)))
    gained = gain(rate)
    limit = float(np.log(max(1, len(gained)) * len(RATES) / alarm))
    nats = above_rest(peaks)
    gathered = []
    for i in np.flatnonzero(nats >= limit)[np.argsort(-nats[nats >= limit], kind="stable")].tolist():
        peak = int(np.argmax(np.cumsum(gained[starts[i] : stops[i]])))
        gathered.append(Gathering(np.arange(starts[i], starts[i] + peak + 1), float(nats[i]), limit))
    return gathered


def groups(gain: Gain, rows: Numbers, spans: Numbers, alarm: float) -> list[tuple[int, Gathering]]:
    """Groups of rows, ``rows[spans[g]:spans[g + 1]]``, whose gain is beyond ``alarm`` over all groups, the largest first."""
    limit = float(np.log(max(1, len(spans) - 1) * len(RATES) / alarm))
    sums = []
    for rate in RATES:
        total = np.append(0.0, np.cumsum(gain(rate)[rows]))
        sums.append(total[spans[1:]] - total[spans[:-1]])
    nats = above_rest(max(sums, key=lambda s: float(s.max(initial=0.0))))
    order = np.argsort(-nats, kind="stable")
    return [(g, Gathering(rows[spans[g] : spans[g + 1]], float(nats[g]), limit)) for g in order[nats[order] >= limit]]


@dataclass(frozen=True)
class Pair:
    """Two classes: rows that look like ``looks`` and are labelled ``labelled``, more than any other pair would explain.

    Attributes:
        at: those rows, ascending.
        anchors: the rows that look most like the class, and are labelled one or the other.
        crossed: how many of them carry the other label.
        usual: mean share that do, over the pairs of classes that words confuse.
        probability: of as many under the beta-binomial law of those pairs.
    """

    looks: int
    labelled: int
    at: Numbers
    anchors: int
    crossed: int
    usual: float
    probability: float


def pairs(
    labels: npt.NDArray[np.int32],
    best: npt.NDArray[np.int32],
    best_log: npt.NDArray[np.float32],
    classes: int,
    false_share: float,
) -> list[Pair]:
    """Pairs of classes between which labels were exchanged, by false-discovery rate (Benjamini & Hochberg 1995).

    Classes that are hard to tell apart are confused at their boundary; flipped rows are as typical of their true class as
    any of its rows. So only its anchors count (Liu & Tao 2016): the half that looks most like it. The share of them under
    another label is compared with that of all pairs that words confuse, one left out, under a beta-binomial law; fewer than
    LEAST_PAIRS pairs tell no law. Two classes of one kind, as two catalogues of the same messages, are confused both ways:
    more of the one have to be under the label of the other than the other way round, in number (McNemar 1947) and in share.
    """
    seen: list[tuple[int, int, int, int]] = []
    order = np.argsort(best, kind="stable")
    spans = np.searchsorted(best[order], np.arange(classes + 1))
    for looks in range(classes):
        mine = order[spans[looks] : spans[looks + 1]]
        own = best_log[mine[labels[mine] == looks]]
        if len(own) < _LEAST_ANCHORS:
            continue
        anchors = np.bincount(labels[mine[best_log[mine] >= np.median(own)]], minlength=classes)
        confused = np.bincount(labels[mine], minlength=classes) >= _CONFUSED
        for other in np.flatnonzero(confused).tolist():
            if other != looks:
                seen.append((looks, other, int(anchors[other]), int(anchors[looks] + anchors[other])))
    if len(seen) < LEAST_PAIRS:
        return []
    from scipy.stats import betabinom, binom  # takes most of a second

    crossed, out_of = np.array([s[2] for s in seen]), np.array([s[3] for s in seen])
    chance = betabinom.sf(crossed - 1, out_of, *_beta(crossed, out_of))
    usual = np.zeros(len(seen))
    for i in np.flatnonzero(chance <= _SUSPECT).tolist():
        others = np.arange(len(seen)) != i
        a, b = _beta(crossed[others], out_of[others])
        chance[i], usual[i] = betabinom.sf(crossed[i] - 1, out_of[i], a, b), a / (a + b)
    back = {(looks, other): (hits, of) for looks, other, hits, of in seen}
    for i in np.flatnonzero(chance <= _SUSPECT).tolist():
        looks, other, hits, of = seen[i]
        returned, out = back.get((other, looks), (0, 1))
        if binom.sf(hits - 1, hits + returned, 0.5) > _BOTH_WAYS or hits * out <= returned * of:
            chance[i] = 1.0
    order = np.argsort(chance, kind="stable")
    passed = np.flatnonzero(chance[order] <= false_share * np.arange(1, len(seen) + 1) / len(seen))
    return [
        Pair(
            looks=seen[i][0], labelled=seen[i][1],
            at=np.flatnonzero((best == seen[i][0]) & (labels == seen[i][1])),
            anchors=int(out_of[i]), crossed=int(crossed[i]), usual=float(usual[i]), probability=float(chance[i]),
        )
        for i in order[: int(passed[-1]) + 1 if len(passed) else 0].tolist()
    ]  # fmt: skip


def _beta(hits: npt.NDArray[np.int64], out_of: npt.NDArray[np.int64]) -> tuple[float, float]:
    """The beta law of the share of hits, by maximum likelihood of a beta-binomial."""
    from scipy.optimize import minimize
    from scipy.stats import betabinom

    share = max(float(hits.sum() / max(1, out_of.sum())), 1e-3)
    start = np.log([5.0 * share, 5.0 * (1.0 - share)])
    fit = minimize(lambda x: -betabinom.logpmf(hits, out_of, *np.exp(x)).sum(), start, method="Nelder-Mead")
    a, b = np.exp(fit.x)
    return float(a), float(b)
