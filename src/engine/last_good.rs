//! What a plan could go back to: the versions that its deployments last succeeded with, besides the one to get away from.
//! Reads only; a repair is started like any other rollout.

use std::collections::BTreeMap;

use super::{Engine, EngineError};
use crate::rollout::{Plan, Timestamp, Version};

/// How many deployments are read at once.
const PAGE: usize = 1_000;

/// What the deployments of a plan last succeeded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastGood {
    /// The version to get away from.
    pub bad: Version,
    /// How many deployments there are.
    pub deployments: u64,
    /// How many of them last succeeded with the bad version.
    pub with_bad: u64,
    /// How many never succeeded with any other version, as far as the registry remembers.
    pub without_other: u64,
    /// The other versions, the one that most deployments last succeeded with first; of two equals the newer one.
    pub versions: Vec<Good>,
}

/// A version that some deployments last succeeded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Good {
    /// The version.
    pub version: Version,
    /// How many deployments.
    pub deployments: u64,
    /// When the last of them succeeded with it.
    pub last_at: Timestamp,
}

impl Engine {
    /// What the deployments of `plan` last succeeded with, besides `bad`.
    pub async fn last_good(&self, plan: &Plan, bad: Version) -> Result<LastGood, EngineError> {
        let mut found = LastGood { bad, deployments: 0, with_bad: 0, without_other: 0, versions: Vec::new() };
        let mut versions: BTreeMap<Version, Good> = BTreeMap::new();
        let mut cursor = None;
        loop {
            let page = self.store.deployments_after(plan, cursor.as_ref(), PAGE).await?;
            for deployment in page.iter().filter(|deployment| deployment.gone_since.is_none()) {
                found.deployments += 1;
                found.with_bad += u64::from(deployment.applied.as_ref().is_some_and(|applied| applied.version == bad));
                let Some(past) = deployment.last_good_before(bad) else {
                    found.without_other += 1;
                    continue;
                };
                let good = Good { version: past.version, deployments: 0, last_at: past.at };
                let good = versions.entry(past.version).or_insert(good);
                good.deployments += 1;
                good.last_at = good.last_at.max(past.at);
            }
            match page.last() {
                Some(last) if page.len() == PAGE => cursor = Some(last.key.clone()),
                _ => break,
            }
        }
        found.versions = versions.into_values().collect();
        found.versions.sort_by_key(|good| std::cmp::Reverse((good.deployments, good.version)));
        Ok(found)
    }
}
