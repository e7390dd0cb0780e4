"""A data set in the words of the Data & Trust Alliance's Data Provenance Standards 1.0.0.

The standard asks for what only people know: who issued the data, where and how they were collected, what they are for.
:func:`export` adds what foretaste knows (the digest as id, the formats), takes the rest from the people, and refuses a
document that lacks what the standard requires.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from foretaste.errors import InputError
from foretaste.results import Report

VERSION = "1.0.0"
_Schema = dict[str, Any]


def _object(required: str, optional: str = "", **properties: _Schema) -> _Schema:
    """An object whose fields are text unless said otherwise, and that has no others."""
    names = [*required.split(), *optional.split(), *(n.replace("_", "-") for n in properties)]
    given = {n.replace("_", "-"): s for n, s in properties.items()}
    return {
        "type": "object",
        "properties": {n: given.get(n, {"type": "string", "minLength": 1}) for n in names},
        "required": required.split(),
        "additionalProperties": False,
    }


def _list(items: _Schema | None = None, least: int = 0) -> _Schema:
    return {
        "type": "array",
        "items": items or {"type": "string", "minLength": 1},
        "minItems": least,
        "uniqueItems": True,
    }


_ORG = _object("name", address=_list())
_PLACE = _object("country", "state")
_CODE = _object("code", "system description")
_PROVENANCE = _object(
    "origin-geography date generation-method",
    "source previous-date",
    origin=_list(_ORG),
    origin_geography=_list(_PLACE, 1),
    generation_period=_object("", "start end"),
    generation_method=_list(_CODE, 1),
    format=_list(),
    sub_provenance={"$ref": "#/properties/provenance"},
)
SCHEMA: _Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Data Provenance Standards 1.0.0, as foretaste checks them",
    "$comment": "Field names and requirements of the standard; stricter in that it knows no other field.",
} | _object(
    "source provenance use",
    source=_object("version title id issuer description", "location", issuer=_list(_ORG, 1)),
    provenance=_PROVENANCE,
    use=_object(
        "intended-purpose",
        classification=_list(_object("regulation evaluated", "tool", regulation=_CODE, evaluated={"type": "boolean"})),
        consents=_list(),
        privacy_enhancing=_list(
            # The published schema asks for "tool", and describes "tool-used".
            _object("tool", "tool-used", tool_category=_CODE, parameters=_list(), result=_list())
        ),
        processing_included=_list(_PLACE),
        processing_excluded=_list(_PLACE),
        storage_allowed=_list(_PLACE),
        storage_forbidden=_list(_PLACE),
        license=_list(),
        intended_purpose=_list(_object("code description", "system"), 1),
        copyright=_list(),
        patent=_list(),
        trademark=_list(),
    ),
)  # fmt: skip


def export(report: Report, said: Mapping[str, Any]) -> dict[str, Any]:
    """The document: what people said, and where they did not, what the report knows.

    Args:
        report: of a scan of the data.
        said: the sections ``source``, ``provenance`` and ``use`` as far as people fill them in; see the standard.

    Raises:
        InputError: naming every field that is missing or malformed.
    """
    document: dict[str, Any] = {s: copy.deepcopy(said.get(s) or {}) for s in ("source", "provenance", "use")}
    document |= {k: v for k, v in said.items() if k not in document}
    source, provenance = document["source"], document["provenance"]
    if isinstance(source, dict):
        source.setdefault("version", VERSION)
        source.setdefault("id", report.data.digest)
        source.setdefault("title", PurePosixPath(report.data.name).name)
    if isinstance(provenance, dict):
        provenance.setdefault("format", ["text"])
    problems = validate(document)
    if problems:
        raise InputError(
            f"the Data Provenance Standards ask for more: {'; '.join(problems)}; add it to the metadata file"
        )
    return document


def validate(document: Any) -> list[str]:
    """What is wrong with a document, one line each; empty where it conforms to :data:`SCHEMA`.

    Raises:
        InputError: if the validator is not installed.
    """
    try:
        from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
    except ImportError as e:
        raise InputError(f'{e}; the export needs "foretaste[standards]"; install it') from e
    errors = Draft202012Validator(SCHEMA).iter_errors(document)
    return sorted(f"{'.'.join(map(str, e.absolute_path)) or 'document'}: {e.message}" for e in errors)
