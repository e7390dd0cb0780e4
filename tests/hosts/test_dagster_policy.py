"""One resource for the policy, state and trust of every gate and check, in real Dagster runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
dg = pytest.importorskip("dagster")

from foretaste import Policy, scan  # noqa: E402
from foretaste.baselines import advance  # noqa: E402
from foretaste.checks import registry  # noqa: E402
from foretaste.history import History  # noqa: E402
from foretaste.operators.dagster import PoisonPolicyResource, build_poison_checks, build_poison_gate  # noqa: E402
from foretaste.provenance import signers  # noqa: E402
from foretaste.provenance.keys import Role, TrustRoot, trusted  # noqa: E402
from foretaste.report import read  # noqa: E402
from foretaste.waivers import Waiver, Waivers  # noqa: E402

pytestmark = pytest.mark.host


def alone(check_id: str, **parameters: Any) -> dict[str, Any]:
    """A policy with one check, as in a file: what a file does not name joins it."""
    return {"checks": {i: {"enabled": False} for i in registry()} | {check_id: parameters}}


HIDDEN = alone("hidden-text")
FEW = alone("source-allowlist", allow=[{"source": "vendor", "max_rows_total": 40}])
KEY = dg.AssetKey(["raw", "corpus"])


def run(table: pa.Table, folder: Path, resource: Any, *, gate: bool = True, check: bool = True, **given: Any) -> Any:
    """A run of a corpus, its check, its gate and a training asset."""

    @dg.asset(key=KEY)
    def corpus() -> pa.Table:
        return table

    @dg.asset(ins={"data": dg.AssetIn("checked")})
    def model(data) -> None: ...  # type: ignore[no-untyped-def]

    assets: list[Any] = [corpus]
    if gate:
        made = build_poison_gate(name="checked", asset=corpus, out=folder / "out", resource_key="poison", **given)
        assets += [made, model]
    if check:
        assets += build_poison_checks(assets=[corpus], resource_key="poison", blocking=False)
    return dg.materialize(assets, resources={"poison": resource}, raise_on_error=False)


def trained(result: Any) -> bool:
    return "model" in {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()}


def check_of(result: Any) -> Any:
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation


def test_the_policy_file_that_the_environment_names_holds_for_gate_and_check(
    poisoned_table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = poisoned_table.slice(0, 200)
    resource = PoisonPolicyResource(policy=dg.EnvVar("POISON_POLICY"))
    for policy, passes in ((HIDDEN, False), (alone("hidden-text", block_rows=10**6), True)):
        (tmp_path / "policy.yaml").write_text(json.dumps(policy))
        monkeypatch.setenv("POISON_POLICY", str(tmp_path / "policy.yaml"))
        result = run(table, tmp_path, resource)
        assert trained(result) is passes
        assert (check_of(result).severity is dg.AssetCheckSeverity.WARN) is passes
        assert check_of(result).metadata["policy_digest"].value == Policy.load(policy).digest


def test_an_inline_policy_holds_and_what_a_gate_is_given_goes_before_it(
    poisoned_table: pa.Table, tmp_path: Path
) -> None:
    table = poisoned_table.slice(0, 200)
    resource = PoisonPolicyResource(inline=HIDDEN)
    result = run(table, tmp_path, resource)
    assert not trained(result)
    assert check_of(result).metadata["policy_digest"].value == Policy.load(HIDDEN).digest
    assert trained(run(table, tmp_path, resource, check=False, policy=alone("hidden-text", block_rows=10**6)))


def test_a_gate_adds_to_the_state_of_its_asset_and_a_check_only_reads_it(clean_table: pa.Table, tmp_path: Path) -> None:
    delivered = clean_table.set_column(2, "source", pa.array(["vendor"] * clean_table.num_rows))
    resource = PoisonPolicyResource(inline=FEW, state=str(tmp_path / "{asset}.state"))
    state = tmp_path / "raw.corpus.state"
    first = run(delivered.slice(0, 30), tmp_path, resource, gate=False)
    assert check_of(first).passed
    assert not state.exists()
    assert trained(run(delivered.slice(0, 30), tmp_path, resource))
    second = run(delivered.slice(30, 30), tmp_path, resource)
    assert not trained(second)
    assert not check_of(second).passed
    assert trained(run(delivered.slice(60, 5), tmp_path, resource))
    assert [b["rows"] for b in History.open(state).batches] == [30, 5]


def test_waivers_of_the_resource_hold_for_gate_and_check(poisoned_table: pa.Table, tmp_path: Path) -> None:
    table = poisoned_table.slice(0, 200)
    gate = run(table, tmp_path, PoisonPolicyResource(inline=HIDDEN), check=False)
    assert not trained(gate)
    (place,) = tmp_path.rglob("report.json")
    report, waivers = read(place.parent), Waivers()
    for finding in report.findings:
        waivers = waivers.add(
            Waiver.of(
                report, finding.fingerprint, statement="a watermark", owner="ann", expired_at="2999-01-01",
                status="not_affected", impact_statement="stripped before training",
            )
        )  # fmt: skip
    (tmp_path / "waivers.yaml").write_text(waivers.to_yaml())
    waived = PoisonPolicyResource(inline=HIDDEN, waivers=str(tmp_path / "waivers.yaml"))
    assert trained(run(table, tmp_path, waived, check=False))


def test_the_baseline_of_an_asset_is_what_its_check_and_gate_compare_with(tmp_path: Path) -> None:
    def delivery(source: str) -> pa.Table:
        return pa.table({"text": [f"row {i} of {source}" for i in range(400)], "source": [source] * 400})

    key = trusted(signers.generate(tmp_path / "lead.pem"), "lead")
    trust = tmp_path / "trust.yaml"
    trust.write_text(TrustRoot(keys={"lead": key}, roles={"baseline": Role(keys=("lead",))}).to_yaml())
    accepted = delivery("a.org")
    report = scan(accepted, HIDDEN)
    advance(tmp_path / "raw.corpus", accepted, report, keys=[str(tmp_path / "lead.pem")], trust=trust)
    policy = alone("baseline-drift")
    resource = PoisonPolicyResource(inline=policy, baseline=str(tmp_path / "{asset}"), trust=str(trust))
    assert check_of(run(delivery("a.org"), tmp_path, resource)).passed
    strange = run(delivery("b.org"), tmp_path, resource, fail_on="review")
    assert not check_of(strange).passed
    assert not trained(strange)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"policy": "p.yaml", "inline": {}}, "keep one of them"),
        ({"policy": ""}, "policy of the resource is empty"),
        ({"state": " "}, "state of the resource is empty"),
        ({"inline": {"chekcs": {}}}, "chekcs"),
        ({"baseline": "b"}, "name the trust file"),
        ({"baseline": "b", "trust": "t.yaml", "inline": HIDDEN}, "baseline-drift"),
        ({"baseline": "/no/baseline", "trust": "/no/trust.yaml"}, "/no/"),
    ],
)
def test_a_resource_that_says_nothing_clear_is_never_a_pass(
    clean_table: pa.Table, tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    result = run(clean_table.slice(0, 50), tmp_path, PoisonPolicyResource(**fields))
    assert not trained(result)
    assert not check_of(result).passed
    failed = next(e.step_failure_data for e in result.all_events if e.is_step_failure)
    assert said in failed.error.to_string()


def test_results_per_check_need_names_where_the_policy_is_known_only_in_a_run() -> None:
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="list ids"):
        build_poison_checks(assets=["corpus"], per_check=True, resource_key="poison")


def test_a_resource_that_is_missing_is_named_when_definitions_are_loaded() -> None:
    checks = build_poison_checks(assets=["corpus"], resource_key="poison")
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="poison"):
        dg.Definitions.validate_loadable(dg.Definitions(assets=[dg.AssetSpec("corpus")], asset_checks=[*checks]))


def test_no_two_assets_share_a_state() -> None:
    resource = PoisonPolicyResource(state="{asset}")
    keys = [["a", "b"], ["a.b"], ["a/b"], ["..", "b"], ["a", ".b"]]
    places = [resource.terms(dg.AssetKey(key)).state for key in keys]
    assert len(set(places)) == len(keys)
    assert not any("/" in str(place) for place in places)
