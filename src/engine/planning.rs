//! PlanRollout: walks the deployments page by page, writes the refreshes of the current wave, releases as many as have a
//! free place, and asks for the next page. Doing a page twice changes nothing.

use tracing::{info, warn};

use super::{Engine, EngineError, refresh_message};
use crate::rollout::eligibility::{Circle, Eligibility};
use crate::rollout::strategy::Canaries;
use crate::rollout::{
    ApplicationId, Audience, Deployment, Event, Next, Refresh, Rollout, RolloutId, RolloutState, Standing, Tally,
    Timestamp,
};
use crate::rollout::{OfferPublish, counted};
use crate::store::{PageRequest, Versioned};

/// How many deployments one planning message looks at.
const PAGE: usize = 1_000;

impl Engine {
    /// One planning message: one page of the walk.
    pub async fn plan_rollout(&self, id: RolloutId) -> Result<(), EngineError> {
        let now = self.now();
        let Some(mut rollout) = self.store.rollout(id).await? else {
            warn!(rollout.id = %id, "A planning message names rollout {id}, which is not stored");
            return Ok(());
        };
        if rollout.value.state == RolloutState::Planning {
            self.finish_superseding(&rollout.value).await?;
            if self.gives_way(&rollout.value).await? {
                return Ok(());
            }
            if let Some(on) = self.blocker(&rollout.value).await? {
                rollout.value.state = RolloutState::Waiting { on };
                if self.save_rollout(&mut rollout).await?.is_stored() {
                    info!(rollout.id = %id, rollout.state = "waiting", "Rollout {id} waits for rollout {on} to end");
                }
                return Ok(());
            }
            if let Some(why) = self.vet(&rollout.value).await? {
                info!(rollout.id = %id, rollout.state = "paused", "Rollout {id} does not begin: {why}");
                rollout.value.park(why);
                self.save_rollout(&mut rollout).await?;
                return Ok(());
            }
            if self.park_by_lint(&mut rollout).await? {
                return Ok(());
            }
            let whole = self.count_meant(&rollout.value.publish).await?;
            rollout.value.begin(whole, now);
            // Before the rollout is stored as begun, since nobody comes back to it then.
            let has_begun = rollout.value.state == RolloutState::Running;
            let Rollout { publish, .. } = &rollout.value;
            if has_begun && publish.audience == Audience::All && !publish.strategy.has_canaries() {
                self.raise_wanted(&rollout.value).await?;
            }
            let crate::store::Saved::Stored(etag) = self.save_rollout(&mut rollout).await? else { return Ok(()) };
            rollout.etag = Some(etag);
            if has_begun {
                info!(rollout.id = %id, rollout.state = "running", deployments = whole, "Rollout {id} begins with {}", counted(whole, "deployment"));
            } else {
                let why = rollout.value.state.why().unwrap_or_default();
                let state = rollout.value.state.name();
                info!(rollout.id = %id, rollout.state = state, "Rollout {id} is {state}: {why}");
            }
        }
        if rollout.value.state != RolloutState::Running || rollout.value.walk.wave_is_planned {
            return Ok(());
        }
        self.plan_page(rollout, now).await
    }

    /// How many deployments a publish is for: what its waves are shares of.
    async fn count_meant(&self, publish: &OfferPublish) -> Result<u64, EngineError> {
        if !publish.scope.is_empty() {
            return Ok(publish.scope.len() as u64);
        }
        if publish.audience == Audience::All {
            return Ok(self.store.count_deployments(&publish.plan).await?);
        }
        let circle = Circle::of(publish, self.previews(&publish.plan));
        let (mut count, mut cursor) = (0, None);
        loop {
            let page = self.store.deployments_after(&publish.plan, cursor.as_ref(), PAGE).await?;
            count += page.iter().filter(|d| circle.eligibility(d, self.now()) != Eligibility::Outside).count() as u64;
            match page.last() {
                Some(last) if page.len() == PAGE => cursor = Some(last.key.clone()),
                _ => return Ok(count),
            }
        }
    }

    async fn plan_page(&self, mut rollout: Versioned<Rollout>, now: Timestamp) -> Result<(), EngineError> {
        let tally = self.store.tally(rollout.value.id).await?;
        let (mut wanted, mut places) =
            (rollout.value.wanted_members(&tally), self.places(&rollout.value, &tally).await?);
        let circle = Circle::of(&rollout.value.publish, self.previews(&rollout.value.publish.plan));
        if let Some(named) = self.unplanned_named_canaries(&rollout.value).await? {
            self.plan_deployments(&rollout.value, &circle, &named, &mut places, now).await?;
            rollout.value.walk.wave_is_planned = true;
            rollout.value.walk.moved_at = Some(now);
            self.save_rollout(&mut rollout).await?;
            return Ok(());
        }
        let mut looked_at = 0;
        // Not a whole page for one canary, and some more than wanted for those that are skipped or not meant.
        let mut at_most = usize::try_from(wanted.saturating_mul(4)).unwrap_or(PAGE).clamp(1, PAGE);
        loop {
            let deployments = self
                .store
                .deployments_after(&rollout.value.publish.plan, rollout.value.walk.cursor.as_ref(), at_most)
                .await?;
            let mut rest = deployments.as_slice();
            while wanted > 0 && !rest.is_empty() {
                let (now_planned, later) = rest.split_at(reach(&rollout.value, &circle, rest, wanted, now));
                self.plan_deployments(&rollout.value, &circle, now_planned, &mut places, now).await?;
                rest = later;
                if let Some(last) = now_planned.last() {
                    rollout.value.walk.cursor = Some(last.key.clone());
                }
                rollout.value.walk.walked += now_planned.len() as u64;
                // Counted anew, since those planned by an earlier try take no place in the wave.
                wanted = rollout.value.wanted_members(&self.store.tally(rollout.value.id).await?);
            }
            rollout.value.walk.is_over = rest.is_empty() && deployments.len() < at_most;
            looked_at += deployments.len();
            if wanted == 0 || rollout.value.walk.is_over || looked_at >= PAGE {
                break;
            }
            // Few of those were any good, so there may be many more of them.
            at_most = at_most.saturating_mul(4).min(PAGE - looked_at);
        }
        rollout.value.walk.wave_is_planned = wanted == 0 || rollout.value.walk.is_over;
        rollout.value.walk.moved_at = Some(now);
        let goes_on = !rollout.value.walk.wave_is_planned;
        if goes_on {
            rollout.value.ask_planner(now);
        }
        if !self.save_rollout(&mut rollout).await?.is_stored() {
            // Somebody else planned this page or a person stepped in; what was written is theirs too.
            return Ok(());
        }
        if goes_on { self.send_planning_message(&rollout.value).await } else { Ok(()) }
    }

    /// The named canaries, while the first wave is theirs: all of them, since an earlier try may have been cut off after some,
    /// and nobody else is to go first in the place of the others.
    async fn unplanned_named_canaries(&self, rollout: &Rollout) -> Result<Option<Vec<Deployment>>, EngineError> {
        let Canaries::Named(ids) = &rollout.publish.strategy.canaries else { return Ok(None) };
        if !rollout.is_canary_wave() || rollout.stand_ins > 0 || ids.is_empty() {
            return Ok(None);
        }
        let keys: Vec<_> = ids.iter().map(ApplicationId::key).collect();
        let known = self.store.deployments_by_key(&keys).await?;
        Ok(Some(known.into_iter().flatten().map(|deployment| deployment.value).collect()))
    }

    /// Writes the refreshes of some deployments, the first `places` of them released, and sends the messages of those.
    async fn plan_deployments(
        &self,
        rollout: &Rollout,
        circle: &Circle<'_>,
        deployments: &[Deployment],
        places: &mut u64,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        let publish = &rollout.publish;
        let mut refreshes = Vec::with_capacity(deployments.len());
        let mut messages = Vec::new();
        for deployment in deployments {
            let planned = Refresh {
                version_before: deployment.known_version(),
                ..Refresh::planned(rollout.id, deployment.application_id.clone(), publish.version, rollout.wave)
            };
            let event = match circle.eligibility(deployment, now) {
                Eligibility::Outside => continue,
                Eligibility::Skipped(why) => Some(Event::Skip { why }),
                Eligibility::Member if *places > 0 => {
                    *places -= 1;
                    Some(Event::Release)
                }
                Eligibility::Member => None,
            };
            let Some(event) = event else {
                refreshes.push(planned);
                continue;
            };
            match planned.apply(event, now, &self.config.policy) {
                Ok((refresh, next)) => {
                    if let Next::Send { at } = next {
                        messages.push(refresh_message(&refresh, at));
                    }
                    refreshes.push(refresh);
                }
                Err(illegal) => warn!(deployment.key = %deployment.key, "Planning {}: {illegal}", deployment.key),
            }
        }
        if !refreshes.is_empty() {
            self.store.insert_refreshes(&refreshes).await?;
        }
        self.send_refresh_messages(&messages).await
    }

    /// How many refreshes may be released now: none while nothing is posted at all.
    pub(super) async fn places(&self, rollout: &Rollout, tally: &Tally) -> Result<u64, EngineError> {
        let free = rollout.free_places(tally);
        Ok(if free > 0 && self.is_held().await? { 0 } else { free })
    }

    /// Releases pending refreshes into the free places that `tally` leaves.
    pub(super) async fn release(&self, rollout: &Rollout, tally: &Tally) -> Result<(), EngineError> {
        let pending = tally.count(|standing| standing == Standing::Pending);
        let places = if pending == 0 { 0 } else { self.places(rollout, tally).await?.min(pending) };
        let mut left = usize::try_from(places).unwrap_or(usize::MAX);
        let mut page = PageRequest { continuation: None, top: 0 };
        while left > 0 {
            page.top = left.min(PAGE);
            let pending = self.store.refreshes(rollout.id, Some(&[Standing::Pending]), &page).await?;
            // Counted again behind the reading: what somebody else releases at the same time is either counted here or no
            // longer as it was read. So two handlers together fill no more places than there are.
            let places = self.places(rollout, &self.store.tally(rollout.id).await?).await?;
            let count = usize::try_from(places).unwrap_or(usize::MAX).min(pending.items.len());
            self.apply_to_all(&pending.items[..count], &Event::Release).await?;
            left -= count;
            match pending.next {
                Some(next) if count == page.top => page.continuation = Some(next),
                _ => break,
            }
        }
        Ok(())
    }

    /// Applies one event to many refreshes, each under its guard, and sends the messages of those that were written.
    pub(super) async fn apply_to_all(
        &self,
        refreshes: &[Versioned<Refresh>],
        event: &Event,
    ) -> Result<(), EngineError> {
        let now = self.now();
        let mut changed = Vec::with_capacity(refreshes.len());
        let mut messages = Vec::with_capacity(refreshes.len());
        for refresh in refreshes {
            match refresh.value.apply(event.clone(), now, &self.config.policy) {
                Ok((next, action)) if next != refresh.value => {
                    messages.push(match action {
                        Next::Send { at } => Some(refresh_message(&next, at)),
                        _ => None,
                    });
                    changed.push(refresh.with(next));
                }
                Ok(_) => {}
                Err(illegal) => warn!(
                    rollout.id = %refresh.value.rollout_id, deployment.key = %refresh.value.key,
                    "Refresh of {}: {illegal}", refresh.value.application_id
                ),
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let saved = self.store.save_refreshes(&changed).await?;
        let sent: Vec<_> = saved
            .iter()
            .zip(messages)
            .filter_map(|(saved, message)| if saved.is_stored() { message } else { None })
            .collect();
        self.send_refresh_messages(&sent).await
    }
}

/// How many of `deployments` it takes for so many members of the wave; all of them if they do not suffice.
fn reach(rollout: &Rollout, circle: &Circle<'_>, deployments: &[Deployment], wanted: u64, now: Timestamp) -> usize {
    let takes_a_place = |deployment: &Deployment| rollout.takes_a_place(circle.eligibility(deployment, now));
    let mut members = 0;
    let last = deployments.iter().position(|deployment| {
        members += u64::from(takes_a_place(deployment));
        members == wanted
    });
    last.map_or(deployments.len(), |last| last + 1)
}
