"""Compile kernels ahead of a scan: all of them while an image is built, or with a second process at the first scan.

numba compiles a kernel when it is first called, one at a time in a process, and keeps it on disk. The second process takes
what scans call from the far end of a list that is in the order of their calls, while the scan works its way from the near
end; each finds on disk what the other made.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from foretaste.roles import Kind
from foretaste.sweep import cores

LIST = Path(__file__).with_name("kernels.txt")  # scripts/record_kernels.py writes it
_SCANS: dict[Kind, str] = {"documents": "d", "classification": "c", "instruct": "i", "preference": "p"}
# The search path of the process that starts it: what that one imports may not be what the interpreter finds by itself.
_HELPER = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.readline()); from foretaste import warming; warming._help()"
)


def kernels(uses: str = "") -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Kernels and the types of their arguments, in the order of their first call; those of some uses, all where empty."""
    for line in LIST.read_text(encoding="utf-8").splitlines():
        of, name, *arguments = line.split()
        if not uses or set(of) & set(uses):
            module, _, function = name.partition(".")
            compiled = getattr(importlib.import_module(f"foretaste.text.{module}"), function)
            if hasattr(compiled, "compile"):  # not under NUMBA_DISABLE_JIT
                yield compiled, tuple(map(_type, arguments))


def compile_all() -> tuple[int, set[str]]:
    """Compile what scans, kept state, Spark and attestations call, or find it on disk.

    Returns:
        how many kernels of scans were compiled, and the folders in which they are kept; none where none can be written.
    """
    import gc

    import pyarrow as pa
    import pyarrow.parquet as pq

    from foretaste.provenance.manifest import row_tree

    gc.disable()  # collecting costs a tenth of the time, and numba keeps nearly all that it makes
    try:
        listed = list(kernels())
        for compiled, arguments in listed:
            compiled.compile(arguments)
        with tempfile.TemporaryDirectory() as folder:
            pq.write_table(pa.table({"text": ["a", "b"]}), f"{folder}/rows.parquet")
            row_tree(f"{folder}/rows.parquet")
    finally:
        gc.enable()
    made = [c for c, _ in listed if sum(c.stats.cache_misses.values())]
    return len(made), {c.stats.cache_path for c, _ in listed if _kept(c)}


@contextmanager
def helped(kind: Kind) -> Iterator[None]:
    """Have a second process compile meanwhile, where nothing is compiled yet, it can be kept, and a second core is there."""
    helper = _start(_SCANS[kind]) if cores() > 1 and _cold() else None
    try:
        yield
    finally:
        if helper is not None:
            helper.kill()  # what it wrote is whole: files are renamed into place
            helper.wait()
            with suppress(OSError):
                helper.stdin.close()


def _cold() -> bool:
    """Whether the first kernel is missing on disk, where there is a place for it; it is compiled then."""
    for compiled, arguments in kernels():
        if compiled.signatures or not _kept(compiled):
            return False
        compiled.compile(arguments)
        return bool(compiled.stats.cache_misses)
    return False


def _kept(compiled: Any) -> bool:
    return os.access(compiled.stats.cache_path, os.W_OK)


def _start(uses: str) -> Any:
    # A program with Python inside of it (uwsgi, a notebook's kernel in C++) may be what sys.executable names.
    if not Path(sys.executable or "").name.startswith("python"):
        return None
    nothing = subprocess.DEVNULL
    with suppress(OSError):  # a sandbox without processes: the scan compiles by itself
        helper = subprocess.Popen(
            [sys.executable, "-c", _HELPER, uses], stdin=subprocess.PIPE, stdout=nothing, stderr=nothing
        )
        assert helper.stdin is not None
        helper.stdin.write(json.dumps([p or os.getcwd() for p in sys.path]).encode() + b"\n")
        helper.stdin.flush()
        return helper
    return None


def _help() -> None:
    """Compile from the far end of the list, until it is done or the process that asked for it is gone."""
    import gc

    threading.Thread(target=_end_with_asker, daemon=True).start()
    gc.disable()
    for compiled, arguments in reversed(list(kernels(sys.argv[1]))):
        compiled.compile(arguments)


def _end_with_asker() -> None:
    sys.stdin.read()  # the pipe ends with the process that holds its other end, however that ends
    os._exit(0)


def _type(text: str) -> Any:
    """A type as the list writes it: numpy's name of the element; of an array its dimensions, its layout, r for read-only."""
    import numpy as np

    from foretaste.text.merging import TALLY

    numba: Any = importlib.import_module("numba")

    element, _, shape = text.partition(":")
    of = numba.from_dtype(TALLY if element == "tally" else np.dtype(element))
    return numba.types.Array(of, int(shape[0]), shape[1], readonly=shape.endswith("r")) if shape else of
