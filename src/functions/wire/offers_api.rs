//! The shapes of `GET /api/offers`, shared by the function that answers and the command line that asks.

use serde::{Deserialize, Serialize};

use crate::rollout::Version;
use crate::rollout::watch::{OfferWatch, Seen};

/// One offer of the settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferView {
    /// Partner Center's publisher id.
    pub publisher: String,
    /// Partner Center's offer id.
    pub offer: String,
    /// How it stands with watching it: the last look, its trouble, the submissions in Partner Center's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<OfferWatch>,
    /// Its plans.
    pub plans: Vec<PlanView>,
}

/// One plan of an offer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// Partner Center's plan id.
    pub plan: String,
    /// What every deployment should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_version: Option<Version>,
    /// The highest version seen at sign-off, and what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Seen>,
    /// The highest version seen live, and what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Seen>,
    /// The published versions whose permissions are recorded.
    pub versions: Vec<Version>,
    /// Those that allow more than the wanted version, and that any customer may set itself to; absent where that cannot be
    /// told, since the permissions of the wanted version are not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wider: Option<Vec<WiderView>>,
    /// Records of versions that cannot be read back: whether these are wider cannot be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// A published version that allows more than the wanted one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WiderView {
    /// The version.
    pub version: Version,
    /// What it allows that the wanted one does not.
    pub allows: Vec<String>,
}
