"""One pass over the data for several folds: here on one machine, in :mod:`foretaste.spark` on a cluster."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import pyarrow as pa

from foretaste.batch import Batch
from foretaste.errors import InputError
from foretaste.roles import Kind, Roles

if TYPE_CHECKING:
    from foretaste.reading.formats import Files

AHEAD = 2  # batches in memory at a time, between the part that is ahead and the part that is behind

Edit = Callable[[Batch], Batch]
Tick = Callable[[int], None]


class Foldable(Protocol):
    """What a pass asks of a fold."""

    def scan(self, state: Any, batch: Batch) -> None:
        """Take a batch into the state, in place."""

    def merge(self, left: Any, right: Any) -> Any:
        """Join the states of two parts, left before right."""


@runtime_checkable
class Preparing(Foldable, Protocol):
    """A fold that can do a part of its work on a batch before it has seen the batches before.

    ``scan(state, batch)`` does what ``take(state, batch, prepare(state, batch))`` does.
    """

    def prepare(self, state: Any, batch: Batch) -> Any:
        """What :meth:`take` needs of a batch; reads of the state what no batch changes, while another thread scans."""

    def take(self, state: Any, batch: Batch, prepared: Any) -> None:
        """Take a batch and what was prepared of it into the state, in place."""


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
    shape: str
    notes: tuple[str, ...]
    bytes: int
    files: Files | None

    @property
    def kept(self) -> bool:
        """Whether all rows stay in memory between two passes."""

    def refuse_changed(self) -> None:
        """Raise an input error where the data are no longer what was scanned."""

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of the data."""

    def head(self, rows: int) -> pa.RecordBatch:
        """The first rows (fewer where a batch or the data end), in canonical columns."""


def scan_all(batches: Iterable[Batch], parts: Sequence[Part], tick: Tick, threads: int | None = None) -> None:
    """Show every batch to every part that has not failed, in order; ``threads`` of them at a time (default: as many as
    cores).

    A part sees its batches one after the other, so how many threads there are does not show in its state. While parts
    scan, the next batches are read, and cut into the tokens that the last ones were asked for; a thread that has no part to
    serve does what a :class:`Preparing` fold can do of its next batch.
    """
    threads = threads or cores()
    if threads == 1 or not parts:
        rows = 0
        for batch in batches:
            for part in parts:
                _show(part, batch)
            rows += batch.num_rows
            tick(rows)
        return
    of_use = len(parts) + sum(isinstance(part.fold, Preparing) for part in parts)
    _Crew(batches, parts).work(min(threads, of_use), tick)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _show(part: Part, batch: Batch, prepared: _Prepared | None = None) -> None:
    if part.error is not None:
        return
    clock = time.thread_time() - (prepared.seconds if prepared else 0.0)
    try:
        if prepared is None:
            part.fold.scan(part.state, batch)
        elif prepared.error is not None:
            raise prepared.error
        else:
            cast(Preparing, part.fold).take(part.state, batch, prepared.made)
    except InputError:
        raise
    except Exception as e:  # noqa: BLE001 - a broken check is an error in the report, never a crash or a pass
        part.error = e
    part.seconds += time.thread_time() - clock


@dataclass
class _Prepared:
    """What a fold made of a batch ahead, the seconds that it took, and what it raised."""

    made: Any = None
    seconds: float = 0.0
    error: Exception | None = None

    @classmethod
    def of(cls, part: Part, batch: Batch) -> _Prepared:
        """Have the fold of a part prepare a batch."""
        clock = time.thread_time()
        try:
            return cls(cast(Preparing, part.fold).prepare(part.state, batch), time.thread_time() - clock)
        except Exception as e:  # noqa: BLE001 - raised again when the batch's turn has come
            return cls(None, time.thread_time() - clock, e)


class _Crew:
    """Threads that take, again and again, the part that is furthest behind and show it its next batch.

    Where no part can be shown one, they prepare the next for a part that is at work on an earlier one.
    """

    def __init__(self, batches: Iterable[Batch], parts: Sequence[Part]) -> None:
        self._batches = iter(batches)
        self._parts = parts
        self._next = [0] * len(parts)  # the batch that each part waits for
        self._busy = [False] * len(parts)
        self._preparing = [isinstance(part.fold, Preparing) for part in parts]
        self._ahead: dict[tuple[int, int], _Prepared | None] = {}  # by part and batch, ``None`` while it is at work
        self._window: deque[Batch] = deque()
        self._first = 0  # number of the oldest batch in the window
        self._rows = 0
        self._seen: deque[int] = deque()  # rows up to each batch that all parts have seen, until they are told
        self._read = False
        self._raised: BaseException | None = None
        self._changed = threading.Condition()

    def work(self, threads: int, tick: Tick) -> None:
        """Until every part has seen every batch.

        Raises:
            BaseException: what reading raises, or a part where the input is at fault.
        """
        crew = [threading.Thread(target=self._scan, daemon=True) for _ in range(threads)]
        crew.append(threading.Thread(target=self._fetch, daemon=True))
        for thread in crew:
            thread.start()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._seen or self._ended())
                    seen = self._seen.popleft() if self._seen else None
                if seen is None:
                    break
                tick(seen)
        except BaseException as e:
            self._stop(e)
            raise
        finally:
            for thread in crew:
                thread.join()
        if self._raised is not None:
            raise self._raised

    def _ended(self) -> bool:
        return self._raised is not None or (self._read and not self._window)

    def _stop(self, error: BaseException) -> None:
        with self._changed:
            self._raised = self._raised or error
            self._changed.notify_all()

    def _fetch(self) -> None:
        roles: tuple[str, ...] = ()
        try:
            for batch in self._batches:
                for role in roles:
                    batch.tokens(role)
                with self._changed:
                    self._changed.wait_for(lambda: len(self._window) < AHEAD or self._raised is not None)
                    if self._raised is not None:
                        return
                    if self._window:
                        roles = self._window[0].tokenised
                    self._window.append(batch)
                    self._changed.notify_all()
            with self._changed:
                self._read = True
                self._changed.notify_all()
        except BaseException as e:  # noqa: BLE001 - raised again where the pass was asked for
            self._stop(e)

    def _scan(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._ended() or self._ready() is not None)
                    ready = self._ready()
                    if self._raised is not None or ready is None:
                        return
                    at, number = ready
                    batch = self._window[number - self._first]
                    shown = number == self._next[at]
                    if shown:
                        self._busy[at] = True
                        prepared = self._ahead.pop(ready, None)
                    else:
                        self._ahead[ready] = None
                if shown:
                    _show(self._parts[at], batch, prepared)
                else:
                    prepared = _Prepared.of(self._parts[at], batch)
                with self._changed:
                    if not shown:
                        self._ahead[ready] = prepared
                    else:
                        self._busy[at] = False
                        self._next[at] += 1
                    while self._window and min(self._next) > self._first:
                        self._rows += self._window.popleft().num_rows
                        self._first += 1
                        self._seen.append(self._rows)
                    self._changed.notify_all()
        except BaseException as e:  # noqa: BLE001 - raised again where the pass was asked for
            self._stop(e)

    def _ready(self) -> tuple[int, int] | None:
        """The idle part that is furthest behind, and its next batch; else a part that could prepare one, and which."""
        end = self._first + len(self._window)
        waiting = [
            (n, at)
            for at, (n, busy) in enumerate(zip(self._next, self._busy))
            if not busy and n < end and self._ahead.get((at, n), self) is not None
        ]
        if waiting:
            number, at = min(waiting)
            return at, number
        for at, following in enumerate(self._next):
            for number in range(following + 1, end) if self._preparing[at] else ():
                if (at, number) not in self._ahead:
                    return at, number
        return None


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
