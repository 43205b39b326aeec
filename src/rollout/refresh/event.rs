//! What may happen to a refresh. What becomes of it then is said by `transition`.

use crate::rollout::{PollAnswer, ReadAnswer, RemoteError, RolloutId, SubmitAnswer, Timestamp};

use super::{Evidence, SkipReason};

/// What may happen to a refresh.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// There is a free place for it.
    Release,
    /// Its rollout does not go on: it gives its place back.
    PutBack,
    /// The same, said by the worker that has it and has not posted it.
    Withdraw,
    /// It may not be posted before this time.
    Delay {
        /// The time.
        until: Timestamp,
    },
    /// It may only be posted in a maintenance window.
    AwaitWindow {
        /// When the next one opens.
        opens_at: Timestamp,
    },
    /// The message for its next step was delivered again and again, and is dead.
    DeadLettered {
        /// What the queue says.
        reason: String,
    },
    /// A worker takes it.
    Submit,
    /// ARM answered the POST (or did not).
    Answered {
        /// The answer.
        answer: SubmitAnswer,
        /// `x-ms-correlation-request-id` of the answer.
        correlation_id: Option<String>,
    },
    /// A worker takes the look that is due.
    Claim,
    /// ARM answered the look.
    Polled(PollAnswer),
    /// ARM answered the reading of the application.
    Read(ReadAnswer),
    /// The gate it waits at will not open.
    GateClosed {
        /// Why.
        error: RemoteError,
    },
    /// The timer found it past its time.
    Overdue,
    /// It is called off.
    Cancel,
    /// A newer rollout takes its place.
    Supersede {
        /// Which.
        by: RolloutId,
    },
    /// There is nothing to do.
    Skip {
        /// Why.
        why: SkipReason,
    },
    /// A person wants it tried again.
    Retry,
    /// The deployment has come (back) since it ended: what it ended with says nothing any more.
    Rejoin,
    /// The customer has run what was handed over.
    CustomerRan {
        /// What says so.
        evidence: Evidence,
    },
}

/// An event that makes no sense in the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a refresh that is {state} cannot take the event {event}")]
pub struct IllegalEvent {
    /// The state's name.
    pub state: &'static str,
    /// The event's name.
    pub event: &'static str,
}

impl Event {
    /// The event's word in errors and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::PutBack => "putBack",
            Self::Withdraw => "withdraw",
            Self::Delay { .. } => "delay",
            Self::AwaitWindow { .. } => "awaitWindow",
            Self::DeadLettered { .. } => "deadLettered",
            Self::Submit => "submit",
            Self::Answered { .. } => "answered",
            Self::Claim => "claim",
            Self::Polled(_) => "polled",
            Self::Read(_) => "read",
            Self::GateClosed { .. } => "gateClosed",
            Self::Overdue => "overdue",
            Self::Cancel => "cancel",
            Self::Supersede { .. } => "supersede",
            Self::Skip { .. } => "skip",
            Self::Retry => "retry",
            Self::Rejoin => "rejoin",
            Self::CustomerRan { .. } => "customer ran",
        }
    }
}
