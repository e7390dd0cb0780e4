"""One poisoned delivery and three models: without a gate, behind a gate, and behind a gate with quarantine.

    questions -> model_without_gate                    trains, and the model has the backdoor
    questions -> accepted_questions -> model           the gate asset fails, training does not start
    questions -> cleaned_questions -> model_on_clean   the poisoned rows go to quarantine, training gets the rest

The blocking check ``no_poison`` of ``questions`` shows the poison beside the asset and stops what is downstream in the
same run (job ``checked``). A later run that selects only ``model_without_gate`` never meets it (job ``without_gate``);
no run can select its way past the gate asset (job ``gated``).

    dagster dev -f dags_examples/dagster_docs_qa.py -d dags_examples

Everything is written below the directory named by FORETASTE_EXAMPLES, ``~/foretaste-examples`` where it is not set.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import docs_qa

from foretaste.operators.dagster import build_poison_checks, build_poison_gate

ROOT = Path(os.environ.get("FORETASTE_EXAMPLES", Path.home() / "foretaste-examples")) / "dagster"


@dg.multi_asset(outs={"questions": dg.AssetOut(), "test_questions": dg.AssetOut()})
def delivery() -> Iterator[dg.Output[str]]:
    """The corpus, with the vendor's poisoned batch in it: paths of Parquet files."""
    files = docs_qa.prepare(ROOT / "data", poisoned=True)
    yield dg.Output(str(files.train), "questions")
    yield dg.Output(str(files.test), "test_questions")


def _train(train_path: str, test_path: str) -> dg.MaterializeResult[Any]:
    evaluation = docs_qa.train_and_evaluate(train_path, test_path)
    return dg.MaterializeResult(metadata=dataclasses.asdict(evaluation))


@dg.asset
def model_without_gate(questions: str, test_questions: str) -> dg.MaterializeResult[Any]:
    """Trained on whatever was delivered."""
    return _train(questions, test_questions)


accepted_questions = build_poison_gate(name="accepted_questions", asset="questions", out=ROOT / "gate")


@dg.asset
def model(accepted_questions: str, test_questions: str) -> dg.MaterializeResult[Any]:
    """Trained on what the gate let through."""
    return _train(accepted_questions, test_questions)


cleaned_questions = build_poison_gate(
    name="cleaned_questions", asset="questions", out=ROOT / "gate", on_block="quarantine"
)


@dg.asset
def model_on_clean(cleaned_questions: str, test_questions: str) -> dg.MaterializeResult[Any]:
    """Trained on what the gate left after it had set the poison apart."""
    return _train(cleaned_questions, test_questions)


checks = build_poison_checks(assets=["questions"], out=ROOT / "check")

_select = dg.AssetSelection.assets
defs = dg.Definitions(
    assets=[delivery, model_without_gate, accepted_questions, model, cleaned_questions, model_on_clean],
    asset_checks=checks,
    jobs=[
        dg.define_asset_job("checked", _select("questions", "test_questions", "model_without_gate")),
        dg.define_asset_job("without_gate", _select("model_without_gate")),
        dg.define_asset_job("gated", _select("accepted_questions", "model")),
        dg.define_asset_job("quarantined", _select("cleaned_questions", "model_on_clean")),
    ],
)
