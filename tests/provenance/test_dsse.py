"""Envelopes: what is signed is what is read, and nobody else's signature counts."""

from __future__ import annotations

import base64
import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib import dsse as independent

from foretaste.errors import ForetasteError, InputError, VerificationError
from foretaste.provenance import dsse, signers
from foretaste.provenance.keys import ROLES, Role

TODAY = datetime(2026, 11, 25, tzinfo=UTC)


def signed(keys: Any, *names: str, payload: bytes = b'{"a": 1}') -> dsse.Envelope:
    envelope = dsse.Envelope(payload=payload)
    for name in names:
        envelope = dsse.sign(envelope, signers.open_signer(str(keys.pem(name))))
    return envelope


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_what_is_signed_is_what_is_read_back(keys: Any, name: str) -> None:
    envelope = dsse.parse(signed(keys, name).to_json())
    verified = dsse.verify(envelope, keys.trust, "certificate")
    assert verified.payload == b'{"a": 1}'
    assert [k.name for k in verified.keys] == [name]


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_another_implementation_accepts_the_signature(keys: Any, name: str) -> None:
    envelope = independent.Envelope.from_dict(signed(keys, name).to_dict())
    accepted = envelope.verify([keys.trust.keys[name].verifier()], 1)
    assert list(accepted) == [keys.trust.keys[name].keyid]


def test_a_threshold_counts_distinct_keys(keys: Any) -> None:
    trust = keys.trusting("alice", "bob", "carol", threshold=2)
    with pytest.raises(VerificationError, match="1 of the 2 signatures"):
        dsse.verify(signed(keys, "alice", "alice"), trust, "certificate")
    assert len(dsse.verify(signed(keys, "alice", "carol"), trust, "certificate").keys) == 2


def test_a_changed_payload_type_or_signature_is_refused(keys: Any) -> None:
    envelope = signed(keys, "alice")
    [signature] = envelope.signatures
    for changed in (
        dataclasses.replace(envelope, payload=b'{"a": 2}'),
        dataclasses.replace(envelope, signatures=(dataclasses.replace(signature, sig=signature.sig[::-1]),)),
        dataclasses.replace(envelope, signatures=(dataclasses.replace(signature, sig=b""),)),
    ):
        with pytest.raises(VerificationError, match="does not fit"):
            dsse.verify(changed, keys.trust, "certificate")
    with pytest.raises(VerificationError, match="has the type"):
        dsse.verify(dataclasses.replace(envelope, payload_type="text/plain"), keys.trust, "certificate")
    other = dsse.sign(dsse.Envelope(payload=envelope.payload, payload_type="text/plain"),
                      signers.open_signer(str(keys.pem("alice"))))  # fmt: skip
    with pytest.raises(VerificationError, match="does not fit"):
        dsse.verify(dataclasses.replace(envelope, signatures=other.signatures), keys.trust, "certificate")


def test_a_payload_that_was_revoked_counts_in_no_role(keys: Any) -> None:
    envelope = signed(keys, "alice", payload=b"{}")
    gone = dataclasses.replace(keys.trust, revoked={envelope.digest: "a mistake"})
    for role in ROLES:
        assert dsse.verify(envelope, keys.trust, role).payload == b"{}"
        with pytest.raises(VerificationError, match="the envelope is revoked: a mistake"):
            dsse.verify(envelope, gone, role)


def test_unknown_revoked_and_expired_keys_and_other_roles_do_not_count(keys: Any) -> None:
    with pytest.raises(VerificationError, match="is unknown"):
        dsse.verify(signed(keys, "mallory"), keys.trust, "certificate")
    with pytest.raises(VerificationError, match="carries no signature"):
        dsse.verify(dsse.Envelope(payload=b"{}"), keys.trust, "certificate")
    for fault, message in (({"revoked": "stolen"}, "is revoked: stolen"), ({"expires": "2026-11-24"}, "expired on")):
        bad = dataclasses.replace(keys.trust.keys["alice"], **fault)
        trust = dataclasses.replace(keys.trust, keys={**keys.trust.keys, "alice": bad})
        with pytest.raises(VerificationError, match=message):
            dsse.verify(signed(keys, "alice"), trust, "certificate", now=TODAY)
        assert dsse.verify(signed(keys, "alice", "bob"), trust, "certificate", now=TODAY).keys[0].name == "bob"
    trust = dataclasses.replace(keys.trust, roles={**keys.trust.roles, "waiver": Role(keys=("bob",))})
    with pytest.raises(VerificationError, match="may not sign as waiver"):
        dsse.verify(signed(keys, "alice"), trust, "waiver")


def test_a_key_holds_to_the_end_of_its_last_day(keys: Any) -> None:
    last = dataclasses.replace(keys.trust.keys["alice"], expires="2026-11-25")
    trust = dataclasses.replace(keys.trust, keys={**keys.trust.keys, "alice": last})
    assert dsse.verify(signed(keys, "alice"), trust, "certificate", now=TODAY)


def test_a_signer_that_signs_something_else_is_found_out_at_once(keys: Any) -> None:
    honest = signers.open_signer(str(keys.pem("alice")))

    class Confused(type(honest)):  # type: ignore[misc]
        """Signs a digest of what it is given, as a key service may that takes a digest for a message."""

        def sign(self, payload: bytes) -> Any:
            return super().sign(payload[::-1])

    confused = Confused(honest._private_key, honest.public_key)
    with pytest.raises(InputError, match="cannot sign with"):
        dsse.sign(dsse.Envelope(payload=b"{}"), confused)


GOOD = {"payloadType": dsse.IN_TOTO, "payload": "e30=", "signatures": [{"keyid": "k", "sig": "AAAA"}]}


@pytest.mark.parametrize(
    "bad",
    [
        "", "[]", "null", "{", '{"a": NaN}', "\x00", '{"payload": "e30=", "payload": "e30="}',
        json.dumps({**GOOD, "more": 1}), json.dumps({**GOOD, "payload": "e3 0="}), json.dumps({**GOOD, "payload": "e31="}),
        json.dumps({**GOOD, "payload": 7}), json.dumps({**GOOD, "signatures": {}}),
        json.dumps({**GOOD, "signatures": [{"sig": "AAAA"}]}),
        json.dumps({**GOOD, "signatures": [GOOD["signatures"][0]] * 2}),
        json.dumps({**GOOD, "signatures": [{"keyid": str(i), "sig": "AAAA"} for i in range(65)]}),
        "[" * 100_000,
    ],
)  # fmt: skip
def test_a_malformed_envelope_is_refused(bad: str) -> None:
    with pytest.raises(VerificationError):
        dsse.parse(bad)


def test_both_alphabets_of_base64_are_read(keys: Any) -> None:
    tree = signed(keys, "alice", payload=bytes(range(256))).to_dict()
    urlsafe = base64.urlsafe_b64encode(bytes(range(256))).decode()
    assert dsse.parse(json.dumps({**tree, "payload": urlsafe})).payload == bytes(range(256))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.binary(max_size=64)
    | JSON.map(json.dumps)
    | st.fixed_dictionaries(
        {},
        optional={
            "payloadType": JSON | st.just(dsse.IN_TOTO),
            "payload": JSON | st.just("e30="),
            "signatures": JSON | st.lists(st.fixed_dictionaries({}, optional={"keyid": JSON, "sig": JSON})),
        },
    ).map(json.dumps)
)
@settings(max_examples=150, deadline=None)
def test_no_input_ever_verifies_or_crashes(keys: Any, raw: bytes | str) -> None:
    try:
        envelope = dsse.parse(raw)
        dsse.verify(envelope, keys.trust, "certificate")
    except ForetasteError:
        return
    pytest.fail("a made up envelope was accepted")


def test_a_key_that_stands_twice_is_refused_for_two_readers_may_take_another(keys: Any) -> None:
    text = signed(keys, "alice").to_json()
    twice = text[:-1] + ',"payloadType":"' + dsse.IN_TOTO + '"}'
    assert dsse.parse(text)
    with pytest.raises(VerificationError, match="'payloadType' stands twice"):
        dsse.parse(twice)
