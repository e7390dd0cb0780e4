"""Keys in HashiCorp Vault, against a stand-in for its transit engine on loopback, and in an HSM, against SoftHSM."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from foretaste import Policy
from foretaste.cli import main

MODULES = (
    os.environ.get("SOFTHSM2_MODULE", ""),
    "/usr/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)
MODULE = next((m for m in MODULES if m and Path(m).is_file()), None)
PIN = "123456"


@pytest.fixture
def place(tmp_path: Path, clean_table: pa.Table) -> Path:
    pq.write_table(clean_table.slice(0, 100), tmp_path / "data.parquet")
    (tmp_path / "policy.yaml").write_text(Policy().only("hidden-text").to_yaml())
    return tmp_path


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.output


def trust(place: Path, address: str) -> None:
    run("keys", "trust", place / "trust.yaml", address, "--name", "gate", "--role", "certificate")


def certify(place: Path, address: str, code: int = 0) -> str:
    return run(
        "certify", place / "data.parquet", "--policy", place / "policy.yaml", "--key", address,
        "--trust", place / "trust.yaml", "--as", "gate", "--out", place / "c.jsonl", code=code,
    )  # fmt: skip


def verify(place: Path) -> str:
    return run(
        "verify", place / "data.parquet", "--certificate", place / "c.jsonl", "--trust", place / "trust.yaml",
        "--policy", place / "policy.yaml",
    )  # fmt: skip


class _Transit(BaseHTTPRequestHandler):
    """GET of a key, and signing with its newest version, as Vault's transit engine answers."""

    keys: list[Ed25519PrivateKey]

    def do_GET(self) -> None:
        public = {
            str(at): {"public_key": base64.b64encode(key.public_key().public_bytes_raw()).decode(), "name": "ed25519"}
            for at, key in enumerate(self.keys, 1)
        }
        self._say({"data": {"keys": public, "type": "ed25519"}})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        made = self.keys[asked["key_version"] - 1].sign(base64.b64decode(asked["input"]))
        self._say({"data": {"signature": f"vault:v{asked['key_version']}:{base64.b64encode(made).decode()}"}})

    do_PUT = do_POST

    def _say(self, tree: dict[str, Any]) -> None:
        known = self.headers.get("X-Vault-Token") == "token" and self.path.rpartition("/")[2] == "gate"
        body = json.dumps(tree if known else {"errors": ["permission denied"]}).encode()
        self.send_response(200 if known else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Ed25519PrivateKey]]:
    pytest.importorskip("hvac")
    keys = [Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()]
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Transit,), {"keys": keys}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("VAULT_TOKEN", "token")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield keys
    server.shutdown()
    server.server_close()
    thread.join()


def test_vault_signs_with_the_newest_version_and_verifying_needs_no_vault(
    vault: list[Ed25519PrivateKey], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(place, "hv:gate")
    certify(place, "hv:gate/2")
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:9")
    assert "signed by gate" in verify(place)


def test_a_key_exchanged_in_vault_is_found_out_when_signing(vault: list[Ed25519PrivateKey], place: Path) -> None:
    trust(place, "hv:gate")
    vault[1] = Ed25519PrivateKey.generate()
    assert "cannot sign" in certify(place, "hv:gate/2", code=2)
    assert not (place / "c.jsonl").exists()


def test_vault_without_permission_says_so(vault: list[Ed25519PrivateKey], place: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "other")
    said = run("keys", "trust", place / "trust.yaml", "hv:gate", "--role", "certificate", code=2)
    assert "permission denied" in said


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A token of SoftHSM with one P-256 key under the number 2."""
    pkcs11 = pytest.importorskip("pkcs11")
    tool = shutil.which(os.environ.get("SOFTHSM2_UTIL", "softhsm2-util"))
    if MODULE is None or tool is None:
        pytest.skip("SoftHSM is not installed")
    folder = tmp_path_factory.mktemp("hsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        patch.setenv("PYKCS11LIB", MODULE)
        subprocess.run(
            [tool, "--init-token", "--free", "--label", "gate", "--pin", PIN, "--so-pin", PIN, "--module", MODULE],
            check=True, capture_output=True,
        )  # fmt: skip
        from pkcs11.util.ec import encode_named_curve_parameters

        with pkcs11.lib(MODULE).get_token(token_label="gate").open(user_pin=PIN, rw=True) as session:
            curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
            parameters = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
            parameters.generate_keypair(store=True, id=b"\x02", label="gate")
        yield


def test_an_hsm_signs_with_its_pin_and_verifying_needs_no_hsm(
    hsm: None, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORETASTE_KEY_PASSPHRASE", PIN)
    trust(place, "hsm:2?label=gate")
    certify(place, "hsm:2?label=gate")
    monkeypatch.delenv("PYKCS11LIB")
    assert "signed by gate" in verify(place)


def test_an_hsm_with_another_pin_or_key_signs_nothing(hsm: None, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(place, "hsm:2?label=gate")
    monkeypatch.setenv("FORETASTE_KEY_PASSPHRASE", "wrong")
    assert "PinIncorrect" in certify(place, "hsm:2?label=gate", code=2)
    monkeypatch.setenv("FORETASTE_KEY_PASSPHRASE", PIN)
    assert "cannot sign" in certify(place, "hsm:3?label=gate", code=2)
    assert not (place / "c.jsonl").exists()
