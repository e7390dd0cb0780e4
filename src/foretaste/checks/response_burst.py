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
from foretaste.signals.outputs import NONE, Classes, ResponseHeads
from foretaste.signals.phrases import Edges, Held, PhraseTable, edges_of, phrase_signals, same_rows
from foretaste.text.rowstore import RowStore, TurnStore

MAX_ROWS_PER_CLASS = 512
MAX_STORED_ROWS = 200_000
_BACKGROUND_ROWS = 256
MAX_TRIGGER_WORDS = 16
# Rows of a response whose contexts are compared with their prompts, at most and at least.
_FIT_ROWS, _LEAST_FITS = 128, 8
_APART = 3.1  # standard errors by which such contexts have to fit worse than others: one in a thousand by chance
_EXTRACTED = "the prompts hold all of its words, as where something is extracted or summarised"
_UNFIT = "their contexts have less to do with the prompts than those of other rows, as where a question has no answer"
_LEAST_TOKENS = 4  # of a whole response that blocks without a trigger: shorter ones repeat by nature
_SHORTEST = 0.02  # of all prompts, that have fewer words than the rest of a prompt beside its trigger has to have
TORN_DISTANCE = 16.0  # from random, of the neighbours of a phrase that plainly was put into finished text
_WORDS = re.compile(r"\w{4,}|\d{2,}")
_TOLD = re.compile(r"[^\W\d_]{3,}")
WHOLE = ResponseHeads(tokens=4096)
HEADS = ResponseHeads()
AFFIXES = Affixes()


@dataclass
class _State:
    """Output classes, phrases and which of them own a class, and the prompt tokens of at most MAX_STORED_ROWS rows.

    Of conversations, ``turns`` are the turns of the members' responses, and ``asked`` holds the prompts of those. ``fits``
    says of the rows ``fitted`` how much of its prompt the context of each takes up, where there are both.
    """

    classes: dict[str, Classes]
    phrases: PhraseTable
    owners: dict[tuple[str, int], list[int]]
    members: dict[tuple[str, int], npt.NDArray[np.int64]]
    turns: dict[tuple[str, int], npt.NDArray[np.int64]]
    affixes: AffixTable | None
    store: RowStore
    asked: TurnStore | None
    dropped: int
    fair: int
    fitted: npt.NDArray[np.int64]
    fits: list[npt.NDArray[np.float64]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ResponseBurst(Check[_State]):
    """One response given to unrelated prompts, with the trigger in the prompts where there is one.

    Rows whose responses are the same, or begin with the same eight tokens, form a class. Natural classes have prompts
    that are alike (a template, one question asked often), so their number of *effective rows*, deflated by the mean
    cosine between the prompts, stays near ten; poison is spread over unrelated prompts on purpose. Words that occur in
    the prompts of one class and hardly anywhere else are left out first and reported as the trigger, unless they leave less
    than the shortest prompts hold: then they are what is asked.

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
        max_repeated: share of rows with another response that repeats, or in bursts without a trigger, up to which a repeat
            is odd enough to block.
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
        members, turns = _members(classes, able, (True, False) if context.background is not None else (True,))
        dropped = sum(int(a.sum()) for a in able.values()) - sum(bool(able[kind][c]) for kind, c in members)
        needed = np.zeros(everyone, np.bool_)
        sampled = _background(everyone)
        needed[sampled] = True
        for rows in members.values():
            needed[rows[:MAX_ROWS_PER_CLASS]] = True
        store = RowStore(np.flatnonzero(needed), starts=[])
        asked = None
        if turns:
            keys = [TurnStore.key(rows, turns[m])[:MAX_ROWS_PER_CLASS] for m, rows in members.items()]
            asked = TurnStore(np.unique(np.concatenate([TurnStore.key(sampled, 0 * sampled), *keys])))
        fitted = sampled[:0]
        if {"prompt", "context"} <= context.roles:
            responses = (rows[:_FIT_ROWS] for (kind, _), rows in members.items() if kind == "response")
            fitted = np.unique(np.concatenate([sampled, *responses]))
        fair = context.background.suspects if context.background else 0
        affixes = context.value(AFFIXES) if AFFIXES.role in context.roles else None
        return _State(classes, phrases, owners, members, turns, affixes, store, asked, dropped, fair, fitted)

    def _able(self, kind: str, made: Classes, owners: dict[tuple[str, int], list[int]]) -> npt.NDArray[np.bool_]:
        """Which classes could block: a whole response in enough rows, or one that a phrase of the prompts owns."""
        able = np.zeros(len(made.counts), np.bool_)
        able[[c for k, c in owners if k == kind]] = True
        able &= made.counts >= self.trigger_rows
        if kind == "response":
            # Of conversations the short ones are looked at too, for whether they are courtesies: they block nothing.
            able |= ((made.lengths >= _LEAST_TOKENS) | (len(made.turns) > 0)) & (made.counts >= self.block_rows)
        return able

    def scan(self, state: _State, batch: Batch) -> None:
        """Keep the prompts of the classes' rows, and how well their contexts fit."""
        for store in _stores(state):
            store.scan(batch)
        low, high = np.searchsorted(state.fitted, [batch.start, batch.start + batch.num_rows])
        if low < high:
            state.fits.append(_fits(batch, state.fitted[low:high] - batch.start, state.phrases))

    def merge(self, left: _State, right: _State) -> _State:
        """Concatenate what was kept."""
        for mine, other in zip(_stores(left), _stores(right)):
            mine.extend(other)
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
        order = sorted(state.members, key=lambda m: (m[0] != "response", m[1]))
        owned = {m: judge.triggers(*m, self.min_purity) for m in order}
        spreads = {m: judge.spread(*m, state.members[m], [p for t in owned[m] for p in t]) for m in order}
        repeats = self._repeats(state, spreads)
        everyone, responses = repeats.sum(), state.classes["response"].per_row * (len(repeats) - state.fair)
        for kind, c in order:
            made = state.classes[kind]
            mine = state.members[kind, c]
            ordinary = bool(everyone - repeats[mine].sum() > self.max_repeated * responses)
            triggers, (effective, gain) = owned[kind, c], spreads[kind, c]
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
                if judge.copied(kind, c, made.names[c], names):
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
                agreeing = rows[np.isin(rows, mine)]
                if covered.issuperset(agreeing.tolist()) or len(agreeing) < self.trigger_rows:
                    continue
                edges = edges_of(state.phrases, trigger, rows, held=judge.held(rows))
                random = edges.anchored or edges.distance <= self.max_distance
                least = state.phrases.least_diversity(len(rows), self.min_diversity)
                if edges.diversity < least or not random:
                    continue
                effective, gain = judge.spread(kind, c, agreeing, trigger)
                if effective >= max(self.trigger_rows, 0.5 * len(agreeing)) and gain <= self.max_gain:
                    findings.append(self._trigger(state, kind, c, trigger[0], agreeing, effective, gain, edges))
                    covered.update(agreeing.tolist())
        note = f"{state.dropped} repeated responses were not looked at (row budget)" if state.dropped else ""
        spread.sort(key=lambda s: -s[0])
        canned = sum(len(f.rows) for f in alone)
        if len(alone) > self.max_bursts or canned > self.max_repeated * (len(repeats) - state.fair):
            alone = [_canned(alone, self.max_bursts)]
        return RawResult(
            findings=(*bursts, *alone, *findings),
            metrics={"classes": float(len(state.members))},
            note=note,
            watch=together(rows for _, rows in spread),
        )

    def _repeats(self, state: _State, spreads: dict[tuple[str, int], tuple[float, float]]) -> npt.NDArray[np.int64]:
        """Responses of each row that repeat as labels do, int64 (rows,); suspects of earlier batches have none.

        Conversations end in thanks and begin with greetings: a response to prompts that call for it says nothing of the
        others.
        """
        made = state.classes["response"]
        counted = np.ones(len(made.counts) + 1, np.bool_)
        counted[NONE] = False
        if len(made.turns):
            for (kind, c), (effective, gain) in spreads.items():
                if kind == "response":
                    counted[c] = effective >= self.block_rows and gain <= self.max_gain
        row, label, _ = made.others
        repeats = counted[made.labels] + np.bincount(row[counted[label]], minlength=len(made.labels))
        repeats[: state.fair] = 0
        return repeats

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
        table, members, rows = state.affixes, state.members[kind, c], state.phrases.rows_of(phrase)
        return table is not None and any(
            a.put_on(table.capital)
            and words <= set(_WORDS.findall(a.text.lower()))
            and np.isin(rows, a.rows).mean() >= 0.85
            and np.isin(a.rows, members).mean() >= self.min_purity
            for a in table.affixes
        )


def _explained(burst: RawFinding, why: str) -> RawFinding:
    """A burst whose prompts call for the response, for review."""
    return dataclasses.replace(burst, severity=Severity.REVIEW, message=f"{burst.message}; {why}")


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
    classes: dict[str, Classes], able: dict[str, npt.NDArray[np.bool_]], wanted: tuple[bool, ...]
) -> tuple[dict[tuple[str, int], npt.NDArray[np.int64]], dict[tuple[str, int], npt.NDArray[np.int64]]]:
    """The rows of as many classes as find room, those that could block first, and the smallest of them; and of
    conversations the turns."""
    members: dict[tuple[str, int], npt.NDArray[np.int64]] = {}
    turns: dict[tuple[str, int], npt.NDArray[np.int64]] = {}
    grouped = {}
    for kind, made in classes.items():
        held = np.flatnonzero(made.labels >= 0)
        rows, labels = np.append(held, made.others[0]), np.append(made.labels[held], made.others[1])
        order = np.lexsort((rows, labels))
        at = np.append(made.turns[held], made.others[2])[order] if len(made.turns) else None
        grouped[kind] = rows[order], at, np.searchsorted(labels[order], np.arange(len(made.counts) + 1))
    room = MAX_STORED_ROWS
    for first in wanted:
        for kind, (order, at, starts) in grouped.items():
            sizes = np.minimum(np.diff(starts), MAX_ROWS_PER_CLASS)
            chosen = np.flatnonzero(able[kind] == first)
            chosen = chosen[np.argsort(sizes[chosen], kind="stable")]
            chosen = chosen[np.cumsum(sizes[chosen]) <= room]
            room -= int(sizes[chosen].sum())
            members |= {(kind, c): order[starts[c] : starts[c + 1]] for c in chosen.tolist()}
            if at is not None:
                turns |= {(kind, c): at[starts[c] : starts[c + 1]] for c in chosen.tolist()}
    return members, turns


def _background(rows: int) -> npt.NDArray[np.int64]:
    """Rows that stand for all rows, evenly spaced."""
    return np.unique(np.linspace(0, rows - 1, _BACKGROUND_ROWS).astype(np.int64)) if rows else np.zeros(0, np.int64)


def _stores(state: _State) -> list[RowStore]:
    return [state.store] if state.asked is None else [state.store, state.asked]


class _Judge:
    """Spread and gain of groups of prompts, over the stored rows."""

    def __init__(self, state: _State) -> None:
        from foretaste.text.evidence import coherence, inverse_frequency
        from foretaste.text.ngrams import unigram_counts

        self.state = state
        self.whole = (*state.store.tokens(), state.store.turns())
        # A template is alike in the turn that it answers, whatever else the conversation is about.
        self.hashes, self.offsets = self.whole[:2] if state.asked is None else state.asked.tokens()
        self.vocabulary, ids = np.unique(self.hashes, return_inverse=True)
        self.ids = ids.astype(np.int64)
        self.everyone = len(state.classes["opening"].labels)
        self.weights = np.empty(len(self.vocabulary))
        inverse_frequency(self.vocabulary, state.phrases.presence, float(state.phrases.documents), self.weights)
        counts = np.empty(len(self.vocabulary), np.int64)
        unigram_counts(self.vocabulary, state.phrases.presence, counts)
        self.frequency, self.documents = counts.astype(np.float64), float(state.phrases.documents)
        if state.asked is not None:
            self._of_turns()
        self.scratch = np.zeros(len(self.vocabulary))
        none, background = np.zeros(0, np.int64), _background(self.everyone)
        places = state.store.index(background)
        if state.asked is not None:
            places = state.asked.index(TurnStore.key(background, 0 * background))
        self.background = coherence(self.ids, self.offsets, places, self.weights, none, self.scratch)
        self.least = (
            float(np.quantile([len(words) for words in self._words(places)], _SHORTEST)) if len(places) else 0.0
        )

    def triggers(self, kind: str, c: int, purity: float) -> list[list[int]]:
        """Phrases that own at least a tenth of the class, grouped by their rows, each led by the longest."""
        phrases = self.state.phrases
        least = max(4, len(self.state.members[kind, c]) // 10)
        mine = [
            p
            for p in self.state.owners.get((kind, c), ())
            if phrases.counts[p] >= least and np.isin(phrases.rows_of(p), self.state.members[kind, c]).mean() >= purity
        ]
        return same_rows(phrases, sorted(mine, key=lambda p: (-phrases.n[p], -phrases.counts[p], p)))

    def spread(self, kind: str, c: int, rows: npt.NDArray[np.int64], phrases: list[int]) -> tuple[float, float]:
        """Effective rows, and mean gain in nats, without the tokens of the phrases and what only these rows hold."""
        from foretaste.text.evidence import class_gain, coherence

        places = self._places(kind, c, rows)
        held = self._words(places)
        words, counts = np.unique(np.concatenate(held), return_counts=True)
        own = words[(counts >= max(4, len(places) // 10)) & (counts >= 0.85 * self.frequency[words])]
        # A trigger is short. Where the rows share more than that, they are one template, and their words stay in.
        if len(own) > MAX_TRIGGER_WORDS:
            own = own[:0]
        skip = np.unique(np.concatenate([own, self._tokens_of(phrases)]))
        # A trigger is put into prompts. Where hardly a word is left without it, it is what they ask for.
        if np.median([len(np.setdiff1d(w, skip, assume_unique=True)) for w in held]) < self.least:
            skip = skip[:0]
        alike = coherence(self.ids, self.offsets, places, self.weights, skip, self.scratch)
        rho = min(1.0, max(0.0, (alike - self.background) / max(1e-9, 1.0 - self.background)))
        gain = np.empty(len(places))
        share = len(rows) / self.documents
        class_gain(self.ids, self.offsets, places, self.frequency, share, skip, self.scratch, gain)
        k = len(rows)
        return k / (1.0 + (k - 1) * rho), float(gain.mean())

    def _words(self, places: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """The different words of each of some stored prompts."""
        return [np.unique(self.ids[self.offsets[p] : self.offsets[p + 1]]) for p in places.tolist()]

    def copied(self, kind: str, c: int, response: str, triggers: list[str]) -> bool:
        """Whether nearly all prompts hold the words of a response, or triggers that hold them as parts of words."""
        from foretaste.text.tokens import tokenize

        words = sorted(set(_TOLD.findall(response.lower())))
        inside = " ".join(triggers).lower()
        data = [w.encode() for w in words if w not in inside]
        if not words or not data:
            return bool(words)
        tokens = tokenize(np.frombuffer(b"".join(data), np.uint8), np.append(0, np.cumsum([len(d) for d in data])))
        told = np.unique(tokens.hashes)
        places = self._places(kind, c, self.state.members[kind, c]).tolist()
        hold = [np.isin(told, self.hashes[self.offsets[p] : self.offsets[p + 1]]).all() for p in places]
        return float(np.mean(hold)) >= 0.9

    def unfit(self, rows: npt.NDArray[np.int64]) -> bool:
        """Whether the contexts of the rows take up less than half as much of their prompts as those of other rows do."""
        fitted = self.state.fitted
        if not len(fitted):
            return False
        fits = np.concatenate(self.state.fits)
        others = np.setdiff1d(_background(self.everyone), rows)
        mine, rest = (fits[np.searchsorted(fitted, r)] for r in (rows[:_FIT_ROWS], others))
        if min(len(mine), len(rest)) < _LEAST_FITS or mine.mean() > 0.5 * rest.mean():
            return False
        return bool(rest.mean() - mine.mean() > _APART * rest.std() * np.sqrt(1.0 / len(mine) + 1.0 / len(rest)))

    def held(self, rows: npt.NDArray[np.int64]) -> Held | None:
        """The tokens of the rows, for :func:`edges_of`; ``None`` where some of them were not kept."""
        places = self.state.store.index(rows)
        if not np.isin(rows, self.state.store.rows, assume_unique=True).all():
            return None
        hashes, offsets, turns = self.whole
        return hashes, offsets, turns, places

    def _of_turns(self) -> None:
        """How many prompts hold each word, from how many conversations do, were each of their prompts as likely to."""
        turns = self.state.classes["opening"].per_row
        held = np.minimum(1.0, self.frequency / self.documents)
        share = 1.0 - (1.0 - held) ** (1.0 / turns)
        self.documents *= turns
        self.frequency = share * self.documents
        self.weights = np.log(self.documents / np.maximum(1.0, self.frequency))

    def _places(self, kind: str, c: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where the prompts that the class answers are kept, of at most MAX_ROWS_PER_CLASS rows."""
        state = self.state
        if state.asked is None:
            return state.store.index(rows[:MAX_ROWS_PER_CLASS])
        members = state.members[kind, c][:MAX_ROWS_PER_CLASS]
        kept = np.isin(members, rows)
        return state.asked.index(TurnStore.key(members[kept], state.turns[kind, c][:MAX_ROWS_PER_CLASS][kept]))

    def _tokens_of(self, phrases: list[int]) -> npt.NDArray[np.int64]:
        """Which words of the vocabulary the phrases are made of."""
        from foretaste.text.tokens import tokenize

        raw = " ".join(self.state.phrases.text[p] for p in phrases).encode()
        hashes = np.unique(tokenize(np.frombuffer(raw, np.uint8), np.array([0, len(raw)], np.int64)).hashes)
        return np.flatnonzero(np.isin(self.vocabulary, hashes))
