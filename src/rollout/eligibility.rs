//! Who belongs to a rollout: one deployment against one publish.

use std::collections::HashSet;

use super::deployment::{Deployment, Readiness};
use super::refresh::SkipReason;
use super::strategy::Canaries;
use super::{ApplicationId, Audience, DeploymentKey, OfferPublish, Purpose, Timestamp};

/// What a deployment is to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// It is to be refreshed.
    Member,
    /// It belongs to the rollout, and there is nothing to do.
    Skipped(SkipReason),
    /// It is not meant: another audience, out of scope, or long gone.
    Outside,
}

/// Whom a publish is meant for, its lists sorted out once: it is asked about every deployment of a plan.
#[derive(Debug)]
pub struct Circle<'p> {
    publish: &'p OfferPublish,
    scope: HashSet<DeploymentKey>,
    /// Who counts as a preview purchase; empty where nobody has to be one.
    previews: HashSet<DeploymentKey>,
}

impl<'p> Circle<'p> {
    /// The circle of `publish`. `previews` are the applications that count as preview purchases whatever they were bought as
    /// (`OFFERS.previewApplications`).
    pub fn of(publish: &'p OfferPublish, previews: &[ApplicationId]) -> Self {
        let mut circle =
            Self { publish, scope: publish.scope.iter().map(ApplicationId::key).collect(), previews: HashSet::new() };
        if publish.audience == Audience::Preview {
            circle.previews.extend(previews.iter().map(ApplicationId::key));
            if let Canaries::Named(ids) = &publish.strategy.canaries {
                circle.previews.extend(ids.iter().map(ApplicationId::key));
            }
        }
        circle
    }

    /// What `deployment` is to the publish.
    pub fn eligibility(&self, deployment: &Deployment, now: Timestamp) -> Eligibility {
        let publish = self.publish;
        if deployment.gone_since.is_some() || deployment.plan.as_ref() != Some(&publish.plan) {
            return Eligibility::Outside;
        }
        if !self.scope.is_empty() && !self.scope.contains(&deployment.key) {
            return Eligibility::Outside;
        }
        let is_preview = deployment.preview || self.previews.contains(&deployment.key);
        if publish.audience == Audience::Preview && !is_preview {
            return Eligibility::Outside;
        }
        match deployment.readiness() {
            Readiness::Leaving => return Eligibility::Skipped(SkipReason::Deleting),
            Readiness::NotReady => return Eligibility::Skipped(SkipReason::NotReady),
            // What ARM answers to the check is known when its turn comes.
            Readiness::Ready | Readiness::Uncertain => {}
        }
        if !deployment.confirmed {
            return Eligibility::Skipped(SkipReason::Unconfirmed);
        }
        let applied = deployment.applied.as_ref().map(|applied| applied.version);
        match publish.purpose {
            // A preview of a newer version is no drift.
            Purpose::Scheduled if deployment.preview && applied > Some(publish.version) => {
                Eligibility::Skipped(SkipReason::NewerApplied)
            }
            Purpose::Repair | Purpose::Scheduled => touchable(deployment, now),
            _ if applied == Some(publish.version) => Eligibility::Skipped(SkipReason::AlreadyApplied),
            Purpose::RollOut if applied > Some(publish.version) => Eligibility::Skipped(SkipReason::NewerApplied),
            Purpose::RollOut | Purpose::Restore => touchable(deployment, now),
        }
    }
}

fn touchable(deployment: &Deployment, now: Timestamp) -> Eligibility {
    if deployment.is_on_hold(now) { Eligibility::Skipped(SkipReason::OnHold) } else { Eligibility::Member }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{Applied, Hold, RolloutId, Strategy, Target};

    const ID: &str = "/subscriptions/a1000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger";

    fn now() -> Timestamp {
        "2026-03-10T12:00:00Z".parse().unwrap()
    }

    fn eligibility(
        deployment: &Deployment,
        publish: &OfferPublish,
        previews: &[ApplicationId],
        now: Timestamp,
    ) -> Eligibility {
        Circle::of(publish, previews).eligibility(deployment, now)
    }

    const MOMENT: std::time::Duration = std::time::Duration::from_millis(1);

    fn held(until: Option<Timestamp>, deployment: Deployment) -> Deployment {
        Deployment { hold: Some(Hold { until, why: "freeze".into(), since: now() }), ..deployment }
    }

    fn publish() -> OfferPublish {
        OfferPublish::sample()
    }

    fn deployment() -> Deployment {
        Deployment { plan: Some(publish().plan), confirmed: true, ..Deployment::new(ID.parse().unwrap(), now()) }
    }

    fn applied(version: &str) -> Deployment {
        let rollout_id = RolloutId(uuid::Uuid::nil());
        let applied = Applied { version: version.parse().unwrap(), rollout_id, at: now() };
        Deployment { applied: Some(applied), ..deployment() }
    }

    #[test]
    fn each_deployment_is_a_member_skipped_with_a_reason_or_not_meant() {
        use Eligibility::{Member, Outside, Skipped};
        let state = |word: &str| Deployment { provisioning_state: Some(word.into()), ..deployment() };
        for (deployment, expected) in [
            (deployment(), Member),
            (state("Succeeded"), Member),
            (state("SomethingNew"), Member),
            (applied("1.3.9"), Member),
            (held(None, deployment()), Skipped(SkipReason::OnHold)),
            (held(Some(now() + MOMENT), deployment()), Skipped(SkipReason::OnHold)),
            (held(Some(now()), deployment()), Member),
            (held(None, applied("1.4.0")), Skipped(SkipReason::AlreadyApplied)),
            (applied("1.4.0"), Skipped(SkipReason::AlreadyApplied)),
            (applied("1.10.0"), Skipped(SkipReason::NewerApplied)),
            (state("Deleting"), Skipped(SkipReason::Deleting)),
            (state("failed"), Skipped(SkipReason::NotReady)),
            (state("Accepted"), Skipped(SkipReason::NotReady)),
            (Deployment { confirmed: false, ..deployment() }, Skipped(SkipReason::Unconfirmed)),
            (Deployment { gone_since: Some(now()), ..deployment() }, Outside),
            (Deployment { plan: None, ..deployment() }, Outside),
        ] {
            assert_eq!(eligibility(&deployment, &publish(), &[], now()), expected, "{deployment:?}");
        }
    }

    #[test]
    fn a_repair_reaches_those_that_have_the_version_or_a_newer_one() {
        for purpose in [Purpose::Repair, Purpose::Scheduled] {
            let publish = OfferPublish { purpose, ..publish() };
            assert_eq!(eligibility(&applied("1.4.0"), &publish, &[], now()), Eligibility::Member);
            assert_eq!(eligibility(&applied("2.0.0"), &publish, &[], now()), Eligibility::Member);
        }
    }

    #[test]
    fn a_preview_is_for_preview_purchases_and_named_applications_only() {
        let preview = OfferPublish { audience: Audience::Preview, target: Target::Preview, ..publish() };
        assert_eq!(eligibility(&deployment(), &preview, &[], now()), Eligibility::Outside);
        assert_eq!(
            eligibility(&Deployment { preview: true, ..deployment() }, &preview, &[], now()),
            Eligibility::Member
        );
        assert_eq!(
            eligibility(&deployment(), &preview, &[ID.to_uppercase().parse().unwrap()], now()),
            Eligibility::Member
        );
        let canaries = Canaries::Named(vec![ID.parse().unwrap()]);
        let named = OfferPublish { strategy: Strategy { canaries, ..Strategy::default() }, ..preview };
        assert_eq!(eligibility(&deployment(), &named, &[], now()), Eligibility::Member);
    }

    #[test]
    fn a_scope_leaves_everybody_else_out() {
        let other = ID.replace("ledger", "other").parse().unwrap();
        let scoped = |ids| OfferPublish { scope: ids, ..publish() };
        assert_eq!(eligibility(&deployment(), &scoped(vec![other]), &[], now()), Eligibility::Outside);
        assert_eq!(eligibility(&deployment(), &scoped(vec![ID.parse().unwrap()]), &[], now()), Eligibility::Member);
    }
}
