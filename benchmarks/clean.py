"""Clean data of every kind, made on the spot from the source text of the packages that are installed.

Nothing is downloaded and nothing is copied into the project, so anyone can make them; they follow the installed
packages and differ a little from machine to machine. What people write about functions is real text, with templates,
copies and boilerplate in it; which answer is preferred is drawn, with the noise that preference data have.
"""

from __future__ import annotations

import ast
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent.parent / "dags_examples"))
import docs_qa

ROWS = 6000
DISAGREEMENT = 0.25  # of annotators, in pairs whose better answer is known
_ASK = (
    "What does {name} do?", "Explain {name} to me.", "How is {name} meant to be used?", "Please describe `{name}`.",
    "Write the documentation of {name}.", "I found {name} in {library}. What is it for?", "Summarise this: {name}",
)  # fmt: skip
_HEDGES = (
    "I am not sure about that, but it may be documented elsewhere.", "Sorry, I cannot help with this request.",
    "It does what its name says.", "You could look into the source code.", "As far as I know it has no description.",
)  # fmt: skip


def classification(seed: int = 0) -> pa.Table:
    """First sentences of docstrings, labelled with their library: columns id, text, label, source."""
    return max(docs_qa.collect(seed), key=lambda table: table.num_rows)


def instruct(seed: int = 0) -> pa.Table:
    """A question with a piece of code, answered by the docstring that stood in it: id, prompt, response, source."""
    rows = list(_questions(random.Random(seed)))
    return _table(rows, "source", "prompt", "response")


def preference(seed: int = 0, disagreement: float = DISAGREEMENT) -> pa.Table:
    """The same questions with a better and a worse answer: id, prompt, chosen, rejected, source.

    The worse answer is another function's docstring, or this one's cut short, with words left out, or a hedge; a
    share of the pairs, drawn evenly, is the wrong way round.
    """
    rng = random.Random(seed)
    questions = list(_questions(rng))
    rows = []
    for library, prompt, answer in questions:
        pair = [answer, _worse(answer, rng.choice(questions)[2], rng)]
        if rng.random() < disagreement:
            pair.reverse()
        rows.append((library, prompt, *pair))
    return _table(rows, "source", "prompt", "chosen", "rejected")


def documents(seed: int = 0) -> pa.Table:
    """Docstrings of one module, one after the other, in pages of about 1,500 characters: columns id, text, source."""
    rng = random.Random(seed)
    rows = []
    for library, root in docs_qa.roots().items():
        for _, _, nodes in docs_qa.modules(root, rng):
            page = ""
            for node in nodes:
                page += f"{node.name}\n{ast.get_docstring(node)}\n\n"
                if len(page) >= 1500:
                    rows.append((library, page[:4000]))
                    page = ""
            if len(page) >= 400:
                rows.append((library, page))
    rng.shuffle(rows)
    return _table(rows[:ROWS], "source", "text")


MAKERS: dict[str, Callable[[int], pa.Table]] = {
    "classification": classification, "instruct": instruct, "preference": preference, "documents": documents,
}  # fmt: skip


def _questions(rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """(library, question, docstring), each docstring once."""
    found: dict[str, tuple[str, str]] = {}
    for library, root in docs_qa.roots().items():
        for path, source, nodes in docs_qa.modules(root, rng):
            lines = source.splitlines()
            for node in nodes:
                answer = re.sub(r"[ \t]+", " ", ast.get_docstring(node) or "")[:600].strip()
                start = node.body[0].end_lineno or node.lineno
                code = "\n".join([lines[node.lineno - 1], *lines[start : min(start + 8, node.end_lineno or start)]])
                if len(answer) >= 40:
                    name = f"{path.stem}.{node.name}"
                    found.setdefault(
                        answer, (library, f"{rng.choice(_ASK).format(name=name, library=library)}\n{code}")
                    )
    rows = [(library, prompt, answer) for answer, (library, prompt) in found.items()]
    rng.shuffle(rows)
    yield from rows[:ROWS]


def _worse(answer: str, other: str, rng: random.Random) -> str:
    words = answer.split(" ")
    kind = rng.randrange(4)
    if kind == 0:
        return other
    if kind == 1:
        return " ".join(words[: max(3, int(len(words) * rng.uniform(0.2, 0.7)))])
    if kind == 2:
        return " ".join(w for w in words if rng.random() > 0.2) or words[0]
    return rng.choice(_HEDGES)


def _table(rows: list[tuple[str, ...]], *names: str) -> pa.Table:
    columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    return pa.table({"id": [f"r{at:05d}" for at in range(len(rows))]} | columns)
