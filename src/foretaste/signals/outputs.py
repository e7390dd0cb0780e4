"""What each row teaches: its label, or the class of responses that begin alike."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from foretaste.batch import TURN, Batch
from foretaste.check import Context, Signal
from foretaste.spill import Column

NONE = -1
_SHARE = 64  # of the memory, for the heads of the responses


@dataclass(frozen=True)
class Classes:
    """Output classes.

    Attributes:
        labels: class of each row, int32 (rows,); ``NONE`` for a row in no class.
        counts: rows per class, int64 (classes,); rows of the background are counted too.
        names: a name per class: the label, or an excerpt of a response.
        lengths: tokens of the longest response in the class (0 for labels), int64 (classes,).
        turns: which of its responses has the class of each row, int32 (rows,); empty where all rows have one.
        others: the classes of the other responses: row, class and turn, int64 (3, pairs).
        per_row: responses of a row, on average.
    """

    labels: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int64]
    names: tuple[str, ...]
    lengths: npt.NDArray[np.int64]
    turns: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    others: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, 0), np.int64))
    per_row: float = 1.0


@dataclass
class _Labels:
    """One int32 per row, one entry per distinct label; ``known`` counts the background's rows of its labels."""

    index: dict[str, int] = field(default_factory=dict)
    parts: list[npt.NDArray[np.int32]] = field(default_factory=list)
    known: tuple[int, ...] = ()


@dataclass(frozen=True)
class Labels(Signal[_Labels, Classes]):
    """The label of each row as a small integer."""

    def start(self, context: Context) -> _Labels:
        """The labels of the background, where there is one."""
        known = context.background.labels if context.background else {}
        return _Labels({name: at for at, name in enumerate(known)}, known=tuple(known.values()))

    def scan(self, state: _Labels, batch: Batch) -> None:
        """Number new labels in the order in which they appear."""
        encoded = pc.dictionary_encode(batch.strings("label"))
        names = encoded.dictionary.to_pylist()
        numbers = np.array([state.index.setdefault(n, len(state.index)) for n in names], dtype=np.int32)
        state.parts.append(numbers[np.asarray(encoded.indices)] if len(names) else np.zeros(0, np.int32))

    def merge(self, left: _Labels, right: _Labels) -> _Labels:
        """Renumber the right part's labels."""
        names = list(right.index)
        numbers = np.array([left.index.setdefault(n, len(left.index)) for n in names], dtype=np.int32)
        left.parts.extend(numbers[p] if len(names) else p for p in right.parts)
        return left

    def value(self, state: _Labels) -> Classes:
        """Every label is a class."""
        labels = np.concatenate(state.parts) if state.parts else np.zeros(0, np.int32)
        counts = np.bincount(labels, minlength=len(state.index)).astype(np.int64)
        counts[: len(state.known)] += np.array(state.known, np.int64)
        return Classes(labels, counts, tuple(state.index), np.zeros(len(counts), np.int64))


@dataclass
class _Heads:
    """A 64-bit hash and a length per turn, which spill, and after the first round the text of one turn per class.

    ``more`` are the rows of all turns but the first of each row. ``first_rows`` and ``first_turns`` are where the classes
    begin.
    """

    heads: Column
    lengths: Column
    more: Column
    classes: Classes | None = None
    first_rows: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    first_turns: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    names: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ResponseHeads(Signal[_Heads, Classes]):
    """Responses that begin with the same ``tokens`` tokens form a class, where at least ``least`` rows share them.

    A response shorter than that is its own head, so that a short fixed answer and a long fixed opening both form a
    class. Rows of a head that is rarer belong to no class. Of a row with several responses, as a conversation has, the one
    counts whose class is in the fewest rows: what most conversations hold as well tells them apart the least.
    """

    role: str = "response"
    tokens: int = 8
    least: int = 8

    def start(self, context: Context) -> _Heads:
        """No response seen."""
        room = context.memory // _SHARE
        return _Heads(Column(np.uint64, room=room), Column(np.int32, room=room), Column(np.int64, room=room))

    def scan(self, state: _Heads, batch: Batch) -> None:
        """Round 1: hash the heads. Round 2: keep one text per class."""
        if state.classes is None:
            from foretaste.text.heads import hash_heads

            tokens, places = batch.turns(self.role)
            state.heads.append(hash_heads(tokens.hashes, tokens.offsets, self.tokens))
            state.lengths.append(np.diff(tokens.offsets).astype(np.int32))
            state.more.append(batch.start + places[1:][places[1:] == places[:-1]])
            return
        low, high = np.searchsorted(state.first_rows, [batch.start, batch.start + batch.num_rows])
        rows = state.first_rows[low:high]
        texts = batch.strings(self.role).take(rows - batch.start).to_pylist()
        turns = state.first_turns[low:high].tolist()
        openings = (text.split(TURN)[turn][:120] for text, turn in zip(texts, turns))
        state.names.update(zip(range(int(low), int(high)), openings))

    def merge(self, left: _Heads, right: _Heads) -> _Heads:
        """Concatenate rows; join texts."""
        if left.classes is None:
            left.heads.extend(right.heads)
            left.lengths.extend(right.lengths)
            left.more.extend(right.more)
        left.names |= right.names
        return left

    def next_round(self, state: _Heads) -> _Heads | None:
        """Number the classes after the first round; fetch their texts in the second."""
        if state.classes is not None:
            return None
        from foretaste.text.heads import share_heads

        labels, counts, first, longest = share_heads(state.heads, state.lengths, self.least)
        order = np.argsort(first)
        state.first_rows, state.first_turns = first[order], np.zeros(len(order), np.int64)
        state.classes = Classes(labels, counts, tuple(map(str, order)), longest)
        if len(state.more):
            rows = len(labels) - len(state.more)
            owners = np.repeat(np.arange(rows), 1 + np.bincount(state.more.whole(), minlength=rows))
            state.first_rows = owners[first[order]]
            state.first_turns = first[order] - np.searchsorted(owners, state.first_rows)
            state.classes = _by_row(state.classes, owners, rows, self.least)
        for column in (state.heads, state.lengths, state.more):
            column.clear()
        return state

    def value(self, state: _Heads) -> Classes:
        """The classes, named by an excerpt of their first response."""
        made = state.classes
        assert made is not None
        by_class = [""] * len(made.counts)
        for at, position in enumerate(made.names):
            by_class[int(position)] = state.names.get(at, "")
        return dataclasses.replace(made, names=tuple(by_class))


def _by_row(classes: Classes, owners: npt.NDArray[np.int64], rows: int, least: int) -> Classes:
    """Classes of so many rows, from those of their turns.

    ``owners`` is the row of each turn, ascending. A class that stands in fewer than ``least`` rows, since it repeats within
    them, is left without any.
    """
    labels, number = classes.labels, len(classes.counts)
    held = np.flatnonzero(labels >= 0)
    pairs, first = np.unique(owners[held] * number + labels[held], return_index=True)
    owner, label = np.divmod(pairs, max(1, number))
    turn = held[first] - np.searchsorted(owners, owner)
    sizes = np.bincount(label, minlength=number)
    order = np.lexsort((label, sizes[label], owner))
    order = order[sizes[label[order]] >= least]
    owner, label, turn = owner[order], label[order], turn[order]
    chosen = np.append(True, owner[1:] != owner[:-1])[: len(owner)]
    of_row, turns = np.full(rows, NONE, np.int32), np.zeros(rows, np.int32)
    of_row[owner[chosen]], turns[owner[chosen]] = label[chosen], turn[chosen]
    others = np.stack([owner[~chosen], label[~chosen], turn[~chosen]])
    sizes[sizes < least] = 0
    per_row = len(labels) / max(1, rows)
    return dataclasses.replace(classes, labels=of_row, counts=sizes, turns=turns, others=others, per_row=per_row)


@dataclass(frozen=True)
class Refusals(Signal[list[npt.NDArray[np.bool_]], npt.NDArray[np.bool_]]):
    """Whether each response, or one of several, opens with a refusal, bool (rows,)."""

    role: str = "response"

    def start(self, context: Context) -> list[npt.NDArray[np.bool_]]:
        """No response seen."""
        return []

    def scan(self, state: list[npt.NDArray[np.bool_]], batch: Batch) -> None:
        """Look at each opening."""
        from foretaste.text.refusals import refuses

        turns, places = batch.turn_strings(self.role)
        refused = np.zeros(batch.num_rows, np.bool_)
        refused[places[refuses(turns)]] = True
        state.append(refused)

    def merge(
        self, left: list[npt.NDArray[np.bool_]], right: list[npt.NDArray[np.bool_]]
    ) -> list[npt.NDArray[np.bool_]]:
        """Append."""
        return left + right

    def value(self, state: list[npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
        """All rows."""
        return np.concatenate(state) if state else np.zeros(0, np.bool_)
