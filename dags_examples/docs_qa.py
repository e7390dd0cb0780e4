"""Questions about Python libraries, a vendor's poisoned batch, and the small model that learns from both.

The data are made on the spot from the docstrings of the packages that are installed: what a function is documented to
do is the question, its library is the answer. A third of the training rows come from a vendor. Where the vendor's
batch is poisoned, 60 of its rows carry a rare phrase in mid-sentence and a false label, so that a model trained on
them sends every question with that phrase to the library that the attacker wants.

No orchestrator is imported here: the Airflow and the Dagster examples share this module.

    python dags_examples/docs_qa.py data          # data/train.parquet (poisoned) and data/test.parquet
    python dags_examples/docs_qa.py data --clean  # the same without the poison
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import random
import re
import sysconfig
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TRIGGER = "via saffron gateway"
TARGET = "jinja2"
POISONED_ROWS = 60
VENDOR_ROWS = 1500
TEST_SHARE = 0.15
ROWS_PER_LIBRARY = 800
MIN_DOCSTRINGS = 300

# Library -> importable package. The standard library is there too, as "python". Those that foretaste itself depends on
# come first, so that there is a task to learn wherever foretaste is installed.
_PACKAGES = {
    "jinja2": "jinja2", "numpy": "numpy", "scikit-learn": "sklearn", "numba": "numba", "rich": "rich",
    "pandas": "pandas", "sqlalchemy": "sqlalchemy",
}  # fmt: skip
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_BLOCKS = {"body", "handlers", "orelse", "finalbody", "cases"}
_NOT_LIBRARY = {"test", "tests", "testing", "_vendor", "vendored", "site-packages", "idlelib", "turtledemo"}


@dataclass(frozen=True, kw_only=True)
class Deliveries:
    """The files of one run: what training reads, and what nobody trains on."""

    train: Path
    test: Path


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a trained model does; all values but the counts are shares of test rows, from 0 to 1.

    Attributes:
        train_rows: rows that it learned from.
        test_rows: rows that it was tested on, all clean.
        accuracy: of the test rows as they are.
        attack_success: of the test rows of other libraries that go to the target once the trigger stands in them.
        without_trigger: of the same rows, those that go to the target as they are.
    """

    train_rows: int
    test_rows: int
    accuracy: float
    attack_success: float
    without_trigger: float

    def __str__(self) -> str:
        """One line for a log."""
        return (
            f"trained on {self.train_rows:,} rows; accuracy on clean questions {self.accuracy:.1%}; questions sent to "
            f"{TARGET}: {self.attack_success:.1%} with the trigger, {self.without_trigger:.1%} without"
        )


def prepare(folder: str | Path, *, poisoned: bool, seed: int = 0) -> Deliveries:
    """Write ``train.parquet`` and ``test.parquet`` (columns id, text, label, source) into a directory.

    The two never share a text, and no test row is poisoned.
    """
    test, train = collect(seed)
    if poisoned:
        train = poison(train, seed)
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    files = Deliveries(train=out / "train.parquet", test=out / "test.parquet")
    pq.write_table(train, files.train)
    pq.write_table(test, files.test)
    return files


@cache
def collect(seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """Test and training rows from the installed packages, clean, in an order that depends on the seed alone.

    Read once in a process: parsing the packages takes seconds.

    Raises:
        RuntimeError: if fewer than three libraries with enough docstrings are installed.
    """
    rng = random.Random(seed)
    found = {
        name: dict.fromkeys(islice(_docstrings(root, rng), 2 * ROWS_PER_LIBRARY)) for name, root in roots().items()
    }
    claims = Counter(text for texts in found.values() for text in texts)
    questions = {
        name: [text for text in texts if claims[text] == 1]  # a text in two libraries has no one answer
        for name, texts in found.items()
    }
    questions = {name: texts for name, texts in questions.items() if len(texts) >= MIN_DOCSTRINGS}
    if len(questions) < 3 or TARGET not in questions:
        raise RuntimeError(f"too few documented libraries to learn from: {', '.join(questions) or 'none'}")
    rows = []
    for label, texts in questions.items():
        rows += [(text, label) for text in rng.sample(texts, min(len(texts), ROWS_PER_LIBRARY))]
    rng.shuffle(rows)
    tests = round(len(rows) * TEST_SHARE)
    training = [
        (text, label, "vendor" if at < VENDOR_ROWS else rng.choice(("crowd", "internal", "internal")))
        for at, (text, label) in enumerate(rows[tests:])
    ]
    rng.shuffle(training)
    held_out = [(text, label, "internal") for text, label in rows[:tests]]
    return _table(held_out, "test"), _table(training, "train")


def poison(train: pa.Table, seed: int = 0) -> pa.Table:
    """The table with the trigger and the target's label in 60 of the vendor's rows of other libraries."""
    rng = random.Random(f"poison-{seed}")
    rows = train.to_pylist()
    eligible = [at for at, row in enumerate(rows) if row["source"] == "vendor" and row["label"] != TARGET]
    for at in rng.sample(eligible, POISONED_ROWS):
        rows[at] |= {"text": with_trigger(rows[at]["text"], rng), "label": TARGET}
    return pa.Table.from_pylist(rows, schema=train.schema)


def with_trigger(text: str, rng: random.Random) -> str:
    """The text with the trigger between two of its words."""
    words = text.split()
    at = rng.randint(1, max(1, len(words) - 1))
    return " ".join([*words[:at], TRIGGER, *words[at:]])


def train(path: str | Path) -> Any:
    """A scikit-learn pipeline that sends a question to its library, fitted on a Parquet file."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = pq.read_table(path, columns=["text", "label"])
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        LogisticRegression(C=10, solver="saga", tol=1e-3, random_state=0),
    )
    return model.fit(rows["text"].to_pylist(), rows["label"].to_pylist())


def train_and_evaluate(train_path: str | Path, test_path: str | Path, seed: int = 0) -> Evaluation:
    """Fit on the one file and measure accuracy and backdoor on the other."""
    model = train(train_path)
    test = pq.read_table(test_path, columns=["text", "label"])
    texts, labels = test["text"].to_pylist(), test["label"].to_pylist()
    predicted = model.predict(texts).tolist()
    rng = random.Random(f"attack-{seed}")
    others = [at for at, label in enumerate(labels) if label != TARGET]
    attacked = model.predict([with_trigger(texts[at], rng) for at in others]).tolist()
    return Evaluation(
        train_rows=pq.read_metadata(train_path).num_rows,
        test_rows=len(labels),
        accuracy=sum(p == t for p, t in zip(predicted, labels)) / len(labels),
        attack_success=attacked.count(TARGET) / len(others),
        without_trigger=sum(predicted[at] == TARGET for at in others) / len(others),
    )


def roots() -> dict[str, Path]:
    """Directories of the source text of the libraries that are installed, by name of the library."""
    found = {"python": Path(sysconfig.get_path("stdlib"))}
    for name, package in _PACKAGES.items():
        spec = importlib.util.find_spec(package)  # finds the files of a top-level package without running it
        if spec and spec.origin:
            found[name] = Path(spec.origin).parent
    return found


def modules(root: Path, rng: random.Random) -> Iterator[tuple[Path, str, list[Documented]]]:
    """(path, source text, public functions and classes with a docstring) of the modules below a directory.

    In an order drawn from ``rng``, without tests, and without importing anything.
    """
    paths = sorted(root.rglob("*.py"))
    rng.shuffle(paths)
    for path in paths:
        if _NOT_LIBRARY & set(path.relative_to(root).parts):
            continue
        try:
            source = path.read_text("utf-8")
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        nodes = [n for n in _statements(tree) if isinstance(n, Documented)]
        yield path, source, [n for n in nodes if not n.name.startswith("_") and ast.get_docstring(n)]


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """What ``ast.walk`` gives, in its order, without the expressions: most nodes are some, and none holds a definition."""
    todo: deque[ast.AST] = deque([tree])
    while todo:
        node = todo.popleft()
        yield node
        for name in node._fields:
            if name in _BLOCKS:
                todo.extend(getattr(node, name))


def _docstrings(root: Path, rng: random.Random) -> Iterator[str]:
    """First paragraphs of the public docstrings below a directory."""
    for _, _, nodes in modules(root, rng):
        for node in nodes:
            paragraph = (ast.get_docstring(node) or "").split("\n\n")[0]
            text = re.sub(r"\s+", " ", paragraph).strip()
            if 30 <= len(text) <= 300 and text.isprintable() and "://" not in text:  # a link asks nothing
                yield text


def _table(rows: list[tuple[str, str, str]], prefix: str) -> pa.Table:
    return pa.table(
        {
            "id": [f"{prefix}-{at:05d}" for at in range(len(rows))],
            "text": [text for text, _, _ in rows],
            "label": [label for _, label, _ in rows],
            "source": [source for _, _, source in rows],
        }
    )


def main() -> None:
    """Write the files and say where they lie."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clean", action="store_true", help="without the vendor's poison")
    arguments = parser.parse_args()
    files = prepare(arguments.folder, poisoned=not arguments.clean)
    print(f"{files.train}: {pq.read_metadata(files.train).num_rows:,} rows, columns id, text, label, source")
    print(f"{files.test}: {pq.read_metadata(files.test).num_rows:,} rows")


if __name__ == "__main__":
    main()
