//! What the store and the embedded queue have in common: a SQLite file, and a thread that owns a connection to it.
//!
//! [`mod@file`] opens a file and brings its schema up to date; [`lane`] runs everything that waits in one transaction. Neither
//! knows a table: what is stored is said in `store::sqlite` and `queue::embedded`.
//!
//! What is durable: a call that returned `Ok` has been committed to the write-ahead log (WAL, `synchronous=NORMAL`), so it
//! survives the death of the process. A power failure may take the last commits with it, in their order, but never damages the
//! file. That is enough, since every step may run twice and the timer finds what was lost; in Azure none of this is in use.

pub mod file;
pub mod lane;

use chrono::DateTime;

use crate::rollout::Timestamp;

/// SQLite could not do it. Says why, never what was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

/// A moment as it is stored and compared: nanoseconds since 1970, so that nothing is due too early by rounding. Years
/// that do not fit (before 1678, after 2261) become the nearest that does.
pub fn to_nanos(at: Timestamp) -> i64 {
    at.timestamp_nanos_opt().unwrap_or(if at.timestamp() < 0 { i64::MIN } else { i64::MAX })
}

/// The moment that [`to_nanos`] stored.
pub fn from_nanos(nanos: i64) -> Timestamp {
    DateTime::from_timestamp_nanos(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_keep_their_nanoseconds_and_their_order() {
        let exact = "2026-01-02T03:04:05.123456789Z".parse::<Timestamp>().unwrap();
        assert_eq!(from_nanos(to_nanos(exact)), exact);
        assert_eq!(to_nanos(Timestamp::MAX_UTC), i64::MAX);
        assert_eq!(to_nanos(Timestamp::MIN_UTC), i64::MIN);
        assert!(from_nanos(i64::MIN) < from_nanos(0) && from_nanos(0) < from_nanos(i64::MAX));
    }
}
