"""The notebooks of the documentation run as they are, and show what is stored in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "docs" / "notebooks").glob("*.ipynb"))


def kinds(notebook: Any) -> list[list[str]]:
    """What each cell of code shows: streams, and values as HTML."""
    return [
        sorted("html" if "text/html" in o.get("data", {}) else o.output_type for o in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("place", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_and_shows_what_it_has_stored(place: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    stored = nbformat.read(place, as_version=4)
    fresh = nbformat.read(place, as_version=4)
    nbclient.NotebookClient(
        fresh, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert kinds(fresh) == kinds(stored)
    assert ["html"] in kinds(fresh)
    for notebook in (stored, fresh):
        shown = str(notebook.cells)
        assert "BLOCK" in shown
        assert '<div class="foretaste-cell">' in shown
        assert '<span class="ft-tag ft-block">' in shown
    assert list(tmp_path.iterdir()) == []
