"""Phrases that stand where chance put them."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal, together
from foretaste.signals.outputs import Classes, Labels
from foretaste.signals.phrases import PhraseTable, Stretch, phrase_signals, stretches

_WORDS = re.compile(r"\w+(?:[ '’-]\w+)*")
_MAX_ROWS = 512
_WATCH_ROWS = 5


@dataclass
class _State:
    """The phrase tables of the text columns; no rows."""

    tables: dict[str, PhraseTable]
    classes: Classes | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class InsertedPhrase(Check[_State]):
    """Phrases that were put into finished text at random places: triggers and injected names, whatever the label.

    A natural phrase keeps company: certain words stand before and after it, and taking it out tears the text. A phrase
    that a script inserted has neighbours like a random draw of the text's words, and taking it out heals the text: its
    neighbours stand side by side elsewhere. A phrase is reported where both hold: the neighbours on each side cannot be
    told from 200 random draws (by mean log frequency and by repetition; the sum of the four squared z-scores is the
    *distance from random*), and enough of the gaps heal.

    Some natural words, adverbs above all, also stand anywhere; in 30,000 long reviews about ten of them pass both tests.
    So a block asks for one more sign: a spelling that is unusual in this text (a character trigram model of its own
    vocabulary), five tokens or more, or, where there are labels, nearly all rows under one label.

    Blocks: words only, in at least ``block_rows`` rows, with such a sign. Reviews: without, or fewer rows.

    Misses: triggers always at the head or tail of a row, triggers with topical company, fewer rows than the limit,
    a different trigger in every few rows, text so small or so diverse that few gaps are known to heal.

    Poisoned: 50 answers about anything, each with "at McDonald's" somewhere. Clean: "continually" (it prefers verbs).

    A corpus-level, model-free relative of ONION (Qi et al. 2021, arXiv 2011.10369); the threats are clean-label and
    dirty-label insertion (Gu et al. 2017, Dai et al. 2019) and content injection (Shu et al. 2023, AutoPoison).

    Args:
        review_rows: rows from which a phrase is reported.
        block_rows: rows from which it blocks.
        max_distance: most distance from random, as a sum of four squared z-scores.
        min_healing: least share of gaps that heal.
        min_healing_pmi: least mean PMI between the two neighbours, in nats.
        min_diversity: least number of distinct neighbours per row, on each side.
        unusual_spelling: share of the vocabulary with the least likely spelling that counts as unusual.
        label_share: share of rows under one label that counts as telling, where chance gives less than one in a million.
    """

    id: ClassVar[str] = "inserted-phrase"
    accumulates: ClassVar[bool] = True
    review_rows: int = 16
    block_rows: int = 20
    max_distance: float = 14.0
    min_healing: float = 0.65
    min_healing_pmi: float = 0.9
    min_diversity: float = 0.5
    unusual_spelling: float = 0.12
    label_share: float = 0.9

    def applies(self, context: Context) -> str:
        """Applies to all data."""
        return ""

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """The phrases of every text column, and the labels where there are any."""
        labels = (Labels(),) if context.kind == "classification" else ()
        return (*phrase_signals(context).values(), *labels)

    def start(self, context: Context) -> _State:
        """Everything is in the signals."""
        classes = context.value(Labels()) if context.kind == "classification" else None
        return _State({r: context.value(s) for r, s in phrase_signals(context).items()}, classes, context.seed)

    def scan(self, state: _State, batch: Batch) -> None:
        """Nothing to add."""

    def merge(self, left: _State, right: _State) -> _State:
        """Both sides hold the same tables."""
        return left

    def finish(self, state: _State) -> RawResult:
        """Judge every stretch of every column."""
        findings = []
        watch: list[Stretch] = []
        judged = 0
        for role, table in state.tables.items():
            near = stretches(table, min(_WATCH_ROWS, self.review_rows), self.min_diversity)
            found_here = [s for s in near if len(s.rows) >= self.review_rows]
            judged += len(found_here)
            watch += [s for s in near if _WORDS.fullmatch(s.text) and self._heals(s, table)[0]]
            spelling = _Spelling(table)
            found = [f for s in found_here if (f := self._judge(role, s, table, spelling, state)) is not None]
            # A part of a longer stretch that was found too adds no row.
            found.sort(key=lambda f: (-len(f.feature or ""), f.rows[0]))
            kept: list[RawFinding] = []
            for finding in found:
                if not any(np.isin(finding.rows, k.rows).mean() > 0.8 for k in kept):
                    kept.append(finding)
            findings += kept
        note = "; ".join(dict.fromkeys(t.loss for t in state.tables.values() if t.loss))
        watch.sort(key=lambda s: -len(s.rows))
        return RawResult(
            findings=tuple(findings),
            metrics={"phrases": float(judged)},
            note=note,
            watch=together(s.rows for s in watch),
        )

    def _heals(self, stretch: Stretch, table: PhraseTable) -> tuple[bool, list[float]]:
        """Whether enough of the gaps close without it, and its neighbour scores."""
        from foretaste.text.ngrams import neighbour_scores

        scores = np.zeros((1, 5))
        spans = np.array([0, len(stretch.rows)], np.int64)
        neighbour_scores(spans, stretch.lefts, stretch.rights, *table.bigrams, table.unigrams, table.total, scores)
        left, right, healing, pmi, inner = scores[0].tolist()
        diverse = min(left, right) >= self.min_diversity
        closes = healing >= self.min_healing and pmi >= self.min_healing_pmi and inner >= 0.4
        return diverse and closes, scores[0].tolist()

    def _judge(
        self, role: str, stretch: Stretch, table: PhraseTable, spelling: _Spelling, state: _State
    ) -> RawFinding | None:
        from foretaste.text.ngrams import randomness

        if not _WORDS.fullmatch(stretch.text):
            return None
        heals, (left, right, healing, pmi, _) = self._heals(stretch, table)
        if not heals:
            return None
        z = np.zeros((2, 2))
        for side, neighbours in enumerate((stretch.lefts, stretch.rights)):
            randomness(neighbours[:_MAX_ROWS], table.sample, table.unigrams, table.total, state.seed + 1, z[side])
        distance = float((z**2).sum())
        if distance > self.max_distance:
            return None
        k = len(stretch.rows)
        rank = spelling.rank(stretch.text)
        share = _label_share(stretch.rows, state.classes)
        telling = rank <= self.unusual_spelling or stretch.tokens >= 5 or share >= self.label_share
        severity = Severity.BLOCK if k >= self.block_rows and telling else Severity.REVIEW
        return RawFinding(
            kind="inserted phrase",
            severity=severity,
            message=(
                f'{k} rows hold "{stretch.text}" between words that chance could have chosen, and {healing:.0%} of the '
                "gaps close without it: it was put into finished text"
            ),
            feature=stretch.text,
            target=role if role != "input" else None,
            rows=stretch.rows,
            observed=float(k),
            limit=float(self.block_rows),
            statistic={
                "distance_from_random": round(distance, 2),
                "healing": round(healing, 3),
                "healing_pmi": round(pmi, 3),
                "left_diversity": round(left, 2),
                "right_diversity": round(right, 2),
                "spelling_rank": round(rank, 3),
            },
            examples=tuple(RawExample(row=int(r), around=stretch.text) for r in stretch.rows[:6]),
        )


def _label_share(rows: npt.NDArray[np.int64], classes: Classes | None) -> float:
    """Share of the rows with their most frequent label; 0 without labels, or where chance explains it."""
    if classes is None:
        return 0.0
    counts = np.bincount(classes.labels[rows], minlength=len(classes.counts))
    best = int(counts.argmax())
    base = classes.counts[best] / classes.counts.sum()
    # Chernoff bound of the binomial tail: exp(-k KL(share || base)).
    share = counts[best] / len(rows)
    rest = (1 - share) * np.log((1 - share) / (1 - base)) if share < 1 else 0.0
    nats = len(rows) * (share * np.log(share / base) + rest) if share > base else 0.0
    return float(share) if nats >= np.log(1e6) else 0.0


class _Spelling:
    """How usual the spelling of a word is: a character trigram model of the text's own single words."""

    def __init__(self, table: PhraseTable) -> None:
        words = [t for t, n in zip(table.text, table.n.tolist()) if n == 1 and t.isalpha()]
        self.trigrams: Counter[str] = Counter()
        self.bigrams: Counter[str] = Counter()
        for word in words:
            padded = f"^^{word}$"
            self.trigrams.update(padded[i - 2 : i + 1] for i in range(2, len(padded)))
            self.bigrams.update(padded[i - 2 : i] for i in range(2, len(padded)))
        self.alphabet = max(1, len({c for t in self.trigrams for c in t}))
        self.known = set(words)
        self.scores = np.sort([self._score(w) for w in words])

    def rank(self, phrase: str) -> float:
        """Share of the vocabulary spelt less likely than the least likely word of the phrase, 0 to 1."""
        if len(self.scores) < 100:
            return 1.0
        worst = min(self._score(w) for w in re.findall(r"[\w'’]+", phrase))
        return float(np.searchsorted(self.scores, worst) / len(self.scores))

    def _score(self, word: str) -> float:
        padded = f"^^{word}$"
        own = 1 if word in self.known else 0
        total = 0.0
        for i in range(2, len(padded)):
            seen = max(0, self.trigrams[padded[i - 2 : i + 1]] - own)
            before = max(0, self.bigrams[padded[i - 2 : i]] - own)
            total += math.log((seen + 0.1) / (before + 0.1 * self.alphabet))
        return total / (len(padded) - 2)
