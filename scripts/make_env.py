"""Make a virtual environment and install foretaste into it, with uv where it is installed, else with pip.

    python3 scripts/make_env.py .venv '.[all,dev]' --cpu-torch

uv does not read pip's configuration, so what pip is configured with (indexes, find-links, certificates) is handed on
to it; where pip has an option that uv does not know, pip does the work. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 13)
CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
# pip's option -> uv's; those without a counterpart that change nothing about what is installed -> None.
_AS_UV: dict[str, str | None] = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
    "no-index": "--no-index",
    "constraint": "--constraint",
    "pre": "--prerelease=allow",
    **dict.fromkeys(
        ("cert", "timeout", "default-timeout", "retries", "disable-pip-version-check", "no-cache-dir", "cache-dir",
         "quiet", "verbose", "no-input", "progress-bar", "no-color", "root-user-action", "break-system-packages",
         "require-virtualenv", "no-warn-script-location", "no-compile", "compile", "prefer-binary"),
    ),
}  # fmt: skip
_FLAGS = {"no-index", "pre"}


def main() -> None:
    """Make the environment; end with one line on failure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("requirement", nargs="+", help="such as '.[airflow]'")
    parser.add_argument("--cpu-torch", action="store_true", help="install PyTorch without CUDA first")
    parser.add_argument("--reinstall", action="store_true", help="build and install again, without dependencies")
    chosen = parser.parse_args()
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        sys.exit(f"make_env: Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}; "
                 "name another: make PYTHON=python3.12 ...")  # fmt: skip
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled files halve the start of every host
    installer = Installer(chosen.directory)
    if chosen.cpu_torch:
        installer.cpu_torch()
    if chosen.reinstall:
        shutil.rmtree("build/lib", ignore_errors=True)  # setuptools would pack modules that are gone
        # numba goes by the file of a kernel alone, and would keep one whose callee in another file has changed.
        for kernel in chosen.directory.glob("lib/python*/site-packages/foretaste/**/*.nb[ci]"):
            kernel.unlink()
        done = installer.run("--no-deps", installer.reinstall, *chosen.requirement)
    else:
        done = installer.run(*chosen.requirement)
    if done != 0:
        sys.exit(f"make_env: installing {' '.join(chosen.requirement)} failed; the reason stands above")


class Installer:
    """An environment in a directory, made if it is not there, and the command that installs into it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        python = directory / "bin" / "python"
        configured = pip_options()
        self.find_links = any(option == "find-links" for option, _ in configured)
        uv, options = shutil.which("uv"), as_uv_options(configured)
        if not python.exists():
            self._make()
        if uv is not None and options is not None:
            self._command = [uv, "pip", "install", "--python", str(python), "--compile-bytecode", *options]
            self.reinstall = "--reinstall"
        else:
            self._command = [str(python), "-m", "pip", "install", "--no-input", "--progress-bar=off"]
            self.reinstall = "--force-reinstall"

    def _make(self) -> None:
        print(f"making {self.directory} with Python {sys.version.split()[0]}", flush=True)
        try:
            venv.create(self.directory, with_pip=True, symlinks=True)
        except (subprocess.CalledProcessError, OSError) as e:
            shutil.rmtree(self.directory, ignore_errors=True)
            sys.exit(f"make_env: cannot make {self.directory}: {e}; on Debian and Ubuntu, install python3-venv")

    def run(self, *arguments: str, quiet: bool = False) -> int:
        """Install; the exit code."""
        command = [*self._command, *arguments]
        if not quiet:
            # Not the whole command: an index may carry a password.
            print(f"{Path(command[0]).name}: installing {shlex.join(arguments)} into {self.directory}", flush=True)
        return subprocess.run(command, check=False, capture_output=quiet).returncode

    def cpu_torch(self) -> None:
        """PyTorch without CUDA: from find-links where one lies there, else from PyTorch's index.

        On Linux the build on PyPI brings several gigabytes of CUDA; on macOS it is small, so nothing is done.
        """
        if sys.platform != "linux" or self._has("torch"):
            return
        if self.find_links and self.run("--no-index", "--no-deps", "torch", quiet=True) == 0:
            print("PyTorch: the build that find-links offers", flush=True)
        elif self._from_index() == 0:
            print(f"PyTorch: the CPU build of {CPU_TORCH_INDEX}", flush=True)
        else:
            print(f"PyTorch: {CPU_TORCH_INDEX} gave none; taking the build of the package index, which may be large",
                  flush=True)  # fmt: skip

    def _from_index(self) -> int:
        # Few retries: a machine that cannot reach the index should learn it soon. Isolated: another index in pip's
        # configuration could offer a build with CUDA.
        python = str(self.directory / "bin" / "python")
        return subprocess.run(
            [python, "-m", "pip", "install", "--isolated", "--no-deps", "--retries=1", "--timeout=15", "--no-input",
             "--index-url", CPU_TORCH_INDEX, "torch"],
            check=False, capture_output=True,
        ).returncode  # fmt: skip

    def _has(self, module: str) -> bool:
        python = str(self.directory / "bin" / "python")
        find = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
        return subprocess.run([python, "-c", find], check=False).returncode == 0


def pip_options() -> list[tuple[str, str]]:
    """(option, value) of pip's configuration for installing, from its files and the environment."""
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=False, capture_output=True, text=True)
    found: dict[str, str] = {}
    # pip lets the environment win over [install], and that over [global].
    for section in ("global", "install", ":env:"):
        for line in done.stdout.splitlines():
            key, _, value = line.partition("=")
            where, _, option = key.rpartition(".")
            if where == section:
                found[option.replace("_", "-")] = value.strip().strip("'\"").replace("\\n", " ")
    return list(found.items())


def as_uv_options(options: list[tuple[str, str]]) -> list[str] | None:
    """pip's options as uv's, or ``None`` where uv has no counterpart for one of them."""
    translated = ["--index-strategy", "unsafe-best-match"]  # pip looks at all indexes alike
    for option, value in options:
        if option not in _AS_UV:
            return None
        name = _AS_UV[option]
        if option == "cert":
            os.environ.setdefault("SSL_CERT_FILE", value)
        elif name is None or (option in _FLAGS and value.lower() not in ("1", "true", "yes", "on")):
            continue
        elif option in _FLAGS:
            translated.append(name)
        else:
            for part in value.split():
                translated += [name, part]
    return translated


if __name__ == "__main__":
    main()
