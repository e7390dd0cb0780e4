"""A data set as Croissant 1.1 with the RAI vocabulary (https://docs.mlcommons.org/croissant), as JSON-LD.

What foretaste knows is filled in: files with their SHA-256, columns with their types, and what the scan looked at and did
not look at. What only people know (license, creator, description) is theirs to say, and nothing is made up for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from foretaste.errors import InputError
from foretaste.reading.formats import Files, list_files
from foretaste.results import REPORT_FORMAT, Outcome, Report

CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
MAX_RECORD_SETS = 100
_MEDIA = {
    ".parquet": "application/x-parquet", ".pq": "application/x-parquet", ".csv": "text/csv", ".tsv": "text/tsv",
    ".jsonl": "application/jsonlines", ".ndjson": "application/jsonlines", ".json": "application/json",
    ".arrow": "application/vnd.apache.arrow.file", ".feather": "application/vnd.apache.arrow.file",
    ".gz": "application/gzip", ".zst": "application/zstd",
}  # fmt: skip
# What the reference reader can open as records.
_TABULAR = frozenset({"application/x-parquet", "text/csv", "text/tsv", "application/jsonlines"})
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def export(
    data: str,
    *,
    name: str,
    description: str,
    license: str,
    creator: str,
    url: str,
    version: str = "1.0.0",
    date_published: str | None = None,
    parents: Sequence[str] = (),
    report: Report | None = None,
) -> dict[str, Any]:
    """The JSON-LD document.

    Args:
        data: path, glob or directory of files.
        name: of the data set.
        description: for people.
        license: address of the license, or its SPDX id.
        creator: organisation or person.
        url: where the data set is described; files are named relative to it.
        version: of the data set, as in 1.0.0.
        date_published: YYYY-MM-DD; today where ``None``.
        parents: addresses or digests of the data sets that it was made from.
        report: of a scan of exactly these data.

    Raises:
        InputError: if the data cannot be read, or the report is of other data.
    """
    try:
        files = list_files(data)
        if report is not None and report.data.digest != files.digest():
            raise InputError(f"the report is of other data than {data} ({report.data.digest}); scan again")
        objects, records = _distribution(files)
    except OSError as e:
        raise InputError(f"cannot read {data}: {e}; check the path") from e
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": description,
        "conformsTo": list(CONFORMS_TO),
        "license": license,
        "creator": {"@type": "sc:Organization", "name": creator},
        "url": url,
        "version": version,
        "datePublished": date_published or datetime.now(UTC).date().isoformat(),
        "isLiveDataset": False,
        "distribution": objects,
        "recordSet": records,
        "prov:wasAttributedTo": {"@type": "prov:Agent", "prov:label": creator},
    }
    if parents:
        document["prov:wasDerivedFrom"] = [{"@id": p} for p in parents]
    return document | (_scanned(report) if report is not None else {})


def _distribution(files: Files) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    objects, records = [], []
    schema = files.schema()
    for file in files.digests():
        relative = file.name
        media = _MEDIA.get(PurePosixPath(relative).suffix.lower(), "application/octet-stream")
        objects.append({
            "@type": "cr:FileObject", "@id": relative, "name": relative, "contentUrl": relative,
            "contentSize": f"{file.bytes} B", "encodingFormat": media, "sha256": file.sha256,
        })  # fmt: skip
        if media in _TABULAR and len(files.paths) <= MAX_RECORD_SETS:
            records.append(_record_set(relative, schema))
    return objects, records


def _record_set(file: str, schema: pa.Schema) -> dict[str, Any]:
    records = f"{file}/records"
    fields = [
        {
            "@type": "cr:Field", "@id": f"{records}/{column.name}", "name": column.name, "dataType": kind,
            "source": {"fileObject": {"@id": file}, "extract": {"column": column.name}},
        }
        for column in schema
        if (kind := _data_type(column.type))
    ]  # fmt: skip
    return {"@type": "cr:RecordSet", "@id": records, "name": records, "field": fields}


def _data_type(kind: pa.DataType) -> str | None:
    """The schema.org type of an Arrow type; ``None`` for nested ones, which are left out."""
    if pa.types.is_dictionary(kind):
        return _data_type(kind.value_type)
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "sc:Float"
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_temporal(kind):
        return "sc:Date"
    return None if pa.types.is_nested(kind) else "sc:Text"


def _scanned(report: Report) -> dict[str, Any]:
    return {
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": f"foretaste {report.version}: {report.headline()}",
            "prov:startedAtTime": report.started,
            "prov:used": [{"@id": report.data.digest}, {"@id": report.policy_digest}],
            "prov:type": REPORT_FORMAT,
        },
        "rai:dataManipulationProtocol": f"Scanned for poison under the policy {report.policy_digest}: {report.headline()}",
        "rai:dataLimitations": list(_limits(report)),
    }


def _limits(report: Report) -> Iterator[str]:
    for result in report.results:
        if result.outcome in (Outcome.SKIPPED, Outcome.ERROR):
            yield f"not checked: {result.check}: {result.note}"
    for finding in report.findings:
        waived = ", waived" if finding.waived else ""
        yield f"{finding.severity.value}{waived}: {finding.check}: {finding.kind}, {len(finding.rows)} rows"
    least = report.power.get("smallest_blocked")
    yield (
        f"smallest planted trigger that would have blocked: {least} rows"
        if least
        else (f"power: {report.power.get('note', 'no planted trigger would have blocked')}")
    )
    yield "a pass says that no limit was reached, not that there is no poison"
