//! The registry against what was found: what is missing is counted first, then asked about, unless so much is missing that it
//! is rather our view that is gone.

use std::time::Duration;

use tracing::info;
use uuid::Uuid;

use super::looking::Found;
use super::{Share, Stage, SyncRun, Unit};
use crate::engine::{Engine, EngineError};
use crate::rollout::Deployment;
use crate::rollout::sighting::Discovery;
use crate::store::{PageRequest, document};

/// How many deployments are compared in one unit.
const PAGE: usize = 1_000;
/// How many records of a run are read at once: they can be large.
const RECORDS: usize = 20;
/// So many may be missing whatever their share is.
const FEW: u64 = 10;
/// How far apart two questions about missing ones are: these are in no hurry, and refreshes are.
const GAP: Duration = Duration::from_millis(40);

/// What a run has found. Read once for each message, since every page of the registry is held against all of it; 8 bytes
/// for a deployment and 16 for a subscription, so that a million of both need little memory.
pub(super) struct View {
    found: Vec<u64>,
    /// The subscriptions in which nothing can be missing: no source has read them to its end.
    unread: Vec<u128>,
    listed: Vec<u128>,
    has_all_subscriptions: bool,
}

impl View {
    /// Whether the deployment ought to have been found and was not.
    fn misses(&self, deployment: &Deployment, run: &SyncRun) -> bool {
        // What is newer than the run could not be in its lists.
        if deployment.gone_since.is_some() || deployment.updated_at >= run.started_at {
            return false;
        }
        let holds = |all: &[u128], id: u128| all.binary_search(&id).is_ok();
        let was_read = match subscription(deployment.application_id.subscription()) {
            Some(id) if holds(&self.listed, id) => !holds(&self.unread, id),
            _ => self.has_all_subscriptions,
        };
        was_read && short(deployment.key.as_str()).is_none_or(|key| self.found.binary_search(&key).is_err())
    }
}

/// The first 16 digits of a key.
fn short(key: &str) -> Option<u64> {
    u64::from_str_radix(key.get(..16)?, 16).ok()
}

/// A subscription's GUID as a number.
fn subscription(id: &str) -> Option<u128> {
    Uuid::parse_str(id).ok().map(|id| id.as_u128())
}

impl Engine {
    /// Counts what is missing on one page of the registry.
    pub(super) async fn compare_a_page(
        &self,
        run: &mut SyncRun,
        continuation: Option<String>,
        view: &View,
    ) -> Result<Unit, EngineError> {
        let page = self.store.deployments(None, &PageRequest { continuation, top: PAGE }).await?;
        for deployment in page.items.iter().map(|item| &item.value).filter(|of| of.gone_since.is_none()) {
            run.counts.known += 1;
            if view.misses(deployment, run) {
                run.note(&deployment.application_id, Discovery::Missing);
            }
        }
        if page.next.is_some() {
            run.enter(Stage::Comparing { continuation: page.next });
            return Ok(Unit::Done);
        }
        let missing = run.counts.missing;
        if missing > FEW && missing * 2 > run.counts.known {
            run.complain(format!(
                "{missing} of {} known deployments are in no list, so our identity has rather lost its view of them: nothing is asked about them; look at its roles",
                run.counts.known
            ));
            run.end(self.now());
        } else if missing == 0 || run.is_dry_run {
            run.end(self.now());
        } else {
            run.enter(Stage::Asking { continuation: None });
        }
        Ok(Unit::Done)
    }

    /// Asks ARM about what is missing on one page of the registry.
    pub(super) async fn ask_about_a_page(
        &self,
        run: &mut SyncRun,
        continuation: Option<String>,
        view: &View,
    ) -> Result<Unit, EngineError> {
        let page = self.store.deployments(None, &PageRequest { continuation, top: PAGE }).await?;
        let now = self.now();
        let mut asked = Vec::new();
        for item in page.items {
            if item.value.check.is_some() || !view.misses(&item.value, run) {
                continue;
            }
            let mut item = item;
            let turn = u32::try_from(run.counts.asked).unwrap_or(u32::MAX);
            item.value.ask_check(now + GAP.saturating_mul(turn));
            run.counts.asked += 1;
            asked.push(item);
        }
        let saved = self.store.save_deployments(&asked).await?;
        let mut messages = Vec::new();
        // Whoever was quicker knows something newer.
        for (item, _) in asked.iter().zip(&saved).filter(|(_, saved)| saved.is_stored()) {
            let deployment = &item.value;
            info!(deployment.key = %deployment.key, "Sync {} misses {}: ARM is asked", run.id, deployment.application_id);
            messages.extend(super::super::registry::check_message(deployment, now));
        }
        self.send_refresh_messages(&messages).await?;
        match page.next {
            Some(next) => run.enter(Stage::Asking { continuation: Some(next) }),
            None => run.end(now),
        }
        Ok(Unit::Done)
    }

    /// The view of a run: `kept` if this message has read it, else what is stored.
    pub(super) async fn view<'a>(&self, kept: &'a mut Option<View>, run: &SyncRun) -> Result<&'a View, EngineError> {
        match kept {
            Some(view) => Ok(view),
            none => Ok(none.insert(self.read_view(run).await?)),
        }
    }

    async fn read_view(&self, run: &SyncRun) -> Result<View, EngineError> {
        let mut view = View {
            found: Vec::new(),
            unread: Vec::new(),
            listed: Vec::new(),
            has_all_subscriptions: run.has_all_subscriptions,
        };
        let mut page = PageRequest { continuation: None, top: RECORDS };
        loop {
            let shares = document::page::<Share>(&*self.store, &run.id, &page).await?;
            for share in shares.items {
                view.listed.extend(share.value.subscriptions.iter().filter_map(|entry| subscription(&entry.id)));
                view.unread.extend(share.value.unread.iter().filter_map(|id| subscription(id)));
            }
            page.continuation = shares.next;
            if page.continuation.is_none() {
                break;
            }
        }
        loop {
            let found = document::page::<Found>(&*self.store, &run.id, &page).await?;
            for part in found.items {
                view.found.extend(part.value.keys.iter().filter_map(|key| short(key)));
            }
            page.continuation = found.next;
            if page.continuation.is_none() {
                break;
            }
        }
        view.found.sort_unstable();
        view.unread.sort_unstable();
        view.listed.sort_unstable();
        Ok(view)
    }
}
