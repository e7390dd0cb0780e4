"""A stand-in for Sigstore on loopback: an authority with its certificate log (Fulcio), and a transparency log (Rekor 1).

Enough of both for the client library to sign and to verify: certificates for ten minutes with an embedded SCT (RFC 6962),
entries with an inclusion proof, a signed checkpoint and a signed promise. Tokens are signed by the stack itself.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import jwt
import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from .serving import JSONHandler, serving

ISSUER = "https://issuer.example"
_SECRET = "a secret of the stand-in's own issuer"
_SCTS = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_ISSUER_V1 = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")


def token(identity: str, issuer: str = ISSUER) -> str:
    """An identity token, as an OpenID provider gives it."""
    now = int(time.time())
    claims = {"iss": issuer, "aud": "sigstore", "sub": identity, "iat": now, "exp": now + 300}
    return jwt.encode(claims, _SECRET, "HS256")


@dataclass
class Stack:
    """The services, with faults to order.

    Attributes:
        url: of both services.
        late: seconds by which the log's clock is ahead of the authority's.
        unlogged: answer with proofs of entries that never went into the log.
        asked: paths that were served.
    """

    url: str = ""
    late: int = 0
    unlogged: bool = False
    asked: list[str] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=lambda: [_leaf(b"an entry of somebody else %d" % i) for i in range(5)])
    ca: EllipticCurvePrivateKey = field(default_factory=lambda: generate_private_key(SECP256R1()))
    ct: EllipticCurvePrivateKey = field(default_factory=lambda: generate_private_key(SECP256R1()))
    log: EllipticCurvePrivateKey = field(default_factory=lambda: generate_private_key(SECP256R1()))

    def __post_init__(self) -> None:
        """Make the authority's own certificate."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
        self.root = (
            self._certificate(name, self.ca.public_key(), timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .sign(self.ca, SHA256())
        )

    def config(self) -> dict[str, Any]:
        """The client trust configuration."""
        start = {"start": "2020-01-01T00:00:00Z"}

        def service() -> list[dict[str, Any]]:
            return [{"url": self.url, "majorApiVersion": 1, "validFor": start, "operator": "here"}]

        def instance(key: EllipticCurvePrivateKey) -> list[dict[str, Any]]:
            public = {"rawBytes": _text(_der(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": start}
            about = {"baseUrl": self.url, "hashAlgorithm": "SHA2_256"}
            return [about | {"publicKey": public, "logId": {"keyId": _text(_id(key))}}]

        chain = {"certificates": [{"rawBytes": _text(self.root.public_bytes(Encoding.DER))}]}
        subject = {"organization": "here", "commonName": "authority"}
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": instance(self.log),
                "ctlogs": instance(self.ct),
                "certificateAuthorities": [
                    {"subject": subject, "uri": self.url, "certChain": chain, "validFor": start}
                ],
            },
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": service(),
                "oidcUrls": service(),
                "rekorTlogUrls": service(),
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaConfig": {"selector": "ANY"},
            },
        }

    def certify(self, request: x509.CertificateSigningRequest, bearer: str) -> list[str]:
        """A certificate for the token's subject and the request's key, and that of the authority.

        Raises:
            jwt.InvalidTokenError: if the token is not the issuer's.
        """
        claims = jwt.decode(bearer, _SECRET, ["HS256"], audience="sigstore")
        usage = dict.fromkeys(_USAGES, False) | {"digital_signature": True}
        builder = (
            self._certificate(x509.Name([]), request.public_key(), timedelta(minutes=10))
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(claims["sub"])]), critical=True)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_V1, claims["iss"].encode()), critical=False)
        )
        before = builder.sign(self.ca, SHA256()).tbs_certificate_bytes
        scts = x509.UnrecognizedExtension(_SCTS, self._promised(before))
        made = builder.add_extension(scts, critical=False).sign(self.ca, SHA256())
        return [c.public_bytes(Encoding.PEM).decode() for c in (made, self.root)]

    def enter(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Take an entry into the log, and prove it."""
        body = rfc8785.dumps(entry)
        self.leaves.append(_leaf(b"something else" if self.unlogged else body))
        at, root = len(self.leaves) - 1, _root(self.leaves)
        about = {
            "body": _text(body),
            "integratedTime": int(time.time()) + self.late,
            "logID": _id(self.log).hex(),
            "logIndex": at,
        }
        note = f"log.example - 1\n{len(self.leaves)}\n{_text(root)}\n"
        signed = _text(_id(self.log)[:4] + self._sign(self.log, note.encode()))
        proof = {
            "logIndex": at,
            "rootHash": root.hex(),
            "treeSize": len(self.leaves),
            "hashes": [h.hex() for h in _path(at, self.leaves)],
            "checkpoint": f"{note}\n\u2014 log.example {signed}\n",
        }
        promise = _text(self._sign(self.log, rfc8785.dumps(about)))
        return {"0" * 80: about | {"verification": {"signedEntryTimestamp": promise, "inclusionProof": proof}}}

    def _certificate(self, subject: x509.Name, key: Any, life: timedelta) -> x509.CertificateBuilder:
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        now = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=5)
        return (
            x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + life)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca.public_key()), critical=False)
        )

    def _promised(self, before: bytes) -> bytes:
        """The extension with one signed certificate timestamp (RFC 6962, section 3.2)."""
        when = int(time.time() * 1000)
        entry = _id(self.ca) + len(before).to_bytes(3, "big") + before
        made = self._sign(self.ct, struct.pack("!BBQH", 0, 0, when, 1) + entry + b"\0\0")
        sct = b"\0" + _id(self.ct) + struct.pack("!QHBBH", when, 0, 4, 3, len(made)) + made
        listed = struct.pack("!HH", len(sct) + 2, len(sct)) + sct
        assert len(listed) < 128
        return b"\x04" + bytes([len(listed)]) + listed

    @staticmethod
    def _sign(key: EllipticCurvePrivateKey, message: bytes) -> bytes:
        return key.sign(message, ECDSA(SHA256()))


class _Handler(JSONHandler):
    stack: ClassVar[Stack]

    def do_POST(self) -> None:
        """A certificate, or an entry."""
        asked = self.asked()
        self.stack.asked.append(self.path)
        if self.path == "/api/v2/signingCert":
            request = x509.load_pem_x509_csr(base64.b64decode(asked["certificateSigningRequest"]))
            try:
                chain = self.stack.certify(request, self.headers["Authorization"].removeprefix("Bearer "))
            except jwt.InvalidTokenError as e:
                return self.say({"message": str(e)}, 401)
            return self.say({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}, 201)
        if self.path == "/api/v1/log/entries":
            return self.say(self.stack.enter(asked), 201)
        return self.say({}, 404)


@contextmanager
def sigstore() -> Iterator[Stack]:
    """The services, until the block ends."""
    stack = Stack()
    with serving(_Handler, stack=stack) as stack.url:
        yield stack


_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
    "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def _leaf(body: bytes) -> bytes:
    return hashlib.sha256(b"\0" + body).digest()


def _root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    half = _half(leaves)
    return hashlib.sha256(b"\1" + _root(leaves[:half]) + _root(leaves[half:])).digest()


def _path(at: int, leaves: list[bytes]) -> list[bytes]:
    """Siblings on the way up, lowest first (RFC 6962, section 2.1.1)."""
    if len(leaves) == 1:
        return []
    half = _half(leaves)
    if at < half:
        return [*_path(at, leaves[:half]), _root(leaves[half:])]
    return [*_path(at - half, leaves[half:]), _root(leaves[:half])]


def _half(leaves: list[bytes]) -> int:
    return 1 << ((len(leaves) - 1).bit_length() - 1)


def _der(key: EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _id(key: EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(_der(key)).digest()


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
