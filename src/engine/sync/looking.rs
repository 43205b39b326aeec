//! One share of the subscriptions: what Azure Resource Graph, ARM's lists and managed resource groups show in them, and what
//! the registry makes of it.

use std::collections::{BTreeMap, HashSet};

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::{Share, Stage, SyncRun, Unit, said, share_name};
use crate::arm::inventory::Rows;
use crate::arm::{Application, ListEnd};
use crate::engine::{Engine, EngineError, RACES};
use crate::rollout::sighting::{Sighting, Source};
use crate::rollout::{ApplicationId, DeploymentKey, Plan, Timestamp};
use crate::store::document::{self, Document};
use crate::store::{PageRequest, Versioned};

/// How many deployments are met with the registry at once.
const BATCH: usize = 1_000;
/// How many keys one record of what was found holds: a row of Table Storage is 1 MiB.
const KEYS: usize = 20_000;

/// The keys of deployments that were found, cut to 16 digits: enough to know them by, and to keep 100,000 in little memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Found {
    name: String,
    pub(super) keys: Vec<String>,
}

impl Document for Found {
    const COLLECTION: &'static str = "sync-found";
    fn name(&self) -> String {
        self.name.clone()
    }
}

/// What a share showed.
#[derive(Default)]
struct Seen {
    /// The best sighting of each.
    sightings: BTreeMap<DeploymentKey, Sighting>,
    /// The subscriptions that some source has read to its end.
    covered: HashSet<String>,
    problems: Vec<String>,
}

impl Seen {
    /// ARM's list tells more than Resource Graph, and that more than a group.
    fn take(&mut self, sighting: Sighting) {
        let rank = |sighting: &Sighting| match sighting.source {
            Source::List => 2,
            Source::Graph => 1,
            Source::Group => 0,
        };
        let key = sighting.application_id.key();
        match self.sightings.get_mut(&key) {
            Some(known) if rank(known) >= rank(&sighting) => {
                if known.tenant_id.is_none() {
                    known.tenant_id = sighting.tenant_id;
                }
            }
            Some(known) => *known = Sighting { tenant_id: sighting.tenant_id.or(known.tenant_id.take()), ..sighting },
            None => _ = self.sightings.insert(key, sighting),
        }
    }

    fn take_rows(&mut self, rows: Rows, source: Source, at: Timestamp) {
        for row in rows.rows {
            let mut sighting = match row.application {
                Some(application) => told(row.id, &application, source, at),
                None => Sighting::bare(row.id, source, at),
            };
            sighting.tenant_id = row.tenant_id;
            if row.managed_resource_group_id.is_some() {
                sighting.managed_resource_group_id = row.managed_resource_group_id;
            }
            self.take(sighting);
        }
    }
}

fn told(id: ApplicationId, application: &Application, source: Source, at: Timestamp) -> Sighting {
    let plan = application.plan.as_ref();
    let parsed = plan.and_then(|plan| Plan::parse(&plan.publisher, &plan.product, &plan.name).ok());
    Sighting {
        plan: parsed,
        version: plan.and_then(|plan| plan.version.clone()),
        kind: application.kind.clone(),
        location: application.location.clone(),
        managed_resource_group_id: application.properties.managed_resource_group_id.clone(),
        provisioning_state: application.properties.provisioning_state.clone(),
        ..Sighting::bare(id, source, at)
    }
}

impl Engine {
    /// Reads one share, tells the registry, and stores what was found.
    pub(super) async fn look_at_a_share(&self, run: &mut SyncRun, number: u32) -> Result<Unit, EngineError> {
        let share = document::get::<Share>(&*self.store, &share_name(&run.id, number)).await?;
        let Some(mut share) = share else {
            run.enter(Stage::Comparing { continuation: None });
            return Ok(Unit::Done);
        };
        let mut seen = Seen::default();
        if let Some(wait) = self.ask_the_graph(run, &share.value, &mut seen).await {
            return Ok(Unit::Wait(wait));
        }
        self.ask_each_subscription(&share.value, &mut seen).await;
        share.value.unread.retain(|id| !seen.covered.contains(id));
        let tenants: BTreeMap<&str, &String> = share
            .value
            .subscriptions
            .iter()
            .filter_map(|entry| Some((entry.id.as_str(), entry.tenant_id.as_ref()?)))
            .collect();
        for sighting in seen.sightings.values_mut().filter(|sighting| sighting.tenant_id.is_none()) {
            sighting.tenant_id = tenants.get(sighting.application_id.subscription()).map(|id| (*id).clone());
        }
        let keys: Vec<&DeploymentKey> = seen.sightings.keys().collect();
        for (part, keys) in keys.chunks(KEYS).enumerate() {
            let name = format!("{}-{part:04}", share.value.name());
            let before = document::get::<Found>(&*self.store, &name).await?;
            let found = Found { name, keys: keys.iter().map(|key| key.as_str()[..16].to_owned()).collect() };
            document::save(&*self.store, &Versioned { value: found, etag: before.and_then(|before| before.etag) })
                .await?;
        }
        document::save(&*self.store, &share).await?;
        let sightings: Vec<Sighting> = seen.sightings.into_values().collect();
        for batch in sightings.chunks(BATCH) {
            self.meet(run, batch).await?;
        }
        for problem in seen.problems {
            run.complain(problem);
        }
        run.counts.found += sightings.len() as u64;
        run.counts.unread_subscriptions += share.value.unread.len() as u64;
        run.enter(Stage::Looking { share: number + 1 });
        Ok(Unit::Done)
    }

    /// Both questions to Resource Graph; how long to wait where it asks for patience.
    async fn ask_the_graph(&self, run: &mut SyncRun, share: &Share, seen: &mut Seen) -> Option<std::time::Duration> {
        let ids: Vec<&str> = share.subscriptions.iter().map(|entry| entry.id.as_str()).collect();
        let mut is_whole = true;
        for source in [Source::Graph, Source::Group] {
            let at = self.now();
            let rows = match source {
                Source::Graph => self.arm.query_applications(&ids).await,
                _ => self.arm.query_managed_groups(&ids).await,
            };
            if rows.end != ListEnd::Complete {
                if let Some(wait) = run.retry(&rows.end) {
                    return Some(wait);
                }
                is_whole = false;
                seen.problems.push(format!("Azure Resource Graph: {}", said(&rows.end)));
            }
            seen.take_rows(rows, source, at);
        }
        if is_whole {
            seen.covered.extend(share.subscriptions.iter().map(|entry| entry.id.clone()));
        }
        None
    }

    /// ARM's own lists, for subscriptions of which Resource Graph shows no application: it may not let us see them.
    async fn ask_each_subscription(&self, share: &Share, seen: &mut Seen) {
        let shown: HashSet<String> = seen
            .sightings
            .values()
            .filter(|sighting| sighting.source == Source::Graph)
            .map(|sighting| sighting.application_id.subscription().to_owned())
            .collect();
        let graph_is_whole = !seen.covered.is_empty();
        let left: Vec<String> = share
            .subscriptions
            .iter()
            .filter(|entry| !graph_is_whole || !shown.contains(&entry.id))
            .map(|entry| entry.id.clone())
            .collect();
        let answers: Vec<_> = stream::iter(left)
            .map(|id| async move {
                let at = self.now();
                let listed = self.arm.list_applications(&id).await;
                // The groups were asked for already where Resource Graph answered.
                let groups = if listed.end == ListEnd::Complete || graph_is_whole {
                    None
                } else {
                    Some(self.arm.list_managed_groups(&id).await)
                };
                (id, at, listed, groups)
            })
            .buffer_unordered(self.config.looks_at_once)
            .collect()
            .await;
        for (id, at, listed, groups) in answers {
            if listed.end == ListEnd::Complete {
                seen.covered.insert(id.clone());
            } else {
                seen.problems.push(format!("the applications of a subscription: {}", said(&listed.end)));
            }
            for application in &listed.applications {
                if let Some(id) = application.application_id() {
                    seen.take(told(id, application, Source::List, at));
                }
            }
            if let Some(groups) = groups {
                if groups.end == ListEnd::Complete {
                    seen.covered.insert(id);
                } else {
                    seen.problems.push(format!("the resource groups of a subscription: {}", said(&groups.end)));
                }
                seen.take_rows(groups, Source::Group, at);
            }
        }
    }

    /// Brings the registry up to what was seen, unless the run only reports.
    async fn meet(&self, run: &mut SyncRun, sightings: &[Sighting]) -> Result<(), EngineError> {
        let mut left: Vec<&Sighting> = sightings.iter().collect();
        for _ in 0..RACES {
            let keys: Vec<DeploymentKey> = left.iter().map(|sighting| sighting.application_id.key()).collect();
            let known = self.store.deployments_by_key(&keys).await?;
            let now = self.now();
            let (mut writes, mut before) = (Vec::new(), BTreeMap::new());
            for (sighting, known) in left.iter().zip(known) {
                if known.is_none() && self.is_foreign(sighting) {
                    run.counts.foreign += 1;
                    continue;
                }
                let met = sighting.meet(known.as_ref().map(|known| &known.value), now);
                if let Some((deployment, discovery)) = met {
                    let etag = known.as_ref().and_then(|known| known.etag.clone());
                    before.extend(known.map(|known| (known.value.key.clone(), known.value)));
                    writes.push((*sighting, Versioned { value: deployment, etag }, discovery));
                }
            }
            if run.is_dry_run {
                writes.into_iter().for_each(|(sighting, _, discovery)| run.note(&sighting.application_id, discovery));
                return Ok(());
            }
            let known_before: Vec<_> =
                writes.iter().map(|(sighting, ..)| before.remove(&sighting.application_id.key())).collect();
            let joiners = writes
                .iter()
                .zip(&known_before)
                .filter_map(|((_, record, _), before)| record.value.joiner_after(before.as_ref(), now));
            self.expect_joiners(joiners.collect::<Vec<_>>()).await?;
            for ((_, record, _), before) in writes.iter().zip(&known_before) {
                if let Some(before) = before {
                    self.recognise_run(before, &record.value).await?;
                }
            }
            let records: Vec<_> = writes.iter().map(|(_, record, _)| record.clone()).collect();
            let saved = self.store.save_deployments(&records).await?;
            left.clear();
            let mut messages = Vec::new();
            for (saved, (sighting, record, discovery)) in saved.iter().zip(writes) {
                if !saved.is_stored() {
                    left.push(sighting);
                    continue;
                }
                let id = &sighting.application_id;
                info!(deployment.key = %record.value.key, discovery = ?discovery, "Sync {} found {id}: {discovery:?}", run.id);
                run.note(id, discovery);
                messages.extend(super::super::registry::check_message(&record.value, now));
            }
            self.send_refresh_messages(&messages).await?;
            if left.is_empty() {
                return Ok(());
            }
        }
        Err(EngineError::Contended { what: "deployments that a sync has found".to_owned() })
    }

    /// Whether a deployment that nobody told us of is none of ours: of another publisher, or bought by nobody.
    fn is_foreign(&self, sighting: &Sighting) -> bool {
        let is_bought = !sighting.kind.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("ServiceCatalog"));
        let offers = &self.config.offers;
        let is_ours = match &sighting.plan {
            Some((plan, _)) => offers.is_empty() || offers.iter().any(|offer| offer.publisher == plan.publisher),
            None => true,
        };
        !(is_bought && is_ours)
    }

    /// Removes what only a run needs.
    pub(super) async fn remove_shares(&self, run: &str) -> Result<(), EngineError> {
        let page = PageRequest { continuation: None, top: 200 };
        loop {
            let shares = document::page::<Share>(&*self.store, run, &page).await?.items;
            let found = document::page::<Found>(&*self.store, run, &page).await?.items;
            if shares.is_empty() && found.is_empty() {
                return Ok(());
            }
            for share in &shares {
                document::remove(&*self.store, share).await?;
            }
            for found in &found {
                document::remove(&*self.store, found).await?;
            }
        }
    }
}
