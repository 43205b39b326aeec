//! The shapes of the HTTP API (design §8), shared by the functions that answer and the command line that asks.
//!
//! Shapes only: nothing here decides, checks a value against the domain, or talks to anybody. All members are camelCase;
//! what has no value is left out. Whoever reads these ignores members it does not know, so that an older command line
//! can talk to a newer service; only [`PublishRequest`] keeps them, so that the service can refuse them by name.

mod deployments;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rollout::lint::Finding;
use crate::rollout::{
    Actor, ApplicationId, Audience, Changes, Counts, Failure, Purpose, Refusal, RolloutId, Target, Timestamp, Version,
    Way,
};

pub use deployments::*;

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

/// The body of `POST /api/offer-publishes` and `POST /api/rollouts`, as it came.
///
/// Any JSON object parses: values are kept raw and unknown members are kept in [`PublishRequest::unknown`], so that one
/// answer can name every bad member instead of the first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PublishRequest {
    /// Partner Center's publisher id; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<Value>,
    /// Partner Center's offer id; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<Value>,
    /// Partner Center's plan id; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Value>,
    /// The package version, `a.b.c`; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Value>,
    /// `preview` or `live`; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Value>,
    /// `preview` or `all`; by default `preview` for the target preview and `all` for live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<Value>,
    /// Partner Center's submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submission_id: Option<Value>,
    /// When Partner Center published it, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_at: Option<Value>,
    /// `rollOut` (default), `repair` or `restore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Value>,
    /// Whether it may end a rollout of another version that is on its way; `false` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supersede: Option<Value>,
    /// A [`crate::rollout::Strategy`]; by default the offer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Value>,
    /// `{"applicationIds": []}`: only these deployments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Value>,
    /// A person's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<Value>,
    /// What the version allows, for the lint: `{"allowedCustomerActions": [], "allowedDataActions": []}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Value>,
    /// Members that the API does not have: each of them is an error.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

/// The answer to `POST /api/offer-publishes/lint`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LintResult {
    /// Whether a rollout of this version would be parked.
    pub rejected: bool,
    /// What the lint says, the rejected entries first.
    pub findings: Vec<Finding>,
}

/// The answer to `POST /api/offer-publishes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishAccepted {
    /// The rollout that brings it out.
    pub rollout_id: RolloutId,
    /// The key by which the same publish is known again.
    pub idempotency_key: String,
    /// The rollout of the first arrival, where this was not the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<RolloutId>,
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
            Self::Unknown => "unknown here",
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
            Self::Unknown => "unknown here",
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

/// The answer to `POST /api/rollouts?dryRun=true`: who would be called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// The version they would be called with.
    pub version: Version,
    /// What keeps every rollout from posting now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_by: Vec<HeldByView>,
    /// Why the publish itself would be refused now, if it would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The deployments that would be called, in the order of their waves.
    pub called: Vec<DryRunCall>,
    /// The deployments that would not be called.
    pub skipped: Vec<DryRunSkip>,
    /// What the lint says of the version's actions, the rejected ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lint: Vec<Finding>,
}

/// A deployment that a rollout would call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRunCall {
    /// The deployment.
    pub application_id: ApplicationId,
    /// In which wave, 1-based.
    pub wave: u32,
    /// When its maintenance window opens, if it has one that is closed now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<Timestamp>,
    /// The version it would be called with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The version it has, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_before: Option<Version>,
    /// The way that would be tried first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// What the customer would have to run where nobody else may, quoted for bash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The same, quoted for PowerShell.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "commandPowerShell")]
    pub command_powershell: Option<String>,
}

/// A deployment that a rollout would skip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRunSkip {
    /// The deployment.
    pub application_id: ApplicationId,
    /// Why.
    pub why: String,
    /// The version it has, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_before: Option<Version>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_object_is_a_publish_request_and_its_unknown_members_are_kept() {
        let request: PublishRequest =
            serde_json::from_str(r#"{"publisher": 7, "version": null, "vesion": "1.4.0", "scope": []}"#).unwrap();
        assert_eq!(request.publisher, Some(Value::from(7)));
        assert_eq!(request.version, None);
        assert_eq!(request.scope, Some(Value::from(Vec::<Value>::new())));
        assert_eq!(request.unknown.keys().collect::<Vec<_>>(), ["vesion"]);
        assert!(serde_json::from_str::<PublishRequest>("[]").is_err());
        assert_eq!(serde_json::to_string(&PublishRequest::default()).unwrap(), "{}");
    }

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
        assert_eq!(serde_json::from_str::<RolloutWord>(r#""teleported""#).unwrap(), RolloutWord::Unknown);
    }
}
