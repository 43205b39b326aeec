//! Queues in one SQLite file, for one machine: what Service Bus does, as far as the functions rely on it.
//!
//! The handler sends and the host receives, each in its own process with its own [`EmbeddedQueue`] on the same file; so every
//! transaction is short, and who finds the file locked waits in steps of a millisecond. [`crate::sqlite`] says what is durable.
//!
//! Messages come in the order in which they became due. An abandoned one takes its old place; one whose lock ran out is
//! due from then on. Nothing here looks into a body.

mod duplicates;
mod messages;
mod schema;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;

use crate::clock::Clock;
use crate::sqlite::file::{self, Access};
use crate::sqlite::lane::Lane;
use crate::sqlite::{Failed, to_nanos};

use super::{DeadLetter, Delivery, LockToken, Outgoing, Queue, QueueError};
use messages::{Dead, Lock, Sending};

/// How long a message id may be, in characters (contracts/service-bus-and-tables.md).
const LONGEST_ID: usize = 128;
/// How many ids beyond their window are forgotten at a time.
const FORGET_AT_ONCE: usize = 5_000;

/// How the queues of a file behave. Every process that opens the file has to say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedQueueConfig {
    /// For how long after a message was sent its id is a duplicate.
    pub duplicate_window: Duration,
    /// After so many deliveries a message is a dead letter.
    pub max_delivery_count: u32,
}

impl Default for EmbeddedQueueConfig {
    fn default() -> Self {
        Self { duplicate_window: Duration::from_secs(10 * 60), max_delivery_count: 10 }
    }
}

/// Queues in a SQLite file. Dropping it ends its thread and closes the file.
pub struct EmbeddedQueue {
    lane: Lane,
    config: EmbeddedQueueConfig,
    clock: Arc<dyn Clock>,
}

impl EmbeddedQueue {
    /// Opens the file at `path`, or makes it; its folder must exist.
    ///
    /// # Errors
    /// [`QueueError::Unclear`] if there is no such folder, or the file is locked, no queue, or written by a newer version.
    pub fn open(path: &Path, config: EmbeddedQueueConfig, clock: Arc<dyn Clock>) -> Result<Self, QueueError> {
        let unclear = |failed: Failed| QueueError::Unclear {
            queue: path.display().to_string(),
            action: "open its file",
            reason: failed.0,
        };
        let connection = file::open(path, &schema::SCHEMA, Access::Write).map_err(unclear)?;
        let lane =
            Lane::start(connection, Access::Write, "queue").map_err(|error| unclear(Failed(error.to_string())))?;
        Ok(Self { lane, config, clock })
    }

    fn now(&self) -> i64 {
        to_nanos(self.clock.now())
    }

    async fn run<T: Send + 'static>(
        &self,
        queue: &str,
        action: &'static str,
        mut work: impl FnMut(&Connection, &str) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        let name = queue.to_owned();
        let done = self.lane.run(move |connection| work(connection, &name)).await;
        done.map_err(|failed| QueueError::Unclear { queue: queue.to_owned(), action, reason: failed.0 })
    }
}

/// `time` and `duration` later, or the last moment there is.
fn later(time: i64, duration: Duration) -> i64 {
    time.saturating_add(nanos(duration))
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn send(&self, queue: &str, messages: &[Outgoing]) -> Result<(), QueueError> {
        if let Some(bad) = messages.iter().find(|message| !(1..=LONGEST_ID).contains(&message.id.chars().count())) {
            let length = bad.id.chars().count();
            let reason = format!("a message id has 1 to {LONGEST_ID} characters, and one has {length}");
            return Err(QueueError::Refused { queue: queue.to_owned(), action: "take the messages", reason });
        }
        let now = self.now();
        let since = now.saturating_sub(nanos(self.config.duplicate_window));
        let sending: Vec<Sending> = messages
            .iter()
            .map(|message| Sending {
                id: message.id.clone(),
                hash: duplicates::hash(&message.id),
                body: message.body.clone(),
                due: message.due.map_or(now, |due| to_nanos(due).max(now)),
            })
            .collect();
        self.run(queue, "take the messages", move |connection, queue| {
            messages::send(connection, queue, &sending, now, since)
        })
        .await
    }

    async fn receive(&self, queue: &str, at_most: usize, lock: Duration) -> Result<Vec<Delivery>, QueueError> {
        let (now, max) = (self.now(), self.config.max_delivery_count);
        let until = later(now, lock);
        self.run(queue, "deliver", move |connection, queue| {
            messages::receive(connection, queue, at_most, now, until, max)
        })
        .await
    }

    async fn complete(&self, queue: &str, locks: &[LockToken]) -> Result<Vec<bool>, QueueError> {
        let now = self.now();
        let locks: Vec<Option<Lock>> = locks.iter().map(Lock::of).collect();
        self.run(queue, "complete messages", move |connection, queue| {
            let complete = |lock: &Option<Lock>| match lock {
                Some(lock) => messages::complete(connection, queue, *lock, now),
                None => Ok(false),
            };
            locks.iter().map(complete).collect()
        })
        .await
    }

    async fn abandon(&self, queue: &str, lock: &LockToken) -> Result<bool, QueueError> {
        let (now, max) = (self.now(), self.config.max_delivery_count);
        let Some(lock) = Lock::of(lock) else { return Ok(false) };
        self.run(queue, "take a message back", move |connection, queue| {
            messages::abandon(connection, queue, lock, now, max)
        })
        .await
    }

    async fn renew(&self, queue: &str, token: &LockToken, lock: Duration) -> Result<bool, QueueError> {
        let now = self.now();
        let until = later(now, lock);
        let Some(lock) = Lock::of(token) else { return Ok(false) };
        self.run(queue, "renew a lock", move |connection, queue| messages::renew(connection, queue, lock, now, until))
            .await
    }

    async fn dead_letters(&self, queue: &str, at_most: usize) -> Result<Vec<DeadLetter>, QueueError> {
        Ok(self.take_dead_letters(queue, at_most).await?.into_iter().map(|(letter, _)| letter).collect())
    }

    /// Locks nothing: whoever removes first has removed it.
    async fn take_dead_letters(&self, queue: &str, at_most: usize) -> Result<Vec<(DeadLetter, LockToken)>, QueueError> {
        let (now, max) = (self.now(), self.config.max_delivery_count);
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        self.run(queue, "list its dead letters", move |connection, queue| {
            messages::dead_letters(connection, queue, at_most, now, max)
        })
        .await
    }

    async fn remove_dead_letters(&self, queue: &str, taken: &[LockToken]) -> Result<Vec<bool>, QueueError> {
        let dead: Vec<Option<Dead>> = taken.iter().map(Dead::of).collect();
        self.run(queue, "remove dead letters", move |connection, queue| {
            let remove = |dead: &Option<Dead>| match dead {
                Some(dead) => messages::remove_dead_letter(connection, queue, *dead),
                None => Ok(false),
            };
            dead.iter().map(remove).collect()
        })
        .await
    }

    async fn forget_old(&self, queue: &str) -> Result<usize, QueueError> {
        let since = self.now().saturating_sub(nanos(self.config.duplicate_window));
        self.run(queue, "forget old ids", move |connection, _| duplicates::clean(connection, FORGET_AT_ONCE, since))
            .await
    }
}
