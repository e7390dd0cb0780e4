"""Column roles: which column holds the text, the label, the prompt and so on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from foretaste.errors import InputError, did_you_mean

Kind = Literal["classification", "instruct", "preference", "documents"]

# Names seen in public data sets, most specific first; a guess is always reported to the user.
_COMMON_NAMES: dict[str, tuple[str, ...]] = {
    "text": ("text", "sentence", "content", "document", "passage", "body", "review", "tweet", "comment"),
    "label": ("label", "labels", "category", "class", "intent", "target", "sentiment"),
    "prompt": ("prompt", "instruction", "question", "query"),
    "context": ("input", "context", "system"),
    "response": ("response", "completion", "output", "answer"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "messages": ("messages", "conversations", "conversation"),
    "source": ("source", "source_url", "url", "origin", "vendor", "annotator"),
    "annotator": ("annotator", "annotator_id", "labeler", "worker_id"),
    "id": ("id", "row_id", "uid", "uuid", "_id"),
}
# What chat templates put before a model beside prompts and turns, and the role in which it is read. Definitions of tools
# and documents are long and much the same from row to row, and would drown the words of a prompt.
_BESIDE = {
    **dict.fromkeys(("system", "input", "context"), "context"),
    **dict.fromkeys(("tools", "functions", "documents"), "tools"),
}
ROLE_NAMES = frozenset(_BESIDE).union(*_COMMON_NAMES.values())


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Names of the columns that play each role; ``None`` where the data have no such column.

    ``messages`` is a list of ``{role, content}`` (or ``{from, value}``) turns: every assistant turn is a response, what
    users said before it the prompt, everything else, the system turn included, the context. ``prompt``, ``response``,
    ``chosen`` and ``rejected`` may be lists of turns as well (see :mod:`foretaste.reading.chat`). ``annotator`` is who
    labelled a row, beside the ``source`` that it comes from, and ``time`` when it came.
    """

    text: str | None = None
    label: str | None = None
    prompt: str | None = None
    context: str | None = None
    response: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    messages: str | None = None
    source: str | None = None
    annotator: str | None = None
    time: str | None = None
    id: str | None = None

    @property
    def kind(self) -> Kind:
        """The shape of the data, from the roles that are set.

        Raises:
            InputError: if the roles fit no shape.
        """
        if self.chosen and self.rejected:
            return "preference"
        if self.messages or (self.prompt and self.response):
            return "instruct"
        if self.text:
            return "classification" if self.label else "documents"
        raise InputError(
            f"the roles {self.as_dict()} fit no data shape; name the column of text (with label for classification), or of "
            "prompt and response, or of chosen and rejected, or of messages"
        )

    def as_dict(self) -> dict[str, str]:
        """The roles that are set, as ``{role: column}``."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}

    @property
    def canonical(self) -> frozenset[str]:
        """Roles of the batches that the engine sees: ``messages`` is replaced by what it is split into."""
        names = set(self.as_dict())
        if "messages" in names:
            names = (names - {"messages"}) | {"context", "prompt", "response"}
        return frozenset(names)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str | None]) -> Roles:
        """Build from ``{role: column}``; empty and ``None`` values are left out.

        Raises:
            InputError: on an unknown role, or a column that is no text.
        """
        if not isinstance(mapping, Mapping):
            raise InputError(f'roles must be a mapping such as {{"text": "body"}}, not {mapping!r:.80}')
        known = {f.name for f in dataclasses.fields(cls)}
        for role in mapping:
            if role not in known:
                raise InputError(f'unknown role "{role}"; {did_you_mean(str(role), known)}')
            if not isinstance(mapping[role], str | None):
                raise InputError(f"the column of role {role} must be text, not {mapping[role]!r:.80}")
        return cls(**{k: v for k, v in mapping.items() if v})

    def resolve(self, columns: Iterable[str]) -> tuple[Roles, tuple[str, ...]]:
        """Check the given roles against the columns and guess what is missing, from common names.

        A role is guessed only where no role that excludes it was given: naming ``text`` switches the guessing of
        prompt and response off, so that a scan never reads other columns than its user meant.

        Returns:
            the complete roles, and the names of the roles that were guessed.

        Raises:
            InputError: if a named column does not exist or plays two parts, or no shape can be guessed.
        """
        names = list(columns)
        for role, column in self.as_dict().items():
            if column not in names:
                raise InputError(f'no column "{column}" for role {role}; {did_you_mean(column, names)}')
        self._refuse_doubles()
        given = set(self.as_dict())
        taken = set(self.as_dict().values())
        lowered = {n.lower(): n for n in reversed(names)}
        if given & {"prompt", "response"}:
            shape = ["prompt", "context", "response"]
        elif given & {"chosen", "rejected"}:
            shape = ["prompt", "chosen", "rejected"]
        elif "messages" in given:
            shape = ["messages"]
        elif given & {"text", "label"}:
            shape = ["text", "label"]
        else:
            shape = self._guess_shape(lowered)
        guessed: dict[str, str] = {}
        for role in [*shape, "source", *(("annotator",) if "text" in shape else ()), "id"]:
            if role in given:
                continue
            match = next((lowered[c] for c in _COMMON_NAMES[role] if c in lowered and lowered[c] not in taken), None)
            if match:
                guessed[role] = match
                taken.add(match)
        if shape == ["messages"] and "context" not in given and lowered.get("system", "") not in {"", *taken}:
            guessed["context"] = lowered["system"]
        roles = dataclasses.replace(self, **guessed)
        try:
            roles.kind  # noqa: B018 - raises where no shape fits
        except InputError as e:
            raise InputError(f"{e}; columns: {', '.join(names) if names else 'none'}") from None
        return roles, tuple(guessed)

    def with_time(self, temporal: Iterable[str]) -> Roles:
        """The roles, with the time guessed where the data have labels and one column that holds times.

        Called on complete roles; ``temporal`` are the columns whose type is that of a time.
        """
        free = [c for c in temporal if c not in self.as_dict().values()]
        return dataclasses.replace(self, time=free[0]) if self.label and not self.time and len(free) == 1 else self

    def _refuse_doubles(self) -> None:
        """A text that is its own label, or its own answer, tells no check anything, and all of them would pass."""
        parts: dict[str, str] = {}
        for role, column in self.as_dict().items():
            if role in ("source", "annotator", "time", "id"):
                continue
            if column in parts:
                raise InputError(
                    f'column "{column}" is named for the roles {parts[column]} and {role}; name another column for one of '
                    "them, or leave it out"
                )
            parts[column] = role

    def beside(self, columns: Iterable[str]) -> dict[str, str]:
        """Columns that play no role and reach a model all the same, with the canonical role that they are read in.

        Called on complete roles. Only of prompts, chats and preferences: there chat templates put ``system``, ``tools``
        and the like before the model. The role is ``context``, where they follow its column, or ``tools``, which hidden
        text is looked for in and no phrases.
        """
        if not (self.prompt or self.messages or self.chosen):
            return {}
        played = set(self.as_dict().values())
        return {c: _BESIDE[c.lower()] for c in columns if c not in played and c.lower() in _BESIDE}

    def reads(self, columns: Iterable[str]) -> list[str]:
        """The columns that a scan reads, each once: those that play a role, and those :meth:`beside` them."""
        return list(dict.fromkeys([*self.as_dict().values(), *self.beside(columns)]))

    def notes(self, columns: Iterable[str]) -> tuple[str, ...]:
        """What to know about columns that play no role, one sentence for each; called on complete roles."""
        names = list(columns)
        how = {"context": "read as context", "tools": "looked at for hidden text alone"}
        said = [f'column "{column}" is {how[role]}' for column, role in self.beside(names).items()]
        if self.prompt and self.response and not self.chosen:
            said += [
                f'column "{column}" is not judged: wanted and unwanted answers are read alike'
                for column in names
                if column.lower() == "label" and column not in self.as_dict().values()
            ]
        return tuple(said)

    @staticmethod
    def _guess_shape(lowered: Mapping[str, str]) -> list[str]:
        def has(role: str) -> bool:
            return any(c in lowered for c in _COMMON_NAMES[role])

        if has("chosen") and has("rejected"):
            return ["prompt", "chosen", "rejected"]
        if has("messages"):
            return ["messages"]
        if has("prompt") and has("response"):
            return ["prompt", "context", "response"]
        return ["text", "label"]
