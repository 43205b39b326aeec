//! What ARM's answers mean, after the edge that met them has classified them once (contracts/arm.md §2.4).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::refresh::Gate;
use super::{RemoteError, Timestamp};

/// A polling URL: a capability, kept byte for byte and never shown with its query (contracts/arm.md §2.2).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PollingUrl(String);

impl PollingUrl {
    /// Wraps the value of a header, unchanged.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The very bytes that ARM sent.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PollingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.split(['?', '#']).next().unwrap_or_default())
    }
}

/// Which header named the URL; its answers are read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Monitor {
    /// `Azure-AsyncOperation`: always 200, the body's `status` decides.
    AsyncOperation,
    /// `Location`: 202 while running, then the final answer.
    Location,
}

/// ARM's long-running operation behind a refresh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Where to ask.
    pub url: PollingUrl,
    /// How to read what is answered there.
    pub monitor: Monitor,
    /// `Location`, where `Azure-AsyncOperation` was there too: asked once the first is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<PollingUrl>,
    /// The wait ARM named last, in seconds; repeated where an answer names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_wait_seconds: Option<u64>,
}

/// What ARM answered to `refreshPermissions`, or why it could not be asked by the way that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitAnswer {
    /// 201 or 202 with a monitor.
    Accepted {
        /// The operation to follow.
        operation: Operation,
        /// The first wait, if ARM named one.
        wait: Option<Duration>,
    },
    /// 200 or 204, or 201/202 without a monitor: to be judged by reading the application.
    NoMonitor,
    /// 408, 409, 429, 5xx or no answer: try again.
    Retry {
        /// What was answered.
        error: RemoteError,
        /// The wait ARM named.
        wait: Option<Duration>,
    },
    /// 401 for another tenant, 403, 404 SubscriptionNotFound: this way is closed until somebody acts.
    Refused {
        /// What was answered.
        error: RemoteError,
    },
    /// This way is closed until somebody opens a gate; ARM was not called.
    Gated {
        /// What keeps us out.
        error: RemoteError,
        /// What would open it.
        gate: Gate,
    },
    /// This way is being opened: it is waited for before any other is tried; ARM was not called.
    Opening {
        /// What it waits for.
        gate: Gate,
        /// When to look first.
        next_look: Timestamp,
        /// When to give up.
        deadline: Timestamp,
    },
    /// Any other 404: the application may be gone.
    NotFound {
        /// What was answered.
        error: RemoteError,
    },
    /// Any other 4xx: repeating it changes nothing.
    Rejected {
        /// What was answered.
        error: RemoteError,
    },
}

/// What ARM answered to a look at the operation.
#[derive(Clone, Debug, PartialEq)]
pub enum PollAnswer {
    /// The operation succeeded.
    Succeeded,
    /// The operation failed.
    Failed {
        /// The operation's own error.
        error: RemoteError,
    },
    /// The operation was canceled.
    Canceled,
    /// It goes on: any other status word, or 202.
    Running {
        /// 0 to 100, if ARM says.
        percent: Option<f64>,
        /// The wait of this answer.
        wait: Option<Duration>,
        /// A newer `Location`, if the monitor is one and the answer names it.
        moved: Option<PollingUrl>,
    },
    /// Nothing could be learned: no JSON, no status, 429, 5xx, no answer, or a URL that must not be asked.
    Unreadable {
        /// Why.
        error: RemoteError,
        /// The wait ARM named.
        wait: Option<Duration>,
    },
    /// 404 or 410: the record is gone.
    Gone,
    /// 401 or 403: we may not look; the operation itself may still succeed.
    AccessLost {
        /// What was answered.
        error: RemoteError,
    },
}

/// What reading the application itself showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadAnswer {
    /// It is there, at rest, and in order.
    Ready,
    /// It is there, and something is under way (Accepted, Running, Updating, …, or a word we do not know).
    Busy {
        /// `provisioningState` as it was spelt.
        provisioning_state: String,
    },
    /// It is there and its last operation failed or was canceled.
    Broken {
        /// `provisioningState` as it was spelt.
        provisioning_state: String,
    },
    /// It is being deleted, or was.
    Deleting,
    /// 404.
    NotFound,
    /// 401 or 403, 429, 5xx, no answer, no JSON.
    Unreadable {
        /// Why.
        error: RemoteError,
        /// The wait ARM named.
        wait: Option<Duration>,
    },
}
