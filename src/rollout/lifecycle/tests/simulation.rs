//! Arbitrary tallies and commands over all rules, and rollouts simulated to their end.

use std::collections::BTreeMap;

use proptest::prelude::{Strategy as Strategy_, *};

use super::*;
use crate::rollout::Strategy;

fn any_standing() -> impl Strategy_<Value = Standing> {
    proptest::sample::select(Standing::ALL.to_vec())
}

fn any_counts() -> impl Strategy_<Value = Vec<(u32, Standing, u64)>> {
    proptest::collection::vec((1u32..5, any_standing(), 0u64..30), 0..12)
}

fn any_strategy() -> impl Strategy_<Value = Strategy> {
    let waves = proptest::collection::vec(1u32..60, 0..4);
    (0u32..6, waves, 0u32..8, 1u32..40, prop_oneof![Just(0u64), Just(600)], any::<bool>()).prop_map(
        |(canaries, waves, failures, in_flight, pause, approve)| {
            strategy(&format!(
                r#"{{"canaries": {canaries}, "waves": {waves:?}, "maxFailures": {failures}, "maxInFlight": {in_flight}, "pauseBetweenWaves": "PT{pause}S", "approveLastWave": {approve}}}"#
            ))
        },
    )
}

/// What may come to a rollout.
#[derive(Clone, Debug)]
enum Happening {
    Command(Command),
    /// Judged by these counts; waves that have not begun have no members, so theirs are of the one under way.
    Review(Vec<(u32, Standing, u64)>),
    Planned {
        is_over: bool,
    },
    Superseded,
}

fn any_happening() -> impl Strategy_<Value = Happening> {
    prop_oneof![
        3 => proptest::sample::select(COMMANDS.to_vec()).prop_map(Happening::Command),
        6 => any_counts().prop_map(Happening::Review),
        3 => any::<bool>().prop_map(|is_over| Happening::Planned { is_over }),
        1 => Just(Happening::Superseded),
    ]
}

/// How one deployment of a simulated rollout goes: what it ends as, and whether it is skipped when it is planned.
#[derive(Clone, Copy, Debug)]
struct Member {
    ends: Standing,
    is_skipped_at_once: bool,
}

fn any_member() -> impl Strategy_<Value = Member> {
    let ends = prop_oneof![
        30 => Just(Standing::Succeeded),
        3 => Just(Standing::SucceededUnproven),
        3 => Just(Standing::Failed),
        3 => Just(Standing::FailedUnproven),
        1 => Just(Standing::TimedOut),
        1 => Just(Standing::FailedByOffer),
        3 => Just(Standing::Skipped),
        3 => Just(Standing::HandedOver),
        2 => Just(Standing::AwaitingAccess),
    ];
    (ends, proptest::bool::weighted(0.1)).prop_map(|(ends, is_skipped_at_once)| Member { ends, is_skipped_at_once })
}

/// A planner and refreshes that do what the rollout says, one page and one end at a time.
struct Simulation {
    rollout: Rollout,
    members: Vec<Member>,
    standings: BTreeMap<usize, (u32, Standing)>,
    walked: usize,
}

impl Simulation {
    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for (wave, standing) in self.standings.values() {
            tally.add(*wave, *standing, 1);
        }
        tally
    }

    fn plan_page(&mut self, page: usize) {
        for _ in 0..page {
            if self.rollout.wanted_members(&self.tally()) == 0 {
                break;
            }
            let Some(member) = self.members.get(self.walked) else { break };
            let standing = if member.is_skipped_at_once { Standing::Skipped } else { Standing::Pending };
            self.standings.insert(self.walked, (self.rollout.wave, standing));
            self.walked += 1;
        }
        self.rollout.walk.is_over = self.walked == self.members.len();
        self.rollout.walk.wave_is_planned =
            self.rollout.walk.is_over || self.rollout.wanted_members(&self.tally()) == 0;
    }

    fn work(&mut self) {
        let mut places = self.rollout.free_places(&self.tally());
        for (at, (_, standing)) in &mut self.standings {
            *standing = match *standing {
                Standing::Pending if places > 0 => {
                    places -= 1;
                    Standing::Running
                }
                Standing::Running => self.members[*at].ends,
                // Gates have deadlines.
                Standing::AwaitingAccess if self.rollout.walk.is_over => Standing::HandedOver,
                other => other,
            };
        }
    }

    /// Runs until the rollout needs nobody but a person. Panics if it never does.
    fn run(&mut self, mut now: Timestamp) -> Timestamp {
        for _ in 0..2_000 {
            if self.rollout.state != RolloutState::Running {
                return now;
            }
            now += Duration::from_secs(60);
            let in_flight = self.tally().count(Standing::is_in_flight);
            assert!(in_flight <= self.rollout.publish.strategy.max_in_flight.get());
            if !self.rollout.walk.wave_is_planned {
                self.plan_page(7);
            }
            self.work();
            let review = self.rollout.review(&self.tally(), now);
            self.rollout.accept(&review, None, now);
            let again = self.rollout.review(&self.tally(), now);
            assert!(!self.rollout.accept(&again, None, now) || matches!(review, Review::WaitUntil(_)), "{review:?}");
        }
        panic!("it never ends: {:?} {:?}", self.rollout, self.tally());
    }
}

proptest! {
    #[test]
    fn an_ended_rollout_never_changes_but_by_a_retry_of_a_completed_one(
        strategy in any_strategy(), whole in 0u64..200, happenings in proptest::collection::vec(any_happening(), 0..40)
    ) {
        let mut rollout = new_rollout(strategy);
        rollout.begin(whole, start());
        let mut last = Tally::default();
        for (minute, happening) in (1..).zip(happenings) {
            let before = rollout.clone();
            let is_retry = matches!(happening, Happening::Command(Command::Retry(_)));
            match happening {
                Happening::Command(command) => {
                    match rollout.command(command, &last, later(minute)) {
                        Ok(Some(next)) => {
                            // Given again, it changes nothing more.
                            if let Some(twice) = next.command(command, &last, later(minute)).unwrap() {
                                prop_assert_eq!(&twice, &next, "{:?}", command);
                            }
                            rollout = next;
                        }
                        Ok(None) => {}
                        Err(illegal) => {
                            let state = before.state.name();
                            prop_assert_eq!(&illegal, &match command {
                                Command::Approve => IllegalCommand::NothingToApprove { state },
                                Command::Resume if before.waits_for_approval() => IllegalCommand::WaitsForApproval,
                                _ => IllegalCommand::State { state, command: command.name() },
                            });
                            let is_about_the_state = matches!(illegal, IllegalCommand::State { .. });
                            prop_assert!(before.state.is_ended() || !is_about_the_state);
                        }
                    }
                }
                Happening::Review(mut counts) => {
                    counts.iter_mut().for_each(|(wave, _, _)| *wave = rollout.wave.min(*wave));
                    let tally = tally(&counts);
                    let review = rollout.review(&tally, later(minute));
                    rollout.accept(&review, None, later(minute));
                    if !matches!(review, Review::WaitUntil(_)) {
                        let again = rollout.review(&tally, later(minute));
                        let once = rollout.clone();
                        rollout.accept(&again, None, later(minute));
                        prop_assert_eq!(&rollout, &once, "{:?} then {:?}", review, again);
                    }
                    last = tally;
                }
                Happening::Planned { is_over } if rollout.state == RolloutState::Running => {
                    rollout.walk.wave_is_planned = true;
                    rollout.walk.is_over |= is_over;
                }
                Happening::Superseded if !rollout.state.is_ended() => {
                    rollout.cancel(Some(RolloutId(Uuid::nil())), later(minute));
                }
                Happening::Planned { .. } | Happening::Superseded => {}
            }
            prop_assert_eq!(rollout.state.is_ended(), rollout.ended_at.is_some());
            prop_assert!(rollout.stand_ins <= STAND_INS);
            prop_assert!(rollout.wave <= rollout.waves());
            prop_assert!(rollout.wave >= before.wave);
            if before.state.is_ended() && !(before.state == RolloutState::Completed && is_retry) {
                prop_assert_eq!(&rollout, &before);
            }
        }
    }

    #[test]
    fn every_rollout_ends_or_asks_a_person_and_with_one_who_resumes_it_completes(
        strategy in any_strategy(), members in proptest::collection::vec(any_member(), 0..80)
    ) {
        let mut rollout = new_rollout(strategy);
        rollout.begin(members.len() as u64, start());
        let mut simulation = Simulation { rollout, members, standings: BTreeMap::new(), walked: 0 };
        let mut now = start();
        for _ in 0..=simulation.members.len() + 1 {
            now = simulation.run(now);
            let tally = simulation.tally();
            let is_proven = tally.count_in(1, Standing::is_proof) >= simulation.rollout.publish.strategy.canaries.count();
            match &simulation.rollout.state {
                RolloutState::Completed => break,
                RolloutState::Paused { .. } => {}
                RolloutState::Halted { .. } => prop_assert!(tally.count(|s| s == Standing::FailedByOffer) > 0),
                state => prop_assert!(false, "{:?}", state),
            }
            if simulation.rollout.is_canary_wave() && !is_proven {
                let planned = tally.count(|s| s != Standing::Skipped);
                prop_assert!(planned <= simulation.rollout.publish.strategy.canaries.count() + STAND_INS);
            }
            let asks = simulation.rollout.waits_for_approval();
            let command = if asks { Command::Approve } else { Command::Resume };
            simulation.rollout = simulation.rollout.command(command, &tally, now).unwrap().unwrap();
            if simulation.rollout.state == RolloutState::Planning {
                simulation.rollout.begin(simulation.members.len() as u64, now);
            }
        }
        prop_assert_eq!(&simulation.rollout.state, &RolloutState::Completed);
        prop_assert_eq!(simulation.tally().count(Standing::has_result), simulation.members.len() as u64);
    }

    #[test]
    fn a_later_wave_begins_only_after_the_canaries_proved_something_or_a_person_said_so(
        strategy in any_strategy(), members in proptest::collection::vec(any_member(), 0..80)
    ) {
        let mut rollout = new_rollout(strategy);
        rollout.begin(members.len() as u64, start());
        let mut simulation = Simulation { rollout, members, standings: BTreeMap::new(), walked: 0 };
        simulation.run(start());
        let rollout = &simulation.rollout;
        if rollout.wave > 1 && rollout.publish.strategy.has_canaries() {
            let proven = simulation.tally().count_in(1, Standing::is_proof);
            prop_assert!(proven >= rollout.publish.strategy.canaries.count());
        }
    }
}
