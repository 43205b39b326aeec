//! WatchOffers: asks Partner Center what was published, keeps what each version lets whom do, and raises the same offer publish
//! as a post would, once.
//!
//! In this order: the version's snapshot, then that its publish is to be raised, then the rollout, then that it was raised. A
//! process that dies in between goes on there; two at once meet in the guards of the records and in the publish's content key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{info, warn};

use super::publish::{Identity, PublishError};
use super::{Engine, EngineError, OfferConfig};
use crate::partner_center::{PartnerCenter, Trouble, TroubleKind};
use crate::rollout::publish::Supersede;
use crate::rollout::submission::{Standing, States};
use crate::rollout::watch::{FirstSight, OfferWatch, Outcome, PlanWatch, Seen, ShownSubmission, Sighting, Snapshot};
use crate::rollout::{Audience, OfferPublish, Plan, Purpose, Submission, Target, Version};
use crate::store::{StoreError, Versioned, document, published};

/// How long one run may take before it leaves the rest to the next: below the deadline of an invocation.
const RUN: Duration = Duration::from_secs(2 * 60);
/// How many packages of older submissions are read in one look at a plan; the next look goes on.
const OLDER_PACKAGES: usize = 20;
/// How many published submissions of a plan are looked at, the newest: what is remembered of them is one small record.
const MOST_PACKAGES: usize = 1_000;

/// What watching takes.
pub struct Watch {
    /// Whom to ask; none where the settings name no application for it.
    pub partner_center: Option<PartnerCenter>,
    /// What Partner Center's states mean (`PARTNER_CENTER_STATES`).
    pub states: States,
    /// The offers whose first sight starts rollouts (`rolloutOnFirstSight`): publisher and offer.
    pub rollout_on_first_sight: Vec<(String, String)>,
    said_idle: AtomicBool,
}

impl Watch {
    /// Watching with these parts.
    pub fn new(partner_center: Option<PartnerCenter>, states: States) -> Self {
        Self { partner_center, states, rollout_on_first_sight: Vec::new(), said_idle: AtomicBool::new(false) }
    }
}

/// Why a look at an offer ended early.
enum Stopped {
    Trouble(Trouble),
    Engine(EngineError),
}

impl From<Trouble> for Stopped {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Engine(error.into())
    }
}

/// What one look has shown of a plan.
#[derive(Default)]
struct Shown {
    /// The newest publish of each target.
    sightings: Vec<Sighting>,
    /// The package instances that were read.
    read: BTreeMap<String, Version>,
    /// Those that are listed, read now or before.
    listed: BTreeSet<String>,
}

/// What one look has shown.
struct Look {
    submissions: Vec<(Submission, Standing)>,
    plans: Vec<(Plan, Shown)>,
    /// Plans of the settings that Partner Center does not have, or that could not be read.
    odd: Vec<String>,
}

impl Engine {
    /// One run of the timer: raises what is due, looks at the offers that are due, and raises what that shows. Partner
    /// Center's troubles are noted and logged, and are no failure of the run.
    pub async fn watch_offers(&self) -> Result<(), EngineError> {
        let Some(watch) = &self.watch else { return Ok(()) };
        let Some(partner_center) = &watch.partner_center else {
            self.say_idle(
                watch,
                "PARTNER_CENTER_TENANT_ID, _CLIENT_ID and _CLIENT_SECRET (or _CLIENT_CERTIFICATE) are not set",
            );
            return Ok(());
        };
        if self.config.offers.is_empty() {
            self.say_idle(watch, "OFFERS is empty");
            return Ok(());
        }
        let end = self.now() + RUN;
        let mut result = Ok(());
        let mut offers = Vec::new();
        for offer in &self.config.offers {
            let name = published::offer_name(&offer.publisher, &offer.offer);
            let known = document::get::<OfferWatch>(self.store(), &name).await?;
            let known = known.unwrap_or_else(|| Versioned::new(OfferWatch::new(&offer.publisher, &offer.offer)));
            offers.push((offer, known));
        }
        // Those that were left out the last time come first; one that fails, and slowly, does not.
        offers.sort_by_key(|(_, known)| known.value.tried_at);
        for (offer, known) in offers {
            if self.now() >= end {
                warn!("Partner Center is slow: the other offers are looked at in the next run");
                break;
            }
            // One offer that fails holds back no other.
            result = result.and(self.watch_offer(watch, partner_center, offer, known).await);
        }
        result
    }

    fn say_idle(&self, watch: &Watch, why: &str) {
        if !watch.said_idle.swap(true, Ordering::Relaxed) {
            info!("Offers are not watched: {why}");
        }
    }

    async fn watch_offer(
        &self,
        watch: &Watch,
        partner_center: &PartnerCenter,
        offer: &OfferConfig,
        mut known: Versioned<OfferWatch>,
    ) -> Result<(), EngineError> {
        let name = published::offer_name(&offer.publisher, &offer.offer);
        for plan in plans(offer) {
            // What an earlier run saw and could not raise, whether or not Partner Center answers now.
            self.raise_due(&plan).await?;
        }
        if !known.value.is_due(self.now()) {
            return Ok(());
        }
        match self.look_at_offer(watch, partner_center, offer).await {
            Ok(look) => {
                for (plan, shown) in &look.plans {
                    self.note_shown(watch, offer, plan, shown).await?;
                    self.raise_due(plan).await?;
                    self.report_wider(plan).await?;
                }
                log_moves(&name, &known.value, &look.submissions);
                let odd = look.odd.join("; ");
                let before = known.value.trouble.clone();
                known.value.note_look(look.submissions, self.now());
                if !odd.is_empty() {
                    if known.value.note_odd(before.as_ref(), odd.clone(), self.now()) {
                        warn!(offer = %name, "Not all of {name} can be watched: {odd}");
                    }
                } else if let Some(before) = before {
                    info!(offer = %name, "{name} is watched again, after trouble since {}", before.since);
                }
            }
            Err(Stopped::Trouble(trouble)) => {
                let what = trouble.to_string();
                if known.value.note_trouble(trouble.kind.word(), what, trouble.wait, self.now()) {
                    warn!(offer = %name, trouble.kind = trouble.kind.word(), "{name} cannot be watched: {trouble}");
                }
            }
            Err(Stopped::Engine(error)) => return Err(error),
        }
        // If another instance was quicker, its look is as good as this one.
        document::save(self.store(), &known).await?;
        Ok(())
    }

    /// Reads one offer, and keeps the snapshots of the versions that it shows.
    async fn look_at_offer(
        &self,
        watch: &Watch,
        partner_center: &PartnerCenter,
        offer: &OfferConfig,
    ) -> Result<Look, Stopped> {
        let mut look = Look { submissions: Vec::new(), plans: Vec::new(), odd: Vec::new() };
        let Some(product) = partner_center.product(&offer.offer).await? else {
            look.odd.push(format!("Partner Center has no Azure application with the offer id {}", offer.offer));
            return Ok(look);
        };
        let variants = partner_center.variants(&product).await?;
        let submissions = partner_center.submissions(&product).await?;
        look.submissions = submissions
            .into_iter()
            .map(|submission| {
                let standing = watch.states.standing(&submission);
                (submission, standing)
            })
            .collect();
        look.submissions.sort_by_key(|(submission, _)| std::cmp::Reverse(submission.age()));
        for plan in plans(offer) {
            let Some(variant) = variants.iter().find(|variant| variant.plan == plan.plan) else {
                look.odd.push(format!("Partner Center has no managed-application plan {}", plan.plan));
                continue;
            };
            match self.look_at_plan(partner_center, &product, &plan, &variant.id, &look.submissions).await {
                Ok(shown) => look.plans.push((plan, shown)),
                // One package that cannot be read holds back no other plan.
                Err(Stopped::Trouble(trouble))
                    if matches!(trouble.kind, TroubleKind::Unreadable { .. } | TroubleKind::NotFound) =>
                {
                    look.odd.push(format!("plan {}: {}; {}", plan.plan, trouble.kind, trouble.kind.remedy()));
                }
                Err(stopped) => return Err(stopped),
            }
        }
        Ok(look)
    }

    /// The newest publish of each target, and the snapshots of all published versions as far as they are not known yet.
    async fn look_at_plan(
        &self,
        partner_center: &PartnerCenter,
        product: &str,
        plan: &Plan,
        variant: &str,
        submissions: &[(Submission, Standing)],
    ) -> Result<Shown, Stopped> {
        let known = document::get::<PlanWatch>(self.store(), &plan.to_string()).await?;
        let known = known.map(|known| known.value.instances).unwrap_or_default();
        let Shown { mut sightings, mut read, mut listed } = Shown::default();
        for (submission, standing) in submissions {
            let (Standing::Reached(target), Some(instance)) = (standing, submission.package(variant)) else { continue };
            let is_newest = sightings.iter().all(|sighting| sighting.target != *target);
            if !is_newest && listed.len() >= MOST_PACKAGES {
                continue;
            }
            listed.insert(instance.to_owned());
            let version = match known.get(instance).or_else(|| read.get(instance)) {
                Some(version) => *version,
                None if !is_newest && read.len() >= OLDER_PACKAGES => continue,
                None => match partner_center.package(product, instance).await {
                    Ok(found) => {
                        let snapshot = Snapshot {
                            plan: plan.clone(),
                            version: found.version,
                            package: found.package,
                            instance_id: instance.to_owned(),
                            read_at: self.now(),
                            is_restated: false,
                        };
                        self.keep(&snapshot).await?;
                        read.insert(instance.to_owned(), found.version);
                        found.version
                    }
                    Err(trouble) if is_newest => return Err(trouble.into()),
                    // Whether superseded instances can be read is not documented (contracts/offer-publish.md §10.4).
                    Err(_) => continue,
                },
            };
            if is_newest {
                let (submission_id, published_at) = (submission.id.clone(), submission.published_at);
                sightings.push(Sighting { target: *target, version, submission_id, published_at });
            }
        }
        Ok(Shown { sightings, read, listed })
    }

    /// Keeps a snapshot; the same version with other permissions is marked as doubtful.
    async fn keep(&self, snapshot: &Snapshot) -> Result<(), Stopped> {
        for _ in 0..super::RACES {
            let next = match published::snapshot(self.store(), &snapshot.plan, snapshot.version).await? {
                None => {
                    let etag = published::snapshot_to_replace(self.store(), &snapshot.plan, snapshot.version).await?;
                    Versioned { value: snapshot.clone(), etag }
                }
                Some(mut known) => {
                    if !known.value.restate(snapshot) {
                        return Ok(());
                    }
                    warn!(
                        plan = %snapshot.plan, version = %snapshot.version,
                        "Version {} of {} was published with two different sets of permissions", snapshot.version, snapshot.plan
                    );
                    known
                }
            };
            if document::save(self.store(), &next).await?.is_stored() {
                return Ok(());
            }
        }
        let what = format!("the snapshot of {} {}", snapshot.plan, snapshot.version);
        Err(Stopped::Engine(EngineError::Contended { what }))
    }

    async fn note_shown(
        &self,
        watch: &Watch,
        offer: &OfferConfig,
        plan: &Plan,
        shown: &Shown,
    ) -> Result<(), EngineError> {
        let eager = watch
            .rollout_on_first_sight
            .iter()
            .any(|(publisher, name)| *publisher == offer.publisher && *name == offer.offer);
        let first = if eager { FirstSight::Rollout } else { FirstSight::Baseline };
        let now = self.now();
        self.change_plan_watch(plan, |watch, is_first| {
            let is_news = watch.note(&shown.sightings, is_first.then_some(first), now);
            let is_other = watch.note_instances(&shown.listed, &shown.read);
            is_first || is_news || is_other
        })
        .await
    }

    /// Raises what is due of a plan.
    async fn raise_due(&self, plan: &Plan) -> Result<(), EngineError> {
        let Some(known) = document::get::<PlanWatch>(self.store(), &plan.to_string()).await? else { return Ok(()) };
        for (target, seen) in known.value.due() {
            let outcome = self.raise(plan, target, &seen).await?;
            self.change_plan_watch(plan, |watch, _| watch.settle(target, seen.version, outcome.clone())).await?;
        }
        Ok(())
    }

    async fn raise(&self, plan: &Plan, target: Target, seen: &Seen) -> Result<Outcome, EngineError> {
        let publish = OfferPublish {
            strategy: self.default_strategy(plan),
            plan: plan.clone(),
            version: seen.version,
            target,
            audience: match target {
                Target::Preview => Audience::Preview,
                Target::Live => Audience::All,
            },
            purpose: Purpose::RollOut,
            submission_id: Some(seen.submission_id.clone()),
            published_at: seen.published_at,
            scope: Vec::new(),
            supersede: Supersede::Wait,
            note: Some("seen in Partner Center".to_owned()),
            // Those of the snapshot.
            actions: None,
        };
        match self.start_rollout(publish, &Identity::Content).await {
            Ok(started) => {
                let (id, version) = (started.rollout_id, seen.version);
                info!(
                    rollout.id = %id, plan = %plan, version = %version,
                    "Version {version} of {plan} has reached {} in Partner Center: rollout {id}", word(target)
                );
                Ok(Outcome::Raised { rollout_id: id })
            }
            Err(PublishError::Engine(error)) => Err(error),
            Err(refused @ (PublishError::OnItsWay { .. } | PublishError::Lower { .. })) => {
                warn!(plan = %plan, version = %seen.version, "What was seen in Partner Center starts nothing: {refused}");
                Ok(Outcome::Refused { why: refused.to_string() })
            }
        }
    }

    /// Warns of versions that are wider than the wanted one, when that has changed.
    async fn report_wider(&self, plan: &Plan) -> Result<(), EngineError> {
        let known = self.known_plan(plan).await?;
        if !known.unreadable.is_empty() {
            warn!(
                plan = %plan,
                "What is recorded of some versions of {plan} cannot be read, so whether they allow more than the wanted one cannot be told: {}",
                known.unreadable.join(", ")
            );
        }
        let wider = known.wider.unwrap_or_default();
        let versions: Vec<_> = wider.iter().map(|(version, _)| *version).collect();
        let mut is_news = false;
        self.change_plan_watch(plan, |watch, _| {
            is_news = watch.wider != versions;
            watch.wider.clone_from(&versions);
            is_news
        })
        .await?;
        if is_news && !versions.is_empty() {
            let list: Vec<_> = versions.iter().map(ToString::to_string).collect();
            warn!(
                plan = %plan,
                "Published versions of {plan} allow more than the wanted one, and any customer may set itself to them: {}",
                list.join(", ")
            );
        }
        Ok(())
    }

    /// Changes what was seen of a plan under its guard; `change` is told whether it is the first time and answers whether
    /// anything has to be written.
    async fn change_plan_watch<F>(&self, plan: &Plan, mut change: F) -> Result<(), EngineError>
    where
        F: FnMut(&mut PlanWatch, bool) -> bool + Send,
    {
        for _ in 0..super::RACES {
            let known = document::get::<PlanWatch>(self.store(), &plan.to_string()).await?;
            let is_first = known.is_none();
            let mut known = known.unwrap_or_else(|| Versioned::new(PlanWatch::new(plan.clone(), self.now())));
            if !change(&mut known.value, is_first) || document::save(self.store(), &known).await?.is_stored() {
                return Ok(());
            }
        }
        Err(EngineError::Contended { what: format!("what was seen of {plan}") })
    }
}

pub(super) fn plans(offer: &OfferConfig) -> impl Iterator<Item = Plan> + '_ {
    offer.plans.iter().map(|(plan, _)| Plan {
        publisher: offer.publisher.clone(),
        offer: offer.offer.clone(),
        plan: plan.clone(),
    })
}

/// Says in Partner Center's own words what has moved since the last look.
fn log_moves(name: &str, before: &OfferWatch, now: &[(Submission, Standing)]) {
    for (Submission { id, state, substate, scopes, .. }, standing) in now.iter().take(before.submissions.len() + 5) {
        let is_known = |known: &ShownSubmission| (&known.id, &known.state, &known.substate) == (id, state, substate);
        if !before.submissions.iter().any(is_known) {
            let targets = scopes.join(", ");
            info!(offer = %name, submission.id = %id, "Submission {id} of {name} ({targets}) is {state}/{substate}: {standing:?}");
        }
    }
}

fn word(target: Target) -> &'static str {
    match target {
        Target::Preview => "sign-off",
        Target::Live => "the Marketplace",
    }
}
