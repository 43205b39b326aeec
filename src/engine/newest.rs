//! The newest refresh of one deployment, or the newest that is looked for. Reads only.
//!
//! Refreshes are kept by rollout, and a rollout may pass a deployment by. So the rollouts of its plan are looked through from
//! the newest on, however many others have had meanwhile; those of other plans cost nothing but their place in the list.
//! The scheduled refresh takes every deployment in, so the search is a short one.

use futures_util::future::try_join_all;

use super::{Engine, EngineError};
use crate::rollout::{Deployment, Refresh, Rollout};
use crate::store::{PageRequest, Versioned};

/// How many rollouts are listed at once.
const PAGE: usize = 100;
/// In how many of them the refresh is looked for at once.
const AT_ONCE: usize = 8;

impl Engine {
    /// The refresh of a deployment in the newest rollout that has one, with that rollout.
    pub async fn latest_refresh(&self, deployment: &Deployment) -> Result<Option<(Rollout, Refresh)>, EngineError> {
        let found = self.newest_refresh(deployment, |_| true, |_| true).await?;
        Ok(found.map(|(rollout, refresh)| (rollout, refresh.value)))
    }

    /// The newest refresh of a deployment that is meant, in a rollout that is.
    pub(super) async fn newest_refresh(
        &self,
        deployment: &Deployment,
        is_rollout: impl Fn(&Rollout) -> bool + Send + Sync,
        is_refresh: impl Fn(&Refresh) -> bool + Send + Sync,
    ) -> Result<Option<(Rollout, Versioned<Refresh>)>, EngineError> {
        let Some(plan) = &deployment.plan else { return Ok(None) };
        let mut request = PageRequest { continuation: None, top: PAGE };
        loop {
            let page = self.store.rollouts(&request).await?;
            let meant: Vec<_> =
                page.items.into_iter().filter(|rollout| rollout.publish.plan == *plan && is_rollout(rollout)).collect();
            for some in meant.chunks(AT_ONCE) {
                let refreshes = some.iter().map(|rollout| self.store.refresh(rollout.id, &deployment.key));
                for (rollout, refresh) in some.iter().zip(try_join_all(refreshes).await?) {
                    if let Some(refresh) = refresh.filter(|refresh| is_refresh(&refresh.value)) {
                        return Ok(Some((rollout.clone(), refresh)));
                    }
                }
            }
            request.continuation = page.next;
            if request.continuation.is_none() {
                return Ok(None);
            }
        }
    }
}
