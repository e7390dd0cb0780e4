"""Keys and trust files, through the command line as a user meets them."""

from __future__ import annotations

import dataclasses
import hashlib
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner

from foretaste.cli import main
from foretaste.errors import InputError, PolicyError
from foretaste.provenance import signers
from foretaste.provenance.keys import Role, TrustRoot


def run(*arguments: object, code: int = 0, **environment: str) -> str:
    wide = {"COLUMNS": "200"}  # or a narrow terminal wraps the words that are looked for
    result = CliRunner().invoke(main, [str(a) for a in arguments], env=wide | environment)
    assert result.exit_code == code, result.output
    return result.output


def test_a_private_key_is_for_its_owner_alone_and_is_never_overwritten(tmp_path: Path) -> None:
    run("keys", "generate", tmp_path / "a.pem")
    assert stat.S_IMODE((tmp_path / "a.pem").stat().st_mode) == 0o600
    before = (tmp_path / "a.pem").read_bytes()
    assert "exists" in run("keys", "generate", tmp_path / "a.pem", code=2)
    assert (tmp_path / "a.pem").read_bytes() == before


def test_a_locked_key_opens_with_its_passphrase_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("keys", "generate", tmp_path / "a.pem", "--passphrase", FORETASTE_KEY_PASSPHRASE="secret")
    with pytest.raises(InputError, match="is locked"):
        signers.open_signer(str(tmp_path / "a.pem"))
    assert signers.open_signer(str(tmp_path / "a.pem"), ask=lambda: "secret").public_key.keyid
    monkeypatch.setenv("FORETASTE_KEY_PASSPHRASE", "wrong")
    with pytest.raises(InputError, match="no private key"):
        signers.open_signer(str(tmp_path / "a.pem"))


def test_a_trust_file_grows_key_by_key_and_reads_back(tmp_path: Path) -> None:
    trust = tmp_path / "trust.yaml"
    for name, kind in (("a", "ed25519"), ("b", "ecdsa")):
        run("keys", "generate", tmp_path / f"{name}.pem", "--type", kind)
        run("keys", "trust", trust, tmp_path / f"{name}.pub", "--role", "certificate", "--expires", "2030-01-31")
    run("keys", "generate", tmp_path / "c.pem")
    run("keys", "trust", trust, tmp_path / "c.pub", "--role", "certificate", "--role", "waiver", "--threshold", 1)
    run("keys", "trust", trust, tmp_path / "c.pub", "--role", "certificate", "--threshold", 2)
    loaded = TrustRoot.load(trust)
    assert loaded.role("certificate").keys == ("a", "b", "c")
    assert loaded.role("certificate").threshold == 2
    assert loaded.role("waiver").keys == ("c",)
    assert "-----BEGIN PUBLIC KEY-----\n" in trust.read_text()
    assert TrustRoot.load(trust).to_yaml() == trust.read_text()
    shown = run("keys", "show", trust)
    assert "certificate (2" in shown  # and the rest, which a narrow terminal wraps
    run("keys", "revoke", trust, "b", "--reason", "laptop gone")
    assert "revoked: laptop gone" in run("keys", "show", trust)
    # Trusting a key in one more role neither lets it back in nor forgets when it ends.
    run("keys", "trust", trust, tmp_path / "b.pub", "--role", "waiver")
    again = TrustRoot.load(trust).keys["b"]
    assert (again.revoked, again.expires) == ("laptop gone", "2030-01-31")
    assert "belongs to another key" in run("keys", "trust", trust, tmp_path / "a.pub", "--name", "b", code=2)
    assert 'no key "d"' in run("keys", "revoke", trust, "d", "--reason", "x", code=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["keys"].update(eve={**t["keys"]["alice"]}), "are the same key"),
        (lambda t: t["keys"]["alice"].update(public="00" * 32), "one of the two was changed"),
        (lambda t: t["keys"]["alice"].update(keytype="dsa"), "has the type"),
        (lambda t: t["keys"]["alice"].update(expires="soon"), "YYYY-MM-DD"),
        (lambda t: t["roles"]["certificate"].update(threshold=0), "threshold 0"),
        (lambda t: t["roles"]["certificate"].update(threshold=4), "threshold 4"),
        (lambda t: t["roles"]["certificate"].update(keys=["alice", "alice"]), "twice"),
        (lambda t: t["roles"]["certificate"].update(keys=["nobody"]), 'no key "nobody"'),
        (lambda t: t["roles"].update(oracle={"keys": ["alice"]}), 'unknown key "oracle"'),
        (lambda t: t.update(version=2), "version 2"),
    ],
)
def test_a_trust_file_that_trusts_too_much_is_refused(keys: Any, change: Any, message: str) -> None:
    import yaml

    tree = yaml.safe_load(keys.trust.to_yaml())
    change(tree)
    with pytest.raises(PolicyError, match=message):
        TrustRoot.load(tree)


def test_a_key_of_a_service_is_opened_by_its_address(keys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Service(CryptoSigner):
        """A key service of this test."""

        @classmethod
        def from_priv_key_uri(cls, priv_key_uri: str, public_key: Any, secrets_handler: Any = None) -> Any:
            assert priv_key_uri == "service:alice"
            return CryptoSigner.from_priv_key_uri(f"file2:{keys.pem('alice')}", public_key)

    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "service", Service)
    with pytest.raises(InputError, match="no key service"):
        signers.open_signer("service:alice")
    assert (
        signers.open_signer("service:alice", keys.trust.keys["alice"]).public_key == keys.trust.keys["alice"].verifier()
    )
    with pytest.raises(InputError, match="cannot open service:alice"):
        signers.open_signer("service:alice", keys.trust.keys["carol"])
    with pytest.raises(InputError, match='not "carol"'):
        signers.open_signer(str(keys.pem("alice")), keys.trust.keys["carol"])


@pytest.mark.parametrize(("name", "again"), [("alice", str.upper), ("bob", "{}\n".format)])
def test_a_key_that_is_written_in_two_ways_does_not_count_twice(keys: Any, name: str, again: Any) -> None:
    key = keys.trust.keys[name]
    public = again(key.public)
    tree = {"keytype": key.keytype, "scheme": key.scheme, "keyval": {"public": public}}
    keyid = hashlib.sha256(str(encode_canonical(tree)).encode()).hexdigest()
    other = dataclasses.replace(key, name="again", public=public, keyid=keyid)
    assert other.keyid != key.keyid
    with pytest.raises(PolicyError, match=f'"{name}" and "again" are the same key'):
        TrustRoot(keys={name: key, "again": other}, roles={"certificate": Role(keys=(name, "again"), threshold=2)})


def test_what_is_no_key_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("no key")
    assert "holds no public key" in run("keys", "show", tmp_path / "x.pem", code=2)
    assert "no key service" in run("keys", "trust", tmp_path / "t.yaml", "nokms:x", code=2)
    with pytest.raises(InputError, match="no private key"):
        signers.open_signer(str(tmp_path / "x.pem"))
    with pytest.raises(InputError, match="cannot read the key"):
        signers.open_signer(str(tmp_path / "none.pem"))
