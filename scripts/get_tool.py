"""Name a tool that tests drive and that does not fit into their environment; fetch it where the machine has none.

    .venv/bin/python scripts/get_tool.py azurite dbt spark-submit [--installed]

``azurite`` is Microsoft's emulator of Azure's storage, from npm, which takes Node.js. ``dbt`` (dbt-core, dbt-duckdb,
dagster-dbt) and ``spark-submit`` (Airflow's provider for it) are environments on top of the one that runs this script:
what they pin does not fit beside it. With ``--installed`` nothing is fetched. Prints the path of each that is to be
started; exits with 1 and the reason where one could not be had, and the tests that need it are then skipped, visibly.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

AZURITE = "azurite@3"
ON_TOP = {
    # dbt-core 1.12 fetches a part of itself from outside of the package index when it is installed.
    "dbt": ("dbt-core>=1.10,<1.12", "dbt-duckdb>=1.9", "dagster-dbt>=0.29"),
    # Without its dependencies: pyspark-client overwrites the files of pyspark with those of another version.
    "spark-submit": ("--no-deps", "apache-airflow-providers-apache-spark>=6"),
}


def tool(name: str, fetch: bool) -> Path:
    """Path of the tool: a script for Node.js, or the Python of an environment.

    Raises:
        RuntimeError: with the reason, where it is not there and could not be fetched.
    """
    if name == "azurite":
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foretaste" / AZURITE
        found = home / "node_modules/azurite/dist/src/blob/main.js"
        steps = [["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), AZURITE]]
    else:
        home = Path(sys.prefix) / "on-top" / name
        found = home / "bin" / "python"
        steps = [[sys.executable, "-m", "pip", "--python", str(found), "install", "--quiet", *ON_TOP[name]]]
    done = home / "done"
    if not done.exists():
        if not fetch:
            raise RuntimeError(f"{name} is not there; run: {sys.executable} scripts/get_tool.py {name}")
        shutil.rmtree(home, ignore_errors=True)
        if name in ON_TOP:
            _environment_on_top(home)
        home.mkdir(parents=True, exist_ok=True)
        for step in steps:
            _run(step)
        done.touch()
    return found


def _environment_on_top(home: Path) -> None:
    """An environment that finds its own packages first, and then those of this one."""
    venv.create(home, symlinks=True)
    below = sysconfig.get_path("purelib")
    inside = sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)})
    (Path(inside) / "below.pth").write_text(f"import site; site.addsitedir({below!r})\n", encoding="utf-8")


def _run(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"{command[0]} is not installed")
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise RuntimeError(f"{' '.join(command)}: {' '.join(said)}")


def main() -> None:
    """Print the path of the tool, fetching it first if need be."""
    names = [a for a in sys.argv[1:] if not a.startswith("--")]
    if not names or not set(names) <= {"azurite", *ON_TOP}:
        sys.exit(f"get_tool: name one or more of azurite, {', '.join(ON_TOP)}")
    with ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(lambda name: _answer(name, fetch="--installed" not in sys.argv[1:]), names))
    for path, _ in answers:
        if path:
            print(path)
    if reasons := [reason for _, reason in answers if reason]:
        sys.exit("\n".join(reasons))


def _answer(name: str, fetch: bool) -> tuple[Path | None, str]:
    try:
        return tool(name, fetch), ""
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
        return None, f"get_tool: no {name}, so its tests are skipped: {e}"


if __name__ == "__main__":
    main()
