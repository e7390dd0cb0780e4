"""What digesting costs: manifests, proofs and verified copies beside reading the same files and plain SHA-256.

    python benchmarks/digesting.py [DATA] [--megabytes 400] [--repeat 5] [--out digesting.json]

Without DATA, Parquet files of generated text are made and removed. Every figure is the best of the repeats, with the
files in the page cache, and all of them come from one run, so that the ratios hold on any machine. Where others use the
processor too, the ratio of processor seconds says more than that of seconds; idle cores divide it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from foretaste.provenance import leaves, manifest
from foretaste.reading.formats import list_files

FILES = 8


def generate(folder: Path, megabytes: int) -> None:
    """Write text of random words, about 300 bytes a row, as eight Parquet files without compression."""
    rng = np.random.default_rng(7)
    words = np.array(["".join(rng.choice(list("abcdefghijklmnop"), rng.integers(2, 10))) for _ in range(20_000)])
    count = megabytes * (1 << 20) // 300 // FILES
    for at in range(FILES):
        text = [" ".join(line) for line in words[rng.integers(0, len(words), (count, 44))]]
        table = pa.table({"id": [f"{at}-{i}" for i in range(count)], "text": text, "label": rng.integers(0, 5, count)})
        pq.write_table(table, folder / f"part-{at}.parquet", compression="none", use_dictionary=False)


def best(repeat: int, work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the quickest of some runs, and the least processor seconds of all threads together."""
    seconds = []
    for _ in range(repeat):
        start, busy = time.perf_counter(), time.process_time()
        work()
        seconds.append((time.perf_counter() - start, time.process_time() - busy))
    return min(s for s, _ in seconds), min(s for _, s in seconds)


def measure(data: Path, repeat: int) -> dict[str, Any]:
    """Every figure, in seconds and against the floor under it."""
    files = list_files(data)
    paths = [Path(p) for p in files.paths]

    def read() -> None:
        buffer = bytearray(1 << 20)
        for path in paths:
            with path.open("rb", buffering=0) as stream:
                while stream.readinto(buffer):
                    pass

    def plain() -> None:
        for path in paths:
            with path.open("rb") as stream:
                hashlib.file_digest(stream, "sha256").hexdigest()

    def copy() -> None:
        with tempfile.TemporaryDirectory(dir=data.parent) as folder:
            files.digests(Path(folder))

    count = manifest.build(data).rows or 0
    read(), plain()
    taken = {
        "read": best(repeat, read),
        "read and SHA-256, one thread": best(repeat, plain),
        "manifest of files": best(repeat, lambda: manifest.build(data, with_rows=False)),
        "copy and digest (verified)": best(repeat, copy),
        "decode all rows": best(repeat, lambda: sum(b.num_rows for b in files.original())),
        "hash all rows": best(repeat, lambda: leaves.leaf_hashes(files.original())),
        "manifest of files and rows": best(repeat, lambda: manifest.build(data)),
    }
    floor = taken["read and SHA-256, one thread"]
    return {
        "bytes": files.bytes,
        "files": len(paths),
        "rows": count,
        "seconds": {k: round(s, 4) for k, (s, _) in taken.items()},
        "processor seconds": {k: round(s, 4) for k, (_, s) in taken.items()},
        "megabytes per second": {k: round(files.bytes / s / 1e6) for k, (s, _) in taken.items()},
        "seconds against read and SHA-256": {k: round(s / floor[0], 2) for k, (s, _) in taken.items()},
        "processor seconds against read and SHA-256": {k: round(s / floor[1], 2) for k, (_, s) in taken.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = given.data or Path(folder) / "data"
        if given.data is None:
            data.mkdir()
            generate(data, given.megabytes)
        measured = measure(data, given.repeat)
    measured["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    text = json.dumps(measured, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
