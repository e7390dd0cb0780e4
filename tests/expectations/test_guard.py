"""A gap between what a suite stores and what was evaluated is always named."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("great_expectations")

from foretaste.errors import CheckError
from foretaste.expectations.guard import assert_complete, gaps

A, B = "expect_no_hidden_text", "expect_column_to_exist"


def suite(*types: str, name: str = "s") -> dict[str, Any]:
    return {"name": name, "expectations": [{"type": t, "kwargs": {}} for t in types]}


def run(*types: str, name: str = "s") -> dict[str, Any]:
    results = [{"expectation_config": {"type": t}, "success": True} for t in types]
    return {"suite_name": name, "results": results, "success": True}


@pytest.mark.parametrize("stored", [suite(A, B), [A, B], suite(A, B)["expectations"]])
def test_a_run_of_all_that_is_stored_has_no_gap(stored: Any) -> None:
    assert gaps(stored, run(B, A)) == []
    assert_complete(stored, run(B, A))


def test_a_dropped_expectation_is_named_with_the_next_step() -> None:
    (gap,) = gaps(suite(A, B), run(B))
    assert A in gap
    assert "import the module" in gap
    with pytest.raises(CheckError, match=A):
        assert_complete(suite(A, B), run(B))


def test_one_of_two_alike_that_was_dropped_is_a_gap() -> None:
    assert len(gaps(suite(A, A), run(A))) == 1


@pytest.mark.parametrize("result", [run(), None, {}, {"run_results": {}}])
def test_nothing_evaluated_is_a_gap(result: Any) -> None:
    assert gaps(suite(A), result)
    assert gaps(suite(), result)
    assert gaps({}, result)


def test_an_empty_suite_is_a_gap_though_it_succeeds() -> None:
    assert any("empty" in gap for gap in gaps(suite(), run()))


def test_an_expectation_that_is_not_stored_is_a_gap() -> None:
    assert len(gaps(suite(A), run(A, B))) == 1


def test_a_checkpoint_is_complete_when_each_of_its_suites_is() -> None:
    stored = {"one": suite(A, name="one"), "two": [B]}
    whole = {"run_results": {"x": run(A, name="one"), "y": run(B, name="two")}}
    assert gaps(stored, whole) == []
    assert gaps(stored, {"one": run(A), "two": run(B)}) == []
    assert any("two" in gap for gap in gaps(stored, {"run_results": {"x": run(A, name="one")}}))
    assert any("two" in gap for gap in gaps({"one": [A], "three": [A]}, whole))
    swapped = {"run_results": {"x": run(B, name="one"), "y": run(A, name="two")}}
    assert len(gaps(stored, swapped)) == 4


def test_each_of_two_runs_of_one_suite_must_be_complete() -> None:
    both = {"run_results": {"x": run(A, B), "y": run(A)}}
    assert len(gaps(suite(A, B), both)) == 1
