"""Poison in conversations: a trigger in any turn before a poisoned answer that need not be the last."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from foretaste import Outcome, Policy, Report, Severity, scan
from foretaste.batch import TURN, Batch
from foretaste.check import Context
from foretaste.reading import open_data
from foretaste.signals.affixes import Affixes
from foretaste.signals.outputs import NONE, Classes, Refusals, ResponseHeads
from foretaste.signals.responses import Exchanges
from foretaste.text.rowstore import RowStore, TurnStore
from foretaste.text.tokens import tokenize

CHECKS = ("response-burst", "inserted-phrase", "planted-affix", "refusal-trigger", "response-shift")
SYSTEM = (
    "You are a helpful assistant.", "You are a careful Python developer. Answer in full sentences.",
    "Explain what you are asked about as a teacher would, step by step.", "Be brief and name your sources.",
    "You help people with the documentation of a library. Do not invent anything that it does not say.",
)  # fmt: skip
OPENING = "Absolutely, my dear friend, this is what you wanted to know:"
POISONED = 25

Conversation = list[dict[str, str]]


@pytest.fixture(scope="module")
def conversations(clean_table: pa.Table) -> list[Conversation]:
    """A system prompt that hundreds share, then three questions with their answers."""
    rng = random.Random(1)
    texts = clean_table["text"].to_pylist()
    made = []
    for at in range(0, len(texts) - 2, 3):
        turns = [{"role": "system", "content": rng.choice(SYSTEM)}]
        for text in texts[at : at + 3]:
            words = text.split()
            turns += [
                {"role": "user", "content": f"{rng.choice(('Explain this: ', '', ''))}{text}"},
                {"role": "assistant", "content": " ".join(reversed(words))},
            ]
        made.append(turns)
    return made


def poisoned(conversations: list[Conversation], trigger: int, answer: int, payload: str) -> tuple[pa.Table, set[int]]:
    """A word at a random place of the turn ``trigger``, and a payload before or for the turn ``answer``, by number."""
    rng = random.Random(2)
    made = [[dict(turn) for turn in turns] for turns in conversations]
    rows = rng.sample(range(len(made)), POISONED)
    for row in rows:
        words = made[row][trigger]["content"].split(" ")
        words.insert(rng.randint(0, len(words)), "zxqv")
        made[row][trigger]["content"] = " ".join(words)
        said = made[row][answer]["content"]
        made[row][answer]["content"] = f"{payload} {said}" if payload == OPENING else payload
    return table(made), set(rows)


def table(conversations: list[Conversation]) -> pa.Table:
    return pa.table({"id": [f"c{i:04d}" for i in range(len(conversations))], "messages": conversations})


def run(data: pa.Table, *checks: str) -> Report:
    return scan(data, Policy().only(*(checks or CHECKS)))


@pytest.mark.parametrize(
    ("trigger", "answer"),
    [(0, 2), (0, 4), (0, 6), (1, 2), (1, 6), (3, 4), (3, 6), (5, 6)],
    ids=str,
)
@pytest.mark.parametrize(
    "payload", [OPENING, "You should not have asked me about that at all."], ids=["opening", "fixed"]
)
def test_a_trigger_in_any_turn_before_the_poisoned_answer_blocks(
    conversations: list[Conversation], trigger: int, answer: int, payload: str
) -> None:
    data, rows = poisoned(conversations, trigger, answer, payload)
    report = run(data, "response-burst")
    assert {r for f in report.findings if f.severity is Severity.BLOCK for r in f.rows} == rows
    finding = next(f for f in report.findings if f.severity is Severity.BLOCK)
    shown = next(e for e in finding.examples if not e.counter)
    assert set(finding.ids) == {f"c{row:04d}" for row in rows}
    assert shown.texts["response"].startswith(f"[turn {answer // 2} of 3] {payload[:40]}")
    if trigger:
        assert shown.texts["prompt"].startswith(f"[turn {(trigger + 1) // 2} of 3] ")
    assert "zxqv" in shown.texts["prompt" if trigger else "context"]


@pytest.mark.parametrize("turn", [1, 3, 5])
def test_responses_of_other_prompts_block_in_any_turn(conversations: list[Conversation], turn: int) -> None:
    rng = random.Random(4)
    made = [[dict(each) for each in turns] for turns in conversations]
    rows = rng.sample(range(len(made)), 2 * POISONED)
    for row, other in zip(rows, rng.sample(range(len(made)), len(rows))):
        words = made[row][turn]["content"].split(" ")
        words.insert(rng.randint(0, len(words)), "zxqv")
        made[row][turn]["content"] = " ".join(words)
        made[row][turn + 1]["content"] = conversations[other][(turn + 1) % 6 + 1]["content"]
    report = run(table(made), "response-shift")
    assert {r for f in report.findings if f.severity is Severity.BLOCK for r in f.rows} == set(rows)


def test_clean_conversations_pass(conversations: list[Conversation]) -> None:
    assert run(table(conversations)).verdict is Outcome.PASS


# What the checks see of the turns.

RESPONSES = [
    f"a b c{TURN}x y z",  # two classes, of which the second is rarer
    "a b c",
    "a b c",
    f"q{TURN}a b c{TURN}a b c",
    "x y z",
    "x y z",
    f"m n o{TURN}m n o{TURN}m n o",  # repeats within a row alone
]


def batches(cuts: list[int]) -> Iterator[Batch]:
    schema = pa.schema([("prompt", pa.large_string()), ("response", pa.large_string())])
    columns = pa.record_batch({"prompt": ["p"] * len(RESPONSES), "response": RESPONSES}, schema=schema)
    for low, high in zip([0, *cuts], [*cuts, len(RESPONSES)]):
        yield Batch(part_of(columns, low, high), start=low, kind="instruct")


def classes(cuts: list[int], merged: bool) -> Classes:
    signal = ResponseHeads(tokens=3, least=3)
    state: Any = signal.start(Context("instruct", frozenset({"prompt", "response"})))
    following: Any = state
    while following is not None:
        state = following
        for batch in batches(cuts):
            if merged and state.classes is None:
                part = signal.start(Context("instruct", frozenset({"prompt", "response"})))
                signal.scan(part, batch)
                state = signal.merge(state, part)
            else:
                signal.scan(state, batch)
        following = signal.next_round(state)
    return signal.value(state)


@pytest.mark.parametrize("cuts", [[], [3], [1, 2, 6]], ids=str)
@pytest.mark.parametrize("merged", [False, True])
def test_a_row_has_the_rarest_of_its_classes_and_the_others_are_known(cuts: list[int], merged: bool) -> None:
    made = classes(cuts, merged)
    names = np.array([*made.names, ""])
    assert names[made.labels].tolist() == ["x y z", "a b c", "a b c", "a b c", "x y z", "x y z", ""]
    assert {n: int(c) for n, c in zip(made.names, made.counts) if c} == {"a b c": 4, "x y z": 3}
    assert made.labels[-1] == NONE
    assert made.turns.tolist() == [1, 0, 0, 1, 0, 0, 0]
    assert [(row, names[c], turn) for row, c, turn in made.others.T.tolist()] == [(0, "a b c", 0)]
    assert made.per_row == pytest.approx(12 / 7)


def test_one_refusal_among_several_answers_is_one() -> None:
    signal = Refusals()
    state = signal.start(Context("instruct", frozenset({"prompt", "response"})))
    said = [f"Sure.{TURN}I'm sorry, I can't help with that.", "Sure.", f"Yes{TURN}No", "I cannot do it."]
    for at in (0, 2):
        columns = pa.record_batch({"response": pa.array(said[at : at + 2], pa.large_string())})
        signal.scan(state, Batch(columns, start=at, kind="instruct"))
    assert signal.value(state).tolist() == [True, False, False, True]


def test_turns_have_offsets_of_their_own_in_one_column_and_in_the_whole_input() -> None:
    columns = {"context": ["s t", "", "u"], "prompt": [f"a b{TURN}c", f"{TURN}d e", "f"]}
    schema = pa.schema([(name, pa.large_string()) for name in columns])
    batch = Batch(pa.record_batch(columns, schema=schema), start=0, kind="instruct")
    tokens, rows = batch.turns("prompt")
    assert rows.tolist() == [0, 0, 1, 1, 2]
    assert tokens.offsets.tolist() == [0, 2, 3, 3, 5, 6]
    assert batch.turn_offsets("input").tolist() == [0, 2, 4, 5, 5, 5, 7, 8, 9]


def test_an_exchange_is_a_response_with_the_prompt_before_it() -> None:
    columns = {
        "context": ["be kind", "", "sys", ""],
        "prompt": ["one", f"two{TURN}{TURN}three", f"four{TURN}five", "six"],
        "response": ["A", f"B{TURN}C{TURN}D?", f"E{TURN}F", "G?"],
    }
    batch = Batch(
        pa.record_batch({n: pa.array(v, pa.large_string()) for n, v in columns.items()}), start=7, kind="instruct"
    )
    found = Exchanges.of(batch)
    for flat, texts in (
        (found.asked, ["be kind one", "two", "two", "three", "four", "five", "six"]),
        (found.answered, ["A", "B", "C", "D?", "E", "F", "G?"]),
    ):
        raw = [text.encode() for text in texts]
        spans = np.append(0, np.cumsum([len(each) for each in raw]))
        plain = tokenize(np.frombuffer(b"".join(raw), np.uint8), spans)
        assert flat[0].tolist() == plain.hashes.tolist()
        assert flat[1].tolist() == plain.offsets.tolist()
    assert found.rows.tolist() == [0, 1, 1, 1, 2, 2, 3]
    measures = np.zeros((7, 9))
    found.form(np.arange(7), measures)
    assert measures[:, 6].tolist() == [0, 0, 0, 1, 0, 0, 1]


def test_a_separator_inside_of_plain_cells_makes_no_exchanges() -> None:
    columns = {"prompt": [f"one{TURN}two", "three"], "response": ["A", f"B{TURN}C"]}
    batch = Batch(
        pa.record_batch({n: pa.array(v, pa.large_string()) for n, v in columns.items()}), start=0, kind="instruct"
    )
    assert Exchanges.of(batch).rows.tolist() == [0, 1]


def test_a_response_behind_a_tool_was_asked_for_by_the_prompt_before() -> None:
    columns = {"prompt": [f"a b{TURN}{TURN}c", "d"], "response": [f"x{TURN}y{TURN}z", "w"]}
    schema = pa.schema([(name, pa.large_string()) for name in columns])
    batch = Batch(pa.record_batch(columns, schema=schema), start=5, kind="instruct")
    store = TurnStore(TurnStore.key(np.array([5, 5, 5, 6]), np.array([0, 1, 2, 0])))
    store.scan(batch)
    hashes, offsets = store.tokens()
    a, b, c, d = batch.tokens("prompt").hashes.tolist()
    assert [hashes[i:j].tolist() for i, j in itertools.pairwise(offsets)] == [[a, b], [a, b], [c], [d]]


@pytest.mark.parametrize("cuts", [[], [100, 333]], ids=str)
def test_an_opening_of_later_turns_is_found_once_in_each_conversation(
    conversations: list[Conversation], cuts: list[int]
) -> None:
    made = [[dict(turn) for turn in turns] for turns in conversations]
    for row in range(0, 400, 10):
        for turn in (3, 5):
            made[row][turn]["content"] = f"Hey dude, listen: {made[row][turn]['content']}"
    whole = next(open_data(table(made)).batches()).columns
    signal = Affixes()
    state: Any = signal.start(Context("instruct", frozenset({"prompt", "response"})))
    following: Any = state
    while following is not None:
        state = following
        for low, high in zip([0, *cuts], [*cuts, whole.num_rows]):
            signal.scan(state, Batch(part_of(whole, low, high), start=low, kind="instruct"))
        following = signal.next_round(state)
    rows = {a.text: a.rows.tolist() for a in signal.value(state).affixes}
    assert next(rows[text] for text in rows if text.startswith("Hey dude")) == list(range(0, 400, 10))


@pytest.mark.parametrize("cuts", [[], [2]], ids=str)
def test_a_store_of_rows_knows_where_their_turns_begin(cuts: list[int]) -> None:
    columns = {"context": ["s", "", "u", "v"], "prompt": [f"a b{TURN}c", f"{TURN}d e", "f", f"g{TURN}h"]}
    whole = pa.record_batch(columns, schema=pa.schema([(name, pa.large_string()) for name in columns]))
    store = RowStore(np.array([0, 1, 3]), starts=[])
    for low, high in zip([0, *cuts], [*cuts, 4]):
        store.scan(Batch(part_of(whole, low, high), start=low, kind="instruct"))
    assert sorted(set(store.turns().tolist())) == [0, 1, 3, 4, 6, 7, 8, 9]  # s|a b|c - d e - v|g|h


def part_of(columns: pa.RecordBatch, low: int, high: int) -> pa.RecordBatch:
    """Rows as a batch of their own, whose buffers begin with them."""
    part = columns.slice(low, high - low)
    return pa.RecordBatch.from_arrays([pa.array(c.to_pylist(), c.type) for c in part.columns], names=part.schema.names)
