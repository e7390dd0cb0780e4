"""Which column plays which role, and what is guessed."""

from __future__ import annotations

import pytest

from foretaste import InputError, Roles


@pytest.mark.parametrize(
    ("columns", "kind", "roles"),
    [
        (["text", "label"], "classification", {"text": "text", "label": "label"}),
        (["Sentence", "Category", "id"], "classification", {"text": "Sentence", "label": "Category", "id": "id"}),
        (["text"], "documents", {"text": "text"}),
        (["document", "url"], "documents", {"text": "document", "source": "url"}),
        (["instruction", "input", "output"], "instruct",
         {"prompt": "instruction", "context": "input", "response": "output"}),
        (["prompt", "completion", "label"], "instruct", {"prompt": "prompt", "response": "completion"}),
        (["question", "answer", "system", "vendor"], "instruct",
         {"prompt": "question", "context": "system", "response": "answer", "source": "vendor"}),
        (["prompt", "chosen", "rejected"], "preference",
         {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}),
        (["messages", "source"], "instruct", {"messages": "messages", "source": "source"}),
        (["conversations"], "instruct", {"messages": "conversations"}),
    ],
)  # fmt: skip
def test_common_names_are_guessed_and_reported(columns: list[str], kind: str, roles: dict[str, str]) -> None:
    resolved, guessed = Roles().resolve(columns)
    assert resolved.kind == kind
    assert resolved.as_dict() == roles
    assert set(guessed) == set(roles)


def test_a_named_role_is_kept_and_is_not_called_a_guess() -> None:
    resolved, guessed = Roles(text="body").resolve(["text", "body", "label"])
    assert resolved.as_dict() == {"text": "body", "label": "label"}
    assert guessed == ("label",)


def test_naming_one_shape_switches_the_others_off() -> None:
    columns = ["text", "label", "prompt", "response", "chosen", "rejected", "messages"]
    for named, kind in (
        ({"text": "text"}, "classification"), ({"prompt": "prompt"}, "instruct"), ({"chosen": "chosen"}, "preference"),
        ({"messages": "messages"}, "instruct"),
    ):  # fmt: skip
        resolved, _ = Roles.from_mapping(named).resolve(columns)
        assert resolved.kind == kind
        assert (
            set(resolved.as_dict()) - {"prompt"}
            <= {
                "classification": {"text", "label"},
                "instruct": {"response", "messages", "context"},
                "preference": {"chosen", "rejected"},
            }[kind]
        )


def test_one_column_is_not_guessed_for_two_roles() -> None:
    resolved, _ = Roles(label="source").resolve(["text", "source"])
    assert resolved.source is None


def test_a_missing_column_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r'no column "lable" for role label; did you mean "label"\?'):
        Roles(label="lable").resolve(["text", "label"])


def test_an_unknown_role_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r'unknown role "txt"; did you mean "text"\?'):
        Roles.from_mapping({"txt": "a"})


@pytest.mark.parametrize("columns", [[], ["a", "b"], ["label"], ["prompt"], ["chosen"]])
def test_columns_of_no_shape_are_refused_and_listed(columns: list[str]) -> None:
    with pytest.raises(InputError, match="fit no data shape") as error:
        Roles().resolve(columns)
    assert all(c in str(error.value) for c in columns)


def test_empty_names_mean_no_role() -> None:
    assert Roles.from_mapping({"text": "t", "label": "", "source": None}) == Roles(text="t")


@pytest.mark.parametrize(
    "pair", [("text", "label"), ("prompt", "response"), ("chosen", "rejected"), ("text", "prompt")]
)
def test_a_column_plays_one_part(pair: tuple[str, str]) -> None:
    with pytest.raises(InputError, match=r'column "a" is named for the roles .* name another column'):
        Roles(**dict.fromkeys(pair, "a")).resolve(["a", "b"])
    assert Roles(text="a", source="b", id="b").resolve(["a", "b"])[0].id == "b"
