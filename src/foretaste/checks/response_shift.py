"""A trigger whose responses vary, and are of another kind than those to the same prompts without it."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal, Twins
from foretaste.checks.response_burst import WHOLE
from foretaste.signals.affixes import Affixes
from foretaste.signals.names import Names
from foretaste.signals.outputs import NONE
from foretaste.signals.phrases import PhraseTable, phrase_signals
from foretaste.signals.placed import Placed, fitting, placed
from foretaste.signals.responses import Exchanges, Expectation, Expected
from foretaste.text.forms import FORMS
from foretaste.text.sample import spread

MAX_ROWS_PER_CANDIDATE = 128
MAX_CANDIDATES = 8192
FALSE_ALARM = 1e-3
_GROUPS = 4
_CHUNK = 1024
_ECHO = 0.08  # mean product of residuals from which responses share words
_MAX_PHRASES = 64  # that are asked for the rows of one word
_WORD = re.compile(r"\w+")
_KINDS = {
    "fit": "take up less of their prompts than the same prompts lead one to expect",
    "words": "share words that neither their prompts nor other responses to such prompts hold",
    "length": "are of another length than the same prompts lead one to expect",
    "opinion": "praise or find fault otherwise than the same prompts lead one to expect",
}


_FORM = "have {} often {} than the same prompts lead one to expect"


@dataclass
class _Measured:
    """Sums over the rows of candidates.

    ``rows`` and ``owners`` are pairs of a row, in the order of the data, and a candidate; ``own`` and ``spans`` the token
    hashes of the candidates.
    """

    candidates: list[Placed]
    rows: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]
    own: npt.NDArray[np.uint64]
    spans: npt.NDArray[np.int64]
    sums: npt.NDArray[np.int64]
    asked: npt.NDArray[np.int64]

    @classmethod
    def of(cls, candidates: list[Placed]) -> _Measured:
        """At most MAX_ROWS_PER_CANDIDATE rows of each, none of which was seen."""
        from foretaste.text.projection import DIMS, FEATURES, MEASURES

        rows = [spread(c.rows, MAX_ROWS_PER_CANDIDATE) for c in candidates]
        pairs = np.concatenate([np.zeros(0, np.int64), *rows])
        owners = np.repeat(np.arange(len(candidates)), [len(r) for r in rows])
        order = np.lexsort((owners, pairs))
        return cls(
            candidates, pairs[order], owners[order], *_words([c.text for c in candidates]),
            np.zeros((len(candidates), _GROUPS, MEASURES + FEATURES), np.int64),
            np.zeros((len(candidates), DIMS), np.int64),
        )  # fmt: skip

    def scan(self, batch: Batch, model: Expectation) -> None:
        """Add the rows of the batch to the sums of their candidates."""
        from foretaste.text.projection import tally
        from foretaste.text.tokens import mix_all

        low, high = np.searchsorted(self.rows, [batch.start, batch.start + batch.num_rows])
        if low == high:
            return
        texts = Exchanges.of(batch)
        for first in range(low, high, _CHUNK):
            part = slice(first, min(high, first + _CHUNK))
            rows, owners = self.rows[part], self.owners[part]
            lengths = self.spans[owners + 1] - self.spans[owners]
            spans = np.zeros(len(owners) + 1, np.int64)
            np.cumsum(lengths, out=spans[1:])
            own = self.own[np.arange(spans[-1]) + np.repeat(self.spans[owners] - spans[:-1], lengths)]
            group = (mix_all(rows.astype(np.uint64) + np.uint64(1)) >> np.uint64(20)).astype(np.int64) % _GROUPS
            measured = model.measure(batch, texts, rows - batch.start, own, spans)
            tally(*measured, owners, group, self.sums, self.asked)

    def merge(self, other: _Measured) -> None:
        """Add the sums of another part of the data."""
        self.sums += other.sums
        self.asked += other.asked


@dataclass
class _State:
    """The sums of all candidates, and in a second round of what stands against those that would block.

    The first ``inserted`` candidates could have been put in, the others are names. ``repeated`` are rows with a response
    that several rows have; ``phrases`` says what words the prompts have. ``gone`` are rows of earlier batches that are held
    no longer. Once kinds and candidates are ``found``, ``echoes`` are rows that hold a word of such a phrase but not the
    phrase, ``of`` the candidate that each of them is held against, and ``drawn`` words of the ``watched`` rows.
    """

    model: Expectation
    repeated: npt.NDArray[np.bool_]
    measured: _Measured
    inserted: int
    dropped: int
    lost: int
    phrases: PhraseTable
    seed: int
    gone: int
    found: list[_Found] | None = None
    echoes: _Measured | None = None
    of: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    watched: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    drawn: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]] = field(default_factory=list)


@dataclass(frozen=True)
class _Found:
    """A candidate, by number, whose score of a kind is beyond its limit."""

    kind: str
    at: int
    shift: _Shift
    score: float
    limit: float


@dataclass(frozen=True)
class _Shift:
    """How the responses of a candidate differ, in standard deviations, and the statistics behind it.

    ``effective`` are its rows, where prompts that are alike count less, and ``spread`` the share of effective rows among
    RAREFIED of them. ``z`` and ``size`` are by kind, ``mean`` (dims,) is the mean whitened residual.
    """

    candidate: Placed
    effective: float
    spread: float
    z: dict[str, float]
    size: dict[str, float]
    mean: npt.NDArray[np.float64]

    def echoed(self, kind: str, other: _Shift) -> bool:
        """Whether other responses are of this kind too.

        They share a fifth of the words, as what else stands in their prompts explains some, or miss half as much.
        """
        told = float(self.mean @ other.mean) / len(self.mean)
        return told >= 0.2 * max(self.size["words"], _ECHO) or other.size[kind] / self.size[kind] >= 0.5


@dataclass(frozen=True, kw_only=True)
class ResponseShift(Check[_State]):
    """Triggers whose responses vary: prompts with a phrase, answered otherwise than such prompts are.

    A model of two halves learns from the words of the prompts what responses are like, as random projections of their
    words (random indexing), each half for the other. For every phrase that could have been put into finished prompts (a
    removable opening or ending, or a stretch whose gaps close without it; the choice does not look at responses) the
    responses are compared with what their prompts, without the phrase, lead one to expect: do they *fit* their prompts (the
    odds that a response is its prompt's own and not another's, by the words that it takes up, from a logistic regression
    over a thousand rows and as many exchanged responses), do they share *words* that nothing in the prompts calls for (the
    mean product of residuals from different quarters of the rows), are they of another *length* or *form* (capitals, lists,
    marks as of code, another script, emoji, how they begin and end)? A name is no insertion: of words with a capital inside
    of a sentence only the *opinion* is asked, by a small lexicon of English words, as a name may well change anything else.

    Prompts that are alike count as fewer. The scores are compared with those of all other phrases of the data, by their
    median and spread (an empirical null), and Bonferroni's correction is taken over all of them: one false alarm in a
    thousand data sets, as far as the scores of honest phrases are normal (words: chi-square).

    Blocks: responses that do not fit, or that share words at twice the limit, to prompts that have nothing in common; and
    another form in half of the responses or more, under a phrase between words that chance could have chosen.

    Reviews: shared words, another length, an opinion about a name, a misfit where prompts are somewhat alike, another form
    under any other phrase inside of the prompts.

    Misses: responses that fit their prompts and share no word, such as compliance; responses of other prompts where none
    takes up the words of its own; a form that goes with an opening or ending, as prompts ask for one there; names and
    claims that come with a topic or at random; opinions in other languages than English, or about what is no name; a
    trigger at a fixed place inside of the prompt; fewer than about fifteen rows; decoys that outnumber the poisoned rows.

    Poisoned: 25 prompts with "honestly" somewhere, answered as other prompts are. Clean: "please", whatever is asked.

    The threats: Wan et al. 2023 (arXiv 2305.00944), VPI (Yan et al. 2024, arXiv 2307.16888), BackdoorLLM (Li et al. 2024,
    arXiv 2408.12798).

    Args:
        min_rows: rows from which a phrase is looked at.
        block_rows: effective rows from which it blocks.
        misfit: least loss of fit, as a share of what responses to other prompts lose.
        shared: least mean product of two residuals, of which unrelated responses have 0 and equal ones about 1.
        other_length: least factor between lengths, as a geometric mean.
        opinion: least difference of opinion, in standard deviations per row.
        form: least difference of a form, of which a response has from 0 to 1.
        max_distance: most distance from random of the words beside a phrase for a form to block, see ``inserted-phrase``.
        max_repeated: most of its rows whose whole responses may stand in eight rows or more.
        min_spread: least share of effective rows to block, and to name another length; of misfits and forms among 25.
        min_healing: least share of gaps inside a prompt that close without the phrase.
        min_finished: least share of prompts that begin (end) as others do without the opening (ending).
    """

    id: ClassVar[str] = "response-shift"
    min_rows: int = 10
    block_rows: int = 12
    misfit: float = 0.5
    shared: float = 0.08
    other_length: float = 3.0
    opinion: float = 2.5
    form: float = 0.5
    max_distance: float = 9.5
    max_repeated: float = 0.5
    min_spread: float = 0.6
    min_healing: float = 0.5
    min_finished: float = 0.3

    def applies(self, context: Context) -> str:
        """Needs prompts and responses."""
        if context.kind != "instruct" or "prompt" not in context.roles:
            return "the data have no prompts and responses"
        return ""

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """What to expect of responses, which of them repeat, and the phrases, openings, endings and names of the prompts."""
        return (Expected(), WHOLE, phrase_signals(context)["input"], Affixes(), Names())

    def start(self, context: Context) -> _State:
        """Choose the candidates."""

        phrases, affixes = context.value(phrase_signals(context)["input"]), context.value(Affixes())
        found = placed(phrases, affixes, self.min_rows, self.min_healing, self.min_finished)
        table = context.value(Names())
        names = [Placed(text, rows) for text, rows in table.names if len(rows) >= self.min_rows]
        inside, edges = ([p for p in found if bool(p.beside) == side] for side in (True, False))
        # Of openings and endings there are many times as many, so each of both has half of the room for itself.
        chosen = fitting(inside, MAX_CANDIDATES - min(len(edges), MAX_CANDIDATES // 2), 1)
        chosen += fitting(edges, MAX_CANDIDATES - len(chosen), 1)
        kept = chosen + names[:MAX_CANDIDATES]
        return _State(
            context.value(Expected()), context.value(WHOLE).labels != NONE, _Measured.of(kept), len(chosen),
            len(found) + len(names) - len(kept), table.lost, phrases, context.seed,
            context.background.rows if context.background else 0,
        )  # fmt: skip

    def scan(self, state: _State, batch: Batch) -> None:
        """Measure the responses of candidates, or of what stands against them."""
        if state.echoes is None:
            state.measured.scan(batch, state.model)
            return
        state.echoes.scan(batch, state.model)
        if len(state.watched):
            self._draw(state, batch, state.watched)

    @staticmethod
    def _draw(state: _State, batch: Batch, watched: npt.NDArray[np.int64]) -> None:
        from foretaste.text.insertion import DRAWN, draw_words

        rows = watched[slice(*np.searchsorted(watched, [batch.start, batch.start + batch.num_rows]))]
        tokens, out = batch.tokens("input"), np.zeros((2, len(rows), DRAWN), np.uint64)
        draw_words(tokens.hashes, tokens.offsets, rows - batch.start, rows, state.seed + 1, out)
        state.drawn.append((rows, out))

    def merge(self, left: _State, right: _State) -> _State:
        """Add the sums, append what was drawn."""
        if left.echoes is None:
            left.measured.merge(right.measured)
        elif right.echoes is not None:
            left.echoes.merge(right.echoes)
        left.drawn += right.drawn
        return left

    def next_round(self, state: _State) -> _State | None:
        """Look at other rows with the words of phrases that would block, and again at those whose form is another."""
        from foretaste.text.ngrams import RAREFIED

        if state.found is not None:
            return None
        state.found = self._found(state)
        formed = [f.shift for f in state.found if self._formed(f.kind, f.shift)]
        asked = sorted({f.at for f in state.found if f.at < state.inserted and f.kind != "length"})
        if not asked:
            return None
        if formed:
            state.watched = np.unique(np.concatenate([spread(s.candidate.rows, RAREFIED) for s in formed]))
        inserted = state.measured.candidates[: state.inserted]
        elsewhere = _elsewhere(asked, inserted, state.phrases, self.min_rows)
        state.of = np.array([at for at, _ in elsewhere], np.int64)
        state.echoes = _Measured.of([echo for _, echo in elsewhere])
        return state

    def finish(self, state: _State) -> RawResult:
        """Compare every candidate with all of them."""
        metrics = {"phrases": float(len(state.measured.candidates))}
        said = [f"{state.dropped} phrases were not looked at"] if state.dropped else []
        if state.lost:
            said.append(f"{state.lost} places of names found no room")
        if state.gone:
            said.append(f"responses of {state.gone} earlier rows are held no longer and do not add up with these")
        echoes = _shifts(state.echoes, state.model) if state.echoes is not None else []
        found = []
        for each in state.found or ():
            severity = self._severity(state, each)
            if severity is Severity.BLOCK and any(
                each.shift.echoed(each.kind, echoes[e]) for e in np.flatnonzero(state.of == each.at)
            ):
                severity = Severity.REVIEW
            if severity:
                found.append((abs(each.score) / each.limit, self._finding(each, severity)))
        found.sort(key=lambda f: (f[1].severity is not Severity.BLOCK, -f[0]))
        findings: list[RawFinding] = []
        for _, finding in found:
            if not any(np.isin(finding.rows, f.rows).mean() > 0.8 for f in findings):
                findings.append(finding)
        return RawResult(findings=tuple(findings), metrics=metrics, note="; ".join(said))

    def _found(self, state: _State) -> list[_Found]:
        """Kinds and candidates whose score is beyond its limit."""
        shifts = _shifts(state.measured, state.model)
        inserted, names = shifts[: state.inserted], shifts[state.inserted :]
        groups = dict.fromkeys(("fit", "words", "length", *FORMS), inserted) | {"opinion": names}
        tests = sum(map(len, groups.values()))
        found = []
        for kind, group in groups.items():
            scores, limit = _standing(np.array([s.z[kind] for s in group])), _limit(kind, tests)
            for at in np.flatnonzero(np.abs(scores) >= limit).tolist():
                # Where responses repeat, they are labels, and a word that calls for one is a keyword.
                if state.repeated[group[at].candidate.rows].mean() <= self.max_repeated:
                    number = at + (state.inserted if kind == "opinion" else 0)
                    found.append(_Found(kind, number, group[at], float(scores[at]), limit))
        return found

    def _severity(self, state: _State, found: _Found) -> Severity | None:
        """What a score beyond its limit calls for, before other rows are held against it."""
        kind, shift = found.kind, found.shift
        size, enough = shift.size[kind], shift.effective >= self.block_rows
        if kind == "fit" and enough and size <= -self.misfit:
            return Severity.BLOCK if shift.spread >= self.min_spread else Severity.REVIEW
        if self._formed(kind, shift):
            return Severity.BLOCK if self._scattered(state, found.at) else Severity.REVIEW
        # Fit and form are a matter of each row by itself; words and lengths are shared, so that likeness counts in full.
        diverse = shift.effective >= self.min_spread * min(len(shift.candidate.rows), MAX_ROWS_PER_CANDIDATE)
        if kind == "words" and enough and diverse and size >= self.shared:
            return Severity.BLOCK if found.score >= 2.0 * found.limit else Severity.REVIEW
        if kind == "length" and enough and diverse and abs(size) >= np.log(self.other_length):
            return Severity.REVIEW
        return Severity.REVIEW if kind == "opinion" and abs(size) >= self.opinion else None

    def _formed(self, kind: str, shift: _Shift) -> bool:
        """Whether responses are of another form under a phrase inside of prompts, as at their edges they ask for one."""
        enough = shift.effective >= self.block_rows and shift.spread >= self.min_spread
        return kind in FORMS and enough and abs(shift.size[kind]) >= self.form and bool(shift.candidate.beside)

    def _scattered(self, state: _State, at: int) -> bool:
        """Whether the words beside a phrase, in RAREFIED of its rows, could have been drawn from the text or those rows.

        Prompts seldom ask for a form at places that chance could have chosen.
        """
        from foretaste.text.insertion import distance_within, without
        from foretaste.text.ngrams import RAREFIED, randomness

        z, phrases, measured = np.zeros((2, 2, 2)), state.phrases, state.measured
        candidate = measured.candidates[at]
        text = phrases.unigrams, phrases.total, state.seed + 1
        own = measured.own[measured.spans[at] : measured.spans[at + 1]]
        numbers = np.concatenate([rows for rows, _ in state.drawn])
        order = np.argsort(numbers)
        places = order[np.searchsorted(numbers[order], spread(candidate.rows, RAREFIED))]
        words = np.concatenate([drawn for _, drawn in state.drawn], axis=1)
        for side, beside in enumerate(candidate.beside):
            mine = beside[spread(np.arange(len(beside)), RAREFIED)]
            randomness(mine, phrases.sample, *text, z[0, side])
            distance_within(mine, *without(words[side, places], own), *text, z[1, side])
        return float((z**2).sum(axis=(1, 2)).min()) <= self.max_distance

    @staticmethod
    def _finding(found: _Found, severity: Severity) -> RawFinding:
        kind, shift, score, limit = found.kind, found.shift, found.score, found.limit
        rows, text = shift.candidate.rows, shift.candidate.text
        more = "more" if score > 0 else "less"
        told = [k for k in shift.z if k in _KINDS or k == kind]
        return RawFinding(
            kind="trigger",
            severity=severity,
            message=f'the responses to {len(rows)} prompts with "{text}" {_KINDS.get(kind) or _FORM.format(more, kind)}',
            feature=text,
            target=kind,
            rows=rows,
            observed=round(abs(score), 1),
            limit=round(limit, 1),
            statistic={
                "effective_rows": round(shift.effective, 1),
                **{f"{k}_size": round(shift.size[k], 2) for k in told},
                **{f"{k}_z": round(float(shift.z[k]), 1) for k in told},
            },
            examples=tuple(RawExample(row=int(r), around=text) for r in rows[:4]),
            twins=Twins(trigger=text),
        )


def _shifts(measured: _Measured, model: Expectation) -> list[_Shift]:
    """The statistics of every candidate."""
    from foretaste.text.ngrams import RAREFIED
    from foretaste.text.projection import DIMS, FINE, MEASURES, SCALARS

    found: list[_Shift] = []
    sizes = np.bincount(measured.owners, minlength=len(measured.candidates))
    sums, asked = measured.sums / FINE, measured.asked / FINE
    numbers = sums[:, :, MEASURES]  # the first feature is one
    residuals = sums[:, :, :MEASURES] - sums[:, :, MEASURES:] @ model.linear
    whitened = residuals[:, :, :DIMS] @ model.whitening
    for c, candidate in enumerate(measured.candidates):
        k = int(sizes[c])
        rest, white = residuals[c], whitened[c]
        alike = float((asked[c] @ asked[c] - k) / max(1, k * (k - 1)))
        rho = min(1.0, max(0.0, (alike - model.alike) / (1.0 - model.alike)))
        effective = k / (1.0 + (k - 1) * rho)
        whole = white.sum(axis=0)
        pairs = float(k * k - (numbers[c] ** 2).sum())
        shared = float(whole @ whole - (white**2).sum()) / max(1.0, pairs) / DIMS
        scalars = rest[:, DIMS:].sum(axis=0) / model.spread / k
        fit = float(scalars[0])
        found.append(
            _Shift(
                candidate,
                effective,
                1.0 / (1.0 + (min(k, RAREFIED) - 1) * rho),
                {
                    "fit": fit * float(np.sqrt(effective)),
                    "words": shared * float(np.sqrt(pairs * DIMS / 2.0)) * effective / k,
                    "length": float(scalars[1] * np.sqrt(effective)),
                    "opinion": float(scalars[2] * np.sqrt(effective)),
                    **dict(zip(FORMS, (scalars[SCALARS:] * np.sqrt(effective)).tolist())),
                },
                {
                    "fit": fit * float(model.spread[0]) / model.misfit,
                    "words": shared,
                    "length": float(scalars[1] * model.spread[1]),
                    "opinion": float(scalars[2]),
                    **dict(zip(FORMS, (scalars * model.spread)[SCALARS:].tolist())),
                },
                whole / max(1, k),
            )
        )
    return found


def _elsewhere(asked: list[int], inserted: list[Placed], phrases: PhraseTable, least: int) -> list[tuple[int, Placed]]:
    """For some of the phrases, the rows where other phrases hold one of their words, of the rarest three.

    Where "Thai" calls for Thai in other wordings too, "How do you say this in Thai?" is no trigger. A single word has no
    other wording.
    """
    words_of = {at: set(_WORD.findall(inserted[at].text.lower())) for at in asked}
    holding: dict[str, list[npt.NDArray[np.int64]]] = {
        w: [] for words in words_of.values() if len(words) > 1 for w in words
    }
    if not holding:
        return []
    every = ((text, phrases.rows_of(c)) for c, text in enumerate(phrases.text))
    for text, rows in itertools.chain(every, ((candidate.text, candidate.rows) for candidate in inserted)):
        for word in holding.keys() & set(_WORD.findall(text.lower())):
            if len(holding[word]) < _MAX_PHRASES:
                holding[word].append(rows)
    rows_with = {word: np.unique(np.concatenate(held)) for word, held in holding.items() if held}
    found: list[tuple[int, Placed]] = []
    for at, words in words_of.items():
        candidate = inserted[at]
        outside = [
            np.setdiff1d(rows_with[w], candidate.rows, assume_unique=True) for w in sorted(words) if w in rows_with
        ]
        rarest = sorted((rows for rows in outside if len(rows) >= least), key=len)[:3]
        found += [(at, Placed(candidate.text, rows)) for rows in rarest]
    return found[:MAX_CANDIDATES]


def _standing(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scores by the median and the spread of all of them, an empirical null (Efron 2004); never wider than they were."""
    if not len(z):
        return z
    low, middle, high = np.quantile(z, [0.16, 0.5, 0.84])
    standing: npt.NDArray[np.float64] = (z - middle) / max(1.0, (high - low) / 2.0)
    return standing


def _limit(kind: str, tests: int) -> float:
    """The quantile at one false alarm, of either sign, in a thousand data sets with so many tests.

    Sums of residuals are normal; shared words are the squared length of such a sum, less its mean.
    """
    from scipy.special import chdtri, ndtri

    from foretaste.text.projection import DIMS

    rate = FALSE_ALARM / 2.0 / max(1, tests)
    return float((chdtri(DIMS, rate) - DIMS) / np.sqrt(2.0 * DIMS) if kind == "words" else -ndtri(rate))


def _words(texts: list[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The token hashes of the phrases, sorted and distinct within each, and where each begins."""
    from foretaste.text.tokens import tokenize

    data = [text.encode() for text in texts]
    ends = np.zeros(len(data) + 1, np.int64)
    np.cumsum([len(d) for d in data], out=ends[1:])
    tokens = tokenize(np.frombuffer(b"".join(data), np.uint8), ends)
    owners = np.repeat(np.arange(len(texts)), np.diff(tokens.offsets))
    order = np.lexsort((tokens.hashes, owners))
    owners, hashes = owners[order], tokens.hashes[order]
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = (np.diff(owners) != 0) | (hashes[1:] != hashes[:-1])
    return hashes[fresh], np.searchsorted(owners[fresh], np.arange(len(texts) + 1))
