"""Memory stays where it is while files grow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")

# The peak of this program alone: getrusage counts what the parent held when it forked.
_SCAN = """
import sys
import foretaste
report = foretaste.scan(sys.argv[1], foretaste.Policy().only("hidden-text"))
assert report.verdict == "pass", report.headline()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
# Arrow's own allocator keeps pages that it has freed, which would blur the comparison.
_ENVIRONMENT = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
_MEGABYTES = (50, 250)


def tables(megabytes: int) -> Iterator[pa.Table]:
    """Tables of one megabyte of text each."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{i:04d}" for i in range(5000)])
    texts = [" ".join(row) for row in words[rng.integers(0, len(words), (1000, 120))]]
    for at in range(megabytes):
        yield pa.table({"id": [f"{at}-{i}" for i in range(1000)], "text": texts})


def write_parquet(path: Path, megabytes: int) -> None:
    table = pa.concat_tables(tables(megabytes))
    pq.write_table(table, path, row_group_size=len(table), compression="none", use_dictionary=False)


def write_csv(path: Path, megabytes: int) -> None:
    parts = tables(megabytes)
    first = next(parts)
    with pa.csv.CSVWriter(str(path), first.schema) as writer:
        writer.write_table(first)
        for part in parts:
            writer.write_table(part)


def write_json(path: Path, megabytes: int) -> None:
    with path.open("w") as file:
        for part in tables(megabytes):
            ids, texts = part["id"].to_pylist(), part["text"].to_pylist()
            file.writelines(f'{{"id": "{i}", "text": "{t}"}}\n' for i, t in zip(ids, texts))


@pytest.mark.parametrize(
    ("name", "write"), [("a.parquet", write_parquet), ("a.csv", write_csv), ("a.jsonl", write_json)]
)
def test_a_file_five_times_as_long_takes_no_more_memory(
    name: str, write: Callable[[Path, int], None], tmp_path: Path
) -> None:
    peaks = []
    for megabytes in _MEGABYTES:
        write(tmp_path / name, megabytes)
        ran = subprocess.run(
            [sys.executable, "-c", _SCAN, str(tmp_path / name)], env=_ENVIRONMENT, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        peaks.append(int(ran.stdout) >> 10)
    (tmp_path / name).unlink()
    small, large = peaks
    # A reader that collects the file would add 200 MB and more.
    assert large - small < 130, f"peaks in MB: {peaks}"
