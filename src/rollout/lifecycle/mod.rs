//! One rollout: a version on its way to a set of deployments, wave by wave, to its end.
//!
//! Pure: [`Rollout::review`] says what a tally means, [`Rollout::command`] what a person's command does. Planning is
//! a walk over the deployments in the order of their keys; the cursor is kept here, so a page done twice changes nothing.

mod approval;
mod command;
mod walk;

use serde::{Deserialize, Serialize};

use super::{News, OfferPublish, RolloutId, Standing, Tally, Timestamp, counted};

pub use approval::{Approval, LintNote, Vetting};
pub use command::{Command, IllegalCommand, Retried};
pub use walk::{DEAD_PLANS, Walk};

/// How many more candidates may stand in for canaries that proved nothing (design §4).
pub const STAND_INS: u64 = 5;

/// A rollout with everything that is true of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Its id.
    pub id: RolloutId,
    /// What it brings, to whom, how.
    pub publish: OfferPublish,
    /// Where it stands.
    pub state: RolloutState,
    /// The wave under way, 1-based; 0 while planning.
    pub wave: u32,
    /// Where the walk over the deployments stands.
    pub walk: Walk,
    /// How many stand-ins for canaries were asked for.
    pub stand_ins: u64,
    /// Whether it is paused for canaries that proved nothing, so that resuming it means to go on without.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_proof_missing: bool,
    /// Whether a person has resumed it although its canaries proved nothing.
    #[serde(default)]
    pub canaries_waived: bool,
    /// What the lint said of the version's actions, once it has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lint: Option<LintNote>,
    /// Failures that a person has looked at: those before the last `resume` or `retry`.
    pub forgiven: Forgiven,
    /// Whether the last wave has to be approved, is waiting for that, or was (`approveLastWave`).
    #[serde(default)]
    pub approval: Approval,
    /// Whether its version is still to be looked at before anything is planned.
    #[serde(default)]
    pub vetting: Vetting,
    /// When the next wave may start, once one has ended and `pauseBetweenWaves` runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_wave_at: Option<Timestamp>,
    /// What there was to tell of it, the last of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub news: Vec<News>,
    /// How many deployments had another version before; counted once a scheduled rollout completes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<u64>,
    /// Whether it has completed before: then its version is no news any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_completed: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// How many failures count no more, for each count that they are held against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forgiven {
    /// Of all waves.
    pub all: u64,
    /// Of the wave under way.
    pub in_wave: u64,
    /// Those that the offer itself is to blame for; a person has seen them only if the rollout had halted.
    pub by_offer: u64,
}

impl Forgiven {
    /// No more than what still stands as a failure.
    fn at_most(self, tally: &Tally, wave: u32) -> Self {
        Self {
            all: self.all.min(tally.count(Standing::is_failure)),
            in_wave: self.in_wave.min(tally.count_in(wave, Standing::is_failure)),
            by_offer: self.by_offer.min(tally.count(|s| s == Standing::FailedByOffer)),
        }
    }
}

/// The states of design §4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RolloutState {
    /// It starts when another rollout of the plan has ended.
    Waiting {
        /// Which.
        on: RolloutId,
    },
    /// Its deployments are being counted.
    Planning,
    /// A wave is under way.
    Running,
    /// It waits for a person.
    Paused {
        /// Why, in words.
        why: String,
        /// The rollout that it waited for when it was paused, and waits for again when it is resumed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on: Option<RolloutId>,
    },
    /// It would fail everywhere.
    Halted {
        /// Why, in words, with the offending action.
        why: String,
    },
    /// Every refresh has its result.
    Completed,
    /// It was called off.
    Canceled {
        /// The rollout that took its place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        superseded_by: Option<RolloutId>,
    },
}

/// What a tally means for a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Review {
    /// Nothing to do until something ends.
    Wait,
    /// Wait until this time, then start the next wave.
    WaitUntil(Timestamp),
    /// Plan the next wave.
    NextWave,
    /// Plan so many more canaries: those so far proved nothing.
    MoreCanaries(u64),
    /// Stop and ask a person.
    Pause {
        /// Why.
        why: String,
    },
    /// Stop: the canaries and their stand-ins proved nothing. A person who resumes it then goes on without.
    PauseForProof {
        /// Why.
        why: String,
    },
    /// Stop and ask a person whether the last wave may begin.
    AskApproval,
    /// Stop: it would fail everywhere.
    Halt,
    /// Every refresh has its result.
    Complete,
}

impl Rollout {
    /// A rollout that is to be planned.
    pub fn new(id: RolloutId, publish: OfferPublish, now: Timestamp) -> Self {
        Self {
            id,
            publish,
            state: RolloutState::Planning,
            wave: 0,
            walk: Walk { moved_at: Some(now), ..Walk::default() },
            stand_ins: 0,
            is_proof_missing: false,
            canaries_waived: false,
            lint: None,
            forgiven: Forgiven::default(),
            approval: Approval::default(),
            vetting: Vetting::default(),
            next_wave_at: None,
            news: Vec::new(),
            changed: None,
            has_completed: false,
            created_at: now,
            ended_at: None,
        }
    }

    /// What `tally` means. Pure: [`Rollout::accept`] carries the meaning into the state.
    pub fn review(&self, tally: &Tally, now: Timestamp) -> Review {
        let is_running = self.state == RolloutState::Running;
        let is_blamed = tally.count(|s| s == Standing::FailedByOffer) > self.forgiven.by_offer;
        // What was posted before a pause may still show that nobody should resume.
        if is_blamed && (is_running || matches!(self.state, RolloutState::Paused { .. })) {
            return Review::Halt;
        }
        if !is_running {
            return Review::Wait;
        }
        if let Some(why) = self.over_budget(tally) {
            return Review::Pause { why };
        }
        let in_wave = |of: fn(Standing) -> bool| tally.count_in(self.wave, of);
        if !self.walk.wave_is_planned || in_wave(|s| !s.is_out_of_the_wave()) > 0 {
            return Review::Wait;
        }
        let missing = self.missing_proofs(tally);
        if missing > 0 && !self.walk.is_over {
            return match STAND_INS.saturating_sub(self.stand_ins) {
                0 => {
                    let wanted = self.publish.strategy.canaries.count();
                    let proven = wanted - missing;
                    let why = format!(
                        "{proven} of {} proved the version, and {STAND_INS} stand-ins did not change that: look at them, then resume",
                        counted(wanted, "canary")
                    );
                    Review::PauseForProof { why }
                }
                left => Review::MoreCanaries(missing.min(left)),
            };
        }
        if self.walk.is_over {
            let unfinished = tally.count(|s| !s.has_result());
            return if unfinished == 0 { Review::Complete } else { Review::Wait };
        }
        match self.next_wave_at {
            None if !self.publish.strategy.pause_between_waves.is_zero() => {
                Review::WaitUntil(now + self.publish.strategy.pause_between_waves)
            }
            // Asked while the pause between waves runs, so that both are waited for at once.
            _ if self.needs_approval(self.wave + 1) => Review::AskApproval,
            Some(at) if at > now => Review::WaitUntil(at),
            _ => Review::NextWave,
        }
    }

    /// Carries a review into the state; whether anything changed.
    pub fn accept(&mut self, review: &Review, offending: Option<&str>, now: Timestamp) -> bool {
        let before = self.clone();
        match review {
            Review::Wait => {}
            Review::WaitUntil(at) => self.next_wave_at = Some(*at),
            Review::NextWave => self.start_wave(self.wave + 1, now),
            Review::MoreCanaries(count) => {
                self.stand_ins += count;
                self.walk.wave_is_planned = false;
                self.ask_planner(now);
            }
            Review::Pause { why } => self.state = RolloutState::Paused { why: why.clone(), on: None },
            Review::PauseForProof { why } => {
                self.is_proof_missing = true;
                self.state = RolloutState::Paused { why: why.clone(), on: None };
            }
            Review::AskApproval => self.ask_approval(),
            Review::Halt => {
                let why = match offending {
                    Some(action) => format!(
                        "the published version names the action {action}, which no Azure provider offers: it would fail at every customer; publish a corrected version"
                    ),
                    None => "a refresh failed because of the published version itself: it would fail at every customer; look at the failed refresh".to_owned(),
                };
                self.state = RolloutState::Halted { why };
            }
            Review::Complete => {
                self.state = RolloutState::Completed;
                self.has_completed = true;
                self.ended_at = Some(now);
            }
        }
        *self != before
    }

    fn over_budget(&self, tally: &Tally) -> Option<String> {
        let budget = self.publish.strategy.max_failures;
        let check = |what: &str, members: u64, failed: u64, forgiven: u64| {
            let allowed = budget.rounded_down(members);
            let failed = failed.saturating_sub(forgiven);
            (failed > allowed).then(|| {
                format!(
                    "{failed} of {} {what} failed, which is more than the {allowed} allowed: look at them, then resume or cancel",
                    counted(members, "refresh")
                )
            })
        };
        let wave_members = tally.count_in(self.wave, |_| true).max(self.planned_size());
        let all = tally.count(|_| true);
        let in_wave = tally.count_in(self.wave, Standing::is_failure);
        check("of this wave", wave_members, in_wave, self.forgiven.in_wave)
            .or_else(|| check("started so far", all, tally.count(Standing::is_failure), self.forgiven.all))
    }
}

impl RolloutState {
    /// Whether nothing more is posted, ever.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Completed | Self::Canceled { .. })
    }

    /// The state's word in API and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Planning => "planning",
            Self::Running => "running",
            Self::Paused { .. } => "paused",
            Self::Halted { .. } => "halted",
            Self::Completed => "completed",
            Self::Canceled { .. } => "canceled",
        }
    }

    /// Why it stands there, where there is something to say.
    pub fn why(&self) -> Option<String> {
        match self {
            Self::Waiting { on } => Some(format!("waits for rollout {on} to end")),
            Self::Paused { why, .. } | Self::Halted { why } => Some(why.clone()),
            Self::Canceled { superseded_by: Some(by) } => Some(format!("superseded by rollout {by}")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
