//! What became of refreshes that were handed over to the customer: recognised where Azure shows it, recorded where a person
//! says so, and never assumed.
//!
//! No notification tells of a customer's run (contracts/arm.md §3.1), and nobody documents what changes in the application.
//! What can be seen is its version: where Azure shows the very version that was handed over, and showed another one before,
//! that counts, and is told as what it is.

use tracing::info;

use super::{Engine, EngineError};
use crate::rollout::{Deployment, DeploymentKey, Event, Evidence, Refresh, RefreshState, Rollout, Version};
use crate::store::Versioned;

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum RanError {
    /// There is no such deployment.
    #[error("there is no deployment {key}")]
    NotFound {
        /// The key that was asked for.
        key: DeploymentKey,
    },
    /// Nobody was asked to run anything.
    #[error("nothing of it was handed over{}, so there is nothing to record", .version.map(|version| format!(" for version {version}")).unwrap_or_default())]
    NotHandedOver {
        /// The version that was named.
        version: Option<Version>,
    },
    /// A part of ours failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Engine {
    /// Concludes what was handed over of a deployment, if Azure shows that version `now` and showed another one `before`.
    /// Called before the deployment is stored, so that it is done again where the process dies in between.
    pub(super) async fn recognise_run(&self, before: &Deployment, now: &Deployment) -> Result<(), EngineError> {
        let shown = |deployment: &Deployment| deployment.version.as_deref()?.parse::<Version>().ok();
        let (Some(had), Some(has)) = (shown(before), shown(now)) else { return Ok(()) };
        if had == has {
            return Ok(());
        }
        match self.last_handed_over(now, Some(has)).await? {
            Some(refresh) if is_handed_over(&refresh.value) => {
                info!(deployment.key = %now.key, "Azure shows version {has} of {} since it was handed over", now.application_id);
                self.conclude_run(&refresh, Evidence::ShownByAzure).await
            }
            _ => Ok(()),
        }
    }

    /// Records that the customer has run what was handed over: of this version, or else what was handed over last. The
    /// deployment and the version then. The same again changes nothing.
    pub async fn record_run(
        &self,
        key: &DeploymentKey,
        version: Option<Version>,
        by: &str,
    ) -> Result<(Deployment, Version), RanError> {
        for _ in 0..super::RACES {
            let Some(deployment) = self.deployment(key).await? else {
                return Err(RanError::NotFound { key: key.clone() });
            };
            let Some(refresh) = self.last_handed_over(&deployment.value, version).await? else {
                return Err(RanError::NotHandedOver { version });
            };
            if !is_handed_over(&refresh.value) {
                return Ok((deployment.value, refresh.value.version));
            }
            self.conclude_run(&refresh, Evidence::Reported { by: by.to_owned() }).await?;
        }
        Err(EngineError::Contended { what: format!("the refresh of deployment {key}") }.into())
    }

    async fn conclude_run(&self, refresh: &Versioned<Refresh>, evidence: Evidence) -> Result<(), EngineError> {
        self.conclude(refresh, Event::CustomerRan { evidence }, self.now(), &self.config.policy).await
    }

    /// The newest refresh of a deployment that was handed over, run since or not.
    async fn last_handed_over(
        &self,
        deployment: &Deployment,
        version: Option<Version>,
    ) -> Result<Option<Versioned<Refresh>>, EngineError> {
        let is_rollout = |rollout: &Rollout| version.is_none_or(|version| rollout.publish.version == version);
        let was_handed_over = |refresh: &Refresh| is_handed_over(refresh) || was_run(refresh);
        let found = self.newest_refresh(deployment, is_rollout, was_handed_over).await?;
        Ok(found.map(|(_, refresh)| refresh))
    }
}

fn is_handed_over(refresh: &Refresh) -> bool {
    matches!(refresh.state, RefreshState::HandedOver { .. })
}

fn was_run(refresh: &Refresh) -> bool {
    matches!(refresh.state, RefreshState::Succeeded { evidence: Evidence::ShownByAzure | Evidence::Reported { .. } })
}
