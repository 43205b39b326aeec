//! How far a version has come: which version each plan should have, and how many of its deployments have it.
//!
//! That is counted by walking over all of them, so a count is kept for all instances, with the moment at which it was made:
//! whoever shows it can say how old it is, and counting takes a small share of the time however many look.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Engine, EngineError};
use crate::rollout::{Plan, Timestamp, Version, WantedVersion};
use crate::store::Versioned;
use crate::store::document::{self, Document};

/// How many deployments are read at once.
const PAGE: usize = 1_000;
/// How much longer a count is good for than it took: counting takes at most a fiftieth of the time.
const WORTH: u32 = 50;
/// How long a count is good for at least.
const LEAST: Duration = Duration::from_secs(1);

/// How many deployments of a plan have a version, as they were counted last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// The plan.
    pub plan: Plan,
    /// The version.
    pub version: Version,
    /// How many deployments there are, those that are gone not included.
    pub deployments: u64,
    /// How many of them have the version.
    pub have: u64,
    /// When counting began.
    pub at: Timestamp,
    /// Until when it need not be counted again.
    pub good_until: Timestamp,
}

/// Found by its plan.
impl Document for Coverage {
    const COLLECTION: &'static str = "coverage";
    fn name(&self) -> String {
        self.plan.to_string()
    }
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

    /// How many deployments of `plan` have `version`, as anybody has counted them last.
    pub async fn coverage(&self, plan: &Plan, version: Version) -> Result<Option<Coverage>, EngineError> {
        let known = document::get::<Coverage>(&*self.store, &plan.to_string()).await?;
        Ok(known.map(|known| known.value).filter(|known| known.version == version))
    }

    /// Counts them anew, and keeps the count. Walks over all of them, page by page.
    pub async fn count_coverage(&self, plan: &Plan, version: Version) -> Result<Coverage, EngineError> {
        let known = document::get::<Coverage>(&*self.store, &plan.to_string()).await?;
        let at = self.now();
        let (mut deployments, mut have) = (0, 0);
        let mut cursor = None;
        loop {
            let page = self.store.deployments_after(plan, cursor.as_ref(), PAGE).await?;
            for deployment in page.iter().filter(|deployment| deployment.gone_since.is_none()) {
                deployments += 1;
                have += u64::from(deployment.has(version));
            }
            match page.last() {
                Some(last) if page.len() == PAGE => cursor = Some(last.key.clone()),
                _ => break,
            }
        }
        let ended = self.now();
        let took = (ended - at).to_std().unwrap_or_default();
        let good_until = ended + took.saturating_mul(WORTH).max(LEAST);
        let counted = Coverage { plan: plan.clone(), version, deployments, have, at, good_until };
        // Where somebody has counted meanwhile, theirs is as good.
        let stored = Versioned { value: counted.clone(), etag: known.and_then(|known| known.etag) };
        document::save(&*self.store, &stored).await?;
        Ok(counted)
    }
}
