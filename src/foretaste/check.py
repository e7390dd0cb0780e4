"""The protocol of a check: a mergeable fold over the batches, in as many rounds as it needs.

A check and a signal have the same shape. A *signal* computes something that several checks need (near-duplicate
clusters, n-gram counts, out-of-fold predictions); the engine runs each signal once and hands its value to whoever named
it in ``needs``. A *check* ends in a :class:`~foretaste.results.CheckResult`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.deliveries import Deliveries
from foretaste.results import CheckResult, Severity
from foretaste.roles import Kind

if TYPE_CHECKING:
    from foretaste.background import Background

LEAST_CELL_BITS = 18
State = TypeVar("State")
Value = TypeVar("Value")


class NotApplicableError(Exception):
    """Raised by a fold that finds nothing it applies to, such as labels that are all the same.

    The checks that need it are skipped with its message, which the report shows.
    """


@dataclass(frozen=True)
class Context:
    """What a fold may know before it starts.

    Attributes:
        kind: shape of the data.
        roles: roles that the data have.
        values: finished signals, keyed by the signal object.
        seed: of every random draw, so that two scans of the same data agree.
        memory: bytes that the rows and tables of a scan may take, all together: what the process may take, less what
            any scan takes.
        background: counts of rows that were accepted earlier and are not among these, where a state is kept.
        deliveries: what sources signed about the data.
        bytes: size of the files, 0 for data that are none; sketches are sized by it.
    """

    kind: Kind
    roles: frozenset[str]
    values: Mapping[Signal[Any, Any], Any] = field(default_factory=dict)
    seed: int = 0
    background: Background | None = None
    deliveries: Deliveries = field(default_factory=Deliveries)
    memory: int = 1648 << 20
    bytes: int = 0

    def cells(self, most: int) -> int:
        """Cells of a sketch, a power of two: at least one for every byte of data, so that small data take little.

        Fewer show: where the cells of a few words fall together, neighbours look more alike than they are. ``most`` is what
        large data get, and what all get whose size is not known or to whose counts earlier ones are added.
        """
        if not self.bytes or self.background is not None:
            return most
        return min(most, 1 << max(LEAST_CELL_BITS, self.bytes.bit_length()))

    def value(self, signal: Signal[Any, Value]) -> Value:
        """The value of a finished signal.

        Raises:
            KeyError: if the fold did not name it in ``needs``.
        """
        result: Value = self.values[signal]
        return result


class Fold(ABC, Generic[State]):
    """A mergeable fold over record batches. Subclasses are frozen dataclasses; their fields are their parameters.

    Parts of the data may be scanned apart, each from a copy of the state that :meth:`start` or :meth:`next_round` gave:
    that state is the identity of :meth:`merge` in its round.
    """

    def needs(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Signals whose values must be there before :meth:`start`."""
        return ()

    def needs_first(self, context: Context) -> tuple[Signal[Any, Any], ...]:
        """Those of :meth:`needs` that :meth:`start` cannot do without; the others are there before :meth:`next_round`."""
        return self.needs(context)

    @abstractmethod
    def start(self, context: Context) -> State:
        """The identity of :meth:`merge`."""

    def supply(self, state: State, context: Context) -> None:
        """Take in, between the first pass and :meth:`next_round`, the values that :meth:`start` did without."""

    @abstractmethod
    def scan(self, state: State, batch: Batch) -> None:
        """Take a batch into the state, in place, in bounded memory."""

    @abstractmethod
    def merge(self, left: State, right: State) -> State:
        """Join the states of two parts of the data, left before right. Associative; may consume ``left``."""

    def next_round(self, state: State) -> State | None:
        """The state for another pass over the data, or ``None`` when this fold has seen enough."""
        return None


class Signal(Fold[State], Generic[State, Value]):
    """A computation that several checks share. Equal parameters mean the same signal, computed once."""

    @abstractmethod
    def value(self, state: State) -> Value:
        """The finished value, read only."""


def _no_rows() -> npt.NDArray[np.int64]:
    return np.zeros(0, np.int64)


def together(groups: Iterable[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Rows of several groups, one group after the other, each row where it stands first."""
    joined = np.concatenate([_no_rows(), *groups])
    _, first = np.unique(joined, return_index=True)
    return joined[np.sort(first)]


@dataclass(frozen=True, kw_only=True)
class RawExample:
    """A row to show, by number; the engine reads its text later. ``around`` centres the excerpt on a substring."""

    row: int
    counter: bool = False
    around: str | None = None


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Asks the engine for counter-examples: the rows most like the shown ones without the trigger, with another output.

    Another output is another label or a response that begins otherwise; in other data it is up to ``excluded``.

    Attributes:
        trigger: text whose words are taken out before rows are compared.
        excluded: rows that are no counter-example, beside those of the finding: all with the trigger, whatever their output.
    """

    trigger: str = ""
    excluded: npt.NDArray[np.int64] = field(default_factory=_no_rows)


@dataclass(frozen=True, kw_only=True)
class RawFinding:
    """A finding as a check makes it, with row numbers; the engine adds ids, sources and texts.

    ``twins`` asks for counter-examples to the rows among ``examples`` (see :mod:`foretaste.twins`). ``earlier`` numbers
    rows of earlier batches; the engine fills it.
    """

    kind: str
    severity: Severity
    message: str
    rows: npt.NDArray[np.int64]
    feature: str | None = None
    target: str | None = None
    observed: float = 0.0
    limit: float = 0.0
    statistic: Mapping[str, float] = field(default_factory=dict)
    examples: tuple[RawExample, ...] = ()
    twins: Twins | None = None
    waivable: bool = True
    earlier: npt.NDArray[np.int64] = field(default_factory=_no_rows)


@dataclass(frozen=True, kw_only=True)
class RawResult:
    """What :meth:`Check.finish` returns.

    Attributes:
        findings: what was found.
        metrics: named numbers for the report.
        note: the reason of a skip, or the limits of what was looked at.
        skipped: whether the check had nothing to look at.
        watch: rows to remember where a state is kept, most suspect first: too little by themselves, and a later batch
            may add to them.
    """

    findings: tuple[RawFinding, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    skipped: bool = False
    watch: npt.NDArray[np.int64] = field(default_factory=_no_rows)


class Check(Fold[State]):
    """A poisoning check.

    The class docstring is the product documentation: a first line that names what is found, then what it catches, what
    it misses, and the paper behind it. ``foretaste checks`` prints it.
    """

    id: ClassVar[str]
    accumulates: ClassVar[bool] = False
    """Whether the suspect rows of earlier batches may stand among its rows. They were chosen for being suspect, so only
    a check that judges groups of rows against the background may see them; one that takes rates over all rows may not.
    """

    @abstractmethod
    def applies(self, context: Context) -> str:
        """An empty string where the check applies to these data, else the reason why it does not."""

    @abstractmethod
    def finish(self, state: State) -> RawResult:
        """The findings."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the check as plain values, as they go into the report and the policy file."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]


__all__ = [
    "Batch",
    "Check",
    "CheckResult",
    "Context",
    "Fold",
    "NotApplicableError",
    "RawExample",
    "RawFinding",
    "RawResult",
    "Severity",
    "Signal",
    "Twins",
    "together",
]
