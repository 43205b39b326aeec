//! Random orders of events over all rules.

use proptest::prelude::*;

use super::*;

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
