"""Stand-ins for the key services of Google Cloud and Azure, behind a proxy that leads their real names to loopback.

So their clients run as they do at a user's: with the names of the services, TLS, and credentials from the environment.
Whatever else they ask for, the proxy refuses and lists.
"""

from __future__ import annotations

import base64
import select
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from .serving import JSONHandler, serving

GOOGLE = "cloudkms.googleapis.com"
VAULT = "gate-vault.vault.azure.net"
LOGIN = "login.microsoftonline.com"
GOOGLE_KEY = "projects/p/locations/global/keyRings/r/cryptoKeys/gate/cryptoKeyVersions/1"


@dataclass
class Service:
    """A key service with one key; ``asked`` lists what was served, ``refused`` what the proxy did not let through."""

    key: EllipticCurvePrivateKey = field(default_factory=lambda: generate_private_key(SECP256R1()))
    enabled: bool = True
    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def sign(self, digest: bytes) -> bytes:
        """A signature over a digest of 32 bytes, in DER."""
        return self.key.sign(digest, ECDSA(Prehashed(SHA256())))


@dataclass(frozen=True)
class Certified:
    """A certificate authority of the tests, and a server's certificate for the names of the services."""

    authority: Path
    server: Path
    key: Path

    def tls(self) -> ssl.SSLContext:
        """For a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.key)
        return context


def certified(folder: Path) -> Certified:
    """Write them to a folder."""
    ca, key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the tests")])
    now = datetime.now(UTC)

    def builder(subject: x509.Name, public: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder(issuer_name=name, subject_name=subject, public_key=public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(hours=1))
        )

    root = builder(name, ca.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    names = x509.SubjectAlternativeName([x509.DNSName(n) for n in (GOOGLE, VAULT, LOGIN)])
    server = builder(x509.Name([]), key.public_key()).add_extension(names, critical=True)
    made = Certified(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    made.authority.write_bytes(root.sign(ca, SHA256()).public_bytes(Encoding.PEM))
    made.server.write_bytes(server.sign(ca, SHA256()).public_bytes(Encoding.PEM))
    made.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return made


class _Proxy(BaseHTTPRequestHandler):
    ports: ClassVar[dict[str, int]]
    refused: ClassVar[list[str]]

    def do_CONNECT(self) -> None:
        """A tunnel to the stand-in of a name."""
        name = self.path.rpartition(":")[0]
        if name not in self.ports:
            self.refused.append(name)
            return self.send_error(403)
        with socket.create_connection(("127.0.0.1", self.ports[name])) as far:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: far, far: self.connection}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    if not (raw := end.recv(1 << 16)):
                        self.close_connection = True
                        return None
                    ends[end].sendall(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def google(tls: Certified) -> Iterator[tuple[Service, str]]:
    """Cloud KMS over gRPC, and the proxy that leads there."""
    import grpc
    from google.cloud.kms_v1 import types

    service = Service()

    def key(request: Any, context: Any) -> Any:
        service.asked.append("GetPublicKey")
        _refuse(service, request.name, context)
        pem = service.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return types.PublicKey(
            name=request.name,
            algorithm=types.CryptoKeyVersion.CryptoKeyVersionAlgorithm.EC_SIGN_P256_SHA256,
            public_key=types.ChecksummedData(data=pem),
            pem=pem.decode(),
        )

    def sign(request: Any, context: Any) -> Any:
        service.asked.append("AsymmetricSign")
        _refuse(service, request.name, context)
        return types.AsymmetricSignResponse(name=request.name, signature=service.sign(request.digest.sha256))

    def _refuse(service: Service, name: str, context: Any) -> None:
        if not dict(context.invocation_metadata()).get("authorization", "").startswith("Bearer "):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no credentials")
        if name != GOOGLE_KEY:
            context.abort(grpc.StatusCode.NOT_FOUND, f"CryptoKeyVersion {name} not found")
        if not service.enabled:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the key is not enabled, current state is: DISABLED")

    methods = {
        name: grpc.unary_unary_rpc_method_handler(does, asked.deserialize, said.serialize)
        for name, does, asked, said in (
            ("GetPublicKey", key, types.GetPublicKeyRequest, types.PublicKey),
            ("AsymmetricSign", sign, types.AsymmetricSignRequest, types.AsymmetricSignResponse),
        )
    }
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    handler = grpc.method_handlers_generic_handler("google.cloud.kms.v1.KeyManagementService", methods)
    server.add_generic_rpc_handlers((handler,))
    pair = (tls.key.read_bytes(), tls.server.read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        with serving(_Proxy, ports={GOOGLE: port}, refused=service.refused) as proxy:
            yield service, proxy
    finally:
        server.stop(None).wait()


class _Vault(JSONHandler):
    """The key, signing with it, and Entra's tokens for both."""

    service: ClassVar[Service]

    def do_GET(self) -> None:
        """The key, or where tokens are to be had."""
        if self.headers["Host"] == LOGIN:
            at = f"https://{LOGIN}/tenant/oauth2/v2.0"
            ends = {"authorization_endpoint": f"{at}/authorize", "token_endpoint": f"{at}/token"}
            return self.say(ends | {"issuer": f"https://{LOGIN}/tenant/v2.0"})
        if self._let_in("get"):
            numbers = self.service.key.public_key().public_numbers()
            kid = f"https://{VAULT}/keys/gate/1"
            point = {n: _text(getattr(numbers, n).to_bytes(32, "big")) for n in ("x", "y")}
            self.say({"key": {"kid": kid, "kty": "EC", "crv": "P-256", "key_ops": ["sign", "verify"], **point},
                      "attributes": {"enabled": True}})  # fmt: skip

    def do_POST(self) -> None:
        """A signature, or a token."""
        if self.headers["Host"] == LOGIN:
            self.rfile.read(int(self.headers["Content-Length"]))
            return self.say({"token_type": "Bearer", "expires_in": 3600, "access_token": "token of the tests"})
        asked = self.asked()
        if self._let_in("sign"):
            digest = base64.urlsafe_b64decode(asked["value"] + "==")
            pair = decode_dss_signature(self.service.sign(digest))
            self.say(
                {"kid": f"https://{VAULT}/keys/gate/1", "value": _text(b"".join(n.to_bytes(32, "big") for n in pair))}
            )

    def _let_in(self, what: str) -> bool:
        path = self.path.partition("?")[0].strip("/").split("/")
        if self.headers.get("Authorization") != "Bearer token of the tests":
            where = f'Bearer authorization="https://{LOGIN}/tenant", resource="https://vault.azure.net"'
            self.say({"error": {"code": "Unauthorized"}}, 401, **{"WWW-Authenticate": where})
            return False
        self.service.asked.append(what)
        if path[:2] != ["keys", "gate"] or not self.service.enabled:
            code = "KeyNotFound" if self.service.enabled else "KeyDisabled"
            self.say({"error": {"code": code, "message": f"{code}: {path}"}}, 404 if self.service.enabled else 403)
            return False
        return True


@contextmanager
def azure(tls: Certified) -> Iterator[tuple[Service, str]]:
    """Key Vault and the login of its tenant, and the proxy that leads there."""
    service = Service()
    with serving(_Vault, tls.tls(), service=service) as url:
        port = int(url.rpartition(":")[2])
        with serving(_Proxy, ports={VAULT: port, LOGIN: port}, refused=service.refused) as proxy:
            yield service, proxy


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
