//! The walk of a rollout over the deployments of its plan: which wave, how many members it still needs, how many of them may be
//! on their way at once.
//!
//! The order is that of the deployments' keys, and the cursor is kept, so that a page done twice changes nothing. Reads no
//! deployment, and judges no failure.

use serde::{Deserialize, Serialize};

use super::{Rollout, RolloutState, Vetting};
use crate::rollout::eligibility::Eligibility;
use crate::rollout::{DeploymentKey, Standing, Tally, Timestamp};

/// How many dead planning messages pause a rollout: an hour of them, since an outage of the store is no failure.
pub const DEAD_PLANS: u32 = 30;

/// Where the walk over the deployments of the plan stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Walk {
    /// How many deployments there were when the walk began.
    pub whole: u64,
    /// The last deployment looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<DeploymentKey>,
    /// How many were looked at.
    pub walked: u64,
    /// Whether the current wave has all its members.
    pub wave_is_planned: bool,
    /// Whether there is nobody left to plan.
    pub is_over: bool,
    /// Grows with every planning message, lost ones included: part of its id.
    pub message: u32,
    /// When the walk last moved or was asked to; a walk that stands still is asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_at: Option<Timestamp>,
    /// How many planning messages nobody could work off since the wave began or a person resumed.
    #[serde(default)]
    pub dead_letters: u32,
}

impl Rollout {
    /// Begins with the first wave, once the deployments were counted; asks first where that is the last one and has to be
    /// approved.
    pub fn begin(&mut self, whole: u64, now: Timestamp) {
        self.walk.whole = whole;
        self.vetting = Vetting::Done;
        if whole > 0 && self.needs_approval(1) {
            return self.ask_approval();
        }
        self.state = RolloutState::Running;
        self.start_wave(1, now);
    }

    pub(super) fn start_wave(&mut self, wave: u32, now: Timestamp) {
        self.wave = wave;
        self.forgiven.in_wave = 0;
        self.next_wave_at = None;
        self.walk.wave_is_planned = false;
        self.walk.dead_letters = 0;
        self.ask_planner(now);
    }

    /// A planning message is dead: after some of them a person has to look; till then the timer asks again. Whether it matters.
    pub fn planner_died(&mut self, reason: &str) -> bool {
        let plans =
            self.state == RolloutState::Planning || self.state == RolloutState::Running && !self.walk.wave_is_planned;
        if plans {
            self.walk.dead_letters += 1;
            // The next message, which the timer sends, has an id of its own.
            self.walk.message += 1;
            if self.walk.dead_letters >= DEAD_PLANS {
                let why =
                    format!("its deployments cannot be planned: {reason}; look at the service's log, then resume");
                self.state = RolloutState::Paused { why, on: None };
            }
        }
        plans
    }

    /// Another planning message is to be sent: it gets an id of its own.
    pub fn ask_planner(&mut self, now: Timestamp) {
        self.walk.message += 1;
        self.walk.moved_at = Some(now);
    }

    /// The id of the planning message that is to be sent.
    pub fn planning_message_id(&self) -> String {
        format!("{}:plan:{}", self.id, self.walk.message)
    }

    /// Whether `wave` is the one of the canaries.
    pub fn is_canary_wave(&self) -> bool {
        self.wave == 1 && self.publish.strategy.has_canaries()
    }

    /// How many canaries have yet to prove something; 0 in any other wave, and where a person does without.
    pub(super) fn missing_proofs(&self, tally: &Tally) -> u64 {
        if !self.is_canary_wave() || self.canaries_waived {
            return 0;
        }
        self.publish.strategy.canaries.count().saturating_sub(tally.count_in(1, Standing::is_proof))
    }

    /// How many members the current wave still needs, of those that were not skipped for the canaries, else of all.
    pub fn wanted_members(&self, tally: &Tally) -> u64 {
        if self.is_canary_wave() {
            let canaries = self.publish.strategy.canaries.count() + self.stand_ins;
            let hopes = tally.count_in(1, |s| !s.is_out_of_the_wave());
            // One that was skipped after it was planned is replaced once, not as skipped and as unproven.
            return canaries
                .saturating_sub(tally.count_in(1, |s| s != Standing::Skipped))
                .min(self.missing_proofs(tally).saturating_sub(hopes));
        }
        let end = self.wave_end();
        end.saturating_sub(tally.count(|_| true))
    }

    /// Whether a deployment that is this to the publish takes a place in the wave under way: one that there is nothing to do
    /// for shows nothing, so it is no canary.
    pub fn takes_a_place(&self, eligibility: Eligibility) -> bool {
        match eligibility {
            Eligibility::Member => true,
            Eligibility::Skipped(_) => !self.is_canary_wave(),
            Eligibility::Outside => false,
        }
    }

    /// The cumulative number of deployments at which the current wave ends.
    fn wave_end(&self) -> u64 {
        let ends = self.publish.strategy.wave_ends(self.walk.whole);
        let at = usize::try_from(self.wave).unwrap_or(usize::MAX).saturating_sub(1);
        // The last wave takes whoever came while the rollout ran.
        if at + 1 >= ends.len() { u64::MAX } else { ends[at] }
    }

    /// How many waves there are, canaries included; 0 while the deployments are being counted.
    pub fn waves(&self) -> u32 {
        let waves = self.publish.strategy.wave_ends(self.walk.whole).len();
        u32::try_from(waves).unwrap_or(u32::MAX).max(self.wave)
    }

    /// How many refreshes may be released now.
    pub fn free_places(&self, tally: &Tally) -> u64 {
        if self.state == RolloutState::Running {
            self.publish.strategy.max_in_flight.get().saturating_sub(tally.count(Standing::is_in_flight))
        } else {
            0
        }
    }

    /// How many members the current wave is to have by its strategy.
    pub(super) fn planned_size(&self) -> u64 {
        let ends = self.publish.strategy.wave_ends(self.walk.whole);
        let at = usize::try_from(self.wave).unwrap_or(usize::MAX);
        let end = |at: usize| at.checked_sub(1).and_then(|at| ends.get(at)).copied().unwrap_or(0);
        end(at).saturating_sub(end(at.saturating_sub(1)))
    }
}
