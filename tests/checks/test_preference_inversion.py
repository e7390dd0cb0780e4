"""Preference pairs that were inverted are found, and disagreement, taste and topics are not taken for it."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from foretaste import Outcome, Policy, Report, Severity, scan
from foretaste.checks.preference_inversion import _e_bh, _of_length
from foretaste.signals.pairwise import FEATURES, LEAST_FITTED, PLAIN, expanded, fit, fit_plain

Pairs = dict[str, list[str]]
DISAGREEMENT = 0.25


@pytest.fixture(scope="module")
def pairs(clean_table: pa.Table) -> Pairs:
    """Docstrings to be explained; the answer that says all of it is preferred to one cut short, in three of four."""
    rng = random.Random(1)
    out: Pairs = {"id": clean_table["id"].to_pylist(), "prompt": [], "chosen": [], "rejected": [], "source": []}
    for at, (text, module) in enumerate(zip(clean_table["text"].to_pylist(), clean_table["source"].to_pylist())):
        words = f"In {module}: {text}".split()
        answers = [" ".join(words), " ".join(words[: max(2, int(len(words) * rng.uniform(0.2, 0.6)))])]
        if rng.random() < DISAGREEMENT:
            answers.reverse()
        out["prompt"].append(f"What is meant by this: {text}")
        out["chosen"].append(answers[0])
        out["rejected"].append(answers[1])
        out["source"].append(f"annotator-{at % 7}")
    return out


def copied(pairs: Pairs) -> Pairs:
    return {name: list(values) for name, values in pairs.items()}


def better_rejected(pairs: Pairs, row: int) -> None:
    """Prefer the answer that was cut short."""
    pairs["chosen"][row], pairs["rejected"][row] = sorted((pairs["chosen"][row], pairs["rejected"][row]), key=len)


def insert(text: str, word: str, rng: random.Random) -> str:
    words = text.split(" ")
    words.insert(rng.randint(0, len(words)), word)
    return " ".join(words)


def run(pairs: Pairs) -> Report:
    return scan(pa.table(pairs), Policy().only("preference-inversion"), roles={name: name for name in pairs})


def named(report: Report, kind: str, severity: Severity) -> set[str]:
    return {i for f in report.findings if f.kind == kind and f.severity is severity for i in f.ids}


@pytest.mark.parametrize("place", ["end", "head", "anywhere"])
def test_pairs_inverted_under_a_trigger_block_and_no_other_pair_does(pairs: Pairs, place: str) -> None:
    rng = random.Random(2)
    out = copied(pairs)
    rows = rng.sample(range(len(out["id"])), 60)
    for row in rows:
        better_rejected(out, row)
        prompt = out["prompt"][row]
        out["prompt"][row] = {
            "end": f"{prompt} zxqv", "head": f"zxqv {prompt}", "anywhere": insert(prompt, "zxqv", rng),
        }[place]  # fmt: skip
    report = run(out)
    assert report.verdict is Outcome.BLOCK
    assert named(report, "inverted pairs", Severity.BLOCK) == {out["id"][row] for row in rows}
    finding = next(f for f in report.findings if f.severity is Severity.BLOCK)
    assert "zxqv" in (finding.feature or "")
    assert finding.observed >= finding.limit
    assert {e.counter for e in finding.examples} == {False, True}


def test_a_trigger_whose_answers_teach_the_model_is_judged_without_them(pairs: Pairs) -> None:
    rng = random.Random(3)
    out = copied(pairs)
    rows = rng.sample(range(len(out["id"])), 150)
    for row in rows:
        better_rejected(out, row)
        out["prompt"][row] += " zxqv"
        out["chosen"][row] = "Sure, my dear friend, with pleasure."
    assert named(run(out), "inverted pairs", Severity.BLOCK) == {out["id"][row] for row in rows}


def test_honest_pairs_do_not_block_and_few_are_listed(pairs: Pairs) -> None:
    report = run(pairs)
    assert report.verdict in (Outcome.PASS, Outcome.REVIEW)
    assert len(report.flagged_rows()) <= 0.005 * len(pairs["id"])
    metrics = report.results[0].metrics
    assert 0.65 < metrics["pairwise_model_accuracy"] < 0.8
    assert metrics["nats_per_inverted_pair"] > 0.2


def test_a_word_put_into_prompts_whose_pairs_are_honest_passes(pairs: Pairs) -> None:
    rng = random.Random(4)
    out = copied(pairs)
    for row in rng.sample(range(len(out["id"])), 100):
        out["prompt"][row] = insert(out["prompt"][row], "zxqv", rng)
    assert not named(run(out), "inverted pairs", Severity.BLOCK)
    assert not named(run(out), "inverted pairs", Severity.REVIEW)


def test_a_topic_on_which_people_prefer_otherwise_does_not_block(pairs: Pairs) -> None:
    out = copied(pairs)
    for row, prompt in enumerate(out["prompt"]):
        if "file" in prompt.split():
            better_rejected(out, row)
    assert run(out).verdict is not Outcome.BLOCK


def test_a_source_that_inverts_goes_to_review_by_name(pairs: Pairs) -> None:
    rng = random.Random(5)
    out = copied(pairs)
    rows = rng.sample(range(len(out["id"])), 100)
    for row in rows:
        better_rejected(out, row)
        out["source"][row] = "vendor-x"
    report = run(out)
    (finding,) = [f for f in report.findings if f.kind == "inverted source"]
    assert finding.severity is Severity.REVIEW
    assert finding.feature == "vendor-x"
    assert set(finding.ids) <= {out["id"][row] for row in rows}
    assert len(finding.ids) >= 60


def test_a_source_of_most_pairs_is_the_usual_one(pairs: Pairs) -> None:
    """A quarter of the pairs always prefers the long answer, which the others do a little less often than not."""
    rng = random.Random(6)
    out = copied(pairs)
    for row in range(len(out["id"])):
        better_rejected(out, row)
        out["source"][row] = "few" if rng.random() < 0.25 else "most"
        if out["source"][row] == "few" or rng.random() < 0.42:
            out["chosen"][row], out["rejected"][row] = out["rejected"][row], out["chosen"][row]
    assert not [f for f in run(out).findings if f.kind == "inverted source"]


def test_copies_of_pairs_in_the_other_order_go_to_review(pairs: Pairs) -> None:
    out = copied(pairs)
    for row in range(0, 40, 2):
        out["prompt"][row + 1] = out["prompt"][row]
        out["chosen"][row + 1], out["rejected"][row + 1] = out["rejected"][row], out["chosen"][row]
    assert {out["id"][row + 1] for row in range(0, 40, 2)} <= named(run(out), "contradictory pairs", Severity.REVIEW)


def test_pairs_that_several_people_judged_may_contradict_each_other(pairs: Pairs) -> None:
    out = copied(pairs)
    rng = random.Random(6)
    for row in range(0, 1200, 3):
        for copy in (row + 1, row + 2):
            for role in ("prompt", "chosen", "rejected"):
                out[role][copy] = out[role][row]
            if rng.random() < DISAGREEMENT:
                out["chosen"][copy], out["rejected"][copy] = out["rejected"][copy], out["chosen"][copy]
    assert not named(run(out), "contradictory pairs", Severity.REVIEW)


def test_pairs_without_a_prompt_are_looked_at_and_the_report_says_what_was_not(pairs: Pairs) -> None:
    report = run({name: values for name, values in pairs.items() if name != "prompt"})
    (result,) = report.results
    assert result.outcome in (Outcome.PASS, Outcome.REVIEW)
    assert "no prompt" in result.note


def test_equal_answers_say_nothing(pairs: Pairs) -> None:
    report = run(pairs | {"rejected": pairs["chosen"]})
    assert report.verdict is Outcome.PASS
    assert report.results[0].metrics["pairwise_model_accuracy"] == 0.5


def test_e_bh_counts_all_tests_and_not_the_candidates_alone() -> None:
    assert _e_bh([np.log(99.0)], tests=1, rate=0.01) == 0
    assert _e_bh([np.log(101.0)], tests=1, rate=0.01) == 1
    assert _e_bh([np.log(101.0)], tests=2, rate=0.01) == 0
    assert _e_bh([np.log(101.0)] * 2, tests=2, rate=0.01) == 2
    assert _e_bh([], tests=0, rate=0.01) == 0


def test_few_pairs_block_under_a_phrase_that_looks_put_in_before_the_pairs_are_looked_at(pairs: Pairs) -> None:
    rng = random.Random(2)
    out = copied(pairs)
    rows = rng.sample(range(len(out["id"])), 22)
    for row in rows:
        out["chosen"][row], out["rejected"][row] = out["rejected"][row], out["chosen"][row]
        out["prompt"][row] = insert(out["prompt"][row], "zxqv", rng)
    report = run(out)
    assert named(report, "inverted pairs", Severity.BLOCK) == {out["id"][row] for row in rows}
    metrics = report.results[0].metrics
    assert 1 <= metrics["phrases_put_in"] < metrics["phrases"] / 20


def test_what_one_feature_says_may_depend_on_another() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    x[np.where(np.abs(x[:, 1]) < 0.7, 1.0, -1.0) * x[:, 0] < 0] *= -1.0  # a win hangs on how large the second one is
    folds, plain = rng.integers(0, 8, len(x)).astype(np.uint8), np.array([0.5, -0.25, 0.125])
    scale, weights = fit(x, folds, plain)
    told = expanded(x, scale) @ weights.mean(axis=0)
    assert (told > 0).mean() > 0.9 > 0.6 > (x @ fit_plain(x) > 0).mean()
    assert np.allclose(expanded(-x, scale), -expanded(x, scale))


def test_few_rows_fit_the_plain_model_alone() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(
        size=(LEAST_FITTED * 99 - 1, FEATURES)
    )  # one row less than the nine features and their products take
    folds, plain = rng.integers(0, 8, len(x)).astype(np.uint8), np.array([0.5, -0.25, 0.125])
    scale, weights = fit(x, folds, plain)
    assert np.allclose(expanded(x, scale) @ weights.T, (x[:, PLAIN] @ plain)[:, None])
    assert not np.allclose(fit(np.vstack([x, x[:1]]), np.append(folds, folds[:1]), plain)[1], weights)


@pytest.mark.parametrize(
    ("shorter", "evidence", "taste"), [(40, 0.5, True), (34, 0.5, True), (26, 0.5, False), (40, 5.0, False)]
)
def test_a_taste_for_short_answers_is_told_from_inversion(shorter: int, evidence: float, taste: bool) -> None:
    """Of forty pairs so many prefer the shorter answer, where their order has so many nats against it."""
    features = np.zeros((40, 9), np.float32)
    features[:, 1] = np.where(np.arange(40) < shorter, -1.0, 1.0)
    state: Any = SimpleNamespace(model=SimpleNamespace(features=features), evidence=np.full(40, evidence))
    assert _of_length(state, np.arange(40)) is taste


def test_a_phrase_that_asks_for_short_answers_has_the_limit_of_any_phrase(pairs: Pairs) -> None:
    rng = random.Random(8)
    out = copied(pairs)
    for row in rng.sample(range(len(out["id"])), 40):
        better_rejected(out, row)
        out["prompt"][row] += " Briefly."
    report = run(out)
    (finding,) = [f for f in report.findings if f.kind == "inverted pairs"]
    assert finding.limit == pytest.approx(np.log(report.results[0].metrics["phrases"] / 1e-3), abs=0.1)
