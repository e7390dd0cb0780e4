"""Rows from where nobody allowed them to come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from foretaste import Outcome, Policy, PolicyError, Report, Severity, scan
from foretaste.checks.source_allowlist import SourceAllowlist
from foretaste.cli import main
from foretaste.deliveries import digest_of, sign
from foretaste.engine import concentration
from foretaste.provenance import signers
from foretaste.provenance.keys import Role, TrustRoot, trusted
from foretaste.report.model import to_dict
from foretaste.report.wording import owner
from foretaste.sources import Entry


def table(*sources: str | None) -> pa.Table:
    texts = [f"row {i}" for i in range(len(sources))]
    return pa.table({"id": [f"r{i}" for i in range(len(sources))], "text": texts, "source": sources})


def run(data: Any, *allow: str | Entry, **parameters: Any) -> Report:
    entries = tuple(e if isinstance(e, Entry) else Entry(source=e) for e in allow)
    return scan(data, Policy(checks=(SourceAllowlist(allow=entries, **parameters),)))


def found(report: Report) -> dict[str, tuple[int, ...]]:
    return {f"{f.kind}: {f.feature}": f.rows for f in report.findings}


def test_allowed_sources_pass() -> None:
    report = run(table("vendor-a", "https://docs.python.org/3/a", "vendor-a"), "vendor-a", "python.org")
    assert report.verdict is Outcome.PASS
    assert report.results[0].metrics["allowed_rows"] == 3


def test_an_unknown_source_blocks_and_is_grouped_by_its_domain() -> None:
    report = run(table("vendor-a", "https://evil.github.io/1", "https://evil.github.io/2", "vendor-b"), "vendor-a")
    assert report.verdict is Outcome.BLOCK
    assert found(report) == {"unknown source: evil.github.io": (1, 2), "unknown source: vendor-b": (3,)}


def test_missing_sources_are_a_finding_of_their_own() -> None:
    assert found(run(table("vendor-a", "", None), "vendor-a")) == {"unknown source: (no source)": (1, 2)}


def test_unknown_sources_can_be_sent_to_review_and_refused_ones_cannot() -> None:
    data = table("vendor-b", "https://vendor@evil.org/")
    report = run(data, "vendor-a", unknown="review")
    assert {f.rows: f.severity for f in report.findings} == {(0,): Severity.REVIEW, (1,): Severity.BLOCK}


def test_each_standing_has_its_kind() -> None:
    old = Entry(source="vendor-old", expires="2020-01-01")
    data = table("vendor-a", "vendor-old", "evil.org", "https://gіthub.com/", "vendor-new")
    report = run(data, "vendor-a", old, deny=(Entry(source="evil.org", reason="incident 7"),))
    assert {f.kind: f.rows for f in report.findings} == {
        "source with an expired entry": (1,), "denied source": (2,), "source in disguise": (3,), "unknown source": (4,),
    }  # fmt: skip
    assert "incident 7" in next(f.message for f in report.findings if f.kind == "denied source")


def test_more_rows_than_an_entry_allows_block_all_of_them() -> None:
    data = table(*["vendor-a"] * 4, *["vendor-b"] * 3)
    limited = (Entry(source="vendor-a", max_rows=3), Entry(source="vendor-b", max_rows=3))
    report = run(data, *limited)
    assert found(report) == {"more rows than an entry allows: vendor-a": (0, 1, 2, 3)}
    assert (report.findings[0].observed, report.findings[0].limit) == (4, 4)


def test_a_limit_counts_over_all_spellings_of_a_source() -> None:
    data = table("https://python.org/a", "http://docs.python.org/b", "python.org")
    assert run(data, Entry(source="python.org", max_rows=2)).blocked


def test_a_limit_counts_over_batches() -> None:
    rows = 40_000
    data = pa.table({"text": ["same"] * rows, "source": ["vendor-a"] * rows})
    report = run(data, Entry(source="vendor-a", max_rows=rows - 1))
    assert len(report.findings[0].rows) == rows
    assert not run(data, Entry(source="vendor-a", max_rows=rows)).blocked


def test_without_a_list_it_is_skipped_and_says_how_to_configure_it() -> None:
    result = run(table("anything")).results[0]
    assert result.outcome is Outcome.SKIPPED
    assert "checks.source-allowlist.allow" in result.note


def test_with_a_list_and_without_a_source_column_it_is_an_error() -> None:
    report = run(table("vendor-a").drop(["source"]), "vendor-a")
    assert report.verdict is Outcome.ERROR
    assert "--source" in report.results[0].note


def test_many_unknown_sources_stay_bounded_and_complete() -> None:
    sources = [f"vendor-{i}" for i in range(5000)]
    report = run(table(*sources), "vendor-a")
    assert len(report.findings) <= 201
    assert report.flagged_rows(Severity.BLOCK) == tuple(range(5000))


def test_a_policy_gives_entries_as_text_or_with_their_fields() -> None:
    raw = {
        "allow": ["github.com", {"source": "vendor-a", "owner": "data team", "expires": "2030-01-01", "max_rows": 9}],
        "deny": ["evil.github.com"],
    }
    policy = Policy.load({"checks": {"source-allowlist": raw}})
    check = next(c for c in policy.checks if c.id == "source-allowlist")
    assert check == SourceAllowlist(
        allow=(
            Entry(source="github.com"),
            Entry(source="vendor-a", owner="data team", expires="2030-01-01", max_rows=9),
        ),
        deny=(Entry(source="evil.github.com"),),
    )


def test_a_policy_file_may_write_a_date_as_a_date(tmp_path: Any) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("checks:\n  source-allowlist:\n    allow:\n    - {source: vendor-a, expires: 2030-01-01}\n")
    check = next(c for c in Policy.load(path).checks if c.id == "source-allowlist")
    assert check.parameters["allow"][0]["expires"] == "2030-01-01"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"allow": ["hf://datasets/o/n"]}, "not pinned"),
        ({"deny": [{"source": "evil.org", "expires": "2030-01-01"}]}, "takes neither expires nor limits"),
        ({"allow": [{"sauce": "a"}]}, 'did you mean "source"'),
        ({"allow": [{"owner": "a"}]}, "source is missing"),
        ({"allow": "github.com"}, "must be a list"),
        ({"allow": [{"source": "github.com", "kind": "site"}]}, "must be one of"),
        ({"unknown": "pass"}, "must be one of 'block', 'review'"),
    ],
)
def test_a_wrong_list_is_refused(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        Policy.load({"checks": {"source-allowlist": raw}})


def test_the_list_and_the_suffix_data_stand_in_the_report() -> None:
    plain = to_dict(run(table("vendor-a"), "vendor-a"))["results"][0]
    assert plain["parameters"]["allow"][0]["source"] == "vendor-a"
    assert "publicsuffixlist" in plain["note"]


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_an_entry_can_ask_for_content_that_cannot_change() -> None:
    entries = (
        Entry(source="s3://vendor/", min_attestation="pinned"), Entry(source="python.org", min_attestation="pinned"),
    )  # fmt: skip
    data = table("s3://vendor/a?versionId=7", "s3://vendor/a", "https://python.org/a")
    report = run(data, *entries)
    assert {f.rows: f.kind for f in report.findings} == {
        (1,): "source with too weak an attestation", (2,): "source with too weak an attestation",
    }  # fmt: skip
    assert "asks for pinned, it is none" in report.findings[0].message


def test_the_report_holds_the_version_of_the_list() -> None:
    notes = [run(table("a"), *allow).results[0].note for allow in (("a",), ("a", "b"), ("a",))]
    assert notes[0] == notes[2] != notes[1]
    assert "list sha256:" in notes[0]


class TestTotals:
    def scanned(self, state: Path, rows: int, name: str = "vendor-a", tag: str = "") -> Report:
        entry = Entry(source="vendor-a", max_rows_total=10)
        data = table(*[name] * rows)
        data = data.set_column(0, "id", pa.array([f"{tag}{i}" for i in range(rows)]))
        check = SourceAllowlist(allow=(entry, Entry(source="vendor-b")))
        return scan(data, Policy(checks=(check,)), state=state)

    def test_rows_add_up_over_batches_until_the_cap(self, tmp_path: Path) -> None:
        state = tmp_path / "state"
        verdicts = [self.scanned(state, 4, tag=tag).verdict for tag in "abc"]
        assert verdicts == [Outcome.PASS, Outcome.PASS, Outcome.BLOCK]
        assert self.scanned(state, 2, tag="d").verdict is Outcome.PASS, "a refused batch does not count"

    def test_the_finding_says_both_counts(self, tmp_path: Path) -> None:
        self.scanned(tmp_path / "state", 8, tag="a")
        finding = self.scanned(tmp_path / "state", 3, tag="b").findings[0]
        assert (finding.rows, finding.observed, finding.limit) == ((0, 1, 2), 11, 11)
        assert "11 rows, 3 of them new" in finding.message

    def test_a_batch_that_comes_again_is_not_counted_twice(self, tmp_path: Path) -> None:
        assert [self.scanned(tmp_path / "state", 8).verdict for _ in range(2)] == [Outcome.PASS] * 2

    def test_other_sources_do_not_count(self, tmp_path: Path) -> None:
        self.scanned(tmp_path / "state", 30, name="vendor-b")
        assert self.scanned(tmp_path / "state", 10, tag="b").verdict is Outcome.PASS

    def test_without_a_state_it_is_an_error_and_no_pass(self) -> None:
        report = run(table("vendor-a"), Entry(source="vendor-a", max_rows_total=10))
        assert report.verdict is Outcome.ERROR
        assert "--state" in report.results[0].note


class TestDeliveries:
    """Vendor and stranger sign; the trust file knows the vendor alone."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        vendor = trusted(signers.generate(tmp_path / "vendor.pem"), "vendor")
        signers.generate(tmp_path / "stranger.pem")
        trust = TrustRoot(keys={"vendor": vendor}, roles={"delivery": Role(keys=("vendor",))})
        (tmp_path / "trust.yaml").write_text(trust.to_yaml())
        pq.write_table(table("batch-1", "batch-2"), tmp_path / "data.parquet")
        return tmp_path

    def scanned(self, place: Path, *allow: Entry, key: str | None = "vendor", vouch: tuple[str, ...] = ()) -> Report:
        data, files = place / "data.parquet", []
        if key is not None:
            (place / "a.json").write_text(sign("data", digest_of(data), [str(place / f"{key}.pem")], vouch))
            files = [place / "a.json"]
        policy = Policy(checks=(SourceAllowlist(allow=allow),))
        return scan(data, policy, attestations=files, trust=place / "trust.yaml")

    def signer(self, place: Path) -> Entry:
        return Entry(source=signers.read_public(place / "vendor.pub").keyid, kind="signer")

    def test_a_signer_lets_in_what_it_vouches_for_and_nothing_else(self, place: Path) -> None:
        assert self.scanned(place, self.signer(place)).verdict is Outcome.PASS
        report = self.scanned(place, self.signer(place), vouch=("batch-1",))
        assert found(report) == {"unknown source: batch-2": (1,)}
        assert found(self.scanned(place, self.signer(place), key=None)).keys() == {
            "unknown source: batch-1", "unknown source: batch-2",
        }  # fmt: skip

    def test_an_entry_that_asks_for_a_signature_takes_nothing_less(self, place: Path) -> None:
        entries = tuple(Entry(source=f"batch-{i}", min_attestation="signed") for i in (1, 2))
        assert self.scanned(place, *entries).verdict is Outcome.PASS
        assert self.scanned(place, *entries, key=None).verdict is Outcome.BLOCK

    def test_a_failed_signature_blocks_and_cannot_be_waived(self, place: Path) -> None:
        report = self.scanned(place, Entry(source="batch-1"), Entry(source="batch-2"), key="stranger")
        (finding,) = report.findings
        assert (finding.kind, finding.waivable, report.verdict) == ("failed signature", False, Outcome.BLOCK)

    def test_an_attestation_for_other_data_fails(self, place: Path) -> None:
        self.scanned(place, self.signer(place))
        pq.write_table(table("batch-1", "batch-3"), place / "data.parquet")
        report = scan(
            place / "data.parquet", Policy(checks=(SourceAllowlist(allow=(self.signer(place),)),)),
            attestations=[place / "a.json"], trust=place / "trust.yaml",
        )  # fmt: skip
        assert "is for other data than these" in next(
            f.message for f in report.findings if f.kind == "failed signature"
        )

    def test_a_denied_signer_is_denied_although_its_sources_are_allowed(self, place: Path) -> None:
        (place / "a.json").write_text(sign("d", digest_of(place / "data.parquet"), [str(place / "vendor.pem")]))
        check = SourceAllowlist(allow=(Entry(source="batch-1"), Entry(source="batch-2")), deny=(self.signer(place),))
        report = scan(
            place / "data.parquet", Policy(checks=(check,)), attestations=[place / "a.json"],
            trust=place / "trust.yaml",
        )  # fmt: skip
        assert {f.kind for f in report.findings} == {"denied source"}

    def test_the_command_line_signs_and_takes_a_delivery(self, place: Path) -> None:
        policy = Policy(checks=(SourceAllowlist(allow=(self.signer(place),)),))
        (place / "policy.yaml").write_text(policy.to_yaml())
        attest = ["attest", place / "data.parquet", "--key", place / "vendor.pem", "--out", place / "a.json"]
        assert CliRunner().invoke(main, [str(a) for a in attest]).exit_code == 0
        given = ["scan", place / "data.parquet", "--policy", place / "policy.yaml", "--checks", "source-allowlist",
                 "--json", "--attestation", place / "a.json"]  # fmt: skip
        done = CliRunner().invoke(main, [str(a) for a in [*given, "--trust", place / "trust.yaml"]])
        assert done.exit_code == 0, done.output
        assert "delivery signed by vendor" in done.stdout
        assert CliRunner().invoke(main, [str(a) for a in given]).exit_code == 2, "no trust file, no judgement"


def test_a_source_that_owns_the_suspicious_rows_is_evidence() -> None:
    sources = ["vendor-a"] * 300 + ["vendor-b"] * 20
    texts = [f"row {i}" for i in range(300)] + ["\U000e0041\U000e0042\U000e0043\U000e0044 x"] * 20
    data = pa.table({"text": texts, "source": sources})
    (finding,) = scan(data, Policy().only("hidden-text")).findings
    assert finding.statistic["source_share"] == 1.0
    assert finding.statistic["source_expected"] == pytest.approx(20 / 320)
    assert 0 < finding.statistic["source_p"] < 1e-20
    assert owner(finding).startswith("20 of 20 rows come from vendor-b, which has 6.2% of all rows")


def test_a_source_with_its_share_of_the_rows_is_no_evidence() -> None:
    assert concentration({"a": 5, "b": 5}, {"a": 500, "b": 500})["source_p"] > 0.5
    assert concentration({"a": 5}, {"a": 500}) == {}
