from __future__ import annotations

import unicodedata
from html.parser import HTMLParser

import pytest

from foretaste.report.notebook import MAX_FINDINGS
from foretaste.results import Report

from .conftest import CAVEATS, blocked, finding, make_report


def _tags(html: str) -> set[str]:
    seen: set[str] = set()
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: seen.add(tag)  # type: ignore[method-assign]
    parser.feed(html)
    return seen


@pytest.mark.parametrize("name", ["blocked_report", "clean_report", "hostile_report"])
def test_a_cell_runs_nothing_loads_nothing_and_keeps_its_style_to_itself(
    name: str, request: pytest.FixtureRequest
) -> None:
    html = request.getfixturevalue(name)._repr_html_()
    assert _tags(html) <= {
        "div", "style", "p", "span", "bdi", "ol", "ul", "li", "article", "code", "blockquote", "mark", "details", "summary",
    }  # fmt: skip
    assert not [c for c in html if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn"}]
    style = html.partition("<style>")[2].partition("</style>")[0]
    rules = [rule.strip() for rule in style.split("}") if rule.strip()]
    assert all(rule.startswith(".foretaste-cell") for rule in rules)
    assert "url(" not in style


def test_a_cell_tells_verdict_evidence_and_what_did_not_run(blocked_report: Report) -> None:
    html = blocked_report._repr_html_()
    for part in ("BLOCK: 48 rows to block", "<mark>CF, mn</mark>", "48 ≥ 15", "1 check not run", "Do not train"):
        assert part in html


def test_what_was_not_looked_at_stands_in_a_cell(full_report: Report) -> None:
    html = full_report._repr_html_()
    assert [said for said in CAVEATS[:-1] if said not in html] == []


def test_a_finding_shows_itself_and_long_reports_are_cut() -> None:
    assert "rows with this phrase have one label" in finding()._repr_html_()
    many = [finding(feature=f"f{i}", ids=(str(i),), rows=(i,)) for i in range(MAX_FINDINGS + 2)]
    html = make_report(blocked(*many))._repr_html_()
    assert html.count("<article") == MAX_FINDINGS
    assert "2 more findings" in html
