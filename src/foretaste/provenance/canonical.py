"""JSON read strictly, written canonically (RFC 8785), and digested."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from foretaste.errors import InputError, VerificationError

MAX_BYTES = 64 << 20
MAX_DEPTH = 100


def digest(raw: bytes) -> str:
    """``sha256:<hex>`` of bytes."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def encode(value: Any) -> bytes:
    """A JSON value in its one canonical form (RFC 8785), in UTF-8.

    Raises:
        InputError: if the value has no such form: a whole number of more than 53 bits, a NaN, a lone surrogate.
    """
    try:
        import rfc8785
    except ImportError as e:
        raise missing(e) from e
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as e:
        raise InputError(f"no canonical JSON: {e}; leave that value out, or write it as a string") from e


def decode(raw: bytes | str, what: str, most: int = MAX_BYTES) -> Any:
    """The JSON value of a document that somebody else may have made.

    Two readers of one signed document must see the same: a key that stands twice, NaN, a number that is none in floating
    point (1e999), bytes that are not UTF-8, documents of more than ``most`` bytes and of more than 100 levels are refused.

    Raises:
        VerificationError: naming ``what`` was read, and why it is refused.
    """
    try:
        text = raw.encode() if isinstance(raw, str) else raw
        if len(text) > most:
            raise ValueError(f"{len(text):,} bytes, more than {most:,}")
        tree = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
        _refuse_deep(tree)
        return tree
    except (ValueError, RecursionError) as e:
        said = "it is nested too deeply" if isinstance(e, RecursionError) else str(e)
        raise VerificationError(f"{what} is not valid JSON: {said}; get the file again from where it was made") from e


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [k for k, _ in pairs]
        raise ValueError(f"key {next(n for n in names if names.count(n) > 1)!r} stands twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is no number in floating point")
    return number


def _refuse_deep(tree: Any) -> None:
    """What takes a value apart does so level by level, here or in another reader, and fails where its stack ends."""
    level = [tree]
    for _ in range(MAX_DEPTH + 1):
        level = [v for n in level if isinstance(n, dict | list) for v in (n.values() if isinstance(n, dict) else n)]
        if not level:
            return
    raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")


def missing(error: ImportError) -> InputError:
    """The error for a library of the extra that is not there."""
    return InputError(f'{error}; signing and verifying need more: pip install "foretaste[provenance]"')
