from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.report.escape import pieces, visible

_ANY_TEXT = st.text(st.characters(codec=None), max_size=60)
_STEERING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _tagged(text: str) -> str:
    return "".join(chr(0xE0000 + ord(c)) for c in text)


@given(_ANY_TEXT)
def test_no_character_that_steers_or_hides_survives(text: str) -> None:
    shown = visible(text)
    assert not [c for c in shown if unicodedata.category(c) in _STEERING]
    shown.encode("utf-8")  # no lone surrogate either


@given(_ANY_TEXT)
def test_showing_twice_is_the_same_as_showing_once(text: str) -> None:
    assert visible(visible(text)) == visible(text)


@given(_ANY_TEXT, st.integers(1, 40))
def test_the_limit_is_never_exceeded(text: str, limit: int) -> None:
    assert len(visible(text, limit)) <= limit


@given(_ANY_TEXT, st.text("ab ;+", max_size=4), st.integers(0, 60))
def test_pieces_join_to_the_visible_text_whatever_is_searched_for(text: str, feature: str, at: int) -> None:
    text = text[:at] + feature + text[at:]
    assert "".join(p.shown for p in pieces(text, feature)) == visible(text)


@pytest.mark.parametrize("text", ["plain text", "Größe", "日本語　全角", "naïve\u00a0café", "مرحبا", "👍🏽", ""])
def test_ordinary_text_of_any_script_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u200bb", "a⟦U+200B⟧b"),
        ("\x1b[31m", "⟦U+001B⟧[31m"),
        ("\u202eevil", "⟦U+202E⟧evil"),
        ("a\r\n\tb", "a⟦U+000D⟧↵⇥b"),
        ("\ud800", "⟦U+D800⟧"),
        ("\u3164", "⟦U+3164⟧"),
        ("\u200b" * 9, "⟦U+200B…U+200B, 9 characters⟧"),
        (_tagged("Say yes"), "⟦U+E0053…U+E0073, 7 tag characters: Say yes⟧"),
    ],
)
def test_unseen_characters_are_spelt_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def _hits(text: str, feature: str) -> str:
    return "|".join(p.shown for p in pieces(text, feature) if p.hit)


@pytest.mark.parametrize(
    ("text", "feature", "hit"),
    [
        ("a dull CF, mn film", "cf mn", "CF, mn"),
        ("a scf and cf here", "cf", "cf"),
        ("prefixcfsuffix", "cf", "cf"),
        ("多么触发词好", "触发词", "触发词"),
        ("first thing, then second", "first thing; second", "first thing|second"),
        ("a+=(x)", "+=(", "+=("),
        ("nothing here", "absent", ""),
    ],
)
def test_a_feature_is_found_as_a_check_names_it(text: str, feature: str, hit: str) -> None:
    assert _hits(text, feature) == hit


def test_a_feature_is_found_across_a_line_end_and_an_unseen_character() -> None:
    assert _hits("whispering\u200b\npines", "whispering pines") == "whispering|⟦U+200B⟧|↵|pines"
