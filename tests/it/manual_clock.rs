//! A clock that only a test moves.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use permafresh::clock::Clock;
use permafresh::rollout::Timestamp;

/// Stands still until it is moved. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Timestamp>>);

impl ManualClock {
    /// A clock that shows noon of 10 March 2026.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new("2026-03-10T12:00:00Z".parse().unwrap())))
    }

    /// What it shows.
    pub fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    /// Moves it on.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }

    /// Sets it back, as a clock that was wrong is.
    pub fn set_back(&self, by: Duration) {
        *self.0.lock().unwrap() -= by;
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        ManualClock::now(self)
    }

    /// Time does not pass by waiting.
    async fn sleep_until(&self, _: Timestamp) {}
}
