from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import foretaste
from foretaste.cli import main
from foretaste.report.compare import Fate, compare
from foretaste.report.html import render_comparison_html
from foretaste.results import CheckResult, Finding, Outcome, Report, Severity

from .conftest import HOSTILE, blocked, finding, make_report


def _of(n: int, **changes: object) -> Finding:
    return finding(rows=tuple(range(n)), ids=tuple(map(str, range(n))), **changes)


@pytest.mark.parametrize(
    ("before", "now", "fate"),
    [
        ([], [_of(5)], Fate.NEW),
        ([_of(5)], [], Fate.GONE),
        ([_of(5)], [_of(6)], Fate.GROWN),
        ([_of(6)], [_of(5)], Fate.SHRUNK),
        ([_of(5)], [_of(5)], Fate.UNCHANGED),
        ([_of(5)], [finding(rows=tuple(range(5)), ids=tuple("abcde"))], Fate.CHANGED),
        ([_of(5, severity=Severity.REVIEW)], [_of(5)], Fate.WORSE),
        ([_of(5, waived=True)], [_of(5)], Fate.WORSE),
    ],
)
def test_each_finding_has_one_fate(before: list[Finding], now: list[Finding], fate: Fate) -> None:
    made = compare(make_report(blocked(*before)), make_report(blocked(*now)))
    assert [c.fate for c in made.changes] == [fate]


@pytest.mark.parametrize("outcome", [Outcome.SKIPPED, Outcome.ERROR, None])
def test_a_finding_whose_check_did_not_run_is_not_gone(outcome: Outcome | None) -> None:
    other = CheckResult(check="hidden-text", outcome=Outcome.PASS)
    now = [other] if outcome is None else [other, CheckResult(check="trigger-association", outcome=outcome, note="n")]
    made = compare(make_report(blocked(_of(5)), other), make_report(*now))
    assert [c.fate for c in made.changes] == [Fate.UNCHECKED]
    assert made.lost == ("trigger-association",)


def test_a_report_compared_with_itself_has_not_changed(hostile_report: Report) -> None:
    made = compare(hostile_report, hostile_report)
    assert {c.fate for c in made.changes} == {Fate.UNCHANGED}
    assert made.lost == ()
    html = render_comparison_html(made)
    assert html.count("<script") == 1
    assert HOSTILE not in html


def _written(tmp_path: Path, name: str, *results: CheckResult) -> str:
    foretaste.write(make_report(*results), tmp_path / name)
    return str(tmp_path / name)


def test_the_command_fails_on_what_is_new_and_on_what_is_not_checked_any_more(tmp_path: Path) -> None:
    passed = CheckResult(check="hidden-text", outcome=Outcome.PASS)
    small, large = (_written(tmp_path, str(n), blocked(_of(n)), passed) for n in (5, 9))
    fewer = _written(tmp_path, "fewer", passed)
    failed = _written(tmp_path, "failed", CheckResult(check="hidden-text", outcome=Outcome.ERROR, note="broke"))

    def code(*args: str) -> int:
        return CliRunner().invoke(main, ["report", *args]).exit_code

    assert code(small, large) == 0
    assert code(small, large, "--fail-on", "new") == 1
    assert code(large, small, "--fail-on", "new") == 0
    assert code(small, fewer, "--fail-on", "new") == 1
    assert code(small, failed, "--fail-on", "new") == 2
    assert code(small, "--fail-on", "new") == 2
    assert code(small, large, "--format", "sarif") == 2


@pytest.mark.parametrize(
    ("form", "said"),
    [("text", "BLOCK"), ("markdown", "## ⛔"), ("html", "<!doctype html>"), ("json", '"verdict": "block"'),
     ("sarif", '"version": "2.1.0"'), ("junit", "<testsuites>")],
)  # fmt: skip
def test_a_report_is_shown_in_every_format_and_written_to_a_file(tmp_path: Path, form: str, said: str) -> None:
    folder = _written(tmp_path, "r", blocked(_of(5)))
    shown = CliRunner().invoke(main, ["report", folder, "--format", form])
    assert shown.exit_code == 0
    assert said in shown.output
    file = tmp_path / "made"
    assert CliRunner().invoke(main, ["report", folder, "--format", form, "--out", str(file)]).exit_code == 0
    assert file.read_text(encoding="utf-8") == shown.output


def test_a_scan_writes_the_other_formats_beside_the_report(tmp_path: Path) -> None:
    data = tmp_path / "d.csv"
    data.write_text("text,label\n" + "".join(f"a plain line about {i},x\n" for i in range(30)), encoding="utf-8")
    args = ["scan", str(data), "--checks", "hidden-text", "--quiet", "--out", str(tmp_path / "r")]
    files = {name: tmp_path / f"x.{name}" for name in ("markdown", "sarif", "junit")}
    for name, file in files.items():
        args += [f"--{name}", str(file)]
    assert CliRunner().invoke(main, args).exit_code == 0
    assert all(file.stat().st_size > 100 for file in files.values())
    refused = CliRunner().invoke(main, [*args[:-1], str(data)])
    assert refused.exit_code == 2
    assert data.exists()
