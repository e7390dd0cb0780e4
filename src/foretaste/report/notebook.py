"""Reports and findings in a notebook: HTML without a script, whose style touches nothing else on the page.

Colours are those of the notebook (text is inherited, lines are a part of it), so a light and a dark theme both fit,
also where a theme is chosen in the notebook and not in the system.
"""

from __future__ import annotations

from markupsafe import Markup, escape

from foretaste.report.escape import visible
from foretaste.report.html import evidence
from foretaste.report.wording import against_limit, caveats, count, next_steps, number
from foretaste.results import Finding, Report

MAX_FINDINGS = 20
_EXAMPLES = 2
_CSS = Markup("""<style>
.foretaste-cell { color: inherit; font-family: system-ui, sans-serif; line-height: 1.45; max-width: 60rem; }
.foretaste-cell .ft-tag { border-radius: 4px; padding: 0 .45em; color: #fff; font-weight: 700; font-size: .8em; }
.foretaste-cell .ft-block { background: #b42318; } .foretaste-cell .ft-review { background: #8a5200; }
.foretaste-cell .ft-pass { background: #17663a; } .foretaste-cell .ft-error { background: #7a2f9e; }
.foretaste-cell .ft-skipped, .foretaste-cell .ft-limit { background: #5f656d; }
.foretaste-cell .ft-note, .foretaste-cell .ft-power { background: #35507f; }
.foretaste-cell article { border: 1px solid; border-color: color-mix(in srgb, currentColor 25%, transparent);
  border-radius: 6px; padding: .5em .8em; margin: .5em 0; overflow-wrap: anywhere; }
.foretaste-cell blockquote { margin: .3em 0; padding: 0 .8em; border-left: 3px solid; unicode-bidi: isolate;
  border-color: color-mix(in srgb, currentColor 25%, transparent); white-space: pre-wrap; }
.foretaste-cell mark { background: #ffd9d4; color: #7c130b; font-weight: 600; }
.foretaste-cell .unseen { background: #e4e8f7; color: #2c3f86; font-family: monospace; }
.foretaste-cell p { margin: .25em 0; }
</style>""")


def report_cell(report: Report) -> str:
    """Verdict, next steps, the gravest findings, and what was not checked."""
    shown = report.findings[:MAX_FINDINGS]
    parts = [
        Markup("<p>{} {}</p>").format(_tag(report.verdict.value), _said(report.headline())),
        Markup("<ol>{}</ol>").format(
            Markup("").join(Markup("<li>{}</li>").format(_said(s)) for s in next_steps(report))
        ),
        *(_card(f) for f in shown),
    ]
    if len(report.findings) > len(shown):
        parts.append(Markup("<p>And {}.</p>").format(count(len(report.findings) - len(shown), "more finding")))
    if said := caveats(report):
        unchecked = sum(c.word in ("error", "skipped") for c in said)
        lines = (Markup("<li>{} {}</li>").format(_tag(c.word), _said(c.said)) for c in said)
        parts.append(
            Markup("<details><summary>{} not run, and how far the rest reaches</summary><ul>{}</ul></details>").format(
                count(unchecked, "check"), Markup("").join(lines)
            )
        )
    return _cell(*parts)


def finding_cell(finding: Finding) -> str:
    """One finding with its first rows."""
    return _cell(_card(finding))


def _cell(*parts: Markup) -> str:
    return str(Markup('<div class="foretaste-cell">{}{}</div>').format(_CSS, Markup("\n").join(parts)))


def _card(f: Finding) -> Markup:
    facts = [count(len(f.rows), "row"), f"observed, limit: {against_limit(f)}"]
    facts += [f"{name} {number(value)}" for name, value in list(f.statistic.items())[:4]]
    rows = (
        Markup("<blockquote>row {}: {}</blockquote>").format(
            number(e.row), Markup(" · ").join(evidence(t, f.feature) for r, t in e.texts.items() if r != "source" and t)
        )
        for e in [e for e in f.examples if not e.counter][:_EXAMPLES]
    )
    return Markup("<article><p>{}{} <code>{}</code> {}</p><p>{}</p>{}</article>").format(
        _tag(f.severity.value), Markup(" waived") if f.waived else "", _said(f.check), _said(f.message),
        _said("; ".join(facts)), Markup("").join(rows),
    )  # fmt: skip


def _tag(word: str) -> Markup:
    return Markup('<span class="ft-tag ft-{0}">{0}</span>').format(word)


def _said(text: str) -> Markup:
    return Markup("<bdi>{}</bdi>").format(escape(visible(text, 600)))
