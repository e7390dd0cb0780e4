"""One gate, as every orchestrator runs it: scan, report, decide, set poison apart. Imports no host."""

from __future__ import annotations

import math
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from foretaste.errors import ForetasteError, InputError, PolicyError, did_you_mean
from foretaste.results import Finding, Outcome, Report, Severity

if TYPE_CHECKING:
    import pyarrow.fs
    from securesystemslib.signer import Signer

    from foretaste.engine import Progress
    from foretaste.history import Store
    from foretaste.policy import Policy
    from foretaste.quarantine import Quarantine
    from foretaste.roles import Roles

OnBlock = Literal["fail", "quarantine", "warn"]
FailOn = Literal["block", "review"]
Action = Literal["pass", "fail", "quarantine", "warn"]

# What a host keeps in its database; the report has everything.
MAX_FINDINGS = 20
MAX_IDS = 10
MAX_CHARS = 200
CERTIFICATE = "certificate.intoto.jsonl"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the gate does with a report, and why."""

    action: Action
    reason: str

    @property
    def proceed(self) -> bool:
        """Whether what is downstream may run."""
        return self.action != "fail"


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What came of a gate.

    Attributes:
        report: report of the scan.
        decision: what the gate does.
        path: what training may read: the data's path, or the clean file after a quarantine; ``None`` after a
            failure.
        digest: ``sha256:<hex>`` of the files at ``path``, ``None`` without a path.
        scanned: path of what was scanned: the data's, or where a frame was written.
        files: written files of the report, by name.
        quarantine: where the rows lie, after a quarantine.
        recheck: report of the second scan, over the clean file, after a quarantine.
    """

    report: Report
    decision: Decision
    path: str | None
    digest: str | None
    scanned: str
    files: Mapping[str, Path]
    quarantine: Quarantine | None = None
    recheck: Report | None = None

    def summary(self, locate: Callable[[str], str] = str) -> dict[str, Any]:
        """Plain values of bounded size for a host's metadata; odd characters of the data are escaped.

        Args:
            locate: address of a path, where the host moved what was written there.
        """
        from foretaste.report.wording import caveats

        report, apart = self.report, self.quarantine
        return {
            "verdict": report.verdict.value,
            "headline": report.headline(),
            "action": self.decision.action,
            "proceed": self.decision.proceed,
            "reason": self.decision.reason,
            "path": None if self.path is None else locate(self.path),
            "digest": self.digest,
            "rows": report.data.rows,
            "block_rows": len(report.flagged_rows(Severity.BLOCK)),
            "review_rows": len(report.flagged_rows(Severity.REVIEW)),
            "data": {
                "name": report.data.name,
                "kind": report.data.kind,
                "shape": report.data.shape,
                "digest": report.data.digest,
                "path": locate(self.scanned),
                "roles": dict(report.data.roles),
            },
            "policy_digest": report.policy_digest,
            "checks": {r.check: r.outcome.value for r in report.results},
            "notes": [printable(f"{c.word}: {c.said}", 500) for c in caveats(report)],
            "packages": dict(report.packages),
            "errors": {r.check: printable(r.note) for r in report.results if r.outcome is Outcome.ERROR},
            "findings": [_finding(f) for f in report.findings[:MAX_FINDINGS]],
            "findings_total": len(report.findings),
            "waivers": [f"{w.check} {w.finding[:8]}: {w.fate.value}, {printable(w.owner, 80)}" for w in report.waivers][
                :MAX_FINDINGS
            ],
            "files": {name: locate(str(path)) for name, path in self.files.items()},
            "quarantine": None
            if apart is None
            else {
                "clean": locate(str(apart.clean)),
                "quarantined": locate(str(apart.quarantined)),
                "manifest": locate(str(apart.manifest)),
                "clean_rows": apart.clean_rows,
                "quarantined_rows": apart.quarantined_rows,
            },
            "recheck": None if self.recheck is None else self.recheck.headline(),
            "state": None if not report.history else printable((self.recheck or report).history["note"]),
            "seconds": report.seconds,
            "version": report.version,
        }


def run_gate(
    data: Any,
    policy: Policy | str | Path | Mapping[str, Any] | None = None,
    *,
    out: str | Path,
    roles: Roles | Mapping[str, str | None] | None = None,
    filesystem: pyarrow.fs.FileSystem | None = None,
    on_block: OnBlock = "fail",
    fail_on: FailOn = "block",
    recheck: bool = True,
    waivers: str | Path | None = None,
    attestations: Sequence[str | Path] = (),
    trust: str | Path | None = None,
    state: str | Path | Store | None = None,
    spark: Any = None,
    certify_with: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> GateResult:
    """Scan data, write the report into ``out`` and carry out what the gate decides, short of failing.

    A frame is first written to ``out/data.parquet`` and scanned from there, so that training reads what was
    scanned.

    Args:
        data: a path, or a frame (see :mod:`foretaste.reading`).
        policy: see :func:`foretaste.scan`.
        out: local directory; the report of an earlier scan in it is gone as soon as this one starts.
        roles: column roles.
        filesystem: where a path lies, if it is neither local nor an address that Arrow knows.
        on_block: what to do about poisoned data; see :func:`decide`.
        fail_on: the least verdict that the gate acts on.
        recheck: after a quarantine, scan the clean file with the same policy, and refuse it unless it passes.
        waivers: see :func:`foretaste.scan`; they hold for the first scan, as their digest is that of the data.
        attestations: as ``waivers``: what a quarantine leaves is attested by nobody.
        trust: trust file by which the signatures of both are judged.
        state: what earlier batches left (see :func:`foretaste.scan`). It takes in what the gate does not act on; after a
            quarantine the clean rest, where that is scanned again and passes.
        spark: scan files on Spark (see :func:`foretaste.scan`).
        certify_with: private key (a PEM file); what passed, or what a quarantine left and the second scan passed, gets
            a certificate in ``out/certificate.intoto.jsonl``. It signs the manifest of a quarantine too.
        progress: called after every batch.

    Raises:
        InputError: if the data cannot be read as they stand, or the directory cannot be written.
        PolicyError: if the policy is not valid.
    """
    from foretaste.engine import scan
    from foretaste.policy import Policy
    from foretaste.quarantine import split
    from foretaste.report import write

    choice("on_block", on_block, OnBlock)
    choice("fail_on", fail_on, FailOn)
    folder = Path(out)
    signer = _signer(certify_with)
    try:
        # Otherwise the pass of an earlier scan would stand there if this one cannot finish.
        for name in ("report.json", CERTIFICATE):
            (folder / name).unlink(missing_ok=True)
    except OSError as e:
        raise InputError(f"cannot write the report to {folder}: {e}; choose another directory") from e
    chosen = Policy.load(policy)
    if not isinstance(data, (str, Path)):
        data, filesystem = _store(data, folder, roles), None
    # What the gate acts on must not enter the state.
    kept: dict[str, Any] = {"state": state, "accept": "pass" if fail_on == "review" else None}
    report = scan(
        data, chosen, roles=roles, filesystem=filesystem, waivers=waivers, attestations=attestations, trust=trust,
        progress=progress, spark=spark, **kept,
    )  # fmt: skip
    scanned = str(data)
    files = write(report, folder)
    decision = decide(report, on_block=on_block, fail_on=fail_on)
    if decision.action == "fail":
        return GateResult(report=report, decision=decision, path=None, digest=None, scanned=scanned, files=files)
    if decision.action != "quarantine":
        result = GateResult(
            report=report, decision=decision, path=str(data), digest=report.data.digest, scanned=scanned, files=files
        )
        return _certified(result, report, chosen, folder, signer, filesystem)
    severities = ("block", "review") if fail_on == "review" else ("block",)
    try:
        apart = split(
            data, report, folder / "quarantine", severities=severities, roles=roles, filesystem=filesystem,
            signers=[signer] if signer else (),
        )  # fmt: skip
    except InputError as e:
        if worth_retrying(e):
            raise
        refused = Decision(action="fail", reason=f"{decision.reason}; not set apart: {e}")
        return GateResult(report=report, decision=refused, path=None, digest=None, scanned=scanned, files=files)
    again = None
    if apart.clean_rows == 0:
        decision = Decision(action="fail", reason=f"{decision.reason}; no row is left")
    elif recheck:
        again = scan(apart.clean, chosen, roles=report.data.roles, progress=progress, **kept)
        write(again, folder / "recheck")
        if decide(again, fail_on=fail_on).action != "pass":
            decision = Decision(
                action="fail",
                reason=f"{decision.reason}; what was left is not clean either: {again.headline()}",
            )
        elif again.data.digest != apart.digest:
            decision = Decision(action="fail", reason=f"{decision.reason}; {apart.clean} changed before it was scanned")
    result = GateResult(
        report=report,
        decision=decision,
        path=str(apart.clean) if decision.proceed else None,
        digest=apart.digest if decision.proceed else None,
        scanned=scanned,
        files=files,
        quarantine=apart,
        recheck=again,
    )
    return _certified(result, again, chosen, folder, signer, None)


def _signer(key: str | None) -> Signer | None:
    """Opened before the scan: a key that cannot be opened must not cost hours first."""
    if key is None:
        return None
    from foretaste.provenance.signers import open_signer

    return open_signer(key)


def _certified(
    result: GateResult,
    report: Report | None,
    policy: Policy,
    folder: Path,
    signer: Signer | None,
    filesystem: pyarrow.fs.FileSystem | None,
) -> GateResult:
    """The result, with a certificate where the report of what is handed on passed."""
    if signer is None or result.path is None or report is None or report.blocked:
        return result
    from foretaste.provenance.certificate import certify

    certificate = certify(result.path, [signer], report=report, policy=policy, filesystem=filesystem)
    files = {**result.files, CERTIFICATE: certificate.write(folder / CERTIFICATE)}
    return replace(result, files=files)


def decide(report: Report, *, on_block: OnBlock = "fail", fail_on: FailOn = "block") -> Decision:
    """What a gate does with a report.

    ``on_block`` holds for a block verdict, and with ``fail_on="review"`` for a review verdict too. An error
    verdict always fails: what could not be checked can be neither set apart nor warned about.
    """
    verdict = report.verdict
    if verdict is Outcome.ERROR:
        return Decision(action="fail", reason=report.headline())
    if verdict is Outcome.BLOCK or (verdict is Outcome.REVIEW and fail_on == "review"):
        return Decision(action=on_block, reason=report.headline())
    return Decision(action="pass", reason=report.headline())


def digest_of(path: str | Path, filesystem: pyarrow.fs.FileSystem | None = None) -> str:
    """``sha256:<hex>`` of the files at a path, as a report gives it.

    Raises:
        InputError: if they cannot be read.
    """
    from foretaste.reading.formats import list_files

    try:
        return list_files(path, filesystem).digest()
    except OSError as e:
        raise InputError(f"cannot read {path}: {e}") from e


def choice(name: str, value: object, kind: Any) -> None:
    """Refuse a value that a ``Literal`` does not list.

    Raises:
        InputError: naming the parameter and what it accepts.
    """
    if value not in get_args(kind):
        raise InputError(f"{name} must not be {value!r}; {did_you_mean(str(value), get_args(kind))}")


# What an OSError without a number says of a file whose bytes are wrong, and of a storage out of reach.
_BROKEN = ("thrift", "deserializ", "decompress", "corrupt", "magic", "footer", "end of stream", "truncated",
           "snappy", "zlib", "gzip", "zstd", "lz4", "bzip2")  # fmt: skip
_WRONG_PATH = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_OUT_OF_REACH = ("aws error", "curl", "connection", "network", "timed out", "timeout", "resolve host")


def worth_retrying(error: BaseException) -> bool:
    """Whether another try may succeed: a storage or network error, not what the data or the policy say."""
    if not isinstance(error, ForetasteError):
        return True
    if (told := getattr(error, "retry", None)) is not None:
        return bool(told)
    cause = error.__cause__
    if not isinstance(cause, OSError) or isinstance(cause, _WRONG_PATH):
        return False
    said = str(cause).lower()
    if cause.errno is not None or any(words in said for words in _OUT_OF_REACH):
        return True
    return not any(words in said for words in _BROKEN)


def untemplated(policy: Mapping[str, Any]) -> dict[str, Any]:
    """A policy mapping whose values came out of a template as strings, with the types that its fields want.

    Leaves alone what it does not know: :meth:`foretaste.Policy.load` names that.
    """
    from foretaste import checks
    from foretaste.reading import InputOptions

    def typed(values: Any, hints: Mapping[str, Any]) -> Any:
        if not isinstance(values, Mapping):
            return parsed(values)
        return {k: v if _takes_text(hints.get(k, str)) else parsed(v) for k, v in values.items()}

    sections = dict(policy)
    for key in ("version", "seed"):
        if key in sections:
            sections[key] = parsed(sections[key])
    if "input" in sections:
        sections["input"] = typed(sections["input"], get_type_hints(InputOptions))
    listed = parsed(sections.get("checks"))
    if isinstance(listed, Mapping):
        known = checks.registry()
        sections["checks"] = {
            i: typed(v, get_type_hints(known[i]) | {"enabled": bool} if i in known else {}) for i, v in listed.items()
        }
    return sections


def parsed(value: Any) -> Any:
    """What a rendered template says: the YAML value, or the string where it is none; ``None`` for nothing."""
    from foretaste.typed import parse_yaml

    if not isinstance(value, str):
        return value
    if value.strip() in ("", "None"):
        return None
    try:
        return parse_yaml(value, "the template")
    except PolicyError:
        return value


def _takes_text(hint: Any) -> bool:
    if get_origin(hint) is tuple:
        return False
    return hint is str or any(isinstance(o, str) or _takes_text(o) for o in get_args(hint))


class ProgressLog:
    """A progress callback that writes one line every few seconds.

    Args:
        log: takes a line.
        every: seconds between two lines.
        clock: seconds; for tests.
    """

    def __init__(
        self, log: Callable[[str], object], *, every: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._every = every
        self._clock = clock
        self._round = 0
        self._began = self._last = clock()

    def __call__(self, progress: Progress) -> None:
        """Note how far the scan is."""
        now = self._clock()
        if progress.round != self._round:
            self._round, self._began = progress.round, now if self._round else self._began
        if now - self._last < self._every:
            return
        self._last = now
        line = f"round {progress.round} ({progress.stage}): {progress.rows:,} rows"
        rate = progress.rows / max(now - self._began, 1e-9)
        if progress.total:
            line += f" of {progress.total:,}, {progress.rows / progress.total:.0%}"
        if now > self._began:
            line += f", {rate:,.0f} rows/s"
            if progress.total:
                line += f", {max(0, progress.total - progress.rows) / rate:.0f} s left in this round"
        self._log(line)


def evidence(report: Report, limit: int = 5) -> Iterator[str]:
    """The headline, then a line for each of the first findings and for each failed check; safe to log."""
    from foretaste.report.wording import owner

    yield report.headline()
    for finding in report.findings[:limit]:
        line = f"{finding.severity.value.upper()} {finding.check}: {printable(finding.message)}"
        if finding.ids:
            shown = ", ".join(printable(i, 40) for i in finding.ids[:5])
            line += f" [ids {shown}{', …' if len(finding.ids) > 5 else ''}]"
        yield line
        if said := owner(finding):
            yield f"  {printable(said)}"
    if report.history:
        told = report.history
        yield f"state: {told['batches']} earlier batches, {told['rows']:,} rows; {printable(told['note'])}"
    if len(report.findings) > limit:
        yield f"and {len(report.findings) - limit} more findings; see the report"
    for result in report.results:
        if result.outcome is Outcome.ERROR:
            yield f"ERROR {result.check}: {printable(result.note)}"


def told(result: GateResult) -> Iterator[str]:
    """What a log should say of a gate; safe to log."""
    yield from evidence(result.report)
    if result.quarantine:
        apart = result.quarantine
        yield f"set {apart.quarantined_rows:,} rows apart, {apart.clean_rows:,} are left"
    if result.recheck:
        yield f"second scan, of what is left: {result.recheck.headline()}"


def printable(text: str, limit: int = MAX_CHARS) -> str:
    """Text on one line, at most ``limit`` characters: control, invisible and bidi characters are escaped."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(
        c if unicodedata.category(c)[0] not in "CZ" or c == " " else c.encode("unicode_escape").decode() for c in cut
    )


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "waived": finding.waived,
        "kind": finding.kind,
        "severity": finding.severity.value,
        "message": printable(finding.message),
        "feature": None if finding.feature is None else printable(finding.feature),
        "target": None if finding.target is None else printable(finding.target),
        "rows": len(finding.rows),
        "ids": [printable(i, 80) for i in finding.ids[:MAX_IDS]],
        "observed": _number(finding.observed),
        "limit": _number(finding.limit),
        "sources": {printable(k, 80): int(v) for k, v in finding.sources.items()},
        "fingerprint": finding.fingerprint,
    }


def _number(value: float) -> float | None:
    """JSON has no infinity and no NaN."""
    return float(value) if math.isfinite(value) else None


def _store(data: Any, folder: Path, roles: Roles | Mapping[str, str | None] | None) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from foretaste.reading import open_data
    from foretaste.roles import Roles

    dataset = open_data(data, roles if isinstance(roles, Roles) else Roles.from_mapping(roles or {}))
    path, draft = folder / "data.parquet", folder / ".data.parquet"
    writer = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for batch in dataset.original():
                writer = writer or pq.ParquetWriter(draft, batch.schema)
                writer.write_batch(batch)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise InputError(f"{dataset.name} has no rows; nothing was checked, and nothing is not a pass")
        draft.replace(path)
    except pa.ArrowException as e:
        raise InputError(f"cannot write the {dataset.name} as Parquet: {e}; return a path instead") from e
    except OSError as e:
        raise InputError(f"cannot write {path}: {e}; choose another directory") from e
    return path
