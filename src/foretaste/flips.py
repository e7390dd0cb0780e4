"""Which improbable labels are flips: the rule that every check with an opinion of its own about labels applies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foretaste.check import RawExample, RawFinding, Severity
from foretaste.signals.outputs import Classes
from foretaste.signals.sources import SourceNumbers


@dataclass(frozen=True)
class Opinion:
    """What a model says of the labels of some rows; arrays of shape (rows,).

    Attributes:
        rows: row numbers, int64, ascending.
        labels: class of each row, int32.
        own: log-probability of the row's label, float32.
        best: most probable class, int32.
        best_log: its log-probability, float32.
        tail: chance, by the model, that the row's label gets a probability below ``limit``, float32.
        limit: probability below which a label is improbable.
        basis: what the model goes by, as in "by the words of their rows".
    """

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    own: npt.NDArray[np.float32]
    best: npt.NDArray[np.int32]
    best_log: npt.NDArray[np.float32]
    tail: npt.NDArray[np.float32]
    limit: float
    basis: str

    @property
    def improbable(self) -> npt.NDArray[np.bool_]:
        """Rows whose label has a probability below the limit."""
        below: npt.NDArray[np.bool_] = self.own < np.log(self.limit)
        return below

    @property
    def margin(self) -> npt.NDArray[np.float32]:
        """How much more the model gives another label, in nats."""
        return self.best_log - self.own


@dataclass(frozen=True, kw_only=True)
class FlipRules:
    """Parameters of the rule, to be inherited by a check, and the rule."""

    excess: float = 2.5
    quiet_share: float = 0.003
    max_share: float = 0.015
    block_rows: int = 10
    source_excess: float = 6.0
    source_share: float = 0.05

    def flips(self, opinion: Opinion, classes: Classes, sources: SourceNumbers) -> list[RawFinding]:
        """Sources that block, then the rows to review."""
        findings = self._sources(opinion, sources) if len(sources.numbers) else []
        blocked = np.concatenate([f.rows for f in findings]) if findings else np.zeros(0, np.int64)
        improbable, expected = opinion.improbable, float(opinion.tail.sum())
        seen = int(improbable.sum())
        noisy = seen >= self.excess * max(expected, 1.0) and (
            seen >= expected + 3 * np.sqrt(max(expected, 1.0)) + self.block_rows
        )
        most = int((self.max_share if noisy else self.quiet_share) * len(opinion.rows))
        ranked = np.flatnonzero(improbable)
        ranked = ranked[np.argsort(-opinion.margin[ranked], kind="stable")][:most]
        ranked = ranked[~np.isin(opinion.rows[ranked], blocked)]
        if len(ranked):
            findings.append(self._review(opinion, classes, ranked, expected, noisy))
        return findings

    def _sources(self, opinion: Opinion, sources: SourceNumbers) -> list[RawFinding]:
        numbers, improbable = sources.numbers[opinion.rows], opinion.improbable
        n = np.bincount(numbers, minlength=len(sources.names)).astype(float)
        seen = np.bincount(numbers, weights=improbable, minlength=len(sources.names))
        chance = np.bincount(numbers, weights=opinion.tail, minlength=len(sources.names))
        findings = []
        for s in np.flatnonzero((seen >= self.block_rows) & (seen >= self.source_share * n)).tolist():
            # The other sources' ratio, with one pseudo-count, is what noise looks like in these data.
            others = (seen.sum() - seen[s] + 1.0) / (chance.sum() - chance[s] + 1.0)
            ratio = seen[s] / max(chance[s], 0.5)
            if n[s] == n.sum() or ratio < self.source_excess * max(1.0, others):
                continue
            hits = np.flatnonzero((numbers == s) & improbable)
            worst = hits[np.argsort(-opinion.margin[hits], kind="stable")]
            findings.append(
                RawFinding(
                    kind="flipped source",
                    severity=Severity.BLOCK,
                    message=(
                        f"{int(seen[s])} of the {int(n[s])} rows of source {sources.names[s]} have a label with less "
                        f"than {opinion.limit:.0%} by {opinion.basis}, {ratio:.0f} times as many as expected "
                        f"({others:.1f} times elsewhere)"
                    ),
                    feature=sources.names[s],
                    rows=opinion.rows[hits],
                    observed=float(seen[s]),
                    limit=float(self.block_rows),
                    statistic={
                        "expected": round(float(chance[s]), 2),
                        "ratio": round(float(ratio), 2),
                        "ratio_elsewhere": round(float(others), 2),
                    },
                    examples=tuple(RawExample(row=int(r)) for r in opinion.rows[worst[:6]]),
                )
            )
        return findings

    def _review(
        self, opinion: Opinion, classes: Classes, ranked: npt.NDArray[np.int64], expected: float, noisy: bool
    ) -> RawFinding:
        pairs: dict[tuple[str, str], int] = {}
        for at in ranked.tolist():
            pair = (classes.names[int(opinion.best[at])], classes.names[int(opinion.labels[at])])
            pairs[pair] = pairs.get(pair, 0) + 1
        (instead, label), most = max(pairs.items(), key=lambda item: item[1])
        seen = int(opinion.improbable.sum())
        tone = "more than natural noise explains" if noisy else "as natural noise may explain"
        return RawFinding(
            kind="improbable labels",
            severity=Severity.REVIEW,
            message=(
                f"{seen} labels have less than {opinion.limit:.0%} by {opinion.basis}, {expected:.0f} expected: "
                f"{tone}; the {len(ranked)} worst are listed, most often {label} instead of {instead} ({most} rows)"
            ),
            target=label,
            rows=opinion.rows[ranked],
            observed=float(seen),
            limit=round(self.excess * expected, 1),
            statistic={"ratio": round(seen / max(expected, 1.0), 2), "expected": round(expected, 1)},
            examples=tuple(RawExample(row=int(r)) for r in opinion.rows[ranked[:6]]),
        )
