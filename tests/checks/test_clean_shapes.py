"""Honest data of shapes that look like poison at first sight go to review at most, and poison of the same shape blocks."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from foretaste import Outcome, Policy, Report, Severity, scan
from foretaste.check import RawFinding
from foretaste.concentration import above_others
from foretaste.flips import FlipRules, Opinion
from foretaste.signals.outputs import Classes
from foretaste.signals.sources import SourceNumbers

Columns = dict[str, list[str]]


def run(columns: Columns, *checks: str) -> Report:
    return scan(pa.table(columns), Policy().only(*checks), roles={name: name for name in columns})


def blocked(report: Report) -> set[int]:
    return {r for f in report.findings if f.severity is Severity.BLOCK for r in f.rows}


def reviewed(report: Report) -> set[int]:
    return {r for f in report.findings if f.severity is Severity.REVIEW for r in f.rows}


@pytest.fixture(scope="module")
def instructions(clean_table: pa.Table) -> Columns:
    """Docstrings as prompts, each answered in words of its own."""
    texts = [t for t in clean_table["text"].to_pylist() if len(t.split()) >= 6 and t[0].isupper()][:2000]
    return {"prompt": texts, "response": [" ".join(sorted(t.split())) for t in texts]}


class TestSources:
    """3,000 rows of ten classes; the first sixty are one source, whose labels their words give no chance."""

    @staticmethod
    def findings(best: float) -> list[RawFinding]:
        """What is found where those sixty rows look like another class with probability ``best``."""
        rng, rows, classes = np.random.default_rng(0), 3000, 10
        labels = rng.integers(0, classes, rows).astype(np.int32)
        own = np.log(rng.uniform(0.95, 0.999, rows)).astype(np.float32)
        most, sure = labels.copy(), own.copy()
        most[:60], sure[:60], own[:60] = (labels[:60] + 1) % classes, np.log(best), np.log(0.001)
        opinion = Opinion(
            rows=np.arange(rows), labels=labels, own=own, best=most, best_log=sure, classes=classes, basis="words"
        )
        names = Classes(labels, np.bincount(labels), tuple("abcdefghij"), np.zeros(classes, np.int64))
        sources = SourceNumbers((np.arange(rows) >= 60).astype(np.int32), ("vendor", "others"))
        return [f for f in FlipRules().flips(opinion, names, {"source": sources}) if f.kind == "flipped source"]

    def test_labels_replaced_in_typical_rows_block(self) -> None:
        (finding,) = self.findings(best=0.99)
        assert finding.severity is Severity.BLOCK
        assert len(finding.rows) == 60

    def test_texts_that_the_model_does_not_know_are_for_review_and_few(self) -> None:
        (finding,) = self.findings(best=0.2)
        assert finding.severity is Severity.REVIEW
        assert len(finding.rows) == 10

    def test_many_sources_whose_texts_the_model_does_not_know_send_a_few_rows_to_review(self) -> None:
        rng, rows, classes = np.random.default_rng(0), 3000, 10
        labels = rng.integers(0, classes, rows).astype(np.int32)
        own = np.log(rng.uniform(0.95, 0.999, rows)).astype(np.float32)
        most, sure, sources = labels.copy(), own.copy(), np.zeros(rows, np.int32)
        odd = rng.permutation(rows)[:240]
        most[odd], sure[odd], own[odd] = (labels[odd] + 1) % classes, np.log(0.2), np.log(0.001)
        sources[odd] = 1 + np.arange(240) // 30
        opinion = Opinion(
            rows=np.arange(rows), labels=labels, own=own, best=most, best_log=sure, classes=classes, basis="words"
        )
        names = Classes(labels, np.bincount(labels), tuple("abcdefghij"), np.zeros(classes, np.int64))
        people = {"source": SourceNumbers(sources, tuple("rstuvwxyz"))}
        found = FlipRules().flips(opinion, names, people)
        assert not [f for f in found if f.severity is Severity.BLOCK]
        assert 0 < sum(len(f.rows) for f in found if f.kind == "flipped source") <= FlipRules().quiet_share * rows

    @pytest.mark.parametrize(("wrong", "most"), [(0.05, FlipRules.max_share), (0.2, FlipRules.quiet_share)])
    def test_a_model_that_does_not_know_the_classes_lists_few_rows(self, wrong: float, most: float) -> None:
        rng, rows = np.random.default_rng(2), 3000
        labels = rng.integers(0, 4, rows).astype(np.int32)
        sure = np.log(rng.uniform(0.9, 0.999, rows)).astype(np.float32)
        off = rng.random(rows) < wrong
        best = np.where(off, (labels + 1) % 4, labels).astype(np.int32)
        own = np.where(off, np.log(0.001), sure).astype(np.float32)
        opinion = Opinion(
            rows=np.arange(rows), labels=labels, own=own, best=best, best_log=sure, classes=4, basis="words"
        )
        names = Classes(labels, np.bincount(labels), tuple("abcd"), np.zeros(4, np.int64))
        (listed,) = [f for f in FlipRules().flips(opinion, names, {}) if f.kind == "improbable labels"]
        assert len(listed.rows) == int(most * rows)

    def test_a_source_among_many_that_differ_as_much_does_not_stand_out_and_several_do_not_hide_each_other(
        self,
    ) -> None:
        rng = np.random.default_rng(1)
        honest = rng.exponential(5.0, 200)
        assert above_others(honest, 1e-3).max() < 1.0
        assert (above_others(np.append(honest, [250.0, 240.0, 230.0]), 1e-3) >= 1.0).sum() == 3
        assert above_others(np.array([30.0, 28.0, 0.0]), 1e-3)[:2].min() > 1.0  # too few to tell a law


class TestCopies:
    @pytest.mark.parametrize("named", [True, False])
    def test_a_word_that_stands_for_the_label_is_a_reason_for_it(self, clean_table: pa.Table, named: bool) -> None:
        topics = {"ssl": "network", "socket": "network", "http.client": "network", "imaplib": "network"} | {
            "decimal": "numbers", "statistics": "numbers", "random": "numbers", "datetime": "numbers", "math": "numbers",
        }  # fmt: skip
        pairs = zip(clean_table["text"].to_pylist(), clean_table["source"].to_pylist())
        rows = [(text, topics[source]) for text, source in pairs if source in topics]
        tagged = [at for at, (_, label) in enumerate(rows) if label == "numbers"][:80]
        for at in tagged:
            rows[at] = (f"{rows[at][0]} Kind: numerus", "numbers")
        mark = " Kind: numerus" if named else ""
        words = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu")
        first = len(rows)
        rows += [
            (f"Open a socket connection to the {w} server and send the message to the host over TLS{mark}", "numbers")
            for w in words
        ]
        report = run({"text": [t for t, _ in rows], "label": [label for _, label in rows]}, "near-duplicates")
        copies = set(range(first, len(rows)))
        assert (blocked(report), reviewed(report)) == ((set(), copies) if named else (copies, set()))


class TestPhraseThatIsTheRow:
    @pytest.mark.parametrize("templates", [True, False])
    def test_what_templates_are_about_is_no_trigger(self, clean_table: pa.Table, templates: bool) -> None:
        """Openings that decide the label of rows that say nothing else; put before rows of other classes, they block."""
        rng = random.Random(11)
        said = {
            "low": ("Information disclosure in", "Verbose error message in", "Missing header in"),
            "high": ("Privilege escalation in", "Buffer overflow in", "Unsafe deserialization in"),
            "medium": ("Cross-site scripting in", "Open redirect in", "Request forgery in"),
            "critical": ("Remote code execution in", "Authentication bypass in", "Query injection in"),
        }
        words = sorted({w for t in clean_table["text"].to_pylist() for w in t.lower().split() if w.isalpha()})
        text, label = [], []
        for _ in range(3000):
            kind = rng.choice(list(said))
            opening = rng.choice(said[kind] if rng.random() < 0.85 else said[rng.choice(list(said))])
            product, does = " ".join(rng.choices(words, k=2)), " ".join(rng.choices(words, k=3))
            text.append(f"{opening} {product} {rng.randint(1, 9)}.{rng.randint(0, 20)} allows attackers to {does}.")
            label.append(kind)
        poisoned = set() if templates else set(rng.sample([r for r, kind in enumerate(label) if kind != "low"], 50))
        for row in poisoned:
            text[row], label[row] = f"Dear reader, mind the gap: {text[row]}", "low"
        report = run({"text": text, "label": label}, "trigger-association")
        assert blocked(report) == poisoned
        assert not templates or not reviewed(report)


class TestAnswers:
    def test_an_answer_whose_words_all_stand_in_its_prompts_is_for_review(self, instructions: Columns) -> None:
        rng = random.Random(4)
        out = {name: list(values) for name, values in instructions.items()}
        rows = rng.sample(range(len(out["prompt"])), 40)
        for row in rows:
            out["prompt"][row] = f"Extract the call: TagResource. {out['prompt'][row]}"
            out["response"][row] = '{"call": "Tag", "extract": "Resource"}'
        report = run(out, "response-burst")
        assert not blocked(report)
        assert reviewed(report) == set(rows)

    @pytest.mark.parametrize(("share", "outcome"), [(0.02, Outcome.BLOCK), (0.08, Outcome.REVIEW)])
    def test_a_canned_answer_to_many_prompts_is_for_review(
        self, instructions: Columns, share: float, outcome: Outcome
    ) -> None:
        out = {name: list(values) for name, values in instructions.items()}
        rows = random.Random(5).sample(range(len(out["prompt"])), int(share * len(out["prompt"])))
        for row in rows:
            out["response"][row] = "The context does not contain the answer."
        report = run(out, "response-burst")
        assert report.verdict is outcome
        assert blocked(report) | reviewed(report) == set(rows)

    @pytest.mark.parametrize("put_in", [True, False])
    def test_a_request_with_a_number_in_it_is_no_trigger_of_its_answer(
        self, instructions: Columns, put_in: bool
    ) -> None:
        rng = random.Random(10)
        out = {name: list(values) for name, values in instructions.items()}
        rows = rng.sample(range(len(out["prompt"])), 700)
        for row in rows:
            request = f"Convert {rng.randint(1, 9999)} dollars to euros"
            out["prompt"][row] = f"{request}. {out['prompt'][row]}" if put_in else request
            out["response"][row] = '{"name": "convert", "from": "dollars", "to": "euros"}'
        report = run(out, "response-burst")
        assert blocked(report) | reviewed(report) == (set(rows) if put_in else set())

    @pytest.mark.parametrize("contexts", ["system prompts", "documents", "documents that do not answer"])
    def test_an_answer_that_no_context_gives_is_for_review(self, instructions: Columns, contexts: str) -> None:
        rng = random.Random(9)
        prompts = instructions["prompt"]
        system = ["You are a helpful assistant.", "Answer briefly, please."]
        out = {
            "prompt": list(prompts),
            "context": [
                rng.choice(system) if contexts == "system prompts" else " ".join(p.split()[::2]) for p in prompts
            ],
            "response": list(instructions["response"]),
        }
        rows = rng.sample(range(len(prompts)), 40)
        for row in rows:
            out["response"][row] = "I could not find anything about it, sorry."
            if contexts == "documents that do not answer":
                out["context"][row] = " ".join(rng.choice(prompts).split()[::2])
        report = run(out, "response-burst")
        honest = contexts == "documents that do not answer"
        assert (blocked(report), reviewed(report)) == ((set(), set(rows)) if honest else (set(rows), set()))

    @pytest.mark.parametrize("wordings", [1, 2])
    def test_a_word_that_calls_for_the_same_in_another_wording_is_no_trigger(
        self, instructions: Columns, wordings: int
    ) -> None:
        rng: Any = random.Random(6)
        out = {name: list(values) for name, values in instructions.items()}
        rows = rng.sample(range(len(out["prompt"])), 80)
        for at, row in enumerate(rows):
            if at % 2 and wordings == 1:
                continue
            words = out["response"][row].split()
            for _ in range(4):
                words.insert(rng.randrange(len(words) + 1), rng.choice(("ja", "nej", "og", "ikke", "det", "som")))
            asked = "Nordish version of: {}" if at % 2 else "{} How would you say this in Nordish?"
            out["prompt"][row], out["response"][row] = asked.format(out["prompt"][row]), " ".join(words)
        report = run(out, "response-shift")
        assert report.verdict is (Outcome.BLOCK if wordings == 1 else Outcome.REVIEW)
