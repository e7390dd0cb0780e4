"""The scan of a deferred gate, beside Airflow's triggerer. Light: parsing a DAG file imports it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from foretaste.errors import ForetasteError
from foretaste.operators import _gate
from foretaste.operators._scan_process import ScanProcess

# A scheduler that hears of the deferral only after the task is queued again takes it for one that was lost.
SETTLE_SECONDS = 10.0


class ScanTrigger(BaseTrigger):
    """Runs a scan in a process of its own and fires once, with what came of it.

    The scan belongs to this trigger: it ends with it, whether the task is cleared, times out, or the triggerer stops.
    Airflow then starts the trigger again on a triggerer that lives, and the scan begins anew.

    Args:
        request: what to scan (see :func:`foretaste.operators._scan_process.request`); it holds no secrets.
        python: interpreter of an environment that has foretaste; the triggerer's where ``None``.
    """

    def __init__(self, request: Mapping[str, Any], python: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.request = dict(request)
        self.python = python

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow stores."""
        return f"{ScanTrigger.__module__}.{ScanTrigger.__name__}", {"request": self.request, "python": self.python}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Scan; an event with ``summary``, or with ``error`` and ``retry``."""
        began = time.monotonic()
        told: dict[str, Any]
        try:
            told = {"summary": await ScanProcess(self.python, self.log.info).run_async(self.request)}
        except ForetasteError as e:
            told = {"error": str(e), "retry": _gate.worth_retrying(e)}
        await asyncio.sleep(max(0.0, SETTLE_SECONDS - (time.monotonic() - began)))
        yield TriggerEvent(told)  # type: ignore[no-untyped-call]
