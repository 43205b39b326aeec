//! The shapes of a refresh: its state in the API's words and in people's, and what became of it.

use serde::{Deserialize, Serialize};

use crate::rollout::{Actor, ApplicationId, Counts, Failure, Refusal, Timestamp, Version, Way};

/// The state of a refresh, as the API spells it: the members of [`Counts`]. `submitting` is `running` here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RefreshWord {
    /// To be posted.
    Queued,
    /// Parked until somebody lets us in.
    AwaitingAccess,
    /// Being posted, or followed.
    Running,
    /// The application is being read.
    Verifying,
    /// The permissions are refreshed.
    Succeeded,
    /// It failed for good.
    Failed,
    /// It was called off.
    Canceled,
    /// The operation never ended.
    TimedOut,
    /// There was nothing to do.
    Skipped,
    /// The customer has to run it.
    HandedOver,
    /// A newer rollout took its place.
    Superseded,
    /// A word of a newer service.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl RefreshWord {
    /// Every word the API has.
    pub const ALL: [Self; 11] = [
        Self::Queued,
        Self::AwaitingAccess,
        Self::Running,
        Self::Verifying,
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
        Self::TimedOut,
        Self::Skipped,
        Self::HandedOver,
        Self::Superseded,
    ];

    /// The word as `?state=` takes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::AwaitingAccess => "awaitingAccess",
            Self::Running => "running",
            Self::Verifying => "verifying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::TimedOut => "timedOut",
            Self::Skipped => "skipped",
            Self::HandedOver => "handedOver",
            Self::Superseded => "superseded",
            Self::Unknown => "unknown",
        }
    }

    /// The state for people: everywhere the same words.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::AwaitingAccess => "awaiting access",
            Self::TimedOut => "timed out",
            Self::HandedOver => "handed over",
            Self::Unknown => "unknown to this version",
            other => other.word(),
        }
    }

    /// How many refreshes are in each state, in the order in which people are told.
    pub fn in_order_of_telling(counts: &Counts) -> [(Self, u64); 11] {
        [
            (Self::Succeeded, counts.succeeded),
            (Self::Failed, counts.failed),
            (Self::TimedOut, counts.timed_out),
            (Self::HandedOver, counts.handed_over),
            (Self::Skipped, counts.skipped),
            (Self::Canceled, counts.canceled),
            (Self::Superseded, counts.superseded),
            (Self::AwaitingAccess, counts.awaiting_access),
            (Self::Verifying, counts.verifying),
            (Self::Running, counts.running),
            (Self::Queued, counts.queued),
        ]
    }

    /// The state that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// One deployment within a rollout: an item of `GET /api/rollouts/{id}/refreshes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefreshView {
    /// The deployment.
    pub application_id: ApplicationId,
    /// Where it stands.
    pub state: RefreshWord,
    /// Why there was nothing to do, what it waits for, or which rollout took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How ARM was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// The version it is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The version it had before, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_before: Option<Version>,
    /// The wave it belongs to, 1-based.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<u32>,
    /// How often it was posted.
    pub attempts: u32,
    /// How often ARM was asked about the operation.
    pub polls: u32,
    /// 0 to 100, as ARM said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent_complete: Option<f64>,
    /// Whether the application was read after success and is in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// Why it failed, or what was met last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorView>,
    /// The ways that were refused, in the order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<RefusalView>,
    /// What Azure's support and the activity log know it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// When ARM accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// When it is looked at next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_look: Option<Timestamp>,
    /// When its maintenance window opens, where it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<Timestamp>,
    /// What the customer has to run, quoted for bash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The same, quoted for PowerShell.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "commandPowerShell")]
    pub command_powershell: Option<String>,
    /// How the customer reads what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultView>,
}

/// How a customer reads the result of a command that was handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultView {
    /// In words.
    pub how: String,
    /// What reads it, for bash; `URL` stands for the URL of the answer's header.
    pub command: String,
    /// The same for PowerShell.
    #[serde(rename = "commandPowerShell")]
    pub command_powershell: String,
    /// How long it takes at most, as a rule, in minutes.
    pub expected_minutes: u64,
}

/// A way that was refused, and what was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusalView {
    /// The way.
    pub way: Way,
    /// Azure's error code, or ours.
    pub code: String,
    /// The message.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

impl From<&Refusal> for RefusalView {
    fn from(Refusal { way, error, at, gate: _ }: &Refusal) -> Self {
        Self { way: *way, code: error.code.clone(), message: error.message.clone(), at: *at }
    }
}

/// Who has to act on a failure, and on what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorView {
    /// Who has to act.
    pub actor: Actor,
    /// Azure's error code, or ours.
    pub code: String,
    /// The message.
    pub message: String,
}

impl From<Failure> for ErrorView {
    fn from(Failure { actor, code, message }: Failure) -> Self {
        Self { actor, code, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_refresh_are_the_members_of_the_counts() {
        let counts = serde_json::to_value(Counts::default()).unwrap();
        let mut words: Vec<_> = counts.as_object().unwrap().keys().map(String::as_str).collect();
        words.retain(|word| *word != "total");
        for state in RefreshWord::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
            assert_eq!(RefreshWord::from_word(state.word()), Some(state));
            assert!(words.contains(&state.word()), "{}", state.word());
        }
        assert_eq!(words.len(), RefreshWord::ALL.len());
        assert_eq!(serde_json::from_str::<RefreshWord>(r#""teleported""#).unwrap(), RefreshWord::Unknown);
        let told = RefreshWord::in_order_of_telling(&Counts { succeeded: 3, timed_out: 2, ..Counts::default() });
        assert!(RefreshWord::ALL.iter().all(|state| told.iter().any(|(one, _)| one == state)));
        assert_eq!(
            told.into_iter().filter(|(_, count)| *count > 0).map(|(_, count)| count).collect::<Vec<_>>(),
            [3, 2]
        );
    }
}
