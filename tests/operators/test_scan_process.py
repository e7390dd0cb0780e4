"""A scan in a Python of its own: what it says, what it cannot say, and when it ends."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foretaste.errors import InputError
from foretaste.operators import _gate
from foretaste.operators._scan_process import ScanProcess, ScanProcessError, answer, request


@pytest.fixture
def asked(tmp_path: Path, poisoned_table: pa.Table) -> dict[str, Any]:
    pq.write_table(poisoned_table, tmp_path / "data.parquet")
    policy = {"checks": {"hidden-text": {"block_rows": "2"}}}
    return request(str(tmp_path / "data.parquet"), policy, out=tmp_path / "out", name="batch", on_block="warn")


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A Python that starts a grandchild and says nothing more, until it is ended."""
    script = tmp_path / "slow"
    script.write_text(f'#!/bin/sh\nsleep 300 &\necho $! > "{tmp_path}/grandchild"\nwait\n')
    script.chmod(0o755)
    return script


def _alive(process: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], check=False, capture_output=True, text=True
    ).stdout
    return bool(state.strip()) and not state.startswith("Z")


def _grandchild(folder: Path) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (folder / "grandchild").exists() and (said := (folder / "grandchild").read_text().strip()):
            return int(said)
        time.sleep(0.05)
    raise AssertionError("it never started")


def _gone(process: int) -> bool:
    deadline = time.monotonic() + 20
    while _alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not _alive(process)


def test_the_answer_is_the_summary_of_the_gate(asked: dict[str, Any], tmp_path: Path) -> None:
    told: list[str] = []
    summary = ScanProcess(None, told.append).run(asked)
    assert (summary["verdict"], summary["action"], summary["block_rows"]) == ("block", "warn", 30)
    assert summary["data"]["path"] == summary["path"] == "batch"
    assert summary["files"]["report.html"] == str(tmp_path / "out" / "report.html")
    assert any("r00100" in line for line in told)


def test_beside_an_event_loop_it_is_the_same(asked: dict[str, Any]) -> None:
    def run() -> Any:
        return asyncio.run(ScanProcess(None, print).run_async(asked))

    assert run()["verdict"] == "block"


@pytest.mark.parametrize(("change", "retry"), [({"data": "/absent.parquet"}, False), ({"protocol": 0}, False)])
def test_an_error_is_no_summary(asked: dict[str, Any], change: dict[str, Any], retry: bool) -> None:
    told = answer(asked | change, print)
    assert "summary" not in told
    assert told["retry"] is retry


def test_a_python_that_is_not_there_or_has_no_foretaste_is_named(asked: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot run /nowhere/python"):
        ScanProcess("/nowhere/python", print).run(asked)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    with pytest.raises(InputError, match="has no foretaste"):
        ScanProcess(str(tmp_path / "bare" / "bin" / "python"), print).run(asked)


def test_a_scan_that_dies_without_an_answer_failed_and_may_be_tried_again(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "dies").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "dies").chmod(0o755)
    with pytest.raises(ScanProcessError, match="signal 9") as caught:
        ScanProcess(str(tmp_path / "dies"), print).run(asked)
    assert _gate.worth_retrying(caught.value)


def test_a_cancelled_trigger_leaves_no_scan_behind(asked: dict[str, Any], slow: Path, tmp_path: Path) -> None:
    async def run() -> None:
        scan = asyncio.create_task(ScanProcess(str(slow), print).run_async(asked))
        await asyncio.to_thread(_grandchild, tmp_path)
        scan.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scan

    asyncio.run(run())
    assert _gone(_grandchild(tmp_path))


def test_a_scan_ends_with_the_process_that_waits_for_it(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import json, sys, threading, time\n"
        "from foretaste.operators import _scan_process as s\n"
        "p = s.ScanProcess(None, print)\n"
        "t = threading.Thread(target=lambda: p.run(json.loads(sys.argv[1])), daemon=True); t.start()\n"
        "while p._child is None: time.sleep(.05)\n"
        "print(p._child.pid, flush=True); time.sleep(60)\n"
    )
    # A store that takes connections and never answers: the scan of what lies there waits.
    with socket.create_server(("127.0.0.1", 0)) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        waits = asked | {"data": "s3://rows/train.parquet", "options": {}}
        with subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(waits)], stdout=subprocess.PIPE, text=True
        ) as parent:
            assert parent.stdout is not None
            scan = int(parent.stdout.readline())
            store.settimeout(60)
            try:
                connection, _ = store.accept()
                alive = _alive(scan)
            finally:
                parent.kill()
        assert alive
        assert _gone(scan)
        connection.close()


def test_airflows_settings_do_not_reach_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    from foretaste.operators._scan_process import _environment

    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://secret")
    assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" not in _environment()
