//! Rules about refreshes, their tally and when they are due.

use std::sync::Arc;

use permafresh::rollout::{Refresh, Standing, Tally};
use permafresh::store::{Saved, Store, Versioned};

use crate::contracts::samples::{
    all_refreshes, application, assert_tally_is_a_recount, at, in_order_of_keys, page, put, refresh, rollout_id,
    standing, stored, version,
};

pub async fn every_state_is_read_back_as_it_was_written(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    for (number, of) in (0..).zip(Standing::ALL) {
        let mut written = refresh(1, number);
        written.state = standing(of, at(1));
        written.percent_complete = Some(12.5);
        written.correlation_id = Some("a\"b\\c\u{1f680}".to_owned());
        written.submitted_at = Some(at(3));
        let answers = store.save_refreshes(&[Versioned::new(written.clone())]).await.unwrap();
        let read = stored(&*store, &written).await;
        assert_eq!((&read.value, read.etag.map(Saved::Stored).as_ref()), (&written, answers.first()));
    }
}

pub async fn refreshes_are_added_once_and_never_overwritten(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    let planned: Vec<_> = (0..3).map(|number| refresh(1, number)).collect();
    assert_eq!(store.refresh(rollout_id(1), &planned[0].key).await.unwrap(), None);
    assert_eq!(store.insert_refreshes(&planned[..2]).await.unwrap(), 2);
    let running = put(&*store, &planned[0], standing(Standing::Running, at(1))).await;
    let before = stored(&*store, &running).await;
    assert_eq!(store.insert_refreshes(&planned).await.unwrap(), 1, "only one was missing");
    assert_eq!(store.insert_refreshes(&planned).await.unwrap(), 0);
    assert_eq!(store.insert_refreshes(&[]).await.unwrap(), 0);
    assert_eq!(stored(&*store, &running).await, before);
    let twice = [refresh(1, 8), refresh(1, 8)];
    assert_eq!(store.insert_refreshes(&twice).await.unwrap(), 1);
    assert_tally_is_a_recount(&*store, rollout_id(1)).await;
}

pub async fn each_of_many_writes_is_guarded_for_itself(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    assert_eq!(store.save_refreshes(&[]).await.unwrap(), []);
    let planned: Vec<_> = (0..4).map(|number| refresh(1, number)).collect();
    store.insert_refreshes(&planned[..3]).await.unwrap();
    let stale = stored(&*store, &planned[1]).await;
    let moved = put(&*store, &planned[1], standing(Standing::Submitting, at(5))).await;
    let current = stored(&*store, &planned[2]).await;
    let ended = |read: &Versioned<Refresh>| {
        read.with(Refresh { state: standing(Standing::Succeeded, at(0)), ..read.value.clone() })
    };
    let answers = store
        .save_refreshes(&[
            Versioned::new(Refresh { state: standing(Standing::Failed, at(0)), ..planned[0].clone() }),
            ended(&stale),
            ended(&current),
            Versioned::new(planned[3].clone()),
            ended(&current),
        ])
        .await
        .unwrap();
    let stored_ones: Vec<_> = answers.iter().map(Saved::is_stored).collect();
    assert_eq!(stored_ones, [false, false, true, true, false], "{answers:?}");
    assert_eq!(stored(&*store, &planned[0]).await.value, planned[0]);
    assert_eq!(stored(&*store, &planned[1]).await.value, moved);
    let now = stored(&*store, &planned[2]).await;
    assert_eq!(
        (Standing::of(&now.value), now.etag.map(Saved::Stored)),
        (Standing::Succeeded, Some(answers[2].clone()))
    );
    assert_tally_is_a_recount(&*store, rollout_id(1)).await;
}

pub async fn the_tally_is_a_recount_after_every_kind_of_change(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    assert_eq!(store.tally(rollout_id(1)).await.unwrap(), Tally::default());
    let planned: Vec<_> = (0..3)
        .map(|number| Refresh::planned(rollout_id(1), application(number), version("1.4.0"), number % 2 + 1))
        .collect();
    store.insert_refreshes(&planned).await.unwrap();
    assert_tally_is_a_recount(&*store, rollout_id(1)).await;
    for from in Standing::ALL {
        for to in Standing::ALL {
            put(&*store, &planned[0], standing(from, at(1))).await;
            put(&*store, &planned[0], standing(to, at(2))).await;
            let tally = store.tally(rollout_id(1)).await.unwrap();
            assert_eq!(tally.count_in(1, |s| s == to), 1 + u64::from(to == Standing::Pending), "{from:?} to {to:?}");
            assert_eq!(tally.count(|_| true), 3, "{from:?} to {to:?}");
        }
        assert_tally_is_a_recount(&*store, rollout_id(1)).await;
    }
    let read = stored(&*store, &planned[0]).await;
    store.save_refreshes(&[read.with(Refresh { wave: 3, ..read.value.clone() })]).await.unwrap();
    assert_eq!(store.tally(rollout_id(1)).await.unwrap().count_in(3, |_| true), 1);
    assert_tally_is_a_recount(&*store, rollout_id(1)).await;
}

pub async fn rollouts_do_not_share_refreshes(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    store.insert_refreshes(&[refresh(1, 5), refresh(2, 5), refresh(2, 6)]).await.unwrap();
    put(&*store, &refresh(2, 5), standing(Standing::Running, at(9))).await;
    assert_eq!(stored(&*store, &refresh(1, 5)).await.value, refresh(1, 5));
    assert_eq!(all_refreshes(&*store, rollout_id(1), None, 10).await.len(), 1);
    assert_eq!(all_refreshes(&*store, rollout_id(3), None, 10).await, []);
    assert_eq!(store.tally(rollout_id(1)).await.unwrap().count(|_| true), 1);
    assert_eq!(store.tally(rollout_id(2)).await.unwrap().count(|s| s == Standing::Pending), 1);
}

pub async fn refreshes_are_listed_by_key_page_by_page_whatever_is_added(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    let numbers = in_order_of_keys(9);
    let of = |at: &[usize]| -> Vec<Refresh> { at.iter().map(|at| refresh(1, numbers[*at])).collect() };
    let keys = |page: &[Versioned<Refresh>]| -> Vec<_> { page.iter().map(|item| item.value.key.clone()).collect() };
    let expected = |at: &[usize]| -> Vec<_> { of(at).into_iter().map(|refresh| refresh.key).collect() };
    store.insert_refreshes(&of(&[8, 2, 4, 6])).await.unwrap();

    let first = store.refreshes(rollout_id(1), None, &page(2, None)).await.unwrap();
    assert_eq!(keys(&first.items), expected(&[2, 4]));
    store.insert_refreshes(&of(&[0, 3, 5, 7])).await.unwrap();
    let second = store.refreshes(rollout_id(1), None, &page(3, first.next.clone())).await.unwrap();
    assert_eq!(keys(&second.items), expected(&[5, 6, 7]), "what came before the mark does not shift what comes after");
    let last = store.refreshes(rollout_id(1), None, &page(1, second.next)).await.unwrap();
    assert_eq!((keys(&last.items), last.next), (expected(&[8]), None));
    let again = store.refreshes(rollout_id(1), None, &page(100, first.next)).await.unwrap();
    assert_eq!(keys(&again.items), expected(&[5, 6, 7, 8]), "a mark can be used again");
    let nothing_asked = store.refreshes(rollout_id(1), None, &page(0, None)).await.unwrap();
    assert_eq!(keys(&nothing_asked.items), expected(&[0]), "a page has room for one at least");
}

pub async fn refreshes_are_listed_by_standing_page_by_page(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    let numbers = in_order_of_keys(15);
    let mut planned: Vec<Refresh> = numbers.iter().map(|number| refresh(1, *number)).collect();
    store.insert_refreshes(&planned).await.unwrap();
    for (refresh, of) in planned.iter_mut().zip([Standing::Failed, Standing::Running, Standing::Pending].repeat(5)) {
        *refresh = put(&*store, refresh, standing(of, at(1))).await;
    }
    for wanted in [
        &[Standing::Failed][..],
        &[Standing::Running, Standing::Failed],
        &[Standing::Pending, Standing::Pending],
        &[Standing::Canceled],
        &[],
        &Standing::ALL,
    ] {
        let expected: Vec<&Refresh> = planned.iter().filter(|r| wanted.contains(&Standing::of(r))).collect();
        for top in [1, 2, 5, 100] {
            let listed = all_refreshes(&*store, rollout_id(1), Some(wanted), top).await;
            assert_eq!(listed.iter().map(|item| &item.value).collect::<Vec<_>>(), expected, "{wanted:?} by {top}");
        }
    }
    let listed = all_refreshes(&*store, rollout_id(1), Some(&[Standing::Failed]), 1).await;
    assert_eq!(listed[0], stored(&*store, &planned[0]).await, "it can be written as it was listed");
}

pub async fn due_refreshes_come_the_longest_due_first_and_not_a_moment_early(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    let wakes = [(1, Standing::Running, 30), (2, Standing::Submitting, 10), (3, Standing::Queued, 20)];
    for (number, of, millis) in wakes {
        let planned = refresh(number % 2, number);
        store.insert_refreshes(std::slice::from_ref(&planned)).await.unwrap();
        assert_eq!(put(&*store, &planned, standing(of, at(millis))).await.wake_at(), Some(at(millis)));
    }
    store.insert_refreshes(&[refresh(1, 4)]).await.unwrap();
    let due = async |now: i64, at_most: usize| -> Vec<_> {
        let due = store.due_refreshes(at(now), at_most).await.unwrap();
        due.iter().map(|due| due.value.key.clone()).collect()
    };
    let keys = |numbers: &[u32]| -> Vec<_> { numbers.iter().map(|number| application(*number).key()).collect() };
    assert_eq!(due(9, 10).await, keys(&[]));
    assert_eq!(due(10, 10).await, keys(&[2]));
    assert_eq!(due(29, 10).await, keys(&[2, 3]));
    assert_eq!(due(30, 10).await, keys(&[2, 3, 1]));
    assert_eq!(due(99, 2).await, keys(&[2, 3]));
    assert_eq!(due(99, 0).await, keys(&[]));
    let listed = store.due_refreshes(at(10), 1).await.unwrap();
    assert_eq!(listed[0], stored(&*store, &refresh(0, 2)).await, "it can be written as it was listed");
    put(&*store, &refresh(0, 2), standing(Standing::Succeeded, at(0))).await;
    assert_eq!(due(99, 10).await, keys(&[3, 1]), "what has ended is never due");
}

pub async fn the_next_wake_is_the_earliest_of_all_rollouts(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    assert_eq!(store.next_wake().await.unwrap(), None);
    store.insert_refreshes(&[refresh(1, 1), refresh(2, 2)]).await.unwrap();
    assert_eq!(store.next_wake().await.unwrap(), None, "the pending wake nobody");
    put(&*store, &refresh(1, 1), standing(Standing::Running, at(20))).await;
    put(&*store, &refresh(2, 2), standing(Standing::Verifying, at(10))).await;
    assert_eq!(store.next_wake().await.unwrap(), Some(at(10)));
    put(&*store, &refresh(2, 2), standing(Standing::Verifying, at(30))).await;
    assert_eq!(store.next_wake().await.unwrap(), Some(at(20)));
    put(&*store, &refresh(1, 1), standing(Standing::TimedOut, at(0))).await;
    assert_eq!(store.next_wake().await.unwrap(), Some(at(30)));
    put(&*store, &refresh(2, 2), standing(Standing::Skipped, at(0))).await;
    assert_eq!(store.next_wake().await.unwrap(), None);
}

pub async fn a_thousand_refreshes_are_added_and_saved_at_once(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    let planned: Vec<_> = (0..1_000).map(|number| refresh(1, number)).collect();
    assert_eq!(store.insert_refreshes(&planned).await.unwrap(), 1_000);
    let read = all_refreshes(&*store, rollout_id(1), None, 1_000).await;
    let running: Vec<_> = read
        .iter()
        .map(|read| read.with(Refresh { state: standing(Standing::Running, at(5)), ..read.value.clone() }))
        .collect();
    assert!(store.save_refreshes(&running).await.unwrap().iter().all(Saved::is_stored));
    assert_eq!(store.due_refreshes(at(5), 2_000).await.unwrap().len(), 1_000);
    assert_eq!(store.tally(rollout_id(1)).await.unwrap().count(|s| s == Standing::Running), 1_000);
    assert!(store.save_refreshes(&read).await.unwrap().iter().all(|saved| *saved == Saved::Conflict));
    assert_tally_is_a_recount(&*store, rollout_id(1)).await;
}
