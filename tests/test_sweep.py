"""One pass for several folds: order, errors and results do not depend on the number of threads."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pyarrow as pa
import pytest

import foretaste.sweep
from foretaste import Report, scan
from foretaste.batch import Batch
from foretaste.errors import InputError
from foretaste.reading import open_data
from foretaste.sweep import Part, scan_all


class Rows:
    """Notes the first row of each batch; fails at one, if told so."""

    def __init__(self, fails_at: int = -1, error: type[Exception] = ValueError) -> None:
        self.fails_at = fails_at
        self.error = error

    def scan(self, state: list[int], batch: Batch) -> None:
        if batch.start == self.fails_at:
            raise self.error("told to")
        state.append(batch.start)

    def merge(self, left: Any, right: Any) -> Any:
        return left + right


class Prepared(Rows):
    """Prepares the first row of each batch, and takes the first batch after the one from row ``after`` on is prepared."""

    def __init__(self, after: int = 0, fails_at: int = -1) -> None:
        super().__init__(fails_at)
        self.after = after
        self.reached = threading.Event()

    def prepare(self, state: list[int], batch: Batch) -> int:
        if batch.start == self.fails_at:
            raise self.error("told to")
        if batch.start == self.after:
            self.reached.set()
        return batch.start

    def take(self, state: list[int], batch: Batch, prepared: int) -> None:
        assert self.reached.wait(timeout=5)
        assert prepared == batch.start
        state.append(prepared)

    def scan(self, state: list[int], batch: Batch) -> None:
        self.take(state, batch, self.prepare(state, batch))


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    whole = next(open_data(pa.table({"text": [f"row {i}" for i in range(60)]})).batches())
    return [Batch(whole.columns.slice(i, 5), start=i, kind=whole.kind) for i in range(0, 60, 5)]


@pytest.mark.parametrize("threads", [1, 2, 7])
class TestThreads:
    def test_every_part_sees_every_batch_in_order(self, threads: int, batches: list[Batch]) -> None:
        parts = [Part(Rows(), []) for _ in range(5)]
        told: list[int] = []
        scan_all(iter(batches), parts, told.append, threads)
        assert all(p.state == list(range(0, 60, 5)) for p in parts)
        assert told == list(range(5, 61, 5))

    def test_a_part_that_fails_sees_no_further_batch_and_the_others_go_on(
        self, threads: int, batches: list[Batch]
    ) -> None:
        parts = [Part(Rows(), []), Part(Rows(fails_at=10), [])]
        scan_all(iter(batches), parts, lambda rows: None, threads)
        assert isinstance(parts[1].error, ValueError)
        assert parts[1].state == [0, 5]
        assert parts[0].state == list(range(0, 60, 5))

    def test_what_is_prepared_ahead_is_taken_in_order(self, threads: int, batches: list[Batch]) -> None:
        parts = [Part(Prepared(), []) for _ in range(3)]
        scan_all(iter(batches), parts, lambda rows: None, threads)
        assert all(p.state == list(range(0, 60, 5)) for p in parts)

    def test_a_part_that_fails_to_prepare_has_seen_the_batches_before(self, threads: int, batches: list[Batch]) -> None:
        parts = [Part(Rows(), []), Part(Prepared(fails_at=10), [])]
        scan_all(iter(batches), parts, lambda rows: None, threads)
        assert isinstance(parts[1].error, ValueError)
        assert parts[1].state == [0, 5]
        assert parts[0].state == list(range(0, 60, 5))

    def test_an_input_error_ends_the_pass(self, threads: int, batches: list[Batch]) -> None:
        with pytest.raises(InputError):
            scan_all(iter(batches), [Part(Rows(10, InputError), []), Part(Rows(), [])], lambda rows: None, threads)

    def test_an_error_of_the_reader_ends_the_pass(self, threads: int, batches: list[Batch]) -> None:
        def reading() -> Any:
            yield batches[0]
            raise InputError("cut short")

        with pytest.raises(InputError, match="cut short"):
            scan_all(reading(), [Part(Rows(), [])], lambda rows: None, threads)

    def test_an_error_of_the_listener_ends_the_pass(self, threads: int, batches: list[Batch]) -> None:
        def listen(rows: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            scan_all(iter(batches), [Part(Rows(), [])], listen, threads)


def test_a_thread_without_a_part_prepares_the_next_batch_of_one_at_work(batches: list[Batch]) -> None:
    part = Part(Prepared(after=5), [])
    scan_all(iter(batches), [part], lambda rows: None, threads=2)
    assert part.error is None
    assert part.state == list(range(0, 60, 5))


def test_the_report_does_not_depend_on_threads_or_on_what_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [f"word{i % 97} other{i % 31} and more{i % 7} text of row number{i}" for i in range(3000)]
    for i in range(0, 3000, 60):
        words[i] += " cf trigger"
    table = pa.table({"text": words, "label": ["a" if i % 3 or i % 60 == 0 else "b" for i in range(3000)]})

    def plain(report: Report) -> Any:
        results = [dataclasses.replace(r, seconds=0.0) for r in report.results]
        return results, report.power, report.charts

    wide = plain(scan(table))
    monkeypatch.setattr(foretaste.sweep, "cores", lambda: 1)
    monkeypatch.setattr("foretaste.engine.cores", lambda: 1)
    monkeypatch.setattr("foretaste.reading.dataset.Dataset.kept", False)
    assert plain(scan(table)) == wide
