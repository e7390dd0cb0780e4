"""Starting points: a gate in a project that exists, and a package with a check of your own. Nothing is overwritten."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import click

from foretaste.commands.options import debug_option
from foretaste.errors import InputError

GATE = "foretaste_gate.py"
PLACEHOLDER = "/data/train.parquet"
# What each kind of file is called where Great Expectations hands it to pandas.
_READERS = {
    ".parquet": 'add_parquet_asset("train", path=DATA)',
    ".csv": 'add_csv_asset("train", filepath_or_buffer=DATA)',
    ".jsonl": 'add_json_asset("train", path_or_buf=DATA, lines=True)',
}

_data_option = click.option(
    "--data", metavar="PATH", help="What is to be scanned; its columns tell the roles. A placeholder without it."
)
_into_option = click.option("--into", metavar="DIR", type=click.Path(), help="Folder for the file; else it is found.")


@click.group(short_help="Write a starting point into a project.")
def init() -> None:
    """Write a starting point into the project in this folder, or a package with a check of your own.

    A file that exists is never overwritten.
    """


@init.command("airflow", short_help="A DAG with a gate.")
@_data_option
@_into_option
@debug_option
def airflow(data: str | None, into: str | None) -> None:
    """Write foretaste_gate.py into the DAGs folder.

    That is --into, AIRFLOW__CORE__DAGS_FOLDER, ./dags, or what airflow.cfg names, here or in AIRFLOW_HOME.
    """
    folder = Path(into) if into else _dags_folder()
    _write({folder / GATE: _gate("airflow.py", data)})
    click.echo("next: airflow dags test foretaste_gate")


@init.command("dagster", short_help="Assets with a gate between them.")
@_data_option
@_into_option
@debug_option
def dagster(data: str | None, into: str | None) -> None:
    """Write foretaste_gate.py into the folder of definitions: that is --into, or the folder of definitions.py.

    In a project of dg, which dg.toml or [tool.dg] in pyproject.toml names, it is a component: foretaste_gate/defs.yaml in
    the defs folder.
    """
    folder, component = (Path(into), False) if into else _definitions_folder()
    if component:
        _write({folder / "foretaste_gate" / "defs.yaml": _gate("dagster.yaml", data, _yaml_literal)})
        click.echo("let training depend on checked_corpus; asset: names what the gate guards")
        click.echo("next: dg check yaml && dg list defs")
        return
    file = folder / GATE
    _write({file: _gate("dagster.py", data)})
    if (folder / "definitions.py").exists():
        click.echo("add its definitions to those of definitions.py: "
                   "defs = dg.Definitions.merge(defs, foretaste_gate.defs)")  # fmt: skip
    click.echo(f"next: dagster asset materialize --select '*' -f {shlex.quote(str(file))}")


@init.command("gx", short_help="A checkpoint with a gate.")
@_data_option
@_into_option
@debug_option
def gx(data: str | None, into: str | None) -> None:
    """Write foretaste_gate.py beside the gx folder; it makes source, suite and checkpoint, and runs them."""
    folder = Path(into) if into else Path()
    roots = ("gx", "great_expectations")
    root = next((r for r in roots if (folder / r / "great_expectations.yml").exists()), None)
    if root is None:
        raise InputError(
            f"no Great Expectations project in {folder.resolve()}: looked for {' and '.join(roots)} with a "
            'great_expectations.yml; make one with gx.get_context(mode="file"), or name its folder with --into'
        )
    place = data or PLACEHOLDER
    suffix = Path(place).suffix.lower()
    if suffix not in _READERS:
        raise InputError(f"--data {place}: this starting point reads one file, {', '.join(_READERS)}; "
                         "name one of them, and change the data source in what is written")  # fmt: skip
    file = folder / GATE
    _write({file: _gate("gx.py", data, root=_literal(root), add_asset=_READERS[suffix])})
    click.echo(f"next: python {shlex.quote(str(file))}")


@init.command("check", short_help="A package with a check of your own.")
@click.argument("name")
@click.option("--into", default=".", show_default=True, type=click.Path(), help="Where its folder is made.")
@debug_option
def check(name: str, into: str) -> None:
    """Write a package with the check NAME, which works as it is: pyproject.toml, the check, its tests.

    NAME is the id of the check, in lower case with hyphens, as in planted-address.
    """
    from foretaste import checks

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise InputError(f'"{name}" is no id of a check; use lower case and hyphens, as in planted-address')
    if name in checks.registry():
        raise InputError(f'a check "{name}" is installed already; choose another name ("foretaste checks" lists them)')
    module = name.replace("-", "_")
    values = {
        "name": name,
        "module": module,
        "package": f"foretaste_{module}",
        "class_name": "".join(part.capitalize() for part in name.split("-")),
    }
    folder = Path(into) / f"foretaste-{name}"
    places = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        "init.py": f"src/{values['package']}/__init__.py",
        "check.py": f"src/{values['package']}/{module}.py",
        "test_check.py": f"tests/test_{module}.py",
    }
    if folder.exists():
        raise InputError(f"{folder} exists, and nothing is overwritten; choose another name or --into")
    _write({folder / place: _filled(f"check/{source}", values) for source, place in places.items()})
    click.echo(f"next: cd {shlex.quote(str(folder))} && pip install -e '.[dev]' && foretaste checks {name} && pytest")


def _gate(template: str, data: str | None, literal: Callable[[str], str] | None = None, **more: str) -> str:
    """The file of a host, with the data and the roles that their columns suggest, spelt as Python or ``literal`` does."""
    spelt = literal or _literal
    roles, guessed = _roles(data) if data else ({}, ())
    note = (
        f"# guessed from the columns: {', '.join(guessed)}; correct what is wrong"
        if guessed
        else '# name the columns: {"text": "...", "label": "..."}'
    )
    place = PLACEHOLDER if data is None else data if "://" in data else str(Path(data).resolve())
    values = {
        "data": spelt(place),
        "out": spelt(str(Path("foretaste-out").resolve())),
        "roles": "{" + ", ".join(f'"{role}": {spelt(name)}' for role, name in roles.items()) + "}",
        "columns": ", ".join(f"{role}_column={spelt(name)}" for role, name in roles.items()),
        "roles_note": note,
    }
    return _filled(template, values | more)


def _literal(text: str) -> str:
    """As Python writes it, in ASCII: names of columns are data, and could turn the direction of the line they stand in."""
    return json.dumps(text) if text.isascii() else ascii(text)


def _yaml_literal(text: str) -> str:
    """As YAML writes it between quotes, in ASCII.

    Raises:
        InputError: if Dagster would take it for a template and run what stands in it.
    """
    if any(sign in text for sign in ("{{", "{%", "{#")):
        raise InputError(f"Dagster would run {text!r} as a template; rename it, or write Python with --into DIR")
    plain = (c if " " <= c <= "~" and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(plain)}"'


def _roles(data: str) -> tuple[dict[str, str], tuple[str, ...]]:
    from foretaste.reading import open_data

    with_roles = open_data(data)
    return with_roles.roles.as_dict(), with_roles.guessed


def _filled(name: str, values: Mapping[str, str]) -> str:
    text = (files("foretaste.commands") / "starters" / f"{name}.tmpl").read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _write(made: Mapping[Path, str]) -> None:
    """Write files that are not there yet; say which.

    Raises:
        InputError: if one exists, or cannot be written.
    """
    for path, text in made.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            raise InputError(f"{path} exists, and nothing is overwritten; move it away, or choose --into") from None
        except OSError as e:
            raise InputError(f"cannot write {path}: {e.strerror}; choose another place with --into") from e
        click.echo(f"wrote {path}")


def _dags_folder() -> Path:
    named = os.environ.get("AIRFLOW__CORE__DAGS_FOLDER")
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    candidates = [Path(named)] if named else [Path("dags"), *map(_configured_dags, (Path(), home)), home / "dags"]
    listed = [c for c in candidates if c is not None]
    found = next((c for c in listed if c.is_dir()), None)
    if found is None:
        raise InputError(f"no DAGs folder: looked at {', '.join(str(c.resolve()) for c in listed)}; "
                         "name it with --into DIR")  # fmt: skip
    return found


def _configured_dags(folder: Path) -> Path | None:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(folder / "airflow.cfg", encoding="utf-8")
    except configparser.Error as e:
        raise InputError(f"cannot read {folder / 'airflow.cfg'}: {e}; name the DAGs folder with --into DIR") from e
    named = parser.get("core", "dags_folder", fallback="")
    return Path(os.path.expandvars(named)).expanduser() if named else None


def _definitions_folder() -> tuple[Path, bool]:
    """The folder, and whether it is that of a project of ``dg``, which loads all that lies in it."""
    for file, keys in ((Path("dg.toml"), ("project",)), (Path("pyproject.toml"), ("tool", "dg", "project"))):
        project = _table(file, keys)
        if project.get("root_module"):
            module = str(project.get("defs_module") or f"{project['root_module']}.defs").replace(".", "/")
            found = next((p for p in (Path("src") / module, Path(module)) if p.is_dir()), None)
            if found is None:
                raise InputError(f"{file} names the definitions {module}, and there is no such folder, nor one in src; "
                                 "name it with --into DIR")  # fmt: skip
            return found, True
    listed = sorted(p for p in Path().glob("**/definitions.py") if len(p.parts) <= 4 and not p.parts[0].startswith("."))
    if len(listed) != 1:
        seen = (
            f"found {', '.join(map(str, listed))}" if listed else "no dg.toml, no [tool.dg.project], no definitions.py"
        )
        raise InputError(f"which folder holds the definitions? {seen} in {Path().resolve()}; name it with --into DIR")
    return listed[0].parent, False


def _table(file: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        table: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as e:
        raise InputError(f"cannot read {file}: {e}; name the folder with --into DIR") from e
    for key in keys:
        table = table.get(key, {}) if isinstance(table, dict) else {}
    return table if isinstance(table, dict) else {}


def register(group: click.Group) -> None:
    """Add the commands to the command line."""
    group.add_command(init)
