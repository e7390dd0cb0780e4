"""Rows that hold a character which nobody sees: it belongs to no token, so no phrase holds it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from foretaste.batch import Batch

UNSEEN = "\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\ufeff\u180e\u200e\u200f\u00ad"


@dataclass
class UnseenRows:
    """Row numbers per invisible character, in pieces, ascending within each."""

    pieces: dict[str, list[npt.NDArray[np.int64]]] = field(default_factory=dict)

    def scan(self, batch: Batch) -> None:
        """Add the rows of a batch."""
        for role in batch.input_roles:
            column = batch.strings(role)
            held = np.flatnonzero(np.asarray(pc.match_substring_regex(column, f"[{UNSEEN}]")))
            if not len(held):
                continue
            few = column.take(held)
            for character in UNSEEN:
                at = held[np.asarray(pc.match_substring(few, character))]
                if len(at):
                    self.pieces.setdefault(character, []).append(batch.start + at)

    def merge(self, other: UnseenRows) -> None:
        """Add the rows of other batches."""
        for character, pieces in other.pieces.items():
            self.pieces.setdefault(character, []).extend(pieces)

    def groups(self) -> list[tuple[str, npt.NDArray[np.int64]]]:
        """Each character with its rows, ascending; those of the same rows are one group, named by all of them."""
        names: dict[bytes, str] = {}
        rows: dict[bytes, npt.NDArray[np.int64]] = {}
        for character in sorted(self.pieces):
            found = np.unique(np.concatenate(self.pieces[character])).astype(np.int64)
            key = found.tobytes()
            names[key], rows[key] = names.get(key, "") + character, found
        return [(names[key], rows[key]) for key in names]
