"""A gate in a Python process of its own: another environment, or beside an event loop. Imports no host.

The child reads a request as a line of JSON from standard input, prints progress to standard output, and writes its
answer to the file that its argument names. It ends when its standard input does: nobody waits for its answer any more.
What the child cannot say, the parent takes for a scan that failed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from foretaste.errors import ForetasteError, InputError
from foretaste.operators import _gate

STOP_SECONDS = 20
MAX_LINE = 2**24
# Form of request and answer: two versions of this package may meet.
PROTOCOL = 1


class ScanProcessError(ForetasteError):
    """The scan did not pass, as its process says.

    Attributes:
        retry: another try may succeed.
    """

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


def request(data: str, policy: Any, *, out: str | Path, name: str, **options: Any) -> dict[str, Any]:
    """What the child needs.

    Args:
        data: path or address, as the child sees it.
        policy: path, mapping or ``None``.
        out: local directory of the report.
        name: how people know the data.
        options: of :func:`foretaste.operators._gate.run_gate`; values that JSON has.
    """
    policy = str(policy) if isinstance(policy, Path) else policy
    return {"protocol": PROTOCOL, "data": data, "policy": policy, "out": str(out), "name": name, "options": options}


class ScanProcess:
    """A scan that another Python runs.

    Args:
        python: interpreter of an environment that has foretaste; the running one where ``None``.
        log: takes a line of progress or evidence.
    """

    def __init__(self, python: str | None, log: Callable[[str], object]) -> None:
        self.python = python or sys.executable
        self._log = log
        self._child: subprocess.Popen[str] | None = None

    def run(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Run the scan and wait for it.

        Returns:
            summary of the gate, as :meth:`GateResult.summary` makes it.

        Raises:
            InputError: if there is no such Python, or it has no foretaste.
            ScanProcessError: if the scan failed.
        """
        with tempfile.TemporaryDirectory(prefix="foretaste-scan-") as folder:
            answer = Path(folder) / "answer.json"
            try:
                child = subprocess.Popen(
                    self._command(answer), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    text=True, errors="replace", env=_environment(), start_new_session=True,
                )  # fmt: skip
            except OSError as e:
                raise self._no_python(e) from e
            self._child = child
            try:
                assert child.stdin is not None
                assert child.stdout is not None
                with suppress(BrokenPipeError):
                    child.stdin.write(json.dumps(asked) + "\n")
                    child.stdin.flush()
                said = [self._tell(line) for line in child.stdout]
                return self._answered(answer, child.wait(), said)
            finally:
                self.stop()

    async def run_async(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """As :meth:`run`, beside an event loop; the child ends when the coroutine is cancelled."""
        with tempfile.TemporaryDirectory(prefix="foretaste-scan-") as folder:
            answer = Path(folder) / "answer.json"
            try:
                child = await asyncio.create_subprocess_exec(
                    *self._command(answer), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    env=_environment(), start_new_session=True, limit=MAX_LINE,
                )  # fmt: skip
            except OSError as e:
                raise self._no_python(e) from e
            try:
                assert child.stdin is not None
                assert child.stdout is not None
                with suppress(BrokenPipeError, ConnectionResetError):
                    child.stdin.write(json.dumps(asked).encode() + b"\n")
                    await child.stdin.drain()
                said = [self._tell(line.decode(errors="replace")) async for line in child.stdout]
                return self._answered(answer, await child.wait(), said)
            finally:
                if child.returncode is None:
                    _signal(child.pid, signal.SIGKILL)
                    await child.wait()

    def stop(self) -> None:
        """End the scan, and what it started, where it still runs."""
        child = self._child
        if child is None or child.poll() is not None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            _signal(child.pid, number)
            with suppress(subprocess.TimeoutExpired):
                child.wait(STOP_SECONDS)
                return

    def _command(self, answer: Path) -> list[str]:
        # Isolated: a folder of DAGs on PYTHONPATH must not stand in for a module of that environment.
        return [self.python, "-I", "-u", "-m", "foretaste.operators._scan_process", str(answer)]

    def _tell(self, line: str) -> str:
        line = _gate.printable(line.rstrip("\n"), 2000)
        self._log(line)
        return line

    def _no_python(self, error: OSError) -> InputError:
        return InputError(f"cannot run {self.python}: {error}; name the Python of an environment that has foretaste")

    def _answered(self, answer: Path, code: int, said: list[str]) -> dict[str, Any]:
        try:
            told = json.loads(answer.read_text("utf-8"))
        except (OSError, ValueError):
            last = said[-1] if said else "it said nothing"
            if "No module named" in last and "foretaste" in last:
                fix = f"install it there: {self.python} -m pip install foretaste"
                raise InputError(f"{self.python} has no foretaste that can do this ({last}); {fix}") from None
            end = (
                f"was ended by signal {-code} (9 is often a lack of memory)" if code < 0 else f"ended with code {code}"
            )
            raise ScanProcessError(f"the scan {end} and left no answer: {last}", retry=True) from None
        if "summary" not in told:
            raise ScanProcessError(str(told.get("error")), retry=told.get("retry") is True)
        return dict(told["summary"])


def answer(asked: Mapping[str, Any], say: Callable[[str], object]) -> dict[str, Any]:
    """Run the gate that a request describes; ``{"summary": ...}``, or ``{"error": ..., "retry": ...}``."""
    if asked.get("protocol") != PROTOCOL:
        return {
            "error": "this foretaste and that of the Airflow task differ; install one version in both",
            "retry": False,
        }
    policy, out = asked["policy"], Path(asked["out"])
    policy = _gate.untemplated(policy) if isinstance(policy, Mapping) else policy
    try:
        progress = _gate.ProgressLog(say)
        result = _gate.run_gate(asked["data"], policy, out=out, progress=progress, **asked["options"])
    except Exception as e:  # noqa: BLE001 - whatever it is, the task has to hear of it
        said = str(e) if isinstance(e, ForetasteError) else f"{type(e).__name__}: {e}"
        return {"error": said, "retry": _gate.worth_retrying(e)}
    for line in _gate.told(result):
        say(line)
    return {"summary": result.summary(lambda path: path if Path(path).is_relative_to(out) else asked["name"])}


def _environment() -> dict[str, str]:
    """Ours, without Airflow's settings: among them is the address of its database."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW__", "_AIRFLOW", "PYTHONHOME"))}


def _signal(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process, number)


def _end_with_the_parent() -> None:
    sys.stdin.read()
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _main() -> None:
    path = Path(sys.argv[1])
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    told = answer(asked, print)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(told), "utf-8")
    draft.replace(path)


if __name__ == "__main__":
    _main()
