//! How often a key may be tried: a few times a minute from one address, and not much oftener from all together.
//!
//! Kept by this process alone, so several instances allow several times as much; against a long random key that is nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::rollout::Timestamp;

/// Wrong keys from one address within [`WINDOW`].
pub const FROM_ONE: u32 = 10;
/// Wrong keys from everybody within [`WINDOW`].
pub const FROM_ALL: u32 = 100;
/// After how long wrong keys are forgotten.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The wrong keys of the current window.
#[derive(Default)]
pub struct Attempts(Mutex<Window>);

#[derive(Default)]
struct Window {
    began: Option<Timestamp>,
    all: u32,
    by_address: HashMap<String, u32>,
}

impl Attempts {
    /// Takes the place of one attempt, or says how many seconds to wait. It is taken before the key is looked at, so that
    /// many at once are counted too; [`Attempts::give_back`] is for a right one.
    pub fn take(&self, address: &str, now: Timestamp) -> Result<(), u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = window.began.map(|began| began + WINDOW).filter(|end| *end > now);
        let Some(end) = end else {
            *window = Window { began: Some(now), all: 1, by_address: HashMap::from([(address.to_owned(), 1)]) };
            return Ok(());
        };
        let of_address = window.by_address.get(address).copied().unwrap_or_default();
        if of_address >= FROM_ONE || window.all >= FROM_ALL {
            return Err((end - now).num_seconds().unsigned_abs().max(1));
        }
        window.all += 1;
        window.by_address.insert(address.to_owned(), of_address + 1);
        Ok(())
    }

    /// The attempt was no wrong key.
    pub fn give_back(&self, address: &str) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        window.all = window.all.saturating_sub(1);
        if let Some(of_address) = window.by_address.get_mut(address) {
            *of_address = of_address.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_tries_too_often_waits_and_the_others_do_not() {
        let (attempts, now) = (Attempts::default(), Timestamp::from_timestamp(1_000, 0).unwrap());
        for _ in 0..FROM_ONE {
            assert_eq!(attempts.take("a", now), Ok(()));
        }
        assert_eq!(attempts.take("a", now), Err(60));
        assert_eq!(attempts.take("a", now + Duration::from_secs(59)), Err(1));
        assert_eq!(attempts.take("b", now), Ok(()));
        assert_eq!(attempts.take("a", now + WINDOW), Ok(()));
    }

    #[test]
    fn many_addresses_together_are_limited_too_and_right_keys_do_not_count() {
        let (attempts, now) = (Attempts::default(), Timestamp::from_timestamp(1_000, 0).unwrap());
        for number in 0..FROM_ALL {
            assert_eq!(attempts.take(&number.to_string(), now), Ok(()));
        }
        assert_eq!(attempts.take("another", now), Err(60));
        attempts.give_back("7");
        assert_eq!(attempts.take("another", now), Ok(()));
    }
}
