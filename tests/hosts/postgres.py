"""A PostgreSQL server of the tests' own, on loopback, in a folder of its own; stopped by its process id."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def find() -> Path | None:
    """Folder of ``initdb`` and ``postgres``: on the PATH, or where Debian installs them."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


def _user() -> Mapping[str, Any]:
    """PostgreSQL refuses to run as root: then the user that Debian makes for it, or nobody."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return {}


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Address of a running server, for SQLAlchemy.

    Raises:
        RuntimeError: if there is none to start, or it does not start.
    """
    binaries = find()
    if binaries is None:
        raise RuntimeError("no PostgreSQL on this machine: install the package postgresql")
    user = _user()
    folder.mkdir(parents=True, exist_ok=True)
    if user:
        os.chown(folder, user["user"], user["group"])
    options: dict[str, Any] = {"cwd": folder, "env": {"PATH": str(binaries), "LC_ALL": "C", "HOME": str(folder)}} | user
    data = folder / "data"
    made = [binaries / "initdb", "-D", data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-locale"]
    done = subprocess.run(made, check=False, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"initdb failed: {done.stderr.strip()[-500:]}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    command = [binaries / "postgres", "-D", data, "-p", str(port), *settings]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, **options) as process:
        try:
            _wait(process, port, folder / "log")
            yield f"postgresql+psycopg2://tests@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # closes connections; SIGTERM waits for them
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    import psycopg2

    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            psycopg2.connect(host="127.0.0.1", port=port, user="tests", dbname="postgres").close()
        except psycopg2.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"PostgreSQL does not start: {log.read_text(errors='replace')[-500:]}")
