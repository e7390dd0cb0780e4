"""YAML and JSON -> frozen dataclasses, strictly: no key twice, no unknown key, every value of its field's type.

A YAML file says what it says where it says it: aliases and merge keys are refused. They let a rule be changed from
elsewhere in the file, a few lines of them make gigabytes, and readers of YAML 1.2 do not know merge keys at all.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from foretaste.errors import PolicyError, did_you_mean

MAX_YAML_BYTES = 16 << 20


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
        raw = read_file(path)
        if len(raw) > MAX_YAML_BYTES:
            raise PolicyError(f"{path} has {len(raw):,} bytes, more than {MAX_YAML_BYTES:,}; {hint}")
        text = raw.decode("utf-8")
    except (OSError, UnicodeError) as e:
        raise PolicyError(f"cannot read the {what} {path}: {e}; {hint}") from e
    loaded = parse_yaml(text, str(path))
    if not isinstance(loaded, Mapping):
        raise PolicyError(f"{path} holds no mapping; {hint}")
    return loaded


def parse_yaml(text: str, where: str) -> Any:
    """The value that YAML text stands for, without aliases and merge keys.

    Raises:
        PolicyError: if it is not such YAML, naming the line where that is known.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        said = getattr(e, "problem", None) or " ".join(str(e).split())
        raise PolicyError(f"{where}{line} is not valid YAML: {said}; repair it") from e
    except RecursionError as e:
        raise PolicyError(f"{where} is not valid YAML: it is nested too deeply; repair it") from e
    # A day that no month has, a bad !!int and the like.
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as e:
        raise PolicyError(f"{where} is not valid YAML: {e}; repair it") from e


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping: YAML takes the last one, and a reader sees the first."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node that stands where it is used."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, f"the alias *{event.anchor} stands for what lies elsewhere; write it out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_scalar(self, node: Any) -> Any:
        """A value that can be written as UTF-8: the half of a character has no digest."""
        value = super().construct_scalar(node)
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                said = "a lone surrogate is no character; write the character itself"
                raise yaml.constructor.ConstructorError(None, None, said, node.start_mark) from None
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys all differ."""
        seen = set()
        for key in (k for k, _ in node.value if isinstance(k, yaml.ScalarNode)):
            if key.tag == "tag:yaml.org,2002:merge":
                said = "a merge key (<<) puts rules where nobody looks for them; write them out"
                raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
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


def shaped(cls: type[Any], values: Mapping[str, Any]) -> Any:
    """A dataclass from JSON values, each of its field's type; fields with defaults may be left out.

    Raises:
        ValueError: naming the value that does not fit.
        TypeError: if a field is missing or unknown.
    """
    hints = typing.get_type_hints(cls)
    for name, value in values.items():
        if name in hints:
            refuse_misfit(value, hints[name], f"{cls.__name__}.{name}")
    return cls(**values)


def refuse_misfit(value: Any, hint: Any, where: str) -> None:
    """Refuse a value that is not of a type: of JSON, a dataclass, or a ``TypedDict`` for a mapping with known keys.

    Raises:
        ValueError: naming the place.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if typing.is_typeddict(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} must be a mapping")
        if absent := hint.__required_keys__ - value.keys():
            raise ValueError(f"{where}.{min(absent)} is missing")
        for name, kind in typing.get_type_hints(hint).items():
            if name in value:
                refuse_misfit(value[name], kind, f"{where}.{name}")
    elif origin in (types.UnionType, typing.Union):
        if value is not None or type(None) not in args:
            refuse_misfit(value, next(a for a in args if a is not type(None)), where)
    elif origin in (tuple, list, Sequence):
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} must be a list")
        for at, item in enumerate(value):  # a Python loop over the rows that a report names
            if not _is(item, args[0]):
                refuse_misfit(item, args[0], f"{where}[{at}]")
    elif origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} must be a mapping")
        for key, item in value.items():
            refuse_misfit(key, args[0], f"a key of {where}")
            refuse_misfit(item, args[1], f"{where}[{key!r:.40}]")
    elif not _is(value, hint):
        raise ValueError(f"{where} must be {getattr(hint, '__name__', hint)}, not {value!r:.60}")


def _is(value: Any, hint: Any) -> bool:
    """Whether a plain value is of a plain type; numbers are those that 64 bits hold."""
    if hint is Any:
        return True
    if hint is int:
        return type(value) is int and -(2**63) <= value < 2**63
    if hint is float:
        return math.isfinite(value) if type(value) is float else _is(value, int)
    return isinstance(hint, type) and not typing.is_typeddict(hint) and isinstance(value, hint)
