"""The script that fetches what tests drive beside their environment: it names what is missing, and fetches only if asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "get_tool.py"


def test_a_tool_that_is_not_there_is_named_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "azurite", "--installed"],
        env={"XDG_CACHE_HOME": str(tmp_path)}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "its tests are skipped: azurite is not there; run: " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "dbt", "dtb"], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "name one or more of azurite, dbt, spark-submit" in done.stderr
