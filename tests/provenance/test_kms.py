"""A key that a service holds: trusted, used and lost through the command line, as a user would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from foretaste import Policy
from foretaste.cli import main

from .kms import KMS, serving

pytest.importorskip("boto3")

KEY = "alias/gate"


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KMS]:
    with serving() as service:
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


@pytest.fixture
def place(tmp_path: Path, clean_table: pa.Table) -> Path:
    pq.write_table(clean_table.slice(0, 100), tmp_path / "data.parquet")
    (tmp_path / "policy.yaml").write_text(Policy().only("hidden-text").to_yaml())
    return tmp_path


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.output


def trust(place: Path) -> None:
    run("keys", "trust", place / "trust.yaml", f"awskms:{KEY}", "--name", "gate", "--role", "certificate")


def certify(place: Path, code: int = 0) -> str:
    return run(
        "certify", place / "data.parquet", "--policy", place / "policy.yaml", "--key", f"awskms:{KEY}",
        "--trust", place / "trust.yaml", "--as", "gate", "--out", place / "c.jsonl", code=code,
    )  # fmt: skip


def verify(place: Path, code: int = 0) -> str:
    return run(
        "verify", place / "data.parquet", "--certificate", place / "c.jsonl", "--trust", place / "trust.yaml",
        "--policy", place / "policy.yaml", code=code,
    )  # fmt: skip


def test_a_certificate_is_signed_by_the_service_and_verified_without_it(kms: KMS, place: Path) -> None:
    trust(place)
    certify(place)
    assert kms.asked[0] == "GetPublicKey"
    assert set(kms.asked[1:]) == {"Sign"}
    asked = list(kms.asked)
    verify(place)
    assert kms.asked == asked
    pq.write_table(pq.read_table(place / "data.parquet").slice(1), place / "data.parquet")
    verify(place, code=1)


def test_a_service_that_signs_with_another_key_is_found_out_when_signing(kms: KMS, place: Path) -> None:
    trust(place)
    kms.make_key(KEY)
    assert "Failed to verify signature" in certify(place, code=2)
    assert not (place / "c.jsonl").exists()


@pytest.mark.parametrize("lost", ["disabled", "deleted"])
def test_a_service_that_refuses_leaves_no_certificate_and_says_why(kms: KMS, place: Path, lost: str) -> None:
    trust(place)
    if lost == "disabled":
        kms.disabled.add(KEY)
    else:
        del kms.keys[KEY]
    assert ("DisabledException" if lost == "disabled" else "NotFoundException") in certify(place, code=2)
    assert not (place / "c.jsonl").exists()


def test_a_key_that_the_service_does_not_have_cannot_be_trusted(kms: KMS, place: Path) -> None:
    said = run("keys", "trust", place / "trust.yaml", "awskms:alias/other", "--role", "certificate", code=2)
    assert "NotFoundException" in said
