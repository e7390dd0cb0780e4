"""Compile the kernels before a scan asks for them, with a second process at the first scan after installing.

numba compiles a kernel when it is first called, with one lock for all threads of a process, and keeps the result on disk.
So a second process compiles from the far end of the same list while the scan works its way from the near end; each finds
on disk what the other made.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from foretaste.roles import Kind
from foretaste.sweep import cores

if TYPE_CHECKING:
    from numba.core.types import Type

# In the order of first use: the kinds of data (documents, classification, instruct, preference), the kernel, and its
# arguments as letters of numpy's types, each with the number of dimensions of an array; S is a tally of the n-gram table.
KERNELS = """
dcip tokens._hash_rows B1 q1 Q1
dcip tokens._tokenize B1 q1 Q1 q1 q1 q1 I1
dcip ngrams.sketch_ngrams Q1 q1 q B1 B1 B1 I1 I1 i1
dcip ngrams._hash_chunk Q1 q1 q q q Q2 q1 B1
cip minhash.sign_rows Q1 q1 q B2 Q1
cip minhash._sketch Q1 Q1 ?1
dcip sample._lowest Q1 q1 q Q Q1 Q1
i affixes.sketch_affixes Q1 q1 H1 Q1 I2 I2 I1
i affixes.capitals q1 q1 B1
cip minhash._join_equal Q1 i1 i1
cip minhash._pack_band B2 i1 q Q1
cip minhash._join_band B2 Q1 q i1
cip minhash.root i1 q
cip minhash.agreement B2 q q
cip minhash._resolve i1
dcip ngrams.count_ngrams Q1 q1 q i1 B1 B1 B1 I1 q Q1 S1 i2 q1
dcip ngrams._frequent_chunk Q2 B1 q B1 B1 B1 I1 q B2
p pairs.difference_words Q1 q1 Q1 q1 ?1 I1
p pairs._longest q1
p pairs._buckets Q1 q q Q Q1
p pairs._difference Q1 q Q1 q Q1 b1
p pairs.count_words I1 b1 q1 B1 I3
i affixes.list_affixes Q1 q1 q1 q1 B1 q ?1 Q1 q1 b1 b1 Q1 Q1 b1
c bayes.count_classes Q1 q1 i1 I2 q1 q
dcip ngrams.index_keys Q1 Q1 i1
c bayes.batch_logits Q1 q1 i1 I2 d1 ?1 d2 q1
c bayes.row_logits Q1 q q i I2 d1 d1 Q1
dcip ngrams.find_occurrences Q1 q1 q Q1 i1 q1 q1 q1 q1 Q1 Q1
p pairs.score_words I1 b1 q1 B1 I3 I2 d2
p pairs._distinct Q1 q q Q1
c bayes.log_softmax d2 q1 d1 d d d2
dcip evidence.majority q1 q1 i1 i1 q1
dcip ngrams.neighbour_bits q1 Q1 Q1 Q2
dcip ngrams.neighbour_diversity q1 Q1 Q1 d2
dcip ngrams._distinct Q1 Q1 q1 q
dcip ngrams.neighbour_scores q1 Q1 Q1 B1 B1 I1 d d2
dip gibberish.least_known_window Q1 q1 q1 B1 q1 B1 B1 q q d2
cip ngrams.keep_rows Q1 q1 q ?1 Q1 q
i nearest.query_words Q1 q1 q1 q1 Q1 q1 Q1 q1
i nearest._find Q1 Q
dci heads._hash_heads Q1 q1 q Q1
c leave_out.leave_group_out Q1 q1 q1 i1 I2 d1 d d d2
c leave_out._distinct_buckets Q1 q q Q Q1
cip evidence.inverse_frequency Q1 I1 d d1
i nearest.weigh Q1 I1 d d1
i nearest._scan Q1 q1 q I1 d Q1 q1 q1 d1 d1 q1 q1 q1 q1 d1 q1
cip evidence.coherence q1 q1 q1 d1 q1 d1
cip evidence._has q1 q
p pairs.score_groups I1 b1 q1 B1 I3 I2 q1 q1 d2
i evidence.class_gain q1 q1 q1 d1 d q1 d1 d1
i insertion.draw_words Q1 q1 q1 q1 q Q3
i insertion.distance_within Q1 Q2 q1 I1 d q d1
c bayes.batch_logits Q1 q1 i1 I2 d1 ?1 f2 q1
c bayes.row_logits Q1 q q i I2 d1 f1 Q1
c evidence.contradictions Q1 q1 f2 q1 q1 q1 i1 i1 I2 d1 d d d d1
c evidence.rest_log_probability Q1 q1 q1 i1 q Q1 I2 d1 d d d1
c evidence._has Q1 Q
cip ngrams.unigram_counts Q1 I1 q1
cip ngrams.randomness Q1 Q1 I1 d q d1
cip ngrams._glue Q1 I1 d
c bayes._bucket_counts Q1 I2 q q2
"""
_KINDS: dict[Kind, str] = {"documents": "d", "classification": "c", "instruct": "i", "preference": "p"}


def compile_kernels(kinds: str = "dcip", *, backwards: bool = False) -> None:
    """Compile the kernels that data of some kinds need, or load them where they were compiled before."""
    chosen = [rest for which, *rest in map(str.split, KERNELS.strip().splitlines()) if set(which) & set(kinds)]
    for name, *arguments in reversed(chosen) if backwards else chosen:
        _kernel(name).compile(tuple(map(_type, arguments)))


@contextmanager
def helped(kind: Kind) -> Iterator[None]:
    """Have a second process compile from the far end, where nothing was compiled yet and a second core is free for it."""
    helper = None
    if sys.executable and cores() > 1 and _cold():
        command = [sys.executable, "-m", "foretaste.warming", _KINDS[kind]]
        helper = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    try:
        yield
    finally:
        if helper is not None:
            helper.terminate()  # what it wrote is whole: numba renames finished files into place
            helper.wait()


def _cold() -> bool:
    name, *arguments = KERNELS.strip().splitlines()[0].split()[1:]
    kernel = _kernel(name)
    known = bool(kernel.signatures)
    kernel.compile(tuple(map(_type, arguments)))
    return not known and bool(kernel.stats.cache_misses)


def _kernel(name: str) -> Any:
    module, function = name.split(".")
    return getattr(importlib.import_module(f"foretaste.text.{module}"), function)


def _type(letters: str) -> Type:
    import numba
    import numpy as np

    from foretaste.text.merging import TALLY

    element = numba.from_dtype(TALLY if letters[0] == "S" else np.dtype(letters[0]))
    return numba.types.Array(element, int(letters[1]), "C") if len(letters) > 1 else element


if __name__ == "__main__":
    compile_kernels(sys.argv[1], backwards=True)
