"""Errors that foretaste raises. Each says what was wrong, what was available, and the next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ForetasteError(Exception):
    """Base of all errors of this package; a caller that catches it has caught every tool or input error."""


class InputError(ForetasteError):
    """The data could not be read as they stand, so nothing was checked. Never a pass."""


class StateError(InputError):
    """The state of earlier batches cannot be read, does not fit the data, or changed meanwhile. Nothing was passed."""


class PolicyError(ForetasteError):
    """A policy, trust or waiver file is not valid."""


class CheckError(ForetasteError):
    """A check could not be built or run."""


class VerificationError(ForetasteError):
    """A signature, certificate or chain was refused, or the data are not those that it speaks of; says why."""


class BlockedError(ForetasteError):
    """A scan refused the data. Raised by adapters and by :meth:`foretaste.Report.raise_if_blocked`."""


def did_you_mean(name: str, available: Iterable[str]) -> str:
    """Return ``'did you mean "x"? '`` for a near miss, and the sorted list of what is available."""
    names = sorted(set(available))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    return f"{hint}available: {', '.join(names) if names else 'none'}"
