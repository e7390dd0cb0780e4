"""Data of any accepted shape -> re-iterable, validated batches in canonical columns.

Accepted: paths, globs, directories and file-system addresses of Parquet, Arrow IPC, CSV and JSON lines (plain or
compressed); pandas and polars frames, pyarrow tables and datasets, and anything with ``__arrow_c_stream__``; one-shot
streams through :func:`spool`.
"""

from __future__ import annotations

from foretaste.reading.dataset import Dataset, InputOptions, open_data
from foretaste.reading.spool import spool

__all__ = ["Dataset", "InputOptions", "open_data", "spool"]
