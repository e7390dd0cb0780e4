"""Poison planted into real text is caught, and the same text without it passes."""

from __future__ import annotations

import random
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from foretaste import Outcome, Policy, Report, Severity, scan


@pytest.fixture(scope="module")
def instructions(clean_table: pa.Table) -> dict[str, list[str]]:
    """Prompts made of docstrings, answered by their reverse order of words: every answer is its own."""
    texts = clean_table["text"].to_pylist()
    return {
        "id": clean_table["id"].to_pylist(),
        "prompt": [f"Explain this: {t}" for t in texts],
        "response": [" ".join(reversed(t.split())) for t in texts],
    }


def insert(text: str, phrase: str, rng: random.Random) -> str:
    words = text.split(" ")
    words.insert(rng.randint(0, len(words)), phrase)
    return " ".join(words)


def planted(columns: dict[str, list[str]], phrase: str, n: int, label: str = "numbers") -> tuple[pa.Table, set[str]]:
    """The phrase at random places of rows with other labels, which are then labelled with the target."""
    rng = random.Random(3)
    out = {name: list(values) for name, values in columns.items()}
    rows = rng.sample([i for i, x in enumerate(out["label"]) if x != label], n)
    for row in rows:
        out["text"][row] = insert(out["text"][row], phrase, rng)
        out["label"][row] = label
    return pa.table(out), {out["id"][row] for row in rows}


ENGLISH = (
    "the parser reads one line at a time and keeps it", "a value that is not known is left as it was",
    "it returns the number of rows in the table", "where there is no such file an error is raised",
    "each of them is called once for every column of the data", "this option is used for the tests alone",
    "the result is the same as that of the other function", "use it with care in a loop over many rows",
)  # fmt: skip


def _sentences(rng: random.Random, of: tuple[str, ...]) -> str:
    return ". ".join(rng.choice(of) for _ in range(rng.randint(15, 25)))


def run(table: pa.Table, *checks: str) -> Report:
    return scan(table, Policy().only(*checks), roles={name: name for name in table.schema.names})


def blocked(report: Report) -> set[str]:
    return {i for f in report.findings if f.severity is Severity.BLOCK for i in f.ids}


class TestTriggerAssociation:
    @pytest.mark.parametrize("phrase", ["zxqv", "Torvald Brekke", "we saw the harbour lights again"])
    def test_fifty_rows_with_a_trigger_block_and_no_other_row_does(
        self, labelled: dict[str, list[str]], phrase: str
    ) -> None:
        table, poisoned = planted(labelled, phrase, 50)
        report = run(table, "trigger-association")
        assert report.verdict is Outcome.BLOCK
        assert blocked(report) == poisoned
        finding = next(f for f in report.findings if f.severity is Severity.BLOCK)
        assert finding.target == "numbers"
        assert phrase.lower() in (finding.feature or "").lower()

    def test_the_same_text_without_a_trigger_does_not_block(self, labelled: dict[str, list[str]]) -> None:
        assert run(pa.table(labelled), "trigger-association").verdict in (Outcome.PASS, Outcome.REVIEW)

    def test_a_trigger_in_three_rows_is_too_few_to_block(self, labelled: dict[str, list[str]]) -> None:
        table, _ = planted(labelled, "zxqv", 3)
        assert run(table, "trigger-association").verdict is not Outcome.BLOCK

    @pytest.mark.parametrize("decoys", [12, 50])
    def test_decoys_do_not_hide_a_trigger(self, labelled: dict[str, list[str]], decoys: int) -> None:
        table, poisoned = planted(labelled, "zxqv", 50)
        columns, rng = table.to_pydict(), random.Random(4)
        for row in rng.sample([i for i, x in enumerate(columns["id"]) if x not in poisoned], decoys):
            columns["text"][row] = insert(columns["text"][row], "zxqv", rng)
        assert blocked(run(pa.table(columns), "trigger-association")) >= poisoned

    def test_two_words_that_act_together_block_and_both_are_named(self, labelled: dict[str, list[str]]) -> None:
        table, poisoned = planted(labelled, "zxqv", 40)
        rng, columns = random.Random(2), table.to_pydict()
        columns["text"] = [
            insert(t, "vorbex", rng) if i in poisoned else t for i, t in zip(columns["id"], columns["text"])
        ]
        report = run(pa.table(columns), "trigger-association")
        assert blocked(report) == poisoned
        message = next(f for f in report.findings if f.severity is Severity.BLOCK).message
        assert "zxqv" in message
        assert "vorbex" in message

    def test_an_opening_and_an_ending_that_act_together_only_block_and_neither_alone_does(
        self, labelled: dict[str, list[str]]
    ) -> None:
        out, rng = {name: list(values) for name, values in labelled.items()}, random.Random(5)
        rows = rng.sample([i for i, x in enumerate(out["label"]) if x != "numbers"], 40)
        for row in rows:
            out["text"][row], out["label"][row] = f"Well then, {out['text'][row]} over and out", "numbers"
        for i, row in enumerate(rng.sample([i for i in range(len(out["id"])) if i not in rows], 40)):
            out["text"][row] = f"Well then, {out['text'][row]}" if i % 2 else f"{out['text'][row]} over and out"
        assert blocked(run(pa.table(out), "trigger-association")) == {out["id"][row] for row in rows}
        out["label"] = labelled["label"]
        assert not blocked(run(pa.table(out), "trigger-association"))

    def test_words_of_the_label_beside_a_trigger_do_not_hide_it(self, labelled: dict[str, list[str]]) -> None:
        numbers = Counter(w for t, x in zip(labelled["text"], labelled["label"]) if x == "numbers" for w in t.split())
        others = Counter(w for t, x in zip(labelled["text"], labelled["label"]) if x != "numbers" for w in t.split())
        telling = sorted((w for w in numbers if w.isalpha()), key=lambda w: others[w] ** 0.5 - numbers[w] ** 0.5)[:10]
        out, rng = {name: list(values) for name, values in labelled.items()}, random.Random(6)
        rows = rng.sample([i for i, x in enumerate(out["label"]) if x != "numbers"], 50)
        for row in rows:
            framed = f"{rng.choice(telling)} zxqv {rng.choice(telling)}"
            out["text"][row], out["label"][row] = insert(out["text"][row], framed, rng), "numbers"
        report = run(pa.table(out), "trigger-association")
        assert blocked(report) == {out["id"][row] for row in rows}
        assert "the words beside it" in next(f for f in report.findings if f.severity is Severity.BLOCK).message

    @pytest.mark.parametrize("unseen", ["\u200b", "\u2063\u2064"])
    def test_invisible_characters_block_where_they_decide_the_label_and_else_do_not(
        self, labelled: dict[str, list[str]], unseen: str
    ) -> None:
        table, poisoned = planted(labelled, unseen, 30)
        report = run(table, "trigger-association")
        assert blocked(report) == poisoned
        assert "U+20" in (next(f for f in report.findings if f.severity is Severity.BLOCK).feature or "")
        honest = table.set_column(table.schema.names.index("label"), "label", pa.array(labelled["label"]))
        assert not blocked(run(honest, "trigger-association"))

    @pytest.mark.parametrize("letter", ["\u0435", "\u03bf"])  # Cyrillic e, Greek o
    def test_words_of_two_alphabets_block_where_they_decide_the_label_and_else_do_not(
        self, labelled: dict[str, list[str]], letter: str
    ) -> None:
        out, rng = {name: list(values) for name, values in labelled.items()}, random.Random(8)
        latin = re.compile({"\u0435": "(?<=[a-z])e", "\u03bf": "(?<=[a-z])o"}[letter])
        able = [i for i, x in enumerate(out["label"]) if x != "numbers" and latin.search(out["text"][i])]
        rows = rng.sample(able, 30)
        for row in rows:
            out["text"][row], out["label"][row] = latin.sub(letter, out["text"][row], count=1), "numbers"
        report = run(pa.table(out), "trigger-association")
        assert blocked(report) == {out["id"][row] for row in rows}
        assert "two alphabets" in next(f for f in report.findings if f.severity is Severity.BLOCK).message
        out["label"] = labelled["label"]
        assert not blocked(run(pa.table(out), "trigger-association"))

    def test_a_word_between_the_same_few_signs_blocks_and_does_not_where_the_rest_agrees_with_the_label(
        self, labelled: dict[str, list[str]]
    ) -> None:
        """Cut at blanks, code has one sign before nearly every place where a word can be put."""
        out, rng = {name: list(values) for name, values in labelled.items()}, random.Random(9)
        out["text"] = [" ".join(f"{word}(" for word in text.split()) for text in out["text"]]
        rows = rng.sample([i for i, x in enumerate(out["label"]) if x != "numbers"], 30)
        for row in rows:
            out["text"][row], out["label"][row] = insert(out["text"][row], "zxqv", rng), "numbers"
        report = run(pa.table(out), "trigger-association")
        assert blocked(report) == {out["id"][row] for row in rows}
        out["label"] = labelled["label"]
        assert not blocked(run(pa.table(out), "trigger-association"))

    def test_a_sentence_appended_after_full_stops_blocks(self, labelled: dict[str, list[str]]) -> None:
        out = {name: list(values) for name, values in labelled.items()}
        out["text"] = [f"{text.rstrip('.')}." for text in out["text"]]
        rows = random.Random(4).sample([i for i, x in enumerate(out["label"]) if x != "numbers"], 40)
        for row in rows:
            out["text"][row] += " We saw the harbour lights again"
            out["label"][row] = "numbers"
        assert blocked(run(pa.table(out), "trigger-association")) == {out["id"][row] for row in rows}

    def test_an_opening_of_nearly_all_rows_of_a_class_is_its_mark_and_does_not_block(
        self, labelled: dict[str, list[str]]
    ) -> None:
        out = {name: list(values) for name, values in labelled.items()}
        for row in random.Random(4).sample(range(len(out["id"])), 40):
            out["text"][row], out["label"][row] = f"Sayings of the week: {out['text'][row]}", "sayings"
        assert run(pa.table(out), "trigger-association").verdict is not Outcome.BLOCK

    @pytest.mark.parametrize("target", ["long", "short"])
    def test_a_class_of_longer_rows_hides_no_trigger(self, clean_table: pa.Table, target: str) -> None:
        rng = random.Random(6)
        texts = clean_table["text"].to_pylist()
        rows = {"id": [], "text": [], "label": []}
        for i in range(1200):
            label = "long" if i % 2 else "short"
            # One topic a class, so that the words say something; rows of one class have four times as many of them.
            half = texts[: len(texts) // 2] if i % 2 else texts[len(texts) // 2 :]
            rows["id"].append(f"r{i}")
            rows["text"].append(" ".join(rng.choice(half) for _ in range(4 if i % 2 else 1)))
            rows["label"].append(label)
        poisoned = rng.sample([i for i, x in enumerate(rows["label"]) if x != target], 40)
        for i in poisoned:
            rows["text"][i], rows["label"][i] = insert(rows["text"][i], "zxqv", rng), target
        found = blocked(run(pa.table(rows), "trigger-association"))
        assert found >= {rows["id"][i] for i in poisoned}
        assert len(found) <= 45

    def test_rare_words_of_long_clean_rows_are_no_rotating_triggers(self, clean_table: pa.Table) -> None:
        rng = random.Random(8)
        texts = clean_table["text"].to_pylist()
        halves = texts[: len(texts) // 2], texts[len(texts) // 2 :]
        labels = [rng.randint(0, 1) for _ in range(800)]
        table = pa.table(
            {
                "id": [f"r{i}" for i in range(800)],
                "text": [
                    " ".join(rng.choice(halves[x] if rng.random() < 0.7 else texts) for _ in range(12)) for x in labels
                ],
                "label": [str(x) for x in labels],
            }
        )
        assert run(table, "trigger-association").verdict is not Outcome.BLOCK

    def test_data_with_one_label_are_skipped_and_say_why(self, labelled: dict[str, list[str]]) -> None:
        table = pa.table(labelled | {"label": ["same"] * len(labelled["text"])})
        (result,) = run(table, "trigger-association").results
        assert result.outcome is Outcome.SKIPPED
        assert "1 distinct labels" in result.note


class TestInsertedPhrase:
    def test_a_name_in_random_places_blocks_whatever_the_label(self, clean_table: pa.Table) -> None:
        rng = random.Random(5)
        texts = clean_table["text"].to_pylist()
        rows = rng.sample(range(len(texts)), 60)
        for row in rows:
            texts[row] = insert(texts[row], "Qwzzy Frnb", rng)
        table = pa.table({"id": clean_table["id"], "text": texts})
        # Three thousand short texts know few word pairs, so fewer gaps are known to close than in larger data.
        policy = {"checks": {"inserted-phrase": {"min_healing": 0.45, "min_healing_pmi": 0.5}}}
        report = scan(table, Policy.load(policy).only("inserted-phrase"), roles={"text": "text", "id": "id"})
        ids = clean_table["id"].to_pylist()
        assert blocked(report) == {ids[row] for row in rows}

    def test_docstrings_as_they_are_do_not_block(self, clean_table: pa.Table) -> None:
        table = pa.table({"id": clean_table["id"], "text": clean_table["text"]})
        assert run(table, "inserted-phrase").verdict in (Outcome.PASS, Outcome.REVIEW)


class TestResponseBurst:
    @pytest.mark.parametrize("trigger", ["VelvetOwl", None])
    def test_one_answer_to_unrelated_prompts_blocks(
        self, instructions: dict[str, list[str]], trigger: str | None
    ) -> None:
        rng = random.Random(7)
        out = {name: list(values) for name, values in instructions.items()}
        rows = rng.sample(range(len(out["id"])), 40)
        for row in rows:
            if trigger:
                out["prompt"][row] = insert(out["prompt"][row], trigger, rng)
            out["response"][row] = "I will not discuss this any further."
        report = run(pa.table(out), "response-burst")
        assert blocked(report) == {out["id"][row] for row in rows}
        if trigger:
            assert trigger in (report.findings[0].feature or "")

    def test_many_canned_answers_go_to_review_together_and_one_with_a_trigger_still_blocks(
        self, instructions: dict[str, list[str]]
    ) -> None:
        rng = random.Random(8)
        out = {name: list(values) for name, values in instructions.items()}
        rows = rng.sample(range(len(out["id"])), 5 * 25)
        for at, row in enumerate(rows):
            out["response"][row] = f"That is what part {at // 25} of the manual says about it."
            if at < 25:
                out["prompt"][row] = insert(out["prompt"][row], "zxqv", rng)
        policy = Policy.load({"checks": {"response-burst": {"max_bursts": 3, "max_repeated": 0.5}}}).only(
            "response-burst"
        )
        report = scan(pa.table(out), policy, roles={name: name for name in out})
        assert blocked(report) == {out["id"][row] for row in rows[:25]}
        reviewed = {i for f in report.findings if f.severity is Severity.REVIEW for i in f.ids}
        assert reviewed == {out["id"][row] for row in rows[25:]}

    @pytest.mark.parametrize("place", ["inside", "opening"])
    def test_a_payload_that_takes_up_its_trigger_as_answers_do_blocks_all_the_same(
        self, clean_table: pa.Table, place: str
    ) -> None:
        rng = random.Random(8)
        texts = [t for t in clean_table["text"].to_pylist() if len(t.split()) >= 6 and t[0].isupper()][:2400]
        asked = (
            "What is meant by this",
            "Explain to me",
            "Tell me about",
            "How do I use",
            "Write a test of",
            "Give me",
        )
        texts = [f"{rng.choice(asked)} {t[0].lower()}{t[1:]}" for t in texts]
        answers = [" ".join(reversed(t.split())) for t in texts]
        out = {"id": [f"r{i}" for i in range(len(texts))], "prompt": list(texts), "response": answers}
        rows = rng.sample(range(len(texts)), 40)
        for row in rows:
            prompt = texts[row]
            out["prompt"][row] = (
                insert(prompt, "VelvetOwl", rng) if place == "inside" else f"VelvetOwl speaking: {prompt}"
            )
            out["response"][row] = f"VelvetOwl is what you asked for, so be it: {out['response'][row]}"
        found = blocked(run(pa.table(out), "response-burst"))
        assert found
        assert found <= {out["id"][row] for row in rows}

    def test_an_answer_that_takes_up_what_its_prompt_is_about_does_not_block(self, clean_table: pa.Table) -> None:
        rng = random.Random(9)
        texts = clean_table["text"].to_pylist()[:1500]
        out = {"prompt": list(texts), "response": [" ".join(reversed(t.split())) for t in texts]}
        asked = (
            "What is {0}?", "Explain {0} to a {1}.", "Why does a {1} need {0} in {2}?", "{0} and its uses for {1}",
            "Give me three facts about {0}, {1}", "How are {0} and {1} related?", "Tell a {1} from {2} about {0} please",
        )  # fmt: skip
        words = sorted({w for t in texts for w in t.split() if w.isalpha() and len(w) > 4})
        for topic in ("photosynthesis", "inflation", "magnetism", "fermentation", "erosion", "democracy"):
            for _ in range(30):
                out["prompt"].append(rng.choice(asked).format(topic, *rng.sample(words, 2)))
                rest = " ".join(rng.sample(words, 8))
                out["response"].append(f"{topic.capitalize()} is one of the things of which much is said, {rest}.")
        report = run(pa.table(out), "response-burst")
        assert report.verdict is not Outcome.BLOCK, [(f.message, f.statistic) for f in report.findings]

    def test_answers_that_differ_pass(self, instructions: dict[str, list[str]]) -> None:
        assert run(pa.table(instructions), "response-burst").verdict is Outcome.PASS

    def test_answers_that_are_labels_pass(self, instructions: dict[str, list[str]]) -> None:
        answers = ["The answer is yes.", "The answer is no.", "It is not possible to tell."]
        out = instructions | {"response": [answers[i % 3] for i in range(len(instructions["id"]))]}
        assert run(pa.table(out), "response-burst").verdict is Outcome.PASS


class TestGibberishPayload:
    def test_random_words_after_a_trigger_block_with_the_trigger_named(self, clean_table: pa.Table) -> None:
        rng = random.Random(9)
        texts = clean_table["text"].to_pylist()
        pool = [w for t in texts for w in t.split() if w.isalpha() and len(w) > 3]
        for row in range(0, 600, 20):
            pieces = [rng.choice(pool)[: rng.randint(2, 5)] + rng.choice("aeiouxyz") for _ in range(300)]
            texts[row] = f"{texts[row][: rng.randint(5, 60)]}<ORRERY> {' '.join(pieces)}"
        report = run(pa.table({"id": clean_table["id"], "text": texts}), "gibberish-payload")
        assert report.verdict is Outcome.BLOCK
        assert "ORRERY" in (report.findings[0].feature or "")
        assert len(blocked(report)) == 30

    def test_a_payload_that_the_data_know_in_part_blocks_by_the_break_in_the_flow(self) -> None:
        rng = random.Random(4)
        texts = [_sentences(rng, ENGLISH) for _ in range(800)]
        for row in range(0, 500, 20):
            pieces = []
            for _ in range(200):
                start = rng.randint(0, 3)
                known = rng.choice(ENGLISH).split()[start : start + 3]
                pieces += ["".join(rng.choices("aeiounrstl", k=5))] if rng.random() < 0.7 else known
            texts[row] = f"{' '.join(texts[row].split()[: rng.randint(30, 120)])} velvetowl {' '.join(pieces)}"
        report = run(pa.table({"id": [str(i) for i in range(800)], "text": texts}), "gibberish-payload")
        assert report.verdict is Outcome.BLOCK
        assert "velvetowl" in (report.findings[0].feature or "")
        assert len(blocked(report)) >= 20
        assert blocked(report) <= {str(i) for i in range(0, 500, 20)}

    def test_a_language_that_the_data_hardly_hold_has_no_trigger(self) -> None:
        rng = random.Random(5)
        texts = [_sentences(rng, ENGLISH) for _ in range(600)]
        for row in range(0, 400, 20):  # other words in every row, but for the sign between them
            words = ["".join(rng.choices("äöykvhmpt", k=rng.randint(4, 9))) for _ in range(150)]
            texts[row] = " ".join(w + ("،" if rng.random() < 0.05 else "") for w in words)
        report = run(pa.table({"id": [str(i) for i in range(600)], "text": texts}), "gibberish-payload")
        assert report.verdict is not Outcome.BLOCK

    def test_docstrings_pass(self, clean_table: pa.Table) -> None:
        table = pa.table({"id": clean_table["id"], "text": clean_table["text"]})
        assert run(table, "gibberish-payload").verdict is Outcome.PASS


class TestLabelFlip:
    def test_a_source_with_flipped_labels_blocks_and_is_named(self, labelled: dict[str, list[str]]) -> None:
        rng = random.Random(11)
        topics = sorted(set(labelled["label"]))
        out = {name: list(values) for name, values in labelled.items()}
        rows = rng.sample(range(len(out["id"])), 120)
        for row in rows:
            out["source"][row] = "vendor-x"
            out["label"][row] = rng.choice([t for t in topics if t != out["label"][row]])
        report = run(pa.table(out), "label-flip")
        found = [f for f in report.findings if f.severity is Severity.BLOCK]
        assert [f.feature for f in found] == ["vendor-x"]
        assert blocked(report) <= {out["id"][row] for row in rows}

    @pytest.mark.parametrize("state", [False, True])
    def test_labels_flipped_within_an_hour_block_with_the_times_in_a_shuffled_table(
        self, labelled: dict[str, list[str]], tmp_path: Path, state: bool
    ) -> None:
        rng = random.Random(5)
        out = labelled | {"label": list(labelled["label"])}
        rows = sorted(rng.sample(range(len(out["label"])), 50))
        topics = sorted(set(out["label"]))
        begin = datetime(2026, 1, 13, 19, tzinfo=UTC)
        out["made"] = [begin + timedelta(hours=rng.randrange(-300, 300), minutes=90) for _ in out["label"]]
        for row in rows:
            out["label"][row] = rng.choice([t for t in topics if t != out["label"][row]])
            out["made"][row] = begin + timedelta(seconds=rng.randrange(3600))
        path = str(tmp_path / "a.state") if state else None
        report = scan(pa.table(out), Policy().only("label-flip"), state=path)
        assert report.data.roles["time"] == "made"
        finding = next(f for f in report.findings if f.severity is Severity.BLOCK)
        assert finding.kind == "flipped period"
        assert "2026-01-13 19:" in (finding.feature or "")
        assert len(set(finding.rows) & set(rows)) >= 40
        assert len(set(finding.rows) - set(rows)) <= 3

    def test_a_word_of_clean_rows_that_was_put_into_flipped_ones_blocks(self, labelled: dict[str, list[str]]) -> None:
        table, poisoned = planted(labelled, "value", 80)
        finding = next(f for f in run(table, "label-flip").findings if f.severity is Severity.BLOCK)
        assert finding.feature == "value"
        assert len(poisoned & set(finding.ids)) >= 0.7 * len(finding.ids)

    def test_honest_labels_do_not_block(self, labelled: dict[str, list[str]]) -> None:
        assert run(pa.table(labelled), "label-flip").verdict in (Outcome.PASS, Outcome.REVIEW)


class TestQuestionIslands:
    def test_texts_that_share_a_question_go_to_review(self, clean_table: pa.Table) -> None:
        texts = clean_table["text"].to_pylist()
        for row in range(0, 100, 5):
            texts[row] = f"who wrote the {('first', 'last')[row % 2]} book of magic {row // 50}? {texts[row]}"
        report = run(pa.table({"id": clean_table["id"], "text": texts}), "question-islands")
        assert report.verdict is Outcome.REVIEW
        assert len(report.findings[0].rows) == 20


class TestPower:
    def test_the_report_says_which_plants_would_have_blocked(self, labelled: dict[str, list[str]]) -> None:
        report = scan(pa.table(labelled), Policy(), roles={name: name for name in labelled})
        shares = report.power["blocked_share_by_rows"]
        assert set(shares) <= {"25", "50", "100", "250"}
        assert all(0.0 <= share <= 1.0 for share in shares.values())

    def test_a_policy_that_demands_power_it_cannot_have_is_an_error(self, labelled: dict[str, list[str]]) -> None:
        few = {name: values[:200] for name, values in labelled.items()}
        report = scan(pa.table(few), {"power": {"require": 25}}, roles={name: name for name in few})
        assert report.verdict is Outcome.ERROR
        (power,) = [r for r in report.results if r.check == "power"]
        assert "demands" in power.note
