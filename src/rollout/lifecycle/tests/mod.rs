//! One test for each rule of a rollout.

mod commands;
mod simulation;

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::rollout::{Actor, Strategy};

const COMMANDS: [Command; 5] =
    [Command::Pause, Command::Resume, Command::Approve, Command::Cancel, Command::Retry(Retried::Failed)];

fn start() -> Timestamp {
    "2026-03-10T12:00:00Z".parse().unwrap()
}

fn later(minutes: u64) -> Timestamp {
    start() + Duration::from_secs(60 * minutes)
}

fn strategy(json: &str) -> Strategy {
    serde_json::from_str(json).unwrap()
}

fn new_rollout(strategy: Strategy) -> Rollout {
    let publish = OfferPublish { strategy, ..OfferPublish::sample() };
    Rollout::new(RolloutId(Uuid::from_u128(7)), publish, start())
}

/// A running rollout whose wave is planned and was not the last.
fn running(json: &str, whole: u64, wave: u32) -> Rollout {
    let mut rollout = new_rollout(strategy(json));
    rollout.begin(whole, start());
    while rollout.wave < wave {
        rollout.accept(&Review::NextWave, None, start());
    }
    rollout.walk.wave_is_planned = true;
    rollout
}

fn tally(counts: &[(u32, Standing, u64)]) -> Tally {
    let mut tally = Tally::default();
    for (wave, standing, count) in counts {
        tally.add(*wave, *standing, *count);
    }
    tally
}

fn is_pause(review: &Review) -> bool {
    matches!(review, Review::Pause { .. })
}

/// Every state there is, with its wave.
fn every_state() -> Vec<Rollout> {
    let on = RolloutId(Uuid::from_u128(8));
    let why = || "a reason".to_owned();
    let planning = new_rollout(Strategy::default());
    let running = running("{}", 100, 1);
    let with = |rollout: &Rollout, state| Rollout { state, ..rollout.clone() };
    let asked = Rollout { approval: Approval::Asked, ..with(&running, RolloutState::Paused { why: why(), on: None }) };
    let approved = Rollout { approval: Approval::Given, ..running.clone() };
    vec![
        with(&planning, RolloutState::Waiting { on }),
        planning.clone(),
        with(&planning, RolloutState::Paused { why: why(), on: None }),
        with(&planning, RolloutState::Paused { why: why(), on: Some(on) }),
        running.clone(),
        with(&running, RolloutState::Paused { why: why(), on: None }),
        with(&running, RolloutState::Halted { why: why() }),
        with(&running, RolloutState::Completed),
        with(&running, RolloutState::Canceled { superseded_by: None }),
        with(&running, RolloutState::Canceled { superseded_by: Some(on) }),
        asked.clone(),
        Rollout { wave: 0, ..asked },
        approved,
    ]
}

#[test]
fn a_state_says_why_it_stands_where_there_is_a_reason() {
    let whys: Vec<_> = every_state().iter().map(|rollout| rollout.state.why()).collect();
    let other = Uuid::from_u128(8);
    assert_eq!(whys[0], Some(format!("waits for rollout {other} to end")));
    assert_eq!(whys[9], Some(format!("superseded by rollout {other}")));
    assert_eq!(whys.iter().filter(|why| why.as_deref() == Some("a reason")).count(), 6);
    assert_eq!(whys.iter().filter(|why| why.is_none()).count(), 5);
}

#[test]
fn every_state_is_read_back_as_it_was_stored() {
    for rollout in every_state() {
        let stored = serde_json::to_string(&rollout).unwrap();
        assert_eq!(serde_json::from_str::<Rollout>(&stored).unwrap(), rollout);
    }
}

#[test]
fn waves_are_counted_from_one_with_the_canaries_and_zero_while_planning() {
    for (json, whole, waves) in [
        ("{}", 300, 3),
        ("{}", 1, 1),
        (r#"{"canaries": 0, "waves": ["100%"]}"#, 300, 1),
        (r#"{"canaries": 5, "waves": [10, 20, 30]}"#, 300, 5),
        (r#"{"canaries": 0, "waves": []}"#, 0, 1),
    ] {
        let mut rollout = new_rollout(strategy(json));
        assert_eq!((rollout.wave, rollout.waves(), rollout.is_canary_wave()), (0, 0, false), "{json}");
        rollout.begin(whole, start());
        assert_eq!((rollout.wave, rollout.waves()), (1, waves), "{json}");
        assert_eq!(rollout.is_canary_wave(), !json.contains(r#""canaries": 0"#));
    }
}

#[test]
fn a_wave_wants_its_members_up_to_its_cumulative_end_and_the_last_takes_everybody() {
    let json = r#"{"canaries": 2, "waves": ["10%", 50]}"#;
    let wants = |wave, tally: &Tally| running(json, 100, wave).wanted_members(tally);
    assert_eq!(wants(1, &Tally::default()), 2);
    assert_eq!(wants(1, &tally(&[(1, Standing::Skipped, 9), (1, Standing::Pending, 1)])), 1, "skipped prove nothing");
    let canaries = (1, Standing::Succeeded, 2);
    assert_eq!(wants(2, &tally(&[canaries])), 8);
    assert_eq!(wants(2, &tally(&[canaries, (2, Standing::Skipped, 3)])), 5, "here they are members");
    assert_eq!(wants(3, &tally(&[canaries, (2, Standing::Running, 8)])), 40);
    assert!(wants(4, &tally(&[canaries])) > 1_000_000, "whoever came while it ran");
}

#[test]
fn the_budget_of_the_wave_is_rounded_down_and_exceeded_only_by_more() {
    for (share, members, allowed) in
        [(r#""5%""#, 19, 0), (r#""5%""#, 20, 1), (r#""5%""#, 39, 1), (r#""5%""#, 40, 2), ("0", 40, 0), ("3", 40, 3)]
    {
        let json = format!(r#"{{"canaries": 0, "waves": ["100%"], "maxFailures": {share}}}"#);
        let rollout = running(&json, members, 1);
        let after = |failed| {
            let failed_and_timed_out =
                [(1, Standing::Failed, failed / 2), (1, Standing::TimedOut, failed - failed / 2)];
            let rest = (1, Standing::Running, members - failed);
            rollout.review(&tally(&[failed_and_timed_out[0], failed_and_timed_out[1], rest]), start())
        };
        assert_eq!(after(allowed), Review::Wait, "{share} of {members}");
        assert!(is_pause(&after(allowed + 1)), "{share} of {members}");
    }
}

#[test]
fn nothing_but_failures_and_timeouts_spends_the_budget() {
    let rollout = running(r#"{"canaries": 0, "waves": ["100%"], "maxFailures": 0}"#, 10, 1);
    let harmless = [
        Standing::Skipped,
        Standing::HandedOver,
        Standing::Canceled,
        Standing::Superseded,
        Standing::SucceededUnproven,
        Standing::AwaitingAccess,
    ];
    let counts: Vec<_> = harmless.into_iter().map(|standing| (1, standing, 2)).collect();
    assert!(!is_pause(&rollout.review(&tally(&counts), start())));
}

#[test]
fn the_budget_is_looked_at_for_the_wave_and_for_all_that_was_started() {
    let rollout = running(r#"{"canaries": 0, "waves": [40, 60, "100%"], "maxFailures": "10%"}"#, 200, 2);
    let first = |failed| (1, Standing::Failed, failed);
    let review = |counts: &[(u32, Standing, u64)]| rollout.review(&tally(counts), start());
    assert_eq!(review(&[first(4), (1, Standing::Succeeded, 36), (2, Standing::Running, 20)]), Review::Wait);
    let wave = review(&[(1, Standing::Succeeded, 40), (2, Standing::Failed, 3), (2, Standing::Running, 17)]);
    assert!(matches!(&wave, Review::Pause { why } if why.contains("3 of 20 refreshes of this wave")), "{wave:?}");
    let all = review(&[first(5), (1, Standing::Succeeded, 35), (2, Standing::Failed, 2), (2, Standing::Running, 18)]);
    assert!(matches!(&all, Review::Pause { why } if why.contains("7 of 60 refreshes started so far")), "{all:?}");
}

#[test]
fn failures_of_a_wave_that_were_forgiven_are_not_credited_to_the_next_one() {
    let json = r#"{"canaries": 0, "waves": [100, "100%"], "maxFailures": "10%"}"#;
    let mut rollout = running(json, 120, 1);
    let bad_wave = [(1, Standing::Failed, 60), (1, Standing::Succeeded, 40)];
    rollout.accept(&rollout.review(&tally(&bad_wave), start()), None, start());
    let mut rollout = rollout.command(Command::Resume, &tally(&bad_wave), later(1)).unwrap().unwrap();
    assert_eq!(rollout.review(&tally(&bad_wave), later(1)), Review::NextWave);
    rollout.accept(&Review::NextWave, None, later(1));
    rollout.walk.wave_is_planned = true;
    let next = |failed| {
        let mut counts = bad_wave.to_vec();
        counts.extend([(2, Standing::Failed, failed), (2, Standing::Running, 20 - failed)]);
        rollout.review(&tally(&counts), later(2))
    };
    assert_eq!(next(2), Review::Wait);
    assert!(is_pause(&next(3)));
}

#[test]
fn a_failure_by_the_offer_halts_even_after_others_were_forgiven() {
    let rollout = running(r#"{"canaries": 0, "waves": ["100%"], "maxFailures": 2}"#, 50, 1);
    let three = [(1, Standing::Failed, 3), (1, Standing::Running, 47)];
    let mut paused = rollout.clone();
    paused.accept(&rollout.review(&tally(&three), start()), None, start());
    let resumed = paused.command(Command::Resume, &tally(&three), later(1)).unwrap().unwrap();
    let one_more = tally(&[three[0], (1, Standing::FailedByOffer, 1), (1, Standing::Running, 46)]);
    assert_eq!(resumed.review(&one_more, later(2)), Review::Halt);
}

#[test]
fn a_failure_by_the_offer_that_comes_after_a_pause_halts_and_resuming_does_not_hide_it() {
    let running = running("{}", 50, 1);
    let paused = running.command(Command::Pause, &Tally::default(), start()).unwrap().unwrap();
    let blamed = tally(&[(1, Standing::FailedByOffer, 1)]);
    assert_eq!(paused.review(&blamed, later(1)), Review::Halt);
    let resumed = paused.command(Command::Resume, &blamed, later(1)).unwrap().unwrap();
    assert_eq!(resumed.review(&blamed, later(1)), Review::Halt, "nobody had seen it");
    let mut halted = resumed.clone();
    assert!(halted.accept(&Review::Halt, Some("Microsoft.Foo/bar/action"), later(1)));
    assert!(halted.state.why().unwrap().contains("Microsoft.Foo/bar/action"));
    let resumed = halted.command(Command::Resume, &blamed, later(2)).unwrap().unwrap();
    assert_eq!(resumed.review(&blamed, later(2)), Review::NextWave, "now somebody has");
}

#[test]
fn canaries_that_prove_nothing_are_replaced_by_at_most_five_and_then_the_rollout_pauses() {
    for unproven in [Standing::Skipped, Standing::HandedOver, Standing::AwaitingAccess, Standing::SucceededUnproven] {
        let mut rollout = running("{}", 100, 1);
        for stand_in in 1..=STAND_INS {
            let so_far = tally(&[(1, unproven, stand_in)]);
            let review = rollout.review(&so_far, start());
            assert_eq!(review, Review::MoreCanaries(1), "{unproven:?}");
            assert!(rollout.accept(&review, None, start()));
            assert_eq!(rollout.review(&so_far, start()), Review::Wait, "the planner is asked first");
            assert_eq!(rollout.wanted_members(&so_far), 1, "{unproven:?}");
            rollout.walk.wave_is_planned = true;
        }
        let so_far = tally(&[(1, unproven, STAND_INS + 1)]);
        let review = rollout.review(&so_far, start());
        assert!(
            matches!(&review, Review::PauseForProof { why } if why.starts_with("0 of 1 canary proved")),
            "{review:?}"
        );
        rollout.accept(&review, None, start());
        let resumed = rollout.command(Command::Resume, &so_far, later(1)).unwrap().unwrap();
        assert_eq!(resumed.review(&so_far, later(1)), Review::NextWave, "a person has looked at them");
    }
}

#[test]
fn resuming_before_the_stand_ins_are_used_up_does_not_do_without_them() {
    let rollout = running(r#"{"canaries": 2}"#, 100, 1);
    let paused = rollout.command(Command::Pause, &Tally::default(), start()).unwrap().unwrap();
    let so_far = tally(&[(1, Standing::Succeeded, 1), (1, Standing::HandedOver, 1)]);
    let resumed = paused.command(Command::Resume, &so_far, later(1)).unwrap().unwrap();
    assert_eq!(resumed.review(&so_far, later(1)), Review::MoreCanaries(1));
}

#[test]
fn a_canary_that_was_refused_proves_nothing_so_resuming_tries_another_first() {
    let mut rollout = running("{}", 100, 1);
    let refused = tally(&[(1, Standing::FailedUnproven, 1)]);
    let review = rollout.review(&refused, start());
    assert!(is_pause(&review), "{review:?}");
    rollout.accept(&review, None, start());
    let mut resumed = rollout.command(Command::Resume, &refused, later(1)).unwrap().unwrap();
    let review = resumed.review(&refused, later(1));
    assert_eq!(review, Review::MoreCanaries(1), "the failure is forgiven, but nobody has seen the version work");
    resumed.accept(&review, None, later(1));
    assert_eq!(resumed.wanted_members(&refused), 1);
    resumed.walk.wave_is_planned = true;
    let proven = tally(&[(1, Standing::FailedUnproven, 1), (1, Standing::Succeeded, 1)]);
    assert_eq!(resumed.review(&proven, later(2)), Review::NextWave);
}

#[test]
fn only_who_was_told_that_nothing_is_proven_goes_on_without_by_resuming() {
    let so_far = tally(&[(1, Standing::HandedOver, STAND_INS + 1)]);
    let rollout = Rollout { stand_ins: STAND_INS, ..running("{}", 100, 1) };
    let paused = rollout.command(Command::Pause, &so_far, start()).unwrap().unwrap();
    let mut resumed = paused.command(Command::Resume, &so_far, later(1)).unwrap().unwrap();
    let review = resumed.review(&so_far, later(1));
    assert!(matches!(review, Review::PauseForProof { .. }), "nobody had been asked: {review:?}");
    resumed.accept(&review, None, later(1));
    let retried = resumed.command(Command::Retry(Retried::Of(Actor::Customer)), &so_far, later(2)).unwrap().unwrap();
    let again = tally(&[(1, Standing::HandedOver, STAND_INS), (1, Standing::Pending, 1)]);
    let retried = retried.command(Command::Resume, &again, later(3)).unwrap().unwrap();
    let review = retried.review(&so_far, later(4));
    assert!(
        matches!(review, Review::PauseForProof { .. }),
        "what was tried again has shown nothing either: {review:?}"
    );
    let waived = resumed.command(Command::Resume, &so_far, later(2)).unwrap().unwrap();
    assert_eq!(waived.review(&so_far, later(2)), Review::NextWave);
}

#[test]
fn never_more_stand_ins_than_are_left_are_asked_for() {
    let rollout = Rollout { stand_ins: 3, ..running(r#"{"canaries": 9}"#, 100, 1) };
    assert_eq!(rollout.review(&tally(&[(1, Standing::Skipped, 12)]), start()), Review::MoreCanaries(2));
}

#[test]
fn where_nobody_is_left_to_stand_in_the_rollout_ends_with_what_there_is() {
    let mut rollout = running("{}", 1, 1);
    rollout.walk.is_over = true;
    assert_eq!(rollout.review(&tally(&[(1, Standing::HandedOver, 1)]), start()), Review::Complete);
    assert_eq!(rollout.review(&tally(&[(1, Standing::AwaitingAccess, 1)]), start()), Review::Wait, "parked");
}

#[test]
fn a_wave_is_done_when_each_member_has_ended_or_is_parked_and_all_are_planned() {
    let mut rollout = running(r#"{"canaries": 0, "waves": [10, "100%"], "maxFailures": "100%"}"#, 100, 1);
    for standing in Standing::ALL {
        let review = rollout.review(&tally(&[(1, Standing::Succeeded, 9), (1, standing, 1)]), start());
        let expected = match standing {
            Standing::FailedByOffer => Review::Halt,
            _ if standing.has_result() || standing == Standing::AwaitingAccess => Review::NextWave,
            _ => Review::Wait,
        };
        assert_eq!(review, expected, "{standing:?}");
    }
    rollout.walk.wave_is_planned = false;
    assert_eq!(rollout.review(&tally(&[(1, Standing::Succeeded, 5)]), start()), Review::Wait);
}

#[test]
fn the_pause_between_waves_begins_when_a_wave_is_done_and_is_waited_out() {
    let mut rollout = running(r#"{"canaries": 0, "waves": [10, "100%"], "pauseBetweenWaves": "PT10M"}"#, 100, 1);
    let done = tally(&[(1, Standing::Succeeded, 10)]);
    assert_eq!(rollout.review(&done, later(5)), Review::WaitUntil(later(15)));
    assert!(rollout.accept(&Review::WaitUntil(later(15)), None, later(5)));
    assert_eq!(rollout.review(&done, later(15) - Duration::from_millis(1)), Review::WaitUntil(later(15)));
    assert!(!rollout.accept(&Review::WaitUntil(later(15)), None, later(6)), "it does not begin again");
    assert_eq!(rollout.review(&done, later(15)), Review::NextWave);
    rollout.accept(&Review::NextWave, None, later(15));
    assert_eq!((rollout.wave, rollout.next_wave_at), (2, None));
    let mut last = running(r#"{"canaries": 0, "waves": [], "pauseBetweenWaves": "PT10M"}"#, 10, 1);
    last.walk.is_over = true;
    assert_eq!(last.review(&done, start()), Review::Complete, "there is none after the last");
}

#[test]
fn places_are_what_is_left_of_max_in_flight_and_none_unless_running() {
    let rollout = running(r#"{"maxInFlight": 10}"#, 100, 2);
    let in_flight = [Standing::Queued, Standing::Submitting, Standing::Running, Standing::Verifying];
    let mut counts: Vec<_> = in_flight.into_iter().map(|standing| (1, standing, 2)).collect();
    assert_eq!(rollout.free_places(&tally(&counts)), 2);
    counts.extend([(2, Standing::Pending, 50), (2, Standing::AwaitingAccess, 50), (1, Standing::Succeeded, 5)]);
    assert_eq!(rollout.free_places(&tally(&counts)), 2);
    counts.push((2, Standing::Running, 7));
    assert_eq!(rollout.free_places(&tally(&counts)), 0);
    for rollout in every_state().iter().filter(|rollout| rollout.state != RolloutState::Running) {
        assert_eq!(rollout.free_places(&Tally::default()), 0);
    }
}

#[test]
fn every_planning_message_has_an_id_of_its_own() {
    let mut rollout = new_rollout(Strategy::default());
    let mut ids = vec![rollout.planning_message_id()];
    rollout.begin(10, start());
    ids.push(rollout.planning_message_id());
    for review in [Review::MoreCanaries(1), Review::NextWave] {
        rollout.accept(&review, None, start());
        ids.push(rollout.planning_message_id());
    }
    rollout.ask_planner(later(1));
    ids.push(rollout.planning_message_id());
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    assert_eq!(rollout.walk.moved_at, Some(later(1)));
}
