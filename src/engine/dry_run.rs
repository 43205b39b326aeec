//! A dry run: who a publish would call, in which wave, and who would be skipped and why. Writes nothing.

use super::{Engine, EngineError};
use crate::rollout::eligibility::{Eligibility, eligibility};
use crate::rollout::lint::Finding;
use crate::rollout::strategy::Canaries;
use crate::rollout::{ApplicationId, OfferPublish, SkipReason, Strategy};
use crate::store::PageRequest;

/// What a publish would do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DryRun {
    /// Who would be called, with the wave, in the order of waves.
    pub called: Vec<(ApplicationId, u32)>,
    /// Who would be skipped, and why.
    pub skipped: Vec<(ApplicationId, SkipReason)>,
    /// What the lint says of the version's actions.
    pub lint: Vec<Finding>,
}

impl Engine {
    /// The strategy of an offer where a publish names none.
    pub fn default_strategy(&self, plan: &crate::rollout::Plan) -> Strategy {
        self.offer(&plan.publisher, &plan.offer).map(|offer| offer.strategy.clone()).unwrap_or_default()
    }

    /// What `publish` would do to the deployments that are known now.
    pub async fn dry_run(&self, publish: &OfferPublish) -> Result<DryRun, EngineError> {
        let previews = self.previews(&publish.plan);
        let named = match &publish.strategy.canaries {
            Canaries::Named(ids) => ids.iter().map(ApplicationId::key).collect(),
            Canaries::Count(_) => Vec::new(),
        };
        let (mut first, mut others, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        let mut page = PageRequest { continuation: None, top: 1_000 };
        loop {
            let deployments = self.store.deployments(Some(&publish.plan), &page).await?;
            for deployment in deployments.items {
                let deployment = deployment.value;
                match eligibility(&deployment, publish, previews) {
                    Eligibility::Outside => {}
                    Eligibility::Skipped(why) => skipped.push((deployment.application_id, why)),
                    Eligibility::Member if named.contains(&deployment.key) => first.push(deployment.application_id),
                    Eligibility::Member => others.push(deployment.application_id),
                }
            }
            match deployments.next {
                Some(next) => page.continuation = Some(next),
                None => break,
            }
        }
        let whole = (first.len() + others.len() + skipped.len()) as u64;
        let ends = publish.strategy.wave_ends(whole);
        let wave_of =
            |at: usize| ends.iter().position(|end| (at as u64) < *end).unwrap_or(ends.len().saturating_sub(1));
        let called = first
            .into_iter()
            .chain(others)
            .enumerate()
            .map(|(at, id)| (id, u32::try_from(wave_of(at) + 1).unwrap_or(u32::MAX)))
            .collect();
        let lint = match &publish.actions {
            Some(actions) => self.lint(actions).await,
            None => Vec::new(),
        };
        Ok(DryRun { called, skipped, lint })
    }
}
