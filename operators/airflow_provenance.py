"""Airflow 3: hold data against a certificate right before training, as an operator, or around the training itself.

Nothing here touches data, or imports what reads them, before ``execute``: Airflow parses DAG files again and
again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.bases.decorator import DecoratedOperator, determine_kwargs, task_decorator_factory
from airflow.sdk.definitions.context import context_merge
from airflow.sdk.exceptions import AirflowFailException

from foretaste.errors import ForetasteError, InputError, VerificationError
from foretaste.operators import _gate
from foretaste.operators._gate import FailOn
from foretaste.operators.airflow import XCOM_KEY, _push, _Source, _text, named, refuse_what_came_to_nothing

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator

    from foretaste.provenance.verify import Verification


class VerifyDataOperator(BaseOperator):
    """Hold data against their certificate, and fail before what is downstream can train on anything else.

    The task pushes a summary to XCom under the key ``foretaste`` and returns the path that it verified. Between this
    task and the next one somebody may still change the data; ``@task.verified`` leaves no such time, and with
    ``copy_to`` the path is that of a copy which was verified while it was written.

    All arguments but ``directory`` are templated. A relative path of ``certificate``, ``trust``, ``policy`` or
    ``chain`` counts from the DAG file, where such a file lies there.

    Args:
        data: path, glob, directory, address, ``Asset`` or ``ObjectStoragePath``; or the output of another task.
        certificate: file of the certificate.
        trust: trust file; it decides whose signatures count, so keep it with the DAG and not with the data.
        policy: the policy that holds now, as a file or as its digest ``sha256:<hex>``; the default policy where
            ``None``.
        chain: file of the chain of custody.
        conn_id: Airflow connection that opens ``data``.
        fail_on: ``review`` refuses a certificate with findings for review.
        name: of the data set that is wanted; the certificate of another one is refused.
        min_sequence: lowest sequence number that the certificate may have, so that no older state is put back.
        copy_to: new folder on the worker, or on a volume that the workers share, for a copy of the data to hand on.

    Raises:
        AirflowFailException: if the data or the certificate are refused, with the reason; without a retry.
    """

    template_fields: Sequence[str] = (
        "data", "certificate", "trust", "policy", "chain", "conn_id", "fail_on", "name", "min_sequence",
        "copy_to",
    )  # fmt: skip
    ui_color = "#d7e8f4"

    def __init__(
        self,
        *,
        data: Any,
        certificate: str,
        trust: str,
        policy: str | None = None,
        chain: str | None = None,
        conn_id: str | None = None,
        fail_on: FailOn = "block",
        name: str | None = None,
        min_sequence: int | str | None = None,
        copy_to: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.data = data
        self.certificate = certificate
        self.trust = trust
        self.policy = policy
        self.chain = chain
        self.conn_id = conn_id
        self.fail_on = fail_on
        self.name = name
        self.min_sequence = min_sequence
        self.copy_to = copy_to
        self._named = named(self, "policy", "chain", "name", "min_sequence", "copy_to")

    def execute(self, context: Context) -> Any:
        """Verify; push the summary; fail, or return the path."""
        from foretaste.provenance.verify import fetch, verify

        try:
            source, target = self._source(self.data), _text(self.copy_to)
            options = {**self._options(), "filesystem": source.filesystem}
            if target is None:
                found, path = verify(source.data, **options), source.name
            else:
                copy = fetch(source.data, target, **options)
                found, path = copy.verification, str(copy.path)
        except ForetasteError as e:
            self._fail(context, e)
        _push(context, _summary(found, path))
        self.log.info("%s", _gate.printable(found.headline()))
        return path

    def _source(self, data: Any) -> _Source:
        source = _Source.find(data, _text(self.conn_id))
        if not isinstance(source.data, str):
            raise InputError(f"a certificate is about files, not about a {type(source.data).__name__}; pass their path")
        return source

    def _options(self) -> dict[str, Any]:
        _gate.choice("fail_on", self.fail_on, FailOn)
        refuse_what_came_to_nothing(self, self._named)
        given = {name: _text(getattr(self, name)) for name in ("certificate", "trust", "policy", "chain")}
        for name in ("certificate", "trust"):
            if given[name] is None:
                raise InputError(f"the {name} argument is empty; name the file")
        files = {name: self._beside(path) for name, path in given.items()}
        return files | {"fail_on": self.fail_on, "name": _text(self.name), "min_sequence": self._lowest()}

    def _lowest(self) -> int | None:
        text = None if self.min_sequence is None else _text(str(self.min_sequence))
        try:
            return None if text is None else int(text)
        except ValueError:
            raise InputError(f"min_sequence must be a whole number, not {text!r}") from None

    def _beside(self, path: str | None) -> str | None:
        if path is None or path.startswith("sha256:"):
            return path
        beside = Path(self.dag.fileloc).parent / path
        return str(beside) if beside.is_file() else path

    def _fail(self, context: Context, error: ForetasteError) -> NoReturn:
        said = _gate.printable(str(error), 1000)
        refused = isinstance(error, VerificationError)
        _push(context, {"verified": False, "headline": f"{'REFUSED' if refused else 'ERROR'}: {said}", "reason": said})
        self.log.error("%s", said)
        if _gate.worth_retrying(error):
            raise error
        raise AirflowFailException(said) from error


class _VerifiedDecoratedOperator(DecoratedOperator, VerifyDataOperator):
    """What ``@task.verified`` makes: the function gets a private copy of the data, verified while it was made."""

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(f for f in VerifyDataOperator.template_fields if f != "data"),
    )
    custom_operator_name: str = "@task.verified"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        argument: str | None = None,
        directory: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, data=None, **kwargs
        )  # fmt: skip
        if self.copy_to is not None:
            raise ValueError("@task.verified hands over a copy of its own; leave copy_to out")
        self.argument = argument
        self.directory = directory

    def execute(self, context: Context) -> Any:
        """Verify, then call the function with the path of the verified copy."""
        from foretaste.provenance.verify import verified

        bound = inspect.signature(self.python_callable).bind_partial(*self.op_args, **self.op_kwargs)
        with ExitStack() as stack:
            try:
                argument = self._argument(bound)
                source = self._source(bound.arguments[argument])
                options = {**self._options(), "filesystem": source.filesystem, "directory": self.directory}
                data = stack.enter_context(verified(source.data, **options))
            except ForetasteError as e:
                self._fail(context, e)
            _push(context, _summary(data.verification, source.name))
            self.log.info("%s", _gate.printable(data.verification.headline()))
            bound.arguments[argument] = str(data.path)
            context_merge(context, bound.kwargs)
            kwargs = determine_kwargs(self.python_callable, bound.args, context)
            return self.python_callable(*bound.args, **kwargs)

    def _argument(self, bound: inspect.BoundArguments) -> str:
        names = list(bound.arguments)
        argument = self.argument or (names[0] if names else None)
        if argument not in bound.arguments:
            raise InputError(f"the function got no argument {argument or 'at all'}; pass the data: train(gate.output)")
        return str(argument)


def verified_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """``@task.verified``: the function's first argument is data, and it gets a verified private copy of them.

    ::

        @task.verified(certificate="train.intoto.jsonl", trust="trust.yaml")
        def train(path): ...


        train(gate.output)

    The copy is removed when the function returns. ``argument`` names another argument than the first, ``directory``
    a place with room for the copy. The other arguments but ``copy_to`` are those of
    :class:`VerifyDataOperator`.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=kwargs.pop("multiple_outputs", False),
        decorated_operator_class=_VerifiedDecoratedOperator,
        **kwargs,
    )


def _summary(found: Verification, name: str) -> dict[str, Any]:
    return {
        "verified": True,
        "headline": _gate.printable(found.headline(), 500),
        "path": name,
        "digest": found.digest,
        "rows": found.rows,
        "verdict": found.verdict,
        "certified": found.created.isoformat(),
        "certificate": found.certificate,
        "policy_digest": found.policy_digest,
        "signers": [_gate.printable(s) for s in found.signers],
    }


__all__ = ["XCOM_KEY", "VerifyDataOperator", "verified_task"]
