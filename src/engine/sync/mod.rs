//! SyncDeployments: finds deployments through what our identity can see, and doubts those that it cannot see any more.
//!
//! A run goes through stages, each cut into units whose end is stored, so that it goes on after any interruption: it lists
//! the subscriptions and files them in shares; `looking` reads each share through Azure Resource Graph, ARM's lists and the
//! managed resource groups; `comparing` walks the registry for what was not found. What is missing is never taken for gone
//! here: it is read, as after a notification, and ARM's answers decide. A source that fails makes a run smaller, not wrong.

mod comparing;
mod looking;
mod run;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use run::{CURRENT, said};
pub use run::{Stage, SyncCounts, SyncDifference, SyncRun};

use super::{Engine, EngineError};
use crate::arm::inventory::Subscription;
use crate::queue::{Message, Outgoing};
use crate::rollout::{Timestamp, counted};
use crate::store::Versioned;
use crate::store::document::{self, Document};

/// How long one message goes on: well below the function timeout.
const BUDGET: Duration = Duration::from_secs(60);
/// How long nobody else works on a run that somebody has taken up.
const CLAIM: Duration = Duration::from_secs(5 * 60);
/// How long a run may stand still before its message counts as lost.
const LOST: Duration = Duration::from_secs(6 * 60);
/// How many subscriptions are read together: Resource Graph takes so many in one question.
const SHARE: usize = 400;
/// The most pages of subscriptions.
const MOST_PAGES: usize = 1_000;

/// Some of the subscriptions of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Share {
    run: String,
    number: u32,
    subscriptions: Vec<SubscriptionEntry>,
    /// Those that no source has read to its end; all of them until the share was looked at.
    unread: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubscriptionEntry {
    id: String,
    tenant_id: Option<String>,
}

impl Document for Share {
    const COLLECTION: &'static str = "sync-share";
    fn name(&self) -> String {
        share_name(&self.run, self.number)
    }
}

fn share_name(run: &str, number: u32) -> String {
    format!("{run}-{number:08}")
}

/// What becomes of a unit.
enum Unit {
    /// It is done, and the run has moved.
    Done,
    /// It has to be tried again, not before this.
    Wait(Duration),
}

/// Why a run was not started.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Another one is under way.
    #[error("a {} is under way since {}; wait until it has ended", if *.is_dry_run { "dry run of a sync" } else { "sync" }, .since.format("%H:%M:%SZ"))]
    UnderWay {
        /// Whether it is a dry run.
        is_dry_run: bool,
        /// Since when.
        since: Timestamp,
    },
    /// A part of ours failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<crate::store::StoreError> for SyncError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Engine(error.into())
    }
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Engine {
    /// The last run, under way or ended.
    pub async fn sync(&self) -> Result<Option<SyncRun>, EngineError> {
        Ok(document::get::<SyncRun>(&*self.store, CURRENT).await?.map(|run| run.value))
    }

    /// Begins a run. Where the same is under way, that one is returned.
    pub async fn start_sync(&self, is_dry_run: bool) -> Result<SyncRun, SyncError> {
        for _ in 0..super::RACES {
            let now = self.now();
            let before = document::get::<SyncRun>(&*self.store, CURRENT).await?;
            if let Some(before) = before.as_ref().filter(|before| before.value.stage != Stage::Ended) {
                if before.value.is_dry_run == is_dry_run {
                    return Ok(before.value.clone());
                }
                let since = before.value.started_at;
                return Err(SyncError::UnderWay { is_dry_run: before.value.is_dry_run, since });
            }
            if let Some(before) = &before {
                // Its end may have been cut off before this was done.
                self.remove_shares(&before.value.id).await?;
            }
            let run = SyncRun::new(now.format("%Y%m%dT%H%M%S%3fZ").to_string(), is_dry_run, now);
            let next = Versioned { value: run.clone(), etag: before.and_then(|before| before.etag) };
            if document::save(&*self.store, &next).await?.is_stored() {
                info!(sync.id = %run.id, "Sync {} begins", run.id);
                self.send_sync_message(&run, None).await?;
                return Ok(run);
            }
        }
        Err(SyncError::Engine(EngineError::Contended { what: "the sync".to_owned() }))
    }

    /// One message: as many units as there is time for.
    pub async fn go_on_with_sync(&self, id: &str) -> Result<(), EngineError> {
        let Some(mut run) = self.current_sync(id).await? else { return Ok(()) };
        let began = self.now();
        if run.value.claimed_until.is_some_and(|until| until > began) {
            return Ok(());
        }
        run.value.claimed_until = Some(began + CLAIM);
        if !self.save_sync(&mut run).await? {
            return Ok(());
        }
        let mut due = None;
        let mut view = None;
        while run.value.stage != Stage::Ended && due.is_none() && self.now() < began + BUDGET {
            let unit = match run.value.stage.clone() {
                Stage::Listing { link } => self.list_a_page(&mut run.value, link).await?,
                Stage::Looking { share } => self.look_at_a_share(&mut run.value, share).await?,
                Stage::Comparing { continuation } => {
                    let view = self.view(&mut view, &run.value).await?;
                    self.compare_a_page(&mut run.value, continuation, view).await?
                }
                Stage::Asking { continuation } => {
                    let view = self.view(&mut view, &run.value).await?;
                    self.ask_about_a_page(&mut run.value, continuation, view).await?
                }
                Stage::Ended => Unit::Done,
            };
            if let Unit::Wait(wait) = unit {
                due = Some(self.now() + wait);
            } else {
                run.value.tries = 0;
                run.value.failure = None;
                if !self.save_sync(&mut run).await? {
                    return Ok(());
                }
            }
        }
        run.value.claimed_until = None;
        run.value.due = due;
        let ended = run.value.stage == Stage::Ended;
        run.value.message += u32::from(!ended);
        if !self.save_sync(&mut run).await? {
            return Ok(());
        }
        if !ended {
            return self.send_sync_message(&run.value, due).await;
        }
        let SyncCounts { found, new, back, changed, missing, .. } = run.value.counts;
        info!(
            sync.id = %id, found, new, back, changed, missing,
            "Sync {id} has ended: {} found, {new} new, {back} back, {changed} changed, {missing} missing", counted(found, "deployment")
        );
        self.remove_shares(id).await
    }

    /// Sends the message of a run again that stands still, for the timer.
    pub(super) async fn send_lost_sync(&self) -> Result<(), EngineError> {
        let Some(mut run) = document::get::<SyncRun>(&*self.store, CURRENT).await? else { return Ok(()) };
        let now = self.now();
        let waits_until = run.value.due.map_or(run.value.moved_at, |due| due.max(run.value.moved_at));
        if run.value.stage == Stage::Ended || waits_until + LOST > now {
            return Ok(());
        }
        run.value.message += 1;
        run.value.claimed_until = None;
        if self.save_sync(&mut run).await? {
            warn!(sync.id = %run.value.id, "The message of sync {} was lost and is sent again", run.value.id);
            self.send_sync_message(&run.value, None).await?;
        }
        Ok(())
    }

    async fn current_sync(&self, id: &str) -> Result<Option<Versioned<SyncRun>>, EngineError> {
        let run = document::get::<SyncRun>(&*self.store, CURRENT).await?;
        Ok(run.filter(|run| run.value.id == id && run.value.stage != Stage::Ended))
    }

    /// Writes the run; `false` if somebody else did.
    async fn save_sync(&self, run: &mut Versioned<SyncRun>) -> Result<bool, EngineError> {
        run.value.moved_at = self.now();
        let saved = document::save(&*self.store, run).await?;
        let crate::store::Saved::Stored(etag) = saved else { return Ok(false) };
        run.etag = Some(etag);
        Ok(true)
    }

    async fn send_sync_message(&self, run: &SyncRun, due: Option<Timestamp>) -> Result<(), EngineError> {
        let body = Message::SyncDeployments { run: run.id.clone() }.to_body();
        let message = Outgoing { id: format!("sync:{}:{}", run.id, run.message), body, due };
        self.send_refresh_messages(&[message]).await
    }

    async fn list_a_page(&self, run: &mut SyncRun, link: Option<String>) -> Result<Unit, EngineError> {
        let page = match self.arm.list_subscriptions(link.as_deref()).await {
            Ok(page) => page,
            Err(end) => {
                if let Some(wait) = run.retry(&end) {
                    return Ok(Unit::Wait(wait));
                }
                return Ok(self.without_more_subscriptions(run, &said(&end)));
            }
        };
        run.links.push(hash_of(&link));
        if page.unreadable > 0 {
            run.complain(format!("{} could not be read", counted(page.unreadable as u64, "subscription")));
        }
        for part in page.subscriptions.chunks(SHARE) {
            self.file_share(run, part).await?;
        }
        match page.next {
            None => {
                run.has_all_subscriptions = page.unreadable == 0;
                run.enter(Stage::Looking { share: 0 });
            }
            Some(next) if run.links.contains(&hash_of(&Some(&next))) => {
                return Ok(self.without_more_subscriptions(run, "a page names itself or one before it as the next"));
            }
            Some(_) if run.links.len() >= MOST_PAGES => {
                return Ok(self.without_more_subscriptions(run, "the list has too many pages"));
            }
            Some(next) => run.enter(Stage::Listing { link: Some(next) }),
        }
        Ok(Unit::Done)
    }

    fn without_more_subscriptions(&self, run: &mut SyncRun, why: &str) -> Unit {
        run.complain(format!("the subscriptions could not be listed to their end: {why}"));
        run.enter(Stage::Looking { share: 0 });
        Unit::Done
    }

    async fn file_share(&self, run: &mut SyncRun, subscriptions: &[Subscription]) -> Result<(), EngineError> {
        let entry = |of: &Subscription| SubscriptionEntry { id: of.id.clone(), tenant_id: of.tenant_id.clone() };
        let share = Share {
            run: run.id.clone(),
            number: run.shares,
            subscriptions: subscriptions.iter().map(entry).collect(),
            unread: subscriptions.iter().map(|of| of.id.clone()).collect(),
        };
        // An earlier try may have filed it and died.
        let before = document::get::<Share>(&*self.store, &share.name()).await?;
        let share = Versioned { value: share, etag: before.and_then(|before| before.etag) };
        document::save(&*self.store, &share).await?;
        run.shares += 1;
        run.counts.subscriptions += subscriptions.len() as u64;
        Ok(())
    }
}
