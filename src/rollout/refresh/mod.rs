//! One refresh: one deployment within a rollout, from queued to exactly one result.
//!
//! A pure state machine. [`Refresh::apply`] maps (state, event, now) to the next state and what to do next; a pair that
//! makes no sense is an [`IllegalEvent`] naming both, and the refresh stays as it was. A terminal state never changes;
//! only [`Event::Retry`], a person's command, opens a new generation.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod access;
mod event;
mod transition;

#[cfg(test)]
mod tests;

pub use event::{Event, IllegalEvent};

use super::hand_over::HandOver;
use super::jit::Approval;
use super::ways::Refusal;
use super::{
    Actor, ApplicationId, DeploymentKey, Failure, Operation, PastRefresh, PastResult, RemoteError, RolloutId,
    Timestamp, Version, Way,
};

/// How long a worker may take from *submitting* to ARM's answer before somebody else may try (design §4).
pub const LEASE: Duration = Duration::from_secs(3 * 60);
/// How long a call may take at most, lease and claim being longer: one that begins later than this before their end could
/// still be under way when somebody else asks.
pub const CALL: Duration = Duration::from_secs(2 * 60);
/// How long a claimed look may take before somebody else may look.
pub const CLAIM: Duration = Duration::from_secs(3 * 60);
/// How long a queued message may be overdue before it counts as lost; doubled with every message sent again, up to 40
/// minutes, since delays count as well and a rollout must not stand still for hours.
pub const LOST_AFTER: Duration = Duration::from_secs(5 * 60);
/// How long an operation may run; a refresh takes up to about 15 minutes (contracts/arm.md §1.2).
pub const OPERATION_DEADLINE: Duration = Duration::from_secs(2 * 60 * 60);
/// How long a verification may look for a readable answer.
pub const VERIFY_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// The gap before the second look at an application that seemed gone (design §3.3).
pub const SECOND_LOOK: Duration = Duration::from_secs(10 * 60);
/// The gap between two looks at a gate.
pub const GATE_GAP: Duration = Duration::from_secs(5 * 60);
/// The gap before the first look at a gate, which may have opened while the refresh was being parked.
pub const GATE_FIRST_LOOK: Duration = Duration::from_secs(60);
/// How long a refresh waits for a consent, or for somebody to sign in (design §4).
pub const GATE_PATIENCE: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// How many dead letters of one refresh make it fail: some five hours of them, since an outage of the store is no failure.
pub const DEAD_LETTERS: u32 = 10;
/// How long after its death a message is sent again the first time; doubled each time, up to 40 minutes.
pub const AFTER_DEATH: Duration = Duration::from_secs(5 * 60);
/// How long it may be put off in the queue before anybody is called: throttled or lost again and again. Only while its
/// rollout goes on, and outside gates; longer than any of those, and far longer than Azure throttles.
pub const QUEUE_PATIENCE: Duration = Duration::from_secs(21 * 24 * 60 * 60);
/// How many unreadable looks in a row lead to reading the application instead.
pub const UNREADABLE_LOOKS: u32 = 5;

/// A refresh with everything that is true of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refresh {
    /// The rollout it belongs to.
    pub rollout_id: RolloutId,
    /// The deployment's key.
    pub key: DeploymentKey,
    /// The deployment's ARM id.
    pub application_id: ApplicationId,
    /// The version it brings.
    pub version: Version,
    /// The version that the registry knew of when it was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_before: Option<Version>,
    /// The wave it was planned in, 1-based.
    pub wave: u32,
    /// Where it stands.
    pub state: RefreshState,
    /// Grows with every `retry` command; part of the message id.
    pub generation: u32,
    /// Grows with every message sent for the same attempt; part of the message id.
    pub resend: u32,
    /// How often a worker took it to post it.
    pub attempts: u32,
    /// How often ARM was asked about the operation.
    pub polls: u32,
    /// Looks in a row that told nothing.
    pub unreadable: u32,
    /// Times ARM said in a row that the application is not there.
    pub missing: u32,
    /// Whether it was posted again after an operation that vanished or never ended.
    pub reposted: bool,
    /// The way in use; `None` until the first call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// The ways that were refused, each once, in the order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
    /// 0 to 100, as ARM said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent_complete: Option<f64>,
    /// The last error met, whether or not it was final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<RemoteError>,
    /// ARM's `x-ms-correlation-request-id` of the POST: what support and the activity log know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// When ARM accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// When to give up waiting for a maintenance window that can be used; set when it first waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_deadline: Option<Timestamp>,
    /// How many of its messages nobody could work off.
    #[serde(default)]
    pub dead_letters: u32,
    /// When to give up posting it, once it was put off; set with the first time of a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_deadline: Option<Timestamp>,
    /// When to give up waiting at gates; set when it is first parked at one, and gone once it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_deadline: Option<Timestamp>,
}

/// The states of design §4. Each owns what is true only in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RefreshState {
    /// To be posted.
    Queued {
        /// The attempt that is next, 1-based.
        attempt: u32,
        /// When; `None` while it waits for a free place (`maxInFlight`) or for its rollout to go on.
        due: Option<Timestamp>,
    },
    /// A worker is posting.
    Submitting {
        /// The attempt under way.
        attempt: u32,
        /// Until when the worker has it for itself.
        lease_until: Timestamp,
    },
    /// Parked until somebody lets us in.
    AwaitingAccess {
        /// The attempt that is next.
        attempt: u32,
        /// What it waits for.
        gate: Gate,
        /// When to look again.
        next_look: Timestamp,
        /// When to give up.
        deadline: Timestamp,
    },
    /// ARM accepted it; the operation goes on.
    Running {
        /// The attempt that was accepted.
        attempt: u32,
        /// The operation.
        operation: Operation,
        /// When ARM may be asked next.
        next_poll: Timestamp,
        /// Until when a worker has the look for itself.
        claimed_until: Option<Timestamp>,
        /// When to stop believing that it ends.
        deadline: Timestamp,
    },
    /// The application itself is being read.
    Verifying {
        /// The attempt that was accepted.
        attempt: u32,
        /// What the reading is to answer.
        question: Question,
        /// When to read.
        next_look: Timestamp,
        /// Until when a worker has the look for itself.
        claimed_until: Option<Timestamp>,
        /// When to go without an answer.
        deadline: Timestamp,
    },
    /// The permissions are refreshed.
    Succeeded {
        /// What says so.
        evidence: Evidence,
    },
    /// It failed for good.
    Failed {
        /// Who has to act, and on what.
        failure: Failure,
        /// Whether the operation's terminal status was read. It was not where ARM refused the POST, or nobody could ask it.
        #[serde(default = "yes")]
        has_operation_ended: bool,
    },
    /// It was called off before it was posted.
    Canceled,
    /// The operation never ended, or it could not be posted for long.
    TimedOut {
        /// Why it could not be posted; `None` where it was, and its operation never ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
    /// There was nothing to do.
    Skipped {
        /// Why.
        why: SkipReason,
    },
    /// The customer has to run it.
    HandedOver {
        /// What they have to run, and why.
        hand_over: HandOver,
    },
    /// A newer rollout has taken its place.
    Superseded {
        /// Which.
        by: RolloutId,
    },
}

/// What a parked refresh waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Gate {
    /// The approval of a just-in-time request.
    Jit {
        /// The request's name.
        request: String,
        /// Who approves it.
        #[serde(default)]
        approval: Approval,
    },
    /// The consent of a customer's tenant.
    Consent {
        /// The tenant's id.
        tenant_id: String,
    },
    /// Somebody of ours who signs in again, or puts GDAP right: until then it works for no customer.
    SignIn,
    /// The opening of the deployment's maintenance window: its next look.
    Window,
}

/// What reading the application is to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Question {
    /// The operation succeeded: does the application look so?
    AfterSuccess,
    /// ARM gave no monitor: did it work?
    NoMonitor,
    /// The monitor is gone: did it work?
    MonitorGone,
    /// The monitor cannot be read: did it work? Polled on if this cannot be read either.
    MonitorUnreadable {
        /// The operation, kept.
        operation: Operation,
        /// Its deadline, kept.
        operation_deadline: Timestamp,
    },
    /// The operation did not end in time: is the application still there?
    Overdue,
}

/// What says that a refresh succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Evidence {
    /// The operation's terminal status was read; the application was not.
    Status,
    /// The operation's terminal status was read, and the application is in order.
    StatusAndApplication,
    /// The operation's terminal status was read; reading the application proved nothing.
    StatusOnly {
        /// What could not be proven.
        unproven: String,
    },
    /// Judged by reading the application alone; a canary proves nothing by it (design §4).
    ApplicationOnly,
    /// It was handed over, and since then Azure shows its version: the customer has run it, as far as anybody can tell.
    ShownByAzure,
    /// It was handed over, and somebody has recorded that the customer ran it.
    Reported {
        /// Who.
        by: String,
    },
}

/// What `has_operation_ended` is in records from before it was kept: all of them counted so.
fn yes() -> bool {
    true
}

impl Evidence {
    /// Whether the operation's terminal status was read.
    pub fn is_proof(&self) -> bool {
        !matches!(self, Self::ApplicationOnly | Self::ShownByAzure | Self::Reported { .. })
    }

    /// Whether the application was read and is in order.
    pub fn is_verified(&self) -> bool {
        matches!(self, Self::StatusAndApplication | Self::ApplicationOnly)
    }
}

/// Why there was nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SkipReason {
    /// It last succeeded with this very version.
    AlreadyApplied,
    /// It has a higher version and the purpose allows no lower one.
    NewerApplied,
    /// ARM says it is gone.
    Gone,
    /// It is being deleted.
    Deleting,
    /// Its own deployment is not done or has failed.
    NotReady,
    /// It is known from a notification only and ARM has not confirmed it.
    Unconfirmed,
    /// It is on hold.
    OnHold,
    /// None of its maintenance windows could be used.
    MissedWindow,
}

/// What to do after a transition, once the new state is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the timer, or nobody, comes back to it.
    Nothing,
    /// Send the message for its next step, to be delivered now or at the given time.
    Send {
        /// Not before.
        at: Option<Timestamp>,
    },
    /// Gain access by the way stored in it, and post it to ARM.
    Post,
    /// Ask ARM about the operation.
    Poll,
    /// Read the application.
    Read,
    /// Ask whether the gate has opened: then it is released.
    AskGate,
}

/// What the domain must know that is not in the refresh.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The ways to try, in order; the last resort is [`Way::HandOver`], named or not.
    pub ways: Vec<Way>,
    /// Whether the application is read after success (`VERIFY_AFTER_SUCCESS`).
    pub verify_after_success: bool,
    /// Where a customer's command has to go (`ARM_ENDPOINT`).
    pub arm_endpoint: String,
    /// The API version a customer's command has to name (`ARM_API_VERSION`).
    pub arm_api_version: String,
}

impl Refresh {
    /// A refresh as it is planned: waiting for a free place.
    pub fn planned(rollout_id: RolloutId, application_id: ApplicationId, version: Version, wave: u32) -> Self {
        Self {
            rollout_id,
            key: application_id.key(),
            application_id,
            version,
            version_before: None,
            wave,
            state: RefreshState::Queued { attempt: 1, due: None },
            generation: 0,
            resend: 0,
            attempts: 0,
            polls: 0,
            unreadable: 0,
            missing: 0,
            reposted: false,
            way: None,
            refusals: Vec::new(),
            percent_complete: None,
            last_error: None,
            correlation_id: None,
            submitted_at: None,
            ended_at: None,
            window_deadline: None,
            dead_letters: 0,
            queue_deadline: None,
            gate_deadline: None,
        }
    }

    /// The moment at which the timer has to look at it, if any.
    pub fn wake_at(&self) -> Option<Timestamp> {
        match &self.state {
            RefreshState::Queued { due, .. } => due.map(|due| due + self.patience()),
            RefreshState::Submitting { lease_until, .. } => Some(*lease_until),
            RefreshState::AwaitingAccess { next_look, deadline, .. } => Some(*next_look.min(deadline)),
            RefreshState::Running { next_poll: at, claimed_until, .. }
            | RefreshState::Verifying { next_look: at, claimed_until, .. } => {
                Some(claimed_until.map_or(*at, |until| until.max(*at)))
            }
            _ => None,
        }
    }

    /// The id of the message for its next step (design §4): never the same for two messages that must both arrive.
    pub fn message_id(&self) -> String {
        let attempt = self.attempt();
        format!("{}:{}:refresh:{}:{attempt}:{}", self.rollout_id, self.key, self.generation, self.resend)
    }

    /// `x-ms-client-request-id` of the current attempt: the same however often the attempt is sent.
    pub fn request_id(&self) -> Uuid {
        let name = format!("{}:{}:{}", self.key, self.generation, self.attempt());
        Uuid::new_v5(&self.rollout_id.0, name.as_bytes())
    }

    /// The attempt under way or next; once it has ended, 0.
    pub fn attempt(&self) -> u32 {
        match self.state {
            RefreshState::Queued { attempt, .. }
            | RefreshState::Submitting { attempt, .. }
            | RefreshState::AwaitingAccess { attempt, .. }
            | RefreshState::Running { attempt, .. }
            | RefreshState::Verifying { attempt, .. } => attempt,
            _ => 0,
        }
    }

    /// Whether it has brought a version that the registry did not know the deployment to have.
    pub fn has_changed(&self) -> bool {
        matches!(self.state, RefreshState::Succeeded { .. }) && self.version_before != Some(self.version)
    }

    /// Who has to act before it can end well; `None` where nobody has to.
    pub fn waits_for(&self) -> Option<Actor> {
        match &self.state {
            RefreshState::Failed { failure, .. } => Some(failure.actor),
            RefreshState::TimedOut { failure } => Some(failure.as_ref().map_or(Actor::Microsoft, |f| f.actor)),
            RefreshState::HandedOver { .. } => Some(Actor::Customer),
            _ => None,
        }
    }

    /// How it ended at `now`, for the deployment to remember; `None` while it goes on, and where nothing was posted to an end.
    pub fn past(&self, now: Timestamp) -> Option<PastRefresh> {
        let result = match &self.state {
            RefreshState::Succeeded { evidence } => PastResult::Succeeded { verified: evidence.is_verified() },
            RefreshState::Failed { failure, .. } => PastResult::Failed { code: failure.code.clone() },
            RefreshState::TimedOut { failure: None } => PastResult::TimedOut,
            _ => return None,
        };
        let Self { version, rollout_id, generation, .. } = *self;
        Some(PastRefresh { version, rollout_id, generation, at: now, result })
    }

    /// Whether the worker that took it may still ask ARM at `now`: nobody else may before that call has ended.
    pub fn may_be_asked(&self, now: Timestamp) -> bool {
        let taken_until = match self.state {
            RefreshState::Submitting { lease_until, .. } => Some(lease_until),
            RefreshState::Running { claimed_until, .. } | RefreshState::Verifying { claimed_until, .. } => {
                claimed_until
            }
            _ => None,
        };
        taken_until.is_some_and(|until| now + CALL <= until)
    }

    /// Whether it has been put off for so long that it ends at the next time.
    pub fn is_out_of_patience(&self, now: Timestamp) -> bool {
        self.queue_deadline.is_some_and(|deadline| deadline <= now)
    }

    fn patience(&self) -> Duration {
        LOST_AFTER * 2u32.pow(self.resend.min(3))
    }
}

impl RefreshState {
    /// Whether the refresh has its result.
    pub fn is_terminal(&self) -> bool {
        !matches!(
            self,
            Self::Queued { .. }
                | Self::Submitting { .. }
                | Self::AwaitingAccess { .. }
                | Self::Running { .. }
                | Self::Verifying { .. }
        )
    }

    /// The state's word in API and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Submitting { .. } => "submitting",
            Self::AwaitingAccess { .. } => "awaitingAccess",
            Self::Running { .. } => "running",
            Self::Verifying { .. } => "verifying",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Canceled => "canceled",
            Self::TimedOut { .. } => "timedOut",
            Self::Skipped { .. } => "skipped",
            Self::HandedOver { .. } => "handedOver",
            Self::Superseded { .. } => "superseded",
        }
    }
}
