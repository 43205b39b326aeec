//! The shapes of the HTTP API that are about deployments: the registry, imports, and what they could go back to.

use std::fmt;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{RefreshView, RefreshWord, RefusalView, RolloutWord};
use crate::rollout::{
    ApplicationId, DeploymentKey, Hold, JitTerms, MaintenanceWindow, RolloutId, Timestamp, Version, Way,
};

/// One deployment: an item of `GET /api/deployments`, and the first part of `GET /api/deployments/{key}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentView {
    /// Its key.
    pub key: DeploymentKey,
    /// Its ARM id.
    pub application_id: ApplicationId,
    /// Partner Center's publisher id; none for a service-catalog application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// Partner Center's offer id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<String>,
    /// Partner Center's plan id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Whether it is a preview purchase.
    pub preview: bool,
    /// The version it was deployed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `MarketPlace` or `ServiceCatalog`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The customer's tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// The managed resource group's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_resource_group_id: Option<String>,
    /// Its region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// `provisioningState` as Azure spelt it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning_state: Option<String>,
    /// Whether ARM, or an import, has said that it exists.
    pub confirmed: bool,
    /// Since when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_since: Option<Timestamp>,
    /// The last version a refresh succeeded with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedView>,
    /// Whether, and why, it is not to be touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// When it may be refreshed; at any time if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance_windows: Vec<MaintenanceWindow>,
    /// What the customer has set for just-in-time access, where Azure has shown it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jit: Option<JitTerms>,
    /// `managementMode`; where it is `Unmanaged` the plan gives its publisher no access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_mode: Option<String>,
    /// What is remembered of the ways to it, while that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ways: Option<WaysView>,
    /// What its refreshes came to, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastView>,
    /// When it was first heard of.
    pub created_at: Timestamp,
    /// When anything about it last changed.
    pub updated_at: Timestamp,
}

/// One deployment in full: `GET /api/deployments/{key}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentDetail {
    /// The deployment.
    #[serde(flatten)]
    pub deployment: DeploymentView,
    /// The version that the deployments of its plan should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_version: Option<Version>,
    /// What becomes of it in the newest rollout that it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_refresh: Option<LatestRefreshView>,
    /// What does by hand what that refresh failed to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<CommandView>,
}

/// A refresh, and the rollout that it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatestRefreshView {
    /// The rollout.
    pub rollout_id: RolloutId,
    /// Where that stands.
    pub rollout_state: RolloutWord,
    /// The refresh.
    #[serde(flatten)]
    pub refresh: RefreshView,
}

/// A command for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandView {
    /// Quoted for bash.
    pub command: String,
    /// Quoted for PowerShell.
    #[serde(rename = "commandPowerShell")]
    pub command_powershell: String,
}

/// A version that a refresh brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedView {
    /// The version.
    pub version: Version,
    /// The rollout that brought it.
    pub rollout_id: RolloutId,
    /// When.
    pub at: Timestamp,
}

/// What is remembered of the ways to a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaysView {
    /// The way that is tried first, since it worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worked: Option<Way>,
    /// The ways that are tried last, since they were refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusalView>,
}

/// How one refresh of a deployment ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PastView {
    /// The version it was to bring.
    pub version: Version,
    /// The rollout it belonged to.
    pub rollout_id: RolloutId,
    /// When it ended.
    pub at: Timestamp,
    /// How: `succeeded`, `failed` or `timedOut`.
    pub result: RefreshWord,
    /// Whether the application was read afterwards and is in order; where it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// The error's code; where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// The answer to `GET /api/rollouts/{id}/last-good`: what the deployments could go back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastGoodView {
    /// The version of the rollout: the one to get away from.
    pub bad_version: Version,
    /// The other version that most deployments last succeeded with; of two equals the newer one. None where none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// How many deployments the plan has.
    pub deployments: u64,
    /// How many of them last succeeded with the bad version.
    pub with_bad_version: u64,
    /// How many never succeeded with any other version.
    pub without_other: u64,
    /// Each version that some last succeeded with, the most frequent first.
    pub versions: Vec<GoodVersion>,
}

/// A version that some deployments last succeeded with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GoodVersion {
    /// The version.
    pub version: Version,
    /// How many deployments.
    pub deployments: u64,
    /// When the last of them succeeded with it.
    pub last_succeeded_at: Timestamp,
}

/// One row of `PUT /api/deployments`, JSON or CSV; unknown columns are ignored, values are checked by the function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentRow {
    /// The ARM id; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_id: Option<String>,
    /// Partner Center's publisher id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// Partner Center's offer id, with or without `-preview`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<String>,
    /// Partner Center's plan id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The version it was deployed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether it is a preview purchase: a boolean, or such a word in CSV.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "preview_word")]
    pub preview: Option<bool>,
    /// `false` where nobody vouches for it, as exports say of what only a notification has named: ARM is asked then.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "confirmed_word")]
    pub confirmed: Option<bool>,
    /// The customer's tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// The managed resource group's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_resource_group_id: Option<String>,
    /// Its region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// When it may be refreshed: an array of windows, or such an array as text in CSV. An empty one lifts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance_windows: Option<Value>,
}

/// The answer to `PUT /api/deployments`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportResult {
    /// How many deployments are new.
    pub imported: u64,
    /// How many were known.
    pub updated: u64,
    /// Which rows were not taken.
    pub rejected: Vec<RejectedRow>,
}

/// A row that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RejectedRow {
    /// The line of the CSV file (its head is line 1), or the 1-based place in the JSON array.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

fn preview_word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    boolean_or_word("preview", deserializer)
}

fn confirmed_word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    boolean_or_word("confirmed", deserializer)
}

fn boolean_or_word<'de, D: Deserializer<'de>>(name: &str, deserializer: D) -> Result<Option<bool>, D::Error> {
    struct BooleanOrWord;

    impl<'de> Visitor<'de> for BooleanOrWord {
        type Value = Option<bool>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true or false")
        }

        fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
            Ok(Some(value))
        }

        fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Self::Value, E> {
            match word.trim().to_ascii_lowercase().as_str() {
                "" => Ok(None),
                "true" => Ok(Some(true)),
                "false" => Ok(Some(false)),
                _ => Err(E::custom("neither true nor false")),
            }
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }

    deserializer.deserialize_any(BooleanOrWord).map_err(|error| D::Error::custom(format!("{name}: {error}")))
}
