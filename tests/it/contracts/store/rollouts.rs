//! Rules about rollouts, idempotency keys, wanted versions, throttles, and about the store as a whole.

use std::sync::Arc;

use futures_util::future::join_all;
use permafresh::rollout::{RolloutState, Standing, WantedVersion};
use permafresh::store::{Claim, ETag, Saved, Store, StoreError, Versioned, document};

use crate::contracts::samples::{at, deployment, page, plan, put, refresh, rollout, rollout_id, standing, succeeded};

pub async fn a_key_is_claimed_once_and_names_its_holder(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    let (first, second) =
        (Claim { rollout_id: rollout_id(1), at: at(1) }, Claim { rollout_id: rollout_id(2), at: at(2) });
    assert_eq!(store.key_holder("k").await.unwrap(), None);
    assert_eq!(store.claim_key("k", &first).await.unwrap(), None);
    assert_eq!(store.claim_key("k", &second).await.unwrap(), Some(first.clone()));
    assert_eq!(store.key_holder("k").await.unwrap(), Some(first));
    assert_eq!(store.claim_key("K", &second).await.unwrap(), None, "keys are told apart by case");
}

pub async fn of_a_hundred_claims_at_once_one_wins(open: impl Fn() -> Arc<dyn Store>) {
    let stores = [open(), open()];
    let claims = (0..100u32).map(|number| {
        let store = stores[number as usize % 2].clone();
        tokio::spawn(async move {
            let claim = Claim { rollout_id: rollout_id(number), at: at(i64::from(number)) };
            (claim.clone(), store.claim_key("publish|fabrikam|1.4.0", &claim).await.unwrap())
        })
    });
    let answers: Vec<_> = join_all(claims).await.into_iter().map(Result::unwrap).collect();
    let winners: Vec<_> = answers.iter().filter(|(_, holder)| holder.is_none()).map(|(claim, _)| claim).collect();
    assert_eq!(winners.len(), 1);
    assert!(answers.iter().all(|(_, holder)| holder.as_ref().is_none_or(|holder| holder == winners[0])));
}

pub async fn a_new_record_is_written_once_and_a_stale_version_changes_nothing(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    assert_eq!(store.rollout(rollout_id(1)).await.unwrap(), None);
    let first = Versioned::new(rollout(1));
    let saved = store.save_rollout(&first).await.unwrap();
    let read = store.rollout(rollout_id(1)).await.unwrap().unwrap();
    assert_eq!((&read.value, Some(&saved)), (&first.value, read.etag.clone().map(Saved::Stored).as_ref()));

    let paused = |why: &str| {
        let mut rollout = rollout(1);
        rollout.state = RolloutState::Paused { why: why.to_owned(), on: None };
        rollout
    };
    assert_eq!(store.save_rollout(&Versioned::new(paused("again as new"))).await.unwrap(), Saved::Conflict);
    let Saved::Stored(second) = store.save_rollout(&read.with(paused("first"))).await.unwrap() else {
        panic!("the version was right");
    };
    assert_ne!(Some(&second), read.etag.as_ref());
    assert_eq!(store.save_rollout(&read.with(paused("stale"))).await.unwrap(), Saved::Conflict);
    let foreign = Versioned { value: paused("foreign"), etag: Some(ETag("W/\"no version of ours\"".to_owned())) };
    assert_eq!(store.save_rollout(&foreign).await.unwrap(), Saved::Conflict);
    let unknown = Versioned { value: rollout(2), etag: Some(second.clone()) };
    assert_eq!(store.save_rollout(&unknown).await.unwrap(), Saved::Conflict, "a version, but no such record");
    assert_eq!(store.rollout(rollout_id(2)).await.unwrap(), None);
    let last = store.rollout(rollout_id(1)).await.unwrap().unwrap();
    assert_eq!(last, Versioned { value: paused("first"), etag: Some(second) });
}

pub async fn of_many_writers_with_the_same_version_one_wins(open: impl Fn() -> Arc<dyn Store>) {
    let stores = [open(), open()];
    stores[0].save_rollout(&Versioned::new(rollout(1))).await.unwrap();
    let read = stores[0].rollout(rollout_id(1)).await.unwrap().unwrap();
    let writes = (0..50u32).map(|wave| {
        let (store, mut changed) = (stores[wave as usize % 2].clone(), read.clone());
        changed.value.wave = wave + 1;
        tokio::spawn(async move { (changed.value.wave, store.save_rollout(&changed).await.unwrap()) })
    });
    let answers: Vec<_> = join_all(writes).await.into_iter().map(Result::unwrap).collect();
    let winners: Vec<_> = answers.into_iter().filter(|(_, saved)| saved.is_stored()).collect();
    let [(wave, Saved::Stored(etag))] = &winners[..] else { panic!("one must win, not {winners:?}") };
    let last = stores[1].rollout(rollout_id(1)).await.unwrap().unwrap();
    assert_eq!((last.value.wave, last.etag.as_ref()), (*wave, Some(etag)));
}

pub async fn rollouts_are_listed_the_newest_first_page_by_page(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    assert_eq!(store.rollouts(&page(10, None)).await.unwrap().items, []);
    for number in [3, 1, 2, 5] {
        store.save_rollout(&Versioned::new(rollout(number))).await.unwrap();
    }
    let mut twin = rollout(4);
    twin.created_at = rollout(3).created_at;
    store.save_rollout(&Versioned::new(twin)).await.unwrap();

    let first = store.rollouts(&page(2, None)).await.unwrap();
    store.save_rollout(&Versioned::new(rollout(6))).await.unwrap();
    let second = store.rollouts(&page(2, first.next.clone())).await.unwrap();
    let third = store.rollouts(&page(1, second.next.clone())).await.unwrap();
    assert_eq!(third.next, None, "a last page that is full knows that it is the last");
    let ids = [first.items, second.items, third.items].concat().into_iter().map(|rollout| rollout.id);
    assert_eq!(ids.collect::<Vec<_>>(), [5, 4, 3, 2, 1].map(rollout_id));
}

pub async fn a_rollout_is_open_until_it_and_all_its_refreshes_have_ended(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    let ids = async || -> Vec<_> {
        store.open_rollouts().await.unwrap().into_iter().map(|rollout| rollout.value.id).collect()
    };
    for number in [2, 1, 3] {
        store.save_rollout(&Versioned::new(rollout(number))).await.unwrap();
    }
    let followed = refresh(2, 7);
    store.insert_refreshes(std::slice::from_ref(&followed)).await.unwrap();
    assert_eq!(ids().await, [1, 2, 3].map(rollout_id), "the oldest first");
    for number in [1, 2] {
        let mut ended = store.rollout(rollout_id(number)).await.unwrap().unwrap();
        ended.value.cancel(None, at(9_000));
        assert!(store.save_rollout(&ended).await.unwrap().is_stored());
    }
    for open in [Standing::Pending, Standing::Running, Standing::AwaitingAccess, Standing::Verifying] {
        put(&*store, &followed, standing(open, at(0))).await;
        assert_eq!(ids().await, [2, 3].map(rollout_id), "{open:?} is no result");
    }
    for ended in [Standing::Succeeded, Standing::Failed, Standing::Canceled, Standing::HandedOver] {
        put(&*store, &followed, standing(ended, at(0))).await;
        assert_eq!(ids().await, [rollout_id(3)], "{ended:?} is a result");
    }
    let read = store.open_rollouts().await.unwrap();
    assert_eq!(read[0], store.rollout(rollout_id(3)).await.unwrap().unwrap(), "it can be written as it was listed");
}

pub async fn a_throttle_never_goes_backwards(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    assert_eq!(store.throttled_until("s1").await.unwrap(), None);
    for (until, then) in [(500, 500), (400, 500), (501, 501), (501, 501)] {
        store.throttle("s1", at(until)).await.unwrap();
        assert_eq!(store.throttled_until("s1").await.unwrap(), Some(at(then)));
    }
    assert_eq!(store.throttled_until("s2").await.unwrap(), None, "it holds back nobody else");
}

pub async fn a_continuation_of_another_list_is_refused(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    for number in [1, 2] {
        store.save_rollout(&Versioned::new(rollout(number))).await.unwrap();
        store.save_deployments(&[Versioned::new(deployment(number))]).await.unwrap();
        store.insert_refreshes(&[refresh(1, number)]).await.unwrap();
    }
    let standings = Some(&[Standing::Pending][..]);
    let of_rollouts = store.rollouts(&page(1, None)).await.unwrap().next.unwrap();
    let of_deployments = store.deployments(None, &page(1, None)).await.unwrap().next.unwrap();
    let of_refreshes = store.refreshes(rollout_id(1), None, &page(1, None)).await.unwrap().next.unwrap();
    let nonsense = ["", "x", "o.1", "r.00", "d.'; DROP TABLE rollouts", "ü"].map(str::to_owned);
    let is_refused = |refused| matches!(refused, Err(StoreError::InvalidContinuation));
    for bad in nonsense.iter().chain([&of_deployments, &of_refreshes]) {
        let asked = store.rollouts(&page(1, Some(bad.clone()))).await;
        assert!(is_refused(asked.map(|_| ())), "rollouts took {bad:?}");
    }
    for bad in nonsense.iter().chain([&of_rollouts, &of_refreshes]) {
        let asked = store.deployments(Some(&plan("standard")), &page(1, Some(bad.clone()))).await;
        assert!(is_refused(asked.map(|_| ())), "deployments took {bad:?}");
    }
    for bad in nonsense.iter().chain([&of_rollouts, &of_deployments]) {
        for standings in [None, standings] {
            let asked = store.refreshes(rollout_id(1), standings, &page(1, Some(bad.clone()))).await;
            assert!(is_refused(asked.map(|_| ())), "refreshes took {bad:?}");
        }
    }
}

pub async fn everything_is_there_after_opening_again(open: impl Fn() -> Arc<dyn Store>) {
    let claim = Claim { rollout_id: rollout_id(1), at: at(1) };
    let (ours, theirs) = (refresh(1, 1), deployment(1));
    let before = open();
    before.claim_key("k", &claim).await.unwrap();
    before.save_rollout(&Versioned::new(rollout(1))).await.unwrap();
    before.insert_refreshes(std::slice::from_ref(&ours)).await.unwrap();
    let running = put(&*before, &ours, standing(Standing::Running, at(77))).await;
    before.save_deployments(&[Versioned::new(theirs.clone())]).await.unwrap();
    before.record_past(&theirs.key, &succeeded(1, "1.4.0", 5)).await.unwrap();
    document::save(&*before, &Versioned::new(WantedVersion::new(plan("standard"), None))).await.unwrap();
    before.throttle("s1", at(500)).await.unwrap();
    let tally = before.tally(rollout_id(1)).await.unwrap();
    let read = before.refresh(rollout_id(1), &ours.key).await.unwrap().unwrap();
    drop(before);

    let after = open();
    assert_eq!(after.key_holder("k").await.unwrap(), Some(claim));
    assert_eq!(after.rollout(rollout_id(1)).await.unwrap().unwrap().value, rollout(1));
    assert_eq!((&read.value, after.refresh(rollout_id(1), &ours.key).await.unwrap().as_ref()), (&running, Some(&read)));
    assert_eq!(after.tally(rollout_id(1)).await.unwrap(), tally);
    assert_eq!(after.next_wake().await.unwrap(), Some(at(77)));
    let kept = after.deployments_by_key(&[theirs.key]).await.unwrap().remove(0).unwrap();
    assert_eq!(kept.value.history, [succeeded(1, "1.4.0", 5)]);
    assert_eq!(document::all::<WantedVersion>(&*after, "").await.unwrap().len(), 1);
    assert_eq!(after.throttled_until("s1").await.unwrap(), Some(at(500)));
    assert!(after.save_refreshes(&[read]).await.unwrap()[0].is_stored(), "versions hold across opening");
}
