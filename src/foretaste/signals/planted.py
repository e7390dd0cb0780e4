"""The phrases of data with plants in them, from those of the data: a few hundred rows are read instead of all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from foretaste.background import add_saturating
from foretaste.batch import Batch
from foretaste.check import Context
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

    Args:
        table: of the data as they are.
        signal: that made it.
        original, planted: the rows before and after, numbered from 0.
        rows: their numbers in the data, ascending, shape (planted.num_rows,).
        outputs: what each of them was made to teach, shape (planted.num_rows,).
        words: the planted words, lower case.
    """
    before = signal.start(Context(planted.kind, frozenset(planted.roles)))
    signal.scan(before, original)
    # The neighbours of a plant stand side by side in its own row as that was: left in, every plant would seem to heal.
    bigrams = (
        np.where(table.bigrams[0] < 255, table.bigrams[0] - before.bigrams[0], table.bigrams[0]),
        np.where(table.bigrams[1] < 255, table.bigrams[1] - before.bigrams[1], table.bigrams[1]),
    )
    unigrams = table.unigrams - before.unigrams
    presence = table.presence - before.presence
    del before  # a hundred megabytes, before as many are taken again
    state = signal.start(Context(planted.kind, frozenset(planted.roles)))
    state.labels = outputs
    signal.scan(state, planted)
    add_saturating(bigrams[0], state.bigrams[0])
    add_saturating(bigrams[1], state.bigrams[1])
    unigrams += state.unigrams
    presence += state.presence
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
        bigrams=bigrams,
        unigrams=unigrams,
        presence=presence,
        total=float(unigrams.sum()),
    )
