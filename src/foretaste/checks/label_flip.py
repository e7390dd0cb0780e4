"""Labels that the words of their rows speak against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal
from foretaste.signals.naive_bayes import TAIL, Model, NaiveBayes
from foretaste.signals.outputs import Classes, Labels

MAX_SOURCES = 65_536


@dataclass
class _State:
    """The label model, and one source number per row."""

    model: Model
    classes: Classes
    index: dict[str, int] = field(default_factory=dict)
    parts: list[npt.NDArray[np.int32]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class LabelFlip(Check[_State]):
    """Flipped labels: rows whose words speak against their label, ranked, and the source that they come from.

    A leave-one-out naive Bayes model, tempered on held-out predictions, gives each row the probability of its own label.
    By its own account it expects a certain number of labels with a probability below one percent; natural noise adds
    some. Where the labels under one percent outnumber the expected ones ``excess`` times, labels were probably flipped
    and those rows go to review; otherwise only the worst ``quiet_share`` of all rows do.

    Blocks: a source (vendor, annotator) whose rows hold ``source_excess`` times as many such labels as the model expects
    there, compared with all other sources, at least ``block_rows`` of them and at least ``source_share`` of its rows.

    Misses: flips between classes that words do not tell apart, fewer flips than natural noise where no source owns
    them, flips in most rows (the model learns them), systematic relabelling of one topic.

    Poisoned: "the worst film of the year", positive, from the vendor who has sixty of the kind. Clean: "not bad".

    After confident learning (Northcutt et al. 2021), with a model that adds up. Rank quality depends on the text: the
    report gives the model's accuracy.

    Args:
        excess: ratio of observed to expected improbable labels from which the data as a whole go to review.
        quiet_share: share of rows, at most, that goes to review below that ratio.
        max_share: share of rows, at most, that goes to review above it.
        block_rows: improbable labels of one source from which it blocks.
        source_excess: how many times the others' ratio a source must have.
        source_share: least share of the source's rows that are improbable.
    """

    id: ClassVar[str] = "label-flip"
    excess: float = 2.0
    quiet_share: float = 0.003
    max_share: float = 0.015
    block_rows: int = 10
    source_excess: float = 4.0
    source_share: float = 0.05

    def applies(self, context: Context) -> str:
        """Needs labels."""
        return "" if context.kind == "classification" else "the data have no labels"

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Labels and the label model."""
        return (Labels(), NaiveBayes())

    def start(self, context: Context) -> _State:
        """No source seen."""
        return _State(context.value(NaiveBayes()), context.value(Labels()))

    def scan(self, state: _State, batch: Batch) -> None:
        """Number the sources."""
        if not batch.has("source"):
            return
        encoded = pc.dictionary_encode(batch.strings("source"))
        numbers = np.array(
            [
                state.index.setdefault(n, len(state.index)) if len(state.index) < MAX_SOURCES else MAX_SOURCES
                for n in encoded.dictionary.to_pylist()
            ],
            dtype=np.int32,
        )
        state.parts.append(numbers[np.asarray(encoded.indices)])

    def merge(self, left: _State, right: _State) -> _State:
        """Renumber the right part's sources."""
        numbers = np.array([left.index.setdefault(n, len(left.index)) for n in right.index], dtype=np.int32)
        left.parts.extend(numbers[p] for p in right.parts)
        return left

    def finish(self, state: _State) -> RawResult:
        """Sources that block, then the rows to review."""
        model = state.model
        improbable = model.own < np.log(TAIL)
        margin = model.best_log - model.own
        expected = float(model.tail.sum())
        ratio = float(improbable.sum()) / max(expected, 1.0)
        findings = self._sources(state, improbable, margin) if state.parts else []
        blocked = np.concatenate([f.rows for f in findings]) if findings else np.zeros(0, np.int64)
        everyone = len(model.own)
        noisy = ratio >= self.excess and improbable.sum() >= expected + 3 * np.sqrt(max(expected, 1.0)) + self.block_rows
        most = int((self.max_share if noisy else self.quiet_share) * everyone)
        ranked = np.flatnonzero(improbable)
        ranked = ranked[np.argsort(-margin[ranked], kind="stable")][:most]
        ranked = ranked[~np.isin(ranked, blocked)]
        if len(ranked):
            findings.append(self._review(state, ranked, ratio, expected, int(improbable.sum()), noisy))
        return RawResult(
            findings=tuple(findings),
            metrics={
                "label_model_accuracy": model.accuracy,
                "improbable_labels": float(improbable.sum()),
                "expected_improbable_labels": expected,
            },
        )

    def _sources(
        self, state: _State, improbable: npt.NDArray[np.bool_], margin: npt.NDArray[np.float32]
    ) -> list[RawFinding]:
        sources = np.concatenate(state.parts)
        names = [*state.index, "(other)"]
        n = np.bincount(sources, minlength=len(names)).astype(float)
        seen = np.bincount(sources, weights=improbable, minlength=len(names))
        chance = np.bincount(sources, weights=state.model.tail, minlength=len(names))
        findings = []
        for s in np.flatnonzero((seen >= self.block_rows) & (seen >= self.source_share * n)).tolist():
            # The other sources' ratio, with one pseudo-count, is what noise looks like in these data.
            others = (seen.sum() - seen[s] + 1.0) / (chance.sum() - chance[s] + 1.0)
            ratio = seen[s] / max(chance[s], 0.5)
            if n[s] == n.sum() or ratio < self.source_excess * max(1.0, others):
                continue
            rows = np.flatnonzero((sources == s) & improbable)
            worst = rows[np.argsort(-margin[rows], kind="stable")]
            findings.append(
                RawFinding(
                    kind="flipped source",
                    severity=Severity.BLOCK,
                    message=(
                        f"{int(seen[s])} of the {int(n[s])} rows of source {names[s]} have a label that their words give "
                        f"less than {TAIL:.0%}, {ratio:.0f} times as many as expected ({others:.1f} times elsewhere)"
                    ),
                    feature=names[s],
                    rows=rows,
                    observed=float(seen[s]),
                    limit=float(self.block_rows),
                    statistic={
                        "expected": round(float(chance[s]), 2),
                        "ratio": round(float(ratio), 2),
                        "ratio_elsewhere": round(float(others), 2),
                    },
                    examples=tuple(RawExample(row=int(r)) for r in worst[:6]),
                )
            )
        return findings

    def _review(
        self, state: _State, rows: npt.NDArray[np.int64], ratio: float, expected: float, seen: int, noisy: bool
    ) -> RawFinding:
        names, model = state.classes.names, state.model
        pairs: dict[tuple[str, str], int] = {}
        for row in rows.tolist():
            pair = (names[int(model.best[row])], names[int(state.classes.labels[row])])
            pairs[pair] = pairs.get(pair, 0) + 1
        (instead, label), most = max(pairs.items(), key=lambda item: item[1])
        tone = "more than natural noise explains" if noisy else "as natural noise may explain"
        return RawFinding(
            kind="improbable labels",
            severity=Severity.REVIEW,
            message=(
                f"{seen} labels have less than {TAIL:.0%} by the words of their rows, {expected:.0f} expected: {tone}; "
                f"the {len(rows)} worst are listed, most often {label} where the words say {instead} ({most} rows)"
            ),
            target=label,
            rows=rows,
            observed=float(seen),
            limit=round(self.excess * expected, 1),
            statistic={"ratio": round(ratio, 2), "expected": round(expected, 1)},
            examples=tuple(RawExample(row=int(r)) for r in rows[:6]),
        )
