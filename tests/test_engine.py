"""The round loop: signals once, rounds as asked for, and no failure that looks like a pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from foretaste import CheckError, Outcome, Policy, Report, scan
from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity, Signal
from foretaste.engine import Progress, excerpt

CALLS: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@pytest.fixture
def table() -> pa.Table:
    """More rows than one batch holds."""
    rows = 20_000
    return pa.table({"text": [f"row {i}" for i in range(rows)], "source": [f"v{i % 3}" for i in range(rows)]})


@dataclass
class Count:
    """Rows seen, and rounds finished."""

    rows: int = 0
    round: int = 1


@dataclass(frozen=True)
class CountRows(Signal[Count, int]):
    """Counts the rows."""

    step: int = 1

    def start(self, context: Context) -> Count:
        CALLS[f"start {self.step}"] += 1
        return Count()

    def scan(self, state: Count, batch: Batch) -> None:
        state.rows += self.step * batch.num_rows

    def merge(self, left: Count, right: Count) -> Count:
        left.rows += right.rows
        return left

    def value(self, state: Count) -> int:
        CALLS[f"value {self.step}"] += 1
        return state.rows


@dataclass(frozen=True)
class BrokenSignal(CountRows):
    """Fails when it is asked."""

    def value(self, state: Count) -> int:
        raise ArithmeticError("no value")


@dataclass(frozen=True, kw_only=True)
class Plain(Check[Count]):
    """A check that does as its fields say, for the tests of the loop that runs it."""

    id: ClassVar[str] = "plain"
    signals: tuple[Any, ...] = ()
    rounds: int = 1
    reason: str = ""
    fails_in: str = ""
    finding: Any = None

    @property
    def parameters(self) -> dict[str, Any]:
        """Left out of the policy's digest: they are functions."""
        return {}

    def _fail(self, where: str) -> None:
        if where == self.fails_in:
            raise RuntimeError(f"broken in {where}")

    def applies(self, context: Context) -> str:
        self._fail("applies")
        return self.reason

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        self._fail("needs")
        return self.signals

    def start(self, context: Context) -> Count:
        self._fail("start")
        for signal in self.signals:
            CALLS["seen"] += context.value(signal)
        return Count()

    def scan(self, state: Count, batch: Batch) -> None:
        self._fail(f"round {state.round}")
        state.rows += batch.num_rows

    def merge(self, left: Count, right: Count) -> Count:
        left.rows += right.rows
        return left

    def next_round(self, state: Count) -> Count | None:
        self._fail("next_round")
        return Count(state.rows, state.round + 1) if state.round < self.rounds else None

    def finish(self, state: Count) -> RawResult:
        self._fail("finish")
        CALLS["finished"] += 1
        found: Any = self.finding
        if callable(found):
            return found()  # type: ignore[no-any-return]
        return RawResult(metrics={"rows": state.rows, "rounds": state.round})


@dataclass(frozen=True, kw_only=True)
class Other(Plain):
    """The same under another name."""

    id: ClassVar[str] = "other"


def run(table: pa.Table, *checks: Check[Any], **rest: Any) -> Report:
    return scan(table, Policy(checks=checks), **rest)


def outcomes(report: Report) -> dict[str, Outcome]:
    return {r.check: r.outcome for r in report.results}


class TestRounds:
    def test_every_round_sees_every_row_once(self, table: pa.Table) -> None:
        report = run(table, Plain(rounds=3), Other())
        assert {r.check: r.metrics for r in report.results} == {
            "plain": {"rows": 60_000, "rounds": 3},
            "other": {"rows": 20_000, "rounds": 1},
        }

    def test_a_signal_is_computed_once_for_all_who_need_it(self, table: pa.Table) -> None:
        run(table, Plain(signals=(CountRows(),)), Other(signals=(CountRows(), CountRows(2))))
        assert CALLS["start 1"] == CALLS["value 1"] == CALLS["value 2"] == 1
        assert CALLS["seen"] == 20_000 + 20_000 + 40_000

    def test_a_signal_that_nobody_needs_is_not_computed(self, table: pa.Table) -> None:
        run(table, Plain(signals=(CountRows(),), reason="not for these data"), Other())
        assert not CALLS["value 1"]

    def test_progress_tells_rows_rounds_and_total_after_every_batch(self, table: pa.Table) -> None:
        steps: list[Progress] = []
        run(table, Plain(rounds=2), progress=steps.append)
        assert [(s.round, s.rows) for s in steps] == [(1, 16_384), (1, 20_000), (2, 16_384), (2, 20_000)]
        assert {s.total for s in steps} == {20_000}
        assert all("plain" in s.stage for s in steps)


class TestErrors:
    @pytest.mark.parametrize("where", ["applies", "needs", "start", "round 1", "round 2", "next_round", "finish"])
    def test_a_check_that_raises_is_an_error_and_the_others_go_on(self, where: str, table: pa.Table) -> None:
        report = run(table, Plain(rounds=2, fails_in=where), Other())
        assert report.verdict is Outcome.ERROR
        assert report.blocked
        assert outcomes(report) == {"plain": Outcome.ERROR, "other": Outcome.PASS}
        broken = next(r for r in report.results if r.check == "plain")
        assert broken.note == f"RuntimeError: broken in {where}"
        with pytest.raises(CheckError, match="broken in"):
            report.raise_if_blocked()

    @pytest.mark.parametrize("where", ["applies", "round 1", "finish"])
    def test_a_check_that_ends_the_process_is_an_error_and_no_clean_exit(self, where: str, table: pa.Table) -> None:
        @dataclass(frozen=True, kw_only=True)
        class Leaving(Plain):
            def _fail(self, now: str) -> None:
                if now == where:
                    raise SystemExit(0)

        with pytest.raises(CheckError, match="ended the process with code 0"):
            run(table, Leaving(), Other())

    def test_a_signal_that_raises_is_an_error_of_all_who_need_it(self, table: pa.Table) -> None:
        report = run(table, Plain(signals=(BrokenSignal(),)), Other())
        assert outcomes(report) == {"plain": Outcome.ERROR, "other": Outcome.PASS}
        assert "BrokenSignal failed: ArithmeticError: no value" in report.results[1].note

    def test_signals_that_wait_for_each_other_are_an_error_and_not_a_silent_skip(self, table: pa.Table) -> None:
        @dataclass(frozen=True)
        class Knot(CountRows):
            def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
                return (Knot(),)

        report = run(table, Plain(signals=(Knot(),)), Other())
        assert outcomes(report) == {"plain": Outcome.ERROR, "other": Outcome.PASS}

    def test_an_error_outweighs_a_block(self, table: pa.Table) -> None:
        report = run(table, Plain(finding=lambda: RawResult(findings=(finding([1]),))), Other(fails_in="finish"))
        assert report.verdict is Outcome.ERROR
        assert report.flagged_rows() == (1,)

    @pytest.mark.parametrize(
        "made",
        [
            lambda: None,
            lambda: "pass",
            lambda: RawResult(findings=(finding([20_000]),)),
            lambda: RawResult(findings=(finding([-1]),)),
            lambda: RawResult(findings=(finding([1], examples=(RawExample(row=30_000),)),)),
        ],
    )
    def test_a_result_without_evidence_is_an_error_of_its_check(self, made: Callable[[], Any], table: pa.Table) -> None:
        report = run(table, Plain(finding=made), Other())
        assert outcomes(report) == {"plain": Outcome.ERROR, "other": Outcome.PASS}


class TestNothingRan:
    def test_skipped_checks_alone_are_no_pass(self, table: pa.Table) -> None:
        report = run(table, Plain(reason="not for these data"))
        assert outcomes(report) == {"plain": Outcome.SKIPPED}
        assert report.verdict is Outcome.ERROR
        assert "no check ran" in report.headline()

    def test_no_checks_at_all_are_no_pass(self, table: pa.Table) -> None:
        assert run(table).verdict is Outcome.ERROR

    def test_a_skipped_check_beside_one_that_ran_does_not_hide(self, table: pa.Table) -> None:
        report = run(table, Plain(reason="not for these data"), Other())
        assert report.verdict is Outcome.PASS
        assert "1 check" in report.headline()


def finding(rows: list[int], severity: Severity = Severity.BLOCK, **rest: Any) -> RawFinding:
    return RawFinding(kind="kind", severity=severity, message="found", rows=np.array(rows, np.int64), **rest)


class TestEvidence:
    def scan(self, *findings: RawFinding, table: pa.Table) -> Report:
        return run(table, Plain(finding=lambda: RawResult(findings=findings)))

    def test_rows_are_sorted_named_and_counted_by_source(self, table: pa.Table) -> None:
        ids = pa.array([f"id-{i}" for i in range(table.num_rows)])
        report = self.scan(finding([17_000, 3, 3, 4, 6]), table=table.append_column("id", ids))
        found = report.findings[0]
        assert found.rows == (3, 4, 6, 17_000)
        assert found.ids == ("id-3", "id-4", "id-6", "id-17000")
        assert found.sources == {"v0": 2, "v1": 1, "v2": 1}

    def test_examples_show_the_place(self, table: pa.Table) -> None:
        long = "a " * 1000 + "NEEDLE" + " b" * 1000
        table = table.set_column(0, "text", pa.array([long, *table["text"].to_pylist()[1:]]))
        examples = (RawExample(row=0, around="needle"), RawExample(row=5, counter=True))
        found = self.scan(finding([0], examples=examples), table=table).findings[0]
        assert "NEEDLE" in found.examples[0].texts["text"]
        assert found.examples[0].texts["source"] == "v0"
        assert found.examples[1].counter

    def test_the_fingerprint_names_the_rows_and_not_the_severity(self, table: pa.Table) -> None:
        def fingerprint(*args: Any) -> str:
            return self.scan(finding(*args), table=table).findings[0].fingerprint

        assert fingerprint([1, 2]) == fingerprint([2, 1], Severity.REVIEW)
        assert fingerprint([1, 2]) != fingerprint([1, 3])

    def test_charts_count_every_flagged_row_once(self, table: pa.Table) -> None:
        report = self.scan(finding([1, 2, 3]), finding([3, 4], Severity.REVIEW), table=table)
        assert sum(report.charts["over_file"]["block"]) == 3
        by_source = report.charts["by_source"]
        assert sum(g["rows"] for g in by_source) == 20_000
        assert sum(g["block"] for g in by_source) == 3
        assert sum(g["review"] for g in by_source) == 1  # row 3 counts as blocked


@pytest.mark.parametrize("around", [None, "x", "absent"])
@pytest.mark.parametrize("length", [0, 1, 319, 320, 321, 5000])
def test_an_excerpt_is_short_and_part_of_the_text(length: int, around: str | None) -> None:
    text = ("ab" * length)[:length] + "x"
    shown = excerpt(text, around)
    assert len(shown) <= 322
    assert shown.strip("…") in text
