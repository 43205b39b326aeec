//! The engine: the only code that acts. Load, let the domain decide, call, save, send.
//!
//! It holds no policy: what an event means is in [`crate::rollout`]. It saves before it sends, so that a message lost
//! in between is found by [`Engine::tick`], and every step may run twice, at once or late with the same end. Read
//! [`publish`] (a rollout begins), [`planning`] (its refreshes are written wave by wave), [`step`] (one is posted),
//! `access` (by which way), `standstill` (when GDAP works for nobody), [`polling`] (operations are followed),
//! [`upkeep`] (waves advance, what was lost is found), [`commands`] (a person steps in), [`switch`] (stop and go),
//! [`audit`] (who did what), `telling` (the webhook), `dead_letters`, `retention`, [`registry`] and [`check`] (which
//! deployments there are), [`joining`] (those that came late), [`sync`] (what Azure itself shows), [`tenancy`] (whose
//! subscriptions are), [`hand_overs`] (what customers ran themselves), [`jit`] (windows of access), [`watch`] (what
//! Partner Center has published), [`vetting`] (whether that is worth a rollout) and [`lint`] (whether its actions are
//! real).

mod access;
pub mod audit;
pub mod check;
pub mod commands;
pub mod consents;
pub mod course;
pub mod coverage;
mod dead_letters;
pub mod dry_run;
pub mod hand_overs;
pub mod jit;
pub mod joining;
pub mod last_good;
pub mod lint;
pub mod newest;
pub mod offers;
pub mod planning;
pub mod polling;
pub mod publish;
pub mod registry;
pub mod renewal;
mod retention;
pub mod schedule;
pub mod signed_out;
pub mod standstill;
pub mod step;
pub mod switch;
pub mod sync;
mod telling;
pub mod tenancy;
pub mod upkeep;
pub mod vetting;
pub mod watch;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::access::gdap::Gdap;
use crate::access::guests::Guests;
use crate::arm::ArmClient;
use crate::clock::Clock;
use crate::queue::{Message, Outgoing, Postmark, Queue, QueueError};
use crate::rollout::Way;
use crate::rollout::jit::JitSetup;
use crate::rollout::{
    ApplicationId, KnownWays, Plan, Policy, Refresh, Rollout, RolloutId, Strategy, Tally, Timestamp, Version,
};
use crate::store::{Saved, Store, StoreError, Versioned};
use crate::webhook::Webhook;

/// What the engine has to be told; filled from the settings.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// What the domain has to know.
    pub policy: Policy,
    /// The name of the queue for planning (`ROLLOUT_QUEUE`).
    pub rollout_queue: String,
    /// The name of the queue for refreshes and checks (`REFRESH_QUEUE`).
    pub refresh_queue: String,
    /// What is known of our offers (`OFFERS`).
    pub offers: Vec<OfferConfig>,
    /// Whether anything is posted (`MODE`).
    pub mode: Mode,
    /// How long what has ended is kept (`RETENTION_DAYS`).
    pub retention: Duration,
    /// How many steps may prepare a POST at once, beside those that have their place for the call.
    pub posts_prepared: usize,
    /// How long a step that is prepared waits for its place ([`step::PLACE`]).
    pub place_patience: Duration,
    /// How many looks may be under way in one tick; more than `ARM_MAX_CONCURRENCY`, so that its places stay filled.
    pub looks_at_once: usize,
}

/// One offer of `OFFERS`.
#[derive(Clone, Debug)]
pub struct OfferConfig {
    /// Partner Center's publisher id, lower-case.
    pub publisher: String,
    /// Partner Center's offer id, lower-case and without `-preview`.
    pub offer: String,
    /// The plans with their first wanted versions.
    pub plans: Vec<(String, Option<Version>)>,
    /// The strategy where a publish names none.
    pub strategy: Strategy,
    /// The ways to try, in order, of those that there are.
    pub ways: Vec<Way>,
    /// Applications that count as preview purchases.
    pub preview_applications: Vec<ApplicationId>,
}

/// Whether refreshes are posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Plans and reports; posts nothing.
    Observe,
    /// Does all of it.
    Act,
}

/// A part of ours failed: what was under way is found again by its message or by the timer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Somebody else kept changing the same record.
    #[error("{what} was changed by somebody else again and again; try once more")]
    Contended {
        /// Which record.
        what: String,
    },
}

/// The engine over its outside world.
pub struct Engine {
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    arm: ArmClient,
    clock: Arc<dyn Clock>,
    config: EngineConfig,
    webhook: Option<Webhook>,
    claiming: tokio::sync::Mutex<()>,
    /// Turns of steps that prepare a POST.
    preparing: tokio::sync::Semaphore,
    linter: lint::Linter,
    watch: Option<watch::Watch>,
    gdap: Option<Arc<Gdap>>,
    jit: Option<JitSetup>,
    guests: Option<Guests>,
    /// When this process looked for dead letters.
    looked_for_dead: Mutex<Option<Timestamp>>,
    /// Before when this process need not ask for a round of retention.
    next_round: Mutex<Option<Timestamp>>,
}

/// How often a guarded write is tried again after a lost race.
const RACES: usize = 20;

impl Engine {
    /// An engine over these parts.
    pub fn new(
        store: Arc<dyn Store>,
        queue: Arc<dyn Queue>,
        arm: ArmClient,
        clock: Arc<dyn Clock>,
        config: EngineConfig,
    ) -> Self {
        let linter = lint::Linter::new(arm.clone(), Arc::clone(&clock));
        let preparing = tokio::sync::Semaphore::new(config.posts_prepared.max(1));
        Self {
            store,
            queue,
            arm,
            clock,
            config,
            linter,
            webhook: None,
            watch: None,
            gdap: None,
            jit: None,
            guests: None,
            claiming: tokio::sync::Mutex::new(()),
            preparing,
            looked_for_dead: Mutex::default(),
            next_round: Mutex::default(),
        }
    }

    /// The same engine, which watches Partner Center.
    #[must_use]
    pub fn with_watch(self, watch: watch::Watch) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// The same engine, which tells a webhook what happens.
    #[must_use]
    pub fn with_webhook(self, webhook: Webhook) -> Self {
        Self { webhook: Some(webhook), ..self }
    }

    /// Where state is kept; for what only reads.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn offer(&self, publisher: &str, offer: &str) -> Option<&OfferConfig> {
        self.config.offers.iter().find(|known| known.publisher == publisher && known.offer == offer)
    }

    /// What the domain has to know for a deployment of this plan: its offer may have an order of ways of its own, and what is
    /// remembered of the deployment changes it.
    fn policy_for(&self, plan: Option<&Plan>, known: &KnownWays, now: Timestamp) -> Policy {
        let ways = known.order(self.configured_ways(plan), now);
        Policy { ways, ..self.config.policy.clone() }
    }

    /// The ways that the settings name for a plan.
    fn configured_ways(&self, plan: Option<&Plan>) -> &[Way] {
        let offer = plan.and_then(|plan| self.offer(&plan.publisher, &plan.offer));
        offer.map_or(&self.config.policy.ways, |offer| &offer.ways)
    }

    /// The applications of a plan's offer that count as preview purchases.
    fn previews(&self, plan: &Plan) -> &[ApplicationId] {
        self.offer(&plan.publisher, &plan.offer).map_or(&[], |offer| &offer.preview_applications)
    }

    async fn send(&self, queue: &str, messages: &[Outgoing]) -> Result<(), EngineError> {
        if messages.is_empty() {
            return Ok(());
        }
        let (trace, now) = (crate::trace::current(), self.now());
        let marked = messages.iter().map(|message| {
            let mark = Postmark { trace, due: Some(message.due.unwrap_or(now).max(now)) };
            Outgoing { id: message.id.clone(), body: mark.on(&message.body), due: message.due }
        });
        Ok(self.queue.send(queue, &marked.collect::<Vec<_>>()).await?)
    }

    async fn send_refresh_messages(&self, messages: &[Outgoing]) -> Result<(), EngineError> {
        self.send(&self.config.refresh_queue, messages).await
    }

    async fn send_planning_message(&self, rollout: &Rollout) -> Result<(), EngineError> {
        let body = Message::PlanRollout { rollout_id: rollout.id }.to_body();
        let message = Outgoing { id: rollout.planning_message_id(), body, due: None };
        self.send(&self.config.rollout_queue, &[message]).await
    }

    /// Changes a rollout under its guard, as often as somebody else was quicker. `change` answers `false` where there is
    /// nothing to do; then nothing is written. `None` if there is no such rollout.
    async fn change_rollout<F>(&self, id: RolloutId, mut change: F) -> Result<Option<(Rollout, bool)>, EngineError>
    where
        F: FnMut(&mut Rollout, &Tally) -> bool + Send,
    {
        for _ in 0..RACES {
            let Some(mut rollout) = self.store.rollout(id).await? else { return Ok(None) };
            let tally = self.store.tally(id).await?;
            if !change(&mut rollout.value, &tally) {
                return Ok(Some((rollout.value, false)));
            }
            if self.save_rollout(&mut rollout).await?.is_stored() {
                return Ok(Some((rollout.value, true)));
            }
        }
        Err(EngineError::Contended { what: format!("rollout {id}") })
    }

    /// Writes one refresh under its guard; whether the race was won.
    async fn save_refresh(&self, refresh: &Versioned<Refresh>) -> Result<Option<Versioned<Refresh>>, EngineError> {
        let saved = self.store.save_refreshes(std::slice::from_ref(refresh)).await?;
        Ok(match saved.into_iter().next() {
            Some(Saved::Stored(etag)) => Some(Versioned { value: refresh.value.clone(), etag: Some(etag) }),
            _ => None,
        })
    }
}

/// The message for a refresh's next step.
fn refresh_message(refresh: &Refresh, due: Option<Timestamp>) -> Outgoing {
    let body = Message::Refresh { rollout_id: refresh.rollout_id, key: refresh.key.clone() }.to_body();
    Outgoing { id: refresh.message_id(), body, due }
}
