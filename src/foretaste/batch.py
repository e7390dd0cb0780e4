"""One record batch in canonical columns, with what several checks need from it computed once."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foretaste.roles import Kind

if TYPE_CHECKING:
    from foretaste.text.tokens import Tokens

# Between the turns of one cell, as ASCII has it for records: a blank to the tokens, and in no text that people write.
TURN = "\x1e"
# Roles that may hold free text, in the order in which a model reads them; definitions of tools last, as they are long.
TEXT_ROLES = ("context", "prompt", "text", "response", "chosen", "rejected", "tools")
_INPUT_ROLES: dict[Kind, tuple[str, ...]] = {
    "classification": ("text",),
    "documents": ("text",),
    "instruct": ("context", "prompt"),
    "preference": ("context", "prompt"),
}


class Batch:
    """Rows ``start`` to ``start + num_rows`` of the data, as large_string columns named by role.

    Derived values (tokens, hashes) are computed at the first call and kept for the life of the batch, so that all
    checks of a round share them. Nothing in here may be changed by a check.
    """

    def __init__(self, columns: pa.RecordBatch, *, start: int, kind: Kind) -> None:
        self.columns = columns
        self.start = start
        self.kind = kind
        self._tokens: dict[str, Tokens] = {}
        self._turns: dict[str, tuple[Tokens, npt.NDArray[np.int64]]] = {}
        self._lock = threading.RLock()  # folds of several threads share a batch

    @property
    def num_rows(self) -> int:
        """Rows in this batch."""
        return int(self.columns.num_rows)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Row numbers in the whole data, shape (num_rows,)."""
        return np.arange(self.start, self.start + self.num_rows, dtype=np.int64)

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that this batch has, in schema order."""
        return tuple(self.columns.schema.names)

    @property
    def text_roles(self) -> tuple[str, ...]:
        """Roles with free text, in reading order."""
        return tuple(r for r in TEXT_ROLES if r in self.roles)

    @property
    def input_roles(self) -> tuple[str, ...]:
        """Roles that make up the model's input."""
        return tuple(r for r in _INPUT_ROLES[self.kind] if r in self.roles)

    def has(self, role: str) -> bool:
        """Whether the data have this role."""
        return role in self.columns.schema.names

    def strings(self, role: str) -> pa.LargeStringArray:
        """The column as Arrow strings, without nulls."""
        return cast(pa.LargeStringArray, self.columns.column(role))

    def buffers(self, role: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The column's UTF-8 bytes and offsets, shapes (n_bytes,) and (num_rows + 1,); a view, not a copy."""
        array = self.strings(role)
        _, offsets, data = array.buffers()
        ends = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
        raw = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, dtype=np.uint8)
        return raw, ends

    def tokens(self, role: str) -> Tokens:
        """Tokens of the column; ``"input"`` gives those of all input roles, one after the other."""
        with self._lock:
            if role not in self._tokens:
                self._tokens[role] = self._tokenize(role)
            return self._tokens[role]

    def turns(self, role: str) -> tuple[Tokens, npt.NDArray[np.int64]]:
        """Tokens of the column with an offset for every turn, and the place in the batch of each turn's row, ascending.

        A cell that holds one text has one turn.
        """
        with self._lock:
            if role not in self._turns:
                self._turns[role] = self._cut(role)
            return self._turns[role]

    def _cut(self, role: str) -> tuple[Tokens, npt.NDArray[np.int64]]:
        whole = self.tokens(role)
        cuts = np.flatnonzero(whole.data == ord(TURN))
        if not len(cuts):
            return whole, np.arange(self.num_rows)
        ends = self.buffers(role)[1]
        turns = 1 + np.bincount(np.searchsorted(ends - ends[0], cuts, side="right") - 1, minlength=self.num_rows)
        firsts = np.searchsorted(whole.starts, cuts.astype(whole.starts.dtype))
        offsets = np.sort(np.concatenate([whole.offsets, firsts]))
        return dataclasses.replace(whole, offsets=offsets), np.repeat(np.arange(self.num_rows), turns)

    def turn_offsets(self, role: str) -> npt.NDArray[np.int64]:
        """First token of each turn among the tokens of the column, or of ``"input"``, and the end; int64 (turns + 1,)."""
        roles = self.input_roles if role == "input" else (role,)
        ends = [self.tokens(own).offsets for own in roles]
        starts = []
        for at, own in enumerate(roles):
            mine, rows = self.turns(own)
            beside = [e[rows + 1] for e in ends[:at]] + [e[rows] for e in ends[at + 1 :]]
            starts.append(sum(beside, mine.offsets[:-1]))
        return np.append(np.sort(np.concatenate(starts)), sum(e[-1] for e in ends))

    def turn_strings(self, role: str) -> tuple[pa.LargeStringArray, npt.NDArray[np.int64]]:
        """The text of every turn of the column, and the place in the batch of each turn's row, ascending."""
        column = self.strings(role)
        if not pc.any(pc.match_substring(column, TURN)).as_py():
            return column, np.arange(self.num_rows)
        turns = pc.split_pattern(column, TURN)
        return pc.list_flatten(turns), np.asarray(pc.list_parent_indices(turns), np.int64)

    def _tokenize(self, role: str) -> Tokens:
        from foretaste.text import tokens

        if role != "input":
            return tokens.tokenize(*self.buffers(role))
        parts = [self.tokens(own) for own in self.input_roles]
        return parts[0] if len(parts) == 1 else tokens.join(parts)  # one column has the same tokens under both names

    @property
    def tokenised(self) -> tuple[str, ...]:
        """Roles whose tokens were asked for so far."""
        return tuple(self._tokens)
