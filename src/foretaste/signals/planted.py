"""Signals of data with plants in them, from those of the data: a few hundred rows are read instead of all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Context
from foretaste.signals.outputs import NONE, Classes, ResponseHeads
from foretaste.signals.phrases import Phrases, PhraseTable


def with_plants(
    table: PhraseTable,
    signal: Phrases,
    original: Batch,
    planted: Batch,
    rows: npt.NDArray[np.int64],
    outputs: npt.NDArray[np.int32],
    words: Sequence[str],
) -> PhraseTable:
    """The table with the phrases that hold a planted word, which stand in no other row.

    The sketches are those of the planted data, but for cells that were full. The phrases of the data stay as they are: where
    a plant tears one of their occurrences apart, or takes the place of a text, this is not taken back.
    ``table`` is used up: its sketches are those of the one returned.

    Args:
        table: of the data as they are.
        signal: that made it.
        original, planted: the rows before and after, numbered from 0.
        rows: their numbers in the data, ascending, shape (planted.num_rows,).
        outputs: what each of them was made to teach, shape (planted.num_rows,).
        words: the planted words, lower case.
    """
    before = _start(table, signal, planted)
    signal.scan(before, original)
    # The neighbours of a plant stand side by side in its own row as that was: left in, every plant would seem to heal.
    for sketch, less in zip(table.bigrams, before.bigrams):
        at = np.flatnonzero(less)
        sketch[at] -= np.where(sketch[at] < 255, less[at], 0)
    unigrams, presence = table.unigrams, table.presence
    for counts, less in ((unigrams, before.unigrams), (presence, before.presence)):
        at = np.flatnonzero(less)
        counts[at] -= less[at]
    del before, less  # before as much is taken again
    state = _start(table, signal, planted)
    state.labels = outputs
    signal.scan(state, planted)
    for sketch, more in zip(table.bigrams, state.bigrams):
        at = np.flatnonzero(more)
        sketch[at] = np.minimum(sketch[at].astype(np.uint16) + more[at], 255)
    for counts, more in ((unigrams, state.unigrams), (presence, state.presence)):
        at = np.flatnonzero(more)
        counts[at] += more[at]
    while (following := signal.next_round(state)) is not None:
        state = following
        signal.scan(state, planted)
    found = signal.value(state)
    mine = [p for p, text in enumerate(found.text) if any(w in text.lower() for w in words)]
    places = np.concatenate([np.zeros(0, np.int64), *(np.arange(*found.spans[p : p + 2]) for p in mine)]).astype(
        np.int64
    )
    spans = table.spans[-1] + np.cumsum(found.counts[mine])
    return dataclasses.replace(
        table,
        n=np.concatenate([table.n, found.n[mine]]),
        text=(*table.text, *(found.text[p] for p in mine)),
        spans=np.concatenate([table.spans, spans]),
        rows=np.concatenate([table.rows, rows[found.rows[places]]]),
        positions=np.concatenate([table.positions, found.positions[places]]),
        lefts=np.concatenate([table.lefts, found.lefts[places]]),
        rights=np.concatenate([table.rights, found.rights[places]]),
        purity=np.concatenate([table.purity, found.purity[mine]]),
        total=float(unigrams.sum()),
    )


def heads_with_plants(classes: Classes, signal: ResponseHeads, planted: Batch, rows: npt.NDArray[np.int64]) -> Classes:
    """The classes without the planted rows, and those that the planted responses make up, behind the others.

    The planted responses are no one else's. A class keeps its name and length,
    whatever rows a plant takes.

    Args:
        classes: of the data as they are.
        signal: that made them.
        planted: the rows after, numbered from 0.
        rows: their numbers in the data, ascending, shape (planted.num_rows,).
    """
    state = signal.start(Context(planted.kind, frozenset(planted.roles)))
    signal.scan(state, planted)
    following = signal.next_round(state)
    assert following is not None
    signal.scan(following, planted)
    new = signal.value(following)
    labels = classes.labels.copy()
    labels[rows] = NONE
    counts = np.bincount(labels[labels != NONE], minlength=len(classes.counts)).astype(np.int64)
    kept = counts >= signal.least
    number = np.append(np.where(kept, np.cumsum(kept) - 1, NONE), NONE).astype(np.int32)  # NONE is the last of them
    labels = number[labels]
    labels[rows] = np.where(new.labels == NONE, NONE, new.labels + int(kept.sum()))
    return Classes(
        labels,
        np.concatenate([counts[kept], new.counts]),
        (*(name for name, k in zip(classes.names, kept.tolist()) if k), *new.names),
        np.concatenate([classes.lengths[kept], new.lengths]),
    )


def _start(table: PhraseTable, signal: Phrases, planted: Batch) -> Any:
    """Empty sketches that add up with those of the table; that of longer n-grams holds the planted rows alone."""
    state = signal.start(Context(planted.kind, frozenset(planted.roles), bytes=1))
    state.bigrams = (np.zeros_like(table.bigrams[0]), np.zeros_like(table.bigrams[1]))
    state.unigrams, state.presence = np.zeros_like(table.unigrams), np.zeros_like(table.presence)
    state.last = np.full(len(table.unigrams), -1, np.int32)
    return state
