//! Retention: what is older than `RETENTION_DAYS` goes, a bounded piece at a time, so that no tick is held up: ended
//! rollouts with their refreshes, courses and changes, claims, the audit list, and what throttles, queues and ended sessions remember.
//! A deployment's last success is kept with the deployment, and stays.

use std::sync::PoisonError;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::info;

use super::audit::{AuditEntry, day_of, day_prefix};
use super::{Engine, EngineError};
use crate::rollout::{Changes, Course, Timestamp};
use crate::store::document::{self, Document};
use crate::store::{PageRequest, Versioned};

/// How often there is a round, in all instances together; at once again where the last one left something.
const GAP: Duration = Duration::from_secs(60 * 60);
/// How long a throttle is kept after it ended.
const THROTTLES: Duration = Duration::from_secs(24 * 60 * 60);
/// How many rollouts, and how many pages of refreshes of them, go in one round.
const ROLLOUTS: usize = 10;
const PAGES: usize = 5;
/// How many records go at a time.
const PAGE: usize = 500;
/// How many days of the audit list one round looks at.
const DAYS: usize = 100;

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Round {
    /// When the next round is due.
    next_at: Timestamp,
    /// The first day whose audit entries may still be there, in days since 1970. Nothing is older than the first round.
    audit_from: i64,
    /// The day on which claims and throttles were looked at.
    facts_on: i64,
}

const NAME: &str = "round";

impl Document for Round {
    const COLLECTION: &'static str = "retention";

    fn name(&self) -> String {
        NAME.to_owned()
    }
}

impl Engine {
    /// One round, if one is due.
    pub(super) async fn forget_old(&self) -> Result<(), EngineError> {
        let now = self.now();
        {
            let mut next = self.next_round.lock().unwrap_or_else(PoisonError::into_inner);
            if next.is_some_and(|next| next > now && next <= now + GAP) {
                return Ok(());
            }
            *next = Some(now + GAP);
        }
        let today = day_of(now);
        let known = document::get::<Round>(&*self.store, NAME).await?;
        let known = known.unwrap_or_else(|| Versioned::new(Round { next_at: now, audit_from: today, facts_on: today }));
        if known.value.next_at > now {
            return Ok(());
        }
        let mut round = Round { next_at: now + GAP, ..known.value.clone() };
        // Taken before it is done, so that two instances do not do it at once; a death costs an hour.
        let crate::store::Saved::Stored(etag) = document::save(&*self.store, &known.with(round.clone())).await? else {
            return Ok(());
        };
        let before = now - self.config.retention;
        let mut is_done = self.forget_rollouts(before).await?;
        is_done &= self.forget_audit(&mut round, day_of(before)).await?;
        is_done &= self.forget_signed_out(PAGE).await?;
        if round.facts_on < today {
            self.store.forget_facts(before, now - THROTTLES, PAGE).await?;
            round.facts_on = today;
        }
        for queue in [&self.config.rollout_queue, &self.config.refresh_queue] {
            self.queue.forget_old(queue).await?;
        }
        if !is_done {
            round.next_at = now;
            *self.next_round.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        document::save(&*self.store, &Versioned { value: round, etag: Some(etag) }).await?;
        Ok(())
    }

    /// Whether all are gone.
    async fn forget_rollouts(&self, before: Timestamp) -> Result<bool, EngineError> {
        let old = self.store.long_ended_rollouts(before, ROLLOUTS).await?;
        let found = old.len();
        let mut pages = 0;
        for rollout in old {
            let id = rollout.value.id;
            loop {
                let removed = self.store.remove_refreshes(id, PAGE).await?;
                if removed == 0 {
                    break;
                }
                pages += 1;
                if pages >= PAGES {
                    return Ok(false);
                }
            }
            // Before the rollout, since nobody finds them without it.
            document::forget::<Course>(&*self.store, &id.to_string()).await?;
            document::forget::<Changes>(&*self.store, &id.to_string()).await?;
            if self.store.remove_rollout(&rollout).await?.is_stored() {
                info!(rollout.id = %id, "Rollout {id} is older than what is kept, and is forgotten");
            }
        }
        Ok(found < ROLLOUTS)
    }

    /// Whether all entries of days before `end` are gone.
    async fn forget_audit(&self, round: &mut Round, end: i64) -> Result<bool, EngineError> {
        for _ in 0..DAYS {
            if round.audit_from >= end {
                return Ok(true);
            }
            let request = PageRequest { continuation: None, top: PAGE };
            let page = document::page::<AuditEntry>(&*self.store, &day_prefix(round.audit_from), &request).await?;
            for entry in &page.items {
                document::remove(&*self.store, entry).await?;
            }
            if page.next.is_some() {
                return Ok(false);
            }
            round.audit_from += 1;
        }
        Ok(round.audit_from >= end)
    }
}
