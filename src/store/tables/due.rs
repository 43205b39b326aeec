//! The index of times: a row per record that is to be looked at, in the order of minutes.
//!
//! A row lies in `{minute}~{shard}` and is named by moment, write, owner and key. It is written *before* its record, so
//! that no record is without one; whoever reads a row whose record says otherwise drops it, once it is old enough that no
//! writer can still be on its way to the record. Knows no records.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

use super::place::{self, SHARDS, minute, moment, quoted};
use super::row::Row;
use super::service::{Committed, PAGE, Service, TRANSACTION, Table, Write};
use crate::rollout::Timestamp;
use crate::store::StoreError;

/// How old a row must be before it is dropped: longer than a write may take.
pub const GRACE: Duration = Duration::from_secs(5 * 60);

/// When the row was written.
const WRITTEN: &str = "writtenAt";

/// One row of the index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// The moment and the write, as the record names them.
    pub name: String,
    /// The owner of the record.
    pub owner: String,
    /// The key of the record.
    pub key: String,
}

impl Due {
    /// The moment, as text.
    pub fn moment(&self) -> &str {
        self.name.split('~').next().unwrap_or_default()
    }

    fn partition(&self) -> String {
        in_minute(minute(&self.name), place::shard(&self.key))
    }

    fn row_key(&self) -> String {
        format!("{}~{}~{}", self.name, self.owner, self.key)
    }

    fn of_row(row: &Row) -> Option<Self> {
        let mut parts = row.key.split('~');
        let (moment, operation, owner, key) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Self { name: format!("{moment}~{operation}"), owner: owner.to_owned(), key: key.to_owned() })
    }
}

fn in_minute(minute: &str, shard: char) -> String {
    format!("{minute}~{shard}")
}

/// A row as it was read.
#[derive(Clone, Debug)]
pub struct Filed {
    /// The row.
    pub due: Due,
    /// Whether it may be dropped if its record says otherwise.
    pub is_old: bool,
}

/// Writes rows. One request for each minute, shard and hundred.
pub async fn file(service: &Service, table: Table, dues: &[Due], now: Timestamp) -> Result<(), StoreError> {
    let written = moment(now);
    let put = async |partition: String, dues: Vec<&Due>| {
        for dues in dues.chunks(TRANSACTION) {
            let row = |due: &&Due| Row::new(partition.as_str(), due.row_key(), "").with(WRITTEN, written.as_str());
            let writes: Vec<_> = dues.iter().map(|due| Write::Put(row(due))).collect();
            service.commit(table, &partition, &writes).await?;
        }
        Ok(())
    };
    try_join_all(by_partition(dues).into_iter().map(|(partition, dues)| put(partition, dues))).await.map(|_| ())
}

/// Removes rows. One request for each minute, shard and hundred, and one for each row where some are gone already. A failure
/// is borne, since a stale row is dropped where it is read.
pub async fn drop_rows(service: &Service, table: Table, dues: &[Due]) {
    let delete = async |partition: String, dues: Vec<&Due>| {
        for dues in dues.chunks(TRANSACTION) {
            let writes: Vec<_> = dues.iter().map(|due| Write::DeleteAny { key: due.row_key() }).collect();
            if let Ok(Committed::Refused) = service.commit(table, &partition, &writes).await
                && writes.len() > 1
            {
                join_all(writes.chunks(1).map(|write| service.commit(table, &partition, write))).await;
            }
        }
    };
    join_all(by_partition(dues).into_iter().map(|(partition, dues)| delete(partition, dues))).await;
}

fn by_partition(dues: &[Due]) -> BTreeMap<String, Vec<&Due>> {
    let mut partitions: BTreeMap<String, Vec<&Due>> = BTreeMap::new();
    for due in dues {
        partitions.entry(due.partition()).or_default().push(due);
    }
    partitions
}

/// Some rows, the earliest of the index, in the order of their moments.
#[derive(Debug)]
pub struct Batch {
    /// The rows.
    pub rows: Vec<Filed>,
    /// The minute that the next batch begins after; none where this was the last.
    pub next: Option<String>,
}

/// The earliest rows after the minute `after`, up to the moment `until`, of which `enough` would do. One request; where one
/// minute has more than fits an answer, one more for each of its shards.
pub async fn earliest(
    service: &Service,
    table: Table,
    after: Option<&str>,
    until: Option<Timestamp>,
    enough: usize,
    now: Timestamp,
) -> Result<Batch, StoreError> {
    let until = until.map(moment);
    let mut range = Vec::new();
    if let Some(after) = after {
        range.push(format!("PartitionKey gt {}", quoted(&format!("{after}~~"))));
    }
    if let Some(until) = &until {
        range.push(format!("PartitionKey lt {}", quoted(&format!("{}~~", minute(until)))));
    }
    let (mut rows, is_all) = service.rows(table, &range.join(" and "), enough.clamp(32, PAGE)).await?;
    let mut next = None;
    if !is_all && let (Some(first), Some(last)) = (minute_of(rows.first()), minute_of(rows.last())) {
        if first == last {
            let of_shard = async |shard| {
                let filter = format!("PartitionKey eq {}", quoted(&in_minute(&last, shard)));
                service.rows(table, &filter, enough.max(1)).await
            };
            rows = try_join_all(SHARDS.map(of_shard)).await?.into_iter().flat_map(|(rows, _)| rows).collect();
            next = Some(last);
        } else {
            // The last minute may go on, so it belongs to the next batch.
            rows.retain(|row| minute_of(Some(row)).as_ref() != Some(&last));
            next = minute_of(rows.last());
        }
    }
    let written_before = moment(now - GRACE);
    let mut filed: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let is_old = row.text(WRITTEN).is_none_or(|written| written < written_before.as_str());
            Due::of_row(row).map(|due| Filed { due, is_old })
        })
        .filter(|filed| until.as_deref().is_none_or(|until| filed.due.moment() <= until))
        .collect();
    filed.sort_by(|a, b| a.due.cmp(&b.due));
    Ok(Batch { rows: filed, next })
}

fn minute_of(row: Option<&Row>) -> Option<String> {
    row.map(|row| minute(&row.partition).to_owned())
}
