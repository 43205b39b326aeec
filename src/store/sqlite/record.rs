//! How records, versions and keys become columns and are read back.

use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::rollout::DeploymentKey;
use crate::store::{ETag, Saved, StoreError, Versioned};

/// A record as it is stored: columns `etag` and `body`, in this order.
#[derive(Debug)]
pub struct Record {
    etag: i64,
    body: String,
}

impl Record {
    /// Reads the columns from `first` on.
    pub fn from_row(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self { etag: row.get(first)?, body: row.get(first + 1)? })
    }

    /// The record, with the version it has. Done by the caller, so that the thread of the connection goes on.
    pub fn read<T: DeserializeOwned>(&self, what: &'static str) -> Result<Versioned<T>, StoreError> {
        Ok(Versioned { value: read(what, &self.body)?, etag: Some(etag(self.etag)) })
    }
}

/// Reads a `body`.
pub fn read<T: DeserializeOwned>(what: &'static str, body: &str) -> Result<T, StoreError> {
    serde_json::from_str(body).map_err(|error| StoreError::Corrupt { what, reason: error.to_string() })
}

/// The `body` of a record.
pub fn write<T: Serialize>(record: &T) -> String {
    serde_json::to_string(record).expect("records have only string keys and finite parts, which always serialise")
}

/// What guards a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The record must not exist yet; it gets this version, which no earlier record of that name can have had.
    New(i64),
    /// The record must have this version.
    Is(i64),
    /// A version that we never gave out.
    Never,
}

impl Guard {
    /// The guard of a write of `record`.
    pub fn of<T>(record: &Versioned<T>) -> Self {
        match &record.etag {
            None => Self::New(first_etag()),
            Some(ETag(text)) => text.parse().map_or(Self::Never, Self::Is),
        }
    }
}

/// The version of a record that is new. Random, since counting from one would let a writer that saw a removed record win
/// over the one that took its place.
pub fn first_etag() -> i64 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    i64::from_ne_bytes((high >> 20).to_ne_bytes())
}

/// A version as it is given out.
pub fn etag(number: i64) -> ETag {
    ETag(number.to_string())
}

/// What became of a write that changed `changed` rows, the record's version being `number` then.
pub fn saved(changed: usize, number: i64) -> Saved {
    if changed == 0 { Saved::Conflict } else { Saved::Stored(etag(number)) }
}

/// The bytes of a key, as the column `key` has them.
pub fn key_bytes(key: &DeploymentKey) -> [u8; 32] {
    let digits = key.as_str().as_bytes();
    let value = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
    std::array::from_fn(|at| value(digits[2 * at]) << 4 | value(digits[2 * at + 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_keys_are_their_digits_and_sort_alike() {
        let key = |text: &str| text.repeat(32).parse::<DeploymentKey>().unwrap();
        assert_eq!(key_bytes(&key("0f")), [0x0f; 32]);
        assert_eq!(key_bytes(&key("a9")), [0xa9; 32]);
        assert_eq!(key("9f") < key("a0"), key_bytes(&key("9f")) < key_bytes(&key("a0")));
    }

    #[test]
    fn a_version_we_never_gave_out_guards_nothing() {
        let record = |etag: &str| Versioned { value: (), etag: Some(ETag(etag.to_owned())) };
        assert_eq!(Guard::of(&record("12")), Guard::Is(12));
        assert_eq!(Guard::of(&record("W/\"datetime\"")), Guard::Never);
        assert_ne!(Guard::of(&Versioned::new(())), Guard::of(&Versioned::new(())));
    }
}
