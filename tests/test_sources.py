"""One form for every spelling of a source, and a list that lets nothing else pass."""

from __future__ import annotations

import pickle
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.sources import Entry, Rules, Standing, parse, pinned

SHA = "0123456789abcdef0123456789abcdef01234567"
TODAY = date(2026, 6, 1)


def rules(*allow: str | Entry, deny: tuple[str | Entry, ...] = ()) -> Rules:
    def entries(items: tuple[str | Entry, ...]) -> tuple[Entry, ...]:
        return tuple(i if isinstance(i, Entry) else Entry(source=i) for i in items)

    return Rules(entries(allow), entries(deny), TODAY)


def standing(source: str, *allow: str | Entry, deny: tuple[str | Entry, ...] = ()) -> Standing:
    return rules(*allow, deny=deny).decide(source).standing


@pytest.mark.parametrize(
    ("entry", "allowed", "unknown"),
    [
        pytest.param(
            "github.com",
            [
                "github.com",
                "GitHub.com/a",
                "https://github.com",
                "http://github.com:80/a?b#c",
                "https://docs.github.com/a",
            ],
            ["https://evil.github.io", "https://github.com.evil.org", "https://notgithub.com", "ftp://github.com/a"],
            id="domain",
        ),
        pytest.param(
            "alice.github.io",
            ["https://alice.github.io/a", "https://x.alice.github.io"],
            ["https://bob.github.io/a", "https://github.io"],
            id="domain below a private suffix",
        ),
        pytest.param(
            "docs.python.org",
            ["https://docs.python.org/3", "docs.python.org"],
            ["https://python.org", "https://x.docs.python.org", "https://docs.python.org:8443/"],
            id="host",
        ),
        pytest.param(
            "https://docs.python.org/3/",
            ["https://docs.python.org/3/a", "https://docs.python.org/3", "https://DOCS.python.org:443/3/./a/../b"],
            [
                "https://docs.python.org/2/",
                "https://docs.python.org/3.13/",
                "http://docs.python.org/3/",
                "https://docs.python.org/3/../2/",
                "https://docs.python.org/3/%2e%2e/2/",
            ],
            id="prefix",
        ),
        pytest.param(
            "example.org/data",
            ["https://example.org/data/a", "http://example.org/data", "example.org/data/b"],
            ["https://example.org/database", "https://example.org/"],
            id="prefix without a scheme",
        ),
        pytest.param(
            "https://example.org/a.parquet?v=1",
            ["https://example.org/a.parquet?v=1", "https://EXAMPLE.org/%61.parquet?v=1"],
            [
                "https://example.org/a.parquet",
                "https://example.org/a.parquet?v=2",
                "https://example.org/a.parquet/b?v=1",
            ],
            id="exact address",
        ),
        pytest.param(
            f"owner/name@{SHA}",
            [
                f"owner/name@{SHA}",
                f"hf://datasets/owner/name@{SHA}/train.parquet",
                f"https://huggingface.co/datasets/owner/name/resolve/{SHA}/train.parquet",
            ],
            [
                f"owner/other@{SHA}",
                "owner/name",
                "hf://datasets/owner/name",
                "hf://datasets/owner/name@main",
                f"owner/name@{SHA[:-1]}0",
                f"hf://owner/name@{SHA}",
                "https://huggingface.co/datasets/owner/name",
            ],
            id="hub repository",
        ),
        pytest.param(
            "s3://bucket/clean/",
            ["s3://bucket/clean/a", "s3a://bucket/clean/a", "s3://bucket/clean/a?versionId=x"],
            [
                "s3://bucket/cleaned/a",
                "s3://bucket/",
                "s3://other/clean/a",
                "gs://bucket/clean/a",
                "s3://bucket/Clean/a",
            ],
            id="bucket",
        ),
        pytest.param(
            "s3://bucket/a.parquet?versionId=abc",
            ["s3://bucket/a.parquet?versionId=abc"],
            ["s3://bucket/a.parquet", "s3://bucket/a.parquet?versionId=abd", "s3://bucket/a.parquet#x?versionId=abd"],
            id="version of an object",
        ),
        pytest.param(
            "/mnt/data/",
            ["/mnt/data/a.csv", "file:///mnt/data/a.csv", "/mnt/data/x/../a.csv"],
            ["/mnt/data/../secret", "/mnt/database", "mnt/data/a"],
            id="path",
        ),
        pytest.param("vendor-a", ["vendor-a", " vendor-a "], ["vendor-b", "Vendor-a", "https://vendor-a/"], id="name"),
        pytest.param("ann@corp.com", ["ann@corp.com"], ["bob@corp.com", "corp.com", "https://corp.com"], id="person"),
        pytest.param("bücher.de", ["https://xn--bcher-kva.de", "http://BÜCHER.de/a"], ["https://bucher.de"], id="idna"),
    ],
)
def test_an_entry_allows_what_it_names_and_nothing_beside_it(
    entry: str, allowed: list[str], unknown: list[str]
) -> None:
    for source in allowed:
        assert standing(source, entry) is Standing.ALLOWED, source
    for source in unknown:
        assert standing(source, entry) is Standing.UNKNOWN, source


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("https://github.com@evil.org/", "user information"),
        ("https://user:pass@github.com/", "user information"),
        ("https://github.com\\@evil.org/", "backslash"),
        ("https://gіthub.com/", "mixes scripts"),
        ("https://xn--gthub-n2e.com/", "mixes scripts"),
        ("gіthub.com/a", "mixes scripts"),
        ("https://аррӏе.com/", "looks like Latin"),
        ("https://git\u200bhub.com/", "invisible"),
        ("vendor\u202e-a", "invisible"),
        ("https://github.com\n.evil.org/", "control"),
        ("s3://bucket/clean/../other", "dot segments"),
        ("https:///a", "no valid address"),
        ("https://github.com:99999/", "no valid address"),
        ("https://[::1/", "no valid address"),
    ],
)
def test_a_source_in_disguise_is_refused_whatever_is_allowed(source: str, why: str) -> None:
    decision = rules("github.com", "evil.org", "vendor-a", "s3://bucket/clean/").decide(source)
    assert decision.standing is Standing.REFUSED
    assert why in decision.reason


@pytest.mark.parametrize(
    "source", ["https://日本語.jp/", "https://bücher.de/", "https://пример.рф", "https://qiita日本.jp"]
)
def test_an_honest_international_host_is_not_refused(source: str) -> None:
    assert standing(source, "example.org") is Standing.UNKNOWN


class TestOrder:
    def test_unknown_is_the_default(self) -> None:
        assert standing("vendor-a") is Standing.UNKNOWN
        assert standing("vendor-a", deny=("vendor-b",)) is Standing.UNKNOWN

    def test_an_empty_source_is_unknown(self) -> None:
        for source in ("", "  "):
            assert standing(source, "github.com") is Standing.UNKNOWN

    def test_a_deny_entry_beats_every_allow_entry(self) -> None:
        for deny in ("bad.github.com", "https://bad.github.com/", "github.com"):
            denied = rules("github.com", "bad.github.com", deny=(deny,)).decide("https://bad.github.com/a")
            assert denied.standing is Standing.DENIED

    def test_the_first_matching_deny_entry_is_named(self) -> None:
        decision = rules(deny=("a.org", Entry(source="evil.org", reason="incident 7"), "evil.org")).decide("evil.org")
        assert decision.entry == 1
        assert "incident 7" in decision.reason

    def test_a_denied_domain_is_denied_under_any_scheme_and_any_user(self) -> None:
        for source in ("ftp://evil.org/a", "git+ssh://evil.org/a", "evil.org/a"):
            assert standing(source, deny=("evil.org",)) is Standing.DENIED
        assert standing("https://x@evil.org/", "evil.org", deny=("evil.org",)) is not Standing.ALLOWED

    def test_an_unpinned_repository_can_be_denied_as_a_whole(self) -> None:
        assert standing(f"o/n@{SHA}", f"o/n@{SHA}", deny=("hf://datasets/o/n",)) is Standing.DENIED


class TestExpiry:
    @pytest.mark.parametrize(
        ("expires", "expected"),
        [("2026-05-31", Standing.EXPIRED), ("2026-06-01", Standing.ALLOWED), ("2027-01-01", Standing.ALLOWED)],
    )
    def test_an_entry_holds_until_its_last_day(self, expires: str, expected: Standing) -> None:
        assert standing("vendor-a", Entry(source="vendor-a", expires=expires)) is expected

    def test_another_entry_may_still_hold(self) -> None:
        old = Entry(source="vendor-a", expires="2020-01-01")
        decision = rules(old, "vendor-a").decide("vendor-a")
        assert (decision.standing, decision.entry) == (Standing.ALLOWED, 1)


class TestEntries:
    @pytest.mark.parametrize(
        ("entry", "said"),
        [
            ({"source": ""}, "needs a source"),
            ({"source": "o/n@main", "kind": "hub"}, "40 hex digits"),
            ({"source": "hf://datasets/o/n@main"}, "not pinned"),
            ({"source": "github.com/a", "kind": "domain"}, "is no domain"),
            ({"source": "docs.github.com", "kind": "domain"}, "registrable domain is github.com"),
            ({"source": "github.io", "kind": "domain"}, "it is a public suffix"),
            ({"source": "vendor-a", "kind": "bucket"}, "names no bucket"),
            ({"source": "vendor-a", "kind": "uri"}, "neither an address nor an absolute path"),
            ({"source": "https://user@github.com"}, "user information"),
            ({"source": "vendor-a", "expires": "soon"}, "YYYY-MM-DD"),
            ({"source": "vendor-a", "max_rows": 0}, "1 or more"),
        ],
    )
    def test_an_entry_that_cannot_mean_what_it_says_is_refused(self, entry: dict[str, object], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            Entry(**entry)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("source", "form"),
        [
            ("github.com", "domain"),
            ("docs.github.com", "host"),
            ("github.io", "host"),
            ("https://github.com", "uri"),
            ("https://github.com/", "prefix"),
            ("github.com/a", "prefix"),
            ("s3://b/p", "bucket"),
            ("/mnt/a", "uri"),
            ("/mnt/a/", "prefix"),
            (f"o/n@{SHA}", "hub"),
            ("vendor-a", "name"),
            ("vendor.2024", "name"),
            ("ann@corp.com", "name"),
        ],
    )
    def test_the_kind_is_told_by_the_form(self, source: str, form: str) -> None:
        assert Entry(source=source).form == form

    def test_a_name_that_looks_like_a_domain_can_be_a_name(self) -> None:
        entry = Entry(source="github.com", kind="name")
        assert standing("github.com", entry) is Standing.ALLOWED
        assert standing("https://github.com", entry) is Standing.UNKNOWN

    def test_only_an_unpinned_repository_is_not_pinned(self) -> None:
        assert not pinned(Entry(source="hf://datasets/o/n"))
        assert all(pinned(Entry(source=s)) for s in (f"o/n@{SHA}", "github.com", "vendor-a"))


@given(st.text(max_size=40))
def test_no_text_makes_the_parser_fail_or_passes_an_unrelated_list(source: str) -> None:
    seen = parse(source)
    assert seen.text == parse(seen.text).text
    assert rules("github.com", "s3://bucket/a", f"o/n@{SHA}").decide(source).standing is not Standing.EXPIRED


@given(st.sampled_from(["https://", "http://", "", "s3://", "hf://", "/"]), st.text(max_size=30))
def test_what_is_allowed_stands_below_the_allowed_host(scheme: str, rest: str) -> None:
    decision = rules("example.org").decide(scheme + rest)
    if decision.standing is Standing.ALLOWED:
        assert parse(scheme + rest).domain == "example.org"


def test_rules_survive_pickling() -> None:
    made = rules("github.com", deny=("evil.org",))
    assert pickle.loads(pickle.dumps(made)).decide("https://github.com") == made.decide("https://github.com")
