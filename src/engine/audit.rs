//! The audit list: every command of a person or a key, with who, when, what, from and to; and what the service had to
//! note by itself.
//!
//! The entry is written before the effect, and completed after it. So no effect is without its entry: where the process
//! dies in between, the entry stays *begun*, which says that the effect may or may not have come.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use super::{Engine, EngineError};
use crate::rollout::Timestamp;
use crate::store::document::{self, Document};
use crate::store::{Page, PageRequest, StoreError, Versioned};

/// The seconds of a day.
const DAY: i64 = 24 * 60 * 60;
/// More days than will be.
const LAST_DAY: i64 = 99_999;
/// Who, where it was the service itself.
pub const OURSELVES: &str = "permafresh";
/// What: a message that nobody could work off.
pub const DEAD_LETTER: &str = "message.dead";
/// The longest text of an entry, in characters.
const LONGEST: usize = 2_000;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Its id.
    pub id: Uuid,
    /// When it began.
    pub at: Timestamp,
    /// Who: the principal, or the fingerprint of the key; `permafresh` for the service itself.
    pub who: String,
    /// What, such as `rollout.pause`.
    pub what: String,
    /// On what: the id of a rollout, the id of an application, a plan and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// How it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How it was after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why, in the words of whoever did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It was begun, and its end was not noted.
    Begun,
    /// It was done, or was so already.
    Done,
    /// It was refused, or failed.
    Refused,
}

impl Document for AuditEntry {
    const COLLECTION: &'static str = "audit";

    /// The newest first, and a day together.
    fn name(&self) -> String {
        format!("{}{:020}.{}", day_prefix(day_of(self.at)), i64::MAX - self.at.timestamp_micros(), self.id)
    }
}

/// The day of a moment, in days since 1970.
pub(super) fn day_of(at: Timestamp) -> i64 {
    at.timestamp().div_euclid(DAY)
}

/// What the names of a day's entries begin with.
pub(super) fn day_prefix(day: i64) -> String {
    format!("{:05}.", LAST_DAY - day)
}

/// A command that is to be carried out.
#[derive(Clone, Debug)]
pub struct Act {
    /// Who gives it.
    pub who: String,
    /// What, such as `rollout.pause`.
    pub what: &'static str,
    /// On what.
    pub on: Option<String>,
    /// How it is before.
    pub from: Option<String>,
    /// Why, in the words of whoever gives it.
    pub why: Option<String>,
}

impl Engine {
    /// Carries out a command between the two writes of its entry. `work` answers with what it did and how it is then.
    pub async fn audited<T, E: Display + From<EngineError>>(
        &self,
        act: Act,
        work: impl Future<Output = Result<(T, Option<String>), E>> + Send,
    ) -> Result<T, E> {
        let entry = AuditEntry {
            id: Uuid::new_v4(),
            at: self.now(),
            who: act.who,
            what: act.what.to_owned(),
            on: act.on,
            from: act.from,
            to: None,
            why: act.why,
            outcome: Outcome::Begun,
            problem: None,
        };
        let begun = self.write_entry(&Versioned::new(entry)).await.map_err(|error| E::from(error.into()))?;
        let result = work.await;
        let mut ended = begun.value.clone();
        match &result {
            Ok((_, to)) => {
                ended.outcome = Outcome::Done;
                ended.to.clone_from(to);
            }
            Err(error) => {
                ended.outcome = Outcome::Refused;
                ended.problem = Some(error.to_string());
            }
        }
        if let Err(error) = self.write_entry(&begun.with(ended)).await {
            warn!(audit.id = %begun.value.id, "The audit entry {} stays begun: {error}", begun.value.id);
        }
        result.map(|(value, _)| value)
    }

    /// Notes what the service found by itself; twice with the same id is once.
    pub(super) async fn note_finding(&self, entry: AuditEntry) -> Result<(), StoreError> {
        document::save(&*self.store, &Versioned::new(entry)).await.map(|_| ())
    }

    async fn write_entry(&self, entry: &Versioned<AuditEntry>) -> Result<Versioned<AuditEntry>, StoreError> {
        let mut entry = entry.clone();
        let AuditEntry { on, from, to, why, problem, .. } = &mut entry.value;
        for text in [on, from, to, why, problem].into_iter().flatten() {
            if let Some((end, _)) = text.char_indices().nth(LONGEST) {
                text.truncate(end);
            }
        }
        match document::save(&*self.store, &entry).await? {
            crate::store::Saved::Stored(etag) => Ok(Versioned { value: entry.value, etag: Some(etag) }),
            crate::store::Saved::Conflict => Err(StoreError::Unavailable {
                action: "write the audit list",
                reason: "the entry was changed".to_owned(),
            }),
        }
    }

    /// The audit list, the newest first.
    pub async fn audit(&self, page: &PageRequest) -> Result<Page<AuditEntry>, StoreError> {
        let page = document::page::<AuditEntry>(&*self.store, "", page).await?;
        Ok(Page { items: page.items.into_iter().map(|entry| entry.value).collect(), next: page.next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_entries_sort_first_and_a_days_together() {
        let entry = |at: &str| AuditEntry {
            id: Uuid::nil(),
            at: at.parse().unwrap(),
            who: String::new(),
            what: String::new(),
            on: None,
            from: None,
            to: None,
            why: None,
            outcome: Outcome::Begun,
            problem: None,
        };
        let moments =
            ["2026-03-11T00:00:00Z", "2026-03-10T23:59:59.999Z", "2026-03-10T00:00:00Z", "2026-03-09T12:00:00Z"];
        let names = moments.map(|at| entry(at).name());
        assert!(names.is_sorted(), "{names:?}");
        let day = day_prefix(day_of("2026-03-10T05:00:00Z".parse().unwrap()));
        assert_eq!(names.map(|name| name.starts_with(&day)), [false, true, true, false]);
    }
}
