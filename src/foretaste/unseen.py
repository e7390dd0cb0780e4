"""Rows with characters of which no phrase tells: unseen ones, which belong to no token, and letters that pass for others.

A letter of another alphabet makes a token of its own out of every word that it is put into (Boucher et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from foretaste.batch import Batch

UNSEEN = "\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\ufeff\u180e\u200e\u200f\u00ad"
MIXED = r"[A-Za-z][\p{Cyrillic}\p{Greek}]|[\p{Cyrillic}\p{Greek}][A-Za-z]"
BOTH = "letters of two alphabets in one word"


@dataclass
class UnseenRows:
    """Row numbers per invisible character, and those of words of two alphabets, in pieces, ascending within each."""

    pieces: dict[str, list[npt.NDArray[np.int64]]] = field(default_factory=dict)

    def scan(self, batch: Batch) -> None:
        """Add the rows of a batch."""
        for role in batch.input_roles:
            column = batch.strings(role)
            held = np.flatnonzero(np.asarray(pc.match_substring_regex(column, f"[{UNSEEN}]|{MIXED}")))
            if not len(held):
                continue
            few = column.take(held)
            hits = {character: pc.match_substring(few, character) for character in UNSEEN}
            hits[BOTH] = pc.match_substring_regex(few, MIXED)
            for name, hit in hits.items():
                at = held[np.asarray(hit)]
                if len(at):
                    self.pieces.setdefault(name, []).append(batch.start + at)

    def merge(self, other: UnseenRows) -> None:
        """Add the rows of other batches."""
        for character, pieces in other.pieces.items():
            self.pieces.setdefault(character, []).extend(pieces)

    def groups(self) -> list[tuple[str, npt.NDArray[np.int64]]]:
        """Each character, or ``BOTH``, with its rows, ascending; characters of the same rows are one group."""
        names: dict[bytes, str] = {}
        rows: dict[bytes, npt.NDArray[np.int64]] = {}
        for character in sorted(self.pieces.keys() - {BOTH}):
            found = np.unique(np.concatenate(self.pieces[character])).astype(np.int64)
            key = found.tobytes()
            names[key], rows[key] = names.get(key, "") + character, found
        groups = [(names[key], rows[key]) for key in names]
        if BOTH in self.pieces:
            groups.append((BOTH, np.unique(np.concatenate(self.pieces[BOTH])).astype(np.int64)))
        return groups
