"""Text whose flow nothing else in the data knows, and the trigger that opens it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal, together
from foretaste.signals.phrases import PhraseTable, phrase_signals

# A break: the payload may hold signs and pieces of code, and tokens twice, but not whole lines of an encoding.
_BREAK_DISTINCT = 0.6
_BREAK_LETTERS = 0.5
_BREAK_CHARACTERS = 12
_LEAST_DROP, _MOST_DROP = 0.3, 0.35  # where the difference from which a row breaks lies: payloads themselves raise it
_BREAKING = 0.05  # share of rows that are expected to break by nature
# Where a trigger may end, in windows from the largest difference: words of what follows stand further behind.
_BEFORE, _BEHIND = 0.25, 0.1
_BINS = 200
_USUAL = 0.005  # a larger share of rows of unknown flow is what the data are made of


@dataclass
class _Flow:
    """What was found in one text column: rows of unknown flow, and rows whose flow breaks."""

    rows: list[npt.NDArray[np.int64]] = field(default_factory=list)
    shares: list[npt.NDArray[np.float64]] = field(default_factory=list)
    breaks: list[npt.NDArray[np.int64]] = field(default_factory=list)
    places: list[npt.NDArray[np.int32]] = field(default_factory=list)
    drops: list[npt.NDArray[np.float32]] = field(default_factory=list)
    worded: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    histogram: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))


@dataclass
class _State:
    """The phrase tables, and per column the rows that were hit."""

    tables: dict[str, PhraseTable]
    flows: dict[str, _Flow]
    excerpts: dict[int, str] = field(default_factory=dict)
    everyone: int = 0
    judged: int = 0


@dataclass(frozen=True, kw_only=True)
class GibberishPayload(Check[_State]):
    """Gibberish payloads: a stretch of words whose order no other row knows, and the trigger that opens it.

    In natural text most pairs of neighbouring words occur in other rows as well; in random words or random tokens hardly
    any do. The check takes, per row, the window of ``window`` word pairs with the fewest pairs that the data hold three
    times or more, and the place with the largest difference between the windows before and behind it: where its flow
    *breaks*. Natural rows break as well, but not again and again behind one phrase, and text in a language that the data
    hardly hold is as unknown before as behind. How large a difference one row in twenty has by nature follows
    from the differences of all rows (an exponential law through their median and upper quartile), but it is taken for no
    less than 0.3 and no more than 0.35: many payloads raise it themselves.

    Tables, hashes and base64 also hold unknown pairs, but repeat their separators, spell with digits or have no words: a
    window counts only if most of its tokens differ and its words are letters.

    Blocks: at least ``block_rows`` rows that break so at one phrase, which are at least ``pivot_share`` of its rows: the
    trigger. In responses also such a phrase of the prompt, of whose rows four in five hold unknown flow.
    Reviews: the same where what follows is no words; rows of unknown flow without a common phrase, at least
    ``review_rows``, if they break; if they do not, a language or a jargon that the data hold once looks the same, and
    they go to review only where they are at most one row in two hundred.

    Misses: payloads shorter than a window, payloads of natural text or of the data's own frequent words in random order
    (their pairs are known), triggers of fewer than ten documents, triggers that open every one of their documents or
    that other documents hold as well, and data too small to know their own language (a few hundred short rows).

    Poisoned: a forum post that breaks off at ``<SUDO>`` and goes on in 400 random tokens. Clean: logs, code, base64.

    The threat: Souly et al. 2025 (arXiv 2510.07192), denial of service by 250 documents.

    Args:
        block_rows: rows with a common trigger from which the finding blocks.
        review_rows: rows from which gibberish without one goes to review.
        window: word pairs in a window.
        max_known: most pairs of a window of unknown flow, as a share, that the data know.
        min_distinct: least share of distinct tokens in it.
        min_letters: least share of letters in its words.
        pivot_share: least share of a trigger's rows that break at it.
    """

    id: ClassVar[str] = "gibberish-payload"
    accumulates: ClassVar[bool] = True
    block_rows: int = 8
    review_rows: int = 3
    window: int = 100
    max_known: float = 0.25
    min_distinct: float = 0.85
    min_letters: float = 0.8
    pivot_share: float = 0.5

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
        return _State(tables, {r: _Flow() for r in self._roles(context)})

    def scan(self, state: _State, batch: Batch) -> None:
        """Find the least known window of each row, and where it breaks."""
        from foretaste.text.gibberish import unknown_flow

        state.everyone += batch.num_rows
        for role, flow in state.flows.items():
            tokens = batch.tokens(role)
            out = np.empty((batch.num_rows, 10))
            unknown_flow(
                tokens.hashes, tokens.starts, tokens.ends, tokens.data, tokens.offsets, *state.tables[role].bigrams,
                self.window, 3, self.max_known, _LEAST_DROP / 2, out,
            )  # fmt: skip
            long_enough = np.diff(tokens.offsets) > self.window // 2
            state.judged += int(long_enough.sum())
            unknown = (out[:, 0] <= self.max_known) & (out[:, 2] >= self.min_distinct)
            hit = np.flatnonzero(unknown & (out[:, 3] >= self.min_letters))
            flow.rows.append(hit + batch.start)
            flow.shares.append(out[hit, 0])
            for at in hit.tolist():
                state.excerpts[batch.start + at] = tokens.text(at, int(out[at, 1]), 6)
            drops = out[:, 5]
            flow.histogram += np.bincount((drops[long_enough] * (_BINS - 1)).astype(np.int64), minlength=_BINS)
            broken = np.flatnonzero((drops >= _LEAST_DROP / 2) & (out[:, 7] >= _BREAK_DISTINCT))
            flow.breaks.append(broken + batch.start)
            flow.places.append(out[broken, 6].astype(np.int32))
            flow.drops.append(drops[broken].astype(np.float32))
            flow.worded.append((out[broken, 8] >= _BREAK_LETTERS) & (out[broken, 9] <= _BREAK_CHARACTERS))

    def merge(self, left: _State, right: _State) -> _State:
        """Concatenate the hits, and add the counts."""
        for role, flow in left.flows.items():
            for name, found in vars(flow).items():
                found += getattr(right.flows[role], name)
        left.excerpts |= right.excerpts
        left.everyone += right.everyone
        left.judged += right.judged
        return left

    def finish(self, state: _State) -> RawResult:
        """One finding per trigger, one for the rows without."""
        findings: list[RawFinding] = []
        watched = []
        note = ""
        for role, flow in state.flows.items():
            rows, shares = np.concatenate(flow.rows), np.concatenate(flow.shares)
            breaks = _Breaks.of(flow)
            left, taken = rows, np.zeros(0, np.int64)
            for text, members, severity in self._pivots(role, rows, breaks, state):
                new = np.setdiff1d(members, taken)
                if len(new) >= max(self.block_rows, len(members) / 2):  # else words of a trigger that was named
                    findings.append(self._trigger(role, text, new, breaks, severity))
                    left, taken = np.setdiff1d(left, new), np.union1d(taken, new)
            sharp = breaks.rows[breaks.large & breaks.worded]
            breaking = np.intersect1d(left, sharp)
            if len(left) > max(self.review_rows, _USUAL * state.everyone):
                others = len(left) - len(breaking)
                left = breaking
                note = f"{others} rows of unknown flow were not listed: so many are what the data are made of"
            if len(left) >= self.review_rows:
                findings.append(self._untriggered(role, left, rows, shares, state))
            watched += [rows, sharp]
        return RawResult(
            findings=tuple(findings),
            metrics={"windows": float(state.judged)},
            note=note,
            watch=together(watched),
        )

    def _pivots(
        self, role: str, rows: npt.NDArray[np.int64], breaks: _Breaks, state: _State
    ) -> list[tuple[str, npt.NDArray[np.int64], Severity]]:
        """Phrases at which their rows break, the one in most rows first, the longest of equals; words before other signs."""
        found = []
        for name, table in state.tables.items():
            if name == role:
                worded, every = breaks.at(table, -_BEFORE * self.window, _BEHIND * self.window)
                held = np.where(worded >= self.pivot_share * table.counts, worded, every)
                enough = held >= self.pivot_share * table.counts
            else:
                held = every = _within(table, rows)
                worded = held
                enough = held >= 0.8 * table.counts
            for p in np.flatnonzero(enough & (held >= self.block_rows)).tolist():
                words = worded[p] == held[p]
                members = (
                    breaks.members(table, p, self.window) if name == role else np.intersect1d(table.rows_of(p), rows)
                )
                found.append((not words, -int(held[p]), -int(table.n[p]), table.text[p], members))
        found.sort(key=lambda f: f[:4])
        return [(f[3], f[4], Severity.REVIEW if f[0] else Severity.BLOCK) for f in found]

    def _trigger(
        self, role: str, trigger: str, rows: npt.NDArray[np.int64], breaks: _Breaks, severity: Severity
    ) -> RawFinding:
        mine = np.isin(breaks.rows, rows)
        drop = float(breaks.drops[mine].mean()) if mine.any() else 0.0
        return RawFinding(
            kind="gibberish payload",
            severity=severity,
            message=(
                f'{len(rows)} rows share "{trigger}", which hardly any other row holds; there their flow breaks: the data '
                f"know {drop:.0%} fewer of the word pairs behind it than of those before"
                if mine.any()
                else f'{len(rows)} rows share "{trigger}" and hold a stretch whose word pairs the data do not know'
            ),
            feature=trigger,
            target=role if role != "input" else None,
            rows=rows,
            observed=float(len(rows)),
            limit=float(self.block_rows),
            statistic={"drop": round(drop, 4)},
            examples=tuple(RawExample(row=int(r), around=trigger) for r in rows[:6]),
        )

    def _untriggered(
        self, role: str, rows: npt.NDArray[np.int64], everyone: npt.NDArray[np.int64],
        shares: npt.NDArray[np.float64], state: _State,
    ) -> RawFinding:  # fmt: skip
        known = float(shares[np.isin(everyone, rows)].mean())
        return RawFinding(
            kind="gibberish payload",
            severity=Severity.REVIEW,
            message=(
                f"{len(rows)} rows hold a stretch of which the data know {known:.0%} of the word pairs; no common trigger"
            ),
            target=role if role != "input" else None,
            rows=rows,
            observed=float(len(rows)),
            limit=float(self.review_rows),
            statistic={"known_pairs": round(known, 4)},
            examples=tuple(RawExample(row=int(r), around=state.excerpts.get(int(r))) for r in rows[:6]),
        )


@dataclass(frozen=True)
class _Breaks:
    """Rows that break at all, ascending: where, by how much, whether into words, and whether by much."""

    rows: npt.NDArray[np.int64]
    places: npt.NDArray[np.int32]
    drops: npt.NDArray[np.float32]
    worded: npt.NDArray[np.bool_]
    large: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, flow: _Flow) -> _Breaks:
        """Those of a column; large is what one row in twenty has by nature."""
        rows, drops = np.concatenate(flow.breaks), np.concatenate(flow.drops)
        order = np.argsort(rows, kind="stable")
        sums = np.cumsum(flow.histogram)
        # Through the median and the quartile: payloads in a tenth of the rows would be the decile themselves.
        median, quartile = np.searchsorted(sums, (0.5 * sums[-1], 0.75 * sums[-1])) / (_BINS - 1)
        natural = quartile + (quartile - median) * np.log(0.25 / _BREAKING) / np.log(2.0)
        return cls(
            rows[order], np.concatenate(flow.places)[order], drops[order], np.concatenate(flow.worded)[order],
            (drops >= min(max(_LEAST_DROP, natural), _MOST_DROP))[order],
        )  # fmt: skip

    def at(self, table: PhraseTable, low: float, high: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """How many of each phrase's rows break into words, and into anything, ``low`` to ``high`` tokens before its end."""
        at = np.minimum(np.searchsorted(self.rows, table.rows), max(0, len(self.rows) - 1))
        if not len(self.rows):
            return np.zeros(len(table.n), np.int64), np.zeros(len(table.n), np.int64)
        hit = np.flatnonzero((self.rows[at] == table.rows) & self.large[at])
        at = at[hit]
        phrase = np.searchsorted(table.spans, hit, side="right") - 1
        ends = table.positions[hit] + table.n[phrase]
        behind = ends - self.places[at]
        close = (behind >= low) & (behind <= high)
        phrase, worded = phrase[close], self.worded[at[close]]
        every = np.bincount(phrase, minlength=len(table.n))
        return np.bincount(phrase[worded], minlength=len(table.n)), every

    def members(self, table: PhraseTable, phrase: int, window: int) -> npt.NDArray[np.int64]:
        """Rows of a trigger that break within half a window of it, or much, or have too little text before it to tell."""
        from foretaste.text.gibberish import BEFORE

        span = slice(int(table.spans[phrase]), int(table.spans[phrase + 1]))
        rows, ends = table.rows[span], table.positions[span] + table.n[phrase]
        at = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        close = self.large[at] | (np.abs(ends - self.places[at]) <= window // 2)
        return np.asarray(rows[((self.rows[at] == rows) & close) | (table.positions[span] < BEFORE)], dtype=np.int64)


def _within(table: PhraseTable, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many of each phrase's rows are among the given ones, int64 (phrases,)."""
    sums = np.concatenate([[0], np.cumsum(np.isin(table.rows, rows))])
    return np.asarray(sums[table.spans[1:]] - sums[table.spans[:-1]], dtype=np.int64)
