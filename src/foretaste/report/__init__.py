"""The report's files: written whole, or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from foretaste.errors import InputError
from foretaste.report.flagged import write_flagged
from foretaste.report.html import render_html
from foretaste.report.model import to_json
from foretaste.results import Report

FILES = ("flagged.parquet", "report.html", "report.json")


def write(report: Report, out: str | Path) -> dict[str, Path]:
    """Write ``report.json``, ``report.html`` and ``flagged.parquet`` into a directory, made if needed.

    All three are written beside their places first and then moved, ``report.json`` last: a reader that finds
    it finds the other two. Files of an earlier scan are replaced.

    Returns:
        paths by file name.

    Raises:
        InputError: if the directory cannot be written.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".foretaste-", dir=folder) as draft:
            write_flagged(report, Path(draft) / "flagged.parquet")
            (Path(draft) / "report.html").write_text(render_html(report), encoding="utf-8")
            (Path(draft) / "report.json").write_text(to_json(report), encoding="utf-8")
            (folder / "report.json").unlink(missing_ok=True)
            for name in FILES:
                shutil.move(Path(draft) / name, folder / name)
    except OSError as e:
        raise InputError(f"cannot write the report to {folder}: {e}; choose another --out") from e
    return {name: folder / name for name in FILES}
