//! A queue in front of another one that loses what is sent, panics over it, or is slow, as long as it is told to.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use permafresh::queue::{DeadLetter, Delivery, LockToken, Outgoing, Queue, QueueError};

use crate::manual_clock::ManualClock;

/// What happens to messages that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    None,
    /// They are taken and never arrive.
    Lost,
    /// A bug ends the thread of thought.
    Panic,
}

pub struct FaultyQueue {
    inner: Arc<dyn Queue>,
    fault: AtomicU8,
    /// The clock that moves while dead letters are looked for.
    slow: Mutex<Option<ManualClock>>,
}

impl FaultyQueue {
    pub fn new(inner: Arc<dyn Queue>) -> Arc<Self> {
        Arc::new(Self { inner, fault: AtomicU8::new(Fault::None as u8), slow: Mutex::default() })
    }

    pub fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::SeqCst);
    }

    /// From now on each look for dead letters takes a minute.
    pub fn slow_down(&self, clock: &ManualClock) {
        *self.slow.lock().unwrap() = Some(clock.clone());
    }
}

#[async_trait]
impl Queue for FaultyQueue {
    async fn send(&self, queue: &str, messages: &[Outgoing]) -> Result<(), QueueError> {
        let fault = self.fault.load(Ordering::SeqCst);
        assert!(fault != Fault::Panic as u8, "the queue was told to panic");
        if fault == Fault::Lost as u8 { Ok(()) } else { self.inner.send(queue, messages).await }
    }

    async fn receive(&self, queue: &str, at_most: usize, lock: Duration) -> Result<Vec<Delivery>, QueueError> {
        self.inner.receive(queue, at_most, lock).await
    }

    async fn complete(&self, queue: &str, locks: &[LockToken]) -> Result<Vec<bool>, QueueError> {
        self.inner.complete(queue, locks).await
    }

    async fn abandon(&self, queue: &str, lock: &LockToken) -> Result<bool, QueueError> {
        self.inner.abandon(queue, lock).await
    }

    async fn renew(&self, queue: &str, token: &LockToken, lock: Duration) -> Result<bool, QueueError> {
        self.inner.renew(queue, token, lock).await
    }

    async fn dead_letters(&self, queue: &str, at_most: usize) -> Result<Vec<DeadLetter>, QueueError> {
        self.inner.dead_letters(queue, at_most).await
    }

    async fn take_dead_letters(&self, queue: &str, at_most: usize) -> Result<Vec<(DeadLetter, LockToken)>, QueueError> {
        if let Some(clock) = &*self.slow.lock().unwrap() {
            clock.advance(Duration::from_secs(60));
        }
        self.inner.take_dead_letters(queue, at_most).await
    }

    async fn remove_dead_letters(&self, queue: &str, taken: &[LockToken]) -> Result<Vec<bool>, QueueError> {
        self.inner.remove_dead_letters(queue, taken).await
    }
}
