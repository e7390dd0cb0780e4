"""What a user installs: a light core, and the whole tree in the wheel."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOSTS = ("airflow", "dagster", "great_expectations", "pyspark")
HEAVY = (
    "sentence_transformers",
    "torch",
    "pandas",
    "polars",
    "sklearn",
    "numba",
    "pyarrow",
    "numpy",
    "publicsuffixlist",
)


def python(code: str, *flags: str) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, cwd=ROOT / "tests")
    assert ran.returncode == 0, ran.stderr
    return ran


def test_importing_the_package_imports_no_host_and_nothing_heavy() -> None:
    ran = python("import sys, foretaste; print(*sorted({m.split('.')[0] for m in sys.modules}))")
    assert not set(ran.stdout.split()) & {*HOSTS, *HEAVY}


def test_the_whole_core_imports_no_host() -> None:
    ran = python(
        "import sys, pkgutil, importlib, foretaste\n"
        "from foretaste import checks, engine, policy, quarantine, report, cli\n"
        "checks.registry()\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    assert not set(ran.stdout.split()) & {*HOSTS, "sentence_transformers", "torch", "pandas", "polars"}


def test_a_scan_needs_no_host_no_pandas_and_no_polars(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,label\n" + "".join(f"row {i},{i % 2}\n" for i in range(50)))
    absent = [*HOSTS, "sentence_transformers", "torch", "pandas", "polars"]
    ran = python(
        "import sys\n"
        "class Absent:\n"  # pyarrow takes a module of None in sys.modules for pandas
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {absent!r}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"import foretaste\nprint(foretaste.scan({str(tmp_path / 'data.csv')!r}).verdict)"
    )
    assert ran.stdout.strip() in ("pass", "review")


def test_the_import_takes_less_than_half_a_second() -> None:
    code = "import time; t = time.perf_counter(); import foretaste; print(time.perf_counter() - t)"
    assert min(float(python(code).stdout) for _ in range(3)) < 0.5


def test_every_public_name_is_there_and_is_listed() -> None:
    import foretaste

    assert set(foretaste.__all__) <= set(dir(foretaste))
    for name in foretaste.__all__:
        assert getattr(foretaste, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = foretaste.nothing


def test_every_folder_of_the_tree_is_a_listed_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    places = {"foretaste": ROOT / "src" / "foretaste"}
    places |= {name: ROOT / place for name, place in settings["package-dir"].items() if name != "foretaste"}
    found = {
        ".".join([name, *path.parent.relative_to(folder).parts])
        for name, folder in places.items()
        for path in folder.rglob("__init__.py")
    }
    assert set(settings["packages"]) == found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built without isolation from a copy of the tree, which stays clean of build folders."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("needs setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("needs the repository")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "tree" / name).write_bytes((ROOT / name).read_bytes())
    build = "import sys, setuptools.build_meta as b; print(b.build_wheel(sys.argv[1]))"
    ran = subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=folder / "tree", capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_the_whole_tree(wheel: zipfile.ZipFile) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    expected = set()
    for name, place in settings.items():
        for path in (ROOT / place).rglob("*"):
            inside = path.relative_to(ROOT / place)
            if path.is_file() and path.suffix not in (".pyc", ".nbi", ".nbc") and "__pycache__" not in inside.parts:
                expected.add(f"{name.replace('.', '/')}/{inside}")
    held = {n for n in wheel.namelist() if ".dist-info/" not in n}
    assert held == expected
    assert "foretaste/py.typed" in held


def test_the_wheel_needs_no_host_and_names_its_extras(wheel: zipfile.ZipFile) -> None:
    metadata = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    lines = wheel.read(metadata).decode().splitlines()
    required = [n.split(": ", 1)[1] for n in lines if n.startswith("Requires-Dist") and "extra ==" not in n]
    assert not [
        r for r in required if any(r.lower().replace("-", "_").startswith(h) for h in (*HOSTS, "apache", "torch"))
    ]
    extras = {n.split(": ")[1] for n in lines if n.startswith("Provides-Extra")}
    assert {"airflow", "dagster", "gx", "spark", "embeddings", "all"} <= extras
    assert "License-Expression: Apache-2.0" in lines


def test_an_installed_wheel_scans(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    (tmp_path / "data.csv").write_text("text\nhello\nworld\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import foretaste\n"
        f"assert foretaste.__file__.startswith({str(tmp_path)!r}), foretaste.__file__\n"
        f"print(foretaste.scan({str(tmp_path / 'data.csv')!r}).verdict)"
    )
    assert python(code, "-P").stdout.strip() == "pass"
