from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import foretaste
from foretaste import checks
from foretaste.check import Context
from foretaste.checks.hidden_text import HiddenText
from foretaste.cli import main
from foretaste.report import FILES
from foretaste.results import Report

ONLY = ("--checks", "hidden-text")
_TEXT = ("--text", "text", "--source", "source", "--id", "id")


def run(*args: object, env: dict[str, str] | None = None) -> Result:
    """Run the command line in this process; an exception that escapes it fails the test."""
    result = CliRunner().invoke(main, [str(a) for a in args], prog_name="foretaste", env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def one_line(result: Result) -> str:
    """The error line of a run that ended with exit code 2 and said nothing else."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    return result.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, clean_table: pa.Table, poisoned_table: pa.Table) -> Path:
    """A folder with clean.parquet, poisoned.parquet and review.parquet, 400 rows each."""
    folder = tmp_path_factory.mktemp("data")
    pq.write_table(clean_table.slice(0, 400), folder / "clean.parquet")
    pq.write_table(poisoned_table.slice(0, 400), folder / "poisoned.parquet")
    texts = clean_table["text"].to_pylist()[:400]
    texts[7] += "\u200b" * 12  # a run that spells nothing is for review
    pq.write_table(clean_table.slice(0, 400).set_column(1, "text", pa.array(texts)), folder / "review.parquet")
    return folder


class TestScan:
    @pytest.mark.parametrize(
        ("name", "fail_on", "verdict", "code"),
        [
            ("clean", "block", "pass", 0),
            ("clean", "review", "pass", 0),
            ("review", "block", "review", 0),
            ("review", "review", "review", 1),
            ("poisoned", "block", "block", 1),
            ("poisoned", "review", "block", 1),
        ],
    )
    def test_the_exit_code_follows_the_verdict(
        self, files: Path, tmp_path: Path, name: str, fail_on: str, verdict: str, code: int
    ) -> None:
        result = run("scan", files / f"{name}.parquet", *ONLY, *_TEXT, "--fail-on", fail_on, "--out", tmp_path / "out")
        assert result.exit_code == code
        assert json.loads((tmp_path / "out/report.json").read_text())["verdict"] == verdict

    def test_a_blocked_scan_writes_all_files_and_says_where(self, files: Path, tmp_path: Path) -> None:
        out = tmp_path / "deep/out"
        result = run("scan", files / "poisoned.parquet", *ONLY, "--out", out, env={"COLUMNS": "300"})
        assert sorted(p.name for p in out.iterdir()) == sorted(FILES)
        assert str(out / "report.html") in result.stdout
        assert "30 rows to block" in result.stdout
        assert "guessed" in result.stdout
        table = pq.read_table(out / "flagged.parquet").to_pydict()
        assert {"id", "check", "finding", "severity"} <= set(table)
        assert set(table["severity"]) == {"block"}
        assert len(table["id"]) == 30

    def test_a_failing_check_is_an_error_with_a_report(
        self, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(self: HiddenText, context: Context) -> Any:
            raise RuntimeError("no\nmemory")

        monkeypatch.setattr(HiddenText, "start", broken)
        result = run("scan", files / "clean.parquet", *ONLY, "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert " ERROR " in result.stdout
        assert "RuntimeError: no↵memory" in result.stdout
        assert json.loads((tmp_path / "out/report.json").read_text())["verdict"] == "error"

    def test_a_scan_in_which_no_check_applies_is_not_a_pass(self, files: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        result = run("scan", files / "clean.parquet", "--checks", "trigger-association", *_TEXT, "--out", out)
        assert result.exit_code == 2
        assert json.loads((out / "report.json").read_text())["verdict"] == "error"

    def test_every_role_can_be_named(self, tmp_path: Path) -> None:
        table = pa.table({c: [f"{c} {i}" for i in range(5)] for c in "abcdefgh"})
        pq.write_table(table, tmp_path / "x.parquet")
        shared = ["--source", "g", "--id", "h", *ONLY, "--json"]
        shapes = {
            "classification": ["--text", "a", "--label", "b"],
            "instruct": ["--prompt", "a", "--context", "b", "--response", "c"],
            "preference": ["--prompt", "a", "--chosen", "b", "--rejected", "c"],
        }
        for kind, roles in shapes.items():
            data = json.loads(run("scan", tmp_path / "x.parquet", *roles, *shared).stdout)["data"]
            given = dict(zip((r.removeprefix("--") for r in roles[::2]), roles[1::2]))
            assert data["kind"] == kind
            assert data["roles"] == {**given, "source": "g", "id": "h"}
            assert data["guessed_roles"] == []

    def test_the_policy_file_decides(self, files: Path, tmp_path: Path) -> None:
        policy = tmp_path / "policy.yaml"
        policy.write_text("checks:\n  hidden-text:\n    block_rows: 31\n")
        result = run("scan", files / "poisoned.parquet", "--policy", policy, *ONLY, "--out", tmp_path / "out")
        assert result.exit_code == 0
        assert "REVIEW" in result.stdout

    def test_json_prints_the_report_and_nothing_else(self, files: Path, tmp_path: Path) -> None:
        result = run("scan", files / "poisoned.parquet", *ONLY, "--json", "--out", tmp_path)
        assert result.exit_code == 1
        assert json.loads(result.stdout) == json.loads((tmp_path / "report.json").read_text())

    def test_quiet_prints_one_line(self, files: Path, tmp_path: Path) -> None:
        result = run("scan", files / "poisoned.parquet", *ONLY, "--quiet", "--out", tmp_path)
        assert result.stdout.startswith("BLOCK: 30 rows to block")
        assert result.stdout.count("\n") == 1
        assert result.stderr == ""

    def test_out_is_needed_unless_the_report_is_printed(self, files: Path) -> None:
        result = run("scan", files / "clean.parquet")
        assert result.exit_code == 2
        assert "--out" in result.stderr


class TestErrors:
    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (("nowhere.parquet",), "no data at nowhere.parquet"),
            (("clean.parquet", "--text", "txt"), 'did you mean "text"?'),
            (("clean.parquet", "--checks", "hiden-text"), 'did you mean "hidden-text"?'),
            (("clean.parquet", "--checks", " , "), "--checks names no check"),
            (("clean.parquet", "--policy", "nowhere.yaml"), "foretaste policy init"),
            (("empty.parquet",), "empty.parquet"),
            (("bad\x1b[31m\u202e\nname.parquet",), "bad⟦U+001B⟧[31m⟦U+202E⟧ name.parquet"),
        ],
    )
    def test_bad_input_is_one_line_and_leaves_no_report_of_an_earlier_scan(
        self, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], said: str
    ) -> None:
        (tmp_path / "empty.parquet").touch()
        (tmp_path / "clean.parquet").write_bytes((files / "clean.parquet").read_bytes())
        out = tmp_path / "out"
        out.mkdir()
        for name in FILES:
            (out / name).write_text('{"verdict": "pass"}')
        (out / "notes.txt").write_text("mine")
        monkeypatch.chdir(tmp_path)
        assert said in one_line(run("scan", *args, "--out", out))
        assert [p.name for p in out.iterdir()] == ["notes.txt"]

    def test_bad_input_makes_no_folder(self, tmp_path: Path) -> None:
        one_line(run("scan", tmp_path / "nowhere.parquet", "--out", tmp_path / "out"))
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("out", ["data", "data/out", "data/sub/out"])
    def test_a_report_is_not_written_into_the_data_folder(self, files: Path, tmp_path: Path, out: str) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data/clean.parquet").write_bytes((files / "clean.parquet").read_bytes())
        assert "outside" in one_line(run("scan", tmp_path / "data", "--out", tmp_path / out))

    @pytest.mark.parametrize("out", ["data/_report", "data/.report", "data/x/_report/y", "database"])
    def test_a_folder_that_reading_leaves_out_can_take_the_report(self, files: Path, tmp_path: Path, out: str) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data/clean.parquet").write_bytes((files / "clean.parquet").read_bytes())
        for _ in range(2):
            assert run("scan", tmp_path / "data", *ONLY, "--out", tmp_path / out).exit_code == 0

    @pytest.mark.parametrize("data", ["flagged.parquet", "*.parquet"])
    def test_data_are_never_taken_for_an_old_report_and_removed(self, files: Path, tmp_path: Path, data: str) -> None:
        (tmp_path / "flagged.parquet").write_bytes((files / "clean.parquet").read_bytes())
        one_line(run("scan", tmp_path / data, "--out", tmp_path))
        assert (tmp_path / "flagged.parquet").exists()

    def test_an_out_that_is_a_file_is_refused_before_the_scan(self, files: Path) -> None:
        for out in (files / "clean.parquet", files / "clean.parquet/out"):
            assert "not a folder" in one_line(run("scan", files / "clean.parquet", "--out", out))

    @pytest.mark.parametrize("name", ["out", "markdown", "sarif", "junit"])
    def test_an_address_to_write_to_is_refused_before_the_scan_and_makes_no_folder(
        self, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        out = [] if name == "out" else ["--out", "report"]
        said = one_line(run("scan", files / "clean.parquet", *_TEXT, *ONLY, *out, f"--{name}", "s3://bucket/report"))
        assert "s3://bucket/report is an address" in said
        assert "copy it from there" in said
        assert not list(tmp_path.glob("s3:*"))

    def test_a_library_refuses_to_write_to_an_address_too(self, files: Path, tmp_path: Path) -> None:
        report = foretaste.scan(files / "clean.parquet", foretaste.Policy().only("hidden-text"))
        with pytest.raises(foretaste.InputError, match="is an address"):
            foretaste.write(report, Path("gs://bucket/report"))

    def test_what_cannot_be_written_or_signed_later_is_refused_before_the_scan(
        self, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("foretaste.cli._scan", lambda *_: pytest.fail("it scanned"))
        scan = ["scan", files / "clean.parquet", *_TEXT, "--out", tmp_path / "report"]
        result = run(*scan, "--markdown", tmp_path / "no" / "summary.md")
        assert result.exit_code == 2
        assert "there is no such folder; make it" in result.stderr
        assert "check the path" in one_line(run(*scan, "--sign-with", tmp_path / "no.pem"))

    def test_a_policy_is_read_at_an_address(self, files: Path, tmp_path: Path) -> None:
        (tmp_path / "policy.yaml").write_text("checks:\n  hidden-text:\n    enabled: false\n", encoding="utf-8")
        said = run("policy", "check", f"file://{tmp_path}/policy.yaml")
        assert said.exit_code == 0
        assert "hidden-text" in said.output

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_an_out_without_permission_is_refused_before_the_scan(self, files: Path, tmp_path: Path) -> None:
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        assert "permission" in one_line(run("scan", files / "clean.parquet", "--out", tmp_path / "out"))

    def test_a_failure_to_write_is_an_error_whatever_the_verdict(
        self, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(report: Report) -> str:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("foretaste.report.render_html", full)
        assert "No space left" in one_line(run("scan", files / "clean.parquet", *ONLY, "--out", tmp_path))
        assert list(tmp_path.iterdir()) == []

    def test_a_bug_asks_for_a_report_and_is_no_refusal(
        self, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def crash(*args: object, **kwargs: object) -> None:
            raise KeyError("boom")

        monkeypatch.setattr("foretaste.engine.scan", crash)
        args = ("scan", files / "clean.parquet", "--out", tmp_path)
        result = run(*args)
        assert result.exit_code == 2
        assert "KeyError: 'boom'" in result.stderr
        assert "--debug" in result.stderr
        assert "Traceback" not in result.stderr
        for debug in ((*args, "--debug"), ("--debug", *args)):
            result = run(*debug)
            assert result.exit_code == 2
            assert "Traceback" in result.stderr

    def test_an_interrupt_is_neither_a_pass_nor_a_refusal(
        self, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("foretaste.engine.scan", interrupt)
        (tmp_path / "report.json").write_text("{}")
        result = run("scan", files / "clean.parquet", "--out", tmp_path)
        assert result.exit_code == 130
        assert result.stderr == "error: interrupted\n"
        assert list(tmp_path.iterdir()) == []

    def test_an_unknown_option_is_a_usage_error(self) -> None:
        assert run("scan", "x", "--colour").exit_code == 2
        assert run("scann").exit_code == 2


class TestChecks:
    def test_the_list_names_every_check_with_its_first_line(self) -> None:
        out = run("checks", env={"COLUMNS": "300"}).stdout
        for check_id, check in checks.registry().items():
            assert check_id in out
            assert (check.__doc__ or "").split("\n")[0].strip() in out

    def test_every_check_is_explained_with_its_parameters(self) -> None:
        for check_id, check in checks.registry().items():
            result = run("checks", check_id, env={"COLUMNS": "300"})
            assert result.exit_code == 0
            assert (check.__doc__ or "").split("\n")[0].strip() in result.stdout
            about, _, parameters = result.stdout.partition("\nParameters\n")
            assert "Args:" not in about
            for name, value in check().parameters.items():
                assert f"  {name}  " in parameters
                assert f"default {value!r}" in parameters

    def test_the_meaning_of_a_parameter_stands_beside_it(self) -> None:
        lines = run("checks", "hidden-text", env={"COLUMNS": "300"}).stdout.splitlines()
        at = lines.index("  block_rows  int, default 1")
        assert lines[at + 1].strip().startswith("rows of one kind")

    def test_an_unknown_check_gets_a_hint(self) -> None:
        assert 'did you mean "hidden-text"?' in one_line(run("checks", "hidden_text"))

    def test_a_check_without_parameters_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Bare(HiddenText):
            """Nothing at all."""

            id: ClassVar[str] = "bare"
            __dataclass_fields__: ClassVar[dict[str, Any]] = {}

        monkeypatch.setattr(checks, "get", lambda check_id: Bare)
        assert "No parameters" in run("checks", "bare").stdout


class TestPolicy:
    def test_init_then_check_then_load_is_the_default_policy(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert run("policy", "init").exit_code == 0
        result = run("policy", "check", "foretaste.yaml")
        assert result.exit_code == 0
        assert "is valid" in result.stdout
        assert foretaste.Policy.load("foretaste.yaml") == foretaste.Policy()
        assert foretaste.Policy().digest in result.stdout

    def test_init_overwrites_only_when_forced(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.yaml"
        file.write_text("mine")
        assert "--force" in one_line(run("policy", "init", file))
        assert file.read_text() == "mine"
        assert run("policy", "init", file, "--force").exit_code == 0
        assert file.read_text() == foretaste.Policy().to_yaml()

    def test_init_to_a_dash_prints(self) -> None:
        assert run("policy", "init", "-").stdout == foretaste.Policy().to_yaml()

    def test_init_in_a_missing_folder_is_one_line(self, tmp_path: Path) -> None:
        assert "cannot write" in one_line(run("policy", "init", tmp_path / "no/x.yaml"))

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("checks:\n  hiden-text: {}\n", 'did you mean "hidden-text"?'),
            ("checks:\n  hidden-text: {block_row: 2}\n", 'did you mean "block_rows"?'),
            ("checks: [\n", "not valid YAML"),
            ("", "no mapping"),
        ],
    )
    def test_a_bad_policy_is_named(self, tmp_path: Path, text: str, said: str) -> None:
        file = tmp_path / "p.yaml"
        file.write_text(text)
        assert said in one_line(run("policy", "check", file))

    def test_check_says_what_is_switched_off(self, tmp_path: Path) -> None:
        file = tmp_path / "p.yaml"
        file.write_text("checks:\n  hidden-text: {enabled: false}\n")
        assert "switched off: hidden-text" in run("policy", "check", file).stdout


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_a_script_is_printed_for_each_shell(self, shell: str) -> None:
        result = run("completion", shell)
        assert result.exit_code == 0
        assert f"_FORETASTE_COMPLETE={shell}_complete" in result.stdout

    @pytest.mark.parametrize(
        ("words", "offered"),
        [
            ("foretaste checks hid", ["hidden-text"]),
            ("foretaste scan --checks hid", ["hidden-text"]),
            ("foretaste scan --checks trigger-association,hid", ["trigger-association,hidden-text"]),
            ("foretaste scan --checks hidden-text,hid", []),
            ("foretaste scan --fail-on r", ["review"]),
            ("foretaste pol", ["policy"]),
        ],
    )
    def test_ids_of_checks_are_completed(self, words: str, offered: list[str]) -> None:
        env = {
            "_FORETASTE_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        assert run(env=env).stdout.split() == [f"plain,{o}" for o in offered]


def test_the_documentation_names_every_command_and_option() -> None:
    page = (Path(__file__).parent.parent / "docs/command-line.md").read_text(encoding="utf-8")

    def walk(command: click.Command, path: str) -> list[str]:
        options = [o for p in command.params if isinstance(p, click.Option) for o in p.opts if o.startswith("--")]
        below = command.commands.values() if isinstance(command, click.Group) else ()
        leaves = [path] if not below else []
        return [*leaves, *options, *(name for c in below for name in walk(c, f"{path} {c.name}"))]

    assert [name for name in walk(main, "foretaste") if name not in page] == []


class TestProcess:
    """What only a process of its own can show."""

    def test_help_loads_nothing_heavy(self) -> None:
        code = (
            "import sys; from foretaste.cli import main\n"
            "try: main(['scan', '--help'])\n"
            "except SystemExit as e: assert e.code == 0\n"
            "heavy = {'numpy', 'pyarrow', 'rich', 'jinja2', 'yaml', 'numba', 'sklearn', 'pandas'}\n"
            "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert "--out DIR" in done.stdout

    def test_a_reader_that_leaves_does_not_change_the_exit_code(self, files: Path, tmp_path: Path) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        args = ["scan", str(files / "clean.parquet"), *ONLY, "--out", str(tmp_path)]
        # Buffered, as it is where people run it: what is left over would be flushed at exit.
        env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        done = subprocess.run(
            [sys.executable, "-m", "foretaste.cli", *args], stdout=writing, stderr=subprocess.PIPE, text=True, env=env
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (0, "")

    def test_an_old_encoding_of_the_terminal_does_not_stop_the_summary(self, files: Path, tmp_path: Path) -> None:
        args = ["scan", str(files / "poisoned.parquet"), *ONLY, "--out", str(tmp_path)]
        done = subprocess.run(
            [sys.executable, "-m", "foretaste.cli", *args],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        )
        assert done.returncode == 1
        assert b"BLOCK" in done.stdout
        assert done.stderr == b""
