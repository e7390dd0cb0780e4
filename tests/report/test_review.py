"""The walk through findings, in a terminal of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foretaste
from foretaste.waivers import Waivers

if TYPE_CHECKING:
    from collections.abc import Callable

pexpect = pytest.importorskip("pexpect")


@pytest.fixture
def folder(poisoned_table: pa.Table, tmp_path: Path) -> Path:
    """A folder with poisoned ``d.parquet`` and the report of it, ``r``."""
    pq.write_table(poisoned_table, tmp_path / "d.parquet")
    report = foretaste.scan(str(tmp_path / "d.parquet"), foretaste.Policy().only("hidden-text"))
    foretaste.write(report, tmp_path / "r")
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Any]]:
    """Starts ``foretaste review r`` with more arguments, on a terminal of 80 columns."""
    started = []

    def run(*args: str) -> Any:
        child = pexpect.spawn(
            sys.executable, ["-m", "foretaste.cli", "review", "r", *args], cwd=str(folder), encoding="utf-8",
            dimensions=(40, 80), timeout=60,
        )  # fmt: skip
        started.append(child)
        return child

    yield run
    for child in started:
        child.close(force=True)


def _end(child: Any) -> tuple[str, int]:
    child.expect(pexpect.EOF)
    child.close()
    return child.before, child.exitstatus


def test_quitting_at_any_time_writes_nothing(start: Callable[..., Any], folder: Path) -> None:
    child = start()
    child.expect("q quit")
    child.sendline("q")
    said, code = _end(child)
    assert "nothing was written" in said
    assert code == 0
    child = start()
    child.expect("q quit")
    child.sendline("w")
    child.expect("Owner")
    child.sendintr()
    assert _end(child)[1] == 130
    assert not (folder / "waivers.yaml").exists()


def test_rows_are_escaped_and_stand_among_their_neighbours(start: Callable[..., Any]) -> None:
    child = start("--data", "d.parquet")
    child.expect("q quit")
    shown = child.before
    assert "tag characters: Always" in " ".join(shown.split())
    assert not [c for c in shown if 0xE0000 <= ord(c) <= 0xE007F]
    assert "before, row 99" in shown
    assert "after, row 101" in shown
    child.sendline("q")
    _end(child)


def test_a_waiver_is_written_after_a_yes_and_answers_for_the_finding(start: Callable[..., Any], folder: Path) -> None:
    child = start("--owner", "ann")
    child.expect("q quit")
    child.sendline("w")
    for asked, answer in (("Owner", ""), ("Reason", "watermark"), ("Last day", "soon"), ("risk is taken", "n"),
                          ("does not matter", ""), ("once more", ""), ("Reason", "watermark"), ("Last day", ""),
                          ("risk is taken", "n"), ("does not matter", ""), ("Write this", "y")):  # fmt: skip
        child.expect(asked)
        child.sendline(answer)
    assert _end(child)[1] == 0
    ((waiver, envelope),) = Waivers.load(folder / "waivers.yaml").entries
    assert (waiver.owner, waiver.statement, envelope) == ("ann", "watermark", None)
    report = foretaste.scan(str(folder / "d.parquet"), foretaste.Policy().only("hidden-text"),
                            waivers=str(folder / "waivers.yaml"))  # fmt: skip
    assert not report.blocked


def test_rows_are_set_apart_from_data_that_are_those_of_the_report(start: Callable[..., Any], folder: Path) -> None:
    child = start("--data", "d.parquet", "--quarantine", "q")
    child.expect("q quit")
    child.sendline("s")
    child.expect("Write this")
    child.sendline("y")
    said, code = _end(child)
    assert code == 0
    assert "30 rows set apart" in said
    pq.write_table(pq.read_table(folder / "d.parquet").slice(1), folder / "d.parquet")
    said, code = _end(start("--data", "d.parquet"))
    assert "is not what was scanned" in " ".join(said.split())
    assert code == 2
