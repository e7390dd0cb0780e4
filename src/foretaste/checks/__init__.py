"""The checks, one file each. Nothing is registered by hand: modules of this package and entry points are walked."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
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
        CheckError: if two checks share an id, or an entry point cannot be loaded or is no check that a policy could
            hold. The package is named: a scan without its check would let pass what the check is there to find.
    """
    found: dict[str, type[Check[Any]]] = {}

    def add(check: type[Check[Any]], origin: str) -> None:
        if check.id in found and found[check.id] is not check:
            raise CheckError(
                f'two checks have the id "{check.id}": {found[check.id].__module__} and {check.__module__} of {origin}; '
                "uninstall one, or rename it"
            )
        found[check.id] = check

    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, Check) and not inspect.isabstract(cls) and cls.__module__ == module.__name__:
                add(cls, module.__name__)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        package = entry.dist.name if entry.dist else "an unnamed package"
        # SystemExit too: a module that ends the process with code 0 would end the gate as a pass.
        try:
            loaded = entry.load()
            reason = _unfit(loaded)
        except (Exception, SystemExit) as e:
            raise CheckError(f"the check {entry.name} of {package} cannot be loaded: {e!r}; fix or uninstall it") from e
        if reason:
            raise CheckError(f"the check {entry.name} of {package} is none: {reason}; fix or uninstall it")
        add(loaded, package)
    return dict(sorted(found.items()))


@cache
def packages() -> dict[str, str]:
    """Name and version of the package that a check comes from, by id; of other packages' checks only."""
    named = ((entry, entry.dist) for entry in entry_points(group=ENTRY_POINT_GROUP) if entry.dist)
    by_class = {entry.load(): f"{dist.name} {dist.version}" for entry, dist in named}
    return {check_id: by_class[check] for check_id, check in registry().items() if check in by_class}


def _unfit(loaded: Any) -> str:
    """Why this cannot stand in a policy; nothing where it can."""
    if not (inspect.isclass(loaded) and issubclass(loaded, Check)):
        return f"{loaded!r} is no class that derives from foretaste.check.Check"
    if inspect.isabstract(loaded):
        return f"{loaded.__name__} lacks {', '.join(sorted(loaded.__abstractmethods__))}"
    check_id = getattr(loaded, "id", None)
    if not (isinstance(check_id, str) and re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", check_id)):
        return f"its id {check_id!r} is no name in lower case with hyphens"
    if not (dataclasses.is_dataclass(loaded) and loaded.__hash__ is not None):
        return f"{loaded.__name__} is no frozen dataclass"
    loaded()  # the default policy builds it, so every parameter needs a default
    return ""


def get(check_id: str) -> type[Check[Any]]:
    """The check with this id.

    Raises:
        CheckError: if there is none.
    """
    checks = registry()
    if check_id not in checks:
        raise CheckError(f'no check "{check_id}"; {did_you_mean(check_id, checks)}')
    return checks[check_id]
