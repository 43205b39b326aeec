//! Where a page of a list ended, as the text that is given out and taken back.
//!
//! The text names its list, so that one of another list is refused instead of showing a wrong page.

use crate::rollout::{DeploymentKey, RolloutId};
use crate::store::StoreError;

use super::record::key_bytes;

/// The list of rollouts: the age and id of the last one.
pub fn after_rollout(text: Option<&str>) -> Result<Option<(i64, RolloutId)>, StoreError> {
    parse(text, |text| {
        let (created_at, id) = text.strip_prefix("o.")?.split_once('.')?;
        Some((created_at.parse().ok()?, id.parse().ok()?))
    })
}

/// The continuation after a rollout.
pub fn of_rollout(created_at: i64, id: RolloutId) -> String {
    format!("o.{created_at}.{id}")
}

/// A list in the order of keys: the key of the last one. `list` is its letter.
pub fn after_key(list: char, text: Option<&str>) -> Result<Option<[u8; 32]>, StoreError> {
    parse(text, |text| {
        let key = text.strip_prefix(list)?.strip_prefix('.')?.parse().ok()?;
        Some(key_bytes(&key))
    })
}

/// The continuation after a key.
pub fn of_key(list: char, key: &DeploymentKey) -> String {
    format!("{list}.{key}")
}

fn parse<T>(text: Option<&str>, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, StoreError> {
    text.map(|text| read(text).ok_or(StoreError::InvalidContinuation)).transpose()
}
