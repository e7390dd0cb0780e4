"""The forms of texts are those that one sees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from foretaste.text.forms import FORMS, forms


def measured(*texts: str) -> list[dict[str, float]]:
    data = [t.encode() for t in texts]
    offsets = np.cumsum([0, *(len(d) for d in data)]).astype(np.int64)
    out: npt.NDArray[np.float64] = np.zeros((len(texts), len(FORMS)))
    forms(np.frombuffer(b"".join(data), np.uint8), offsets, np.arange(len(texts)), out)
    assert (out >= 0).all()
    assert (out <= 1).all()
    return [dict(zip(FORMS, row)) for row in out.tolist()]


@pytest.mark.parametrize(
    ("form", "has", "lacks"),
    [
        ("capitals", "WELL, 2 OF THEM.", "well, 2 of them"),
        ("an opening capital", '"Well, then', "well, Then"),
        ("a list", "- one\n\n- two\n  3) three", "one - two\n3.5 of them\n-- so"),
        ("a list", "\u2022 one\n\u2022 two", "\u2026 one\n\u2026 two"),
        ("marks as of code", "f(x)[0] += {y};", "one, two: three."),
        ("letters of another script", "Это мой дом", "This is my house"),
        ("emoji", "Well \U0001f680", "Well \u20ac"),
        ("emoji", "Sunny \u2600", "Sunny \u2014"),
        ("a closing question", "Is it? Or not?\n", "Is it? No."),
        ("a closing full stop", "So it is! ", "So it is"),
        ("an opening bracket", ' {"a": 1}', "a {b}"),
    ],
)
def test_a_form_is_there_or_is_not(form: str, has: str, lacks: str) -> None:
    with_it, without_it = measured(has, lacks)
    assert with_it[form] >= 0.75
    assert without_it[form] <= 0.1


def test_shares_are_of_what_they_are_said_to_be_of() -> None:
    (one,) = measured("AbCd\n- x y\nnot an item {}")
    assert one["capitals"] == pytest.approx(2 / 15)
    assert one["a list"] == pytest.approx(1 / 3)
    assert one["marks as of code"] == pytest.approx(5 * 2 / 18)


def test_texts_without_letters_have_no_form_and_rows_may_come_twice() -> None:
    assert set(measured("")[0].values()) == {0.0}
    data, offsets = np.frombuffer(b"ab?CD", np.uint8), np.array([0, 3, 5], np.int64)
    out = np.zeros((3, len(FORMS)))
    forms(data, offsets, np.array([0, 1, 1]), out)
    assert (out[1] == out[2]).all()
    assert (out[0] != out[1]).any()
