"""docs/provenance.md runs as it is written."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "provenance.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_tour_runs_as_written(tmp_path: Path) -> None:
    script = ["set -euo pipefail"]
    for kind, block in BLOCKS:
        if "airflow" in block:
            ast.parse(block)
        else:
            script.append(block if kind == "sh" else f"python - <<'END_OF_BLOCK'\n{block}END_OF_BLOCK\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "VERIFIED: help.parquet, " in done.stdout
    assert re.search(r"^training on \d+ rows, certified by \('gate',\)$", done.stdout, re.MULTILINE)
    assert "refused with code 1" in done.stdout
    assert re.search(r"^in\n.*^not in\n", done.stdout, re.DOTALL | re.MULTILINE)
    assert "filter: train.parquet (150 rows)" in done.stdout
    assert (tmp_path / "help.svg").read_text().startswith("<svg")
