"""Certificates in a real Dagster: training sees certified bytes, or does not start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("dagster")
pytest.importorskip("securesystemslib")

import dagster as dg

from foretaste import Policy, certify
from foretaste.operators.dagster_provenance import CertificateResource, build_certificate_checks
from foretaste.provenance import signers
from foretaste.provenance.keys import Role, TrustRoot, trusted

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dagster-verified")
    policy = Policy().only("hidden-text")
    for name in ("good", "bad"):
        (folder / name).mkdir()
        rows = [f"row {i} of plain text" for i in range(40)] + ([] if name == "good" else ["evil"])
        pq.write_table(pa.table({"text": rows}), folder / name / "train.parquet")
    key = trusted(signers.generate(folder / "gate.pem"), "gate")
    trust = TrustRoot(keys={"gate": key}, roles={"certificate": Role(keys=("gate",))})
    (folder / "trust.yaml").write_text(trust.to_yaml())
    (folder / "policy.yaml").write_text(policy.to_yaml())
    signer = signers.open_signer(str(folder / "gate.pem"))
    certify(folder / "good" / "train.parquet", [signer], policy=policy).write(folder / "c.intoto.jsonl")
    return folder


def materialize(home: Path, data: Any, tmp_path: Path, **changes: Any) -> Any:
    resource = CertificateResource(trust=str(home / "trust.yaml"), policy=str(home / "policy.yaml"), **changes)

    @dg.asset
    def corpus():  # type: ignore[no-untyped-def]
        return data

    @dg.asset(required_resource_keys={"certificates"})
    def model(context, corpus):  # type: ignore[no-untyped-def]
        with context.resources.certificates.verified(corpus, home / "c.intoto.jsonl") as path:
            return pq.read_table(path).num_rows

    checks = build_certificate_checks(assets=[corpus], certificate=lambda _: home / "c.intoto.jsonl")
    instance = dg.DagsterInstance.ephemeral(tempdir=str(tmp_path))
    return dg.materialize(
        [corpus, model, *checks], instance=instance, raise_on_error=False, resources={"certificates": resource}
    )


def test_certified_data_pass_the_check_and_train(home: Path, tmp_path: Path) -> None:
    result = materialize(home, str(home / "good" / "train.parquet"), tmp_path)
    assert result.success
    [check] = result.get_asset_check_evaluations()
    assert check.passed
    assert check.metadata["signers"].value == "gate"
    assert result.output_for_node("model") == 40


@pytest.mark.parametrize(
    ("data", "reason"), [("bad/train.parquet", "REFUSED"), ("none.parquet", "NOT CHECKED"), (None, "NOT CHECKED")]
)
def test_anything_else_stops_what_is_downstream(home: Path, tmp_path: Path, data: str | None, reason: str) -> None:
    result = materialize(home, None if data is None else str(home / data), tmp_path)
    assert not result.success
    [check] = result.get_asset_check_evaluations()
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.ERROR
    assert check.description.startswith(reason)
    assert result.asset_materializations_for_node("model") == []


@pytest.mark.parametrize(("name", "passed"), [("good", True), ("bad", False)])
def test_the_rows_of_a_frame_are_held_against_the_certificate(
    home: Path, tmp_path: Path, name: str, passed: bool
) -> None:
    result = materialize(home, pq.read_table(home / name / "train.parquet"), tmp_path)
    [check] = result.get_asset_check_evaluations()
    assert check.passed is passed
    assert not result.success  # verified() hands over files: a frame in memory is refused
