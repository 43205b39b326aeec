//! Messages between the functions. One trait, because it has two lives: [`embedded`] on one machine, [`service_bus`]
//! in Azure.
//!
//! A message may be delivered more than once, late, or in another order; a message whose id was sent within the duplicate
//! detection window is taken and thrown away. In Azure the Functions host receives; the receiving half of the trait is for
//! the embedded host, for tests and for looking at dead letters.

pub mod embedded;
pub mod message;
pub mod service_bus;

use std::time::Duration;

use async_trait::async_trait;

use crate::rollout::Timestamp;

pub use message::{Message, Postmark};

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The message id, at most 128 characters; duplicates are known by it.
    pub id: String,
    /// The body, sent exactly as it is.
    pub body: String,
    /// Not before; `None` means now.
    pub due: Option<Timestamp>,
}

/// A message that was received and is locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The message id.
    pub id: String,
    /// The body.
    pub body: Vec<u8>,
    /// How often it was delivered, this time included.
    pub delivery_count: u32,
    /// Grows with every message of the queue.
    pub sequence_number: i64,
    /// When it became deliverable.
    pub enqueued_at: Timestamp,
    /// What completes, abandons or renews it.
    pub lock: LockToken,
    /// Until when nobody else gets it.
    pub locked_until: Timestamp,
}

/// The right to settle one delivery.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockToken(pub String);

/// A message nobody could work off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message id.
    pub id: String,
    /// The body.
    pub body: Vec<u8>,
    /// How often it was delivered.
    pub delivery_count: u32,
    /// Why it was given up.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// The queue failed. Only after [`QueueError::Unclear`] may the same id be sent again (design §4).
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// It cannot be reached, is locked, or its disk is full: the messages may or may not have been taken.
    #[error("the queue {queue} could not {action}: {reason}")]
    Unclear {
        /// Which queue.
        queue: String,
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// It refused, and would refuse again.
    #[error("the queue {queue} refused to {action}: {reason}")]
    Refused {
        /// Which queue.
        queue: String,
        /// What was attempted.
        action: &'static str,
        /// Why it refused.
        reason: String,
    },
}

/// Queues with peek-lock, scheduled delivery, delivery count, dead letters and duplicate detection.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Takes the messages, durably; all of them or, on an error, nobody knows how many.
    async fn send(&self, queue: &str, messages: &[Outgoing]) -> Result<(), QueueError>;
    /// Locks up to `at_most` deliverable messages for `lock`; an empty answer comes at once.
    async fn receive(&self, queue: &str, at_most: usize, lock: Duration) -> Result<Vec<Delivery>, QueueError>;
    /// Removes delivered messages; per lock, whether it still held.
    async fn complete(&self, queue: &str, locks: &[LockToken]) -> Result<Vec<bool>, QueueError>;
    /// Gives a message back: it is deliverable at once, or dead once its deliveries are used up. Whether the lock held.
    async fn abandon(&self, queue: &str, lock: &LockToken) -> Result<bool, QueueError>;
    /// Holds a message for `lock` from now on. Whether the lock still held.
    async fn renew(&self, queue: &str, token: &LockToken, lock: Duration) -> Result<bool, QueueError>;
    /// The oldest dead letters, left where they are.
    async fn dead_letters(&self, queue: &str, at_most: usize) -> Result<Vec<DeadLetter>, QueueError>;
    /// The oldest dead letters, each with what removes it once note was taken of it; two who take at once may get the same.
    /// What is not removed is given again, at the latest when the queue's own lock on it has run out.
    async fn take_dead_letters(&self, queue: &str, at_most: usize) -> Result<Vec<(DeadLetter, LockToken)>, QueueError>;
    /// Removes dead letters for good; per token, whether it was still there and ours to remove.
    async fn remove_dead_letters(&self, queue: &str, taken: &[LockToken]) -> Result<Vec<bool>, QueueError>;
    /// Drops what the queue remembers only for a time that is over, some of it at a time; returns how much. A service does
    /// so by itself.
    async fn forget_old(&self, _queue: &str) -> Result<usize, QueueError> {
        Ok(0)
    }
}
