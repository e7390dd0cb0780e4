"""What a scan sees of the rows that are held, and how its findings are told apart from those of earlier batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from foretaste.background import Background
from foretaste.check import RawExample, RawFinding, RawResult
from foretaste.history.rows import Rows
from foretaste.roles import Kind
from foretaste.sweep import Data, Edit, Part, Tick


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
        twins = finding.twins
        if twins is not None:
            twins = dataclasses.replace(twins, excluded=twins.excluded[twins.excluded >= self.rows] - self.rows)
        finding = dataclasses.replace(finding, twins=twins)
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
