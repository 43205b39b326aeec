//! One test for each rule of a refresh; here what a refresh goes through from its beginning to its end, and what the other
//! files share.

mod polls;
mod random;
mod tries;
mod ways;

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::rollout::{Monitor, PollingUrl};
use crate::rollout::{PollAnswer, ReadAnswer, SubmitAnswer};

fn start() -> Timestamp {
    "2026-03-10T12:00:00Z".parse().unwrap()
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn policy() -> Policy {
    Policy {
        ways: vec![Way::Publisher, Way::HandOver],
        verify_after_success: true,
        arm_endpoint: "https://management.azure.com".into(),
        arm_api_version: "2019-07-01".into(),
    }
}

fn planned() -> Refresh {
    let id = "/subscriptions/a1000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger";
    Refresh::planned(RolloutId(Uuid::from_u128(7)), id.parse().unwrap(), "1.4.0".parse().unwrap(), 1)
}

fn error(status: u16, code: &str) -> RemoteError {
    RemoteError { status: Some(status), code: code.into(), message: "text".into() }
}

fn operation() -> Operation {
    Operation {
        url: PollingUrl::new("https://management.azure.com/op?s=secret"),
        monitor: Monitor::AsyncOperation,
        fallback: None,
        last_wait_seconds: None,
    }
}

fn accepted() -> Event {
    let answer = SubmitAnswer::Accepted { operation: operation(), wait: Some(Duration::from_secs(15)) };
    Event::Answered { answer, correlation_id: Some("correlation".into()) }
}

fn answered(answer: SubmitAnswer) -> Event {
    Event::Answered { answer, correlation_id: None }
}

fn opening(deadline: Timestamp) -> SubmitAnswer {
    let gate = Gate::Jit { request: "jit-1".into(), approval: Default::default() };
    SubmitAnswer::Opening { gate, next_look: start() + minutes(1), deadline }
}

fn unreadable() -> ReadAnswer {
    ReadAnswer::Unreadable { error: error(503, "ServiceUnavailable"), wait: None }
}

/// Takes a refresh through events, each at its minute; every one of them has to be legal.
fn walk(events: impl IntoIterator<Item = (u64, Event)>) -> (Refresh, Next) {
    events.into_iter().fold((planned(), Next::Nothing), |(refresh, _), (minute, event)| {
        refresh.apply(event, start() + minutes(minute), &policy()).unwrap()
    })
}

fn submitting() -> Vec<(u64, Event)> {
    vec![(0, Event::Release), (0, Event::Submit)]
}

fn polled(answer: PollAnswer) -> Vec<(u64, Event)> {
    let mut events = submitting();
    events.extend([(0, accepted()), (1, Event::Claim), (1, Event::Polled(answer))]);
    events
}

#[test]
fn a_refresh_goes_from_queued_to_succeeded() {
    let (refresh, next) = walk([(0, Event::Release)]);
    assert_eq!(next, Next::Send { at: None });
    let (refresh, next) = refresh.apply(Event::Submit, start(), &policy()).unwrap();
    assert_eq!((next, refresh.way), (Next::Post, Some(Way::Publisher)));
    let (refresh, _) = refresh.apply(accepted(), start(), &policy()).unwrap();
    assert_eq!(refresh.wake_at(), Some(start() + Duration::from_secs(15)), "the wait ARM named");
    assert_eq!(refresh.correlation_id.as_deref(), Some("correlation"));
    let mut events = polled(PollAnswer::Succeeded);
    events.extend([(1, Event::Claim), (1, Event::Read(ReadAnswer::Ready))]);
    let (refresh, _) = walk(events);
    assert_eq!(refresh.state, RefreshState::Succeeded { evidence: Evidence::StatusAndApplication });
    assert_eq!((refresh.polls, refresh.ended_at, refresh.wake_at()), (1, Some(start() + minutes(1)), None));
}

#[test]
fn an_application_that_is_not_there_gets_a_second_look_and_is_then_skipped() {
    let missing = || answered(SubmitAnswer::NotFound { error: error(404, "ResourceNotFound") });
    let mut events = submitting();
    events.push((0, missing()));
    let (refresh, next) = walk(events.clone());
    assert_eq!(next, Next::Send { at: Some(start() + SECOND_LOOK) });
    assert!(!refresh.state.is_terminal());
    events.extend([(10, Event::Submit), (10, missing())]);
    assert_eq!(walk(events).0.state, RefreshState::Skipped { why: SkipReason::Gone });
}

#[test]
fn pausing_gives_the_place_back_and_what_was_posted_is_followed_to_its_end() {
    let (refresh, _) = walk([(0, Event::Release), (0, Event::PutBack)]);
    assert_eq!((&refresh.state, refresh.wake_at()), (&RefreshState::Queued { attempt: 1, due: None }, None));
    for event in [Event::PutBack, Event::Cancel] {
        let (running, _) = walk(submitting().into_iter().chain([(0, accepted())]));
        let (same, next) = running.apply(event, start(), &policy()).unwrap();
        assert_eq!((same, next), (running, Next::Nothing));
    }
}

#[test]
fn a_worker_that_may_not_post_gives_the_place_back_and_spends_nothing() {
    let mut events = submitting();
    events.push((0, Event::Withdraw));
    let (withdrawn, next) = walk(events);
    assert_eq!((withdrawn.state.clone(), next), (RefreshState::Queued { attempt: 1, due: None }, Next::Nothing));
    assert_eq!(withdrawn.attempts, 0);
    assert!(planned().apply(Event::Withdraw, start(), &policy()).is_err(), "nobody has it");
}

#[test]
fn whatever_ended_may_start_over_where_its_deployment_came_back_and_nothing_else_does() {
    let (ended, _) = walk([(0, Event::Release), (0, Event::Skip { why: SkipReason::NotReady })]);
    let (again, _) = ended.apply(Event::Rejoin, start(), &policy()).unwrap();
    assert_eq!((again.state, again.generation), (RefreshState::Queued { attempt: 1, due: None }, 1));
    assert_eq!(planned().apply(Event::Rejoin, start(), &policy()).unwrap().0, planned());
}

#[test]
fn an_illegal_pair_names_both() {
    let illegal = planned().apply(Event::Claim, start(), &policy()).unwrap_err();
    assert_eq!(illegal.to_string(), "a refresh that is queued cannot take the event claim");
}

#[test]
fn a_stored_refresh_reads_back_as_it_was_and_never_shows_its_signed_url() {
    let (running, _) = walk(submitting().into_iter().chain([(0, accepted())]));
    let text = serde_json::to_string(&running).unwrap();
    assert_eq!(serde_json::from_str::<Refresh>(&text).unwrap(), running);
    assert!(!format!("{running:?}").contains("secret"));
}
