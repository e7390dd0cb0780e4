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
    "write a state with sketches of other sizes, odd tables or counts, its digests right": (
        "test_crafted_state.py::test_an_array_of_another_shape_or_type_is_refused",
        "test_crafted_state.py::test_a_table_that_is_none_of_a_state_is_refused",
        "test_crafted_state.py::test_counts_that_do_not_add_up_are_refused",
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
    "certify other data under a name that looks like one whose sequence is demanded": (
        "provenance/test_attacks.py::test_a_name_that_passes_for_one_whose_sequence_is_demanded",
    ),
    "flip, leave out, double or put in bytes of a signed file, or of one whose digests are put right again": (
        "provenance/test_malformed.py::test_bytes_that_flip_in_a_file_are_refused_by_name_or_leave_what_it_says",
        "test_crafted_state.py::test_bytes_that_flip_in_a_state_are_noticed_or_leave_a_state",
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
    "exchange the data while they are scanned, with the time of change set back": (
        "provenance/test_quarantine_attacks.py::"
        "test_a_writer_that_changes_the_data_while_they_are_scanned_and_sets_their_time_back",
        "reading/test_stores.py::test_an_object_written_anew_is_another_version_though_its_bytes_are_the_same",
    ),
    "exchange what is set apart, or released from quarantine, after its digest was compared": (
        "provenance/test_quarantine_attacks.py::test_exchanging_a_file_between_the_comparison_and_the_release",
        "provenance/test_quarantine_attacks.py::test_exchanging_the_data_between_the_comparison_and_the_quarantine",
    ),
    "write another manifest for a quarantine, with other files": (
        "provenance/test_quarantine_attacks.py::test_writing_a_manifest_to_go_with_other_files",
        "provenance/test_quarantine_attacks.py::test_changing_the_files_under_a_signed_manifest",
        "provenance/test_quarantine_attacks.py::test_taking_the_signature_away_or_giving_another",
        "provenance/test_quarantine_attacks.py::test_a_key_of_another_role_and_too_few_keys_do_not_count",
        "provenance/test_quarantine_attacks.py::test_passing_another_statement_or_another_run_for_the_signature",
    ),
    "write the report that a quarantine, a waiver or a baseline goes by, or the rows that it names": (
        "provenance/test_quarantine_attacks.py::test_taking_a_finding_out_of_the_report_that_a_quarantine_goes_by",
        "provenance/test_quarantine_attacks.py::test_exchanging_the_rows_that_a_long_report_names_in_another_file",
        "provenance/test_quarantine_attacks.py::"
        "test_giving_a_report_that_nobody_signed_to_a_waiver_a_review_and_a_baseline",
    ),
    "give a signed report of the same data under fewer checks": (
        "provenance/test_quarantine_attacks.py::test_giving_a_signed_report_of_the_same_data_under_fewer_checks",
    ),
    "exchange the clean file between a gate's second scan and training": (
        "operators/test_gate.py::test_the_digest_that_training_compares_is_that_of_the_rows_that_were_set_apart",
        "operators/test_gate.py::test_a_quarantine_of_other_rows_that_pass_fails",
    ),
    "exchange an object of a store between scan and certificate": (
        "reading/test_stores.py::test_an_object_that_is_exchanged_between_scan_and_certificate_is_not_certified",
        "provenance/test_remote.py::test_a_store_that_serves_other_bytes_at_every_read_is_refused_or_read_once",
    ),
    "name columns anew for pandas alone, in the notes of a Parquet or Feather file": (
        "reading/test_two_readers.py::test_columns_that_pandas_is_told_to_call_otherwise_are_refused",
    ),
    "a Parquet footer whose counts do not add up, or whose columns lie in another file": (
        "reading/test_two_readers.py::test_a_footer_whose_rows_do_not_add_up_is_refused",
        "reading/test_two_readers.py::test_a_parquet_file_whose_columns_lie_in_another_is_refused",
        "reading/test_two_readers.py::test_bytes_behind_or_before_the_rows_of_parquet_are_refused",
        "reading/test_two_readers.py::test_two_parquet_files_in_one_are_read_alike",
    ),
    "encrypt columns, so that Arrow ends the process, or hide bytes behind what a footer says": (
        "reading/test_two_readers.py::test_encrypted_columns_are_refused_before_arrow_ends_the_process",
        "reading/test_two_readers.py::test_bytes_behind_what_a_footer_says_are_refused",
    ),
    "name a field twice, pack files in several parts, hide rows behind NUL, a byte order mark or a quote": (
        "reading/test_two_readers.py::test_the_rows_that_are_scanned_are_those_that_are_trained_on",
        "reading/test_two_readers.py::test_a_field_that_is_named_twice_where_arrow_does_not_look_is_refused",
    ),
    "rows nested so deep that the reader's stack ends": (
        "reading/test_two_readers.py::test_a_row_that_is_nested_without_end_is_an_error_and_not_the_end_of_the_process",
    ),
    (
        "a folder that links back to itself or to what is not there yet, a second name for a certified file, a linked folder"
    ): (
        "reading/test_two_readers.py::test_a_folder_that_holds_itself_or_what_is_not_there_yet_is_refused",
        "provenance/test_attacks.py::test_a_second_name_of_a_file_is_no_way_into_the_copy",
        "provenance/test_attacks.py::test_exchanging_what_a_linked_folder_leads_to",
    ),
    "let a file grow or shrink while it is read": (
        "reading/test_two_readers.py::test_a_file_that_grows_faster_than_it_is_read_does_not_keep_the_gate_busy",
        "reading/test_two_readers.py::test_a_file_that_shrinks_after_it_was_listed_is_refused",
    ),
    (
        "a document of somebody else (certificate, chain, delivery, proof, report, state, waiver, manifest) with odd types, "
        "missing keys, NaN, a key twice, or nested without end"
    ): (
        "provenance/test_malformed.py::test_a_document_with_one_odd_value_is_refused_by_name_or_says_what_it_says",
        "provenance/test_malformed.py::test_json_that_two_readers_may_read_otherwise_is_refused",
        "provenance/test_malformed.py::test_yaml_that_cannot_be_read_is_refused_by_name",
        "provenance/test_malformed.py::test_a_file_that_is_no_state_is_refused_by_name",
    ),
    "hide or change a rule by YAML's merge keys and aliases, or fill the memory with them": (
        "provenance/test_malformed.py::test_a_rule_that_is_written_elsewhere_in_the_file_is_refused",
        "provenance/test_malformed.py::test_a_bomb_of_aliases_does_no_work",
    ),
    (
        "a line of the trust file that does nothing (a digest to revoke with a typing error, `revoked:` without a reason, "
        "a number as a name)"
    ): ("provenance/test_malformed.py::test_a_line_of_a_trust_file_that_would_do_nothing_is_refused",),
    "a delivery that lists no source, or spells the key otherwise, so that it vouches for all rows": (
        "provenance/test_malformed.py::test_a_delivery_that_narrows_nothing_does_not_vouch_for_every_row",
    ),
    "weaken the gate by the environment": (
        "test_environment.py::test_every_variable_that_is_read_stands_in_the_threat_model",
        "test_environment.py::test_no_variable_stands_for_an_option",
        "test_environment.py::test_a_gate_without_assertions_and_docstrings_refuses_as_well",
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
