"""The script behind ``make test`` and ``make demo``: pip's configuration is honoured by either installer."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def make_env() -> ModuleType:
    path = Path(__file__).resolve().parent.parent / "scripts" / "make_env.py"
    spec = importlib.util.spec_from_file_location("make_env", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_indexes_and_find_links_reach_uv_one_by_one(make_env: ModuleType) -> None:
    options = make_env.as_uv_options(
        [("index-url", "https://a/simple"), ("extra-index-url", "https://b https://c"), ("find-links", "wheels more")]
    )
    assert options == [
        "--index-strategy", "unsafe-best-match", "--default-index", "https://a/simple", "--index", "https://b",
        "--index", "https://c", "--find-links", "wheels", "--find-links", "more",
    ]  # fmt: skip


def test_an_option_that_uv_does_not_know_leaves_the_work_to_pip(make_env: ModuleType) -> None:
    assert make_env.as_uv_options([("find-links", "wheels"), ("client-cert", "me.pem")]) is None


@pytest.mark.parametrize(("value", "given"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_a_flag_is_handed_on_only_where_it_is_on(make_env: ModuleType, value: str, given: bool) -> None:
    assert ("--no-index" in make_env.as_uv_options([("no-index", value)])) is given


def test_the_environment_wins_over_the_files(
    make_env: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nfind-links = global\nindex-url = https://file/simple\n[install]\nfind-links = install\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://environment/simple")
    options = dict(make_env.pip_options())
    assert options["index-url"] == "https://environment/simple"
    assert options["find-links"] == "install"
