//! The retry policy of a function: how often a failed run is tried again, and after what delay. It waits for nothing.

use std::time::Duration;

use serde_json::Value;

use crate::timespan;

/// `retry` in function.json or host.json (contracts/custom-handler.md §10). The embedded host honours it for timers,
/// the only triggers of its own that the documentation lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Further attempts after the first one; `None` is for ever.
    pub max_retries: Option<u32>,
    /// How long to wait before one.
    pub delay: Delay,
}

/// How long to wait before a further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Always the same.
    Fixed(Duration),
    /// Doubling from the least to the greatest, randomised.
    Exponential {
        /// The least.
        least: Duration,
        /// The greatest.
        greatest: Duration,
    },
}

/// A retry policy that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetryPolicyError {
    /// No such strategy.
    #[error("strategy has to be fixedDelay or exponentialBackoff")]
    Strategy,
    /// The number of retries is missing or wrong.
    #[error("maxRetryCount has to be a whole number, or -1 for no limit")]
    Count,
    /// A delay is missing or wrong.
    #[error("{member} has to be hh:mm:ss")]
    Interval {
        /// Which.
        member: &'static str,
    },
}

impl RetryPolicy {
    /// Reads one.
    ///
    /// # Errors
    /// If a member is missing or wrong.
    pub fn read(json: &Value) -> Result<Self, RetryPolicyError> {
        let member = |name: &str| {
            let members = json.as_object()?;
            members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let interval = |name: &'static str| {
            let span = member(name).and_then(Value::as_str).and_then(timespan::parse);
            span.ok_or(RetryPolicyError::Interval { member: name })
        };
        let max_retries = match member("maxRetryCount").and_then(Value::as_i64) {
            Some(-1) => None,
            Some(count) => Some(u32::try_from(count).map_err(|_| RetryPolicyError::Count)?),
            None => return Err(RetryPolicyError::Count),
        };
        let strategy = member("strategy").and_then(Value::as_str).unwrap_or_default();
        let delay = if strategy.eq_ignore_ascii_case("fixedDelay") {
            Delay::Fixed(interval("delayInterval")?)
        } else if strategy.eq_ignore_ascii_case("exponentialBackoff") {
            Delay::Exponential { least: interval("minimumInterval")?, greatest: interval("maximumInterval")? }
        } else {
            return Err(RetryPolicyError::Strategy);
        };
        Ok(Self { max_retries, delay })
    }

    /// The delay after so many retries were made, or `None` if no further one is due. `chance` is between 0 and 1.
    pub fn next_delay(&self, retries_made: u32, chance: f64) -> Option<Duration> {
        if self.max_retries.is_some_and(|most| retries_made >= most) {
            return None;
        }
        Some(match self.delay {
            Delay::Fixed(delay) => delay,
            Delay::Exponential { least, greatest } => {
                let doubled = least.saturating_mul(1_u32.checked_shl(retries_made).unwrap_or(u32::MAX));
                let about = doubled.min(greatest).mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0));
                about.min(greatest).max(least.min(greatest))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fixed_delay_is_repeated_until_the_count_is_reached() {
        let policy =
            RetryPolicy::read(&json!({"strategy": "fixedDelay", "maxRetryCount": 2, "delayInterval": "00:00:10"}))
                .expect("this is valid");
        let delays: Vec<_> = (0..3).map(|made| policy.next_delay(made, 0.5)).collect();
        assert_eq!(delays, [Some(Duration::from_secs(10)), Some(Duration::from_secs(10)), None]);
    }

    #[test]
    fn an_exponential_delay_stays_between_its_bounds_and_never_ends_without_a_count() {
        let policy = RetryPolicy::read(&json!({
            "strategy": "exponentialBackoff", "maxRetryCount": -1,
            "minimumInterval": "00:00:10", "maximumInterval": "00:15:00"
        }))
        .expect("this is valid");
        let seconds = |made, chance| policy.next_delay(made, chance).map(|delay| delay.as_secs());
        assert_eq!((seconds(0, 0.5), seconds(1, 0.5), seconds(2, 0.5)), (Some(10), Some(20), Some(40)));
        assert_eq!((seconds(0, 0.0), seconds(1, 1.0)), (Some(10), Some(24)));
        assert_eq!((seconds(40, 0.5), seconds(4_000_000, 1.0)), (Some(900), Some(900)));
    }

    #[test]
    fn a_wrong_policy_names_its_member() {
        for (json, problem) in [
            (json!({"maxRetryCount": 1}), "strategy has to be fixedDelay or exponentialBackoff"),
            (json!({"strategy": "fixedDelay"}), "maxRetryCount has to be a whole number, or -1 for no limit"),
            (json!({"strategy": "fixedDelay", "maxRetryCount": 1}), "delayInterval has to be hh:mm:ss"),
            (
                json!({"strategy": "exponentialBackoff", "maxRetryCount": 1, "minimumInterval": "00:00:01"}),
                "maximumInterval has to be hh:mm:ss",
            ),
        ] {
            assert_eq!(RetryPolicy::read(&json).map_err(|error| error.to_string()), Err(problem.to_owned()));
        }
    }
}
