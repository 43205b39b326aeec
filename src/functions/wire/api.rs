//! The shapes of the HTTP API (design §8), shared by the functions that answer and the command line that asks.
//!
//! Shapes only: nothing here decides, checks a value against the domain, or talks to anybody. All members are camelCase;
//! what has no value is left out. Whoever reads these ignores members it does not know, so that an older command line
//! can talk to a newer service; only [`PublishRequest`] keeps them, so that the service can refuse them by name.

mod deployments;
mod dry_run;
mod publish;
mod refreshes;

use serde::{Deserialize, Serialize};

use crate::rollout::lint::Finding;
use crate::rollout::{Audience, Changes, Counts, Purpose, RolloutId, Target, Timestamp, Version};

pub use deployments::*;
pub use dry_run::*;
pub use publish::*;
pub use refreshes::*;

/// The media type of [`Problem`] (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// How many items a page has where `top` says nothing.
pub const DEFAULT_TOP: usize = 100;
/// The largest `top`.
pub const MAX_TOP: usize = 1_000;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The items.
    pub value: Vec<T>,
    /// Where the next page is: path and query, relative to the service. None on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_link: Option<String>,
}

/// An error as the API answers it (RFC 9457), with our `errors` where members of the request are wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// What kind of problem: a relative reference such as `/problems/conflict`, or `about:blank`.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The kind in words.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What was wrong this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Every member of the request that is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

/// One member of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldError {
    /// Its name, with dots into objects: `strategy.waves`.
    pub field: String,
    /// What is wrong and what is expected.
    pub why: String,
}

/// The state of a rollout, as the API spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RolloutWord {
    /// It starts when another rollout has ended.
    Waiting,
    /// Its deployments are being counted.
    Planning,
    /// A wave is under way.
    Running,
    /// It waits for a person.
    Paused,
    /// It would fail everywhere.
    Halted,
    /// Every refresh has its result.
    Completed,
    /// It was called off.
    Canceled,
    /// A word of a newer service.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl RolloutWord {
    /// The state for people: everywhere the same word.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Planning => "planning",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Completed => "completed",
            Self::Canceled => "canceled",
            Self::Unknown => "unknown to this version",
        }
    }

    /// Whether nothing more will happen to it.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Canceled)
    }

    /// Whether nothing more will happen until a person acts.
    pub fn is_stopped(self) -> bool {
        matches!(self, Self::Paused | Self::Halted)
    }
}

/// `GET /api/rollouts/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutView {
    /// Its id.
    pub id: RolloutId,
    /// Partner Center's publisher id.
    pub publisher: String,
    /// Partner Center's offer id.
    pub offer: String,
    /// Partner Center's plan id.
    pub plan: String,
    /// The version it brings.
    pub version: Version,
    /// How far the version has come.
    pub target: Target,
    /// Who is to have it.
    pub audience: Audience,
    /// Why.
    pub purpose: Purpose,
    /// Where it stands.
    pub state: RolloutWord,
    /// Why it stands there, where a state has a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What keeps it from posting besides; never there for one that has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_by: Vec<HeldByView>,
    /// What the lint says of the version's actions, the rejected ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lint: Vec<Finding>,
    /// The wave under way, 1-based, the canaries included; 0 while planning.
    pub wave: u32,
    /// How many waves there are.
    pub waves: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How many refreshes stand where.
    pub counts: Counts,
    /// What it changes for its deployments, where the permissions of its version are recorded; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Box<Changes>>,
    /// How many deployments had another version before, as far as that is known; of a scheduled rollout that has completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<u64>,
}

/// What keeps every rollout from posting, whatever its own state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldByView {
    /// `stop`: somebody has stopped everything; `observe`: the service only observes (`MODE`).
    pub by: String,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The answer to `POST /api/stop` and `POST /api/start`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwitchView {
    /// What keeps every rollout from posting now; nothing does if it is empty.
    pub held_by: Vec<HeldByView>,
}

/// One entry of `GET /api/audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditView {
    /// When.
    pub at: Timestamp,
    /// Who: the principal, or the fingerprint of the key; `permafresh` for the service itself.
    pub who: String,
    /// What, such as `rollout.pause`.
    pub what: String,
    /// On what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// How it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How it was after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why, in the words of whoever did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// `done`, `refused`, or `begun`: its end was not noted, so that its effect may or may not have come.
    pub outcome: String,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_only_a_newer_service_knows_is_taken_as_unknown() {
        assert_eq!(serde_json::from_str::<RolloutWord>(r#""teleported""#).unwrap(), RolloutWord::Unknown);
        assert_eq!(serde_json::from_str::<RolloutWord>(r#""halted""#).unwrap().in_words(), "halted");
    }
}
