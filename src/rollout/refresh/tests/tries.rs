//! Trying again: attempts, lost and dead messages, and how long a refresh may be put off.

use super::*;
use crate::rollout::{Actor, RetryPolicy, Standing};

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
        let RefreshState::Failed { failure, .. } = &refresh.state else { panic!("{:?}", refresh.state) };
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
fn only_a_failure_of_the_operation_itself_shows_anything_about_the_version() {
    let refused = answered(SubmitAnswer::Rejected { error: error(400, "BadRequest") });
    let (refused, _) = walk(submitting()).0.apply(refused, start(), &policy()).unwrap();
    assert_eq!(Standing::of(&refused), Standing::FailedUnproven);
    let failed = walk(polled(PollAnswer::Failed { error: error(400, "BadRequest") })).0;
    assert_eq!(Standing::of(&failed), Standing::Failed);
    let canceled = walk(polled(PollAnswer::Canceled)).0;
    assert_eq!(Standing::of(&canceled), Standing::Failed);
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
    let RefreshState::Failed { failure, .. } = &failed.state else { panic!("{:?}", failed.state) };
    assert_eq!((failure.actor, failure.code.as_str()), (Actor::Publisher, "DeadLettered"));
    let (retried, _) = failed.apply(Event::Retry, start(), &policy()).unwrap();
    assert_eq!(retried.dead_letters, 0);
    let (running, _) = planned().apply(died(), start(), &policy()).unwrap();
    assert_eq!(running, planned(), "nothing was on its way");
}
