"""Private keys: PEM files made here, and what the signing library opens by address (KMS, Vault, HSM, Sigstore)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl

from foretaste.errors import InputError
from foretaste.provenance.canonical import missing
from foretaste.provenance.keys import TrustedKey

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

KeyType = Literal["ed25519", "ecdsa"]
PASSPHRASE = "FORETASTE_KEY_PASSPHRASE"
Ask = Callable[[], str]


def generate(path: str | Path, keytype: KeyType = "ed25519", passphrase: str | None = None) -> Key:
    """Make a key pair: ``path`` (PKCS 8, readable by its owner alone) and ``path`` with ``.pub`` instead of ``.pem``.

    Returns:
        the public key.

    Raises:
        InputError: if a file of that name exists, or cannot be written.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import (
            BestAvailableEncryption,
            Encoding,
            NoEncryption,
            PrivateFormat,
            PublicFormat,
        )
        from securesystemslib.signer import SSlibKey
    except ImportError as e:
        raise missing(e) from e
    private = Ed25519PrivateKey.generate() if keytype == "ed25519" else generate_private_key(SECP256R1())
    locked = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    target = Path(path)
    if public_path(target) == target:
        raise InputError(f"{target} would hold both keys; give the private key a name that ends with .pem")
    for file, mode, raw in ((target, 0o600, pem), (public_path(target), 0o644, public)):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                stream.write(raw)
        except FileExistsError:
            raise InputError(
                f"{file} exists; choose another name, for a key that is lost cannot be had again"
            ) from None
        except OSError as e:
            raise InputError(f"cannot write {file}: {e.strerror}; choose another place") from e
    return SSlibKey.from_crypto(private.public_key())


def public_path(private: Path) -> Path:
    """Where :func:`generate` puts the public key of a private one."""
    return private.with_suffix(".pub")


def read_public(path: str | Path, ask: Ask | None = None) -> Key:
    """The public key of a PEM file, which may hold a public or a private key.

    Raises:
        InputError: if it holds neither.
    """
    try:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from securesystemslib.signer import SSlibKey
    except ImportError as e:
        raise missing(e) from e
    raw = _read(path)
    if b"PRIVATE KEY" in raw:
        return open_signer(str(path), ask=ask).public_key
    try:
        return SSlibKey.from_crypto(load_pem_public_key(raw))
    except (ValueError, TypeError) as e:
        raise InputError(f"{path} holds no public key that is supported: {e}; name a PEM file") from e


def open_signer(uri: str, key: TrustedKey | None = None, ask: Ask | None = None) -> Signer:
    """Open a private key.

    Args:
        uri: path of a PEM file (Ed25519, ECDSA, RSA), or an address that the signing library knows: ``awskms:``,
            ``gcpkms:``, ``azurekms:``, ``hv:`` (Vault), ``hsm:``, see there for their settings; or ``sigstore:``, see
            :class:`foretaste.provenance.keyless.Address`.
        key: the public key, which is compared. Without it, a service is asked for its key under the address that
            :func:`import_key` takes; verifiers go by their trust file, and refuse what another key signed.
        ask: for the passphrase of a file, where the environment variable ``FORETASTE_KEY_PASSPHRASE`` has none.

    Raises:
        InputError: if the key cannot be opened, or is not that of ``key``.
    """
    try:
        from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Signer

        from foretaste.provenance import keyless
    except ImportError as e:
        raise missing(e) from e
    scheme = uri.partition(":")[0]
    if scheme not in (*SIGNER_FOR_URI_SCHEME, keyless.SCHEME) or scheme == CryptoSigner.SCHEME:
        signer: Signer = _open_file(uri.removeprefix(f"{CryptoSigner.SCHEME}:"), ask)
        if key is not None and signer.public_key.keyid != key.keyid:
            raise InputError(
                f"{uri} holds the key {signer.public_key.keyid[:12]}, not {key.label}; name the other file"
            )
        return signer
    if key is None:
        uri, public = import_key(uri)
    else:
        public = key.verifier()
    secret = os.environ.get(PASSPHRASE)
    known = (
        (lambda _: secret) if secret is not None else (lambda _: ask()) if ask else None
    )  # such as the PIN of an HSM
    try:
        opened: type[Signer] = keyless.KeylessSigner if scheme == keyless.SCHEME else Signer
        return opened.from_priv_key_uri(uri, public, known)
    except Exception as e:  # a key service, and the library that speaks to it, may raise anything
        raise InputError(f"cannot open {uri}: {type(e).__name__}: {e}") from e


def import_key(uri: str) -> tuple[str, Key]:
    """Address and public key of a key that a service holds, as the service tells it now.

    Args:
        uri: ``awskms:KEY``, ``gcpkms:NAME``, ``azurekms:VAULT/KEY``, ``hv:NAME``, ``hsm:NUMBER?label=TOKEN`` (through
            the library that ``PYKCS11LIB`` names), or ``sigstore:IDENTITY#ISSUER``, see
            :func:`foretaste.provenance.keyless.import_key`.

    Raises:
        InputError: if the scheme is unknown or the service does not answer.
    """
    try:
        from securesystemslib.signer import AWSSigner, AzureSigner, GCPSigner, HSMSigner, VaultSigner

        from foretaste.provenance import keyless
    except ImportError as e:
        raise missing(e) from e
    scheme, _, rest = uri.partition(":")
    vault, _, in_vault = rest.partition("/")
    number, _, options = rest.partition("?")
    token = dict(parse_qsl(options)).get("label")
    services: dict[str, Callable[[], tuple[str, Key]]] = {
        "awskms": lambda: AWSSigner.import_(rest),
        "azurekms": lambda: AzureSigner.import_(vault, in_vault),
        "gcpkms": lambda: GCPSigner.import_(rest),
        "hsm": lambda: HSMSigner.import_(int(number) if number else None, token),
        "hv": lambda: VaultSigner.import_(rest),
        "sigstore": lambda: keyless.import_key(uri),
    }
    if scheme not in services:
        raise InputError(f'no key service "{scheme}:"; available: {", ".join(sorted(services))}')
    try:
        return services[scheme]()
    except Exception as e:  # a key service, and the library that speaks to it, may raise anything
        raise InputError(f"cannot ask {uri} for its public key: {type(e).__name__}: {e}") from e


def _open_file(path: str, ask: Ask | None) -> Signer:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    raw = _read(path)
    passphrase = os.environ.get(PASSPHRASE)
    locked = b"ENCRYPTED" in raw
    if locked and passphrase is None:
        if ask is None:
            raise InputError(f"{path} is locked; set {PASSPHRASE}")
        passphrase = ask()
    try:
        return CryptoSigner(load_pem_private_key(raw, passphrase.encode() if locked and passphrase else None))
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise InputError(f"{path} holds no private key that can be opened: {e}; name a PEM file") from e


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise InputError(f"cannot read the key {path}: {e.strerror}; check the path") from e
