"""A chain of custody to look at: a tree in the terminal, and one self-contained picture (SVG)."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from foretaste.provenance.chain import Chain, Link
from foretaste.report.escape import visible

if TYPE_CHECKING:
    from rich.tree import Tree

_WIDTH, _HEIGHT, _GAP, _LINE = 310, 74, 46, 18
_NAME_CHARS = 34
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .kind { font-weight: 600 } .dim { fill: #59636e; font-size: 11px }
rect { fill: #ffffff; stroke: #57606a } .origin { stroke: #0969da } .quarantine { stroke: #bc4c00 }
path { stroke: #57606a; fill: none; marker-end: url(#tip) }
@media (prefers-color-scheme: dark) { svg { background: #0d1117 } text { fill: #e6edf3 } .dim { fill: #9198a1 }
rect { fill: #151b23; stroke: #9198a1 } .origin { stroke: #4493f8 } .quarantine { stroke: #db6d28 }
path { stroke: #9198a1 } }
"""


def tree(chain: Chain, tip: Link) -> Tree:
    """The tip at the root, below it what it was made from. A link that several rest on is drawn once."""
    from rich.text import Text
    from rich.tree import Tree

    by_digest = {link.digest: link for link in chain.links}
    drawn: set[str] = set()

    def _label(link: Link) -> Text:
        return Text.assemble((_title(link), "bold"), (f"  {_when(link)}  {link.digest[7:19]}", "bright_black"))

    root = Tree(_label(tip), guide_style="bright_black")
    waiting = [(root, iter(tip.parents))]  # no recursion: a chain may be longer than the stack
    drawn.add(tip.digest)
    while waiting:
        branch, parents = waiting[-1]
        if (parent := next(parents, None)) is None:
            waiting.pop()
        elif parent.statement is None:
            branch.add(Text(visible(f"from {parent.name}"), style="bright_black"))
        elif (found := by_digest.get(parent.statement)) is None:
            branch.add(Text(visible(f"MISSING: the link that made {parent.name}"), style="bold red"))
        elif found.digest in drawn:
            branch.add(Text(f"{_title(found)} (see above)", style="bright_black"))
        else:
            drawn.add(found.digest)
            waiting.append((branch.add(_label(found)), iter(found.parents)))
    return root


def svg(chain: Chain, tip: Link) -> str:
    """The links that the tip rests on, oldest on top, as an SVG document that loads nothing and runs nothing."""
    links = list(reversed(list(chain.ancestors(tip))))
    level: dict[str, int] = {}
    for link in links:
        above = [level[p.statement] for p in link.parents if p.statement in level]
        level[link.digest] = 1 + max(above, default=-1)
    columns: dict[int, int] = {}
    place: dict[str, tuple[int, int]] = {}
    for link in links:
        row = level[link.digest]
        column = columns[row] = columns.get(row, -1) + 1
        place[link.digest] = (_GAP // 2 + column * (_WIDTH + _GAP), _GAP // 2 + row * (_HEIGHT + _GAP))
    width = _GAP // 2 + (max(columns.values()) + 1) * (_WIDTH + _GAP)
    height = _GAP // 2 + (max(columns) + 1) * (_HEIGHT + _GAP)
    edges = [
        _edge(place[parent.statement], place[link.digest])
        for link in links
        for parent in link.parents
        if parent.statement in place
    ]
    boxes = [_box(link, *place[link.digest]) for link in links]
    title = escape(visible(f"Chain of custody of {_names(tip)}"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{title}"><title>{title}</title><style>{_STYLE}</style><defs><marker id="tip" '
        'viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<polygon points="0,0 8,4 0,8" fill="#57606a"/></marker></defs>{"".join(edges + boxes)}</svg>\n'
    )


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1, x2, y2 = start[0] + _WIDTH // 2, start[1] + _HEIGHT, end[0] + _WIDTH // 2, end[1]
    middle = (y1 + y2) // 2
    return f'<path d="M{x1},{y1} C{x1},{middle} {x2},{middle} {x2},{y2}"/>'


def _box(link: Link, x: int, y: int) -> str:
    outside = ", ".join(p.name for p in link.parents if p.statement is None)
    lines = [
        ("kind", f"{link.kind} from {outside}" if outside else link.kind),
        ("", _names(link)),
        ("dim", f"{_when(link)}  {link.digest[7:19]}"),
    ]
    text = "".join(
        f'<text class="{style}" x="{x + 12}" y="{y + 22 + at * _LINE}">{escape(visible(line, _NAME_CHARS))}</text>'
        for at, (style, line) in enumerate(lines)
    )
    full = escape(visible(f"{link.kind}: {_names(link)}, statement {link.digest}"))
    style = escape(link.kind)
    return (
        f'<g><title>{full}</title><rect class="{style}" x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>'
        f"{text}</g>"
    )


def _title(link: Link) -> str:
    return visible(f"{link.kind}: {_names(link)}")


def _names(link: Link) -> str:
    rows = link.rows
    return ", ".join(
        f"{name} ({rows[name]:,} rows)" if isinstance(rows.get(name), int) else name
        for name, _ in link.statement.subjects
    )


def _when(link: Link) -> str:
    return visible(link.statement.text("runDetails", "metadata", "finishedOn"), 20)
