"""Keys that are identities: Sigstore certifies one for minutes and logs what it signed (https://docs.sigstore.dev).

The trusted root of the Sigstore instance (its certificate authorities and logs) is asked for once, when the identity is
trusted, and stands in the trust file. So verifying needs no network, and an instance of one's own is as good as the
public one. Signing speaks to the instance, and writes identity and digest into its log for all who may read that.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, SecretsHandler, Signature, Signer, SigstoreKey, SigstoreSigner

if TYPE_CHECKING:
    from sigstore.models import ClientTrustConfig, TrustedRoot
    from sigstore.oidc import IdentityToken

SCHEME = SigstoreSigner.SCHEME
TOKEN = "SIGSTORE_IDENTITY_TOKEN"
_ROOT = "trusted_root"
_CONFIG_TYPE = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
_SIGNING_TYPE = "application/vnd.dev.sigstore.signingconfig.v0.2+json"


@dataclass(frozen=True, kw_only=True)
class Address:
    """``sigstore:IDENTITY#ISSUER?config=FILE&ambient=false``, of which an address to sign with needs the scheme only.

    Attributes:
        identity: that the certificates name, such as an e-mail address or the URL of a workflow.
        issuer: of the identity's tokens, a URL.
        config: file with the client trust configuration of a Sigstore instance; the public instance where empty.
        ambient: take the token that the machine offers (GitHub Actions, GitLab, Google Cloud), not one from a browser.
    """

    identity: str = ""
    issuer: str = ""
    config: str = ""
    ambient: bool = True

    @classmethod
    def parse(cls, uri: str) -> Address:
        """The parts of an address.

        Raises:
            ValueError: if an option is unknown.
        """
        head, _, tail = uri.removeprefix(f"{SCHEME}:").partition("?")  # an issuer's URL has no query
        identity, _, issuer = head.partition("#")
        options = dict(o.partition("=")[::2] for o in tail.split("&") if o)  # as they are: "+" and "%" stand in paths
        if unknown := set(options) - {"config", "ambient"}:
            raise ValueError(f'unknown option "{min(unknown)}"; available: ambient, config')
        return cls(
            identity=identity,
            issuer=issuer,
            config=options.get("config", ""),
            ambient=options.get("ambient", "true") != "false",
        )


class IdentityKey(SigstoreKey):
    """An identity and who vouches for it, with the trusted root of a Sigstore instance beside."""

    def verify_signature(self, signature: Signature, data: bytes) -> None:
        """Hold a signature's bundle against identity and trusted root, without any network.

        The certificate has to come from a trusted authority and be in its log, name the identity, and have been valid at
        the time at which the log took the signature in; the proof that the log holds it has to fit a signed checkpoint.

        Raises:
            UnverifiedSignatureError: with the reason.
        """
        try:
            from sigstore.models import Bundle
            from sigstore.verify import Verifier
            from sigstore.verify.policy import Identity
        except ImportError as e:
            raise UnverifiedSignatureError(f'{e}; install "foretaste[sigstore]"') from e
        try:
            root = self.unrecognized_fields.get(_ROOT)
            if not root:
                raise ValueError('it has no trusted root; add one with "foretaste keys trust"')
            bundle = Bundle.from_json(json.dumps(signature.unrecognized_fields.get("bundle")))
            if bundle.signature.hex() != signature.signature:
                raise ValueError("its bundle is that of another signature")
            wanted = Identity(identity=self.keyval["identity"], issuer=self.keyval["issuer"])
            Verifier(trusted_root=_trusted_root(json.loads(root))).verify_artifact(data, bundle, wanted)
        except Exception as e:  # certificates and proofs of others, in several parsers
            raise UnverifiedSignatureError(f"Sigstore: {e}") from e


class KeylessSigner(Signer):
    """Signs as an identity: each time with a new key, which the instance certifies for whoever holds a token."""

    def __init__(self, key: Key, config: ClientTrustConfig, ambient: bool) -> None:
        self._key, self._config, self._ambient = key, config, ambient
        self._token = self._ask()  # before anything is scanned in vain

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> KeylessSigner:
        """Open the identity at an address.

        Raises:
            ValueError: if the address, the token or the key is that of another identity, or there is no token.
        """
        address = Address.parse(priv_key_uri)
        ours = (public_key.keyval.get("identity"), public_key.keyval.get("issuer"))
        if address.identity and (address.identity, address.issuer) != ours:
            raise ValueError(f"the key is {ours[0]} of {ours[1]}")
        return cls(public_key, _config(address), address.ambient)

    @property
    def public_key(self) -> Key:
        """The identity."""
        return self._key

    def sign(self, payload: bytes) -> Signature:
        """A signature with its bundle: certificate, signature and the log's proof.

        Raises:
            Exception: whatever the instance and the library that speaks to it raise.
        """
        from sigstore.sign import SigningContext

        if not self._token.in_validity_period():  # a scan takes longer than tokens live
            self._token = self._ask()
        with SigningContext.from_trust_config(self._config).signer(self._token) as signer:
            bundle = signer.sign_artifact(payload)
        return Signature(self._key.keyid, bundle.signature.hex(), {"bundle": json.loads(bundle.to_json())})

    def _ask(self) -> IdentityToken:
        from sigstore.oidc import IdentityToken, Issuer, detect_credential

        raw = os.environ.get(TOKEN)
        if raw is None and not self._ambient:
            token = Issuer(self._config.signing_config.get_oidc_url()).identity_token()
        elif raw is None and (raw := detect_credential()) is None:
            raise ValueError(
                f"no identity token here; set {TOKEN}, sign where the machine offers one (GitHub Actions, GitLab, Google "
                "Cloud), or in a browser with ?ambient=false"
            )
        else:
            token = IdentityToken(raw)
        if token.federated_issuer != (issuer := self._key.keyval["issuer"]):
            raise ValueError(f"the token is from {token.federated_issuer}, and the key's issuer is {issuer}")
        return token


def import_key(uri: str) -> tuple[str, Key]:
    """Address to sign with, and key, of an identity, with the trusted root that its instance has now.

    Args:
        uri: ``sigstore:IDENTITY#ISSUER``, of the public instance, which is asked for its trusted root; or with
            ``?config=FILE``: a client trust configuration or a trusted root in JSON, as an instance of one's own has.

    Raises:
        ValueError: if identity or issuer are not named, or the file is none of the two.
    """
    address = Address.parse(uri)
    if not address.identity or not address.issuer:
        raise ValueError("name both, as in sigstore:IDENTITY#ISSUER")
    known, key = SigstoreSigner.import_(address.identity, address.issuer, address.ambient)
    tree = _read(address.config) if address.config else None
    root = _config(address).trusted_root if tree is None or "signingConfig" in tree else _trusted_root(tree)
    if address.config:
        known += f"{'&' if '?' in known else '?'}config={address.config}"
    # The library has no public way to write down what it reads in public.
    text = json.dumps(json.loads(root._inner.to_json()), indent=1)
    return known, IdentityKey(key.keyid, key.keytype, key.scheme, dict(key.keyval), {_ROOT: text})


def _config(address: Address) -> ClientTrustConfig:
    from sigstore.errors import TUFError
    from sigstore.models import ClientTrustConfig

    if not address.config:
        try:
            return ClientTrustConfig.production()
        except TUFError as e:
            raise ValueError(
                f"the public instance does not answer ({e}); name a file with its keys: ?config=FILE"
            ) from e
    tree = _read(address.config)
    if "signingConfig" not in tree:
        raise ValueError(f"{address.config} does not say where to sign; name a client trust configuration")
    return ClientTrustConfig.from_json(json.dumps(tree))


def _trusted_root(tree: dict[str, Any]) -> TrustedRoot:
    from sigstore.models import ClientTrustConfig

    whole = {"mediaType": _CONFIG_TYPE, "trustedRoot": tree, "signingConfig": {"mediaType": _SIGNING_TYPE}}
    return ClientTrustConfig.from_json(json.dumps(whole)).trusted_root


def _read(path: str) -> dict[str, Any]:
    tree = json.loads(Path(path).read_bytes())
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds no object")
    return tree
