//! Which subscriptions ARM wants left alone, and until when, in this process (contracts/arm.md §2.5).
//!
//! ARM throttles per subscription, so one throttled customer holds back nobody else. The store remembers the same across
//! processes; that is the engine's work.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::rollout::Timestamp;

/// How long a subscription is left alone where ARM throttles and names no time: the shortest wait of its contract.
pub const UNNAMED: Duration = Duration::from_secs(10);
/// The longest time a subscription is left alone for one answer.
pub const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Subscriptions that are left alone.
#[derive(Debug, Default)]
pub struct Throttle {
    until: Mutex<HashMap<Box<str>, Timestamp>>,
    held: AtomicUsize,
}

impl Throttle {
    /// How long no call may go out for `subscription`; `None` if one may go now.
    pub fn remaining(&self, subscription: &str, now: Timestamp) -> Option<Duration> {
        // Hardly ever is anybody throttled, and then no call should pay for a lock.
        if self.held.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = until.get(subscription).map(|until| (*until - now).to_std().unwrap_or_default())?;
        if rest.is_zero() {
            until.remove(subscription);
            self.held.store(until.len(), Ordering::Release);
            return None;
        }
        Some(rest)
    }

    /// ARM wants no calls for `subscription` for `wait`; returns the time it is left alone, which is clamped. A shorter
    /// wait than one under way changes nothing.
    pub fn hold(&self, subscription: &str, wait: Option<Duration>, now: Timestamp) -> Duration {
        let wait = wait.unwrap_or(UNNAMED).min(LONGEST);
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = until.entry(subscription.into()).or_insert(now);
        *entry = (*entry).max(now + wait);
        let rest = (*entry - now).to_std().unwrap_or_default();
        self.held.store(until.len(), Ordering::Release);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttled_subscription_is_left_alone_until_its_time_and_no_other_is() {
        let throttle = Throttle::default();
        let start: Timestamp = "2026-03-10T12:00:00Z".parse().unwrap();
        let seconds = Duration::from_secs;
        assert_eq!(throttle.hold("a", Some(seconds(30)), start), seconds(30));
        assert_eq!(throttle.remaining("a", start + seconds(10)), Some(seconds(20)));
        assert_eq!(throttle.remaining("b", start), None);
        assert_eq!(throttle.hold("a", Some(seconds(5)), start), seconds(30), "a shorter wait changes nothing");
        assert_eq!(throttle.remaining("a", start + seconds(30)), None);
        assert_eq!(throttle.hold("a", None, start), UNNAMED);
        assert_eq!(throttle.hold("a", Some(Duration::MAX), start), LONGEST);
    }
}
