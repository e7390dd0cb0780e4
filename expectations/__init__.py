"""Great Expectations: importing this package registers the expectations.

``ExpectDataNotPoisoned`` runs a whole policy in one scan. Beside it stands one expectation for each installed check,
made from the check's id: ``hidden-text`` is ``ExpectNoHiddenText``. A process that loads a suite must import this
package first: Great Expectations drops an expectation that it does not know, and succeeds
(:mod:`foretaste.expectations.guard` finds that out).
"""

from __future__ import annotations

from foretaste import checks
from foretaste.errors import CheckError, did_you_mean
from foretaste.expectations._base import ExpectDataNotPoisoned, PoisonExpectation, of_check

BY_CHECK: dict[str, type[PoisonExpectation]] = {i: of_check(i, __name__) for i in checks.registry()}
"""The expectation of each check, by the check's id."""

for _check_id, _expectation in BY_CHECK.items():
    if _expectation.__name__ in globals():
        raise CheckError(f'the check "{_check_id}" and another both make {_expectation.__name__}; rename one of them')
    globals()[_expectation.__name__] = _expectation

__all__ = ["BY_CHECK", "ExpectDataNotPoisoned", "PoisonExpectation"]
__all__ += [_expectation.__name__ for _expectation in BY_CHECK.values()]


def __getattr__(name: str) -> type[PoisonExpectation]:
    """The expectations are made at import, so what comes here does not exist.

    Raises:
        AttributeError: naming what does.
    """
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; {did_you_mean(name, __all__)}")
