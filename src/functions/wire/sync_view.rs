//! A run of SyncDeployments in the shape of the API.

use serde::{Deserialize, Serialize};

use crate::engine::sync::{Stage, SyncCounts, SyncDifference, SyncRun};
use crate::rollout::Timestamp;

/// `GET /api/deployments/sync`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncView {
    /// Its id.
    pub id: String,
    /// Whether it only reports.
    pub dry_run: bool,
    /// `listing`, `looking`, `comparing`, `asking` or `ended`.
    pub state: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What it waits for, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
    /// How many of what.
    pub counts: SyncCounts,
    /// What differs between Azure and the registry; the first 500.
    pub differences: Vec<SyncDifference>,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// What could not be read just now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waits {
    /// When it is tried again.
    pub until: Timestamp,
    /// What happened.
    pub why: String,
}

impl From<SyncRun> for SyncView {
    fn from(run: SyncRun) -> Self {
        let state = match run.stage {
            Stage::Listing { .. } => "listing",
            Stage::Looking { .. } => "looking",
            Stage::Comparing { .. } => "comparing",
            Stage::Asking { .. } => "asking",
            Stage::Ended => "ended",
        };
        Self {
            id: run.id,
            dry_run: run.is_dry_run,
            state: state.to_owned(),
            started_at: run.started_at,
            ended_at: run.ended_at,
            waits: run.due.zip(run.failure).map(|(until, why)| Waits { until, why }),
            counts: run.counts,
            differences: run.differences,
            problems: run.problems,
        }
    }
}
