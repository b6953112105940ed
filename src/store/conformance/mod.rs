//! What every backend is held to, written against the trait alone.
//!
//! A backend says where its stores live ([`Place`]) and calls the macro `conformance!`, which makes one test of each case.
//! Beside the cases there are random histories, compared with a model.
//! The cases know no SQL, no file and no backend.

pub(crate) mod blobs;
pub(crate) mod cached;
pub(crate) mod callbacks;
pub(crate) mod dependents;
pub(crate) mod evidence;
pub(crate) mod fixtures;
pub(crate) mod model;
pub(crate) mod people;
pub(crate) mod repairs;
pub(crate) mod retention;
pub(crate) mod rows;
pub(crate) mod runs;
pub(crate) mod search;

use std::sync::Arc;

use super::Store;

/// Somewhere durable, empty at first, where one store at a time lives.
#[async_trait::async_trait]
pub(crate) trait Place: Send + Sync {
    /// Opens the store that is there. The one before was closed.
    async fn open(&self) -> Arc<dyn Store>;
}

/// One test per case; `$place` makes a fresh [`Place`].
macro_rules! conformance {
    ($place:expr => $($group:ident: $($case:ident),* $(,)?);* $(;)?) => {
        $($(
            #[tokio::test]
            async fn $case() {
                let place = $place;
                let place: &dyn crate::store::conformance::Place = &place;
                crate::store::conformance::$group::$case(place).await;
            }
        )*)*
    };
    ($place:expr) => {
        #[test]
        fn random_histories_agree_with_the_plain_model() {
            crate::store::conformance::model::histories(|| $place);
        }

        #[test]
        fn random_comings_and_goings_agree_with_a_plain_map() {
            crate::store::conformance::people::histories(|| $place);
        }

        crate::store::conformance::conformance! { $place =>
            runs:
                a_run_is_read_back_as_it_was_inserted,
                a_run_is_read_back_as_it_was_finished,
                the_votes_of_a_final_live_and_die_with_it,
                insert_and_finish_in_one_batch_leave_one_final_run,
                an_id_is_inserted_once,
                a_stale_epoch_changes_nothing,
                a_final_run_never_changes,
                of_racing_finals_exactly_one_wins,
                a_refused_write_does_not_abort_its_batch,
                writes_of_a_run_that_is_not_there_are_refused,
                an_idempotency_key_belongs_to_one_run_of_its_workspace,
                racing_duplicates_create_one_run,
                open_runs_are_listed_oldest_first_with_what_was_written_of_them,
                adopting_raises_the_epoch_of_open_runs_only,
                the_newest_instant_is_of_any_run_and_of_its_end,
                acknowledged_writes_survive_reopening;
            search:
                lists_are_newest_first_filtered_and_paged,
                runs_are_found_by_worker_verdict_and_text,
                a_search_that_finds_little_goes_on_where_it_stopped,
                recent_finals_tell_what_the_figures_need,
                the_outlook_is_what_retention_will_do;
            evidence:
                evidence_is_appended_and_read_newest_first,
                evidence_is_trimmed_from_its_old_end,
                the_standing_of_a_worker_is_the_fold_of_its_whole_log;
            blobs:
                a_blob_row_is_made_once_and_pinned_for_the_longest,
                many_blobs_are_pinned_at_once_or_the_missing_one_is_named,
                a_run_with_a_missing_input_is_not_inserted,
                a_final_with_a_missing_output_is_not_written,
                the_empty_blob_needs_no_row,
                a_run_counts_once_per_distinct_blob,
                garbage_is_neither_referenced_nor_pinned,
                garbage_is_taken_in_bounded_batches_and_files_are_named,
                an_unnamed_blob_of_a_final_is_kept_with_its_run;
            retention:
                retention_by_age_takes_only_final_runs_that_ended_before,
                retention_by_count_keeps_the_newest,
                retention_is_bounded_and_frees_what_nothing_else_refers_to,
                a_deleted_run_frees_its_idempotency_key;
            cached:
                finals_that_may_answer_others_are_found_newest_first,
                an_answer_from_the_cache_is_there_with_its_result_or_not_at_all,
                withdrawals_are_kept_until_everything_is_withdrawn;
            callbacks:
                a_delivery_is_made_with_its_final_and_only_with_it,
                a_delivery_is_due_until_it_succeeds_or_is_given_up,
                a_correction_makes_a_delivery_of_its_own,
                a_delivery_goes_with_its_run;
            repairs:
                a_correction_takes_the_place_of_the_revision_before,
                what_earlier_revisions_refer_to_stays_as_long_as_their_run,
                finals_are_found_by_those_that_they_rest_on,
                a_quarantine_puts_down_what_is_looked_at_and_nothing_is_lost,
                a_quarantine_is_lifted_only_if_it_was_for_votes;
            dependents:
                a_correction_reaches_every_run_that_has_the_result_over_a_restart,
                who_comes_after_a_correction_is_corrected_if_its_result_is_of_before,
                every_further_correction_reaches_them_again,
                deliveries_end_a_page_and_runs_that_nobody_hears_of_do_not,
                nothing_has_the_result_of_a_run_that_is_not_there,
                what_computed_a_result_stays_as_long_as_a_run_that_has_it,
                more_that_are_held_than_are_looked_at_at_once_keep_nothing_behind_them;
            rows:
                modules_are_put_changed_quarantined_listed_and_deleted,
                a_module_of_an_open_run_stays,
                a_module_holds_its_blob,
                a_module_that_was_found_out_is_so_until_it_is_readmitted,
                a_workspace_keeps_what_was_settled_last,
                the_first_value_of_a_name_stays,
                usage_counts_what_is_there,
                a_closed_store_says_so;
            people:
                tokens_are_found_by_their_hash_until_deleted,
                the_use_of_a_token_is_noted_and_never_goes_backwards,
                workers_are_enrolled_once_per_key,
                a_worker_keeps_its_latest_session,
                a_forgotten_worker_is_gone_and_its_number_never_comes_back;
        }
    };
}
pub(crate) use conformance;
