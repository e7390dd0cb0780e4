"""The cache of compiled kernels: stale code is not taken, and a scan can do without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretaste.text.kernels import kernel

_CALLED = """
from foretaste.text.kernels import kernel
FACTOR = {factor}
@kernel
def called(x):
    return x * FACTOR + {added}
"""
_CALLER = """
from foretaste.text.kernels import kernel
from foretaste_called import called, FACTOR
@kernel
def inner(x):
    return called(x)
@kernel
def caller(x):
    return inner(x)
@kernel
def constant():
    return FACTOR
print(caller(1), constant(), sum(caller.stats.cache_hits.values()))
"""


def test_code_compiled_from_a_called_file_or_an_imported_constant_that_changed_is_not_taken(tmp_path: Path) -> None:
    def run(factor: int, added: int) -> str:
        (tmp_path / "foretaste_called.py").write_text(_CALLED.format(factor=factor, added=added))
        (tmp_path / "foretaste_caller.py").write_text(_CALLER)
        code = f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {str(tmp_path)!r}); import foretaste_caller"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert run(10, 1) == "11 10 0"
    assert run(10, 1) == "11 10 1"
    assert run(10, 2) == "12 10 0"
    assert run(20, 2) == "22 20 0"


def _doubled(x: Any) -> Any:
    return x + x


def test_a_kernel_is_read_where_it_was_compiled_by_another_user_and_runs_where_no_folder_can_be_written(
    tmp_path: Path,
) -> None:
    """No user but root's is sure to be here: numba is told of no place for a cache, and the folder cannot be made."""
    (tmp_path / "foretaste_called.py").write_text(_CALLED.format(factor=10, added=1))
    (tmp_path / "foretaste_caller.py").write_text(_CALLER)
    start = f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {str(tmp_path)!r}); "
    nowhere = "from numba.core.caching import CompileResultCacheImpl as impl; impl._locator_classes = []; "
    (tmp_path / "__pycache__").write_text("not a folder")

    def run(code: str) -> str:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    assert run(start + nowhere + "import foretaste_caller") == "11 10 0"
    (tmp_path / "__pycache__").unlink()
    assert run(start + "import foretaste_caller") == "11 10 0"
    assert run(start + nowhere + "import foretaste_caller") == "11 10 1"


def test_a_kernel_runs_where_the_disk_is_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    doubled = kernel(_doubled)
    doubled._cache._cache_path = str(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", full)
    assert doubled(np.int64(4)) == 8
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_compiled_anew(tmp_path: Path) -> None:
    for damage in (b"", b"\x80\x04", b"not a pickle"):
        doubled = kernel(_doubled)
        doubled._cache._cache_path = str(tmp_path)
        for found in tmp_path.iterdir():
            found.write_bytes(damage)
        assert doubled(np.int64(4)) == 8
        assert sum(doubled.stats.cache_misses.values()) == 1
    assert len(list(tmp_path.iterdir())) == 1
