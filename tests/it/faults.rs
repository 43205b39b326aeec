//! A store and a queue that die or fail as they are told, around real ones.
//!
//! They count effects: writes of the store and sendings of the queue. A handler that has died does nothing more, not even
//! read: its futures never return, and the test drops them. What a test is to conclude from that is in [`crate::crash`],
//! and in [`seeds`] for faults of every kind in any mixture.

mod ledger;
mod queue;
mod seeds;
mod simulation;
mod store;
mod weather;

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

pub use queue::{Fate, FaultyQueue};
pub use store::FaultyStore;

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
    /// What is sent is taken and never arrives.
    Lost,
    /// A bug ends whoever sends.
    Panic,
}

/// A read, or something that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Effect,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is done.
    Do,
    /// It fails and does nothing.
    Fail,
    /// It is done, and its answer is an error.
    DoAndFail,
    /// The handler dies.
    Die(Moment),
    /// What is sent is taken and never arrives.
    Lose,
    /// A bug ends whoever called.
    Panic,
}

impl Decision {
    /// Whether nothing is done.
    fn prevents(self) -> bool {
        matches!(self, Self::Fail | Self::Die(Moment::Before))
    }
}

/// Decides about each call as it comes; `None` makes the caller wait until it is let go, and then asks again.
type Script = Box<dyn FnMut(Kind, &'static str) -> Option<Decision> + Send>;

/// What the store and the queue of one handler share.
pub struct Faults {
    fault: Mutex<Fault>,
    script: Mutex<Option<Script>>,
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
            script: Mutex::default(),
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
        self.kill();
        std::future::pending().await
    }

    /// From now on this decides about each call.
    pub fn follow(&self, script: impl FnMut(Kind, &'static str) -> Option<Decision> + Send + 'static) {
        *self.script.lock().unwrap() = Some(Box::new(script));
    }

    /// The handler dies from outside: it does nothing more.
    pub fn kill(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
        self.death.notify_waiters();
    }

    async fn decide(&self, kind: Kind, name: &'static str) -> Decision {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let effect = match kind {
            Kind::Read => 0,
            Kind::Effect => self.effects.fetch_add(1, Ordering::SeqCst) + 1,
        };
        loop {
            let decided = self.script.lock().unwrap().as_mut().map(|decide| decide(kind, name));
            match decided {
                Some(Some(decision)) => return decision,
                Some(None) => self.park().await,
                None => break,
            }
        }
        let fault = *self.fault.lock().unwrap();
        match fault {
            Fault::Death { effect: at, moment } if effect == at => Decision::Die(moment),
            Fault::Parking { call: at } if call == at => {
                self.park().await;
                Decision::Do
            }
            Fault::Outage => Decision::Fail,
            Fault::OutageOf { name: broken, after }
                if broken == name && self.of_that_name.fetch_add(1, Ordering::SeqCst) >= after =>
            {
                Decision::Fail
            }
            Fault::OneIn { count, seed } if mixed(seed, call).is_multiple_of(count) => Decision::Fail,
            Fault::UnclearOneIn { count, seed }
                if kind == Kind::Effect && mixed(seed, effect).is_multiple_of(count) =>
            {
                Decision::DoAndFail
            }
            Fault::Lost => Decision::Lose,
            Fault::Panic => Decision::Panic,
            _ => Decision::Do,
        }
    }

    async fn park(&self) {
        self.parked.notify_one();
        self.go.notified().await;
    }

    async fn act<T, E>(
        &self,
        decision: Decision,
        work: impl Future<Output = Result<T, E>>,
        failure: impl FnOnce() -> E,
    ) -> Result<T, E> {
        match decision {
            Decision::Do | Decision::Lose | Decision::Panic => work.await,
            Decision::Fail => {
                self.failures.fetch_add(1, Ordering::SeqCst);
                Err(failure())
            }
            Decision::DoAndFail => {
                let _done = work.await;
                self.failures.fetch_add(1, Ordering::SeqCst);
                Err(failure())
            }
            Decision::Die(Moment::Before) => self.die().await,
            Decision::Die(Moment::After) => {
                let _done = work.await;
                self.die().await
            }
        }
    }

    /// The second call of a name comes to its turn after the third, if that is the fault.
    async fn in_turn<T>(&self, name: &'static str, work: impl Future<Output = T>) -> T {
        if *self.fault.lock().unwrap() != (Fault::SecondAfterThird { name }) {
            return work.await;
        }
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
}

/// A number that looks like chance, and is the same each time (SplitMix64).
pub fn mixed(seed: u64, turn: usize) -> u64 {
    let turn = u64::try_from(turn).unwrap();
    let mut number = seed.wrapping_add(1).wrapping_add(turn).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
