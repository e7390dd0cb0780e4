"""What an attacker tries between the gate and the training. Each of them has to fail, with the reason."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import foretaste
from foretaste.cli import main
from foretaste.errors import ForetasteError, InputError, VerificationError
from foretaste.policy import Policy
from foretaste.provenance import canonical, chain, dsse, manifest, scans, signers
from foretaste.provenance.certificate import Certificate, certify
from foretaste.provenance.keys import TrustRoot
from foretaste.provenance.statement import Statement
from foretaste.provenance.verify import verified, verify
from foretaste.reading.formats import Files, list_files
from foretaste.report import write

from .conftest import Case, passing


def signer(case: Case, name: str = "alice") -> Any:
    return signers.open_signer(str(case.keys.pem(name)))


def refused(case: Case, match: str, **changes: Any) -> None:
    """Both ways of verifying refuse, and nothing is handed over."""
    with pytest.raises(VerificationError, match=match):
        case.verify(**changes)
    given: dict[str, Any] = {"data": case.data, "certificate": case.certificate, "trust": case.keys.trust} | changes
    with (
        pytest.raises(VerificationError, match=match),
        verified(given.pop("data"), given.pop("certificate"), given.pop("trust"), **given),
    ):
        pytest.fail("the data were handed over")


# The data


def test_swapping_a_file_between_gate_and_training(case: Case) -> None:
    pq.write_table(pa.table({"text": ["evil"], "label": ["good"], "source": ["web"]}), case.data / "part-1.parquet")
    refused(case, "not what was certified")


def test_swapping_a_file_of_the_same_size_and_time(case: Case) -> None:
    path = case.data / "part-0.parquet"
    before, raw = path.stat(), bytearray(path.read_bytes())
    raw[raw.index(b"a film")] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    refused(case, "not what was certified")


def test_editing_a_row_and_keeping_the_row_count(case: Case) -> None:
    path = case.data / "part-0.parquet"
    table = pq.read_table(path)
    labels = ["good", *table["label"].to_pylist()[1:]]
    pq.write_table(table.set_column(1, "label", pa.array(labels)), path)
    assert pq.read_table(case.data).num_rows == 6
    refused(case, "not what was certified")


def test_adding_and_taking_away_a_file(case: Case) -> None:
    shutil.copy(case.data / "part-1.parquet", case.data / "part-2.parquet")
    refused(case, "3 files there, 2 certified")
    (case.data / "part-2.parquet").unlink()
    assert case.verify()
    (case.data / "part-1.parquet").unlink()
    refused(case, "1 files there, 2 certified")


@pytest.mark.parametrize("name", ["_more.parquet", ".more.parquet", "_temporary/part-9.parquet"])
def test_hiding_a_file_where_only_other_readers_look(case: Case, name: str) -> None:
    hidden = case.data / name
    hidden.parent.mkdir(exist_ok=True)
    shutil.copy(case.data / "part-1.parquet", hidden)
    refused(case, "lies beside the data")
    known = certify(case.data, [signer(case)], report=passing(case.data))
    assert case.verify(certificate=known)
    hidden.write_bytes(b"other")
    refused(case, "lies beside the data", certificate=known)


@pytest.mark.parametrize("name", ["_metadata", "_common_metadata", ".huggingface.yaml"])
def test_adding_an_index_that_leads_other_readers_to_other_files(case: Case, name: str) -> None:
    evil = case.folder / "evil.parquet"
    pq.write_table(pa.table({"text": ["evil"], "label": ["good"], "source": ["web"]}), evil)
    index = pq.read_metadata(evil)
    index.set_file_path("../evil.parquet")
    index.write_metadata_file(case.data / name)
    assert pyarrow.dataset.parquet_dataset(case.data / name).to_table()["text"].to_pylist() == ["evil"]
    refused(case, "lies beside the data")
    known = certify(case.data, [signer(case)], report=passing(case.data))
    assert case.verify(certificate=known)
    (case.data / name).write_bytes(b"other")
    refused(case, "lies beside the data", certificate=known)


@pytest.mark.parametrize("name", ["part-2.parquet", "_more.parquet", "_metadata"])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_planting_a_name_that_gives_rows_later(case: Case, name: str, kind: str) -> None:
    """A link to where a file will be once the data are verified, or a pipe that somebody feeds."""
    if kind == "pipe":
        os.mkfifo(case.data / name)
    else:
        (case.data / name).symlink_to("/tmp/not-yet.parquet")
    with pytest.raises(InputError, match="is no file"):
        case.verify()
    with pytest.raises(InputError, match="is no file"), verified(case.data, case.certificate, case.keys.trust):
        pytest.fail("the data were handed over")


def test_changing_what_a_saved_data_set_says_of_its_files(case: Case) -> None:
    datasets = pytest.importorskip("datasets")
    for name, text in (("saved", "a dull film"), ("evil", "evil")):
        datasets.Dataset.from_dict({"text": [text], "label": ["bad"], "source": ["web"]}).save_to_disk(
            case.folder / name
        )
    saved = case.folder / "saved"
    made = certify(saved, [signer(case)], report=passing(saved))
    assert case.verify(data=saved, certificate=made)
    state = json.loads((saved / "state.json").read_text())
    state["_data_files"] = [{"filename": "../evil/data-00000-of-00001.arrow"}]
    (saved / "state.json").write_text(json.dumps(state))
    assert datasets.load_from_disk(saved)[0]["text"] == "evil"
    refused(case, "lies beside the data", data=saved, certificate=made)


def test_hiding_a_file_beside_data_that_were_certified_row_by_row(case: Case) -> None:
    frame = pq.read_table(case.data)
    rows = foretaste.certify(frame, [signer(case)], report=foretaste.scan(frame), name="train")
    assert case.verify(certificate=rows)
    shutil.copy(case.data / "part-1.parquet", case.data / "_more.parquet")
    refused(case, "lies beside the data", certificate=rows)


def test_hiding_a_file_that_a_glob_names_among_data_that_were_certified_row_by_row(case: Case) -> None:
    """A listing of the copy would leave it out, and the copy hands it over."""
    frame = pq.read_table(case.data)
    rows = foretaste.certify(frame, [signer(case)], report=foretaste.scan(frame), name="train")
    glob = str(case.data / "*.parquet")
    with verified(glob, rows, case.keys.trust) as data:
        assert len(data.files) == 2
    shutil.copy(case.data / "part-1.parquet", case.data / "_more.parquet")
    refused(case, "does not hold the rows", data=glob, certificate=rows)


def test_renaming_and_exchanging_files(case: Case) -> None:
    one, two = case.data / "part-0.parquet", case.data / "part-1.parquet"
    one.rename(case.data / "x")
    two.rename(one)
    (case.data / "x").rename(two)
    refused(case, "not what was certified")
    two.rename(case.data / "x")
    one.rename(two)
    (case.data / "x").rename(case.data / "part-2.parquet")
    refused(case, "renamed")


def test_moving_a_boundary_between_names_and_digests(tmp_path: Path) -> None:
    def digest(*names: str) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name in names:
            (folder / name).write_text("text\nrow\n")
        return manifest.build(folder, with_rows=False).digest

    sha = "a" * 64
    assert digest(f"a:sha256:{sha}\n1:b.csv") != digest("a.csv", "b.csv")
    assert digest("a.csv\n5:b.csv") != digest("a.csv", "b.csv")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (unicodedata.normalize("NFC", "café.csv"), unicodedata.normalize("NFD", "café.csv")),
        ("Train.csv", "train.csv"),
        ("ﬁlms.csv", "films.csv"),
        ("straße.csv", "STRASSE.csv"),
    ],
)
def test_two_names_that_are_one_elsewhere(tmp_path: Path, one: str, two: str) -> None:
    for name in (one, two):
        (tmp_path / name).write_text("text\nrow\n")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("they are one name here already")
    with pytest.raises(InputError, match="one name on other systems"):
        manifest.build(tmp_path)


def test_a_name_that_looks_alike_is_another_name(case: Case) -> None:
    (case.data / "part-1.parquet").rename(case.data / "pаrt-1.parquet")  # a Cyrillic а
    refused(case, "not what was certified")


def test_a_name_that_leads_out_of_the_copy(tmp_path: Path) -> None:
    # An object store takes any key; a local disk resolves the dots.
    (tmp_path / "in").mkdir()
    (tmp_path / "evil.csv").write_text("text\nrow\n")
    files = Files(
        "store", pyarrow.fs.LocalFileSystem(), (f"{tmp_path}/in/../evil.csv", f"{tmp_path}/in/a.csv"), (), "csv"
    )
    with pytest.raises(InputError, match="leads out of its folder"):
        files.digests(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_link_to_a_file_elsewhere_is_read_for_what_it_holds(case: Case) -> None:
    path = case.data / "part-0.parquet"
    elsewhere = case.folder / "elsewhere.parquet"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with foretaste.verified(case.data, case.certificate, case.keys.trust) as data:
        elsewhere.write_bytes(b"evil")
        assert not data.files[0].is_symlink()
        assert pq.read_table(data).num_rows == 6
    refused(case, "not what was certified")


def test_a_second_name_of_a_file_is_no_way_into_the_copy(case: Case) -> None:
    """A hard link from elsewhere writes to the certified file, and not to what was copied from it."""
    other = case.folder / "second-name"
    os.link(case.data / "part-0.parquet", other)
    assert case.verify()
    with foretaste.verified(case.data, case.certificate, case.keys.trust) as data:
        other.write_bytes(b"evil")
        assert pq.read_table(data).num_rows == 6
        assert all(path.stat().st_nlink == 1 for path in data.files)
    refused(case, "not what was certified")


def test_exchanging_what_a_linked_folder_leads_to(case: Case) -> None:
    for name in ("one", "two"):
        (case.folder / name).mkdir()
        pq.write_table(
            pa.table({"text": [name], "label": ["good"], "source": ["web"]}), case.folder / name / "x.parquet"
        )
    link = case.data / "more"
    link.symlink_to(case.folder / "one")
    refused(case, "3 files there, 2 certified")
    known = certify(case.data, [signer(case)], report=passing(case.data))
    assert case.verify(certificate=known)
    with foretaste.verified(case.data, known, case.keys.trust) as data:
        assert not any(path.is_symlink() for path in Path(data).rglob("*"))
    link.unlink()
    link.symlink_to(case.folder / "two")
    refused(case, "not what was certified", certificate=known)


def test_writing_to_the_data_all_the_while(case: Case) -> None:
    """Whatever verified() hands over is what was certified, however often a writer flips the file."""
    path = case.data / "part-0.parquet"
    good = path.read_bytes()
    evil = bytes(b ^ 1 for b in good)
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            for raw in (evil, good):
                with path.open("r+b") as stream:
                    stream.write(raw)

    writer = threading.Thread(target=flip)
    writer.start()
    try:
        for _ in range(60):
            try:
                with foretaste.verified(case.data, case.certificate, case.keys.trust) as data:
                    assert data.files[0].read_bytes() == good
            except VerificationError:
                continue
    finally:
        stop.set()
        writer.join()
    path.write_bytes(good)
    assert case.verify()


# The certificate


def test_replaying_the_certificate_of_other_data(case: Case) -> None:
    older = case.folder / "older"
    shutil.copytree(case.data, older)
    pq.write_table(pq.read_table(older).slice(1), older / "part-0.parquet")
    old = certify(older, [signer(case)], report=passing(older))
    refused(case, "not what was certified", certificate=old)


def test_replaying_old_data_with_their_old_certificate(case: Case) -> None:
    """They do belong together: what stops them is their age, or that somebody revoked them."""
    trust = dataclasses.replace(case.keys.trust, revoked={case.certificate.digest: "superseded"})
    refused(case, "revoked: superseded", trust=trust)
    from datetime import UTC, datetime, timedelta

    refused(
        case, "days old", trust=case.keys.trusting("alice", max_age_days=7), now=datetime.now(UTC) + timedelta(days=8)
    )


def test_rolling_back_to_an_older_state_with_its_own_certificate(case: Case) -> None:
    """What is wanted is for the verifier to say: which data set, and from which number on."""
    third = certify(case.data, [signer(case)], report=case.report, name="reviews", sequence=3)
    assert case.verify(certificate=third, name="reviews", min_sequence=3)
    refused(case, "sequence number 3, and at least 4", certificate=third, min_sequence=4)
    refused(case, "no sequence number, and at least 1", min_sequence=1)
    refused(case, "is for 'reviews', and 'vendor' is wanted", certificate=third, name="vendor")
    trust = dataclasses.replace(case.keys.trust, sequences={"reviews": 4, "train": 1})
    refused(case, "at least 4", certificate=third, trust=trust, min_sequence=2)
    refused(case, "no sequence number", trust=trust)
    assert TrustRoot.load(yaml.safe_load(trust.to_yaml())) == trust


@pytest.mark.parametrize("name", ["Train", "TRAIN", "tra\uff49n"])
def test_a_name_that_passes_for_one_whose_sequence_is_demanded(case: Case, name: str) -> None:
    """A certificate of other data by the same key would be older than nothing."""
    other = certify(case.data, [signer(case)], report=case.report, name=name, sequence=1)
    assert case.verify(certificate=other)
    trust = dataclasses.replace(case.keys.trust, sequences={"train": 4})
    refused(case, "which passes for 'train', whose sequence the trust file demands", certificate=other, trust=trust)


def test_writing_a_report_that_passes_and_having_it_certified(case: Case) -> None:
    """A report from a file counts where a key of the role scan signed these very bytes."""
    folder = case.folder / "report"
    path = write(case.report, folder)["report.json"]
    with pytest.raises(VerificationError, match="who wrote"):
        certify(case.data, [signer(case)], report=path)
    with pytest.raises(VerificationError, match="nobody signed"):
        certify(case.data, [signer(case)], report=path, trust=case.keys.trust)
    scans.sign(path, [signer(case, "mallory")])
    with pytest.raises(VerificationError, match="is unknown"):
        certify(case.data, [signer(case)], report=path, trust=case.keys.trust)
    scans.sign(path, [signer(case, "carol")])
    made = certify(case.data, [signer(case)], report=path, trust=case.keys.trust)
    assert made.statement().predicate["report"]["signers"] == ["carol"]
    assert case.verify(certificate=made)
    path.write_text(path.read_text().replace('"seconds": 1.5', '"seconds": 1.6'))
    with pytest.raises(VerificationError, match="not the report that was signed"):
        certify(case.data, [signer(case)], report=path, trust=case.keys.trust)
    taken = certify(case.data, [signer(case)], report=path, unsigned_report=True)
    assert taken.statement().predicate["report"]["origin"] == "unsigned"


def test_passing_another_signed_statement_for_a_signed_scan(case: Case) -> None:
    path = write(case.report, case.folder / "report")["report.json"]
    path.with_name(scans.FILE).write_text(case.certificate.envelopes[0].to_json())
    with pytest.raises(VerificationError, match="not 'https://foretaste"):
        certify(case.data, [signer(case)], report=path, trust=case.keys.trust)


def test_stripping_a_signature(case: Case) -> None:
    bare = [dataclasses.replace(e, signatures=()) for e in case.certificate.envelopes]
    refused(case, "carries no signature", certificate=Certificate(envelopes=tuple(bare)))
    both = case.certificate.signed(signer(case, "bob"))
    trust = case.keys.trusting("alice", "bob", threshold=2)
    assert case.verify(certificate=both, trust=trust)
    stripped = [dataclasses.replace(e, signatures=e.signatures[:1]) for e in both.envelopes]
    refused(case, "1 of the 2", certificate=Certificate(envelopes=tuple(stripped)), trust=trust)


def test_signing_with_a_key_of_one_s_own(case: Case) -> None:
    evil = certify(case.data, [signer(case, "mallory")], report=case.report)
    refused(case, "is unknown", certificate=evil)
    [first, *rest] = evil.envelopes
    known = case.keys.trust.keys["alice"].keyid
    [signature] = first.signatures
    renamed = dataclasses.replace(first, signatures=(dataclasses.replace(signature, keyid=known),))
    refused(case, "does not fit", certificate=Certificate(envelopes=(renamed, *rest)))


def test_a_key_that_signs_steps_only_does_not_certify(case: Case) -> None:
    from foretaste.provenance.keys import Role

    trust = dataclasses.replace(
        case.keys.trust, roles={"certificate": Role(keys=("bob",)), "step": Role(keys=("alice",))}
    )
    refused(case, "may not sign as certificate", trust=trust)


def test_passing_a_step_or_a_standard_statement_for_a_certificate(case: Case) -> None:
    file = case.folder / "chain.jsonl"
    chain.record(file, "origin", signer(case), outputs=[case.data], sources=["https://example.org"])
    refused(case, "begins with 'https://slsa.dev/provenance/v1'", certificate=file)
    refused(case, "begins with 'https://in-toto", certificate=Certificate(envelopes=case.certificate.envelopes[1:]))
    with pytest.raises(VerificationError, match=r"not 'https://slsa\.dev"):
        chain.Chain.load(case.certificate.to_text().encode())


def test_leaving_out_or_exchanging_a_statement(case: Case) -> None:
    mine, other = (
        case.certificate.envelopes,
        certify(case.data, [signer(case)], report=passing(case.data, seconds=2.0)).envelopes,
    )
    later = dataclasses.replace(mine[2], payload=mine[2].payload)
    for envelopes in (mine[:1], mine[:2], (mine[0], mine[2], mine[1]), (*mine, later), (other[0], mine[1])):
        refused(case, "not whole", certificate=Certificate(envelopes=tuple(envelopes)))


def test_changing_what_a_certificate_says(case: Case) -> None:
    def rewritten(change: Callable[[dict[str, Any]], object]) -> Certificate:
        [first, *rest] = case.certificate.envelopes
        tree = json.loads(first.payload)
        change(tree)
        return Certificate(envelopes=(dataclasses.replace(first, payload=canonical.encode(tree)), *rest))

    for change in (
        lambda t: t["predicate"].update(verdict="pass", timeCreated="2026-01-01T00:00:00Z"),
        lambda t: t["subject"][0]["digest"].update(sha256="0" * 64),
        lambda t: t["predicate"]["waivers"].append({"check": "*"}),
    ):
        refused(case, "does not fit", certificate=rewritten(change))


def test_downgrading_the_policy(case: Case) -> None:
    """A scan that runs one check passes; its certificate does not, where the whole policy is asked for."""
    weak = Policy().only("hidden-text")
    lax = certify(case.data, [signer(case)], report=passing(case.data, policy_digest=weak.digest), policy=weak)
    assert case.verify(certificate=lax, policy=weak)
    refused(case, "under another policy", certificate=lax)
    refused(case, "under another policy", certificate=lax, policy=Policy(seed=1))


def test_forging_a_waiver_in_a_certificate(case: Case) -> None:
    """A waiver stands in what is signed: nobody adds one, and one without an end is over."""
    statement = case.certificate.statement()
    said = json.loads(json.dumps(dict(statement.predicate)))
    for waiver in ({"check": "hidden-text"}, {"check": "hidden-text", "expired_at": "for ever"}):
        said["waivers"] = [waiver]
        made = Statement(subjects=statement.subjects, predicate_type=statement.predicate_type, predicate=said)
        rest = case.certificate.envelopes[1:]
        forged = Certificate(envelopes=(dsse.sign(made.envelope, signer(case, "mallory")), *rest))
        refused(case, "is unknown", certificate=forged)
        refused(case, "waiver for hidden-text", certificate=Certificate(
            envelopes=(dsse.sign(made.envelope, signer(case)), *rest)))  # fmt: skip


def test_a_certificate_about_two_data_sets(case: Case) -> None:
    statement = case.certificate.statement()
    both = dataclasses.replace(statement, subjects=(*statement.subjects, ("evil", f"sha256:{'0' * 64}")))
    forged = Certificate(envelopes=(dsse.sign(both.envelope, signer(case)), *case.certificate.envelopes[1:]))
    refused(case, "about 2 data sets", certificate=forged)


def test_truncating_or_exchanging_the_chain(case: Case) -> None:
    file, raw = case.folder / "chain.jsonl", case.folder / "raw.parquet"
    pq.write_table(pa.table({"text": ["x"], "label": ["y"], "source": ["z"]}), raw)
    chain.record(file, "origin", signer(case), outputs=[raw], sources=["https://example.org"])
    chain.record(file, "filter", signer(case), inputs=[raw], outputs=[case.data])
    bound = certify(case.data, [signer(case)], report=case.report, chain=file)
    assert case.verify(certificate=bound, chain=file)
    lines = file.read_text().splitlines()
    refused(case, "does not lead to these data", certificate=bound, chain=lines[0].encode())
    refused(case, "missing from the chain", certificate=bound, chain=lines[1].encode())
    refused(case, "reordered", certificate=bound, chain="\n".join(reversed(lines)).encode())
    refused(case, "none was given", certificate=bound)
    short = case.folder / "short.jsonl"
    chain.record(short, "origin", signer(case), outputs=[case.data], sources=["https://evil.example"])
    refused(case, "another link", certificate=bound, chain=short)


# Malformed files


@pytest.mark.parametrize(
    "raw",
    [b"", b"\n\n", b"{}", b"[]", b"\xff\xfe", b"null\n{}", b'{"payload":', b"{" * 5000, b'{"a":1,"a":2}',
     json.dumps({"payloadType": dsse.IN_TOTO, "payload": base64.b64encode(b"{}").decode(), "signatures": []}).encode()],
)  # fmt: skip
def test_a_malformed_certificate_is_refused_and_not_an_error(case: Case, raw: bytes) -> None:
    path, trust = case.folder / "bad.jsonl", case.folder / "trust.yaml"
    path.write_bytes(raw)
    trust.write_text(case.keys.trust.to_yaml())
    arguments = ["verify", str(case.data), "--certificate", str(path), "--trust", str(trust)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1, result.output
    assert result.output.startswith("refused: ")


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b'{"_type": "https://in-toto.io/Statement/v1"}', b"\x00\x01", b'{"_type": 1, "_type": 2}',
     json.dumps({"_type": "https://in-toto.io/Statement/v0.1", "subject": [], "predicateType": "x",
                 "predicate": {}}).encode(),
     json.dumps({"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": "x", "digest": {"md5": "0"}}],
                 "predicateType": "https://foretaste.dev/data-certificate/v1", "predicate": {}}).encode(),
     json.dumps({"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": "x", "digest": {"sha256": "0" * 64}}],
                 "predicateType": "https://foretaste.dev/data-certificate/v1", "predicate": {}}).encode()],
)  # fmt: skip
def test_a_signed_statement_that_is_none_is_refused(case: Case, payload: bytes) -> None:
    envelope = dsse.sign(dsse.Envelope(payload=payload), signer(case))
    refused(case, ".", certificate=Certificate(envelopes=(envelope,)))


@given(data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_changed_byte_of_a_certificate_is_accepted_with_another_meaning(case: Case, data: st.DataObject) -> None:
    """A certificate with a byte changed, cut or doubled is refused, or says exactly what it said."""
    raw = bytearray(case.certificate.to_text().encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "double"]))
    if kind == "flip":
        raw[at] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del raw[at : at + data.draw(st.integers(1, 40))]
    else:
        raw[at:at] = raw[at : at + data.draw(st.integers(1, 40))]
    try:
        found = verify(case.data, bytes(raw), case.keys.trust)
    except ForetasteError:
        return
    assert found.certificate == case.certificate.digest
    assert found.statement == case.certificate.statement()


def test_files_are_listed_for_what_they_are(case: Case) -> None:
    assert [Path(p).name for p in list_files(case.data).paths] == ["part-0.parquet", "part-1.parquet"]
