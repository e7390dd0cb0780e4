"""The policy: which checks run, with which limits, and how strict reading is. YAML <-> frozen objects."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from foretaste import checks
from foretaste.check import Check
from foretaste.errors import PolicyError, did_you_mean
from foretaste.history import HistoryOptions
from foretaste.power import PowerOptions
from foretaste.reading.dataset import InputOptions

VERSION = 1
_KEYS = ("version", "input", "power", "history", "checks", "seed")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a scan does. ``Policy()`` is the default policy: every installed check with its defaults.

    Attributes:
        checks: the checks that run, in the order of their ids.
        input: how strict reading is.
        power: whether triggers are planted into a copy, to learn what the scan could have seen.
        history: what a state keeps of accepted batches, where one is kept.
        seed: of every random draw.
    """

    checks: tuple[Check[Any], ...] = field(default_factory=lambda: tuple(c() for c in checks.registry().values()))
    input: InputOptions = field(default_factory=InputOptions)
    power: PowerOptions = field(default_factory=PowerOptions)
    history: HistoryOptions = field(default_factory=HistoryOptions)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse two checks of one id: a report holds one result for each.

        Raises:
            PolicyError: naming the id.
        """
        ids = [c.id for c in self.checks]
        for check_id in ids:
            if ids.count(check_id) > 1:
                raise PolicyError(f'the policy holds the check "{check_id}" {ids.count(check_id)} times; keep one')

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` over the canonical JSON of the policy, defaults written out."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def as_dict(self) -> dict[str, Any]:
        """The policy with every default written out, in the shape of the YAML file."""
        listed = {c.id: c.parameters for c in self.checks}
        absent = {i: {"enabled": False} for i in checks.registry() if i not in listed}
        return {
            "version": VERSION,
            "seed": self.seed,
            "input": dataclasses.asdict(self.input),
            "power": dataclasses.asdict(self.power),
            "history": dataclasses.asdict(self.history),
            "checks": json.loads(json.dumps(listed | absent, default=list)),
        }

    def only(self, *ids: str) -> Policy:
        """This policy with some of its checks; a check that it has switched off is built with its defaults.

        Power is a statement about the whole policy, so it is not measured, unless the policy demands it.

        Raises:
            CheckError: if a check does not exist.
        """
        mine = {c.id: c for c in self.checks}
        chosen = tuple(mine.get(i) or checks.get(i)() for i in sorted(set(ids)))
        power = self.power if self.power.require is not None else dataclasses.replace(self.power, measure="never")
        return dataclasses.replace(self, checks=chosen, power=power)

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any] | Policy | None) -> Policy:
        """From a YAML file's path, a mapping, a policy, or ``None`` for the default.

        Raises:
            PolicyError: if the file cannot be read or is not valid.
        """
        if source is None:
            return cls()
        if isinstance(source, Policy):
            return source
        if isinstance(source, Mapping):
            return cls._from_mapping(source, "policy")
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as e:
            raise PolicyError(f'cannot read the policy {source}: {e}; write one with "foretaste policy init"') from e
        try:
            loaded = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as e:
            mark = getattr(e, "problem_mark", None)
            where = f", line {mark.line + 1}" if mark else ""
            said = getattr(e, "problem", None) or " ".join(str(e).split())
            raise PolicyError(f"{source}{where} is not valid YAML: {said}; repair it") from e
        if not isinstance(loaded, Mapping):
            raise PolicyError(f'{source} holds no mapping; write a policy with "foretaste policy init"')
        return cls._from_mapping(loaded, str(source))

    @classmethod
    def _from_mapping(cls, raw: Mapping[str, Any], origin: str) -> Policy:
        _known(raw, _KEYS, origin)
        if raw.get("version", VERSION) != VERSION:
            raise PolicyError(f"{origin}: version {raw['version']!r} is not known; this release reads {VERSION}")
        built = []
        section = _mapping(raw.get("checks"), f"{origin}: checks")
        known = checks.registry()
        _known(section, known, f"{origin}: checks")
        for check_id, check in known.items():
            here = f"{origin}: checks.{check_id}"
            fields = dict(_mapping(section.get(check_id), here))
            enabled = fields.pop("enabled", True)
            if not isinstance(enabled, bool):
                raise PolicyError(f"{here}.enabled must be true or false, not {enabled!r}")
            if enabled:
                built.append(_build(check, fields, here))
        options = _build(InputOptions, _mapping(raw.get("input"), f"{origin}: input"), f"{origin}: input")
        power = _build(PowerOptions, _mapping(raw.get("power"), f"{origin}: power"), f"{origin}: power")
        history = _build(HistoryOptions, _mapping(raw.get("history"), f"{origin}: history"), f"{origin}: history")
        seed = raw.get("seed", 0)
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise PolicyError(f"{origin}: seed must be a whole number, not {seed!r}")
        if not built:
            raise PolicyError(f"{origin} switches every check off; a policy that checks nothing lets everything pass")
        return cls(checks=tuple(built), input=options, power=power, history=history, seed=seed)

    def to_yaml(self) -> str:
        """The policy as YAML, defaults written out, with each check's first line as a comment."""
        raw = self.as_dict()
        lines = [
            "# A foretaste policy. Limits are absolute counts of rows. Delete what you leave at its default:",
            "# a value that stands here stays as it is when a later release changes the default.",
            f"version: {raw['version']}",
            f"seed: {raw['seed']}",
            yaml.safe_dump({key: raw[key] for key in ("input", "power", "history")}, sort_keys=False).rstrip(),
            "checks:",
        ]
        for check_id, fields in sorted(raw["checks"].items()):
            lines.append(f"  # {(checks.get(check_id).__doc__ or '').strip().splitlines()[0]}")
            block = yaml.safe_dump({check_id: {"enabled": True} | fields}, sort_keys=False, allow_unicode=True)
            lines += [f"  {line}" for line in block.rstrip().splitlines()]
        return "\n".join(lines) + "\n"


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


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise PolicyError(f"{where} must be a mapping, not {value!r}")
    return value


def _known(raw: Mapping[str, Any], known: typing.Iterable[str], where: str) -> None:
    names = list(known)
    for key in raw:
        if key not in names:
            raise PolicyError(f'{where}: unknown key "{key}"; {did_you_mean(str(key), names)}')


def _build(cls: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a mapping, with every value's type checked against the field's annotation."""
    hints = typing.get_type_hints(cls)
    _known(values, [f.name for f in dataclasses.fields(cls)], where)
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
        return _build(typing.cast(type, hint), _mapping(value, where), where)
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
