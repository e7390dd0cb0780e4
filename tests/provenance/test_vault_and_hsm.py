"""Keys in HashiCorp Vault, against a stand-in for its transit engine on loopback, and in an HSM, against SoftHSM."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .conftest import Gate
from .serving import JSONHandler, serving

PIN = "123456"


class _Transit(JSONHandler):
    """GET of a key, and signing with its newest version, as Vault's transit engine answers."""

    keys: list[Ed25519PrivateKey]

    def do_GET(self) -> None:
        public = {
            str(at): {"public_key": base64.b64encode(key.public_key().public_bytes_raw()).decode(), "name": "ed25519"}
            for at, key in enumerate(self.keys, 1)
        }
        self._say({"data": {"keys": public, "type": "ed25519"}})

    def do_POST(self) -> None:
        asked = self.asked()
        made = self.keys[asked["key_version"] - 1].sign(base64.b64decode(asked["input"]))
        self._say({"data": {"signature": f"vault:v{asked['key_version']}:{base64.b64encode(made).decode()}"}})

    do_PUT = do_POST

    def _say(self, tree: dict[str, Any]) -> None:
        known = self.headers.get("X-Vault-Token") == "token" and self.path.rpartition("/")[2] == "gate"
        self.say(tree if known else {"errors": ["permission denied"]}, 200 if known else 403)


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Ed25519PrivateKey]]:
    pytest.importorskip("hvac")
    keys = [Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()]
    with serving(_Transit, keys=keys) as url:
        monkeypatch.setenv("VAULT_ADDR", url)
        monkeypatch.setenv("VAULT_TOKEN", "token")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield keys


def test_vault_signs_with_the_newest_version_and_verifying_needs_no_vault(
    vault: list[Ed25519PrivateKey], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.trust("hv:gate")
    gate.certify("hv:gate/2")
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:9")
    assert "signed by gate" in gate.verify()


def test_a_key_exchanged_in_vault_is_found_out_when_signing(vault: list[Ed25519PrivateKey], gate: Gate) -> None:
    gate.trust("hv:gate")
    vault[1] = Ed25519PrivateKey.generate()
    assert "cannot sign" in gate.certify("hv:gate/2", code=2)
    assert not gate.certificate.exists()


def test_vault_without_permission_says_so(vault: list[Ed25519PrivateKey], gate: Gate, monkeypatch: Any) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "other")
    said = gate.trust("hv:gate", code=2)
    assert "permission denied" in said


def test_reports_are_signed_with_vault_under_the_same_address(vault: list[Ed25519PrivateKey], gate: Gate) -> None:
    gate.signs_reports("hv:gate")


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A token of SoftHSM with one P-256 key under the number 2."""
    pkcs11 = pytest.importorskip("pkcs11")
    script = Path(__file__).resolve().parents[2] / "scripts" / "get_softhsm.py"
    found = subprocess.run([sys.executable, script, "--installed"], check=False, capture_output=True, text=True)
    if found.returncode != 0:
        pytest.skip(found.stderr.strip())
    module, tool = found.stdout.splitlines()
    folder = tmp_path_factory.mktemp("hsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        patch.setenv("PYKCS11LIB", module)
        subprocess.run(
            [tool, "--init-token", "--free", "--label", "gate", "--pin", PIN, "--so-pin", PIN, "--module", module],
            check=True, capture_output=True,
        )  # fmt: skip
        from pkcs11.util.ec import encode_named_curve_parameters

        with pkcs11.lib(module).get_token(token_label="gate").open(user_pin=PIN, rw=True) as session:
            curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
            parameters = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
            parameters.generate_keypair(store=True, id=b"\x02", label="gate")
        yield


def test_an_hsm_signs_with_its_pin_and_verifying_needs_no_hsm(
    hsm: None, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORETASTE_KEY_PASSPHRASE", PIN)
    gate.trust("hsm:2?label=gate")
    gate.certify("hsm:2?label=gate")
    monkeypatch.delenv("PYKCS11LIB")
    assert "signed by gate" in gate.verify()


def test_an_hsm_with_another_pin_or_key_signs_nothing(hsm: None, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.trust("hsm:2?label=gate")
    monkeypatch.setenv("FORETASTE_KEY_PASSPHRASE", "wrong")
    assert "PinIncorrect" in gate.certify("hsm:2?label=gate", code=2)
    monkeypatch.setenv("FORETASTE_KEY_PASSPHRASE", PIN)
    assert "cannot sign" in gate.certify("hsm:3?label=gate", code=2)
    assert not gate.certificate.exists()
