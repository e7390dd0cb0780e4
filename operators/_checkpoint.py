"""A Great Expectations checkpoint run as a gate: what GX lets slip counts as a failure.

GX drops an expectation whose class is not imported and goes on, and an empty suite succeeds. So the suites are compared
as they are stored with what was evaluated. Imports Great Expectations only when something is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from foretaste.errors import InputError
from foretaste.operators import _gate

if TYPE_CHECKING:
    from great_expectations import Checkpoint, ExpectationSuite


def run_checkpoint(
    checkpoint: Checkpoint,
    batch_parameters: Mapping[str, Any] | None = None,
    expectation_parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run a checkpoint with its actions; a summary in plain types, whose ``proceed`` says whether all was met.

    Raises:
        InputError: if the checkpoint checks nothing, or the extra ``gx`` is missing.
    """
    register()
    validations = checkpoint.validation_definitions
    if not validations:
        raise InputError(f"checkpoint {checkpoint.name} has no validation definition, so it checks nothing")
    stored = {v.name: _stored(v.suite) for v in validations}
    result = checkpoint.run(
        batch_parameters=dict(batch_parameters or {}), expectation_parameters=dict(expectation_parameters or {})
    )
    by_id = {r.meta.get("validation_id"): r for r in result.run_results.values()}
    return _checked(checkpoint.name, stored, {v.name: by_id[v.id] for v in validations if v.id in by_id})


def register() -> None:
    """Register our expectations, before a suite that names them is read.

    Raises:
        InputError: if the extra ``gx`` is missing.
    """
    try:
        import foretaste.expectations  # noqa: F401
    except ImportError as e:
        raise InputError(f'{e}; install "foretaste[gx]" where the task runs') from e


def _stored(suite: ExpectationSuite) -> list[str]:
    """Types of the expectations as the store has them: the suite itself has lost those that it could not build."""
    store = suite._store
    raw = store.get(store.get_key(name=suite.name, id=suite.id))
    return [e["type"] for e in raw["expectations"]]


def _checked(name: str, stored: Mapping[str, list[str]], results: Mapping[str, Any]) -> dict[str, Any]:
    """Summary of a checkpoint's run. What GX would have let slip is among its problems.

    Args:
        name: of the checkpoint.
        stored: types of the stored expectations, by validation definition.
        results: results of the suites, by validation definition.
    """
    from foretaste.expectations.guard import gaps

    # What GX dropped or never ran; what it ran and did not meet follows below.
    problems = gaps(stored, results)
    shown: list[dict[str, Any]] = []
    for validation in stored:
        result = results.get(validation)
        for one in result.results if result else []:
            outcome = _expectation(validation, one)
            shown.append(outcome)
            if not outcome["success"]:
                said = outcome["exception"] or f"observed {outcome['observed']}"
                problems.append(f"{validation}: {outcome['expectation']} was not met: {said}")
        if result is not None and not result.success and not problems:
            problems.append(f"{validation}: not successful")
    met = sum(e["success"] for e in shown)
    verdict = "PASS" if not problems else "BLOCK"
    headline = f"{verdict}: checkpoint {name}, {met} of {sum(map(len, stored.values()))} stored expectations met"
    return {
        "verdict": verdict.lower(),
        "headline": headline,
        "action": "fail" if problems else "pass",
        "proceed": not problems,
        "reason": problems[0] if problems else headline,
        "path": None,
        "digest": None,
        "problems": problems[: _gate.MAX_FINDINGS],
        "problems_total": len(problems),
        "expectations": shown[: _gate.MAX_FINDINGS],
    }


def _expectation(validation: str, result: Any) -> dict[str, Any]:
    raised = [
        str(info.get("exception_message"))
        for info in _exceptions(result.exception_info or {})
        if info.get("raised_exception")
    ]
    return {
        "validation": validation,
        "expectation": result.expectation_config.type,
        "success": bool(result.success) and not raised,
        "observed": _gate.printable(str(result.result.get("observed_value"))),
        "unexpected_count": result.result.get("unexpected_count"),
        "exception": _gate.printable(raised[0]) if raised else None,
    }


def _exceptions(info: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """GX gives one record, or one per metric."""
    if "raised_exception" in info:
        yield info
    else:
        yield from (i for i in info.values() if isinstance(i, Mapping))
