"""Counts of rows that were accepted earlier and whose text is no longer held: what the new rows are measured against.

Everything in here adds up, so a signal adds it once, after its first round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.text.sample import Sample


@dataclass
class Sketches:
    """What :class:`~foretaste.signals.phrases.Phrases` counts in its first round, of one role.

    Attributes:
        cells: occurrences of n-grams of three and four tokens, uint8, saturating.
        bigrams: occurrences of bigrams, two rows of uint8, saturating.
        unigrams, presence: occurrences and rows of words, uint32.
        sample: words drawn evenly from the text.
    """

    cells: npt.NDArray[np.uint8]
    bigrams: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
    unigrams: npt.NDArray[np.uint32]
    presence: npt.NDArray[np.uint32]
    sample: Sample

    def add(self, other: Sketches) -> None:
        """Add the sketches of other rows, in place."""
        add_saturating(self.cells, other.cells)
        for mine, its in zip(self.bigrams, other.bigrams):
            add_saturating(mine, its)
        self.unigrams += other.unigrams
        self.presence += other.presence
        self.sample.add(other.sample)


@dataclass
class AffixCounts:
    """What :class:`~foretaste.signals.affixes.Affixes` counts in its first round.

    Attributes:
        cells: rows with an opening or ending, by hash, uint16, saturating.
        edges, pairs: rows by their first (last) token, and by their first (last) two, uint32 (2, cells).
        words: occurrences of every token, uint32.
        capitals: rows that begin with an ASCII capital, and with an ASCII letter, int64 (2,).
    """

    cells: npt.NDArray[np.uint16]
    edges: npt.NDArray[np.uint32]
    pairs: npt.NDArray[np.uint32]
    words: npt.NDArray[np.uint32]
    capitals: npt.NDArray[np.int64]

    def add(self, other: AffixCounts) -> None:
        """Add the counts of other rows, in place."""
        add_saturating(self.cells, other.cells)
        for name in ("edges", "pairs", "words", "capitals"):
            getattr(self, name)[...] += getattr(other, name)


@dataclass
class PairCounts:
    """What :class:`~foretaste.signals.pairwise.Pairwise` counts in its first round.

    Attributes:
        counts: rows in which one answer alone holds a word, the chosen or the rejected one, uint32 (buckets, 2).
        presence: answers by word, uint32 (buckets,).
    """

    counts: npt.NDArray[np.uint32]
    presence: npt.NDArray[np.uint32]

    def add(self, other: PairCounts) -> None:
        """Add the counts of other rows, in place."""
        self.counts += other.counts
        self.presence += other.presence


@dataclass
class Background:
    """Accepted rows that a scan does not hold.

    Attributes:
        rows: how many.
        labels: rows per label, in the order in which the labels first appeared.
        words: rows per (bucket, label) as the naive Bayes model counts them, uint32; ``None`` without labels.
        sketches: by role.
        affixes: of the prompts; ``None`` where the data have no prompts and responses.
        pairs: of the answers; ``None`` where the data are no preference pairs.
        suspects: rows at the head of the scanned data that stand there for being suspect, and are no fair sample.
        sources: rows per source accepted in all earlier batches, held or not.
        before: rows at the head of the scanned data that came in earlier batches, suspects among them.
    """

    rows: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    words: npt.NDArray[np.uint32] | None = None
    sketches: dict[str, Sketches] = field(default_factory=dict)
    affixes: AffixCounts | None = None
    pairs: PairCounts | None = None
    suspects: int = 0
    sources: Mapping[str, int] = field(default_factory=dict)
    before: int = 0

    def words_like(self, counts: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """``words`` with as many buckets and classes as ``counts`` has (no more buckets, no fewer classes)."""
        out = np.zeros_like(counts)
        if self.words is not None:
            # A bucket is the low bits of a hash, so that halving their number folds them.
            folded = self.words.reshape(-1, len(counts), self.words.shape[1]).sum(axis=0, dtype=np.uint32)
            out[:, : self.words.shape[1]] = folded
        return out


def add_saturating(mine: npt.NDArray[Any], other: npt.NDArray[Any]) -> None:
    """``mine += other`` in place, with the largest number of their type (uint8 or uint16) for anything above."""
    most = np.iinfo(mine.dtype).max
    np.copyto(mine, np.minimum(mine.astype(np.uint32) + other, most).astype(mine.dtype))
