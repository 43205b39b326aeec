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
/// How many findings a rollout keeps.
const MOST_FINDINGS: usize = 50;

/// Compares actions with what providers offer, and remembers what it has read.
pub struct Linter {
    arm: ArmClient,
    clock: Arc<dyn Clock>,
    read: Mutex<HashMap<String, (Timestamp, Arc<Provider>)>>,
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
        let missing: Vec<&String> = wanted.iter().filter(|name| self.remembered(name).is_none()).collect();
        let failed = Mutex::new(Providers::new());
        let reading = stream::iter(missing).for_each_concurrent(AT_ONCE, |namespace| {
            let failed = &failed;
            async move {
                let provider = Arc::new(self.arm.provider_operations(namespace).await);
                if matches!(*provider, Provider::Unread { .. }) {
                    lock(failed).insert(namespace.clone(), provider);
                } else {
                    lock(&self.read).insert(namespace.clone(), (self.clock.now(), provider));
                }
            }
        });
        // What came in time counts.
        let in_time = tokio::time::timeout(LIMIT, reading).await;
        let mut providers = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        for namespace in wanted {
            if let Some(provider) = self.remembered(&namespace) {
                providers.insert(namespace, provider);
            } else if in_time.is_err() {
                let why = format!("Azure did not answer within {} s", LIMIT.as_secs());
                providers.entry(namespace).or_insert_with(|| Arc::new(Provider::Unread { why }));
            }
        }
        lint(actions, &providers)
    }

    fn remembered(&self, namespace: &str) -> Option<Arc<Provider>> {
        let read = lock(&self.read);
        let (at, provider) = read.get(namespace)?;
        let kept = if **provider == Provider::Unknown { KEPT_UNKNOWN } else { KEPT };
        (*at + kept > self.clock.now()).then(|| Arc::clone(provider))
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
