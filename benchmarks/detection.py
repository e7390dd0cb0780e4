"""Is planted poison caught, and does clean data pass? On data that you name, beside what others use.

    python benchmarks/detection.py DATA [--text COL --label COL | --prompt COL --response COL | --chosen COL ...]
                                   [--doses 25 50 100] [--peers] [--attacks SUBSTRING ...] [--drip 5]
                                   [--held ROWS] [--out results.json]
    python benchmarks/detection.py [--kinds classification instruct preference documents] ...

Without DATA, data of every kind are made from the source text of the installed packages (``clean.py``). Every attack of
``recipes.py`` that fits the data is planted into a fresh copy and scanned with the default policy. ``caught`` means: the
verdict is block and at least half of the poisoned rows carry a block finding. ``--peers`` adds, where they are
installed, the published methods with their own defaults; they count as blocking where they flag ten rows or more.
``--drip N`` cuts the data into N deliveries, plants a part of each dose into every one of them, and scans them one
after the other, as an attacker with patience would have it; ``--held ROWS`` lets their state hold so many rows at most,
so that the rest is known by its counts alone. The first line is then the clean data, in as many deliveries.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import foretaste
from foretaste.policy import Policy
from foretaste.reading import open_data

sys.path.insert(0, str(Path(__file__).parent))
import clean
from recipes import ATTACKS, Attack, Columns

ROLES = ("text", "label", "prompt", "context", "response", "chosen", "rejected", "source", "id")
POLICY = Policy.load({"power": {"measure": "never"}})
ANSWERED = ("prompt", "response", "chosen", "rejected")
Peer = Callable[[Columns], np.ndarray]


def load(data: Any, roles: dict[str, str | None]) -> tuple[Columns, str]:
    """Canonical columns and the kind of the data."""
    dataset = open_data(data, foretaste.Roles.from_mapping(roles))
    columns: Columns = {}
    for batch in dataset.batches():
        for role in batch.roles:
            columns.setdefault(role, []).extend(batch.strings(role).to_pylist())
    return columns, dataset.kind


def scan(columns: Columns) -> tuple[str, np.ndarray, np.ndarray, float]:
    """Verdict, rows that block, rows that any finding names, seconds."""
    clock = time.perf_counter()
    report = foretaste.scan(pa.table(columns), POLICY, roles={role: role for role in columns})
    seconds = time.perf_counter() - clock
    size = len(next(iter(columns.values())))
    block, either = np.zeros(size, bool), np.zeros(size, bool)
    block[list(report.flagged_rows(foretaste.Severity.BLOCK))] = True
    either[list(report.flagged_rows())] = True
    return report.verdict.value, block, either, seconds


def drip(
    columns: Columns, attack: Attack | None, dose: int, parts: int, seed: int, policy: Policy = POLICY
) -> tuple[np.ndarray, str, np.ndarray, np.ndarray, float]:
    """Poisoned rows, the worst verdict, and what was flagged, of a dose that comes in several deliveries.

    The deliveries share a state. Rows of an earlier delivery that a later finding names are flagged as well: whoever reads
    the report can take them out.
    """
    size = len(next(iter(columns.values())))
    planted, poisoned = (
        (columns, np.zeros(size, bool)) if attack is None else attack.plant(columns, dose, np.random.default_rng(seed))
    )
    size = len(poisoned)
    planted = planted | {"id": [f"row-{r}" for r in range(size)]}
    number = np.empty(size, np.int64)
    for mine in (poisoned, ~poisoned):  # each delivery gets its part of both
        number[mine] = np.arange(mine.sum()) % parts
    block, either = np.zeros(size, bool), np.zeros(size, bool)
    verdicts, clock = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for part in range(parts):
            rows = np.flatnonzero(number == part).tolist()
            delivery = pa.table({role: [values[r] for r in rows] for role, values in planted.items()})
            report = foretaste.scan(delivery, policy, roles={r: r for r in planted}, state=Path(folder) / "state")
            verdicts.append(report.verdict.value)
            for finding in report.findings:
                named = [*finding.ids, *(name.rsplit(" (batch ", 1)[0] for name in finding.earlier)]
                flagged = [int(name.removeprefix("row-")) for name in named]
                either[flagged] = True
                block[flagged] |= finding.severity is foretaste.Severity.BLOCK
    worst = next((v for v in ("error", "block", "review") if v in verdicts), "pass")
    return poisoned, worst, block, either, time.perf_counter() - clock


def row_of(
    name: str, dose: int, mask: np.ndarray, verdict: str, block: np.ndarray, either: np.ndarray
) -> dict[str, Any]:
    """One line of the table."""
    poisoned, clean = max(1, int(mask.sum())), max(1, int((~mask).sum()))
    recall = float((block & mask).sum() / poisoned)
    return {
        "attack": name,
        "poisoned": int(mask.sum()),
        "dose": dose,
        "verdict": verdict,
        "caught": verdict == "block" and recall >= 0.5 if mask.any() else None,
        "block_recall": round(recall, 3),
        "block_false_positive_rate": round(float((block & ~mask).sum() / clean), 6),
        "any_recall": round(float((either & mask).sum() / poisoned), 3),
        "any_false_positive_rate": round(float((either & ~mask).sum() / clean), 6),
    }


# ---- peers, with their own defaults ------------------------------------------------------------------------------


def token_z(columns: Columns) -> np.ndarray:
    """Token-label z-statistics (Z-defence, He et al. 2023): rows with a token beyond mean + 20 standard deviations."""
    from sklearn.feature_extraction.text import CountVectorizer

    x = CountVectorizer(binary=True, token_pattern=r"\S+").fit_transform(columns["text"]).tocsc()
    labels = np.array(columns["label"])
    flagged = np.zeros(x.shape[0], bool)
    n = np.asarray(x.sum(axis=0)).ravel()
    for label in np.unique(labels):
        mine = labels == label
        share = mine.mean()
        z = (np.asarray(x[mine].sum(axis=0)).ravel() / n - share) / np.sqrt(share * (1 - share) / n)
        odd = np.flatnonzero(z > z.mean() + 20 * z.std())
        if len(odd):
            flagged |= (np.asarray(x[:, odd].sum(axis=1)).ravel() > 0) & mine
    return flagged


def spectral(columns: Columns) -> np.ndarray:
    """Spectral signatures (Tran et al. 2018): per class the 1.5 % with the largest score on the top singular vector."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    x = TruncatedSVD(50, random_state=0).fit_transform(TfidfVectorizer(min_df=2).fit_transform(columns["text"]))
    labels = np.array(columns["label"])
    flagged = np.zeros(len(x), bool)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        centred = x[mine] - x[mine].mean(axis=0)
        _, _, v = np.linalg.svd(centred, full_matrices=False)
        scores = (centred @ v[0]) ** 2
        flagged[mine[np.argsort(-scores)[: int(np.ceil(0.015 * len(mine)))]]] = True
    return flagged


def label_issues(columns: Columns) -> np.ndarray:
    """Confident learning (cleanlab's find_label_issues) on out-of-fold probabilities of a linear model."""
    from cleanlab.filter import find_label_issues
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    x = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2).fit_transform(columns["text"])
    _, y = np.unique(columns["label"], return_inverse=True)
    p = cross_val_predict(LogisticRegression(max_iter=200), x, y, cv=3, method="predict_proba")
    return np.asarray(find_label_issues(y, p))


def minhash(columns: Columns) -> np.ndarray:
    """MinHash LSH (datasketch) at Jaccard 0.7 over words: rows in clusters of five or more."""
    from datasketch import MinHash, MinHashLSH

    texts = columns.get("text") or columns.get("prompt") or columns["chosen"]
    lsh, kept = MinHashLSH(threshold=0.7, num_perm=64), []
    for i, text in enumerate(texts):
        m = MinHash(num_perm=64)
        m.update_batch([w.encode() for w in set(text.split())])
        lsh.insert(i, m)
        kept.append(m)
    return np.array([len(lsh.query(m)) >= 5 for m in kept])


def injection_patterns(columns: Columns) -> np.ndarray:
    """What a scanner of injection phrases looks for: "ignore previous instructions" and its kin, invisible characters."""
    pattern = re.compile(
        r"ignore (all |the )?(previous|prior|above)|disregard .{0,20}instructions|system prompt|you are now|<!--"
        r"|[\u200b-\u200f\u202a-\u202e\u2060-\u2064\U000e0000-\U000e007f]",
        re.IGNORECASE,
    )
    rows = zip(*(columns[r] for r in ("text", *ANSWERED) if r in columns))
    return np.array([any(pattern.search(value) for value in row) for row in rows])


def repeated(columns: Columns) -> np.ndarray:
    """Rows whose response, or chosen answer, stands in ten rows or more, letter for letter."""
    answers = columns.get("response") or columns["chosen"]
    counts = Counter(answers)
    return np.array([counts[answer] >= 10 for answer in answers])


def pair_issues(columns: Columns) -> np.ndarray:
    """Confident learning (cleanlab) on which of two answers is the chosen one, from the difference of their words."""
    from cleanlab.filter import find_label_issues
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)
    words.fit(columns["chosen"] + columns["rejected"])
    x = words.transform(columns["chosen"]) - words.transform(columns["rejected"])
    y = np.random.default_rng(0).integers(0, 2, x.shape[0])  # which of the two is shown first
    x = x.multiply(np.where(y == 1, 1.0, -1.0)[:, None]).tocsr()
    p = cross_val_predict(LogisticRegression(max_iter=200), x, y, cv=3, method="predict_proba")
    return np.asarray(find_label_issues(y, p))


PEERS: dict[str, tuple[Peer, str, frozenset[str]]] = {
    "token z-statistics": (token_z, "sklearn", frozenset({"classification"})),
    "spectral signatures": (spectral, "sklearn", frozenset({"classification"})),
    "cleanlab label issues": (label_issues, "cleanlab", frozenset({"classification"})),
    "cleanlab on pairs": (pair_issues, "cleanlab", frozenset({"preference"})),
    "answers repeated >= 10": (repeated, "re", frozenset({"instruct", "preference"})),
    "MinHash clusters >= 5": (minhash, "datasketch", frozenset(clean.MAKERS)),
    "injection patterns": (injection_patterns, "re", frozenset(clean.MAKERS)),
}


def peers_for(kind: str) -> Iterator[tuple[str, Peer]]:
    """Peers that are installed and fit the kind of data."""
    for name, (peer, module, kinds) in PEERS.items():
        if importlib.util.find_spec(module) and kind in kinds:
            yield name, peer


# ---- the run -----------------------------------------------------------------------------------------------------


def show(line: dict[str, Any]) -> None:
    """Print one line of the table."""
    caught = {True: "caught", False: "missed", None: "clean"}[line["caught"]]
    print(
        f"{line['attack']:<31} {line['poisoned']:>4}  {line['method']:<22} {line['verdict']:<6} {caught:<6} "
        f"block recall {line['block_recall']:.2f} fpr {line['block_false_positive_rate']:.4f} | "
        f"any {line['any_recall']:.2f} fpr {line['any_false_positive_rate']:.4f} | {line['seconds']:.1f} s",
        flush=True,
    )


def evaluate(columns: Columns, kind: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Lines of the table: the clean data, then every attack that fits, ours before the peers."""
    size = len(next(iter(columns.values())))

    def lines(name: str, dose: int, planted: Columns, mask: np.ndarray) -> Iterator[dict[str, Any]]:
        verdict, block, either, seconds = scan(planted)
        yield row_of(name, dose, mask, verdict, block, either) | {"method": "foretaste", "seconds": round(seconds, 2)}
        for peer, method in peers_for(kind) if options.peers else ():
            clock = time.perf_counter()
            flagged = method(planted)
            verdict = "block" if flagged.sum() >= 10 else "pass"
            line = row_of(name, dose, mask, verdict, flagged, flagged)
            yield line | {"method": peer, "seconds": round(time.perf_counter() - clock, 2)}

    held = {"history": {"rows": options.held}} if options.held else {}
    policy = Policy.load({"power": {"measure": "never"}} | held)

    def dripped(attack: Attack | None, dose: int) -> dict[str, Any]:
        mask, verdict, block, either, seconds = drip(columns, attack, dose, options.drip, options.seed, policy)
        name = f"{attack.name if attack else '(clean)'} in {options.drip} parts"
        return row_of(name, dose, mask, verdict, block, either) | {"method": "foretaste", "seconds": round(seconds, 2)}

    if options.drip > 1:
        yield dripped(None, 0)
    else:
        yield from lines("(clean)", 0, columns, np.zeros(size, bool))
    for attack in ATTACKS:
        if kind not in attack.kinds or (options.attacks and not any(a in attack.name for a in options.attacks)):
            continue
        for dose in options.doses:
            if dose > size // 10:
                continue
            if options.drip > 1:
                yield dripped(attack, dose)
            else:
                yield from lines(attack.name, dose, *attack.plant(columns, dose, np.random.default_rng(options.seed)))


def main() -> None:
    """Plant, scan, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    for role in ROLES:
        parser.add_argument(f"--{role}")
    parser.add_argument("--kinds", nargs="+", default=list(clean.MAKERS), choices=list(clean.MAKERS))
    parser.add_argument("--doses", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--attacks", nargs="*", default=[], help="only attacks whose name holds one of these")
    parser.add_argument("--drip", type=int, default=1, help="deliveries over which a dose is spread")
    parser.add_argument("--held", type=int, help="rows whose text the state of a drip holds, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    made = {k: clean.MAKERS[k](options.seed) for k in options.kinds} if options.data is None else {"": options.data}
    results = []
    for data in made.values():
        columns, kind = load(data, {role: getattr(options, role) for role in ROLES})
        rows = len(next(iter(columns.values())))
        print(f"{options.data or 'made from the installed packages'}: {rows:,} rows, {kind}\n")
        found = []
        for line in evaluate(columns, kind, options):
            found.append({"kind": kind, "rows": rows} | line)
            show(line)
        ours = [r for r in found if r["method"] == "foretaste" and r["caught"] is not None]
        print(f"\nforetaste caught {sum(r['caught'] for r in ours)} of {len(ours)}\n")
        results += found
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
