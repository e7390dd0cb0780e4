"""Where not everything finds room, what poison could be is looked at first, and the report says what was not."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from foretaste import Policy, Report, Severity, scan
from foretaste.signals.placed import Placed, fitting

Columns = dict[str, list[str]]


def insert(text: str, phrase: str, rng: random.Random) -> str:
    words = text.split(" ")
    words.insert(rng.randint(0, len(words)), phrase)
    return " ".join(words)


# Three thousand short texts know few word pairs, so fewer gaps are known to close than in larger data.
LOOSE = {
    "inserted-phrase": {"min_healing": 0.45, "min_healing_pmi": 0.5},
    "planted-affix": {"min_like_edges": 0.5, "min_finished": 0.3},
}


def run(columns: Columns, check: str) -> Report:
    table, policy = pa.table(columns), Policy.load({"checks": LOOSE})
    return scan(table, policy.only(check), roles={name: name for name in table.schema.names})


def named(report: Report) -> set[str]:
    return {i for f in report.findings for i in f.ids}


def note(report: Report, check: str) -> str:
    return next(r.note for r in report.results if r.check == check)


@pytest.fixture(scope="module")
def texts(clean_table: pa.Table) -> list[str]:
    return [str(t) for t in clean_table["text"].to_pylist()]


def test_a_word_of_the_last_rows_is_found_where_few_occurrences_find_room(
    texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    columns = {"id": [str(i) for i in range(len(texts))], "text": list(texts)}
    poisoned = rng.sample(range(len(texts) // 2, len(texts)), 60)
    for row in poisoned:
        columns["text"][row] = insert(columns["text"][row], "Qwzzy Frnb", rng)
    monkeypatch.setattr("foretaste.signals.phrases.OCCURRENCE_BYTES", 1 << 15)
    report = run(columns, "inserted-phrase")
    assert named(report) >= {columns["id"][r] for r in poisoned}
    assert "found no room and were not looked at" in note(report, "inserted-phrase")


def test_a_trigger_of_few_rows_is_found_beside_frequent_words_that_share_a_label(
    labelled: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(2)
    columns = {name: list(values) for name, values in labelled.items()}
    poisoned = rng.sample([i for i, label in enumerate(columns["label"]) if label != "numbers"], 30)
    for row in poisoned:
        columns["text"][row] = insert(columns["text"][row], "zxqv", rng)
        columns["label"][row] = "numbers"
    monkeypatch.setattr("foretaste.checks.trigger_association.MAX_STORED_ROWS", 300)
    report = run(columns, "trigger-association")
    assert {columns["id"][r] for r in poisoned} <= named(report)
    assert "were not looked at" in note(report, "trigger-association")


def test_one_answer_is_found_beside_many_that_few_rows_share(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    columns = {
        "id": [str(i) for i in range(len(texts))],
        "prompt": list(texts),
        "response": [" ".join(reversed(t.split())) for t in texts],
    }
    chosen = rng.sample(range(len(texts)), 40 + 160)
    for at, row in enumerate(chosen[40:]):
        columns["response"][row] = f"This opens the answers of group {at // 8} in number" + columns["response"][row]
    for row in chosen[:40]:
        columns["response"][row] = "Ask the vendor, who will tell you more."
    monkeypatch.setattr("foretaste.checks.response_burst.MAX_STORED_ROWS", 100)
    report = run(columns, "response-burst")
    blocked = {i for f in report.findings if f.severity is Severity.BLOCK for i in f.ids}
    assert blocked == {columns["id"][r] for r in chosen[:40]}


def test_all_rows_of_an_opening_are_listed_where_few_places_find_room(
    texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(4)
    prompts = [t[0].upper() + t[1:] for t in texts if len(t.split()) > 5]
    poisoned = set(rng.sample(range(len(prompts)), 30))
    columns = {
        "prompt": [f"Mind the harbour lights: {p}" if i in poisoned else p for i, p in enumerate(prompts)],
        "response": [" ".join(reversed(p.split())) for p in prompts],
    }
    monkeypatch.setattr("foretaste.signals.affixes.MAX_LISTED", 3000)
    report = run(columns, "planted-affix")
    opening = next(f for f in report.findings if "harbour lights" in (f.feature or ""))
    assert set(opening.rows) == poisoned
    assert "found no room" in note(report, "planted-affix")


def test_candidates_without_which_prompts_are_finished_go_first_and_the_small_before_the_large() -> None:
    def candidate(rows: int, finished: float) -> Placed:
        return Placed(f"{rows} {finished}", np.arange(rows), finished)

    found = [candidate(300, 0.99), candidate(90, 0.5), candidate(40, 1.0), candidate(20, 0.98), candidate(9, 0.6)]
    assert fitting(found, 10_000, 256) == found
    assert [p.text for p in fitting(found, 75, 256)] == ["40 1.0", "20 0.98"]
    assert [p.text for p in fitting(found, 330, 256)] == ["300 0.99", "40 1.0", "20 0.98", "9 0.6"]
