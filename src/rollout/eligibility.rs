//! Who belongs to a rollout: one deployment against one publish.

use super::deployment::{Deployment, Readiness};
use super::refresh::SkipReason;
use super::strategy::Canaries;
use super::{ApplicationId, Audience, OfferPublish, Purpose, Timestamp};

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

/// What `deployment` is to `publish`. `previews` are the applications that count as preview purchases whatever they were
/// bought as (`OFFERS.previewApplications`).
pub fn eligibility(
    deployment: &Deployment,
    publish: &OfferPublish,
    previews: &[ApplicationId],
    now: Timestamp,
) -> Eligibility {
    if deployment.gone_since.is_some() || deployment.plan.as_ref() != Some(&publish.plan) {
        return Eligibility::Outside;
    }
    let named = |ids: &[ApplicationId]| ids.iter().any(|id| id.key() == deployment.key);
    if !publish.scope.is_empty() && !named(&publish.scope) {
        return Eligibility::Outside;
    }
    if publish.audience == Audience::Preview && !deployment.preview && !named(previews) {
        let is_canary = matches!(&publish.strategy.canaries, Canaries::Named(ids) if named(ids));
        if !is_canary {
            return Eligibility::Outside;
        }
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

fn touchable(deployment: &Deployment, now: Timestamp) -> Eligibility {
    if deployment.is_on_hold(now) { Eligibility::Skipped(SkipReason::OnHold) } else { Eligibility::Member }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::publish::Supersede;
    use crate::rollout::{Applied, Hold, Plan, RolloutId, Strategy, Target, Timestamp};

    const ID: &str = "/subscriptions/a1000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger";

    fn now() -> Timestamp {
        "2026-03-10T12:00:00Z".parse().unwrap()
    }

    const MOMENT: std::time::Duration = std::time::Duration::from_millis(1);

    fn held(until: Option<Timestamp>, deployment: Deployment) -> Deployment {
        Deployment { hold: Some(Hold { until, why: "freeze".into(), since: now() }), ..deployment }
    }

    fn publish() -> OfferPublish {
        OfferPublish {
            plan: Plan::parse("fabrikam", "ledger", "standard").unwrap().0,
            version: "1.4.0".parse().unwrap(),
            target: Target::Live,
            audience: Audience::All,
            purpose: Purpose::RollOut,
            submission_id: None,
            published_at: None,
            scope: vec![],
            strategy: Strategy::default(),
            supersede: Supersede::Refuse,
            note: None,
            actions: None,
        }
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
