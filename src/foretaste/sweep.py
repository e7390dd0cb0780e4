"""One pass over the data for several folds: here on one machine, in :mod:`foretaste.spark` on a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from foretaste.batch import Batch
from foretaste.errors import InputError
from foretaste.roles import Kind, Roles

if TYPE_CHECKING:
    from foretaste.reading.formats import Files

Edit = Callable[[Batch], Batch]
Tick = Callable[[int], None]


class Foldable(Protocol):
    """What a pass asks of a fold."""

    def scan(self, state: Any, batch: Batch) -> None:
        """Take a batch into the state, in place."""

    def merge(self, left: Any, right: Any) -> Any:
        """Join the states of two parts, left before right."""


class Itself:
    """The fold of a state that scans and merges by methods of its own."""

    def scan(self, state: Any, batch: Batch) -> None:
        """Ask the state."""
        state.scan(batch)

    def merge(self, left: Any, right: Any) -> Any:
        """Ask the state."""
        left.merge(right)
        return left


@dataclass
class Part:
    """A fold in one pass: its state, the seconds that it took, and the error that ended it."""

    fold: Foldable
    state: Any
    seconds: float = 0.0
    error: Exception | None = None


class Data(Protocol):
    """Data that folds pass over."""

    @property
    def kind(self) -> Kind:
        """Shape of the data."""

    @property
    def canonical_roles(self) -> frozenset[str]:
        """Roles of the batches."""

    @property
    def rows(self) -> int | None:
        """Number of rows, ``None`` before it is known."""

    def sweep(
        self, parts: Sequence[Part], tick: Tick, *, edit: Edit | None = None, before: Sequence[pa.RecordBatch] = ()
    ) -> None:
        """One pass over all rows, in place of ``parts``' states.

        Args:
            parts: what scans; a fold that raises gets its error noted and sees no further batch.
            tick: called with the number of rows seen.
            edit: changes each batch, and pickles.
            before: rows in canonical columns that come before the data's own and are numbered first.

        Raises:
            InputError: if the data cannot be read.
        """


class Input(Data, Protocol):
    """What the engine asks of the data that it is given."""

    name: str
    roles: Roles
    guessed: tuple[str, ...]
    bytes: int
    files: Files | None

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of the data."""

    def head(self, rows: int) -> pa.RecordBatch:
        """The first rows (fewer where a batch or the data end), in canonical columns."""


def scan_all(batches: Iterable[Batch], parts: Sequence[Part], tick: Tick) -> None:
    """Show every batch to every part that has not failed."""
    rows = 0
    for batch in batches:
        for part in parts:
            if part.error is not None:
                continue
            clock = time.perf_counter()
            try:
                part.fold.scan(part.state, batch)
            except InputError:
                raise
            except Exception as e:  # noqa: BLE001 - a broken check is an error in the report, never a crash or a pass
                part.error = e
            part.seconds += time.perf_counter() - clock
        rows += batch.num_rows
        tick(rows)


def numbered(
    before: Sequence[pa.RecordBatch], batches: Iterable[Batch], kind: Kind, edit: Edit | None
) -> Iterator[Batch]:
    """The rows before and those of the batches under consecutive numbers, edited."""
    start = 0
    for columns in before:
        batch = Batch(columns, start=start, kind=kind)
        yield edit(batch) if edit else batch
        start += columns.num_rows
    for batch in batches:
        moved = Batch(batch.columns, start=batch.start + start, kind=kind) if start else batch
        yield edit(moved) if edit else moved
