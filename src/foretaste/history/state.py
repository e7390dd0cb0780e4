"""The state of what was accepted, and how a batch enters it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foretaste._version import __version__
from foretaste.background import Background
from foretaste.check import Context, RawResult, together
from foretaste.errors import StateError
from foretaste.history.counting import absorb, arrays_of, background_of
from foretaste.history.file import FORMAT, damaged, pack, unpack
from foretaste.history.rows import Keep, Rows, Survey, described, fitting, ids_of, signatures_of, sizes_of, sweep
from foretaste.history.store import Store
from foretaste.history.view import View
from foretaste.results import Outcome, Report
from foretaste.roles import Kind
from foretaste.sweep import Input, Itself, Part

if TYPE_CHECKING:
    from foretaste.policy import Policy
    from foretaste.signals.sources import SourceNumbers

MAX_LISTED = 1000


@dataclass(frozen=True, kw_only=True)
class HistoryOptions:
    """What a state keeps.

    Attributes:
        accept: the worst verdict with which a batch enters the state; ``review`` lets training start, so what is trained
            on is remembered.
        rows: rows whose text is held, at most.
        bytes: bytes of text that are held, at most.
        signatures: rows whose near-duplicates are named, at most; the last ones.
    """

    accept: Literal["review", "pass"] = "review"
    rows: int = 20_000
    bytes: int = 64 << 20
    signatures: int = 200_000

    def __post_init__(self) -> None:
        """Refuse a budget that keeps nothing.

        Raises:
            ValueError: naming the value.
        """
        if self.rows < 2 or self.bytes < 2 or self.signatures < 0:
            raise ValueError(
                f"rows and bytes must be 2 or more and signatures 0 or more, not {self.rows}, {self.bytes} and "
                f"{self.signatures}; to keep no history, scan without a state"
            )


@dataclass
class History:
    """The state of what was accepted; see the module's documentation. Made by :meth:`load`.

    Attributes:
        kind: shape of the data.
        roles: canonical roles of the data.
        batches: accepted batches, oldest first: ``batch`` (from 1), ``digest``, ``name``, ``rows``, ``accepted``
            (time, UTC), ``verdict``, ``policy``, ``version``.
        sources: rows per source, of all accepted batches; empty where the data name no source.
        held: rows that are held, suspects first, then the window: canonical columns, ``_batch``, ``_row`` (from 0, in
            its batch) and ``_id``.
        suspects: how many suspects there are.
        seen: ``id``, ``batch``, ``text`` (hash) and ``signature`` of the last rows.
        background: counts of the rows that are not held.
    """

    store: Store
    kind: Kind
    roles: frozenset[str]
    batches: list[dict[str, Any]] = field(default_factory=list)
    sources: dict[str, int] = field(default_factory=dict)
    held: pa.Table | None = None
    suspects: int = 0
    seen: pa.Table | None = None
    background: Background = field(default_factory=Background)
    digest: str | None = None
    replay: int | None = None
    watched: list[Rows] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows of all accepted batches."""
        return sum(b["rows"] for b in self.batches)

    @property
    def held_rows(self) -> int:
        """Rows whose text is held."""
        return 0 if self.held is None else int(self.held.num_rows)

    @classmethod
    def load(cls, store: Store, dataset: Input) -> History:
        """The state at a place, to judge these data; an empty one where there is none.

        Raises:
            StateError: if it cannot be read, is damaged, was made by another algorithm, or does not fit the data.
        """
        content = store.read()
        if content is None:
            return cls(store, dataset.kind, dataset.canonical_roles)
        history = cls.read(store, content)
        if history.kind != dataset.kind or history.roles != dataset.canonical_roles:
            raise StateError(
                f"the state {store.path} holds {history.kind} data with the roles {', '.join(sorted(history.roles))}; "
                f"these are {dataset.kind} data with {', '.join(sorted(dataset.canonical_roles))}; name the same roles "
                "as before, or another state"
            )
        history._leave_out(dataset)
        return history

    @classmethod
    def open(cls, path: str | Path | Store) -> History:
        """The state at a path, to look at.

        Raises:
            StateError: if there is none, or it cannot be read.
        """
        store = path if isinstance(path, Store) else Store(str(path))
        content = store.read()
        if content is None:
            raise StateError(f"no state at {store.path}; a scan with --state {store.path} makes one")
        return cls.read(store, content)

    def _leave_out(self, dataset: Input) -> None:
        """A batch that is scanned again is not judged by its own rows."""
        if not self.batches:
            return
        self.replay = next((b["batch"] for b in self.batches if b["digest"] == dataset.digest), None)
        if self.replay is None:
            return
        if self.held is not None:
            others = np.asarray(self.held.column("_batch")) != self.replay
            self.suspects = int(others[: self.suspects].sum())
            self.held = self.held.filter(pa.array(others))
        if self.seen is not None:
            self.seen = self.seen.filter(pc.not_equal(self.seen.column("batch"), self.replay))
        mine = Counter(_rows_by_source(dataset))
        self.sources = {name: rows - mine[name] for name, rows in self.sources.items() if rows > mine[name]}

    def views(self, policy: Policy) -> tuple[View, ...]:
        """How the checks see history: one view while all rows are held, two as soon as there are suspects."""
        every = [c.id for c in policy.checks]
        if not self.suspects:
            return (self._view(every, 0),)
        gathering = [c.id for c in policy.checks if c.accumulates]
        rating = [i for i in every if i not in gathering]
        views = [self._view(rating, self.suspects)] if rating else []
        return (*views, self._view(gathering, 0)) if gathering else tuple(views)

    def _view(self, checks: list[str], first: int) -> View:
        index = np.arange(first, self.held_rows, dtype=np.int64)
        suspects = self.suspects if first == 0 else 0
        background = dataclasses.replace(self.background, suspects=suspects, sources=self.sources, before=len(index))
        return View(tuple(checks), tuple(self._canonical(first)), index, self.held_rows, background)

    def _canonical(self, first: int = 0) -> Iterator[pa.RecordBatch]:
        if self.held is None or self.held_rows <= first:
            return
        table = self.held.slice(first).select([n for n in self.held.schema.names if not n.startswith("_")])
        for batch in table.combine_chunks().to_batches(max_chunksize=1 << 14):
            # Columns start at offset 0, so that a check may read their buffers as they are.
            yield pa.RecordBatch.from_arrays([pa.concat_arrays([c]) for c in batch.columns], schema=batch.schema)

    def summary(self) -> dict[str, Any]:
        """The state in plain values, without any row."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "roles": sorted(self.roles),
            "batches": self.batches,
            "rows": self.rows,
            "held_rows": self.held_rows,
            "suspects": self.suspects,
            "background_rows": self.background.rows,
            "sources": self.sources,
            "digest": self.digest,
        }

    def names(self, index: Rows) -> tuple[str, ...]:
        """``id (batch n)`` of held rows."""
        if self.held is None or not len(index):
            return ()
        part = self.held.select(["_id", "_batch"]).take(pa.array(index))
        return tuple(f"{i} (batch {b})" for i, b in zip(part["_id"].to_pylist(), part["_batch"].to_pylist()))

    def remember(self, raw: Mapping[str, tuple[RawResult | str, float]]) -> None:
        """Note the rows that the checks of a scan want to see again."""
        self.watched = [r.watch for r, _ in raw.values() if isinstance(r, RawResult) and len(r.watch)]

    def settle(
        self, report: Report, dataset: Input, policy: Policy, *, advance: bool, accept: Literal["review", "pass"]
    ) -> Report:
        """The report with what the history says, after the state took the batch in, where it is accepted.

        Raises:
            StateError: if the state was changed by another scan meanwhile, or cannot be written.
        """
        from foretaste.signals.near_duplicates import NearDuplicates
        from foretaste.signals.sources import Sources

        total = dataset.rows or 0
        context = Context(dataset.kind, dataset.canonical_roles, {}, policy.seed)
        survey = Part(Itself(), Survey(max(0, total - policy.history.signatures)))
        signed, sources = (Part(s, s.start(context)) for s in (NearDuplicates(), Sources()))
        sweep(dataset, [survey, signed, sources])
        signatures, texts = signed.state.signatures.whole(), signed.state.texts.whole()
        told: dict[str, Any] = {
            "state": self.store.path,
            "batches": len(self.batches),
            "rows": self.rows,
            "held_rows": self.held_rows,
            "background_rows": self.background.rows,
            "near_duplicates": self._near(dataset, signatures, texts),
            "advanced": False,
        }
        accepted = report.verdict is Outcome.PASS or (report.verdict is Outcome.REVIEW and accept == "review")
        if self.replay is not None:
            told["note"] = (
                f"these data are batch {self.replay} of the state; they were judged without it, and not added"
            )
        elif not advance:
            told["note"] = "the state was left as it is, as asked"
        elif not accepted:
            told["note"] = f"the verdict is {report.verdict.value}, so these data did not enter the state"
        else:
            self._take(
                report, dataset, policy, context, survey.state, signatures, texts, Sources().value(sources.state)
            )
            self.store.replace(self.write(), self.digest)
            told["advanced"] = True
            told["note"] = f"these data are batch {len(self.batches)} of the state" + (
                "; the state is new" if len(self.batches) == 1 else ""
            )
        return dataclasses.replace(report, history=told)

    def _near(self, dataset: Input, signatures: npt.NDArray[np.uint8], texts: npt.NDArray[np.uint64]) -> dict[str, Any]:
        """New rows that are near-duplicates of earlier ones, with the earlier row of each."""
        from foretaste.text.minhash import BINS, nearest_earlier

        if self.seen is None or not self.seen.num_rows:
            return {"rows": 0, "listed": []}
        old = signatures_of(self.seen)
        match, agree = nearest_earlier(old, np.asarray(self.seen.column("text")), signatures, texts)
        found = np.flatnonzero(match >= 0)
        shown = found[:MAX_LISTED]
        keep = Part(Itself(), Keep(shown))
        if len(shown):
            sweep(dataset, [keep])
        ids = [i for part in keep.state.parts for i in ids_of(part)]
        earlier = self.seen.select(["id", "batch"]).take(pa.array(match[shown])).to_pylist()
        listed = [
            {"row": int(r), "id": i, "earlier": e["id"], "batch": e["batch"], "similarity": round(int(a) / BINS, 2)}
            for r, i, e, a in zip(shown.tolist(), ids, earlier, agree[shown].tolist())
        ]
        return {"rows": len(found), "listed": listed}

    def _take(
        self, report: Report, dataset: Input, policy: Policy, context: Context, survey: Survey,
        signatures: npt.NDArray[np.uint8], texts: npt.NDArray[np.uint64], sources: SourceNumbers,
    ) -> None:  # fmt: skip
        """Take the batch in: choose what is held, count the rest."""
        number, options = len(self.batches) + 1, policy.history
        old = np.concatenate([np.zeros(0, np.int64), *(sizes_of(b) for b in self._canonical())])
        lengths = np.concatenate([old, *survey.lengths])
        suspects, window = self._choose(lengths, options)
        held = np.concatenate([suspects, window])
        lost = np.ones(len(lengths), np.bool_)
        lost[held] = False
        if lost.any():
            absorb(self.background, dataset, context, tuple(self._canonical()), lost)
        keep = Part(Itself(), Keep(np.sort(held[held >= self.held_rows]) - self.held_rows))
        sweep(dataset, [keep])
        tables = [described(keep.state, number)] if keep.state.parts else []
        mine = np.sort(held[held < self.held_rows])
        if self.held is not None and len(mine):
            before = self.held.take(pa.array(mine))
            tables.insert(0, before.select(tables[0].schema.names) if tables else before)
        self.held = pa.concat_tables(tables).take(pa.array(np.searchsorted(np.sort(held), held)))
        self.suspects = len(suspects)
        kept = texts[-len(survey.ids) :] if survey.ids else texts[:0]
        signed = signatures[-len(survey.ids) :] if survey.ids else signatures[:0]
        fresh = pa.table({
            "id": pa.array(survey.ids, pa.large_string()),
            "batch": pa.array(np.full(len(survey.ids), number, np.int32)),
            "text": pa.array(kept),
            "signature": pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(signed.shape[1]), len(signed), [None, pa.py_buffer(np.ascontiguousarray(signed))]
            ),
        }).filter(pa.array(kept != 0))  # fmt: skip
        seen = fresh if self.seen is None else pa.concat_tables([self.seen, fresh])
        self.seen = seen.slice(max(0, seen.num_rows - options.signatures)).combine_chunks()
        total = Counter(self.sources)
        total.update(_per_source(sources))
        self.sources = dict(total)
        self.batches.append({
            "batch": number, "digest": dataset.digest, "name": dataset.name, "rows": dataset.rows or 0,
            "accepted": datetime.now(UTC).isoformat(timespec="seconds"), "verdict": report.verdict.value,
            "policy": policy.digest, "version": __version__,
        })  # fmt: skip

    def _choose(self, lengths: Rows, options: HistoryOptions) -> tuple[Rows, Rows]:
        """Suspects and window, as numbers of held rows followed by new ones, each ascending."""
        everyone = np.arange(len(lengths), dtype=np.int64)
        if len(lengths) <= options.rows and int(lengths.sum()) <= options.bytes:
            return everyone[: self.suspects], everyone[self.suspects :]
        fair = everyone[self.suspects :]
        window = fair[fitting(lengths[fair[::-1]], options)[::-1]]
        # Each check's first wish, then each one's second, and so on; then what was suspect before, newest first.
        ranks = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(w)) for w in self.watched)])
        wishes = np.concatenate([np.zeros(0, np.int64), *self.watched])[np.argsort(ranks, kind="stable")]
        wishes = together([wishes, everyone[: self.suspects][::-1]])
        wishes = wishes[~np.isin(wishes, window)]
        return np.sort(wishes[fitting(lengths[wishes], options)]), window

    def write(self) -> bytes:
        """The state as a file."""
        fields = {
            "kind": self.kind,
            "roles": sorted(self.roles),
            "batches": self.batches,
            "sources": self.sources,
            "suspects": self.suspects,
            "background": {"rows": self.background.rows, "labels": self.background.labels},
        }
        return pack(fields, {"rows": self.held, "seen": self.seen}, arrays_of(self.background))

    @classmethod
    def read(cls, store: Store, content: bytes) -> History:
        """The state that a file holds.

        Raises:
            StateError: if it is damaged, or was made by another algorithm.
        """
        header, tables, arrays = unpack(content, store.path)
        try:
            _refuse_tables(header, tables)
            known = background_of(header["background"]["rows"], header["background"]["labels"], arrays)
            return cls(
                store, header["kind"], frozenset(header["roles"]), header["batches"], header["sources"],
                tables["rows"], header["suspects"], tables["seen"], known, header["digest"],
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, IndexError) as e:
            raise damaged(store.path, str(e)) from e


def _refuse_tables(header: Mapping[str, Any], tables: Mapping[str, pa.Table | None]) -> None:
    """Refuse tables that are not those of the header, and counts that do not add up.

    Raises:
        ValueError: naming the table.
    """
    from foretaste.text.minhash import BINS

    held, seen, batches, counted = tables["rows"], tables["seen"], header["batches"], header["background"]
    if header["kind"] not in get_args(Kind):
        raise ValueError(f"there is no kind of data {header['kind']!r:.60}")
    if [b["batch"] for b in batches] != list(range(1, len(batches) + 1)):
        raise ValueError("its batches are not numbered from 1")
    numbers = [b["rows"] for b in batches] + [counted["rows"], *counted["labels"].values(), *header["sources"].values()]
    if min(numbers, default=0) < 0:
        raise ValueError("it counts fewer rows than none")
    total = sum(b["rows"] for b in batches)
    if counted["rows"] + (0 if held is None else held.num_rows) != total or sum(header["sources"].values()) > total:
        raise ValueError(f"the rows that it holds and counts are not the {total} of its batches")
    if sum(counted["labels"].values()) != (counted["rows"] if header["kind"] == "classification" else 0):
        raise ValueError("its labels do not add up to its rows")
    added = {"_batch": pa.int32(), "_row": pa.int64(), "_id": pa.large_string()}
    columns = {role: pa.large_string() for role in header["roles"]} | added
    if held is not None and {f.name: f.type for f in held.schema} != columns:
        raise ValueError("the rows that it holds have other columns than its roles")
    if not 0 <= header["suspects"] <= (held.num_rows if held is not None else 0):
        raise ValueError(f"it counts {header['suspects']} suspects among fewer rows")
    marks = {"id": pa.large_string(), "batch": pa.int32(), "text": pa.uint64(), "signature": pa.binary(BINS)}
    if seen is not None and {f.name: f.type for f in seen.schema} != marks:
        raise ValueError("the rows that it has seen have other columns")
    for table, name in ((held, "_batch"), (seen, "batch")):
        if table is None:
            continue
        if any(column.null_count for column in table.columns):
            raise ValueError("a row that it holds lacks a value")
        least, most = pc.min_max(table[name]).as_py().values()
        if table.num_rows and not 1 <= least <= most <= len(batches):
            raise ValueError("a row that it holds is of no batch of it")


def _rows_by_source(dataset: Input) -> dict[str, int]:
    """Rows per source; empty where the data name no source."""
    from foretaste.signals.sources import Sources

    signal = Sources()
    part = Part(signal, signal.start(Context(dataset.kind, dataset.canonical_roles)))
    sweep(dataset, [part])
    return _per_source(signal.value(part.state))


def _per_source(sources: SourceNumbers) -> dict[str, int]:
    counts = np.bincount(sources.numbers, minlength=len(sources.names)).tolist()
    return dict(zip(sources.names, counts))
