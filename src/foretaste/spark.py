"""The same checks over data on a Spark cluster: the round loop here, the passes there.

There is no engine of its own. In each pass every partition starts from a copy of the round's states, scans its rows as
Arrow batches, and sends the states back; neighbouring partitions are merged, left before right, in a tree. The folds
are those of a local run, and so are the findings. A first pass validates, counts the rows of each partition (so that
every row has the number that it would have in one file) and digests them; every later pass is compared with it.

What travels: the states of a round to each worker once, as a broadcast, and back only what a part of the data changed
in them. Arrays that come back as they went are named, not sent. States are pickled between Spark's own processes and
nowhere else. The workers need foretaste installed, in the release that runs here. The driver holds what a local run
holds besides the text: a few hundred bytes per row, the tables, the rows of the findings.

pyspark is imported when data are opened, not before.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import io
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs

from foretaste.check import Fold
from foretaste.errors import InputError
from foretaste.reading import Dataset, InputOptions, open_data, spool
from foretaste.reading.chat import shape_of
from foretaste.reading.dataset import IDS_BYTES, refuse_duplicates, resolved
from foretaste.reading.formats import Files, naming
from foretaste.reading.frames import Frame
from foretaste.reading.readers import Parquet
from foretaste.roles import Kind, Roles
from foretaste.spill import Column
from foretaste.sweep import Edit, Input, Part, Tick, cores, numbered, scan_all
from foretaste.text.merging import Sparse

CHUNK = 4 << 20  # a row between Python and the JVM holds no more bytes of a state than that
LEAST_PIECE = 1 << 20
DIRECT = 8  # so many states are merged by the driver alone
_SHARED_BYTES = 4096

Result = tuple[int, bytes]  # partition, packed outcome


@contextmanager
def session(spark: Any) -> Iterator[Any]:
    """A Spark session: the given one, or one made with the given configuration (``True``: with none of ours).

    One that is made here is stopped at the end.

    Raises:
        InputError: if pyspark is missing, or the session cannot be made.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as e:
        raise InputError(f'pyspark cannot be imported ({e}); run: pip install "foretaste[spark]"') from e
    if spark is not True and not isinstance(spark, Mapping):
        yield spark
        return
    running = SparkSession.getActiveSession()
    settings = dict(spark) if isinstance(spark, Mapping) else {}
    if str(settings.get("spark.master", os.environ.get("MASTER", "local"))).startswith("local"):
        os.environ.setdefault(
            "PYSPARK_PYTHON", sys.executable
        )  # the workers of this machine find foretaste where we do
    try:
        builder = SparkSession.builder.appName("foretaste")
        for key, value in settings.items():
            builder = builder.config(key, value)
        made = builder.getOrCreate()
    except Exception as e:
        said = str(e).strip().splitlines()
        raise InputError(f"Spark does not start: {said[0] if said else e!r}; it needs Java 17 or later") from e
    try:
        yield made
    finally:
        if running is None:
            made.stop()


@contextmanager
def open_spark(frame: Any, roles: Roles, options: InputOptions) -> Iterator[Input]:
    """A Spark DataFrame, kept on the cluster while it is scanned, so that every pass sees the same rows.

    A frame of Spark Connect has no broadcast variables: its rows are written to a temporary file and scanned here.

    Raises:
        InputError: if the roles do not fit the columns, or Spark returns other rows than it counts.
    """
    if not hasattr(frame, "mapInArrow"):
        raise InputError(f"cannot scan an object of type {type(frame).__name__}; pass a Spark DataFrame")
    if ".connect." in type(frame).__module__:
        import pyarrow.dataset as ds

        with spooled(frame, roles) as path:
            yield open_data(ds.dataset(path, format="ipc"), roles, options=options)
        return
    opened = _FrameData(frame, roles, options)
    try:
        yield opened
    finally:
        opened.close()


def open_files(
    data: Any, roles: Roles, options: InputOptions, spark: Any, filesystem: pa.fs.FileSystem | None = None
) -> Input:
    """Files that all workers can read, on a Spark session.

    They are read by the readers of a local run, so that every cell is read as it would be there; Parquet files are cut
    at their row groups.

    Raises:
        InputError: if the data are no files, or the roles do not fit the columns.
    """
    local = open_data(data, roles, filesystem=filesystem, options=options)
    if local.files is None:
        raise InputError(f"Spark reads files or a Spark DataFrame, not a {type(data).__name__}; scan it without Spark")
    return _FileData(local, local.files, spark.sparkContext)


@contextmanager
def spooled(frame: Any, roles: Roles) -> Iterator[Path]:
    """The columns of a Spark frame that play a role, partition by partition, in a temporary Arrow file.

    The workers need no foretaste for it.

    Raises:
        InputError: if Spark returns other rows than it counts.
    """
    columns = resolved(roles, _arrow_schema(frame))[0].reads(frame.columns)
    read = 0

    # A nested function travels to the workers by value: they need pyarrow, and no foretaste.
    def serialized(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow as arrow

        for batch in batches:
            sink = arrow.BufferOutputStream()
            with arrow.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            yield arrow.record_batch({"stream": arrow.array([sink.getvalue().to_pybytes()], arrow.binary())})

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal read
        for row in streams.toLocalIterator():  # one partition is in memory at a time
            with pa.ipc.open_stream(row["stream"]) as reader:
                for batch in reader:
                    read += batch.num_rows
                    yield batch.rename_columns(columns)

    selected = _plain(frame, columns)
    streams = selected.mapInArrow(serialized, "stream binary")
    with spool(batches()) as path:
        counted = selected.count()
        if counted != read:
            raise InputError(
                f"the frame has {counted} rows and {read} were read; write it to a table that nothing writes to"
            )
        yield path


def _arrow_schema(frame: Any) -> pa.Schema:
    """The columns of a frame as Arrow has them; releases of Spark differ in whether they ask for a zone of timestamps."""
    from pyspark.sql.pandas.types import to_arrow_schema

    zone: dict[str, Any] = {"timezone": "UTC"} if "timezone" in inspect.signature(to_arrow_schema).parameters else {}
    return to_arrow_schema(frame.schema, **zone)


def _plain(frame: Any, columns: Sequence[str]) -> Any:
    """The columns of a frame, renamed: mapInArrow does not quote names, and takes a dot in one for a struct's field."""
    quoted = ["`" + name.replace("`", "``") + "`" for name in columns]
    return frame.select(*quoted).toDF(*[f"c{at}" for at in range(len(columns))])


@contextmanager
def _workers() -> Iterator[None]:
    """What fails on the workers, as an error that names the next step."""
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as e:
        if "No module named 'foretaste'" in str(e):
            raise InputError(
                "the Python of the Spark workers has no foretaste; install it there in the release that runs here "
                "(PYSPARK_PYTHON names their Python)"
            ) from e
        raise


@dataclass(frozen=True)
class _Spec:
    """What a worker has to know to read its part of the data."""

    names: tuple[str, ...]
    roles: Roles
    options: InputOptions

    def dataset(self, name: str, batches: Any, validated: bool) -> Dataset:
        """The part as a data set that was validated before, or not."""
        made = Dataset(batches, self.roles, self.options)
        made.name = name
        if validated:
            made.trust()
        return made


@dataclass
class _Count:
    """What the first pass knows of a partition."""

    rows: int
    bytes: int
    digest: str
    ids: Column | None = None


class SparkData:
    """Data in the partitions of a Spark cluster, with what the engine asks of a :class:`foretaste.reading.Dataset`."""

    files: Files | None = None
    kept = False

    def __init__(self, name: str, columns: Sequence[str], roles: Roles, options: InputOptions) -> None:
        self.name = name
        self.columns = list(columns)
        self.roles, self.guessed = roles.resolve(self.columns)
        self.shape = ""
        self.notes = self.roles.notes(self.columns)
        self.options = options
        self.bytes = 0
        self.rows: int | None = None
        self._counts: list[_Count] = []
        played = tuple(self.roles.reads(self.columns))
        for column in played:
            if self.columns.count(column) > 1:
                raise InputError(f'column "{column}" is there twice in the {name}; rename one of the two')
        self._spec = _Spec(played, self.roles, options)

    @property
    def kind(self) -> Kind:
        """Shape of the data."""
        return self.roles.kind

    @property
    def canonical_roles(self) -> frozenset[str]:
        """Roles of the batches."""
        return self.roles.canonical.union(self.roles.beside(self.columns).values())

    def refuse_changed(self) -> None:
        """Every pass of a partition was already compared with its first."""

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` over the partitions' digests in order: the same rows cut otherwise give another."""
        self._count()
        root = hashlib.sha256()
        for count in self._counts:
            root.update(f"{count.rows}:{count.digest}\n".encode())
        return f"sha256:{root.hexdigest()}"

    def head(self, rows: int) -> pa.RecordBatch:
        """The first rows, in canonical columns."""
        raise NotImplementedError

    def _context(self) -> Any:
        raise NotImplementedError

    def _run(self, work: Callable[[int, Dataset | None], bytes], validated: bool) -> Any:
        """RDD of (partition, what ``work`` made of it); ``work`` gets the part as a data set, ``None`` without rows."""
        raise NotImplementedError

    def _count(self) -> None:
        """The first pass: validate, count and digest."""
        if self._counts:
            return
        with _workers():
            counts = [_opened(raw) for _, raw in sorted(self._run(_count_part, False).collect())]
        self._counts = counts
        self.rows = sum(c.rows for c in counts)
        self.bytes = self.bytes or sum(c.bytes for c in counts)
        if self.rows == 0:
            raise InputError(f"{self.name} has no rows; nothing was checked, and nothing is not a pass")
        ids = Column(np.uint64, room=IDS_BYTES)
        for count in counts:
            if count.ids is not None:
                ids.extend(count.ids)
                count.ids = None
        refuse_duplicates(ids, self.roles.id or "")

    def sweep(
        self, parts: Sequence[Part], tick: Tick, *, edit: Edit | None = None, before: Sequence[pa.RecordBatch] = ()
    ) -> None:
        """One pass over all rows; see :class:`foretaste.sweep.Data`. ``tick`` is called once, at the end."""
        self._count()
        ahead = sum(b.num_rows for b in before)
        starts = ahead + np.concatenate([[0], np.cumsum([c.rows for c in self._counts])])
        shipment = _Shipment.of(parts)
        plan = _Plan(shipment, edit, [int(s) for s in starts], [c.digest for c in self._counts])
        sent = self._context().broadcast(plan)
        try:
            with _workers():
                merged = _merged(self._run(functools.partial(_scan_part, sent), True), sent, len(self._counts))
            if ahead:
                first = _fresh(shipment)
                scan_all(numbered(before, (), self.kind, edit), first, lambda rows: None)
                merged = [(-1, _packed(shipment, first)), *merged]
            done = _reduced(merged, shipment)
        finally:
            sent.destroy()
        for part, made in zip(parts, done):
            part.state, part.error = made.state, made.error
            part.seconds += made.seconds
        tick((self.rows or 0) + ahead)


class _FrameData(SparkData):
    """A Spark DataFrame, kept on the cluster while it is scanned, so that every pass sees the same rows."""

    def __init__(self, frame: Any, roles: Roles, options: InputOptions) -> None:
        schema = _arrow_schema(frame)
        whole, guessed = resolved(roles, schema)
        super().__init__("Spark DataFrame", frame.columns, whole, options)
        self.guessed, self.shape = guessed, shape_of(self.roles, schema)
        self._frame = _plain(frame, self._spec.names).persist()

    def _context(self) -> Any:
        return self._frame.sparkSession.sparkContext

    def _run(self, work: Callable[[int, Dataset | None], bytes], validated: bool) -> Any:
        mapped = self._frame.mapInArrow(functools.partial(_on_arrow, self._spec, work, validated), "chunk binary")
        return mapped.rdd.mapPartitionsWithIndex(_unchunked)

    def head(self, rows: int) -> pa.RecordBatch:
        """The first rows, in canonical columns."""
        table = self._frame.limit(rows).toArrow().rename_columns(list(self._spec.names))
        return open_data(table, self.roles, options=self.options).head(rows)

    def close(self) -> None:
        """Unpersist the frame."""
        self._frame.unpersist()


class _FileData(SparkData):
    """Files that every worker can read."""

    def __init__(self, local: Dataset, files: Files, context: Any) -> None:
        super().__init__(local.name, local.columns, local.roles, local.options)
        self.guessed, self.shape = local.guessed, local.shape
        self.files, self.bytes = files, local.bytes
        self._local, self._spark = local, context
        self._pieces = _pieces(files, max(LEAST_PIECE, local.bytes // (2 * context.defaultParallelism)))

    @property
    def canonical_roles(self) -> frozenset[str]:
        """Roles of the batches."""
        return self._local.canonical_roles

    def _context(self) -> Any:
        return self._spark

    def _run(self, work: Callable[[int, Dataset | None], bytes], validated: bool) -> Any:
        pieces = self._spark.parallelize(self._pieces, len(self._pieces))
        return pieces.mapPartitionsWithIndex(functools.partial(_on_files, self._spec, work, validated))

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of the files' bytes and names, that of a local run; the driver reads them for it."""
        return self._local.digest

    def head(self, rows: int) -> pa.RecordBatch:
        """The first rows, in canonical columns."""
        return self._local.head(rows)


@dataclass(frozen=True)
class _Piece:
    """A file, or some row groups of a Parquet file, as a part of the data."""

    files: Files
    groups: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """Path of the file."""
        return self.files.paths[0]

    @property
    def bytes(self) -> int:
        """Bytes of the whole file."""
        return self.files.bytes

    def schema(self) -> pa.Schema:
        """Columns."""
        return self.files.schema()

    def rows(self) -> int | None:
        """Not known before they are read."""
        return None

    def batches(self, columns: Sequence[str], strings: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """The rows of this part, with these columns."""
        if self.groups is None:
            yield from self.files.batches(columns, strings)
            return
        with naming(self.name):
            yield from Parquet().groups(self.files.sources[0], columns, self.groups)

    def original(self) -> Iterator[pa.RecordBatch]:
        """All columns of the whole file."""
        return self.files.original()


def _pieces(files: Files, size: int) -> list[_Piece]:
    """Parts of about ``size`` bytes, in the order of the rows."""
    pieces = []
    for path, stamp in zip(files.paths, files.stamps):
        one = dataclasses.replace(files, name=path, paths=(path,), stamps=(stamp,))
        if files.format != "parquet" or stamp[0] <= size:
            pieces.append(_Piece(one))
            continue
        with naming(path):
            weights = Parquet().weights(one.sources[0])
        share = stamp[0] / max(1, sum(weights))
        groups: list[int] = []
        for group in range(len(weights)):
            groups.append(group)
            if sum(weights[g] for g in groups) * share >= size or group == len(weights) - 1:
                pieces.append(_Piece(one, tuple(groups)))
                groups = []
    return pieces


# What runs on the workers.


def _on_arrow(
    spec: _Spec, work: Callable[[int, Dataset | None], bytes], validated: bool, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    from pyspark import TaskContext

    task = TaskContext.get()
    index = task.partitionId() if task is not None else 0
    held = iter(batches)
    first = next((b for b in held if b.num_rows), None)
    part = None
    if first is not None:
        start = first

        def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
            for batch in (start, *_rest):
                yield batch.rename_columns(list(spec.names)).select(list(columns))

        _rest = _Lazily(held)
        schema = pa.schema([(name, f.type) for name, f in zip(spec.names, first.schema)])
        part = spec.dataset(f"partition {index}", Frame("Spark DataFrame", schema, read), validated)
    packed = work(index, part)
    for at in range(0, max(1, len(packed)), CHUNK):
        yield pa.record_batch({"chunk": pa.array([packed[at : at + CHUNK]], pa.binary())})


@dataclass(frozen=True)
class _Lazily:
    """An iterator as something that can be unpacked late: the part is read once."""

    held: Iterator[pa.RecordBatch]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self.held


def _unchunked(index: int, rows: Iterable[Any]) -> Iterator[Result]:
    yield index, b"".join(bytes(row.chunk) for row in rows)


def _on_files(
    spec: _Spec, work: Callable[[int, Dataset | None], bytes], validated: bool, index: int, pieces: Iterable[_Piece]
) -> Iterator[Result]:
    for piece in pieces:
        yield index, work(index, spec.dataset(piece.name, piece, validated))


def _count_part(index: int, part: Dataset | None) -> bytes:
    try:
        if part is None:
            return pickle.dumps(_Count(0, 0, ""))
        text = 0
        for batch in part.batches(allow_empty=True):
            text += batch.columns.nbytes
        digest = part.digest if part.rows else ""
        return pickle.dumps(_Count(part.rows or 0, text, digest, part.ids))
    except InputError as e:
        return pickle.dumps(InputError(f"{part.name if part else index}: {e}"))


def _opened(raw: bytes) -> Any:
    """What a worker sent, or the input error that it met."""
    made = pickle.loads(raw)
    if isinstance(made, InputError):
        raise made
    return made


def _scan_part(sent: Any, index: int, part: Dataset | None) -> bytes:
    plan: _Plan = sent.value
    parts = _fresh(plan.shipment)
    digest = ""
    try:
        if part is not None:
            moved = _Moved(part, plan.starts[index], plan.edit)
            scan_all(moved.batches(), parts, lambda rows: None, threads=1)  # Spark gives every core a task
            digest = part.digest if part.rows else ""
        if digest != plan.digests[index]:
            raise InputError(
                f"partition {index} changed while the data were scanned; write them down first, and scan what was written"
            )
    except InputError as e:
        return pickle.dumps(e)
    return _packed(plan.shipment, parts)


@dataclass(frozen=True)
class _Moved:
    """A part's batches under the numbers that their rows have in the whole."""

    part: Dataset
    start: int
    edit: Edit | None

    def batches(self) -> Iterator[Any]:
        for batch in self.part.batches(allow_empty=True):
            batch.start += self.start
            yield self.edit(batch) if self.edit else batch


def _merged(results: Any, sent: Any, count: int) -> list[Result]:
    """At most ``DIRECT`` results, in order: neighbours are merged on the workers, in a tree."""
    while count > DIRECT:
        width = max(2, round(count**0.5))
        count = -(-count // width)
        keyed = results.map(functools.partial(_keyed, width))
        results = keyed.groupByKey(count).map(functools.partial(_merge_group, sent))
    collected: list[Result] = results.collect()
    return sorted(collected)


def _keyed(width: int, result: Result) -> tuple[int, Result]:
    return result[0] // width, result


def _merge_group(sent: Any, group: tuple[int, Iterable[Result]]) -> Result:
    shipment = sent.value.shipment
    try:
        done = _reduced(sorted(group[1]), shipment, threads=1)
    except InputError as e:
        return group[0], pickle.dumps(e)
    return group[0], _packed(shipment, done)


def _reduced(results: Sequence[Result], shipment: _Shipment, threads: int | None = None) -> list[Part]:
    """The parts of all results, merged in their order; two states are in memory at a time, three with threads.

    While the driver merges, the workers wait: there it merges several folds at a time, and unpacks what comes next.
    """
    if threads == 1 or len(results) == 1:
        return functools.reduce(_joined, (_outcome(raw, shipment) for _, raw in results))
    with ThreadPoolExecutor(threads or cores()) as pool:
        done = _outcome(results[0][1], shipment)
        following = pool.submit(_outcome, results[1][1], shipment)
        for at in range(1, len(results)):
            other = following.result()
            if at + 1 < len(results):
                following = pool.submit(_outcome, results[at + 1][1], shipment)
            list(pool.map(_join, done, other))
        return done


def _joined(left: list[Part], right: list[Part]) -> list[Part]:
    for mine, other in zip(left, right):
        _join(mine, other)
    return left


def _join(mine: Part, other: Part) -> None:
    mine.seconds += other.seconds
    mine.error = mine.error or other.error
    if mine.error is None:
        mine.state = mine.fold.merge(mine.state, other.state)


# How states travel.


@dataclass
class _Shipment:
    """The folds and states of a round, with their arrays and read-only values set apart.

    Attributes:
        folds: the folds.
        body: pickle of their states that names arrays and values by number.
        arrays: the arrays.
        frozen: numbers of those that belong to a read-only value; nobody copies them.
        values: pickles of the read-only values (signals' values), with arrays and values by number.
        loaded: the values that this process has, by number.
    """

    folds: tuple[Any, ...]
    body: bytes = b""
    arrays: list[Any] = field(default_factory=list)
    frozen: set[int] = field(default_factory=set)
    values: list[bytes] = field(default_factory=list)
    loaded: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: Sequence[Part]) -> _Shipment:
        """Pack the states that the driver holds."""
        made = cls(tuple(p.fold for p in parts))
        made.body = _Sender(made, {}).pack([p.state for p in parts])
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Without the values themselves: each process makes its own, once."""
        return self.__dict__ | {"loaded": {}}


@dataclass
class _Plan:
    """One pass, as the workers see it."""

    shipment: _Shipment
    edit: Edit | None
    starts: list[int]
    digests: list[str]


class _Sender(pickle.Pickler):
    """Sets arrays and read-only values apart while it pickles; ``known`` maps their ids to their numbers."""

    def __init__(self, shipment: _Shipment, known: dict[int, Any], inside: bool = False) -> None:
        self.file = io.BytesIO()
        super().__init__(self.file, protocol=5)
        self.shipment, self.known, self.inside = shipment, known, inside

    def pack(self, thing: Any) -> bytes:
        """The pickle of a thing."""
        self.dump(thing)
        return self.file.getvalue()

    def persistent_id(self, obj: Any) -> Any:
        """A number for what is set apart."""
        kept = self.shipment
        if isinstance(obj, np.ndarray) and obj.nbytes >= _SHARED_BYTES and obj.dtype != object:
            if id(obj) not in self.known:
                self.known[id(obj)] = ("array", len(kept.arrays))
                kept.arrays.append(obj)
            if self.inside:
                kept.frozen.add(self.known[id(obj)][1])
            return self.known[id(obj)]
        if _read_only(obj):
            if id(obj) not in self.known:
                number = len(kept.values)
                self.known[id(obj)] = ("value", number)
                kept.values.append(b"")
                kept.loaded[number] = obj
                # Field by field, since as a whole it would name itself.
                inner = _Sender(kept, self.known, inside=True)
                kept.values[number] = inner.pack((type(obj), dict(obj.__dict__)))
            return self.known[id(obj)]
        return None


def _read_only(obj: Any) -> bool:
    """Whether this is the value of a signal: a frozen dataclass that is no fold."""
    parameters = getattr(type(obj), "__dataclass_params__", None)
    packed = isinstance(obj, Fold | Sparse)  # a packed sketch is made anew for every journey
    return parameters is not None and parameters.frozen and hasattr(obj, "__dict__") and not packed


class _Receiver(pickle.Unpickler):
    """Puts arrays and values back: values and their arrays as they are, the other arrays as copies to work on."""

    def __init__(self, raw: bytes, shipment: _Shipment, copies: dict[int, Any]) -> None:
        super().__init__(io.BytesIO(raw))
        self.shipment, self.copies = shipment, copies

    def persistent_load(self, pid: Any) -> Any:
        """What was set apart under a number."""
        kind, number = pid
        kept = self.shipment
        if kind == "array":
            if number in kept.frozen:
                return kept.arrays[number]
            if number not in self.copies:
                self.copies[number] = kept.arrays[number].copy()
            return self.copies[number]
        if number not in kept.loaded:
            cls, held = _Receiver(kept.values[number], kept, {}).load()
            made = object.__new__(cls)
            made.__dict__.update(held)
            kept.loaded[number] = made
        return kept.loaded[number]


class _Returner(pickle.Pickler):
    """Names arrays and values that are as they came, and pickles the rest."""

    def __init__(self, shipment: _Shipment, copies: Mapping[int, Any]) -> None:
        self.file = io.BytesIO()
        super().__init__(self.file, protocol=5)
        self.shipment = shipment
        self.came = {id(shipment.arrays[n]): ("array", n) for n in shipment.frozen}
        self.came |= {id(value): ("value", n) for n, value in shipment.loaded.items()}
        self.copies = {id(copy): n for n, copy in copies.items()}
        self.same: dict[int, bool] = {}

    def persistent_id(self, obj: Any) -> Any:
        """A number for what the other side has too."""
        if id(obj) in self.came:
            return self.came[id(obj)]
        number = self.copies.get(id(obj))
        if number is None:
            return None
        if number not in self.same:
            self.same[number] = np.array_equal(obj, self.shipment.arrays[number])
        return ("array", number) if self.same[number] else None


@dataclass
class _Came(Part):
    """A part whose arrays' copies are known, for the way back."""

    copies: dict[int, Any] = field(default_factory=dict)


def _fresh(shipment: _Shipment) -> list[Part]:
    """Parts with copies of the round's states."""
    copies: dict[int, Any] = {}
    states = _Receiver(shipment.body, shipment, copies).load()
    return [_Came(fold, state, copies=copies) for fold, state in zip(shipment.folds, states)]


def _packed(shipment: _Shipment, parts: Sequence[Part]) -> bytes:
    """States, seconds and errors of a pass, compressed."""
    returner = _Returner(shipment, next((p.copies for p in parts if isinstance(p, _Came)), {}))
    returner.dump([(None if p.error else p.state, p.seconds, _sendable(p.error)) for p in parts])
    raw = returner.file.getvalue()
    return pickle.dumps((len(raw), pa.compress(raw, codec="zstd", asbytes=True)))


def _outcome(packed: bytes, shipment: _Shipment) -> list[Part]:
    size, raw = _opened(packed)
    copies: dict[int, Any] = {}
    made = _Receiver(pa.decompress(raw, size, codec="zstd", asbytes=True), shipment, copies).load()
    return [_Came(f, s, seconds, error, copies) for f, (s, seconds, error) in zip(shipment.folds, made)]


def _sendable(error: Exception | None) -> Exception | None:
    if error is None:
        return None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever the exception of a plug-in does when it is pickled
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
