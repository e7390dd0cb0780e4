"""Name a Chromium that the browser tests can drive; fetch one where the machine has none.

    .venv/bin/python scripts/get_browser.py [--installed]

Playwright's own build first, then, as root on Debian or Ubuntu, the one of the distribution; with ``--installed``
nothing is fetched. Prints the path of the executable; exits with 1 and the reasons where none could be had, and the
browser tests are then skipped, visibly.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def installed() -> str | None:
    """Path of a Chromium that is there already: one on the PATH, or Playwright's."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def main() -> None:
    """Print the path of a Chromium, fetching one first if need be."""
    reasons = []
    if (found := installed()) is None and "--installed" not in sys.argv[1:]:
        ways = [[sys.executable, "-m", "playwright", "install", "chromium"]]
        if shutil.which("apt-get") and os.geteuid() == 0:
            ways += [["apt-get", "install", "-y", "--no-install-recommends", "chromium"]]
        for way in ways:
            done = subprocess.run(way, check=False, capture_output=True, text=True, timeout=600)
            if done.returncode == 0 and (found := installed()):
                break
            reasons.append(f"{' '.join(way)}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    if found is None:
        sys.exit("get_browser: no Chromium, so the browser tests are skipped; install one, or\n" + "\n".join(reasons))
    print(found)


if __name__ == "__main__":
    main()
