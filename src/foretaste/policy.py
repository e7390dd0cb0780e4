"""The policy: which checks run, with which limits, and how strict reading is. YAML <-> frozen objects."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from foretaste import checks
from foretaste.check import Check
from foretaste.errors import PolicyError
from foretaste.history import HistoryOptions
from foretaste.power import PowerOptions
from foretaste.reading.dataset import InputOptions
from foretaste.typed import build, load_yaml, mapping, refuse_unknown
from foretaste.waivers import WaiverOptions

VERSION = 1
_KEYS = ("version", "input", "power", "history", "waivers", "checks", "seed", "memory_mb")
LEAST_MEMORY_MB = 256


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a scan does. ``Policy()`` is the default policy: every installed check with its defaults.

    Attributes:
        checks: the checks that run, in the order of their ids.
        input: how strict reading is.
        power: whether triggers are planted into a copy, to learn what the scan could have seen.
        waivers: what a waiver has to bring before it counts.
        history: what a state keeps of accepted batches, where one is kept.
        seed: of every random draw.
        memory_mb: mebibytes that the process of a scan may take. What is kept of every row spills to a file; what finds
            no room in the tables is left out of sight, and the report says how much that is.
    """

    checks: tuple[Check[Any], ...] = field(default_factory=lambda: tuple(c() for c in checks.registry().values()))
    input: InputOptions = field(default_factory=InputOptions)
    power: PowerOptions = field(default_factory=PowerOptions)
    waivers: WaiverOptions = field(default_factory=WaiverOptions)
    history: HistoryOptions = field(default_factory=HistoryOptions)
    seed: int = 0
    memory_mb: int = 2048

    def __post_init__(self) -> None:
        """Refuse two checks of one id: a report holds one result for each.

        Raises:
            PolicyError: naming the id; or the least memory.
        """
        if self.memory_mb < LEAST_MEMORY_MB:
            raise PolicyError(f"memory_mb must be at least {LEAST_MEMORY_MB}, not {self.memory_mb}")
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
            "memory_mb": self.memory_mb,
            "input": dataclasses.asdict(self.input),
            "power": dataclasses.asdict(self.power),
            "waivers": dataclasses.asdict(self.waivers),
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
        if not isinstance(source, str | Path):
            raise PolicyError(f"a policy is a path, a mapping or a Policy, not {type(source).__name__} {source!r:.80}")
        loaded = load_yaml(source, "policy", 'write one with "foretaste policy init"')
        return cls._from_mapping(loaded, str(source))

    @classmethod
    def _from_mapping(cls, raw: Mapping[str, Any], origin: str) -> Policy:
        refuse_unknown(raw, _KEYS, origin)
        if raw.get("version", VERSION) != VERSION:
            raise PolicyError(f"{origin}: version {raw['version']!r} is not known; this release reads {VERSION}")
        built = []
        section = mapping(raw.get("checks"), f"{origin}: checks")
        known = checks.registry()
        refuse_unknown(section, known, f"{origin}: checks")
        for check_id, check in known.items():
            here = f"{origin}: checks.{check_id}"
            fields = dict(mapping(section.get(check_id), here))
            enabled = fields.pop("enabled", True)
            if not isinstance(enabled, bool):
                raise PolicyError(f"{here}.enabled must be true or false, not {enabled!r}")
            if enabled:
                built.append(build(check, fields, here))
        options = build(InputOptions, mapping(raw.get("input"), f"{origin}: input"), f"{origin}: input")
        power = build(PowerOptions, mapping(raw.get("power"), f"{origin}: power"), f"{origin}: power")
        waivers = build(WaiverOptions, mapping(raw.get("waivers"), f"{origin}: waivers"), f"{origin}: waivers")
        history = build(HistoryOptions, mapping(raw.get("history"), f"{origin}: history"), f"{origin}: history")
        numbers = {key: raw.get(key, default) for key, default in (("seed", 0), ("memory_mb", 2048))}
        for key, number in numbers.items():
            if not isinstance(number, int) or isinstance(number, bool):
                raise PolicyError(f"{origin}: {key} must be a whole number, not {number!r}")
        if not built:
            raise PolicyError(f"{origin} switches every check off; a policy that checks nothing lets everything pass")
        return cls(checks=tuple(built), input=options, power=power, history=history, waivers=waivers, **numbers)

    def to_yaml(self) -> str:
        """The policy as YAML, defaults written out, with each check's first line as a comment."""
        raw = self.as_dict()
        lines = [
            "# A foretaste policy. Limits are absolute counts of rows. Delete what you leave at its default:",
            "# a value that stands here stays as it is when a later release changes the default.",
            f"version: {raw['version']}",
            f"seed: {raw['seed']}",
            f"memory_mb: {raw['memory_mb']}",
            yaml.safe_dump({k: raw[k] for k in ("input", "power", "history", "waivers")}, sort_keys=False).rstrip(),
            "checks:",
        ]
        for check_id, fields in sorted(raw["checks"].items()):
            about = (
                (checks.get(check_id).__doc__ or "").strip().split("\n")[0]
            )  # none where Python leaves docstrings out
            lines.append(f"  # {about}")
            block = yaml.safe_dump({check_id: {"enabled": True} | fields}, sort_keys=False, allow_unicode=True)
            lines += [f"  {line}" for line in block.rstrip().splitlines()]
        return "\n".join(lines) + "\n"
