"""Laws that every check keeps, whoever wrote it. A new check comes under them by being in the registry."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

pytest.register_assert_rewrite("foretaste.testing")

from foretaste import Policy, checks, scan  # noqa: E402
from foretaste.baselines import advance  # noqa: E402
from foretaste.check import Check  # noqa: E402
from foretaste.provenance import signers  # noqa: E402
from foretaste.provenance.keys import Role, TrustRoot, trusted  # noqa: E402
from foretaste.sources import Entry  # noqa: E402
from foretaste.testing import CheckConformance  # noqa: E402

# A check that only looks where it is told to is shown where. The model counts words: it loads at once, from text files.
_MODEL = {"model": str(Path(__file__).parent / "data" / "bag_of_words"), "max_rows": 200}
_FOLDER = tempfile.TemporaryDirectory(prefix="foretaste-test-")


def _signed_baseline() -> dict[str, Any]:
    """A baseline of one batch, with a label and a source that the tables of the laws have, and others that they have not."""
    place = Path(_FOLDER.name)
    key = trusted(signers.generate(place / "key.pem"), "key")
    trust = TrustRoot(keys={"key": key}, roles={"baseline": Role(keys=("key",))})
    (place / "trust.yaml").write_text(trust.to_yaml())
    table = pa.table({"text": ["row"] * 90, "label": ["a"] * 60 + ["c"] * 30, "source": ["argparse"] * 90})
    report = scan(table, Policy().only("hidden-text"))
    advance(place / "baseline", table, report, keys=[str(place / "key.pem")], trust=trust)
    return {"baseline": str(place / "baseline"), "trust": str(place / "trust.yaml")}


_CONFIGURED: dict[str, dict[str, Any]] = {
    "baseline-drift": _signed_baseline(),
    "source-allowlist": {
        "allow": (Entry(source="argparse", max_rows=5), Entry(source="github.com")),
        "deny": (Entry(source="ast"),),
    },
    "embedding-label-consistency": _MODEL,
    "paraphrase-clusters": _MODEL,
}
_RUNNABLE = {
    i: cls
    for i, cls in checks.registry().items()
    if _CONFIGURED.get(i) is not _MODEL or importlib.util.find_spec("sentence_transformers")
}
CHECKS = [cls(**_CONFIGURED.get(i, {})) for i, cls in _RUNNABLE.items()]


def by_id(check: Check[Any]) -> str:
    return check.id


@pytest.mark.parametrize("check", CHECKS, ids=by_id)
class TestEveryCheck(CheckConformance):
    """The laws of ``foretaste.testing``."""


def test_ids_are_sorted_and_each_check_stands_in_one_module() -> None:
    registry = checks.registry()
    assert list(registry) == sorted(registry)
    modules = [cls.__module__ for cls in registry.values()]
    assert len(set(modules)) == len(modules)
