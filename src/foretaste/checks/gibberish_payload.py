"""Text whose flow nothing else in the data knows, and the trigger that opens it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal, together
from foretaste.signals.phrases import PhraseTable, phrase_signals

# For rows that share a trigger with plain gibberish.
_LOOSE_DISTINCT = 0.6
_LOOSE_LETTERS = 0.5


@dataclass
class _State:
    """The phrase tables, and the rows that were hit with where their window begins."""

    tables: dict[str, PhraseTable]
    rows: dict[str, list[npt.NDArray[np.int64]]] = field(default_factory=dict)
    shares: dict[str, list[npt.NDArray[np.float64]]] = field(default_factory=dict)
    loose: list[npt.NDArray[np.int64]] = field(default_factory=list)
    excerpts: dict[int, str] = field(default_factory=dict)
    judged: int = 0


@dataclass(frozen=True, kw_only=True)
class GibberishPayload(Check[_State]):
    """Gibberish payloads: a stretch of words whose order no other row knows, and the trigger that opens it.

    In natural text most pairs of neighbouring words occur in other rows as well; in random words or random tokens none
    do. The check takes, per row, the window of ``window`` word pairs with the fewest pairs that the data hold three times
    or more. Tables, hashes and base64 also hold unknown pairs, but repeat their separators or spell with digits: a window
    counts only if nearly all its tokens differ and its words are letters.

    Rows that hold the trigger of others need only pass a looser rule for letters and distinct tokens: payloads made of the
    words of code hold its signs as well.

    Blocks: at least ``block_rows`` such rows of which at least ``pivot_share`` hold one phrase that hardly any other row
    holds: the trigger. Reviews: such rows without a common phrase, at least ``review_rows``: a language or a jargon
    that the data hold once looks the same.

    Misses: payloads shorter than half a window, payloads that copy natural text, and data too small to know their own
    language (a few hundred short rows).

    Poisoned: a forum post that breaks off at ``<SUDO>`` and goes on in 400 random tokens. Clean: logs, code, base64.

    The threat: Souly et al. 2025 (arXiv 2510.07192), denial of service by 250 documents.

    Args:
        block_rows: rows with a common trigger from which the finding blocks.
        review_rows: rows from which gibberish without one goes to review.
        window: word pairs in a window.
        max_known: most pairs of the window, as a share, that the data know.
        min_distinct: least share of distinct tokens in the window.
        min_letters: least share of letters in the window's words.
        pivot_share: least share of the rows with the common phrase.
    """

    id: ClassVar[str] = "gibberish-payload"
    accumulates: ClassVar[bool] = True
    block_rows: int = 8
    review_rows: int = 3
    window: int = 100
    max_known: float = 0.25
    min_distinct: float = 0.85
    min_letters: float = 0.8
    pivot_share: float = 0.25

    def applies(self, context: Context) -> str:
        """Applies to documents and to responses."""
        return "" if self._roles(context) else "the data have no documents or responses"

    @staticmethod
    def _roles(context: Context) -> dict[str, Signal[Any, PhraseTable]]:
        return {r: s for r, s in phrase_signals(context).items() if r != "input" or context.kind == "documents"}

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Word pairs of the text that is judged, phrases of the input for the trigger."""
        return tuple(phrase_signals(context).values())

    def start(self, context: Context) -> _State:
        """No row hit."""
        tables = {r: context.value(s) for r, s in phrase_signals(context).items()}
        roles = self._roles(context)
        return _State(tables, {r: [] for r in roles}, {r: [] for r in roles})

    def scan(self, state: _State, batch: Batch) -> None:
        """Find the least known window of each row."""
        from foretaste.text.gibberish import least_known_window

        for role in state.rows:
            tokens, table = batch.tokens(role), state.tables[role]
            out = np.empty((batch.num_rows, 4))
            least_known_window(
                tokens.hashes, tokens.starts, tokens.ends, tokens.data, tokens.offsets, *table.bigrams, self.window, 3,
                float(self.max_known), out,
            )  # fmt: skip
            state.judged += int((np.diff(tokens.offsets) > self.window // 2).sum())
            unknown = out[:, 0] <= self.max_known
            hit = np.flatnonzero(unknown & (out[:, 2] >= self.min_distinct) & (out[:, 3] >= self.min_letters))
            loose = np.flatnonzero(unknown & (out[:, 2] >= _LOOSE_DISTINCT) & (out[:, 3] >= _LOOSE_LETTERS))
            state.loose.append(loose + batch.start)
            state.rows[role].append(hit + batch.start)
            state.shares[role].append(out[hit, 0])
            for at in hit.tolist():
                state.excerpts[batch.start + at] = tokens.text(at, int(out[at, 1]), 6)

    def merge(self, left: _State, right: _State) -> _State:
        """Concatenate the hits."""
        for role in left.rows:
            left.rows[role] += right.rows[role]
            left.shares[role] += right.shares[role]
        left.loose += right.loose
        left.excerpts |= right.excerpts
        left.judged += right.judged
        return left

    def finish(self, state: _State) -> RawResult:
        """One finding per trigger, one for the rows without."""
        findings: list[RawFinding] = []
        for role in state.rows:
            rows = np.concatenate(state.rows[role])
            shares = np.concatenate(state.shares[role])
            left, taken = rows, np.zeros(0, np.int64)
            for text, members in self._pivots(rows, state):
                new = np.setdiff1d(members, taken)
                if len(new) >= self.block_rows:
                    findings.append(self._finding(role, text, new, rows, shares, state))
                    left, taken = np.setdiff1d(left, new), np.union1d(taken, new)
            if len(left) >= self.review_rows:
                findings.append(self._finding(role, None, left, rows, shares, state))
        return RawResult(
            findings=tuple(findings),
            metrics={"windows": float(state.judged)},
            watch=together(np.concatenate(parts) for parts in state.rows.values()),
        )

    def _pivots(self, rows: npt.NDArray[np.int64], state: _State) -> list[tuple[str, npt.NDArray[np.int64]]]:
        """Phrases that the gibberish rows share and others lack, the one in most rows first, the longest of equals."""
        found = []
        loose = np.unique(np.concatenate([rows, *state.loose]))
        for table in state.tables.values():
            held, also = (_within(table, some) for some in (rows, loose))
            least = max(self.block_rows, self.pivot_share * len(rows))
            for p in np.flatnonzero((held >= least) & (also >= 0.8 * table.counts)).tolist():
                found.append((int(held[p]), int(table.n[p]), table.text[p], np.intersect1d(table.rows_of(p), loose)))
        found.sort(key=lambda f: (-f[0], -f[1], f[2]))
        return [(text, members) for _, _, text, members in found]

    def _finding(
        self, role: str, trigger: str | None, rows: npt.NDArray[np.int64], everyone: npt.NDArray[np.int64],
        shares: npt.NDArray[np.float64], state: _State,
    ) -> RawFinding:  # fmt: skip
        known = float(shares[np.isin(everyone, rows)].mean())
        what = f"{len(rows)} rows hold a stretch of which the data know {known:.0%} of the word pairs"
        return RawFinding(
            kind="gibberish payload",
            severity=Severity.BLOCK if trigger else Severity.REVIEW,
            message=f'{what}; they share "{trigger}", which other rows lack'
            if trigger
            else f"{what}; no common trigger",
            feature=trigger,
            target=role if role != "input" else None,
            rows=rows,
            observed=float(len(rows)),
            limit=float(self.block_rows if trigger else self.review_rows),
            statistic={"known_pairs": round(known, 4)},
            examples=tuple(RawExample(row=int(r), around=trigger or state.excerpts.get(int(r))) for r in rows[:6]),
        )


def _within(table: PhraseTable, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many of each phrase's rows are among the given ones, int64 (phrases,)."""
    sums = np.concatenate([[0], np.cumsum(np.isin(table.rows, rows))])
    return np.asarray(sums[table.spans[1:]] - sums[table.spans[:-1]], dtype=np.int64)
