//! The queue that goes wrong, around a real one: where the handler sends, as [`Faults`] say; where the host receives, as a
//! post office does that treats each message as a plan says and hands out what it has in the reverse order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use permafresh::queue::{DeadLetter, Delivery, LockToken, Outgoing, Queue, QueueError};

use super::{Decision, Faults, Kind};
use crate::manual_clock::ManualClock;

/// How a delivery goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    AsItShould,
    /// So many copies at once.
    Copies(usize),
    /// Handed out only so many askings later.
    Late(usize),
    /// Taken and never handed out.
    Never,
}

type Plan = Box<dyn FnMut() -> Fate + Send>;

pub struct FaultyQueue {
    inner: Arc<dyn Queue>,
    faults: Arc<Faults>,
    plan: Option<Mutex<Plan>>,
    /// The clock that moves by a minute while dead letters are looked for.
    slow: Option<ManualClock>,
    held: Mutex<VecDeque<(String, usize, Delivery)>>,
    fates: Mutex<Vec<Fate>>,
}

impl FaultyQueue {
    /// One that sends as `faults` say.
    pub fn over(inner: &Arc<dyn Queue>, faults: &Arc<Faults>) -> Arc<dyn Queue> {
        Arc::new(Self::new(inner, Arc::clone(faults), None))
    }

    /// One that delivers as `plan` says.
    pub fn delivering(inner: &Arc<dyn Queue>, plan: impl FnMut() -> Fate + Send + 'static) -> Arc<Self> {
        Arc::new(Self::new(inner, Faults::none(), Some(Mutex::new(Box::new(plan)))))
    }

    /// One in which each look for dead letters takes a minute.
    pub fn slow(inner: &Arc<dyn Queue>, clock: &ManualClock) -> Arc<dyn Queue> {
        Arc::new(Self { slow: Some(clock.clone()), ..Self::new(inner, Faults::none(), None) })
    }

    fn new(inner: &Arc<dyn Queue>, faults: Arc<Faults>, plan: Option<Mutex<Plan>>) -> Self {
        Self { inner: Arc::clone(inner), faults, plan, slow: None, held: Mutex::default(), fates: Mutex::default() }
    }

    /// How many deliveries went so.
    pub fn count(&self, of: impl Fn(&Fate) -> bool) -> usize {
        self.fates.lock().unwrap().iter().filter(|fate| of(fate)).count()
    }

    fn due(&self, queue: &str) -> Vec<Delivery> {
        let mut held = self.held.lock().unwrap();
        let mut due = Vec::new();
        held.retain_mut(|(of, askings, delivery)| {
            if of != queue {
                return true;
            }
            *askings -= 1;
            if *askings == 0 {
                due.push(delivery.clone());
            }
            *askings > 0
        });
        due
    }
}

#[async_trait]
impl Queue for FaultyQueue {
    async fn send(&self, queue: &str, messages: &[Outgoing]) -> Result<(), QueueError> {
        let unclear = || QueueError::Unclear {
            queue: queue.to_owned(),
            action: "take the messages",
            reason: "the connection was lost".to_owned(),
        };
        match self.faults.decide(Kind::Effect, "send").await {
            Decision::Lose => Ok(()),
            decision => {
                assert!(decision != Decision::Panic, "the queue was told to panic");
                let sent = self.faults.act(decision, self.inner.send(queue, messages), unclear);
                self.faults.in_turn("send", sent).await
            }
        }
    }

    async fn receive(&self, queue: &str, at_most: usize, lock: Duration) -> Result<Vec<Delivery>, QueueError> {
        let Some(plan) = &self.plan else { return self.inner.receive(queue, at_most, lock).await };
        let mut out = self.due(queue);
        for delivery in self.inner.receive(queue, at_most, lock).await? {
            let fate = plan.lock().unwrap()();
            self.fates.lock().unwrap().push(fate);
            match fate {
                Fate::AsItShould => out.push(delivery),
                Fate::Copies(count) => out.extend(vec![delivery; count]),
                Fate::Late(askings) => self.held.lock().unwrap().push_back((queue.to_owned(), askings, delivery)),
                Fate::Never => {
                    self.inner.complete(queue, &[delivery.lock]).await?;
                }
            }
        }
        out.reverse();
        Ok(out)
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
        if let Some(clock) = &self.slow {
            clock.advance(Duration::from_secs(60));
        }
        self.inner.take_dead_letters(queue, at_most).await
    }

    async fn remove_dead_letters(&self, queue: &str, taken: &[LockToken]) -> Result<Vec<bool>, QueueError> {
        self.inner.remove_dead_letters(queue, taken).await
    }
}
