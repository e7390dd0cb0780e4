from __future__ import annotations

import io

import pytest

from foretaste.engine import Progress
from foretaste.report.progress import Pace, PlainProgress, shown


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_pace_counts_from_the_first_batch_of_each_round() -> None:
    clock = _Clock()
    pace = Pace(clock)
    assert pace.of(Progress(1, "a", 100, 1000)) == (None, None)
    clock.now = 2.0
    assert pace.of(Progress(1, "a", 300, 1000)) == (100.0, 7.0)
    clock.now = 50.0  # the engine computed between the rounds
    assert pace.of(Progress(2, "b", 100, 1000)) == (None, None)
    clock.now = 51.0
    assert pace.of(Progress(2, "b", 600, 1000)) == (500.0, 0.8)


def test_no_time_left_is_told_where_the_number_of_rows_is_unknown() -> None:
    clock = _Clock()
    pace = Pace(clock)
    pace.of(Progress(1, "a", 100, None))
    clock.now = 1.0
    assert pace.of(Progress(1, "a", 300, None)) == (200.0, None)


def test_a_log_gets_one_plain_line_in_ten_seconds() -> None:
    clock, log = _Clock(), io.StringIO()
    progress = PlainProgress(log, clock=clock)
    for second in range(0, 26):
        clock.now = float(second)
        progress(Progress(1, "hidden-text", 100 * (second + 1), 5000))
    lines = log.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0] == "foretaste: round 1 (hidden-text): 1,100 of 5,000 rows, 100 rows/s, 39.0 s left in this round"
    assert "\x1b" not in log.getvalue()


def test_a_terminal_gets_a_live_line_that_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = _Terminal()
    with shown(screen) as callback:
        callback(Progress(1, "x" * 100, 10, None))
        callback(Progress(1, "x" * 100, 20, None))
        callback(Progress(2, "second", 20, 20))
    assert "round 2 · second" in screen.getvalue()
    assert "computing" in screen.getvalue()
    assert "x" * 50 not in screen.getvalue()
