"""The checks, one file each. Nothing is registered by hand: modules of this package and entry points are walked."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from foretaste.check import Check
from foretaste.errors import CheckError, did_you_mean

ENTRY_POINT_GROUP = "foretaste.checks"


@cache
def registry() -> dict[str, type[Check[Any]]]:
    """All checks, by id, sorted; those of this package and those that other packages offer as entry points.

    Raises:
        CheckError: if two checks share an id, or an entry point cannot be loaded (its package is named).
    """
    found: dict[str, type[Check[Any]]] = {}

    def add(check: type[Check[Any]], origin: str) -> None:
        if check.id in found and found[check.id] is not check:
            raise CheckError(f'two checks have the id "{check.id}": {found[check.id].__module__} and {origin}')
        found[check.id] = check

    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, Check) and not inspect.isabstract(cls) and cls.__module__ == module.__name__:
                add(cls, module.__name__)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        package = entry.dist.name if entry.dist else "an unnamed package"
        try:
            add(entry.load(), package)
        except CheckError:
            raise
        except Exception as e:
            raise CheckError(f"the check {entry.name} of {package} cannot be loaded: {e!r}; fix or uninstall it") from e
    return dict(sorted(found.items()))


def get(check_id: str) -> type[Check[Any]]:
    """The check with this id.

    Raises:
        CheckError: if there is none.
    """
    checks = registry()
    if check_id not in checks:
        raise CheckError(f'no check "{check_id}"; {did_you_mean(check_id, checks)}')
    return checks[check_id]
