//! Ways, gates, windows, and handing over.

use super::*;

#[test]
fn a_refusal_is_handed_over_with_the_command_once_no_way_is_left() {
    let mut events = submitting();
    events.push((0, answered(SubmitAnswer::Refused { error: error(403, "AuthorizationFailed") })));
    let (refresh, _) = walk(events);
    let RefreshState::HandedOver { hand_over } = &refresh.state else { panic!("{:?}", refresh.state) };
    let url = "https://management.azure.com/subscriptions/a1000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger/refreshPermissions?api-version=2019-07-01&targetVersion=1.4.0";
    assert_eq!(hand_over.bash, format!("az rest --method post --verbose --url '{url}'"));
    let (plain, parameters) = url.split_once('?').unwrap();
    let parameters = parameters.replace('&', " ");
    let wanted = format!("az rest --method post --verbose --url {plain} --uri-parameters {parameters}");
    assert_eq!(hand_over.powershell, wanted);
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
    let (next, _) = parked.apply(Event::Overdue, start() + minutes(60), &ways).unwrap();
    assert!(matches!(&next.state, RefreshState::AwaitingAccess { gate: Gate::Consent { .. }, .. }), "so is silence");
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

#[test]
fn only_what_was_handed_over_can_have_been_run_by_the_customer_and_proves_nothing_of_the_operation() {
    let mut refresh = planned();
    refresh.state = RefreshState::HandedOver {
        hand_over: HandOver::new(&refresh.application_id, refresh.version, None, &policy()),
    };
    for evidence in [Evidence::ShownByAzure, Evidence::Reported { by: "somebody".to_owned() }] {
        assert!(!evidence.is_proof() && !evidence.is_verified());
        let event = Event::CustomerRan { evidence: evidence.clone() };
        assert!(planned().apply(event.clone(), start(), &policy()).is_err());
        let (ended, next) = refresh.apply(event.clone(), start(), &policy()).unwrap();
        assert_eq!((&ended.state, next), (&RefreshState::Succeeded { evidence }, Next::Nothing));
        let past = ended.past(start()).unwrap();
        assert_eq!(past.result, PastResult::Succeeded { verified: false });
        assert!(ended.apply(event, start(), &policy()).is_err(), "once is enough");
    }
}

/// Parked for a just-in-time request that is looked at after a minute and given up after ten.
fn parked_for_jit() -> Refresh {
    let gate = Gate::Jit { request: "ab12".into(), approval: Default::default() };
    let mut events = submitting();
    let (next_look, deadline) = (start() + minutes(1), start() + minutes(10));
    events.push((0, answered(SubmitAnswer::Opening { gate, next_look, deadline })));
    let (refresh, next) = walk(events);
    assert_eq!((next, refresh.wake_at()), (Next::Nothing, Some(next_look)));
    refresh
}

#[test]
fn a_just_in_time_request_is_looked_at_when_its_record_says_so() {
    let (claimed, next) = parked_for_jit().apply(Event::Overdue, start() + minutes(1), &policy()).unwrap();
    assert_eq!(next, Next::AskGate);
    let until = start() + minutes(2);
    let (waits, next) = claimed.apply(Event::Delay { until }, start() + minutes(1), &policy()).unwrap();
    assert_eq!((next, waits.wake_at()), (Next::Nothing, Some(until)));
    let (open, next) = waits.apply(Event::Release, until, &policy()).unwrap();
    assert_eq!((next, open.way), (Next::Send { at: None }, Some(Way::Jit)));
}

#[test]
fn a_just_in_time_request_that_nobody_answers_is_a_refusal_with_its_own_words() {
    let policy = Policy { ways: vec![Way::Jit, Way::HandOver], ..policy() };
    let (ended, _) = parked_for_jit().apply(Event::Overdue, start() + minutes(10), &policy).unwrap();
    let RefreshState::HandedOver { hand_over } = &ended.state else { panic!("{:?}", ended.state) };
    let error = hand_over.error.as_ref().unwrap();
    assert_eq!(error.code, "JitUnanswered");
    assert!(error.message.contains("ab12"), "{}", error.message);
    assert_eq!(ended.refusals.last().unwrap().way, Way::Jit);
}
