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
    /// Failed.
    Failed,
    /// Failed, and the offer itself is to blame.
    FailedByOffer,
    /// Called off.
    Canceled,
    /// The operation never ended.
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
    pub const ALL: [Self; 15] = [
        Self::Pending,
        Self::Queued,
        Self::Submitting,
        Self::AwaitingAccess,
        Self::Running,
        Self::Verifying,
        Self::Succeeded,
        Self::SucceededUnproven,
        Self::Failed,
        Self::FailedByOffer,
        Self::Canceled,
        Self::TimedOut,
        Self::Skipped,
        Self::HandedOver,
        Self::Superseded,
    ];

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
            RefreshState::Failed { failure } if failure.actor == Actor::Offer => Self::FailedByOffer,
            RefreshState::Failed { .. } => Self::Failed,
            RefreshState::Canceled => Self::Canceled,
            RefreshState::TimedOut => Self::TimedOut,
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
            Self::FailedByOffer => "failedByOffer",
            Self::Canceled => "canceled",
            Self::TimedOut => "timedOut",
            Self::Skipped => "skipped",
            Self::HandedOver => "handedOver",
            Self::Superseded => "superseded",
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

    /// Whether it counts against the failure budget (design §4).
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::FailedByOffer | Self::TimedOut)
    }

    /// Whether a canary that stands here has shown anything: a terminal status was read, or it failed.
    pub fn is_proof(self) -> bool {
        self == Self::Succeeded || self.is_failure()
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
            failed: of(&[Standing::Failed, Standing::FailedByOffer]),
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
        self.total - self.queued - self.awaiting_access - self.running - self.verifying
    }
}
