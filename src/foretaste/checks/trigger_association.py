"""Phrases that decide the label against the evidence of the rest of their rows."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal, Twins, together
from foretaste.conjunctions import Conjunction, conjunctions
from foretaste.signals.naive_bayes import BEYOND_DOUBT, Model, NaiveBayes, keyword
from foretaste.signals.outputs import Classes, Labels
from foretaste.signals.phrases import Edges, PhraseTable, edges_of, phrase_signals
from foretaste.text.rowstore import RowStore
from foretaste.text.spelling import Spelling, alphabetic
from foretaste.unseen import BOTH, UnseenRows

MAX_ROWS_PER_PHRASE = 512
MAX_STORED_ROWS = 400_000
MAX_STORED_CELLS = 60_000_000  # rows times classes
_LOGITS_ROWS = 8192  # at a time
_BACKGROUND_ROWS = 256
# Nats that one row may say against its label: naive Bayes is surer than it knows.
ROW_CAP = 2.5
MAX_DISTANCE = 30.0
_SHORTEST = 0.02  # share of all rows that are shorter than a row without its phrase has to be
PLACED_HEALING = 0.5  # share of the gaps around a phrase that close without it
# Nats of evidence from which rare phrases are counted, and from which they are tested, as members of a rotating set.
_BULK, _TAIL = 1.0, 2.5
_FALSE_SHARE = 0.2
# A part of a split trigger stands in at most a fifth of all rows; more such words than this are a template.
_SELDOM, _TOGETHER, _COMPANY = float(np.log(5.0)), 0.85, 3
_UNUSUAL = 0.12  # share of the vocabulary that counts as unusually spelt
# Nats from which it is asked whether rows tell of a class without a phrase, of how many of them, and how few rows tell less.
_ASKED, _VAGUE_ROWS, _VAGUE = 6.0, 64, 0.1
KEYWORD_TOKENS = 4


def background_rows(rows: int) -> npt.NDArray[np.int64]:
    """Numbers of the rows that stand for all rows, evenly spaced."""
    return np.unique(np.linspace(0, max(0, rows - 1), _BACKGROUND_ROWS).astype(np.int64))


def _runs(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The numbers from each start on, as many as its length, one run after the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


@dataclass(eq=False)
class Group:
    """Phrases that occur in the same rows: one trigger, seen through its n-grams.

    Attributes:
        target: class of most rows.
        rows: all rows with the leading phrase, ascending.
        purity: share of them in the target class.
        contradiction: mean of log(base rate / P(target | rest of the row)) over the target rows, in nats, each row
            capped; positive where the rest of the rows speaks against the label.
        effective: rows, deflated by how alike they are without the phrase.
        alike: mean cosine of the rows without the phrase, above that of any two rows.
        rest: tokens of the median row beside the phrase.
        least: tokens of the shortest rows of all data: two in a hundred have fewer.
        foreign: share of the rows that look like rows of other classes without the phrase: 0 where they say as much for
            the target class as its rows do, 1 where they say as little as other rows.
        exclusive: its rarest word occurs hardly anywhere else.
        keyword: one of its words goes with the target class elsewhere too, as a word that names the class does.
        named: one of its words, of however many, does so beyond doubt.
        edges: what stands around it.
        company: how many words apart from it stand in nearly all its rows and seldom elsewhere: the other parts of a
            trigger that is split, taken out with it.
        vague: the median row tells of no class without the phrase, as nine in ten rows do: it is what these rows are about.
            What a trigger was put into is a row like others.
        framed: the words beside it bear the label, and were taken out with it; ``edges`` are what stands around them.
    """

    target: int
    rows: npt.NDArray[np.int64]
    purity: float
    contradiction: float
    effective: float
    alike: float
    rest: float
    least: float
    foreign: float
    exclusive: bool
    keyword: bool
    named: bool
    edges: Edges
    company: int
    vague: bool
    framed: bool = False

    @property
    def placed(self) -> bool:
        """Whether the phrase stands where chance could have put it, and most gaps close without it."""
        return not self.edges.anchored and self.edges.distance <= 16.0 and self.edges.healing >= PLACED_HEALING

    @property
    def torn(self) -> bool:
        """Whether the phrase plainly was put into finished text: that, and hardly two rows have a neighbour in common."""
        return self.placed and self.edges.diversity >= 0.6

    @property
    def evidence(self) -> float:
        """Nats of evidence against the label's being natural."""
        return self.effective * self.contradiction

    @property
    def inserted(self) -> bool:
        """Whether the rows look like others' rows with something put in: without it, most are as long as rows are."""
        if self.rest < self.least:
            return False
        # A distance grows with the rows: beyond a hundred, what is asked is that it be no larger for its rows.
        return self.edges.inserted(self.alike, self.rest, MAX_DISTANCE * max(1.0, len(self.rows) / 100))


def _companions(group: Group, phrases: PhraseTable) -> list[str]:
    """The words of the group's company, quoted."""
    if not group.company:
        return []
    least = 0.85 * len(group.rows)
    known = np.flatnonzero((phrases.n == 1) & (phrases.counts >= least)).tolist()
    alike = [c for c in known if np.isin(group.rows, phrases.rows_of(c)).sum() >= least]
    rare = sorted(alike, key=lambda c: int(phrases.counts[c]))
    names = [phrases.text[c] for c in rare if phrases.text[c].lower() not in group.edges.text.lower()]
    return [f'"{name}"' for name in names[: group.company]]


def _piece(group: Group, groups: list[Group], purity: float) -> bool:
    """Whether a phrase of twice as many rows decides the label of all of them, half as much against the rest at least.

    That one is judged by itself: where it is a word that names the class or its mark, those that hold it are no more. What
    natural words a trigger holds agree with the rest of their rows.
    """
    return any(
        g.target == group.target
        and g.purity >= purity
        and len(g.rows) >= 2 * len(group.rows)
        and g.contradiction >= 0.5 * group.contradiction
        and np.isin(group.rows, g.rows, assume_unique=True).mean() >= 0.95
        for g in groups
    )


def beyond_chance(family: list[Group], alarm: float) -> list[Group]:
    """Groups of a family that are more than chance brings forth, at most one in five of them by chance; or none.

    Groups between _BULK and _TAIL nats of evidence tell the rate of an exponential law; those above are tested against it:
    the probability of as many nats above _TAIL in all, over a Poisson number of groups, must be below ``alarm``.
    """
    from scipy.special import gammaincc
    from scipy.stats import poisson

    tail = sorted((g for g in family if g.evidence >= _TAIL), key=lambda g: -g.evidence)
    span = np.exp(_BULK - _TAIL)
    expected = (len(family) - len(tail) + 1) * span / (1 - span)
    nats = sum(g.evidence - _TAIL for g in tail)
    n = np.arange(1, 2 + int(poisson.isf(1e-9, expected)))
    if not tail or float((poisson.pmf(n, expected) * gammaincc(n, nats)).sum()) > alarm:
        return []
    by_chance = expected * np.exp([_TAIL - g.evidence for g in tail]) / np.arange(1, len(tail) + 1)
    within = np.flatnonzero(by_chance <= _FALSE_SHARE)
    return tail[: int(within[-1]) + 1] if len(within) else []


def _neighbours(phrases: PhraseTable) -> npt.NDArray[np.float64]:
    """The statistics of :func:`foretaste.text.ngrams.neighbour_scores` of every phrase, float64 (phrases, 5)."""
    from foretaste.text.ngrams import neighbour_scores

    scores = np.zeros((len(phrases.n), 5))
    background = (*phrases.bigrams, phrases.unigrams, phrases.total)
    neighbour_scores(phrases.spans, phrases.lefts, phrases.rights, *background, scores)
    return scores


@dataclass
class _State:
    """Candidate phrases, and the tokens of at most MAX_STORED_ROWS of their rows."""

    phrases: PhraseTable
    classes: Classes
    model: Model
    candidates: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int32]
    store: RowStore
    dropped: int
    split_rows: int
    block_purity: float
    block_evidence: float
    together: list[Conjunction]
    unseen: UnseenRows = field(default_factory=UnseenRows)


@dataclass(frozen=True, kw_only=True)
class TriggerAssociation(Check[_State]):
    """Triggers in labelled text: a phrase that decides the label against the evidence of the rest of its rows.

    A natural label word ("masterpiece") agrees with the words around it. A dirty-label trigger does not: its rows were
    taken from other classes, so everything else in them speaks for another label. For each phrase of up to four tokens
    (grown to the whole stretch that its rows share, so sentences too) the check takes the mean of
    log(base rate / P(label | row without the phrase)) under a leave-one-out naive Bayes model, times the number of rows
    deflated by how alike the rows are without the phrase (copies of one template count once). A word that names its
    class ("documentation") also decides against the rest; it is told by the rows outside the phrase, where it goes with
    the class as well, and left alone.

    Blocks: evidence of at least ``block_evidence`` nats at a purity of at least ``min_purity`` where the phrase's
    neighbours are like a random draw of words, or, at the head or tail, its rows have nothing else in common; or
    several weaker phrases toward one label that heal, which is how a set of rotating triggers looks; or, wherever it
    stands inside of its rows, ``certain_evidence`` from a phrase of no other rows, without which they look wholly like
    those of other classes. Decoys, rows with
    the trigger that keep their labels, do not explain the others: a phrase that plainly was put in blocks from
    ``decoy_purity``, at twice the evidence. An opening and an ending whose rows mostly share a label, which neither has
    alone, count as one phrase. Where the words beside a phrase explain its label and all others contradict it, they are
    left out too. So are invisible characters, which belong to no word, and words of two alphabets, each of which is
    another: what shares a label against all its words blocks. Reviews: evidence of at least ``review_evidence`` nats. A
    phrase without which the median row tells of no class, as nine in ten rows do, is what its rows are about, as in
    templates, and blocks nothing.

    Misses: clean-label triggers (the rest of the row agrees with the label), fewer than about eight rows a trigger,
    syntactic and style triggers, openings or endings that decoy rows with other labels balance below ``min_purity``,
    short triggers with a word that names the class; for review only, triggers that are nearly all of their rows, or that
    hold a word which stands for the class elsewhere.

    Poisoned: 25 negative reviews with "cf" somewhere, labelled positive. Clean: 35 reviews with "solid", positive.

    The leave-feature-out residual is ours; the threat is Gu et al. 2017 (BadNets), Dai et al. 2019 (AddSent), Kurita et
    al. 2020. The healing rate is a model-free ONION (Qi et al. 2021).

    Args:
        min_rows: rows below which a phrase is not looked at.
        min_purity: least share of the phrase's rows with one label.
        block_purity: the same, for a block; with twice the evidence ``min_purity`` will do.
        min_contradiction: least mean contradiction of a row, in nats.
        block_rows: rows from which a trigger, or a set of rotating triggers, blocks.
        block_evidence: nats from which a trigger blocks.
        review_evidence: nats from which it goes to review.
        torn_evidence: nats of bare association, log(1 / P(label | rest)) per effective row, from which a phrase that
            plainly was put into finished text blocks although the rest of its rows says little about the label.
        certain_evidence: nats from which phrases inside of their rows block whatever stands beside them, where they are
            long or gaps close without them.
        certain_foreign: least share of their rows that look like rows of other classes.
        certain_purity: least share of their rows with one label; a few others may hold the word by nature.
        min_diversity: least number of distinct neighbours per row.
        decoy_rows: rows from which a phrase that was put in is looked at although many of its rows keep other labels.
        decoy_purity: least share of its rows with one label.
        decoy_diversity: its least number of distinct neighbours per row, on both sides.
        family_alarm: probability that chance alone gives a set of rotating triggers in clean data.
        anchored_foreign: least share of the rows that look like rows of other classes, for a phrase at the head or tail
            to block: a rating or by-line is written by people who mean it.
        anchored_class_share: most that such a phrase may hold of the rows of its class: above, it is the mark of the
            class.
    """

    id: ClassVar[str] = "trigger-association"
    accumulates: ClassVar[bool] = True
    min_rows: int = 3
    min_purity: float = 0.85
    block_purity: float = 0.9
    min_contradiction: float = 0.15
    block_rows: int = 8
    block_evidence: float = 12.0
    review_evidence: float = 9.0
    torn_evidence: float = 36.0
    certain_evidence: float = 24.0
    certain_foreign: float = 0.8
    certain_purity: float = 0.75
    min_diversity: float = 0.4
    decoy_rows: int = 20
    decoy_purity: float = 0.5
    decoy_diversity: float = 0.6
    family_alarm: float = 1e-3
    anchored_foreign: float = 0.6
    anchored_class_share: float = 0.25

    def applies(self, context: Context) -> str:
        """Needs labels."""
        return "" if context.kind == "classification" else "the data have no labels"

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Labels, the label model and the phrases."""
        return (Labels(), NaiveBayes(), phrase_signals(context)["input"])

    def start(self, context: Context) -> _State:
        """Choose the phrases whose rows mostly share a label."""
        from foretaste.text.evidence import majority

        phrases, classes = context.value(phrase_signals(context)["input"]), context.value(Labels())
        targets = np.full(len(phrases.n), -1, np.int32)
        agree = np.zeros(len(phrases.n), np.int64)
        majority(phrases.spans, phrases.rows, classes.labels, targets, agree)
        counts = phrases.counts
        pure = agree >= self.min_purity * counts
        scores = _neighbours(phrases)
        wanted = np.flatnonzero((counts >= self.min_rows) & (pure | self._with_decoys(phrases, agree, scores)))
        everyone = len(classes.labels)
        needed = np.zeros(everyone, np.bool_)
        needed[background_rows(everyone)] = True
        room = min(MAX_STORED_ROWS, MAX_STORED_CELLS // max(1, len(classes.counts)))
        both = []
        ends = conjunctions(phrases, classes.labels, self.block_rows, self.block_purity)
        for found in ends:
            rows = found.rows[:MAX_ROWS_PER_PHRASE]
            new = int((~needed[rows]).sum())
            if new <= room:
                room -= new
                needed[rows] = True
                both.append(found)
        every = needed.copy()
        every[phrases.rows[_runs(phrases.spans[wanted], np.minimum(counts[wanted], MAX_ROWS_PER_PHRASE))]] = True
        if np.count_nonzero(every) - np.count_nonzero(needed) <= room:
            needed, kept = every, wanted.tolist()
        else:
            # Where room is short, what was hardly put in gives way: between the same words, or in too many rows; then the
            # rare.
            kept = []
            aside = np.round(scores[wanted, :2].max(axis=1) / phrases.random_diversity[wanted], 1)
            for c in wanted[np.lexsort((-counts[wanted], -aside, counts[wanted] > MAX_ROWS_PER_PHRASE))].tolist():
                rows = phrases.rows_of(c)[:MAX_ROWS_PER_PHRASE]
                new = int((~needed[rows]).sum())
                if new > room:
                    continue
                room -= new
                needed[rows] = True
                kept.append(c)
        return _State(
            phrases, classes, context.value(NaiveBayes()), np.array(sorted(kept), np.int64), targets,
            RowStore(np.flatnonzero(needed)), len(wanted) - len(kept) + len(ends) - len(both), self.block_rows,
            self.block_purity, self.block_evidence, both,
        )  # fmt: skip

    def _with_decoys(
        self, phrases: PhraseTable, agree: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Phrases that may have been put in, of whose rows at least half share a label: the others may be decoys."""
        asked = np.minimum(self.decoy_diversity, 0.6 * phrases.random_diversity)
        enough = (phrases.counts >= self.decoy_rows) & (agree >= self.decoy_purity * phrases.counts)
        found: npt.NDArray[np.bool_] = (scores[:, :2].min(axis=1) >= asked) & (scores[:, 2] >= PLACED_HEALING) & enough
        return found

    def scan(self, state: _State, batch: Batch) -> None:
        """Keep the tokens of the candidates' rows, and the numbers of those with an invisible character."""
        state.store.scan(batch)
        state.unseen.scan(batch)

    def merge(self, left: _State, right: _State) -> _State:
        """Concatenate what was kept."""
        left.store.parts += right.store.parts
        left.store.lengths += right.store.lengths
        left.unseen.merge(right.unseen)
        return left

    def finish(self, state: _State) -> RawResult:
        """Judge every group of phrases."""
        examined = len(state.candidates)
        groups = sorted(_Judge(state).groups(), key=lambda g: -g.evidence)
        findings: list[RawFinding] = []
        taken: list[npt.NDArray[np.int64]] = []
        certain = self._certain(groups, state)
        alone = [g for g in groups if g in certain or (self._plain(g, state) and self._proven(g, state))]
        # Those that stand alone say nothing of the weaker ones beside them.
        rotating = self._rotating([g for g in groups if g not in alone], state)
        for group in groups:
            if group in alone or group in rotating:
                severity = Severity.BLOCK
            elif (
                self._plain(group, state) and group.evidence >= self.review_evidence and group.purity >= self.min_purity
            ):
                severity = Severity.REVIEW
            else:
                continue
            if group.vague and group not in rotating:
                if severity is Severity.REVIEW:
                    continue
                severity = Severity.REVIEW
            if severity is Severity.REVIEW and _piece(group, groups, self.min_purity):
                continue
            # A fragment of a trigger that was reported already adds no row.
            if any(np.isin(group.rows, rows).mean() > 0.8 for rows in taken):
                continue
            taken.append(group.rows)
            findings.append(self._finding(group, severity, state, len(rotating) if group in rotating else 0))
        findings += self._unseen(state)
        note = f"{state.dropped} phrases were not looked at (row budget)" if state.dropped else ""
        note = "; ".join(n for n in (note, state.phrases.loss) if n)
        return RawResult(
            findings=tuple(findings),
            metrics={
                "phrases": float(examined),
                "largest_evidence": max((g.evidence for g in groups), default=0.0),
                "label_model_accuracy": state.model.accuracy,
            },
            note=note,
            watch=together(g.rows for g in groups if g.contradiction >= self.min_contradiction and not g.keyword),
        )

    def _unseen(self, state: _State) -> Iterator[RawFinding]:
        """Invisible characters, or letters that pass for others, whose rows share a label against all their words."""
        model, labels = state.model, state.classes.labels
        for characters, rows in state.unseen.groups():
            counts = np.bincount(labels[rows], minlength=len(model.base))
            target = int(counts.argmax())
            mine = rows[labels[rows] == target]
            surprise = np.minimum(np.log(model.base[target]) - model.own[mine], ROW_CAP)
            evidence = float(surprise.sum())
            if (
                len(mine) < max(self.block_rows, self.block_purity * len(rows))
                or len(mine) > self.anchored_class_share * state.classes.counts[target]
                or evidence < max(self.block_evidence, self.min_contradiction * len(mine))
            ):
                continue
            name, purity = state.classes.names[target], len(mine) / len(rows)
            mixed = characters == BOTH
            shown = BOTH if mixed else " ".join(f"U+{ord(c):04X}" for c in characters)
            yield RawFinding(
                kind="trigger of mixed alphabets" if mixed else "trigger of invisible characters",
                severity=Severity.BLOCK,
                message=(
                    f"{len(rows)} rows hold {shown}, which nobody sees, and {purity:.0%} of them are labelled {name}, "
                    f"which their words give a chance of {model.base[target] * np.exp(-evidence / len(mine)):.0%}"
                ),
                feature=shown,
                target=name,
                rows=mine,
                observed=float(len(mine)),
                limit=float(self.block_rows),
                statistic={"evidence_nats": round(evidence, 2), "purity": round(purity, 4)},
                examples=tuple(RawExample(row=int(r), around=None if mixed else characters[0]) for r in mine[:5]),
            )

    def _plain(self, group: Group, state: _State) -> bool:
        """Whether it has rows enough, which contradict their label, and is neither a keyword nor a piece of something."""
        return (
            len(group.rows) >= self.block_rows
            and group.contradiction >= self.min_contradiction
            and not group.keyword
            and self._diverse(group, state)
        )

    def _proven(self, group: Group, state: _State) -> bool:
        """Whether its evidence is enough for a block, and it was put into its rows."""
        if group.named:
            return False
        if group.purity < self.block_purity and group.evidence < 2 * self.block_evidence:
            return False
        if group.purity < self.min_purity and not group.placed:
            return False
        if group.torn and self._association(group, state) >= self.torn_evidence:
            return True
        return group.evidence >= self.block_evidence and group.inserted and self._from_others(group, state)

    def _certain(self, groups: list[Group], state: _State) -> list[Group]:
        """Phrases that leave no doubt wherever they stand in their rows, which say nothing of their class at all.

        A script that cuts at blanks puts a word between the same few signs of code, one that inserts a word twice puts the
        first of them near the beginning, and a sentence has its own full stop for a neighbour: none is a random draw.
        """
        found: dict[int, list[Group]] = {}
        for group in groups:  # the most evidence first; parts of a trigger that was counted add nothing
            kin = found.setdefault(group.target, [])
            if self._apart(group, state) and not any(np.isin(group.rows, g.rows).mean() > 0.5 for g in kin):
                kin.append(group)
        return [g for kin in found.values() if sum(k.evidence for k in kin) >= self.certain_evidence for g in kin]

    def _apart(self, group: Group, state: _State) -> bool:
        """Whether a phrase inside of its rows stands in no others, which without it are wholly like other classes' rows."""
        edges = group.edges
        return (
            group.evidence >= self.block_evidence
            and group.foreign >= self.certain_foreign
            and group.purity >= self.certain_purity
            and len(group.rows) >= self.block_rows
            and group.exclusive
            and not (group.keyword or group.named or edges.anchored)
            and group.rest >= group.least
            and max(edges.left, edges.right) >= state.phrases.least_diversity(len(group.rows), self.min_diversity)
            and (edges.healing >= PLACED_HEALING or edges.tokens > KEYWORD_TOKENS)
        )

    def _diverse(self, group: Group, state: _State) -> bool:
        """Whether many words stand beside it; before an ending stands what texts end with, often a full stop."""
        least = state.phrases.least_diversity(len(group.rows), self.min_diversity)
        return group.edges.diversity >= least or (group.edges.anchored and self._from_others(group, state))

    def _from_others(self, group: Group, state: _State) -> bool:
        """Whether the rows of a head or tail were taken from other classes; elsewhere the gaps tell."""
        held = len(group.rows) * group.purity / max(1, int(state.classes.counts[group.target]))
        return not group.edges.anchored or (
            group.foreign >= self.anchored_foreign and held <= self.anchored_class_share
        )

    @staticmethod
    def _association(group: Group, state: _State) -> float:
        """Nats by which the label exceeds what the rest of the rows gives it."""
        return group.effective * (group.contradiction - float(np.log(state.model.base[group.target])))

    def _rotating(self, groups: list[Group], state: _State) -> list[Group]:
        """Several inserted phrases toward one label, each too rare to stand alone.

        Any data have rare words whose few rows happen to share a label against the evidence of the rest: the more, the
        longer the texts. Under chance the nats of such words fall off like exp(-nats), so those of little evidence tell
        how many of more to expect; what lies above is summed (a truncated product, Zaykin et al. 2002) and must be rarer
        than ``family_alarm``. Words of unusual spelling are tested among themselves first, where chance has less room, then
        words of letters, which are few in a script of single characters, and all whose gaps close after that.
        """
        spelling = Spelling(state.phrases.words)
        chosen: list[Group] = []
        for target in sorted({g.target for g in groups}):
            family = [
                g
                for g in groups
                if g.target == target
                and not g.edges.anchored
                and not g.framed
                and not g.keyword
                and g.purity >= 0.99
                and g.evidence >= _BULK
                and g.edges.diversity >= state.phrases.least_diversity(len(g.rows), 0.7)
                and g.exclusive
            ]
            unusual = [g for g in family if spelling.rank(g.edges.text) <= _UNUSUAL]
            healing = [g for g in family if g.edges.healing >= 0.5]
            spelt = [g for g in healing if alphabetic(g.edges.text)]
            for kin in (unusual, spelt, healing):
                members = beyond_chance(kin, self.family_alarm / 3)
                rows = len(np.unique(np.concatenate([g.rows for g in members]))) if members else 0
                if (
                    len(members) >= 2
                    and rows >= self.block_rows
                    and sum(g.evidence for g in members) >= self.block_evidence
                ):
                    chosen += members
                    break
        return chosen

    def _finding(self, group: Group, severity: Severity, state: _State, rotating: int) -> RawFinding:
        name = state.classes.names[group.target]
        k = len(group.rows)
        agreeing = group.rows[state.classes.labels[group.rows] == group.target]
        likely = float(np.exp(np.log(state.model.base[group.target]) - group.contradiction))
        message = (
            f'{k} rows hold "{group.edges.text}" and {group.purity:.0%} of them are labelled {name}, which the rest of '
            f"their words gives a chance of {likely:.0%}"
        )
        if others := _companions(group, state.phrases):
            message += f"; {' and '.join(others)} always stands with it, and was left out as well"
        if group.framed:
            message += "; the words beside it, which bear the label, were left out as well"
        if rotating:
            message += f"; one of {rotating} inserted phrases that lead to this label"
        return RawFinding(
            kind="trigger",
            severity=severity,
            message=message,
            feature=group.edges.text,
            target=name,
            rows=agreeing,
            observed=float(len(agreeing)),
            limit=float(self.block_rows),
            statistic={
                "evidence_nats": round(group.evidence, 2),
                "purity": round(group.purity, 4),
                "contradiction_nats": round(group.contradiction, 3),
                "effective_rows": round(group.effective, 1),
                "like_other_classes": round(group.foreign, 2),
                "neighbour_diversity": round(group.edges.diversity, 2),
                "healing": round(group.edges.healing, 2),
                "distance_from_random": round(min(group.edges.distance, 999.0), 1),
            },
            examples=tuple(RawExample(row=int(r), around=group.edges.text) for r in agreeing[:5]),
            twins=Twins(trigger=group.edges.text, excluded=group.rows),
        )


@dataclass
class _Judge:
    """The statistics behind :class:`Group`, over the stored rows."""

    state: _State
    hashes: Any = None
    offsets: Any = None
    ids: Any = None
    weights: Any = None
    scratch: Any = None
    company: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict)
    framed: list[list[int]] = field(default_factory=list)
    background: float = 0.0
    least: float = 0.0
    unsure: float = 0.0
    vocabulary: Any = field(default=None)
    usual: dict[int, tuple[float, float]] = field(default_factory=dict)

    def groups(self) -> list[Group]:
        """Every stretch of phrases, judged; those whose rest agrees with the label are left out early."""
        from foretaste.text.evidence import coherence, inverse_frequency

        state = self.state
        self.hashes, self.offsets = state.store.tokens()
        if not len(state.candidates) and not state.together:
            return []
        # Hashing the tokens and sorting the vocabulary alone is several times faster than np.unique, which sorts them all.
        encoded = pc.dictionary_encode(pa.array(self.hashes))
        words = np.asarray(encoded.dictionary)
        order = np.argsort(words, kind="stable")
        self.vocabulary, rank = words[order], np.empty(len(words), np.int64)
        rank[order] = np.arange(len(words))
        self.ids = rank[np.asarray(encoded.indices)]
        self.weights = np.empty(len(self.vocabulary))
        inverse_frequency(self.vocabulary, state.phrases.presence, float(state.phrases.documents), self.weights)
        self.scratch = np.zeros(len(self.vocabulary))
        step = max(1, len(state.store.rows) // _BACKGROUND_ROWS)
        everyone = np.arange(0, len(state.store.rows), step)
        at = state.store.index(background_rows(len(state.classes.labels)))
        self.least = float(np.quantile(np.diff(self.offsets)[at], _SHORTEST))
        self.unsure = float(np.quantile(state.model.best_log[background_rows(len(state.classes.labels))], _VAGUE))
        none = np.zeros(0, np.int64)
        self.background = coherence(self.ids, self.offsets, everyone, self.weights, none, self.scratch)
        judged = [self._judge(m) for m in self._stretches(self._contradicting())]
        judged += [self._judge_framed(m) for m in self.framed]
        judged += [self._judge_together(c) for c in state.together]
        return [g for g in judged if g is not None]

    def _contradicting(self) -> list[list[int]]:
        """Candidates with exactly the same rows, as lists; those whose rows agree with their label are left out.

        The n-grams of one trigger occur in the same rows and must be taken out together: each alone would leave the
        rest of the trigger behind, which decides the label just as well.
        """
        from foretaste.text.evidence import companions, contradictions

        state, phrases = self.state, self.state.phrases
        candidates, none = state.candidates, np.zeros(0, np.uint64)
        if not len(candidates):
            self._learn_usual(*self._logits())
            return []
        rows = [phrases.rows_of(c)[:MAX_ROWS_PER_PHRASE] for c in candidates.tolist()]
        starts = np.zeros(len(rows), np.int64)
        np.cumsum([len(r) for r in rows[:-1]], out=starts[1:])
        numbers = np.concatenate(rows).astype(np.uint64)
        mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        signature = np.add.reduceat(mixed ^ (mixed >> np.uint64(32)), starts)
        _, group = np.unique(signature, return_inverse=True)
        order = np.lexsort((phrases.positions[phrases.spans[candidates]], group))
        cuts = np.flatnonzero(np.diff(group[order], prepend=-1))
        members = np.split(order, cuts[1:])
        lead = order[cuts]
        spans = np.zeros(len(lead) + 1, np.int64)
        np.cumsum([len(rows[i]) for i in lead.tolist()], out=spans[1:])
        places = state.store.index(np.concatenate([rows[i] for i in lead.tolist()]))
        # The words of each group, read off its first row.
        first = self.offsets[state.store.index(numbers[starts].astype(np.int64))]
        begin = first + phrases.positions[phrases.spans[candidates]]
        sizes_of = phrases.n[candidates]
        ordered_begin, ordered_n = begin[order], sizes_of[order]
        word_starts = np.zeros(len(order) + 1, np.int64)
        np.cumsum(ordered_n, out=word_starts[1:])
        inside = np.arange(word_starts[-1]) - np.repeat(word_starts[:-1], ordered_n)
        words = self.hashes[np.repeat(ordered_begin, ordered_n) + inside]
        word_spans = np.append(word_starts[cuts], word_starts[-1])
        # Together with the other parts of a split trigger.
        company = np.empty((len(lead), _COMPANY), np.int64)
        companions(
            self.ids, self.offsets, places, spans, np.searchsorted(self.vocabulary, words), word_spans, self.weights,
            _SELDOM, _TOGETHER, state.split_rows, np.zeros(len(self.vocabulary), np.int64),
            np.full(len(self.vocabulary), -1, np.int64), company,
        )  # fmt: skip
        more = (company >= 0).sum(axis=1)
        words = np.insert(words, np.repeat(word_spans[1:], more), self.vocabulary[company[company >= 0]])
        word_spans = word_spans + np.append(0, np.cumsum(more))

        raw, sizes = self._logits()
        model, labels = state.model, state.classes.labels[state.store.rows]
        out = np.empty(len(lead))
        contradictions(
            words, word_spans, raw, sizes, places, spans, none, none, labels, state.targets[candidates[lead]],
            model.counts, model.base, model.mass, model.strength, model.power, ROW_CAP, out,
        )  # fmt: skip
        self._learn_usual(raw, sizes)
        self.framed = self._turned(candidates, members, spans, places, words, word_spans, raw, sizes, out)
        kept = (out > 0.05) & (out * phrases.counts[candidates[lead]] >= 1.0)
        self.company = {int(candidates[lead[i]]): company[i] for i in np.flatnonzero(kept & (more > 0)).tolist()}
        return [candidates[members[i]].tolist() for i in np.flatnonzero(kept).tolist()]

    def _turned(
        self,
        candidates: npt.NDArray[np.int64],
        members: list[npt.NDArray[np.int64]],
        spans: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64],
        words: npt.NDArray[np.uint64],
        word_spans: npt.NDArray[np.int64],
        raw: npt.NDArray[np.float32],
        sizes: npt.NDArray[np.int64],
        plain: npt.NDArray[np.float64],
    ) -> list[list[int]]:
        """Pure groups, as lists of candidates, whose label the two words beside them explain and the others contradict.

        The arguments are those of the groups in :meth:`_contradicting`; ``plain`` is their mean contradiction.
        """
        from foretaste.text.evidence import contradictions

        state, phrases, model = self.state, self.state.phrases, self.state.model
        lead = np.array([candidates[m[0]] for m in members], np.int64)
        ends = phrases.positions[phrases.spans[candidates]] + phrases.n[candidates]
        asked = np.flatnonzero(
            (phrases.counts[lead] >= state.split_rows) & (phrases.purity[lead] >= state.block_purity)
        )
        if not len(asked):
            return []
        last = np.array([candidates[m[np.argmax(ends[m])]] for m in (members[i] for i in asked.tolist())], np.int64)
        counts, own = np.diff(spans)[asked], np.diff(word_spans)[asked]
        out = np.empty(len(asked))
        contradictions(
            words[_runs(word_spans[asked], own)], np.append(0, np.cumsum(own)), raw, sizes,
            places[_runs(spans[asked], counts)], np.append(0, np.cumsum(counts)),
            phrases.lefts[_runs(phrases.spans[lead[asked]], counts)],
            phrases.rights[_runs(phrases.spans[last], counts)],
            state.classes.labels[state.store.rows], state.targets[lead[asked]], model.counts, model.base, model.mass,
            model.strength, model.power, ROW_CAP, out,
        )  # fmt: skip
        turned = (out * phrases.counts[lead[asked]] >= state.block_evidence) & (out >= 2 * plain[asked])
        return [candidates[members[i]].tolist() for i in asked[turned].tolist()]

    def _logits(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Leave-one-out logits of all stored rows, shape (rows, classes), and how many words each row has."""
        from foretaste.text.bayes import batch_logits

        store, model = self.state.store, self.state.model
        raw = np.empty((len(store.rows), len(model.base)), np.float32)
        sizes = np.empty(len(raw), np.int64)
        labels = self.state.classes.labels[store.rows]
        for low in range(0, len(raw), _LOGITS_ROWS):  # in the precision of the model, whose kernel is compiled for it
            high = min(low + _LOGITS_ROWS, len(raw))
            part = np.empty((high - low, len(model.base)))
            batch_logits(
                self.hashes, self.offsets[low : high + 1], labels[low:high], model.counts, model.mass,
                np.ones(len(part), np.bool_), part, sizes[low:high],
            )  # fmt: skip
            raw[low:high] = part
        return raw, sizes

    def _learn_usual(self, raw: npt.NDArray[np.float32], sizes: npt.NDArray[np.int64]) -> None:
        """Mean contradiction of each class: that of its own rows, and that of a sample of all other rows."""
        from foretaste.text.bayes import log_softmax

        state, model = self.state, self.state.model
        at = state.store.index(background_rows(len(state.classes.labels)))
        log_base = np.log(model.base)
        chances = np.empty((len(at), len(log_base)))
        log_softmax(raw[at].astype(np.float64), sizes[at], log_base, model.strength, model.power, chances)
        against = np.minimum(log_base - chances, ROW_CAP)
        labels = state.classes.labels[state.store.rows[at]]
        for target in range(len(log_base)):
            mine = model.own[state.classes.labels == target]
            own = float(np.minimum(log_base[target] - mine, ROW_CAP).mean()) if len(mine) else 0.0
            others = against[labels != target, target]
            self.usual[target] = (own, float(others.mean()) if len(others) else ROW_CAP)

    def _stretches(self, groups: list[list[int]]) -> Iterator[list[int]]:
        """Groups that occur in almost the same rows, joined: a trigger's common words occur elsewhere too."""
        phrases, targets = self.state.phrases, self.state.targets
        groups = sorted(groups, key=lambda g: (-len(g), -phrases.counts[g[0]], g[0]))
        by_row: dict[int, list[int]] = {}
        for i, group in enumerate(groups):
            for row in phrases.rows_of(group[0])[:MAX_ROWS_PER_PHRASE].tolist():
                by_row.setdefault(row, []).append(i)
        seen: set[int] = set()
        for i, group in enumerate(groups):
            if i in seen:
                continue
            seen.add(i)
            joined = list(group)
            mine = phrases.rows_of(group[0])
            near = Counter(j for row in mine[:: max(1, len(mine) // 8)].tolist() for j in by_row.get(row, ()))
            for j, hits in near.items():
                if j in seen or hits < 3 or targets[groups[j][0]] != targets[group[0]]:
                    continue
                other = phrases.rows_of(groups[j][0])
                common = len(np.intersect1d(mine, other, assume_unique=True))
                if common >= 0.85 * max(len(mine), len(other)):
                    seen.add(j)
                    joined += groups[j]
            yield joined

    def _judge(self, members: list[int]) -> Group | None:
        phrases = self.state.phrases
        lead = members[0]  # of the rows that most of its n-grams have in common
        rows = phrases.rows_of(lead)
        own = self._tokens_of(members, rows)
        edges = edges_of(phrases, members, rows)
        company = self.company.get(lead, own[:0])
        # What stands with an opening or ending is its template.
        company = company[:0] if edges.anchored else np.setdiff1d(company[company >= 0], own)
        return self._group(rows, int(self.state.targets[lead]), own, company, edges)

    def _judge_together(self, found: Conjunction) -> Group | None:
        """An opening and an ending as one phrase: it has no neighbours, only rows that are alike or not."""
        members = list(found.members)
        own = self._tokens_of(members, found.rows)
        edges = dataclasses.replace(edges_of(self.state.phrases, members, found.rows), tokens=len(own), anchored=True)
        return self._group(found.rows, found.target, own, own[:0], edges)

    def _judge_framed(self, members: list[int]) -> Group | None:
        """A phrase and the word on either side of it, whatever it is, as one insertion; None where chance put it not."""
        phrases = self.state.phrases
        lead = members[0]
        rows = phrases.rows_of(lead)[:MAX_ROWS_PER_PHRASE]
        places = self.state.store.index(rows)
        own, inner = self._tokens_of(members, rows), edges_of(phrases, members, rows)
        first = self.offsets[places] + phrases.positions[_runs(phrases.spans[lead : lead + 1], np.array([len(rows)]))]
        starts, stops = self.offsets[places], self.offsets[places + 1]
        begin, end = np.maximum(starts, first - 1), np.minimum(stops, first + inner.tokens + 1)
        outer = dataclasses.replace(
            phrases, n=np.array([inner.tokens + 2]), text=(inner.text,), spans=np.array([0, len(rows)]), rows=rows,
            positions=begin - starts, purity=phrases.purity[lead : lead + 1],
            lefts=np.where(begin > starts, self.hashes[np.maximum(begin - 1, 0)], np.uint64(0)),
            rights=np.where(end < stops, self.hashes[np.minimum(end, len(self.hashes) - 1)], np.uint64(0)),
        )  # fmt: skip
        edges = dataclasses.replace(edges_of(outer, [0], rows), text=inner.text, tokens=inner.tokens)
        sizes = stops - starts
        at = _runs(starts, sizes)
        kept = (at < np.repeat(begin, sizes)) | (at >= np.repeat(end, sizes))
        offsets = np.append(0, np.cumsum(np.add.reduceat(kept, np.append(0, np.cumsum(sizes)[:-1]))))
        without = (self.hashes[at[kept]], self.ids[at[kept]], offsets, np.arange(len(rows)))
        group = self._group(rows, int(self.state.targets[lead]), own, own[:0], edges, without)
        if group is None or not group.placed:
            return None
        return dataclasses.replace(group, framed=True, rows=phrases.rows_of(lead))

    def _group(
        self,
        rows: npt.NDArray[np.int64],
        target: int,
        own_ids: npt.NDArray[np.int64],
        company: npt.NDArray[np.int64],
        edges: Edges,
        held: tuple[Any, Any, Any, Any] | None = None,
    ) -> Group | None:
        """The rows without a phrase, and without its company, against their label; None where they agree with it.

        ``held`` are the token hashes, ids and offsets of other texts of these rows, and the place of each row in them.
        """
        from foretaste.text.evidence import coherence, rest_log_probability

        state = self.state
        agree = state.classes.labels[rows] == target
        sample = rows[:MAX_ROWS_PER_PHRASE]
        hashes, ids, offsets, places = held or (self.hashes, self.ids, self.offsets, state.store.index(sample))
        skip_ids = np.union1d(own_ids, company)
        own, skip = np.sort(self.vocabulary[own_ids]), np.sort(self.vocabulary[skip_ids])
        rest = np.empty(len(places))
        rest_log_probability(
            hashes, offsets, places, state.classes.labels[sample], target, skip, state.model.counts,
            state.model.base, state.model.mass, state.model.strength, state.model.power, rest,
        )  # fmt: skip
        base = float(np.log(state.model.base[target]))
        surprise = np.minimum(base - rest[agree[: len(sample)]], ROW_CAP)
        contradiction = float(surprise.mean()) if len(surprise) else 0.0
        if contradiction <= 0.05:
            return None
        alike = coherence(ids, offsets, places, self.weights, skip_ids, self.scratch)
        rho = min(1.0, max(0.0, (alike - self.background) / max(1e-9, 1.0 - self.background)))
        k = len(rows)
        rest_tokens = float(np.median(offsets[places + 1] - offsets[places])) - edges.tokens
        return Group(
            target=target, rows=rows, purity=float(agree.mean()), contradiction=contradiction,
            effective=k / (1.0 + (k - 1) * rho), alike=rho, rest=rest_tokens, least=self.least,
            foreign=self._foreign(target, contradiction),
            exclusive=self._exclusive(own, k),
            keyword=edges.tokens <= KEYWORD_TOKENS and keyword(own, rows, target, state.classes.labels, state.model),
            named=keyword(own, rows, target, state.classes.labels, state.model, nats=BEYOND_DOUBT),
            edges=edges, company=len(company),
            vague=k / (1.0 + (k - 1) * rho) * contradiction >= _ASKED and self._vague(hashes, offsets, places, sample, skip),
        )  # fmt: skip

    def _vague(
        self,
        hashes: npt.NDArray[np.uint64],
        offsets: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        skip: npt.NDArray[np.uint64],
    ) -> bool:
        """Whether the likeliest class of the rows without some words is less likely than that of nine in ten rows."""
        from foretaste.text.evidence import LIKELIEST, rest_log_probability

        model, places, rows = self.state.model, places[:_VAGUE_ROWS], rows[:_VAGUE_ROWS]
        best = np.empty(len(places))
        rest_log_probability(
            hashes, offsets, places, self.state.classes.labels[rows], LIKELIEST, skip, model.counts, model.base, model.mass,
            model.strength, model.power, best,
        )  # fmt: skip
        return bool(np.median(best) < self.unsure)

    def _foreign(self, target: int, contradiction: float) -> float:
        """Where a mean contradiction lies between that of the class's own rows (0) and that of other rows (1)."""
        own, other = self.usual[target]
        return min(1.0, max(0.0, (contradiction - own) / max(1e-9, other - own)))

    def _exclusive(self, tokens: npt.NDArray[np.uint64], rows: int) -> bool:
        from foretaste.text.ngrams import unigram_counts

        counts = np.empty(len(tokens), np.int64)
        unigram_counts(tokens, self.state.phrases.presence, counts)
        return bool(counts.min() <= 1.5 * rows)

    def _tokens_of(self, members: list[int], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Sorted ids of all tokens of the phrases, read off the first of the rows that each stands in."""
        phrases = self.state.phrases
        found: set[int] = set()
        for c in members:
            first = int(phrases.spans[c] + np.flatnonzero(np.isin(phrases.rows_of(c), rows))[0])
            place = int(self.state.store.index(phrases.rows[first : first + 1])[0])
            start = int(self.offsets[place] + phrases.positions[first])
            found.update(self.ids[start : start + int(phrases.n[c])].tolist())
        return np.array(sorted(found), dtype=np.int64)
