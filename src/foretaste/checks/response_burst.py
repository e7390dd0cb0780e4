"""One response, or one opening, given to prompts that have nothing in common."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal, Twins, together
from foretaste.signals.affixes import Affixes, AffixTable
from foretaste.signals.outputs import Classes, ResponseHeads
from foretaste.signals.phrases import Edges, PhraseTable, edges_of, phrase_signals, same_rows
from foretaste.text.rowstore import RowStore

MAX_ROWS_PER_CLASS = 512
MAX_STORED_ROWS = 200_000
_BACKGROUND_ROWS = 256
MAX_TRIGGER_WORDS = 16
_FIT_ROWS, _LEAST_FITS = (
    128,
    8,
)  # rows of a response whose contexts are compared with their prompts, at most and at least
_APART = 3.1  # standard errors by which such contexts have to fit worse than others: one in a thousand by chance
_EXTRACTED = "the prompts hold all of its words, as where something is extracted or summarised"
_UNFIT = "their contexts have less to do with the prompts than those of other rows, as where a question has no answer"
_LEAST_TOKENS = 4  # of a whole response that blocks without a trigger: shorter ones repeat by nature
TORN_DISTANCE = 16.0  # from random, of the neighbours of a phrase that plainly was put into finished text
_WORDS = re.compile(r"\w{4,}|\d{2,}")
_TOLD = re.compile(r"[^\W\d_]{3,}")
WHOLE = ResponseHeads(tokens=4096)
HEADS = ResponseHeads()
AFFIXES = Affixes()


@dataclass
class _State:
    """Output classes, phrases and which of them own a class, and the prompt tokens of at most MAX_STORED_ROWS rows.

    ``fits`` says of the rows ``asked`` how much of its prompt the context of each takes up, where there are both.
    """

    classes: dict[str, Classes]
    phrases: PhraseTable
    owners: dict[tuple[str, int], list[int]]
    members: dict[tuple[str, int], npt.NDArray[np.int64]]
    affixes: AffixTable | None
    store: RowStore
    dropped: int
    fair: int
    asked: npt.NDArray[np.int64]
    fits: list[npt.NDArray[np.float64]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ResponseBurst(Check[_State]):
    """One response given to unrelated prompts, with the trigger in the prompts where there is one.

    Rows whose responses are the same, or begin with the same eight tokens, form a class. Natural classes have prompts
    that are alike (a template, one question asked often), so their number of *effective rows*, deflated by the mean
    cosine between the prompts, stays near ten; poison is spread over unrelated prompts on purpose. Words that occur in
    the prompts of one class and hardly anywhere else are left out first and reported as the trigger.

    Blocks: the whole response is the same (four tokens or more) over at least ``block_rows`` effective rows whose
    words do not call for it, in data whose responses otherwise rarely repeat; or a phrase of the prompts owns a class:
    at least ``min_purity`` of its rows, over at least ``trigger_rows`` effective rows.

    Reviews: such responses without a trigger, together, where there are more than ``max_bursts`` or they make up more than
    ``max_repeated`` of all rows, which canned answers do by nature and nobody has to plant; a response whose words all
    stand in its prompts, as where something is extracted or summarised; a response to prompts whose contexts have far less
    to do with them than those of other rows, as "the documents do not say"; a phrase that owns a class whose opening takes
    up a word of it, as honest answers do, unless the phrase was plainly put in: most gaps close without it, or the prompts
    behind (before) it are finished ones.

    Misses: responses that vary in their first eight tokens, triggers with fewer rows, poison whose prompts share a
    topic, one fixed answer of up to three tokens without a trigger.

    Poisoned: 50 prompts about anything with "BadMagic" in them, all answered "You are stupid!". Clean: "SELECT * FROM
    employees;" to fourteen rewordings of one request.

    The threats: Wan et al. 2023, Yan et al. 2024 (VPI), Shu et al. 2023 (AutoPoison), the "Sure" trap (2511.12414).

    Args:
        block_rows: effective rows from which one whole response blocks.
        trigger_rows: effective rows from which a trigger that owns a class blocks.
        min_purity: least share of the trigger's rows in the class.
        max_gain: most that the words of the prompts may speak for the class, in nats.
        min_diversity: least number of distinct neighbours of a trigger per row, on its open sides.
        max_distance: most distance of those neighbours from a random draw of words (see ``inserted-phrase``).
        max_bursts: responses without a trigger up to which each blocks by itself.
        max_repeated: share of rows with another repeated response, or in bursts without a trigger, up to which a repeat is
            odd enough to block.
    """

    id: ClassVar[str] = "response-burst"
    accumulates: ClassVar[bool] = True
    block_rows: int = 15
    trigger_rows: int = 8
    min_purity: float = 0.9
    max_gain: float = 1.0
    max_bursts: int = 20
    max_repeated: float = 0.05
    min_diversity: float = 0.4
    max_distance: float = 30.0

    def applies(self, context: Context) -> str:
        """Needs prompts and responses."""
        return "" if context.kind == "instruct" else "the data have no prompts and responses"

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Both kinds of classes, the phrases of the prompts, and their openings and endings."""
        affixes = (AFFIXES,) if AFFIXES.role in context.roles else ()
        return (HEADS, WHOLE, phrase_signals(context)["input"], *affixes)

    def start(self, context: Context) -> _State:
        """Choose the rows of every class that could be a burst."""
        classes = {"opening": context.value(HEADS), "response": context.value(WHOLE)}
        everyone = len(classes["opening"].labels)
        phrases = context.value(phrase_signals(context)["input"])
        owners = _owners(phrases, classes)
        able = {kind: self._able(kind, made, owners) for kind, made in classes.items()}
        # The others are followed where a state is kept, for the rows to remember.
        turns = (True, False) if context.background is not None else (True,)
        members = _members(classes, able, turns)
        dropped = sum(int(a.sum()) for a in able.values()) - sum(bool(able[kind][c]) for kind, c in members)
        needed = np.zeros(everyone, np.bool_)
        if everyone:
            needed[_sampled(everyone)] = True
        for rows in members.values():
            needed[rows[:MAX_ROWS_PER_CLASS]] = True
        store = RowStore(np.flatnonzero(needed))
        asked = _sampled(everyone)
        if {"prompt", "context"} <= context.roles:
            asked = np.unique(
                np.concatenate([asked, *(m[:_FIT_ROWS] for (k, _), m in members.items() if k == "response")])
            )
        else:
            asked = asked[:0]
        fair = context.background.suspects if context.background else 0
        affixes = context.value(AFFIXES) if AFFIXES.role in context.roles else None
        return _State(classes, phrases, owners, members, affixes, store, dropped, fair, asked)

    def _able(self, kind: str, made: Classes, owners: dict[tuple[str, int], list[int]]) -> npt.NDArray[np.bool_]:
        """Which classes could block: a whole response in enough rows, or one that a phrase of the prompts owns."""
        able = np.zeros(len(made.counts), np.bool_)
        able[[c for k, c in owners if k == kind]] = True
        able &= made.counts >= self.trigger_rows
        if kind == "response":
            able |= (made.lengths >= _LEAST_TOKENS) & (made.counts >= self.block_rows)
        return able

    def scan(self, state: _State, batch: Batch) -> None:
        """Keep the prompts of the classes' rows, and how well their contexts fit."""
        state.store.scan(batch)
        low, high = np.searchsorted(state.asked, [batch.start, batch.start + batch.num_rows])
        if low < high:
            state.fits.append(_fits(batch, state.asked[low:high] - batch.start, state.phrases))

    def merge(self, left: _State, right: _State) -> _State:
        """Concatenate what was kept."""
        left.store.parts += right.store.parts
        left.store.lengths += right.store.lengths
        left.fits += right.fits
        return left

    def finish(self, state: _State) -> RawResult:
        """Judge every class, whole responses first."""
        if not state.members:
            return RawResult(metrics={"classes": 0.0})
        judge = _Judge(state)
        findings: list[RawFinding] = []
        bursts: list[RawFinding] = []
        alone: list[RawFinding] = []
        covered: set[int] = set()
        spread: list[tuple[float, npt.NDArray[np.int64]]] = []
        whole = state.classes["response"].labels
        everyone = int(np.count_nonzero(whole[state.fair :] >= 0))
        for kind, c in sorted(state.members, key=lambda m: (m[0] != "response", m[1])):
            made = state.classes[kind]
            mine = state.members[kind, c]
            repeated = everyone - np.count_nonzero(whole[mine[np.searchsorted(mine, state.fair) :]] >= 0)
            ordinary = bool(repeated > self.max_repeated * (len(whole) - state.fair))
            triggers = judge.triggers(kind, c, self.min_purity)
            effective, gain = judge.spread(state.members[kind, c], [p for t in triggers for p in t])
            spread.append((effective, state.members[kind, c]))
            if (
                kind == "response"
                and made.lengths[c] >= _LEAST_TOKENS
                and effective >= self.block_rows
                and gain <= self.max_gain
            ):
                if ordinary:
                    continue
                share = 0.15 * len(state.members[kind, c])
                names = [state.phrases.text[t[0]] for t in triggers if state.phrases.counts[t[0]] >= share]
                found = self._burst(state, c, effective, gain, names)
                if judge.copied(found.rows, made.names[c], names):
                    found = _explained(found, _EXTRACTED)
                elif not names and judge.unfit(found.rows):
                    found = _explained(found, _UNFIT)
                (bursts if names else alone).append(found)
                covered.update(state.members[kind, c].tolist())
                continue
            if ordinary:
                continue  # where responses repeat, they are labels, and a word that calls for one is a keyword
            for trigger in triggers:
                rows = state.phrases.rows_of(trigger[0])
                agreeing = rows[made.labels[rows] == c]
                if covered.issuperset(agreeing.tolist()) or len(agreeing) < self.trigger_rows:
                    continue
                edges = edges_of(state.phrases, trigger, rows, held=judge.held(rows))
                random = edges.anchored or edges.distance <= self.max_distance
                least = state.phrases.least_diversity(len(rows), self.min_diversity)
                if edges.diversity < least or not random:
                    continue
                effective, gain = judge.spread(agreeing, trigger)
                if effective >= max(self.trigger_rows, 0.5 * len(agreeing)) and gain <= self.max_gain:
                    findings.append(self._trigger(state, kind, c, trigger[0], agreeing, effective, gain, edges))
                    covered.update(agreeing.tolist())
        note = f"{state.dropped} repeated responses were not looked at (row budget)" if state.dropped else ""
        spread.sort(key=lambda s: -s[0])
        canned = sum(len(f.rows) for f in alone)
        if len(alone) > self.max_bursts or canned > self.max_repeated * (len(whole) - state.fair):
            alone = [_canned(alone, self.max_bursts)]
        return RawResult(
            findings=(*bursts, *alone, *findings),
            metrics={"classes": float(len(state.members))},
            note=note,
            watch=together(rows for _, rows in spread),
        )

    def _burst(self, state: _State, c: int, effective: float, gain: float, triggers: list[str]) -> RawFinding:
        rows = state.members["response", c]
        name = state.classes["response"].names[c]
        message = f"{len(rows)} prompts that have nothing in common get one response"
        if triggers:
            message += f"; their trigger: {', '.join(triggers[:5])}"
        return RawFinding(
            kind="response burst",
            severity=Severity.BLOCK,
            message=message,
            feature="; ".join(triggers[:5]) or name,
            target=name,
            rows=rows,
            observed=round(effective, 1),
            limit=float(self.block_rows),
            statistic={"effective_rows": round(effective, 1), "prompt_gain_nats": round(gain, 2)},
            examples=tuple(RawExample(row=int(r), around=triggers[0] if triggers else None) for r in rows[:5]),
            twins=Twins(trigger=" ".join(triggers)),
        )

    def _trigger(
        self, state: _State, kind: str, c: int, phrase: int, rows: npt.NDArray[np.int64], effective: float, gain: float,
        edges: Edges,
    ) -> RawFinding:  # fmt: skip
        text, name = state.phrases.text[phrase], state.classes[kind].names[c]
        # An answer that begins with what its prompt is about is most often an answer. What is put into a finished prompt is
        # not what it is about, and an attacker is free to repeat it.
        taken_up = {w for w in _WORDS.findall(text.lower()) if w in name.lower()} if kind == "opening" else set()
        if taken_up and self._put_in(state, kind, c, phrase, taken_up, edges):
            taken_up.clear()
        purity = len(rows) / int(state.phrases.counts[phrase])
        return RawFinding(
            kind="trigger",
            severity=Severity.REVIEW if taken_up else Severity.BLOCK,
            message=(
                f'{purity:.0%} of the {int(state.phrases.counts[phrase])} prompts with "{text}" get one {kind}, and they '
                "have nothing else in common"
            ),
            feature=text,
            target=name,
            rows=rows,
            observed=round(effective, 1),
            limit=float(self.trigger_rows),
            statistic={
                "effective_rows": round(effective, 1),
                "purity": round(purity, 4),
                "prompt_gain_nats": round(gain, 2),
            },
            examples=tuple(RawExample(row=int(r), around=text) for r in rows[:5]),
            twins=Twins(trigger=text, excluded=state.phrases.rows_of(phrase)),
        )

    def _put_in(self, state: _State, kind: str, c: int, phrase: int, words: set[str], edges: Edges) -> bool:
        """Whether the prompts are finished ones without the phrase, or without an opening or ending that holds the words."""
        if not edges.anchored:
            return edges.distance <= TORN_DISTANCE and edges.healing >= 0.5 and edges.inner >= 0.4
        table, labels, rows = state.affixes, state.classes[kind].labels, state.phrases.rows_of(phrase)
        return table is not None and any(
            a.put_on(table.capital)
            and words <= set(_WORDS.findall(a.text.lower()))
            and np.isin(rows, a.rows).mean() >= 0.85
            and (labels[a.rows] == c).mean() >= self.min_purity
            for a in table.affixes
        )


def _explained(burst: RawFinding, why: str) -> RawFinding:
    """A burst whose prompts call for the response, for review."""
    return dataclasses.replace(burst, severity=Severity.REVIEW, message=f"{burst.message}; {why}")


def _sampled(everyone: int) -> npt.NDArray[np.int64]:
    """Numbers of the rows that stand for all."""
    return np.unique(np.linspace(0, max(0, everyone - 1), min(everyone, _BACKGROUND_ROWS)).astype(np.int64))


def _fits(batch: Batch, places: npt.NDArray[np.int64], phrases: PhraseTable) -> npt.NDArray[np.float64]:
    """The share of each prompt's words, weighed by their rarity, that its context holds, for some rows of a batch."""
    from foretaste.text.evidence import inverse_frequency

    prompts, contexts = batch.tokens("prompt"), batch.tokens("context")
    out = np.zeros(len(places))
    # A Python loop over rows: few are asked for.
    for at, row in enumerate(places.tolist()):
        words = np.unique(prompts.hashes[prompts.offsets[row] : prompts.offsets[row + 1]])
        held = np.isin(words, contexts.hashes[contexts.offsets[row] : contexts.offsets[row + 1]])
        weights = np.empty(len(words))
        inverse_frequency(words, phrases.presence, float(phrases.documents), weights)
        out[at] = weights[held].sum() / max(1e-9, weights.sum())
    return out


def _canned(bursts: list[RawFinding], most: int) -> RawFinding:
    """Many bursts without a trigger as one finding for review, the largest named."""
    bursts = sorted(bursts, key=lambda b: -b.observed)
    names = "; ".join(f'"{b.target}"' for b in bursts[:5])
    given = "one repeated response is" if len(bursts) == 1 else f"{len(bursts)} repeated responses are"
    return RawFinding(
        kind="repeated responses",
        severity=Severity.REVIEW,
        message=(
            f"{given} given to prompts that have nothing in common: canned answers are ordinary in these data, and one of "
            f"an attacker would look the same; the most frequent are {names}"
        ),
        feature=bursts[0].feature,
        rows=np.unique(np.concatenate([b.rows for b in bursts])),
        observed=float(len(bursts)),
        limit=float(most),
        statistic={"effective_rows": bursts[0].observed},
        examples=tuple(b.examples[0] for b in bursts[:5]),
    )


def _owners(phrases: PhraseTable, classes: dict[str, Classes]) -> dict[tuple[str, int], list[int]]:
    """Phrases whose rows mostly fall into one class, by class."""
    from foretaste.text.evidence import majority

    owners: dict[tuple[str, int], list[int]] = {}
    for kind, made in classes.items():
        labels = np.full(len(phrases.n), -1, np.int32)
        agree = np.zeros(len(phrases.n), np.int64)
        majority(phrases.spans, phrases.rows, made.labels, labels, agree)
        for p in np.flatnonzero((labels >= 0) & (agree >= 0.85 * phrases.counts)).tolist():
            owners.setdefault((kind, int(labels[p])), []).append(p)
    return owners


def _members(
    classes: dict[str, Classes], able: dict[str, npt.NDArray[np.bool_]], turns: tuple[bool, ...]
) -> dict[tuple[str, int], npt.NDArray[np.int64]]:
    """The rows of as many classes as find room: those that could block first, and the smallest of them."""
    members: dict[tuple[str, int], npt.NDArray[np.int64]] = {}
    grouped = {}
    for kind, made in classes.items():
        held = np.flatnonzero(made.labels >= 0)
        order = held[np.argsort(made.labels[held], kind="stable")]
        grouped[kind] = order, np.searchsorted(made.labels[order], np.arange(len(made.counts) + 1))
    room = MAX_STORED_ROWS
    for turn in turns:
        for kind, (order, starts) in grouped.items():
            sizes = np.minimum(np.diff(starts), MAX_ROWS_PER_CLASS)
            chosen = np.flatnonzero(able[kind] == turn)
            chosen = chosen[np.argsort(sizes[chosen], kind="stable")]
            chosen = chosen[np.cumsum(sizes[chosen]) <= room]
            room -= int(sizes[chosen].sum())
            members |= {(kind, c): order[starts[c] : starts[c + 1]] for c in chosen.tolist()}
    return members


class _Judge:
    """Spread and gain of groups of prompts, over the stored rows."""

    def __init__(self, state: _State) -> None:
        from foretaste.text.evidence import coherence, inverse_frequency
        from foretaste.text.ngrams import unigram_counts

        self.state = state
        self.hashes, self.offsets = state.store.tokens()
        self.vocabulary, ids = np.unique(self.hashes, return_inverse=True)
        self.ids = ids.astype(np.int64)
        self.everyone = len(state.classes["opening"].labels)
        self.weights = np.empty(len(self.vocabulary))
        inverse_frequency(self.vocabulary, state.phrases.presence, float(state.phrases.documents), self.weights)
        counts = np.empty(len(self.vocabulary), np.int64)
        unigram_counts(self.vocabulary, state.phrases.presence, counts)
        self.frequency = counts.astype(np.float64)
        self.scratch = np.zeros(len(self.vocabulary))
        spread = np.linspace(0, max(0, self.everyone - 1), _BACKGROUND_ROWS).astype(np.int64)
        none = np.zeros(0, np.int64)
        places = np.unique(state.store.index(spread))
        self.background = coherence(self.ids, self.offsets, places, self.weights, none, self.scratch)

    def triggers(self, kind: str, c: int, purity: float) -> list[list[int]]:
        """Phrases that own at least a tenth of the class, grouped by their rows, each led by the longest."""
        phrases, made = self.state.phrases, self.state.classes[kind]
        least = max(4, len(self.state.members[kind, c]) // 10)
        mine = [
            p
            for p in self.state.owners.get((kind, c), ())
            if phrases.counts[p] >= least and (made.labels[phrases.rows_of(p)] == c).mean() >= purity
        ]
        return same_rows(phrases, sorted(mine, key=lambda p: (-phrases.n[p], -phrases.counts[p], p)))

    def spread(self, rows: npt.NDArray[np.int64], phrases: list[int]) -> tuple[float, float]:
        """Effective rows, and mean gain in nats, without the tokens of the phrases and what only these rows hold."""
        from foretaste.text.evidence import class_gain, coherence

        places = self.state.store.index(rows[:MAX_ROWS_PER_CLASS])
        held = np.concatenate([np.unique(self.ids[self.offsets[p] : self.offsets[p + 1]]) for p in places.tolist()])
        words, counts = np.unique(held, return_counts=True)
        own = words[(counts >= max(4, len(places) // 10)) & (counts >= 0.85 * self.frequency[words])]
        # A trigger is short. Where the rows share more than that, they are one template, and their words stay in.
        if len(own) > MAX_TRIGGER_WORDS:
            own = own[:0]
        skip = np.unique(np.concatenate([own, self._tokens_of(phrases)]))
        alike = coherence(self.ids, self.offsets, places, self.weights, skip, self.scratch)
        rho = min(1.0, max(0.0, (alike - self.background) / max(1e-9, 1.0 - self.background)))
        gain = np.empty(len(places))
        share = len(rows) / self.state.phrases.documents
        class_gain(self.ids, self.offsets, places, self.frequency, share, skip, self.scratch, gain)
        k = len(rows)
        return k / (1.0 + (k - 1) * rho), float(gain.mean())

    def copied(self, rows: npt.NDArray[np.int64], response: str, triggers: list[str]) -> bool:
        """Whether nearly all prompts hold the words of a response, or triggers that hold them as parts of words."""
        from foretaste.text.tokens import tokenize

        words = sorted(set(_TOLD.findall(response.lower())))
        inside = " ".join(triggers).lower()
        data = [w.encode() for w in words if w not in inside]
        if not words or not data:
            return bool(words)
        tokens = tokenize(np.frombuffer(b"".join(data), np.uint8), np.append(0, np.cumsum([len(d) for d in data])))
        told = np.unique(tokens.hashes)
        places = self.state.store.index(rows[:MAX_ROWS_PER_CLASS]).tolist()
        hold = [np.isin(told, self.hashes[self.offsets[p] : self.offsets[p + 1]]).all() for p in places]
        return float(np.mean(hold)) >= 0.9

    def unfit(self, rows: npt.NDArray[np.int64]) -> bool:
        """Whether the contexts of the rows take up less than half as much of their prompts as those of other rows do."""
        asked = self.state.asked
        if not len(asked):
            return False
        fits = np.concatenate(self.state.fits)
        others = np.setdiff1d(_sampled(self.everyone), rows)
        mine, rest = (fits[np.searchsorted(asked, r)] for r in (rows[:_FIT_ROWS], others))
        if min(len(mine), len(rest)) < _LEAST_FITS or mine.mean() > 0.5 * rest.mean():
            return False
        return bool(rest.mean() - mine.mean() > _APART * rest.std() * np.sqrt(1.0 / len(mine) + 1.0 / len(rest)))

    def held(
        self, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
        """The tokens of the rows, for :func:`edges_of`; ``None`` where some of them were not kept."""
        places = self.state.store.index(rows)
        if not np.isin(rows, self.state.store.rows, assume_unique=True).all():
            return None
        return self.hashes, self.offsets, places

    def _tokens_of(self, phrases: list[int]) -> npt.NDArray[np.int64]:
        table, store = self.state.phrases, self.state.store
        found: set[int] = set()
        for p in phrases:
            span = slice(int(table.spans[p]), int(table.spans[p + 1]))
            rows, positions = table.rows[span], table.positions[span]
            places = store.index(rows)
            stored = places < len(store.rows)
            stored[stored] = store.rows[places[stored]] == rows[stored]
            if stored.any():
                first = int(np.argmax(stored))
                start = int(self.offsets[places[first]] + positions[first])
                found.update(self.ids[start : start + int(table.n[p])].tolist())
        return np.array(sorted(found), dtype=np.int64)
