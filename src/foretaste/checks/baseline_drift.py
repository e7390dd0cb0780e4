"""A batch that is not like those that were accepted before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.baselines import MAX_NAMES, Snapshot, describe, group_of, length_bins, read
from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal
from foretaste.errors import CheckError
from foretaste.signals.outputs import Labels
from foretaste.signals.sources import Sources

_SHOWN = 50


@dataclass
class _State:
    """The length of each row, one byte; names and counts of labels and sources come from signals."""

    snapshot: Snapshot
    labels: tuple[npt.NDArray[np.int32], tuple[str, ...]] | None
    sources: tuple[npt.NDArray[np.int32], tuple[str, ...]] | None
    before: int
    lengths: list[npt.NDArray[np.int8]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class BaselineDrift(Check[_State]):
    """A new source, a new label, or shares and a size unlike those of the accepted batches of a baseline.

    Compares with the newest snapshot of a signed baseline (see ``foretaste baseline``). A share of a label, of a source or
    of a length counts where it is larger than in the baseline by ``min_shift`` and beyond chance. The test is exact
    (hypergeometric, one-sided), and Holm's method over all tests of a batch keeps the probability of any false finding
    below ``alpha`` while the rows of batch and baseline are exchangeable. Batches of real life are often not: a finding
    here is a question to the source, never a proof, so it is for review and never blocks.

    Skipped where no baseline is configured. An error where one is and its signatures do not hold.

    Misses: poison that keeps all shares; a baseline that was poisoned slowly from its first batch; a baseline that was
    rolled back to an older signed snapshot, whose number stands in the note.

    Poisoned: a batch in which a source that nobody has seen gives 200 rows.
    Clean: a batch drawn like the batches before.

    After Schelter et al. 2018 (Automating Large-Scale Data Quality Verification, VLDB 11(12)).

    Args:
        baseline: folder of the baseline.
        trust: trust file whose role ``baseline`` has signed it.
        alpha: probability of any false finding in a batch.
        min_shift: least difference of two shares, as a fraction of all rows.
        max_ratio: a batch that is so many times larger than the largest accepted one, or smaller than the smallest, is
            named; from three accepted batches on.
    """

    id: ClassVar[str] = "baseline-drift"
    baseline: str = ""
    trust: str = ""
    alpha: float = 0.001
    min_shift: float = 0.02
    max_ratio: float = 10.0

    def __post_init__(self) -> None:
        """Refuse limits that find everything or nothing.

        Raises:
            ValueError: naming the limit.
        """
        if self.baseline and not self.trust:
            raise ValueError("a baseline counts by its signatures; name the trust file in trust")
        if not 0 < self.alpha < 1 or not 0 <= self.min_shift < 1 or self.max_ratio <= 1:
            raise ValueError("alpha must lie between 0 and 1, min_shift from 0 to 1, and max_ratio be more than 1")

    def applies(self, context: Context) -> str:
        """Applies where a baseline is configured."""
        if self.baseline:
            return ""
        return (
            "no baseline is configured; make one with foretaste baseline advance, and name it in the policy, under "
            "checks.baseline-drift.baseline"
        )

    def needs(self, context: Context) -> tuple[Signal[object, object], ...]:
        """Labels and sources, as far as the data have them."""
        wanted = (("label", Labels()), ("source", Sources()))
        return tuple(signal for role, signal in wanted if role in context.roles)  # type: ignore[misc]

    def start(self, context: Context) -> _State:
        """Read and verify the baseline.

        Raises:
            CheckError: if its signatures do not hold, or there is none.
        """
        from foretaste.errors import ForetasteError

        try:
            newest = read(self.baseline, self.trust)[-1]
        except ForetasteError as e:
            raise CheckError(f"the baseline {self.baseline} does not count: {e}") from e
        before = context.background.before if context.background else 0
        labels = context.value(Labels()) if "label" in context.roles else None
        sources = context.value(Sources()) if "source" in context.roles else None
        return _State(
            newest,
            (labels.labels[before:], labels.names) if labels else None,
            (sources.numbers[before:], sources.names) if sources else None,
            before,
        )

    def scan(self, state: _State, batch: Batch) -> None:
        """Note the length of each row."""
        state.lengths.append(length_bins(batch))

    def merge(self, left: _State, right: _State) -> _State:
        """Concatenate the lengths."""
        left.lengths += right.lengths
        return left

    def finish(self, state: _State) -> RawResult:
        """Judge every label, source and length that grew, and the size."""
        lengths = np.concatenate(state.lengths)[state.before :] if state.lengths else np.zeros(0, np.int8)
        known = state.snapshot.profile
        bins = tuple(str(b) for b in range(int(lengths.max(initial=0)) + 1))
        families = [("length", lengths.astype(np.int32), bins, known.lengths)]
        notes = []
        for kind, column, held in (("label", state.labels, known.labels), ("source", state.sources, known.sources)):
            if column is None:
                continue
            codes, names = _grouped(*column) if kind == "source" else column
            if not held or len(names) > MAX_NAMES:
                notes.append(f"{kind}s were not compared: " + ("too many" if held else "the baseline holds none"))
                continue
            families.append((kind, codes, names, held))
        findings, tests = self._judge(families, len(lengths), known.rows, state.before)
        findings += self._size(len(lengths), [int(b["rows"]) for b in state.snapshot.batches])
        snapshot = state.snapshot
        notes.insert(0, f"baseline {snapshot.name}, snapshot {snapshot.number}, {snapshot.digest}, {known.rows:,} rows")
        return RawResult(findings=tuple(findings), metrics={"tests": float(tests)}, note="; ".join(notes))

    def _judge(
        self,
        families: list[tuple[str, npt.NDArray[np.int32], tuple[str, ...], Mapping[str, int]]],
        rows: int,
        base: int,
        before: int,
    ) -> tuple[list[RawFinding], int]:
        from scipy.stats import hypergeom

        findings: list[RawFinding] = []
        tested: list[tuple[float, str, str, npt.NDArray[np.int64], int]] = []
        for kind, codes, names, held in families:
            counts = np.bincount(codes, minlength=len(names))
            for code in np.flatnonzero(counts):
                name, count, earlier = names[code], int(counts[code]), int(held.get(names[code], 0))
                here = before + np.flatnonzero(codes == code).astype(np.int64)
                if not earlier and kind != "length":
                    findings.append(
                        self._finding(f"new {kind}", name, f"{count} rows have the {kind}", here, rows, 0.0)
                    )
                    continue
                # So many of this name in the batch, were it drawn from batch and baseline together.
                tail = float(hypergeom.sf(count - 1, rows + base, count + earlier, rows))
                tested.append((tail, kind, name, here, earlier))
        tested.sort(key=lambda t: t[0])
        for rank, (tail, kind, name, here, earlier) in enumerate(tested):
            if tail * (len(tested) - rank) >= self.alpha:
                break
            now, then = len(here) / rows, earlier / base
            if now - then < self.min_shift:
                continue
            shown = describe(name) if kind == "length" else name
            said = f"{now:.1%} of the rows have the {kind}, against {then:.1%} of the baseline"
            findings.append(
                self._finding(f"{kind} share", shown, said, here, rows, then, p_value=tail * (len(tested) - rank))
            )
        new = [f for f in findings if f.kind.startswith("new ")]
        if len(new) > _SHOWN:
            new.sort(key=lambda f: -len(f.rows))
            gone = {id(f) for f in new[_SHOWN:]}
            rest = np.unique(np.concatenate([f.rows for f in new[_SHOWN:]]))
            findings = [f for f in findings if id(f) not in gone]
            findings.append(
                self._finding("new names", None, f"{len(rest)} rows have one of {len(gone)} more", rest, rows, 0.0)
            )
        findings.sort(key=lambda f: (-len(f.rows), f.kind, f.feature or ""))
        return findings, len(tested)

    def _finding(
        self, kind: str, name: str | None, said: str, here: npt.NDArray[np.int64], rows: int, then: float, **more: float
    ) -> RawFinding:
        told = f' "{name or "(empty)"}"' if name is not None else " new labels or sources"
        return RawFinding(
            kind=kind,
            severity=Severity.REVIEW,
            message=f"{said}{told}",
            feature=name,
            rows=here,
            observed=len(here),
            limit=1 if kind.startswith("new") else int(np.ceil((then + self.min_shift) * rows)),
            statistic={"share": len(here) / rows, "baseline_share": then, **more},
            examples=tuple(RawExample(row=int(r)) for r in here[:3]),
        )

    def _size(self, rows: int, accepted: list[int]) -> list[RawFinding]:
        low, high = min(accepted), max(accepted)
        if len(accepted) < 3 or (low <= rows * self.max_ratio and rows <= high * self.max_ratio):
            return []
        return [
            RawFinding(
                kind="size",
                severity=Severity.REVIEW,
                message=f"the batch has {rows:,} rows; the {len(accepted)} accepted ones have {low:,} to {high:,}",
                rows=np.zeros(0, np.int64),
                observed=rows,
                limit=int(high * self.max_ratio) if rows > high else int(low / self.max_ratio),
            )
        ]


def _grouped(codes: npt.NDArray[np.int32], names: tuple[str, ...]) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Sources as their groups."""
    index: dict[str, int] = {}
    mapped = np.array([index.setdefault(group_of(n), len(index)) for n in names], np.int32)
    return (mapped[codes] if len(names) else codes), tuple(index)
