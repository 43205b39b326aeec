//! The lint of a publish: reads what the providers offer, and parks the rollout whose version would fail everywhere, before
//! anybody is called. What an action has to be is in [`crate::rollout::lint`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tracing::{info, warn};

use super::{Engine, EngineError};
use crate::arm::ArmClient;
use crate::clock::Clock;
use crate::rollout::lint::{AllowedActions, Finding, Provider, Providers, lint, namespaces, rejection};
use crate::rollout::{OfferPublish, Rollout, Timestamp};
use crate::store::{Versioned, published};

/// How long operations are taken for what they are; providers get new ones every few weeks.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long it counts that there is no such provider.
const KEPT_UNKNOWN: Duration = Duration::from_secs(60 * 60);
/// How many providers one lint asks for; who names more has typed something else.
const MOST_PROVIDERS: usize = 40;
/// How many are read at once.
const AT_ONCE: usize = 8;
/// How long the reading may take in all: what is not read then is not checked, since a lint never holds up a rollout.
const LIMIT: Duration = Duration::from_secs(60);
/// How many providers are remembered: each has up to thousands of operations.
const MOST_REMEMBERED: usize = 2 * MOST_PROVIDERS;
/// How many findings a rollout keeps.
const MOST_FINDINGS: usize = 50;

/// Compares actions with what providers offer, and remembers what it has read.
pub struct Linter {
    arm: ArmClient,
    clock: Arc<dyn Clock>,
    read: Mutex<Remembered>,
}

/// What was read of providers, by namespace: while it counts, and the newest only so many.
#[derive(Default)]
struct Remembered(HashMap<String, (Timestamp, Arc<Provider>)>);

impl Remembered {
    fn of(&self, namespace: &str, now: Timestamp) -> Option<Arc<Provider>> {
        self.0.get(namespace).filter(|known| counts(known, now)).map(|(_, provider)| Arc::clone(provider))
    }

    fn keep(&mut self, namespace: &str, provider: Arc<Provider>, now: Timestamp) {
        self.0.retain(|known_name, known| known_name != namespace && counts(known, now));
        while self.0.len() >= MOST_REMEMBERED {
            let oldest = self.0.iter().min_by_key(|(_, (at, _))| *at).map(|(namespace, _)| namespace.clone());
            oldest.map(|namespace| self.0.remove(&namespace));
        }
        self.0.insert(namespace.to_owned(), (now, provider));
    }
}

fn counts((at, provider): &(Timestamp, Arc<Provider>), now: Timestamp) -> bool {
    *at + if **provider == Provider::Unknown { KEPT_UNKNOWN } else { KEPT } > now
}

impl Linter {
    /// A linter that has read nothing yet.
    pub fn new(arm: ArmClient, clock: Arc<dyn Clock>) -> Self {
        Self { arm, clock, read: Mutex::default() }
    }

    /// What there is to say of `actions`.
    pub async fn lint(&self, actions: &AllowedActions) -> Vec<Finding> {
        let mut wanted: Vec<String> = namespaces(actions).into_iter().collect();
        wanted.truncate(MOST_PROVIDERS);
        let now = self.clock.now();
        let known = |name: &String| Some((name.clone(), lock(&self.read).of(name, now)?));
        let providers: Mutex<Providers> = Mutex::new(wanted.iter().filter_map(known).collect());
        let missing: Vec<&String> = wanted.iter().filter(|name| !lock(&providers).contains_key(*name)).collect();
        let reading = stream::iter(missing).for_each_concurrent(AT_ONCE, |namespace| {
            let providers = &providers;
            async move {
                let provider = Arc::new(self.arm.provider_operations(namespace).await);
                if !matches!(*provider, Provider::Unread { .. }) {
                    lock(&self.read).keep(namespace, Arc::clone(&provider), self.clock.now());
                }
                lock(providers).insert(namespace.clone(), provider);
            }
        });
        // What came in time counts.
        let in_time = tokio::time::timeout(LIMIT, reading).await;
        let mut providers = providers.into_inner().unwrap_or_else(PoisonError::into_inner);
        if in_time.is_err() {
            for namespace in wanted {
                let why = format!("Azure did not answer within {} s", LIMIT.as_secs());
                providers.entry(namespace).or_insert_with(|| Arc::new(Provider::Unread { why }));
            }
        }
        lint(actions, &providers)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// What the lint says of `actions`.
    pub async fn lint(&self, actions: &AllowedActions) -> Vec<Finding> {
        self.linter.lint(actions).await
    }

    /// The actions that a version allows: those that whoever announced it named, else those that Partner Center showed.
    pub async fn published_actions(&self, publish: &OfferPublish) -> Result<Option<AllowedActions>, EngineError> {
        if let Some(actions) = &publish.actions {
            return Ok(Some(actions.clone()).filter(|actions| !actions.is_empty()));
        }
        let known = published::snapshot(&*self.store, &publish.plan, publish.version).await?;
        let package = known.map(|known| known.value.package).filter(|of| of.customer_actions_enabled != Some(false));
        Ok(package
            .map(|package| AllowedActions {
                control: package.allowed_control_actions,
                data: package.allowed_data_actions,
            })
            .filter(|actions| !actions.is_empty()))
    }

    /// Looks at the actions of a rollout that is about to begin; whether it is parked for them.
    pub(super) async fn park_by_lint(&self, rollout: &mut Versioned<Rollout>) -> Result<bool, EngineError> {
        let id = rollout.value.id;
        if !rollout.value.wants_lint() {
            return Ok(false);
        }
        let Some(actions) = self.published_actions(&rollout.value.publish).await? else { return Ok(false) };
        let mut findings = self.lint(&actions).await;
        for finding in &findings {
            warn!(rollout.id = %id, lint.rule = ?finding.rule, "Rollout {id}: {finding}");
        }
        let why = rejection(&findings);
        findings.truncate(MOST_FINDINGS);
        let is_rejected = why.is_some();
        rollout.value.note_lint(findings, why);
        if !is_rejected {
            // Saved with what comes next.
            return Ok(false);
        }
        if self.save_rollout(rollout).await?.is_stored() {
            info!(rollout.id = %id, rollout.state = "paused", "Rollout {id} is paused before anybody was called: the lint rejects its version");
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_runs_out_and_is_bounded() {
        let at = |minutes: i64| Timestamp::UNIX_EPOCH + chrono::TimeDelta::minutes(minutes);
        let mut remembered = Remembered::default();
        remembered.keep("gone", Arc::new(Provider::Unknown), at(0));
        remembered.keep("known", Arc::new(Provider::Known(Vec::new())), at(0));
        assert!(remembered.of("gone", at(59)).is_some() && remembered.of("gone", at(60)).is_none());
        remembered.keep("another", Arc::new(Provider::Known(Vec::new())), at(60));
        assert_eq!(remembered.0.len(), 2, "what has run out is not kept");
        for number in 0..2 * MOST_REMEMBERED {
            remembered.keep(&number.to_string(), Arc::new(Provider::Unknown), at(61));
            assert!(remembered.0.len() <= MOST_REMEMBERED);
        }
        assert!(remembered.of("known", at(62)).is_none(), "the oldest goes first");
        assert!(remembered.of(&(2 * MOST_REMEMBERED - 1).to_string(), at(62)).is_some());
    }
}
