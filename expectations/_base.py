"""The one implementation behind all expectations: fields, result, rendering."""

from __future__ import annotations

import html
import json
import math
import os
import types
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from great_expectations.compatibility import pydantic
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.expectation_configuration import parse_result_format
from great_expectations.expectations.model_field_types import ConditionParser
from great_expectations.expectations.row_conditions import RowConditionType, deserialize_row_condition
from great_expectations.render.components import LegacyDiagnosticRendererType, LegacyRendererType
from great_expectations.render.renderer.renderer import renderer
from great_expectations.validator.metric_configuration import MetricConfiguration

from foretaste import CheckError, Outcome, Policy, PolicyError, Report, Severity, checks
from foretaste.expectations import _docs
from foretaste.expectations._metric import SCAN
from foretaste.results import Finding

MAX_FINDINGS = 20
MAX_IDS = 20
SHOWN_EXAMPLES = 3
_ROLES = (
    "text", "label", "prompt", "context", "response", "chosen", "rejected", "messages", "source", "annotator", "time", "id",
)  # fmt: skip
_FAIL_ON = ("block", "review")
_PLACES = ("waivers", "attestations", "trust", "state")


class PoisonExpectation(BatchExpectation):
    """A scan of the whole batch must find nothing that counts against it.

    The fields that end in ``_column`` name the column that plays a role; what is missing is guessed from common names,
    and the result says what was guessed. ``fail_on`` is ``block`` or ``review``. Every field takes a
    ``{"$PARAMETER": name}``.
    """

    text_column: str | dict[str, Any] | None = None
    label_column: str | dict[str, Any] | None = None
    prompt_column: str | dict[str, Any] | None = None
    context_column: str | dict[str, Any] | None = None
    response_column: str | dict[str, Any] | None = None
    chosen_column: str | dict[str, Any] | None = None
    rejected_column: str | dict[str, Any] | None = None
    messages_column: str | dict[str, Any] | None = None
    source_column: str | dict[str, Any] | None = None
    annotator_column: str | dict[str, Any] | None = None
    time_column: str | dict[str, Any] | None = None
    id_column: str | dict[str, Any] | None = None
    fail_on: str | dict[str, Any] = "block"
    row_condition: RowConditionType = None
    condition_parser: ConditionParser | None = None

    metric_dependencies: ClassVar[tuple[str, ...]] = (SCAN,)
    domain_keys: ClassVar[tuple[str, ...]] = ("batch_id", "row_condition", "condition_parser")
    success_keys: ClassVar[tuple[str, ...]] = (*(f"{role}_column" for role in _ROLES), "fail_on")
    args_keys: ClassVar[tuple[str, ...]] = ()
    library_metadata: ClassVar[dict[str, Any]] = {
        "maturity": "beta",
        "tags": ["data poisoning", "security"],
        "contributors": ["foretaste"],
        "requirements": ["foretaste[gx]"],
    }

    @pydantic.validator("fail_on")
    def _known_fail_on(cls, value: Any) -> Any:
        if is_parameter(value) or value in _FAIL_ON:
            return value
        raise PolicyError(f"fail_on must be one of {', '.join(_FAIL_ON)}, not {value!r}")

    @pydantic.validator(*(f"{role}_column" for role in _ROLES))
    def _names_a_column(cls, value: Any) -> Any:
        if isinstance(value, dict) and not is_parameter(value):
            raise PolicyError(f"a role must be the name of a column, not {value!r}")
        return value

    @classmethod
    @abstractmethod
    def _subject(cls, kwargs: Mapping[str, Any]) -> str:
        """What is scanned for, as escaped HTML."""

    @abstractmethod
    def _plan(self) -> tuple[Any, str]:
        """The policy, as the path of a file or as a mapping, and the id of the only check that runs, or none."""

    def _options(self) -> dict[str, Any]:
        """Further arguments of the scan."""
        return {}

    def get_validation_dependencies(self, execution_engine: Any = None, runtime_configuration: Any = None) -> Any:
        """The one metric, with the policy and the roles as its arguments."""
        dependencies = super().get_validation_dependencies(execution_engine, runtime_configuration)
        policy, check = self._plan()
        values = {
            "policy": json.dumps(policy),
            "check": check,
            "roles": json.dumps(self._roles()),
            "options": json.dumps(self._options()),
        }
        for metric in dependencies.get_metric_configurations():
            dependencies.set_metric_configuration(
                metric.metric_name,
                MetricConfiguration(metric.metric_name, metric.metric_domain_kwargs, values),
            )
        return dependencies

    def _roles(self) -> dict[str, str]:
        """The roles that are given, as ``{role: column}``."""
        named = {role: getattr(self, f"{role}_column") for role in _ROLES}
        return {role: column for role, column in named.items() if column}

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: Any = None, execution_engine: Any = None
    ) -> dict[str, Any]:
        found = metrics[SCAN]
        if "error" in found:
            # Raised here, and not in the metric, where it would be tried again; nothing of it is in the traceback.
            raise CheckError(f"nothing was checked: {_docs.escaped(found['error'], 2_000)}")
        report: Report = found["report"]
        strict = self.fail_on == "review"
        flagged = _flagged(report, None if strict else Severity.BLOCK)
        success = report.verdict is Outcome.PASS if strict else not report.blocked
        wanted = parse_result_format(self._get_result_format(runtime_configuration))
        return {"success": success, "result": _result(report, flagged, wanted)}

    @classmethod
    def _prescriptive_template(cls, renderer_configuration: Any) -> Any:
        renderer_configuration.template_str = _sentence(cls, renderer_configuration.kwargs)
        return renderer_configuration

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)
    def _prescriptive_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: Any = None
    ) -> list[Any]:
        if configuration is None and result is not None:
            configuration = result.expectation_config
        return [_docs.paragraph(_sentence(cls, configuration.kwargs if configuration else {}))]

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.OBSERVED_VALUE)
    def _diagnostic_observed_value_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: Any = None
    ) -> str:
        value = (result.result or {}).get("observed_value", "--") if result else "--"
        return _docs.observed(value, _details(result).get("guessed_roles") or {})

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.UNEXPECTED_STATEMENT)
    def _diagnostic_unexpected_statement_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: Any = None
    ) -> list[Any]:
        """How many rows count against the batch, or why it could not be checked."""
        if result is None:
            return []
        info = result.exception_info or {}
        # Great Expectations gives one record, or one per metric.
        records = [info] if "raised_exception" in info else [i for i in info.values() if isinstance(i, Mapping)]
        raised = [_docs.shown(i.get("exception_message"), 2_000) for i in records if i.get("raised_exception")]
        if raised:
            return [_docs.paragraph(f"\n\n{raised[0]}", classes=["text-danger"], tag="strong")]
        count = (result.result or {}).get("unexpected_count")
        if result.success or not count:
            return []
        total = result.result["element_count"]
        said = f"\n\n{count:,} of {total:,} rows ({result.result['unexpected_percent']:.3g}%) count against this batch."
        return [_docs.paragraph(said, classes=["text-danger"], tag="strong")]

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.UNEXPECTED_TABLE)
    def _diagnostic_unexpected_table_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: Any = None
    ) -> list[Any] | None:
        findings = _details(result).get("findings")
        if not findings:
            return None
        examples = _docs.examples_table(findings)
        return [_docs.findings_table(findings), *([examples] if examples else [])]


def is_parameter(value: Any) -> bool:
    """Whether the value stands for a parameter that a run gives."""
    return isinstance(value, dict) and "$PARAMETER" in value


def _path(value: Any) -> str:
    if isinstance(value, str | os.PathLike) and os.fspath(value):
        return str(os.fspath(value))
    raise PolicyError(f"this must be the path of a file, not {value!r}")


def written_out(policy: Mapping[str, Any]) -> dict[str, Any]:
    """A policy with its defaults: what a suite stores stays as it is when a later release changes a default.

    Raises:
        PolicyError: if it is not valid.
    """
    return Policy.load(policy).as_dict()


class _CheckExpectation(PoisonExpectation):
    """Base of the expectations that run a single check; :func:`of_check` makes them."""

    parameters: dict[str, Any] | None = None
    input: dict[str, Any] | None = None

    success_keys: ClassVar[tuple[str, ...]] = (*PoisonExpectation.success_keys, "parameters", "input")

    @classmethod
    @abstractmethod
    def check_id(cls) -> str:
        """Id of the check."""

    @pydantic.validator("parameters", always=True)
    def _valid_parameters(cls, value: Any) -> Any:
        if is_parameter(value):
            return value
        fields = dict(value or {})
        if fields.pop("enabled", True) is not True:
            raise PolicyError(f"{cls.check_id()} cannot be switched off here; take the expectation out of the suite")
        return written_out({"checks": {cls.check_id(): fields}})["checks"][cls.check_id()]

    @pydantic.validator("input")
    def _valid_input(cls, value: Any) -> Any:
        return value if value is None or is_parameter(value) else written_out({"input": value})["input"]

    def _plan(self) -> tuple[Any, str]:
        return {"checks": {self.check_id(): self.parameters}, "input": self.input}, self.check_id()

    @classmethod
    def _subject(cls, kwargs: Mapping[str, Any]) -> str:
        first = (checks.get(cls.check_id()).__doc__ or "").strip().split("\n")[0]
        return f"the check {_docs.shown(cls.check_id())} ({_docs.shown(first.rstrip('.'))})"


class ExpectDataNotPoisoned(PoisonExpectation):
    """Expect that a whole policy, in one scan, finds nothing that counts against the batch.

    Args:
        policy: path of a policy file, read when the batch is validated, or the policy itself as a mapping; the
            default policy where it is missing. A mapping is stored with all of its defaults.
        text_column: column that plays this role, as are the other fields that end in ``_column``.
        fail_on: ``block`` fails on findings that block; ``review`` fails on those that ask for a person as well.
        row_condition: which rows of the batch are scanned.
        waivers: path of a waiver file: findings that somebody answers for do not count.
        attestations: paths of files in which sources signed for the batch, by the digest that a result gives.
        trust: path of the trust file by which the signatures of both are judged.
        state: path or address of a file with what earlier batches left, so that a slow drip adds up; made where there
            is none. A batch enters it where this scan accepts it, whatever else is in the suite.
    """

    policy: str | dict[str, Any] | None = None
    waivers: str | dict[str, Any] | None = None
    attestations: list[str] | dict[str, Any] | None = None
    trust: str | dict[str, Any] | None = None
    state: str | dict[str, Any] | None = None

    success_keys: ClassVar[tuple[str, ...]] = (*PoisonExpectation.success_keys, "policy", *_PLACES)

    @pydantic.validator("policy", pre=True, always=True)
    def _valid_policy(cls, value: Any) -> Any:
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, str) or is_parameter(value):
            return value
        if value is not None and not isinstance(value, Mapping):
            raise PolicyError(f"policy must be the path of a file or a mapping, not {value!r}")
        return written_out(value or {})

    @pydantic.validator("waivers", "trust", "state", pre=True)
    def _names_a_file(cls, value: Any) -> Any:
        if value is None or is_parameter(value):
            return value
        return _path(value)

    @pydantic.validator("attestations", pre=True)
    def _names_files(cls, value: Any) -> Any:
        if value is None or is_parameter(value):
            return value
        if not isinstance(value, list | tuple):
            raise PolicyError(f"attestations must be a list of paths, not {value!r}")
        return [_path(one) for one in value]

    def _plan(self) -> tuple[Any, str]:
        return self.policy, ""

    def _options(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in _PLACES}
        options = {name: value for name, value in given.items() if value is not None}
        if self.fail_on == "review":  # what fails here must not enter the state
            options["accept"] = "pass"
        return options

    @classmethod
    def _subject(cls, kwargs: Mapping[str, Any]) -> str:
        policy = kwargs.get("policy")
        if isinstance(policy, str):
            return f"a scan with the policy {_docs.shown(policy)}"
        return "a scan with the policy that the suite stores"


def of_check(check_id: str, module: str) -> type[_CheckExpectation]:
    """The expectation of a check; its name follows from the id alone.

    ``hidden-text`` becomes ``ExpectNoHiddenText``. An id that ends in ``-allowlist`` says what is good, not what is
    bad: ``source-allowlist`` becomes ``ExpectWithinSourceAllowlist``.
    """
    camel = "".join(part[:1].upper() + part[1:] for part in check_id.split("-"))
    name = f"Expect{'Within' if check_id.endswith('-allowlist') else 'No'}{camel}"
    doc = f"""Expect that the check ``{check_id}`` finds nothing that counts against the batch.

    Args:
        parameters: parameters of the check, as in a policy file; stored with all of its defaults.
        input: how strict reading is, as in a policy file.
        text_column: column that plays this role, as are the other fields that end in ``_column``.
        fail_on: ``block`` fails on findings that block; ``review`` fails on those that ask for a person as well.
        row_condition: which rows of the batch are scanned.

    The check:

    {checks.get(check_id).__doc__ or ""}"""
    body = {
        "__module__": module,
        "__qualname__": name,
        "__doc__": doc,
        "check_id": classmethod(lambda cls: check_id),
    }
    made: type[_CheckExpectation] = types.new_class(name, (_CheckExpectation,), exec_body=lambda ns: ns.update(body))
    return made


def _flagged(report: Report, severity: Severity | None) -> dict[int, str]:
    """Row number -> row id of rows with a finding that nobody waived (of the severity, where one is given), ascending."""
    chosen = (f for f in report.findings if not f.waived and severity in (None, f.severity))
    return dict(sorted({row: i for f in chosen for row, i in zip(f.rows, f.ids)}.items()))


def _result(report: Report, flagged: Mapping[int, str], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What a validation result holds, as far as its format asks for it."""
    partial = int(wanted.get("partial_unexpected_count", 20))
    hide = bool(wanted.get("exclude_unexpected_values"))
    # Escaped, and reversible, so that an id still names its row.
    ids = [html.escape(i) for i in flagged.values()]
    index = [{"row": row, "id": i} for row, i in zip(flagged, ids)]
    result: dict[str, Any] = {
        "observed_value": _observed(report),
        "element_count": report.data.rows,
        "unexpected_count": len(flagged),
        "unexpected_percent": 100 * len(flagged) / max(1, report.data.rows),
        "partial_unexpected_list": ids[:partial],
        "details": _described(report, hide),
    }
    if wanted["result_format"] in ("SUMMARY", "COMPLETE"):
        result["partial_unexpected_index_list"] = index[:partial]
    if wanted["result_format"] == "COMPLETE":
        result["unexpected_list"] = ids
        result["unexpected_index_list"] = index
    return result


def _observed(report: Report) -> str:
    """The verdict in one line; where it is an error, with the reason."""
    if report.verdict is not Outcome.ERROR:
        return _docs.escaped(report.headline())
    silent = [r for r in report.results if r.outcome is Outcome.ERROR] or report.results
    reasons = "; ".join(f"{r.check}: {r.note}" for r in silent[:MAX_FINDINGS] if r.note)
    return _docs.escaped(f"{report.headline()} [{reasons}]", 2_000)


def _described(report: Report, hide: bool) -> dict[str, Any]:
    """The report in short, every text from the data escaped; ``hide`` leaves those texts out."""
    from foretaste.report.wording import caveats

    roles = {role: _docs.escaped(column) for role, column in report.data.roles.items()}
    return {
        "verdict": report.verdict.value,
        "findings": [_finding(f, hide) for f in report.findings[:MAX_FINDINGS]],
        "findings_total": len(report.findings),
        "checks": {r.check: {"outcome": r.outcome.value, "note": _docs.escaped(r.note)} for r in report.results},
        "notes": [_docs.escaped(f"{c.word}: {c.said}") for c in caveats(report)],
        "packages": dict(report.packages),
        "shape": report.data.shape,
        "roles": roles,
        "guessed_roles": {role: roles[role] for role in report.data.guessed_roles},
        "waivers": [
            _docs.escaped(f"{w.check} {w.finding[:8]}: {w.fate.value}, {w.owner}")
            for w in report.waivers[:MAX_FINDINGS]
        ],
        "state": _docs.escaped(report.history["note"]) if report.history else None,
        "data_digest": report.data.digest,
        "policy_digest": report.policy_digest,
        "seconds": report.seconds,
        "version": report.version,
    }


def _finding(finding: Finding, hide: bool) -> dict[str, Any]:
    def text(value: str | None) -> str | None:
        return None if hide or value is None else _docs.escaped(value)

    return {
        "check": finding.check,
        "kind": _docs.escaped(finding.kind),
        "severity": finding.severity.value,
        "waived": finding.waived,
        "message": _docs.escaped(finding.kind if hide else finding.message),
        "feature": text(finding.feature),
        "target": text(finding.target),
        "rows": len(finding.rows),
        "ids": [html.escape(i) for i in finding.ids[:MAX_IDS]],
        "observed": _finite(finding.observed),
        "limit": _finite(finding.limit),
        "sources": {} if hide else {_docs.escaped(name): n for name, n in finding.sources.items()},
        "fingerprint": finding.fingerprint,
        "examples": [
            {
                "row": e.row,
                "id": html.escape(e.id),
                "counter": e.counter,
                "texts": {} if hide else {role: _docs.escaped(value) for role, value in e.texts.items()},
            }
            for e in finding.examples[:SHOWN_EXAMPLES]
        ],
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity and no NaN."""
    return float(value) if math.isfinite(value) else None


def _details(result: Any) -> Mapping[str, Any]:
    return ((result.result if result is not None else None) or {}).get("details") or {}


def _sentence(cls: type[PoisonExpectation], kwargs: Mapping[str, Any]) -> str:
    """What the expectation demands, as escaped HTML."""
    said = f"Must not be poisoned: {cls._subject(kwargs)} must find nothing to block"
    fail_on = kwargs.get("fail_on", "block")
    if fail_on == "review":
        said += " and nothing to review"
    elif fail_on != "block":
        said += f" (fail_on = {_docs.shown(fail_on)})"
    named = {role: kwargs.get(f"{role}_column") for role in _ROLES}
    given = [f"{role} = {_docs.shown(column, 80)}" for role, column in named.items() if column]
    if given:
        said += f"; columns: {', '.join(given)}"
    if kwargs.get("parameters"):
        said += "; parameters: " + ", ".join(
            f"{_docs.shown(k)} = {_docs.shown(v)}" for k, v in kwargs["parameters"].items()
        )
    files = [f"{name} = {_docs.shown(kwargs[name])}" for name in _PLACES if kwargs.get(name)]
    if files:
        said += f"; {', '.join(files)}"
    if kwargs.get("row_condition"):
        condition = deserialize_row_condition(kwargs["row_condition"])
        said += f"; only rows where {_docs.shown(condition if isinstance(condition, str) else repr(condition))}"
    return said + "."
