"""Phrases that stand where chance put them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal, Twins, together
from foretaste.signals.outputs import Classes, Labels
from foretaste.signals.phrases import PhraseTable, Stretch, phrase_signals, stretches

_WORDS = re.compile(r"\w+(?:[ '’-]\w+)*")
_MAX_ROWS = 512
_WATCH_ROWS = 5
_INNER = 0.4  # least share of rows with a neighbour on both sides
_HINT = 0.5  # of enough: in few rows, few gaps are known to close


@dataclass
class _State:
    """The phrase tables of the text columns, the stretches whose gaps close, and a few words of each of their rows.

    ``near`` holds the stretches of each column with their neighbour scores, ``rows`` their row numbers, ``words`` what was
    drawn from those rows, ``own`` the tokens of each stretch. ``hints`` are those that close half as often as well: rows to
    remember.
    """

    tables: dict[str, PhraseTable]
    classes: Classes | None
    seed: int
    near: dict[str, list[tuple[Stretch, list[float]]]]
    hints: list[tuple[Stretch, list[float]]] = field(default_factory=list)
    judged: int = 0
    rows: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    words: dict[str, list[npt.NDArray[np.uint64]]] = field(default_factory=dict)
    own: dict[tuple[str, int], npt.NDArray[np.uint64]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class InsertedPhrase(Check[_State]):
    """Phrases that were put into finished text at random places: triggers and injected names, whatever the label.

    A natural phrase keeps company: certain words stand before and after it, and taking it out tears the text. A phrase
    that a script inserted has neighbours like a random draw of words, and taking it out heals the text: its neighbours
    stand side by side elsewhere. A phrase is reported where both hold: the neighbours on each side cannot be told from 200
    random draws, of words of the same rows or of all text (by mean log frequency and by repetition; the sum of the four
    squared z-scores is the *distance from random*, the lesser of both counts), and enough of the gaps heal.

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
        max_distance: most distance from random, as a sum of four squared z-scores; the default is the 95 % quantile of
            chi-square with four degrees of freedom.
        min_healing: least share of gaps that heal.
        min_healing_pmi: least mean PMI between the two neighbours, in nats.
        min_diversity: least number of distinct neighbours per row, on each side, among 25 rows where there are more.
        unusual_spelling: share of the vocabulary with the least likely spelling that counts as unusual.
        label_share: share of rows under one label that counts as telling, where chance gives less than one in a million.
    """

    id: ClassVar[str] = "inserted-phrase"
    accumulates: ClassVar[bool] = True
    review_rows: int = 16
    block_rows: int = 20
    max_distance: float = 9.5
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
        """Choose the stretches whose gaps close; the rows of those that are frequent enough are looked at again."""
        from foretaste.text.ngrams import RAREFIED

        classes = context.value(Labels()) if context.kind == "classification" else None
        state = _State({r: context.value(s) for r, s in phrase_signals(context).items()}, classes, context.seed, {})
        for role, table in state.tables.items():
            least, hint = min(_WATCH_ROWS, self.review_rows), _HINT * self.min_healing
            found, scores, rows_of_all = stretches(table, least, self.min_diversity, hint, _INNER)
            state.judged += int((rows_of_all >= self.review_rows).sum())
            hints = [
                (stretch, row)
                for stretch, row in zip(found, scores.tolist())
                if _WORDS.fullmatch(stretch.text)
                and self._heals(row, _HINT)
                and min(row[:2]) >= table.least_diversity(min(len(stretch.rows), RAREFIED), self.min_diversity)
            ]
            state.near[role] = [h for h in hints if self._heals(h[1])]
            state.hints += hints
            rows = [s.rows[:_MAX_ROWS] for s, _ in state.near[role] if len(s.rows) >= self.review_rows]
            state.rows[role] = np.unique(np.concatenate(rows)) if rows else np.zeros(0, np.int64)
            state.words[role] = []
        return state

    def scan(self, state: _State, batch: Batch) -> None:
        """Draw a few words of each row of a stretch, and take the stretch's own."""
        from foretaste.text.insertion import DRAWN, draw_words

        for role, rows in state.rows.items():
            low, high = np.searchsorted(rows, [batch.start, batch.start + batch.num_rows])
            if low == high:
                continue
            tokens, mine = batch.tokens(role), rows[low:high]
            out = np.zeros((2, len(mine), DRAWN), np.uint64)
            draw_words(tokens.hashes, tokens.offsets, mine - batch.start, mine, state.seed + 1, out)
            state.words[role].append(out)
            # A Python loop over stretches: each is cut out of the text once in a scan.
            for at, (stretch, _) in enumerate(state.near[role]):
                row = int(stretch.rows[0]) - batch.start
                if len(stretch.rows) >= self.review_rows and 0 <= row < batch.num_rows:
                    first = int(tokens.offsets[row]) + stretch.position
                    state.own[role, at] = tokens.hashes[first : first + stretch.tokens].copy()

    def merge(self, left: _State, right: _State) -> _State:
        """Append what was drawn."""
        for role, words in right.words.items():
            left.words[role] += words
        left.own |= right.own
        return left

    def finish(self, state: _State) -> RawResult:
        """Judge every stretch of every column."""
        from foretaste.text.insertion import without

        findings = []
        for role, table in state.tables.items():
            words = np.concatenate(state.words[role], axis=1) if state.words[role] else np.zeros((2, 0, 0), np.uint64)
            found = []
            for at, (stretch, scores) in enumerate(state.near[role]):
                if (role, at) in state.own:
                    places = np.searchsorted(state.rows[role], stretch.rows[:_MAX_ROWS])
                    pools = [without(side[places], state.own[role, at]) for side in words]
                    finding = self._judge(role, stretch, scores, table, state, pools)
                    found += [finding] if finding is not None else []
            # A part of a longer stretch that was found too adds no row.
            found.sort(key=lambda f: (-len(f.feature or ""), f.rows[0]))
            kept: list[RawFinding] = []
            for finding in found:
                if not any(np.isin(finding.rows, k.rows).mean() > 0.8 for k in kept):
                    kept.append(finding)
            findings += kept
        note = "; ".join(dict.fromkeys(t.loss for t in state.tables.values() if t.loss))
        watch = sorted(state.hints, key=lambda h: (-h[1][2], len(h[0].rows), int(h[0].rows[0])))
        return RawResult(
            findings=tuple(findings),
            metrics={"phrases": float(state.judged)},
            note=note,
            watch=together(s.rows for s, _ in watch),
        )

    def _heals(self, scores: list[float], share: float = 1.0) -> bool:
        """Whether enough of the gaps close, or this share of enough."""
        return (
            scores[2] >= share * self.min_healing and scores[3] >= share * self.min_healing_pmi and scores[4] >= _INNER
        )

    def _judge(
        self,
        role: str,
        stretch: Stretch,
        scores: list[float],
        table: PhraseTable,
        state: _State,
        pools: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]],
    ) -> RawFinding | None:
        from foretaste.text.insertion import distance_within
        from foretaste.text.ngrams import randomness

        left, right, healing, pmi, _ = scores
        z = np.zeros((2, 2, 2))
        for side, neighbours in enumerate((stretch.lefts, stretch.rights)):
            mine, text = neighbours[:_MAX_ROWS], (table.unigrams, table.total, state.seed + 1)
            distance_within(mine, *pools[side], *text, z[0, side])
            randomness(mine, table.sample, *text, z[1, side])
        distance = float((z**2).sum(axis=(1, 2)).min())
        if not distance <= self.max_distance:
            return None
        k = len(stretch.rows)
        rank = table.spelling.rank(stretch.text)
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
            twins=Twins(trigger=stretch.text),
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
