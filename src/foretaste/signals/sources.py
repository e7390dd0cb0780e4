"""The source of each row, as a small integer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from foretaste.batch import Batch
from foretaste.check import Context, Signal

MAX_SOURCES = 65_536
OTHER = "(other)"


@dataclass(frozen=True)
class SourceNumbers:
    """Sources of the rows.

    Attributes:
        numbers: source of each row, int32 (rows,); empty where the data name no source.
        names: name of each source; from ``MAX_SOURCES`` distinct ones on, the rest is ``(other)``.
    """

    numbers: npt.NDArray[np.int32]
    names: tuple[str, ...]


@dataclass
class _State:
    """One int32 per row, and at most MAX_SOURCES names."""

    index: dict[str, int] = field(default_factory=dict)
    parts: list[npt.NDArray[np.int32]] = field(default_factory=list)

    def number(self, name: str) -> int:
        if name not in self.index and len(self.index) >= MAX_SOURCES:
            name = OTHER
        return self.index.setdefault(name, len(self.index))


@dataclass(frozen=True)
class Sources(Signal[_State, SourceNumbers]):
    """The source of each row, or who labelled it; nothing where the data do not say."""

    role: Literal["source", "annotator"] = "source"

    def start(self, context: Context) -> _State:
        """No source seen."""
        return _State()

    def scan(self, state: _State, batch: Batch) -> None:
        """Number new sources in the order in which they appear."""
        if not batch.has(self.role):
            return
        encoded = pc.dictionary_encode(batch.strings(self.role))
        numbers = np.array([state.number(n) for n in encoded.dictionary.to_pylist()], dtype=np.int32)
        state.parts.append(numbers[np.asarray(encoded.indices)] if len(numbers) else np.zeros(0, np.int32))

    def merge(self, left: _State, right: _State) -> _State:
        """Renumber the right part's sources."""
        numbers = np.array([left.number(n) for n in right.index], dtype=np.int32)
        left.parts.extend(numbers[p] if len(numbers) else p for p in right.parts)
        return left

    def value(self, state: _State) -> SourceNumbers:
        """Numbers and names."""
        numbers = np.concatenate(state.parts) if state.parts else np.zeros(0, np.int32)
        return SourceNumbers(numbers, tuple(state.index))
