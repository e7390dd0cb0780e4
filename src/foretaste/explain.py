"""What the docstring of a check says, taken apart: for the command line and for the documentation, from one place."""

from __future__ import annotations

import dataclasses
import inspect
import re
from dataclasses import dataclass
from typing import Any

from foretaste.check import Check


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a check: its annotation, and its default as Python writes it."""

    name: str
    kind: str
    default: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The documentation of a check.

    Attributes:
        summary: the first line, which names what is found.
        paragraphs: the rest in reStructuredText, one line each; what blocks, is missed and is shown stands in
            paragraphs of their own that start with a word and a colon.
        parameters: in the order in which the check declares them.
    """

    summary: str
    paragraphs: tuple[str, ...]
    parameters: tuple[Parameter, ...]


def explain(check: type[Check[Any]]) -> Explanation:
    """Take the docstring of a check apart."""
    about, _, rest = (inspect.getdoc(check) or "").partition("\nArgs:\n")
    section = re.match(r"(?:[ \t]+\S.*(?:\n|$))*", rest)
    arguments = section[0] if section else ""
    about = f"{about.rstrip()}\n{rest[len(arguments) :].rstrip()}".rstrip()
    # One that starts with a name and a colon stands alone, wherever its line is; sentences that follow it too.
    about = re.sub(r"\n(?=[A-Z][\w ]*: )|(?<=[.!?\"]) +(?=(?:Reviews|Clean): )", "\n\n", about)
    summary, *paragraphs = (" ".join(p.split()) for p in re.split(r"\n\s*\n", about) if p.strip())
    entries = re.split(r"^ {4}(?=\S)", arguments, flags=re.MULTILINE)[1:]
    meanings = {n.strip(): " ".join(m.split()) for n, _, m in (e.partition(":") for e in entries)}
    return Explanation(summary=summary, paragraphs=tuple(paragraphs), parameters=tuple(_parameters(check, meanings)))


def _parameters(check: type[Check[Any]], meanings: dict[str, str]) -> list[Parameter]:
    listed = []
    for field in dataclasses.fields(check):  # type: ignore[arg-type]
        default = field.default_factory() if callable(field.default_factory) else field.default
        listed.append(
            Parameter(
                name=field.name,
                kind=field.type if isinstance(field.type, str) else field.type.__name__,
                default="none (required)" if default is dataclasses.MISSING else repr(default),
                meaning=meanings.get(field.name, ""),
            )
        )
    return listed
