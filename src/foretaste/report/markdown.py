"""The report as GitHub Flavored Markdown: a comment on a pull request, or ``$GITHUB_STEP_SUMMARY``.

Every text from the data stands in a code span, where no link, mention, reference or HTML acts.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from foretaste.report.compare import Comparison, Fate
from foretaste.report.escape import visible
from foretaste.report.wording import against_limit, caveats, count, next_steps
from foretaste.results import Finding, Outcome, Report, Severity

# GitHub takes 65,536 characters in a comment; a step summary may be larger.
MAX_CHARS = 60_000
_TEXT_CHARS = 160
_EXAMPLES = 3
_SIGN = {Outcome.PASS: "✅", Outcome.REVIEW: "⚠️", Outcome.BLOCK: "⛔", Outcome.ERROR: "❌", Outcome.SKIPPED: "➖"}


def render_markdown(report: Report, max_chars: int = MAX_CHARS) -> str:
    """The report in at most ``max_chars`` characters; findings that do not fit are counted, gravest kept."""
    block, review = len(report.flagged_rows(Severity.BLOCK)), len(report.flagged_rows(Severity.REVIEW))
    head = [
        f"## {_SIGN[report.verdict]} foretaste: {report.verdict.value}",
        "",
        f"{count(block, 'row')} to block, {review:,} to review, of {report.data.rows:,} in {code(report.data.name)}"
        + (f", shape {report.data.shape}" if report.data.shape else "")
        + (f"; {count(waived, 'finding')} waived" if (waived := sum(f.waived for f in report.findings)) else "")
        + ".",
        "",
        *(f"{i}. {_prose(step)}" for i, step in enumerate(next_steps(report), 1)),
        "",
    ]
    limits = [f"- {c.word}: {code(c.said, 400)}" for c in caveats(report)]
    tail = ["### Not checked, and how far the rest reaches", "", *limits, ""] if limits else []
    tail += [
        f"Data {code(report.data.digest)}, policy {code(report.policy_digest)}, foretaste {report.version}"
        + "".join(f", {code(package)}" for package in sorted(set(report.packages.values())))
        + ".",
        "",
    ]
    return _fit(head, [_card(f, report) for f in report.findings], tail, max_chars)


def render_comparison(comparison: Comparison, max_chars: int = MAX_CHARS) -> str:
    """What changed between two scans, in at most ``max_chars`` characters."""
    old, new = comparison.old, comparison.new
    head = [
        f"## {_SIGN[new.verdict]} foretaste: {comparison.headline()}",
        "",
        "| | before | now |",
        "|---|---|---|",
        *(f"| {name} | {code(a, table=True)} | {code(b, table=True)} |" for name, a, b in comparison.facts()),
        "",
        f"{code(old.data.name)} → {code(new.data.name)}",
        "",
    ]
    if comparison.lost:
        head += [f"Not checked any more: {', '.join(code(c) for c in comparison.lost)}.", ""]
    lines = [
        [
            f"- **{c.fate.value}** {c.finding.severity.value}{' (waived)' if c.finding.waived else ''}, "
            f"{code(c.finding.check)}: {code(c.finding.feature or c.finding.message)}, {c.rows_said()}"
        ]
        for c in comparison.changes
        if c.fate is not Fate.UNCHANGED
    ]
    same = sum(c.fate is Fate.UNCHANGED for c in comparison.changes)
    return _fit(head, lines, ["", f"{count(same, 'finding')} unchanged.", ""], max_chars)


def code(text: str, limit: int = _TEXT_CHARS, *, table: bool = False) -> str:
    """Text from the data as a code span on one line, cut at ``limit`` characters.

    A backtick in it becomes an apostrophe, as no escape works inside a code span; so does a bar become a broken bar
    in a table.
    """
    shown = visible(text, limit).replace("`", "'").strip()
    return f"`{shown.replace('|', '¦') if table else shown}`" if shown else "*(empty)*"


def _prose(text: str) -> str:
    """A sentence of ours that may hold names of sources: whole, with everything that acts in Markdown escaped."""
    shown = html.escape(visible(text, 600), quote=False)
    shown = "".join(f"\\{c}" if c in "\\`*_[]#!|~$:@" else c for c in shown)
    # GitHub reads mentions and addresses before it reads escapes.
    return shown.replace("@", "@\u2060").replace("www.", "www\u2060.").replace("#", "#\u2060")


def _card(f: Finding, report: Report) -> list[str]:
    lines = [
        f"### {f.severity.value}{', waived' if f.waived else ''}: {code(f.check)}, {count(len(f.rows), 'row')}",
        "",
    ]
    lines += [code(f.message, 400), ""]
    if f.feature:
        lines.append(f"- feature {code(f.feature)}" + (f" → {code(f.target)}" if f.target else ""))
    lines.append(f"- observed, limit: {against_limit(f)}")
    if f.sources:
        lines.append("- sources: " + ", ".join(f"{code(s, 60)} ({n:,})" for s, n in list(f.sources.items())[:3]))
    if f.ids:
        lines.append("- first ids: " + ", ".join(code(i, 60) for i in f.ids[:_EXAMPLES]))
    lines.append(f"- fingerprint {code(f.fingerprint)}")
    shown = [e for e in f.examples if not e.counter][:_EXAMPLES]
    if shown:
        lines += ["", "<details><summary>Rows as evidence</summary>", ""]
        for e in shown:
            texts = (f"{code(role, 30)} {code(text, 300)}" for role, text in e.texts.items() if text)
            lines.append(f"- row {e.row:,}: {'; '.join(texts)}")
        lines += ["", "</details>"]
    return [*lines, ""]


def _fit(head: Sequence[str], parts: Sequence[Iterable[str]], tail: Sequence[str], max_chars: int) -> str:
    frame = "\n".join([*head, *tail])
    room = max_chars - len(frame) - 200
    body: list[str] = []
    for at, part in enumerate(parts):
        text = "\n".join(part)
        if len(text) + 1 > room:
            body.append(f"*And {count(len(parts) - at, 'more finding')}, which the full report holds.*\n")
            break
        room -= len(text) + 1
        body.append(text)
    made = "\n".join([*head, *body, *tail])
    return made if len(made) <= max_chars else made[: max_chars - 30].rsplit("\n", 1)[0] + "\n\n*(cut)*\n"
