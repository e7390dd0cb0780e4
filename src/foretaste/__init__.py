"""foretaste: the gate that keeps poisoned data out of training.

>>> import foretaste
>>> report = foretaste.scan("train.parquet", roles={"text": "text", "label": "label"})  # doctest: +SKIP
>>> report.verdict  # doctest: +SKIP
<Outcome.PASS: 'pass'>
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foretaste._version import __version__
from foretaste.errors import (
    BlockedError,
    CheckError,
    ForetasteError,
    InputError,
    PolicyError,
    StateError,
    VerificationError,
)

if TYPE_CHECKING:
    from foretaste.engine import scan
    from foretaste.policy import Policy
    from foretaste.provenance.certificate import certify
    from foretaste.provenance.verify import verified, verify
    from foretaste.report import write
    from foretaste.results import CheckResult, Finding, Outcome, Report, Severity
    from foretaste.roles import Roles

__all__ = [
    "BlockedError",
    "CheckError",
    "CheckResult",
    "Finding",
    "ForetasteError",
    "InputError",
    "Outcome",
    "Policy",
    "PolicyError",
    "Report",
    "Roles",
    "Severity",
    "StateError",
    "VerificationError",
    "__version__",
    "certify",
    "scan",
    "verified",
    "verify",
    "write",
]

# Loaded at first use: Arrow and numpy take longer to import than an orchestrator should wait for at parse time.
_LAZY = {
    "scan": "foretaste.engine",
    "Policy": "foretaste.policy",
    "certify": "foretaste.provenance.certificate",
    "verified": "foretaste.provenance.verify",
    "verify": "foretaste.provenance.verify",
    "write": "foretaste.report",
    "CheckResult": "foretaste.results",
    "Finding": "foretaste.results",
    "Outcome": "foretaste.results",
    "Report": "foretaste.results",
    "Severity": "foretaste.results",
    "Roles": "foretaste.roles",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
