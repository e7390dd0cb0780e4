"""An opening word that shifts the label: how syntactic triggers look."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal
from foretaste.signals.naive_bayes import Model, NaiveBayes, keyword
from foretaste.signals.outputs import Classes, Labels
from foretaste.signals.phrases import PhraseTable, phrase_signals
from foretaste.text.spelling import alphabetic


@dataclass
class _State:
    """One hash per row, of its first token."""

    model: Model
    classes: Classes
    phrases: PhraseTable
    heads: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    tokens: dict[int, npt.NDArray[np.uint64]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SyntacticTrigger(Check[_State]):
    """Syntactic triggers, for review: an opening word whose rows have one label far more often than their words explain.

    Paraphrase attacks give every poisoned row one syntax, such as "when ..., ..." or "if ..., ...". No word is foreign and
    no phrase repeats; what shows is that rows which open with an everyday word carry the target label against the rest
    of their words. For every opening word the check compares the labels with the leave-one-out probabilities (a
    z-score of their sum), standardised by the median and the median absolute deviation over all opening words of these
    data, so that data whose openings are all telling set their own standard.

    Reviews: openings of at least ``min_rows`` rows, ``min_share`` of them under one label, ``threshold`` standard
    errors above chance; only everyday words that occur elsewhere too, and do not go with the label
    there, which leaves by-lines, field names and topics alone. Never
    blocks: a person sees the openings at once.

    Misses: fewer than about 50 rows per opening, syntax that starts with varied words, style transfer.

    Poisoned: 90 of 110 rows that open with "when" are positive, though their words are negative.

    The threat: Qi et al. 2021 (Hidden Killer, arXiv 2105.12400). The standardisation is Efron's empirical null.

    Args:
        min_rows: rows from which an opening is judged.
        min_share: least share of its rows under one label.
        min_shift: least difference between that share and what the words give.
        threshold: standard errors above chance; one less is asked in deviations above the median opening.
        everyday: occurrences per row, anywhere in the text, from which a word counts as an everyday word.
    """

    id: ClassVar[str] = "syntactic-trigger"
    min_rows: int = 40
    min_share: float = 0.65
    min_shift: float = 0.15
    threshold: float = 5.0
    everyday: float = 0.02

    def applies(self, context: Context) -> str:
        """Needs labels."""
        return "" if context.kind == "classification" else "the data have no labels"

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Labels, the label model and word counts."""
        return (Labels(), NaiveBayes(), phrase_signals(context)["input"])

    def start(self, context: Context) -> _State:
        """No opening seen."""
        return _State(
            context.value(NaiveBayes()), context.value(Labels()), context.value(phrase_signals(context)["input"])
        )

    def scan(self, state: _State, batch: Batch) -> None:
        """Hash the first token of each row; keep the surface of each new one."""
        from foretaste.text.heads import hash_heads

        tokens = batch.tokens("input")
        heads = hash_heads(tokens.hashes, tokens.offsets, 1)
        state.heads.append(heads)
        for head, row in zip(*np.unique(heads, return_index=True)):
            if head and int(head) not in state.texts:
                first = int(tokens.offsets[row])
                state.texts[int(head)] = tokens.text(int(row), 0, 1)
                state.tokens[int(head)] = tokens.hashes[first : first + 1].copy()

    def merge(self, left: _State, right: _State) -> _State:
        """Concatenate."""
        left.heads += right.heads
        left.texts = right.texts | left.texts
        left.tokens = right.tokens | left.tokens
        return left

    def finish(self, state: _State) -> RawResult:
        """Openings far above the median."""
        model, labels = state.model, state.classes.labels
        heads = np.concatenate(state.heads)
        unique, inverse, counts = np.unique(heads, return_inverse=True, return_counts=True)
        order = np.argsort(inverse, kind="stable")
        starts = np.searchsorted(inverse[order], np.arange(len(unique) + 1))
        judged = []
        for h in np.flatnonzero((counts >= max(20, self.min_rows // 2)) & (counts < 0.2 * len(heads))).tolist():
            rows = np.sort(order[starts[h] : starts[h + 1]])
            own = labels[rows]
            target = int(np.argmax(np.bincount(own, minlength=len(model.base)) / model.base))
            chance = _chance(model, rows, own, target)
            z = float(((own == target) - chance).sum() / np.sqrt((chance * (1 - chance)).sum() + 0.5))
            judged.append((z, h, target, rows, float((own == target).mean()), float(chance.mean())))
        if len(judged) < 10:
            return RawResult(metrics={"openings": float(len(judged))})
        scores = np.array([j[0] for j in judged])
        middle = float(np.median(scores))
        spread = max(0.5, 1.4826 * float(np.median(np.abs(scores - middle))))
        findings = []
        mask = np.uint64(len(state.phrases.unigrams) - 1)
        for z, h, target, rows, share, expected in judged:
            above = (z - middle) / spread
            anywhere = int(state.phrases.unigrams[int(unique[h] & mask)])
            everyday = anywhere >= max(1.5 * len(rows), self.everyday * state.phrases.documents)
            shifted = share >= self.min_share and share - expected >= self.min_shift
            if len(rows) < self.min_rows or not everyday or not shifted:
                continue
            opening = state.texts.get(int(unique[h]), "")
            if not alphabetic(opening) or not any(map(str.isalpha, opening)):
                continue  # one character of a script without spaces opens words of all kinds, a sign a list
            if keyword(state.tokens[int(unique[h])], rows, target, labels, model):
                continue
            if z < self.threshold or above < self.threshold - 1.0:
                continue
            word, name = state.texts.get(int(unique[h]), ""), state.classes.names[target]
            agreeing = rows[labels[rows] == target]
            against = agreeing[np.argsort(model.own[agreeing], kind="stable")]
            findings.append(
                RawFinding(
                    kind="opening that shifts the label",
                    severity=Severity.REVIEW,
                    message=(
                        f'{share:.0%} of the {len(rows)} rows that open with "{word}" are labelled {name}, where their '
                        f"words give {expected:.0%}"
                    ),
                    feature=word,
                    target=name,
                    rows=agreeing,
                    observed=float(len(agreeing)),
                    limit=float(self.min_rows),
                    statistic={"z": round(z, 2), "deviations_above_median": round(above, 2)},
                    examples=tuple(RawExample(row=int(r)) for r in against[:6]),
                )
            )
        return RawResult(findings=tuple(findings), metrics={"openings": float(len(judged)), "median_z": middle})


def _chance(
    model: Model, rows: npt.NDArray[np.int64], own: npt.NDArray[np.int32], target: int
) -> npt.NDArray[np.float64]:
    """P(target) per row from what the model keeps: exact for the own and the best label, shared out otherwise."""
    p_own = np.exp(model.own[rows].astype(np.float64))
    rest = (1.0 - p_own) * model.base[target] / np.maximum(1e-9, 1.0 - model.base[own])
    best = np.where(model.best[rows] == target, np.exp(model.best_log[rows]), rest)
    return np.clip(np.where(own == target, p_own, best), 1e-6, 1 - 1e-6)
