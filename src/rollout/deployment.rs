//! What is known of one deployment, and how a newer fact changes it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::openness::{self, Hold, MaintenanceWindow};
use super::{ApplicationId, DeploymentKey, JitTerms, KnownWays, Plan, RolloutId, Timestamp, Version};

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
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "openness::stored")]
    pub maintenance_windows: Vec<MaintenanceWindow>,
    /// What its refreshes came to, the oldest first; at most [`HISTORY`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastRefresh>,
    /// `managementMode` as ARM spells it; where it is `Unmanaged` the publisher has no access of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_mode: Option<String>,
    /// What the customer has set for just-in-time access, where ARM has shown it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jit: Option<JitTerms>,
    /// What is remembered of the ways to it.
    #[serde(default, skip_serializing_if = "KnownWays::is_empty")]
    pub ways: KnownWays,
    /// When it was first heard of.
    pub created_at: Timestamp,
    /// When anything about it last changed.
    pub updated_at: Timestamp,
}

/// How many ends of refreshes a deployment remembers.
pub const HISTORY: usize = 20;

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
    /// Whether the one before the next look was told that it is gone, by ARM or by a notification; a second word is asked for.
    #[serde(default)]
    pub seems_gone: bool,
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

/// How one refresh of a deployment ended: what it was to bring, whether it did, and who says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PastRefresh {
    /// The version it was to bring.
    pub version: Version,
    /// The rollout it belonged to.
    pub rollout_id: RolloutId,
    /// Which try of that rollout: grows with every `retry`.
    pub generation: u32,
    /// When it ended.
    pub at: Timestamp,
    /// How.
    pub result: PastResult,
}

/// How a refresh ended that was posted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum PastResult {
    /// It succeeded.
    Succeeded {
        /// Whether the application was read afterwards and is in order.
        verified: bool,
    },
    /// It failed.
    Failed {
        /// The error's code.
        code: String,
    },
    /// Its operation never ended.
    TimedOut,
}

impl PastRefresh {
    /// Whether it brought its version.
    pub fn has_succeeded(&self) -> bool {
        matches!(self.result, PastResult::Succeeded { .. })
    }
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
            history: Vec::new(),
            management_mode: None,
            jit: None,
            ways: KnownWays::default(),
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

    /// Whether the plan gives the publisher no access to it: then only a delegation or the customer lets us in.
    pub fn is_unmanaged(&self) -> bool {
        self.management_mode.as_deref().is_some_and(|mode| mode.eq_ignore_ascii_case("Unmanaged"))
    }

    /// Whether somebody holds it.
    pub fn is_on_hold(&self, now: Timestamp) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.is_on(now))
    }

    /// When its next maintenance window opens, if it has some and all are closed.
    pub fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        openness::opens_at(&self.maintenance_windows, now)
    }

    /// Notes how a refresh ended; whether that was news. The same end twice changes nothing, a success takes the place
    /// of another end of the same try, and an older success does not take the place of a newer one. The last success of
    /// each version is forgotten last, since a repair looks for it.
    pub fn note_past(&mut self, past: &PastRefresh) -> bool {
        let is_known = |known: &PastRefresh| (known.rollout_id, known.generation) == (past.rollout_id, past.generation);
        match self.history.iter().position(is_known) {
            // It was noted before the refresh itself could be written, which was then posted again.
            Some(at) if past.has_succeeded() && !self.history[at].has_succeeded() => _ = self.history.remove(at),
            Some(_) => return false,
            None => {}
        }
        let place = self.history.partition_point(|known| known.at <= past.at);
        self.history.insert(place, past.clone());
        if self.history.len() > HISTORY {
            let is_last_success = |at: usize| {
                let this = &self.history[at];
                this.has_succeeded()
                    && !self.history[at + 1..]
                        .iter()
                        .any(|later| later.has_succeeded() && later.version == this.version)
            };
            let oldest = (0..self.history.len()).find(|at| !is_last_success(*at)).unwrap_or(0);
            self.history.remove(oldest);
        }
        if past.has_succeeded() && self.applied.as_ref().is_none_or(|applied| applied.at <= past.at) {
            let PastRefresh { version, rollout_id, at, .. } = *past;
            self.applied = Some(Applied { version, rollout_id, at });
        }
        true
    }

    /// The version it has as far as anybody can know: the last one that a refresh brought, else the one it was deployed with.
    /// Azure does not tell which one a customer has set since (contracts/arm.md §1.2).
    pub fn known_version(&self) -> Option<Version> {
        let deployed = || self.version.as_deref().and_then(|version| version.parse().ok());
        self.applied.as_ref().map(|applied| applied.version).or_else(deployed)
    }

    /// The last success with another version than `bad`: what it may go back to.
    pub fn last_good_before(&self, bad: Version) -> Option<&PastRefresh> {
        self.history.iter().rev().find(|past| past.has_succeeded() && past.version != bad)
    }

    /// Whether it has this version: a refresh brought it last, or it was deployed with it and no refresh came since.
    pub fn has(&self, version: Version) -> bool {
        match &self.applied {
            Some(applied) => applied.version == version,
            None => self.version.as_deref().and_then(|text| text.parse().ok()) == Some(version),
        }
    }

    /// Asks for a look at ARM at `due`; a check that is under way starts over.
    pub fn ask_check(&mut self, due: Timestamp) {
        let message = self.check.as_ref().map_or(0, |check| check.message) + 1;
        self.check = Some(Check { due, looks: 0, message, seems_gone: false });
    }

    /// The id of the message for the check that is under way.
    pub fn check_message_id(&self) -> Option<String> {
        let check = self.check.as_ref()?;
        Some(format!("{}:check:{}:{}:{}", self.key, check.due.timestamp_millis(), check.looks, check.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn past(number: u32, version: &str, result: PastResult) -> PastRefresh {
        PastRefresh {
            version: version.parse().unwrap(),
            rollout_id: RolloutId(Uuid::from_u128(u128::from(number))),
            generation: 0,
            at: Timestamp::from_timestamp(1_767_225_600 + i64::from(number), 0).unwrap(),
            result,
        }
    }

    fn deployment() -> Deployment {
        let id = "/subscriptions/a1000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger";
        Deployment::new(id.parse().unwrap(), Timestamp::UNIX_EPOCH)
    }

    const SUCCEEDED: PastResult = PastResult::Succeeded { verified: true };

    #[test]
    fn history_is_in_order_of_time_and_only_a_newer_success_is_what_was_applied_last() {
        let mut deployment = deployment();
        assert!(deployment.note_past(&past(2, "1.5.0", SUCCEEDED)));
        assert!(deployment.note_past(&past(1, "1.4.0", SUCCEEDED)));
        assert!(deployment.note_past(&past(3, "1.6.0", PastResult::TimedOut)));
        assert!(!deployment.note_past(&past(2, "1.5.0", SUCCEEDED)), "the same end again");
        let versions: Vec<_> = deployment.history.iter().map(|past| past.version.to_string()).collect();
        assert_eq!(versions, ["1.4.0", "1.5.0", "1.6.0"]);
        assert_eq!(deployment.applied.as_ref().unwrap().version.to_string(), "1.5.0");
        let good = |bad: &str| deployment.last_good_before(bad.parse().unwrap()).map(|past| past.version.to_string());
        assert_eq!((good("1.5.0").as_deref(), good("1.6.0").as_deref()), (Some("1.4.0"), Some("1.5.0")));
    }

    #[test]
    fn a_success_counts_although_another_end_of_the_same_try_was_noted_before() {
        let mut deployment = deployment();
        let failed = PastResult::Failed { code: "PolicyViolation".into() };
        assert!(deployment.note_past(&past(1, "1.5.0", failed.clone())));
        let succeeded = PastRefresh { at: past(2, "1.5.0", SUCCEEDED).at, ..past(1, "1.5.0", SUCCEEDED) };
        assert!(deployment.note_past(&succeeded), "its refresh could not be written at first, and was posted again");
        assert_eq!((deployment.history.len(), deployment.applied.as_ref().unwrap().at), (1, succeeded.at));
        assert!(!deployment.note_past(&past(1, "1.5.0", failed)), "and no late failure takes it back");
        assert!(!deployment.note_past(&succeeded));
    }

    #[test]
    fn history_is_bounded_and_the_last_success_of_a_version_is_forgotten_last() {
        let mut deployment = deployment();
        deployment.note_past(&past(0, "1.4.0", SUCCEEDED));
        for number in 1..100 {
            deployment.note_past(&past(number, "1.5.0", SUCCEEDED));
            assert!(deployment.history.len() <= HISTORY);
        }
        assert_eq!(deployment.last_good_before("1.5.0".parse().unwrap()).unwrap().version.to_string(), "1.4.0");
        for number in 100..200 {
            deployment.note_past(&past(number, &format!("2.{number}.0"), SUCCEEDED));
        }
        assert_eq!(deployment.history.len(), HISTORY, "and of many versions the newest are kept");
        assert_eq!(deployment.history[HISTORY - 1].version.to_string(), "2.199.0");
    }
}
