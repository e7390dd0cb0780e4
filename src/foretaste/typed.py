"""YAML files -> frozen dataclasses, strictly: no key twice, no unknown key, every value of its field's type."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from foretaste.errors import PolicyError, did_you_mean


def load_yaml(path: str | Path, what: str, hint: str) -> Mapping[str, Any]:
    """The mapping that a YAML file holds.

    Args:
        path: of the file, or its address.
        what: what the file is, for messages.
        hint: how to write one, for messages.

    Raises:
        PolicyError: if the file cannot be read, is not YAML, or holds no mapping.
    """
    from foretaste.reading.stores import read_file

    try:
        text = read_file(path).decode("utf-8")
    except (OSError, UnicodeError) as e:
        raise PolicyError(f"cannot read the {what} {path}: {e}; {hint}") from e
    try:
        loaded = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        said = getattr(e, "problem", None) or " ".join(str(e).split())
        raise PolicyError(f"{path}{where} is not valid YAML: {said}; repair it") from e
    if not isinstance(loaded, Mapping):
        raise PolicyError(f"{path} holds no mapping; {hint}")
    return loaded


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping: YAML takes the last one, and a reader sees the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys all differ."""
        seen = set()
        for key in (k for k, _ in node.value if isinstance(k, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f'key "{key.value}" stands twice', key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """The value, or an empty mapping for nothing.

    Raises:
        PolicyError: if it is neither.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise PolicyError(f"{where} must be a mapping, not {value!r}")
    return value


def refuse_unknown(raw: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    """Refuse a key that is not among the names.

    Raises:
        PolicyError: naming the key and the nearest name.
    """
    listed = list(names)
    for key in raw:
        if key not in listed:
            raise PolicyError(f'{where}: unknown key "{key}"; {did_you_mean(str(key), listed)}')


def build(cls: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a mapping, with every value's type checked against the field's annotation.

    Raises:
        PolicyError: naming the field.
    """
    hints = typing.get_type_hints(cls)
    refuse_unknown(values, [f.name for f in dataclasses.fields(cls)], where)
    for f in dataclasses.fields(cls):
        if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise PolicyError(f"{where}.{f.name} is missing")
    converted = {name: _convert(value, hints[name], f"{where}.{name}") for name, value in values.items()}
    try:
        return cls(**converted)
    except ValueError as e:
        raise PolicyError(f"{where}: {e}") from e


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if value in args:
            return value
        raise PolicyError(f"{where} must be one of {', '.join(map(repr, args))}, not {value!r}")
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _convert(value, next(a for a in args if a is not type(None)), where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise PolicyError(f"{where} must be a list, not {value!r}")
        return tuple(_convert(v, args[0], f"{where}[{i}]") for i, v in enumerate(value))
    if dataclasses.is_dataclass(hint):
        if isinstance(value, typing.cast(type, hint)):
            return value
        if isinstance(value, str):  # a bare string stands for the first field, as in "- github.com"
            value = {dataclasses.fields(hint)[0].name: value}
        return build(typing.cast(type, hint), mapping(value, where), where)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):  # no count reaches a limit that is not a number
            raise PolicyError(f"{where} must be a finite number, not {value!r}")
        return float(value)
    if hint is str and isinstance(value, str):
        return value
    if hint is str and type(value) is date:  # YAML reads 2030-01-01 as a date
        return value.isoformat()
    raise PolicyError(f"{where} must be {getattr(hint, '__name__', hint)}, not {value!r}")
