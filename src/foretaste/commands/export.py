"""What a scan knows, in the formats of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from foretaste.commands.options import debug_option
from foretaste.errors import InputError


@click.group(short_help="Describe data in the words of a standard.")
def export() -> None:
    """Describe data, and what a scan looked at, in the words of a standard."""


@export.command("croissant")
@click.argument("data", type=click.Path())
@click.option("--name", required=True, help="Name of the data set.")
@click.option("--description", required=True, help="What it is, for people.")
@click.option("--license", "license_", required=True, help="Address or SPDX id of the license.")
@click.option("--creator", required=True, help="Organisation or person that made it.")
@click.option("--url", required=True, help="Where it is described.")
@click.option("--release", default="1.0.0", show_default=True, help="Version of the data set.")
@click.option("--parent", "parents", multiple=True, metavar="URI", help="A data set it was made from; repeatable.")
@click.option("--report", metavar="DIR", type=click.Path(), help="The --out folder of a scan of DATA.")
@click.option("--out", default="croissant.json", show_default=True, type=click.Path())
@debug_option
def croissant(
    data: str, name: str, description: str, license_: str, creator: str, url: str, release: str,
    parents: tuple[str, ...], report: str | None, out: str,
) -> None:  # fmt: skip
    """Write DATA as Croissant 1.1 with the RAI vocabulary: files, digests, columns, and the limits of the scan."""
    from foretaste.report import read
    from foretaste.standards.croissant import export

    document = export(
        data, name=name, description=description, license=license_, creator=creator, url=url, version=release,
        parents=parents, report=None if report is None else read(report),
    )  # fmt: skip
    _write(document, out)


@export.command("data-provenance")
@click.argument("report", type=click.Path())
@click.option("--metadata", required=True, metavar="FILE", type=click.Path(), help="What people know (YAML).")
@click.option("--out", default="data-provenance.json", show_default=True, type=click.Path())
@debug_option
def data_provenance(report: str, metadata: str, out: str) -> None:
    """Write the Data Provenance Standards 1.0.0 record of the data that REPORT is about.

    The metadata file holds the sections source, provenance and use; what is missing is named.
    """
    from foretaste.report import read
    from foretaste.standards.data_provenance import export
    from foretaste.typed import load_yaml

    hint = "write the sections source, provenance and use of the standard"
    _write(export(read(report), load_yaml(metadata, "metadata file", hint)), out)


def _write(document: dict[str, Any], out: str) -> None:
    try:
        Path(out).write_text(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    except OSError as e:
        raise InputError(f"cannot write {out}: {e.strerror}; choose another --out") from e
    click.echo(f"wrote {out}")


def register(group: click.Group) -> None:
    """Add the commands to the command line."""
    group.add_command(export)
