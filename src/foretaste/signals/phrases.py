"""Word n-grams that occur in so many rows that they could be a trigger, with every row in which they occur.

Three rounds: sketch all n-grams, count those that may matter exactly, list the occurrences of those that do.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foretaste.background import Sketches, add_saturating
from foretaste.batch import Batch
from foretaste.check import Context, Signal
from foretaste.signals.outputs import NONE, Classes, Labels, ResponseHeads
from foretaste.text.sample import Sample
from foretaste.text.spelling import Spelling

SKETCH_CELLS = 1 << 25
BIGRAM_CELLS = 1 << 23
UNIGRAM_CELLS = 1 << 22
SLOT_BYTES = 52  # at most: 8 of the index, and 52 of each n-gram, which are three quarters as many
OCCURRENCE_BYTES = 32
SAMPLE = 1 << 16
_LEAST = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 255)
_SKETCHES = ("cells", "unigrams", "presence")
_CROWD = 512  # rows from which a phrase waits until the others have found room
_TELLING = 16  # rows from which a phrase tells something by itself
_COUNTABLE = 128  # distinct neighbours up to which a linear counter tells how many there are


class Distinct:
    """How many distinct words are expected among so many random words of a text, of which a sample is known."""

    def __init__(self, sample: npt.NDArray[np.uint64]) -> None:
        _, counts = np.unique(sample, return_counts=True)
        counts, self._words = np.unique(counts, return_counts=True)
        self._shares = counts / max(1, len(sample))
        self._known: dict[int, float] = {}

    def __call__(self, draws: int) -> float:
        """The expectation for a number of draws."""
        if draws not in self._known:
            self._known[draws] = float(((1.0 - (1.0 - self._shares) ** draws) * self._words).sum())
        return self._known[draws]


# Token hashes of some rows, their offsets, those of their turns, and the place of each row among them.
Held = tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class PhraseTable:
    """Candidate phrases, in the order of their first occurrence.

    Attributes:
        n: tokens per phrase, int64 (phrases,).
        text: surface of the first occurrence.
        spans: occurrences of phrase i are ``spans[i]`` to ``spans[i + 1]`` of the arrays below, int64 (phrases + 1,).
        rows, positions: row and first token in the row, one occurrence per row, ascending.
        lefts, rights: hash of the token before and after, 0 at the edge of the row or of one of its turns.
        purity: share of rows that have the majority output, 0 without outputs.
        presence: rows per word, as a sketch.
        bigrams, unigrams, total, sample: background counts of occurrences, and words drawn evenly from the text, behind the
            neighbour statistics.
        lost: n-grams, and occurrences, that found no room: what was not looked at.
        least: rows from which n-grams were counted; more than was asked for where the rarer ones found no room.
        documents: rows behind the sketches; more than were listed where a background is known.
    """

    n: npt.NDArray[np.int64]
    text: tuple[str, ...]
    spans: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    lefts: npt.NDArray[np.uint64]
    rights: npt.NDArray[np.uint64]
    purity: npt.NDArray[np.float64]
    bigrams: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
    unigrams: npt.NDArray[np.uint32]
    presence: npt.NDArray[np.uint32]
    total: float
    sample: npt.NDArray[np.uint64]
    lost: int
    documents: int
    least: int = 0

    @property
    def loss(self) -> str:
        """What found no room in the memory that the policy gives, for the note of a check; empty where all did."""
        said = [f"{self.lost} phrases found no room and were not looked at"] if self.lost else []
        if self.least:
            said.append(f"phrases that occur fewer than {self.least} times were not looked at (memory_mb)")
        return "; ".join(said)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Rows per phrase."""
        return np.diff(self.spans)

    @functools.cached_property
    def _distinct(self) -> Distinct:
        """Distinct words among so many random words of the text."""
        return Distinct(self.sample)

    def least_diversity(self, rows: int, wanted: float) -> float:
        """Distinct neighbours per row to ask of a phrase in so many rows: ``wanted``, or less where words run out.

        Among many random words few are distinct, and fewer in a script of single characters: never more is asked than
        six tenths of what as many random words of the text would give.
        """
        return min(wanted, 0.6 * self._distinct(rows) / max(1, rows))

    @functools.cached_property
    def random_diversity(self) -> npt.NDArray[np.float64]:
        """Distinct words per row among as many random words of the text as each phrase has rows, float64 (phrases,)."""
        counts, shape = np.unique(self.counts, return_inverse=True)
        return np.array([self._distinct(n) / max(1, n) for n in counts.tolist()])[shape]

    @functools.cached_property
    def rarefied(self) -> npt.NDArray[np.float64]:
        """Distinct left and right neighbours per row to expect in as many rows of each phrase, float64 (phrases, 2)."""
        from foretaste.text.ngrams import rarefied_diversity

        found = np.zeros((len(self.n), 2))
        rarefied_diversity(self.spans, self.lefts, self.rights, found)
        return found

    @property
    def words(self) -> list[str]:
        """Phrases of a single word that consists of letters."""
        return [t for t, n in zip(self.text, self.n.tolist()) if n == 1 and t.isalpha()]

    @functools.cached_property
    def spelling(self) -> Spelling:
        """How usual a spelling is among the words."""
        return Spelling(self.words)

    def rows_of(self, phrase: int) -> npt.NDArray[np.int64]:
        """Row numbers of a phrase, ascending."""
        return self.rows[self.spans[phrase] : self.spans[phrase + 1]]


@dataclass(frozen=True)
class Edges:
    """What stands around a stretch of text that several rows share.

    Attributes:
        text: the stretch, as its first row has it.
        tokens: its length in most rows.
        left, right: distinct neighbours per row, 0 to 1.
        healing: share of the rows with both neighbours whose neighbours stand side by side elsewhere.
        healing_pmi: mean pointwise mutual information of the two neighbours, in nats.
        inner: share of rows with a neighbour on both sides.
        distance: how far the neighbours are from a random draw of words, as a sum of squared z-scores over the open
            sides; infinite where there are too few words to tell.
        anchored: the stretch opens or ends nearly all of its rows.
    """

    text: str
    tokens: int
    left: float
    right: float
    healing: float
    healing_pmi: float
    inner: float
    distance: float
    anchored: bool

    @property
    def diversity(self) -> float:
        """Distinct neighbours per row: the lesser of both sides, or that of the open side of a head or tail."""
        return max(self.left, self.right) if self.anchored else min(self.left, self.right)

    def inserted(self, alike: float, rest: float, max_distance: float) -> bool:
        """Whether the rows look like others' rows with something put in.

        Either the neighbours are like a random draw, or, at the head or tail, the rows have nothing else in common
        (``alike``, their cosine without the phrase above that of any two rows) and the phrase is no more than half of
        them (``rest``, their other tokens): a title with a changing name in it is a template.
        """
        if self.anchored:
            return alike <= 0.025 and rest >= max(5, self.tokens)
        return self.distance <= max_distance


def edges_of(
    table: PhraseTable,
    members: list[int],
    rows: npt.NDArray[np.int64],
    seed: int = 0,
    held: Held | None = None,
) -> Edges:
    """The edges of the stretch that overlapping phrases make up in the given rows (ascending).

    With ``held`` the neighbours are compared with words of the same turns as well, and the lesser distance counts.
    """
    from foretaste.text.ngrams import neighbour_scores, randomness

    first = np.full(len(rows), np.iinfo(np.int64).max)
    last = np.full(len(rows), -1, np.int64)
    lefts = np.zeros(len(rows), np.uint64)
    rights = np.zeros(len(rows), np.uint64)
    for c in members:
        span = slice(int(table.spans[c]), int(table.spans[c + 1]))
        at = np.minimum(np.searchsorted(rows, table.rows[span]), len(rows) - 1)
        hit = rows[at] == table.rows[span]
        at, start = at[hit], table.positions[span][hit]
        stop = start + table.n[c]
        earlier = start < first[at]
        first[at[earlier]] = start[earlier]
        lefts[at[earlier]] = table.lefts[span][hit][earlier]
        later = stop > last[at]
        last[at[later]] = stop[later]
        rights[at[later]] = table.rights[span][hit][later]
    scores = np.zeros((1, 5))
    spans = np.array([0, len(rows)], np.int64)
    neighbour_scores(spans, lefts, rights, *table.bigrams, table.unigrams, table.total, scores)
    anchored = bool((lefts == 0).mean() > 0.9 or (rights == 0).mean() > 0.9)
    z = np.zeros((2, 2))
    for side, neighbours in enumerate((lefts, rights)):
        if (neighbours == 0).mean() <= 0.9:
            randomness(neighbours[:512], table.sample, table.unigrams, table.total, seed + 1, z[side])
    distance = float((z**2).sum())
    if held is not None:
        distance = min(distance, _distance_within(table, (lefts, rights), rows, first, last, seed, held))
    row = int(rows[0])
    pieces = [
        (int(table.positions[table.spans[c]]), int(table.n[c]), table.text[c])
        for c in members
        if table.rows[table.spans[c]] == row
    ]
    left, right, healing, pmi, inner = scores[0].tolist()
    return Edges(
        text=_surface(pieces), tokens=int(np.median(last - first)), left=left, right=right, healing=healing,
        healing_pmi=pmi, inner=inner, distance=distance, anchored=anchored,
    )  # fmt: skip


def _distance_within(
    table: PhraseTable,
    neighbours: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]],
    rows: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
    seed: int,
    held: Held,
) -> float:
    """Distance of the neighbours, on the open sides, from words drawn from the same turns; at most 512 of them."""
    from foretaste.text.insertion import DRAWN, distance_within, draw_words, without

    hashes, offsets, turns, places = held
    # Where most rows open with the same words, a phrase put among those has no other neighbours.
    among = np.searchsorted(turns, offsets[places] + first, side="right") - 1
    drawn = np.zeros((2, min(512, len(rows)), DRAWN), np.uint64)
    draw_words(hashes, turns, among[:512], rows[:512], seed + 1, drawn)
    start = int(offsets[places[0]])
    own = hashes[start + int(first[0]) : start + int(last[0])]
    z = np.zeros((2, 2))
    for side, mine in enumerate(neighbours):
        if (mine == 0).mean() <= 0.9:
            pool = without(drawn[side], own)
            distance_within(mine[:512], *pool, table.unigrams, table.total, seed + 1, z[side])
    return float((z**2).sum())


def _surface(pieces: list[tuple[int, int, str]]) -> str:
    """The text of overlapping n-grams (position, tokens, text), from the fewest of them that cover the stretch."""
    text, end = "", -1
    for start, n, surface in sorted(pieces, key=lambda p: (p[0], -p[1])):
        if start + n <= end:
            continue
        if end > start and text:
            # Overlap: append what the new n-gram adds, found by the longest common seam.
            seam = next((i for i in range(len(surface), 0, -1) if text.endswith(surface[:i])), 0)
            text += surface[seam:]
        else:
            text += (" " if text else "") + surface
        end = start + n
    return text


@dataclass(frozen=True)
class Stretch:
    """One phrase, or two ends of a longer one, with its rows and the neighbours on both sides.

    ``position`` is its first token in the first of its rows.
    """

    text: str
    position: int
    tokens: int
    rows: npt.NDArray[np.int64]
    lefts: npt.NDArray[np.uint64]
    rights: npt.NDArray[np.uint64]


def stretches(
    table: PhraseTable, least: int, diversity: float, healing: float = 0.0, inner: float = 0.0
) -> tuple[list[Stretch], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Phrases with diverse neighbours on both sides, and pairs of longest n-grams that are the ends of one.

    Among many rows fewer neighbours are distinct, wherever a phrase stands: ``diversity`` is asked of as many rows of each.

    Returns:
        those without which at least a share ``healing`` of the gaps close, with a neighbour on both sides in at least a
        share ``inner`` of the rows; what :func:`foretaste.text.ngrams.neighbour_scores` gives for each of them, float64
        (stretches, 5), with distinct neighbours of as many rows; and the rows of each phrase or pair, int64, whether its
        gaps close or not.
    """
    from foretaste.text.ngrams import RAREFIED, rarefied_diversity

    scores = table.rarefied
    counts, shape = np.unique(np.minimum(table.counts, RAREFIED), return_inverse=True)
    asked = np.array([table.least_diversity(int(n), diversity) for n in counts])[shape]
    enough = table.counts >= least
    left_open, right_open = scores[:, 0] >= asked, scores[:, 1] >= asked

    starts, lengths = table.spans.tolist(), table.n.tolist()
    open_ones = np.flatnonzero(enough & left_open & right_open)
    sizes = table.counts[open_ones]
    spans = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    places = np.repeat(table.spans[open_ones] - spans[:-1], sizes) + np.arange(spans[-1])
    open_scores = _scores(table, spans, table.lefts[places], table.rights[places], scores[open_ones])
    # Few are left of tens of thousands: only those are made into objects.
    closing = (open_scores[:, 2] >= healing) & (open_scores[:, 4] >= inner)
    found = []
    for c in open_ones[closing].tolist():
        span = slice(starts[c], starts[c + 1])
        position = int(table.positions[starts[c]])
        found.append(
            Stretch(table.text[c], position, lengths[c], table.rows[span], table.lefts[span], table.rights[span])
        )
    pairs: list[Stretch] = []
    longest = table.n == (table.n.max() if len(table.n) else 0)
    heads = np.flatnonzero(enough & longest & left_open & ~right_open)
    tails: dict[int, list[int]] = {}
    for c in np.flatnonzero(enough & longest & right_open & ~left_open).tolist():
        tails.setdefault(int(table.rows[starts[c]]), []).append(c)
    for head in heads.tolist():
        mine = slice(starts[head], starts[head + 1])
        rows = table.rows[mine]
        for tail in tails.get(int(rows[0]), ()):
            its = slice(starts[tail], starts[tail + 1])
            other = table.rows[its]
            shared = 0.85 * max(len(rows), len(other))
            if min(len(rows), len(other)) < shared:
                continue
            common, at, at_its = np.intersect1d(rows, other, assume_unique=True, return_indices=True)
            if len(common) < shared:
                continue
            gap = table.positions[its][at_its] - table.positions[mine][at]
            if gap.min() != gap.max() or gap[0] <= 0:
                continue
            joined = _overlap(table.text[head], table.text[tail], int(gap[0]) >= lengths[head])
            position = int(table.positions[mine][at[0]])
            lefts, rights = table.lefts[mine][at], table.rights[its][at_its]
            pairs.append(Stretch(joined, position, int(gap[0]) + lengths[tail], common, lefts, rights))
    pair_sizes = np.array([len(s.rows) for s in pairs], np.int64)
    none = np.zeros(0, np.uint64)
    lefts, rights = (np.concatenate([none, *(getattr(s, side) for s in pairs)]) for side in ("lefts", "rights"))
    pair_spans, pair_distinct = np.concatenate([[0], np.cumsum(pair_sizes)]), np.zeros((len(pairs), 2))
    rarefied_diversity(pair_spans, lefts, rights, pair_distinct)
    pair_scores = _scores(table, pair_spans, lefts, rights, pair_distinct)
    kept = (pair_scores[:, 2] >= healing) & (pair_scores[:, 4] >= inner)
    found += [pairs[i] for i in np.flatnonzero(kept).tolist()]
    return found, np.concatenate([open_scores[closing], pair_scores[kept]]), np.concatenate([sizes, pair_sizes])


def _scores(
    table: PhraseTable,
    spans: npt.NDArray[np.int64],
    lefts: npt.NDArray[np.uint64],
    rights: npt.NDArray[np.uint64],
    distinct: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """What :func:`foretaste.text.ngrams.neighbour_scores` gives, with the distinct neighbours given."""
    from foretaste.text.ngrams import healing

    scores = np.zeros((len(spans) - 1, 5))
    scores[:, :2] = distinct
    healing(spans, lefts, rights, *table.bigrams, table.unigrams, table.total, scores)
    return scores


def _overlap(head: str, tail: str, apart: bool) -> str:
    """Two n-grams of one stretch as one text; an unseen middle becomes a space."""
    if not apart:
        for i in range(min(len(head), len(tail)), 0, -1):
            if head.endswith(tail[:i]):
                return head + tail[i:]
    return f"{head} {tail}"


@dataclass
class _State:
    """Sketches sized by the data, a table sized by what they hold, and occurrences; at most `memory` bytes."""

    labels: npt.NDArray[np.int32] | None
    background: Sketches | None = None
    older_rows: int = 0
    round: int = 1
    cells: Any = None
    bigrams: Any = None
    unigrams: Any = None
    presence: Any = None
    last: Any = None
    rows: int = 0
    sample: Sample = field(default_factory=lambda: Sample(SAMPLE))
    table: dict[str, Any] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    texts: dict[int, pa.Array] = field(default_factory=dict)  # by the number of the first candidate that it is of
    known: dict[int, int] = field(default_factory=dict)
    lost: int = 0
    memory: int = 2 << 30
    least: int = 0

    def __getstate__(self) -> dict[str, Any]:
        """What travels is packed: a table and a list have room for all data, of which a part fills little."""
        from foretaste.text import merging

        held = dict(self.__dict__) | {"last": None}  # of the rows of one part
        for name in _SKETCHES:
            held[name] = merging.packed_sketch(held[name])
        held["bigrams"] = tuple(merging.packed_sketch(b) for b in self.bigrams)
        if self.round == 2:
            held["table"] = merging.packed_table(self.table)
        elif self.found:
            constant = {k: self.found[k] for k in ("first", "chosen", "tagged", "spans")}
            held["found"] = constant | {"packed": merging.packed_occurrences(self.found)}
        return held

    def __setstate__(self, held: dict[str, Any]) -> None:
        """Make the room again."""
        from foretaste.text import merging

        self.__dict__.update(held)
        for name in _SKETCHES:
            setattr(self, name, merging.unpacked_sketch(held[name]))
        self.bigrams = tuple(merging.unpacked_sketch(b) for b in held["bigrams"])
        if self.round == 1:
            self.last = np.full(len(self.unigrams), -1, np.int32)
        elif self.round == 2:
            self.table = merging.unpacked_table(held["table"])
        elif self.found:
            found = dict(held["found"])
            packed = found.pop("packed")
            self.found = found | merging.empty_occurrences(found["spans"])
            merging.add_occurrences(self.found, packed)


@dataclass(frozen=True)
class Phrases(Signal[_State, PhraseTable]):
    """Phrases of up to four tokens in the rows' ``role`` that are frequent and either purposeful or placed at random.

    A phrase is kept where it occurs in ``least`` to ``most`` rows and either (outputs given) one output holds at least
    ``purity`` of its rows, or its neighbours on both sides are so diverse that it may have been inserted; where
    ``anchored``, also where one side is diverse, or the edge of the row, as around a phrase at a fixed place; where
    ``ends``, the latter alone, as on one side of an opening or ending.
    Diversity is asked of ``insertion_rows`` at most: among more rows fewer neighbours are distinct.
    """

    role: str = "input"
    outputs: Labels | ResponseHeads | None = None
    least: int = 3
    most: int = 2000
    purity: float = 0.8
    insertion_least: int = 10
    insertion_diversity: float = 0.35
    insertion_rows: int = 100
    anchored: bool = False
    ends: bool = False

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """The outputs, where phrases are judged by them."""
        return (self.outputs,) if self.outputs is not None else ()

    def needs_first(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Nothing: the first round counts words, whatever the outputs."""
        return ()

    def supply(self, state: _State, context: Context) -> None:
        """The outputs."""
        if self.outputs is not None:
            state.labels = context.value(self.outputs).labels

    def start(self, context: Context) -> _State:
        """Empty sketches."""
        classes: Classes | None = context.values.get(self.outputs) if self.outputs is not None else None
        older = context.background
        pairs, words = context.cells(BIGRAM_CELLS), context.cells(UNIGRAM_CELLS)
        return _State(
            labels=classes.labels if classes else None,
            background=older.sketches.get(self.role) if older else None,
            older_rows=older.rows if older else 0,
            cells=np.zeros(context.cells(SKETCH_CELLS), np.uint8),
            bigrams=(np.zeros(pairs, np.uint8), np.zeros(pairs, np.uint8)),
            unigrams=np.zeros(words, np.uint32),
            presence=np.zeros(words, np.uint32),
            last=np.full(words, -1, np.int32),
            memory=context.memory,
        )

    def scan(self, state: _State, batch: Batch) -> None:
        """Sketch, count or list, by round."""
        self.take(state, batch, self.prepare(state, batch))

    def prepare(self, state: _State, batch: Batch) -> npt.NDArray[np.uint8] | None:
        """Which n-grams are counted, in the second round: the sketches say it, and change no more."""
        from foretaste.text.ngrams import frequent_ngrams

        if state.round != 2:
            return None
        tokens, sketches = batch.tokens(self.role).hashes, (state.cells, *state.bigrams, state.unigrams)
        flags = np.empty(len(tokens), np.uint8)
        frequent_ngrams(tokens, batch.turn_offsets(self.role), *sketches, state.least, flags)
        return flags

    def take(self, state: _State, batch: Batch, prepared: npt.NDArray[np.uint8] | None) -> None:
        """Sketch, count what was prepared, or list."""
        from foretaste.text import ngrams

        tokens, turns = batch.tokens(self.role), batch.turn_offsets(self.role)
        if state.round == 1:
            ngrams.sketch_ngrams(
                tokens.hashes,
                tokens.offsets,
                turns,
                batch.start,
                state.cells,
                state.bigrams[0],
                state.bigrams[1],
                state.unigrams,
                state.presence,
                state.last,
            )
            state.rows += batch.num_rows
            state.sample.scan(tokens, batch.start)
            return
        t = state.table
        if state.round == 2:
            arguments: list[Any] = [
                tokens.hashes, tokens.offsets, turns, batch.start, state.labels, prepared,
                *(t[name] for name in ("index", "keys", "tallies", "where", "size")),
            ]  # fmt: skip
            ngrams.count_ngrams(*arguments)
            return
        f = state.found
        ends = np.array([batch.start, batch.start + batch.num_rows], np.int32)
        low, high = np.searchsorted(f["first"][:, 0], ends).tolist()
        first = f["first"][low:high].astype(np.int64) - (batch.start, 0, 0)
        if low < high:
            state.texts[low] = pa.array(tokens.texts(first), pa.large_string())
        if state.background is not None:
            # A Python loop over candidates: each is looked up once in a scan.
            for c, (row, position, n) in enumerate(first.tolist(), low):
                at = int(tokens.offsets[row]) + position
                known = ngrams.known_occurrences(
                    tokens.hashes[at : at + n], state.background.cells, *state.background.bigrams,
                    state.background.unigrams,
                )  # fmt: skip
                state.known[c] = int(known)
        ngrams.find_occurrences(
            tokens.hashes, tokens.offsets, turns, batch.start, t["keys"], f["chosen"], f["tagged"], f["fill"],
            f["seen"], f["rows"], f["positions"], f["lefts"], f["rights"],
        )  # fmt: skip

    def merge(self, left: _State, right: _State) -> _State:
        """Add the sketches (saturating), join the tables by key, or append the occurrences, by round."""
        from foretaste.text import merging

        if left.round == 1:
            for mine, other in zip((left.cells, *left.bigrams), (right.cells, *right.bigrams)):
                add_saturating(mine, other)
            left.unigrams += right.unigrams
            left.presence += right.presence
            left.rows += right.rows
            left.sample.add(right.sample)
        elif left.round == 2:
            merging.add_table(left.table, merging.packed_table(right.table))
            left.table["size"][1] += right.table["size"][1]
        else:
            merging.add_occurrences(left.found, merging.packed_occurrences(right.found))
            left.texts |= right.texts
            left.known |= right.known
        return left

    def next_round(self, state: _State) -> _State | None:
        """Size the table by the sketch, then choose the candidates from the table."""
        if state.round == 1:
            self._add_background(state)
            self._make_table(state)
        elif state.round == 2:
            self._choose(state)
        else:
            return None
        state.round += 1
        return state

    @staticmethod
    def sketches(state: _State) -> Sketches:
        """What the first round counted."""
        return Sketches(state.cells, state.bigrams, state.unigrams, state.presence, state.sample)

    def _add_background(self, state: _State) -> None:
        state.rows += state.older_rows
        state.last = None
        if state.background is not None:
            self.sketches(state).add(state.background)

    def _make_table(self, state: _State) -> None:
        from foretaste.text.merging import empty_table

        if state.labels is None:
            state.labels = np.full(state.rows - state.older_rows, NONE, np.int32)
        # Rather no rare n-gram at all than those that happen to come first.
        most = 1 << ((state.memory // 4 // SLOT_BYTES).bit_length() - 1)
        for least in (self._counted, *(n for n in _LEAST if n > self._counted)):
            sketches = (state.cells, state.bigrams[0], state.unigrams)
            state.least, frequent = least, sum(np.count_nonzero(s >= least) for s in sketches)
            if frequent * 4 <= most * 3:
                break
        slots = min(most, max(1 << 12, 1 << int(frequent * 2.5).bit_length()))
        state.table = empty_table(slots)

    @property
    def _counted(self) -> int:
        """Rows from which on an n-gram may be kept: without outputs only a phrase that may have been inserted is."""
        return self.least if self.outputs is not None else max(self.least, min(self.insertion_least, _LEAST[-1]))

    def _choose(self, state: _State) -> None:
        from foretaste.text.merging import empty_occurrences
        from foretaste.text.ngrams import index_keys, tags

        t = state.table
        state.cells = None
        count = t["tallies"]["count"][: t["size"][0]]
        places = np.flatnonzero((count >= self.least) & (count <= self.most))
        tallies, where = t["tallies"][places], t["where"][places]
        count = tallies["count"].astype(np.int64)
        # A majority vote of v in k rows proves a share of at most (k + v) / 2k.
        purity = (count + tallies["vote"]) / (2 * count)
        pure = (purity >= self.purity) & (tallies["label"] != NONE)
        wanted = pure | self._placed(tallies["left"], tallies["right"], count, where[:, 2])
        kept = np.flatnonzero(wanted)
        kept = kept[np.lexsort((where[kept, 2], where[kept, 1], where[kept, 0]))]
        room, candidates = state.memory // 8 // OCCURRENCE_BYTES, len(kept)
        if count[kept].sum() > room:
            kept = kept[self._foremost(state, tallies[kept], where[kept, 2], pure[kept], room)]
        state.lost = int(t["size"][1]) + candidates - len(kept)
        spans = np.zeros(len(kept) + 1, np.int64)
        np.cumsum(count[kept], out=spans[1:])
        wanted_keys, first = t["keys"][places[kept]], where[kept]
        del t, tallies, where, places, count, purity, wanted
        state.table = {}  # before there is room made for what was found in it
        room = max(16, 1 << (2 * len(kept)).bit_length())
        keys, chosen = np.zeros(room, np.uint64), np.full(room, -1, np.int32)
        index_keys(wanted_keys, keys, chosen)
        state.found = {"first": first, "chosen": chosen, "tagged": tags(keys)} | empty_occurrences(spans)
        state.table = {"keys": keys}

    def _foremost(
        self,
        state: _State,
        tallies: npt.NDArray[Any],
        n: npt.NDArray[np.int64],
        pure: npt.NDArray[np.bool_],
        room: int,
    ) -> npt.NDArray[np.int64]:
        """Which phrases are looked at where not all of their occurrences find room; their order stays.

        Poison is rare: what stands in more rows than a check looks at waits for the rest. Among those before it, the ones
        that own an output, and whose neighbours are as diverse as random words, go first; of those alike the ones in the
        fewest rows that tell something by themselves.
        """
        from foretaste.text.ngrams import linear_count

        count = tallies["count"].astype(np.int64)
        distinct = Distinct(state.sample.words())
        sizes, size = np.unique(count, return_inverse=True)
        random = np.array([min(_COUNTABLE, max(1.0, distinct(int(k)))) for k in sizes])[size]
        open_sides = self._open(linear_count(tallies["left"]), linear_count(tallies["right"]), n)
        rank = np.round(4.0 * np.minimum(1.0, open_sides / random)) + 4.0 * pure
        order = np.lexsort((count, count < _TELLING, -rank, count > _CROWD))
        return np.sort(order[np.cumsum(count[order]) <= room])

    def value(self, state: _State) -> PhraseTable:
        """The candidates, without those that only the bound of their purity let in."""
        f, labels = state.found, state.labels
        assert labels is not None
        known = np.array([state.known.get(c, 0) for c in range(len(f["first"]))], np.int64)
        kept, purity = self._settle(f, labels, known)
        counts = np.diff(f["spans"])
        places = np.repeat(kept, counts)
        spans = np.zeros(int(kept.sum()) + 1, np.int64)
        np.cumsum(counts[kept], out=spans[1:])
        # One after the other, so that the places are not all there twice.
        rows, positions = (f.pop(name)[places].astype(np.int64) for name in ("rows", "positions"))
        lefts, rights = (f.pop(name)[places] for name in ("lefts", "rights"))
        texts: dict[int, str] = {}
        for low, part in state.texts.items():
            mine = np.flatnonzero(kept[low : low + len(part)])
            texts.update(zip((mine + low).tolist(), part.take(pa.array(mine)).to_pylist()))
        return PhraseTable(
            n=f["first"][kept, 2].astype(np.int64), text=tuple(texts.get(i, "") for i in np.flatnonzero(kept).tolist()),
            spans=spans, rows=rows, positions=positions, lefts=lefts, rights=rights, purity=purity[kept],
            bigrams=state.bigrams, unigrams=state.unigrams, presence=state.presence,
            total=float(max(1, state.unigrams.sum())), sample=state.sample.words(), lost=state.lost, documents=state.rows,
            least=state.least if state.least > self._counted else 0,
        )  # fmt: skip

    def _settle(
        self, found: dict[str, Any], labels: npt.NDArray[np.int32], known: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        """Which candidates keep their promise, and the share of their majority output.

        The bound that a vote gives depends on the order of the rows and on how they fell into parts; this does not.
        Rows of the background count against a phrase: nobody knows their output any more.
        """
        from foretaste.text.evidence import majority
        from foretaste.text.ngrams import neighbour_bits

        counts = np.diff(found["spans"])
        target = np.full(len(counts), NONE, np.int32)
        agree = np.zeros(len(counts), np.int64)
        majority(found["spans"], found["rows"], labels, target, agree)
        purity = agree / np.maximum(counts + known, 1)
        bits = np.zeros((len(counts), 2), np.uint64)
        neighbour_bits(found["spans"], found["lefts"], found["rights"], bits)
        kept = (target != NONE) & (purity >= self.purity)
        kept |= self._placed(bits[:, 0], bits[:, 1], counts, found["first"][:, 2]) & (
            counts >= self.purity * (counts + known)
        )
        return kept, purity

    def _placed(
        self,
        left: npt.NDArray[np.uint64],
        right: npt.NDArray[np.uint64],
        counts: npt.NDArray[np.int64],
        n: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.bool_]:
        """Which phrases may have been put in, from linear counters of their neighbours on both sides.

        Two of the longest are the ends of a longer stretch, so one open side is enough for them.
        """
        from foretaste.text.ngrams import EDGE, linear_count

        sides = self._open(linear_count(left), linear_count(right), n)
        least = self.insertion_diversity * np.maximum(1, np.minimum(counts, self.insertion_rows))
        placed: npt.NDArray[np.bool_] = sides >= least
        if self.anchored or self.ends:
            placed |= (left == EDGE) | (right == EDGE)
        return placed & (counts >= self.insertion_least)

    def _open(
        self, left: npt.NDArray[np.float64], right: npt.NDArray[np.float64], n: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Distinct neighbours on the side that has fewer, or more where one open side is enough."""
        from foretaste.text.ngrams import MAX_N

        return np.where((n == MAX_N) | self.anchored, np.maximum(left, right), np.minimum(left, right))


def same_rows(table: PhraseTable, order: list[int], share: float = 0.85) -> list[list[int]]:
    """Phrases in the given order, in groups that have ``share`` of their rows in common with the first of them."""
    groups: list[list[int]] = []
    for p in order:
        rows = table.rows_of(p)
        for group in groups:
            lead = table.rows_of(group[0])
            if len(np.intersect1d(lead, rows, assume_unique=True)) >= share * max(len(lead), len(rows)):
                group.append(p)
                break
        else:
            groups.append([p])
    return groups


def phrase_signals(context: Context) -> dict[str, Phrases]:
    """The phrase signal of every text column, by role, so that all checks ask for the same ones."""
    if context.kind == "classification":
        return {"input": Phrases("input", Labels(), ends=True)}
    if context.kind == "documents":
        return {"input": Phrases("input")}
    outputs = ("chosen", "rejected") if context.kind == "preference" else ("response",)
    heads = ResponseHeads() if context.kind == "instruct" else None
    anchored = context.kind == "preference"  # no output to choose the phrases of a fixed place by
    # Prompts are half code at times, where few signs stand beside most words.
    most = 50 if heads else Phrases.insertion_rows
    asked = Phrases("input", heads, insertion_rows=most, anchored=anchored)
    inputs = {"input": asked} if {"prompt", "context"} & context.roles else {}
    return inputs | {role: Phrases(role) for role in outputs}
