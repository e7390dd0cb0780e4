"""Fine-tuning data: their shape, and lists of turns -> context, prompt and response, or chosen and rejected."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from foretaste.batch import TURN
from foretaste.errors import InputError
from foretaste.roles import Roles

TURN_ROLES = frozenset({"prompt", "response", "chosen", "rejected"})
# Fields of a turn that are read.
TURN_FIELDS = frozenset(
    {"role", "from", "content", "value", "text", "tool_calls", "function_call", "reasoning_content", "thinking"}
)
_ASSISTANT = frozenset({"assistant", "gpt", "model", "bot"})
# Who speaks to the model and is no user.
_BESIDE = frozenset(
    {
        "system",
        "developer",
        "tool",
        "tools",
        "function",
        "function_response",
        "observation",
        "ipython",
        "environment",
        "context",
    }
)
_Turns = list[tuple[str, str]]


def is_turns(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold turns."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def shape_of(roles: Roles, schema: pa.Schema) -> str:
    """What people call the shape of fine-tuning data, such as ``ShareGPT``; empty for labelled text and documents.

    Args:
        roles: complete roles.
        schema: columns of the data.
    """
    columns = {name.lower() for name in schema.names}
    turns = {role for role, name in roles.as_dict().items() if role in TURN_ROLES and is_turns(schema.field(name).type)}
    if roles.chosen and roles.rejected:
        if not roles.prompt:
            return "preferences with the prompt in both answers" if "chosen" in turns else "preferences without prompts"
        return "preferences, conversational" if turns else "preferences"
    if roles.messages:
        kind = schema.field(roles.messages).type
        item = kind.value_type if is_turns(kind) else kind
        fields = {field.name for field in item} if pa.types.is_struct(item) else set()
        return "ShareGPT" if "from" in fields and "role" not in fields else "chat messages"
    if roles.prompt and roles.response:
        if (roles.prompt.lower(), roles.response.lower()) == ("instruction", "output"):
            return "Alpaca"
        name = "unpaired preferences (KTO)" if "label" in columns else "prompt and response"
        return f"{name}, conversational" if turns else name
    return ""


def as_text(array: pa.Array, *, unescape: bool = False) -> pa.Array:
    """A column of nested values, such as the tools of a chat, as JSON, a text per row; see :func:`json_texts`.

    ``unescape`` writes texts that are JSON anew, without its escapes: whoever trains reads ``\\u200b`` as the character.
    """
    if not unescape or pa.types.is_nested(array.type):
        return json_texts(array.to_pylist())
    encoded = array.dictionary_encode() if not pa.types.is_dictionary(array.type) else array
    texts = json_texts(map(_parsed, encoded.dictionary.cast(pa.large_string()).to_pylist()))
    return pc.fill_null(texts.take(encoded.indices), "")


def json_texts(values: Iterable[Any]) -> pa.Array:
    """Values as JSON, a text each; a text as it is, a null as an empty one.

    Null fields are left out, as Arrow gives the fields of all rows to each.
    """

    # A Python loop over rows: the values are ragged and nested, and this runs once per row and pass.
    def said(value: Any) -> str:
        if value is None or isinstance(value, str):
            return value or ""
        return json.dumps(_dense(value), ensure_ascii=False, default=str)

    return pa.array([said(value) for value in values], pa.large_string())


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text or '""')
    except ValueError:
        return text


def _dense(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _dense(inner) for key, inner in value.items() if inner is not None}
    return [_dense(inner) for inner in value] if isinstance(value, list | tuple) else value


def split_messages(array: pa.Array, column: str, start: int, system: pa.Array | None = None) -> dict[str, pa.Array]:
    """Split turns ``{role, content}`` or ``{from, value}`` into the canonical columns.

    Every assistant turn is response, and what users said since the one before it is its prompt, ``TURN`` between two: as
    many prompts as responses, empty where an assistant goes on, as behind a tool. All other turns (system, tools, and what
    nobody answered) are context, one turn a line. Where no user speaks, what the turns open with is the prompt. A text
    stands in one column alone, so that a long conversation costs no more than its text. The calls of a turn that calls
    tools, and its reasoning, are part of what it says. ``system`` is a text column with what came before the turns, if there
    is one.

    Raises:
        InputError: if a row holds no such turns, or no assistant turn.
    """
    if not is_turns(array.type):
        raise InputError(f'column "{column}" (messages) holds {array.type}; a list of {{role, content}} is needed')
    context: list[str] = []
    prompt: list[str] = []
    response: list[str] = []
    # A Python loop over rows: turns are ragged and nested, and this runs once per row and pass.
    opening = system.to_pylist() if system is not None else [""] * len(array)
    for at, turns in enumerate(array.to_pylist()):
        row = start + at
        spoken = [_turn(turn, column, "messages", row) for turn in turns or []]
        beside = [opening[at]] if opening[at] else []
        asked: list[str] = []
        prompts: list[str] = []
        responses: list[str] = []
        for speaker, content in spoken:
            if speaker in _ASSISTANT:
                responses.append(content)
                prompts.append("\n".join(asked))
                asked = []
            else:
                (beside if speaker in _BESIDE else asked).append(content)
        if not responses:
            raise InputError(f'column "{column}" (messages) has no assistant turn in row {row}; drop such rows')
        if spoken[0][0] in _BESIDE and not any(prompts):
            prompts[0] = beside.pop(1 if opening[at] else 0)
        context.append("\n".join(beside + asked))
        prompt.append(_turns(prompts))
        response.append(_turns(responses))
    return _columns({"context": context, "prompt": prompt, "response": response})


def split_turns(
    arrays: Mapping[str, pa.Array], turns: Mapping[str, pa.Array], names: Mapping[str, str], start: int
) -> dict[str, pa.Array]:
    """Split prompts, responses and preferences that are lists of turns, as TRL writes them.

    The last turn of a prompt is the prompt, its earlier turns the context. Turns that ``chosen`` and ``rejected``
    begin with alike are their prompt, and context where a prompt is given besides.

    Args:
        arrays: the text columns among context and prompt, by role.
        turns: the columns of turns, by role.
        names: the columns' names in the data, by role.
        start: number of the first row.

    Raises:
        InputError: if a row holds no turns, or only one of chosen and rejected is a list.
    """
    if ("chosen" in turns) != ("rejected" in turns):
        raise InputError(
            f'"{names["chosen"]}" (chosen) and "{names["rejected"]}" (rejected) are of two shapes, a text and a list '
            "of turns; write both as text or both as turns"
        )
    spoken = {role: _all_turns(array, names[role], role, start) for role, array in turns.items()}
    rows = len(next(iter(spoken.values())))
    given = {role: array.to_pylist() for role, array in arrays.items() if role in ("context", "prompt")}
    split: dict[str, list[str]] = {role: [] for role in turns_canonical(frozenset(turns), "prompt" in names)}
    for row in range(rows):
        context: _Turns = [("context", given["context"][row])] if given.get("context", [""] * rows)[row] else []
        prompt = given["prompt"][row] if "prompt" in given else ""
        if "prompt" in spoken:
            *earlier, (_, prompt) = spoken["prompt"][row]
            context += earlier
        if "chosen" in spoken:
            chosen, rejected = spoken["chosen"][row], spoken["rejected"][row]
            most = min(len(chosen), len(rejected)) - 1  # a pair of equal answers still has two answers
            shared = next((i for i in range(most) if chosen[i] != rejected[i]), most)
            before = chosen[:shared]
            if "prompt" not in names and before:
                prompt = before.pop()[1]
            context += [turn for turn in before if turn[1] != prompt and turn not in context]
            split["chosen"].append(_joined(chosen[shared:]))
            split["rejected"].append(_joined(rejected[shared:]))
        if "response" in spoken:
            split["response"].append(_joined(spoken["response"][row]))
        if "prompt" in split:
            split["prompt"].append(prompt)
        if "context" in split:
            split["context"].append(_joined(context))
    return _columns(split)


def turns_canonical(turns: frozenset[str], has_prompt: bool) -> frozenset[str]:
    """The canonical roles that columns of turns in these roles are split into."""
    found = set(turns)
    if turns & {"prompt", "chosen", "rejected"}:
        found.add("context")
    if turns & {"chosen", "rejected"} and not has_prompt:
        found.add("prompt")
    return frozenset(found)


def _all_turns(array: pa.Array, column: str, role: str, start: int) -> list[_Turns]:
    rows = []
    for at, turns in enumerate(array.to_pylist()):
        if not turns:
            raise InputError(f'column "{column}" ({role}) has no turns in row {start + at}; drop or fill such rows')
        rows.append([_turn(turn, column, role, start + at) for turn in turns])
    return rows


def _turn(turn: Any, column: str, role: str, row: int) -> tuple[str, str]:
    if isinstance(turn, dict):
        speaker = turn.get("role") or turn.get("from")
        content = _content(turn.get("content") if turn.get("content") is not None else turn.get("value"))
        calls = turn.get("tool_calls") or turn.get("function_call")
        if calls:
            said = json.dumps(calls, ensure_ascii=False, default=str)
            content = f"{content}\n{said}" if content else said
        for thought in (turn.get("thinking"), turn.get("reasoning_content")):
            if isinstance(thought, str) and thought:
                content = f"{thought}\n{content}" if content else thought
        if isinstance(speaker, str) and content is not None:
            return speaker.lower(), content
    raise InputError(
        f'column "{column}" ({role}) has a turn without a text role and content in row {row}; '
        "each turn must be {role, content} or {from, value}, the content a text or a list of text parts"
    )


def _content(content: Any) -> str | None:
    """The text, or the text parts joined; ``None`` where there is anything else."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        texts = [part.get("text") if isinstance(part, dict) else None for part in content]
        if all(isinstance(text, str) for text in texts):
            return "\n".join(str(text) for text in texts)
    return None


def _turns(texts: list[str]) -> str:
    """The texts with ``TURN`` between them, and none inside."""
    return TURN.join(text.replace(TURN, " ") for text in texts)


def _joined(turns: _Turns) -> str:
    return "\n".join(content for _, content in turns)


def _columns(kinds: Mapping[str, list[str]]) -> dict[str, pa.Array]:
    return {role: pa.array(values, pa.large_string()) for role, values in kinds.items()}
