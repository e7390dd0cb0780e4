"""``foretaste init``: where a starting point lands, what it says, and that it never overwrites.

That each file runs in its host stands in ``test_docs.py``, where the tutorials do, and in ``test_examples.py``; that a
package of a check is found, in ``test_third_party.py``.
"""

from __future__ import annotations

import ast
import html
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from foretaste.cli import main

GATE = "foretaste_gate.py"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIRFLOW__CORE__DAGS_FOLDER", raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "nowhere"))
    pq.write_table(pa.table({"question": ["q"], "answer": ["a"], "url": ["u"]}), tmp_path / "data.parquet")
    return tmp_path


def init(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", *arguments])


def made(*places: str) -> None:
    for place in places:
        path = Path(place)
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True)


def test_roles_are_guessed_from_the_data_and_said_so(project: Path) -> None:
    made("dags")
    result = init("airflow", "--data", "data.parquet")
    text = (project / "dags" / GATE).read_text()
    assert 'roles={"prompt": "question", "response": "answer", "source": "url"}' in text
    assert "guessed from the columns: prompt, response, source" in text
    assert str(project / "data.parquet") in text
    assert result.output == f"wrote dags/{GATE}\nnext: airflow dags test foretaste_gate\n"


def test_without_data_a_placeholder_stands_there(project: Path) -> None:
    made("dags")
    assert init("airflow").exit_code == 0
    text = (project / "dags" / GATE).read_text()
    assert '"/data/train.parquet"' in text
    assert "name the columns" in text
    ast.parse(text)


def test_names_of_columns_and_files_cannot_act_in_what_is_written(project: Path) -> None:
    made("dags")
    name = 'od\u202ed"name'
    pq.write_table(pa.table({name: ["t"]}).rename_columns(["text"]), project / f"{name}.parquet")
    assert init("airflow", "--data", f"{name}.parquet").exit_code == 0
    text = (project / "dags" / GATE).read_text()
    assert text.isascii()
    [place] = [
        node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant) and name in str(node.value)
    ]
    assert place == str(project / f"{name}.parquet")


@pytest.mark.parametrize("command", ["airflow", "dagster", "gx"])
def test_what_exists_is_not_overwritten(project: Path, command: str) -> None:
    made("dags", "definitions.py", "gx/great_expectations.yml")
    assert init(command).exit_code == 0
    [file] = project.rglob(GATE)
    file.write_text("mine")
    result = init(command)
    assert result.exit_code == 2
    assert "nothing is overwritten" in result.output
    assert file.read_text() == "mine"


@pytest.mark.parametrize("command", ["airflow", "dagster", "gx"])
def test_a_folder_without_a_project_is_named_and_nothing_is_written(project: Path, command: str) -> None:
    before = sorted(project.rglob("*"))
    result = init(command)
    assert result.exit_code == 2
    assert "--into" in result.output
    assert sorted(project.rglob("*")) == before


def test_data_that_cannot_be_read_are_an_error_and_nothing_is_written(project: Path) -> None:
    made("dags")
    assert init("airflow", "--data", "gone.parquet").exit_code == 2
    assert not list(project.rglob(GATE))


class TestAirflow:
    @pytest.mark.parametrize("how", ["folder", "variable", "configuration", "home"])
    def test_the_dags_folder_is_found(self, project: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
        made("elsewhere")
        if how == "folder":
            made("dags")
        elif how == "variable":
            monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(project / "elsewhere"))
        elif how == "configuration":
            (project / "airflow.cfg").write_text(f"[core]\ndags_folder = {project}/elsewhere\n")
        else:
            made("home/dags")
            monkeypatch.setenv("AIRFLOW_HOME", str(project / "home"))
        assert init("airflow").exit_code == 0
        places = {"folder": "dags", "home": "home/dags"}
        assert (project / places.get(how, "elsewhere") / GATE).exists()


class TestDagster:
    @pytest.mark.parametrize("file", ["dg.toml", "pyproject.toml"])
    def test_the_folder_of_a_project_is_found(self, project: Path, file: str) -> None:
        table = "project" if file == "dg.toml" else "tool.dg.project"
        Path(file).write_text(f'[{table}]\nroot_module = "mine"\n')
        made("src/mine/defs")
        result = init("dagster", "--data", "data.parquet")
        assert result.exit_code == 0
        text = (project / "src" / "mine" / "defs" / "foretaste_gate" / "defs.yaml").read_text()
        written = yaml.safe_load(text)["attributes"]
        assert written["path"] == str(project / "data.parquet")
        assert written["roles"] == {"prompt": "question", "response": "answer", "source": "url"}
        assert "guessed from the columns: prompt, response, source" in text
        assert init("dagster").exit_code == 2
        assert (project / "src" / "mine" / "defs" / "foretaste_gate" / "defs.yaml").read_text() == text

    @pytest.mark.parametrize("name", ['od\u202ed"name\\', "\U0001f600: # &x", "{{ env.HOME }}", "{% raw %}"])
    def test_names_cannot_act_in_a_component(self, project: Path, name: str) -> None:
        Path("dg.toml").write_text('[project]\nroot_module = "mine"\n')
        made("src/mine/defs")
        pq.write_table(pa.table({"text": ["t"]}), project / f"{name}.parquet")
        result = init("dagster", "--data", f"{name}.parquet")
        written = list(project.rglob("defs.yaml"))
        if "{" in name:
            assert result.exit_code == 2
            assert "template" in result.output
            assert not written
        else:
            text = written[0].read_text()
            assert text.isascii()
            assert yaml.safe_load(text)["attributes"]["path"] == str(project / f"{name}.parquet")

    def test_beside_definitions_py_it_says_how_to_join_them(self, project: Path) -> None:
        made("mine/definitions.py")
        result = init("dagster")
        assert (project / "mine" / GATE).exists()
        assert "dg.Definitions.merge(defs, foretaste_gate.defs)" in result.output

    def test_two_folders_of_definitions_are_a_question(self) -> None:
        made("one/definitions.py", "two/definitions.py")
        result = init("dagster")
        assert result.exit_code == 2
        assert "one/definitions.py, two/definitions.py" in result.output


class TestGreatExpectations:
    def test_an_older_folder_is_known(self, project: Path) -> None:
        made("great_expectations/great_expectations.yml")
        assert init("gx").exit_code == 0
        assert '/ "great_expectations"' in (project / GATE).read_text()

    def test_data_that_are_not_one_file_are_refused(self, project: Path) -> None:
        made("gx/great_expectations.yml")
        result = init("gx", "--data", "data/")
        assert result.exit_code == 2
        assert ".parquet" in result.output

    def test_what_is_written_ends_with_code_2_where_the_data_could_not_be_checked(self, project: Path) -> None:
        gx = pytest.importorskip("great_expectations")
        gx.get_context(mode="file", project_root_dir=project)
        pq.write_table(pa.table({"text": ["one", "two"], "label": ["a", "b"]}), "data.parquet")
        assert init("gx", "--data", "data.parquet").exit_code == 0
        run = [sys.executable, GATE]
        pq.write_table(pa.table({"body": ["one", "two"], "label": ["a", "b"]}), "data.parquet")
        done = subprocess.run(run, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert 'error: CheckError: nothing was checked: InputError: no column "text"' in html.unescape(done.stderr)
        Path("data.parquet").unlink()
        done = subprocess.run(run, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert "error: " in done.stderr


class TestCheck:
    @pytest.mark.parametrize("name", ["Upper", "two words", "../up", "a_b", ""])
    def test_a_name_that_is_no_id_is_refused(self, project: Path, name: str) -> None:
        assert init("check", name).exit_code == 2
        assert not list(project.glob("foretaste-*"))

    def test_a_check_that_exists_is_refused(self) -> None:
        assert "installed already" in init("check", "hidden-text").output

    def test_a_folder_that_exists_is_left_alone(self, project: Path) -> None:
        made("foretaste-mine")
        assert init("check", "mine").exit_code == 2
        assert not list((project / "foretaste-mine").iterdir())
