"""A stand-in for AWS KMS on loopback: GetPublicKey and Sign for ECDSA P-256, over the service's JSON protocol."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .serving import JSONHandler, serving

ALGORITHM = "ECDSA_SHA_256"


class RefusedError(Exception):
    """What the service answers instead, by the name of its error."""


@dataclass
class KMS:
    """Keys by id or alias; ``asked`` lists the operations that were served."""

    url: str = ""
    keys: dict[str, EllipticCurvePrivateKey] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def make_key(self, name: str) -> None:
        """Make a key, or put another one in its place."""
        self.keys[name] = generate_private_key(SECP256R1())

    def answer(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """What the service answers.

        Raises:
            RefusedError: as the service does.
        """
        name = request["KeyId"]
        if name not in self.keys:
            raise RefusedError("NotFoundException")
        if name in self.disabled:
            raise RefusedError("DisabledException")
        said: dict[str, Any] = {"KeyId": f"arn:aws:kms:eu-central-1:000000000000:{name}"}
        if operation == "GetPublicKey":
            public = self.keys[name].public_key()
            der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            said |= {"PublicKey": _text(der), "KeyUsage": "SIGN_VERIFY", "KeySpec": "ECC_NIST_P256"}
            said["SigningAlgorithms"] = [ALGORITHM]
        elif operation == "Sign":
            digest = base64.b64decode(request["Message"])
            if request["SigningAlgorithm"] != ALGORITHM or request.get("MessageType") != "DIGEST" or len(digest) != 32:
                raise RefusedError("ValidationException")
            said |= {"Signature": _text(self.keys[name].sign(digest, ECDSA(Prehashed(SHA256()))))}
            said["SigningAlgorithm"] = ALGORITHM
        else:
            raise RefusedError("UnknownOperationException")
        self.asked.append(operation)
        return said


class _Handler(JSONHandler):
    kms: ClassVar[KMS]

    def do_POST(self) -> None:
        """One operation, named in a header."""
        asked = self.asked()
        service, _, operation = self.headers["X-Amz-Target"].partition(".")
        try:
            if service != "TrentService":
                raise RefusedError("UnknownOperationException")
            if not self.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 "):
                raise RefusedError("MissingAuthenticationTokenException")
            status, said = 200, self.kms.answer(operation, asked)
        except RefusedError as e:
            status, said = 400, {"__type": str(e), "message": f"{operation} was refused"}
        self.say(said, status, "application/x-amz-json-1.1")


@contextmanager
def aws() -> Iterator[KMS]:
    """The service, until the block ends."""
    kms = KMS()
    with serving(_Handler, kms=kms) as kms.url:
        yield kms


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
