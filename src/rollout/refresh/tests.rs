//! One test for each rule of a refresh, and random orders of events over all of them.

use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::rollout::{Actor, Monitor, PollingUrl, RetryPolicy};

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
fn a_poll_waits_as_long_as_this_answer_says_else_the_last_one_else_thirty_seconds() {
    let running = |wait| PollAnswer::Running { percent: Some(40.0), wait, moved: None };
    let wait_of = |refresh: &Refresh| (refresh.wake_at().unwrap() - (start() + minutes(1))).num_seconds();
    assert_eq!(wait_of(&walk(polled(running(Some(Duration::from_secs(45))))).0), 45);
    assert_eq!(wait_of(&walk(polled(running(None))).0), 15, "the last one");
    let silent =
        Event::Answered { answer: SubmitAnswer::Accepted { operation: operation(), wait: None }, correlation_id: None };
    let mut events = submitting();
    events.push((0, silent));
    let first = walk(events).0.wake_at().unwrap() - start();
    assert!((22..=30).contains(&first.num_seconds()), "{first}");
}

#[test]
fn what_can_be_retried_is_queued_for_the_time_arm_named_with_a_message_id_of_its_own() {
    let mut events = submitting();
    let wait = Some(Duration::from_secs(90));
    events.push((0, answered(SubmitAnswer::Retry { error: error(429, "TooManyRequests"), wait })));
    let before = walk(submitting()).0;
    let (refresh, next) = walk(events);
    let at = start() + Duration::from_secs(90);
    assert_eq!(next, Next::Send { at: Some(at) });
    assert_eq!(refresh.state, RefreshState::Queued { attempt: 2, due: Some(at) });
    assert_ne!(refresh.message_id(), before.message_id());
    assert_ne!(refresh.request_id(), before.request_id());
}

#[test]
fn retries_end_at_the_attempt_limit_and_say_who_has_to_act() {
    let no_token = RemoteError { status: None, ..error(0, "NoToken") };
    for (error, actor) in [
        (error(503, "Busy"), Actor::Microsoft),
        (RemoteError { status: None, ..error(0, "Timeout") }, Actor::Microsoft),
        (error(409, "Busy"), Actor::Customer),
        // Our own identity is at fault, and nobody else can do anything about it.
        (no_token, Actor::Publisher),
    ] {
        let mut refresh = walk([(0, Event::Release)]).0;
        let mut now = start();
        for attempt in 1..=RetryPolicy::POST.attempts {
            assert_eq!(refresh.attempt(), attempt);
            now += minutes(61);
            refresh = refresh.apply(Event::Submit, now, &policy()).unwrap().0;
            let retry = SubmitAnswer::Retry { error: error.clone(), wait: None };
            refresh = refresh.apply(answered(retry), now, &policy()).unwrap().0;
        }
        let RefreshState::Failed { failure } = &refresh.state else { panic!("{:?}", refresh.state) };
        assert_eq!(failure.actor, actor);
    }
}

#[test]
fn a_message_before_its_time_does_nothing() {
    let until = start() + minutes(10);
    let (refresh, next) = walk([(0, Event::Release), (0, Event::Delay { until })]);
    assert_eq!(next, Next::Send { at: Some(until) });
    let (same, next) = refresh.apply(Event::Submit, start() + minutes(9), &policy()).unwrap();
    assert_eq!((&same, next), (&refresh, Next::Nothing));
    let (_, next) = refresh.apply(Event::Submit, start() + minutes(10), &policy()).unwrap();
    assert_eq!(next, Next::Post);
}

#[test]
fn a_lost_message_is_sent_again_with_another_id_and_growing_patience() {
    let (refresh, _) = walk([(0, Event::Release)]);
    let (same, _) = refresh.apply(Event::Overdue, start() + minutes(5), &policy()).unwrap();
    assert_eq!(same, refresh, "its first message had the resend 1, so patience is ten minutes");
    let (again, next) = refresh.apply(Event::Overdue, start() + minutes(10), &policy()).unwrap();
    assert_eq!(next, Next::Send { at: None });
    assert_ne!(again.message_id(), refresh.message_id());
    assert_eq!(again.request_id(), refresh.request_id(), "the attempt is the same");
    assert_eq!(again.wake_at(), Some(start() + minutes(10 + 20)));
}

#[test]
fn a_lost_message_is_missed_within_the_hour_however_often_the_refresh_was_delayed() {
    let (refresh, _) = walk((0..20).map(|at| match at {
        0 => (0, Event::Release),
        at => (0, Event::Delay { until: start() + minutes(at) }),
    }));
    assert_eq!(refresh.wake_at(), Some(start() + minutes(19 + 40)));
}

#[test]
fn an_expired_lease_goes_back_to_queued_with_the_same_attempt() {
    let (refresh, _) = walk(submitting());
    assert_eq!(refresh.wake_at(), Some(start() + LEASE));
    let (same, _) = refresh.apply(Event::Overdue, start() + minutes(2), &policy()).unwrap();
    assert_eq!(same, refresh);
    let (queued, next) = refresh.apply(Event::Overdue, start() + LEASE, &policy()).unwrap();
    assert_eq!((queued.attempt(), next), (1, Next::Send { at: None }));
    assert_eq!(queued.request_id(), refresh.request_id());
}

#[test]
fn a_refusal_is_handed_over_with_the_command_once_no_way_is_left() {
    let mut events = submitting();
    events.push((0, answered(SubmitAnswer::Refused { error: error(403, "AuthorizationFailed") })));
    let (refresh, _) = walk(events);
    let RefreshState::HandedOver { hand_over } = &refresh.state else { panic!("{:?}", refresh.state) };
    let url = "https://management.azure.com/subscriptions/a1000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger/refreshPermissions?api-version=2019-07-01&targetVersion=1.4.0";
    assert_eq!(hand_over.bash, format!("az rest --method post --verbose --url '{url}'"));
    assert_eq!(hand_over.powershell, format!("az rest --method post --verbose --url '\"{url}\"'"));
    assert_eq!(hand_over.error.as_ref().unwrap().code, "AuthorizationFailed");
}

#[test]
fn a_refusal_tries_the_next_way_first() {
    let ways = Policy { ways: vec![Way::Publisher, Way::Gdap], ..policy() };
    let refused = answered(SubmitAnswer::Refused { error: error(401, "InvalidAuthenticationTokenTenant") });
    let (refresh, next) = walk(submitting()).0.apply(refused, start(), &ways).unwrap();
    assert_eq!((refresh.way, next), (Some(Way::Gdap), Next::Send { at: None }));
    let (refresh, _) = refresh.apply(Event::Submit, start(), &ways).unwrap();
    assert_eq!(refresh.way, Some(Way::Gdap), "a retry keeps the way");
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
fn losing_the_right_to_look_is_no_failure_of_the_operation() {
    let lost = || PollAnswer::AccessLost { error: error(403, "AuthorizationFailed") };
    let mut refresh = walk(polled(lost())).0;
    let mut now = start() + minutes(1);
    for _ in 1..UNREADABLE_LOOKS {
        assert!(matches!(refresh.state, RefreshState::Running { .. }));
        now += minutes(11);
        refresh = refresh.apply(Event::Claim, now, &policy()).unwrap().0;
        refresh = refresh.apply(Event::Polled(lost()), now, &policy()).unwrap().0;
    }
    assert!(matches!(refresh.state, RefreshState::Verifying { .. }), "the application is read instead");
    refresh = refresh.apply(Event::Claim, now, &policy()).unwrap().0;
    let (running, _) = refresh.apply(Event::Read(unreadable()), now, &policy()).unwrap();
    assert!(matches!(running.state, RefreshState::Running { .. }), "the operation was kept");
    let (done, _) = refresh.apply(Event::Read(ReadAnswer::Ready), now, &policy()).unwrap();
    assert_eq!(done.state, RefreshState::Succeeded { evidence: Evidence::ApplicationOnly });
}

#[test]
fn throttled_and_broken_looks_spend_nothing_but_a_monitor_that_tells_nothing_is_given_up() {
    for (error, gives_up) in [
        (error(429, "TooManyRequests"), false),
        (error(503, "ServiceUnavailable"), false),
        (RemoteError { status: None, ..error(0, "Timeout") }, false),
        (error(200, "NoStatus"), true),
        (RemoteError { status: None, ..error(0, "PollingUrlRefused") }, true),
    ] {
        let mut refresh = walk(submitting().into_iter().chain([(0, accepted())])).0;
        let mut now = start();
        for _ in 0..UNREADABLE_LOOKS {
            now += minutes(11);
            refresh = refresh.apply(Event::Claim, now, &policy()).unwrap().0;
            let answer = PollAnswer::Unreadable { error: error.clone(), wait: None };
            refresh = refresh.apply(Event::Polled(answer), now, &policy()).unwrap().0;
        }
        assert_eq!(matches!(refresh.state, RefreshState::Verifying { .. }), gives_up, "{error:?}");
    }
}

#[test]
fn a_wait_of_a_fraction_of_a_second_is_never_cut_short() {
    let wait = Some(Duration::from_millis(1_500));
    let (refresh, _) = walk(polled(PollAnswer::Running { percent: None, wait, moved: None }));
    assert_eq!(refresh.wake_at(), Some(start() + minutes(1) + Duration::from_millis(1_500)));
    let now = start() + minutes(2);
    let (refresh, _) = refresh.apply(Event::Claim, now, &policy()).unwrap();
    let silent = Event::Polled(PollAnswer::Running { percent: None, wait: None, moved: None });
    let (refresh, _) = refresh.apply(silent, now, &policy()).unwrap();
    assert_eq!(refresh.wake_at(), Some(now + Duration::from_secs(2)), "kept in whole seconds, rounded up");
}

#[test]
fn a_call_that_was_held_back_spends_no_attempt() {
    let held_back = RemoteError { status: None, ..error(0, "HeldBack") };
    let retry = || answered(SubmitAnswer::Retry { error: held_back.clone(), wait: Some(Duration::from_secs(90)) });
    let mut refresh = walk([(0, Event::Release)]).0;
    let mut now = start();
    for _ in 0..RetryPolicy::POST.attempts * 2 {
        let before = refresh.message_id();
        refresh = refresh.apply(Event::Submit, now, &policy()).unwrap().0;
        refresh = refresh.apply(retry(), now, &policy()).unwrap().0;
        assert_ne!(refresh.message_id(), before);
        now += Duration::from_secs(90);
    }
    assert_eq!(refresh.state, RefreshState::Queued { attempt: 1, due: Some(now) });
}

#[test]
fn only_two_missing_readings_in_a_row_mean_that_it_is_gone() {
    let mut events = polled(PollAnswer::Succeeded);
    events.extend([(1, Event::Claim), (1, Event::Read(ReadAnswer::NotFound))]);
    events.extend([(11, Event::Claim), (11, Event::Read(unreadable()))]);
    events.extend([(12, Event::Claim), (12, Event::Read(ReadAnswer::NotFound))]);
    assert!(matches!(walk(events.clone()).0.state, RefreshState::Verifying { .. }));
    events.extend([(22, Event::Claim), (22, Event::Read(ReadAnswer::NotFound))]);
    assert_eq!(walk(events).0.state, RefreshState::Skipped { why: SkipReason::Gone });
}

#[test]
fn a_look_at_a_throttled_subscription_is_put_off_and_counts_for_nothing() {
    let (running, _) = walk(submitting().into_iter().chain([(0, accepted())]));
    let until = start() + minutes(3);
    let (delayed, next) = running.apply(Event::Delay { until }, start() + minutes(1), &policy()).unwrap();
    assert_eq!((next, delayed.wake_at(), delayed.polls, delayed.unreadable), (Next::Nothing, Some(until), 0, 0));
    let (same, _) = delayed.apply(Event::Delay { until: start() }, start() + minutes(1), &policy()).unwrap();
    assert_eq!(same, delayed);
}

#[test]
fn a_vanished_monitor_falls_back_to_location_and_then_to_reading_the_application() {
    let fallback = Some(PollingUrl::new("https://management.azure.com/result?s=secret"));
    let answer =
        SubmitAnswer::Accepted { operation: Operation { fallback: fallback.clone(), ..operation() }, wait: None };
    let mut events = submitting();
    events.extend([(0, answered(answer)), (1, Event::Claim), (1, Event::Polled(PollAnswer::Gone))]);
    let (refresh, _) = walk(events.clone());
    let RefreshState::Running { operation, .. } = &refresh.state else { panic!("{:?}", refresh.state) };
    assert_eq!((Some(&operation.url), operation.monitor), (fallback.as_ref(), Monitor::Location));
    events.extend([(2, Event::Claim), (2, Event::Polled(PollAnswer::Gone)), (2, Event::Claim)]);
    events.push((2, Event::Read(ReadAnswer::Ready)));
    assert_eq!(walk(events).0.state, RefreshState::Succeeded { evidence: Evidence::ApplicationOnly });
}

#[test]
fn an_operation_that_never_ends_is_posted_again_once_and_then_timed_out() {
    let running = || Event::Polled(PollAnswer::Running { percent: None, wait: None, moved: None });
    let mut refresh = walk(submitting()).0;
    let mut now = start();
    for round in 0..2 {
        refresh = refresh.apply(accepted(), now, &policy()).unwrap().0;
        now += OPERATION_DEADLINE;
        for event in [Event::Claim, running(), Event::Claim, Event::Read(ReadAnswer::Ready)] {
            refresh = refresh.apply(event, now, &policy()).unwrap().0;
        }
        if round == 0 {
            assert_eq!(refresh.attempt(), 2);
            refresh = refresh.apply(Event::Submit, now, &policy()).unwrap().0;
        }
    }
    assert_eq!(refresh.state, RefreshState::TimedOut { failure: None });
}

/// Puts a queued refresh off by an hour at a time, from the given hour on; the hour at which that ended it, if it did.
fn put_off(refresh: &mut Refresh, hours: std::ops::Range<u64>) -> Option<u64> {
    for hour in hours {
        let now = start() + minutes(60 * hour);
        *refresh = refresh.apply(Event::Delay { until: now + minutes(60) }, now, &policy()).unwrap().0;
        if refresh.state.is_terminal() {
            return Some(hour);
        }
    }
    None
}

#[test]
fn one_that_is_put_off_again_and_again_is_timed_out_in_words_after_three_weeks() {
    let mut refresh = walk([(0, Event::Release)]).0;
    assert_eq!(put_off(&mut refresh, 0..21 * 24), None);
    assert_eq!(put_off(&mut refresh, 21 * 24..30 * 24), Some(21 * 24));
    let RefreshState::TimedOut { failure: Some(failure) } = &refresh.state else { panic!("{:?}", refresh.state) };
    assert_eq!((failure.actor, failure.code.as_str()), (Actor::Microsoft, "NotPosted"));
    assert!(failure.message.contains("for 21 days: Azure wanted no calls"), "{}", failure.message);
    assert_eq!((refresh.waits_for(), refresh.wake_at(), refresh.attempts), (Some(Actor::Microsoft), None, 0));
    let now = start() + minutes(60 * 24 * 40);
    let (again, _) = refresh.apply(Event::Retry, now, &policy()).unwrap();
    let (again, _) = again.apply(Event::Release, now, &policy()).unwrap();
    let (again, next) = again.apply(Event::Delay { until: now + minutes(1) }, now, &policy()).unwrap();
    assert_eq!(
        (again.state.name(), next),
        ("queued", Next::Send { at: Some(now + minutes(1)) }),
        "a deadline of its own"
    );
}

#[test]
fn time_in_a_rollout_that_does_not_go_on_in_a_window_or_after_an_answer_counts_for_nothing() {
    let throttled = || answered(SubmitAnswer::Retry { error: error(429, "TooManyRequests"), wait: None });
    let answer = |refresh: &Refresh, now| {
        let (refresh, _) = refresh.apply(Event::Submit, now, &policy()).unwrap();
        refresh.apply(throttled(), now, &policy()).unwrap().0
    };
    let back = |refresh: &Refresh, event, now| {
        let (refresh, _) = refresh.apply(event, now, &policy()).unwrap();
        refresh.apply(Event::Release, now, &policy()).unwrap().0
    };
    type Between<'b> = &'b dyn Fn(&Refresh, Timestamp) -> Refresh;
    let betweens: [Between<'_>; 3] = [
        &|refresh, now| back(refresh, Event::PutBack, now),
        &|refresh, now| back(refresh, Event::AwaitWindow { opens_at: now + minutes(60) }, now),
        &|refresh, now| answer(refresh, now),
    ];
    for between in betweens {
        let mut refresh = walk([(0, Event::Release)]).0;
        assert_eq!(put_off(&mut refresh, 0..20 * 24), None);
        refresh = between(&refresh, start() + minutes(60 * 20 * 24));
        assert_eq!(refresh.queue_deadline, None);
        assert_eq!(put_off(&mut refresh, 20 * 24 + 1..41 * 24), None);
    }
    let waiting = planned();
    let (same, _) = waiting.apply(Event::PutBack, start() + minutes(60 * 24 * 365), &policy()).unwrap();
    assert_eq!(same, waiting, "who waits for a place has no deadline");
}

#[test]
fn whose_worker_dies_each_time_is_timed_out_as_ours_to_look_into() {
    let mut refresh = walk([(0, Event::Release)]).0;
    let mut now = start();
    while !refresh.state.is_terminal() {
        assert!(now <= start() + QUEUE_PATIENCE + 2 * LEASE, "it never ends: {refresh:?}");
        refresh = refresh.apply(Event::Submit, now, &policy()).unwrap().0;
        now += LEASE;
        refresh = refresh.apply(Event::Overdue, now, &policy()).unwrap().0;
    }
    assert_eq!(refresh.waits_for(), Some(Actor::Publisher));
}

#[test]
fn verification_never_turns_a_success_into_a_failure() {
    for (answer, minute) in [
        (ReadAnswer::Broken { provisioning_state: "Failed".into() }, 1),
        (ReadAnswer::Busy { provisioning_state: "Updating".into() }, 31),
        (unreadable(), 31),
    ] {
        let mut events = polled(PollAnswer::Succeeded);
        events.extend([(minute, Event::Claim), (minute, Event::Read(answer))]);
        let (refresh, _) = walk(events);
        let RefreshState::Succeeded { evidence } = &refresh.state else { panic!("{:?}", refresh.state) };
        assert!(matches!(evidence, Evidence::StatusOnly { .. }) && evidence.is_proof());
    }
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
fn a_person_may_retry_what_failed_and_its_messages_are_new_ones() {
    let rejected = answered(SubmitAnswer::Rejected { error: error(400, "BadRequest") });
    let (failed, _) = walk(submitting()).0.apply(rejected, start(), &policy()).unwrap();
    let (again, _) = failed.apply(Event::Retry, start(), &policy()).unwrap();
    assert_eq!((again.generation, again.attempt(), again.ended_at), (1, 1, None));
    let (again, _) = again.apply(Event::Release, start(), &policy()).unwrap();
    assert_ne!(again.message_id(), walk([(0, Event::Release)]).0.message_id());
    assert_ne!(
        again.request_id(),
        failed.apply(Event::Retry, start(), &policy()).unwrap().0.request_id().min(Uuid::nil())
    );
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

#[test]
fn a_window_parks_it_and_is_waited_for_from_the_first_time_on() {
    let window = |minute: u64| Event::AwaitWindow { opens_at: start() + minutes(minute) };
    let (queued, _) = planned().apply(Event::Release, start(), &policy()).unwrap();
    let (parked, action) = queued.apply(window(60), start(), &policy()).unwrap();
    assert_eq!((parked.wake_at(), action, parked.attempts), (Some(start() + minutes(60)), Next::Nothing, 0));
    let (early, _) = parked.apply(Event::Overdue, start() + minutes(59), &policy()).unwrap();
    assert_eq!(early, parked);
    let opened = start() + minutes(60);
    let (pending, _) = parked.apply(Event::Overdue, opened, &policy()).unwrap();
    assert_eq!(pending.state, RefreshState::Queued { attempt: 1, due: None }, "it takes a place like any other");
    let (queued, _) = pending.apply(Event::Release, opened, &policy()).unwrap();
    let late = start() + crate::rollout::openness::PATIENCE;
    let (missed, _) = queued.apply(window(100_000), late, &policy()).unwrap();
    assert_eq!(missed.state, RefreshState::Skipped { why: SkipReason::MissedWindow });
    let (parked, _) = queued.apply(window(100_000), late - Duration::from_secs(1), &policy()).unwrap();
    let (missed, _) = parked.apply(Event::Overdue, late, &policy()).unwrap();
    assert_eq!(missed.state, RefreshState::Skipped { why: SkipReason::MissedWindow });
}

#[test]
fn a_dead_message_is_sent_again_later_each_time_and_then_it_fails() {
    let died = || Event::DeadLettered { reason: "10 times".to_owned() };
    let (mut refresh, _) = planned().apply(Event::Release, start(), &policy()).unwrap();
    for minute in [5, 10, 20, 40, 40, 40, 40, 40, 40] {
        let before = refresh.message_id();
        let (next, action) = refresh.apply(died(), start(), &policy()).unwrap();
        assert_eq!(action, Next::Send { at: Some(start() + minutes(minute)) });
        assert_ne!(next.message_id(), before, "it must not be taken for the dead one");
        refresh = next;
    }
    let (failed, _) = refresh.apply(died(), start(), &policy()).unwrap();
    let RefreshState::Failed { failure } = &failed.state else { panic!("{:?}", failed.state) };
    assert_eq!((failure.actor, failure.code.as_str()), (Actor::Publisher, "DeadLettered"));
    let (retried, _) = failed.apply(Event::Retry, start(), &policy()).unwrap();
    assert_eq!(retried.dead_letters, 0);
    let (running, _) = planned().apply(died(), start(), &policy()).unwrap();
    assert_eq!(running, planned(), "nothing was on its way");
}

fn opening(deadline: Timestamp) -> SubmitAnswer {
    SubmitAnswer::Opening { gate: Gate::Jit { request: "jit-1".into() }, next_look: start() + minutes(1), deadline }
}

fn gated() -> SubmitAnswer {
    let gate = Gate::Consent { tenant_id: "t".into() };
    SubmitAnswer::Gated { error: RemoteError { status: None, ..error(0, "ConsentMissing") }, gate }
}

/// Takes a refresh through the answers to its posts, with every way there is.
fn answers(answers: impl IntoIterator<Item = SubmitAnswer>) -> (Refresh, Policy) {
    let ways = Policy { ways: vec![Way::Publisher, Way::Gdap, Way::Jit, Way::HandOver], ..policy() };
    let refresh = answers.into_iter().fold(walk([(0, Event::Release)]).0, |refresh, answer| {
        let (refresh, next) = refresh.apply(Event::Submit, start(), &ways).unwrap();
        assert_eq!(next, Next::Post);
        refresh.apply(answered(answer), start(), &ways).unwrap().0
    });
    (refresh, ways)
}

#[test]
fn each_way_is_tried_once_then_the_gate_and_an_open_gate_leads_to_its_own_way_again() {
    let refused = || SubmitAnswer::Refused { error: error(403, "AuthorizationFailed") };
    let (parked, ways) = answers([refused(), gated(), refused()]);
    let RefreshState::AwaitingAccess { attempt, gate, deadline, .. } = &parked.state else { panic!("{parked:?}") };
    assert_eq!((*attempt, gate, *deadline), (3, &Gate::Consent { tenant_id: "t".into() }, start() + GATE_PATIENCE));
    let tried: Vec<_> = parked.refusals.iter().map(|refusal| refusal.way).collect();
    assert_eq!(tried, [Way::Publisher, Way::Gdap, Way::Jit]);
    let now = start() + GATE_FIRST_LOOK;
    let (looked, next) = parked.apply(Event::Overdue, now, &ways).unwrap();
    assert_eq!((next, looked.wake_at()), (Next::AskGate, Some(now + GATE_GAP)));
    let (open, next) = looked.apply(Event::Release, now, &ways).unwrap();
    assert_eq!((open.way, open.attempt(), next), (Some(Way::Gdap), 3, Next::Send { at: None }));
    // Closed once more: the time to wait is not given anew.
    let (again, _) = open.apply(Event::Submit, now, &ways).unwrap();
    let (again, _) = again.apply(answered(gated()), now, &ways).unwrap();
    let RefreshState::AwaitingAccess { deadline, .. } = &again.state else { panic!("{again:?}") };
    assert_eq!(*deadline, start() + GATE_PATIENCE);
    let (ended, _) = again.apply(Event::Overdue, *deadline, &ways).unwrap();
    let RefreshState::HandedOver { hand_over } = &ended.state else { panic!("{ended:?}") };
    assert_eq!(hand_over.error.as_ref().unwrap().code, "ConsentMissing");
    let (retried, _) = ended.apply(Event::Retry, now, &ways).unwrap();
    assert_eq!((retried.refusals.len(), retried.gate_deadline, retried.way), (0, None, None));
}

#[test]
fn a_way_that_is_being_opened_is_waited_for_and_once_denied_the_other_gate_is_next() {
    let refused = || SubmitAnswer::Refused { error: error(403, "AuthorizationFailed") };
    let (parked, ways) = answers([refused(), gated(), opening(start() + minutes(60))]);
    assert!(matches!(&parked.state, RefreshState::AwaitingAccess { gate: Gate::Jit { .. }, attempt: 2, .. }));
    let (open, _) = parked.apply(Event::Release, start() + minutes(5), &ways).unwrap();
    assert_eq!(open.way, Some(Way::Jit), "whoever opens it is asked for access again");
    let denied = Event::GateClosed { error: error(403, "Denied") };
    let (next, _) = parked.apply(denied, start() + minutes(5), &ways).unwrap();
    assert!(matches!(&next.state, RefreshState::AwaitingAccess { gate: Gate::Consent { .. }, .. }), "{next:?}");
    let (ended, _) = parked.apply(Event::Overdue, start() + minutes(60), &ways).unwrap();
    assert!(matches!(ended.state, RefreshState::HandedOver { .. }));
}

#[test]
fn what_a_gate_lets_through_may_wait_as_long_at_the_next_one() {
    let (parked, ways) = answers([SubmitAnswer::Refused { error: error(403, "No") }, gated(), gated()]);
    let (open, _) = parked.apply(Event::Release, start(), &ways).unwrap();
    let (open, _) = open.apply(Event::Submit, start(), &ways).unwrap();
    let (running, _) = open.apply(accepted(), start(), &ways).unwrap();
    assert_eq!(running.gate_deadline, None);
    assert_eq!(running.refusals.len(), 2, "why the others were not taken stays");
}

fn any_event() -> impl proptest::strategy::Strategy<Value = Event> {
    let remote = (400u16..600).prop_map(|status| error(status, "Code"));
    let wait = prop::option::of((0u64..100_000).prop_map(Duration::from_secs));
    let submit = prop_oneof![
        wait.clone().prop_map(|wait| SubmitAnswer::Accepted { operation: operation(), wait }),
        Just(SubmitAnswer::NoMonitor),
        (remote.clone(), wait.clone()).prop_map(|(error, wait)| SubmitAnswer::Retry { error, wait }),
        remote.clone().prop_map(|error| SubmitAnswer::Refused { error }),
        remote.clone().prop_map(|error| SubmitAnswer::Gated { error, gate: Gate::SignIn }),
        (0u64..100).prop_map(|m| opening(start() + minutes(m))),
        remote.clone().prop_map(|error| SubmitAnswer::NotFound { error }),
        remote.clone().prop_map(|error| SubmitAnswer::Rejected { error }),
    ];
    let poll = prop_oneof![
        Just(PollAnswer::Succeeded),
        Just(PollAnswer::Canceled),
        Just(PollAnswer::Gone),
        remote.clone().prop_map(|error| PollAnswer::Failed { error }),
        remote.clone().prop_map(|error| PollAnswer::AccessLost { error }),
        (remote.clone(), wait.clone()).prop_map(|(error, wait)| PollAnswer::Unreadable { error, wait }),
        wait.clone().prop_map(|wait| PollAnswer::Running { percent: None, wait, moved: None }),
    ];
    let read = prop_oneof![
        Just(ReadAnswer::Ready),
        Just(ReadAnswer::Deleting),
        Just(ReadAnswer::NotFound),
        Just(ReadAnswer::Busy { provisioning_state: "Updating".into() }),
        Just(ReadAnswer::Broken { provisioning_state: "Failed".into() }),
        (remote, wait).prop_map(|(error, wait)| ReadAnswer::Unreadable { error, wait }),
    ];
    prop_oneof![
        4 => Just(Event::Release),
        4 => Just(Event::Submit),
        4 => Just(Event::Claim),
        4 => submit.prop_map(answered),
        4 => poll.prop_map(Event::Polled),
        4 => read.prop_map(Event::Read),
        2 => Just(Event::Overdue),
        1 => Just(Event::PutBack),
        1 => Just(Event::Cancel),
        1 => Just(Event::Supersede { by: RolloutId(Uuid::from_u128(9)) }),
        1 => Just(Event::Skip { why: SkipReason::OnHold }),
        1 => (0u64..100).prop_map(|m| Event::Delay { until: start() + minutes(m) }),
        1 => Just(Event::GateClosed { error: error(403, "Denied") }),
        1 => (0u64..100).prop_map(|m| Event::AwaitWindow { opens_at: start() + minutes(m) }),
    ]
}

proptest! {
    #[test]
    fn in_any_order_of_events_a_terminal_state_never_changes_and_an_illegal_one_changes_nothing(
        events in prop::collection::vec((any_event(), 0u64..30), 0..60)
    ) {
        let mut refresh = planned();
        let mut now = start();
        for (event, gap) in events {
            now += minutes(gap);
            let was_terminal = refresh.state.is_terminal();
            if let Ok((next, _)) = refresh.apply(event.clone(), now, &policy()) {
                prop_assert!(!was_terminal, "{:?} after {}", event, refresh.state.name());
                prop_assert_eq!(next.state.is_terminal(), next.ended_at.is_some());
                prop_assert!(!(next.state.is_terminal() && next.wake_at().is_some()));
                refresh = next;
            }
        }
    }

    #[test]
    fn a_duplicate_event_changes_nothing(events in prop::collection::vec((any_event(), 0u64..30), 0..60)) {
        let mut refresh = planned();
        let mut now = start();
        for (event, gap) in events {
            now += minutes(gap);
            if let Ok((next, _)) = refresh.apply(event.clone(), now, &policy()) {
                if let Ok((twice, action)) = next.apply(event.clone(), now, &policy()) {
                    prop_assert_eq!(&twice, &next, "{:?}", event);
                    prop_assert_eq!(action, Next::Nothing);
                }
                refresh = next;
            }
        }
    }

    #[test]
    fn whatever_azure_answers_every_refresh_ends(
        answers in prop::collection::vec(any_event(), 1..40), seed in 0usize..1000
    ) {
        // The engine's part: do what the state asks for, with whatever answer comes next.
        let mut refresh = planned().apply(Event::Release, start(), &policy()).unwrap().0;
        let mut now = start();
        let pick = |at: usize, wanted: fn(&Event) -> bool| {
            let found = answers.iter().cycle().skip((at + seed) % answers.len()).take(answers.len()).find(|e| wanted(e));
            found.cloned()
        };
        for step in 0..100_000 {
            if refresh.state.is_terminal() {
                return Ok(());
            }
            let event = match &refresh.state {
                RefreshState::Queued { due, .. } => { now = now.max(due.unwrap()); Event::Submit }
                RefreshState::Submitting { .. } => pick(step, |e| matches!(e, Event::Answered { .. })).unwrap_or_else(accepted),
                RefreshState::Running { claimed_until: Some(_), .. } => pick(step, |e| matches!(e, Event::Polled(_)))
                    .unwrap_or(Event::Polled(PollAnswer::Running { percent: None, wait: None, moved: None })),
                RefreshState::Verifying { claimed_until: Some(_), .. } => pick(step, |e| matches!(e, Event::Read(_)))
                    .unwrap_or(Event::Read(unreadable())),
                RefreshState::AwaitingAccess { .. } => { now = now.max(refresh.wake_at().unwrap()); Event::Overdue }
                _ => { now = now.max(refresh.wake_at().unwrap()); Event::Claim }
            };
            refresh = refresh.apply(event, now, &policy()).unwrap().0;
        }
        prop_assert!(false, "still {} after 100,000 steps", refresh.state.name());
    }
}
