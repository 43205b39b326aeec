//! A store and a queue that die or fail as they are told, around real ones.
//!
//! They count effects: writes of the store and sendings of the queue. A handler that has died does nothing more, not even
//! read: its futures never return, and the test drops them. What a test is to conclude from that is in [`crate::crash`].

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use permafresh::queue::{DeadLetter, Delivery, LockToken, Outgoing, Queue, QueueError};
use permafresh::rollout::{
    Deployment, DeploymentKey, PastRefresh, Plan, Refresh, Rollout, RolloutId, Tally, Timestamp,
};
use permafresh::store::document::DocumentName;
use permafresh::store::{Claim, ETag, Page, PageRequest, Saved, Store, StoreError, Versioned};
use serde_json::Value;
use tokio::sync::Notify;

/// When the handler dies, seen from an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Just before it: whatever was asked of ARM before is known to nobody.
    Before,
    /// Just after it: nobody hears that it is done.
    After,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The handler dies at this effect, counted from 1.
    Death { effect: usize, moment: Moment },
    /// Every call fails and does nothing.
    Outage,
    /// The calls of this name fail and do nothing, but for the first few.
    OutageOf { name: &'static str, after: usize },
    /// The handler waits before this call, counted from 1, until it is let go.
    Parking { call: usize },
    /// The second call of this name waits until the third has come to its end, as if that held what the second needs.
    SecondAfterThird { name: &'static str },
    /// One of so many calls fails and does nothing; the seed decides which.
    OneIn { count: u64, seed: u64 },
    /// One of so many effects is done, and its answer is an error; the seed decides which.
    UnclearOneIn { count: u64, seed: u64 },
}

/// A read, or something that stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Effect,
}

/// What the store and the queue of one handler share.
pub struct Faults {
    fault: Mutex<Fault>,
    calls: AtomicUsize,
    effects: AtomicUsize,
    failures: AtomicUsize,
    of_that_name: AtomicUsize,
    is_dead: AtomicBool,
    death: Notify,
    parked: Notify,
    go: Notify,
}

impl Faults {
    pub fn new(fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            fault: Mutex::new(fault),
            calls: AtomicUsize::new(0),
            effects: AtomicUsize::new(0),
            failures: AtomicUsize::new(0),
            of_that_name: AtomicUsize::new(0),
            is_dead: AtomicBool::new(false),
            death: Notify::new(),
            parked: Notify::new(),
            go: Notify::new(),
        })
    }

    /// Nothing goes wrong, for now.
    pub fn none() -> Arc<Self> {
        Self::new(Fault::None)
    }

    /// The handler waits before this call, counted from now on.
    pub fn park_at(&self, call: usize) {
        self.set(Fault::Parking { call: self.calls.load(Ordering::SeqCst) + call });
    }

    /// Waits until the handler waits.
    pub async fn parked(&self) {
        self.parked.notified().await;
    }

    /// Lets a handler go on that waits.
    pub fn let_go(&self) {
        self.set(Fault::None);
        self.go.notify_one();
    }

    /// The handler dies at this effect.
    pub fn death_at(effect: usize, moment: Moment) -> Arc<Self> {
        Self::new(Fault::Death { effect, moment })
    }

    /// From now on this goes wrong.
    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// How many calls were made.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many effects were begun.
    pub fn effects(&self) -> usize {
        self.effects.load(Ordering::SeqCst)
    }

    /// How many calls were answered with an error.
    pub fn failures(&self) -> usize {
        self.failures.load(Ordering::SeqCst)
    }

    /// Whether the handler has died.
    pub fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::SeqCst)
    }

    /// Waits until the handler dies.
    pub async fn died(&self) {
        loop {
            let death = self.death.notified();
            if self.is_dead() {
                return;
            }
            death.await;
        }
    }

    /// Runs `work` until it is done or the handler dies: `None` then.
    pub async fn until_death<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.died() => None,
            done = work => Some(done),
        }
    }

    async fn die(&self) -> ! {
        self.is_dead.store(true, Ordering::SeqCst);
        self.death.notify_waiters();
        std::future::pending().await
    }

    async fn pass<T, E>(
        &self,
        kind: Kind,
        name: &'static str,
        work: impl Future<Output = Result<T, E>>,
        failure: impl FnOnce() -> E,
    ) -> Result<T, E> {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let effect = match kind {
            Kind::Read => 0,
            Kind::Effect => self.effects.fetch_add(1, Ordering::SeqCst) + 1,
        };
        let fault = *self.fault.lock().unwrap();
        let fail = || {
            self.failures.fetch_add(1, Ordering::SeqCst);
            Err(failure())
        };
        match fault {
            Fault::Death { effect: at, moment: Moment::Before } if effect == at => self.die().await,
            Fault::Death { effect: at, moment: Moment::After } if effect == at => {
                let _done = work.await;
                self.die().await
            }
            Fault::Parking { call: at } if call == at => {
                self.parked.notify_one();
                self.go.notified().await;
                work.await
            }
            Fault::SecondAfterThird { name: of } if of == name => {
                let turn = self.of_that_name.fetch_add(1, Ordering::SeqCst) + 1;
                if turn == 2 {
                    self.go.notified().await;
                }
                let done = work.await;
                if turn == 3 {
                    self.go.notify_one();
                }
                done
            }
            Fault::Outage => fail(),
            Fault::OutageOf { name: broken, after }
                if broken == name && self.of_that_name.fetch_add(1, Ordering::SeqCst) >= after =>
            {
                fail()
            }
            Fault::OneIn { count, seed } if mixed(seed, call).is_multiple_of(count) => fail(),
            Fault::UnclearOneIn { count, seed }
                if kind == Kind::Effect && mixed(seed, effect).is_multiple_of(count) =>
            {
                let _done = work.await;
                fail()
            }
            _ => work.await,
        }
    }
}

/// A number that looks like chance, and is the same each time (SplitMix64).
pub fn mixed(seed: u64, turn: usize) -> u64 {
    let turn = u64::try_from(turn).unwrap();
    let mut number = seed.wrapping_add(1).wrapping_add(turn).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A store that goes wrong.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Arc<Faults>,
}

impl FaultyStore {
    pub fn over(inner: &Arc<dyn Store>, faults: &Arc<Faults>) -> Arc<dyn Store> {
        Arc::new(Self { inner: Arc::clone(inner), faults: Arc::clone(faults) })
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { action: "do as it was asked", reason: "database is locked".to_owned() }
}

macro_rules! faulty_store {
    ($($kind:ident $name:ident($($argument:ident: $of:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for FaultyStore {
            $(async fn $name(&self, $($argument: $of),*) -> Result<$answer, StoreError> {
                self.faults.pass(Kind::$kind, stringify!($name), self.inner.$name($($argument),*), unavailable).await
            })*
        }
    };
}

faulty_store! {
    Effect claim_key(key: &str, claim: &Claim) -> Option<Claim>;
    Read key_holder(key: &str) -> Option<Claim>;
    Read rollout(id: RolloutId) -> Option<Versioned<Rollout>>;
    Effect save_rollout(rollout: &Versioned<Rollout>) -> Saved;
    Read rollouts(page: &PageRequest) -> Page<Rollout>;
    Read open_rollouts() -> Vec<Versioned<Rollout>>;
    Effect insert_refreshes(refreshes: &[Refresh]) -> usize;
    Read refresh(rollout: RolloutId, key: &DeploymentKey) -> Option<Versioned<Refresh>>;
    Effect save_refreshes(refreshes: &[Versioned<Refresh>]) -> Vec<Saved>;
    Read refreshes(rollout: RolloutId, standings: Option<&[permafresh::rollout::Standing]>, page: &PageRequest) -> Page<Versioned<Refresh>>;
    Read tally(rollout: RolloutId) -> Tally;
    Read due_refreshes(now: Timestamp, at_most: usize) -> Vec<Versioned<Refresh>>;
    Read next_wake() -> Option<Timestamp>;
    Read deployments_by_key(keys: &[DeploymentKey]) -> Vec<Option<Versioned<Deployment>>>;
    Effect save_deployments(deployments: &[Versioned<Deployment>]) -> Vec<Saved>;
    Read deployments(plan: Option<&Plan>, page: &PageRequest) -> Page<Versioned<Deployment>>;
    Read deployments_after(plan: &Plan, after: Option<&DeploymentKey>, at_most: usize) -> Vec<Deployment>;
    Read count_deployments(plan: &Plan) -> u64;
    Read due_checks(now: Timestamp, at_most: usize) -> Vec<Versioned<Deployment>>;
    Effect record_past(key: &DeploymentKey, past: &PastRefresh) -> ();
    Read forget_gone(before: Timestamp) -> usize;
    Effect remove_deployment(deployment: &Versioned<Deployment>) -> Saved;
    Read document(collection: &'static str, name: &DocumentName) -> Option<Versioned<Value>>;
    Effect save_document(collection: &'static str, name: &DocumentName, document: &Versioned<Value>) -> Saved;
    Effect remove_document(collection: &'static str, name: &DocumentName, etag: &ETag) -> Saved;
    Read documents(collection: &'static str, prefix: &str, page: &PageRequest) -> Page<(DocumentName, Versioned<Value>)>;
    Read long_ended_rollouts(before: Timestamp, at_most: usize) -> Vec<Versioned<Rollout>>;
    Effect remove_refreshes(rollout: RolloutId, at_most: usize) -> usize;
    Effect remove_rollout(rollout: &Versioned<Rollout>) -> Saved;
    Read forget_facts(claims: Timestamp, throttles: Timestamp, at_most: usize) -> usize;
    Read throttled_until(subscription: &str) -> Option<Timestamp>;
    Effect throttle(subscription: &str, until: Timestamp) -> ();
}

/// A queue that goes wrong where the handler sends; receiving is the host's.
pub struct FaultyQueue {
    inner: Arc<dyn Queue>,
    faults: Arc<Faults>,
}

impl FaultyQueue {
    pub fn over(inner: &Arc<dyn Queue>, faults: &Arc<Faults>) -> Arc<dyn Queue> {
        Arc::new(Self { inner: Arc::clone(inner), faults: Arc::clone(faults) })
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
        self.faults.pass(Kind::Effect, "send", self.inner.send(queue, messages), unclear).await
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
        self.inner.take_dead_letters(queue, at_most).await
    }

    async fn remove_dead_letters(&self, queue: &str, taken: &[LockToken]) -> Result<Vec<bool>, QueueError> {
        self.inner.remove_dead_letters(queue, taken).await
    }
}
