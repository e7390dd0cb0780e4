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
    table: PhraseTable, signal: Phrases, planted: Batch, rows: npt.NDArray[np.int64], outputs: npt.NDArray[np.int32],
    words: Sequence[str],
) -> PhraseTable:  # fmt: skip
    """The table with the phrases that hold a planted word, which stand in no other row.

    The phrases of the data stay as they are: where a plant tears one of their occurrences apart, or takes the place of
    a text, this is not taken back, nor are the words that went. Those are few among many, and no plant is judged by them.

    Args:
        table: of the data as they are.
        signal: that made it.
        planted: the changed rows, numbered from 0.
        rows: their numbers in the data, ascending, shape (planted.num_rows,).
        outputs: what each of them was made to teach, shape (planted.num_rows,).
        words: the planted words, lower case.
    """
    state = signal.start(Context(planted.kind, frozenset(planted.roles)))
    state.labels = outputs
    signal.scan(state, planted)
    bigrams = tuple(b.copy() for b in table.bigrams)
    for mine, added in zip(bigrams, state.bigrams):
        add_saturating(mine, added)
    unigrams, presence = table.unigrams + state.unigrams, table.presence + state.presence
    while (following := signal.next_round(state)) is not None:
        state = following
        signal.scan(state, planted)
    found = signal.value(state)
    mine = [p for p, text in enumerate(found.text) if any(w in text.lower() for w in words)]
    places = np.concatenate([np.zeros(0, np.int64), *(np.arange(*found.spans[p : p + 2]) for p in mine)]).astype(np.int64)
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
