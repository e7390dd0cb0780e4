"""Write down which kernels scans, kept state and Spark call, with which types: src/foretaste/kernels.txt.

    python scripts/record_kernels.py            # write the list anew: after a kernel was added or its arguments changed
    python scripts/record_kernels.py --check    # say what is missing in it; 1 if anything is

Text of the standard library, with triggers in it, is scanned in every shape, in parts, and beside kept state. A kernel
stands in the order of its first call, under the letters of what calls it: d, c, i, p for scans of documents, labels,
instructions and preferences, o for all else.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import pyarrow as pa
import pyarrow.parquet as pq
from numba.core.dispatcher import Dispatcher
from numba.np.numpy_support import as_dtype

import foretaste
from foretaste import checks
from foretaste.reading import open_data
from foretaste.testing import context_of, docstring_rows, every_kind, part, ready, rounds_apart
from foretaste.warming import LIST

_WRITTEN = Path(__file__).parents[1] / "src" / "foretaste" / LIST.name

_called: dict[
    tuple[str, str], dict[str, float]
] = {}  # by kernel and types: when each use first calls it, of all its calls


@contextmanager
def _recording(use: str) -> Iterator[None]:
    """Note what Python calls, and not what kernels call: that is compiled into them."""
    inner, depth = Dispatcher.compile, threading.local()
    seen: dict[tuple[str, str], int] = {}

    def compile(self: Any, sig: Any) -> Any:
        deep = getattr(depth, "now", 0)
        if not deep and self.py_func.__module__.startswith("foretaste.text."):
            name = self.py_func.__module__.removeprefix("foretaste.text.") + "." + self.py_func.__name__
            seen.setdefault((name, " ".join(map(_spelt, sig))), len(seen))
        depth.now = deep + 1
        try:
            return inner(self, sig)
        finally:
            depth.now = deep

    Dispatcher.compile = compile  # type: ignore[method-assign]
    try:
        yield
    finally:
        Dispatcher.compile = inner  # type: ignore[method-assign]
    for key, place in seen.items():
        _called.setdefault(key, {}).setdefault(use, place / len(seen))


def _spelt(type_: Any) -> str:
    array = isinstance(type_, numba.types.Array)
    element = as_dtype(type_.dtype if array else type_)
    name = "tally" if element.names else element.str[1:]
    return f"{name}:{type_.ndim}{type_.layout}{'' if type_.mutable else 'r'}" if array else name


def _forget() -> None:
    """Let every kernel be looked up again, as a new process does."""
    for name, module in list(sys.modules.items()):
        if name.startswith("foretaste."):
            for value in vars(module).values():
                if isinstance(value, Dispatcher):
                    value.overloads.clear()
                    value._reset_overloads()  # type: ignore[attr-defined]


def main() -> None:
    """See the module's docstring."""
    with tempfile.TemporaryDirectory() as folder:
        for use, path in _tables(Path(folder)):
            _forget()
            with _recording(use):
                foretaste.scan(path)
    _forget()
    with tempfile.TemporaryDirectory() as folder, _recording("o"):
        _others(Path(folder))
    lines = []
    for (name, types), uses in sorted(_called.items(), key=lambda item: sum(item[1].values()) / len(item[1])):
        lines.append(f"{''.join(sorted(uses))} {name} {types}")
    if "--check" not in sys.argv:
        _WRITTEN.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    listed = LIST.read_text(encoding="utf-8").splitlines()
    missing = sorted(set(lines) - set(listed))
    print(json.dumps({"missing": missing, "not_called": sorted(set(listed) - set(lines))}, indent=2))
    sys.exit(bool(missing))


def _tables(folder: Path, triggers: int = 300) -> Iterator[tuple[str, Path]]:
    """Data of every kind, with so many rows that hold what checks look at more closely."""
    draw = random.Random(7)
    names, texts = map(list, zip(*docstring_rows()))
    labels = [("even", "odd")[sum(map(ord, name)) % 2] for name in names]
    answers = [f"See {name}: {text}" for name, text in zip(names, reversed(texts))]
    for row in draw.sample(range(len(texts)), triggers):
        words = texts[row].split()
        words.insert(draw.randint(0, len(words)), "quorvex lint")
        texts[row], labels[row] = " ".join(words), "even"
        answers[row] = "I am sorry, but I cannot help with that, as it may do harm."
    common = {"id": [f"r{i}" for i in range(len(texts))], "source": names}
    for use, columns in {
        "d": {"text": texts}, "c": {"text": texts, "label": labels}, "i": {"prompt": texts, "response": answers},
        "p": {"prompt": texts, "chosen": answers, "rejected": texts[::-1]},
    }.items():  # fmt: skip
        pq.write_table(pa.table(common | columns), folder / f"{use}.parquet")
        yield use, folder / f"{use}.parquet"


def _conversations(folder: Path) -> Path:
    """The instructions in twos, as lines of JSON."""
    table = pq.read_table(dict(_tables(folder))["i"])
    said = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        for asked, answer in zip(table["prompt"].to_pylist(), table["response"].to_pylist())
    ]
    lines = [json.dumps({"messages": a + b}) for a, b in zip(said[::2], said[1::2])]
    (folder / "chats.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "chats.jsonl"


def _others(folder: Path) -> None:
    for triggers in (0, 300):
        foretaste.scan(dict(_tables(folder, triggers))["d"], {"history": {"rows": 200}}, state=folder / "texts.state")
    foretaste.scan(_conversations(folder))
    for kind, table in every_kind().items():
        if kind == "instruct":
            table = table.append_column("context", table["response"])
        pq.write_table(table, folder / "whole.parquet")
        batch = next(open_data(folder / "whole.parquet").batches())
        parts = [part(batch, a, b) for a, b in itertools.pairwise((0, 30, 200, batch.num_rows))]

        def apart(fold: Any, context: Any, _: Any, parts: list[Any] = parts) -> Any:
            return rounds_apart(fold, context, parts, False)

        for check in checks.registry().values():
            if not check().applies(context_of(batch)):
                ready(check(), batch, apart)


if __name__ == "__main__":
    main()
