"""Several weak triggers toward one label are told from the rare words that any data have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from foretaste.checks.trigger_association import Group, beyond_chance


@dataclass(eq=False)
class Weighed:
    """Stands for a group of which only the evidence counts."""

    evidence: float


def family(*nats: float) -> list[Group]:
    return cast("list[Group]", [Weighed(x) for x in nats])


def chance(rng: np.random.Generator, n: int) -> Any:
    """Evidence above one nat of words that share a label by chance."""
    return 1.0 + rng.exponential(size=n)


def test_chance_alone_gives_a_set_as_rarely_as_the_alarm_says() -> None:
    rng = np.random.default_rng(0)
    alarms = sum(bool(beyond_chance(family(*chance(rng, n)), 0.05)) for n in (5, 20, 100, 400) for _ in range(100))
    assert alarms <= 0.05 * 400


def test_five_triggers_stand_out_among_the_words_of_short_texts_and_drown_among_those_of_long_ones() -> None:
    rng = np.random.default_rng(1)
    triggers = (8.0, 5.0, 4.5, 4.5, 4.0)
    assert len(beyond_chance(family(*triggers, *chance(rng, 8)), 5e-4)) >= 4
    assert beyond_chance(family(*triggers[2:], *chance(rng, 800)), 5e-4) == []


def test_the_set_holds_few_words_that_chance_brought() -> None:
    rng = np.random.default_rng(2)
    members = beyond_chance(family(*[9.0] * 10, *chance(rng, 40)), 5e-4)
    assert [g.evidence for g in members[:10]] == [9.0] * 10
    assert len(members) <= 14


def test_no_group_is_no_set() -> None:
    assert beyond_chance([], 1e-3) == []
