//! When to try again: a decision as a value, made here and only logged, stored and shown elsewhere.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// How failed calls are repeated and how long waits may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often one refresh is posted before it fails.
    pub attempts: u32,
    /// The first gap.
    pub base: Duration,
    /// The longest gap of our own making.
    pub ceiling: Duration,
    /// The shortest wait that ARM is believed to mean.
    pub shortest_wait: Duration,
    /// The longest wait that ARM is believed to mean.
    pub longest_wait: Duration,
}

impl RetryPolicy {
    /// Repeats of the POST: 8 attempts over some two hours; Retry-After from 1 second to an hour.
    pub const POST: Self = Self {
        attempts: 8,
        base: Duration::from_secs(30),
        ceiling: Duration::from_secs(30 * 60),
        shortest_wait: Duration::from_secs(1),
        longest_wait: Duration::from_secs(60 * 60),
    };

    /// Looks at an operation: 30 seconds where ARM names no wait (contracts/arm.md §2.1), from 1 second to 10 minutes.
    pub const POLL: Self = Self {
        attempts: u32::MAX,
        base: Duration::from_secs(30),
        ceiling: Duration::from_secs(10 * 60),
        shortest_wait: Duration::from_secs(1),
        longest_wait: Duration::from_secs(10 * 60),
    };

    /// The wait before the next try, after `failures` failed ones (at least 1): ARM's own wait clamped, else an
    /// exponential one with up to a quarter of jitter taken from `seed`.
    pub fn wait(&self, failures: u32, named: Option<Duration>, seed: &str) -> Duration {
        match named {
            Some(wait) => wait.clamp(self.shortest_wait, self.longest_wait),
            None => {
                let doubled =
                    self.base.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
                let full = doubled.min(self.ceiling);
                full - full.mul_f64(fraction(seed, failures) / 4.0)
            }
        }
    }

    /// Whether a refresh that has been posted `attempts` times may be posted once more.
    pub fn allows_another(&self, attempts: u32) -> bool {
        attempts < self.attempts
    }
}

/// A number from 0 to 1 that only `seed` and `turn` decide.
fn fraction(seed: &str, turn: u32) -> f64 {
    let digest = Sha256::new().chain_update(seed).chain_update(turn.to_be_bytes()).finalize();
    f64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn arms_own_wait_is_obeyed_within_limits() {
        let wait = |seconds| RetryPolicy::POST.wait(1, Some(Duration::from_secs(seconds)), "seed").as_secs();
        assert_eq!([0, 1, 45, 3_600, u64::MAX].map(wait), [1, 1, 45, 3_600, 3_600]);
    }

    proptest! {
        #[test]
        fn our_own_waits_grow_to_the_ceiling_and_jitter_takes_at_most_a_quarter(failures in 1u32.., seed in ".*") {
            let policy = RetryPolicy::POST;
            let wait = policy.wait(failures, None, &seed);
            prop_assert!(wait <= policy.ceiling);
            prop_assert!(wait >= policy.base.mul_f64(0.74));
            prop_assert_eq!(wait, policy.wait(failures, None, &seed));
        }
    }
}
