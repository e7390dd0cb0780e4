from __future__ import annotations

import re
import unicodedata

from foretaste.report.compare import compare
from foretaste.report.markdown import MAX_CHARS, code, render_comparison, render_markdown
from foretaste.results import Report

from .conftest import CAVEATS, HOSTILE, blocked, finding, make_report

_ACTS = "@octocat #12 [x](https://evil.example) ![i](https://evil.example/i.png) `a` <b>b</b> | www.evil.example"


def _outside_code(markdown: str) -> str:
    """What is left when the code spans are taken out: the only part in which something acts."""
    return "\n".join("".join(line.split("`")[::2]) for line in markdown.splitlines())


def test_a_report_says_verdict_steps_evidence_and_what_was_not_checked(blocked_report: Report) -> None:
    made = render_markdown(blocked_report)
    for part in ("## ⛔ foretaste: block", "48 rows to block, 0 to review, of 1,000", "1. Do not train", "`cf mn`",
                 "observed, limit: 48 ≥ 15", "`row-100`", "skipped: `source-allowlist: no allowlist"):  # fmt: skip
        assert part in made


def test_what_was_not_looked_at_stands_in_it(full_report: Report) -> None:
    made = render_markdown(full_report)
    assert [said for said in CAVEATS if said not in made] == []
    assert "shape ShareGPT" in made


def test_text_from_the_data_acts_nowhere(hostile_report: Report) -> None:
    charts = {"by_source": [{"name": _ACTS, "rows": 60, "block": 40, "review": 0}]}
    acting = make_report(
        blocked(finding(feature=_ACTS, message=_ACTS, sources={_ACTS: 1}, ids=(_ACTS,))), charts=charts
    )
    for report in (hostile_report, acting):
        made = render_markdown(report)
        rest = _outside_code(made)
        for bad in ("<script", "@octocat", "<b>", " #12", "www.evil", "https://"):
            assert bad not in rest
        assert not re.search(r"(?<!\\)\]\(", rest)
        assert not [c for c in made if unicodedata.category(c) in {"Cc", "Cs", "Co"} and c != "\n"]
        assert all(line.count("`") % 2 == 0 for line in made.replace("\\`", "").splitlines())


def test_a_code_span_cannot_be_left_and_a_table_cell_neither() -> None:
    assert code("a`b``c") == "`a'b''c`"
    assert code("a|b", table=True) == "`a¦b`"
    assert code(" \u200b") == "`⟦U+200B⟧`"
    assert code("") == "*(empty)*"


def test_a_comment_fits_github_and_says_what_was_left_out() -> None:
    many = [finding(feature=f"f{i}", message="m" * 300, ids=(str(i),), rows=(i,)) for i in range(300)]
    made = render_markdown(make_report(blocked(*many)))
    assert len(made) <= MAX_CHARS
    assert "more findings, which the full report holds" in made
    assert "Data `sha256:abab" in made


def test_a_comparison_names_what_changed_and_counts_the_rest(hostile_report: Report) -> None:
    old = make_report(blocked(finding()))
    made = render_comparison(compare(old, make_report(blocked(finding(), finding(feature="zebra", rows=(1,))))))
    assert "- **new** block, `trigger-association`: `zebra`, 0 → 1 row" in made
    assert "1 finding unchanged." in made
    rest = _outside_code(render_comparison(compare(old, hostile_report)))
    assert "<script" not in rest
    assert HOSTILE not in rest
