"""Kernels that are compiled ahead of a scan, and the process that helps the first one."""

from __future__ import annotations

import ast
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foretaste import warming

PACKAGE = Path(__file__).parent.parent / "src" / "foretaste"


def _called_from_python(path: Path) -> Iterator[str]:
    """Kernels that a file names outside of kernels: numba takes their types from what they are given there."""
    tree = ast.parse(path.read_bytes())
    own = ".".join(("foretaste", *path.relative_to(PACKAGE).with_suffix("").parts))
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    todo = list(ast.iter_child_nodes(tree))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef) and "kernel" in map(ast.unparse, node.decorator_list):
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            where, name = imported.get(node.value.id, ""), node.attr
        elif isinstance(node, ast.Name):
            where, _, name = imported.get(node.id, f"{own}.{node.id}").rpartition(".")
        else:
            continue
        if where.startswith("foretaste.text.") and not where.rpartition(".")[2][0].isupper():  # a module, not a class
            found = getattr(importlib.import_module(where), name, None)
            if hasattr(found, "py_func"):
                yield f"{found.py_func.__module__}.{found.py_func.__name__}".removeprefix("foretaste.text.")


def test_every_kernel_that_python_calls_is_listed_once() -> None:
    called = {name for path in PACKAGE.rglob("*.py") for name in _called_from_python(path)}
    lines = [line.split() for line in warming.LIST.read_text().splitlines()]
    assert called == {name for _, name, *_ in lines}, "run scripts/record_kernels.py"
    scanned = [name for uses, name, *_ in lines if uses != "o"]
    assert len(scanned) == len(set(scanned)), "a kernel is compiled for each set of types that it is called with"


def test_scans_call_kernels_with_the_listed_types(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
from foretaste import scan
from foretaste.testing import every_kind
from foretaste.warming import kernels
for kind, table in every_kind().items():
    pq.write_table(table, f"{sys.argv[1]}/{kind}.parquet")
    scan(f"{sys.argv[1]}/{kind}.parquet", {"power": {"max_rows": 0}})
called = [(c.py_func.__name__, c.signatures, a) for c, a in kernels() if c.signatures]
assert len(called) > 40, len(called)
print([(name, signatures, listed) for name, signatures, listed in called if signatures != [listed]])
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", "run scripts/record_kernels.py"


def test_the_helper_compiles_from_the_far_end_and_ends_with_the_scan(tmp_path: Path) -> None:
    code = """
import os, sys, time
from pathlib import Path
from foretaste import warming
folder = Path(os.environ["NUMBA_CACHE_DIR"])
warming.cores = lambda: 2
with warming.helped("documents"):
    until = time.monotonic() + 120
    while not list(folder.rglob(sys.argv[1])) and time.monotonic() < until:
        time.sleep(0.05)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("none left")
print(sorted(p.name.split("-")[0] for p in folder.rglob("*") if p.is_file() and p.suffix != ".nbc"))
print(len(list(folder.rglob(sys.argv[1]))))
"""
    name = [line.split()[1] for line in warming.LIST.read_text().splitlines() if "d" in line.split()[0]][-1]
    done = subprocess.run(
        [sys.executable, "-c", code, f"{name}-*.nbc"], capture_output=True, text=True, check=True,
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["none left", "[]", "1"]


def test_the_helper_ends_when_the_process_that_asked_is_killed() -> None:
    code = "import time; from foretaste import warming; print(warming._start('i').pid, flush=True); time.sleep(600)"
    asker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert asker.stdout is not None
    helper = int(asker.stdout.readline())
    os.kill(asker.pid, signal.SIGKILL)
    asker.wait()
    until = time.monotonic() + 60
    while _runs(helper) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(helper)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"  # no one may wait for it here
    except OSError:
        return False


def test_a_scan_goes_on_where_no_process_may_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("no processes here")

    monkeypatch.setattr(warming, "cores", lambda: 2)
    monkeypatch.setattr(warming, "_cold", lambda: True)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    with warming.helped("documents"):
        pass


def test_no_process_is_started_where_a_program_holds_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/sbin/uwsgi")
    assert warming._start("d") is None
