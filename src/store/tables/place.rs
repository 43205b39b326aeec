//! Where rows lie: partitions, counting slots, and times that sort as text.
//!
//! A record's partition is its owner and the first hex digit of its key, so that an owner's records lie in sixteen
//! partitions whose order is the order of keys. The second digit chooses the row that counts it. The names use only
//! letters, digits, `-`, `:`, `.` and `~`, which keys may hold (contracts/service-bus-and-tables.md §2.4); `~` sorts after
//! the others.

use crate::rollout::{DeploymentKey, Timestamp};
use crate::sqlite::{from_nanos, to_nanos};

/// The digits that partitions end with.
pub const SHARDS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
/// Sorts after every key: what is not a record begins with it.
pub const BEHIND: &str = "~";

/// The partition of an owner's records whose keys begin with `shard`. Deployments have no owner.
pub fn partition(owner: &str, shard: char) -> String {
    if owner.is_empty() { shard.to_string() } else { format!("{owner}~{shard}") }
}

/// The first digit of a key.
pub fn shard(key: &str) -> char {
    key.chars().next().unwrap_or('0')
}

/// The second digit of a key.
pub fn slot(key: &DeploymentKey) -> char {
    key.as_str().chars().nth(1).unwrap_or('0')
}

/// The key of the row that counts records whose second digit is `slot`.
pub fn count_key(slot: char) -> String {
    format!("{BEHIND}{slot}")
}

/// A moment as text that sorts as moments do, to the nanosecond.
pub fn moment(at: Timestamp) -> String {
    from_nanos(to_nanos(at)).format("%Y-%m-%dT%H:%M:%S%.9fZ").to_string()
}

/// The minute of a moment's text.
pub fn minute(moment: &str) -> &str {
    moment.get(..16).unwrap_or(moment)
}

/// A text in a filter.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_sort_as_text_and_those_out_of_range_stay_at_the_ends() {
        let moments = ["1969-12-31T23:59:59Z", "2026-01-02T03:04:05.000000001Z", "2026-01-02T03:04:05.1Z"];
        let texts: Vec<_> = [Timestamp::MIN_UTC]
            .into_iter()
            .chain(moments.map(|text| text.parse().unwrap()))
            .chain([Timestamp::MAX_UTC])
            .map(moment)
            .collect();
        assert!(texts.is_sorted() && texts.iter().all(|text| text.len() == texts[0].len()), "{texts:?}");
        assert_eq!(minute(&texts[2]), "2026-01-02T03:04");
    }
}
