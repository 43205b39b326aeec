//! How far a version has come: which version each plan should have, and how many of its deployments have it. Reads only.

use super::{Engine, EngineError};
use crate::rollout::{Plan, Version, WantedVersion};

/// How many deployments are read at once.
const PAGE: usize = 1_000;

/// How many deployments of a plan have a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// How many there are, those that are gone not included.
    pub deployments: u64,
    /// How many of them have the version.
    pub have: u64,
}

impl Engine {
    /// Every plan that should have a version, with that version.
    pub async fn wanted_versions(&self) -> Result<Vec<WantedVersion>, EngineError> {
        let mut wanted = Vec::new();
        for plan in self.plans_with_wanted_version().await? {
            wanted.push(self.wanted(&plan).await?.value);
        }
        Ok(wanted)
    }

    /// How many deployments of `plan` have `version`. Walks over all of them, page by page.
    pub async fn coverage(&self, plan: &Plan, version: Version) -> Result<Coverage, EngineError> {
        let mut coverage = Coverage::default();
        let mut cursor = None;
        loop {
            let page = self.store.deployments_after(plan, cursor.as_ref(), PAGE).await?;
            for deployment in page.iter().filter(|deployment| deployment.gone_since.is_none()) {
                coverage.deployments += 1;
                coverage.have += u64::from(deployment.has(version));
            }
            match page.last() {
                Some(last) if page.len() == PAGE => cursor = Some(last.key.clone()),
                _ => return Ok(coverage),
            }
        }
    }
}
