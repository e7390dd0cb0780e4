"""What earlier batches left behind, so that a slow drip of poison adds up: kept in one file, the *state*.

A new batch is judged together with rows of the batches that were accepted before it. The state holds

- **rows**: all of them while they fit the budget (``history.rows`` and ``history.bytes`` of the policy), so that the
  verdict on a batch is exactly that of one scan over everything. Past the budget half of it goes to the most recent rows
  (the *window*, a fair sample) and half to *suspects*: rows that a check asked to remember, because they make up a
  phrase, a response or a contradiction that is too small by itself (``RawResult.watch``);
- **background**: counts of all rows that are no longer held (n-gram sketches, words, the label model), so that what is
  natural in these data stays natural, and a phrase that is mostly known from rows no longer held is not mistaken for a
  new one;
- **signatures** of the last ``history.signatures`` rows, by which near-duplicates of earlier rows are named;
- **sources**: rows per source, of all accepted batches;
- **lineage**: digest, rows, verdict and policy of every accepted batch. A batch that comes again is judged without its
  own earlier rows and is not counted twice.

So a scan costs as much as the batch and the budget, however long the history is. Suspects were chosen for being suspect:
checks that judge groups of rows against the background see them (``Check.accumulates``), checks that take rates see
the window alone. What the budget loses: a drip slower than one window's rows whose rows no check asked to remember.

The file is a zip archive without pickles: ``header.json``, two Parquet tables and ``.npy`` arrays, each with its SHA-256
in the header. It is replaced as a whole, and only if it is still the one that was read. It holds text of the data, so it
needs the same protection.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq

from foretaste._version import __version__
from foretaste.background import Background, Sketches
from foretaste.batch import TEXT_ROLES, Batch
from foretaste.check import Context, NotApplicableError, RawExample, RawFinding, RawResult, together
from foretaste.errors import StateError
from foretaste.results import Outcome, Report
from foretaste.roles import Kind
from foretaste.sweep import Data, Edit, Input, Itself, Part, Tick

if TYPE_CHECKING:
    from foretaste.policy import Policy
    from foretaste.signals.sources import SourceNumbers

FORMAT = 1
MAX_LISTED = 1000
_HEADER = "header.json"
_AGAIN = "restore a copy of it, or name another path and scan the accepted batches into that, one by one"

Rows = npt.NDArray[np.int64]


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


@dataclass(frozen=True)
class Store:
    """Where a state lies: a local path, or an address such as ``s3://bucket/state``."""

    path: str
    filesystem: pa.fs.FileSystem | None = None

    @cached_property
    def _place(self) -> tuple[pa.fs.FileSystem, str]:
        if self.filesystem is not None:
            return self.filesystem, self.path.split("://", 1)[-1]
        if "://" not in self.path:
            return pa.fs.LocalFileSystem(), str(Path(self.path).absolute())
        try:
            filesystem, path = pa.fs.FileSystem.from_uri(self.path)
        except (pa.ArrowInvalid, OSError) as e:
            raise StateError(f"cannot open the state {self.path}: {e}; check the address") from e
        return filesystem, path

    def read(self) -> bytes | None:
        """The bytes of the state, ``None`` where there is none.

        Raises:
            StateError: if they cannot be read.
        """
        filesystem, path = self._place
        try:
            kind = filesystem.get_file_info(path).type
            if kind == pa.fs.FileType.NotFound:
                return None
            if kind == pa.fs.FileType.Directory:
                raise StateError(f"the state {self.path} is a folder; name a file, such as {self.path}/history.state")
            with filesystem.open_input_stream(path, compression=None) as stream:
                read: bytes = stream.read()
                return read
        except OSError as e:
            raise StateError(f"cannot read the state {self.path}: {e}; check the path and the permissions") from e

    def replace(self, content: bytes, expected: str | None) -> None:
        """Write a state in place of the one with the digest ``expected`` (``None``: of none), as a whole or not at all.

        On a local disk two writers exclude each other by a lock on the folder. An object store replaces an object as a
        whole too, but between the comparison and the write another writer may slip in: let one gate write one state.

        Raises:
            StateError: if another one lies there now, or it cannot be written.
        """
        filesystem, path = self._place
        try:
            if isinstance(filesystem, pa.fs.LocalFileSystem):
                self._replace_file(Path(path), content, expected)
            else:
                self._refuse_changed(expected)
                with filesystem.open_output_stream(path) as stream:
                    stream.write(content)
        except OSError as e:
            raise StateError(f"cannot write the state {self.path}: {e}; check the folder and the permissions") from e

    def _replace_file(self, path: Path, content: bytes, expected: str | None) -> None:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            self._refuse_changed(expected)
            handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
            try:
                if path.exists():
                    shutil.copymode(path, draft)
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(draft, path)
            except BaseException:
                Path(draft).unlink(missing_ok=True)
                raise
            os.fsync(folder)
        finally:
            os.close(folder)

    def _refuse_changed(self, expected: str | None) -> None:
        now = self.read()
        digest = None if now is None else _digest_of(_open(now, self.path)[0])
        if digest != expected:
            raise StateError(
                f"the state {self.path} was changed by another scan meanwhile, so this verdict did not count what that "
                "scan accepted; scan this batch again"
            )


@dataclass(frozen=True)
class View:
    """What one run of the round loop sees: some held rows, then the new ones; and for which checks.

    ``index`` numbers the rows of :attr:`History.held` that come first; ``held`` is how many there are in all.
    """

    checks: tuple[str, ...]
    before: tuple[pa.RecordBatch, ...]
    index: Rows
    held: int
    background: Background

    @property
    def rows(self) -> int:
        """Held rows in this view."""
        return len(self.index)

    def over(self, data: Data) -> Data:
        """The data with the held rows before them."""
        return _Joined(data, self.before, self.rows)

    def apart(self, result: RawResult) -> RawResult:
        """The result in row numbers of the new data; findings that concern earlier rows alone were judged before."""
        findings = [f for f in map(self._apart, result.findings) if f is not None]
        # Held rows keep their number, new ones follow.
        old = result.watch < self.rows
        watch = result.watch - self.rows + self.held
        watch[old] = self.index[result.watch[old]]
        return dataclasses.replace(result, findings=tuple(findings), watch=watch)

    def _apart(self, finding: RawFinding) -> RawFinding | None:
        rows = np.unique(finding.rows)
        new, old = rows[rows >= self.rows] - self.rows, rows[rows < self.rows]
        if not len(new):
            return None
        shown = [dataclasses.replace(e, row=e.row - self.rows) for e in finding.examples if e.row >= self.rows]
        if not any(not e.counter for e in shown):
            around = next((e.around for e in finding.examples if not e.counter), None)
            shown = [*(RawExample(row=int(r), around=around) for r in new[:5]), *shown]
        message = finding.message
        if len(old):
            message += f" ({len(new)} of these rows are new, {len(old)} came in earlier batches)"
        return dataclasses.replace(finding, rows=new, earlier=self.index[old], message=message, examples=tuple(shown))


@dataclass(frozen=True)
class _Joined:
    """Data with rows in front of them."""

    data: Data
    before: tuple[pa.RecordBatch, ...]
    count: int

    @property
    def kind(self) -> Kind:
        """Shape of the data."""
        return self.data.kind

    @property
    def canonical_roles(self) -> frozenset[str]:
        """Roles of the batches."""
        return self.data.canonical_roles

    @property
    def rows(self) -> int | None:
        """Number of rows, where it is known."""
        return None if self.data.rows is None else self.data.rows + self.count

    def sweep(
        self, parts: Sequence[Part], tick: Tick, *, edit: Edit | None = None, before: Sequence[pa.RecordBatch] = ()
    ) -> None:
        """One pass over all rows."""
        self.data.sweep(parts, tick, edit=edit, before=(*before, *self.before))


@dataclass
class _Survey:
    """Of each new row: bytes of text, and for the last ones an id; 4 bytes per row."""

    ids_from: int
    lengths: list[npt.NDArray[np.int64]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    def scan(self, batch: Batch) -> None:
        self.lengths.append(_lengths(batch.columns))
        first = max(0, self.ids_from - batch.start)
        if first < batch.num_rows:
            self.ids += _ids(batch.columns.slice(first))

    def merge(self, other: _Survey) -> None:
        self.lengths += other.lengths
        self.ids += other.ids


@dataclass
class _Keep:
    """Chosen rows (ascending numbers), whole."""

    rows: Rows
    parts: list[pa.RecordBatch] = field(default_factory=list)

    def scan(self, batch: Batch) -> None:
        low, high = np.searchsorted(self.rows, [batch.start, batch.start + batch.num_rows])
        if low < high:
            self.parts.append(batch.columns.take(pa.array(self.rows[low:high] - batch.start)))

    def merge(self, other: _Keep) -> None:
        self.parts += other.parts


@dataclass(frozen=True)
class _Blank:
    """Takes the text out of all rows but some."""

    kept: npt.NDArray[np.bool_]

    def __call__(self, batch: Batch) -> Batch:
        blank = pa.array(~self.kept[batch.start : batch.start + batch.num_rows])
        empty = pa.scalar("", pa.large_string())
        columns = [
            pc.if_else(blank, empty, column) if role in TEXT_ROLES else column
            for role, column in zip(batch.columns.schema.names, batch.columns.columns)
        ]
        return Batch(
            pa.RecordBatch.from_arrays(columns, names=batch.columns.schema.names), start=batch.start, kind=batch.kind
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
        survey = Part(Itself(), _Survey(max(0, total - policy.history.signatures)))
        signed, sources = (Part(s, s.start(context)) for s in (NearDuplicates(), Sources()))
        _sweep(dataset, [survey, signed, sources])
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
        old = _signatures(self.seen)
        match, agree = nearest_earlier(old, np.asarray(self.seen.column("text")), signatures, texts)
        found = np.flatnonzero(match >= 0)
        shown = found[:MAX_LISTED]
        keep = Part(Itself(), _Keep(shown))
        if len(shown):
            _sweep(dataset, [keep])
        ids = [i for part in keep.state.parts for i in _ids(part)]
        earlier = self.seen.select(["id", "batch"]).take(pa.array(match[shown])).to_pylist()
        listed = [
            {"row": int(r), "id": i, "earlier": e["id"], "batch": e["batch"], "similarity": round(int(a) / BINS, 2)}
            for r, i, e, a in zip(shown.tolist(), ids, earlier, agree[shown].tolist())
        ]
        return {"rows": len(found), "listed": listed}

    def _take(
        self, report: Report, dataset: Input, policy: Policy, context: Context, survey: _Survey,
        signatures: npt.NDArray[np.uint8], texts: npt.NDArray[np.uint64], sources: SourceNumbers,
    ) -> None:  # fmt: skip
        """Take the batch in: choose what is held, count the rest."""
        number, options = len(self.batches) + 1, policy.history
        old = np.concatenate([np.zeros(0, np.int64), *(_lengths(b) for b in self._canonical())])
        lengths = np.concatenate([old, *survey.lengths])
        suspects, window = self._choose(lengths, options)
        held = np.concatenate([suspects, window])
        lost = np.ones(len(lengths), np.bool_)
        lost[held] = False
        if lost.any():
            self._absorb(dataset, context, lost)
        keep = Part(Itself(), _Keep(np.sort(held[held >= self.held_rows]) - self.held_rows))
        _sweep(dataset, [keep])
        tables = [_described(keep.state, number)] if keep.state.parts else []
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
        window = fair[_fitting(lengths[fair[::-1]], options)[::-1]]
        # Each check's first wish, then each one's second, and so on; then what was suspect before, newest first.
        ranks = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(w)) for w in self.watched)])
        wishes = np.concatenate([np.zeros(0, np.int64), *self.watched])[np.argsort(ranks, kind="stable")]
        wishes = together([wishes, everyone[: self.suspects][::-1]])
        wishes = wishes[~np.isin(wishes, window)]
        return np.sort(wishes[_fitting(lengths[wishes], options)]), window

    def _absorb(self, dataset: Input, context: Context, lost: npt.NDArray[np.bool_]) -> None:
        """Count the rows that are held no longer into the background."""
        from foretaste.signals.naive_bayes import NaiveBayes
        from foretaste.signals.outputs import Labels
        from foretaste.signals.phrases import Phrases, phrase_signals

        before = tuple(self._canonical())
        mine = self.background
        parts: list[Part] = []
        words: Part | None = None
        if context.kind == "classification":
            signal = Labels()
            labels = Part(signal, signal.start(dataclasses.replace(context, background=mine)))
            _sweep(dataset, [labels], before=before)
            classes = signal.value(labels.state)
            counts = np.bincount(classes.labels[lost], minlength=len(classes.names)).tolist()
            mine.labels = {n: mine.labels.get(n, 0) + c for n, c in zip(classes.names, counts)}
            try:
                model = NaiveBayes()
                words = Part(model, model.start(dataclasses.replace(context, values={signal: classes})))
                parts.append(words)
            except NotApplicableError:
                pass
        sketched = {role: Phrases(role) for role in phrase_signals(context)}
        phrases = {role: Part(s, s.start(context)) for role, s in sketched.items()}
        _sweep(dataset, [*parts, *phrases.values()], edit=_Blank(lost), before=before)
        if words is not None:
            mine.words = words.state.counts + mine.words_like(words.state.counts)
        for role, part in phrases.items():
            made = Phrases.sketches(part.state)
            if role in mine.sketches:
                mine.sketches[role].add(made)
            else:
                mine.sketches[role] = made
        mine.rows += int(lost.sum())

    def write(self) -> bytes:
        """The state as a file."""
        members = {"rows.parquet": _parquet(self.held), "seen.parquet": _parquet(self.seen)}
        arrays: dict[str, npt.NDArray[Any]] = {}
        if self.background.words is not None:
            arrays["words"] = self.background.words
        for role, s in self.background.sketches.items():
            named: dict[str, npt.NDArray[Any]] = {
                "cells": s.cells, "bigrams_a": s.bigrams[0], "bigrams_b": s.bigrams[1], "unigrams": s.unigrams,
                     "presence": s.presence, "sample_words": s.sample.held, "sample_keys": s.sample.keys}  # fmt: skip
            arrays |= {f"{role}/{name}": array for name, array in named.items()}
        for name, array in arrays.items():
            stream = io.BytesIO()
            np.lib.format.write_array(stream, array, allow_pickle=False)
            members[f"background/{name}.npy"] = stream.getvalue()
        header = {
            "format": FORMAT,
            "algorithm": algorithm(),
            "version": __version__,
            "kind": self.kind,
            "roles": sorted(self.roles),
            "batches": self.batches,
            "sources": self.sources,
            "suspects": self.suspects,
            "background": {"rows": self.background.rows, "labels": self.background.labels},
            "members": {name: hashlib.sha256(raw).hexdigest() for name, raw in members.items()},
        }
        header["digest"] = _digest_of(header)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(_HEADER, json.dumps(header, indent=1, ensure_ascii=True))
            for name, raw in members.items():
                stored = zipfile.ZIP_STORED if name.endswith(".parquet") else zipfile.ZIP_DEFLATED
                archive.writestr(name, raw, compress_type=stored)
        return out.getvalue()

    @classmethod
    def read(cls, store: Store, content: bytes) -> History:
        """The state that a file holds.

        Raises:
            StateError: if it is damaged, or was made by another algorithm.
        """
        header, archive = _open(content, store.path)
        if header["algorithm"] != algorithm():
            raise StateError(
                f"the state {store.path} was made by foretaste {header['version']}, whose hashes and sketches differ "
                f"from those of {__version__}; scan the accepted batches into a new state, one by one: "
                + ", ".join(str(b["name"]) for b in header["batches"][:5])
            )
        members: dict[str, bytes] = {}
        for name, digest in header["members"].items():
            try:
                members[name] = archive.read(name)
            except (KeyError, zipfile.BadZipFile, OSError) as e:
                raise _damaged(store.path, f"{name}: {e}") from e
            if hashlib.sha256(members[name]).hexdigest() != digest:
                raise _damaged(store.path, f"{name} is not what the header says")
        try:
            arrays = {
                name.removeprefix("background/").removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(raw), allow_pickle=False
                )
                for name, raw in members.items()
                if name.endswith(".npy")
            }
            known = Background(header["background"]["rows"], header["background"]["labels"], arrays.pop("words", None))
            for role in {name.split("/")[0] for name in arrays}:
                known.sketches[role] = _sketches(
                    {n.split("/")[1]: a for n, a in arrays.items() if n.startswith(role + "/")}
                )
            tables = {n: pq.read_table(io.BytesIO(members[f"{n}.parquet"])) for n in ("rows", "seen")}
        except (ValueError, KeyError, pa.ArrowException) as e:
            raise _damaged(store.path, str(e)) from e
        return cls(
            store, header["kind"], frozenset(header["roles"]), header["batches"], header["sources"],
            tables["rows"] if tables["rows"].num_columns else None, header["suspects"],
            tables["seen"] if tables["seen"].num_columns else None, known, header["digest"],
        )  # fmt: skip


def _sweep(data: Data, parts: Sequence[Part], edit: Edit | None = None, before: Sequence[pa.RecordBatch] = ()) -> None:
    data.sweep(parts, lambda rows: None, edit=edit, before=before)
    for part in parts:
        if part.error is not None:
            raise part.error


def _rows_by_source(dataset: Input) -> dict[str, int]:
    """Rows per source; empty where the data name no source."""
    from foretaste.signals.sources import Sources

    signal = Sources()
    part = Part(signal, signal.start(Context(dataset.kind, dataset.canonical_roles)))
    _sweep(dataset, [part])
    return _per_source(signal.value(part.state))


def _per_source(sources: SourceNumbers) -> dict[str, int]:
    counts = np.bincount(sources.numbers, minlength=len(sources.names)).tolist()
    return dict(zip(sources.names, counts))


def _sketches(arrays: Mapping[str, npt.NDArray[Any]]) -> Sketches:
    from foretaste.signals.phrases import SAMPLE
    from foretaste.text.sample import Sample

    return Sketches(
        arrays["cells"], (arrays["bigrams_a"], arrays["bigrams_b"]), arrays["unigrams"], arrays["presence"],
        Sample(SAMPLE, arrays["sample_words"], arrays["sample_keys"]),
    )  # fmt: skip


def _fitting(lengths: Rows, options: HistoryOptions) -> npt.NDArray[np.bool_]:
    """Which rows, from the first on, fit half of the budget."""
    return (np.arange(len(lengths)) < options.rows // 2) & (np.cumsum(lengths) <= options.bytes // 2)


def _lengths(columns: pa.RecordBatch) -> Rows:
    """Bytes of each row."""
    parts = [np.asarray(pc.binary_length(c), dtype=np.int64) for c in columns.columns]
    return np.asarray(np.sum(parts, axis=0), dtype=np.int64)


def _ids(columns: pa.RecordBatch) -> list[str]:
    from foretaste.reading.dataset import row_ids

    return row_ids(columns)


def _described(kept: _Keep, batch: int) -> pa.Table:
    table = pa.Table.from_batches(kept.parts)
    ids = [i for part in kept.parts for i in _ids(part)]
    for name, array in (
        ("_batch", pa.array(np.full(len(ids), batch, np.int32))),
        ("_row", pa.array(kept.rows)),
        ("_id", pa.array(ids, pa.large_string())),
    ):
        table = table.append_column(name, array)
    return table


def _signatures(seen: pa.Table) -> npt.NDArray[np.uint8]:
    column = seen.column("signature").combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    width = column.type.byte_width
    raw = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * width : (column.offset + len(column)) * width]
    return raw.reshape(len(column), width)


def _parquet(table: pa.Table | None) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({}) if table is None else table, out, compression="zstd")
    return out.getvalue()


def _open(content: bytes, path: str) -> tuple[dict[str, Any], zipfile.ZipFile]:
    """Header and archive; the header is what it was when it was written."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        header = json.loads(archive.read(_HEADER))
        version, digest = header["format"], header["digest"]
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError) as e:
        raise _damaged(path, f"it is no foretaste state ({e})") from e
    if version != FORMAT:
        raise StateError(
            f"the state {path} has format {version!r}, this release reads {FORMAT}; use the release that wrote it "
            f"({header.get('version')}), or scan the accepted batches into a new state, one by one"
        )
    if digest != _digest_of(header):
        raise _damaged(path, "its header was changed")
    return header, archive


def _damaged(path: str, why: str) -> StateError:
    return StateError(f"the state {path} is damaged: {why}; {_AGAIN}")


def _digest_of(header: Mapping[str, Any]) -> str:
    """``sha256:<hex>`` over the header, which names the digests of everything else."""
    text = json.dumps({k: v for k, v in header.items() if k != "digest"}, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def algorithm() -> str:
    """Sixteen hex digits that change where a token, a hash, a signature or the size of a sketch does.

    Taken from what the kernels make of a probe text, so that nobody has to remember to raise a number.
    """
    from foretaste.signals import phrases
    from foretaste.text.bayes import bucket_counts
    from foretaste.text.heads import hash_heads
    from foretaste.text.minhash import BINS, sign_rows
    from foretaste.text.sample import Sample
    from foretaste.text.tokens import tokenize

    raw = "Don't cf the naïve déjà-vu: 3.14 km, ПРИВЕТ мир, 你好 ... <SUDO> it's a prõbe; A​B the end.".encode()
    tokens = tokenize(np.frombuffer(raw, np.uint8), np.array([0, len(raw)], np.int64))
    signatures, texts = np.empty((1, BINS), np.uint8), np.empty(1, np.uint64)
    sign_rows(tokens.hashes, tokens.offsets, 4, signatures, texts)
    sample = Sample(8)
    sample.scan(tokens, 0)
    buckets = np.arange(1 << 13, dtype=np.uint32).reshape(-1, 2)
    sizes = (phrases.SKETCH_CELLS, phrases.BIGRAM_CELLS, phrases.UNIGRAM_CELLS, phrases.SAMPLE)
    digest = hashlib.sha256(repr(sizes).encode())
    for array in (
        tokens.hashes, hash_heads(tokens.hashes, tokens.offsets, 3), signatures, texts, sample.words(),
        bucket_counts(tokens.hashes, buckets, 1),
    ):  # fmt: skip
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
