//! Rules about deployments.

use std::sync::Arc;

use futures_util::future::join_all;
use permafresh::rollout::{Deployment, Refresh, Standing, Timestamp};
use permafresh::store::{Saved, Store, Versioned};

use crate::contracts::samples::{
    after, application, assert_tally_is_a_recount, at, deployment, in_order_of_keys, page, plan, put, refresh,
    rollout_id, standing, stored, succeeded,
};

async fn save(store: &dyn Store, deployments: impl IntoIterator<Item = Deployment>) {
    let new: Vec<_> = deployments.into_iter().map(Versioned::new).collect();
    assert!(store.save_deployments(&new).await.unwrap().iter().all(Saved::is_stored));
}

async fn read(store: &dyn Store, number: u32) -> Option<Versioned<Deployment>> {
    store.deployments_by_key(&[application(number).key()]).await.unwrap().remove(0)
}

fn gone(number: u32, since: Timestamp) -> Deployment {
    Deployment { gone_since: Some(since), ..deployment(number) }
}

pub async fn deployments_are_read_in_the_order_asked(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    assert_eq!(store.deployments_by_key(&[]).await.unwrap(), []);
    save(&*store, (0..4).map(deployment)).await;
    let keys = [3, 9, 0, 3].map(|number| application(number).key());
    let values: Vec<_> = store.deployments_by_key(&keys).await.unwrap();
    let values: Vec<_> = values.into_iter().map(|read| read.map(|read| read.value)).collect();
    assert_eq!(values, [Some(deployment(3)), None, Some(deployment(0)), Some(deployment(3))]);
}

pub async fn deployments_are_written_guarded_each_for_itself(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    save(&*store, (0..3).map(deployment)).await;
    let stale = read(&*store, 1).await.unwrap();
    let held = Deployment { event_error: Some("first".to_owned()), ..deployment(1) };
    assert!(store.save_deployments(&[stale.with(held.clone())]).await.unwrap()[0].is_stored());
    let fresh = read(&*store, 2).await.unwrap();
    let moved = Deployment { plan: Some(plan("premium")), ..deployment(2) };
    let answers = store
        .save_deployments(&[
            Versioned::new(gone(0, at(1))),
            stale.with(gone(1, at(1))),
            fresh.with(moved.clone()),
            Versioned::new(deployment(7)),
            fresh.with(gone(2, at(1))),
        ])
        .await
        .unwrap();
    let stored: Vec<_> = answers.iter().map(Saved::is_stored).collect();
    assert_eq!(stored, [false, false, true, true, false], "{answers:?}");
    for (number, value) in [(0, deployment(0)), (1, held), (2, moved), (7, deployment(7))] {
        assert_eq!(read(&*store, number).await.unwrap().value, value);
    }
    let etag = read(&*store, 2).await.unwrap().etag.unwrap();
    assert_eq!(answers[2], Saved::Stored(etag));
}

pub async fn deployments_are_listed_by_plan_with_tombstones_and_counted_without(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    let numbers = in_order_of_keys(7);
    let (standard, premium) = (plan("standard"), plan("premium"));
    assert_eq!(store.count_deployments(&standard).await.unwrap(), 0);
    let mut all: Vec<Deployment> = numbers.iter().map(|number| deployment(*number)).collect();
    all[1].plan = Some(premium.clone());
    all[3].gone_since = Some(at(1));
    all[5].plan = None;
    save(&*store, all.iter().rev().cloned()).await;
    let of = |wanted: &[usize]| -> Vec<Deployment> { wanted.iter().map(|at| all[*at].clone()).collect() };
    let walk = async |plan| {
        let (mut walked, mut continuation) = (Vec::new(), None);
        loop {
            let page = store.deployments(plan, &page(2, continuation)).await.unwrap();
            walked.extend(page.items.into_iter().map(|item| item.value));
            match page.next {
                Some(next) => continuation = Some(next),
                None => return walked,
            }
        }
    };
    assert_eq!(walk(None).await, all);
    assert_eq!(walk(Some(&standard)).await, of(&[0, 2, 3, 4, 6]));
    assert_eq!(walk(Some(&premium)).await, of(&[1]));
    assert_eq!(walk(Some(&plan("none"))).await, []);
    let none = plan("none");
    let counts = [&standard, &premium, &none].map(|plan| store.count_deployments(plan));
    assert_eq!(join_all(counts).await.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [4, 1, 0]);

    let first = store.deployments(Some(&standard), &page(2, None)).await.unwrap();
    let mut moved = read(&*store, numbers[1]).await.unwrap();
    moved.value.plan = Some(standard.clone());
    let mut back = read(&*store, numbers[3]).await.unwrap();
    back.value.gone_since = None;
    store.save_deployments(&[moved, back]).await.unwrap();
    let rest = store.deployments(Some(&standard), &page(9, first.next)).await.unwrap();
    assert_eq!(rest.items.len(), 3, "one that came in before the mark does not shift what comes after");
    assert_eq!(store.count_deployments(&standard).await.unwrap(), 6);
    assert_eq!(store.count_deployments(&premium).await.unwrap(), 0);
}

pub async fn due_checks_come_the_longest_due_first_and_not_a_moment_early(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    for (number, due) in [(1, Some(20)), (2, Some(10)), (3, None), (4, Some(30))] {
        let mut asked = deployment(number);
        if let Some(due) = due {
            asked.ask_check(at(due));
        }
        save(&*store, [asked]).await;
    }
    let due = async |now: i64, at_most: usize| -> Vec<_> {
        let due = store.due_checks(at(now), at_most).await.unwrap();
        due.into_iter().map(|due| due.value.key).collect()
    };
    let keys = |numbers: &[u32]| -> Vec<_> { numbers.iter().map(|number| application(*number).key()).collect() };
    assert_eq!(due(9, 10).await, keys(&[]));
    assert_eq!(due(10, 10).await, keys(&[2]));
    assert_eq!(due(30, 10).await, keys(&[2, 1, 4]));
    assert_eq!(due(30, 2).await, keys(&[2, 1]));
    let mut done = store.due_checks(at(10), 1).await.unwrap();
    done[0].value.check = None;
    assert!(store.save_deployments(&done).await.unwrap()[0].is_stored(), "it can be written as it was listed");
    assert_eq!(due(30, 10).await, keys(&[1, 4]));
}

pub async fn the_end_of_a_refresh_is_noted_without_losing_other_changes(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    let (first, second) = (succeeded(1, "1.4.0", 10), succeeded(2, "1.5.0", 11));
    store.record_past(&application(1).key(), &first).await.unwrap();
    assert_eq!(read(&*store, 1).await, None, "noting does not make a deployment");
    save(&*store, [deployment(1)]).await;
    let before = read(&*store, 1).await.unwrap();
    store.record_past(&application(1).key(), &first).await.unwrap();
    let noted = read(&*store, 1).await.unwrap();
    assert_eq!(noted.value, after(deployment(1), std::slice::from_ref(&first)));
    assert_eq!(store.save_deployments(&[before]).await.unwrap(), [Saved::Conflict], "it would undo the note");
    let changed = Deployment { event_error: Some("\"\u{1f680}\"".to_owned()), ..noted.value.clone() };
    assert!(store.save_deployments(&[noted.with(changed.clone())]).await.unwrap()[0].is_stored());
    store.record_past(&application(1).key(), &second).await.unwrap();
    assert_eq!(read(&*store, 1).await.unwrap().value, after(changed, &[first, second]));
}

pub async fn a_refresh_that_ended_is_saved_with_its_note_and_its_guard(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    let past = succeeded(1, "1.4.0", 10);
    save(&*store, [deployment(1)]).await;
    store.insert_refreshes(&[refresh(1, 1)]).await.unwrap();
    let running = put(&*store, &refresh(1, 1), standing(Standing::Running, at(1))).await;
    let read_before = stored(&*store, &running).await;
    let ended = Refresh { state: standing(Standing::Succeeded, at(0)), ..running };
    assert!(store.save_ended(&read_before.with(ended.clone()), &past).await.unwrap().is_stored());
    assert_eq!(stored(&*store, &ended).await.value, ended);
    assert_eq!(read(&*store, 1).await.unwrap().value, after(deployment(1), std::slice::from_ref(&past)));
    assert_tally_is_a_recount(&*store, rollout_id(1)).await;

    let later = succeeded(2, "1.5.0", 11);
    let failed = Refresh { state: standing(Standing::Failed, at(0)), ..ended.clone() };
    assert_eq!(
        store.save_ended(&read_before.with(failed), &later).await.unwrap(),
        Saved::Conflict,
        "who was quicker won"
    );
    assert_eq!(stored(&*store, &ended).await.value, ended);
    assert_eq!(read(&*store, 1).await.unwrap().value, after(deployment(1), &[past, later]), "and learned the same");
    assert_tally_is_a_recount(&*store, rollout_id(1)).await;
}

pub async fn an_older_end_does_not_undo_what_was_applied_last(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    let (older, newer) = (succeeded(1, "1.4.0", 9), succeeded(2, "1.5.0", 10));
    save(&*store, [deployment(1)]).await;
    for past in [&newer, &older] {
        store.record_past(&application(1).key(), past).await.unwrap();
    }
    let both = read(&*store, 1).await;
    assert_eq!(both.as_ref().unwrap().value, after(deployment(1), &[older.clone(), newer.clone()]));
    for past in [&newer, &older] {
        store.record_past(&application(1).key(), past).await.unwrap();
        assert_eq!(read(&*store, 1).await, both, "the same end again changes nothing");
    }
}

pub async fn notes_and_guarded_writes_at_once_lose_nothing(open: impl Fn() -> Arc<dyn Store>) {
    let stores = [open(), open()];
    save(&*stores[0], [deployment(1)]).await;
    let writers = (0..20usize).map(|number| {
        let store = stores[number % 2].clone();
        tokio::spawn(async move {
            let past = succeeded(u32::try_from(number).unwrap(), "1.4.0", number as i64);
            store.record_past(&application(1).key(), &past).await.unwrap();
            loop {
                let mut read = read(&*store, 1).await.unwrap();
                read.value.event_error = Some(format!("{}x", read.value.event_error.unwrap_or_default()));
                if store.save_deployments(&[read]).await.unwrap()[0].is_stored() {
                    return;
                }
            }
        })
    });
    join_all(writers).await.into_iter().for_each(Result::unwrap);
    let last = read(&*stores[0], 1).await.unwrap().value;
    assert_eq!(last.event_error.as_deref(), Some("x".repeat(20).as_str()));
    let all: Vec<_> = (0..20).map(|number| succeeded(number, "1.4.0", i64::from(number))).collect();
    assert_eq!((last.history.as_slice(), last.applied.unwrap().at), (all.as_slice(), all[19].at));
}

pub async fn deployments_gone_long_enough_are_forgotten(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    save(&*store, [deployment(0), gone(1, at(9)), gone(2, at(10)), gone(3, at(11))]).await;
    assert_eq!(store.forget_gone(at(10)).await.unwrap(), 1);
    assert_eq!(store.forget_gone(at(10)).await.unwrap(), 0);
    let left = store.deployments(None, &page(10, None)).await.unwrap().items.into_iter().map(|left| left.value.key);
    let expected = in_order_of_keys(4).into_iter().filter(|number| *number != 1);
    assert_eq!(left.collect::<Vec<_>>(), expected.map(|number| application(number).key()).collect::<Vec<_>>());
}

pub async fn a_deployment_is_removed_only_as_it_was_read(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    assert_eq!(store.remove_deployment(&Versioned::new(deployment(1))).await.unwrap(), Saved::Conflict);
    save(&*store, [deployment(1), deployment(2)]).await;
    let stale = read(&*store, 1).await.unwrap();
    store.record_past(&application(1).key(), &succeeded(1, "1.4.0", 1)).await.unwrap();
    assert_eq!(store.remove_deployment(&stale).await.unwrap(), Saved::Conflict);
    assert_eq!(store.remove_deployment(&Versioned::new(deployment(1))).await.unwrap(), Saved::Conflict);
    let fresh = read(&*store, 1).await.unwrap();
    assert!(store.remove_deployment(&fresh).await.unwrap().is_stored());
    assert_eq!(read(&*store, 1).await, None);
    assert_eq!(store.remove_deployment(&fresh).await.unwrap(), Saved::Conflict);
    assert_eq!(store.save_deployments(std::slice::from_ref(&fresh)).await.unwrap(), [Saved::Conflict]);
    save(&*store, [deployment(1)]).await;
    for seen_before_the_removal in [stale, fresh] {
        assert_eq!(store.save_deployments(&[seen_before_the_removal]).await.unwrap(), [Saved::Conflict]);
    }
    assert_eq!(store.count_deployments(&plan("standard")).await.unwrap(), 2);
}
