"""A stand-in for AWS KMS on loopback: GetPublicKey and Sign for ECDSA P-256, over the service's JSON protocol."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ALGORITHM = "ECDSA_SHA_256"


class RefusedError(Exception):
    """What the service answers instead, by the name of its error."""


@dataclass
class KMS:
    """Keys by id or alias; ``asked`` lists the operations that were served."""

    url: str
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


class _Handler(BaseHTTPRequestHandler):
    kms: ClassVar[KMS]

    def do_POST(self) -> None:
        """One operation, named in a header."""
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        service, _, operation = self.headers["X-Amz-Target"].partition(".")
        try:
            if service != "TrentService":
                raise RefusedError("UnknownOperationException")
            if not self.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 "):
                raise RefusedError("MissingAuthenticationTokenException")
            status, said = 200, self.kms.answer(operation, json.loads(raw))
        except RefusedError as e:
            status, said = 400, {"__type": str(e), "message": f"{operation} was refused"}
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def serving() -> Iterator[KMS]:
    """The service, until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {}))
    kms = KMS(f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass.kms = kms  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield kms
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
