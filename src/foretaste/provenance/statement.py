"""in-toto Statement v1: what a predicate says, and of which data (https://github.com/in-toto/attestation)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from foretaste.errors import VerificationError
from foretaste.provenance import canonical, dsse

TYPE = "https://in-toto.io/Statement/v1"
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement about data sets.

    Attributes:
        subjects: name and ``sha256:<hex>`` of each; a subject is matched by its digest, its name is for people.
        predicate_type: address of the predicate's definition.
        predicate: what is said.
    """

    subjects: tuple[tuple[str, str], ...]
    predicate_type: str
    predicate: Mapping[str, Any]

    @property
    def payload(self) -> bytes:
        """The bytes to sign: canonical JSON (RFC 8785)."""
        tree = {
            "_type": TYPE,
            "subject": [{"name": name, "digest": as_digest_set(digest)} for name, digest in self.subjects],
            "predicateType": self.predicate_type,
            "predicate": self.predicate,
        }
        return canonical.encode(tree)

    @property
    def envelope(self) -> dsse.Envelope:
        """The statement in an envelope that nobody has signed yet."""
        return dsse.Envelope(payload=self.payload)

    def text(self, *path: str) -> str:
        """A string of the predicate.

        Raises:
            VerificationError: if it is not there.
        """
        return str(self._at(path, str))

    def number(self, *path: str) -> int:
        """A whole number of the predicate.

        Raises:
            VerificationError: if it is not there.
        """
        return int(self._at(path, int))

    def items(self, *path: str) -> Sequence[Mapping[str, Any]]:
        """A list of mappings of the predicate; an empty one where it is left out.

        Raises:
            VerificationError: if it is something else.
        """
        try:
            found: list[Mapping[str, Any]] = self._at(path, list)
        except _MissingError:
            return []
        for item in found:
            if not isinstance(item, Mapping):
                raise VerificationError(f"{self._named(path)} must hold objects, not {item!r}")
        return found

    def _at(self, path: tuple[str, ...], kind: type[Any]) -> Any:
        value: Any = self.predicate
        for name in path:
            if not isinstance(value, Mapping) or name not in value:
                raise _MissingError(f"{self._named(path)} is missing")
            value = value[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise VerificationError(f"{self._named(path)} must be of type {kind.__name__}, not {value!r}")
        return value

    def _named(self, path: tuple[str, ...]) -> str:
        return f"{'.'.join(path)} of the statement {self.predicate_type}"


class _MissingError(VerificationError):
    pass


def parse(payload: bytes, what: str = "the statement") -> Statement:
    """Read a payload whose signatures were verified.

    Raises:
        VerificationError: if it is no Statement v1 whose subjects have SHA-256 digests.
    """
    tree = canonical.decode(payload, what)
    try:
        if not isinstance(tree, dict) or set(tree) != {"_type", "subject", "predicateType", "predicate"}:
            raise ValueError("it must hold _type, subject, predicateType and predicate, and nothing else")
        if tree["_type"] != TYPE:
            raise ValueError(f"its type is {tree['_type']!r}, not {TYPE!r}")
        if not isinstance(tree["subject"], list) or not tree["subject"]:
            raise ValueError("it has no subject")
        if not isinstance(tree["predicateType"], str) or not isinstance(tree["predicate"], dict):
            raise ValueError("predicateType must be a string and predicate an object")
        subjects = tuple((_name(s), from_digest_set(s["digest"])) for s in tree["subject"])
    except (ValueError, KeyError, TypeError) as e:
        raise VerificationError(f"{what} is no in-toto statement: {e}") from e
    return Statement(subjects=subjects, predicate_type=tree["predicateType"], predicate=tree["predicate"])


def as_digest_set(digest: str) -> dict[str, str]:
    """``sha256:<hex>`` as in-toto writes it."""
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}


def from_digest_set(tree: Any) -> str:
    """``sha256:<hex>`` from in-toto's form.

    Raises:
        ValueError: if there is no SHA-256 in it.
    """
    value = tree.get("sha256") if isinstance(tree, Mapping) else None
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise ValueError(f"{tree!r} holds no SHA-256 digest")
    return f"sha256:{value}"


def timestamp(moment: datetime | None = None) -> str:
    """A time, now without one, as in-toto writes it: UTC, to the second, with a Z."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_timestamp(text: str, what: str) -> datetime:
    """The time that :func:`timestamp` wrote.

    Raises:
        VerificationError: if it is none.
    """
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as e:
        raise VerificationError(f"{what} is no time in UTC: {text!r}") from e


def _name(subject: Any) -> str:
    name = subject["name"] if isinstance(subject, Mapping) else None
    if not isinstance(name, str):
        raise ValueError("a subject has no name")
    return name
