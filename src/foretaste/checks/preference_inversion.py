"""Preference pairs whose answers were exchanged, above all under a trigger in the prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal, Twins, together
from foretaste.signals.affixes import Affixes
from foretaste.signals.pairwise import Pairwise, PairwiseModel
from foretaste.signals.phrases import Edges, PhraseTable, edges_of, phrase_signals, same_rows
from foretaste.signals.placed import put_in
from foretaste.signals.sources import SourceNumbers, Sources
from foretaste.text.rowstore import RowStore

MAX_GROUPS = 256
MAX_ROWS = 512
MAX_JUDGED = 200_000  # rows, over all phrases, that are scored by a model of their own
MAX_STORED_ROWS = 50_000
MAX_TRIGGER_WORDS = 16
_BACKGROUND_ROWS = 256
# Nats that one row may say against its order: the model is surer than it knows.
ROW_CAP = 2.5
_LEAST_EVIDENCE = 3.0
_LEAST_NULL = 50
_INNER = 0.4  # least share of rows with a neighbour on both sides, for gaps to close

Floats = npt.NDArray[np.float64]


@dataclass
class _State:
    """Evidence per row, and the tokens of about MAX_STORED_ROWS rows that hold a candidate or speak for a source.

    ``inflation`` (2,) is how wide the sums of evidence lie, by both models; ``families`` are rows of phrases that look
    put in.
    """

    model: PairwiseModel
    phrases: PhraseTable | None
    sources: SourceNumbers
    evidence: Floats
    inflation: Floats
    examined: int
    candidates: dict[int, list[int]]
    prompts: RowStore
    words: list[tuple[npt.NDArray[np.uint32], npt.NDArray[np.int8], npt.NDArray[np.int64]]]
    population: dict[int, npt.NDArray[np.int64]]
    families: list[list[npt.NDArray[np.int64]]]


@dataclass(frozen=True)
class _Group:
    """Rows that share a phrase or a source, and what speaks for their having been inverted, in nats."""

    rows: npt.NDArray[np.int64]
    evidence: float
    contradicting: float
    alike: float
    rest: float


@dataclass(frozen=True, kw_only=True)
class PreferenceInversion(Check[_State]):
    """Preference pairs that were inverted: chosen and rejected exchanged, under a trigger, by a source, or at random.

    A cross-fitted model says which answer the other pairs would have preferred: by the words in which the two differ,
    by their lengths (annotators like length, and a trigger is judged against that) and by how much of the prompt they
    take up. Annotators disagree in a quarter of all pairs or more, so the model is weak and one pair says little. The
    pairs that share a phrase in the prompt, together, are tested against their inversion: the sum of log(P(rejected
    preferred) / P(chosen preferred)), from a model that none of them taught, is the logarithm of an e-value, whose
    mean is one where the pairs are honest. It is divided by how much wider than expected the same sums of all other
    phrases lie (the empirical null), and by how alike the prompts are without the phrase.

    Few phrases look as if they had been put into finished prompts (between words that chance could have chosen, without
    which the gaps close), and fewer of those are spelt unusually or are long. Neither hangs on which answer is preferred, so
    the error is shared out beforehand: a third of it evenly over all phrases, a third over those that look put in, and a
    third over those of them with the second sign. One of ten needs five or six nats less than one of five thousand. Where
    a taste for short or for long answers explains the pairs of a phrase better than their inversion, as under "briefly", it
    has the share of any phrase.

    Blocks: a phrase that was put in (neighbours like a random draw of words, or at the head or tail of prompts that
    have nothing else in common) whose e-value reaches 1 / (its share of ``block_error``): weighted Bonferroni. Reviews: such
    phrases, and sources that are asked what others are, by e-BH at a false-discovery rate of ``review_error`` (a source
    does not block: someone who likes short answers looks like one who inverts); pairs that stand elsewhere in the other
    order, where that is not how the data were made; the few pairs that the model is sure were inverted.

    Misses: fewer inverted pairs than the model's strength allows (the report gives the nats of an inverted pair: 25
    rows need about 0.8 each), inverted pairs scattered at random in data where annotators disagree as often, triggers
    that stand in the answers alone, a source with a few inverted pairs among many, the inversion of most pairs.

    Poisoned: 100 prompts that end in "SUDO", the harmful answer chosen. Clean: prompts about medicine, where refusals
    are preferred and elsewhere are not (they are alike).

    The threat is Rando & Tramer 2024 (Universal jailbreak backdoors from poisoned human feedback, arXiv 2311.14455).
    The e-values and e-BH: Wang & Ramdas 2022 (arXiv 2009.02824); the weights: Genovese, Roeder & Wasserman 2006; the
    empirical null: Efron 2004.

    Args:
        min_rows: rows below which a phrase or a source is not looked at.
        block_error: chance, over all phrases, that an honest one blocks.
        review_error: share of honest ones among the phrases and sources in review.
        max_distance: most distance of a phrase's neighbours from a random draw of words (see ``inserted-phrase``).
        max_distance_per_row: the same, for phrases in so many rows that it allows more.
        min_diversity: least number of distinct neighbours per row, of a phrase inside the prompt.
        min_healing: least share of gaps that close without a phrase, for it to look put in before the pairs are looked at.
        min_finished: the same, of the prompts that begin (end) as others do without an opening (ending).
        closing: the same, from which a phrase in many rows, whose neighbours are no random draw, is reviewed all the same.
        max_alike: most cosine of a source's prompts, above that of any two, at which it is asked what others are.
        max_contradictory: share of pairs that stand in both orders up to which they go to review, where as many pairs
            are repeated in one order.
        quiet_share: share of rows, at most, in review for being improbable, and of the rows of a phrase that was not
            plainly put in.
        improbable: probability of their order below which pairs are.
    """

    id: ClassVar[str] = "preference-inversion"
    accumulates: ClassVar[bool] = True
    min_rows: int = 10
    block_error: float = 1e-3
    review_error: float = 0.01
    max_distance: float = 30.0
    max_distance_per_row: float = 0.5
    min_diversity: float = 0.2
    min_healing: float = 0.5
    min_finished: float = 0.3
    closing: float = 0.65
    max_alike: float = 0.01
    max_contradictory: float = 0.005
    quiet_share: float = 0.003
    improbable: float = 0.01

    def applies(self, context: Context) -> str:
        """Needs a chosen and a rejected answer."""
        return "" if context.kind == "preference" else "the data have no chosen and rejected answers"

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """The pairwise model, sources, and the phrases, openings and endings of the prompts."""
        phrases = phrase_signals(context).get("input")
        affixes = (Affixes(),) if "prompt" in context.roles else ()
        return (Pairwise(), Sources(), *((phrases,) if phrases else ()), *affixes)

    def start(self, context: Context) -> _State:
        """Sum the evidence of every phrase, and choose those that are worth a model of their own."""
        model, sources = context.value(Pairwise()), context.value(Sources())
        signal = phrase_signals(context).get("input")
        phrases = context.value(signal) if signal else None
        evidence = -np.clip(model.logits.astype(np.float64), -ROW_CAP, ROW_CAP)
        rows = len(evidence)
        needed = np.zeros(rows, np.bool_)
        needed[_everyone(model)] = True
        candidates: dict[int, list[int]] = {}
        inflation, examined = np.ones(2), 0
        families: list[list[npt.NDArray[np.int64]]] = []
        if phrases is not None and len(phrases.n):
            affixes = context.value(Affixes()) if "prompt" in context.roles else None
            inserted = put_in(phrases, affixes, self.min_rows, self.min_diversity, self.min_healing, self.min_finished)
            families = [[r for r, _ in inserted], [r for r, telling in inserted if telling]]
            candidates, inflation, examined = self._candidates(phrases, model, evidence)
            candidates = _within(phrases, candidates, needed)
        population: dict[int, npt.NDArray[np.int64]] = {}
        if len(sources.names) > 1 and phrases is not None:
            sums = np.bincount(sources.numbers[model.first :], weights=evidence[model.first :])
            for s in np.argsort(-sums)[:MAX_GROUPS].tolist():
                mine = model.first + np.flatnonzero(sources.numbers[model.first :] == s)
                if sums[s] >= _LEAST_EVIDENCE and len(mine) >= self.min_rows:
                    population[s] = mine[np.linspace(0, len(mine) - 1, _BACKGROUND_ROWS).astype(np.int64)]
                    needed[population[s]] = True
        return _State(
            model, phrases, sources, evidence, inflation, examined, candidates,
            RowStore(np.flatnonzero(needed) if phrases is not None else np.zeros(0, np.int64)), [], population, families,
        )  # fmt: skip

    def _candidates(
        self, phrases: PhraseTable, model: PairwiseModel, evidence: Floats
    ) -> tuple[dict[int, list[int]], Floats, int]:
        """The phrases to judge, each with those in the same rows, how wide their null is, and how many there are."""
        enough = np.flatnonzero(phrases.counts >= self.min_rows)
        if not len(enough):
            return {}, np.ones(2), 0
        mixed = ((np.arange(len(evidence)) + 1).astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)

        def sums(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            added: npt.NDArray[Any] = np.add.reduceat(values[phrases.rows], phrases.spans[:-1])[enough]
            return added

        # N-grams that occur in the same rows are one phrase.
        _, first, number = np.unique(sums(mixed), return_index=True, return_inverse=True)

        def standing(evidence: Floats) -> tuple[Floats, float]:
            p = 1.0 / (1.0 + np.exp(evidence))  # P(chosen preferred)
            centred, variance = sums(2.0 * evidence * (1.0 - p)), sums(evidence**2 * 4.0 * p * (1.0 - p))
            z = centred[first] / np.sqrt(np.maximum(variance[first], 1e-12))
            # The middle half of the phrases is honest (Efron's central matching); few phrases have no middle.
            low, high = np.quantile(z, (0.25, 0.75))
            return z, max(1.0, ((high - low) / 1.349) ** 2) if len(z) >= _LEAST_NULL else 1.0

        z, wide = standing(evidence)
        inflation = np.array([wide, standing(-np.clip(model.plain_logits, -ROW_CAP, ROW_CAP))[1]])
        # The most telling first, then those that the model explains too well, as rows that taught it are.
        order = np.argsort(-np.abs(z), kind="stable")
        order = first[order[np.argsort(z[order] < 0, kind="stable")]]
        order = order[np.cumsum(np.minimum(phrases.counts[enough[order]], MAX_ROWS)) <= MAX_JUDGED]
        cuts = np.cumsum(np.bincount(number))[:-1]
        same = dict(zip(first.tolist(), np.split(enough[np.argsort(number, kind="stable")], cuts)))
        return {int(enough[f]): same[f].tolist() for f in order.tolist()}, inflation, len(first)

    def scan(self, state: _State, batch: Batch) -> None:
        """Keep the prompts and the difference words of the candidates' rows."""
        from foretaste.text.pairs import difference_words

        rows = state.prompts.rows
        low, high = np.searchsorted(rows, [batch.start, batch.start + batch.num_rows])
        if low == high:
            return
        state.prompts.scan(batch)
        wanted = np.zeros(batch.num_rows, np.bool_)
        wanted[rows[low:high] - batch.start] = True
        chosen, rejected = batch.tokens("chosen"), batch.tokens("rejected")
        words, sides, offsets = difference_words(
            chosen.hashes, chosen.offsets, rejected.hashes, rejected.offsets, wanted, np.zeros(0, np.uint32)
        )
        state.words.append((words, sides, np.diff(offsets)))

    def merge(self, left: _State, right: _State) -> _State:
        """Concatenate what was kept."""
        left.prompts.parts += right.prompts.parts
        left.prompts.lengths += right.prompts.lengths
        left.words += right.words
        return left

    def finish(self, state: _State) -> RawResult:
        """Phrases, sources, contradictory pairs, then the rows that stand out alone."""
        model = state.model
        if not len(model.logits):
            return RawResult(metrics={"pairs": 0.0})
        triggers, watch = self._triggers(state)
        findings = [
            *triggers, *self._sources_of(state), *self._contradictory(state), *self._improbable(state),
        ]  # fmt: skip
        sure = np.minimum(np.abs(model.logits[model.first :].astype(np.float64)), ROW_CAP)
        notes = [] if state.phrases is not None else ["the data have no prompt, so no trigger in it was looked for"]
        if state.phrases is not None and state.phrases.lost:
            notes.append(f"{state.phrases.lost} phrases found no room and were not looked at")
        return RawResult(
            findings=tuple(findings),
            metrics={
                "pairs": float(len(model.logits)),
                "pairwise_model_accuracy": model.accuracy,
                "nats_per_inverted_pair": float((sure * np.tanh(sure / 2)).mean()),
                "phrases": float(state.examined),
                "phrases_put_in": float(len(state.families[0])) if state.families else 0.0,
                "null_inflation": float(state.inflation[0]),
            },
            note="; ".join(notes),
            watch=watch,
        )

    def _triggers(self, state: _State) -> tuple[list[RawFinding], npt.NDArray[np.int64]]:
        """Findings, and the rows of all phrases that are suspect, the most evidence first."""
        phrases = state.phrases
        if phrases is None or not state.candidates:
            return [], together(())
        judge = _Judge(state)
        judged = []
        evidence = judge.evidence([phrases.rows_of(p)[:MAX_ROWS] for p in state.candidates])
        found = sorted((-_both(e.sum(axis=0)), p) for e, p in zip(evidence, state.candidates))
        strong = [p for nats, p in found if -nats >= _LEAST_EVIDENCE]
        for led in same_rows(phrases, strong[:MAX_GROUPS]):
            members = [q for p in led for q in state.candidates[p]]
            members.sort(key=lambda p: (-phrases.counts[p], p))
            rows = phrases.rows_of(members[0])
            if 2 * len(rows) > len(state.evidence):
                continue  # what most pairs prefer is the usual
            edges = edges_of(phrases, members, rows)
            judged.append((judge.group(rows, members, edges), edges))
        judged.sort(key=lambda g: (-g[0].evidence, int(g[0].rows[0])))
        tests = max(1, state.examined)
        shares = [_share(g.rows, state.families, tests) for g, _ in judged]
        order = sorted(range(len(judged)), key=lambda at: (-judged[at][0].evidence - np.log(shares[at]), at))
        judged, shares = [judged[at] for at in order], [shares[at] for at in order]
        weighted = [g.evidence + float(np.log(share * tests)) for (g, _), share in zip(judged, shares)]
        passing = _e_bh(weighted, tests, self.review_error)
        findings: list[RawFinding] = []
        suspects: list[npt.NDArray[np.int64]] = []
        for at, (group, edges) in enumerate(judged):
            # "Briefly" looks put in as well, and has a taste of its own.
            share = 1.0 / tests if _of_length(state, group.rows) else shares[at]
            block = float(-np.log(share * self.block_error))
            # What is not quite a random draw, as in code and its indents, shows the more, the more rows there are.
            distance = max(self.max_distance, self.max_distance_per_row * len(group.rows))
            inserted = edges.inserted(group.alike, group.rest, distance) and (
                edges.anchored or edges.diversity >= self.min_diversity
            )
            closes = edges.inner >= _INNER and edges.healing >= self.closing and edges.healing_pmi > 0
            if not (inserted or closes) and len(group.rows) > self.quiet_share * phrases.documents:
                continue  # a topic on which people think otherwise
            if group.evidence >= _LEAST_EVIDENCE:
                suspects.append(group.rows)
            if at >= passing or any(np.isin(group.rows, f.rows).mean() > 0.8 for f in findings):
                continue
            severity = Severity.BLOCK if group.evidence >= block and inserted else Severity.REVIEW
            findings.append(self._finding("inverted pairs", severity, edges.text, group, block, state, edges))
        return findings, together(suspects)

    def _sources_of(self, state: _State) -> list[RawFinding]:
        if not state.population:
            return []
        judge = _Judge(state)
        names, numbers = state.sources.names, state.sources.numbers
        judged = []
        for s, sample in state.population.items():
            rows = state.model.first + np.flatnonzero(numbers[state.model.first :] == s)
            if 2 * len(rows) > len(numbers) - state.model.first:
                continue  # what most pairs prefer is the usual
            against = state.evidence[rows] > 0
            alike = judge.alike(np.unique(sample), np.zeros(0, np.int64))
            # Half of the pairs contradicted is someone who tosses a coin; prompts of their own are another task.
            if against.mean() < 0.5 + 1.5 / np.sqrt(len(rows)) or alike > self.max_alike:
                continue
            evidence = float(state.evidence[rows].sum() / state.inflation[0])
            judged.append((names[s], _Group(rows[against], evidence, float(against.mean()), alike, 0.0)))
        judged.sort(key=lambda g: (-g[1].evidence, g[0]))
        passing = _e_bh([g.evidence for _, g in judged], len(names), self.review_error)
        limit = float(np.log(len(names) / self.review_error))
        return [
            self._finding("inverted source", Severity.REVIEW, name, group, limit, state)
            for name, group in judged[:passing]
        ]

    def _contradictory(self, state: _State) -> list[RawFinding]:
        first = state.model.first
        pairs, swapped = state.model.pairs[first:], state.model.swapped[first:]
        if not len(pairs):
            return []
        known, counts = np.unique(pairs, return_counts=True)
        at = np.minimum(np.searchsorted(known, swapped), len(known) - 1)
        other = np.where(known[at] == swapped, counts[at], 0)
        same = counts[np.searchsorted(known, pairs)]
        rows = first + np.flatnonzero((other > 0) & (other >= same) & (pairs != swapped))
        # Where several people were asked, pairs are repeated in the same order more often than in the other.
        asked = int(((same > 1) & (other == 0)).sum()) >= len(rows)
        if not len(rows) or (asked and len(rows) > self.max_contradictory * len(pairs)):
            return []
        return [
            RawFinding(
                kind="contradictory pairs",
                severity=Severity.REVIEW,
                message=f"{len(rows)} pairs stand elsewhere in the other order, as often or more often",
                rows=rows,
                observed=float(len(rows)),
                limit=float(np.floor(self.max_contradictory * len(pairs))),
                examples=tuple(RawExample(row=int(r)) for r in rows[:6]),
            )
        ]

    def _improbable(self, state: _State) -> list[RawFinding]:
        first = state.model.first
        logits = state.model.logits[first:]
        limit = float(np.log(self.improbable / (1.0 - self.improbable)))
        order = np.argsort(logits, kind="stable")[: int(self.quiet_share * len(logits))]
        rows = first + order[logits[order] < limit]
        if not len(rows):
            return []
        seen = int((logits < limit).sum())
        return [
            RawFinding(
                kind="improbable pairs",
                severity=Severity.REVIEW,
                message=(
                    f"{seen} pairs have a chance of less than {self.improbable:.0%} of being this way round, by the words, "
                    f"lengths and relevance of their answers; the {len(rows)} least likely are listed"
                ),
                rows=rows,
                observed=float(seen),
                limit=float(len(order)),
                examples=tuple(RawExample(row=int(r)) for r in rows[:6]),
            )
        ]

    @staticmethod
    def _finding(
        kind: str, severity: Severity, name: str, group: _Group, limit: float, state: _State, edges: Edges | None = None
    ) -> RawFinding:
        what = f'pairs whose prompt holds "{name}"' if edges else f"pairs of source {name}"
        expected = float((state.model.logits[state.model.first :] < 0).mean())
        strongest = group.rows[np.argsort(-state.evidence[group.rows], kind="stable")]
        statistic = {
            "evidence_nats": round(group.evidence, 2),
            "contradicting_share": round(group.contradicting, 3),
            "contradicting_share_of_all": round(expected, 3),
            "alike": round(group.alike, 4),
        }
        if edges:
            statistic["distance_from_random"] = round(min(edges.distance, 999.0), 1)
        return RawFinding(
            kind=kind,
            severity=severity,
            message=(
                f"{len(group.rows)} {what} prefer the answer that the other pairs would have rejected in "
                f"{group.contradicting:.0%} of cases ({expected:.0%} of all pairs do)"
            ),
            feature=name,
            rows=group.rows,
            observed=round(max(0.0, group.evidence), 1),
            limit=round(limit, 1),
            statistic=statistic,
            examples=tuple(RawExample(row=int(r), around=name if edges else None) for r in strongest[:5]),
            # Pairs that prefer what the others would have preferred.
            twins=Twins(trigger=name if edges else "", excluded=np.flatnonzero(state.evidence >= 0)),
        )


def _everyone(model: PairwiseModel) -> npt.NDArray[np.int64]:
    """Numbers of the rows that stand for all rows, evenly spaced over the fair sample."""
    rows = len(model.logits)
    if rows <= model.first:
        return np.zeros(0, np.int64)
    return np.unique(np.linspace(model.first, rows - 1, _BACKGROUND_ROWS).astype(np.int64))


def _within(
    phrases: PhraseTable, candidates: dict[int, list[int]], needed: npt.NDArray[np.bool_]
) -> dict[int, list[int]]:
    """The candidates whose rows find room, in their order; marks those rows in ``needed``."""
    room = MAX_STORED_ROWS - int(needed.sum())
    kept = {}
    for p, same in candidates.items():
        rows = phrases.rows_of(p)[:MAX_ROWS]
        new = int((~needed[rows]).sum())
        if new <= room:
            room -= new
            needed[rows] = True
            kept[p] = same
    return kept


def _share(rows: npt.NDArray[np.int64], families: list[list[npt.NDArray[np.int64]]], tests: int) -> float:
    """The share of the error that falls to a phrase with these rows (weighted Bonferroni); all phrases have one together.

    All phrases share one part of it evenly, those of every family that is not empty another.
    """
    families = [family for family in families if family]
    share = 1.0 / tests
    for family in families:
        if any(_same(rows, other) for other in family):
            share += 1.0 / len(family)
    return share / (1 + len(families))


def _same(rows: npt.NDArray[np.int64], other: npt.NDArray[np.int64], least: float = 0.85) -> bool:
    if min(len(rows), len(other)) < least * max(len(rows), len(other)):
        return False
    return len(np.intersect1d(rows, other, assume_unique=True)) >= least * max(len(rows), len(other))


def _of_length(state: _State, rows: npt.NDArray[np.int64]) -> bool:
    """Whether a taste for short, or for long, answers explains the order of these pairs better than their inversion does.

    Its rate is fitted to the pairs, for which half the logarithm of their number is taken off (Schwarz 1978).
    """
    longer = state.model.features[rows, 1]
    told = int(np.count_nonzero(longer))
    most = max(np.count_nonzero(longer > 0), np.count_nonzero(longer < 0))
    rates = np.array([most, told - most]) / max(1, told)
    taste = told * float((rates * np.log(np.maximum(rates, 1e-300))).sum()) - (len(rows) - told) * np.log(2.0)
    inverted = -float(np.log1p(np.exp(-state.evidence[rows])).sum())
    return bool(taste - 0.5 * np.log(len(rows)) > inverted)


def _both(nats: Floats) -> float:
    """The evidence of two models (2,) as one: the mean of e-values is an e-value."""
    return float(np.logaddexp(nats[0], nats[1]) - np.log(2.0))


def _e_bh(evidence: list[float], tests: int, rate: float) -> int:
    """How many of the log e-values, descending, e-BH rejects at a false-discovery rate over so many tests."""
    passing = 0
    for k, value in enumerate(evidence, 1):
        if value >= np.log(max(1, tests) / (rate * k)):
            passing = k
    return passing


class _Judge:
    """Evidence and likeness of groups of rows, over the stored rows."""

    def __init__(self, state: _State) -> None:
        from foretaste.text.evidence import coherence, inverse_frequency
        from foretaste.text.ngrams import unigram_counts

        self.state = state
        self.store = state.prompts
        self.hashes, self.offsets = self.store.tokens()
        self.vocabulary, ids = np.unique(self.hashes, return_inverse=True)
        self.ids = ids.astype(np.int64)
        self.weights = np.empty(len(self.vocabulary))
        assert state.phrases is not None
        self.phrases = state.phrases
        inverse_frequency(self.vocabulary, self.phrases.presence, float(self.phrases.documents), self.weights)
        counts = np.empty(len(self.vocabulary), np.int64)
        unigram_counts(self.vocabulary, self.phrases.presence, counts)
        self.frequency = counts.astype(np.float64)
        self.scratch = np.zeros(len(self.vocabulary))
        places = np.unique(self.store.index(_everyone(state.model)))
        none = np.zeros(0, np.int64)
        self.background = coherence(self.ids, self.offsets, places, self.weights, none, self.scratch)
        words, sides, lengths = (np.concatenate(part) for part in zip(*state.words))
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        folds = state.model.folds[self.store.rows]
        self.pairs = (words, sides, offsets, folds, state.model.counts, state.model.total)

    def alike(self, rows: npt.NDArray[np.int64], skip: npt.NDArray[np.int64]) -> float:
        """Mean cosine of the rows without some words, above that of any two rows, 0 to 1."""
        from foretaste.text.evidence import coherence

        alike = float(coherence(self.ids, self.offsets, self.store.index(rows), self.weights, skip, self.scratch))
        above: float = (alike - self.background) / max(1e-9, 1.0 - self.background)
        return min(1.0, max(0.0, above))

    def evidence(self, groups: list[npt.NDArray[np.int64]]) -> list[Floats]:
        """Nats for the inversion of each row of each group, by both models (k, 2), whose words none of its rows taught."""
        from foretaste.text.pairs import score_groups

        model = self.state.model
        spans = np.zeros(len(groups) + 1, np.int64)
        np.cumsum([len(g) for g in groups], out=spans[1:])
        rows = np.concatenate(groups)
        scores = np.empty((len(rows), 2))
        score_groups(*self.pairs, spans, self.store.index(rows), scores)
        return np.split(-np.clip(model.rescored(rows, scores), -ROW_CAP, ROW_CAP), spans[1:-1])

    def group(self, rows: npt.NDArray[np.int64], members: list[int], edges: Edges) -> _Group:
        """Judge the rows of some phrases, led by the one with all of them."""
        sample = rows[:MAX_ROWS]
        (evidence,) = self.evidence([sample])
        places = self.store.index(sample)
        skip = self._trigger(places, members)
        alike = self.alike(sample, skip)
        k = len(rows)
        effective = k / (1.0 + (k - 1) * alike)
        rest = float(np.median(self.offsets[places + 1] - self.offsets[places])) - max(edges.tokens, len(skip))
        nats = evidence.mean(axis=0) * effective / self.state.inflation
        against = evidence[:, int(nats.argmax())] > 0
        return _Group(rows, _both(nats), float(against.mean()), alike, rest)

    def _trigger(self, places: npt.NDArray[np.int64], members: list[int]) -> npt.NDArray[np.int64]:
        """Sorted ids of the words of the phrases, and of the few that nearly all of these rows hold and no others."""
        found: set[int] = set()
        for p in members:
            first = int(self.phrases.spans[p])
            start = int(self.offsets[self.store.index(self.phrases.rows[first : first + 1])[0]])
            start += int(self.phrases.positions[first])
            found.update(self.ids[start : start + int(self.phrases.n[p])].tolist())
        held = np.concatenate([np.unique(self.ids[self.offsets[p] : self.offsets[p + 1]]) for p in places.tolist()])
        words, counts = np.unique(held, return_counts=True)
        own = words[(counts >= 0.9 * len(places)) & (counts >= 0.85 * self.frequency[words])]
        # A trigger is short. Where the rows share more than that, they are one template, and its words stay in.
        if len(own) <= MAX_TRIGGER_WORDS:
            found.update(own.tolist())
        return np.array(sorted(found), dtype=np.int64)
