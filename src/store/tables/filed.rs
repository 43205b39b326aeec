//! What the collections hold: refreshes of a rollout, and deployments; how each is grouped, counted and woken.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::place::{self, moment};
use super::row::{Row, Stamp};
use super::service::Table;
use crate::rollout::{Deployment, DeploymentKey, Refresh, Standing, Timestamp};
use crate::store::{StoreError, Versioned};

/// A record of a collection.
pub trait Filed: Serialize + DeserializeOwned + Clone + Send + Sync {
    /// What it is called in errors.
    const WHAT: &'static str;
    /// Where it is kept.
    const TABLE: Table;
    /// Where its times are kept, each with the property that names the row there.
    const TIMERS: &'static [(Table, &'static str)];

    /// Its key.
    fn key(&self) -> &DeploymentKey;
    /// The collection it belongs to, where there are several.
    fn owner(&self) -> String;
    /// What it is listed and counted by.
    fn class(&self) -> Class;
    /// When it is to be looked at, in the order of [`Filed::TIMERS`].
    fn times(&self) -> Vec<Option<Timestamp>>;
}

/// What a record is listed by (`group`), and counted by besides (`detail`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// A word or a plan; empty for none.
    pub group: String,
    /// A wave; or 1 for what is gone.
    pub detail: u32,
}

impl Filed for Refresh {
    const WHAT: &'static str = "refresh";
    const TABLE: Table = Table::Refreshes;
    const TIMERS: &'static [(Table, &'static str)] = &[(Table::Wakes, "wake")];

    fn key(&self) -> &DeploymentKey {
        &self.key
    }

    fn owner(&self) -> String {
        self.rollout_id.to_string()
    }

    fn class(&self) -> Class {
        Class { group: Standing::of(self).word().to_owned(), detail: self.wave }
    }

    fn times(&self) -> Vec<Option<Timestamp>> {
        vec![self.wake_at()]
    }
}

impl Filed for Deployment {
    const WHAT: &'static str = "deployment";
    const TABLE: Table = Table::Deployments;
    const TIMERS: &'static [(Table, &'static str)] = &[(Table::Checks, "check"), (Table::Gone, "gone")];

    fn key(&self) -> &DeploymentKey {
        &self.key
    }

    fn owner(&self) -> String {
        String::new()
    }

    fn class(&self) -> Class {
        let group = self.plan.as_ref().map(ToString::to_string).unwrap_or_default();
        Class { group, detail: u32::from(self.gone_since.is_some()) }
    }

    fn times(&self) -> Vec<Option<Timestamp>> {
        vec![self.check.as_ref().map(|check| check.due), self.gone_since]
    }
}

/// How many records of a collection there are of each class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<Class, i64>);

impl Counts {
    /// Changes one of them.
    pub fn add(&mut self, class: Class, by: i64) {
        let count = self.0.entry(class).or_default();
        *count += by;
    }

    /// Adds all of another.
    pub fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|(class, by)| self.add(class.clone(), *by));
    }

    /// Whether there is any of a group.
    pub fn has(&self, group: &str) -> bool {
        self.0.iter().any(|(class, count)| class.group == group && *count > 0)
    }

    /// As a row holds them.
    pub fn to_row(&self, partition: &str, slot: char, operation: &str) -> Result<Row, StoreError> {
        let counts: Vec<_> = self.0.iter().filter(|(_, count)| **count != 0).collect();
        let counts: Vec<_> = counts.iter().map(|(class, count)| (&class.group, class.detail, count)).collect();
        Row::new(partition, place::count_key(slot), operation).with_body("count", &counts)
    }

    /// As a row held them.
    pub fn of_row(row: &Row) -> Result<Self, StoreError> {
        let counts: Vec<(String, u32, i64)> = row.body("count")?;
        Ok(Self(counts.into_iter().map(|(group, detail, count)| (Class { group, detail }, count)).collect()))
    }
}

/// The number of parts of the stamps of `R`: its class and its times.
pub fn stamp_parts<R: Filed>() -> usize {
    2 + R::TIMERS.len()
}

/// The stamp of a record with that class and those names of times.
pub fn stamp(etag: String, class: &Class, times: &[Option<String>]) -> Stamp {
    let mut filed = vec![class.group.clone(), class.detail.to_string()];
    filed.extend(times.iter().map(|time| time.clone().unwrap_or_default()));
    Stamp { etag, filed }
}

/// The class that a stamp says.
pub fn class_of(stamp: &Stamp) -> Class {
    let detail = stamp.filed.get(1).and_then(|text| text.parse().ok()).unwrap_or_default();
    Class { group: stamp.filed.first().cloned().unwrap_or_default(), detail }
}

/// The names of times that a stamp says.
pub fn times_of(stamp: &Stamp) -> Vec<Option<String>> {
    stamp.filed.iter().skip(2).map(|name| Some(name.clone()).filter(|name| !name.is_empty())).collect()
}

/// The name of a time: the moment, and what tells apart two writes of the same moment.
pub fn time_name(at: Timestamp, operation: &str) -> String {
    format!("{}~{operation}", moment(at))
}

/// The row of a record.
pub fn to_row<R: Filed>(record: &R, times: &[Option<String>], operation: &str) -> Result<Row, StoreError> {
    let (key, class) = (record.key().as_str(), record.class());
    let partition = place::partition(&record.owner(), place::shard(key));
    let mut row = Row::new(partition, key, operation).with("group", class.group).with("detail", class.detail);
    for ((_, property), time) in R::TIMERS.iter().zip(times) {
        if let Some(time) = time {
            row = row.with(property, time.as_str());
        }
    }
    row.with_body(R::WHAT, record)
}

/// The record of a row.
pub fn from_row<R: Filed>(row: &Row) -> Result<Versioned<R>, StoreError> {
    let class =
        Class { group: row.text("group").unwrap_or_default().to_owned(), detail: row.number("detail").unwrap_or(0) };
    let times: Vec<_> = R::TIMERS.iter().map(|(_, property)| row.text(property).map(str::to_owned)).collect();
    let stamp = stamp(row.etag.clone().unwrap_or_default(), &class, &times);
    Ok(Versioned { value: row.body(R::WHAT)?, etag: Some(stamp.to_etag()) })
}
