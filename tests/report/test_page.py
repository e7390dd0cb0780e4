"""The page in a real browser: the script, the content policy, accessibility, a phone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from foretaste.report.html import render_html
from foretaste.results import Report, Severity

from .conftest import HOSTILE, blocked, finding, make_report

if TYPE_CHECKING:
    from playwright.sync_api import Page

# A hostile name of a role would be a key that no real report has; every other field stays hostile.
_POWER = {"plant": "a rare word", "blocked_share_by_rows": {"25": 0.1, "50": 0.9, "100": 1.0}, "smallest_blocked": 50}


def _report() -> Report:
    return make_report(
        blocked(
            finding(),
            finding(feature="zebra", rows=(900, 905), ids=("z-1", "z-2"), observed=5.0, severity=Severity.REVIEW),
            finding(feature="<img src=x onerror=alert(1)>", message=HOSTILE, rows=(500,), ids=(HOSTILE,)),
        ),
        power=_POWER,
    )


@pytest.fixture
def opened(page: Page, tmp_path: Path) -> Page:
    """The page of a report with three findings, opened from a file; what it must not do is collected in its title."""
    file = tmp_path / "report.html"
    file.write_text(render_html(_report()), encoding="utf-8")
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: wrong.append(request.url) if request.url != file.as_uri() else None)
    page.goto(file.as_uri())
    page.wait_for_load_state("networkidle")
    page.wrong = wrong  # type: ignore[attr-defined]
    return page


def test_search_filter_sort_and_plot_work_by_keyboard_and_hostile_text_stays_inert(opened: Page) -> None:
    cards, said = opened.locator("article.finding:visible"), opened.locator("#filter-said")
    assert cards.count() == 3
    assert said.text_content() == "3 of 3 shown"
    opened.get_by_label("Search text, ids and sources").fill("Z-2")
    assert (cards.count(), said.text_content()) == (1, "1 of 3 shown")
    opened.get_by_role("button", name="Clear").press("Enter")
    opened.get_by_label("Severity").select_option("block")
    assert cards.count() == 2
    opened.get_by_label("Severity").select_option("")

    table = opened.locator("#findings ~ .card table.sortable")
    heading = table.get_by_role("button", name="rows", exact=True)
    heading.press("Enter")
    assert table.locator("td.n").all_text_contents() == ["1", "2", "48"]
    heading.press("Enter")
    assert table.locator("td.n").all_text_contents() == ["48", "2", "1"]
    assert table.locator("th[aria-sort=descending]").count() == 1

    opened.locator("#plot-file").press("ArrowRight")
    assert opened.locator("#plot-told").text_content() == "rows 100 to 199: 48 block, 0 review"
    assert opened.wrong == []  # type: ignore[attr-defined]


def test_a_script_or_picture_put_into_the_page_does_not_run(opened: Page) -> None:
    opened.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "document.title = 'taken'";
        document.body.append(script);
        const image = document.createElement("img");
        image.src = "https://example.org/x.png";
        document.body.append(image);
    }""")
    assert opened.title() != "taken"
    assert len([text for text in opened.wrong if "Content Security Policy" in text]) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_has_no_accessibility_violations_and_fits_a_phone(opened: Page, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    opened.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    opened.set_viewport_size({"width": 375, "height": 700})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 375
    # The content policy of the page keeps a script that is added as text out, as it should; evaluate gets through.
    found = axe.Axe().run(opened)
    assert found.violations_count == 0, found.generate_report()


def test_without_script_everything_but_the_controls_is_there(page: Page, tmp_path: Path) -> None:
    assert page.context.browser is not None
    plain = page.context.browser.new_page(java_script_enabled=False)
    plain.set_content(render_html(_report()))
    assert plain.locator("article.finding:visible").count() == 3
    assert plain.locator("#filter:visible").count() == 0
    assert plain.locator("svg.curve desc").text_content() == "25 rows: 10 %. 50 rows: 90 %. 100 rows: 100 %. "
