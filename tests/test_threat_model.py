"""Every row of the threat model that says *tested* names an attack that these tests carry out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PAGE = (HERE.parent / "docs" / "threat-model.md").read_text(encoding="utf-8")

# The attack, as the page has it -> tests.
TESTED = {
    "exchange the file after the scan": (
        "provenance/test_attacks.py::test_swapping_a_file_between_gate_and_training",
        "hosts/test_airflow.py::test_require_gate_refuses_data_that_changed_after_the_scan",
        "hosts/test_airflow.py::test_anything_but_a_good_answer_keeps_training_blocked",
    ),
    "leave a pass of yesterday in the folder": (
        "test_cli.py::test_bad_input_is_one_line_and_leaves_no_report_of_an_earlier_scan",
        "operators/test_gate.py::test_a_failed_scan_leaves_no_earlier_pass_behind",
    ),
    "damage a state, or offer one of other roles": (
        "test_history.py::test_a_damaged_state_is_an_error_and_stays_as_it_is",
        "test_history.py::test_other_roles_are_an_error_that_names_both",
    ),
    "edit a row, drop, add or rename a file, reorder or cut the chain, under a certificate": (
        "provenance/test_attacks.py::test_editing_a_row_and_keeping_the_row_count",
        "provenance/test_attacks.py::test_adding_and_taking_away_a_file",
        "provenance/test_attacks.py::test_renaming_and_exchanging_files",
        "provenance/test_attacks.py::test_truncating_or_exchanging_the_chain",
    ),
    "show an old certificate with its old data": (
        "provenance/test_attacks.py::test_replaying_old_data_with_their_old_certificate",
        "provenance/test_attacks.py::test_rolling_back_to_an_older_state_with_its_own_certificate",
        "provenance/test_certificate.py::test_age_revocation_and_policy_are_held_against_a_certificate",
    ),
    "put a file beside certified data that other readers read, or follow to other files": (
        "provenance/test_attacks.py::test_hiding_a_file_where_only_other_readers_look",
        "provenance/test_attacks.py::test_adding_an_index_that_leads_other_readers_to_other_files",
        "provenance/test_attacks.py::test_planting_a_name_that_gives_rows_later",
        "provenance/test_attacks.py::test_changing_what_a_saved_data_set_says_of_its_files",
        "provenance/test_attacks.py::test_hiding_a_file_beside_data_that_were_certified_row_by_row",
    ),
    "write a `report.json` that says pass": (
        "provenance/test_attacks.py::test_writing_a_report_that_passes_and_having_it_certified",
        "provenance/test_attacks.py::test_passing_another_signed_statement_for_a_signed_scan",
    ),
    "sign with Sigstore as somebody else, or through another instance": (
        "provenance/test_sigstore.py::test_an_identity_that_is_not_trusted_is_refused",
        "provenance/test_sigstore.py::test_another_instance_is_refused_whatever_identity_it_certifies",
        "provenance/test_sigstore.py::test_an_entry_that_is_not_in_the_log_is_refused",
    ),
    "certify under a policy with fewer checks": ("provenance/test_attacks.py::test_downgrading_the_policy",),
    "sign with a stolen key after its date": (
        "provenance/test_dsse.py::test_unknown_revoked_and_expired_keys_and_other_roles_do_not_count",
    ),
    "forge, extend or reuse a waiver": (
        "test_waivers.py::test_a_forged_waiver_blocks_whatever_else_it_says",
        "test_waivers.py::test_an_expired_waiver_blocks_with_the_reason_even_for_a_review_finding",
        "test_waivers.py::test_changed_data_void_it_although_the_finding_is_the_same",
        "test_waivers.py::test_a_policy_that_demands_signatures_takes_no_other_waiver",
        "provenance/test_attacks.py::test_forging_a_waiver_in_a_certificate",
    ),
    "make a check fail, so that the data are passed unchecked": (
        "test_engine.py::test_a_check_that_raises_is_an_error_and_the_others_go_on",
        "test_engine.py::test_an_error_outweighs_a_block",
        "operators/test_gate.py::test_an_error_fails_whatever_the_gate_should_do_about_poison",
        "hosts/test_expectations.py::test_a_check_that_breaks_fails_with_its_reason",
    ),
    "empty data, an empty suite, a check that does not apply": (
        "reading/test_bad_input.py::test_no_rows_are_refused",
        "test_engine.py::test_skipped_checks_alone_are_no_pass",
        "report/test_markdown.py::test_what_was_not_looked_at_stands_in_it",
        "hosts/test_expectations.py::test_no_rows_are_never_a_pass",
        "hosts/test_expectations.py::test_an_empty_suite_succeeds_and_the_guard_names_it",
        "hosts/test_expectations.py::test_a_check_that_does_not_apply_fails_with_its_reason",
    ),
    "put text into rows that acts in the report, the terminal, or a code review": (
        "report/test_html.py::test_no_text_from_data_comes_out_raw",
        "report/test_page.py::test_a_script_or_picture_put_into_the_page_does_not_run",
        "report/test_terminal.py::test_no_text_from_data_reaches_the_terminal_raw",
        "report/test_markdown.py::test_text_from_the_data_acts_nowhere",
        "hosts/test_expectations.py::test_no_value_comes_out_raw_in_data_docs",
        "hosts/test_airflow_page.py::test_a_hostile_name_is_escaped",
    ),
}


def _marked() -> list[str]:
    rows = [re.split(r" *(?<!\\)\| *", line.strip("| ")) for line in PAGE.splitlines() if line.startswith("| ")]
    return [row[0] for row in rows if row[-1] == "tested"]


@cache
def _tests(file: Path) -> set[str]:
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_mark_has_its_tests_and_every_test_its_mark() -> None:
    assert len(_marked()) == PAGE.count("| tested |")
    assert sorted(_marked()) == sorted(TESTED)


@pytest.mark.parametrize("attack", TESTED)
def test_the_tests_of_an_attack_are_there(attack: str) -> None:
    for test in TESTED[attack]:
        file, _, name = test.partition("::")
        assert name in _tests(HERE / file), test
