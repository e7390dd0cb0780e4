"""The list of kernels that are compiled ahead is the list of those that scans call."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_SCAN = """
import json, sys
from foretaste import scan
from foretaste.warming import KERNELS, _kernel, compile_kernels
compile_kernels()
kernels = {line.split()[1] for line in KERNELS.strip().splitlines()}
before = {k: len(_kernel(k).signatures) for k in kernels}
scan(sys.argv[1], roles={"id": "id", "prompt": "prompt", "response": "response", "source": "source"})
scan(sys.argv[1], roles={"id": "id", "text": "prompt", "label": "source"})
scan(sys.argv[1], roles={"id": "id", "prompt": "prompt", "chosen": "response", "rejected": "other"})
print(json.dumps([k for k in kernels if len(_kernel(k).signatures) > before[k]]))
"""


def test_a_scan_calls_no_listed_kernel_with_other_types_than_those_compiled_ahead(
    clean_table: pa.Table, tmp_path: Path
) -> None:
    texts = clean_table["text"].to_pylist()
    columns = {
        "id": clean_table["id"], "source": clean_table["source"], "prompt": [f"Explain this: {t}" for t in texts],
        "response": [" ".join(reversed(t.split())) for t in texts], "other": [t.upper() for t in texts],
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    done = subprocess.run(
        [sys.executable, "-c", _SCAN, str(tmp_path / "rows.parquet")], capture_output=True, text=True, check=True
    )
    # Kernels that others call: what their arguments are there is decided by numba.
    assert set(json.loads(done.stdout)) <= {"ngrams._hash_chunk", "ngrams.neighbour_diversity", "bayes.row_logits"}
