"""Keys of Google Cloud KMS and Azure Key Vault: trusted, used and lost through the command line, as a user would."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from .clouds import GOOGLE_KEY, Certified, Service, azure, certified, google
from .conftest import Gate


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certified]:
    with pytest.MonkeyPatch.context() as patch:
        made = certified(tmp_path_factory.mktemp("tls"))
        patch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(made.authority))  # read once in a process
        yield made


@pytest.fixture(params=["gcpkms", "azurekms"])
def cloud(
    request: pytest.FixtureRequest, tls: Certified, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cloud]:
    for name in ("HTTPS_PROXY", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    if request.param == "gcpkms":
        pytest.importorskip("google.cloud.kms")
        private = generate_rsa(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        account = {
            "type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": private.decode(),
            "client_email": "gate@p.iam.gserviceaccount.com", "client_id": "1",
            "token_uri": "https://oauth2.googleapis.com/token",
        }  # fmt: skip
        (gate.folder / "account.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(gate.folder / "account.json"))
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        with google(tls) as (service, proxy):
            monkeypatch.setenv("https_proxy", proxy)
            yield Cloud(service, f"gcpkms:{GOOGLE_KEY}", f"gcpkms:{GOOGLE_KEY}")
    else:
        pytest.importorskip("azure.keyvault.keys")
        pytest.importorskip("azure.identity")
        for name, value in {
            "REQUESTS_CA_BUNDLE": str(tls.authority),
            "AZURE_TENANT_ID": "tenant",
            "AZURE_CLIENT_ID": "client",
            "AZURE_CLIENT_SECRET": "secret",
        }.items():
            monkeypatch.setenv(name, value)
        with azure(tls) as (service, proxy):
            monkeypatch.setenv("https_proxy", proxy)
            yield Cloud(service, "azurekms:gate-vault/gate", "azurekms://gate-vault.vault.azure.net/keys/gate/1")


class Cloud:
    """A service, the address under which its key is trusted, and the one to sign with."""

    def __init__(self, service: Service, known: str, signing: str) -> None:
        self.service, self.known, self.signing = service, known, signing


def test_a_cloud_signs_and_verifying_needs_no_cloud(cloud: Cloud, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"sign with: --key {cloud.signing}\n" in gate.trust(cloud.known)
    gate.certify(cloud.signing)
    assert len(cloud.service.asked) >= 4  # the key once, three statements
    assert cloud.service.refused == []
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert "signed by gate" in gate.verify()
    pq.write_table(pq.read_table(gate.folder / "data.parquet").slice(1), gate.folder / "data.parquet")
    gate.verify(code=1)


def test_a_cloud_with_another_key_or_a_disabled_one_signs_nothing(cloud: Cloud, gate: Gate) -> None:
    gate.trust(cloud.known)
    ours = cloud.service.key
    cloud.service.key = generate_private_key(SECP256R1())
    assert "cannot sign" in gate.certify(cloud.signing, code=2)
    cloud.service.key, cloud.service.enabled = ours, False
    assert "disabled" in gate.certify(cloud.signing, code=2).lower()
    assert not gate.certificate.exists()


def test_a_key_that_the_cloud_does_not_have_cannot_be_trusted(cloud: Cloud, gate: Gate) -> None:
    other = cloud.known.replace("cryptoKeys/gate", "cryptoKeys/other").replace("vault/gate", "vault/other")
    assert "not found" in gate.trust(other, code=2).replace("KeyNotFound", "not found")


def test_reports_are_signed_under_the_same_address(cloud: Cloud, gate: Gate) -> None:
    gate.signs_reports(cloud.known)
