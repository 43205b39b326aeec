//! The store that goes wrong, around a real one, and who looks on while it is written to.

use std::sync::Arc;

use async_trait::async_trait;
use permafresh::rollout::{
    Deployment, DeploymentKey, PastRefresh, Plan, Refresh, Rollout, RolloutId, Tally, Timestamp,
};
use permafresh::store::document::DocumentName;
use permafresh::store::{Claim, ETag, Page, PageRequest, Saved, Store, StoreError, Versioned};
use serde_json::Value;

use super::{Decision, Faults, Kind};

/// Looks on while rollouts and refreshes are written. `None` means that who asked for it was not told that it is done.
pub trait Witness: Send + Sync {
    fn saved_rollout(&self, rollout: &Versioned<Rollout>, saved: Option<&Saved>);
    fn inserted(&self, refreshes: &[Refresh], inserted: Option<&usize>);
    fn saved_refreshes(&self, refreshes: &[Versioned<Refresh>], saved: Option<&Vec<Saved>>);
    /// Something was not noted of this deployment on the way to its refresh.
    fn not_noted(&self, key: &DeploymentKey);
    /// A wait that ARM named was not noted of this subscription.
    fn not_told(&self, subscription: &str);
}

/// A store that goes wrong.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Arc<Faults>,
    witness: Option<Arc<dyn Witness>>,
}

impl FaultyStore {
    pub fn over(inner: &Arc<dyn Store>, faults: &Arc<Faults>) -> Arc<dyn Store> {
        Arc::new(Self { inner: Arc::clone(inner), faults: Arc::clone(faults), witness: None })
    }

    /// The same, and somebody looks on.
    pub fn witnessed(inner: &Arc<dyn Store>, faults: &Arc<Faults>, witness: Arc<dyn Witness>) -> Arc<dyn Store> {
        Arc::new(Self { inner: Arc::clone(inner), faults: Arc::clone(faults), witness: Some(witness) })
    }

    async fn pass<T>(
        &self,
        kind: Kind,
        name: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
        see: impl Fn(&dyn Witness, Option<&T>),
    ) -> Result<T, StoreError> {
        let decision = self.faults.decide(kind, name).await;
        let witness = self.witness.as_deref();
        if let Some(witness) = witness
            && decision.prevents()
        {
            see(witness, None);
        }
        let work = async {
            let done = work.await;
            if let (Some(witness), Ok(done)) = (witness, &done) {
                see(witness, Some(done));
            }
            done
        };
        let done = self.faults.in_turn(name, self.faults.act(decision, work, unavailable)).await;
        if let Some(witness) = witness
            && decision == Decision::DoAndFail
        {
            see(witness, None);
        }
        done
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { action: "do as it was asked", reason: "database is locked".to_owned() }
}

/// Each call with whether it is an effect, and for some what a witness sees of it.
macro_rules! faulty_store {
    ($($kind:ident $name:ident($($argument:ident: $of:ty),*) -> $answer:ty $(, seen as $see:expr)?;)*) => {
        #[async_trait]
        impl Store for FaultyStore {
            $(async fn $name(&self, $($argument: $of),*) -> Result<$answer, StoreError> {
                let work = self.inner.$name($($argument),*);
                self.pass(Kind::$kind, stringify!($name), work, seen!($($argument),*; $($see)?)).await
            })*
        }
    };
}

macro_rules! seen {
    ($($argument:ident),*;) => { |_, _| () };
    ($($argument:ident),*; $see:expr) => {
        |witness, done| { let see = $see; see(witness, ($($argument,)*), done) }
    };
}

faulty_store! {
    Effect claim_key(key: &str, claim: &Claim) -> Option<Claim>;
    Read key_holder(key: &str) -> Option<Claim>;
    Read rollout(id: RolloutId) -> Option<Versioned<Rollout>>;
    Effect save_rollout(rollout: &Versioned<Rollout>) -> Saved,
        seen as |witness: &dyn Witness, (rollout,), saved| witness.saved_rollout(rollout, saved);
    Read rollouts(page: &PageRequest) -> Page<Rollout>;
    Read open_rollouts() -> Vec<Versioned<Rollout>>;
    Effect insert_refreshes(refreshes: &[Refresh]) -> usize,
        seen as |witness: &dyn Witness, (refreshes,), inserted| witness.inserted(refreshes, inserted);
    Read refresh(rollout: RolloutId, key: &DeploymentKey) -> Option<Versioned<Refresh>>;
    Effect save_refreshes(refreshes: &[Versioned<Refresh>]) -> Vec<Saved>,
        seen as |witness: &dyn Witness, (refreshes,), saved| witness.saved_refreshes(refreshes, saved);
    Read refreshes(rollout: RolloutId, standings: Option<&[permafresh::rollout::Standing]>, page: &PageRequest) -> Page<Versioned<Refresh>>;
    Read tally(rollout: RolloutId) -> Tally;
    Read due_refreshes(now: Timestamp, at_most: usize) -> Vec<Versioned<Refresh>>;
    Read next_wake() -> Option<Timestamp>;
    Read deployments_by_key(keys: &[DeploymentKey]) -> Vec<Option<Versioned<Deployment>>>;
    Effect save_deployments(deployments: &[Versioned<Deployment>]) -> Vec<Saved>;
    Read deployments(plan: Option<&Plan>, page: &PageRequest) -> Page<Versioned<Deployment>>;
    Read deployments_after(plan: &Plan, after: Option<&DeploymentKey>, at_most: usize) -> Vec<Deployment>;
    Read count_deployments(plan: &Plan) -> u64;
    Read due_checks(now: Timestamp, at_most: usize) -> Vec<Versioned<Deployment>>;
    Effect record_past(key: &DeploymentKey, past: &PastRefresh) -> (),
        seen as |witness: &dyn Witness, (key, _), noted: Option<&()>| if noted.is_none() { witness.not_noted(key) };
    Read forget_gone(before: Timestamp) -> usize;
    Effect remove_deployment(deployment: &Versioned<Deployment>) -> Saved;
    Read document(collection: &'static str, name: &DocumentName) -> Option<Versioned<Value>>;
    Effect save_document(collection: &'static str, name: &DocumentName, document: &Versioned<Value>) -> Saved;
    Effect remove_document(collection: &'static str, name: &DocumentName, etag: &ETag) -> Saved;
    Read documents(collection: &'static str, prefix: &str, page: &PageRequest) -> Page<(DocumentName, Versioned<Value>)>;
    Read long_ended_rollouts(before: Timestamp, at_most: usize) -> Vec<Versioned<Rollout>>;
    Effect remove_refreshes(rollout: RolloutId, at_most: usize) -> usize;
    Effect remove_rollout(rollout: &Versioned<Rollout>) -> Saved;
    Read forget_facts(claims: Timestamp, throttles: Timestamp, at_most: usize) -> usize;
    Read throttled_until(subscription: &str) -> Option<Timestamp>;
    Effect throttle(subscription: &str, until: Timestamp) -> (),
        seen as |witness: &dyn Witness, (subscription, _), noted: Option<&()>| if noted.is_none() { witness.not_told(subscription) };
}
