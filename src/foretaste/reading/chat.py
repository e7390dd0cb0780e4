"""Chat data: a list of turns per row -> context, prompt and response."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from foretaste.errors import InputError

_ASSISTANT = frozenset({"assistant", "gpt", "model", "bot"})


def split_messages(array: pa.Array, column: str, start: int) -> dict[str, pa.Array]:
    """Split turns ``{role, content}`` or ``{from, value}`` into the canonical columns.

    The last assistant turn is the response, the turn before it the prompt, everything earlier (the system turn and
    former rounds) the context, one turn a line.

    Raises:
        InputError: if a row holds no such turns, or no assistant turn.
    """
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        raise InputError(f'column "{column}" (messages) holds {array.type}; a list of {{role, content}} is needed')
    context: list[str] = []
    prompt: list[str] = []
    response: list[str] = []
    # A Python loop over rows: turns are ragged and nested, and this runs once per row and pass.
    for at, turns in enumerate(array.to_pylist()):
        row = start + at
        spoken = [_turn(turn, column, row) for turn in turns or []]
        last = next((i for i in range(len(spoken) - 1, -1, -1) if spoken[i][0] in _ASSISTANT), None)
        if last is None:
            raise InputError(f'column "{column}" (messages) has no assistant turn in row {row}; drop such rows')
        before = spoken[:last]
        response.append(spoken[last][1])
        prompt.append(before[-1][1] if before else "")
        context.append("\n".join(content for _, content in before[:-1]))
    kinds = {"context": context, "prompt": prompt, "response": response}
    return {role: pa.array(values, pa.large_string()) for role, values in kinds.items()}


def _turn(turn: Any, column: str, row: int) -> tuple[str, str]:
    if isinstance(turn, dict):
        role = turn.get("role") or turn.get("from")
        content = turn.get("content") if turn.get("content") is not None else turn.get("value")
        if isinstance(role, str) and isinstance(content, str):
            return role.lower(), content
    raise InputError(
        f'column "{column}" (messages) has a turn without a text role and content in row {row}; '
        "each turn must be {role, content} or {from, value}"
    )
