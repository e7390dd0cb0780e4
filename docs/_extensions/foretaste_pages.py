"""Pages that nobody keeps by hand: one for each check, from its docstring, and the reference of the public modules.

They are written below ``checks/`` and ``api/`` of the documentation before it is read, and git does not know them.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import foretaste
from foretaste import checks
from foretaste.check import Check
from foretaste.explain import explain

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = "https://github.com/foretaste/foretaste/blob/main/"

# Public modules, as a reader looks for them. What is not named here is an inside of the package.
MODULES = {
    "Scanning": (
        "foretaste", "foretaste.engine", "foretaste.policy", "foretaste.roles", "foretaste.results", "foretaste.report",
        "foretaste.errors", "foretaste.history", "foretaste.spark",
    ),
    "Hosts": (
        "foretaste.operators.airflow", "foretaste.operators.airflow_approval", "foretaste.operators.airflow_provenance",
        "foretaste.operators.dagster", "foretaste.operators.dagster_policy", "foretaste.operators.dagster_expectations",
        "foretaste.operators.dagster_provenance", "foretaste.expectations", "foretaste.expectations.guard",
    ),
    "Provenance and people": (
        "foretaste.provenance.certificate", "foretaste.provenance.verify", "foretaste.provenance.manifest",
        "foretaste.provenance.chain", "foretaste.provenance.lineage", "foretaste.provenance.proof",
        "foretaste.provenance.rows", "foretaste.provenance.refetch", "foretaste.provenance.keys",
        "foretaste.provenance.signers", "foretaste.deliveries", "foretaste.waivers", "foretaste.quarantine",
        "foretaste.baselines", "foretaste.standards.croissant", "foretaste.standards.data_provenance",
    ),
    "Writing checks": ("foretaste.check", "foretaste.batch", "foretaste.checks", "foretaste.explain"),
}  # fmt: skip


def check_page(check: type[Check[Any]]) -> str:
    """The page of a check, in reStructuredText."""
    explained = explain(check)
    lines = [check.id, "=" * len(check.id), "", explained.summary, ""]
    for paragraph in explained.paragraphs:
        head, colon, rest = paragraph.partition(": ")
        known = colon and re.fullmatch(r"[A-Z][\w ]{2,20}", head)
        lines += [f"**{head}:** {rest}" if known else paragraph, ""]
    lines += ["Parameters", "----------", ""]
    if explained.parameters:
        lines += [f"Under ``checks: {check.id}:`` of a :doc:`policy </policy>`.", ""]
        lines += [".. list-table::", "   :header-rows: 1", "   :widths: 20 20 60", ""]
        lines += ["   * - parameter", "     - type, default", "     - meaning"]
        for one in explained.parameters:
            lines += [f"   * - ``{one.name}``", f"     - ``{one.kind}``, ``{one.default}``"]
            lines += [f"     - {one.meaning or 'see the check'}"]
    else:
        lines += ["It has none."]
    lines += ["", f"``foretaste checks {check.id}`` prints this page. Source: ``{check.__module__}``.", ""]
    return "\n".join(lines)


def check_index(found: dict[str, type[Check[Any]]]) -> str:
    """The page that lists the checks."""
    lines = ["Checks", "======", "", "Each page is made from the docstring and the parameters of its check.", ""]
    for check_id, check in found.items():
        lines += [f":doc:`{check_id}`", f"   {explain(check).summary}", ""]
    return "\n".join([*lines, ".. toctree::", "   :hidden:", "", *(f"   {i}" for i in found), ""])


def module_page(name: str) -> str:
    """The reference page of a module; the package itself lists where its names are described."""
    head = f"{name}\n{'=' * len(name)}\n\n.. automodule:: {name}\n"
    if name != "foretaste":
        return head
    names = [getattr(foretaste, n) for n in foretaste.__all__ if not n.startswith("_")]
    listed = [f"- :py:obj:`foretaste.{o.__name__} <{o.__module__}.{o.__name__}>`: {_first_line(o)}" for o in names]
    return "\n".join([head + "   :no-members:", "", *listed, ""])


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def module_index() -> str:
    """The page that lists the modules."""
    lines = ["API reference", "=============", "", "Made from the docstrings of the public modules.", ""]
    for title, names in MODULES.items():
        lines += [".. toctree::", f"   :caption: {title}", "   :maxdepth: 1", "", *(f"   {n}" for n in names), ""]
    return "\n".join(lines)


def write_pages(app: Any) -> None:
    """Write what has changed, and remove pages of checks and modules that are gone."""
    # A package that happens to be installed where the site is built is no part of the project.
    found = {i: c for i, c in checks.registry().items() if c.__module__.startswith("foretaste.")}
    pages = {"checks/index.rst": check_index(found), "api/index.rst": module_index()}
    pages |= {f"checks/{i}.rst": check_page(c) for i, c in found.items()}
    pages |= {f"api/{name}.rst": module_page(name) for names in MODULES.values() for name in names}
    source = Path(app.srcdir)
    for folder in ("checks", "api"):
        (source / folder).mkdir(exist_ok=True)
        for old in (source / folder).glob("*.rst"):
            if f"{folder}/{old.name}" not in pages:
                old.unlink()
    for name, text in pages.items():
        place = source / name
        if not place.exists() or place.read_text(encoding="utf-8") != text:
            place.write_text(text, encoding="utf-8")


def link_to_source(app: Any, docname: str, content: list[str]) -> None:
    """Let links that leave the documentation, as GitHub follows them, lead to the repository; each has to be there."""

    def found(match: re.Match[str]) -> str:
        target = match[1]
        here = (REPOSITORY / "docs" / docname).parent
        place = (here / target.partition("#")[0]).resolve()
        if place.is_relative_to(REPOSITORY / "docs"):
            return match[0]
        # A link to nowhere stays as it is, and the parser names it.
        return f"]({SOURCE}{place.relative_to(REPOSITORY)})" if place.exists() else match[0]

    content[0] = re.sub(r"\]\(((?:\.\./)+[^)\s]*)\)", found, content[0])


def setup(app: Any) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("builder-inited", write_pages)
    app.connect("source-read", link_to_source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
