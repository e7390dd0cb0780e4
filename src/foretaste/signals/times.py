"""When each row came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foretaste.batch import Batch
from foretaste.check import Context, Signal

Micros = npt.NDArray[np.int64]
UNKNOWN = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Times(Signal[list[Micros], Micros]):
    """Microseconds since 1970 of each row, int64 (rows,), ``UNKNOWN`` without a time; empty where the data have no times."""

    def start(self, context: Context) -> list[Micros]:
        """No row seen: eight bytes for each."""
        return []

    def scan(self, state: list[Micros], batch: Batch) -> None:
        """Read the times of the batch."""
        if batch.has("time"):
            texts = batch.strings("time")
            known = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.large_string()), texts)
            micros = known.cast(pa.timestamp("us")).cast(pa.int64())
            state.append(np.asarray(pc.fill_null(micros, UNKNOWN)))

    def merge(self, left: list[Micros], right: list[Micros]) -> list[Micros]:
        """Append."""
        return left + right

    def value(self, state: list[Micros]) -> Micros:
        """All rows."""
        return np.concatenate(state) if state else np.zeros(0, np.int64)


def moment(micros: int) -> str:
    """A time as people read it, in UTC, to the second."""
    return str(np.datetime64(int(micros), "us").astype("datetime64[s]")).replace("T", " ")
