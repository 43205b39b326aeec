//! Looking at an operation, and at the application.

use super::*;

#[test]
fn a_look_that_told_nothing_makes_the_next_one_no_earlier_than_azure_wanted_last() {
    let minutes_after = |answer: PollAnswer| {
        let accepted = Event::Answered {
            answer: SubmitAnswer::Accepted { operation: operation(), wait: Some(minutes(5)) },
            correlation_id: None,
        };
        let mut events = submitting();
        events.extend([(0, accepted), (5, Event::Claim), (5, Event::Polled(answer))]);
        (walk(events).0.wake_at().unwrap() - (start() + minutes(5))).num_seconds()
    };
    let busy = |wait| PollAnswer::Unreadable { error: error(503, "ServiceUnavailable"), wait };
    assert_eq!(minutes_after(busy(None)), 300);
    assert_eq!(minutes_after(busy(Some(Duration::from_secs(20)))), 20, "what it names counts");
    assert_eq!(minutes_after(PollAnswer::AccessLost { error: error(403, "AuthorizationFailed") }), 300);
    let no_json = RemoteError { status: Some(200), code: "NoStatus".into(), message: "text".into() };
    assert_eq!(minutes_after(PollAnswer::Unreadable { error: no_json, wait: None }), 300);
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
