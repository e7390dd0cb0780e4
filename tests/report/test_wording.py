from __future__ import annotations

import math

import pytest

from foretaste.report.wording import against_limit, count, duration, next_steps, number, size
from foretaste.results import CheckResult, Outcome, Report

from .conftest import blocked, finding, make_report


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (12345, "12,345"), (48.0, "48"), (0.0212, "0.0212"), (3.2e-41, "3.2e-41"), (math.inf, "∞"),
     (-1e308, "-∞"), (math.nan, "not a number"), (True, "True"), ("x", "x"), (None, "None")],
)  # fmt: skip
def test_numbers_read_as_a_person_writes_them(value: object, text: str) -> None:
    assert number(value) == text


def test_units_fit_the_size_of_a_value() -> None:
    assert (count(1, "row"), count(2000, "row")) == ("1 row", "2,000 rows")
    assert (size(999), size(4_231_000), size(5 * 10**12)) == ("999 bytes", "4.2 MB", "5.0 TB")
    assert (duration(1.24), duration(61), duration(3720)) == ("1.2 s", "1 min 1 s", "1 h 2 min")


def test_observed_stands_beside_the_limit() -> None:
    assert against_limit(finding()) == "48 ≥ 15"
    assert against_limit(finding(observed=3.0, limit=8.0)) == "3 < 8"


def test_a_block_says_not_to_train_and_whom_to_ask(blocked_report: Report) -> None:
    steps = " ".join(next_steps(blocked_report))
    assert steps.startswith("Do not train")
    assert "vendor (40 rows)" in steps
    assert "48 rows" in steps


def test_an_error_is_never_worded_as_a_pass() -> None:
    failed = CheckResult(check="near-duplicates", outcome=Outcome.ERROR, note="MemoryError")
    for report in (make_report(failed), make_report(), make_report(blocked(finding()), failed)):
        steps = " ".join(next_steps(report))
        assert "not a pass" in steps
        assert "Train on" not in steps


def test_a_pass_does_not_promise_that_there_is_no_poison(clean_report: Report) -> None:
    assert "not that there is no poison" in " ".join(next_steps(clean_report))
