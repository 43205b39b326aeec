//! What is kept of one run: where it stands, what it has found, what it waits for. Reads nothing and sends nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::arm::ListEnd;
use crate::rollout::sighting::Discovery;
use crate::rollout::{ApplicationId, RemoteError, RetryPolicy, Timestamp};
use crate::store::document::Document;

/// How often one unit is tried before the run goes on without it.
const TRIES: u32 = 6;
/// How many differences a run lists; all are counted.
const MOST_LISTED: usize = 500;
/// How many problems a run lists.
const MOST_PROBLEMS: usize = 20;

/// One run, and what came of it. There is one at a time; the last stays until the next begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncRun {
    /// Its id.
    pub id: String,
    /// Whether it only reports.
    pub is_dry_run: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Where it stands.
    pub stage: Stage,
    /// What it has found so far.
    pub counts: SyncCounts,
    /// Whether all subscriptions that we can see were listed.
    pub has_all_subscriptions: bool,
    /// What differs, the first of it.
    pub differences: Vec<SyncDifference>,
    /// What could not be read, the first of it.
    pub problems: Vec<String>,
    pub(super) shares: u32,
    /// Hashes of the links of the pages that were read, to know a list that goes round in circles.
    pub(super) links: Vec<u64>,
    /// How often the present unit was tried in vain.
    pub(super) tries: u32,
    pub(super) message: u32,
    pub(super) moved_at: Timestamp,
    /// When the present unit is tried again, and why it has to be.
    pub due: Option<Timestamp>,
    /// See there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    pub(super) claimed_until: Option<Timestamp>,
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Stage {
    /// It lists the subscriptions.
    Listing {
        /// The page to read next; `None` for the first.
        link: Option<String>,
    },
    /// It reads them, share by share.
    Looking {
        /// The share to read next.
        share: u32,
    },
    /// It looks through the registry for what was not found.
    Comparing {
        /// Where the page before ended.
        continuation: Option<String>,
    },
    /// It asks ARM about what is missing.
    Asking {
        /// Where the page before ended.
        continuation: Option<String>,
    },
    /// It is over.
    Ended,
}

/// How many of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyncCounts {
    /// Subscriptions that we can see.
    pub subscriptions: u64,
    /// Subscriptions that could not be read by any source.
    pub unread_subscriptions: u64,
    /// Deployments found in Azure.
    pub found: u64,
    /// Of these, those of other publishers, which are passed over.
    pub foreign: u64,
    /// Deployments that were not known.
    pub new: u64,
    /// Deployments that were taken for gone.
    pub back: u64,
    /// Deployments of which something has changed.
    pub changed: u64,
    /// Deployments that were known when the run compared, without those that are gone.
    pub known: u64,
    /// Known ones that were not found though they should have been.
    pub missing: u64,
    /// Of these, those that ARM is asked about.
    pub asked: u64,
}

/// One difference between Azure and the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncDifference {
    /// The deployment.
    pub application_id: ApplicationId,
    /// What differs.
    #[serde(flatten)]
    pub discovery: Discovery,
}

impl Document for SyncRun {
    const COLLECTION: &'static str = "sync-run";
    fn name(&self) -> String {
        CURRENT.to_owned()
    }
}

/// The name of the one run.
pub(super) const CURRENT: &str = "current";

impl SyncRun {
    pub(super) fn new(id: String, is_dry_run: bool, now: Timestamp) -> Self {
        Self {
            id,
            is_dry_run,
            started_at: now,
            ended_at: None,
            stage: Stage::Listing { link: None },
            counts: SyncCounts::default(),
            has_all_subscriptions: false,
            differences: Vec::new(),
            problems: Vec::new(),
            shares: 0,
            links: Vec::new(),
            tries: 0,
            message: 0,
            moved_at: now,
            due: None,
            failure: None,
            claimed_until: None,
        }
    }

    pub(super) fn note(&mut self, application_id: &ApplicationId, discovery: Discovery) {
        match discovery {
            Discovery::New => self.counts.new += 1,
            Discovery::Back => self.counts.back += 1,
            Discovery::Changed { .. } => self.counts.changed += 1,
            Discovery::Missing => self.counts.missing += 1,
        }
        if self.differences.len() < MOST_LISTED {
            self.differences.push(SyncDifference { application_id: application_id.clone(), discovery });
        }
    }

    pub(super) fn complain(&mut self, problem: String) {
        warn!(sync.id = %self.id, "Sync {}: {problem}", self.id);
        if self.problems.len() < MOST_PROBLEMS && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    pub(super) fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.tries = 0;
    }

    /// How long to wait before the present unit is tried again; `None` if it was tried often enough, or never will succeed.
    pub(super) fn retry(&mut self, end: &ListEnd) -> Option<Duration> {
        let ListEnd::Stopped { error, wait } = end else { return None };
        if !is_transient(error) || self.tries >= TRIES {
            return None;
        }
        // What was held back was not even asked.
        self.tries += u32::from(!error.is_held_back());
        self.failure = Some(said(end));
        Some(RetryPolicy::POST.wait(self.tries.max(1), *wait, &self.id))
    }

    pub(super) fn end(&mut self, now: Timestamp) {
        self.enter(Stage::Ended);
        self.ended_at = Some(now);
        self.links = Vec::new();
    }
}

/// Whether asking again may help.
fn is_transient(error: &RemoteError) -> bool {
    match error.status {
        Some(status) => matches!(status, 408 | 429 | 500..=599),
        None => {
            error.is_held_back()
                || matches!(error.code.as_str(), "Timeout" | "ConnectionFailed" | "ConnectionBroken" | "UnreadableBody")
                || error.code == crate::rollout::failure::NO_TOKEN
        }
    }
}

/// Why a list ended, in words.
pub(super) fn said(end: &ListEnd) -> String {
    match end {
        ListEnd::Complete => "it was read to its end".to_owned(),
        ListEnd::Stopped { error, .. } => format!("{}: {}", error.code, error.message),
    }
}
