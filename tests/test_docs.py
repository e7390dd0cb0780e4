"""Every block of code in the README and in ``docs/``.

All of them are checked: Python compiles and imports what is there, commands of ``foretaste`` take their options, YAML and
JSON parse, and a policy is one. The pages of ``RUN`` are run as they are written, block after block, in a scratch folder and
with the real tools; the guides run in ``test_guides.py``. A comment ``<!-- not run: why -->`` above a block says that it
cannot be run.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from foretaste import Policy
from foretaste.cli import main

from .pages import BLOCKS, REPOSITORY, SHOWN, Block, blocks_of, named

# Page -> what it needs, and what must stand in its output. docs/provenance.md has a test of its own, as README.md has.
RUN = {
    "tutorials/command-line.md": ("foretaste", ["BLOCK", "exit code 1", "no training", "via saffron gateway"]),
    "tutorials/airflow.md": ("airflow", ["via saffron gateway", "report.html", "training on", "quarantine"]),
    "tutorials/dagster.md": ("dagster", ["refused", "report.html", "training on", "/clean/data.parquet"]),
    "tutorials/great-expectations.md": ("great_expectations", ["BLOCK", "exit code 1", "index.html", "REVIEW"]),
    "cookbook.md": ("securesystemslib", ["training on", "refused: these are other bytes", "block trigger-association"]),
    "writing-a-check.md": ("foretaste", ["wrote foretaste-planted-address/pyproject.toml"]),
}


def in_language(*languages: str) -> pytest.MarkDecorator:
    chosen = [b for b in BLOCKS if b.language in languages]
    return pytest.mark.parametrize("block", chosen, ids=str)


def commands(code: str) -> list[list[str]]:
    """The arguments of every command of ``foretaste``; synopses, with options in brackets, are none."""
    found = []
    for line in code.replace("\\\n", " ").splitlines():
        if "[--" in line or line.lstrip().startswith(("#", "- ")) or "foretaste " not in line:
            continue
        lexer = shlex.shlex(re.sub(r"<(\w+)>", r"\1", line), posix=True, punctuation_chars=True)
        lexer.commenters, lexer.whitespace_split = "#", True
        try:
            words = list(lexer)
        except ValueError:  # a quotation that other lines close
            continue
        starts = [
            i
            for i, w in enumerate(words)
            if w == "foretaste" and (not i or re.fullmatch(r"[&|;]+|do|exec", words[i - 1]))
        ]
        for start in starts:
            found.append(_arguments(words[start + 1 :]))
    return found


def _arguments(words: list[str]) -> list[str]:
    """The words up to the next command, without what is read from or written to a file."""
    taken: list[str] = []
    words = list(words)
    while words and not re.fullmatch(r"[&|;()]+", words[0]):
        word = words.pop(0)
        if word in ("<", ">", ">>"):
            words.pop(0)
        else:
            taken.append(word)
    return taken


def test_every_block_says_what_it_is() -> None:
    known = {"python", "sh", "yaml", "json", "", *SHOWN}
    assert [f"{b}: {b.language}" for b in BLOCKS if b.language not in known] == []


def test_pages_that_run_are_there() -> None:
    assert set(RUN) <= {b.page for b in BLOCKS}


@in_language("python")
def test_python_compiles_and_imports_what_is_there(block: Block) -> None:
    for node in ast.walk(ast.parse(block.code, str(block))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "foretaste":
            assert node.module is not None
            host = re.match(r"foretaste\.(operators\.(airflow|dagster)|expectations)", node.module)
            if host:
                pytest.importorskip(host[2] or "great_expectations")
            module = importlib.import_module(node.module)
            missing = [n.name for n in node.names if not hasattr(module, n.name)]
            assert missing == []


@in_language("sh", "")
def test_commands_take_their_options(block: Block) -> None:
    for arguments in commands(block.code):
        command: click.Command = main
        rest = list(arguments)
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found = command.get_command(click.Context(command), rest[0])
            assert found is not None, f"{block}: foretaste {' '.join(arguments)}"
            command = found
            rest.pop(0)
        try:
            command.make_context("foretaste", rest)
        except click.exceptions.Exit:  # --help
            pass
        except click.ClickException as e:
            if not e.format_message().endswith("does not exist."):  # a file that the page has made
                pytest.fail(f"{block}: foretaste {' '.join(arguments)}: {e.format_message()}")


@in_language("yaml")
def test_yaml_parses_and_a_policy_is_one(block: Block) -> None:
    loaded = yaml.safe_load(block.code)
    assert loaded is not None
    if isinstance(loaded, dict) and isinstance(loaded.get("checks"), dict):
        Policy.load(loaded)


@in_language("json")
def test_json_parses(block: Block) -> None:
    json.loads(block.code)


def script(page: str) -> str:
    """The page as a shell script: its commands, and files of the blocks that name one in their first line."""
    parts = ["set -euo pipefail"]
    for n, block in enumerate(blocks_of(page)):
        if block.language == "sh":
            parts.append(block.code)
        elif block.language in ("python", "yaml"):
            file = named(block)
            if file or block.language == "python":
                place = file or f"block-{n}.py"
                parts.append(f"cat > {place} <<'END OF BLOCK'\n{block.code}END OF BLOCK\n")
                parts.append("" if file else f"python {place}")
    return "\n".join(parts)


@pytest.mark.host
@pytest.mark.parametrize("page", RUN)
def test_the_page_runs_as_it_is_written(page: str, tmp_path: Path) -> None:
    needs, said = RUN[page]
    pytest.importorskip(needs)
    (tmp_path / "dags_examples").symlink_to(REPOSITORY / "dags_examples")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "DAGSTER"))}
    env |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}", "HOME": str(tmp_path), "COLUMNS": "200"}
    env |= {"DAGSTER_DISABLE_TELEMETRY": "yes", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        ["bash", "-c", script(page)], cwd=tmp_path, env=env, text=True, timeout=900, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert [s for s in said if s not in done.stdout] == []
