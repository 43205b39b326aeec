//! The store in Azure Table Storage, for many processes at once.
//!
//! Every record is one row; whatever is needed to find it lies beside it, and is changed with it:
//!
//! | table | partition | row | holds |
//! |---|---|---|---|
//! | Refreshes | `{rolloutId}~{1st hex digit of key}` | key | a refresh |
//! | | | `~{2nd hex digit}` | how many refreshes stand where, per wave |
//! | Deployments | `{1st hex digit of key}` | key | a deployment |
//! | | | `~{2nd hex digit}` | how many deployments each plan has |
//! | Wakes, Checks, Gone | `{minute}~{1st hex digit}` | `{moment}~{write}~{rolloutId}~{key}` | what is to be looked at when |
//! | Rollouts | `rollouts` | `r~{id}`, `n~{age}~{id}`, `o~{id}` | a rollout, its copy in the order of age, its mark while open |
//! | Facts | `claim~{2 hex}`, `throttle`, `upkeep` | hash, hour | what belongs to no deployment |
//! | | `document~{collection}` | name | a document |
//!
//! **Sixteen partitions, 256 counts.** A count is right only if it is written in the transaction of its records, which
//! must lie in one partition with it; and a tally has to read every partition. So partitions end with one hex digit, and
//! two make the counting rows: sixteen requests at once for a tally, not 256, and a thousand records are sixteen
//! transactions, not 256. A partition takes about 2,000 rows a second and an account 20,000, so that sixteen are more than
//! the account takes, and no count is shared by more than a 256th of the writers.
//!
//! **Deployments lie by key, not by plan**, since most work knows the key: a deployment without a plan and one that
//! changes it are nothing special then. A plan is listed by letting the service filter, and only in those sixteenths of
//! the keys, between the first and the last 256th, whose counts say that there is something to find; refreshes of some
//! standings likewise.
//!
//! **What is due** is known from an index in the order of minutes, written before the record, checked against it when
//! read, and proved hourly ([`Store::wake_forgotten`]).
//!
//! **Versions** carry what the row is counted and indexed under, so that a guarded write needs not read it first.
//!
//! # Requests
//!
//! *n* is the number of records, *s* of sixteenths of the keys they touch (at most 16 for each rollout), *m* of minutes
//! their times touch.
//!
//! | operation | requests |
//! |---|---|
//! | `claim_key`, `key_holder`, `rollout`, `save_rollout`, `refresh`, `document`, `save_document`, `remove_document`, `throttled_until` | 1 (`claim_key` 2 where it is held) |
//! | `rollouts`, `documents` | 1 for each 1,000 |
//! | `open_rollouts` | 1, 1 for each that is open, 16 for each that has ended in the last minutes |
//! | `insert_refreshes` | 1, and for each of *s*: 1 to read counts the first time, 1 for each 80 records; *s*·*m* for times |
//! | `save_refreshes` | as above, and *s*·*m* to drop old times; one refresh: 1 (same standing and time), 3 with another time |
//! | `tally`, `count_deployments` | 16 |
//! | `refreshes`, `deployments` | 1 or 2, and 1 for each further 1,000; with standings or plan 16, and 1 for each of *s* |
//! | `deployments_after` | 16, and 1 for each of *s* |
//! | `due_refreshes`, `due_checks` | 1 where nothing is due; else 1 to 17, and for each of *s* 1 (up to 4 where few are due) |
//! | `next_wake` | 1 where nothing waits; else 2, or 18 where one minute has more than an answer holds |
//! | `deployments_by_key` | *n* |
//! | `save_deployments`, `remove_deployment` | as `save_refreshes` |
//! | `record_past` | 2; 1 where it is known |
//! | `forget_gone` | 1 where nothing is; else as `due_checks` and `save_deployments` |
//! | `throttle` | 2; 1 where it is longer already |
//! | `long_ended_rollouts` | 1 for each 1,000 made before, 17 for each that is found |
//! | `remove_refreshes`, `remove_rollout` | as `refreshes` and `save_refreshes`; 2 |
//! | `forget_facts` | 3, 1 for each further 1,000 rows, 1 for each old claim and each row that is removed |
//! | `wake_forgotten` | 0 within the hour; else 34, and 16 for each open rollout |
//!
//! A write that lost its race reads each of its records once, and tries again with those that can still win; a write
//! whose answer was lost is read back, 1 for each record. Tables are created by the first operation, 7 requests once.

mod collection;
mod counting;
mod documents;
mod due;
mod facts;
mod filed;
mod place;
mod rollouts;
mod row;
mod service;
mod transport;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use serde_json::Value;
use url::Url;

use crate::access::credential::TokenSource;
use crate::clock::Clock;
use crate::rollout::deployment::TOMBSTONE;
use crate::rollout::{
    Deployment, DeploymentKey, PastRefresh, Plan, Refresh, Rollout, RolloutId, Standing, Tally, Timestamp,
};

use super::document::DocumentName;
use super::{Claim, ETag, Page, PageRequest, Saved, Store, StoreError, Versioned};
use collection::{Aim, Change, Collections};
use filed::{Class, class_of};
use row::Guard;
use service::{Service, Table};
use transport::{Lent, Signer};

/// How long something may be overdue before the hourly upkeep takes it for forgotten.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
/// How often a note is tried while others change the record.
const TRIES: usize = 100;
/// How many deployments are forgotten at a time.
const FORGET_AT_ONCE: usize = 500;
/// The letters of lists in continuations.
const REFRESHES: char = 'r';
const DEPLOYMENTS: char = 'd';
/// The one owner of deployments.
const NOBODY: &str = "";

/// Where the tables are, and who we are to them.
#[derive(Clone)]
pub struct TablesConfig {
    /// The address of the account's tables, such as `https://fabrikam.table.core.windows.net`; https, or http to loopback.
    pub endpoint: Url,
    /// Who we are.
    pub credential: TablesCredential,
    /// What the names of the tables begin with: a letter, then letters and digits, at most 40.
    pub table_prefix: String,
}

/// Who we are to Table Storage.
#[derive(Clone)]
pub enum TablesCredential {
    /// Whoever holds the account's key.
    SharedKey {
        /// The account's name.
        account: String,
        /// The key, base64.
        key: String,
    },
    /// The identity of the tokens that the store is given.
    Identity,
}

impl TablesConfig {
    /// What the names of tables begin with, if nobody says otherwise.
    pub const PREFIX: &str = "permafresh";

    /// Tables of the usual names.
    pub fn new(endpoint: Url, credential: TablesCredential) -> Self {
        Self { endpoint, credential, table_prefix: Self::PREFIX.to_owned() }
    }

    /// The well-known account of Azurite, the emulator, whose tables are at `endpoint`; at its usual port if `None`.
    pub fn development(endpoint: Option<Url>) -> Self {
        let usual = || Url::parse("http://127.0.0.1:10002/devstoreaccount1").expect("this is a URL");
        let credential = TablesCredential::SharedKey {
            account: azure_storage::EMULATOR_ACCOUNT.to_owned(),
            key: azure_storage::EMULATOR_ACCOUNT_KEY.to_owned(),
        };
        Self::new(endpoint.unwrap_or_else(usual), credential)
    }
}

impl fmt::Debug for TablesConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credential = match &self.credential {
            TablesCredential::SharedKey { account, .. } => format!("the key of {account}"),
            TablesCredential::Identity => "an identity".to_owned(),
        };
        f.debug_struct("TablesConfig")
            .field("endpoint", &self.endpoint.as_str())
            .field("credential", &credential)
            .field("table_prefix", &self.table_prefix)
            .finish()
    }
}

/// A store in Table Storage.
pub struct TablesStore {
    collections: Collections,
    clock: Arc<dyn Clock>,
    /// The hour whose upkeep is done, by us or by somebody else.
    upkeep: Mutex<Option<i64>>,
}

impl TablesStore {
    /// A store in the tables that `config` names, over `http`, which should follow no redirects. Asks nothing yet; tables
    /// that are missing are created by the first operation, or by [`TablesStore::create_tables`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the key is not base64 or the prefix cannot begin the name of a table.
    pub fn connect(
        config: &TablesConfig,
        http: reqwest::Client,
        tokens: Arc<TokenSource>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let refuse = |reason: &str| StoreError::Unavailable { action: "open its tables", reason: reason.to_owned() };
        let prefix = &config.table_prefix;
        let is_name = prefix.starts_with(|first: char| first.is_ascii_alphabetic())
            && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && prefix.len() <= 40;
        if !is_name {
            return Err(refuse("the prefix of their names is not a letter and then letters and digits, at most 40"));
        }
        let signer = match &config.credential {
            TablesCredential::SharedKey { account, key } => {
                Signer::shared_key(account, key).ok_or_else(|| refuse("the account's key is not base64"))?
            }
            TablesCredential::Identity => Signer::identity(tokens, &config.endpoint),
        };
        let endpoint = config.endpoint.as_str().trim_end_matches('/');
        let service = Service::new(endpoint, prefix.clone(), Lent::new(http, signer));
        let collections = Collections::new(service, Arc::clone(&clock));
        Ok(Self { collections, clock, upkeep: Mutex::new(None) })
    }

    /// Creates the tables that are missing.
    pub async fn create_tables(&self) -> Result<(), StoreError> {
        self.service().create_tables().await
    }

    /// How many requests were sent so far.
    pub fn requests(&self) -> u64 {
        self.service().requests()
    }

    fn service(&self) -> &Service {
        &self.collections.service
    }

    /// Whether this process is the first to ask in this hour.
    async fn takes_upkeep(&self, now: Timestamp) -> Result<bool, StoreError> {
        let hour = now.timestamp().div_euclid(3_600);
        if *self.upkeep.lock().unwrap_or_else(PoisonError::into_inner) == Some(hour) {
            return Ok(false);
        }
        let is_ours = facts::take_upkeep(self.service(), now).await?;
        *self.upkeep.lock().unwrap_or_else(PoisonError::into_inner) = Some(hour);
        Ok(is_ours)
    }

    async fn is_open(&self, rollout: &Rollout) -> Result<bool, StoreError> {
        if !rollout.state.is_ended() {
            return Ok(true);
        }
        let tally = self.tally(rollout.id).await?;
        Ok(tally.count(|standing| !has_result(standing)) > 0)
    }
}

impl fmt::Debug for TablesStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TablesStore").field("requests", &self.requests()).finish_non_exhaustive()
    }
}

/// Whether a refresh that stands there has its result. One that is parked at a gate has not.
fn has_result(standing: Standing) -> bool {
    standing.is_out_of_the_wave() && standing != Standing::AwaitingAccess
}

/// Whether a write gives a refresh back that had its result.
fn reopens(change: &Change<Refresh>) -> bool {
    let before = match &change.guard {
        Guard::Is(stamp) => Standing::from_word(&class_of(stamp).group),
        Guard::Absent | Guard::Never => return change.guard == Guard::Absent,
    };
    before.is_none_or(has_result) && !has_result(Standing::of(&change.record))
}

/// A page of at most `top` items out of `items`, which hold one more if the list goes on.
fn page<T>(mut items: Vec<T>, top: usize, continuation: impl Fn(&T) -> String) -> Page<T> {
    let goes_on = items.len() > top;
    items.truncate(top);
    let next = items.last().filter(|_| goes_on).map(continuation);
    Page { items, next }
}

/// The key that a page of a list begins behind.
fn after(list: char, request: &PageRequest) -> Result<Option<DeploymentKey>, StoreError> {
    let read = |text: &String| text.strip_prefix(list)?.strip_prefix('.')?.parse().ok();
    request.continuation.as_ref().map(|text| read(text).ok_or(StoreError::InvalidContinuation)).transpose()
}

#[async_trait]
impl Store for TablesStore {
    async fn claim_key(&self, key: &str, claim: &Claim) -> Result<Option<Claim>, StoreError> {
        facts::claim(self.service(), key, claim).await
    }

    async fn key_holder(&self, key: &str) -> Result<Option<Claim>, StoreError> {
        facts::holder(self.service(), key).await
    }

    async fn rollout(&self, id: RolloutId) -> Result<Option<Versioned<Rollout>>, StoreError> {
        rollouts::one(self.service(), id).await
    }

    async fn save_rollout(&self, rollout: &Versioned<Rollout>) -> Result<Saved, StoreError> {
        rollouts::save(self.service(), rollout, self.clock.now()).await
    }

    async fn rollouts(&self, request: &PageRequest) -> Result<Page<Rollout>, StoreError> {
        rollouts::newest_first(self.service(), request).await
    }

    async fn open_rollouts(&self) -> Result<Vec<Versioned<Rollout>>, StoreError> {
        let look = async |(id, row)| {
            let rollout = rollouts::one(self.service(), id).await?;
            match rollout {
                Some(rollout) if self.is_open(&rollout.value).await? => Ok::<_, StoreError>(Some(rollout)),
                _ => {
                    rollouts::unmark(self.service(), row, rollouts::unmarkable(self.clock.now())).await?;
                    Ok(None)
                }
            }
        };
        let marked = rollouts::marked(self.service()).await?;
        let mut open: Vec<_> = try_join_all(marked.into_iter().map(look)).await?.into_iter().flatten().collect();
        open.sort_by_key(|rollout| (rollout.value.created_at, rollout.value.id));
        Ok(open)
    }

    async fn long_ended_rollouts(
        &self,
        before: Timestamp,
        at_most: usize,
    ) -> Result<Vec<Versioned<Rollout>>, StoreError> {
        let mut ended = Vec::new();
        for copy in rollouts::made_before(self.service(), before).await? {
            if ended.len() >= at_most {
                break;
            }
            if !copy.state.is_ended() || copy.ended_at.is_none_or(|at| at >= before) {
                continue;
            }
            let Some(rollout) = rollouts::one(self.service(), copy.id).await? else { continue };
            let is_old = rollout.value.ended_at.is_some_and(|at| at < before);
            if is_old && !self.is_open(&rollout.value).await? {
                ended.push(rollout);
            }
        }
        Ok(ended)
    }

    async fn remove_refreshes(&self, rollout: RolloutId, at_most: usize) -> Result<usize, StoreError> {
        let mut refreshes = self.collections.list::<Refresh>(&rollout.to_string(), None, None, at_most).await?;
        refreshes.truncate(at_most);
        let changes: Vec<_> = refreshes.iter().map(|refresh| Change::guarded(refresh, Aim::Remove)).collect();
        let removed = self.collections.change(&changes).await?;
        Ok(removed.iter().filter(|saved| saved.is_stored()).count())
    }

    async fn remove_rollout(&self, rollout: &Versioned<Rollout>) -> Result<Saved, StoreError> {
        let left = self.collections.list::<Refresh>(&rollout.value.id.to_string(), None, None, 1).await?;
        if left.is_empty() { rollouts::remove(self.service(), rollout).await } else { Ok(Saved::Conflict) }
    }

    async fn forget_facts(&self, claims: Timestamp, throttles: Timestamp, at_most: usize) -> Result<usize, StoreError> {
        let mut old = facts::old_throttles(self.service(), throttles, at_most).await?;
        old.extend(facts::old_upkeep(self.service(), throttles).await?.into_iter().take(at_most));
        for (row, claim) in facts::claims(self.service()).await? {
            if claim.at < claims && rollouts::one(self.service(), claim.rollout_id).await?.is_none() {
                old.push(row);
            }
        }
        let mut removed = 0;
        for row in old {
            removed += usize::from(facts::remove(self.service(), row).await?);
        }
        Ok(removed)
    }

    async fn insert_refreshes(&self, refreshes: &[Refresh]) -> Result<usize, StoreError> {
        let new: Vec<_> = refreshes.iter().cloned().map(Versioned::new).collect();
        Ok(self.save_refreshes(&new).await?.iter().filter(|saved| saved.is_stored()).count())
    }

    async fn refresh(&self, rollout: RolloutId, key: &DeploymentKey) -> Result<Option<Versioned<Refresh>>, StoreError> {
        self.collections.one(&rollout.to_string(), key).await
    }

    async fn save_refreshes(&self, refreshes: &[Versioned<Refresh>]) -> Result<Vec<Saved>, StoreError> {
        let changes: Vec<_> = refreshes.iter().map(|refresh| Change::guarded(refresh, Aim::Store)).collect();
        let mut reopened: Vec<_> =
            changes.iter().filter(|change| reopens(change)).map(|change| change.record.rollout_id).collect();
        reopened.sort_unstable();
        reopened.dedup();
        for id in reopened {
            rollouts::mark_open(self.service(), id, self.clock.now()).await?;
        }
        self.collections.change(&changes).await
    }

    async fn refreshes(
        &self,
        rollout: RolloutId,
        standings: Option<&[Standing]>,
        request: &PageRequest,
    ) -> Result<Page<Versioned<Refresh>>, StoreError> {
        let (top, after) = (request.top.max(1), after(REFRESHES, request)?);
        let groups: Option<Vec<String>> =
            standings.map(|standings| standings.iter().map(|standing| standing.word().to_owned()).collect());
        let owner = rollout.to_string();
        let after = after.as_ref().map(DeploymentKey::as_str);
        let items = self.collections.list(&owner, groups.as_deref(), after, top + 1).await?;
        Ok(page(items, top, |last: &Versioned<Refresh>| format!("{REFRESHES}.{}", last.value.key)))
    }

    async fn tally(&self, rollout: RolloutId) -> Result<Tally, StoreError> {
        let mut tally = Tally::default();
        let counts = counting::sum(self.service(), Table::Refreshes, &rollout.to_string()).await?;
        for (Class { group, detail }, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let standing = Standing::from_word(&group).ok_or_else(|| StoreError::Corrupt {
                what: "count",
                reason: format!("{group:?} is no standing of a refresh"),
            })?;
            tally.add(detail, standing, count);
        }
        Ok(tally)
    }

    async fn due_refreshes(&self, now: Timestamp, at_most: usize) -> Result<Vec<Versioned<Refresh>>, StoreError> {
        self.collections.due(0, Some(now), at_most).await
    }

    async fn next_wake(&self) -> Result<Option<Timestamp>, StoreError> {
        let next: Vec<Versioned<Refresh>> = self.collections.due(0, None, 1).await?;
        Ok(next.first().and_then(|refresh| refresh.value.wake_at()))
    }

    async fn deployments_by_key(
        &self,
        keys: &[DeploymentKey],
    ) -> Result<Vec<Option<Versioned<Deployment>>>, StoreError> {
        let mut wanted: Vec<_> = keys.iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let read = wanted.iter().map(|key| self.collections.one::<Deployment>(NOBODY, key));
        let read: HashMap<_, _> = wanted.iter().copied().zip(try_join_all(read).await?).collect();
        Ok(keys.iter().map(|key| read.get(key).cloned().flatten()).collect())
    }

    async fn save_deployments(&self, deployments: &[Versioned<Deployment>]) -> Result<Vec<Saved>, StoreError> {
        let changes: Vec<_> = deployments.iter().map(|deployment| Change::guarded(deployment, Aim::Store)).collect();
        self.collections.change(&changes).await
    }

    async fn deployments(
        &self,
        plan: Option<&Plan>,
        request: &PageRequest,
    ) -> Result<Page<Versioned<Deployment>>, StoreError> {
        let (top, after) = (request.top.max(1), after(DEPLOYMENTS, request)?);
        let groups = plan.map(|plan| vec![plan.to_string()]);
        let after = after.as_ref().map(DeploymentKey::as_str);
        let items = self.collections.list(NOBODY, groups.as_deref(), after, top + 1).await?;
        Ok(page(items, top, |last: &Versioned<Deployment>| format!("{DEPLOYMENTS}.{}", last.value.key)))
    }

    async fn deployments_after(
        &self,
        plan: &Plan,
        after: Option<&DeploymentKey>,
        at_most: usize,
    ) -> Result<Vec<Deployment>, StoreError> {
        let groups = [plan.to_string()];
        let after = after.map(DeploymentKey::as_str);
        let mut items = self.collections.list(NOBODY, Some(&groups), after, at_most).await?;
        items.truncate(at_most);
        Ok(items.into_iter().map(|item: Versioned<Deployment>| item.value).collect())
    }

    async fn count_deployments(&self, plan: &Plan) -> Result<u64, StoreError> {
        let there = Class { group: plan.to_string(), detail: 0 };
        let counts = counting::sum(self.service(), Table::Deployments, NOBODY).await?;
        Ok(counts.get(&there).copied().unwrap_or_default())
    }

    async fn due_checks(&self, now: Timestamp, at_most: usize) -> Result<Vec<Versioned<Deployment>>, StoreError> {
        self.collections.due(0, Some(now), at_most).await
    }

    async fn record_past(&self, key: &DeploymentKey, past: &PastRefresh) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let Some(mut deployment) = self.collections.one::<Deployment>(NOBODY, key).await? else { return Ok(()) };
            if !deployment.value.note_past(past) {
                return Ok(());
            }
            if self.collections.change(&[Change::guarded(&deployment, Aim::Store)]).await?.iter().all(Saved::is_stored)
            {
                return Ok(());
            }
        }
        let reason = format!("others changed the deployment {TRIES} times in a row");
        Err(StoreError::Unavailable { action: "note how a refresh ended", reason })
    }

    async fn forget_gone(&self, before: Timestamp) -> Result<usize, StoreError> {
        let mut forgotten = 0;
        loop {
            let gone: Vec<Versioned<Deployment>> = self.collections.due(1, Some(before), FORGET_AT_ONCE).await?;
            let removals: Vec<_> = gone
                .iter()
                .filter(|deployment| deployment.value.gone_since.is_some_and(|since| since < before))
                .map(|deployment| Change::guarded(deployment, Aim::Remove))
                .collect();
            let removed = self.collections.change(&removals).await?.iter().filter(|saved| saved.is_stored()).count();
            forgotten += removed;
            if removed == 0 {
                return Ok(forgotten);
            }
        }
    }

    async fn remove_deployment(&self, deployment: &Versioned<Deployment>) -> Result<Saved, StoreError> {
        if deployment.etag.is_none() {
            return Ok(Saved::Conflict);
        }
        let saved = self.collections.change(&[Change::guarded(deployment, Aim::Remove)]).await?;
        Ok(saved.into_iter().next().unwrap_or(Saved::Conflict))
    }

    async fn document(
        &self,
        collection: &'static str,
        name: &DocumentName,
    ) -> Result<Option<Versioned<Value>>, StoreError> {
        documents::one(self.service(), collection, name).await
    }

    async fn save_document(
        &self,
        collection: &'static str,
        name: &DocumentName,
        document: &Versioned<Value>,
    ) -> Result<Saved, StoreError> {
        documents::save(self.service(), collection, name, document).await
    }

    async fn remove_document(
        &self,
        collection: &'static str,
        name: &DocumentName,
        etag: &ETag,
    ) -> Result<Saved, StoreError> {
        documents::remove(self.service(), collection, name, etag).await
    }

    async fn documents(
        &self,
        collection: &'static str,
        prefix: &str,
        request: &PageRequest,
    ) -> Result<Page<(DocumentName, Versioned<Value>)>, StoreError> {
        documents::by_name(self.service(), collection, prefix, request).await
    }

    async fn throttled_until(&self, subscription: &str) -> Result<Option<Timestamp>, StoreError> {
        facts::throttled_until(self.service(), subscription).await
    }

    async fn throttle(&self, subscription: &str, until: Timestamp) -> Result<(), StoreError> {
        facts::throttle(self.service(), subscription, until).await
    }

    async fn wake_forgotten(&self, now: Timestamp) -> Result<usize, StoreError> {
        if !self.takes_upkeep(now).await? {
            return Ok(0);
        }
        let overdue = now - FORGOTTEN;
        let mut filed = self.collections.file_overdue::<Deployment>(NOBODY, 0, overdue).await?;
        filed += self.collections.file_overdue::<Deployment>(NOBODY, 1, overdue - TOMBSTONE).await?;
        for (id, _) in rollouts::marked(self.service()).await? {
            filed += self.collections.file_overdue::<Refresh>(&id.to_string(), 0, overdue).await?;
        }
        Ok(filed)
    }
}
