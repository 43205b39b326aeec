//! PollOperations: follows what is due, advances waves, and finds what was lost. Whatever else fails, this brings every
//! rollout to its end.

use std::time::Duration;

use tracing::{info, warn};

use super::{Engine, EngineError};
use crate::rollout::failure::unsupported_action;
use crate::rollout::{
    Audience, Event, RefreshState, Review, Rollout, RolloutId, RolloutState, Standing, Timestamp, WantedVersion,
};
use crate::store::{PageRequest, Versioned};

/// How long one tick goes on at most (design §3.4).
pub const TICK: Duration = Duration::from_secs(50);
/// How long a walk over the deployments may stand still before its message counts as lost.
const PLANNING_LOST: Duration = Duration::from_secs(2 * 60);
/// How often rollouts are looked at while looks go on.
const UPKEEP_GAP: Duration = Duration::from_secs(1);
/// How many refreshes of an ended rollout are called off in one write.
const PAGE: usize = 1_000;

impl Engine {
    /// One tick of the timer: goes on, sleeping until the next due time, until nothing falls due before `next_tick` or
    /// [`TICK`] has passed.
    pub async fn tick(&self, next_tick: Timestamp) -> Result<(), EngineError> {
        let end = self.now() + TICK;
        let forgotten = self.store.wake_forgotten(self.now()).await?;
        if forgotten > 0 {
            warn!("{forgotten} records were overdue for long and are looked at again");
        }
        loop {
            self.look_after_rollouts().await?;
            self.send_lost_checks().await?;
            let looked = self.look_at_all().await?;
            let now = self.now();
            let due = self.next_look().await?;
            let wake = match due {
                _ if now >= end => return Ok(()),
                // What ended may have freed places or finished a wave.
                _ if looked.moved > 0 => due.map_or(now, |due| due.min(now + UPKEEP_GAP)),
                Some(due) if due < next_tick.max(now) => due,
                _ => return Ok(()),
            };
            if wake > now {
                self.clock.sleep_until(wake.min(end)).await;
                if self.now() <= now {
                    // A clock that only others move: whoever moves it calls again.
                    return Ok(());
                }
            }
        }
    }

    /// Everything that rollouts need: planning that was lost, waves that are done, places that are free.
    async fn look_after_rollouts(&self) -> Result<(), EngineError> {
        for open in self.store.open_rollouts().await? {
            let rollout = open.value;
            match &rollout.state {
                RolloutState::Planning => self.ask_planner_if_lost(&rollout).await?,
                RolloutState::Running => {
                    self.ask_planner_if_lost(&rollout).await?;
                    self.review_rollout(rollout.id).await?;
                }
                RolloutState::Waiting { on } => self.start_if_free(rollout.id, *on).await?,
                RolloutState::Canceled { superseded_by } => {
                    let event = superseded_by.map_or(Event::Cancel, |by| Event::Supersede { by });
                    self.call_off(&rollout, &event).await?;
                }
                RolloutState::Completed => self.reopen(&rollout).await?,
                RolloutState::Paused { .. } | RolloutState::Halted { .. } => {}
            }
        }
        Ok(())
    }

    /// Judges a rollout by its tally, carries the judgement out, and fills its free places.
    pub(super) async fn review_rollout(&self, id: RolloutId) -> Result<(), EngineError> {
        let offending = self.offending_action(id).await?;
        let now = self.now();
        let mut reviewed = Review::Wait;
        let changed = self
            .change_rollout(id, |rollout, tally| {
                reviewed = rollout.review(tally, now);
                rollout.accept(&reviewed, offending.as_deref(), now)
            })
            .await?;
        let Some((rollout, changed)) = changed else { return Ok(()) };
        if changed {
            info!(rollout.id = %id, "Rollout {id} is {}{}", rollout.state.name(), why(&rollout));
            self.carry_out(&rollout, &reviewed).await?;
        }
        if rollout.state == RolloutState::Running {
            let tally = self.store.tally(id).await?;
            self.release(&rollout, &tally).await?;
        }
        Ok(())
    }

    async fn carry_out(&self, rollout: &Rollout, review: &Review) -> Result<(), EngineError> {
        match review {
            Review::NextWave | Review::MoreCanaries(_) => {
                if *review == Review::NextWave && rollout.publish.audience == Audience::All {
                    self.raise_wanted(rollout).await?;
                }
                self.send_planning_message(rollout).await
            }
            Review::Halt => self.revert_wanted(rollout).await,
            Review::Complete => {
                if rollout.publish.audience == Audience::All && rollout.publish.scope.is_empty() {
                    self.raise_wanted(rollout).await?;
                }
                self.settle_wanted(rollout).await
            }
            Review::Wait | Review::WaitUntil(_) | Review::Pause { .. } => Ok(()),
        }
    }

    async fn ask_planner_if_lost(&self, rollout: &Rollout) -> Result<(), EngineError> {
        let now = self.now();
        let is_lost = |rollout: &Rollout| {
            let waits = rollout.state == RolloutState::Planning
                || rollout.state == RolloutState::Running && !rollout.walk.wave_is_planned;
            waits && rollout.walk.moved_at.is_none_or(|at| at + PLANNING_LOST <= now)
        };
        if !is_lost(rollout) {
            return Ok(());
        }
        let changed = self
            .change_rollout(rollout.id, |rollout, _| {
                let lost = is_lost(rollout);
                if lost {
                    rollout.ask_planner(now);
                }
                lost
            })
            .await?;
        match changed {
            Some((rollout, true)) => self.send_planning_message(&rollout).await,
            _ => Ok(()),
        }
    }

    /// Starts a rollout that waits for another, once that has ended.
    async fn start_if_free(&self, id: RolloutId, on: RolloutId) -> Result<(), EngineError> {
        let blocks = self.store.rollout(on).await?.is_some_and(|blocker| !blocker.value.state.is_ended());
        if blocks {
            return Ok(());
        }
        let now = self.now();
        let changed = self
            .change_rollout(id, |rollout, _| {
                let waits = matches!(rollout.state, RolloutState::Waiting { .. });
                if waits {
                    rollout.state = RolloutState::Planning;
                    rollout.ask_planner(now);
                }
                waits
            })
            .await?;
        match changed {
            Some((rollout, true)) => self.send_planning_message(&rollout).await,
            _ => Ok(()),
        }
    }

    /// Calls off what was not posted of a rollout that was canceled or superseded.
    async fn call_off(&self, rollout: &Rollout, event: &Event) -> Result<(), EngineError> {
        let waiting = [Standing::Pending, Standing::Queued, Standing::AwaitingAccess];
        let page = PageRequest { continuation: None, top: PAGE };
        loop {
            let queued = self.store.refreshes(rollout.id, Some(&waiting), &page).await?;
            if queued.items.is_empty() {
                return Ok(());
            }
            self.apply_to_all(&queued.items, event).await?;
        }
    }

    /// A completed rollout with refreshes that have no result: a retry that died half-way.
    async fn reopen(&self, rollout: &Rollout) -> Result<(), EngineError> {
        let now = self.now();
        self.change_rollout(rollout.id, |rollout, tally| {
            let reopens = rollout.state == RolloutState::Completed && tally.counts().ended() < tally.counts().total;
            if reopens {
                rollout.reopen(now);
            }
            reopens
        })
        .await?;
        Ok(())
    }

    /// The action that a failed refresh of this rollout blames on the offer, if one does.
    async fn offending_action(&self, id: RolloutId) -> Result<Option<String>, EngineError> {
        let tally = self.store.tally(id).await?;
        if tally.count(|standing| standing == Standing::FailedByOffer) == 0 {
            return Ok(None);
        }
        let page = PageRequest { continuation: None, top: 1 };
        let failed = self.store.refreshes(id, Some(&[Standing::FailedByOffer]), &page).await?;
        Ok(failed.items.first().and_then(|refresh| match &refresh.value.state {
            RefreshState::Failed { failure } => unsupported_action(&failure.message),
            _ => None,
        }))
    }

    /// The wanted version of a plan: the stored one, else the first one of the settings.
    pub(super) async fn wanted(&self, plan: &crate::rollout::Plan) -> Result<Versioned<WantedVersion>, EngineError> {
        if let Some(wanted) = self.store.wanted_version(plan).await? {
            return Ok(wanted);
        }
        let first = self
            .offer(&plan.publisher, &plan.offer)
            .and_then(|offer| offer.plans.iter().find(|(name, _)| *name == plan.plan).and_then(|(_, wanted)| *wanted));
        Ok(Versioned::new(WantedVersion::new(plan.clone(), first)))
    }

    pub(super) async fn raise_wanted(&self, rollout: &Rollout) -> Result<(), EngineError> {
        if rollout.publish.purpose == crate::rollout::Purpose::Restore || !rollout.publish.scope.is_empty() {
            return Ok(());
        }
        self.change_wanted(rollout, |wanted| wanted.raise(rollout.id, rollout.publish.version)).await
    }

    pub(super) async fn revert_wanted(&self, rollout: &Rollout) -> Result<(), EngineError> {
        self.change_wanted(rollout, |wanted| wanted.revert(rollout.id)).await
    }

    async fn settle_wanted(&self, rollout: &Rollout) -> Result<(), EngineError> {
        self.change_wanted(rollout, |wanted| wanted.settle(rollout.id)).await
    }

    async fn change_wanted(
        &self,
        rollout: &Rollout,
        change: impl Fn(&mut WantedVersion) + Send + Sync,
    ) -> Result<(), EngineError> {
        for _ in 0..super::RACES {
            let mut wanted = self.wanted(&rollout.publish.plan).await?;
            let before = wanted.value.clone();
            change(&mut wanted.value);
            if wanted.value == before || self.store.save_wanted_version(&wanted).await?.is_stored() {
                return Ok(());
            }
        }
        Err(EngineError::Contended { what: format!("the wanted version of {}", rollout.publish.plan) })
    }
}

fn why(rollout: &Rollout) -> String {
    rollout.state.why().map(|why| format!(": {why}")).unwrap_or_default()
}
