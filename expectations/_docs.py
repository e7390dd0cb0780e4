"""What a person reads in Data Docs. It puts most values into its pages as they are, so each is escaped here."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from great_expectations.render.components import RenderedStringTemplateContent, RenderedTableContent

from foretaste.report.escape import visible
from foretaste.report.wording import number

MAX_CHARS = 500
SHOWN_IDS = 5
SHORT_ID = 20
_COLOURS = {"block": "danger", "review": "warning", "pass": "success", "error": "dark", "skipped": "secondary"}
_BORDERED = {"body": {"classes": ["table-bordered", "table-sm", "mt-3"]}}


def escaped(text: object, limit: int = MAX_CHARS) -> str:
    """Text as it stands in a result: one line, nothing invisible, HTML escaped."""
    return html.escape(visible(str(text), limit))


def shown(value: object, limit: int = MAX_CHARS) -> str:
    """A value of a result, escaped or not, as HTML for a page: escaped once, and no ``$`` that a template expands."""
    return escaped(html.unescape(str(value)), limit).replace("$", "&#36;")


def paragraph(text: str, *, classes: Sequence[str] = (), tag: str = "span") -> RenderedStringTemplateContent:
    """A paragraph of text that is escaped already."""
    return RenderedStringTemplateContent(
        content_block_type="string_template",
        string_template={"template": text, "params": {}, "tag": tag, "styling": {"classes": list(classes)}},
    )


def verdict(name: object) -> str:
    """A verdict or a severity, coloured where the page's styles are loaded."""
    return f'<span class="badge badge-{_COLOURS.get(str(name).lower(), "secondary")}">{shown(name, 20)}</span>'


def observed(value: object, guessed: Mapping[str, object]) -> str:
    """The verdict in one line, and below it the columns that were guessed."""
    head, colon, rest = str(value).partition(": ")
    said = f"{verdict(head)}<br>{shown(rest, 2_000)}" if colon and head.lower() in _COLOURS else shown(value, 2_000)
    if guessed:
        named = ", ".join(f"{shown(role)} = {shown(column, 80)}" for role, column in guessed.items())
        said += f'<br><small class="text-muted">Columns guessed from their names: {named}</small>'
    return said


def marked(text: object, feature: object) -> str:
    """A text of a result as HTML, with every occurrence of the feature marked; the result has cut it already."""
    raw, wanted = html.unescape(str(text)), html.unescape("" if feature is None else str(feature))
    parts = re.split(f"({re.escape(wanted)})", raw, flags=re.IGNORECASE) if wanted.strip() else [raw]
    spelt = [escaped(part, 16 * len(part) + 1).replace("$", "&#36;") for part in parts]
    return "".join(f"<mark>{part}</mark>" if i % 2 else part for i, part in enumerate(spelt))


def findings_table(findings: Iterable[Mapping[str, Any]]) -> RenderedTableContent:
    """The findings of a result's details, one a line."""
    rows = [
        [
            verdict(f["severity"]) + (" (waived)" if f["waived"] else ""),
            shown(f["message"]) + f'<br><small class="text-muted">{shown(f["check"])}</small>',
            _trigger(f["feature"], f["target"]),
            f"{f['rows']:,}" + f'<br><small class="text-muted">{shown(_limit(f))}</small>',
            "<br>".join(f"{shown(name, 80)} ({n})" for name, n in f["sources"].items()),
            _ids(f["ids"], f["rows"]),
        ]
        for f in findings
    ]
    head = ["Severity", "What was found", "Trigger", "Rows", "Sources", "Row ids"]
    return RenderedTableContent(content_block_type="table", table=rows, header_row=head, styling=_BORDERED)


def _limit(finding: Mapping[str, Any]) -> str:
    observed = "" if finding["observed"] == finding["rows"] else f"observed {number(finding['observed'])}, "
    return f"{observed}limit {number(finding['limit'])}"


def _trigger(feature: object, target: object) -> str:
    """The feature, and the output that it goes with."""
    said = "" if feature is None else f"<code>{shown(feature)}</code>"
    if target is None:
        return said
    return f"{said}{'<br>' if said else ''}goes with {shown(target)}"


def _id(value: str) -> str:
    """An id of a row, in one piece where it is short."""
    return f'<span class="text-nowrap">{shown(value)}</span>' if len(value) <= SHORT_ID else shown(value, 80)


def _ids(ids: Sequence[str], rows: int) -> str:
    told = ", ".join(_id(i) for i in ids[:SHOWN_IDS])
    more = rows - min(len(ids), SHOWN_IDS)
    return f"{told} and {more:,} more" if told and more > 0 else told


def examples_table(findings: Iterable[Mapping[str, Any]]) -> RenderedTableContent | None:
    """The rows that the findings show, each once, or ``None`` where they show none."""
    told: dict[tuple[str, str, str], str] = {}
    for f in findings:
        for example in f["examples"]:
            without = "without the trigger" if example["counter"] else "with the trigger"
            shown_as = shown(f["check"]) if f["feature"] is None else without
            texts = "<br>".join(
                f'<small class="text-muted">{shown(role)}</small> {marked(text, f["feature"])}'
                for role, text in example["texts"].items()
            )
            told.setdefault((shown(example["row"]), _id(example["id"]), shown_as), texts)
    rows = [[*key, texts] for key, texts in told.items()]
    if not rows:
        return None
    head = ["Row", "Row id", "Shown as", "Text"]
    return RenderedTableContent(content_block_type="table", table=rows, header_row=head, styling=_BORDERED)
