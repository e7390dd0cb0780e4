"""Libraries that reach data elsewhere: brought in where they are used, and their errors as input errors."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from foretaste.errors import InputError


def library(name: str, install: str) -> Any:
    """The module of that name.

    Args:
        name: of the module.
        install: what pip has to install for it.

    Raises:
        InputError: naming what to install, where it is missing.
    """
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise InputError(f"{name.split('.')[0]} is not installed; run: pip install '{install}'") from e


class StoreError(OSError):
    """What a store's library raised, with the next step in its words."""


@contextmanager
def failing(name: str, advice: str, hide: bool = False) -> Iterator[None]:
    """What a library raises, as an input error; without its words where they may hold what has to be hidden."""
    try:
        yield
    except (InputError, GeneratorExit):
        raise
    except Exception as e:  # noqa: BLE001 - each library has errors of its own, down to those of Rust
        state = getattr(e, "sqlstate", None)
        said = (state and f", SQLSTATE {state}") or "" if hide else f": {(str(e).strip().splitlines() or [''])[0]}"
        raise InputError(f"cannot read {name} ({type(e).__name__}{said}); {advice}") from (None if hide else e)


def no_rows(name: str) -> InputError:
    """The error of data without rows."""
    return InputError(f"{name} has no rows; nothing was checked, and nothing is not a pass")
