//! The shapes of a dry run: who would be called, and who would be skipped.

use serde::{Deserialize, Serialize};

use super::HeldByView;
use crate::rollout::lint::Finding;
use crate::rollout::{ApplicationId, Timestamp, Version, Way};

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
