//! ScheduledRefresh: a gentle rollout of the wanted version over all deployments of each plan. Repairs drift, since any
//! customer can set itself to any published version (contracts/arm.md §1.2).

use tracing::{info, warn};

use super::publish::{Identity, PublishError};
use super::{Engine, EngineError};
use crate::rollout::publish::Supersede;
use crate::rollout::strategy::MaxInFlight;
use crate::rollout::{
    Audience, OfferPublish, Plan, Purpose, Rollout, RolloutState, Strategy, Target, Timestamp, Version,
};

/// How many refreshes of a scheduled rollout are on their way at once: it is in no hurry.
const GENTLE: u32 = 50;

impl Engine {
    /// Starts a rollout for each plan that has a wanted version and no rollout on its way. `due` is the time this run was
    /// due: the same run twice starts nothing twice.
    pub async fn scheduled_refresh(&self, due: Timestamp) -> Result<(), EngineError> {
        let mut result = Ok(());
        for plan in self.plans_with_wanted_version().await? {
            // One plan that fails holds back no other; the run is tried again, and what has started starts no second time.
            result = result.and(self.scheduled_refresh_of(plan, due).await);
        }
        result
    }

    async fn scheduled_refresh_of(&self, plan: Plan, due: Timestamp) -> Result<(), EngineError> {
        let Some(version) = self.wanted(&plan).await?.value.version else { return Ok(()) };
        let open = self.store.open_rollouts().await?;
        if let Some(other) = open
            .iter()
            .find(|open| open.value.publish.plan == plan && !open.value.state.is_ended() && !open.value.is_parked())
        {
            info!(
                plan = %plan, rollout.id = %other.value.id,
                "The scheduled refresh of {plan} is left out, since rollout {} is {}", other.value.id, other.value.state.name()
            );
            return Ok(());
        }
        let publish = self.scheduled_publish(plan, version);
        match self.start_rollout(publish, &Identity::Due(due)).await {
            Ok(started) => {
                info!(rollout.id = %started.rollout_id, "The scheduled refresh is rollout {}", started.rollout_id);
            }
            Err(PublishError::Engine(error)) => return Err(error),
            Err(refused) => warn!("The scheduled refresh was refused: {refused}"),
        }
        Ok(())
    }

    /// Calls a scheduled rollout off that is about to begin, where another one has begun since it was looked for, or has
    /// brought another version meanwhile: its own would take that back. Whether it did. It never waits, so that of two
    /// which see each other one goes on.
    pub(super) async fn gives_way(&self, rollout: &Rollout) -> Result<bool, EngineError> {
        let OfferPublish { purpose, plan, version, .. } = &rollout.publish;
        if *purpose != Purpose::Scheduled {
            return Ok(false);
        }
        let wanted = self.wanted(plan).await?.value;
        let (by, why) = match self.blocker(rollout).await? {
            Some(by) => (Some(by), "another rollout has begun"),
            None if wanted.version != Some(*version) => (wanted.brought_by, "another version is wanted now"),
            None => return Ok(false),
        };
        let (id, now) = (rollout.id, self.now());
        self.change_rollout(id, |rollout, _| {
            let is_planning = rollout.state == RolloutState::Planning;
            if is_planning {
                rollout.cancel(by, now);
            }
            is_planning
        })
        .await?;
        info!(rollout.id = %id, plan = %plan, "The scheduled refresh {id} of {plan} is called off: {why}");
        Ok(true)
    }

    fn scheduled_publish(&self, plan: Plan, version: Version) -> OfferPublish {
        let strategy = self.offer(&plan.publisher, &plan.offer).map(|offer| offer.strategy.clone()).unwrap_or_default();
        let gentle = MaxInFlight::try_from(GENTLE).unwrap_or(strategy.max_in_flight);
        let max_in_flight = if strategy.max_in_flight.get() < gentle.get() { strategy.max_in_flight } else { gentle };
        // Nobody waits for it, and its version was approved when it was brought out.
        OfferPublish {
            plan,
            version,
            target: Target::Live,
            audience: Audience::All,
            purpose: Purpose::Scheduled,
            submission_id: None,
            published_at: None,
            scope: Vec::new(),
            strategy: Strategy { max_in_flight, approve_last_wave: false, ..strategy },
            supersede: Supersede::Refuse,
            note: Some("scheduled refresh".to_owned()),
            actions: None,
        }
    }
}
