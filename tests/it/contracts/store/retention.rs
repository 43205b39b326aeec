//! Rules about what a store forgets.

use std::sync::Arc;

use permafresh::rollout::{Rollout, RolloutState, Standing};
use permafresh::store::{Claim, Store, Versioned};

use crate::contracts::samples::{assert_tally_is_a_recount, at, page, put, refresh, rollout, rollout_id, standing};

/// Rollout `number`, made at `made` and, if so, ended at `ended`.
async fn store_rollout(store: &dyn Store, number: u32, made: i64, ended: Option<i64>) {
    let mut value = Rollout { created_at: at(made), ended_at: ended.map(at), ..rollout(number) };
    if ended.is_some() {
        value.state = RolloutState::Completed;
    }
    assert!(store.save_rollout(&Versioned::new(value)).await.unwrap().is_stored());
}

/// Stores refresh `number` of a rollout as it stands there.
async fn add(store: &dyn Store, rollout: u32, number: u32, of: Standing, wake: i64) {
    let mut added = refresh(rollout, number);
    added.state = standing(of, at(wake));
    assert_eq!(store.insert_refreshes(&[added]).await.unwrap(), 1);
}

async fn long_ended(store: &dyn Store, before: i64, at_most: usize) -> Vec<u32> {
    let found = store.long_ended_rollouts(at(before), at_most).await.unwrap();
    found.iter().map(|found| (0..20).find(|number| rollout_id(*number) == found.value.id).unwrap()).collect()
}

pub async fn only_rollouts_that_ended_long_ago_with_all_their_refreshes_are_found(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    store_rollout(&*store, 1, 100, Some(900)).await;
    store_rollout(&*store, 2, 200, None).await;
    store_rollout(&*store, 3, 300, Some(400)).await;
    store_rollout(&*store, 4, 350, Some(500)).await;
    store_rollout(&*store, 5, 360, Some(410)).await;
    add(&*store, 4, 1, Standing::Pending, 1).await;
    add(&*store, 5, 1, Standing::Succeeded, 1).await;
    assert_eq!(long_ended(&*store, 401, 10).await, [3]);
    assert_eq!(long_ended(&*store, 400, 10).await, [0; 0], "not a moment early");
    assert_eq!(long_ended(&*store, 901, 10).await, [1, 3, 5], "4 has a refresh without a result");
    assert_eq!(long_ended(&*store, 901, 2).await, [1, 3]);
    put(&*store, &refresh(4, 1), standing(Standing::Canceled, at(1))).await;
    assert_eq!(long_ended(&*store, 901, 10).await, [1, 3, 4, 5]);
}

pub async fn removed_refreshes_are_neither_counted_nor_listed_nor_woken(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    for number in 0..30 {
        add(&*store, 1, number, Standing::Running, 5).await;
        add(&*store, 2, number, Standing::Running, 6).await;
    }
    assert_eq!(store.remove_refreshes(rollout_id(1), 12).await.unwrap(), 12);
    assert_tally_is_a_recount(&*store, rollout_id(1)).await;
    assert_eq!(store.remove_refreshes(rollout_id(1), 100).await.unwrap(), 18);
    assert_eq!(store.remove_refreshes(rollout_id(1), 100).await.unwrap(), 0);
    assert_tally_is_a_recount(&*store, rollout_id(1)).await;
    assert_eq!(store.tally(rollout_id(1)).await.unwrap().count(|_| true), 0);
    assert_eq!(store.refreshes(rollout_id(1), None, &page(100, None)).await.unwrap().items, []);
    let due = store.due_refreshes(at(1_000_000), 100).await.unwrap();
    assert!(due.len() == 30 && due.iter().all(|refresh| refresh.value.rollout_id == rollout_id(2)));
    assert_tally_is_a_recount(&*store, rollout_id(2)).await;
}

pub async fn a_rollout_is_removed_as_it_was_read_and_after_its_refreshes(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    store_rollout(&*store, 1, 100, Some(400)).await;
    store_rollout(&*store, 2, 100, Some(400)).await;
    add(&*store, 1, 1, Standing::Succeeded, 1).await;
    let stale = store.rollout(rollout_id(1)).await.unwrap().unwrap();
    assert!(!store.remove_rollout(&stale).await.unwrap().is_stored(), "it has a refresh");
    store.remove_refreshes(rollout_id(1), 10).await.unwrap();
    assert!(store.save_rollout(&stale).await.unwrap().is_stored());
    assert!(!store.remove_rollout(&stale).await.unwrap().is_stored(), "it was changed");
    assert!(!store.remove_rollout(&Versioned::new(stale.value.clone())).await.unwrap().is_stored());
    let read = store.rollout(rollout_id(1)).await.unwrap().unwrap();
    assert!(store.remove_rollout(&read).await.unwrap().is_stored());
    assert!(!store.remove_rollout(&read).await.unwrap().is_stored(), "gone is gone");
    assert_eq!(store.rollout(rollout_id(1)).await.unwrap(), None);
    let listed = store.rollouts(&page(10, None)).await.unwrap().items;
    assert_eq!(listed.iter().map(|rollout| rollout.id).collect::<Vec<_>>(), [rollout_id(2)]);
    assert!(store.open_rollouts().await.unwrap().is_empty());
    assert!(store.save_rollout(&Versioned::new(stale.value)).await.unwrap().is_stored(), "its id is free again");
}

pub async fn claims_without_a_rollout_and_throttles_that_are_over_are_forgotten(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    store_rollout(&*store, 1, 0, None).await;
    for (key, number, millis) in [("kept", 1, 1), ("old", 2, 1), ("young", 3, 100)] {
        store.claim_key(key, &Claim { rollout_id: rollout_id(number), at: at(millis) }).await.unwrap();
    }
    for (subscription, until) in [("a", 10), ("b", 20), ("c", 30)] {
        store.throttle(subscription, at(until)).await.unwrap();
    }
    assert_eq!(store.forget_facts(at(100), at(21), 1).await.unwrap(), 2, "a claim, and one of two throttles");
    assert_eq!(store.forget_facts(at(100), at(21), 10).await.unwrap(), 1);
    assert_eq!(store.forget_facts(at(100), at(21), 10).await.unwrap(), 0);
    let holders = ["kept", "old", "young"].map(|key| store.key_holder(key));
    let holders = futures_util::future::join_all(holders).await;
    assert_eq!(holders.iter().map(|held| held.as_ref().unwrap().is_some()).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(store.throttled_until("a").await.unwrap(), None);
    assert_eq!(store.throttled_until("c").await.unwrap(), Some(at(30)));
}
