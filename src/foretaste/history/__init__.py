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

from foretaste.history.state import History, HistoryOptions
from foretaste.history.store import Store

__all__ = ["History", "HistoryOptions", "Store"]
