//! How many refreshes of a rollout stand where, per wave: what a rollout is judged by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Actor, Refresh, RefreshState};

/// What a refresh is counted as: its state, with the distinctions that decide about the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// Queued and waiting for a free place.
    Pending,
    /// Queued with a message on its way.
    Queued,
    /// Being posted.
    Submitting,
    /// Parked at a gate.
    AwaitingAccess,
    /// Followed.
    Running,
    /// Being read.
    Verifying,
    /// Succeeded, and the operation's terminal status was read.
    Succeeded,
    /// Succeeded, judged by reading the application alone.
    SucceededUnproven,
    /// Failed, and the operation's terminal status was read.
    Failed,
    /// Failed before an operation had begun: refused, or never called.
    FailedUnproven,
    /// Failed, and the offer itself is to blame.
    FailedByOffer,
    /// Called off.
    Canceled,
    /// The operation never ended, or it could not be posted for long.
    TimedOut,
    /// Nothing to do.
    Skipped,
    /// In the customer's hands.
    HandedOver,
    /// A newer rollout took over.
    Superseded,
}

impl Standing {
    /// Every standing.
    pub const ALL: [Self; 16] = [
        Self::Pending,
        Self::Queued,
        Self::Submitting,
        Self::AwaitingAccess,
        Self::Running,
        Self::Verifying,
        Self::Succeeded,
        Self::SucceededUnproven,
        Self::Failed,
        Self::FailedUnproven,
        Self::FailedByOffer,
        Self::Canceled,
        Self::TimedOut,
        Self::Skipped,
        Self::HandedOver,
        Self::Superseded,
    ];

    /// Where somebody has to act before the deployment gets the version: retried, reported, or run by the customer.
    pub const NEEDS_SOMEBODY: [Self; 5] =
        [Self::Failed, Self::FailedUnproven, Self::FailedByOffer, Self::TimedOut, Self::HandedOver];

    /// What the refresh is counted as.
    pub fn of(refresh: &Refresh) -> Self {
        match &refresh.state {
            RefreshState::Queued { due: None, .. } => Self::Pending,
            RefreshState::Queued { due: Some(_), .. } => Self::Queued,
            RefreshState::Submitting { .. } => Self::Submitting,
            RefreshState::AwaitingAccess { .. } => Self::AwaitingAccess,
            RefreshState::Running { .. } => Self::Running,
            RefreshState::Verifying { .. } => Self::Verifying,
            RefreshState::Succeeded { evidence } if evidence.is_proof() => Self::Succeeded,
            RefreshState::Succeeded { .. } => Self::SucceededUnproven,
            RefreshState::Failed { failure, .. } if failure.actor == Actor::Offer => Self::FailedByOffer,
            RefreshState::Failed { has_operation_ended: true, .. } => Self::Failed,
            RefreshState::Failed { .. } => Self::FailedUnproven,
            RefreshState::Canceled => Self::Canceled,
            RefreshState::TimedOut { .. } => Self::TimedOut,
            RefreshState::Skipped { .. } => Self::Skipped,
            RefreshState::HandedOver { .. } => Self::HandedOver,
            RefreshState::Superseded { .. } => Self::Superseded,
        }
    }

    /// The word stores keep; parsed back by [`Standing::from_word`].
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::Submitting => "submitting",
            Self::AwaitingAccess => "awaitingAccess",
            Self::Running => "running",
            Self::Verifying => "verifying",
            Self::Succeeded => "succeeded",
            Self::SucceededUnproven => "succeededUnproven",
            Self::Failed => "failed",
            Self::FailedUnproven => "failedUnproven",
            Self::FailedByOffer => "failedByOffer",
            Self::Canceled => "canceled",
            Self::TimedOut => "timedOut",
            Self::Skipped => "skipped",
            Self::HandedOver => "handedOver",
            Self::Superseded => "superseded",
        }
    }

    /// The word of the state that users know it by.
    pub fn state(self) -> &'static str {
        match self {
            Self::Pending | Self::Queued => "queued",
            Self::Submitting | Self::Running => "running",
            Self::Succeeded | Self::SucceededUnproven => "succeeded",
            Self::Failed | Self::FailedUnproven | Self::FailedByOffer => "failed",
            other => other.word(),
        }
    }

    /// The standing that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.word() == word)
    }

    /// Whether the refresh holds one of the places of `maxInFlight`.
    pub fn is_in_flight(self) -> bool {
        matches!(self, Self::Queued | Self::Submitting | Self::Running | Self::Verifying)
    }

    /// Whether the refresh is done with, or parked outside its wave.
    pub fn is_out_of_the_wave(self) -> bool {
        !matches!(self, Self::Pending) && !self.is_in_flight()
    }

    /// Whether the refresh has its result.
    pub fn has_result(self) -> bool {
        self.is_out_of_the_wave() && self != Self::AwaitingAccess
    }

    /// Whether it counts against the failure budget (design §4).
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::FailedUnproven | Self::FailedByOffer | Self::TimedOut)
    }

    /// Whether a canary that stands here has shown anything (design §4): a terminal status was read, or the version itself
    /// was found at fault. Where ARM refused the call, or the operation never ended, nothing was shown.
    pub fn is_proof(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::FailedByOffer)
    }
}

/// Counts per wave (1-based) and standing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<(u32, Standing), u64>);

impl Tally {
    /// Adds `count` refreshes of `wave`.
    pub fn add(&mut self, wave: u32, standing: Standing, count: u64) {
        *self.0.entry((wave, standing)).or_default() += count;
    }

    /// How many refreshes of all waves stand where `of` says.
    pub fn count(&self, of: impl Fn(Standing) -> bool) -> u64 {
        self.0.iter().filter(|((_, standing), _)| of(*standing)).map(|(_, count)| count).sum()
    }

    /// How many refreshes of one wave stand where `of` says.
    pub fn count_in(&self, wave: u32, of: impl Fn(Standing) -> bool) -> u64 {
        self.0.iter().filter(|((w, standing), _)| *w == wave && of(*standing)).map(|(_, count)| count).sum()
    }

    /// The counts by the words of the API (design §8), `total` included.
    pub fn counts(&self) -> Counts {
        let of = |standings: &[Standing]| self.count(|standing| standings.contains(&standing));
        Counts {
            queued: of(&[Standing::Pending, Standing::Queued]),
            awaiting_access: of(&[Standing::AwaitingAccess]),
            running: of(&[Standing::Submitting, Standing::Running]),
            verifying: of(&[Standing::Verifying]),
            succeeded: of(&[Standing::Succeeded, Standing::SucceededUnproven]),
            failed: of(&[Standing::Failed, Standing::FailedUnproven, Standing::FailedByOffer]),
            canceled: of(&[Standing::Canceled]),
            timed_out: of(&[Standing::TimedOut]),
            skipped: of(&[Standing::Skipped]),
            handed_over: of(&[Standing::HandedOver]),
            superseded: of(&[Standing::Superseded]),
            total: self.count(|_| true),
        }
    }
}

/// The counts of design §8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the words of the API, each the state of that name")]
pub struct Counts {
    pub queued: u64,
    pub awaiting_access: u64,
    pub running: u64,
    pub verifying: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub canceled: u64,
    pub timed_out: u64,
    pub skipped: u64,
    pub handed_over: u64,
    pub superseded: u64,
    pub total: u64,
}

impl Counts {
    /// How many have their result.
    pub fn ended(&self) -> u64 {
        let Self { succeeded, failed, canceled, timed_out, skipped, handed_over, superseded, .. } = *self;
        // Counts also come over the wire, so they may be anything.
        [succeeded, failed, canceled, timed_out, skipped, handed_over, superseded]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_standing_is_known_by_its_word_in_stores_and_in_json() {
        for standing in Standing::ALL {
            assert_eq!(Standing::from_word(standing.word()), Some(standing));
            assert_eq!(serde_json::to_value(standing).unwrap(), standing.word());
        }
        let words: std::collections::BTreeSet<_> = Standing::ALL.map(Standing::word).into_iter().collect();
        assert_eq!(words.len(), Standing::ALL.len());
        assert_eq!(Standing::from_word("teleported"), None);
    }

    #[test]
    fn a_refresh_either_has_its_result_or_is_in_flight_or_waits() {
        for standing in Standing::ALL {
            let waits = matches!(standing, Standing::Pending | Standing::AwaitingAccess);
            let kinds = [standing.has_result(), standing.is_in_flight(), waits];
            assert_eq!(kinds.into_iter().filter(|is| *is).count(), 1, "{standing:?}");
            assert!(!standing.is_proof() || standing.has_result(), "{standing:?}");
            let is_ends_word = matches!(standing, Standing::Succeeded | Standing::Failed | Standing::FailedByOffer);
            assert_eq!(standing.is_proof(), is_ends_word, "{standing:?}");
        }
    }

    #[test]
    fn counts_that_came_over_the_wire_never_underflow_or_overflow() {
        assert_eq!(Counts { queued: 5, running: 3, ..Counts::default() }.ended(), 0);
        assert_eq!(Counts { succeeded: u64::MAX, failed: 1, ..Counts::default() }.ended(), u64::MAX);
    }

    proptest! {
        #[test]
        fn counts_sum_up_to_the_total(
            counts in proptest::collection::vec((1u32..5, 0..Standing::ALL.len(), 0u64..1_000), 0..60)
        ) {
            let mut tally = Tally::default();
            let mut sum = 0;
            for (wave, standing, count) in counts {
                tally.add(wave, Standing::ALL[standing], count);
                sum += count;
            }
            let counts = tally.counts();
            prop_assert_eq!(counts.total, sum);
            let under_way = counts.queued + counts.awaiting_access + counts.running + counts.verifying;
            prop_assert_eq!(counts.ended() + under_way, sum);
            prop_assert_eq!(counts.ended(), tally.count(Standing::has_result));
            prop_assert_eq!((1..5).map(|wave| tally.count_in(wave, |_| true)).sum::<u64>(), sum);
        }
    }
}
