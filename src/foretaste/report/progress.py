"""How far a scan is, on standard error: a live line on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from foretaste.report.wording import duration

if TYPE_CHECKING:
    from foretaste.engine import Progress, ProgressCallback

PLAIN_SECONDS = 10.0
_STAGE_CHARS = 36


class Pace:
    """Rows per second and seconds left of the running round."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._round = 0
        self._since = 0.0
        self._base = 0

    def of(self, progress: Progress) -> tuple[float | None, float | None]:
        """Rows per second and the seconds left in this round; ``None`` while that cannot be told."""
        now = self._clock()
        if progress.round != self._round:
            # Between two rounds the engine computes. A round's clock therefore starts after its first batch.
            self._round, self._since, self._base = progress.round, now, progress.rows
        rows, seconds = progress.rows - self._base, now - self._since
        if rows <= 0 or seconds <= 0:
            return None, None
        rate = rows / seconds
        return rate, None if progress.total is None else (progress.total - progress.rows) / rate


class PlainProgress:
    """A line every few seconds, for logs."""

    def __init__(
        self, stream: TextIO, every: float = PLAIN_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._every = every
        self._clock = clock
        self._pace = Pace(clock)
        self._told = clock()

    def __call__(self, progress: Progress) -> None:
        """Take a report of the engine."""
        rate, left = self._pace.of(progress)
        if self._clock() - self._told < self._every:
            return
        self._told = self._clock()
        line = f"foretaste: round {progress.round} ({progress.stage}): {progress.rows:,}"
        line += f" of {progress.total:,} rows" if progress.total is not None else " rows"
        line += f", {rate:,.0f} rows/s" if rate is not None else ""
        line += f", {duration(left)} left in this round" if left is not None else ""
        print(line, file=self._stream, flush=True)


@contextmanager
def shown(stream: TextIO) -> Iterator[ProgressCallback]:
    """A callback for the engine that shows its progress on ``stream`` while the context lasts."""
    if not stream.isatty():
        yield PlainProgress(stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Live

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[pace]}", markup=False),
    )
    pace = Pace()
    with Live(*columns, console=Console(file=stream), transient=True) as live:
        task = live.add_task("opening", total=None, pace="")

        def show(progress: Progress) -> None:
            rate, left = pace.of(progress)
            stage = progress.stage if len(progress.stage) <= _STAGE_CHARS else progress.stage[: _STAGE_CHARS - 1] + "…"
            text = f"{progress.rows:,} rows" + (f" · {rate:,.0f} rows/s" if rate is not None else "")
            if progress.rows == progress.total:
                text += " · computing"
            elif left is not None:
                text += f" · {duration(left)} left"
            live.update(
                task,
                description=f"round {progress.round} · {stage}",
                # One row short: rich stops the spinner at a full bar, while the engine still computes.
                completed=progress.rows - 1,
                total=progress.total,
                pace=text,
            )

        yield show
