//! How often a wrong key may be tried: a few times a minute from one address, and from all together not much oftener than
//! there are addresses.
//!
//! Whoever is over the limit is refused whatever they present: were a right key let through, the limit would slow nobody down
//! who guesses. But wrong keys from elsewhere keep nobody out: an address that has sent none in this minute has one try left,
//! however many others have sent. Kept by this process alone, so several instances allow several times as much; against a long
//! random key that is nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::rollout::Timestamp;

/// Wrong keys from one address within [`WINDOW`].
pub const FROM_ONE: u32 = 10;
/// Wrong keys from everybody within [`WINDOW`], from when on each address has one try.
pub const FROM_ALL: u32 = 100;
/// After how long wrong keys are forgotten.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How many addresses are remembered; were there more, nobody else would get in, and nobody's guesses either.
pub const ADDRESSES: usize = 20_000;

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
        let allowed = match of_address {
            0 => window.by_address.len() < ADDRESSES,
            some => some < FROM_ONE && window.all < FROM_ALL,
        };
        if !allowed {
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
        match window.by_address.get_mut(address) {
            Some(of_address) if *of_address > 1 => *of_address -= 1,
            _ => _ = window.by_address.remove(address),
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
    fn wrong_keys_from_everywhere_leave_each_new_address_one_try() {
        let (attempts, now) = (Attempts::default(), Timestamp::from_timestamp(1_000, 0).unwrap());
        for number in 0..FROM_ALL {
            assert_eq!(attempts.take(&(number / 2).to_string(), now), Ok(()));
        }
        assert_eq!(attempts.take("7", now), Err(60), "it has sent wrong ones");
        assert_eq!(attempts.take("another", now), Ok(()));
        assert_eq!(attempts.take("another", now), Err(60));
        attempts.give_back("another");
        assert_eq!(attempts.take("another", now), Ok(()), "a right key is no attempt");
        assert_eq!(attempts.take("7", now + WINDOW), Ok(()));
    }

    #[test]
    fn what_is_remembered_of_addresses_is_bounded() {
        let (attempts, now) = (Attempts::default(), Timestamp::from_timestamp(1_000, 0).unwrap());
        let let_in = (0..2 * ADDRESSES).filter(|number| attempts.take(&number.to_string(), now).is_ok()).count();
        assert_eq!(let_in, ADDRESSES);
    }
}
