//! What every store and every queue must do: one suite per trait, run against each backend.
//!
//! A rule is a function over the trait; it is given a way to open the same, at first empty, store or queue as often as it
//! likes. A backend joins with one line of `store_contract!` or `queue_contract!`. What only SQLite can do or suffer
//! is in `sqlite.rs`.

mod model;
mod queue;
pub mod samples;
mod sqlite;
mod store;

use std::sync::{Arc, OnceLock};

use permafresh::clock::Clock;
use permafresh::queue::Queue;
use permafresh::queue::embedded::{EmbeddedQueue, EmbeddedQueueConfig};
use permafresh::queue::service_bus::simulator::{Simulator as ServiceBusSimulator, SimulatorConfig};
use permafresh::store::Store;
use permafresh::store::sqlite::SqliteStore;

use crate::manual_clock::ManualClock;
use crate::{azurite, service_bus};

/// One test for each rule of a trait and a backend. `$open` makes a new, empty one and answers with a function that opens it.
macro_rules! rules {
    ($backend:ident, $open:expr, $($suite:ident :: { $($rule:ident),+ $(,)? })+) => {
        mod $backend {
            $($(
                #[tokio::test]
                async fn $rule() {
                    super::$suite::$rule($open).await;
                }
            )+)+
        }
    };
}

macro_rules! store_contract {
    ($backend:ident, $open:expr) => {
        rules! { $backend, $open,
            store_rollouts::{
                a_key_is_claimed_once_and_names_its_holder,
                of_a_hundred_claims_at_once_one_wins,
                a_new_record_is_written_once_and_a_stale_version_changes_nothing,
                of_many_writers_with_the_same_version_one_wins,
                rollouts_are_listed_the_newest_first_page_by_page,
                a_rollout_is_open_until_it_and_all_its_refreshes_have_ended,
                a_throttle_never_goes_backwards,
                a_continuation_of_another_list_is_refused,
                everything_is_there_after_opening_again,
            }
            store_refreshes::{
                every_state_is_read_back_as_it_was_written,
                refreshes_are_added_once_and_never_overwritten,
                each_of_many_writes_is_guarded_for_itself,
                the_tally_is_a_recount_after_every_kind_of_change,
                rollouts_do_not_share_refreshes,
                refreshes_are_listed_by_key_page_by_page_whatever_is_added,
                refreshes_are_listed_by_standing_page_by_page,
                due_refreshes_come_the_longest_due_first_and_not_a_moment_early,
                the_next_wake_is_the_earliest_of_all_rollouts,
                a_thousand_refreshes_are_added_and_saved_at_once,
            }
            store_deployments::{
                deployments_are_read_in_the_order_asked,
                deployments_are_written_guarded_each_for_itself,
                deployments_are_listed_by_plan_with_tombstones_and_counted_without,
                due_checks_come_the_longest_due_first_and_not_a_moment_early,
                the_end_of_a_refresh_is_noted_without_losing_other_changes,
                a_refresh_that_ended_is_saved_with_its_note_and_its_guard,
                an_older_end_does_not_undo_what_was_applied_last,
                notes_and_guarded_writes_at_once_lose_nothing,
                deployments_gone_long_enough_are_forgotten,
                a_deployment_is_removed_only_as_it_was_read,
            }
            store_documents::{
                a_document_is_written_under_its_guard,
                of_many_writers_of_a_document_one_wins,
                documents_are_listed_by_name_page_by_page_within_their_collection,
                names_and_texts_of_documents_may_be_anything,
                a_document_of_another_shape_is_named_and_not_taken,
                wanted_versions_are_found_by_their_plan,
            }
            store_retention::{
                only_rollouts_that_ended_long_ago_with_all_their_refreshes_are_found,
                removed_refreshes_are_neither_counted_nor_listed_nor_woken,
                a_rollout_is_removed_as_it_was_read_and_after_its_refreshes,
                claims_without_a_rollout_and_throttles_that_are_over_are_forgotten,
            }
            model::{
                whatever_is_written_tally_lists_and_due_times_agree_with_a_plain_model,
            }
        }
    };
}

macro_rules! queue_contract {
    ($backend:ident, $open:expr) => {
        rules! { $backend, $open,
            queue::{
                a_message_is_delivered_until_it_is_completed,
                messages_come_in_the_order_in_which_they_became_due,
                an_id_is_a_duplicate_within_the_window_and_not_after_it,
                an_id_stays_a_duplicate_after_its_message_was_completed,
                a_scheduled_message_takes_part_in_duplicate_detection,
                every_message_that_must_arrive_has_an_id_of_its_own,
                a_scheduled_message_is_not_delivered_before_it_is_due,
                a_lock_holds_for_its_time_and_then_the_message_is_delivered_again,
                an_abandoned_message_is_deliverable_at_once,
                the_last_abandoned_delivery_makes_a_dead_letter,
                the_last_lock_that_runs_out_makes_a_dead_letter,
                a_dead_letter_is_given_until_it_is_removed,
                the_dead_do_not_hold_up_the_living,
                a_renewed_lock_holds_from_then_on,
                a_lost_lock_settles_nothing,
                queues_do_not_mix,
                sender_and_receiver_may_have_a_handle_each,
                receivers_at_once_never_get_the_same_message,
                messages_locks_and_ids_are_there_after_opening_again,
                a_thousand_messages_are_sent_received_and_completed_at_once,
                an_id_that_is_empty_or_too_long_is_refused_and_nothing_is_sent,
            }
        }
    };
}

use store::{
    deployments as store_deployments, documents as store_documents, refreshes as store_refreshes,
    retention as store_retention, rollouts as store_rollouts,
};

store_contract!(sqlite_store, super::sqlite_store_in_a_new_folder());
store_contract!(tables_store, super::tables_store_in_new_tables());
queue_contract!(embedded_queue, super::embedded_queue_in_a_new_folder());
queue_contract!(service_bus_queue, super::service_bus_queues_of_a_new_namespace());

fn sqlite_store_in_a_new_folder() -> impl Fn() -> Arc<dyn Store> {
    let folder = tempfile::tempdir().unwrap();
    move || Arc::new(SqliteStore::open(&folder.path().join("store.db")).unwrap())
}

fn tables_store_in_new_tables() -> impl Fn() -> Arc<dyn Store> {
    let (config, clock) = (azurite::new_tables(), ManualClock::default());
    move || Arc::new(azurite::open(&config, &clock))
}

fn embedded_queue_in_a_new_folder() -> impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue> {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedQueueConfig::default();
    move |clock| Arc::new(EmbeddedQueue::open(&folder.path().join("queue.db"), config, clock).unwrap())
}

fn service_bus_queues_of_a_new_namespace() -> impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue> {
    let namespace = OnceLock::new();
    move |clock| {
        let simulator: &ServiceBusSimulator = namespace.get_or_init(|| {
            let queues = ["q", "other", "third"].map(str::to_owned).to_vec();
            ServiceBusSimulator::start(SimulatorConfig { queues, clock: clock.clone(), ..Default::default() }).unwrap()
        });
        Arc::new(service_bus::with_key(simulator, clock))
    }
}
