"""Frames in memory are certified and verified by their rows."""

from __future__ import annotations

from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import foretaste
from foretaste import deliveries
from foretaste.cli import main
from foretaste.errors import InputError, VerificationError
from foretaste.policy import Policy
from foretaste.provenance.certificate import certify
from foretaste.provenance.keys import TrustRoot
from foretaste.provenance.signers import open_signer
from foretaste.provenance.verify import verify

from .conftest import Case

POLICY = Policy().only("hidden-text")


def signer(case: Case) -> Any:
    return open_signer(str(case.keys.pem("alice")))


@pytest.fixture
def table(case: Case) -> pa.Table:
    return pq.read_table(case.data)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_certified_frame_is_verified_in_any_library_order_and_file(case: Case, table: pa.Table, library: str) -> None:
    frame = {"pandas": table.to_pandas(), "polars": pl.from_arrow(table), "pyarrow": table}[library]
    made = certify(frame, [signer(case)], policy=POLICY, name="train")
    assert made.statement().predicate["data"]["subject"] == "rows"
    turned = table.take(list(reversed(range(6))))
    for same in (table, turned.to_pandas(), pl.from_arrow(turned.select(["source", "text", "label"])), case.data):
        assert verify(same, made, case.keys.trust, policy=POLICY).rows == 6
    with foretaste.verified(case.data, made, case.keys.trust, policy=POLICY) as data:
        assert pq.read_table(data).num_rows == 6


def test_a_frame_is_held_against_the_certificate_of_the_file_that_it_was_read_from(case: Case, table: pa.Table) -> None:
    assert verify(table.to_pandas(), case.certificate, case.keys.trust)
    with (
        pytest.raises(InputError, match=r"in this process's memory.*foretaste\.verify.*or write it to a file"),
        foretaste.verified(table, case.certificate, case.keys.trust),
    ):
        pytest.fail("the frame was handed over")


@pytest.mark.parametrize("edit", ["label", "column", "less", "twice"])
def test_another_row_is_refused(case: Case, table: pa.Table, edit: str) -> None:
    frame = table.to_pandas()
    if edit == "label":
        frame.loc[2, "label"] = "other"
    elif edit == "column":
        frame["more"] = 1
    elif edit == "less":
        frame = frame.iloc[1:]
    else:
        frame = pd.concat([frame.iloc[1:], frame.iloc[1:2]], ignore_index=True)
    for certificate in (case.certificate, certify(table, [signer(case)], policy=POLICY)):
        policy = None if certificate is case.certificate else POLICY
        with pytest.raises(VerificationError, match="does not hold the rows"):
            verify(frame, certificate, case.keys.trust, policy=policy)


def test_what_only_describes_rows_is_not_certified(case: Case, table: pa.Table) -> None:
    for described in (pl.from_arrow(table).lazy(), pyarrow.dataset.dataset(str(case.data))):
        with pytest.raises(InputError, match="may give other rows"):
            verify(described, case.certificate, case.keys.trust)


def test_a_frame_that_changed_after_its_scan_is_not_certified(case: Case, table: pa.Table) -> None:
    frame = table.to_pandas()
    report = foretaste.scan(frame, POLICY)
    frame.loc[0, "text"] = "another"
    with pytest.raises(VerificationError, match="has changed since it was scanned"):
        certify(frame, [signer(case)], report=report, policy=POLICY)


def test_a_certificate_without_rows_says_so(case: Case, table: pa.Table) -> None:
    from .conftest import passing

    bare = certify(case.data, [signer(case)], report=passing(case.data), with_rows=False)
    with pytest.raises(VerificationError, match="no tree over the rows"):
        verify(table, bare, case.keys.trust)


def test_the_digest_that_a_scan_of_a_frame_reports_is_attested_from_the_command_line(
    case: Case, table: pa.Table
) -> None:
    report = foretaste.scan(table, POLICY)
    out = case.folder / "batch.attestation.json"
    told = CliRunner().invoke(
        main, ["attest", "batch", "--digest", report.data.digest, "--key", str(case.keys.pem("bob")), "--out", str(out)]
    )
    assert told.exit_code == 0, told.output
    found = deliveries.verify([out], report.data.digest, TrustRoot.load(case.keys.trust))
    assert ([s.name for d in found.verified for s in d.signers], found.failed) == (["bob"], ())
    bad = CliRunner().invoke(main, ["attest", "batch", "--digest", "sha256:1", "--key", "x", "--out", str(out)])
    assert bad.exit_code == 2
