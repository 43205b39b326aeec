//! A dry run: who a publish would call, in which wave, and who would be skipped and why. Writes nothing.

use super::publish::PublishError;
use super::{Engine, EngineError};
use crate::rollout::eligibility::{Eligibility, eligibility};
use crate::rollout::lint::Finding;
use crate::rollout::strategy::Canaries;
use crate::rollout::{ApplicationId, HandOver, OfferPublish, SkipReason, Strategy, Timestamp, Version, Way};
use crate::store::PageRequest;

/// What a publish would do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DryRun {
    /// Why the publish itself would be refused now, if it would.
    pub refused: Option<String>,
    /// Who would be called, in the order of waves.
    pub called: Vec<Call>,
    /// Who would be skipped, and why.
    pub skipped: Vec<(Member, SkipReason)>,
    /// What the lint says of the version's actions.
    pub lint: Vec<Finding>,
}

/// A deployment that a publish is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The deployment.
    pub application_id: ApplicationId,
    /// The version it has, as far as that is known.
    pub version_before: Option<Version>,
}

/// A deployment that would be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The deployment.
    pub member: Member,
    /// In which wave.
    pub wave: u32,
    /// The way that would be tried first.
    pub way: Way,
    /// When its maintenance window opens, if it has one that is closed now.
    pub opens_at: Option<Timestamp>,
    /// What the customer would have to run, where that is the way.
    pub hand_over: Option<HandOver>,
}

impl Engine {
    /// The strategy of an offer where a publish names none.
    pub fn default_strategy(&self, plan: &crate::rollout::Plan) -> Strategy {
        self.offer(&plan.publisher, &plan.offer).map(|offer| offer.strategy.clone()).unwrap_or_default()
    }

    /// What `publish` would do to the deployments that are known now.
    pub async fn dry_run(&self, publish: &OfferPublish) -> Result<DryRun, EngineError> {
        let now = self.now();
        let refused = match self.refuse_or_supersede(publish).await {
            Ok(_) => None,
            Err(PublishError::Engine(error)) => return Err(error),
            Err(refused) => Some(refused.to_string()),
        };
        if publish.is_record_only() {
            return Ok(DryRun { refused, ..DryRun::default() });
        }
        let configured = self.configured_ways(Some(&publish.plan));
        let policy = &self.config.policy;
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
                let version_before = deployment.known_version();
                let eligibility = eligibility(&deployment, publish, previews, now);
                let opens_at = deployment.opens_at(now);
                let way = deployment.ways.order(configured, now).first().copied().unwrap_or(Way::HandOver);
                let member = Member { application_id: deployment.application_id, version_before };
                match eligibility {
                    Eligibility::Outside => {}
                    Eligibility::Skipped(why) => skipped.push((member, why)),
                    Eligibility::Member if named.contains(&deployment.key) => first.push((member, opens_at, way)),
                    Eligibility::Member => others.push((member, opens_at, way)),
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
            .map(|(at, (member, opens_at, way))| {
                let hand_over = (way == Way::HandOver)
                    .then(|| HandOver::new(&member.application_id, publish.version, None, policy));
                let wave = u32::try_from(wave_of(at) + 1).unwrap_or(u32::MAX);
                Call { member, wave, way, opens_at, hand_over }
            })
            .collect();
        let lint = match self.published_actions(publish).await? {
            Some(actions) => self.lint(&actions).await,
            None => Vec::new(),
        };
        Ok(DryRun { refused, called, skipped, lint })
    }
}
