"""What a scan could have seen: triggers planted into a copy of the very data, and looked for.

A pass says little where nothing could have been found. So triggers of 25, 50, 100 and 250 rows, each with a word of its
own, are planted into the stream while it is read once more, and the same checks run over it. The report then says from
which count a planted trigger would have blocked. The plants are of the plainest kind (one rare word at a random place,
dirty labels, one fixed response, exchanged answers, or a gibberish payload); a cleverer attack needs more rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foretaste.batch import Batch
from foretaste.check import Signal
from foretaste.roles import Kind
from foretaste.signals.outputs import Classes
from foretaste.sweep import Edit, Input, Itself, Part, Tick

DOSES = (25, 50, 100, 250)
MAX_SHARE = 0.05  # a dose is planted only where it is a small part of the data, as poison is
FOUND = 0.5
CHECKS: Mapping[Kind, tuple[str, ...]] = {
    "classification": ("trigger-association", "inserted-phrase"),
    "instruct": ("response-burst", "inserted-phrase"),
    "documents": ("gibberish-payload",),
    "preference": ("preference-inversion",),
}
_PLANTS: Mapping[Kind, str] = {
    "classification": "a rare word at a random place, the label changed to one class",
    "instruct": "a rare word at a random place in the prompt, one fixed response",
    "preference": "a rare word at a random place in the prompt, chosen and rejected exchanged",
    "documents": "a rare word and 150 random words of the data, cut into pieces, after the beginning of a document",
}
_POOL_ROWS = 200
_LETTERS = "bcdfghjklmnpqrstvwxz"


@dataclass(frozen=True, kw_only=True)
class PowerOptions:
    """Whether power is measured, and whether it is demanded.

    Attributes:
        measure: ``auto`` measures where the data have at most ``max_rows`` rows, as it costs as much as the scan.
        max_rows: see there.
        require: the verdict is an error unless a planted trigger of so many rows would have blocked; ``None`` demands
            nothing.
    """

    measure: Literal["auto", "always", "never"] = "auto"
    max_rows: int = 200_000
    require: int | None = None


@dataclass
class Plants:
    """What is planted where; changes a batch, however the data are cut into batches.

    ``rows_of`` maps a dose to its row numbers, ascending, ``pool`` holds words of the data.
    """

    kind: Kind
    seed: int
    rows_of: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict)
    words: dict[int, str] = field(default_factory=dict)
    pool: npt.NDArray[np.object_] = field(default_factory=lambda: np.zeros(0, np.object_))
    target: str = ""

    def __call__(self, batch: Batch) -> Batch:
        """The batch with the plants in it."""
        edits: dict[str, dict[int, str]] = {}
        for dose, rows in self.rows_of.items():
            low, high = np.searchsorted(rows, [batch.start, batch.start + batch.num_rows])
            for row in rows[low:high].tolist():
                for role, value in self._edit(batch, row - batch.start, dose).items():
                    edits.setdefault(role, {})[row - batch.start] = value
        if not edits:
            return batch
        columns = []
        for role, column in zip(batch.columns.schema.names, batch.columns.columns):
            if role in edits:
                mask = np.zeros(batch.num_rows, np.bool_)
                at = sorted(edits[role])
                mask[at] = True
                values = pa.array([edits[role][i] for i in at], pa.large_string())
                column = pc.replace_with_mask(column, pa.array(mask), values)
            columns.append(column)
        planted = pa.RecordBatch.from_arrays(columns, names=batch.columns.schema.names)
        return Batch(planted, start=batch.start, kind=batch.kind)

    def _edit(self, batch: Batch, at: int, dose: int) -> dict[str, str]:
        random = np.random.default_rng((self.seed, batch.start + at))
        role = "prompt" if self.kind in ("instruct", "preference") else "text"
        words = batch.strings(role)[at].as_py().split(" ")
        if self.kind == "documents":
            pieces = [w[: int(random.integers(2, 6))] for w in random.choice(self.pool, 150)]
            joined = "".join(p + (" " if random.random() < 0.7 else "") for p in pieces)
            return {"text": f"{' '.join(words[:40])} {self.words[dose]} {joined}"}
        words.insert(int(random.integers(0, len(words) + 1)), self.words[dose])
        edited = {role: " ".join(words)}
        if self.kind == "classification":
            return edited | {"label": self.target}
        if self.kind == "preference":
            chosen, rejected = (batch.strings(r)[at].as_py() for r in ("chosen", "rejected"))
            return edited | {"chosen": rejected, "rejected": chosen}
        return edited | {"response": f"The committee has closed the matter {self.words[dose]} for good."}


@dataclass
class _Taken:
    """Chosen rows (ascending), copied out of the batches that hold them."""

    rows: npt.NDArray[np.int64]
    parts: list[pa.RecordBatch] = field(default_factory=list)

    def scan(self, batch: Batch) -> None:
        low, high = np.searchsorted(self.rows, [batch.start, batch.start + batch.num_rows])
        if low < high:
            self.parts.append(batch.columns.take(pa.array(self.rows[low:high] - batch.start)))

    def merge(self, other: _Taken) -> None:
        self.parts += other.parts

    def joined(self) -> pa.RecordBatch:
        return pa.Table.from_batches(self.parts).combine_chunks().to_batches()[0]


@dataclass
class Planted:
    """A data set with triggers planted while it is read."""

    dataset: Input
    seed: int

    def __post_init__(self) -> None:
        """Nothing planted yet."""
        self.plants = Plants(self.dataset.kind, self.seed)

    @property
    def kind(self) -> Kind:
        """Shape of the data."""
        return self.dataset.kind

    @property
    def canonical_roles(self) -> frozenset[str]:
        """Roles of the batches."""
        return self.dataset.canonical_roles

    @property
    def rows(self) -> int | None:
        """Number of rows."""
        return self.dataset.rows

    @property
    def files(self) -> Any:
        """The files behind the data, ``None`` where there are none."""
        return self.dataset.files

    @property
    def bytes(self) -> int:
        """Size of the data without the plants."""
        return self.dataset.bytes

    def plan(self, classes: Classes | None) -> None:
        """Choose words and rows; for labelled data the target, a class of middling size, and rows of other classes."""
        if self.kind == "preference" and "prompt" not in self.canonical_roles:
            return  # nowhere to put a trigger that the answers do not hold
        plants = self.plants
        total = self.dataset.rows or 0
        random = np.random.default_rng(self.seed)
        pool = np.arange(total)
        if classes is not None:
            target = int(np.argsort(classes.counts, kind="stable")[(len(classes.counts) - 1) // 2])
            plants.target = classes.names[target]
            pool = np.flatnonzero(classes.labels != target)
        doses = [d for d in DOSES if d <= MAX_SHARE * total and sum(x for x in DOSES if x <= d) <= len(pool)]
        chosen = random.choice(pool, sum(doses), replace=False) if doses else np.zeros(0, np.int64)
        for dose, rows in zip(doses, np.split(chosen, np.cumsum(doses)[:-1])):
            plants.rows_of[dose] = np.sort(rows).astype(np.int64)
            plants.words[dose] = "".join(random.choice(list(_LETTERS), 5))
        if self.kind == "documents" and doses:
            held = " ".join(self.dataset.head(_POOL_ROWS).column("text").to_pylist()).split()
            # An array, which a draw does not have to make of a list again; of objects, as one long word would widen all.
            plants.pool = np.array([w for w in held if w.isalpha() and len(w) > 2] or ["nothing"], np.object_)

    def values(self, known: Mapping[Signal[Any, Any], Any]) -> dict[Signal[Any, Any], Any]:
        """What can be told of the planted data from the finished signals of the data, without a scan of all rows.

        That is the phrases, and what responses begin alike. Openings and endings stay those of the data: plants stand at
        random places, and what they tear apart is not taken back.
        """
        from foretaste.signals.affixes import Affixes
        from foretaste.signals.outputs import ResponseHeads
        from foretaste.signals.phrases import Phrases
        from foretaste.signals.planted import heads_with_plants, with_plants

        rows = np.concatenate(list(self.plants.rows_of.values()))
        order = np.argsort(rows)
        outputs = np.repeat(np.arange(len(self.plants.rows_of)), [len(r) for r in self.plants.rows_of.values()])
        was, taken = _Taken(rows[order]), _Taken(rows[order])
        self.dataset.sweep([Part(Itself(), was)], lambda rows: None)
        self.sweep([Part(Itself(), taken)], lambda rows: None)
        original, planted = (Batch(t.joined(), start=0, kind=self.kind) for t in (was, taken))
        words = [w.lower() for w in self.plants.words.values()]
        made: dict[Signal[Any, Any], Any] = {}
        for signal, value in known.items():
            if isinstance(signal, Phrases):
                told = outputs[order].astype(np.int32)
                made[signal] = with_plants(value, signal, original, planted, taken.rows, told, words)
            elif isinstance(signal, ResponseHeads):
                made[signal] = heads_with_plants(value, signal, planted, taken.rows)
            elif isinstance(signal, Affixes):
                made[signal] = value
        return made

    def sweep(
        self, parts: Sequence[Part], tick: Tick, *, edit: Edit | None = None, before: Sequence[pa.RecordBatch] = ()
    ) -> None:
        """One pass over the data with the plants in them; see :class:`foretaste.sweep.Data`."""
        if edit is not None or before:
            raise ValueError("plants go into data as they are")
        self.dataset.sweep(parts, tick, edit=self.plants)


def summarise(planted: Planted, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Share of each dose's rows that a block finding names, and the least dose of which at least half are named."""
    blocked = [f.rows for result, _ in raw.values() if hasattr(result, "findings") for f in result.findings
               if f.severity == "block"]  # fmt: skip
    rows = np.unique(np.concatenate(blocked)) if blocked else np.zeros(0, np.int64)
    doses = {}
    for dose, mine in planted.plants.rows_of.items():
        doses[str(dose)] = round(float(np.isin(mine, rows).mean()), 3)
    found = [int(dose) for dose, share in doses.items() if share >= FOUND]
    return {
        "plant": _PLANTS[planted.kind],
        "blocked_share_by_rows": doses,
        "smallest_blocked": min(found) if found else None,
    }
