"""Whatever a document of somebody else holds, reading it ends in a named error or in what it says, never in a traceback."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from foretaste import ForetasteError, InputError, Policy, PolicyError, StateError, VerificationError, baselines, scan
from foretaste import deliveries as delivered
from foretaste import waivers as waived
from foretaste.commands.report import FORMATS, render
from foretaste.history import History, Store
from foretaste.history.file import digest_of
from foretaste.provenance import canonical, chain, dsse, lineage, proof, scans, signers
from foretaste.provenance.certificate import Certificate, read_report
from foretaste.provenance.keys import TrustRoot
from foretaste.provenance.statement import parse
from foretaste.provenance.verify import check_certificate
from foretaste.quarantine import MANIFEST, SIGNATURE, release, split
from foretaste.reading import open_data
from foretaste.report import openlineage, read, write
from foretaste.report.model import to_dict

from .conftest import Case
from .test_quarantine_attacks import BY, ONLY, ROWS, put

Tree = Any
ODD: list[Tree] = [
    None, True, -1, 1.5, 10**30, "", "x", "\ud800", [], {}, [None], [[]], [{}], {"x": 1}, {"sha256": 5}, float("nan"),
]  # fmt: skip
MOST = 60  # mutations of one document


def places(tree: Tree, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from places(value, (*at, key))
    elif isinstance(tree, list):
        for key, value in enumerate(tree[:2]):
            yield from places(value, (*at, key))


def mutations(tree: Tree) -> Iterator[Tree]:
    """The document with one value at one place taken out, under another name, or exchanged."""

    def changed(at: tuple[Any, ...], change: Callable[[Any, Any], object]) -> Tree:
        made = parent = copy.deepcopy(tree)
        for key in at[:-1]:
            parent = parent[key]
        change(parent, at[-1])
        return made

    for at in places(tree):
        if at:
            yield changed(at, lambda parent, key: parent.pop(key))
            if isinstance(at[-1], str):
                yield changed(at, lambda parent, key: parent.update(odd=parent.pop(key)))
        for value in ODD:
            yield changed(at, lambda parent, key, v=value: parent.__setitem__(key, v)) if at else value  # type: ignore[misc]


@dataclass(frozen=True)
class Reader:
    """A document as plain values, and what reads it once it is written down."""

    tree: Tree
    read: Callable[[Tree], object]


def signed(case: Case, tree: Tree) -> dsse.Envelope:
    payload = json.dumps(tree).encode()
    return dsse.sign(dsse.Envelope(payload=payload), signers.open_signer(str(case.keys.pem("alice"))))


def certificate(case: Case) -> Reader:
    first, *rest = case.certificate.envelopes

    def reading(tree: Tree) -> None:
        found = check_certificate(Certificate(envelopes=(signed(case, tree), *rest)), case.keys.trust)
        assert found.headline()

    tree = json.loads(first.payload)
    tree["predicate"]["data"]["leftOut"] = [{"name": "_x.parquet", "bytes": 1, "sha256": "0" * 64}]
    return Reader(tree, reading)


def envelope(case: Case) -> Reader:
    first = json.loads(case.certificate.envelopes[0].to_json())
    return Reader(first, lambda tree: check_certificate(json.dumps(tree).encode(), case.keys.trust))


def links(case: Case) -> Reader:
    file, raw = case.folder / "chain.jsonl", put(case.folder / "raw.parquet", ["x"])
    alice = signers.open_signer(str(case.keys.pem("alice")))
    chain.record(file, "origin", alice, outputs=[raw], sources=["https://example.org"])
    made = chain.record(file, "filter", alice, inputs=[raw], outputs=[case.data])
    origin = file.read_text().splitlines()[0]

    def reading(tree: Tree) -> None:
        held = chain.Chain.load(f"{origin}\n{signed(case, tree).to_json()}".encode())
        lineage.svg(held, held.links[-1])
        lineage.tree(held, held.links[-1])
        openlineage.chain_events(held)
        held.verify(case.keys.trust, case.report.data.digest)

    return Reader(json.loads(made.envelope.payload), reading)


def delivery(case: Case) -> Reader:
    file = case.folder / "delivery.json"
    text = delivered.sign("train", case.report.data.digest, [str(case.keys.pem("alice"))], ["web"])

    def reading(tree: Tree) -> None:
        file.write_text(signed(case, tree).to_json())
        found = delivered.verify([file], case.report.data.digest, case.keys.trust)
        if found.failed:
            raise VerificationError(found.failed[0])
        for one in found.verified:
            assert one.sources in (None, frozenset({"web"}), frozenset({""}), frozenset({"x"}), frozenset({"\ud800"}))

    return Reader(json.loads(dsse.parse(text).payload), reading)


def row_proof(case: Case) -> Reader:
    file = case.folder / "proof.json"
    row = pq.read_table(case.data).slice(1, 1).to_pylist()[0]

    def reading(tree: Tree) -> None:
        file.write_text(json.dumps(tree))
        assert proof.check(file, row, case.certificate.statement())

    return Reader(proof.prove(case.data, 1).to_dict(), reading)


def row_proof_s_certificate(case: Case) -> Reader:
    row = pq.read_table(case.data).slice(1, 1).to_pylist()[0]
    made, tree = proof.prove(case.data, 1), json.loads(case.certificate.envelopes[0].payload)
    tree["predicate"] = {"data": {n: tree["predicate"]["data"][n] for n in ("rowTree", "schema")}}
    return Reader(tree, lambda t: proof.check(made, row, parse(json.dumps(t).encode())))


def waiver_file(case: Case) -> Reader:
    file = case.folder / "waivers.yaml"
    report = scan(put(case.folder / "poison.parquet", ROWS), ONLY)
    mine = {"statement": "s", "owner": "o", "expired_at": "2999-01-01", "status": "affected", "action_statement": "x"}
    waiver = waived.Waiver.of(report, report.findings[0].fingerprint, **mine)
    text = waived.Waivers().add(waiver, waived.sign(waiver, str(case.keys.pem("alice")))).to_yaml()

    def reading(tree: Tree) -> None:
        file.write_text(yaml.safe_dump(tree))
        held = waived.Waivers.load(file, case.keys.trust)
        assert waived.waive(report, held, waived.WaiverOptions()).headline()
        assert held.to_yaml()

    return Reader(yaml.safe_load(text), reading)


def trust_file(case: Case) -> Reader:
    file = case.folder / "trust.yaml"
    tree = yaml.safe_load(case.keys.trusting("alice").to_yaml())
    tree["roles"] = {"certificate": tree["roles"]["certificate"]}
    tree |= {"revoked": {f"sha256:{'0' * 64}": "x"}, "sequences": {"other": 1}, "snapshots": {"b": 1}}

    def reading(tree: Tree) -> None:
        file.write_text(yaml.safe_dump(tree))
        assert case.verify(trust=TrustRoot.load(file))

    return Reader(tree, reading)


def policy_file(case: Case) -> Reader:
    file = case.folder / "policy.yaml"
    entry = {"source": "example.org", "kind": "domain", "owner": "a", "expires": "2999-01-01", "max_rows": 5}
    tree = {
        "version": 1, "seed": 0, "memory_mb": 512, "input": {"nulls": "empty"}, "waivers": {"signed": True},
        "checks": {"source-allowlist": {"allow": [entry], "deny": ["evil.org"]}, "hidden-text": {"enabled": False}},
    }  # fmt: skip

    def reading(tree: Tree) -> None:
        file.write_text(yaml.safe_dump(tree))
        held = Policy.load(file)
        assert held.digest
        assert held.to_yaml()

    return Reader(tree, reading)


def snapshot(case: Case) -> Reader:
    folder, data = case.folder / "baseline", put(case.folder / "batch.parquet", ["one", "two"])
    alice = str(case.keys.pem("alice"))
    baselines.advance(folder, data, scan(data, ONLY), keys=[alice], trust=case.keys.trust)
    file = folder / "0001.json"

    def reading(tree: Tree) -> None:
        file.write_text(signed(case, tree).to_json())
        newest = baselines.read(folder, case.keys.trust)[-1]
        assert (newest.profile + newest.profile).rows > 0

    return Reader(json.loads(dsse.parse(file.read_bytes()).payload), reading)


def state(case: Case) -> Reader:
    data, file = put(case.folder / "batch.parquet", ["one", "two"]), case.folder / "history.state"
    scan(data, ONLY, state=str(file))
    other = open_data(put(case.folder / "next.parquet", ["three", "four"]))
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members.pop("header.json"))

    def reading(tree: Tree) -> None:
        said = {**tree, "digest": digest_of(tree)} if isinstance(tree, dict) else tree
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, raw in ({"header.json": json.dumps(said).encode()} | members).items():
                archive.writestr(name, raw)
        file.write_bytes(out.getvalue())
        assert History.open(file).summary()
        History.load(Store(str(file)), other)

    return Reader(header, reading)


def report_file(case: Case) -> Reader:
    folder, data = case.folder / "report", put(case.folder / "poison.parquet", ROWS)
    made = scan(data, ONLY)
    one = dataclasses.replace(made.results[0], findings=made.results[0].findings[:1])
    small = dataclasses.replace(made, results=(one,))
    file = write(small, folder)["report.json"]

    def reading(tree: Tree) -> None:
        file.write_text(json.dumps(tree))
        held = read(folder)
        for form in FORMATS if str(tree)[-1] == "}" and len(str(tree)) % 4 == 0 else ("text", "sarif"):
            render(held, form)
        read_report(file)
        split(data, held, case.folder / "q")

    return Reader(to_dict(small), reading)


def quarantine_manifest(case: Case) -> Reader:
    data = put(case.folder / "poison.parquet", ROWS)
    run = split(data, scan(data, ONLY), case.folder / "q").manifest.parent

    def reading(tree: Tree) -> None:
        (run / MANIFEST).write_text(json.dumps(tree))
        assert release(run, case.folder / "r", everything=True, **BY).rows == len(ROWS)

    return Reader(json.loads((run / MANIFEST).read_text()), reading)


READERS = [
    certificate, envelope, links, delivery, row_proof, row_proof_s_certificate, waiver_file, trust_file, policy_file,
    snapshot, state, report_file, quarantine_manifest,
]  # fmt: skip


@pytest.mark.parametrize("made", READERS, ids=lambda m: m.__name__)
def test_a_document_with_one_odd_value_is_refused_by_name_or_says_what_it_says(
    made: Callable[[Case], Reader], case: Case
) -> None:
    reader = made(case)
    every = list(mutations(reader.tree))
    refused = 0
    for tree in random.Random(0).sample(every, min(MOST, len(every))):
        try:
            reader.read(tree)
        except ForetasteError:
            refused += 1
    assert refused, "no odd value was noticed"


PIECES = [
    b"null",
    b"\xff",
    b"\0",
    b"1e400",
    b"9" * 20,
    b'"',
    b"\xed\xa0\x80",
    b"- ",
    b"<<: ",
    b"!!python/none ",
    b"NaN",
    b"\\ud800",
]


def flipped(raw: bytes, chance: random.Random) -> bytes:
    """The bytes with a few of them changed, left out, doubled, or others put in."""
    made = bytearray(raw)
    for _ in range(chance.choice([1, 1, 1, 4])):
        at, size = chance.randrange(len(made)), chance.choice([1, 5, 50])
        match chance.randrange(5):
            case 0 | 1:
                made[at] = chance.randrange(256)
            case 2:
                del made[at : at + size]
            case 3:
                made[at:at] = made[at : at + size]
            case _:
                made[at:at] = chance.choice(PIECES)
        made = made or bytearray(b"x")
    return bytes(made)


def test_bytes_that_flip_in_a_file_are_refused_by_name_or_leave_what_it_says(case: Case) -> None:
    """Files that somebody else may write to: nothing but the errors that say so comes out, and never more than a signature
    vouches for."""
    alice = [signers.open_signer(str(case.keys.pem("alice")))]
    trust, folder, data = case.keys.trust, case.folder, put(case.folder / "poison.parquet", ROWS)
    report = scan(data, ONLY)
    scans.sign(write(report, folder / "report")["report.json"], alice)
    run = split(data, report, folder / "q", signers=alice).manifest.parent
    case.certificate.write(folder / "c.jsonl")
    (folder / "trust.yaml").write_text(trust.to_yaml())

    def released() -> None:
        """As somebody may do who also writes the manifest to go with the files."""
        tree = json.loads((run / MANIFEST).read_bytes())
        for name in tree["outputs"]:
            tree["outputs"][name]["digest"] = canonical.digest((run / name).read_bytes())
        (run / MANIFEST).write_text(json.dumps(tree))
        release(run, folder / "r", everything=True, **BY)

    readers: dict[Path, Callable[[], object]] = {
        folder / "c.jsonl": lambda: case.verify(certificate=folder / "c.jsonl"),
        folder / "trust.yaml": lambda: case.verify(trust=folder / "trust.yaml"),
        folder / "report" / "report.json": lambda: scans.read(folder / "report", trust),
        folder / "report" / scans.FILE: lambda: scans.read(folder / "report", trust),
        run / SIGNATURE: lambda: release(run, folder / "r", everything=True, trust=trust, **BY),
        run / "quarantine/data.parquet": released,
        run / "clean/data.parquet": released,
    }
    for file, reading in readers.items():
        raw, chance, refused = file.read_bytes(), random.Random(0), 0
        reading()
        for _ in range(25):
            broken = flipped(raw, chance)
            file.write_bytes(broken)
            try:
                reading()
            except ForetasteError:
                refused += 1
        file.write_bytes(raw)
        assert refused >= 12, file


DEEP = 100_000


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"[" * DEEP, "nested too deeply"),
        (b'{"a":' * DEEP, "nested too deeply"),
        (b"[" * 200 + b"]" * 200, "nested"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "is not JSON"),
        (b'{"a": 1e999}', "no number in floating point"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"a": {"b": 1, "b": 1}}', "stands twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "not valid JSON"),
        (b'{"a": 1}\x00', "not valid JSON"),
        (b'{"a": 1} {"a": 2}', "not valid JSON"),
    ],
)
def test_json_that_two_readers_may_read_otherwise_is_refused(raw: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=said):
        canonical.decode(raw, "the document")
    (tmp_path / "report.json").write_bytes(raw)
    with pytest.raises(InputError, match=r"is no report of this release"):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["policy", "waivers", "trust"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 5000, "nested too deeply"),
        ("a: &x [1, *x]", r"alias \*x"),
        ("version: 1\nversion: 2", "stands twice"),
        ("version: 2026-02-30", "day is out of range"),
        ("version: !!timestamp x", "not valid YAML"),
        ("version: !!bool x", "not valid YAML"),
        ("version: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        ('version: "\\ud800"', "lone surrogate"),
        ("version: 1\n--- \nversion: 1", "another document"),
        ("? [a]\n: 1", "not valid YAML"),
        ("- 1", "holds no mapping"),
        ("version: .nan", "version nan is not known"),
    ],
)
def test_yaml_that_cannot_be_read_is_refused_by_name(kind: str, text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(text)
    load: Callable[[Path], object] = {"policy": Policy, "waivers": waived.Waivers, "trust": TrustRoot}[kind].load
    with pytest.raises(PolicyError, match=said):
        load(file)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("policy", "checks:\n  near-duplicates: &off {enabled: false}\n  hidden-text:\n    <<: *off\n"),
        ("policy", "checks:\n  hidden-text:\n    <<: {enabled: false}\n    block_rows: 3\n"),
        ("policy", "checks:\n  source-allowlist:\n    allow: &all [example.org, evil.org]\n    deny: *all\n"),
        ("policy", "checks: &c\n  hidden-text: {}\ninput: {<<: [*c, *c]}\n"),
        ("trust", "keys: {}\nroles: &r {}\nrevoked: *r\n"),
        ("waivers", "waivers:\n- &w {owner: a}\n- <<: *w\n"),
    ],
)
def test_a_rule_that_is_written_elsewhere_in_the_file_is_refused(kind: str, text: str, tmp_path: Path) -> None:
    """Merge keys and aliases: who reviews a rule sees all of it where it stands."""
    file = tmp_path / "file.yaml"
    file.write_text(text)
    load: Callable[[Path], object] = {"policy": Policy, "waivers": waived.Waivers, "trust": TrustRoot}[kind].load
    with pytest.raises(PolicyError, match=r"(alias \*|merge key).*write (it|them) out"):
        load(file)


def test_a_bomb_of_aliases_does_no_work(tmp_path: Path) -> None:
    """Nine lines that a message would quote with a billion words."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi")]
    (tmp_path / "policy.yaml").write_text("\n".join([*lines, "version: *i"]))
    with pytest.raises(PolicyError, match=r"line 2 .* alias \*a"):
        Policy.load(tmp_path / "policy.yaml")


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04", b"x" * 100, b"[" * DEEP, b"[]", b'{"format": 2, "digest": NaN}'])
def test_a_file_that_is_no_state_is_refused_by_name(raw: bytes, tmp_path: Path) -> None:
    file = tmp_path / "history.state"
    if raw[:1] in (b"[", b"{"):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("header.json", raw)
    else:
        file.write_bytes(raw)
    with pytest.raises(StateError, match="is damaged"):
        History.open(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t["keys"]["alice"].update(revoked=None), r"keys\.alice\.revoked is empty"),
        (lambda t: t["keys"]["alice"].update(expires=None), r"keys\.alice\.expires is empty"),
        (lambda t: t.update(revoked={"sha256:abc": "typed by hand"}), "no sha256: and 64 hex digits"),
        (lambda t: t.update(revoked={f"sha256:{'A' * 64}": "in capitals"}), "no sha256: and 64 hex digits"),
        (lambda t: t.update(sequences={2024: 3}), "write it in quotes"),
        (lambda t: t.update(snapshots={True: 3}), "write it in quotes"),
    ],
)
def test_a_line_of_a_trust_file_that_would_do_nothing_is_refused(
    case: Case, change: Callable[[Any], object], said: str
) -> None:
    tree = yaml.safe_load(case.keys.trust.to_yaml())
    change(tree)
    with pytest.raises(PolicyError, match=said):
        TrustRoot.load(tree)


@pytest.mark.parametrize("predicate", [{"sources": None}, {"sources": []}, {"sources": [1]}, {"source": ["web"]}])
def test_a_delivery_that_narrows_nothing_does_not_vouch_for_every_row(case: Case, predicate: dict[str, Any]) -> None:
    tree = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "train", "digest": {"sha256": case.report.data.digest[7:]}}],
        "predicateType": delivered.PREDICATE_TYPE,
        "predicate": predicate,
    }
    (case.folder / "d.json").write_text(signed(case, tree).to_json())
    found = delivered.verify([case.folder / "d.json"], case.report.data.digest, case.keys.trust)
    assert not found.verified
    assert len(found.failed) == 1


def test_an_address_that_is_none_does_not_end_a_comparison(tmp_path: Path) -> None:
    from foretaste.provenance import refetch

    urls = ["http://[", "http://\ud7ff:99999/", "nowhere", "", "file:///\x00"]
    pq.write_table(pa.table({"url": urls, "digest": ["x"] * len(urls)}), tmp_path / "data.parquet")
    for private in (False, True):
        found = refetch.compare(tmp_path / "data.parquet", "url", "digest", refetch.Options(private=private))
        assert found.counts == {refetch.State.UNREACHABLE: len(urls)}


def test_a_long_chain_of_custody_is_drawn(case: Case) -> None:
    """Links of other signers are read as they are: no depth of theirs may end the command."""
    subject = [{"name": "d", "digest": {"sha256": "0" * 64}}]
    lines, parent = [], None
    for number in range(1500):
        notes = {"name": "d", "digest": {"sha256": "0" * 64}, "annotations": {"statement": parent}} if parent else {}
        build = {
            "buildType": chain.BUILD_TYPE.format(kind="filter" if parent else "origin"),
            "externalParameters": {"number": number},
            "resolvedDependencies": [notes or {"uri": "https://example.org"}],
        }
        run = {"metadata": {"finishedOn": "2026-01-01T00:00:00Z"}}
        tree = {"_type": "https://in-toto.io/Statement/v1", "subject": subject, "predicateType": chain.PREDICATE_TYPE,
                "predicate": {"buildDefinition": build, "runDetails": run}}  # fmt: skip
        made = dsse.Envelope(payload=json.dumps(tree).encode())
        lines.append(made.to_json())
        parent = made.digest
    held = chain.Chain.load("\n".join(lines).encode())
    tree_ = lineage.tree(held, held.links[-1])
    depth = 0
    while tree_.children:
        tree_, depth = tree_.children[0], depth + 1
    assert depth == 1500
