"""Waivers: a person answers for one finding, in these very data, until a day. Applied ones stand in the report.

A waiver is bound to the check, the finding's fingerprint and the digest of the data. Its ``status`` and
``justification`` are those of OpenVEX 0.2.0. A file holds many::

    version: 1
    waivers:
    - check: trigger-association
      finding: 9b1c...                # 32 hex digits, from the report
      data: sha256:5d2e...            # digest of the data, from the report
      statement: legal boiler plate that every contract of the vendor carries
      owner: data-team@example.org
      expired_at: 2027-01-31          # last day on which it holds, UTC
      status: not_affected
      justification: vulnerable_code_not_present
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from foretaste.errors import InputError, PolicyError, VerificationError
from foretaste.results import CheckResult, Fate, Finding, Outcome, Report, WaiverRecord

if TYPE_CHECKING:
    from foretaste.provenance.keys import TrustRoot

VERSION = 1
PREDICATE_TYPE = "https://foretaste.dev/waiver/v1"
STATUSES = ("not_affected", "affected", "under_investigation")
JUSTIFICATIONS = (
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
)
# These fates say that somebody relies on a waiver that does not hold: the scan fails, whatever the finding weighs.
_FAILING = (Fate.EXPIRED, Fate.FORGED)


@dataclass(frozen=True, kw_only=True)
class WaiverOptions:
    """What a waiver has to bring before it counts; part of the policy.

    Attributes:
        signed: take only waivers that the trust file's role ``waiver`` has signed.
        max_days: longest time from today to ``expired_at``; any where ``None``.
        failed_signatures: let waivers answer for failed signatures too.
    """

    signed: bool = False
    max_days: int | None = None
    failed_signatures: bool = False

    def __post_init__(self) -> None:
        """Refuse a demand that no waiver could meet.

        Raises:
            ValueError: naming the option.
        """
        if self.max_days is not None and self.max_days < 1:
            raise ValueError(f"max_days must be 1 or more, not {self.max_days}")


@dataclass(frozen=True, kw_only=True)
class Waiver:
    """One waiver.

    Attributes:
        check: id of the check.
        finding: fingerprint of the finding, 32 hex digits.
        data: digest of the data, ``sha256:<hex>``.
        statement: why the finding is waived, for people.
        owner: who answers for it.
        expired_at: last day on which it holds, YYYY-MM-DD in UTC.
        status: ``not_affected``: no poison, or none that matters; ``affected``: poison, and the risk is taken;
            ``under_investigation``: on record, and not applied.
        justification: why not affected, one of OpenVEX's five labels.
        impact_statement: the same in words, where no label fits.
        action_statement: what is done about it, where affected.
    """

    check: str
    finding: str
    data: str
    statement: str
    owner: str
    expired_at: str
    status: Literal["not_affected", "affected", "under_investigation"]
    justification: str = ""
    impact_statement: str = ""
    action_statement: str = ""

    def __post_init__(self) -> None:
        """Refuse a waiver that binds to nothing, or says nothing.

        Raises:
            ValueError: naming what is missing.
        """
        if not re.fullmatch(r"[0-9a-f]{32}", self.finding):
            raise ValueError(f'finding must be the 32 hex digits of a fingerprint, not "{self.finding}"')
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", self.data):
            raise ValueError(f'data must be the digest from the report, sha256:<64 hex digits>, not "{self.data}"')
        for name in ("check", "statement", "owner"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} must not be empty")
        try:
            date.fromisoformat(self.expired_at)
        except ValueError:
            raise ValueError(f'expired_at must be YYYY-MM-DD, not "{self.expired_at}"') from None
        if self.justification and self.justification not in JUSTIFICATIONS:
            raise ValueError(f'justification must be one of {", ".join(JUSTIFICATIONS)}, not "{self.justification}"')
        if self.status == "not_affected" and not (self.justification or self.impact_statement):
            raise ValueError("not_affected needs a justification or an impact_statement")
        if self.status == "affected" and not self.action_statement:
            raise ValueError("affected needs an action_statement: what is done about the poison")
        if self.justification and self.status != "not_affected":
            raise ValueError(f"a justification goes with not_affected, not with {self.status}")

    @classmethod
    def of(cls, report: Report, fingerprint: str, **rest: Any) -> Waiver:
        """A waiver for one finding of a report; ``fingerprint`` may be cut as far as it stays unambiguous.

        Raises:
            InputError: if the report has no such finding, or several.
            PolicyError: if the other fields are not valid.
        """
        found = [f for f in report.findings if f.fingerprint.startswith(fingerprint)] if fingerprint else []
        if len(found) != 1:
            have = ", ".join(f"{f.fingerprint} ({f.check}, {f.kind})" for f in report.findings[:20]) or "none"
            raise InputError(f'{len(found)} findings start with "{fingerprint}"; the report has: {have}')
        from foretaste.typed import build

        bound = {"check": found[0].check, "finding": found[0].fingerprint, "data": report.data.digest}
        waiver: Waiver = build(cls, bound | rest, "waiver")
        return waiver

    def as_dict(self) -> dict[str, str]:
        """Its fields, without those that are empty."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v}

    @property
    def statement_v1(self) -> dict[str, Any]:
        """The in-toto Statement that approvers sign; its subject is the data."""
        algorithm, _, digest = self.data.partition(":")
        return {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "data", "digest": {algorithm: digest}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": self.as_dict(),
        }


@dataclass(frozen=True)
class Waivers:
    """What a waiver file holds.

    Attributes:
        entries: each waiver with the DSSE envelope that its approvers signed, as plain values, or ``None``.
        trust: keys by which signatures are judged; without them no signature counts.
    """

    entries: tuple[tuple[Waiver, Mapping[str, Any] | None], ...] = ()
    trust: TrustRoot | None = None

    @classmethod
    def load(cls, source: Waivers | str | Path | None, trust: str | Path | TrustRoot | None = None) -> Waivers:
        """From a YAML file, and a trust file for the signatures in it.

        Raises:
            PolicyError: if a file cannot be read or a waiver in it is not valid.
            InputError: if there is a trust file, and the signing library is not there.
        """
        if source is None:
            return cls()
        if isinstance(source, Waivers):
            return source
        from foretaste.typed import build, load_yaml, mapping, refuse_unknown

        root = None
        if trust is not None:
            from foretaste.provenance.keys import TrustRoot

            root = TrustRoot.load(trust)
        raw = load_yaml(source, "waiver file", 'write one with "foretaste waive"')
        refuse_unknown(raw, ("version", "waivers"), str(source))
        if raw.get("version", VERSION) != VERSION:
            raise PolicyError(f"{source}: version {raw['version']!r} is not known; this release reads {VERSION}")
        listed = raw.get("waivers") or []
        if not isinstance(listed, list):
            raise PolicyError(f"{source}: waivers must be a list, not {listed!r}")
        entries = []
        for at, one in enumerate(listed):
            where = f"{source}: waivers[{at}]"
            fields = dict(mapping(one, where))
            envelope = fields.pop("signature", None)
            if envelope is not None and not isinstance(envelope, Mapping):
                raise PolicyError(f"{where}.signature must be a DSSE envelope, not {envelope!r}")
            entries.append((build(Waiver, fields, where), envelope))
        return cls(tuple(entries), root)

    def add(self, waiver: Waiver, envelope: Mapping[str, Any] | None = None) -> Waivers:
        """These waivers and one more, which replaces an earlier one for the same finding in the same data."""
        bound = (waiver.check, waiver.finding, waiver.data)
        kept = [(w, e) for w, e in self.entries if (w.check, w.finding, w.data) != bound]
        return Waivers((*kept, (waiver, envelope)), self.trust)

    def to_yaml(self) -> str:
        """The text of a waiver file."""
        import yaml

        listed = [w.as_dict() | ({"signature": dict(e)} if e else {}) for w, e in self.entries]
        return yaml.safe_dump({"version": VERSION, "waivers": listed}, sort_keys=False, allow_unicode=True, width=100)

    def apply(
        self, results: Sequence[CheckResult], digest: str, options: WaiverOptions, today: date | None = None
    ) -> tuple[list[CheckResult], tuple[WaiverRecord, ...]]:
        """The results with waived findings marked, and what became of each waiver.

        An expired waiver, or one whose signature fails, adds a result named ``waivers`` that blocks: somebody relies
        on it, and it does not hold. A waiver for other data is void, and the finding stands.

        Args:
            results: of the checks, without waivers.
            digest: of the data.
            options: of the policy.
            today: day by which expiry is judged; today in UTC where ``None``.

        Raises:
            PolicyError: if the trust file names no keys for the role ``waiver``.
        """
        if not self.entries:
            return list(results), ()
        today = today or datetime.now(UTC).date()
        findings = {(f.check, f.fingerprint): f for r in results for f in r.findings}
        records = []
        for waiver, envelope in self.entries:
            finding = findings.get((waiver.check, waiver.finding))
            fate, reason, approvers = self._judge(waiver, envelope, finding, digest, options, today)
            fields = dataclasses.asdict(waiver)
            records.append(WaiverRecord(fate=fate, reason=reason, approvers=approvers, **fields))
        applied = {(r.check, r.finding) for r in records if r.fate is Fate.APPLIED}
        made = [_waived(r, applied) for r in results]
        if failing := [r for r in records if r.fate in _FAILING]:
            note = "; ".join(f"{r.check} {r.finding[:8]}: {r.fate.value}, {r.reason}" for r in failing)
            made.append(CheckResult(check="waivers", outcome=Outcome.BLOCK, note=note))
        return made, tuple(records)

    def _judge(
        self,
        waiver: Waiver,
        envelope: Mapping[str, Any] | None,
        finding: Finding | None,
        digest: str,
        options: WaiverOptions,
        today: date,
    ) -> tuple[Fate, str, tuple[str, ...]]:
        """Fate, reason and approvers; a bad signature before all else, since it says that somebody tampered."""
        approvers: tuple[str, ...] = ()
        if envelope is not None and self.trust is not None:
            try:
                approvers = _approvers(waiver, envelope, self.trust)
            except VerificationError as e:
                return Fate.FORGED, str(e), ()
        if waiver.data != digest:
            return Fate.VOID, f"it is for data with the digest {waiver.data}, these have {digest}", approvers
        if finding is None:
            return Fate.UNUSED, "the scan has no such finding", approvers
        expires = date.fromisoformat(waiver.expired_at)
        if expires < today:
            return Fate.EXPIRED, f"it held until {waiver.expired_at}; judge the finding again", approvers
        if options.max_days is not None and expires > today + timedelta(days=options.max_days):
            return Fate.REFUSED, f"it would hold for more than the {options.max_days} days of the policy", approvers
        if not finding.waivable and not options.failed_signatures:
            return Fate.REFUSED, "a failed signature is not for a waiver (waivers.failed_signatures)", approvers
        if options.signed and not approvers:
            missing = "no trust file was given" if self.trust is None else "nobody signed it"
            return Fate.UNSIGNED, f"the policy takes signed waivers only, and {missing}", ()
        if waiver.status == "under_investigation":
            return Fate.PENDING, "the finding stands until somebody decides", approvers
        unchecked = envelope is not None and self.trust is None
        return Fate.APPLIED, "its signature was not checked: no trust file was given" if unchecked else "", approvers


def waive(report: Report, waivers: Waivers, options: WaiverOptions) -> Report:
    """A report of an earlier scan with these waivers applied.

    Raises:
        PolicyError: if the trust file names no keys for the role ``waiver``.
    """
    results, records = waivers.apply(report.results, report.data.digest, options)
    return dataclasses.replace(report, results=tuple(results), waivers=(*report.waivers, *records))


def _waived(result: CheckResult, applied: Iterable[tuple[str, str]]) -> CheckResult:
    findings = [dataclasses.replace(f, waived=True) if (f.check, f.fingerprint) in applied else f
                for f in result.findings]  # fmt: skip
    if findings == list(result.findings):
        return result
    outcome = CheckResult.from_findings(result.check, findings).outcome
    return dataclasses.replace(result, findings=tuple(findings), outcome=outcome)


def sign(waiver: Waiver, *keys: str) -> dict[str, Any]:
    """The DSSE envelope over a waiver, signed by each private key (a PEM file or an address of a key service).

    Raises:
        InputError: if a key cannot be opened.
    """
    from foretaste.provenance import canonical, dsse
    from foretaste.provenance.signers import open_signer

    envelope = dsse.Envelope(payload=canonical.encode(waiver.statement_v1))
    for key in keys:
        envelope = dsse.sign(envelope, open_signer(key))
    return envelope.to_dict()


def _approvers(waiver: Waiver, envelope: Mapping[str, Any], trust: TrustRoot) -> tuple[str, ...]:
    """Names of the keys that signed exactly this waiver.

    Raises:
        VerificationError: if too few of the role's keys did, or they signed something else.
    """
    from foretaste.provenance import canonical, dsse

    what = "the signature of the waiver"
    verified = dsse.verify(dsse.parse(json.dumps(dict(envelope)), what), trust, "waiver", what=what)
    if canonical.decode(verified.payload, what) != waiver.statement_v1:
        raise VerificationError(f"{what} is over another waiver: this one was changed after it was signed")
    return tuple(key.name for key in verified.keys)
