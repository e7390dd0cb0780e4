"""Counter-examples: the rows most like those that a finding shows, without its trigger and with another output.

A person judges a finding by what the output would have been without the trigger. So for the few rows that the report
shows, and for nothing else, the row most like each of them is looked for once all checks are done: by the cosine of
their words, weighted by rarity, in two passes over the data that all findings share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import RawExample, RawFinding, RawResult, Severity
from foretaste.sweep import Data, Itself, Part

if TYPE_CHECKING:
    from foretaste.text.nearest import Nearest
    from foretaste.text.rowstore import RowStore

MAX_FINDINGS = 24
MAX_ROWS = 1_000_000  # rows from the head of the data among which twins are looked for
PAIRS = 4  # rows of a finding that are shown with a twin
LEAST_COSINE = 0.2
HEAD_TOKENS = 8  # responses that begin with the same tokens teach the same
_CELLS = 1 << 20

_State = TypeVar("_State", "_Words", "_Search")
Results = dict[str, tuple[RawResult | str, float]]


@dataclass
class _Words:
    """Words and outputs of the rows to compare, and in how many rows each word stands."""

    store: RowStore
    rows: int = 0
    presence: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(_CELLS, np.uint32))
    outputs: dict[int, int] = field(default_factory=dict)

    def scan(self, batch: Batch) -> None:
        from foretaste.text.nearest import count_presence

        if batch.start < MAX_ROWS:
            tokens = batch.tokens("input")
            count_presence(tokens.hashes, tokens.offsets, self.presence)
            self.rows += batch.num_rows
        low, high = np.searchsorted(self.store.rows, [batch.start, batch.start + batch.num_rows])
        outputs = _outputs(batch) if low < high else None
        if outputs is not None:
            self.outputs |= {r: int(outputs[r - batch.start]) for r in self.store.rows[low:high].tolist()}
        self.store.scan(batch)

    def merge(self, other: _Words) -> None:
        self.store.parts += other.store.parts
        self.store.lengths += other.store.lengths
        self.presence += other.presence
        self.rows += other.rows
        self.outputs |= other.outputs


@dataclass
class _Search:
    """The row most like each query so far."""

    words: _Words
    found: Nearest

    def scan(self, batch: Batch) -> None:
        if batch.start < MAX_ROWS:
            tokens = batch.tokens("input")
            self.found.scan(
                tokens.hashes, tokens.offsets, batch.start, self.words.presence, self.words.rows, _outputs(batch)
            )

    def merge(self, other: _Search) -> None:
        self.found.add(other.found)


def with_twins(data: Data, raw: Results) -> Results:
    """The results, with a counter-example beside the rows of every finding that asks for them.

    Args:
        data: what the row numbers of the findings count.
        raw: result, or error text, and seconds by check.
    """
    if not {"text", "prompt", "context"} & data.canonical_roles:
        return raw
    asking = [f for r, _ in raw.values() if isinstance(r, RawResult) for f in r.findings if f.twins and f.examples]
    asking.sort(key=lambda f: (f.severity is not Severity.BLOCK, -len(f.rows)))
    asking = asking[:MAX_FINDINGS]
    if not asking:
        return raw
    from foretaste.text.rowstore import RowStore

    shown = [_shown(f) for f in asking]
    queries = np.concatenate(shown)
    words = _swept(data, _Words(RowStore(np.unique(queries))))
    best, match = _search(data, words, asking, shown, queries)
    made: dict[int, tuple[RawExample, ...]] = {}
    for finding, mine in zip(asking, np.split(np.arange(len(queries)), np.cumsum([len(s) for s in shown])[:-1])):
        twins = {int(queries[q]): int(match[q]) for q in mine.tolist() if best[q] >= LEAST_COSINE}
        made[id(finding)] = tuple(_side_by_side(finding, twins))
    return {
        check: (_replaced(result, made) if isinstance(result, RawResult) else result, seconds)
        for check, (result, seconds) in raw.items()
    }


def _search(
    data: Data,
    words: _Words,
    asking: list[RawFinding],
    shown: list[npt.NDArray[np.int64]],
    queries: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Cosine and row number of the best match of each query."""
    from foretaste.text.nearest import search_for

    tokens, offsets = words.store.tokens()
    members = [np.union1d(f.rows, f.twins.excluded if f.twins else f.rows) for f in asking]
    outputs = np.array([words.outputs[q] for q in queries.tolist()], np.uint64) if words.outputs else None
    found = search_for(
        tokens, offsets, words.store.index(queries), np.repeat(np.arange(len(shown)), [len(s) for s in shown]),
        [_tokens_of(f.twins.trigger if f.twins else "") for f in asking], members, words.presence, words.rows, outputs,
    )  # fmt: skip
    nearest = _swept(data, _Search(words, found)).found
    return nearest.best, nearest.best_row


def _swept(data: Data, state: _State) -> _State:
    part = Part(Itself(), state)
    data.sweep([part], lambda rows: None)
    if part.error is not None:
        raise part.error
    swept: _State = part.state
    return swept


def _shown(finding: RawFinding) -> npt.NDArray[np.int64]:
    rows = dict.fromkeys(e.row for e in finding.examples if not e.counter)
    return np.array(list(rows), np.int64)


def _side_by_side(finding: RawFinding, twins: Mapping[int, int]) -> list[RawExample]:
    """The finding's rows, each of the first with its twin behind it; a twin stands once."""
    paired: list[RawExample] = []
    alone: list[RawExample] = []
    seen: set[int] = set()
    for example in finding.examples:
        twin = twins.get(example.row)
        if example.counter:
            alone.append(example)
        elif twin is None or twin in seen or len(seen) == PAIRS:
            alone.insert(0, example)
        else:
            seen.add(twin)
            paired += [example, RawExample(row=twin, counter=True)]
    return [*paired, *alone]


def _replaced(result: RawResult, made: Mapping[int, tuple[RawExample, ...]]) -> RawResult:
    findings = [dataclasses.replace(f, examples=made[id(f)]) if id(f) in made else f for f in result.findings]
    return dataclasses.replace(result, findings=tuple(findings))


def _outputs(batch: Batch) -> npt.NDArray[np.uint64] | None:
    """What each row teaches, as a hash: its label, or how its response begins; ``None`` where data teach neither so."""
    from foretaste.text.heads import hash_heads
    from foretaste.text.tokens import hash_rows

    if batch.kind == "classification":
        return hash_rows(*batch.buffers("label"))
    if batch.kind == "instruct":
        tokens = batch.tokens("response")
        return hash_heads(tokens.hashes, tokens.offsets, HEAD_TOKENS)
    return None


def _tokens_of(text: str) -> npt.NDArray[np.uint64]:
    from foretaste.text.tokens import tokenize

    raw = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    return tokenize(raw, np.array([0, len(raw)], np.int64)).hashes
