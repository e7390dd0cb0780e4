from __future__ import annotations

import io
import unicodedata

import pytest
from rich.console import Console

from foretaste.report.terminal import MAX_FINDINGS, make_console, print_report
from foretaste.results import CheckResult, Outcome, Report

from .conftest import blocked, finding, make_report


def _printed(report: Report, width: int = 120) -> str:
    out = io.StringIO()
    print_report(report, Console(file=out, width=width, markup=False, emoji=False, highlight=False))
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_block_shows_verdict_evidence_and_next_step_at_any_width(blocked_report: Report, width: int) -> None:
    text = _printed(blocked_report, width)
    said = " ".join(text.split())
    assert "BLOCK 48 rows to block, 0 to review, of 1,000 scanned" in said
    for part in ("trigger-association", '"cf mn" → "positive"', "vendor (40)", "15", "Do not train"):
        assert part in said
    assert "guessed" in said
    assert "--label stars" in said
    assert max(map(len, text.splitlines())) <= width


def test_what_was_not_checked_is_listed_with_its_reason(blocked_report: Report) -> None:
    assert "source-allowlist: no allowlist is configured" in _printed(blocked_report)
    failed = CheckResult(check="near-duplicates", outcome=Outcome.ERROR, note="MemoryError: 3 GB")
    text = _printed(make_report(failed))
    assert " ERROR " in text
    assert "near-duplicates: MemoryError: 3 GB" in text


@pytest.mark.parametrize("width", [80, 120])
def test_no_text_from_data_reaches_the_terminal_raw(hostile_report: Report, width: int) -> None:
    text = _printed(hostile_report, width)
    assert not [c for c in text if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}]
    assert "⟦U+001B⟧" in text


def test_markup_of_the_terminal_library_in_data_is_plain_text() -> None:
    text = _printed(make_report(blocked(finding(feature="[bold red]x[/] :smile:"))))
    assert "[bold red]x[/] :smile:" in text


def test_a_long_list_of_findings_is_cut_and_says_so() -> None:
    many = [finding(feature=f"feature-{i}", ids=(str(i),), rows=(i,)) for i in range(MAX_FINDINGS + 3)]
    text = _printed(make_report(blocked(*many)))
    assert text.count('"feature-') == MAX_FINDINGS
    assert "and 3 more in the report" in text


def test_a_value_that_is_no_row_count_or_below_its_limit_stands_beside_it() -> None:
    assert "0.0212 ≥ 0.02" in _printed(make_report(blocked(finding(observed=0.0212, limit=0.02))))
    assert "48 < 60" in _printed(make_report(blocked(finding(limit=60.0))))


def test_a_log_is_wider_than_the_narrow_default_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert make_console(io.StringIO()).width == 120
    monkeypatch.setenv("COLUMNS", "70")
    assert make_console(io.StringIO()).width == 70
