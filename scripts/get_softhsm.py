"""Name a SoftHSM that the tests can use; unpack one where the machine has none.

    .venv/bin/python scripts/get_softhsm.py [--installed]

One that is installed first, then Debian's or Ubuntu's packages, unpacked into the environment of the tests without being
installed; with ``--installed`` nothing is fetched. Prints the paths of the PKCS #11 library and of ``softhsm2-util``, one
a line; exits with 1 and the reason where none could be had, and its tests are then skipped, visibly.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ("softhsm2", "libsofthsm2")
FOLDER = Path(sys.prefix) / "softhsm"
LIBRARY = "libsofthsm2.so"
ROOTS = (FOLDER / "usr", Path("/usr"), Path("/usr/local"))


def installed() -> tuple[Path, Path] | None:
    """The library and the tool that are there already; ``SOFTHSM2_MODULE`` names a library elsewhere."""
    named = [Path(os.environ["SOFTHSM2_MODULE"])] if "SOFTHSM2_MODULE" in os.environ else []
    on_path = shutil.which("softhsm2-util")
    roots = [*ROOTS, *([Path(on_path).parents[1]] if on_path else [])]
    found = [*named, *(at for root in roots for at in sorted((root / "lib").glob(f"**/softhsm/{LIBRARY}")))]
    tools = [root / "bin" / "softhsm2-util" for root in roots]
    libraries, tools = [p for p in found if p.is_file()], [p for p in tools if p.is_file()]
    return (libraries[0], tools[0]) if libraries and tools else None


def unpack() -> str:
    """Fetch the packages and unpack them; what went wrong, or nothing."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        return "there is no apt-get"
    with tempfile.TemporaryDirectory() as folder:
        fetch = ["apt-get", "download", "-q", *PACKAGES]
        # Package lists may be missing or old; only root may renew them.
        for way in (fetch, ["apt-get", "update", "-q"], fetch):
            done = subprocess.run(way, check=False, cwd=folder, capture_output=True, text=True, timeout=300)
            if packages := sorted(Path(folder).glob("*.deb")):
                break
        if len(packages) < len(PACKAGES):
            return f"{' '.join(fetch)}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}"
        for package in packages:
            subprocess.run(["dpkg", "-x", package, FOLDER], check=True, timeout=60)
    return ""


def main() -> None:
    """Print the paths, after fetching the packages if need be."""
    reason = ""
    if (found := installed()) is None and "--installed" not in sys.argv[1:]:
        reason = unpack()
        found = installed()
    if found is None:
        sys.exit(f"get_softhsm: no SoftHSM, so the tests of it are skipped; install softhsm2. {reason}".rstrip())
    print(*found, sep="\n")


if __name__ == "__main__":
    main()
