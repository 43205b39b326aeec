//! A queue in memory for the host's tests: as much of a queue as the host can see, and a record of what it did.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use async_trait::async_trait;
use permafresh::{
    clock::Clock,
    queue::{DeadLetter, Delivery, LockToken, Outgoing, Queue, QueueError},
};

use crate::host_stub::HandClock;

/// A message is dead after so many deliveries.
pub const MOST_DELIVERIES: u32 = 3;

pub struct FakeQueue {
    clock: HandClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(String, Delivery)>,
    locked: Vec<(String, Delivery)>,
    dead: Vec<DeadLetter>,
    sent: Vec<(String, String)>,
    record: Record,
    last_number: i64,
    failing: bool,
    held: bool,
}

/// What the host asked for.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// How many were asked for, and how many came.
    pub receives: Vec<(usize, usize)>,
    /// How many were completed by one call.
    pub completes: Vec<usize>,
    pub abandons: usize,
    pub renewals: usize,
}

impl FakeQueue {
    pub fn new(clock: HandClock) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Puts a message there to be received.
    pub fn put(&self, queue: &str, body: &[u8]) {
        let now = self.clock.now();
        let mut state = self.state.lock().expect("no test panics with it");
        state.last_number += 1;
        let number = state.last_number;
        let delivery = Delivery {
            id: format!("msg-{number}"),
            body: body.to_vec(),
            delivery_count: 0,
            sequence_number: number,
            enqueued_at: now,
            lock: LockToken(format!("lock-{number}")),
            locked_until: now,
        };
        state.waiting.push_back((queue.to_owned(), delivery));
    }

    /// What was sent, by queue and body.
    pub fn sent(&self) -> Vec<(String, String)> {
        self.state.lock().expect("no test panics with it").sent.clone()
    }

    pub fn record(&self) -> Record {
        self.state.lock().expect("no test panics with it").record.clone()
    }

    /// Neither waiting nor locked.
    pub fn is_empty(&self) -> bool {
        let state = self.state.lock().expect("no test panics with it");
        state.waiting.is_empty() && state.locked.is_empty()
    }

    pub fn waiting(&self) -> usize {
        self.state.lock().expect("no test panics with it").waiting.len()
    }

    pub fn dead(&self) -> Vec<DeadLetter> {
        self.state.lock().expect("no test panics with it").dead.clone()
    }

    /// From now on everything fails, or nothing.
    pub fn set_failing(&self, failing: bool) {
        self.state.lock().expect("no test panics with it").failing = failing;
    }

    /// From now on completions do not return, or do again.
    pub fn hold_completions(&self, held: bool) {
        self.state.lock().expect("no test panics with it").held = held;
    }

    fn checked(&self, queue: &str, action: &'static str) -> Result<std::sync::MutexGuard<'_, State>, QueueError> {
        let state = self.state.lock().expect("no test panics with it");
        match state.failing {
            true => Err(QueueError::Unclear { queue: queue.to_owned(), action, reason: "the test says so".to_owned() }),
            false => Ok(state),
        }
    }
}

impl State {
    fn unlock(&mut self, lock: &LockToken) -> Option<(String, Delivery)> {
        let at = self.locked.iter().position(|(_, delivery)| delivery.lock == *lock)?;
        Some(self.locked.remove(at))
    }
}

#[async_trait]
impl Queue for FakeQueue {
    async fn send(&self, queue: &str, messages: &[Outgoing]) -> Result<(), QueueError> {
        let mut state = self.checked(queue, "send")?;
        state.sent.extend(messages.iter().map(|message| (queue.to_owned(), message.body.clone())));
        Ok(())
    }

    async fn receive(&self, queue: &str, at_most: usize, _lock: Duration) -> Result<Vec<Delivery>, QueueError> {
        let mut state = self.checked(queue, "receive")?;
        let mut received = Vec::new();
        let mut others = VecDeque::new();
        while let Some((of, mut delivery)) = state.waiting.pop_front() {
            if of == queue && received.len() < at_most {
                delivery.delivery_count += 1;
                received.push(delivery.clone());
                state.locked.push((of, delivery));
            } else {
                others.push_back((of, delivery));
            }
        }
        state.waiting = others;
        if !received.is_empty() {
            state.record.receives.push((at_most, received.len()));
        }
        Ok(received)
    }

    async fn complete(&self, queue: &str, locks: &[LockToken]) -> Result<Vec<bool>, QueueError> {
        while self.state.lock().expect("no test panics with it").held {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut state = self.checked(queue, "complete")?;
        state.record.completes.push(locks.len());
        Ok(locks.iter().map(|lock| state.unlock(lock).is_some()).collect())
    }

    async fn abandon(&self, queue: &str, lock: &LockToken) -> Result<bool, QueueError> {
        let now = self.clock.now();
        let mut state = self.checked(queue, "abandon")?;
        state.record.abandons += 1;
        let Some((of, delivery)) = state.unlock(lock) else { return Ok(false) };
        if delivery.delivery_count < MOST_DELIVERIES {
            state.waiting.push_back((of, delivery));
        } else {
            let Delivery { id, body, delivery_count, .. } = delivery;
            state.dead.push(DeadLetter { id, body, delivery_count, reason: "deliveries used up".to_owned(), at: now });
        }
        Ok(true)
    }

    async fn renew(&self, queue: &str, token: &LockToken, _lock: Duration) -> Result<bool, QueueError> {
        let mut state = self.checked(queue, "renew")?;
        state.record.renewals += 1;
        Ok(state.locked.iter().any(|(_, delivery)| delivery.lock == *token))
    }

    async fn dead_letters(&self, queue: &str, at_most: usize) -> Result<Vec<DeadLetter>, QueueError> {
        Ok(self.checked(queue, "look at dead letters")?.dead.iter().take(at_most).cloned().collect())
    }

    async fn take_dead_letters(&self, queue: &str, _: usize) -> Result<Vec<(DeadLetter, LockToken)>, QueueError> {
        panic!("the host takes no dead letters of {queue}")
    }

    async fn remove_dead_letters(&self, queue: &str, _: &[LockToken]) -> Result<Vec<bool>, QueueError> {
        panic!("the host removes no dead letters of {queue}")
    }
}
