"""A waiver answers for one finding in these very data, until a day, and never hides that it does."""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from foretaste import Outcome, Policy, PolicyError, Report, scan
from foretaste.cli import main
from foretaste.history import History
from foretaste.provenance import signers
from foretaste.provenance.keys import Role, TrustRoot, trusted
from foretaste.quarantine import split
from foretaste.report import read, write
from foretaste.report.html import render_html
from foretaste.report.model import from_dict, to_dict
from foretaste.results import Fate
from foretaste.waivers import Waiver, WaiverOptions, Waivers, sign

ONLY = Policy().only("hidden-text")
LATER = "2999-01-01"


@pytest.fixture(scope="module")
def report(poisoned_table: pa.Table) -> Report:
    return scan(poisoned_table, ONLY)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with alice.pem and mallory.pem, of which the trust file names the first only."""
    folder = tmp_path_factory.mktemp("keys")
    alice = trusted(signers.generate(folder / "alice.pem"), "alice")
    signers.generate(folder / "mallory.pem")
    trust = TrustRoot(keys={"alice": alice}, roles={"waiver": Role(keys=("alice",))})
    (folder / "trust.yaml").write_text(trust.to_yaml())
    return folder


def waiver(report: Report, **changes: Any) -> Waiver:
    fields = {
        "statement": "a watermark of the vendor", "owner": "ann@example.org", "expired_at": LATER,
        "status": "not_affected", "justification": "component_not_present",
    }  # fmt: skip
    return Waiver.of(report, report.findings[0].fingerprint, **{**fields, **changes})


def scanned(data: Any, *waivers: Waiver, policy: Policy = ONLY) -> Report:
    return scan(data, policy, waivers=Waivers(tuple((w, None) for w in waivers)))


def test_an_applied_waiver_takes_its_finding_out_of_the_verdict_and_stands_in_the_report(
    report: Report, poisoned_table: pa.Table
) -> None:
    waived = scanned(poisoned_table, waiver(report))
    assert (report.verdict, waived.verdict) == (Outcome.BLOCK, Outcome.PASS)
    assert waived.flagged_rows() == ()
    assert len(waived.findings[0].rows) == 30
    assert waived.findings[0].fingerprint == report.findings[0].fingerprint
    assert "1 finding waived" in waived.headline()
    assert [(w.fate, w.owner) for w in waived.waivers] == [(Fate.APPLIED, "ann@example.org")]
    assert sum(waived.charts["over_file"]["block"]) == 0
    assert "ann@example.org" in render_html(waived)
    assert "a watermark of the vendor" in render_html(waived)


def test_the_json_form_keeps_waivers(report: Report, poisoned_table: pa.Table) -> None:
    waived = scanned(poisoned_table, waiver(report))
    again = from_dict(to_dict(waived))
    assert again.waivers == waived.waivers
    assert again.verdict is Outcome.PASS


def test_changed_data_void_it_although_the_finding_is_the_same(report: Report, poisoned_table: pa.Table) -> None:
    texts = poisoned_table["text"].to_pylist()
    texts[0] += " and more"
    changed = poisoned_table.set_column(1, "text", pa.array(texts))
    again = scanned(changed, waiver(report))
    assert again.findings[0].fingerprint == report.findings[0].fingerprint
    assert (again.verdict, again.waivers[0].fate) == (Outcome.BLOCK, Fate.VOID)


def test_an_expired_waiver_blocks_with_the_reason_even_for_a_review_finding(poisoned_table: pa.Table) -> None:
    lenient = Policy.load({"checks": {"hidden-text": {"block_rows": 1000}}}).only("hidden-text")
    review = scan(poisoned_table, lenient)
    assert review.verdict is Outcome.REVIEW
    again = scanned(poisoned_table, waiver(review, expired_at="2020-01-01"), policy=lenient)
    assert (again.verdict, again.waivers[0].fate) == (Outcome.BLOCK, Fate.EXPIRED)
    assert "it held until 2020-01-01" in next(r.note for r in again.results if r.check == "waivers")


@pytest.mark.parametrize("failing", ["expired", "forged"])
def test_a_waived_batch_enters_the_state_and_one_whose_waiver_fails_does_not(
    poisoned_table: pa.Table, keys: Path, tmp_path: Path, failing: str
) -> None:
    # For review alone, which would enter: it is the failing waiver that keeps the batch out.
    lenient = Policy.load({"checks": {"hidden-text": {"block_rows": 1000}}}).only("hidden-text")
    good = waiver(scan(poisoned_table, lenient))
    trust = TrustRoot.load(keys / "trust.yaml")
    state = tmp_path / "state"
    if failing == "expired":
        bad = Waivers(((dataclasses.replace(good, expired_at="2020-01-01"), None),))
    else:
        bad = Waivers(((good, sign(good, str(keys / "mallory.pem"))),), trust)
    refused = scan(poisoned_table, lenient, waivers=bad, state=state)
    assert (refused.verdict, refused.history["advanced"]) == (Outcome.BLOCK, False)
    assert not state.exists()
    block = scan(poisoned_table, ONLY, state=state)
    assert (block.verdict, block.history["advanced"]) == (Outcome.BLOCK, False)
    entered = scan(poisoned_table, ONLY, waivers=Waivers(((waiver(block), None),)), state=state)
    assert (entered.verdict, entered.history["advanced"]) == (Outcome.PASS, True)
    assert [b["rows"] for b in History.open(state).batches] == [poisoned_table.num_rows]


def test_it_holds_on_its_last_day(report: Report) -> None:
    one = Waivers(((waiver(report, expired_at="2030-06-01"), None),))
    for day, fate in ((date(2030, 6, 1), Fate.APPLIED), (date(2030, 6, 2), Fate.EXPIRED)):
        assert one.apply(report.results, report.data.digest, WaiverOptions(), day)[1][0].fate is fate


def test_what_is_under_investigation_is_on_record_and_not_applied(report: Report, poisoned_table: pa.Table) -> None:
    again = scanned(poisoned_table, waiver(report, status="under_investigation", justification=""))
    assert (again.verdict, again.waivers[0].fate) == (Outcome.BLOCK, Fate.PENDING)


def test_a_waiver_for_another_finding_changes_nothing(report: Report, poisoned_table: pa.Table) -> None:
    other = dataclasses.replace(waiver(report), finding="0" * 32)
    again = scanned(poisoned_table, other)
    assert (again.verdict, again.waivers[0].fate) == (Outcome.BLOCK, Fate.UNUSED)


def test_a_failed_signature_is_waived_only_where_the_policy_says_so(report: Report) -> None:
    fixed = dataclasses.replace(report.findings[0], waivable=False)
    results = [dataclasses.replace(report.results[0], findings=(fixed,))]
    one = Waivers(((waiver(report), None),))
    for options, fate in ((WaiverOptions(), Fate.REFUSED), (WaiverOptions(failed_signatures=True), Fate.APPLIED)):
        assert one.apply(results, report.data.digest, options)[1][0].fate is fate


def test_a_waiver_never_covers_an_error(report: Report, poisoned_table: pa.Table) -> None:
    demanding = Policy.load({"power": {"require": 1}}).only("hidden-text")
    assert scanned(poisoned_table, waiver(report), policy=demanding).verdict is Outcome.ERROR


def test_a_policy_bounds_how_long_a_waiver_may_hold(report: Report) -> None:
    one = Waivers(((waiver(report), None),))
    assert one.apply(report.results, report.data.digest, WaiverOptions(max_days=90))[1][0].fate is Fate.REFUSED


def test_quarantine_leaves_waived_rows_where_they_are(report: Report, poisoned_table: pa.Table, tmp_path: Path) -> None:
    made = split(poisoned_table, scanned(poisoned_table, waiver(report)), tmp_path)
    assert (made.clean_rows, made.quarantined_rows) == (poisoned_table.num_rows, 0)


class TestSignatures:
    signed_only = WaiverOptions(signed=True)

    def fate(self, report: Report, entry: tuple[Waiver, Any], trust: Path | None, options: WaiverOptions) -> Fate:
        root = None if trust is None else TrustRoot.load(trust / "trust.yaml")
        return Waivers((entry,), root).apply(report.results, report.data.digest, options)[1][0].fate

    def test_a_policy_that_demands_signatures_takes_no_other_waiver(self, report: Report, keys: Path) -> None:
        one = waiver(report)
        assert self.fate(report, (one, None), keys, self.signed_only) is Fate.UNSIGNED
        assert self.fate(report, (one, sign(one, str(keys / "alice.pem"))), keys, self.signed_only) is Fate.APPLIED
        assert self.fate(report, (one, sign(one, str(keys / "alice.pem"))), None, self.signed_only) is Fate.UNSIGNED

    def test_a_forged_waiver_blocks_whatever_else_it_says(
        self, report: Report, keys: Path, poisoned_table: pa.Table
    ) -> None:
        one = waiver(report)
        stranger = sign(one, str(keys / "mallory.pem"))
        changed = dataclasses.replace(one, expired_at="2998-01-01")
        for entry in ((one, stranger), (changed, sign(one, str(keys / "alice.pem")))):
            assert self.fate(report, entry, keys, WaiverOptions()) is Fate.FORGED
        root = TrustRoot.load(keys / "trust.yaml")
        again = scan(poisoned_table, ONLY, waivers=Waivers(((one, stranger),), root))
        assert again.verdict is Outcome.BLOCK

    def test_the_report_names_who_signed(self, report: Report, keys: Path, poisoned_table: pa.Table) -> None:
        one = waiver(report)
        root = TrustRoot.load(keys / "trust.yaml")
        again = scan(poisoned_table, ONLY, waivers=Waivers(((one, sign(one, str(keys / "alice.pem"))),), root))
        assert again.waivers[0].approvers == ("alice",)
        assert "signed by" in render_html(again)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"justification": ""}, "needs a justification"),
        ({"justification": "because"}, "must be one of"),
        ({"status": "affected", "justification": ""}, "action_statement"),
        ({"status": "fixed"}, "must be one of"),
        ({"expired_at": "soon"}, "YYYY-MM-DD"),
        ({"owner": " "}, "owner must not be empty"),
        ({"colour": "red"}, 'unknown key "colour"'),
    ],
)
def test_a_waiver_that_says_too_little_is_refused(report: Report, changes: dict[str, str], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        waiver(report, **changes)


def test_a_report_is_read_back_with_all_its_rows(poisoned_table: pa.Table, tmp_path: Path) -> None:
    texts = [f"\U000e0041\U000e0042\U000e0043 {t}" for t in poisoned_table["text"].to_pylist()]
    table = poisoned_table.set_column(1, "text", pa.array(texts))
    made = scan(table, ONLY)
    assert max(len(f.rows) for f in made.findings) > 1000
    write(made, tmp_path)
    assert [f.rows for f in read(tmp_path).findings] == [f.rows for f in made.findings]
    assert split(table, read(tmp_path), tmp_path / "q").quarantined_rows == len(made.flagged_rows())


def run(*args: object) -> Any:
    return CliRunner().invoke(main, [str(a) for a in args])


def test_from_a_blocked_scan_to_a_waived_one_on_the_command_line(
    poisoned_table: pa.Table, keys: Path, tmp_path: Path
) -> None:
    data, out, file = tmp_path / "d.parquet", tmp_path / "out", tmp_path / "waivers.yaml"
    pq.write_table(poisoned_table.slice(0, 400), data)
    scan_it = ("scan", data, "--checks", "hidden-text", "--text", "text", "--id", "id", "--out", out)
    assert run(*scan_it).exit_code == 1
    fingerprint = read(out).findings[0].fingerprint
    given = ("--statement", "watermark", "--owner", "ann", "--expires", LATER, "--file", file)
    missing = run("waive", out, "ffffffff", *given, "--justification", "component_not_present")
    assert (missing.exit_code, fingerprint in missing.stderr) == (2, True)
    done = run(
        "waive", out, fingerprint[:8], *given, "--justification", "component_not_present", "--key", keys / "alice.pem"
    )
    assert done.exit_code == 0, done.output
    passed = run(*scan_it, "--waivers", file, "--trust", keys / "trust.yaml")
    assert passed.exit_code == 0, passed.output
    assert "applied, not_affected, until 2999-01-01, ann, signed by alice" in " ".join(passed.stdout.split())
    assert json.loads((out / "report.json").read_text())["waivers"][0]["approvers"] == ["alice"]
