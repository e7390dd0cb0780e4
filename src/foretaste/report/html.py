"""The report as one HTML file without any external resource."""

from __future__ import annotations

import html

from foretaste.results import Report


def render_html(report: Report) -> str:
    """A self-contained page; every value from the data is escaped."""
    return f"<!doctype html><meta charset=utf-8><title>foretaste</title><h1>{html.escape(report.headline())}</h1>"
