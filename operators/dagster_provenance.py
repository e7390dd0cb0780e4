"""Dagster: certificates as a resource for training assets, and as asset checks.

A check says that the data were certified when it ran. The resource's ``verified`` hands training a private copy that
was verified while it was made: use that in the asset that trains. Importing this module loads Dagster and nothing else
that is heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from foretaste.errors import ForetasteError, InputError, VerificationError
from foretaste.operators._gate import FailOn as FailOnChoices
from foretaste.operators._gate import choice, printable, worth_retrying
from foretaste.operators.dagster import AssetLike, Load, _input, _keys_of

if TYPE_CHECKING:
    from foretaste.provenance.verify import Verification, VerifiedData


class CertificateResource(dg.ConfigurableResource[Any]):
    """Whom to trust, and which policy holds; verifies data for assets that train.

    ::

        @dg.asset
        def model(certificates: CertificateResource, corpus: str) -> None:
            with certificates.verified(corpus, "corpus.intoto.jsonl") as data:
                train(data)

    Attributes:
        trust: trust file; it decides whose signatures count, so keep it with the code and not with the data.
        policy: the policy that holds now, as a file or as its digest ``sha256:<hex>``; the default policy where
            ``None``.
        fail_on: ``review`` refuses a certificate with findings for review.
        directory: where copies go; the system's folder for temporary files where ``None``.
    """

    trust: str
    policy: str | None = None
    fail_on: str = "block"
    directory: str | None = None

    def verify(
        self, data: Any, certificate: str | Path, chain: str | Path | None = None, **wanted: Any
    ) -> Verification:
        """Hold data against a certificate; ``wanted`` takes ``name`` and ``min_sequence`` of :func:`foretaste.verify`.

        Raises:
            VerificationError: if they are refused, with the reason.
            InputError: if something cannot be read.
            PolicyError: if the trust file or the policy is not valid.
        """
        from foretaste.provenance.verify import verify

        return verify(data, certificate, self.trust, chain=chain, **wanted, **self._options())

    def verified(
        self, data: str | Path, certificate: str | Path, chain: str | Path | None = None, **wanted: Any
    ) -> AbstractContextManager[VerifiedData]:
        """A private copy of the data, verified while it was made; see :func:`foretaste.verified` and :meth:`verify`.

        Raises:
            VerificationError: on entering, as :meth:`verify`.
        """
        from foretaste.provenance.verify import verified

        return verified(
            data, certificate, self.trust, chain=chain, directory=self.directory, **wanted, **self._options()
        )

    def _options(self) -> dict[str, Any]:
        choice("fail_on", self.fail_on, FailOnChoices)
        return {"policy": self.policy, "fail_on": self.fail_on}


def build_certificate_checks(
    *,
    assets: Sequence[AssetLike],
    certificate: str | Path | Callable[[Any], str | Path],
    name: str = "certified",
    resource_key: str = "certificates",
    chain: str | Path | None = None,
    blocking: bool = True,
    load: Load | None = None,
    asset_in: dg.AssetIn | None = None,
) -> Sequence[dg.AssetChecksDefinition]:
    """Asset checks that hold each asset's files, or the rows of its frame, against a certificate.

    A refusal, and data that cannot be read, fail the check with ERROR, which stops what is downstream in the same run;
    a storage out of reach raises.

    Args:
        assets: assets whose value is the path of files, or a frame in memory, or their keys.
        certificate: file of the certificate, or a function from the execution context to it.
        name: name of the check.
        resource_key: of the :class:`CertificateResource`.
        chain: file of the chain of custody.
        blocking: a failure keeps the rest of the run from starting.
        load: returns the path, from the execution context, for assets that no IO manager loads.
        asset_in: how the IO manager loads the asset; its key is not used.

    Returns:
        one definition per asset.
    """
    return [
        _check(key, certificate, name, resource_key, chain, blocking, load, asset_in)
        for asset in assets
        for key, _ in _keys_of(asset)
    ]


def _check(
    key: dg.AssetKey,
    certificate: str | Path | Callable[[Any], str | Path],
    name: str,
    resource_key: str,
    chain: str | Path | None,
    blocking: bool,
    load: Load | None,
    asset_in: dg.AssetIn | None,
) -> dg.AssetChecksDefinition:
    spec = dg.AssetCheckSpec(
        name,
        asset=key,
        description="Holds the files against their certificate: signatures, policy, age, and every byte.",
        blocking=blocking,
    )

    @dg.multi_asset_check(
        name=f"{key.to_python_identifier()}_{name}",
        specs=[spec],
        ins=None if load else {"data": _input(key, asset_in)},
        required_resource_keys={resource_key},
        compute_kind="foretaste",
    )
    def held_against(context, **inputs):  # type: ignore[no-untyped-def]  # Dagster refuses annotations that are strings
        given = partial(load, context) if load else lambda: inputs["data"]
        file = certificate(context) if callable(certificate) else certificate
        yield from _results(key, name, getattr(context.resources, resource_key), given, file, chain)

    return held_against


def _results(
    key: dg.AssetKey,
    name: str,
    certificates: Any,
    given: Callable[[], Any],
    certificate: str | Path,
    chain: str | Path | None,
) -> Iterator[dg.AssetCheckResult]:
    try:
        if not isinstance(certificates, CertificateResource):
            raise InputError(f"the resource is no CertificateResource, but {type(certificates).__name__}; give one")
        found = certificates.verify(given(), certificate, chain)
    except ForetasteError as e:
        if worth_retrying(e):
            raise
        head = "REFUSED" if isinstance(e, VerificationError) else "NOT CHECKED, so not passed"
        yield dg.AssetCheckResult(
            asset_key=key, check_name=name, passed=False, severity=dg.AssetCheckSeverity.ERROR,
            description=f"{head}: {printable(str(e), 1000)}",
        )  # fmt: skip
        return
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=True,
        description=printable(found.headline(), 500),
        metadata={
            "digest": dg.MetadataValue.text(found.digest),
            "certificate": dg.MetadataValue.text(found.certificate),
            "verdict": dg.MetadataValue.text(printable(found.verdict)),
            "certified": dg.MetadataValue.timestamp(found.created),
            "signers": dg.MetadataValue.text(printable(", ".join(found.signers))),
            "rows": dg.MetadataValue.int(found.rows),
            "policy_digest": dg.MetadataValue.text(found.policy_digest),
        },
    )


__all__ = ["CertificateResource", "build_certificate_checks"]
