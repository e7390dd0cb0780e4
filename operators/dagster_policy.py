"""Dagster: policy, state, baseline, waivers and trust as one resource, for every gate and check of a deployment.

Importing this module loads Dagster and nothing else that is heavy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import dagster as dg

from foretaste.errors import InputError, PolicyError

if TYPE_CHECKING:
    from foretaste.policy import Policy

BASELINE_CHECK = "baseline-drift"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Terms:
    """What a scan holds an asset to; see :func:`foretaste.scan`."""

    policy: Policy | str | Path | Mapping[str, Any] | None = None
    waivers: str | Path | None = None
    attestations: Sequence[str | Path] = ()
    trust: str | Path | None = None
    state: str | Path | None = None


class PoisonPolicyResource(dg.ConfigurableResource[Any]):
    """What gates and checks hold assets to. They name its key with ``resource_key``.

    ::

        resources = {
            "poison": PoisonPolicyResource(
                policy=dg.EnvVar("POISON_POLICY"), state="/data/gates/{asset}.state", trust="/config/trust.yaml"
            )
        }

    ``{asset}`` in a path stands for the key of the guarded asset (``raw.reviews`` of ``raw/reviews``), so that each has
    a state and a baseline of its own; a gate and a check of one asset share them. A gate lets what it hands on into the
    state; a check reads it and leaves it as it is. What a gate is given directly goes before what stands here.

    Attributes:
        policy: path of a policy file; the default policy where neither this nor ``inline`` is given.
        inline: the policy itself, as in a policy file.
        state: path or address of what earlier batches left.
        baseline: folder of a signed baseline, for the check ``baseline-drift`` of the policy; needs ``trust``.
        waivers: waiver file.
        attestations: files in which sources signed for data.
        trust: trust file by which the signatures of these are judged.
    """

    policy: str | None = None
    inline: dict[str, Any] | None = None
    state: str | None = None
    baseline: str | None = None
    waivers: str | None = None
    attestations: list[str] | None = None
    trust: str | None = None

    def terms(self, asset: dg.AssetKey, given: Terms | None = None) -> Terms:
        """What holds for an asset: what is given, and for the rest what stands here.

        Raises:
            InputError: if a path is empty, as an environment variable may be.
            PolicyError: if there are two policies, the policy is not valid, or it does not run ``baseline-drift``
                though a baseline is named.
        """
        given = given or Terms()
        if self.policy is not None and self.inline is not None:
            raise PolicyError("the resource has a policy file and an inline policy; keep one of them")
        mine = self.inline if self.policy is None else self._path("policy", asset)
        policy = mine if given.policy is None else given.policy
        trust = given.trust or self._path("trust", asset)
        if baseline := self._path("baseline", asset):
            policy = _compared(policy, baseline, trust)
        return Terms(
            policy=policy,
            waivers=given.waivers or self._path("waivers", asset),
            attestations=given.attestations or [_placed("attestations", a, asset) for a in self.attestations or ()],
            trust=trust,
            state=given.state or self._path("state", asset),
        )

    def _path(self, name: str, asset: dg.AssetKey) -> str | None:
        value = getattr(self, name)
        return None if value is None else _placed(name, value, asset)


def terms(context: Any, asset: dg.AssetKey, given: Terms, resource_key: str | None) -> Terms:
    """What is given, completed by the resource of the key, where one is named; see :meth:`PoisonPolicyResource.terms`.

    Raises:
        InputError: if the key is that of another resource.
    """
    if resource_key is None:
        return given
    resource = getattr(context.resources, resource_key)
    if not isinstance(resource, PoisonPolicyResource):
        raise InputError(
            f"the resource {resource_key} is no PoisonPolicyResource, but {type(resource).__name__}; give one, or name the "
            "key of another"
        )
    return resource.terms(asset, given)


def file_name(text: str) -> str:
    """A name that stays below its directory, whatever a key holds."""
    safe = quote(text, safe=" +=:,@")
    return safe if safe.strip(".") else safe.replace(".", "%2E")


def _placed(name: str, path: str, asset: dg.AssetKey) -> str:
    if not path.strip():
        raise InputError(f"{name} of the resource is empty; give it a value, or leave it out")
    # One name and no folders, which a state would not make; no two keys share one.
    return path.replace("{asset}", ".".join(file_name(part).replace(".", "%2E") for part in asset.path))


def _compared(policy: Any, baseline: str, trust: str | Path | None) -> Policy:
    """The policy, whose baseline check compares with this baseline."""
    from foretaste.policy import Policy

    if trust is None:
        raise PolicyError("a baseline counts by its signatures; name the trust file in trust")
    loaded = Policy.load(policy)
    named: dict[str, Any] = {"baseline": baseline, "trust": str(trust)}
    if BASELINE_CHECK not in {c.id for c in loaded.checks}:
        raise PolicyError(f"a baseline is named and the policy does not run {BASELINE_CHECK}; enable it there")
    checks = tuple(type(c)(**c.parameters | named) if c.id == BASELINE_CHECK else c for c in loaded.checks)
    return dataclasses.replace(loaded, checks=checks)


__all__ = ["PoisonPolicyResource", "Terms"]
