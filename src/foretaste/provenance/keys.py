"""Whom to trust: public keys with owner, expiry and revocation, and the roles in which they may sign."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from foretaste.errors import PolicyError, did_you_mean
from foretaste.provenance.canonical import missing
from foretaste.typed import build, load_yaml, mapping, refuse_unknown

if TYPE_CHECKING:
    from securesystemslib.signer import Key

VERSION = 1
ROLES = {
    "certificate": "says that data were scanned and passed",
    "scan": "says what a scan found",
    "step": "says how data were made from other data",
    "waiver": "accepts a finding for one data set",
    "approval": "releases data after a person looked",
    "baseline": "names what later batches are compared with",
    "delivery": "says which data a source handed over",
    "quarantine": "says which rows were set apart, and which were not",
}
# What a key that is trusted may be; keys of GnuPG would need its program for every verification.
_TYPES = ("ed25519", "ecdsa", "rsa", "ml-dsa", "sigstore-oidc")
_HINT = 'write one with "foretaste keys trust"'


@dataclass(frozen=True, kw_only=True)
class TrustedKey:
    """A public key.

    Attributes:
        name: for people, and to name the key in a role.
        keyid: SHA-256 over the canonical key, 64 hex digits, as signatures name it.
        keytype: such as ``ed25519`` or ``ecdsa``.
        scheme: such as ``ed25519`` or ``ecdsa-sha2-nistp256``.
        public: the key: hex for Ed25519, PEM for the others; empty for Sigstore.
        identity: of the signer, for Sigstore.
        issuer: that vouches for the identity, for Sigstore.
        trusted_root: of the Sigstore instance, in JSON: the authorities and logs whose word counts.
        owner: who answers for the key.
        expires: last day on which its signatures count, as YYYY-MM-DD, in UTC.
        revoked: why no signature of the key counts any more; ``None`` for a good key.
    """

    name: str
    keyid: str
    keytype: str
    scheme: str
    public: str = ""
    identity: str = ""
    issuer: str = ""
    trusted_root: str = ""
    owner: str = ""
    expires: str | None = None
    revoked: str | None = None

    def __post_init__(self) -> None:
        """Refuse a key that does not have the id under which signatures would name it.

        Raises:
            ValueError: naming the key.
        """
        if self.keytype not in _TYPES:
            raise ValueError(f'key "{self.name}" has the type {self.keytype!r}; {did_you_mean(self.keytype, _TYPES)}')
        if self.expires is not None:
            try:
                date.fromisoformat(self.expires)
            except ValueError:
                raise ValueError(f'expires of "{self.name}" must be YYYY-MM-DD, not {self.expires!r}') from None
        if self.keyid != (right := self._digest()):
            raise ValueError(f'key "{self.name}" has the id {right}, not {self.keyid}; one of the two was changed')

    @property
    def label(self) -> str:
        """Name and short id, for messages."""
        return f'"{self.name}" ({self.keyid[:12]})'

    @property
    def material(self) -> bytes:
        """What one key has however it is written: an id changes with a capital, a line break or another scheme."""
        if self.keytype == "sigstore-oidc":
            return self.keyid.encode()
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

        try:
            if self.keytype == "ed25519":
                return bytes.fromhex(self.public)
            loaded = load_pem_public_key(self.public.encode())
            return loaded.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, UnsupportedAlgorithm):  # no signature fits such a key
            return self.keyid.encode()

    def verifier(self) -> Key:
        """The key as the signing library takes it.

        Raises:
            InputError: if the library is not there.
        """
        beside = {"trusted_root": self.trusted_root} if self.trusted_root else {}
        return _key_class(self.keytype)(self.keyid, self.keytype, self.scheme, self._value(), beside)

    def fault(self, now: datetime) -> str | None:
        """Why signatures of the key do not count, or ``None``."""
        if self.revoked is not None:
            return f"the key {self.label} is revoked: {self.revoked or 'no reason given'}"
        if self.expires is not None and now.astimezone(UTC).date() > date.fromisoformat(self.expires):
            return f"the key {self.label} expired on {self.expires}"
        return None

    def _value(self) -> dict[str, str]:
        if self.keytype == "sigstore-oidc":
            return {"identity": self.identity, "issuer": self.issuer}
        return {"public": self.public}

    def _digest(self) -> str:
        try:
            from securesystemslib.formats import encode_canonical
        except ImportError as e:
            raise missing(e) from e
        tree = {"keytype": self.keytype, "scheme": self.scheme, "keyval": self._value()}
        return hashlib.sha256(str(encode_canonical(tree)).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Role:
    """Who may sign something.

    Attributes:
        keys: names of the keys.
        threshold: distinct keys that must have signed.
        max_age_days: an older certificate is refused, so that old data cannot be shown with theirs for ever; of the
            role ``certificate`` only.
    """

    keys: tuple[str, ...]
    threshold: int = 1
    max_age_days: int | None = None

    def __post_init__(self) -> None:
        """Refuse a role that nobody or anybody meets.

        Raises:
            ValueError: with the numbers.
        """
        if len(set(self.keys)) != len(self.keys):
            raise ValueError(f"keys names a key twice: {', '.join(self.keys)}")
        if not 1 <= self.threshold <= len(self.keys):
            raise ValueError(f"threshold {self.threshold} does not fit {len(self.keys)} keys; it must be 1 to that")
        if self.max_age_days is not None and self.max_age_days < 1:
            raise ValueError(f"max_age_days must be at least 1, not {self.max_age_days}")


@dataclass(frozen=True, kw_only=True)
class TrustRoot:
    """Keys and roles: the one file that a verifier must have from a safe place.

    Attributes:
        keys: by name.
        roles: by name, of :data:`ROLES`.
        revoked: digests of statements that do not count any more, each with the reason.
        sequences: by name of a data set, the lowest sequence number that a certificate of it may have.
        snapshots: by name of a baseline, the lowest number that its newest snapshot may have.
    """

    keys: Mapping[str, TrustedKey] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)
    revoked: Mapping[str, str] = field(default_factory=dict)
    sequences: Mapping[str, int] = field(default_factory=dict)
    snapshots: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse roles that name no key, and a key that would count twice.

        Raises:
            PolicyError: naming what is wrong.
        """
        for name, role in self.roles.items():
            for missing_key in (k for k in role.keys if k not in self.keys):
                raise PolicyError(f'role {name}: no key "{missing_key}"; {did_you_mean(missing_key, self.keys)}')
        names: dict[bytes, str] = {}
        for key in self.keys.values():
            if (held := key.material) in names:  # one key under two names would meet a threshold of two
                raise PolicyError(f'keys "{names[held]}" and "{key.name}" are the same key; keep one of them')
            names[held] = key.name

    def role(self, name: str) -> Role:
        """A role.

        Raises:
            PolicyError: if the file does not hold it.
        """
        if name not in self.roles:
            raise PolicyError(f'the trust file names no keys for the role "{name}"; {did_you_mean(name, self.roles)}')
        return self.roles[name]

    def standing(self, keyid: str, role: str, now: datetime) -> tuple[TrustedKey | None, str]:
        """The key with an id, if its signatures count in a role now; otherwise ``None`` and the reason."""
        key = next((k for k in self.keys.values() if k.keyid == keyid), None)
        if key is None:
            return None, f"the key {keyid[:12]!r} is unknown"
        if key.name not in self.role(role).keys:
            return None, f"the key {key.label} may not sign as {role}"
        fault = key.fault(now)
        return (None, fault) if fault else (key, "")

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any] | TrustRoot) -> TrustRoot:
        """From a YAML file's path, or a mapping of the same shape.

        Raises:
            PolicyError: if it cannot be read or is not valid.
            InputError: if the signing library is not there.
        """
        if isinstance(source, TrustRoot):
            return source
        where = "trust" if isinstance(source, Mapping) else str(source)
        raw = source if isinstance(source, Mapping) else load_yaml(source, "trust file", _HINT)
        refuse_unknown(raw, ("version", "keys", "roles", "revoked", "sequences", "snapshots"), where)
        if raw.get("version", VERSION) != VERSION:
            raise PolicyError(f"{where}: version {raw['version']!r} is not known; this release reads {VERSION}")
        keys = {
            name: build(TrustedKey, {"name": name, **_said(value, f"{where}: keys.{name}")}, f"{where}: keys.{name}")
            for name, value in mapping(raw.get("keys"), f"{where}: keys").items()
        }
        roles = mapping(raw.get("roles"), f"{where}: roles")
        refuse_unknown(roles, ROLES, f"{where}: roles")
        return cls(
            keys=keys,
            roles={
                name: build(Role, _said(value, f"{where}: roles.{name}"), f"{where}: roles.{name}")
                for name, value in roles.items()
            },
            revoked=_revoked(raw, where),
            sequences=_numbers(raw, "sequences", where),
            snapshots=_numbers(raw, "snapshots", where),
        )

    def to_yaml(self) -> str:
        """The file that :meth:`load` reads."""
        tree = {
            "version": VERSION,
            "keys": {k.name: _sparse(k, "name") for k in self.keys.values()},
            "roles": {name: _sparse(role) for name, role in self.roles.items()},
        }
        if self.revoked:
            tree["revoked"] = dict(self.revoked)
        tree |= {n: dict(v) for n in ("sequences", "snapshots") if (v := getattr(self, n))}
        head = "# Whom foretaste trusts. Whoever changes this file decides what counts: keep it under review.\n"
        return head + yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def trusted(key: Key, name: str, **rest: Any) -> TrustedKey:
    """A public key of the signing library under a name.

    Raises:
        ValueError: if it cannot be trusted.
    """
    said = {**key.keyval, **key.unrecognized_fields}
    value = {k: v for k, v in said.items() if k in ("public", "identity", "issuer", "trusted_root")}
    return TrustedKey(name=name, keyid=key.keyid, keytype=key.keytype, scheme=key.scheme, **value, **rest)


def _said(value: Any, where: str) -> Mapping[str, Any]:
    """The fields of a key or role. An empty one could mean either: a key that is ``revoked:`` for no reason, or not."""
    fields = mapping(value, where)
    if empty := [str(name) for name, said in fields.items() if said is None]:
        raise PolicyError(f"{where}.{empty[0]} is empty; give it a value, or take the line out")
    return fields


def _revoked(raw: Mapping[str, Any], where: str) -> dict[str, str]:
    found = mapping(raw.get("revoked"), f"{where}: revoked")
    for digest, reason in found.items():
        if not isinstance(digest, str) or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise PolicyError(
                f"{where}: revoked names {digest!r:.100}, which is no sha256: and 64 hex digits; correct it"
            )
        if not isinstance(reason, str):
            raise PolicyError(f"{where}: revoked.{digest[:19]} must say why, as text, not {reason!r}")
    return dict(found)


def _numbers(raw: Mapping[str, Any], name: str, where: str) -> dict[str, int]:
    found = mapping(raw.get(name), f"{where}: {name}")
    for key, value in found.items():
        if not isinstance(key, str):
            raise PolicyError(f"{where}: {name} names {key!r}, which is no text and fits no name; write it in quotes")
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise PolicyError(f"{where}: {name}.{key} must be a whole number, not {value!r}")
    return dict(found)


class _Dumper(yaml.SafeDumper):
    """Writes a PEM key line by line, as people know it."""


def _plain_or_lines(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _plain_or_lines)


def _sparse(value: Any, *without: str) -> dict[str, Any]:
    """The fields that are not at their defaults, as YAML takes them."""
    return {
        f.name: list(v) if isinstance(v := getattr(value, f.name), tuple) else v
        for f in dataclasses.fields(value)
        if f.name not in without and getattr(value, f.name) != f.default
    }


@functools.cache
def _key_class(keytype: str) -> type[Key]:
    try:
        from securesystemslib.signer import SSlibKey

        from foretaste.provenance.keyless import IdentityKey
    except ImportError as e:
        raise missing(e) from e
    found: type[Key] = IdentityKey if keytype == "sigstore-oidc" else SSlibKey
    return found
