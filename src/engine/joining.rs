//! Late joiners: notes deployments that have become ready, and gives them the wanted version as one more refresh of the
//! rollout that brought it. What is to become of each is the domain's to say ([`crate::rollout::joining`]).

use std::collections::HashMap;

use tracing::info;

use super::{Engine, EngineError};
use crate::rollout::joining::{Hosting, Joiner, Joining};
use crate::rollout::{Audience, Event, Plan, Refresh, Rollout, RolloutId, counted};
use crate::store::document::{self, Document};
use crate::store::{PageRequest, Versioned};

/// How many late joiners are looked at in one go.
const PAGE: usize = 1_000;

/// Found by its deployment.
impl Document for Joiner {
    const COLLECTION: &'static str = "joiner";
    fn name(&self) -> String {
        self.key.to_string()
    }
}

impl Engine {
    /// Notes late joiners, before their deployments are stored as ready, so that none is lost in between. Nothing is noted
    /// where no rollout could have passed them by.
    pub(super) async fn expect_joiners(&self, joiners: impl IntoIterator<Item = Joiner>) -> Result<(), EngineError> {
        let mut matters: HashMap<Plan, bool> = HashMap::new();
        for joiner in joiners {
            let is_passed_by = match matters.get(&joiner.plan) {
                Some(known) => *known,
                None => {
                    let hosting = self.hosting(&joiner.plan).await?;
                    let is_passed_by = hosting.is_contested || hosting.host.is_some();
                    matters.insert(joiner.plan.clone(), is_passed_by);
                    is_passed_by
                }
            };
            if is_passed_by {
                self.expect_joiner(joiner).await?;
            }
        }
        Ok(())
    }

    async fn expect_joiner(&self, joiner: Joiner) -> Result<(), EngineError> {
        for _ in 0..super::RACES {
            let known: Option<Versioned<Joiner>> = document::get(self.store(), &joiner.name()).await?;
            if known.as_ref().is_some_and(|known| known.value.at >= joiner.at && known.value.plan == joiner.plan) {
                return Ok(());
            }
            let noted = known.map_or_else(|| Versioned::new(joiner.clone()), |known| known.with(joiner.clone()));
            if document::save(self.store(), &noted).await?.is_stored() {
                return Ok(());
            }
        }
        Err(EngineError::Contended { what: format!("the late joiner {}", joiner.key) })
    }

    /// Notes that a deployment joins at this time, whatever was noted before: its hold ends then.
    pub(super) async fn set_joiner(&self, joiner: Joiner) -> Result<(), EngineError> {
        for _ in 0..super::RACES {
            let known: Option<Versioned<Joiner>> = document::get(self.store(), &joiner.name()).await?;
            let noted = known.map_or_else(|| Versioned::new(joiner.clone()), |known| known.with(joiner.clone()));
            if document::save(self.store(), &noted).await?.is_stored() {
                return Ok(());
            }
        }
        Err(EngineError::Contended { what: format!("the late joiner {}", joiner.key) })
    }

    /// Looks at every late joiner whose time has come.
    pub(super) async fn look_after_joiners(&self) -> Result<(), EngineError> {
        let now = self.now();
        let mut plans: HashMap<Plan, Hosting> = HashMap::new();
        let mut request = PageRequest { continuation: None, top: PAGE };
        loop {
            let page = document::page::<Joiner>(self.store(), "", &request).await?;
            let mut by_plan: HashMap<Plan, Vec<Versioned<Joiner>>> = HashMap::new();
            // One whose hold goes on for weeks is not read at every tick.
            for joiner in page.items.into_iter().filter(|joiner| joiner.value.is_due(now)) {
                by_plan.entry(joiner.value.plan.clone()).or_default().push(joiner);
            }
            for (plan, joiners) in by_plan {
                if !plans.contains_key(&plan) {
                    let hosting = self.hosting(&plan).await?;
                    plans.insert(plan.clone(), hosting);
                }
                if let Some(hosting) = plans.get_mut(&plan).filter(|hosting| !hosting.is_closed()) {
                    let joined = self.let_join(hosting, &joiners).await?;
                    hosting.room = hosting.room.saturating_sub(joined);
                }
            }
            match page.next {
                Some(next) => request.continuation = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// What the rollouts of a plan say to its late joiners.
    async fn hosting(&self, plan: &Plan) -> Result<Hosting, EngineError> {
        let host = match self.wanted(plan).await?.value.brought_by {
            Some(id) => self.store.rollout(id).await?.map(|rollout| rollout.value),
            None => None,
        };
        let open = self.store.open_rollouts().await?;
        let is_contested = open.iter().any(|open| {
            let Rollout { id, publish, state, .. } = &open.value;
            let is_for_all = publish.audience == Audience::All && publish.scope.is_empty();
            let goes_on = !state.is_ended() && !open.value.is_parked();
            is_for_all && publish.plan == *plan && goes_on && host.as_ref().is_none_or(|host| host.id != *id)
        });
        Ok(match host {
            Some(host) => {
                let tally = self.store.tally(host.id).await?;
                Hosting::new(Some((host, &tally)), is_contested)
            }
            None => Hosting::new(None, is_contested),
        })
    }

    /// Lets some late joiners in; returns how many.
    async fn let_join(&self, hosting: &Hosting, joiners: &[Versioned<Joiner>]) -> Result<u64, EngineError> {
        let now = self.now();
        let keys: Vec<_> = joiners.iter().map(|joiner| joiner.value.key.clone()).collect();
        let deployments = self.store.deployments_by_key(&keys).await?;
        let (mut joined, mut rejoined) = (Vec::new(), Vec::new());
        for (joiner, deployment) in joiners.iter().zip(deployments) {
            let is_full = (joined.len() + rejoined.len()) as u64 >= hosting.room;
            let deployment = deployment.map(|deployment| deployment.value);
            let refresh = match &hosting.host {
                Some(host) => self.store.refresh(host.id, &joiner.value.key).await?,
                None => None,
            };
            let previews = self.previews(&joiner.value.plan);
            let known = refresh.as_ref().map(|refresh| &refresh.value);
            match (hosting.joining(&joiner.value, deployment.as_ref(), known, previews, now), &hosting.host) {
                (Joining::Forget, _) => {
                    // One that was noted anew meanwhile stays.
                    document::remove(self.store(), joiner).await?;
                }
                (Joining::Join | Joining::Rejoin, _) if is_full => {}
                (Joining::Join, Some(host)) => joined.extend(deployment.map(|deployment| Refresh {
                    version_before: deployment.known_version(),
                    ..Refresh::planned(host.id, deployment.application_id, host.publish.version, host.wave)
                })),
                (Joining::Rejoin, _) => rejoined.extend(refresh),
                (Joining::Wait | Joining::Join, _) => {}
            }
        }
        let Some(host) = hosting.host.as_ref().filter(|_| !joined.is_empty() || !rejoined.is_empty()) else {
            return Ok(0);
        };
        if !joined.is_empty() {
            self.store.insert_refreshes(&joined).await?;
        }
        self.apply_to_all(&rejoined, &Event::Rejoin).await?;
        let (id, count) = (host.id, joined.len() + rejoined.len());
        info!(rollout.id = %id, deployments = count, "Rollout {id} takes in {}, late", counted(count as u64, "deployment"));
        self.go_on_with_joiners(id).await?;
        Ok(count as u64)
    }

    /// Takes a rollout up again that had ended, and fills its free places.
    async fn go_on_with_joiners(&self, id: RolloutId) -> Result<(), EngineError> {
        if let Some(host) = self.store.rollout(id).await? {
            self.reopen(&host.value).await?;
        }
        self.review_rollout(id).await
    }
}
