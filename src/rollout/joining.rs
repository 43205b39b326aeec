//! Late joiners: deployments that appear, come back, or become ready when the rollout of the wanted version has passed them
//! by. Decides what is to become of one; does nothing.
//!
//! A late joiner gets the wanted version as one more refresh of the very rollout that brought it (its *host*), so that its
//! failures count there, and it waits whenever that rollout does. It exists once per rollout and deployment, however often
//! it is noticed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::eligibility::{Circle, Eligibility};
use super::{
    ApplicationId, Deployment, DeploymentKey, Plan, Readiness, Refresh, RefreshState, Rollout, RolloutState,
    SkipReason, Standing, Tally, Timestamp,
};

/// How long a deployment that is not (yet) stored as ready is waited for: it is noted just before.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// A deployment that may have to be given the wanted version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Joiner {
    /// The deployment.
    pub key: DeploymentKey,
    /// Its plan.
    pub plan: Plan,
    /// Since when it is ready: what ended before that says nothing of it. In the future where it is on hold until then.
    pub at: Timestamp,
}

impl Joiner {
    /// Whether its time has come.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.at <= now
    }
}

/// What is to become of a late joiner now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joining {
    /// It is looked at again later.
    Wait,
    /// There is nothing (more) to do for it.
    Forget,
    /// It gets a refresh in the wave under way.
    Join,
    /// The refresh it has ended before it came: that is done again.
    Rejoin,
}

/// What the plan's rollouts say to its late joiners.
#[derive(Clone, Debug, PartialEq)]
pub struct Hosting {
    /// The rollout that brought the wanted version.
    pub host: Option<Rollout>,
    /// How many may join now.
    pub room: u64,
    /// Whether another rollout of all deployments is on its way, or stopped: whatever comes of it decides.
    pub is_contested: bool,
}

impl Hosting {
    /// What a plan's rollouts say: the one that brought the wanted version, with its counts, and whether there is another.
    pub fn new(host: Option<(Rollout, &Tally)>, is_contested: bool) -> Self {
        let room = host.as_ref().map_or(0, |(host, tally)| room(host, tally));
        Self { host: host.map(|(host, _)| host), room, is_contested }
    }

    /// Whether nobody may join now, whoever it is.
    pub fn is_closed(&self) -> bool {
        let takes_nobody = |host: &Rollout| !matches!(host.state, RolloutState::Running | RolloutState::Completed);
        self.is_contested || self.host.as_ref().is_some_and(takes_nobody)
    }

    /// What is to become of `joiner`, whose record is `deployment` and whose refresh in the host is `refresh`.
    pub fn joining(
        &self,
        joiner: &Joiner,
        deployment: Option<&Deployment>,
        refresh: Option<&Refresh>,
        previews: &[ApplicationId],
        now: Timestamp,
    ) -> Joining {
        if !joiner.is_due(now) || self.is_closed() {
            return Joining::Wait;
        }
        // Nobody has seen a version prove itself here: that is for the scheduled refresh, which begins with canaries.
        let Some(host) = &self.host else { return Joining::Forget };
        let is_expected = joiner.at + PATIENCE > now;
        let Some(deployment) = deployment.filter(|deployment| deployment.is_ready()) else {
            let is_uncertain = deployment.is_some_and(|deployment| deployment.readiness() == Readiness::Uncertain);
            return if is_expected || is_uncertain { Joining::Wait } else { Joining::Forget };
        };
        if deployment.state_is_claimed && deployment.check.is_some() {
            // ARM is being asked.
            return Joining::Wait;
        }
        match Circle::of(&host.publish, previews).eligibility(deployment, now) {
            Eligibility::Outside => return Joining::Forget,
            Eligibility::Skipped(SkipReason::AlreadyApplied | SkipReason::NewerApplied) => return Joining::Forget,
            Eligibility::Skipped(_) => return if is_expected { Joining::Wait } else { Joining::Forget },
            // Of a repair and of a scheduled one everybody is a member.
            Eligibility::Member if deployment.has_applied(host.publish.version) => return Joining::Forget,
            Eligibility::Member => {}
        }
        let Some(refresh) = refresh else {
            let is_ahead = host.walk.cursor.as_ref().is_none_or(|cursor| deployment.key > *cursor);
            let is_walked_to = host.state == RolloutState::Running && !host.walk.is_over && is_ahead;
            return if is_walked_to { Joining::Wait } else { Joining::Join };
        };
        let is_skipped = matches!(refresh.state, RefreshState::Skipped { .. });
        match refresh.ended_at {
            None => Joining::Wait,
            Some(ended) if ended < joiner.at || is_skipped && ended == joiner.at => Joining::Rejoin,
            Some(_) => Joining::Forget,
        }
    }
}

/// A rollout that found nobody to prove its version has late joiners for canaries: so many at a time until one succeeds.
fn room(host: &Rollout, tally: &Tally) -> u64 {
    let is_proven = tally.count(|standing| standing == Standing::Succeeded) > 0 || host.canaries_waived;
    if is_proven || !host.publish.strategy.has_canaries() {
        return u64::MAX;
    }
    host.publish.strategy.canaries.count().saturating_sub(tally.count(|standing| !standing.has_result()))
}

impl Deployment {
    /// Whether nothing that is known of it speaks against refreshing it.
    pub fn is_ready(&self) -> bool {
        self.confirmed && self.plan.is_some() && self.readiness() == Readiness::Ready
    }

    /// Whether the last version that a refresh brought is this one.
    pub fn has_applied(&self, version: super::Version) -> bool {
        self.applied.as_ref().is_some_and(|applied| applied.version == version)
    }

    /// The late joiner that it is, if it was not ready `before`.
    pub fn joiner_after(&self, before: Option<&Self>, now: Timestamp) -> Option<Joiner> {
        let was_ready = before.is_some_and(|before| before.is_ready() && before.plan == self.plan);
        let plan = self.plan.clone().filter(|_| self.is_ready() && !was_ready)?;
        Some(Joiner { key: self.key.clone(), plan, at: now })
    }
}
