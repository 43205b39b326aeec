//! What is known of one deployment, and how a newer fact changes it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::openness::{self, Hold, MaintenanceWindow};
use super::{ApplicationId, DeploymentKey, Plan, RolloutId, Timestamp, Version};

/// How long a deployment that is gone is remembered (design §2).
pub const TOMBSTONE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How many looks a check takes before it leaves the deployment as it is.
pub const CHECK_LOOKS: u32 = 5;

/// One managed application in a customer's subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Its key.
    pub key: DeploymentKey,
    /// Its ARM id.
    pub application_id: ApplicationId,
    /// Its plan; none for a service-catalog application.
    pub plan: Option<Plan>,
    /// Whether it is a preview purchase.
    pub preview: bool,
    /// The version it was deployed with, as Azure spells it.
    pub version: Option<String>,
    /// `MarketPlace` or `ServiceCatalog`, as Azure spells it.
    pub kind: Option<String>,
    /// The customer's tenant, where known.
    pub tenant_id: Option<String>,
    /// The managed resource group's id, where known.
    pub managed_resource_group_id: Option<String>,
    /// Its region, where known.
    pub location: Option<String>,
    /// `provisioningState` as it was last spelt.
    pub provisioning_state: Option<String>,
    /// Whether that state is what a notification claims and ARM has not said yet.
    #[serde(default)]
    pub state_is_claimed: bool,
    /// Whether ARM, or an operator's import, has said that it exists.
    pub confirmed: bool,
    /// `eventTime` of the newest notification.
    pub event_time: Option<Timestamp>,
    /// What the newest notification said failed.
    pub event_error: Option<String>,
    /// The check that is under way, if any.
    pub check: Option<Check>,
    /// Since when it is gone; forgotten 90 days later.
    pub gone_since: Option<Timestamp>,
    /// The last version a refresh succeeded with.
    pub applied: Option<Applied>,
    /// Somebody's word that it is not to be touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// When it may be refreshed; at any time if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance_windows: Vec<MaintenanceWindow>,
    /// When it was first heard of.
    pub created_at: Timestamp,
    /// When anything about it last changed.
    pub updated_at: Timestamp,
}

/// A look at ARM that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// When, or later if its message was lost.
    pub due: Timestamp,
    /// Looks made so far.
    pub looks: u32,
    /// Grows with every message sent for a check of this deployment: part of its id.
    pub message: u32,
}

/// A version that a refresh brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The version.
    pub version: Version,
    /// The rollout that brought it.
    pub rollout_id: RolloutId,
    /// When.
    pub at: Timestamp,
}

/// What the registry makes of `provisioningState` (contracts/arm.md §1.3, §3.1). An unknown word is taken as ready,
/// since ARM itself has the last word at the POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can be refreshed.
    Ready,
    /// Its deployment is not done, or failed.
    NotReady,
    /// It is going, or gone.
    Leaving,
    /// A notification claims that it is going, and ARM is being asked.
    Uncertain,
}

impl Deployment {
    /// A deployment of which nothing but the id is known.
    pub fn new(application_id: ApplicationId, now: Timestamp) -> Self {
        Self {
            key: application_id.key(),
            application_id,
            plan: None,
            preview: false,
            version: None,
            kind: None,
            tenant_id: None,
            managed_resource_group_id: None,
            location: None,
            provisioning_state: None,
            state_is_claimed: false,
            confirmed: false,
            event_time: None,
            event_error: None,
            check: None,
            gone_since: None,
            applied: None,
            hold: None,
            maintenance_windows: Vec::new(),
            created_at: now,
            updated_at: now,
        }
    }

    /// Whether it can be refreshed, as far as we know.
    pub fn readiness(&self) -> Readiness {
        if self.gone_since.is_some() {
            return Readiness::Leaving;
        }
        match self.provisioning_state.as_deref().map(str::to_ascii_lowercase).as_deref() {
            // Whoever knows `sig` can claim anything; where ARM cannot be asked, the POST will tell.
            Some("deleting" | "deleted") if self.state_is_claimed => {
                if self.check.is_some() {
                    Readiness::Uncertain
                } else {
                    Readiness::Ready
                }
            }
            Some("deleting" | "deleted") => Readiness::Leaving,
            Some("accepted" | "creating" | "failed" | "canceled" | "cancelled") => Readiness::NotReady,
            _ => Readiness::Ready,
        }
    }

    /// Whether somebody holds it.
    pub fn is_on_hold(&self, now: Timestamp) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.is_on(now))
    }

    /// When its next maintenance window opens, if it has some and all are closed.
    pub fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        openness::opens_at(&self.maintenance_windows, now)
    }

    /// Asks for a look at ARM at `due`; a check that is under way starts over.
    pub fn ask_check(&mut self, due: Timestamp) {
        let message = self.check.as_ref().map_or(0, |check| check.message) + 1;
        self.check = Some(Check { due, looks: 0, message });
    }

    /// The id of the message for the check that is under way.
    pub fn check_message_id(&self) -> Option<String> {
        let check = self.check.as_ref()?;
        Some(format!("{}:check:{}:{}:{}", self.key, check.due.timestamp_millis(), check.looks, check.message))
    }
}
