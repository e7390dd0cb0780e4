"""What Great Expectations lets slip: expectations that it dropped, suites that hold none, runs that evaluated none.

A suite that is loaded where the module of a custom expectation is not imported loses that expectation with a log line,
and its checkpoint succeeds; an empty suite succeeds as well. A gate compares what is stored with what was evaluated:

>>> from foretaste.expectations.guard import assert_complete, stored_suite
>>> stored = stored_suite(suite)  # doctest: +SKIP
>>> assert_complete(stored, checkpoint.run())  # doctest: +SKIP
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from foretaste.errors import CheckError

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite


def gaps(stored: Mapping[str, Any] | Sequence[Any], result: Any) -> list[str]:
    """What a run left out of what is stored, one sentence each; an empty list where it left out nothing.

    This says nothing about success: an expectation that was evaluated and not met is no gap.

    Args:
        stored: what the store holds, read without building the expectations (see :func:`stored_suite`): the JSON of a
            suite, or a list of its expectations, each a type such as ``expect_no_hidden_text`` or a configuration with
            a ``type``. For a checkpoint over several suites, a mapping from the suite's name to either.
        result: what came of it: the validation result of a suite or the result of a checkpoint, as an object of Great
            Expectations or as its JSON, or a mapping from the names in ``stored`` to validation results.
    """
    named = _by_name(stored)
    runs = list(_runs(result))
    found: list[str] = []
    if not named:
        found.append("no suite is stored, so nothing was checked; add a suite to the checkpoint")
    if not runs:
        found.append("no suite was evaluated, so nothing was checked; run the checkpoint again")
    for name, types in named.items():
        # A single suite is known by its place, not by its name: its JSON may have none.
        mine = [run for run_name, run in runs if run_name == name or len(named) == 1]
        where = name or "the suite"
        if not types:
            prefix = f"{name}: " if name else ""
            found.append(f"{prefix}the suite is empty, so nothing was checked; add an expectation to it")
        if runs and not mine:
            found.append(f"{where} is stored and was not evaluated; run it with the others")
        for run in mine:
            found += _differences(where, types, [_type(r) for r in _get(run, "results") or ()])
    for run_name, _ in runs:
        if len(named) > 1 and run_name not in named:
            found.append(f"{run_name} was evaluated and is not among the stored suites; read it from the store too")
    return found


def assert_complete(stored: Mapping[str, Any] | Sequence[Any], result: Any) -> None:
    """Do nothing where a run evaluated all that is stored; see :func:`gaps` for the arguments.

    Raises:
        CheckError: naming every gap.
    """
    found = gaps(stored, result)
    if found:
        raise CheckError("; ".join(found))


def stored_suite(suite: ExpectationSuite) -> dict[str, Any]:
    """The JSON of a suite as its store holds it; the suite itself has lost what it could not build.

    Raises:
        KeyError: if the suite was never added to a data context.
    """
    store = suite._store
    raw: dict[str, Any] = store.get(store.get_key(name=suite.name, id=suite.id))
    # A store in memory keeps configurations, one on disk their JSON.
    listed = [e if isinstance(e, Mapping) else e.to_json_dict() for e in raw["expectations"]]
    return {**raw, "expectations": listed}


def _by_name(stored: Mapping[str, Any] | Sequence[Any]) -> dict[str, list[str]]:
    """Types of the stored expectations, by the suite's name; the name is empty where it is not known."""
    if not isinstance(stored, Mapping):
        return {"": [_type(e) for e in stored]}
    if isinstance(stored.get("expectations"), Sequence):
        return {str(stored.get("name") or ""): [_type(e) for e in stored["expectations"]]}
    return {str(name): next(iter(_by_name(one).values())) for name, one in stored.items()}


def _runs(result: Any) -> Iterator[tuple[str, Any]]:
    """Suite name and validation result of everything that was run."""
    if result is None:
        return
    runs = _get(result, "run_results")
    if runs is not None:
        yield from ((str(_get(run, "suite_name")), run) for run in runs.values())
    elif _get(result, "results") is not None:
        yield str(_get(result, "suite_name")), result
    elif isinstance(result, Mapping):
        yield from ((str(name), run) for name, run in result.items())


def _differences(where: str, types: list[str], evaluated: list[str]) -> Iterator[str]:
    if types and not evaluated:
        yield f"{where} holds {len(types)} expectations and none was evaluated"
        return
    for kind, missing in sorted((Counter(types) - Counter(evaluated)).items()):
        yield (
            f"{where}: {kind} is stored {missing} times more than it was evaluated; import the module that defines it "
            "before the suite is loaded, or install the package that does"
        )
    for kind, extra in sorted((Counter(evaluated) - Counter(types)).items()):
        yield f"{where}: {kind} was evaluated {extra} times more than it is stored; the suite changed meanwhile"


def _type(expectation: Any) -> str:
    """The type of a stored expectation or of a result."""
    if isinstance(expectation, str):
        return expectation
    return str(_get(_get(expectation, "expectation_config") or expectation, "type"))


def _get(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
