"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "SECURITY.md",
    *sorted(DOCS.glob("*.md")),
    *sorted(DOCS.glob("tutorials/*.md")),
]
# Shown and not run: output, drawings, and languages of others.
SHOWN = {"text", "dockerfile", "jinja", "{toctree}"}


@dataclass(frozen=True)
class Block:
    """A block of code, its language (``""`` where it is only indented), and why it cannot be run."""

    page: str
    line: int
    language: str
    code: str
    excuse: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    found, lines, excuse, at = [], page.read_text(encoding="utf-8").splitlines(), "", 0
    name = str(page.relative_to(DOCS)) if page.is_relative_to(DOCS) else page.name
    while at < len(lines):
        start, line = at, lines[at]
        fence = re.match(r" *```(\S*)", line)
        if fence:
            at += 1
            while not re.match(r" *```$", lines[at]):
                at += 1
            code = textwrap.dedent("\n".join(lines[start + 1 : at]))
            found.append(Block(name, start + 1, fence[1], code + "\n", excuse))
        elif line.startswith("    ") and not (start and lines[start - 1].strip()):
            while at + 1 < len(lines) and (lines[at + 1].startswith("    ") or not lines[at + 1].strip()):
                at += 1
            found.append(Block(name, start + 1, "", textwrap.dedent("\n".join(lines[start : at + 1])) + "\n", excuse))
        told = re.fullmatch(r"<!-- not run: (.+) -->", line)
        excuse = told[1] if told else ""
        at += 1
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page that are run, in their order."""
    return [b for b in BLOCKS if b.page == page and not b.excuse and b.language not in SHOWN]


def named(block: Block) -> str | None:
    """The file that a block is, where its first line names one."""
    found = re.match(r"# (\w+\.(?:py|yaml))[:\n]", block.code)
    return found[1] if found else None
