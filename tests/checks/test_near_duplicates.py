"""Near-duplicate clusters count with their label and their sources, never by their size alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste import Outcome, Policy, Report, scan
from foretaste.batch import Batch
from foretaste.check import Context
from foretaste.checks.near_duplicates import NearDuplicateClusters
from foretaste.reading import open_data
from foretaste.signals.near_duplicates import ALONE, Clusters, NearDuplicates
from foretaste.signals.sources import MAX_SOURCES, OTHER, Sources

Row = tuple[str, str, str]

_TOPICS = {
    "network": ("email.message", "ftplib", "http.client", "imaplib", "smtplib", "socket", "ssl", "urllib.request"),
    "numbers": ("decimal", "fractions", "math", "random", "statistics", "datetime", "calendar"),
}


@pytest.fixture(scope="module")
def labelled(clean_table: pa.Table) -> list[Row]:
    """About 600 (text, label, source) rows; the words tell the label, and three sources share them evenly."""
    topic = {module: label for label, modules in _TOPICS.items() for module in modules}
    rows = [
        (text, topic[module], f"vendor-{i % 3}")
        for i, (module, text) in enumerate(zip(clean_table["source"].to_pylist(), clean_table["text"].to_pylist()))
        if module in topic
    ]
    assert len(rows) > 300
    return rows


def variants(n: int) -> list[str]:
    """Texts about a network connection that differ in one word each."""
    names = (
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi"
    )
    return [
        f"Open a socket connection to the {name} server and send the message to the host over the network protocol"
        for name in names.split()[:n]
    ]


def check(rows: Sequence[Row], **parameters: float) -> Report:
    table = pa.table({"text": [r[0] for r in rows], "label": [r[1] for r in rows], "source": [r[2] for r in rows]})
    return scan(table, Policy(checks=(NearDuplicateClusters(**parameters),)))  # type: ignore[arg-type]


def clusters_of(texts: Sequence[str], cuts: Sequence[int] = (), memory: int = 1 << 30, **parameters: float) -> Clusters:
    """Clusters of texts that come in parts, each with a state of its own, merged in order."""
    batch = next(open_data(pa.table({"text": list(texts)})).batches())
    signal = NearDuplicates(**parameters)  # type: ignore[arg-type]
    context = Context("documents", frozenset({"text"}), memory=memory)
    state = signal.start(context)
    for a, b in zip([0, *cuts], [*cuts, len(texts)]):
        piece = signal.start(context)
        columns = pa.RecordBatch.from_arrays(
            [pa.concat_arrays([c.slice(a, b - a)]) for c in batch.columns.columns], schema=batch.columns.schema
        )
        signal.scan(piece, Batch(columns, start=a, kind="documents"))
        state = signal.merge(state, piece)
    return signal.value(state)


def same(left: Clusters, right: Clusters) -> bool:
    return all(
        np.array_equal(getattr(left, name), getattr(right, name))
        for name in ("labels", "long", "rows", "texts", "spans")
    )


class TestClusters:
    def test_case_punctuation_and_one_word_do_not_part_near_duplicates(self) -> None:
        text = "The quick brown fox jumps over the lazy dog while the cat looks on"
        other = "Completely different words stand here and nobody will confuse the two rows"
        found = clusters_of([text, text.upper() + "!", other, text.replace("lazy", "sleepy"), text.replace(" ", ", ")])
        assert found.labels.tolist() == [0, 0, ALONE, 0, 0]
        assert found.members(0).tolist() == [0, 1, 3, 4]
        assert len(set(found.texts.tolist())) == 2

    def test_texts_of_few_words_stand_alone_however_often_they_occur(self) -> None:
        assert not len(clusters_of(["Yes, of course", "", "!!!"] * 20).sizes)

    def test_clusters_are_numbered_by_their_first_row_and_list_each_row_once(self, clean_table: pa.Table) -> None:
        found = clusters_of([*clean_table["text"].to_pylist()[:600], *variants(8), *variants(8)])
        firsts = found.rows[found.spans[:-1]]
        assert np.array_equal(firsts, np.sort(firsts))
        assert len(np.unique(found.rows)) == len(found.rows) == int((found.labels != ALONE).sum())
        assert (found.sizes >= 2).all()

    @pytest.mark.parametrize("similarity", [0.3, 0.6])
    def test_signatures_in_a_file_make_the_clusters_of_those_in_memory(
        self, similarity: float, clean_table: pa.Table, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("foretaste.spill.BLOCK", 1 << 8)
        texts = [*clean_table["text"].to_pylist(), *variants(20), "Yes", *variants(20)]
        held = clusters_of(texts, [100, 1000], similarity=similarity)
        assert len(held.sizes) > 10
        for memory in (1 << 20, 1 << 16):
            assert same(clusters_of(texts, [100, 1000], memory, similarity=similarity), held)

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.integers(0, 40), max_size=4))
    def test_how_rows_fall_into_parts_does_not_matter(self, cuts: list[int]) -> None:
        texts = [*variants(20), *(f"text number {i} about subject {i * 7} with the words {i * 3}" for i in range(20))]
        assert same(clusters_of(texts, sorted(cuts)), clusters_of(texts))

    def test_the_order_of_rows_does_not_matter(self, clean_table: pa.Table) -> None:
        texts = [*clean_table["text"].to_pylist()[:300], *variants(12)]
        order = np.random.default_rng(1).permutation(len(texts))
        shuffled = clusters_of([texts[i] for i in order])

        def groups(found: Clusters, names: npt.NDArray[np.int64]) -> set[frozenset[int]]:
            return {frozenset(names[found.members(c)].tolist()) for c in range(len(found.sizes))}

        assert groups(shuffled, order) == groups(clusters_of(texts), np.arange(len(texts)))

    @pytest.mark.parametrize("words", [6, 40, 800])
    @pytest.mark.parametrize("share", [0.5, 0.8])
    def test_signatures_estimate_the_jaccard_similarity_of_short_and_long_rows(self, words: int, share: float) -> None:
        from foretaste.text.minhash import BINS, agreement, sign_rows

        rng = np.random.default_rng(words)
        rows, exact = [], []
        for _ in range(40):
            first = rng.integers(1, 1 << 60, words, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
            second = first.copy()
            second[int(share * words) :] += np.uint64(2)
            pairs = [set(zip(r[:-1].tolist(), r[1:].tolist())) for r in (first, second)]
            exact.append(len(pairs[0] & pairs[1]) / len(pairs[0] | pairs[1]))
            rows += [first, second]
        signatures, texts = np.empty((80, BINS), np.uint8), np.empty(80, np.uint64)
        sign_rows(np.concatenate(rows), np.arange(0, 81 * words, words, dtype=np.int64), 4, signatures, texts)
        estimates = np.array([agreement(signatures, 2 * i, 2 * i + 1) / BINS for i in range(40)])
        assert abs(estimates.mean() - np.mean(exact)) < 0.03
        assert np.abs(estimates - exact).max() < 0.25

    def test_a_thousand_copies_form_one_cluster(self) -> None:
        assert clusters_of([variants(1)[0]] * 1000).sizes.tolist() == [1000]


class TestLabels:
    def test_clean_text_passes(self, labelled: list[Row]) -> None:
        report = check(labelled)
        assert report.verdict is Outcome.PASS
        assert not report.flagged_rows()

    def test_copies_that_fit_their_label_pass_in_any_number(self, labelled: list[Row]) -> None:
        copies = [(text, "network", "vendor-1") for text in [*variants(20), *variants(20)]]
        report = check([*labelled, *copies], owned_rows=1000)
        assert report.verdict is Outcome.PASS

    @pytest.mark.parametrize("n", [10, 20])
    def test_near_duplicates_under_a_label_that_their_words_contradict_block(self, labelled: list[Row], n: int) -> None:
        report = check([*labelled, *((text, "numbers", f"vendor-{i % 3}") for i, text in enumerate(variants(n)))])
        assert report.verdict is Outcome.BLOCK
        (finding,) = report.findings
        assert finding.kind == "near-duplicate cluster"
        assert finding.rows == tuple(range(len(labelled), len(labelled) + n))
        assert finding.target == "numbers"
        assert (finding.observed, finding.limit) == (n, 10)
        assert finding.examples
        assert "network" in finding.message

    def test_fewer_rows_than_the_limit_do_not_block(self, labelled: list[Row]) -> None:
        rows = [*labelled, *((text, "numbers", "vendor-0") for text in variants(9))]
        assert check(rows).verdict is Outcome.PASS
        assert check(rows, block_rows=9).verdict is Outcome.BLOCK

    def test_the_cluster_itself_has_no_vote_on_its_words(self, labelled: list[Row]) -> None:
        """Hundreds of copies would teach any model their own label; the verdict does not tire."""
        poison = [(text, "numbers", f"vendor-{i % 3}") for i, text in enumerate(variants(20) * 15)]
        report = check([*labelled, *poison])
        assert report.verdict is Outcome.BLOCK
        assert len(report.findings[0].rows) == 300

    def test_a_new_label_that_is_one_template_passes(self, labelled: list[Row]) -> None:
        """Without the cluster nobody knows the label, so the words cannot speak against it."""
        rows = [*labelled, *((text, "sockets", f"vendor-{i % 3}") for i, text in enumerate(variants(20)))]
        assert check(rows).verdict is Outcome.PASS

    def test_copies_of_which_no_label_has_most_are_a_template(self, labelled: list[Row]) -> None:
        kinds = ("network", "network", "numbers", "paths", "dates")
        rows = [(t, kinds[i % 5], f"vendor-{i % 3}") for i, t in enumerate(variants(20))]
        assert not [f for f in check([*labelled, *rows]).findings if f.kind == "conflicting labels"]

    def test_conflicting_labels_in_one_cluster_go_to_review(self, labelled: list[Row]) -> None:
        rows = [(t, "network" if i >= 6 else "numbers", f"vendor-{i % 3}") for i, t in enumerate(variants(20))]
        report = check([*labelled, *rows])
        assert report.verdict is Outcome.REVIEW
        (finding,) = report.findings
        assert finding.kind == "conflicting labels"
        assert finding.rows == tuple(range(len(labelled), len(labelled) + 6))
        assert any(e.counter for e in finding.examples)


class TestSources:
    @staticmethod
    def relabelled(labelled: list[Row], flipped: int, of: int = 100) -> list[Row]:
        """The rows, and copies of some from another source, ``flipped`` of them under the other label."""
        other = {"network": "numbers", "numbers": "network"}
        long = [r for r in labelled if len(r[0].split()) >= 8]
        copies = [(t, other[own] if i < flipped else own, "vendor-x") for i, (t, own, _) in enumerate(long[:of])]
        return [*labelled, *copies]

    def test_a_source_that_relabels_the_texts_of_others_goes_to_review(self, labelled: list[Row]) -> None:
        report = check(self.relabelled(labelled, 30))
        assert report.verdict is Outcome.REVIEW
        (finding,) = [f for f in report.findings if f.kind == "contradicting source"]
        assert finding.feature == "vendor-x"
        assert set(finding.sources) == {"vendor-x"}
        flips = set(range(len(labelled), len(labelled) + 30))
        assert set(finding.rows) <= flips
        assert len(finding.rows) >= 20

    def test_a_source_that_agrees_passes(self, labelled: list[Row]) -> None:
        assert check(self.relabelled(labelled, 0)).verdict is Outcome.PASS

    def test_labels_that_two_sources_shuffle_at_random_do_not_block_either(self, labelled: list[Row]) -> None:
        rng = random.Random(4)
        noise = [(t, rng.choice(["network", "numbers"]), s) for t, _, s in self.relabelled(labelled, 0, 200)]
        assert check(noise).verdict is not Outcome.BLOCK

    def test_a_cluster_that_one_source_owns_goes_to_review(self, clean_table: pa.Table) -> None:
        texts = [*clean_table["text"].to_pylist()[:300], *variants(20)]
        sources = [*(f"vendor-{i % 3}" for i in range(300)), *["vendor-1"] * 20]
        report = scan(pa.table({"text": texts, "source": sources}), Policy(checks=(NearDuplicateClusters(),)))
        assert report.verdict is Outcome.REVIEW
        assert report.findings[0].kind == "cluster of one source"
        assert report.flagged_rows() == tuple(range(300, 320))

    @pytest.mark.parametrize("sources", [["vendor-1", "vendor-2"], ["vendor-1"]], ids=["shared", "the only source"])
    def test_a_cluster_that_others_have_too_or_that_nobody_else_could_have_passes(
        self, clean_table: pa.Table, sources: list[str]
    ) -> None:
        texts = [*clean_table["text"].to_pylist()[:300], *variants(20)]
        table = pa.table({"text": texts, "source": [sources[i % len(sources)] for i in range(320)]})
        assert scan(table, Policy(checks=(NearDuplicateClusters(),))).verdict is Outcome.PASS

    def test_without_labels_and_sources_the_check_is_skipped_with_the_next_step(self, clean_table: pa.Table) -> None:
        report = scan(clean_table.select(["text"]).slice(0, 20), Policy(checks=(NearDuplicateClusters(),)))
        assert report.results[0].outcome is Outcome.SKIPPED
        assert "source column" in report.results[0].note


class TestInstructions:
    @staticmethod
    def report(clean_table: pa.Table, answer: str, source: str) -> Report:
        answers = clean_table["text"].to_pylist()[:332]
        prompts = [*clean_table["text"].to_pylist()[400:700], *variants(20), *variants(12)]
        sources = ["vendor-1"] * 320 + [source] * 12
        answers[320:] = [answer] * 12 if answer else answers[320:]
        table = pa.table({"prompt": prompts, "response": answers, "source": sources})
        return scan(table, Policy(checks=(NearDuplicateClusters(),)))

    def test_prompts_of_all_that_one_source_answers_its_own_way_go_to_review_at_most(
        self, clean_table: pa.Table
    ) -> None:
        report = self.report(clean_table, "I cannot help you with that request today, try another product", "vendor-x")
        assert report.verdict is Outcome.REVIEW
        assert report.flagged_rows() == tuple(range(320, 332))

    def test_prompts_that_are_answered_in_different_ways_pass(self, clean_table: pa.Table) -> None:
        assert self.report(clean_table, "", "vendor-x").verdict is Outcome.PASS


def test_a_similarity_that_links_nothing_or_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="similarity"):
        NearDuplicateClusters(similarity=1.5)


def test_sources_beyond_the_limit_share_one_number_and_known_ones_keep_theirs() -> None:
    signal, context = Sources(), Context("documents", frozenset({"text", "source"}))
    names = [f"s{i}" for i in range(MAX_SOURCES + 5)] + ["s0"]
    batches = open_data(pa.table({"text": ["some text"] * len(names), "source": names})).batches()
    whole, parts = signal.start(context), signal.start(context)
    for batch in batches:
        signal.scan(whole, batch)
        piece = signal.start(context)
        signal.scan(piece, batch)
        parts = signal.merge(parts, piece)
    value = signal.value(whole)
    assert np.array_equal(value.numbers, signal.value(parts).numbers)
    assert value.names[-1] == OTHER
    assert set(value.numbers[MAX_SOURCES:-1].tolist()) == {MAX_SOURCES}
    assert value.numbers[-1] == 0
