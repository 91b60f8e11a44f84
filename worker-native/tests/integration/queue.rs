//! The queue's contract (`src/queue/contract.rs`), promise by promise, stamped for every backend.
//!
//! A test is written once, against `dyn Queue`; the list below says which there are, and for which backends. What a
//! backend promises beyond the contract, or survives, is in a file of its own (`redis_alone`).

mod accepting;
mod bounds;
mod cancelling;
mod concurrent;
mod dead;
mod labels;
mod leases;
mod listing;
mod model;
mod outbox;
mod redis_alone;
mod replays;
mod retries;
mod rig;
mod settling;
mod tending;
mod turns;
mod watching;

/// Every test of the contract, as a module for each backend.
macro_rules! stamp {
    ({ $($backend:ident: $type:ty),* $(,)? }, $tests:tt) => {
        $(stamp!(@backend $backend, $type, $tests);)*
    };
    (@backend $backend:ident, $type:ty, { $($subject:ident: [$($test:ident),* $(,)?]),* $(,)? }) => {
        mod $backend {
            $(mod $subject {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $test() {
                        crate::queue::$subject::$test::<$type>().await;
                    }
                )*
            })*
        }
    };
}

stamp!({
    redis: crate::queue::rig::OnRedis,
    cluster: crate::queue::rig::OnCluster,
    sqlite: crate::queue::rig::OnSqlite,
}, {
    accepting: [
        a_job_is_claimed_once_and_whole_and_counted_until_it_is_settled,
        each_job_of_a_hand_in_is_answered_on_its_own_and_in_order,
        one_job_id_is_one_job,
        numbers_and_texts_are_kept_bit_for_bit,
        accepted_jobs_outlive_the_process,
        claimed_jobs_outlive_the_process,
        tasks_do_not_mix,
        an_unsettled_job_is_read_as_it_was_handed_in,
        nothing_asked_is_nothing_done,
        a_claim_gives_no_more_than_asked_for,
        a_wait_ends_with_a_job_or_with_its_time,
        ten_thousand_at_once_are_no_different,
        a_store_that_takes_writes_says_so,
    ],
    bounds: [
        the_number_of_jobs_is_bounded,
        their_size_is_bounded,
        a_job_that_would_wait_too_long_is_refused,
        one_tenant_gets_its_share_and_no_more,
        the_size_of_one_tenants_jobs_is_bounded,
        held_and_retried_jobs_take_room_as_waiting_ones_do,
        what_is_refused_leaves_no_trace,
        a_known_key_or_id_is_answered_also_when_there_is_no_room,
    ],
    cancelling: [
        an_unknown_job_is_unknown,
        a_waiting_job_is_ended_and_never_claimed,
        a_held_job_is_ended_and_its_consumer_comes_too_late,
        a_job_that_waits_for_another_try_is_ended,
        a_job_that_was_handed_back_is_ended,
        an_ended_job_stays_as_it_ended,
        a_job_that_was_taken_over_is_ended,
    ],
    concurrent: [
        many_at_once_end_each_job_once,
        many_callers_hand_in_and_settle_at_once,
    ],
    dead: [
        a_dead_job_is_kept_with_its_reading_and_its_errors,
        dead_letters_are_listed_newest_first,
        a_requeued_letter_is_a_new_job_without_its_old_result,
        a_requeued_job_may_die_again,
        a_dropped_letter_is_gone_and_its_result_stays,
        no_more_than_so_many_are_kept,
        dead_letters_end_with_their_time,
        letters_of_unknown_jobs_are_none,
    ],
    labels: [
        a_kept_answer_is_found_by_its_id,
        the_newest_answers_are_kept_and_no_more,
        an_answer_is_forgotten_with_its_time,
        a_label_counts_once_and_moves_the_belief,
        who_reckoned_on_an_old_belief_is_given_the_new_one,
        of_many_at_once_one_counts,
        that_an_answer_was_labelled_is_forgotten_with_its_time,
    ],
    leases: [
        a_lease_holds,
        an_unrenewed_job_goes_to_another_and_the_start_counts,
        renewal_keeps_a_job_for_ten_leases,
        who_lost_a_job_cannot_renew_retry_or_release_it,
        renewals_are_answered_one_by_one,
        no_more_are_taken_over_than_asked_for,
        a_lease_that_ended_unnoticed_can_be_renewed,
        the_first_to_settle_wins_whoever_holds_the_job,
        a_consumer_that_leaves_leaves_its_jobs_to_their_lease,
        what_a_lost_claim_took_is_handed_back_and_no_start,
        a_lost_takeover_keeps_the_starts_before_it,
        what_was_let_go_of_before_is_left_to_its_lease,
    ],
    listing: [
        results_are_listed_newest_first_and_so_many,
        results_are_listed_by_task_sensor_outcome_and_time,
        a_late_settlement_hides_no_newer_result,
        what_a_caller_waits_for_is_not_listed,
        no_more_than_the_history_is_listed,
        all_results_are_listed_page_by_page_and_once,
        a_result_ends_with_its_time,
    ],
    model: [
        every_number_is_that_of_the_model,
    ],
    outbox: [
        a_callback_is_due_with_the_settlement,
        a_callback_is_due_with_a_cancellation,
        who_takes_a_callback_has_it_for_a_while,
        a_callback_can_be_put_off,
        a_callback_that_is_done_stays_done,
        a_note_is_shown_with_the_job,
        only_so_many_callbacks_are_taken,
        a_requeued_job_calls_back_once_more,
    ],
    replays: [
        a_repetition_gets_the_first_answer,
        another_request_under_the_same_key_is_a_conflict,
        a_key_holds_when_its_job_has_long_ended,
        a_key_is_forgotten_with_its_time,
        a_thousand_at_once_under_one_key_are_one_job,
        a_repetition_in_the_same_hand_in_is_one,
        facts_are_set_changed_and_removed,
        facts_of_several_tasks_are_set_at_once,
        a_call_is_new_then_in_flight_then_replayed,
        a_call_that_failed_is_forgotten,
        a_call_that_never_finished_may_be_made_again,
        only_the_call_itself_is_finished,
    ],
    retries: [
        a_retried_job_waits_its_time_and_is_counted,
        a_retry_that_counts_is_another_start,
        a_retry_that_does_not_count_is_none,
        errors_are_carried_from_start_to_start,
        a_retry_changes_nothing_else_of_the_job,
        what_is_not_held_is_not_retried,
        a_released_job_is_claimed_before_all_others_and_uncharged,
        a_released_job_is_held_by_nobody,
        a_released_job_keeps_its_earlier_starts,
        deadlines_shrink_and_pass,
        a_deadline_outlives_retry_and_release,
    ],
    settling: [
        the_first_settlement_wins_and_later_ones_change_nothing,
        every_outcome_is_kept_as_it_was_written,
        settlements_are_answered_one_by_one,
        a_settlement_of_an_earlier_start_doubles_nothing,
        a_settlement_after_the_results_end_changes_nothing,
        a_settlement_before_a_requeue_is_not_one_after_it,
        an_unknown_job_has_no_state,
        states_follow_the_job,
    ],
    tending: [
        a_healthy_queue_is_left_alone,
        a_consumer_may_leave_and_come_back,
    ],
    turns: [
        urgent_jobs_come_first,
        within_a_class_the_first_comes_first,
        an_old_job_goes_before_a_more_urgent_new_one,
        only_the_age_of_who_is_next_counts,
        also_within_one_claim,
        a_job_that_is_gone_has_no_age,
        the_oldest_job_of_all_tenants_counts,
        the_lowest_class_gets_its_share_one_by_one,
        the_lowest_class_gets_its_share_in_batches,
        three_classes_all_get_their_share,
        a_short_line_is_not_held_up_by_a_long_one,
        tenants_with_much_to_do_get_equal_turns,
        an_idle_tenant_saves_up_nothing,
        jobs_of_nobody_take_turns_as_well,
    ],
    watching: [
        every_change_of_a_job_is_told,
        all_who_watch_are_told,
    ],
});
