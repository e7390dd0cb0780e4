"""DSSE envelopes: a payload, its type, and one signature per key (https://github.com/secure-systems-lab/dsse v1).

A signature covers the type as well as the payload, so that a statement of one kind never passes for another.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from foretaste.errors import InputError, VerificationError
from foretaste.provenance import canonical

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from foretaste.provenance.keys import TrustedKey, TrustRoot

IN_TOTO = "application/vnd.in-toto+json"
MAX_SIGNATURES = 64


@dataclass(frozen=True, kw_only=True)
class Signature:
    """``extra`` holds what a scheme adds, such as the bundle of a Sigstore signature."""

    keyid: str
    sig: bytes
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A payload with the signatures over it. Holding one says nothing: :func:`verify` does."""

    payload: bytes
    payload_type: str = IN_TOTO
    signatures: tuple[Signature, ...] = ()

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of the payload: the name of a statement, the same whoever signs it."""
        return canonical.digest(self.payload)

    @property
    def pae(self) -> bytes:
        """The bytes that are signed."""
        from securesystemslib.dsse import Envelope as Plain

        return Plain(self.payload, self.payload_type, {}).pae()

    def to_dict(self) -> dict[str, Any]:
        """The envelope as plain values."""
        return {
            "payloadType": self.payload_type,
            "payload": base64.standard_b64encode(self.payload).decode(),
            "signatures": [
                {"keyid": s.keyid, "sig": base64.standard_b64encode(s.sig).decode(), **s.extra} for s in self.signatures
            ],
        }

    def to_json(self) -> str:
        """The envelope on one line."""
        return json.dumps(self.to_dict(), separators=(",", ":"))


def parse(raw: bytes | str, what: str = "the envelope") -> Envelope:
    """Read one envelope.

    Raises:
        VerificationError: if it is malformed: strict JSON, strict base64, exactly the fields of the standard, one
            signature per key.
    """
    return _from_dict(canonical.decode(raw, what), what)


def parse_lines(raw: bytes | str, what: str = "the bundle") -> tuple[Envelope, ...]:
    """Read envelopes, one a line, as an in-toto bundle has them.

    Raises:
        VerificationError: if one is malformed, or there is none.
    """
    text = raw.encode() if isinstance(raw, str) else raw
    lines = [(number, line) for number, line in enumerate(text.split(b"\n"), 1) if line.strip()]
    if not lines:
        raise VerificationError(f"{what} holds no envelope; get the file again from where it was made")
    return tuple(parse(line, f"{what}, line {number},") for number, line in lines)


def sign(envelope: Envelope, signer: Signer) -> Envelope:
    """The envelope with one more signature; an earlier one by the same key is replaced.

    The signature is held against the public key at once: a service that signs with another key, or something else than
    it was given, must be found out here and not where training starts.

    Raises:
        InputError: if the signer fails, for example because a key service is out of reach, or its signature does not
            fit.
    """
    try:
        made = signer.sign(envelope.pae)
        signer.public_key.verify_signature(made, envelope.pae)
        ours = Signature(
            keyid=made.keyid,
            sig=bytes.fromhex(made.signature),
            extra={k: v for k, v in made.unrecognized_fields.items() if k not in ("keyid", "sig")},
        )
    except Exception as e:  # a signer may raise anything: network, token, hardware
        raise InputError(f"cannot sign with {signer.public_key.keyid}: {type(e).__name__}: {e}") from e
    return replace(envelope, signatures=(*(s for s in envelope.signatures if s.keyid != ours.keyid), ours))


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What :func:`verify` vouches for: the payload's bytes, and the keys that signed them, each good today."""

    payload: bytes
    digest: str
    keys: tuple[TrustedKey, ...]


def verify(
    envelope: Envelope,
    trust: TrustRoot,
    role: str,
    *,
    payload_type: str = IN_TOTO,
    now: datetime | None = None,
    what: str = "the envelope",
) -> Verified:
    """Hold an envelope against the keys that a role trusts.

    Signatures by keys that the role does not trust, and by revoked or expired keys, do not count; nor do they harm.
    A key is judged by today and not by a date that the payload claims: whoever steals an expired key can write any
    date. So certificates outlive a key only by being signed again.

    Args:
        envelope: to verify.
        trust: keys and roles.
        role: in which the payload is signed; its keys and its threshold decide.
        payload_type: which the envelope must have.
        now: the time to judge by.
        what: name of the envelope, for messages.

    Raises:
        VerificationError: if fewer distinct keys than the role's threshold signed, with the reason for each signature; or
            if the trust file revokes the payload.
        PolicyError: if the trust file gives the role no keys.
    """
    from securesystemslib.signer import Signature as Plain

    now = now or datetime.now(UTC)
    if envelope.payload_type != payload_type:
        raise VerificationError(f"{what} has the type {envelope.payload_type!r}, not {payload_type!r}")
    wanted = trust.role(role)
    good: dict[str, TrustedKey] = {}
    bad: list[str] = []
    for signature in envelope.signatures:
        key, reason = trust.standing(signature.keyid, role, now)
        if key is None:
            bad.append(reason)
            continue
        try:
            plain = Plain(signature.keyid, signature.sig.hex(), dict(signature.extra))
            key.verifier().verify_signature(plain, envelope.pae)
        except Exception as e:  # noqa: BLE001 - whatever a verifier raises, the signature does not count
            bad.append(f"the signature of {key.label} does not fit ({e})")
            continue
        good[key.keyid] = key
    if len(good) < wanted.threshold:
        counted = f"{len(good)} of the {wanted.threshold} signatures that the role {role} needs"
        why = f": {'; '.join(bad)}" if bad else ": it carries no signature" if not envelope.signatures else ""
        raise VerificationError(f"{what} has {counted}{why}")
    if envelope.digest in trust.revoked:
        raise VerificationError(f"{what} is revoked: {trust.revoked[envelope.digest]}")
    return Verified(payload=envelope.payload, digest=envelope.digest, keys=tuple(good.values()))


def _from_dict(tree: Any, what: str) -> Envelope:
    try:
        if not isinstance(tree, dict) or set(tree) != {"payloadType", "payload", "signatures"}:
            raise ValueError("it must hold payloadType, payload and signatures, and nothing else")
        if not isinstance(tree["payloadType"], str) or not isinstance(tree["signatures"], list):
            raise ValueError("payloadType must be a string and signatures a list")
        if len(tree["signatures"]) > MAX_SIGNATURES:
            raise ValueError(f"it carries {len(tree['signatures'])} signatures, more than {MAX_SIGNATURES}")
        signatures = tuple(_signature(s) for s in tree["signatures"])
        ids = [s.keyid for s in signatures]
        if len(set(ids)) != len(ids):
            raise ValueError("one key signed twice")
        return Envelope(
            payload=_base64(tree["payload"], "payload"), payload_type=tree["payloadType"], signatures=signatures
        )
    except ValueError as e:
        raise VerificationError(f"{what} is malformed: {e}; get the file again from where it was made") from e


def _signature(tree: Any) -> Signature:
    if not isinstance(tree, dict) or not isinstance(tree.get("keyid"), str) or not tree["keyid"]:
        raise ValueError("a signature must name its keyid")
    extra = {k: v for k, v in tree.items() if k not in ("keyid", "sig")}
    return Signature(keyid=tree["keyid"], sig=_base64(tree.get("sig"), "sig"), extra=extra)


def _base64(text: Any, name: str) -> bytes:
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a base64 string")
    try:
        # The standard allows both alphabets; decoding must not skip what belongs to neither.
        alphabet = b"-_" if "-" in text or "_" in text else b"+/"
        raw = base64.b64decode(text.encode("ascii"), altchars=alphabet, validate=True)
    except (binascii.Error, UnicodeError) as e:
        raise ValueError(f"{name} is not base64: {e}") from e
    encoded = base64.b64encode(raw, altchars=alphabet).decode()
    if encoded.rstrip("=") != text.rstrip("="):
        raise ValueError(f"{name} is not base64 as it is written: its last bits are not zero")
    return raw
