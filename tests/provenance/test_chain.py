"""The chain of custody: every step rests on the step before it, and no link can be taken out, moved or exchanged."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from foretaste.cli import main
from foretaste.errors import InputError, VerificationError
from foretaste.provenance import chain, lineage, manifest, signers
from foretaste.provenance.chain import Chain
from foretaste.quarantine import split
from foretaste.results import CheckResult, Finding, Severity

from .conftest import Keys, passing

TEXT = [f"a film of grade {i}" for i in range(12)]


@dataclasses.dataclass(frozen=True)
class History:
    """web and vendor are joined, then filtered, then split into train and test: five links."""

    folder: Path
    file: Path
    keys: Keys

    def path(self, name: str) -> Path:
        """A data set."""
        return self.folder / f"{name}.parquet"

    def digest(self, name: str) -> str:
        """Digest of a data set."""
        return manifest.build(self.path(name), with_rows=False).digest

    def lines(self) -> list[str]:
        """The links as they stand in the file."""
        return self.file.read_text().splitlines()

    def verify(self, lines: list[str], name: str = "train", **changes: Any) -> Any:
        """Verify a chain of these lines up to a data set."""
        return Chain.load("\n".join(lines).encode()).verify(changes.pop("trust", self.keys.trust), self.digest(name))


@pytest.fixture
def history(keys: Keys, tmp_path: Path) -> History:
    made = History(tmp_path, tmp_path / "chain.jsonl", keys)
    parts = {"web": TEXT[:6], "vendor": TEXT[6:], "all": TEXT, "kept": TEXT[2:], "train": TEXT[2:9], "test": TEXT[9:]}
    for name, text in parts.items():
        pq.write_table(pa.table({"text": text}), made.path(name))
    signer = signers.open_signer(str(keys.pem("alice")))
    for name in ("web", "vendor"):
        chain.record(made.file, "origin", signer, outputs=[made.path(name)], sources=[f"https://example.org/{name}"])
    steps = [
        ("join", ["web", "vendor"], ["all"]),
        ("filter", ["all"], ["kept"]),
        ("split", ["kept"], ["train", "test"]),
    ]
    for kind, inputs, outputs in steps:
        chain.record(
            made.file, kind, signer, inputs=[made.path(n) for n in inputs], outputs=[made.path(n) for n in outputs],
            parameters={"seed": 1},
        )  # fmt: skip
    return made


def test_a_chain_leads_from_the_data_to_every_origin(history: History) -> None:
    assert history.verify(history.lines()).kind == "split"
    held = Chain.load(history.file)
    found = [link.kind for link in held.ancestors(held.tip(history.digest("test")))]
    assert found == ["split", "filter", "join", "origin", "origin"]
    join = held.links[2]
    assert [p.statement for p in join.parents] == [held.links[0].digest, held.links[1].digest]
    assert held.links[4].rows == {"train.parquet": 7, "test.parquet": 3}


@pytest.mark.parametrize("at", range(4))
def test_a_missing_link_is_found_wherever_it_was(history: History, at: int) -> None:
    lines = history.lines()
    with pytest.raises(VerificationError, match="missing from the chain"):
        history.verify(lines[:at] + lines[at + 1 :])


def test_a_chain_that_ends_early_does_not_lead_to_the_data(history: History) -> None:
    with pytest.raises(VerificationError, match="does not lead to these data"):
        history.verify(history.lines()[:-1])


@pytest.mark.parametrize("order", [[0, 2, 1, 3, 4], [4, 0, 1, 2, 3], [0, 1, 3, 2, 4]])
def test_a_reordered_chain_is_refused(history: History, order: list[int]) -> None:
    with pytest.raises(VerificationError, match="reordered"):
        history.verify([history.lines()[at] for at in order])


def test_a_link_twice_by_a_stranger_or_revoked_is_refused(history: History) -> None:
    lines = history.lines()
    with pytest.raises(VerificationError, match="twice"):
        history.verify([*lines, lines[0]])
    with pytest.raises(VerificationError, match=r"link 1 of the chain .* is unknown"):
        history.verify(lines, trust=history.keys.trusting("bob"))
    gone = {Chain.load(history.file).links[1].digest: "bad vendor"}
    with pytest.raises(VerificationError, match=r"link 2 .* is revoked: bad vendor"):
        history.verify(lines, trust=dataclasses.replace(history.keys.trust, revoked=gone))


def test_a_link_by_a_stranger_does_not_slip_in(history: History) -> None:
    evil = signers.open_signer(str(history.keys.pem("mallory")))
    pq.write_table(pa.table({"text": ["evil"]}), history.path("train"))
    chain.record(history.file, "filter", evil, inputs=[history.path("kept")], outputs=[history.path("train")])
    with pytest.raises(VerificationError, match=r"link 6 of the chain .* is unknown"):
        history.verify(history.lines())


def test_a_parent_that_made_other_data_is_refused(history: History) -> None:
    held = Chain.load(history.file)
    statement = held.links[3].statement
    tree = json.loads(json.dumps(dict(statement.predicate)))
    tree["buildDefinition"]["resolvedDependencies"][0]["digest"] = {"sha256": "0" * 64}
    signer = signers.open_signer(str(history.keys.pem("alice")))
    from foretaste.provenance import dsse

    forged = dsse.sign(dataclasses.replace(statement, predicate=tree).envelope, signer)
    with pytest.raises(VerificationError, match="made other data"):
        history.verify([*history.lines()[:3], forged.to_json()], "kept")


def test_a_step_needs_inputs_that_the_chain_knows(history: History) -> None:
    signer = signers.open_signer(str(history.keys.pem("alice")))
    pq.write_table(pa.table({"text": ["new"]}), history.path("new"))
    for given, message in (
        ({"kind": "filter", "inputs": [history.path("new")]}, "no link of .* made"),
        ({"kind": "filter"}, "needs inputs"),
        ({"kind": "origin"}, "where the data came from"),
        ({"kind": "fliter", "inputs": [history.path("web")]}, 'did you mean "filter"'),
    ):
        kind = str(given.pop("kind"))
        with pytest.raises(InputError, match=message):
            chain.record(history.file, kind, signer, outputs=[history.path("new")], **given)  # type: ignore[arg-type]
    assert len(history.lines()) == 5


def test_a_quarantine_is_a_step(keys: Keys, tmp_path: Path) -> None:
    data, file = tmp_path / "data.parquet", tmp_path / "chain.jsonl"
    pq.write_table(pa.table({"text": TEXT[:6], "label": ["a"] * 6, "source": ["web"] * 6}), data)
    flagged = Finding(check="hidden-text", kind="k", severity=Severity.BLOCK, message="m", rows=(1, 4), ids=("1", "4"))
    report = passing(data, results=(CheckResult.from_findings("hidden-text", [flagged]),))
    apart = split(data, report, tmp_path / "apart", roles={"text": "text", "label": "label", "source": "source"})
    signer = signers.open_signer(str(keys.pem("alice")))
    chain.record(file, "origin", signer, outputs=[data], sources=["https://example.org"])
    link = chain.record_quarantine(file, data, apart, signer)
    made = manifest.build(apart.clean, with_rows=False).digest
    assert Chain.load(file).verify(keys.trust, made).digest == link.digest
    said = link.statement.predicate["buildDefinition"]["externalParameters"]
    assert (said["clean_rows"], said["quarantined_rows"]) == (4, 2)


def test_the_tree_and_the_picture_show_every_link_and_no_markup_of_a_name(history: History) -> None:
    evil = history.folder / "<script>alert(1)<\u202egnp.parquet"
    pq.write_table(pa.table({"text": ["x"]}), evil)
    signer = signers.open_signer(str(history.keys.pem("alice")))
    chain.record(history.file, "filter", signer, inputs=[history.path("train")], outputs=[evil])
    picture = history.folder / "chain.svg"
    trust = history.folder / "trust.yaml"
    trust.write_text(history.keys.trust.to_yaml())
    result = CliRunner().invoke(main, ["lineage", str(history.file), "--trust", str(trust), "--svg", str(picture)])
    assert result.exit_code == 0, result.output
    for kind in ("filter", "split", "join", "from https://example.org/web", "from https://example.org/vendor"):
        assert kind in result.output
    assert "\u202e" not in result.output
    drawn = picture.read_text(encoding="utf-8")
    assert "<script>" not in drawn
    assert "\u202e" not in drawn
    root = ElementTree.fromstring(drawn)
    assert len(root.findall(".//{http://www.w3.org/2000/svg}rect")) == 6
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "").replace("https://example.org", "")
    held = Chain.load(history.file)
    assert lineage.svg(held, held.links[0]).count("<rect") == 1


def test_lineage_stops_at_a_broken_chain(history: History) -> None:
    trust = history.folder / "trust.yaml"
    trust.write_text(history.keys.trust.to_yaml())
    history.file.write_text("\n".join(history.lines()[1:]))
    result = CliRunner().invoke(main, ["lineage", str(history.file), "--trust", str(trust)])
    assert result.exit_code == 1
    assert "missing from the chain" in result.output
    shown = CliRunner().invoke(main, ["lineage", str(history.file)])
    assert shown.exit_code == 0
    assert "MISSING: the link that made web.parquet" in shown.output


def test_the_command_line_records_what_lineage_shows(history: History) -> None:
    file, key = history.folder / "own.jsonl", str(history.keys.pem("bob"))
    for arguments in (
        ["origin", "--output", str(history.path("all")), "--source", "https://example.org"],
        ["filter", "--input", str(history.path("all")), "--output", str(history.path("kept")), "--param", "least=2"],
    ):
        result = CliRunner().invoke(main, ["record", *arguments, "--chain", str(file), "--key", key])
        assert result.exit_code == 0, result.output
    link = Chain.load(file).verify(history.keys.trust, history.digest("kept"))
    assert link.statement.predicate["buildDefinition"]["externalParameters"] == {"least": "2"}
