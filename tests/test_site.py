"""The documentation site: built strictly, from the docstrings, and loading nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from foretaste import checks
from foretaste.explain import explain

if TYPE_CHECKING:
    from playwright.sync_api import Page

DOCS = Path(__file__).resolve().parent.parent / "docs"
MENU = "\n\n```{toctree}\npage\n```\n"


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("foretaste_pages", DOCS / "_extensions" / "foretaste_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(folder: Path, **texts: str) -> tuple[int, str]:
    """Build these pages with the settings of the site, without the generated ones; exit code and warnings."""
    pytest.importorskip("furo")
    pytest.importorskip("myst_nb")
    source = folder / "source"
    source.mkdir()
    for name, text in texts.items():
        (source / f"{name}.md").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "--builder", "html", "--fail-on-warning", "--quiet", "-c", str(DOCS)]
    done = subprocess.run(
        [*command, "-D", "extensions=myst_nb", str(source), str(folder / "html")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("index", "page", "said"),
    [
        (f"# A{MENU}", "# B\n\n[gone](gone.md)\n", "gone.md"),
        (f"# A{MENU}", "# B\n\n[nowhere](index.md#nowhere)\n", "nowhere"),
        (f"# A{MENU}", "# B\n\n[here](#nowhere)\n", "nowhere"),
        ("# A\n", "# B\n", "isn't included in any toctree"),
    ],
    ids=["broken link", "missing anchor", "missing anchor on its page", "page outside the menu"],
)
def test_a_mistake_ends_the_build(tmp_path: Path, index: str, page: str, said: str) -> None:
    code, warnings = build(tmp_path, index=index, page=page)
    assert code != 0
    assert said in warnings


def test_pages_load_nothing_from_elsewhere(tmp_path: Path, page: Page) -> None:
    code, warnings = build(
        tmp_path, index=f"# A\n\n## Part{MENU}", page="# B\n\n[part](index.md#part)\n\n```sh\nls\n```\n"
    )
    assert code == 0, warnings
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name in ("index", "page", "search"):
        page.goto((tmp_path / "html" / f"{name}.html").as_uri(), wait_until="load")
    assert asked
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_every_check_has_a_page_with_all_that_its_docstring_says(pages: ModuleType) -> None:
    for check in checks.registry().values():
        text, explained = pages.check_page(check), explain(check)
        assert explained.summary in text
        assert "**Misses:**" in text
        for one in explained.parameters:
            assert f"``{one.name}``" in text
            assert one.meaning
            assert one.meaning in text


def test_the_reference_names_modules_that_are_there(pages: ModuleType) -> None:
    for name in (n for names in pages.MODULES.values() for n in names):
        found = importlib.util.find_spec(name.partition(".operators")[0].partition(".expectations")[0])
        assert found is not None, name


def test_links_that_leave_the_documentation_lead_to_the_repository(pages: ModuleType) -> None:
    content = ["[a](../README.md) [b](../benchmarks/recipes.py) [c](../gone.md) [d](policy.md)"]
    pages.link_to_source(None, "detection", content)
    assert (
        content[0]
        == f"[a]({pages.SOURCE}README.md) [b]({pages.SOURCE}benchmarks/recipes.py) [c](../gone.md) [d](policy.md)"
    )
