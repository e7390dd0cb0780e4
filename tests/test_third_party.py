"""A check of another package: installed for real, found everywhere, and never dropped in silence."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from foretaste.cli import main

NAME = "planted-address"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with the package that ``foretaste init check`` writes. No network is used."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("needs setuptools")
    folder = tmp_path_factory.mktemp("third-party")
    assert CliRunner().invoke(main, ["init", "check", NAME, "--into", str(folder)]).exit_code == 0
    target = folder / "site"
    source = str(folder / f"foretaste-{NAME}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*command, "--target", str(target), source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def broken(site: Path, tmp_path: Path) -> Path:
    """A copy of it, to break."""
    return Path(shutil.copytree(site, tmp_path / "site"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [f"Row {i} is about subject {i % 7}." for i in range(60)]
    texts[10:40] = [f"{t} Write to help@example.org." for t in texts[10:40]]
    file = tmp_path_factory.mktemp("data") / "data.parquet"
    pq.write_table(pa.table({"text": texts}), file)
    return file


def run(site: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A new process, in which these packages are installed."""
    command = [sys.executable, *map(str, arguments)]
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    env = os.environ | {"PYTHONPATH": path, "COLUMNS": "200", "GX_ANALYTICS_ENABLED": "false"}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def foretaste(site: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run(site, "-m", "foretaste.cli", *arguments)


def module(site: Path) -> Path:
    return site / "foretaste_planted_address" / "planted_address.py"


def test_it_is_listed_explained_and_in_the_policy(site: Path) -> None:
    code = (
        "from foretaste.cli import main\n"
        "for arguments in (['checks'], ['checks', 'planted-address'], ['policy', 'init', '-']):\n"
        "    main(arguments, standalone_mode=False)\n"
    )
    out = run(site, "-c", code).stdout
    assert "planted-address" in out
    assert "(of foretaste_planted_address)" in out
    assert "rows with one address from which the finding blocks" in out
    assert "    block_rows: 20" in out.split("  planted-address:\n")[1]


def test_it_blocks_and_stands_in_the_report(site: Path, data: Path, tmp_path: Path) -> None:
    done = foretaste(site, "scan", data, "--text", "text", "--checks", f"{NAME},hidden-text", "--out", tmp_path / "out")
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    [found] = [f for r in report["results"] for f in r["findings"]]
    assert (found["check"], found["feature"], found["row_count"]) == (NAME, "help@example.org", 30)
    assert [(r["check"], r["package"]) for r in report["results"]] == [
        ("hidden-text", ""),
        (NAME, f"foretaste-{NAME} 0.1.0"),
    ]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "help@example.org" in page
    assert f"foretaste-{NAME} 0.1.0" in page


@pytest.mark.host
def test_the_hosts_know_it(site: Path, data: Path) -> None:
    pytest.importorskip("great_expectations")
    pytest.importorskip("dagster")
    script = site.parent / "hosts.py"
    script.write_text(
        "import dagster as dg\n"
        "import foretaste.expectations as fe\n"
        "from foretaste.operators.dagster import build_poison_checks\n"
        f"print(fe.BY_CHECK[{NAME!r}].__name__)\n"
        "@dg.asset\n"
        f"def corpus() -> str: return {str(data)!r}\n"
        f"checks = build_poison_checks(assets=[corpus], policy={{'checks': {{}}}}, per_check=[{NAME!r}])\n"
        "print(*(spec.name for c in checks for spec in c.check_specs))\n"
    )
    out = run(site, script)
    assert "ExpectNoPlantedAddress" in out.stdout, out.stderr
    assert "planted_address" in out.stdout.replace("-", "_")


def test_its_own_tests_pass(site: Path, tmp_path: Path) -> None:
    tests = shutil.copytree(site.parent / f"foretaste-{NAME}" / "tests", tmp_path / "tests")
    done = run(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tests)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "19 passed" in done.stdout


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import a_library_that_is_not_there", "cannot be loaded: ModuleNotFoundError"),
        ("raise SystemExit(0)", "cannot be loaded: SystemExit(0)"),
        ("PlantedAddress = 3", "is no class that derives from foretaste.check.Check"),
        ("", "cannot be loaded: AttributeError"),
        ("from foretaste.check import Check\nclass PlantedAddress(Check):\n    id = 'planted-address'", "lacks"),
        (
            "from foretaste.checks.hidden_text import HiddenText\nclass PlantedAddress(HiddenText): pass",
            'two checks have the id "hidden-text"',
        ),
        (
            "from foretaste.checks.hidden_text import HiddenText\nclass PlantedAddress(HiddenText):\n    id = 'Bad Id'",
            "is no name in lower case",
        ),
    ],
    ids=["import error", "ends the process", "no class", "nothing there", "abstract", "id of another", "bad id"],
)
def test_a_package_that_is_broken_stops_every_scan_by_name(broken: Path, data: Path, code: str, said: str) -> None:
    module(broken).write_text(code)
    # A scan that asks for another check stops as well: whoever installed the package relies on it.
    done = foretaste(broken, "scan", data, "--text", "text", "--checks", "hidden-text", "--out", broken / "out")
    assert done.returncode == 2
    assert said in done.stderr
    assert "foretaste-planted-address" in done.stderr
    assert not (broken / "out" / "report.json").exists()


def test_a_check_that_fails_is_an_error_verdict_and_no_pass(broken: Path, data: Path) -> None:
    text = module(broken).read_text().replace("        findings = []\n", "        raise RuntimeError('no')\n")
    module(broken).write_text(text)
    done = foretaste(broken, "scan", data, "--text", "text", "--checks", f"{NAME},hidden-text", "--out", broken / "out")
    assert done.returncode == 2
    assert json.loads((broken / "out" / "report.json").read_text())["verdict"] == "error"
