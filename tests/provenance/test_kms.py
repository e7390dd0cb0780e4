"""A key that a service holds: trusted, used and lost through the command line, as a user would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from .conftest import Gate
from .kms import KMS, aws

pytest.importorskip("boto3")

KEY = "alias/gate"
ADDRESS = f"awskms:{KEY}"


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KMS]:
    with aws() as service:
        for name, value in {
            "AWS_ENDPOINT_URL": service.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_CONFIG_FILE": str(tmp_path / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
            "AWS_MAX_ATTEMPTS": "1",
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        service.make_key(KEY)
        yield service


def test_a_certificate_is_signed_by_the_service_and_verified_without_it(kms: KMS, gate: Gate) -> None:
    gate.trust(ADDRESS)
    gate.certify(ADDRESS)
    assert kms.asked[0] == "GetPublicKey"
    assert set(kms.asked[1:]) == {"Sign"}
    asked = list(kms.asked)
    gate.verify()
    assert kms.asked == asked
    pq.write_table(pq.read_table(gate.folder / "data.parquet").slice(1), gate.folder / "data.parquet")
    gate.verify(code=1)


def test_a_service_that_signs_with_another_key_is_found_out_when_signing(kms: KMS, gate: Gate) -> None:
    gate.trust(ADDRESS)
    kms.make_key(KEY)
    assert "Failed to verify signature" in gate.certify(ADDRESS, code=2)
    assert not gate.certificate.exists()


@pytest.mark.parametrize("lost", ["disabled", "deleted"])
def test_a_service_that_refuses_leaves_no_certificate_and_says_why(kms: KMS, gate: Gate, lost: str) -> None:
    gate.trust(ADDRESS)
    if lost == "disabled":
        kms.disabled.add(KEY)
    else:
        del kms.keys[KEY]
    assert ("DisabledException" if lost == "disabled" else "NotFoundException") in gate.certify(ADDRESS, code=2)
    assert not gate.certificate.exists()


def test_a_key_that_the_service_does_not_have_cannot_be_trusted(kms: KMS, gate: Gate) -> None:
    said = gate.trust("awskms:alias/other", code=2)
    assert "NotFoundException" in said


def test_reports_are_signed_under_the_same_address(kms: KMS, gate: Gate) -> None:
    gate.signs_reports(ADDRESS)
