"""Training that starts by itself, in real Dagster, behind a gate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
dg = pytest.importorskip("dagster")

from foretaste.checks.hidden_text import HiddenText  # noqa: E402
from foretaste.operators.dagster import build_poison_gate  # noqa: E402
from foretaste.operators.dagster_automation import build_gate_sensor  # noqa: E402
from foretaste.policy import Policy  # noqa: E402

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore")]


class Deployment:
    """``corpus`` -> ``checked`` -> ``model``, all eager, in one instance; ``table`` is what is delivered."""

    def __init__(self, folder: Path, instance: Any, **gate: Any) -> None:
        self.instance = instance
        self.table: pa.Table = None
        self.cursor: Any = None
        eager = dg.AutomationCondition.eager()

        @dg.asset
        def corpus() -> Any:
            return self.table.slice(0, 200)

        @dg.asset(automation_condition=eager)
        def model(checked) -> None: ...  # type: ignore[no-untyped-def]

        policy = Policy(checks=(HiddenText(),))
        self.gate = build_poison_gate(
            name="checked", asset=corpus, out=folder, policy=policy, automation_condition=eager, **gate
        )
        self.train = dg.define_asset_job("train", dg.AssetSelection.assets("model"))
        self.sensor = build_gate_sensor(gate=self.gate, job=self.train)
        self.assets = [corpus, self.gate, model]
        self.defs = dg.Definitions(assets=self.assets, jobs=[self.train], sensors=[self.sensor])

    def deliver(self, table: pa.Table, *names: str) -> None:
        """Materialize the assets named."""
        self.table = table
        dg.materialize(self.assets, selection=list(names), instance=self.instance, raise_on_error=False)

    def tick(self) -> set[str]:
        """Names of the assets that the automation conditions ask for."""
        result = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        keys = (one.key.to_user_string() for one in result.results if result.get_num_requested(one.key))
        return set(keys)

    def trained(self) -> int:
        """How often ``model`` was materialized."""
        return len(self.instance.fetch_materializations(dg.AssetKey("model"), limit=10).records)

    def look(self) -> list[Any]:
        """What the sensor does now."""
        context = dg.build_sensor_context(self.instance, definitions=self.defs)
        data = self.sensor.evaluate_tick(context)
        return list(data.run_requests or ())


@pytest.fixture
def instance(tmp_path: Path) -> Any:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


def test_eager_training_follows_a_gate_that_passed_and_not_one_that_refused(
    tmp_path: Path, instance: Any, clean_table: pa.Table, poisoned_table: pa.Table
) -> None:
    made = Deployment(tmp_path / "out", instance)
    made.deliver(clean_table, "corpus")
    made.tick()
    made.deliver(clean_table, "corpus", "checked")
    assert "model" in made.tick()
    made.deliver(clean_table, "model")
    made.tick()
    before = made.trained()
    made.deliver(poisoned_table, "corpus")
    asked = made.tick()
    assert "checked" in asked
    # Dagster asks for both in one run, in which training waits for the gate: it refuses.
    made.deliver(poisoned_table, *asked)
    assert made.tick() == set()
    assert made.trained() == before


def test_the_sensor_trains_on_a_pass_only(
    tmp_path: Path, instance: Any, clean_table: pa.Table, poisoned_table: pa.Table
) -> None:
    made = Deployment(tmp_path / "out", instance, on_block="quarantine")
    assert made.look() == []
    made.deliver(poisoned_table, "corpus", "checked")  # handed on after a quarantine
    assert made.look() == []
    made.deliver(clean_table, "corpus", "checked")
    (request,) = made.look()
    assert request.tags["foretaste/data_digest"].startswith("sha256:")


def test_a_materialization_that_says_nothing_of_a_gate_is_no_pass(tmp_path: Path, instance: Any) -> None:
    made = Deployment(tmp_path / "out", instance)
    instance.report_runless_asset_event(dg.AssetMaterialization("checked"))
    assert made.look() == []
