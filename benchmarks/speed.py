"""What a scan costs, beside what one would use instead: seconds, peak memory, rows and megabytes per second.

    python benchmarks/speed.py [--rows 10000 100000 1000000] [--repeat 3] [--out speed.json] [--chart speed.svg]
    python benchmarks/speed.py --data FILE --roles prompt=a response=b [--only SUBSTRING ...]
    python benchmarks/speed.py --rows 200000 --spark --only 'on Spark'      # one worker, then two, on this machine
    python benchmarks/speed.py --rows 10000 --first-scan                    # what a scan waits for code to be compiled

Without ``--data``, rows are made by ``corpus.py``. Every measurement is a process of its own (so its peak memory is its
own), the contenders take turns, and the least of ``--repeat`` runs counts: a machine that others use is never too fast.
Imports and compiled code are loaded before the clock starts, but for the command line. Ours and theirs are compared on
the same columns in the same run; a tool that is
not installed, or does not run offline, is listed with its reason.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SLOW_ROWS = 200_000  # tools that take minutes, or gigabytes, beyond that are left out there
WARM_ROWS = 2000
LONGEST = 1200  # seconds after which a measurement is given up
LEAST_SPEED = 1000  # rows a second under which it is given up where there are so many rows


@dataclass(frozen=True)
class Data:
    """A Parquet file and its roles."""

    path: str
    roles: dict[str, str]

    def texts(self) -> pa.ChunkedArray:
        """The model's input of every row: context and prompt, or the text."""
        names = [self.roles[r] for r in ("context", "prompt", "text") if r in self.roles]
        table = pq.read_table(self.path, columns=names)
        if len(names) == 1:
            return table.column(0)
        import pyarrow.compute as pc

        return pc.binary_join_element_wise(*table.columns, " ")

    def column(self, *roles: str) -> pa.ChunkedArray:
        """The first of some roles that the data have."""
        name = next(self.roles[r] for r in roles if r in self.roles)
        return pq.read_table(self.path, columns=[name]).column(0)


Result = dict[str, Any]
CONTENDERS: dict[str, Callable[[Data], Result]] = {}
SLOW: set[str] = set()
LABELLED: set[str] = set()
ON_SPARK: set[str] = set()


def contender(name: str, *, slow: bool = False, labelled: bool = False, spark: bool = False) -> Callable[[Any], Any]:
    """Register a measurement: data in, facts about the result out."""

    def register(function: Callable[[Data], Result]) -> Callable[[Data], Result]:
        CONTENDERS[name] = function
        if slow:
            SLOW.add(name)
        if labelled:
            LABELLED.add(name)
        if spark:
            ON_SPARK.add(name)
        return function

    return register


@contender("read: pyarrow, all columns")
def _floor(data: Data) -> Result:
    rows = 0
    with pq.ParquetFile(data.path) as file:
        for batch in file.iter_batches():
            rows += batch.num_rows
    return {"rows": rows}


def _dataset(data: Data) -> Any:
    from foretaste import Roles
    from foretaste.reading import open_data

    return open_data(data.path, Roles.from_mapping(data.roles))


def _signal(data: Data, signal: Any, *first: Any) -> Any:
    """The value of one signal, computed as a scan does."""
    from foretaste.engine import signal_value

    return signal_value(_dataset(data), signal)


@contender("read: foretaste, validated")
def _read(data: Data) -> Result:
    return {"rows": sum(b.num_rows for b in _dataset(data).batches())}


@contender("tokens: foretaste")
def _tokens(data: Data) -> Result:
    return {"tokens": sum(len(b.tokens(r).hashes) for b in _dataset(data).batches() for r in b.text_roles)}


@contender("near-duplicates: foretaste, members listed")
def _near(data: Data) -> Result:
    from foretaste.engine import signal_value
    from foretaste.signals.near_duplicates import NearDuplicates

    dataset = _dataset(data)
    dataset.keep_bytes = 0  # one pass: nothing is read twice
    value = signal_value(dataset, NearDuplicates())
    return {"clusters": len(value.sizes), "rows_in_clusters": int(value.sizes.sum())}


@contender("near-duplicates: rensa, verified streaming")
def _rensa(data: Data) -> Result:
    from rensa import RMinHashDeduplicator

    dedup = RMinHashDeduplicator(threshold=0.6, num_perm=128, use_lsh=True)
    kept = 0
    texts = data.texts()
    row = 0
    for chunk in texts.chunks:
        for at in range(0, len(chunk), 16_384):
            part = chunk.slice(at, 16_384).to_pylist()
            kept += sum(dedup.add_pairs((str(row + i), t.split()) for i, t in enumerate(part)))
            row += len(part)
    return {"kept": kept}


@contender("near-duplicates: datasketch", slow=True)
def _datasketch(data: Data) -> Result:
    from datasketch import MinHash, MinHashLSH

    lsh = MinHashLSH(threshold=0.6, num_perm=64)
    found = 0
    for row, text in enumerate(data.texts().to_pylist()):
        sketch = MinHash(num_perm=64)
        sketch.update_batch([w.encode() for w in text.split()])
        found += bool(lsh.query(sketch))
        lsh.insert(str(row), sketch)
    return {"with_a_duplicate": found}


@contender("near-duplicates: text-dedup", slow=True)
def _text_dedup(data: Data) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.parquet"
        pq.write_table(pa.table({"text": data.texts()}), source)
        command = [
            sys.executable, "-m", "text_dedup.minhash", "--path", "parquet", "--data_files", str(source), "--split",
            "train", "--column", "text", "--output", f"{folder}/out", "--cache_dir", f"{folder}/cache", "--ngram", "2",
            "--threshold", "0.6", "--num_perm", "64", "--min_length", "4",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    return {}


@contender("near-duplicates: semhash", slow=True)
def _semhash(data: Data) -> Result:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from semhash import SemHash

    texts = data.texts().to_pylist()
    return {"kept": len(SemHash.from_records(texts).self_deduplicate().selected)}


@contender("n-grams by output: foretaste, 1 to 4")
def _phrases(data: Data) -> Result:
    from foretaste.check import Context
    from foretaste.signals.phrases import phrase_signals

    dataset = _dataset(data)
    signal = phrase_signals(Context(dataset.kind, dataset.canonical_roles))["input"]
    return {"phrases": len(_signal(data, signal).n)}


@contender("n-grams: CountVectorizer, 1 to 3", slow=True)
def _vectorizer(data: Data) -> Result:
    from sklearn.feature_extraction.text import CountVectorizer

    return {"ngrams": CountVectorizer(ngram_range=(1, 3)).fit_transform(_both(data)).shape[1]}


def _both(data: Data) -> list[str]:
    """Every text that the default policy reads, so that a scan is compared with the same bytes."""
    texts = data.texts().to_pylist()
    outputs = [r for r in ("response", "chosen", "rejected") if r in data.roles]
    for role in outputs:
        texts = [f"{a} {b}" for a, b in zip(texts, data.column(role).to_pylist())]
    return texts


@contender("n-grams: CountVectorizer, 1 to 3, input alone", slow=True)
def _vectorizer_input(data: Data) -> Result:
    from sklearn.feature_extraction.text import CountVectorizer

    return {"ngrams": CountVectorizer(ngram_range=(1, 3)).fit_transform(data.texts().to_pylist()).shape[1]}


@contender("n-grams by output: polars, 1 to 3", slow=True)
def _polars(data: Data) -> Result:
    import polars as pl

    output = data.column("label", "response", "source").combine_chunks().cast(pa.large_string())
    frame = pl.DataFrame({"text": pl.from_arrow(data.texts()), "output": pl.from_arrow(output)})
    frame = frame.with_columns(pl.col("output").str.head(32)).with_row_index("row")
    words = frame.with_columns(pl.col("text").str.to_lowercase().str.extract_all(r"\w\w+")).explode("text")
    found = 0
    for n in (1, 2, 3):
        grams = words.with_columns(
            gram=pl.concat_str([pl.col("text").shift(-i).over("row") for i in range(n)], separator=" ")
        )
        counted = grams.drop_nulls("gram").unique(["row", "gram"]).group_by("gram", "output").len()
        found += len(counted)
    return {"ngrams": found}


@contender("labels: foretaste, naive Bayes", labelled=True)
def _bayes(data: Data) -> Result:
    from foretaste.signals.naive_bayes import NaiveBayes

    return {"accuracy": round(_signal(data, NaiveBayes()).accuracy, 4)}


@contender("labels: cleanlab, logistic regression on words", slow=True, labelled=True)
def _cleanlab(data: Data) -> Result:
    import numpy as np
    from cleanlab.filter import find_label_issues
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    labels = np.unique(data.column("label").to_numpy(zero_copy_only=False), return_inverse=True)[1]
    features = TfidfVectorizer().fit_transform(data.texts().to_pylist())
    chances = cross_val_predict(LogisticRegression(max_iter=200), features, labels, cv=5, method="predict_proba")
    return {"issues": int(find_label_issues(labels, chances, n_jobs=1).sum())}


@contender("default policy: foretaste, all checks and the report")
def _policy(data: Data) -> Result:
    import foretaste

    report = foretaste.scan(data.path, roles=data.roles)
    with tempfile.TemporaryDirectory() as folder:
        foretaste.write(report, folder)
    return {"verdict": report.verdict.value, "checks": {c.check: c.seconds for c in report.results if c.seconds}}


def _on_spark(data: Data, workers: int) -> Result:
    """The whole policy on so many Python workers of a Spark on this machine; it stays up for the measured run."""
    from pyspark.sql import SparkSession

    import foretaste

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master(f"local[{workers}]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.driver.memory", "2g").config("spark.driver.maxResultSize", "0").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    before = _descendants()
    report = foretaste.scan(data.path, roles=data.roles, spark=spark)
    spent = {name: round(cpu - before.get(name, 0.0), 2) for name, cpu in _descendants().items()}
    return {"verdict": report.verdict.value, "cpu_seconds_of_others": spent}


def _descendants() -> dict[str, float]:
    """Processor seconds so far of the processes under this one, by the name of the program."""
    parents, spent, names = {}, {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            line = "".join(_lines(str(folder / "stat")))
            name, _, rest = line.partition("(")[2].rpartition(")")
            fields = rest.split()
            if fields:
                parents[folder.name], names[folder.name] = fields[1], name
                spent[folder.name] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    found: dict[str, float] = {}
    for pid, name in names.items():
        above = pid
        while above in parents and parents[above] != str(os.getpid()):
            above = parents[above]
        if above in parents:
            found[name] = found.get(name, 0.0) + spent[pid]
    return found


@contender("default policy: foretaste on Spark, one worker", spark=True)
def _spark_one(data: Data) -> Result:
    return _on_spark(data, 1)


@contender("default policy: foretaste on Spark, two workers", spark=True)
def _spark_two(data: Data) -> Result:
    return _on_spark(data, 2)


@contender("profile: processor seconds of each stage")
def _profile(data: Data) -> Result:
    """Seconds of every method of every fold, and of the tokens that they ask for (counted there as well)."""
    import functools

    import foretaste
    from foretaste import checks
    from foretaste.batch import Batch
    from foretaste.check import Fold
    from foretaste.reading.dataset import Dataset

    spent: dict[str, float] = {}

    def timed(owner: type[Any], method: str) -> None:
        inner = getattr(owner, method)

        @functools.wraps(inner)
        def outer(*args: Any, **named: Any) -> Any:
            clock = time.thread_time()
            try:
                return inner(*args, **named)
            finally:
                key = f"{owner.__name__}.{method.lstrip('_')}"
                spent[key] = spent.get(key, 0.0) + time.thread_time() - clock

        setattr(owner, method, outer)

    checks.registry()
    owners = [Fold]
    while owners:
        owner = owners.pop()
        owners += owner.__subclasses__()
        for method in ("start", "scan", "next_round", "value", "finish"):
            if method in owner.__dict__:
                timed(owner, method)
    timed(Batch, "_tokenize")
    timed(Dataset, "_canonical")
    timed(Dataset, "_validate")
    cpu = time.process_time()
    foretaste.scan(data.path, roles=data.roles)
    cpu = time.process_time() - cpu
    return {
        "all": round(cpu, 3),
        **{k: round(v, 3) for k, v in sorted(spent.items(), key=lambda i: -i[1]) if v > 0.01 * cpu},
    }


@contender("default policy: command line, start to end")
def _command(data: Data, **environment: str) -> Result:
    roles = [part for role, column in data.roles.items() for part in (f"--{role}", column)]
    with tempfile.TemporaryDirectory() as folder:
        own = "import atexit, sys, time; atexit.register(lambda: print(time.process_time(), file=sys.stderr)); "
        code = own + "from foretaste.cli import main; main()"
        command = [sys.executable, "-c", code, "scan", data.path, *roles, "--out", folder, "-q"]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    return {"exit_code": done.returncode, "own_cpu_seconds": float(done.stderr.split()[-1])}


def first_scan(data: Data) -> Result:
    """Seconds of a scan by the command line with nothing compiled, of the next one, and what the first waited longer.

    Processor seconds are those of all processes, and the scan's own without those of the one that helps it to compile.
    """
    found: Result = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in ("first", "second"):
            cpu, clock = _cpu(resource.getrusage(resource.RUSAGE_CHILDREN)), time.perf_counter()
            own = _command(data, NUMBA_CACHE_DIR=folder)["own_cpu_seconds"]
            seconds = time.perf_counter() - clock
            cpu = _cpu(resource.getrusage(resource.RUSAGE_CHILDREN)) - cpu
            found[turn] = {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "own_cpu_seconds": round(own, 2)}
    found["waited"] = {unit: round(found["first"][unit] - found["second"][unit], 2) for unit in found["first"]}
    return found


def measure(name: str, data: Data) -> Result:
    """Run one contender in this process."""
    with tempfile.TemporaryDirectory() as folder:  # imports and compiled code are loaded before the clock starts
        few = Path(folder) / "few.parquet"
        pq.write_table(pq.ParquetFile(data.path).read_row_group(0).slice(0, WARM_ROWS), few)
        CONTENDERS[name](Data(str(few), data.roles))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu, clock = time.process_time(), time.perf_counter()
    facts = CONTENDERS[name](data)
    seconds, cpu = time.perf_counter() - clock, time.process_time() - cpu
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Not ru_maxrss: a process starts with that of the one that made it.
    own = next(int(line.split()[1]) for line in _lines("/proc/self/status") if line.startswith("VmHWM"))
    return {
        "seconds": round(seconds, 4), "cpu_seconds": round(cpu + _cpu(after) - _cpu(before), 4),
        "peak_mb": round((after.ru_maxrss if _cpu(after) > _cpu(before) else own) / 1024), "result": facts,
    }  # fmt: skip


def _cpu(usage: Any) -> float:
    return float(usage.ru_utime + usage.ru_stime)


def run(data: Data, names: list[str], repeat: int, longest: int) -> dict[str, Result]:
    """Every contender ``repeat`` times, in turns; the fastest run of each."""
    best: dict[str, Result] = {}
    # Sizes and names alone: what the processes print is all that comes back.
    for turn in range(repeat):
        for name in names:
            if "not_run" in best.get(name, {}) or (turn and best[name]["seconds"] > 120):
                continue
            job = json.dumps({"name": name, "path": data.path, "roles": data.roles})
            try:
                done = subprocess.run(
                    [sys.executable, __file__, "--one", job], capture_output=True, text=True, timeout=longest
                )
                error = done.stderr.strip().splitlines()
                made = (
                    json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"not_run": error[-1][:200]}
                )
            except subprocess.TimeoutExpired:
                made = {"not_run": f"gave up after {longest} s"}
            if "not_run" in made or name not in best or made["seconds"] < best[name]["seconds"]:
                best[name] = made
            print(f"  {name:55s} {_line(made)}", file=sys.stderr, flush=True)
    return best


def _line(made: Result) -> str:
    return made.get("not_run") or f"{made['seconds']:8.2f} s  {made['peak_mb']:7.0f} MB"


_POLICY = "default policy: foretaste, all checks and the report"
_PHRASES = "n-grams by output: foretaste, 1 to 4"
_RENSA = "near-duplicates: rensa, verified streaming"
RATIOS = {
    "default policy / CountVectorizer(1,3)": ("n-grams: CountVectorizer, 1 to 3", _POLICY),
    "default policy / rensa": (_RENSA, _POLICY),
    "near-duplicates / rensa": (_RENSA, "near-duplicates: foretaste, members listed"),
    "n-grams by output / CountVectorizer(1,3)": ("n-grams: CountVectorizer, 1 to 3, input alone", _PHRASES),
    "n-grams by output / polars": ("n-grams by output: polars, 1 to 3", _PHRASES),
    "reading / pyarrow": ("read: pyarrow, all columns", "read: foretaste, validated"),
    "two workers of Spark / one": (
        "default policy: foretaste on Spark, one worker", "default policy: foretaste on Spark, two workers",
    ),
}  # fmt: skip


def ratios(results: dict[str, Result], unit: str) -> dict[str, float]:
    """How many times as fast as the other tool we are, by what is compared."""
    return {
        name: round(results[theirs][unit] / results[ours][unit], 2)
        for name, (theirs, ours) in RATIOS.items()
        if "seconds" in results.get(theirs, {}) and "seconds" in results.get(ours, {})
    }


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    versions = {}
    from importlib.metadata import PackageNotFoundError, version

    for name in ("foretaste", "numba", "numpy", "pyarrow", "rensa", "datasketch", "scikit-learn", "polars", "semhash",
                 "text-dedup", "cleanlab", "pyspark"):  # fmt: skip
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "cpu": cpu, "cores": len(os.sched_getaffinity(0)), "memory_mb": memory, "system": platform.system(),
        "python": platform.python_version(), "packages": versions,
    }  # fmt: skip


def _lines(path: str) -> Iterator[str]:
    try:
        yield from Path(path).read_text().splitlines()
    except OSError:
        return


def chart(runs: list[Result], path: Path) -> None:
    """Seconds against rows, both logarithmic, as an SVG."""
    shown = {
        "default policy: foretaste, all checks and the report": ("#0b6e4f", "foretaste, whole policy"),
        "near-duplicates: foretaste, members listed": ("#2ca58d", "foretaste, near-duplicates"),
        "near-duplicates: rensa, verified streaming": ("#b3541e", "rensa"),
        "n-grams: CountVectorizer, 1 to 3": ("#7a3e9d", "CountVectorizer(1,3)"),
        "near-duplicates: datasketch": ("#8a8a8a", "datasketch"),
        "read: pyarrow, all columns": ("#333333", "reading alone"),
    }
    import math

    lines = {
        name: [(r["rows"], r["results"][name]["seconds"]) for r in runs if "seconds" in r["results"].get(name, {})]
        for name in shown
    }
    points = [p for line in lines.values() for p in line]
    if not points:
        return
    x0, x1 = (math.log10(f(p[0] for p in points)) for f in (min, max))
    y0, y1 = (math.log10(f(p[1] for p in points)) for f in (min, max))
    width, height, left, bottom, right = 760, 430, 60, 45, 190

    def x(rows: float) -> float:
        return left + (math.log10(rows) - x0) / max(1e-9, x1 - x0) * (width - left - right)

    def y(seconds: float) -> float:
        return height - bottom - (math.log10(seconds) - y0) / max(1e-9, y1 - y0) * (height - bottom - 25)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12"><title>Seconds against rows</title>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
    ]
    for power in range(math.ceil(y0), math.floor(y1) + 1):
        at = y(10.0**power)
        parts.append(f'<path d="M{left} {at:.1f}H{width - right}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g} s</text>')
    for rows in sorted({p[0] for p in points}):
        parts.append(f'<text x="{x(rows):.1f}" y="{height - bottom + 18}" text-anchor="middle">{rows:,}</text>')
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle">rows</text>')
    taken: list[float] = []
    for name, line in sorted(lines.items(), key=lambda item: -item[1][-1][1] if item[1] else 0.0):
        if not line:
            continue
        colour, label = shown[name]
        path_data = " L".join(f"{x(r):.1f} {y(s):.1f}" for r, s in line)
        parts.append(f'<path d="M{path_data}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(r):.1f}" cy="{y(s):.1f}" r="3" fill="{colour}"/>' for r, s in line]
        at = y(line[-1][1]) + 4
        while any(abs(at - t) < 14 for t in taken):
            at += 14
        taken.append(at)
        parts.append(f'<text x="{x(line[-1][0]) + 8:.1f}" y="{at:.1f}" fill="{colour}">{label}</text>')
    path.write_text("".join(parts) + "</svg>\n")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--huge", action="store_true", help="1 and 10 million rows too: an hour, 6 GB of disk")
    parser.add_argument("--data", help="a Parquet file instead of generated rows")
    parser.add_argument("--roles", nargs="+", default=[], metavar="ROLE=COLUMN")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], metavar="SUBSTRING")
    parser.add_argument("--spark", action="store_true", help="the whole policy on Spark too; needs Java")
    parser.add_argument("--first-scan", action="store_true", help="seconds that a scan waits where nothing is compiled")
    parser.add_argument("--folder", help="where generated rows are kept; a temporary folder otherwise")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--chart", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        job = json.loads(args.one)
        print(json.dumps(measure(job["name"], Data(job["path"], job["roles"]))))
        return
    runs: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        for data, rows in _inputs(args, Path(args.folder or folder)):
            if args.first_scan:
                turns = [first_scan(data) for _ in range(args.repeat)]
                runs.append({"rows": rows, "roles": sorted(data.roles), "turns": turns})
                _save(args, runs)
                continue
            names = [
                name
                for name in CONTENDERS
                if (not args.only or any(o in name for o in args.only))
                and (name not in SLOW or rows <= SLOW_ROWS)
                and (name not in ON_SPARK or args.spark)
                and (name in LABELLED) <= ("label" in data.roles)
                # The same texts with labels: what does not read the labels was measured without them.
                and (args.data or "label" not in data.roles or name in LABELLED or name == _POLICY)
            ]
            print(f"{rows:,} rows", file=sys.stderr)
            results = run(data, names, args.repeat, max(LONGEST, rows // LEAST_SPEED))
            size = sum(data.column(r).nbytes for r in ("context", "prompt", "text", "response") if r in data.roles)
            runs.append({"rows": rows, "text_mb": round(size / 1e6, 1), "roles": sorted(data.roles),
                         "results": results, "times_as_fast": ratios(results, "seconds"),
                         "times_as_fast_by_processor_time": ratios(results, "cpu_seconds")})  # fmt: skip
            _save(args, runs)  # after each, so that what takes an hour is not lost at its end
            for key in ("times_as_fast", "times_as_fast_by_processor_time"):
                print(key, json.dumps(runs[-1][key], indent=2), file=sys.stderr)
    if not args.out:
        print(json.dumps(runs, indent=2))


def _save(args: argparse.Namespace, runs: list[Result]) -> None:
    found = {"machine": machine(), "data": "named by the user" if args.data else "corpus.py", "runs": runs}
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n")
    if args.chart:
        chart([r for r in runs if "label" not in r["roles"]], args.chart)


def _inputs(args: argparse.Namespace, folder: Path) -> Iterator[tuple[Data, int]]:
    if args.data:
        yield Data(args.data, dict(r.split("=", 1) for r in args.roles)), pq.read_metadata(args.data).num_rows
        return
    sys.path.insert(0, str(Path(__file__).parent))
    from corpus import Generator

    folder.mkdir(parents=True, exist_ok=True)
    generator: Generator | None = None
    instruct = {"prompt": "prompt", "response": "response", "source": "source", "id": "id"}
    for rows in [*args.rows, *([1_000_000, 10_000_000] if args.huge else [])]:
        path = folder / f"{rows}.parquet"
        if not path.exists():
            generator = generator or Generator()
            generator.write(path, rows)
        yield Data(str(path), instruct), rows
        if rows <= SLOW_ROWS:
            yield Data(str(path), {"text": "response", "label": "label", "source": "source", "id": "id"}), rows


if __name__ == "__main__":
    main()
