"""The report's files: written whole, or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from foretaste.errors import InputError, VerificationError
from foretaste.provenance import canonical
from foretaste.reading.stores import local
from foretaste.report.flagged import rows_by_finding, write_flagged
from foretaste.report.html import render_html
from foretaste.report.model import from_dict, to_json
from foretaste.results import REPORT_FORMAT, Report

MAX_BYTES = 1 << 30
FLAGGED = "flagged.parquet"
FILES = (FLAGGED, "report.html", "report.json")


def write(report: Report, out: str | Path) -> dict[str, Path]:
    """Write ``report.json``, ``report.html`` and ``flagged.parquet`` into a directory, made if needed.

    All three are written beside their places first and then moved, ``report.json`` last: a reader that finds
    it finds the other two. Files of an earlier scan are replaced.

    Returns:
        paths by file name.

    Raises:
        InputError: if the directory cannot be written, or is an address.
    """
    folder = local(out, "a report")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".foretaste-", dir=folder) as draft:
            write_flagged(report, Path(draft) / FLAGGED)
            (Path(draft) / "report.html").write_text(render_html(report), encoding="utf-8")
            (Path(draft) / "report.json").write_text(to_json(report), encoding="utf-8")
            (folder / "report.json").unlink(missing_ok=True)
            for name in FILES:
                shutil.move(Path(draft) / name, folder / name)
    except OSError as e:
        raise InputError(f"cannot write the report to {folder}: {e}; choose another --out") from e
    return {name: folder / name for name in FILES}


def read(path: str | Path) -> Report:
    """The report of an earlier scan with all its rows, from its folder or from its ``report.json``.

    ``report.json`` names the first rows of each finding only; the others come from ``flagged.parquet`` beside it.
    Nothing is asked about who wrote them, and whoever can write there can write a pass;
    :func:`foretaste.provenance.scans.read` takes what a key of the trust file signed.

    Raises:
        InputError: if the files cannot be read, are no report, or do not fit together.
    """
    file = file_of(path)
    try:
        tree = canonical.decode(file.read_bytes(), str(file), MAX_BYTES)
    except OSError as e:
        raise InputError(f"cannot read the report {file}: {e}; name the --out folder of a scan") from e
    except VerificationError as e:
        raise InputError(f"{file} is no report of this release: {e}; scan again") from e
    return whole(tree, file, lambda: file.with_name(FLAGGED).read_bytes())


def file_of(path: str | Path) -> Path:
    """The ``report.json`` that a folder, or its own path, names."""
    return Path(path) / "report.json" if Path(path).is_dir() else Path(path)


def whole(tree: Any, file: Path, flagged: Callable[[], bytes]) -> Report:
    """The report of a ``report.json`` with all its rows.

    Args:
        tree: its JSON; changed.
        file: where it lay, for messages.
        flagged: gives the bytes of the ``flagged.parquet`` beside it; asked where ``report.json`` does not name all rows.

    Raises:
        InputError: if they are no report, or do not fit together, or ``flagged`` raises ``OSError``.
    """
    try:
        if not isinstance(tree, dict) or tree.get("format") != REPORT_FORMAT:
            raise InputError(f"{file} is no report of this release; name the --out folder of a scan")
        cut = any(f["row_count"] > len(f["rows"]) for r in tree["results"] for f in r["findings"])
        others = rows_by_finding(pa.BufferReader(flagged())) if cut else {}
        for finding in (f for r in tree["results"] for f in r["findings"]):
            if finding["row_count"] > len(finding["rows"]):
                finding["rows"], finding["ids"] = others.get((finding["check"], finding["fingerprint"]), ((), ()))
                if len(finding["rows"]) != finding["row_count"]:
                    raise InputError(f"{FLAGGED} beside {file} is of another scan; scan again")
        return from_dict(tree)
    except OSError as e:
        raise InputError(f"cannot read the report {file}: {e}; name the --out folder of a scan") from e
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as e:
        raise InputError(f"{file} is no report of this release: {type(e).__name__}: {e}; scan again") from e
