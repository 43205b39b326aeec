//! The rows that count, and who may change them: one writer of this process at a time for each slot.
//!
//! A slot is changed in the transaction that changes its records, so that it is never wrong; other processes are kept
//! out by its version. What was read last is remembered, so that a writer that is alone needs not read it again. The
//! memory is only a guess: the service has the last word.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use tokio::sync::OwnedMutexGuard;

use super::filed::{Class, Counts};
use super::place::{BEHIND, SHARDS, count_key, partition, quoted};
use super::service::{Service, Table, Write};
use crate::store::StoreError;

/// How many slots are remembered before those that nobody uses are forgotten.
const REMEMBERED: usize = 4_096;

/// A slot as it was seen last; `None` where that is not known.
type Seen = Option<Slot>;
type Shared = Arc<tokio::sync::Mutex<Seen>>;

#[derive(Clone, Debug, Default)]
struct Slot {
    /// None where there is no row yet.
    etag: Option<String>,
    counts: Counts,
}

/// What this process knows of slots.
#[derive(Default)]
pub struct Slots(Mutex<HashMap<(Table, String, char), Shared>>);

/// Slots that are held for one write.
pub struct Held {
    partition: String,
    slots: BTreeMap<char, OwnedMutexGuard<Seen>>,
}

impl Slots {
    /// Holds some slots of a partition. They are taken in their order, so that nobody waits for one that waits for him.
    pub async fn hold(
        &self,
        service: &Service,
        table: Table,
        partition: &str,
        slots: impl Iterator<Item = char>,
    ) -> Result<Held, StoreError> {
        let mut slots: Vec<_> = slots.collect();
        slots.sort_unstable();
        slots.dedup();
        let mut held = Held { partition: partition.to_owned(), slots: BTreeMap::new() };
        for slot in slots {
            let shared = self.shared(table, partition, slot);
            held.slots.insert(slot, shared.lock_owned().await);
        }
        held.read_unknown(service, table).await?;
        Ok(held)
    }

    fn shared(&self, table: Table, partition: &str, slot: char) -> Shared {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() > REMEMBERED {
            slots.retain(|_, shared| Arc::strong_count(shared) > 1);
        }
        Arc::clone(slots.entry((table, partition.to_owned(), slot)).or_default())
    }
}

impl Held {
    async fn read_unknown(&mut self, service: &Service, table: Table) -> Result<(), StoreError> {
        let unknown: Vec<_> = self.slots.iter().filter(|(_, seen)| seen.is_none()).map(|(slot, _)| *slot).collect();
        let rows = match &unknown[..] {
            [] => return Ok(()),
            [one] => service.row(table, &self.partition, &count_key(*one)).await?.into_iter().collect(),
            _ => counting_rows(service, table, &self.partition).await?,
        };
        for slot in unknown {
            let row = rows.iter().find(|row| row.key == count_key(slot));
            let seen = match row {
                Some(row) => Slot { etag: row.etag.clone(), counts: Counts::of_row(row)? },
                None => Slot::default(),
            };
            if let Some(held) = self.slots.get_mut(&slot) {
                **held = Some(seen);
            }
        }
        Ok(())
    }

    /// The writes that change the slots by `changes`, with what each will hold.
    pub fn writes(
        &self,
        changes: &BTreeMap<char, Counts>,
        operation: &str,
    ) -> Result<Vec<(char, Counts, Write)>, StoreError> {
        let mut writes = Vec::with_capacity(changes.len());
        for (slot, change) in changes {
            let seen = self.slots.get(slot).and_then(|seen| (**seen).clone()).unwrap_or_default();
            let mut counts = seen.counts;
            counts.add_all(change);
            counts.0.retain(|_, count| *count != 0);
            let row = counts.to_row(&self.partition, *slot, operation)?;
            let write = match seen.etag {
                Some(etag) => Write::Replace(row, etag),
                None => Write::Insert(row),
            };
            writes.push((*slot, counts, write));
        }
        Ok(writes)
    }

    /// Remembers what a slot holds now.
    pub fn remember(&mut self, slot: char, counts: Counts, etag: String) {
        if let Some(held) = self.slots.get_mut(&slot) {
            **held = Some(Slot { etag: Some(etag), counts });
        }
    }

    /// Forgets what was seen: a write went wrong.
    pub fn forget(&mut self) {
        for held in self.slots.values_mut() {
            **held = None;
        }
    }
}

async fn counting_rows(service: &Service, table: Table, partition: &str) -> Result<Vec<super::row::Row>, StoreError> {
    let filter = format!("PartitionKey eq {} and RowKey ge {}", quoted(partition), quoted(BEHIND));
    Ok(service.rows(table, &filter, SHARDS.len()).await?.0)
}

/// All counts of an owner, by the first two digits of the keys. Sixteen requests at once, however many records there are.
pub async fn of_owner(
    service: &Service,
    table: Table,
    owner: &str,
) -> Result<BTreeMap<(char, char), Counts>, StoreError> {
    let of_shard = async |shard: char| {
        let rows = counting_rows(service, table, &partition(owner, shard)).await?;
        let counts = rows.iter().filter_map(|row| {
            let slot = row.key.chars().nth(1)?;
            Some(Counts::of_row(row).map(|counts| ((shard, slot), counts)))
        });
        counts.collect::<Result<Vec<_>, _>>()
    };
    Ok(try_join_all(SHARDS.map(of_shard)).await?.into_iter().flatten().collect())
}

/// The sum of all counts of an owner.
pub async fn sum(service: &Service, table: Table, owner: &str) -> Result<BTreeMap<Class, u64>, StoreError> {
    let mut sum = Counts::default();
    of_owner(service, table, owner).await?.values().for_each(|counts| sum.add_all(counts));
    Ok(sum.0.into_iter().filter_map(|(class, count)| Some((class, u64::try_from(count).ok()?))).collect())
}
