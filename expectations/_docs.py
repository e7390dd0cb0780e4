"""What a person reads in Data Docs. It puts most values into its pages as they are, so each is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from great_expectations.render.components import RenderedStringTemplateContent, RenderedTableContent

from foretaste.report.escape import visible
from foretaste.report.wording import number

MAX_CHARS = 500
SHOWN_IDS = 10
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


def findings_table(findings: Iterable[Mapping[str, Any]]) -> RenderedTableContent:
    """The findings of a result's details, one a line."""
    rows = [
        [
            shown(f["severity"]) + (" (waived)" if f["waived"] else ""),
            shown(f["check"]),
            shown(f["message"]),
            shown("" if f["feature"] is None else f["feature"]),
            shown("" if f["target"] is None else f["target"]),
            shown(f"{number(f['observed'])} (limit {number(f['limit'])})"),
            ", ".join(f"{shown(name, 80)} ({n})" for name, n in f["sources"].items()),
            ", ".join(shown(i, 80) for i in f["ids"][:SHOWN_IDS]) + (", …" if f["rows"] > SHOWN_IDS else ""),
        ]
        for f in findings
    ]
    head = ["Severity", "Check", "What was found", "Feature", "Goes with", "Observed", "Sources", "Row ids"]
    return RenderedTableContent(content_block_type="table", table=rows, header_row=head, styling=_BORDERED)


def examples_table(findings: Iterable[Mapping[str, Any]]) -> RenderedTableContent | None:
    """The rows that the findings show, or ``None`` where they show none."""
    rows = [
        [
            shown(example["row"]),
            shown(example["id"], 80),
            shown(f["check"]),
            "without the feature" if example["counter"] else "with the feature",
            "<br>".join(f"{shown(role)}: {shown(text)}" for role, text in example["texts"].items()),
        ]
        for f in findings
        for example in f["examples"]
    ]
    if not rows:
        return None
    head = ["Row", "Row id", "Check", "Shown as", "Text"]
    return RenderedTableContent(content_block_type="table", table=rows, header_row=head, styling=_BORDERED)
