"""Signing with an identity instead of a key: against a stand-in for Sigstore on loopback, through the command line."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

pytest.importorskip("sigstore")

from .conftest import Gate
from .sigstore_stack import ISSUER, Stack, sigstore, token

ALICE = "alice@example.com"


@pytest.fixture
def stack(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SIGSTORE_IDENTITY_TOKEN", token(ALICE))
    with sigstore() as running:
        (gate.folder / "instance.json").write_text(json.dumps(running.config()))
        yield running


def address(gate: Gate, identity: str = ALICE, config: str = "instance.json") -> str:
    return f"sigstore:{identity}#{ISSUER}?config={gate.folder / config}"


def signed(gate: Gate) -> None:
    gate.trust(address(gate))
    gate.certify(address(gate))


def change_bundles(gate: Gate, change: Callable[[dict[str, Any]], object]) -> None:
    lines = [json.loads(line) for line in gate.certificate.read_text().splitlines()]
    for line in lines:
        change(line["signatures"][0]["bundle"])
    gate.certificate.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_an_identity_signs_and_verifying_needs_no_network(
    stack: Stack, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = gate.trust(address(gate))
    assert f"sign with: --key sigstore:?config={gate.folder / 'instance.json'}" in known
    assert stack.asked == []  # what the file says is not asked for
    assert f"Fulcio {ALICE}" in gate.run("keys", "show", gate.folder / "trust.yaml")
    gate.certify(f"sigstore:?config={gate.folder / 'instance.json'}")
    assert set(stack.asked) == {"/api/v2/signingCert", "/api/v1/log/entries"}
    monkeypatch.delenv("SIGSTORE_IDENTITY_TOKEN")
    (gate.folder / "instance.json").unlink()

    def unplugged(*_: object) -> None:
        raise AssertionError("verifying went to the network")

    monkeypatch.setattr(socket.socket, "connect", unplugged)
    monkeypatch.setattr(socket, "getaddrinfo", unplugged)
    assert "signed by gate" in gate.verify()
    pq.write_table(pq.read_table(gate.folder / "data.parquet").slice(1), gate.folder / "data.parquet")
    gate.verify(code=1)


def test_an_identity_that_is_not_trusted_is_refused(stack: Stack, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.trust(address(gate))
    monkeypatch.setenv("SIGSTORE_IDENTITY_TOKEN", token("mallory@example.com"))
    assert "SANs do not match alice@example.com" in gate.certify(address(gate), code=2)
    assert not gate.certificate.exists()
    # Mallory trusts herself, and puts the id of Alice's key on what she signed.
    mallory = Gate(gate.folder / "mallory")
    mallory.folder.mkdir()
    for name in ("data.parquet", "policy.yaml", "instance.json"):
        (mallory.folder / name).write_bytes((gate.folder / name).read_bytes())
    mallory.trust(address(mallory, "mallory@example.com"))
    mallory.certify(address(mallory, "mallory@example.com"))
    theirs, ours = (_keyid(at.folder / "trust.yaml") for at in (mallory, gate))
    gate.certificate.write_text(mallory.certificate.read_text().replace(theirs, ours))
    assert "SANs do not match alice@example.com" in gate.verify(code=1)


def _keyid(trust: Path) -> str:
    from foretaste.provenance.keys import TrustRoot

    return TrustRoot.load(trust).keys["gate"].keyid


def test_an_issuer_that_is_not_the_keys_signs_nothing(
    stack: Stack, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.trust(address(gate))
    monkeypatch.setenv("SIGSTORE_IDENTITY_TOKEN", token(ALICE, "https://other.example"))
    assert "the token is from https://other.example" in gate.certify(address(gate), code=2)
    monkeypatch.setenv("SIGSTORE_IDENTITY_TOKEN", token(ALICE)[:-4] + "AAAA")
    assert "cannot sign" in gate.certify(address(gate), code=2)
    monkeypatch.setenv("SIGSTORE_IDENTITY_TOKEN", "no token")
    assert "malformed" in gate.certify(address(gate), code=2)
    monkeypatch.delenv("SIGSTORE_IDENTITY_TOKEN")
    assert "no identity token here" in gate.certify(address(gate), code=2)
    assert stack.asked == ["/api/v2/signingCert"]
    assert not gate.certificate.exists()


def test_another_instance_is_refused_whatever_identity_it_certifies(stack: Stack, gate: Gate) -> None:
    signed(gate)
    with sigstore() as other:
        (gate.folder / "other.json").write_text(json.dumps(other.config()))
        gate.run("keys", "trust", gate.folder / "others.yaml", address(gate, config="other.json"), "--name", "gate",
                 "--role", "certificate")  # fmt: skip
        assert "signature does not match" in gate.verify(code=1, trust="others.yaml")
        # The right authority, and the log of somebody else: nothing shows that the log held the entry.
        mixed = stack.config()
        mixed["trustedRoot"]["tlogs"] = other.config()["trustedRoot"]["tlogs"]
        (gate.folder / "other.json").write_text(json.dumps(mixed["trustedRoot"]))
        gate.run("keys", "trust", gate.folder / "others.yaml", address(gate, config="other.json"), "--name", "gate")
        assert "invalid log entry" in gate.verify(code=1, trust="others.yaml")
        # The right log, and certificates that no trusted log saw.
        mixed = stack.config()
        mixed["trustedRoot"]["ctlogs"] = other.config()["trustedRoot"]["ctlogs"]
        (gate.folder / "other.json").write_text(json.dumps(mixed["trustedRoot"]))
        gate.run("keys", "trust", gate.folder / "others.yaml", address(gate, config="other.json"), "--name", "gate")
        assert "SCT" in gate.verify(code=1, trust="others.yaml")


def test_an_entry_that_is_not_in_the_log_is_refused(stack: Stack, gate: Gate) -> None:
    gate.trust(address(gate))
    stack.unlogged = True
    assert "inclusion proof contains invalid root hash" in gate.certify(address(gate), code=2)
    stack.unlogged = False
    gate.certify(address(gate))
    whole = gate.certificate.read_text()

    def entry(bundle: dict[str, Any]) -> Any:
        return bundle["verificationMaterial"]["tlogEntries"][0]

    change_bundles(gate, lambda b: entry(b)["inclusionProof"].update(hashes=[]))
    assert "inclusion proof has wrong size" in gate.verify(code=1)
    gate.certificate.write_text(whole)
    change_bundles(gate, lambda b: entry(b).update(integratedTime=str(int(entry(b)["integratedTime"]) + 1)))
    assert "invalid inclusion promise" in gate.verify(code=1)
    gate.certificate.write_text(whole)
    change_bundles(gate, lambda b: b["verificationMaterial"].update(tlogEntries=[]))
    assert "expected exactly one log entry" in gate.verify(code=1)


def test_a_certificate_that_ended_before_the_log_took_the_entry_is_refused(stack: Stack, gate: Gate) -> None:
    gate.trust(address(gate))
    stack.late = 3600
    assert "not valid at validation time" in gate.certify(address(gate), code=2)
    assert not gate.certificate.exists()


def test_a_signature_without_its_own_bundle_is_refused(stack: Stack, gate: Gate) -> None:
    signed(gate)
    lines = [json.loads(line) for line in gate.certificate.read_text().splitlines()]
    for line in lines:
        line["signatures"][0]["sig"] = lines[-1]["signatures"][0]["sig"]
    gate.certificate.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "its bundle is that of another signature" in gate.verify(code=1)
    for line in lines:
        del line["signatures"][0]["bundle"]
    gate.certificate.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "Sigstore:" in gate.verify(code=1)


def test_a_trust_file_without_a_trusted_root_trusts_no_identity(stack: Stack, gate: Gate) -> None:
    import yaml

    signed(gate)
    tree = yaml.safe_load((gate.folder / "trust.yaml").read_text())
    root = tree["keys"]["gate"].pop("trusted_root")
    (gate.folder / "bare.yaml").write_text(yaml.safe_dump(tree))
    assert "it has no trusted root" in gate.verify(code=1, trust="bare.yaml")
    tree["keys"]["gate"]["trusted_root"] = root.replace("trustedroot", "other")
    (gate.folder / "bare.yaml").write_text(yaml.safe_dump(tree))
    gate.verify(code=1, trust="bare.yaml")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("sigstore:alice@example.com", "name both"),
        ("sigstore:", "name both"),
        (f"sigstore:alice@example.com#{ISSUER}?root=x", 'unknown option "root"'),
        (f"sigstore:alice@example.com#{ISSUER}?config=none.json", "none.json"),
    ],
)
def test_an_address_that_says_too_little_is_refused(gate: Gate, written: str, message: str) -> None:
    assert message in gate.trust(written, code=2)


def test_a_trusted_root_alone_is_enough_to_verify_and_not_to_sign(stack: Stack, gate: Gate) -> None:
    signed(gate)
    (gate.folder / "root.json").write_text(json.dumps(stack.config()["trustedRoot"]))
    gate.trust(address(gate, config="root.json"))
    gate.verify()
    assert "does not say where to sign" in gate.certify(address(gate, config="root.json"), code=2)


def test_the_public_instance_is_asked_once_for_its_root_and_never_when_verifying(
    stack: Stack, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sigstore.errors import TUFError
    from sigstore.models import ClientTrustConfig

    asked: list[None] = []

    def production() -> ClientTrustConfig:
        asked.append(None)
        return ClientTrustConfig.from_json(json.dumps(stack.config()))

    monkeypatch.setattr(ClientTrustConfig, "production", production)
    assert "sign with: --key sigstore:\n" in gate.trust(f"sigstore:{ALICE}#{ISSUER}")
    assert len(asked) == 1
    gate.certify("sigstore:")
    assert len(asked) == 2
    gate.verify()
    assert len(asked) == 2

    def unreachable() -> ClientTrustConfig:
        raise TUFError("no network")

    monkeypatch.setattr(ClientTrustConfig, "production", unreachable)
    assert "name a file with its keys: ?config=FILE" in gate.trust(f"sigstore:{ALICE}#{ISSUER}", code=2)


def test_reports_are_signed_under_the_same_address(stack: Stack, gate: Gate) -> None:
    gate.signs_reports(address(gate))
