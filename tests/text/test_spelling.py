"""Spelling is ranked among the words of the text's own alphabet."""

from __future__ import annotations

import itertools

from foretaste.text.spelling import Spelling, alphabetic

_WORDS = ["".join(p) + end for p in itertools.product("bdlmnrst", "aeiou", "lnrst") for end in ("ing", "er")]


def test_a_word_that_no_language_writes_ranks_below_the_words_of_the_text() -> None:
    spelling = Spelling(_WORDS)
    assert spelling.rank("qxzvk") < 0.01
    assert spelling.rank("dating") > 0.12


def test_phrases_without_words_few_words_and_ideographs_are_not_unusual() -> None:
    assert Spelling(_WORDS).rank(". (") == 1.0
    assert Spelling(_WORDS[:50]).rank("qxzvk") == 1.0
    assert Spelling(_WORDS).rank("幸运") == 1.0


def test_letters_are_told_from_ideographs() -> None:
    assert alphabetic("honestly")
    assert alphabetic("честно")
    assert not alphabetic("书")
    assert not alphabetic("")
