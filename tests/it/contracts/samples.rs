//! Records for the suites, each made from a small number.

use std::collections::BTreeMap;
use std::time::Duration;

use permafresh::rollout::answer::{Monitor, Operation, PollingUrl};
use permafresh::rollout::hand_over::HandOver;
use permafresh::rollout::jit::Approval;
use permafresh::rollout::publish::Supersede;
use permafresh::rollout::refresh::{Gate, Question};
use permafresh::rollout::{
    Actor, ApplicationId, Applied, Audience, Deployment, Evidence, Failure, OfferPublish, PastRefresh, PastResult,
    Plan, Purpose, Refresh, RefreshState, Rollout, RolloutId, SkipReason, Standing, Strategy, Tally, Target, Timestamp,
    Version,
};
use permafresh::store::{PageRequest, Saved, Store, Versioned};
use uuid::Uuid;

/// So many milliseconds after a fixed moment.
pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_timestamp_millis(1_767_225_600_000 + millis).unwrap()
}

pub fn version(text: &str) -> Version {
    text.parse().unwrap()
}

pub fn plan(plan: &str) -> Plan {
    Plan::parse("fabrikam", "ledger", plan).unwrap().0
}

pub fn application(number: u32) -> ApplicationId {
    format!(
        "/subscriptions/{}/resourceGroups/rg-{number}/providers/Microsoft.Solutions/applications/ledger-{number}",
        Uuid::from_u128(u128::from(number % 7))
    )
    .parse()
    .unwrap()
}

pub fn rollout_id(number: u32) -> RolloutId {
    RolloutId(Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0000 + u128::from(number)))
}

/// A rollout made `number` seconds after the fixed moment.
pub fn rollout(number: u32) -> Rollout {
    let publish = OfferPublish {
        plan: plan("standard"),
        version: version("1.4.0"),
        target: Target::Live,
        audience: Audience::All,
        purpose: Purpose::RollOut,
        submission_id: Some("1152921505694".to_owned()),
        published_at: Some(at(0)),
        scope: vec![application(1)],
        strategy: Strategy::default(),
        supersede: Supersede::Refuse,
        note: Some("„Straße\" \u{1f680}\nsecond line".to_owned()),
        actions: None,
    };
    Rollout::new(rollout_id(number), publish, at(i64::from(number) * 1_000))
}

/// A planned refresh of deployment `number` in the first wave.
pub fn refresh(rollout: u32, number: u32) -> Refresh {
    Refresh::planned(rollout_id(rollout), application(number), version("1.4.0"), 1)
}

pub fn deployment(number: u32) -> Deployment {
    let mut deployment = Deployment::new(application(number), at(0));
    deployment.plan = Some(plan("standard"));
    deployment.confirmed = true;
    deployment
}

/// The end of a refresh that brought its version.
pub fn succeeded(rollout: u32, version_text: &str, millis: i64) -> PastRefresh {
    let (version, rollout_id) = (version(version_text), rollout_id(rollout));
    PastRefresh { version, rollout_id, generation: 0, at: at(millis), result: PastResult::Succeeded { verified: true } }
}

/// The same deployment after these ends, the last of which succeeded.
pub fn after(deployment: Deployment, history: &[PastRefresh]) -> Deployment {
    let last = history.last().expect("there is a last one");
    let applied = Applied { version: last.version, rollout_id: last.rollout_id, at: last.at };
    Deployment { applied: Some(applied), history: history.to_vec(), ..deployment }
}

/// A state with that standing; those that wake do so at `wake`.
pub fn standing(standing: Standing, wake: Timestamp) -> RefreshState {
    let operation = Operation {
        url: PollingUrl::new(format!("https://management.azure.com/operations/1?c={}", "A%2f+b=".repeat(600))),
        monitor: Monitor::AsyncOperation,
        fallback: Some(PollingUrl::new("https://management.azure.com/operations/1/location?s=\"ü\"")),
        last_wait_seconds: Some(15),
    };
    let (attempt, deadline) = (2, wake + Duration::from_secs(60));
    let failure = |actor| Failure { actor, code: "Conflict".to_owned(), message: "it's a 'lock'; -- \u{0}".to_owned() };
    match standing {
        Standing::Pending => RefreshState::Queued { attempt, due: None },
        // A queued refresh wakes the timer only once its message counts as lost.
        Standing::Queued => {
            RefreshState::Queued { attempt, due: Some(wake - permafresh::rollout::refresh::LOST_AFTER) }
        }
        Standing::Submitting => RefreshState::Submitting { attempt, lease_until: wake },
        Standing::AwaitingAccess => {
            let gate = Gate::Jit { request: "jit-1".to_owned(), approval: Approval::default() };
            RefreshState::AwaitingAccess { attempt, gate, next_look: wake, deadline }
        }
        Standing::Running => {
            RefreshState::Running { attempt, operation, next_poll: wake, claimed_until: None, deadline }
        }
        Standing::Verifying => {
            let question = Question::MonitorUnreadable { operation, operation_deadline: deadline };
            RefreshState::Verifying { attempt, question, next_look: wake, claimed_until: None, deadline }
        }
        Standing::Succeeded => RefreshState::Succeeded { evidence: Evidence::StatusAndApplication },
        Standing::SucceededUnproven => RefreshState::Succeeded { evidence: Evidence::ApplicationOnly },
        Standing::Failed => RefreshState::Failed { failure: failure(Actor::Customer), has_operation_ended: true },
        Standing::FailedUnproven => {
            RefreshState::Failed { failure: failure(Actor::Customer), has_operation_ended: false }
        }
        Standing::FailedByOffer => RefreshState::Failed { failure: failure(Actor::Offer), has_operation_ended: true },
        Standing::Canceled => RefreshState::Canceled,
        Standing::TimedOut => RefreshState::TimedOut { failure: None },
        Standing::Skipped => RefreshState::Skipped { why: SkipReason::AlreadyApplied },
        Standing::HandedOver => {
            let (bash, powershell) = ("az rest --url 'x'".to_owned(), "az rest --url '\"x\"'".to_owned());
            RefreshState::HandedOver { hand_over: HandOver { bash, powershell, error: None } }
        }
        Standing::Superseded => RefreshState::Superseded { by: rollout_id(99) },
    }
}

/// The numbers of `count` deployments in the order of their keys.
pub fn in_order_of_keys(count: u32) -> Vec<u32> {
    let by_key: BTreeMap<_, _> = (0..count).map(|number| (application(number).key(), number)).collect();
    by_key.into_values().collect()
}

pub fn page(top: usize, continuation: Option<String>) -> PageRequest {
    PageRequest { continuation, top }
}

/// All refreshes of a rollout, read page by page.
pub async fn all_refreshes(
    store: &dyn Store,
    rollout: RolloutId,
    standings: Option<&[Standing]>,
    top: usize,
) -> Vec<Versioned<Refresh>> {
    let mut all = Vec::new();
    let mut continuation = None;
    loop {
        let page = store.refreshes(rollout, standings, &page(top, continuation)).await.unwrap();
        assert!(page.items.len() <= top && (page.next.is_none() || page.items.len() == top), "a page is not full");
        all.extend(page.items);
        match page.next {
            Some(next) => continuation = Some(next),
            None => return all,
        }
    }
}

/// Asserts that the tally of a rollout is what counting its refreshes gives.
pub async fn assert_tally_is_a_recount(store: &dyn Store, rollout: RolloutId) {
    let mut recount = Tally::default();
    for refresh in all_refreshes(store, rollout, None, 100).await {
        recount.add(refresh.value.wave, Standing::of(&refresh.value), 1);
    }
    assert_eq!(store.tally(rollout).await.unwrap(), recount);
}

/// Reads one refresh that must be there.
pub async fn stored(store: &dyn Store, refresh: &Refresh) -> Versioned<Refresh> {
    store.refresh(refresh.rollout_id, &refresh.key).await.unwrap().expect("the refresh is stored")
}

/// Puts a stored refresh into another state.
pub async fn put(store: &dyn Store, refresh: &Refresh, state: RefreshState) -> Refresh {
    let stored = stored(store, refresh).await;
    let changed = Refresh { state, ..stored.value.clone() };
    let answers = store.save_refreshes(&[stored.with(changed.clone())]).await.unwrap();
    assert!(matches!(answers[..], [Saved::Stored(_)]), "{answers:?}");
    changed
}
