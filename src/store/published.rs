//! How what is known of Partner Center is found: offers and plans by their names, versions in their order, changes by rollout.

use super::document::{self, Document, DocumentName};
use super::{ETag, Store, StoreError, Versioned};
use crate::rollout::changes::Changes;
use crate::rollout::watch::{OfferWatch, PlanWatch, Snapshot};
use crate::rollout::{Plan, Version};

impl Document for OfferWatch {
    const COLLECTION: &'static str = "offer-watch";
    fn name(&self) -> String {
        offer_name(&self.publisher, &self.offer)
    }
}

impl Document for PlanWatch {
    const COLLECTION: &'static str = "plan-watch";
    fn name(&self) -> String {
        self.plan.to_string()
    }
}

impl Document for Snapshot {
    const COLLECTION: &'static str = "snapshot";
    fn name(&self) -> String {
        snapshot_name(&self.plan, self.version)
    }
}

impl Document for Changes {
    const COLLECTION: &'static str = "changes";
    fn name(&self) -> String {
        self.rollout_id.to_string()
    }
}

/// The name of an [`OfferWatch`].
pub fn offer_name(publisher: &str, offer: &str) -> String {
    format!("{publisher}/{offer}")
}

/// The name of a [`Snapshot`]; versions of a plan sort by number.
pub fn snapshot_name(plan: &Plan, version: Version) -> String {
    let parts: Vec<_> = version.to_string().split('.').map(|part| format!("{part:0>10}")).collect();
    format!("{plan}/{}", parts.join("."))
}

/// What is known of one version. One that cannot be read back is as good as none.
pub async fn snapshot(
    store: &dyn Store,
    plan: &Plan,
    version: Version,
) -> Result<Option<Versioned<Snapshot>>, StoreError> {
    match document::get(store, &snapshot_name(plan, version)).await {
        Err(StoreError::Corrupt { .. }) => Ok(None),
        read => read,
    }
}

/// Every version of a plan that is known, in order, and the stored names of those that cannot be read back.
pub async fn snapshots(
    store: &dyn Store,
    plan: &Plan,
) -> Result<(Vec<Versioned<Snapshot>>, Vec<DocumentName>), StoreError> {
    document::readable(store, &format!("{plan}/")).await
}

/// What a new snapshot is to be written over: nothing, or what is there and cannot be read back.
pub async fn snapshot_to_replace(store: &dyn Store, plan: &Plan, version: Version) -> Result<Option<ETag>, StoreError> {
    let name = DocumentName::of(&snapshot_name(plan, version));
    Ok(store.document(Snapshot::COLLECTION, &name).await?.and_then(|stored| stored.etag))
}
