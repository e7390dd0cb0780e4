"""Proofs about one row of certified data: made from the data, checked with the certificate alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from foretaste.errors import InputError, VerificationError
from foretaste.provenance import rows
from foretaste.provenance.certificate import load_json
from foretaste.provenance.manifest import row_tree
from foretaste.provenance.merkle import Proof, leaf_hash
from foretaste.provenance.statement import Statement
from foretaste.reading.formats import list_files, naming


def prove(data: str | Path, row: int | Mapping[str, Any]) -> Proof:
    """Prove that a row is among the rows of data, or that it is not. Reads all the data.

    Args:
        data: path, glob, directory or address.
        row: its number from 0, or its values by column.

    Raises:
        InputError: if the data cannot be read, or have no such row number, or the values do not fit the columns.
    """
    tree, schema = row_tree(data)
    return tree.prove(leaf_hash(_numbered(data, row) if isinstance(row, int) else row_bytes(row, schema)))


def check(proof: str | Path | Proof, row: Mapping[str, Any], certificate: Statement) -> bool:
    """Whether a row is in the certified data, by a proof.

    Args:
        proof: file of the proof, or the proof.
        row: values by column.
        certificate: statement of a certificate that was verified.

    Raises:
        VerificationError: if the proof is about another row or does not hold, or the certificate has no row tree.
        InputError: if the proof cannot be read, or the values do not fit the columns.
    """
    held = proof if isinstance(proof, Proof) else Proof.from_dict(load_json(proof, "proof"))
    data = certificate.predicate.get("data")
    if not isinstance(data, Mapping) or not isinstance(tree := data.get("rowTree"), Mapping):
        raise VerificationError("the certificate has no tree over the rows; certify the data without --no-rows")
    if tree.get("encoding") != rows.ENCODING:
        raise VerificationError(
            f"the certificate's rows are encoded as {tree.get('encoding')!r}, not {rows.ENCODING!r}"
        )
    if held.leaf != leaf_hash(row_bytes(row, _schema(certificate))):
        raise VerificationError("the proof is about another row")
    root = certificate.text("data", "rowTree", "root")
    if not re.fullmatch("[0-9a-f]{64}", root):
        raise VerificationError("the certificate is malformed: the root of its tree over the rows is no digest")
    return held.check(bytes.fromhex(root), certificate.number("data", "rowTree", "count"))


def row_bytes(row: Mapping[str, Any], schema: pa.Schema) -> bytes:
    """The canonical bytes of one row (see :mod:`foretaste.provenance.rows`).

    Args:
        row: values by column; a column that is left out is null.
        schema: types of the columns; a column that is not in it has the type of its value.

    Raises:
        InputError: if a value does not fit its column.
    """
    columns = {}
    for name, value in row.items():
        kind = schema.field(name).type if name in schema.names else None
        try:
            columns[name] = pa.array([value], kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as e:
            raise InputError(f'the value of "{name}" does not fit its column ({kind}): {e}') from e
    if not columns:
        raise InputError("the row has no columns; name all of them")
    raw: bytes = rows.encoded(pa.record_batch(columns))[0].as_py()
    return raw


def _numbered(data: str | Path, number: int) -> bytes:
    files, start = list_files(data), 0
    with naming(files.name):
        for batch in files.original():
            if start <= number < start + batch.num_rows:
                raw: bytes = rows.encoded(batch.slice(number - start, 1))[0].as_py()
                return raw
            start += batch.num_rows
    raise InputError(f"{files.name} has rows 0 to {start - 1}, not {number}")


def _schema(certificate: Statement) -> pa.Schema:
    """The columns whose types a certificate tells."""
    try:
        columns = [(f["name"], _type(f["type"])) for f in certificate.items("data", "schema")]
        return pa.schema([(name, kind) for name, kind in columns if kind is not None])
    except (KeyError, TypeError, UnicodeError) as e:
        raise VerificationError(f"the certificate is malformed: its columns lack a name or a type ({e})") from e


def _type(name: Any) -> pa.DataType | None:
    """The Arrow type of a name as the manifest has it; ``None`` where only the data know it (lists, structs)."""
    try:
        return pa.type_for_alias(str(name))
    except ValueError:
        return None
