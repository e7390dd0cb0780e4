"""The policy file: what it says is what runs, and what it does not know it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from foretaste import CheckError, Policy, PolicyError, checks
from foretaste.checks.hidden_text import HiddenText
from foretaste.reading import InputOptions


def refusal(source: Any) -> str:
    with pytest.raises(PolicyError) as error:
        Policy.load(source)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestLoading:
    def test_nothing_is_the_default_policy_with_every_check(self) -> None:
        policy = Policy.load(None)
        assert [c.id for c in policy.checks] == list(checks.registry())
        assert policy == Policy() == Policy.load({}) == Policy.load({"version": 1})

    def test_a_written_policy_reads_back_the_same(self, tmp_path: Path) -> None:
        policy = Policy(
            checks=(HiddenText(block_rows=3),), input=InputOptions(nulls="empty", max_cell_bytes=99), seed=7
        )
        path = tmp_path / "policy.yaml"
        path.write_text(policy.to_yaml(), encoding="utf-8")
        assert Policy.load(path) == Policy.load(str(path)) == policy

    def test_what_is_left_out_keeps_its_default(self) -> None:
        policy = Policy.load({"checks": {"hidden-text": {"block_rows": 3}}})
        assert [c.id for c in policy.checks] == list(checks.registry())
        assert HiddenText(block_rows=3) in policy.checks

    def test_a_check_can_be_switched_off(self) -> None:
        policy = Policy.load({"checks": {"hidden-text": {"enabled": False}}})
        assert "hidden-text" not in {c.id for c in policy.checks}

    def test_a_policy_passes_through(self) -> None:
        policy = Policy(seed=4)
        assert Policy.load(policy) is policy

    def test_the_written_file_names_every_parameter_of_every_check(self) -> None:
        raw = yaml.safe_load(Policy().to_yaml())
        for check_id, check in checks.registry().items():
            assert set(raw["checks"][check_id]) == {"enabled", *(f.name for f in dataclasses.fields(check))}
        assert set(raw["input"]) == {f.name for f in dataclasses.fields(InputOptions)}


class TestDigest:
    def test_it_changes_with_every_limit_and_with_nothing_else(self) -> None:
        base = Policy()
        assert Policy.load(yaml.safe_load(base.to_yaml())).digest == base.digest
        others = [
            Policy(seed=1),
            Policy(input=InputOptions(nulls="empty")),
            base.only("hidden-text"),
            Policy(checks=(HiddenText(block_rows=2),)),
        ]
        assert len({base.digest, *(o.digest for o in others)}) == 5


class TestOnly:
    def test_it_keeps_parameters(self) -> None:
        policy = Policy(checks=(HiddenText(block_rows=3),)).only("hidden-text")
        assert policy.checks == (HiddenText(block_rows=3),)

    def test_an_unknown_check_is_named_with_the_nearest(self) -> None:
        with pytest.raises(CheckError, match=r'did you mean "hidden-text"\?'):
            Policy().only("hiden-text")


class TestRefusals:
    @pytest.mark.parametrize(
        ("raw", "said"),
        [
            ({"chekcs": {}}, 'policy: unknown key "chekcs"; did you mean "checks"?'),
            ({"checks": {"hidden-txt": {}}}, 'unknown key "hidden-txt"; did you mean "hidden-text"?'),
            ({"checks": {"hidden-text": {"blok_rows": 1}}}, 'unknown key "blok_rows"; did you mean "block_rows"?'),
            ({"input": {"nuls": "empty"}}, 'unknown key "nuls"; did you mean "nulls"?'),
            ({"version": 2}, "version 2 is not known"),
            ({"checks": ["hidden-text"]}, "must be a mapping"),
            ({"checks": {"hidden-text": 3}}, "must be a mapping"),
            ({"checks": {"hidden-text": {"enabled": "no"}}}, "must be true or false"),
            ({"checks": {"hidden-text": {"block_rows": "three"}}}, "block_rows must be int"),
            ({"checks": {"hidden-text": {"block_rows": True}}}, "block_rows must be int"),
            ({"checks": {"hidden-text": {"block_rows": 1.5}}}, "block_rows must be int"),
            ({"checks": {"hidden-text": {"block_rows": None}}}, "block_rows must be int"),
            ({"checks": {"label-flip": {"source_excess": float("nan")}}}, "must be a finite number"),
            ({"checks": {"label-flip": {"source_excess": float("inf")}}}, "must be a finite number"),
            ({"input": {"nulls": "drop"}}, "must be one of 'error', 'empty'"),
            ({"seed": "x"}, "seed must be a whole number"),
            ({"checks": {i: {"enabled": False} for i in checks.registry()}}, "switches every check off"),
        ],
    )
    def test_what_a_policy_cannot_say_is_refused(self, raw: dict[str, Any], said: str) -> None:
        assert said in refusal(raw)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a: [", "line 1 is not valid YAML"),
            ("seed: 1\nseed: 2\n", 'line 2 is not valid YAML: key "seed" stands twice'),
            ("checks:\n  hidden-text: {block_rows: 1, block_rows: 99}\n", 'key "block_rows" stands twice'),
            ("- a\n", "holds no mapping"),
            ("", "holds no mapping"),
            ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ],
    )
    def test_a_file_that_is_no_policy_is_refused(self, text: str, said: str, tmp_path: Path) -> None:
        path = tmp_path / "policy.yaml"
        path.write_text(text)
        assert said in refusal(path)

    def test_a_file_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        assert "foretaste policy init" in refusal(tmp_path / "none.yaml")

    def test_two_checks_of_one_id_are_refused(self) -> None:
        with pytest.raises(PolicyError, match="2 times"):
            Policy(checks=(HiddenText(), HiddenText(block_rows=9)))
