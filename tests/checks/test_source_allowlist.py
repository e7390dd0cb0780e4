"""Rows from where nobody allowed them to come from."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from foretaste import Outcome, Policy, PolicyError, Report, Severity, scan
from foretaste.checks.source_allowlist import SourceAllowlist
from foretaste.report.model import to_dict
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
        ({"deny": [{"source": "evil.org", "expires": "2030-01-01"}]}, "takes neither expires nor max_rows"),
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
