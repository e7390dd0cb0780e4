"""Keys and a trust file, made once; data with a certificate, made anew for each test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

pytest.importorskip("securesystemslib")

from foretaste.cli import main
from foretaste.policy import Policy
from foretaste.provenance import manifest, signers
from foretaste.provenance.certificate import Certificate, certify
from foretaste.provenance.keys import ROLES, Role, TrustRoot, trusted
from foretaste.provenance.verify import Verification, verify
from foretaste.results import CheckResult, DataInfo, Finding, Outcome, Report


@dataclass(frozen=True)
class Keys:
    """Private keys ``alice``, ``bob`` (ECDSA), ``carol`` and ``mallory`` in a folder; all but the last are trusted."""

    folder: Path
    trust: TrustRoot

    def pem(self, name: str) -> Path:
        """Path of a private key."""
        return self.folder / f"{name}.pem"

    def trusting(self, *names: str, threshold: int = 1, max_age_days: int | None = None) -> TrustRoot:
        """A trust root in which these keys have every role."""
        role = Role(keys=names, threshold=threshold, max_age_days=max_age_days)
        return TrustRoot(keys={n: self.trust.keys[n] for n in names}, roles=dict.fromkeys(ROLES, role))


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    made = {}
    for name in ("alice", "bob", "carol", "mallory"):
        public = signers.generate(folder / f"{name}.pem", "ecdsa" if name == "bob" else "ed25519")
        made[name] = trusted(public, name)
    del made["mallory"]
    role = Role(keys=tuple(made))
    return Keys(folder, TrustRoot(keys=made, roles=dict.fromkeys(ROLES, role)))


@dataclass(frozen=True)
class Case:
    """Data of two files with a report that passed, and a certificate by ``alice``."""

    folder: Path
    data: Path
    report: Report
    certificate: Certificate
    keys: Keys

    def verify(self, **changes: Any) -> Verification:
        """Verify the data against the certificate, with anything exchanged."""
        given: dict[str, Any] = {"data": self.data, "certificate": self.certificate, "trust": self.keys.trust}
        given |= changes
        return verify(given.pop("data"), given.pop("certificate"), given.pop("trust"), **given)


def passing(data: Path, *findings: Finding, **changes: Any) -> Report:
    """A report over data as a scan under the default policy would give it, without the time that a scan takes."""
    parts = manifest.build(data, with_rows=False)
    info = DataInfo(
        name=str(data), kind="classification", rows=6, bytes=parts.bytes, digest=parts.digest,
        roles={"text": "text", "label": "label", "source": "source"}, files=len(parts.files),
    )  # fmt: skip
    results = (
        CheckResult.from_findings("hidden-text", []),
        CheckResult.from_findings("label-flip", list(findings)),
        CheckResult(check="response-burst", outcome=Outcome.SKIPPED),
    )
    fields: dict[str, Any] = {
        "data": info, "results": results, "policy_digest": Policy().digest, "started": "2026-11-25T00:00:00+00:00",
        "seconds": 1.5, "power": {"smallest_blocked": 25},
    }  # fmt: skip
    return Report(**(fields | changes))


@pytest.fixture
def case(keys: Keys, tmp_path: Path) -> Case:
    data = tmp_path / "train"
    data.mkdir()
    rows = [{"text": f"a film of grade {i}", "label": "good" if i % 2 else "bad", "source": "web"} for i in range(6)]
    for at, part in enumerate((rows[:4], rows[4:])):
        pq.write_table(pa.Table.from_pylist(part), data / f"part-{at}.parquet")
    report = passing(data)
    signer = signers.open_signer(str(keys.pem("alice")))
    return Case(tmp_path, data, report, certify(data, [signer], report=report), keys)


@dataclass(frozen=True)
class Gate:
    """The command line with some data, for a user whose key is at an address; each command has to end with a code."""

    folder: Path

    def signs_reports(self, address: str) -> None:
        """A report that the key signed without a trust file is taken where the trust file names the key."""
        report, trust = self.folder / "report", self.folder / "trust.yaml"
        given = ["--policy", self.folder / "policy.yaml", self.folder / "data.parquet"]
        self.run("scan", *given, "--out", report, "--sign-with", address)
        signed = [
            *given,
            "--report",
            report / "report.json",
            "--trust",
            trust,
            "--key",
            address,
            "--out",
            self.certificate,
        ]
        self.run("keys", "trust", trust, address, "--name", "gate", "--role", "certificate")
        assert 'no keys for the role "scan"' in self.run("certify", *signed, code=2)
        self.run("keys", "trust", trust, address, "--name", "gate", "--role", "scan")
        self.run("certify", *signed)
        self.verify()

    @property
    def certificate(self) -> Path:
        """What :meth:`certify` writes."""
        return self.folder / "c.jsonl"

    def run(self, *arguments: object, code: int = 0) -> str:
        """Output of a command."""
        result = CliRunner().invoke(main, [str(a) for a in arguments], env={"COLUMNS": "200"})
        assert result.exit_code == code, result.output
        return result.output

    def trust(self, address: str, name: str = "gate", code: int = 0) -> str:
        """Trust a key to certify."""
        return self.run(
            "keys", "trust", self.folder / "trust.yaml", address, "--name", name, "--role", "certificate", code=code
        )

    def certify(self, address: str, name: str = "gate", code: int = 0) -> str:
        """Sign what passed."""
        return self.run(
            "certify", self.folder / "data.parquet", "--policy", self.folder / "policy.yaml", "--key", address,
            "--trust", self.folder / "trust.yaml", "--as", name, "--out", self.certificate, code=code,
        )  # fmt: skip

    def verify(self, code: int = 0, trust: str = "trust.yaml") -> str:
        """Hold the data against the certificate."""
        return self.run(
            "verify", self.folder / "data.parquet", "--certificate", self.certificate, "--trust", self.folder / trust,
            "--policy", self.folder / "policy.yaml", code=code,
        )  # fmt: skip


@pytest.fixture
def gate(tmp_path: Path, clean_table: pa.Table) -> Gate:
    pq.write_table(clean_table.slice(0, 100), tmp_path / "data.parquet")
    (tmp_path / "policy.yaml").write_text(Policy().only("hidden-text").to_yaml())
    return Gate(tmp_path)
