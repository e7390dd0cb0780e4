"""The background of a state: rows that are held no longer enter it, and it goes into the file as arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foretaste.background import AffixCounts, Background, PairCounts, Sketches
from foretaste.batch import Batch
from foretaste.check import Context, NotApplicableError
from foretaste.history.rows import Blank, sweep
from foretaste.roles import Kind
from foretaste.sweep import Input, Itself, Part

_Counts = TypeVar("_Counts", Sketches, AffixCounts, PairCounts)
_AFFIXES = ("cells", "edges", "pairs", "words", "capitals")
_PAIRS = ("counts", "presence")
_SAMPLE = ("sample_words", "sample_keys")
_BIGRAMS = ("bigrams_a", "bigrams_b")
Fits = Callable[[tuple[int, ...]], bool]


def _no_pairs() -> PairCounts:
    from foretaste.text.pairs import BUCKETS

    return PairCounts(np.zeros((BUCKETS, 2), np.uint32), np.zeros(BUCKETS, np.uint32))


@dataclass
class _Pairs:
    """The difference words of preference pairs, in which no row is told from another: all are of one fold."""

    counts: PairCounts = field(default_factory=_no_pairs)

    def scan(self, batch: Batch) -> None:
        from foretaste.text.pairs import count_words, difference_words

        chosen, rejected = batch.tokens("chosen"), batch.tokens("rejected")
        words, sides, ends = difference_words(
            chosen.hashes, chosen.offsets, rejected.hashes, rejected.offsets, np.ones(batch.num_rows, np.bool_),
            self.counts.presence,
        )  # fmt: skip
        count_words(words, sides, ends, np.zeros(batch.num_rows, np.uint8), self.counts.counts[:, np.newaxis])

    def merge(self, other: _Pairs) -> None:
        self.counts.add(other.counts)


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
    from foretaste.signals.affixes import Affixes
    from foretaste.signals.naive_bayes import NaiveBayes
    from foretaste.signals.outputs import Labels
    from foretaste.signals.phrases import Phrases, phrase_signals

    parts: dict[str, Part] = {}
    if context.kind == "classification":
        signal = Labels()
        labels = Part(signal, signal.start(dataclasses.replace(context, background=background)))
        sweep(dataset, [labels], before=before)
        classes = signal.value(labels.state)
        counts = np.bincount(classes.labels[lost], minlength=len(classes.names)).tolist()
        background.labels = {n: background.labels.get(n, 0) + c for n, c in zip(classes.names, counts)}
        try:
            model = NaiveBayes()
            parts["words"] = Part(model, model.start(dataclasses.replace(context, values={signal: classes})))
        except NotApplicableError:
            pass
    affixes = Affixes()
    if context.kind == "instruct" and affixes.role in context.roles:
        parts["affixes"] = Part(affixes, affixes.start(context))
    if context.kind == "preference":
        parts["pairs"] = Part(Itself(), _Pairs())
    sketched = {role: Phrases(role) for role in phrase_signals(context)}
    phrases = {role: Part(s, s.start(context)) for role, s in sketched.items()}
    sweep(dataset, [*parts.values(), *phrases.values()], edit=Blank(lost), before=before)
    if "words" in parts:
        words = parts["words"].state.counts
        background.words = words + background.words_like(words)
    for role, part in phrases.items():
        background.sketches[role] = _added(background.sketches.get(role), Phrases.sketches(part.state))
    if "affixes" in parts:
        background.affixes = _added(background.affixes, Affixes.counts(parts["affixes"].state))
    if "pairs" in parts:
        background.pairs = _added(background.pairs, parts["pairs"].state.counts)
    background.rows += int(lost.sum())


def _added(known: _Counts | None, new: _Counts) -> _Counts:
    if known is None:
        return new
    known.add(new)
    return known


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
    if background.affixes is not None:
        arrays |= {f"affixes/{name}": getattr(background.affixes, name) for name in _AFFIXES}
    if background.pairs is not None:
        arrays |= {f"pairs/{name}": getattr(background.pairs, name) for name in _PAIRS}
    return arrays


def layout(kind: Kind, roles: frozenset[str], rows: int, labels: int) -> dict[str, tuple[str, Fits]]:
    """Type of every array that the background of so many rows and labels has, and whether a shape is one of its shapes.

    Kernels take a sketch for as large as it always is: they would read and write beyond the end of a smaller one.
    """
    from foretaste.signals.affixes import CELLS, EDGE_CELLS, Affixes
    from foretaste.signals.naive_bayes import MAX_CLASSES, buckets_of
    from foretaste.signals.phrases import BIGRAM_CELLS, SAMPLE, SKETCH_CELLS, UNIGRAM_CELLS, phrase_signals
    from foretaste.text.pairs import BUCKETS

    def exactly(*shape: int) -> Fits:
        return lambda found: found == shape

    if not rows:
        return {}
    every: dict[str, tuple[str, Fits]] = {}
    for role in phrase_signals(Context(kind, roles)):
        every |= {f"{role}/{name}": ("<u8", lambda found: len(found) == 1 and found[0] <= SAMPLE) for name in _SAMPLE}
        every |= {f"{role}/{name}": ("|u1", exactly(BIGRAM_CELLS)) for name in _BIGRAMS}
        every |= {f"{role}/{name}": ("<u4", exactly(UNIGRAM_CELLS)) for name in ("unigrams", "presence")}
        every[f"{role}/cells"] = ("|u1", exactly(SKETCH_CELLS))
    if kind == "instruct" and Affixes().role in roles:
        words, both = exactly(EDGE_CELLS), exactly(2, EDGE_CELLS)
        shapes = {"cells": ("<u2", exactly(CELLS)), "edges": ("<u4", both), "pairs": ("<u4", both)}
        shapes |= {"words": ("<u4", words), "capitals": ("<i8", exactly(2))}
        every |= {f"affixes/{name}": shapes[name] for name in _AFFIXES}
    if kind == "preference":
        every |= {"pairs/counts": ("<u4", exactly(BUCKETS, 2)), "pairs/presence": ("<u4", exactly(BUCKETS))}
    if kind == "classification" and 2 <= labels <= MAX_CLASSES:
        every["words"] = ("<u4", exactly(buckets_of(labels), labels))
    elif kind == "classification" and labels > MAX_CLASSES:  # counted until there were so many, if ever
        every["words"] = ("<u4", lambda found: found in _word_shapes())
    return every


@cache
def _word_shapes() -> frozenset[tuple[int, ...]]:
    from foretaste.signals.naive_bayes import MAX_CLASSES, buckets_of

    return frozenset((buckets_of(n), n) for n in range(2, MAX_CLASSES + 1))


def background_of(rows: int, labels: dict[str, int], arrays: Mapping[str, npt.NDArray[Any]]) -> Background:
    """The background that a file holds.

    Raises:
        KeyError: if an array is missing.
        ValueError: if a sample has more words than places.
    """
    from foretaste.signals.phrases import SAMPLE
    from foretaste.text.sample import Sample

    known = Background(rows, labels, arrays.get("words"))
    for role in {name.split("/")[0] for name in arrays if "/" in name}:
        mine = {n.split("/")[1]: a for n, a in arrays.items() if n.startswith(role + "/")}
        if role == "affixes":
            known.affixes = AffixCounts(**mine)
            continue
        if role == "pairs":
            known.pairs = PairCounts(**mine)
            continue
        if len(mine["sample_words"]) != len(mine["sample_keys"]):
            raise ValueError(f"the sample of {role} has more words than places, or fewer")
        known.sketches[role] = Sketches(
            mine["cells"], (mine["bigrams_a"], mine["bigrams_b"]), mine["unigrams"], mine["presence"],
            Sample(SAMPLE, mine["sample_words"], mine["sample_keys"]),
        )  # fmt: skip
    return known
