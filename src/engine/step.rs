//! RefreshDeployment: one step of one refresh. Loads it, asks the domain, saves *submitting* under a lease, posts, saves
//! what ARM answered, sends what is next. A message that comes twice, late or out of order finds another state and does
//! nothing.

use std::time::Duration;

use tracing::{Span, info, warn};

use super::access::Access;
use super::{Engine, EngineError, refresh_message};
use crate::arm::Posted;
use crate::metrics;
use crate::rollout::{
    Actor, Deployment, DeploymentKey, Event, KnownWays, Next, Plan, Policy, Purpose, Readiness, Refresh, RefreshState,
    Rollout, RolloutId, RolloutState, SkipReason, Timestamp,
};
use crate::store::Versioned;

/// How long a step waits for its turn before it comes back later.
const ADMISSION: Duration = Duration::from_secs(60);
/// How long a step that is prepared waits for one of the process's places for calls before it puts the refresh back: it still
/// has most of its lease then, which the call needs.
pub const PLACE: Duration = Duration::from_secs(10);
/// For how long it is believed what a step has read of a deployment; whoever waited longer for a place reads it once more.
const FRESH: Duration = Duration::from_secs(1);

/// What is to happen to a refresh in this step.
struct Step {
    refresh: Versioned<Refresh>,
    event: Event,
    policy: Policy,
    /// What is remembered of the deployment's ways.
    known: KnownWays,
    plan: Plan,
    /// Whether the plan gives us no access to the deployment.
    is_unmanaged: bool,
}

/// How long a refresh waits at a time for ARM's word on a deletion that a notification claims.
const CHECKED: Duration = Duration::from_secs(60);

impl Engine {
    /// One step of one refresh.
    pub async fn refresh_deployment(&self, id: RolloutId, key: &DeploymentKey) -> Result<(), EngineError> {
        // Only so many prepare themselves, so that nothing is read long before the POST.
        let Ok(turn) = tokio::time::timeout(ADMISSION, self.preparing.acquire()).await else {
            return self.come_back_later(id, key).await;
        };
        let now = self.now();
        let Some(Step { refresh, event, policy, known, plan, is_unmanaged }) = self.decide_step(id, key, now).await?
        else {
            return Ok(());
        };
        Span::current().record("refresh.attempt", refresh.value.attempt());
        let (next, action) = match refresh.value.apply(event, now, &policy) {
            Ok(decided) => decided,
            Err(illegal) => {
                warn!(rollout.id = %id, deployment.key = %key, "Refresh of {}: {illegal}", refresh.value.application_id);
                return Ok(());
            }
        };
        if next == refresh.value {
            return Ok(());
        }
        let Some(saved) = self.save_refresh(&refresh.with(next)).await? else { return Ok(()) };
        if action != Next::Post {
            return self.follow_up(&saved.value, action).await;
        }
        // Taken only now, so that no place for calls stays empty while the store works.
        let Ok(place) = tokio::time::timeout(self.config.place_patience, self.arm.admit_post()).await else {
            return self.conclude(&saved, Event::Withdraw, self.now(), &policy).await;
        };
        drop(turn);
        let access = self.gain_access(&saved.value, is_unmanaged, &place).await?;
        let goes_on = self.goes_on(&saved.value, now).await?;
        // Whoever was held up until another worker may have it posts nothing: that one may post at any moment.
        if !goes_on || !saved.value.may_be_asked(self.now()) {
            return self.conclude(&saved, Event::Withdraw, now, &policy).await;
        }
        let Refresh { application_id, version, .. } = &saved.value;
        let posted = match access {
            Access::Open(arm) => {
                arm.refresh_permissions(place, application_id, *version, saved.value.request_id()).await
            }
            Access::Shut(answer) => Posted { answer, correlation_id: None, throttled_for: None, tenant_id: None },
        };
        let answer = self.learn_from(&saved.value, posted.answer, posted.tenant_id.as_deref()).await?;
        let answer = self.bear_with(&saved.value, answer).await?;
        let posted = Posted { answer: answer.clone(), ..posted };
        self.note_answer(&saved, posted, &policy).await?;
        self.remember_way(&saved.value, &answer, &known, self.configured_ways(Some(&plan))).await
    }

    /// What is to happen to the refresh now, from everything that is stored about it.
    async fn decide_step(
        &self,
        id: RolloutId,
        key: &DeploymentKey,
        now: Timestamp,
    ) -> Result<Option<Step>, EngineError> {
        let (refresh, rollout, deployment) = tokio::try_join!(
            self.store.refresh(id, key),
            self.store.rollout(id),
            self.store.deployments_by_key(std::slice::from_ref(key)),
        )?;
        let (Some(refresh), Some(rollout)) = (refresh, rollout) else {
            warn!(rollout.id = %id, deployment.key = %key, "A message names a refresh of rollout {id} that is not stored");
            return Ok(None);
        };
        let RefreshState::Queued { due, .. } = refresh.value.state else { return Ok(None) };
        if due.is_some_and(|due| due > now) {
            // An old message: the one for that time is on its way, and ARM may have named it.
            return Ok(None);
        }
        let deployment = deployment.into_iter().flatten().next().map(|deployment| deployment.value);
        let event = match may_be_posted(&rollout.value, deployment.as_ref(), now) {
            Some(event) => event,
            None => {
                let subscription = refresh.value.application_id.subscription();
                let stored = self.store.throttled_until(subscription).await?.filter(|until| *until > now);
                let until = stored.max(self.arm.throttled_for(subscription).map(|wait| now + wait));
                until.map_or(Event::Submit, |until| Event::Delay { until })
            }
        };
        // What is stopped waits for a person, and that ends nothing.
        let ends = matches!(event, Event::Delay { .. }) && refresh.value.is_out_of_patience(now);
        let event = if ends && self.is_held().await? { Event::PutBack } else { event };
        let is_unmanaged = deployment.as_ref().is_some_and(Deployment::is_unmanaged);
        let known = deployment.map(|deployment| deployment.ways).unwrap_or_default();
        let plan = rollout.value.publish.plan;
        let policy = self.policy_for(Some(&plan), &known, now);
        Ok(Some(Step { refresh, event, policy, known, plan, is_unmanaged }))
    }

    /// Whether nobody has stopped a refresh since everything was read for it at `read_at`: a stop or a pause that was answered
    /// is obeyed (design §4). One after the other, so that nothing at all lies between the last word on its rollout and its POST.
    async fn goes_on(&self, refresh: &Refresh, read_at: Timestamp) -> Result<bool, EngineError> {
        if self.is_held().await? {
            return Ok(false);
        }
        let now = self.now();
        let deployment = match now > read_at + FRESH {
            true => self.deployment(&refresh.key).await?.map(|deployment| deployment.value),
            false => None,
        };
        let rollout = self.store.rollout(refresh.rollout_id).await?;
        Ok(rollout.is_some_and(|rollout| may_be_posted(&rollout.value, deployment.as_ref(), now).is_none()))
    }

    async fn come_back_later(&self, id: RolloutId, key: &DeploymentKey) -> Result<(), EngineError> {
        if let Some(refresh) = self.store.refresh(id, key).await?
            && matches!(refresh.value.state, RefreshState::Queued { due: Some(_), .. })
        {
            let until = self.now() + ADMISSION;
            self.apply_to_all(&[refresh], &Event::Delay { until }).await?;
        }
        Ok(())
    }

    async fn note_answer(
        &self,
        submitting: &Versioned<Refresh>,
        posted: Posted,
        policy: &Policy,
    ) -> Result<(), EngineError> {
        let now = self.now();
        let Posted { answer, correlation_id, throttled_for, .. } = posted;
        let event = Event::Answered { answer, correlation_id };
        // The answer first: what is lost of it would be posted again.
        let concluded = self.conclude(submitting, event, now, policy).await;
        if let Some(wait) = throttled_for {
            self.store.throttle(submitting.value.application_id.subscription(), now + wait).await?;
        }
        concluded
    }

    /// Applies what ARM said to a refresh that this worker has for itself, saves, and does what comes next.
    pub(super) async fn conclude(
        &self,
        refresh: &Versioned<Refresh>,
        event: Event,
        now: Timestamp,
        policy: &Policy,
    ) -> Result<(), EngineError> {
        let (next, action) = match refresh.value.apply(event, now, policy) {
            Ok(decided) => decided,
            Err(illegal) => {
                warn!(rollout.id = %refresh.value.rollout_id, deployment.key = %refresh.value.key, "Refresh of {}: {illegal}", refresh.value.application_id);
                return Ok(());
            }
        };
        let next = refresh.with(next);
        let is_stored = match next.value.past(now) {
            Some(past) => self.store.save_ended(&next, &past).await?.is_stored(),
            None => self.save_refresh(&next).await?.is_some(),
        };
        if !is_stored {
            return Ok(());
        }
        note_move(&refresh.value, &next.value);
        self.follow_up(&next.value, action).await
    }

    async fn follow_up(&self, refresh: &Refresh, action: Next) -> Result<(), EngineError> {
        if refresh.state.is_terminal() {
            note_end(refresh);
        }
        if let Next::Send { at } = action {
            self.send_refresh_messages(&[refresh_message(refresh, at)]).await?;
        }
        if let RefreshState::Failed { failure, .. } = &refresh.state
            && failure.actor == Actor::Offer
        {
            self.review_rollout(refresh.rollout_id).await?;
        }
        Ok(())
    }
}

/// Why a queued refresh is not to be posted now, as the event that says so; `None` if it may be, unless everything is
/// stopped, which is read last.
fn may_be_posted(rollout: &Rollout, deployment: Option<&Deployment>, now: Timestamp) -> Option<Event> {
    match &rollout.state {
        RolloutState::Running => {}
        RolloutState::Canceled { superseded_by: Some(by) } => return Some(Event::Supersede { by: *by }),
        RolloutState::Canceled { superseded_by: None } => return Some(Event::Cancel),
        _ => return Some(Event::PutBack),
    }
    let deployment = deployment?;
    let newer = deployment.applied.as_ref().is_some_and(|applied| applied.version > rollout.publish.version);
    if newer && rollout.publish.purpose == Purpose::RollOut {
        // Another rollout has been there since this one was planned.
        return Some(Event::Skip { why: SkipReason::NewerApplied });
    }
    match deployment.readiness() {
        Readiness::Ready if deployment.is_on_hold(now) => Some(Event::Skip { why: SkipReason::OnHold }),
        Readiness::Ready => deployment.opens_at(now).map(|opens_at| Event::AwaitWindow { opens_at }),
        // Its check comes first; should that be lost, the timer finds it.
        Readiness::Uncertain => Some(Event::Delay { until: now + CHECKED }),
        Readiness::NotReady => Some(Event::Skip { why: SkipReason::NotReady }),
        Readiness::Leaving if deployment.gone_since.is_some() => Some(Event::Skip { why: SkipReason::Gone }),
        Readiness::Leaving => Some(Event::Skip { why: SkipReason::Deleting }),
    }
}

/// What became of it so far, where that is worth a line: whoever asks what is stuck finds where it went last.
fn note_move(before: &Refresh, after: &Refresh) {
    let Refresh { rollout_id, application_id, version, state, .. } = after;
    let error = after.last_error.as_ref().map(|error| error.code.as_str());
    match state {
        RefreshState::Queued { .. } | RefreshState::AwaitingAccess { .. } | RefreshState::Running { .. }
            if state.name() != before.state.name() =>
        {
            info!(
                rollout.id = %rollout_id, deployment.key = %after.key, application.id = %application_id,
                refresh.version = %version, refresh.state = state.name(), refresh.attempt = after.attempt(), error.code = error,
                "The refresh of {application_id} to {version} is {}", state.name()
            );
        }
        _ => {}
    }
}

fn note_end(refresh: &Refresh) {
    let Refresh { rollout_id, key, application_id, version, state, .. } = refresh;
    metrics::refresh_ended(state.name());
    match state {
        RefreshState::Failed { failure, .. } | RefreshState::TimedOut { failure: Some(failure) } => {
            let how = if matches!(state, RefreshState::Failed { .. }) { "failed" } else { "timed out" };
            warn!(
                rollout.id = %rollout_id, deployment.key = %key, application.id = %application_id,
                refresh.version = %version, refresh.state = state.name(), error.code = %failure.code,
                error.actor = failure.actor.word(),
                "The refresh of {application_id} to {version} {how}: {}", failure.message
            );
        }
        RefreshState::TimedOut { failure: None } => warn!(
            rollout.id = %rollout_id, deployment.key = %key, application.id = %application_id,
            refresh.version = %version, refresh.state = state.name(), error.actor = Actor::Microsoft.word(),
            "The refresh of {application_id} to {version} never ended"
        ),
        _ => info!(
            rollout.id = %rollout_id, deployment.key = %key, application.id = %application_id,
            refresh.version = %version, refresh.state = state.name(),
            "The refresh of {application_id} to {version} is {}", state.name()
        ),
    }
}
