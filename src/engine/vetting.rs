//! Before a rollout begins: what it would change, and whether it should begin at all.
//!
//! Works out the versions that its deployments have and lets [`Changes`] compare; keeps the result with the rollout. Where no
//! snapshot of the version is there, nothing is compared and nothing stands against it.

use super::{Engine, EngineError};
use crate::rollout::changes::Baselines;
use crate::rollout::eligibility::{Circle, Eligibility};
use crate::rollout::lifecycle::Vetting;
use crate::rollout::refresh::SkipReason;
use crate::rollout::{Changes, Purpose, Rollout, RolloutId};
use crate::store::{StoreError, Versioned, document, published};

/// How many deployments are read at once.
const PAGE: usize = 1_000;

impl Engine {
    /// Why a rollout is not to begin, if anything stands against it. Done twice it comes to the same.
    pub(super) async fn vet(&self, rollout: &Rollout) -> Result<Option<String>, EngineError> {
        let Some(changes) = self.find_changes(rollout).await? else { return Ok(None) };
        for _ in 0..super::RACES {
            // Those of an earlier try, if it was cut off.
            let known = self.changes(rollout.id).await?;
            let etag = known.as_ref().and_then(|known| known.etag.clone());
            if known.is_some_and(|known| known.value == changes)
                || document::save(self.store(), &Versioned { value: changes.clone(), etag }).await?.is_stored()
            {
                return Ok(changes.is_idle().filter(|_| rollout.vetting == Vetting::Due));
            }
        }
        Err(EngineError::Contended { what: format!("the changes of rollout {}", rollout.id) })
    }

    /// What a rollout changes, as it was when it was to begin.
    pub async fn changes(&self, id: RolloutId) -> Result<Option<Versioned<Changes>>, StoreError> {
        document::get(self.store(), &id.to_string()).await
    }

    async fn find_changes(&self, rollout: &Rollout) -> Result<Option<Changes>, EngineError> {
        let publish = &rollout.publish;
        if publish.purpose == Purpose::Scheduled {
            return Ok(None);
        }
        let Some(after) = published::snapshot(self.store(), &publish.plan, publish.version).await? else {
            return Ok(None);
        };
        let circle = Circle::of(publish, self.previews(&publish.plan));
        let (mut baselines, mut cursor) = (Baselines::new(), None);
        loop {
            let page = self.store.deployments_after(&publish.plan, cursor.as_ref(), PAGE).await?;
            for deployment in &page {
                match circle.eligibility(deployment, self.now()) {
                    Eligibility::Outside
                    | Eligibility::Skipped(SkipReason::AlreadyApplied | SkipReason::Gone | SkipReason::Deleting) => {}
                    Eligibility::Member | Eligibility::Skipped(_) => {
                        baselines.entry(deployment.known_version()).or_default();
                    }
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => cursor = Some(last.key.clone()),
                _ => break,
            }
        }
        for (version, snapshot) in &mut baselines {
            if let Some(version) = version {
                let known = published::snapshot(self.store(), &publish.plan, *version).await?;
                *snapshot = known.map(|known| known.value);
            }
        }
        Ok(Some(Changes::of(rollout.id, &after.value, &baselines)))
    }
}
