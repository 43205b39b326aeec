//! What was asked of the simulator, call by call, for tests that judge a whole run: who was asked for, when, how much too
//! early, and whether the caller heard of it. Keeps; judges nothing.

use std::time::Duration;

use crate::rollout::{ApplicationId, Timestamp};

/// A call for one application that came with a good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The application.
    pub application: ApplicationId,
    /// What was asked.
    pub what: Question,
    /// When, by the simulator's clock.
    pub at: Timestamp,
    /// How much earlier it came than the answer before had allowed.
    pub early_by: Duration,
    /// Whether an answer was sent.
    pub is_answered: bool,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `refreshPermissions`.
    Post {
        /// The number of the operation that it started, which begins the operation's name in hexadecimal.
        operation: Option<u32>,
    },
    /// A look at an operation.
    Poll {
        /// The operation's number.
        operation: u32,
    },
}
