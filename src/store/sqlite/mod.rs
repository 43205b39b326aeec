//! The store in one SQLite file, for one machine.
//!
//! One connection writes and one reads, each in a thread of its own ([`crate::sqlite`] says what is durable and how work is
//! batched), so that a long page never holds up a write. What was written is seen by every read that begins after the write
//! has answered. Several processes may have the file open. Records are turned into JSON and back by the callers, and
//! no table is kept in memory.

mod continuation;
mod deployments;
mod documents;
mod record;
mod refreshes;
mod rollouts;
mod schema;

use std::path::Path;

use async_trait::async_trait;
use rusqlite::Connection;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::rollout::{
    Deployment, DeploymentKey, PastRefresh, Plan, Refresh, Rollout, RolloutId, Standing, Tally, Timestamp,
};
use crate::sqlite::file::{self, Access};
use crate::sqlite::lane::Lane;
use crate::sqlite::{Failed, from_nanos, to_nanos};

use super::document::{DocumentName, after_name, continuation_after, prefix_range};
use super::{Claim, ETag, Page, PageRequest, Saved, Store, StoreError, Versioned};
use record::{Guard, Record, key_bytes, read, write};

/// How many refreshes are added in one piece of work.
const INSERTED_AT_ONCE: usize = 100;

/// A store in a SQLite file. Dropping it ends its threads and closes the file.
#[derive(Debug)]
pub struct SqliteStore {
    // In this order, so that the writer closes last and puts its log away.
    reads: Lane,
    writes: Lane,
}

impl SqliteStore {
    /// Opens the file at `path`, or makes it; its folder must exist. Cheap, and may be done again while it is open.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if there is no such folder, or the file is locked, no store, or written by a newer version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let unavailable = |failed: Failed| StoreError::Unavailable { action: "open its file", reason: failed.0 };
        let start = |access, name| {
            let connection = file::open(path, &schema::SCHEMA, access)?;
            Lane::start(connection, access, name).map_err(|error| Failed(error.to_string()))
        };
        let writes = start(Access::Write, "store writes").map_err(unavailable)?;
        let reads = start(Access::Read, "store reads").map_err(unavailable)?;
        Ok(Self { reads, writes })
    }

    async fn write<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writes.run(work).await.map_err(|failed| StoreError::Unavailable { action, reason: failed.0 })
    }

    async fn read<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.reads.run(work).await.map_err(|failed| StoreError::Unavailable { action, reason: failed.0 })
    }
}

/// Reads every record.
fn read_all<T: DeserializeOwned>(what: &'static str, records: &[Record]) -> Result<Vec<Versioned<T>>, StoreError> {
    records.iter().map(|record| record.read(what)).collect()
}

/// A number of rows as SQLite takes it.
fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// A page of at most `top` items out of `items`, which hold one more if the list goes on.
fn page<T>(mut items: Vec<T>, top: usize, continuation: impl Fn(&T) -> String) -> Page<T> {
    let goes_on = items.len() > top;
    items.truncate(top);
    let next = items.last().filter(|_| goes_on).map(continuation);
    Page { items, next }
}

#[async_trait]
impl Store for SqliteStore {
    async fn claim_key(&self, key: &str, claim: &Claim) -> Result<Option<Claim>, StoreError> {
        let (key, body) = (key.to_owned(), write(claim));
        let holder = self.write("claim a key", move |connection| rollouts::claim(connection, &key, &body)).await?;
        holder.map(|body| read("claim", &body)).transpose()
    }

    async fn key_holder(&self, key: &str) -> Result<Option<Claim>, StoreError> {
        let key = key.to_owned();
        let holder = self.read("read a claim", move |connection| rollouts::holder(connection, &key)).await?;
        holder.map(|body| read("claim", &body)).transpose()
    }

    async fn rollout(&self, id: RolloutId) -> Result<Option<Versioned<Rollout>>, StoreError> {
        let record = self.read("read a rollout", move |connection| rollouts::one(connection, id)).await?;
        record.map(|record| record.read("rollout")).transpose()
    }

    async fn save_rollout(&self, rollout: &Versioned<Rollout>) -> Result<Saved, StoreError> {
        let row = rollouts::Row::of(rollout);
        self.write("save a rollout", move |connection| rollouts::save(connection, &row)).await
    }

    async fn rollouts(&self, request: &PageRequest) -> Result<Page<Rollout>, StoreError> {
        let top = request.top.max(1);
        let after = continuation::after_rollout(request.continuation.as_deref())?;
        let list =
            move |connection: &Connection| rollouts::newest_first(connection, after, limit(top).saturating_add(1));
        let records = self.read("list rollouts", list).await?;
        let rollouts: Vec<Versioned<Rollout>> = read_all("rollout", &records)?;
        let items = rollouts.into_iter().map(|rollout| rollout.value).collect();
        Ok(page(items, top, |last: &Rollout| continuation::of_rollout(to_nanos(last.created_at), last.id)))
    }

    async fn open_rollouts(&self) -> Result<Vec<Versioned<Rollout>>, StoreError> {
        read_all("rollout", &self.read("list open rollouts", rollouts::open).await?)
    }

    async fn long_ended_rollouts(
        &self,
        before: Timestamp,
        at_most: usize,
    ) -> Result<Vec<Versioned<Rollout>>, StoreError> {
        let made_before = to_nanos(before);
        let list = move |connection: &Connection| rollouts::ended_made_before(connection, made_before);
        let mut ended: Vec<Versioned<Rollout>> = read_all("rollout", &self.read("list old rollouts", list).await?)?;
        ended.retain(|rollout| rollout.value.ended_at.is_some_and(|at| at < before));
        ended.truncate(at_most);
        Ok(ended)
    }

    async fn remove_refreshes(&self, rollout: RolloutId, at_most: usize) -> Result<usize, StoreError> {
        let most = limit(at_most);
        self.write("remove refreshes", move |connection| refreshes::remove(connection, rollout, most)).await
    }

    async fn remove_rollout(&self, rollout: &Versioned<Rollout>) -> Result<Saved, StoreError> {
        let Guard::Is(etag) = Guard::of(rollout) else { return Ok(Saved::Conflict) };
        let id = rollout.value.id;
        self.write("remove a rollout", move |connection| rollouts::remove(connection, id, etag)).await
    }

    async fn forget_facts(&self, claims: Timestamp, throttles: Timestamp, at_most: usize) -> Result<usize, StoreError> {
        let mut old = Vec::new();
        for (key, body) in self.read("list claims", rollouts::claims).await? {
            let claim: Claim = read("claim", &body)?;
            if claim.at < claims {
                old.push((key, claim.rollout_id));
            }
        }
        let (throttles, most) = (to_nanos(throttles), limit(at_most));
        let forget = move |connection: &Connection| {
            let claims = rollouts::forget_claims(connection, &old)?;
            Ok(claims + rollouts::forget_throttles(connection, throttles, most)?)
        };
        self.write("forget claims and throttles", forget).await
    }

    async fn insert_refreshes(&self, refreshes: &[Refresh]) -> Result<usize, StoreError> {
        let guard = Guard::New(record::first_etag());
        let mut added = 0;
        // In parts, so that what else is to be written does not wait for all of them.
        for part in refreshes.chunks(INSERTED_AT_ONCE) {
            let rows: Vec<_> = part.iter().map(|refresh| refreshes::Row::of(refresh, guard)).collect();
            added += self.write("add refreshes", move |connection| refreshes::insert(connection, &rows)).await?;
        }
        Ok(added)
    }

    async fn refresh(&self, rollout: RolloutId, key: &DeploymentKey) -> Result<Option<Versioned<Refresh>>, StoreError> {
        let key = key_bytes(key);
        let record = self.read("read a refresh", move |connection| refreshes::one(connection, rollout, &key)).await?;
        record.map(|record| record.read("refresh")).transpose()
    }

    async fn save_refreshes(&self, refreshes: &[Versioned<Refresh>]) -> Result<Vec<Saved>, StoreError> {
        let rows: Vec<_> = refreshes.iter().map(refreshes::Row::guarded).collect();
        self.write("save refreshes", move |connection| refreshes::save(connection, &rows)).await
    }

    async fn refreshes(
        &self,
        rollout: RolloutId,
        standings: Option<&[Standing]>,
        request: &PageRequest,
    ) -> Result<Page<Versioned<Refresh>>, StoreError> {
        let top = request.top.max(1);
        let after = continuation::after_key(refreshes::LIST, request.continuation.as_deref())?;
        let standings = standings.map(<[Standing]>::to_vec);
        let list = move |connection: &Connection| {
            let rows = limit(top).saturating_add(1);
            match &standings {
                None => refreshes::by_key(connection, rollout, after, rows),
                Some(standings) => refreshes::by_standing(connection, rollout, standings, after, rows),
            }
        };
        let records = self.read("list refreshes", list).await?;
        let continuation = |last: &_| continuation::of_key(refreshes::LIST, refreshes::key_of(last));
        Ok(page(read_all("refresh", &records)?, top, continuation))
    }

    async fn tally(&self, rollout: RolloutId) -> Result<Tally, StoreError> {
        self.read("count refreshes", move |connection| refreshes::tally(connection, rollout)).await
    }

    async fn due_refreshes(&self, now: Timestamp, at_most: usize) -> Result<Vec<Versioned<Refresh>>, StoreError> {
        let list = move |connection: &Connection| refreshes::due(connection, to_nanos(now), limit(at_most));
        read_all("refresh", &self.read("list due refreshes", list).await?)
    }

    async fn next_wake(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.read("find what is due next", refreshes::next_wake).await?.map(from_nanos))
    }

    async fn deployments_by_key(
        &self,
        keys: &[DeploymentKey],
    ) -> Result<Vec<Option<Versioned<Deployment>>>, StoreError> {
        let keys: Vec<_> = keys.iter().map(key_bytes).collect();
        let records = self.read("read deployments", move |connection| deployments::some(connection, &keys)).await?;
        records.iter().map(|record| record.as_ref().map(|record| record.read("deployment")).transpose()).collect()
    }

    async fn save_deployments(&self, deployments: &[Versioned<Deployment>]) -> Result<Vec<Saved>, StoreError> {
        let rows: Vec<_> = deployments.iter().map(deployments::Row::guarded).collect();
        self.write("save deployments", move |connection| deployments::save(connection, &rows)).await
    }

    async fn deployments(
        &self,
        plan: Option<&Plan>,
        request: &PageRequest,
    ) -> Result<Page<Versioned<Deployment>>, StoreError> {
        let top = request.top.max(1);
        let after = continuation::after_key(deployments::LIST, request.continuation.as_deref())?;
        let plan = plan.map(Plan::to_string);
        let list = move |connection: &Connection| {
            deployments::by_key(connection, plan.as_deref(), after, limit(top).saturating_add(1))
        };
        let records = self.read("list deployments", list).await?;
        let continuation = |last: &Versioned<Deployment>| continuation::of_key(deployments::LIST, &last.value.key);
        Ok(page(read_all("deployment", &records)?, top, continuation))
    }

    async fn deployments_after(
        &self,
        plan: &Plan,
        after: Option<&DeploymentKey>,
        at_most: usize,
    ) -> Result<Vec<Deployment>, StoreError> {
        let (plan, after) = (plan.to_string(), after.map(key_bytes));
        let list = move |connection: &Connection| deployments::by_key(connection, Some(&plan), after, limit(at_most));
        let deployments = read_all("deployment", &self.read("walk deployments", list).await?)?;
        Ok(deployments.into_iter().map(|deployment: Versioned<Deployment>| deployment.value).collect())
    }

    async fn count_deployments(&self, plan: &Plan) -> Result<u64, StoreError> {
        let plan = plan.to_string();
        self.read("count deployments", move |connection| deployments::count(connection, &plan)).await
    }

    async fn due_checks(&self, now: Timestamp, at_most: usize) -> Result<Vec<Versioned<Deployment>>, StoreError> {
        let list = move |connection: &Connection| deployments::due(connection, to_nanos(now), limit(at_most));
        read_all("deployment", &self.read("list due checks", list).await?)
    }

    async fn record_past(&self, key: &DeploymentKey, past: &PastRefresh) -> Result<(), StoreError> {
        let (key, past) = (key_bytes(key), past.clone());
        let note = move |connection: &Connection| deployments::record_past(connection, &key, &past);
        self.write("note how a refresh ended", note).await
    }

    async fn save_ended(&self, refresh: &Versioned<Refresh>, past: &PastRefresh) -> Result<Saved, StoreError> {
        let (key, past) = (key_bytes(&refresh.value.key), past.clone());
        let row = [refreshes::Row::guarded(refresh)];
        let save = move |connection: &Connection| {
            deployments::record_past(connection, &key, &past)?;
            refreshes::save(connection, &row)
        };
        let saved = self.write("save how a refresh ended", save).await?;
        Ok(saved.into_iter().next().unwrap_or(Saved::Conflict))
    }

    async fn forget_gone(&self, before: Timestamp) -> Result<usize, StoreError> {
        let before = to_nanos(before);
        self.write("forget deployments", move |connection| deployments::forget_gone(connection, before)).await
    }

    async fn remove_deployment(&self, deployment: &Versioned<Deployment>) -> Result<Saved, StoreError> {
        let Guard::Is(etag) = Guard::of(deployment) else { return Ok(Saved::Conflict) };
        let key = key_bytes(&deployment.value.key);
        self.write("remove a deployment", move |connection| deployments::remove(connection, &key, etag)).await
    }

    async fn document(
        &self,
        collection: &'static str,
        name: &DocumentName,
    ) -> Result<Option<Versioned<Value>>, StoreError> {
        let name = name.as_str().to_owned();
        let one = move |connection: &Connection| documents::one(connection, collection, &name);
        self.read("read a document", one).await?.map(|record| record.read(collection)).transpose()
    }

    async fn save_document(
        &self,
        collection: &'static str,
        name: &DocumentName,
        document: &Versioned<Value>,
    ) -> Result<Saved, StoreError> {
        let (name, body, guard) = (name.as_str().to_owned(), write(&document.value), Guard::of(document));
        let save = move |connection: &Connection| documents::save(connection, collection, &name, &body, guard);
        self.write("save a document", save).await
    }

    async fn remove_document(
        &self,
        collection: &'static str,
        name: &DocumentName,
        etag: &ETag,
    ) -> Result<Saved, StoreError> {
        let guard = Guard::of(&Versioned { value: (), etag: Some(etag.clone()) });
        let Guard::Is(etag) = guard else { return Ok(Saved::Conflict) };
        let name = name.as_str().to_owned();
        self.write("remove a document", move |connection| documents::remove(connection, collection, &name, etag)).await
    }

    async fn documents(
        &self,
        collection: &'static str,
        prefix: &str,
        request: &PageRequest,
    ) -> Result<Page<(DocumentName, Versioned<Value>)>, StoreError> {
        let top = request.top.max(1);
        let after = after_name(request.continuation.as_deref())?;
        let (from, to) = prefix_range(prefix);
        let list = move |connection: &Connection| {
            documents::by_name(connection, collection, (&from, &to), after.as_deref(), limit(top).saturating_add(1))
        };
        let records = self.read("list documents", list).await?;
        let read = |(name, record): (String, Record)| Ok((DocumentName::from_stored(name), record.read(collection)?));
        let items = records.into_iter().map(read).collect::<Result<Vec<_>, StoreError>>()?;
        Ok(page(items, top, |(name, _)| continuation_after(name)))
    }

    async fn throttled_until(&self, subscription: &str) -> Result<Option<Timestamp>, StoreError> {
        let subscription = subscription.to_owned();
        let read = move |connection: &Connection| rollouts::throttled_until(connection, &subscription);
        Ok(self.read("read a throttle", read).await?.map(from_nanos))
    }

    async fn throttle(&self, subscription: &str, until: Timestamp) -> Result<(), StoreError> {
        let (subscription, until) = (subscription.to_owned(), to_nanos(until));
        self.write("note a throttle", move |connection| rollouts::throttle(connection, &subscription, until)).await
    }
}
