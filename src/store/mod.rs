//! State: what must survive the process. One trait, because it has two lives: [`sqlite`] on one machine, [`tables`] in
//! Azure.
//!
//! Everything a method has returned `Ok` for is durable against the death of the process. Guarded writes carry the
//! [`ETag`] they were read with; a writer that lost the race is told so and has changed nothing. No method holds policy.

pub mod document;
pub mod published;
pub mod sqlite;
pub mod tables;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rollout::{
    Deployment, DeploymentKey, PastRefresh, Plan, Refresh, Rollout, RolloutId, Standing, Tally, Timestamp,
};
use document::DocumentName;

/// The version of a stored record; opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag(pub String);

/// A record as it was read, with the version that guards its next write.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned<T> {
    /// The record.
    pub value: T,
    /// The version it had. `None` means that it must not exist yet.
    pub etag: Option<ETag>,
}

impl<T> Versioned<T> {
    /// A record that must not exist yet.
    pub fn new(value: T) -> Self {
        Self { value, etag: None }
    }

    /// The same version with another value.
    pub fn with(&self, value: T) -> Self {
        Self { value, etag: self.etag.clone() }
    }
}

/// What became of a guarded write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It is stored and has this version now.
    Stored(ETag),
    /// The record has changed (or exists, or is gone) since it was read: nothing was written.
    Conflict,
}

impl Saved {
    /// Whether it was stored.
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored(_))
    }
}

/// Which page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Where the page before ended: [`Page::next`] of that page.
    pub continuation: Option<String>,
    /// At most so many items; at least 1.
    pub top: usize,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<String>,
}

/// Who holds an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The rollout that the key stands for.
    pub rollout_id: RolloutId,
    /// When it was claimed.
    pub at: Timestamp,
}

/// The store failed; nothing is known of the write, so do it again or let the timer find it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is locked, or its disk is full.
    #[error("the store could not {action}: {reason}")]
    Unavailable {
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// A record cannot be read back.
    #[error("the store holds a {what} that cannot be read: {reason}")]
    Corrupt {
        /// Which kind of record.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The continuation is not one of ours.
    #[error("the continuation is not one that this list gave out")]
    InvalidContinuation,
}

/// Where state is kept.
///
/// A future of these methods may hold what others wait for, such as a row that counts. So drive all of them that were
/// begun, or drop them: awaiting one while another rests half-done may wait for ever.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Claims `key` for `claim`, unless it is held: then the holder is returned and nothing changes.
    async fn claim_key(&self, key: &str, claim: &Claim) -> Result<Option<Claim>, StoreError>;
    /// Who holds `key`.
    async fn key_holder(&self, key: &str) -> Result<Option<Claim>, StoreError>;

    /// One rollout.
    async fn rollout(&self, id: RolloutId) -> Result<Option<Versioned<Rollout>>, StoreError>;
    /// Writes a rollout, guarded.
    async fn save_rollout(&self, rollout: &Versioned<Rollout>) -> Result<Saved, StoreError>;
    /// Rollouts, the newest first.
    async fn rollouts(&self, page: &PageRequest) -> Result<Page<Rollout>, StoreError>;
    /// Rollouts that still need the timer: not ended, or ended with refreshes that have no result yet. Oldest first.
    async fn open_rollouts(&self) -> Result<Vec<Versioned<Rollout>>, StoreError>;

    /// Adds refreshes of one rollout; those that exist already are left as they are. Returns how many were added. Where it
    /// fails some may have been added; the same again adds the rest.
    async fn insert_refreshes(&self, refreshes: &[Refresh]) -> Result<usize, StoreError>;
    /// One refresh.
    async fn refresh(&self, rollout: RolloutId, key: &DeploymentKey) -> Result<Option<Versioned<Refresh>>, StoreError>;
    /// Writes refreshes, each guarded for itself; the answers are in the order of `refreshes`.
    async fn save_refreshes(&self, refreshes: &[Versioned<Refresh>]) -> Result<Vec<Saved>, StoreError>;
    /// Refreshes of one rollout in the order of their keys, all or those of some standings.
    async fn refreshes(
        &self,
        rollout: RolloutId,
        standings: Option<&[Standing]>,
        page: &PageRequest,
    ) -> Result<Page<Versioned<Refresh>>, StoreError>;
    /// How many refreshes of one rollout stand where, per wave. Costs the same however many there are.
    async fn tally(&self, rollout: RolloutId) -> Result<Tally, StoreError>;
    /// Refreshes of all rollouts whose [`Refresh::wake_at`] is at or before `now`, the longest due first.
    async fn due_refreshes(&self, now: Timestamp, at_most: usize) -> Result<Vec<Versioned<Refresh>>, StoreError>;
    /// The earliest [`Refresh::wake_at`] of all.
    async fn next_wake(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Some deployments, in the order of `keys`.
    async fn deployments_by_key(
        &self,
        keys: &[DeploymentKey],
    ) -> Result<Vec<Option<Versioned<Deployment>>>, StoreError>;
    /// Writes deployments, each guarded for itself; the answers are in the order of `deployments`.
    async fn save_deployments(&self, deployments: &[Versioned<Deployment>]) -> Result<Vec<Saved>, StoreError>;
    /// Deployments in the order of their keys, all or those of one plan, tombstones included.
    async fn deployments(
        &self,
        plan: Option<&Plan>,
        page: &PageRequest,
    ) -> Result<Page<Versioned<Deployment>>, StoreError>;
    /// At most `at_most` deployments of one plan behind the key `after`, in the order of their keys, tombstones included;
    /// fewer only where there are no more.
    async fn deployments_after(
        &self,
        plan: &Plan,
        after: Option<&DeploymentKey>,
        at_most: usize,
    ) -> Result<Vec<Deployment>, StoreError>;
    /// How many deployments a plan has, tombstones not included.
    async fn count_deployments(&self, plan: &Plan) -> Result<u64, StoreError>;
    /// Deployments whose [`Deployment::check`] is due at or before `now`, the longest due first.
    async fn due_checks(&self, now: Timestamp, at_most: usize) -> Result<Vec<Versioned<Deployment>>, StoreError>;
    /// Notes how a refresh ended ([`Deployment::note_past`]), whatever else changes in the record meanwhile. A deployment
    /// that is not stored stays so.
    async fn record_past(&self, key: &DeploymentKey, past: &PastRefresh) -> Result<(), StoreError>;
    /// [`Store::record_past`] and then [`Store::save_refreshes`] of the refresh that ended so; in one commit where the store
    /// can. What was noted stays although the refresh's guard fails: who was quicker has learned the same.
    async fn save_ended(&self, refresh: &Versioned<Refresh>, past: &PastRefresh) -> Result<Saved, StoreError> {
        self.record_past(&refresh.value.key, past).await?;
        let saved = self.save_refreshes(std::slice::from_ref(refresh)).await?;
        Ok(saved.into_iter().next().unwrap_or(Saved::Conflict))
    }
    /// Removes deployments that are gone since before `before`; returns how many.
    async fn forget_gone(&self, before: Timestamp) -> Result<usize, StoreError>;
    /// Removes one deployment, guarded.
    async fn remove_deployment(&self, deployment: &Versioned<Deployment>) -> Result<Saved, StoreError>;

    /// One document of a collection; see [`document`], which gives it a type.
    async fn document(
        &self,
        collection: &'static str,
        name: &DocumentName,
    ) -> Result<Option<Versioned<Value>>, StoreError>;
    /// Writes a document, guarded.
    async fn save_document(
        &self,
        collection: &'static str,
        name: &DocumentName,
        document: &Versioned<Value>,
    ) -> Result<Saved, StoreError>;
    /// Removes a document, guarded.
    async fn remove_document(
        &self,
        collection: &'static str,
        name: &DocumentName,
        etag: &ETag,
    ) -> Result<Saved, StoreError>;
    /// Documents of a collection whose names begin with `prefix`, in the order of their stored names.
    async fn documents(
        &self,
        collection: &'static str,
        prefix: &str,
        page: &PageRequest,
    ) -> Result<Page<(DocumentName, Versioned<Value>)>, StoreError>;

    /// Until when ARM wants no calls for a subscription, if it said so.
    async fn throttled_until(&self, subscription: &str) -> Result<Option<Timestamp>, StoreError>;
    /// Remembers it; an earlier time than the stored one changes nothing.
    async fn throttle(&self, subscription: &str, until: Timestamp) -> Result<(), StoreError>;

    /// Rollouts that ended before `before`, and whose refreshes all have a result, the earliest made first; at most so many.
    async fn long_ended_rollouts(
        &self,
        before: Timestamp,
        at_most: usize,
    ) -> Result<Vec<Versioned<Rollout>>, StoreError>;
    /// Removes refreshes of one rollout, at most so many, with what counts and wakes them; how many.
    async fn remove_refreshes(&self, rollout: RolloutId, at_most: usize) -> Result<usize, StoreError>;
    /// Removes a rollout, guarded; its refreshes have to be gone.
    async fn remove_rollout(&self, rollout: &Versioned<Rollout>) -> Result<Saved, StoreError>;
    /// Removes claims made before `claims` whose rollouts are not stored, and throttles that ended before `throttles`;
    /// at most so many of each. How many. Looks at all of them, so it is for once a day.
    async fn forget_facts(&self, claims: Timestamp, throttles: Timestamp, at_most: usize) -> Result<usize, StoreError>;

    /// Sees to it that records which are overdue, though nothing would find them, are found by [`Store::due_refreshes`],
    /// [`Store::due_checks`] and [`Store::forget_gone`] again; returns how many it looked after. Meant for every tick, and does
    /// its work once an hour. A backend whose times are kept with the records has nothing to do.
    async fn wake_forgotten(&self, _now: Timestamp) -> Result<usize, StoreError> {
        Ok(0)
    }
}
