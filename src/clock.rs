//! Time as an argument: the only place that asks the machine for it.

use async_trait::async_trait;
use chrono::Utc;

use crate::rollout::Timestamp;

/// Tells the time. Two lives: the machine's clock, and one that tests move by hand.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Comes back at `at`, or earlier; a clock that is moved by hand need not wait.
    async fn sleep_until(&self, at: Timestamp) {
        tokio::time::sleep((at - self.now()).to_std().unwrap_or_default()).await;
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn now(&self) -> Timestamp {
        Utc::now()
    }
}
