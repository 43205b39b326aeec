//! PollOperations: follows what is due, advances waves, and finds what was lost. Whatever else fails, this brings every
//! rollout to its end.

use std::time::Duration;

use tracing::{info, warn};

use super::polling::CLAIM_GAP;
use super::{Engine, EngineError};
use crate::metrics;
use crate::rollout::failure::unsupported_action;
use crate::rollout::{
    Audience, Event, OfferPublish, Purpose, RefreshState, Review, Rollout, RolloutId, RolloutState, Standing,
    Timestamp, WantedVersion, counted,
};
use crate::store::{PageRequest, Versioned, document};

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
        // None of these holds up the rollouts: what fails here is done by a later tick. First, since a dead letter counts only
        // while its message is awaited.
        let aside = [
            ("find what was forgotten", self.find_forgotten().await),
            ("take note of dead letters", self.take_note_of_dead_letters().await),
            ("tell people", self.send_lost_notes().await),
            ("forget what is old", self.forget_old().await),
            ("ask whether GDAP works again", self.end_standstill_if_over().await),
            ("look after the sync", self.send_lost_sync().await),
        ];
        for (what, result) in aside {
            if let Err(error) = result {
                warn!("This tick could not {what}: {error}");
            }
        }
        // From here on, so that what was slow took nothing of the time for the rollouts.
        self.follow_up_to(self.now() + TICK, next_tick).await
    }

    async fn find_forgotten(&self) -> Result<(), EngineError> {
        let forgotten = self.store.wake_forgotten(self.now()).await?;
        if forgotten > 0 {
            warn!("Looked at again, since overdue for long: {}", counted(forgotten as u64, "record"));
        }
        Ok(())
    }

    /// Follows what is due and keeps rollouts up, until nothing is due before `next_tick` or `end` has come.
    async fn follow_up_to(&self, end: Timestamp, next_tick: Timestamp) -> Result<(), EngineError> {
        let joined = self.look_after_joiners().await;
        let mut kept_up_at = None;
        let mut has_moved = false;
        loop {
            // At first, then once a second while there is something to look at, and once more before it ends.
            let began = self.now();
            let mut kept_up = Ok(());
            if kept_up_at.is_none_or(|at| at + UPKEEP_GAP <= began) {
                kept_up_at = Some(began);
                has_moved = false;
                // Both although one fails, so that neither holds back the other.
                kept_up = self.look_after_rollouts().await;
                kept_up = kept_up.and(self.look_after_wanted().await);
                kept_up = kept_up.and(self.send_lost_checks().await);
            }
            let moves = self.look_at_all(end).await?.moved > 0;
            kept_up?;
            has_moved |= moves;
            let now = self.now();
            let wake = match self.next_look().await? {
                _ if now >= end => return joined,
                Some(due) if due <= now => {
                    if moves {
                        now
                    } else {
                        now + UPKEEP_GAP
                    }
                }
                Some(due) if due < next_tick.max(now) => due.max(now + CLAIM_GAP),
                _ if !has_moved => return joined,
                // What ended may have freed places or finished a wave.
                due => {
                    kept_up_at = None;
                    due.map_or(now, |due| due.min(now + UPKEEP_GAP))
                }
            };
            if wake > now {
                self.clock.sleep_until(wake.min(end)).await;
                if self.now() <= now {
                    // A clock that only others move: whoever moves it calls again.
                    if !has_moved {
                        return joined;
                    }
                    kept_up_at = None;
                }
            }
        }
    }

    /// Everything that rollouts need: planning that was lost, waves that are done, places that are free. One that fails
    /// holds back no other.
    async fn look_after_rollouts(&self) -> Result<(), EngineError> {
        let mut result = Ok(());
        let open = self.store.open_rollouts().await?;
        for open in &open {
            result = result.and(self.look_after(&open.value).await);
            self.note_course(open.value.id).await;
        }
        if metrics::is_measured() {
            result = result.and(self.measure(&open).await);
        }
        result
    }

    /// Counts what is open, for whoever measures.
    async fn measure(&self, open: &[Versioned<Rollout>]) -> Result<(), EngineError> {
        let mut counts = metrics::Counts::new();
        for rollout in open {
            let tally = self.store.tally(rollout.value.id).await?;
            for standing in Standing::ALL {
                let count = tally.count(|of| of == standing);
                *counts.entry((rollout.value.id.to_string(), standing.state())).or_default() += count;
            }
        }
        metrics::refreshes(counts, self.now());
        Ok(())
    }

    async fn look_after(&self, rollout: &Rollout) -> Result<(), EngineError> {
        match &rollout.state {
            RolloutState::Planning => self.ask_planner_if_lost(rollout).await,
            RolloutState::Running => {
                self.ask_planner_if_lost(rollout).await?;
                self.review_rollout(rollout.id).await
            }
            RolloutState::Waiting { on } => self.start_if_free(rollout, *on).await,
            RolloutState::Canceled { superseded_by } => {
                let event = superseded_by.map_or(Event::Cancel, |by| Event::Supersede { by });
                self.call_off(rollout, &event).await
            }
            RolloutState::Completed => self.reopen(rollout).await,
            // One operation that was under way may show that it has to halt.
            RolloutState::Paused { .. } => self.review_rollout(rollout.id).await,
            // Again, since the review that halted it may have died before it did.
            RolloutState::Halted { .. } => self.revert_wanted(rollout).await,
        }
    }

    /// Judges a rollout by its tally, carries the judgement out, and fills its free places.
    pub(super) async fn review_rollout(&self, id: RolloutId) -> Result<(), EngineError> {
        for _ in 0..super::RACES {
            let now = self.now();
            let Some(mut rollout) = self.store.rollout(id).await? else { return Ok(()) };
            let tally = self.store.tally(id).await?;
            let review = rollout.value.review(&tally, now);
            let offending = if review == Review::Halt { self.offending_action(id).await? } else { None };
            let is_news = !rollout.value.has_completed;
            if rollout.value.accept(&review, offending.as_deref(), now) {
                if review == Review::Complete && rollout.value.publish.purpose == Purpose::Scheduled {
                    rollout.value.changed = Some(self.count_changed(id).await?);
                }
                // First, since nobody comes back to it once the rollout is stored; done twice it changes nothing. What is
                // tried again long after its end does not bring its version back.
                if is_news {
                    self.follow_with_wanted(&rollout.value, &review).await?;
                }
                if !self.save_rollout(&mut rollout).await?.is_stored() {
                    continue;
                }
                info!(rollout.id = %id, rollout.state = rollout.value.state.name(), "Rollout {id} is {}{}", rollout.value.state.name(), why(&rollout.value));
                if matches!(review, Review::NextWave | Review::MoreCanaries(_)) {
                    self.send_planning_message(&rollout.value).await?;
                }
            }
            if rollout.value.state == RolloutState::Running {
                self.release(&rollout.value, &tally).await?;
            }
            return Ok(());
        }
        Err(EngineError::Contended { what: format!("rollout {id}") })
    }

    /// Brings the wanted version in line with what the review says of the rollout.
    async fn follow_with_wanted(&self, rollout: &Rollout, review: &Review) -> Result<(), EngineError> {
        match review {
            Review::NextWave if rollout.publish.audience == Audience::All => self.raise_wanted(rollout).await,
            Review::Halt => self.revert_wanted(rollout).await,
            Review::Complete => {
                if rollout.publish.audience == Audience::All {
                    self.raise_wanted(rollout).await?;
                }
                self.settle_wanted(rollout).await
            }
            _ => Ok(()),
        }
    }

    /// How many deployments a rollout has brought a version that they were not known to have.
    async fn count_changed(&self, id: RolloutId) -> Result<u64, EngineError> {
        let succeeded = [Standing::Succeeded, Standing::SucceededUnproven];
        let mut page = PageRequest { continuation: None, top: PAGE };
        let mut changed = 0;
        loop {
            let refreshes = self.store.refreshes(id, Some(&succeeded), &page).await?;
            changed += refreshes.items.iter().filter(|refresh| refresh.value.has_changed()).count() as u64;
            match refreshes.next {
                Some(next) => page.continuation = Some(next),
                None => return Ok(changed),
            }
        }
    }

    /// Takes back what a rollout raised that was called off or halted in the same moment.
    async fn look_after_wanted(&self) -> Result<(), EngineError> {
        for wanted in document::all::<WantedVersion>(self.store(), "").await? {
            let Some(raised) = wanted.value.raised else { continue };
            let Some(rollout) = self.store.rollout(raised.by).await? else { continue };
            match rollout.value.state {
                RolloutState::Canceled { .. } | RolloutState::Halted { .. } => {
                    self.revert_wanted(&rollout.value).await?;
                }
                RolloutState::Completed => self.settle_wanted(&rollout.value).await?,
                _ => {}
            }
        }
        Ok(())
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

    /// Starts a rollout that waits for another, once that has ended, or has stopped at a lower version: then it takes its
    /// place (design §4).
    async fn start_if_free(&self, rollout: &Rollout, on: RolloutId) -> Result<(), EngineError> {
        let id = rollout.id;
        let blocks = self.store.rollout(on).await?.is_some_and(|blocker| match blocker.value.state {
            RolloutState::Completed | RolloutState::Canceled { .. } => false,
            RolloutState::Paused { .. } | RolloutState::Halted { .. } => {
                blocker.value.publish.version > rollout.publish.version
            }
            _ => true,
        });
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
    pub(super) async fn reopen(&self, rollout: &Rollout) -> Result<(), EngineError> {
        let now = self.now();
        self.change_rollout(rollout.id, |rollout, tally| {
            let reopens = rollout.state == RolloutState::Completed && tally.counts().ended() < tally.counts().total;
            if reopens {
                rollout.reopen(tally, now);
            }
            reopens
        })
        .await?;
        Ok(())
    }

    /// The action that a failed refresh of this rollout blames on the offer, if one does.
    async fn offending_action(&self, id: RolloutId) -> Result<Option<String>, EngineError> {
        let page = PageRequest { continuation: None, top: 1 };
        let failed = self.store.refreshes(id, Some(&[Standing::FailedByOffer]), &page).await?;
        Ok(failed.items.first().and_then(|refresh| match &refresh.value.state {
            RefreshState::Failed { failure, .. } => unsupported_action(&failure.message),
            _ => None,
        }))
    }

    /// The wanted version of a plan: the stored one, else the first one of the settings.
    pub(super) async fn wanted(&self, plan: &crate::rollout::Plan) -> Result<Versioned<WantedVersion>, EngineError> {
        if let Some(wanted) = document::get(&*self.store, &plan.to_string()).await? {
            return Ok(wanted);
        }
        let first = self
            .offer(&plan.publisher, &plan.offer)
            .and_then(|offer| offer.plans.iter().find(|(name, _)| *name == plan.plan).and_then(|(_, wanted)| *wanted));
        Ok(Versioned::new(WantedVersion::new(plan.clone(), first)))
    }

    pub(super) async fn raise_wanted(&self, rollout: &Rollout) -> Result<(), EngineError> {
        if rollout.publish.purpose == Purpose::Restore || !rollout.publish.scope.is_empty() {
            return Ok(());
        }
        self.change_wanted(rollout, |wanted| wanted.raise(rollout.id, rollout.publish.version)).await
    }

    pub(super) async fn revert_wanted(&self, rollout: &Rollout) -> Result<(), EngineError> {
        self.change_wanted(rollout, |wanted| wanted.revert(rollout.id)).await
    }

    async fn settle_wanted(&self, rollout: &Rollout) -> Result<(), EngineError> {
        let OfferPublish { audience, purpose, scope, version, .. } = &rollout.publish;
        let is_for_all = *audience == Audience::All && scope.is_empty() && *purpose != Purpose::Restore;
        let everywhere = is_for_all.then_some(*version);
        self.change_wanted(rollout, |wanted| wanted.settle(rollout.id, everywhere)).await
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
            if wanted.value == before || document::save(&*self.store, &wanted).await?.is_stored() {
                return Ok(());
            }
        }
        Err(EngineError::Contended { what: format!("the wanted version of {}", rollout.publish.plan) })
    }
}

fn why(rollout: &Rollout) -> String {
    match (rollout.state.why(), rollout.changed) {
        (Some(why), _) => format!(": {why}"),
        (None, Some(changed)) => format!(": {} had another version before", counted(changed, "deployment")),
        (None, None) => String::new(),
    }
}
