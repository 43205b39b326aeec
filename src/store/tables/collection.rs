//! Collections of records: written under their guards together with their counts and times, read by key, by class, by
//! time.
//!
//! The order of a write is: rows of the index of times that are new; then, in one transaction, records and the rows that
//! count them; then the index rows that are no longer true. Whatever is cut off in between, no record is without its
//! index row and no count is wrong.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use uuid::Uuid;

use super::counting::{self, Slots};
use super::due::{self, Due};
use super::filed::{Class, Counts, Filed, class_of, from_row, stamp, stamp_parts, time_name, times_of, to_row};
use super::place::{self, BEHIND, SHARDS, moment, quoted};
use super::row::{Guard, OPERATION, Row};
use super::service::{Committed, Service, Write};
use crate::clock::Clock;
use crate::rollout::{DeploymentKey, Timestamp};
use crate::store::{Saved, StoreError, Versioned};

/// The most records of one transaction: sixteen places are for counts.
const RECORDS: usize = 80;
/// The heaviest transaction, in bytes: the service takes 4 MiB (contracts/service-bus-and-tables.md §2.5).
const HEAVIEST: usize = 3 * 1024 * 1024;
/// How often a write is tried while other processes change the same counts.
const TRIES: usize = 40;
/// The most comparisons with groups in one filter; the service takes 15 in all.
const COMPARISONS: usize = 10;
/// How many records of a partition are read one by one rather than as a range.
const ONE_BY_ONE: usize = 4;

/// What is to become of a record.
#[derive(Clone, Debug)]
pub struct Change<R> {
    /// The record.
    pub record: R,
    /// What it is guarded by.
    pub guard: Guard,
    /// Whether it is stored or removed.
    pub aim: Aim,
}

/// Whether a record is stored or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// It is stored.
    Store,
    /// It is removed.
    Remove,
}

impl<R: Filed> Change<R> {
    /// A guarded write or removal of a record.
    pub fn guarded(record: &Versioned<R>, aim: Aim) -> Self {
        let guard = Guard::of(record.etag.as_ref(), stamp_parts::<R>());
        Self { record: record.value.clone(), guard, aim }
    }

    fn partition(&self) -> String {
        place::partition(&self.record.owner(), place::shard(self.record.key().as_str()))
    }

    fn before(&self) -> Option<Class> {
        if let Guard::Is(stamp) = &self.guard { Some(class_of(stamp)) } else { None }
    }

    fn after(&self) -> Option<Class> {
        (self.aim == Aim::Store).then(|| self.record.class())
    }

    fn times_before(&self) -> Vec<Option<String>> {
        if let Guard::Is(stamp) = &self.guard { times_of(stamp) } else { vec![None; R::TIMERS.len()] }
    }

    /// The names of its times after the write: those that stay, and new ones.
    fn times_after(&self, operation: &str) -> Vec<Option<String>> {
        if self.aim == Aim::Remove {
            return vec![None; R::TIMERS.len()];
        }
        let name = |(at, before): (Option<Timestamp>, Option<String>)| {
            let at = at?;
            let same = before.filter(|before| before.split('~').next() == Some(moment(at).as_str()));
            Some(same.unwrap_or_else(|| time_name(at, operation)))
        };
        self.record.times().into_iter().zip(self.times_before()).map(name).collect()
    }

    fn due(&self, name: &str) -> Due {
        Due { name: name.to_owned(), owner: self.record.owner(), key: self.record.key().as_str().to_owned() }
    }
}

/// The collections of one store.
pub struct Collections {
    /// The service.
    pub service: Service,
    slots: Slots,
    clock: Arc<dyn Clock>,
}

impl Collections {
    /// Collections kept by `service`.
    pub fn new(service: Service, clock: Arc<dyn Clock>) -> Self {
        Self { service, slots: Slots::default(), clock }
    }

    /// Carries out changes, each guarded for itself; the answers are in their order. For each sixteenth of an owner's keys
    /// that is touched: one request for each minute of new times, one for 80 records (after reading its counts, unless
    /// this process wrote them last), one for each minute of old times. A lost race costs one more for each record.
    pub async fn change<R: Filed>(&self, changes: &[Change<R>]) -> Result<Vec<Saved>, StoreError> {
        let mut answers: Vec<Saved> = vec![Saved::Conflict; changes.len()];
        let mut left: Vec<usize> = (0..changes.len()).filter(|at| changes[*at].guard != Guard::Never).collect();
        while !left.is_empty() {
            // A transaction takes each row once, so a second change of the same record comes after the first.
            let mut seen = HashSet::new();
            let (now, later): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|at| seen.insert((changes[*at].record.owner(), changes[*at].record.key())));
            let mut partitions: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            for at in now {
                partitions.entry(changes[at].partition()).or_default().push(at);
            }
            let of_partition = async |partition: String, all: Vec<usize>| {
                let mut saved = Vec::with_capacity(all.len());
                for some in in_transactions(&all, changes) {
                    saved.extend(self.change_some(&partition, changes, some).await?);
                }
                Ok::<_, StoreError>(saved)
            };
            for saved in join_all(partitions.into_iter().map(|(partition, all)| of_partition(partition, all))).await {
                for (at, saved) in saved? {
                    answers[at] = saved;
                }
            }
            left = later;
        }
        Ok(answers)
    }

    /// One transaction with what belongs before and after it.
    async fn change_some<R: Filed>(
        &self,
        partition: &str,
        changes: &[Change<R>],
        some: Vec<usize>,
    ) -> Result<Vec<(usize, Saved)>, StoreError> {
        let operation = Uuid::new_v4().simple().to_string();
        let times: BTreeMap<usize, Vec<Option<String>>> =
            some.iter().map(|at| (*at, changes[*at].times_after(&operation))).collect();
        for (number, (table, _)) in R::TIMERS.iter().enumerate() {
            let dues: Vec<_> = some.iter().filter_map(|at| new_due(&changes[*at], &times[at], number)).collect();
            due::file(&self.service, *table, &dues, self.clock.now()).await?;
        }
        let saved = self.transact(partition, changes, some, &times, &operation).await?;
        for (number, (table, _)) in R::TIMERS.iter().enumerate() {
            // Where the write was lost its new row is one too many, else its old one.
            let stale = saved.iter().filter_map(|(at, saved)| match saved {
                Saved::Stored(_) => old_due(&changes[*at], &times[at], number),
                Saved::Conflict => new_due(&changes[*at], &times[at], number),
            });
            due::drop_rows(&self.service, *table, &stale.collect::<Vec<_>>()).await;
        }
        Ok(saved)
    }

    async fn transact<R: Filed>(
        &self,
        partition: &str,
        changes: &[Change<R>],
        mut left: Vec<usize>,
        times: &BTreeMap<usize, Vec<Option<String>>>,
        operation: &str,
    ) -> Result<Vec<(usize, Saved)>, StoreError> {
        let mut saved = Vec::with_capacity(left.len());
        for _ in 0..TRIES {
            let mut counts: BTreeMap<char, Counts> = BTreeMap::new();
            let mut writes = Vec::with_capacity(left.len());
            for at in &left {
                let change = &changes[*at];
                let (before, after) = (change.before(), change.after());
                if before != after {
                    let slot = counts.entry(place::slot(change.record.key())).or_default();
                    before.into_iter().for_each(|class| slot.add(class, -1));
                    after.into_iter().for_each(|class| slot.add(class, 1));
                }
                writes.push(write_of(change, &times[at], operation)?);
            }
            let mut held = self.slots.hold(&self.service, R::TABLE, partition, counts.keys().copied()).await?;
            let counted = held.writes(&counts, operation)?;
            writes.extend(counted.iter().map(|(_, _, write)| write.clone()));
            let committed = self.service.commit(R::TABLE, partition, &writes).await;
            if let Ok(Committed::Done(etags)) = &committed {
                let (of_records, of_counts) = etags.split_at(left.len());
                for ((slot, counts, _), etag) in counted.into_iter().zip(of_counts) {
                    held.remember(slot, counts, etag.clone());
                }
                for (at, etag) in left.into_iter().zip(of_records) {
                    let stamp = stamp(etag.clone(), &changes[at].record.class(), &times[&at]);
                    saved.push((at, Saved::Stored(stamp.to_etag())));
                }
                return Ok(saved);
            }
            held.forget();
            drop(held);
            committed?;
            left = self.still_possible(partition, changes, left, &mut saved).await?;
            if left.is_empty() {
                return Ok(saved);
            }
        }
        Err(StoreError::Unavailable {
            action: "write records",
            reason: format!("others changed the counts of {partition} {TRIES} times in a row"),
        })
    }

    /// Sorts out which records are no longer as their guards say, after a transaction was refused.
    async fn still_possible<R: Filed>(
        &self,
        partition: &str,
        changes: &[Change<R>],
        left: Vec<usize>,
        saved: &mut Vec<(usize, Saved)>,
    ) -> Result<Vec<usize>, StoreError> {
        let read = left.iter().map(|at| self.service.row(R::TABLE, partition, changes[*at].record.key().as_str()));
        let rows = try_join_all(read).await?;
        let mut possible = Vec::with_capacity(left.len());
        for (at, row) in left.into_iter().zip(rows) {
            let is_as_guarded = match (&changes[at].guard, &row) {
                (Guard::Absent, None) => true,
                (Guard::Is(stamp), Some(row)) => row.etag.as_ref() == Some(&stamp.etag),
                _ => false,
            };
            if is_as_guarded {
                possible.push(at);
            } else {
                saved.push((at, Saved::Conflict));
            }
        }
        Ok(possible)
    }

    /// One record. One request.
    pub async fn one<R: Filed>(&self, owner: &str, key: &DeploymentKey) -> Result<Option<Versioned<R>>, StoreError> {
        let partition = place::partition(owner, place::shard(key.as_str()));
        let row = self.service.row(R::TABLE, &partition, key.as_str()).await?;
        row.map(|row| from_row(&row)).transpose()
    }

    /// Records in the order of their keys behind `after`, at least `enough` of them unless there are fewer; only those of
    /// some groups, if `groups` says so. Without groups two requests, and one for each further thousand; with groups
    /// sixteen for the counts, and one for each sixteenth of the keys that has some.
    pub async fn list<R: Filed>(
        &self,
        owner: &str,
        groups: Option<&[String]>,
        after: Option<&str>,
        enough: usize,
    ) -> Result<Vec<Versioned<R>>, StoreError> {
        let rows = match groups {
            None => self.rows_of_all::<R>(owner, after, enough).await?,
            Some(groups) => self.rows_of_groups::<R>(owner, groups, after, enough).await?,
        };
        rows.iter().map(from_row).collect()
    }

    async fn rows_of_all<R: Filed>(
        &self,
        owner: &str,
        after: Option<&str>,
        enough: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let of = |shard: char| quoted(&place::partition(owner, shard));
        let records = format!("RowKey lt {}", quoted(BEHIND));
        let (first, last) = (of(SHARDS[0]), of(SHARDS[15]));
        let Some(after) = after else {
            let filter = format!("PartitionKey ge {first} and PartitionKey le {last} and {records}");
            return Ok(self.service.rows(R::TABLE, &filter, enough).await?.0);
        };
        let here = of(place::shard(after));
        let filter = format!("PartitionKey eq {here} and RowKey gt {} and {records}", quoted(after));
        let (mut rows, _) = self.service.rows(R::TABLE, &filter, enough).await?;
        if rows.len() < enough {
            let filter = format!("PartitionKey gt {here} and PartitionKey le {last} and {records}");
            rows.extend(self.service.rows(R::TABLE, &filter, enough - rows.len()).await?.0);
        }
        Ok(rows)
    }

    async fn rows_of_groups<R: Filed>(
        &self,
        owner: &str,
        groups: &[String],
        after: Option<&str>,
        enough: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let counts = counting::of_owner(&self.service, R::TABLE, owner).await?;
        let mut rows = Vec::new();
        for shard in SHARDS.into_iter().filter(|shard| after.is_none_or(|after| *shard >= place::shard(after))) {
            let mut all = Counts::default();
            let mut slots = Vec::new();
            for ((_, slot), counts) in counts.iter().filter(|((of, _), _)| *of == shard) {
                all.add_all(counts);
                if groups.iter().any(|group| counts.has(group)) {
                    slots.push(*slot);
                }
            }
            // Nothing before the first slot and behind the last is looked at.
            let (Some(first), Some(last)) = (slots.first(), slots.last()) else { continue };
            let first = format!("{shard}{first}");
            let from = match after.filter(|after| *after >= first.as_str()) {
                Some(after) => format!("RowKey gt {}", quoted(after)),
                None => format!("RowKey ge {}", quoted(&first)),
            };
            let to = quoted(&format!("{shard}{last}{BEHIND}"));
            let partition = quoted(&place::partition(owner, shard));
            let filter =
                format!("PartitionKey eq {partition} and {from} and RowKey lt {to}{}", of_groups(groups, &all));
            let (found, _) = self.service.rows(R::TABLE, &filter, enough - rows.len()).await?;
            // The filter leaves out only groups that were there a moment ago.
            let is_wanted = |row: &Row| groups.iter().any(|group| row.text("group") == Some(group));
            rows.extend(found.into_iter().filter(is_wanted));
            if rows.len() >= enough {
                break;
            }
        }
        Ok(rows)
    }

    /// Records whose time `number` has come by `until`, the longest due first. One request while nothing is due, and one
    /// for each sixteenth of an owner's keys that has something due. Rows that are not true are dropped.
    pub async fn due<R: Filed>(
        &self,
        number: usize,
        until: Option<Timestamp>,
        at_most: usize,
    ) -> Result<Vec<Versioned<R>>, StoreError> {
        let (table, property) = R::TIMERS[number];
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        while found.len() < at_most {
            let enough = at_most - found.len();
            let now = self.clock.now();
            let batch = due::earliest(&self.service, table, after.as_deref(), until, enough, now).await?;
            let mut stale = Vec::new();
            let mut rest = batch.rows.as_slice();
            while !rest.is_empty() && found.len() < at_most {
                let (some, later) = rest.split_at(rest.len().min(at_most - found.len()));
                rest = later;
                let dues: Vec<_> = some.iter().map(|filed| &filed.due).collect();
                let rows = self.rows_that_are_due::<R>(&dues, property).await?;
                for filed in some {
                    match rows.get(&(filed.due.owner.clone(), filed.due.key.clone())) {
                        Some(row) if row.text(property) == Some(filed.due.name.as_str()) => {
                            found.push(from_row(row)?);
                        }
                        _ if filed.is_old => stale.push(filed.due.clone()),
                        _ => {}
                    }
                }
            }
            due::drop_rows(&self.service, table, &stale).await;
            match batch.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        Ok(found)
    }

    async fn rows_that_are_due<R: Filed>(
        &self,
        dues: &[&Due],
        property: &str,
    ) -> Result<BTreeMap<(String, String), Row>, StoreError> {
        // The keys of each sixteenth, and the latest of their times.
        let mut groups: BTreeMap<(String, char), (BTreeSet<String>, String)> = BTreeMap::new();
        for due in dues {
            let (keys, latest) = groups.entry((due.owner.clone(), place::shard(&due.key))).or_default();
            keys.insert(due.key.clone());
            if *latest < due.name {
                latest.clone_from(&due.name);
            }
        }
        let read = async |((owner, shard), (keys, latest)): ((String, char), (BTreeSet<String>, String))| {
            let partition = place::partition(&owner, shard);
            let rows = match (keys.first(), keys.last()) {
                (Some(first), Some(last)) if keys.len() > ONE_BY_ONE => {
                    let filter = format!(
                        "PartitionKey eq {} and RowKey ge {} and RowKey le {} and {property} le {}",
                        quoted(&partition),
                        quoted(first),
                        quoted(last),
                        quoted(&latest)
                    );
                    self.service.rows(R::TABLE, &filter, usize::MAX).await?.0
                }
                _ => {
                    let rows = keys.iter().map(|key| self.service.row(R::TABLE, &partition, key));
                    try_join_all(rows).await?.into_iter().flatten().collect()
                }
            };
            Ok::<_, StoreError>(rows.into_iter().map(move |row| ((owner.clone(), row.key.clone()), row)))
        };
        let read = try_join_all(groups.into_iter().map(read)).await?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Files again the times of an owner's records that were to be looked at before `overdue`: whatever the reason, one of
    /// them may have no row in the index. Returns how many. Sixteen requests, and one for each thousand found.
    pub async fn file_overdue<R: Filed>(
        &self,
        owner: &str,
        number: usize,
        overdue: Timestamp,
    ) -> Result<usize, StoreError> {
        let (table, property) = R::TIMERS[number];
        let overdue = moment(overdue);
        let of_shard = async |shard| {
            let partition = quoted(&place::partition(owner, shard));
            let filter = format!(
                "PartitionKey eq {partition} and RowKey lt {} and {property} lt {}",
                quoted(BEHIND),
                quoted(&overdue)
            );
            let rows = self.service.rows(R::TABLE, &filter, usize::MAX).await?.0;
            let due = |row: &Row| {
                let name = row.text(property).filter(|name| *name < overdue.as_str())?.to_owned();
                Some(Due { name, owner: owner.to_owned(), key: row.key.clone() })
            };
            let dues: Vec<_> = rows.iter().filter_map(due).collect();
            due::file(&self.service, table, &dues, self.clock.now()).await?;
            Ok::<_, StoreError>(dues.len())
        };
        Ok(try_join_all(SHARDS.map(of_shard)).await?.into_iter().sum())
    }
}

/// Cuts changes into what one transaction takes.
fn in_transactions<R: Filed>(all: &[usize], changes: &[Change<R>]) -> Vec<Vec<usize>> {
    let mut transactions: Vec<Vec<usize>> = Vec::new();
    let mut weight = 0;
    for at in all {
        let row = to_row(&changes[*at].record, &[], OPERATION).map_or(0, |row| 500 + row.weight());
        match transactions.last_mut() {
            Some(last) if last.len() < RECORDS && weight + row <= HEAVIEST => {
                last.push(*at);
                weight += row;
            }
            _ => {
                transactions.push(vec![*at]);
                weight = row;
            }
        }
    }
    transactions
}

fn write_of<R: Filed>(change: &Change<R>, times: &[Option<String>], operation: &str) -> Result<Write, StoreError> {
    let key = || change.record.key().as_str().to_owned();
    Ok(match (&change.guard, change.aim) {
        (Guard::Is(stamp), Aim::Store) => Write::Replace(to_row(&change.record, times, operation)?, stamp.etag.clone()),
        (Guard::Is(stamp), Aim::Remove) => Write::Delete { key: key(), etag: stamp.etag.clone() },
        (Guard::Absent | Guard::Never, _) => Write::Insert(to_row(&change.record, times, operation)?),
    })
}

/// The index row that a change brings, if its time is another than before.
fn new_due<R: Filed>(change: &Change<R>, times: &[Option<String>], number: usize) -> Option<Due> {
    let name = times[number].as_deref()?;
    (change.times_before()[number].as_deref() != Some(name)).then(|| change.due(name))
}

/// The index row that is no longer true after a change.
fn old_due<R: Filed>(change: &Change<R>, times: &[Option<String>], number: usize) -> Option<Due> {
    let before = change.times_before()[number].clone()?;
    (times[number].as_ref() != Some(&before)).then(|| change.due(&before))
}

/// The part of a filter that lets only some groups through, of those that are there.
fn of_groups(groups: &[String], there: &Counts) -> String {
    let mut there: Vec<_> = there.0.iter().filter(|(_, count)| **count > 0).map(|(class, _)| &class.group).collect();
    there.dedup();
    let (wanted, unwanted): (Vec<_>, Vec<_>) = there.into_iter().partition(|group| groups.contains(group));
    let each = |groups: &[&String], with: &str| -> Vec<String> {
        groups.iter().map(|group| format!("group {with} {}", quoted(group))).collect()
    };
    if wanted.len() <= COMPARISONS {
        format!(" and ({})", each(&wanted, "eq").join(" or "))
    } else if unwanted.is_empty() {
        String::new()
    } else {
        format!(" and {}", each(&unwanted, "ne").join(" and "))
    }
}
