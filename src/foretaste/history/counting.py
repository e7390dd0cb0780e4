"""The background of a state: rows that are held no longer enter it, and it goes into the file as arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foretaste.background import Background, Sketches
from foretaste.check import Context, NotApplicableError
from foretaste.history.rows import Blank, sweep
from foretaste.sweep import Input, Part


def absorb(
    background: Background, dataset: Input, context: Context, before: Sequence[pa.RecordBatch],
    lost: npt.NDArray[np.bool_],
) -> None:  # fmt: skip
    """Count the rows that are held no longer into the background.

    Args:
        background: changed in place.
        dataset: the new batch.
        context: of its scan.
        before: the rows held so far.
        lost: of those and the new ones, which are held no longer.
    """
    from foretaste.signals.naive_bayes import NaiveBayes
    from foretaste.signals.outputs import Labels
    from foretaste.signals.phrases import Phrases, phrase_signals

    parts: list[Part] = []
    words: Part | None = None
    if context.kind == "classification":
        signal = Labels()
        labels = Part(signal, signal.start(dataclasses.replace(context, background=background)))
        sweep(dataset, [labels], before=before)
        classes = signal.value(labels.state)
        counts = np.bincount(classes.labels[lost], minlength=len(classes.names)).tolist()
        background.labels = {n: background.labels.get(n, 0) + c for n, c in zip(classes.names, counts)}
        try:
            model = NaiveBayes()
            words = Part(model, model.start(dataclasses.replace(context, values={signal: classes})))
            parts.append(words)
        except NotApplicableError:
            pass
    sketched = {role: Phrases(role) for role in phrase_signals(context)}
    phrases = {role: Part(s, s.start(context)) for role, s in sketched.items()}
    sweep(dataset, [*parts, *phrases.values()], edit=Blank(lost), before=before)
    if words is not None:
        background.words = words.state.counts + background.words_like(words.state.counts)
    for role, part in phrases.items():
        made = Phrases.sketches(part.state)
        if role in background.sketches:
            background.sketches[role].add(made)
        else:
            background.sketches[role] = made
    background.rows += int(lost.sum())


def arrays_of(background: Background) -> dict[str, npt.NDArray[Any]]:
    """Its arrays by name, as :func:`background_of` takes them."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    if background.words is not None:
        arrays["words"] = background.words
    for role, s in background.sketches.items():
        arrays |= {
            f"{role}/cells": s.cells, f"{role}/bigrams_a": s.bigrams[0], f"{role}/bigrams_b": s.bigrams[1],
            f"{role}/unigrams": s.unigrams, f"{role}/presence": s.presence, f"{role}/sample_words": s.sample.held,
            f"{role}/sample_keys": s.sample.keys,
        }  # fmt: skip
    return arrays


def background_of(rows: int, labels: dict[str, int], arrays: Mapping[str, npt.NDArray[Any]]) -> Background:
    """The background that a file holds.

    Raises:
        KeyError: if an array is missing.
    """
    from foretaste.signals.phrases import SAMPLE
    from foretaste.text.sample import Sample

    known = Background(rows, labels, arrays.get("words"))
    for role in {name.split("/")[0] for name in arrays if "/" in name}:
        mine = {n.split("/")[1]: a for n, a in arrays.items() if n.startswith(role + "/")}
        known.sketches[role] = Sketches(
            mine["cells"], (mine["bigrams_a"], mine["bigrams_b"]), mine["unigrams"], mine["presence"],
            Sample(SAMPLE, mine["sample_words"], mine["sample_keys"]),
        )  # fmt: skip
    return known
