//! The looks: claims operations and applications that are due, asks ARM, stores what it learned. Never asks before the
//! time ARM named, and never sleeps while it has a claim.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tracing::warn;

use super::jit::Gaze;
use super::upkeep::TICK;
use super::{Engine, EngineError, refresh_message};
use crate::metrics;
use crate::queue::{Message, Outgoing};
use crate::rollout::refresh::Gate;
use crate::rollout::{
    Event, KnownWays, Next, PollAnswer, ReadAnswer, Refresh, RefreshState, RemoteError, Timestamp, Way,
};
use crate::store::Versioned;

/// Above so many looks in one tick the rest is handed to the refresh queue, so that polling scales out (design §3.4).
pub const SHARE: usize = 1_000;
/// How many shares one tick hands out at most.
const SHARES: usize = 8;
/// How many looks have to be free before more are claimed. Then as many as are free: the longer the store takes for a claim,
/// the more have become free meanwhile.
const CLAIM_BATCH: usize = 64;
/// How long a look waits for one of the process's places for calls before its claim is given back: whoever has a place then
/// may look at once, and need not wait for the claim to end.
const LOOK_PLACE: Duration = Duration::from_secs(30);

/// How long more falls due before it is claimed, once everything that was due is: few large writes instead of many small.
pub const CLAIM_GAP: Duration = Duration::from_millis(20);

/// What one round of looks did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// How many refreshes were claimed or moved.
    pub moved: usize,
    /// How many shares were handed to the queue.
    pub shares: usize,
}

/// A look that this worker has for itself.
struct Look {
    refresh: Versioned<Refresh>,
    action: Next,
}

/// What one claim brought.
struct Claimed {
    /// How many refreshes were to move.
    moved: usize,
    /// The looks that were won.
    looks: Vec<Look>,
    /// Whether the messages of those that were lost could be sent.
    sent: Result<(), EngineError>,
}

impl Engine {
    /// A share of the looks that are due: what a `PollShare` message asks for.
    pub async fn poll_share(&self, at_most: usize) -> Result<(), EngineError> {
        self.look(at_most, self.now() + TICK, Shares::Keep).await.map(|_| ())
    }

    /// Looks at everything that is due now, until nothing is. Nothing is claimed after `end`: an invocation has to end, and
    /// the next one goes on.
    pub(super) async fn look_at_all(&self, end: Timestamp) -> Result<Looked, EngineError> {
        self.look(usize::MAX, end, Shares::HandOut).await
    }

    async fn look(&self, at_most: usize, end: Timestamp, shares: Shares) -> Result<Looked, EngineError> {
        let mut claim_again = self.now();
        let mut looked = Looked::default();
        let mut under_way = FuturesUnordered::new();
        // After an error nothing more is claimed, but what is under way is brought to its end: ARM may have named a wait that
        // must not be forgotten.
        let mut result = Ok(());
        loop {
            let room = self.config.looks_at_once.saturating_sub(under_way.len());
            let left = at_most.saturating_sub(looked.moved);
            let now = self.now();
            let may_claim = under_way.is_empty() || room >= CLAIM_BATCH && now >= claim_again;
            if result.is_ok() && left > 0 && now < end && may_claim {
                let asked = left.min(room.max(1));
                match self.claim_beside(asked, &mut under_way).await {
                    Ok(Claimed { moved, looks, sent }) => {
                        looked.moved += moved;
                        if moved < asked {
                            claim_again = now + CLAIM_GAP;
                        }
                        under_way.extend(looks.into_iter().map(|look| self.look_once(look)));
                        result = sent;
                        if shares == Shares::HandOut
                            && looked.shares < SHARES
                            && looked.moved >= SHARE * (looked.shares + 1)
                        {
                            looked.shares += 1;
                            result = result.and(self.hand_out_share(looked.shares).await);
                        }
                        if moved > 0 {
                            continue;
                        }
                    }
                    Err(error) => result = Err(error),
                }
            }
            match under_way.next().await {
                Some(looked) => note_failure(looked),
                None => return result.map(|()| looked),
            }
        }
    }

    /// Claims while the looks under way go on: the claim may wait for what one of them holds of the store, and that look
    /// would never let go of it if nobody drove it.
    async fn claim_beside<F>(&self, at_most: usize, under_way: &mut FuturesUnordered<F>) -> Result<Claimed, EngineError>
    where
        F: Future<Output = Result<(), EngineError>> + Send,
    {
        let mut claim = std::pin::pin!(self.claim(at_most));
        loop {
            tokio::select! {
                claimed = &mut claim => return claimed,
                Some(looked) = under_way.next() => note_failure(looked),
            }
        }
    }

    /// Claims looks that are due, and sends again what was lost.
    async fn claim(&self, at_most: usize) -> Result<Claimed, EngineError> {
        // One at a time in this process: whoever read the same rows at once would only lose the race for them.
        let _turn = self.claiming.lock().await;
        let now = self.now();
        let due = self.store.due_refreshes(now, at_most).await?;
        let found = due.len();
        let mut actions = Vec::with_capacity(found);
        let mut claims = Vec::with_capacity(found);
        let mut dues = Vec::with_capacity(found);
        for refresh in due {
            let event = match refresh.value.state {
                RefreshState::Running { .. } | RefreshState::Verifying { .. } => {
                    match self.arm.throttled_for(refresh.value.application_id.subscription()) {
                        Some(wait) => Event::Delay { until: now + wait },
                        None => Event::Claim,
                    }
                }
                _ => Event::Overdue,
            };
            match refresh.value.apply(event, now, &self.config.policy) {
                Ok((next, action)) if next != refresh.value => {
                    dues.push(refresh.value.wake_at());
                    claims.push(refresh.with(next));
                    actions.push(action);
                }
                Ok(_) => {}
                Err(illegal) => warn!(
                    rollout.id = %refresh.value.rollout_id, deployment.key = %refresh.value.key,
                    "Refresh of {}: {illegal}", refresh.value.application_id
                ),
            }
        }
        let moved = claims.len();
        let saved = if claims.is_empty() { Vec::new() } else { self.store.save_refreshes(&claims).await? };
        let mut looks = Vec::with_capacity(found);
        let mut messages = Vec::new();
        for (((saved, claim), action), due) in saved.into_iter().zip(claims).zip(actions).zip(dues) {
            let crate::store::Saved::Stored(etag) = saved else { continue };
            if let (Some(due), Next::Poll) = (due, action) {
                metrics::poll_lag(due, now);
            }
            match action {
                Next::Poll | Next::Read | Next::AskGate => {
                    looks.push(Look { refresh: Versioned { value: claim.value, etag: Some(etag) }, action });
                }
                Next::Send { at } => messages.push(refresh_message(&claim.value, at)),
                Next::Nothing | Next::Post => {}
            }
        }
        let sent = self.send_refresh_messages(&messages).await;
        Ok(Claimed { moved, looks, sent })
    }

    #[tracing::instrument(name = "look", skip_all, fields(
        rollout.id = %look.refresh.value.rollout_id,
        deployment.key = %look.refresh.value.key,
        refresh.attempt = look.refresh.value.attempt(),
    ))]
    async fn look_once(&self, look: Look) -> Result<(), EngineError> {
        let Look { refresh, action } = look;
        if action == Next::AskGate {
            return self.look_at_gate(&refresh).await;
        }
        let is_shut = refresh.value.way == Some(Way::Jit) && !self.is_inside_window(&refresh.value.key).await?;
        let arm = self.arm_for_look(&refresh.value).await?;
        let Ok(place) = tokio::time::timeout(LOOK_PLACE, self.arm.admit_look()).await else {
            let now = self.now();
            return self.conclude(&refresh, Event::Delay { until: now }, now, &self.config.policy).await;
        };
        if !refresh.value.may_be_asked(self.now()) {
            // Held up since it claimed this, or while it did: somebody else may look at any moment, and hear a wait.
            return Ok(());
        }
        let (event, throttled_for) = match (&refresh.value.state, action, arm) {
            (_, Next::Poll, _) if is_shut => {
                let message =
                    "the window of just-in-time access is over, so the operation cannot be asked for".to_owned();
                let error = RemoteError { status: None, code: "JitWindowOver".to_owned(), message };
                (Event::Polled(PollAnswer::AccessLost { error }), None)
            }
            (RefreshState::Running { operation, .. }, Next::Poll, Ok(arm)) => {
                let polled = arm.poll_from(operation, refresh.value.request_id(), Some(&place)).await;
                (Event::Polled(polled.answer), polled.throttled_for)
            }
            (_, Next::Poll, Err(error)) => (Event::Polled(PollAnswer::Unreadable { error, wait: None }), None),
            (_, _, Ok(arm)) => {
                let read = arm.read_application_from(&refresh.value.application_id, Some(&place)).await;
                (Event::Read(read.answer), read.throttled_for)
            }
            (_, _, Err(error)) => (Event::Read(ReadAnswer::Unreadable { error, wait: None }), None),
        };
        drop(place);
        let now = self.now();
        // The answer first: what is lost of it, a wait included, would be asked for again too early.
        let concluded = self.conclude(&refresh, event, now, &self.config.policy).await;
        if let Some(wait) = throttled_for {
            self.store.throttle(refresh.value.application_id.subscription(), now + wait).await?;
        }
        concluded
    }

    /// Lets a parked refresh go on whose gate is open: whoever opened it may have come just before it was parked.
    async fn look_at_gate(&self, refresh: &Versioned<Refresh>) -> Result<(), EngineError> {
        if let RefreshState::AwaitingAccess { gate: Gate::Jit { request, .. }, .. } = &refresh.value.state {
            let event = match self.look_at_jit(&refresh.value.application_id, request).await? {
                Gaze::Open => Event::Release,
                Gaze::Closed(until) => Event::Delay { until },
                Gaze::Refused(trouble) => Event::GateClosed { error: trouble.error(Some(request)) },
            };
            let rollout = self.store.rollout(refresh.value.rollout_id).await?;
            let plan = rollout.map(|rollout| rollout.value.publish.plan);
            let now = self.now();
            let policy = self.policy_for(plan.as_ref(), &KnownWays::default(), now);
            return self.conclude(refresh, event, now, &policy).await;
        }
        if self.is_open(&refresh.value).await? {
            return self.conclude(refresh, Event::Release, self.now(), &self.config.policy).await;
        }
        Ok(())
    }

    async fn hand_out_share(&self, number: usize) -> Result<(), EngineError> {
        let body = Message::PollShare { at_most: SHARE }.to_body();
        let id = format!("poll:{}:{number}", self.now().timestamp_millis());
        self.send_refresh_messages(&[Outgoing { id, body, due: None }]).await
    }
}

/// A look that was not stored: its claim runs out, and the timer comes back to it.
fn note_failure(looked: Result<(), EngineError>) {
    if let Err(error) = looked {
        warn!("A look could not be stored: {error}");
    }
}

/// Whether a round of looks may hand a part of them to the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shares {
    HandOut,
    Keep,
}

/// The time of the next look that the store knows of.
impl Engine {
    /// When the next refresh is due, if any.
    pub(super) async fn next_look(&self) -> Result<Option<Timestamp>, EngineError> {
        Ok(self.store.next_wake().await?)
    }
}
