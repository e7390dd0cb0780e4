"""A baseline is signed, never changed, and takes only what was accepted; a batch is compared with it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from foretaste import InputError, Outcome, Policy, Report, VerificationError, scan
from foretaste.baselines import Profile, advance, profile, read
from foretaste.checks.baseline_drift import BaselineDrift
from foretaste.cli import main
from foretaste.provenance import signers
from foretaste.provenance.keys import Role, TrustRoot, trusted
from foretaste.reading import open_data
from foretaste.report import write

ONLY = Policy().only("hidden-text")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with alice.pem, whom the trust file trusts, and mallory.pem."""
    folder = tmp_path_factory.mktemp("keys")
    alice = trusted(signers.generate(folder / "alice.pem"), "alice")
    signers.generate(folder / "mallory.pem")
    (folder / "trust.yaml").write_text(
        TrustRoot(keys={"alice": alice}, roles={"baseline": Role(keys=("alice",))}).to_yaml()
    )
    return folder


def batch(seed: int, rows: int = 400, sources: Sequence[str] = ("a.org", "b.org"), share: float = 0.5) -> pa.Table:
    """Rows with labels drawn with a share, sources in turn and words of one length distribution."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(rows) < share, "good", "bad")
    texts = [f"{seed} {i} " + "word " * int(n) for i, n in enumerate(rng.integers(3, 30, rows))]
    return pa.table({"text": texts, "label": labels, "source": [sources[i % len(sources)] for i in range(rows)]})


def grow(place: Path, keys: Path, *tables: pa.Table, key: str = "alice", **options: Any) -> None:
    for table in tables:
        given = {"keys": [str(keys / f"{key}.pem")], "trust": keys / "trust.yaml", **options}
        advance(place, table, scan(table, ONLY), **given)


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Path:
    """A baseline of three batches of 400 rows."""
    place = tmp_path_factory.mktemp("b") / "vendor"
    grow(place, keys, *(batch(i) for i in range(3)))
    return place


def compared(table: pa.Table, place: Path, keys: Path, **limits: Any) -> Report:
    check = BaselineDrift(baseline=str(place), trust=str(keys / "trust.yaml"), **limits)
    return scan(table, Policy(checks=(check,)))


class TestStore:
    def test_each_snapshot_adds_a_batch_and_follows_on_the_one_before(self, accepted: Path, keys: Path) -> None:
        snapshots = read(accepted, keys / "trust.yaml")
        assert [s.number for s in snapshots] == [1, 2, 3]
        assert [s.previous for s in snapshots] == ["", snapshots[0].digest, snapshots[1].digest]
        assert [s.profile.rows for s in snapshots] == [400, 800, 1200]
        assert snapshots[-1].profile.sources == {"a.org": 600, "b.org": 600}
        assert sum(snapshots[-1].profile.labels.values()) == sum(snapshots[-1].profile.lengths.values()) == 1200
        assert {s.keys for s in snapshots} == {("alice",)}

    def test_the_profile_of_two_batches_is_the_sum_of_both(self) -> None:
        one, two = batch(1), batch(2)
        both = profile(open_data(pa.concat_tables([one, two])))
        assert profile(open_data(one)) + profile(open_data(two)) == both
        assert Profile() + both == both

    def test_a_refused_batch_never_enters(self, poisoned_table: pa.Table, tmp_path: Path, keys: Path) -> None:
        with pytest.raises(InputError, match="verdict is block"):
            grow(tmp_path / "x", keys, poisoned_table, approved_by="ann", reason="hurry")
        assert not (tmp_path / "x").exists()

    def test_findings_for_review_need_somebody_who_approves(
        self, clean_table: pa.Table, tmp_path: Path, keys: Path
    ) -> None:
        texts = clean_table["text"].to_pylist()
        texts[7] += "\u200b" * 12
        table = clean_table.set_column(1, "text", pa.array(texts))
        assert scan(table, ONLY).verdict is Outcome.REVIEW
        with pytest.raises(InputError, match="--approved-by"):
            grow(tmp_path / "x", keys, table)
        grow(tmp_path / "x", keys, table, approved_by="ann", reason="a ruler")
        assert read(tmp_path / "x", keys / "trust.yaml")[0].batches[0]["approved_by"] == "ann"

    def test_other_data_than_those_of_the_report_are_refused(self, tmp_path: Path, keys: Path) -> None:
        with pytest.raises(InputError, match="is not what was scanned"):
            advance(
                tmp_path / "x", batch(1), scan(batch(2), ONLY), keys=[str(keys / "alice.pem")],
                trust=keys / "trust.yaml",
            )  # fmt: skip

    def test_a_batch_counts_once(self, tmp_path: Path, keys: Path) -> None:
        grow(tmp_path / "x", keys, batch(1))
        with pytest.raises(InputError, match="counts once"):
            grow(tmp_path / "x", keys, batch(1))

    def test_a_key_that_is_not_trusted_makes_no_snapshot(self, tmp_path: Path, keys: Path) -> None:
        with pytest.raises(VerificationError, match="unknown"):
            grow(tmp_path / "x", keys, batch(1), key="mallory")
        assert not (tmp_path / "x").exists()


class TestAttacks:
    """Whoever can write into the folder and has no key gets nothing accepted but an older snapshot."""

    @pytest.fixture
    def place(self, tmp_path: Path, accepted: Path) -> Path:
        copy = tmp_path / "vendor"
        copy.mkdir()
        for file in accepted.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        return copy

    def refused(self, place: Path, keys: Path, said: str) -> None:
        with pytest.raises(VerificationError, match=said):
            read(place, keys / "trust.yaml")
        report = compared(batch(9), place, keys)
        assert report.verdict is Outcome.ERROR

    def test_a_changed_count(self, place: Path, keys: Path) -> None:
        envelope = json.loads((place / "0003.json").read_text())
        envelope["payload"] = envelope["payload"][:-8] + "AAAAAAA="
        (place / "0003.json").write_text(json.dumps(envelope))
        self.refused(place, keys, "does not fit")

    def test_a_stripped_signature(self, place: Path, keys: Path) -> None:
        envelope = json.loads((place / "0002.json").read_text()) | {"signatures": []}
        (place / "0002.json").write_text(json.dumps(envelope))
        self.refused(place, keys, "no signature")

    def test_a_snapshot_that_is_gone_from_the_middle(self, place: Path, keys: Path) -> None:
        (place / "0002.json").unlink()
        self.refused(place, keys, "removed, renamed or swapped")

    def test_an_old_snapshot_under_the_newest_number(self, place: Path, keys: Path) -> None:
        (place / "0003.json").write_bytes((place / "0001.json").read_bytes())
        self.refused(place, keys, "removed, renamed or swapped")

    def test_the_baseline_of_another_data_set(self, place: Path, keys: Path) -> None:
        other = place.rename(place.with_name("other"))
        self.refused(other, keys, "removed, renamed or swapped")

    def test_the_newest_snapshot_taken_away_where_the_trust_file_names_the_lowest_number(
        self, place: Path, keys: Path
    ) -> None:
        trust = TrustRoot.load(keys / "trust.yaml")
        wanted = dataclasses.replace(trust, snapshots={"vendor": 3})
        assert len(read(place, wanted)) == 3
        (place / "0003.json").unlink()
        assert len(read(place, trust)) == 2
        with pytest.raises(VerificationError, match="wants 3 or later"):
            read(place, wanted)

    def test_a_revoked_snapshot(self, place: Path, keys: Path, tmp_path: Path) -> None:
        trust = TrustRoot.load(keys / "trust.yaml")
        gone = dataclasses.replace(trust, revoked={read(place, trust)[1].digest: "poisoned"})
        with pytest.raises(VerificationError, match="revoked: poisoned"):
            read(place, gone)


class TestDrift:
    def kinds(self, report: Report) -> set[tuple[str, str | None]]:
        return {(f.kind, f.feature) for f in report.findings}

    def test_a_batch_drawn_like_the_others_passes(self, accepted: Path, keys: Path) -> None:
        reports = [compared(batch(100 + i), accepted, keys) for i in range(20)]
        assert {r.verdict for r in reports} == {Outcome.PASS}
        assert "snapshot 3" in reports[0].results[0].note

    def test_a_new_source_is_named_with_its_rows_and_never_blocks(self, accepted: Path, keys: Path) -> None:
        report = compared(batch(9, sources=("a.org", "b.org", "evil.github.io")), accepted, keys)
        assert ("new source", "evil.github.io") in self.kinds(report)
        assert report.verdict is Outcome.REVIEW
        assert {r % 3 for f in report.findings if f.kind == "new source" for r in f.rows} == {2}

    def test_a_share_that_grew_is_named(self, accepted: Path, keys: Path) -> None:
        report = compared(batch(9, share=0.75), accepted, keys)
        assert self.kinds(report) == {("label share", "good")}
        assert report.findings[0].statistic["share"] > 0.7

    def test_a_small_shift_is_none_however_certain(self, accepted: Path, keys: Path) -> None:
        table = batch(9, rows=400, share=0.75)
        assert compared(table, accepted, keys, min_shift=0.5).verdict is Outcome.PASS

    def test_longer_rows_are_named(self, accepted: Path, keys: Path) -> None:
        table = batch(9)
        texts = pa.array([t * 40 if i % 4 == 0 else t for i, t in enumerate(table["text"].to_pylist())])
        kinds = self.kinds(compared(table.set_column(0, "text", texts), accepted, keys))
        assert {k for k, _ in kinds} == {"length share"}

    def test_a_batch_of_another_size_is_named(self, accepted: Path, keys: Path) -> None:
        assert ("size", None) in self.kinds(compared(batch(9, rows=30), accepted, keys))

    def test_many_new_names_stay_readable_and_complete(self, accepted: Path, keys: Path) -> None:
        report = compared(batch(9, sources=[f"new{i}.org" for i in range(200)]), accepted, keys)
        new = [f for f in report.findings if f.kind.startswith("new ")]
        assert len(new) == 51
        assert len({r for f in new for r in f.rows}) == 400

    def test_false_findings_stay_below_alpha(self, tmp_path: Path, keys: Path) -> None:
        place = tmp_path / "x"
        grow(place, keys, batch(1, rows=1000))
        found = [compared(batch(200 + i, rows=200), place, keys, alpha=0.2, min_shift=0.0).findings for i in range(60)]
        assert sum(map(bool, found)) <= 20  # 12 expected at most; 20 or more has a chance of 1 in 100

    def test_without_a_baseline_it_is_skipped_and_says_how_to_make_one(self) -> None:
        result = scan(batch(1), Policy().only("baseline-drift", "hidden-text")).results[0]
        assert result.outcome is Outcome.SKIPPED
        assert "foretaste baseline advance" in result.note


def test_advance_and_show_on_the_command_line(tmp_path: Path, keys: Path) -> None:
    def run(*args: object) -> Any:
        return CliRunner().invoke(main, [str(a) for a in args])

    pq.write_table(batch(1), tmp_path / "d.parquet")
    write(scan(tmp_path / "d.parquet", ONLY), tmp_path / "out")
    trust = ("--trust", keys / "trust.yaml")
    made = run(
        "baseline", "advance", tmp_path / "vendor", tmp_path / "d.parquet", "--report", tmp_path / "out",
        "--key", keys / "alice.pem", *trust,
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    shown = run("baseline", "show", tmp_path / "vendor", *trust)
    assert shown.exit_code == 0, shown.output
    assert "400 rows, pass, signed by alice" in shown.stdout
    (tmp_path / "vendor" / "0001.json").write_text("{}")
    assert run("baseline", "show", tmp_path / "vendor", *trust).exit_code == 1
