//! Reads what the pages show besides lists: a bounded number of reads of the store for each, however many deployments there
//! are. Decides nothing and makes no HTML.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;

use super::lists::{EntryKind, ROWS};
use crate::engine::EngineError;
use crate::engine::audit::AuditEntry;
use crate::engine::coverage::Coverage;
use crate::functions::App;
use crate::functions::wire::api::{CommandView, ErrorView, HeldByView, RefreshView, RefreshWord, RolloutView};
use crate::functions::wire::views;
use crate::rollout::course::Sample;
use crate::rollout::{
    Actor, Counts, Deployment, Plan, Refresh, RefreshState, Rollout, RolloutId, RolloutState, Standing, Tally,
    Timestamp, Version, advice,
};
use crate::store::{PageRequest, StoreError};

/// How many failures of one rollout are read to be grouped.
pub const GROUPED: usize = 1_000;
/// How many deployments of a group are named.
const NAMED: usize = 3;
/// How many rollouts the overview tells about besides those under way.
const RECENT: usize = 8;
/// How many rollouts are counted at once.
const COUNTED_AT_ONCE: usize = 10;
/// How long a page waits for a count that is not there yet.
const PATIENCE: Duration = Duration::from_millis(400);
/// A plan, the version that its deployments should have, and how many have it.
pub struct PlanRow {
    /// The plan.
    pub plan: Plan,
    /// The version; none until one was set, or a rollout has passed its canaries.
    pub wanted: Option<Version>,
    /// How many there are, and have it.
    pub spread: Spread,
}

/// How far a plan's wanted version has come.
pub enum Spread {
    /// No version is wanted: only how many deployments there are.
    Registered(u64),
    /// As it was counted last.
    Counted(Coverage),
    /// They are being counted for the first time.
    BeingCounted,
}

/// One wave.
pub struct WaveRow {
    /// Its number, 1-based.
    pub number: u32,
    /// Whether it is the canaries.
    pub is_canary: bool,
    /// How many of its refreshes stand where.
    pub counts: Counts,
    /// How many deployments the strategy wants in it; none for the last, which takes whoever is left.
    pub planned: Option<u64>,
}

/// A rollout as it stands.
pub struct Standings {
    /// As the API has it.
    pub view: RolloutView,
    /// Its waves.
    pub waves: Vec<WaveRow>,
    /// When the next wave begins, where it waits for that.
    pub next_wave_at: Option<Timestamp>,
    /// Whether it waits for somebody to approve the last wave.
    pub asks_approval: bool,
    /// A person's words about it.
    pub note: Option<String>,
    /// Its course so far.
    pub course: Vec<Sample>,
}

/// Failures of one kind.
pub struct Group {
    /// Who has to act.
    pub actor: Actor,
    /// Whether the customer has the command, and it is their turn.
    pub is_handed_over: bool,
    /// The error's code.
    pub code: String,
    /// The message of one of them.
    pub message: String,
    /// How many deployments.
    pub count: usize,
    /// Some of them.
    pub named: Vec<RefreshView>,
}

/// Who has to act on what.
pub struct Failures {
    /// By actor and code.
    pub groups: Vec<Group>,
    /// How many more there are that were not looked at.
    pub unseen: u64,
}

/// The front page.
pub struct Overview {
    /// What keeps every rollout from posting.
    pub held_by: Vec<HeldByView>,
    /// Every plan that is known.
    pub plans: Vec<PlanRow>,
    /// Rollouts that have not ended, each with what failed.
    pub open: Vec<(Standings, Failures)>,
    /// The last rollout of each plan that has ended, where something of it waits for somebody.
    pub left: Vec<(RolloutView, Failures)>,
    /// The last rollouts.
    pub recent: Vec<RolloutView>,
    /// How many messages died of late.
    pub dead_letters: usize,
}

/// The front page.
pub async fn overview(app: &Arc<App>) -> Result<Overview, EngineError> {
    let store = app.engine.store();
    let recent = store.rollouts(&PageRequest { continuation: None, top: RECENT }).await?.items;
    let mut open = Vec::new();
    for rollout in store.open_rollouts().await?.into_iter().rev() {
        if !rollout.value.state.is_ended() {
            let standings = standings(app, &rollout.value).await?;
            let failures = failures(app, &standings.view).await?;
            open.push((standings, failures));
        }
    }
    let views = recent_views(app, &recent, &open).await?;
    let mut left: Vec<(RolloutView, Failures)> = Vec::new();
    let mut seen: Vec<Plan> = open.iter().map(|(standings, _)| plan_of(&standings.view)).collect();
    for view in &views {
        if !seen.contains(&plan_of(view)) {
            seen.push(plan_of(view));
            let failures = failures(app, view).await?;
            if !failures.groups.is_empty() {
                left.push((view.clone(), failures));
            }
        }
    }
    let mut plans: BTreeMap<Plan, Option<Version>> = seen.into_iter().map(|plan| (plan, None)).collect();
    for wanted in app.engine.wanted_versions().await? {
        plans.insert(wanted.plan, wanted.version);
    }
    let mut rows = Vec::new();
    for (plan, wanted) in plans {
        let spread = match wanted {
            Some(version) => coverage(app, &plan, version).await?.map_or(Spread::BeingCounted, Spread::Counted),
            None => Spread::Registered(store.count_deployments(&plan).await?),
        };
        rows.push(PlanRow { plan, wanted, spread });
    }
    let held_by = app.engine.held_by().await?.into_iter().map(views::held_by).collect();
    let dead_letters = dead_letters(app).await?;
    Ok(Overview { held_by, plans: rows, open, left, recent: views, dead_letters })
}

/// The last rollouts with their counts: those under way as they were counted already, so that a page never has two figures.
async fn recent_views(
    app: &App,
    recent: &[Rollout],
    open: &[(Standings, Failures)],
) -> Result<Vec<RolloutView>, StoreError> {
    let known = |id: RolloutId| open.iter().map(|(standings, _)| &standings.view).find(|view| view.id == id);
    let uncounted: Vec<_> = recent.iter().filter(|rollout| known(rollout.id).is_none()).cloned().collect();
    let mut counted = counted(app, &uncounted).await?.into_iter();
    Ok(recent.iter().filter_map(|rollout| known(rollout.id).cloned().or_else(|| counted.next())).collect())
}

fn plan_of(view: &RolloutView) -> Plan {
    Plan { publisher: view.publisher.clone(), offer: view.offer.clone(), plan: view.plan.clone() }
}

/// How many deployments have a version: as it was counted last, while that is worth something. Counting goes on behind the
/// page where it takes long, once in this process however many look.
async fn coverage(app: &Arc<App>, plan: &Plan, version: Version) -> Result<Option<Coverage>, EngineError> {
    let known = app.engine.coverage(plan, version).await?;
    if known.as_ref().is_some_and(|known| known.good_until > app.engine.now()) {
        return Ok(known);
    }
    let Some(turn) = Turn::take(app, plan) else { return Ok(known) };
    let counting = tokio::spawn({
        let (app, plan) = (Arc::clone(app), plan.clone());
        async move {
            let _turn = turn;
            app.engine.count_coverage(&plan, version).await
        }
    });
    match tokio::time::timeout(PATIENCE, counting).await {
        Ok(Ok(counted)) => counted.map(Some),
        _ => Ok(known),
    }
}

/// The turn to count a plan, which ends when this is dropped.
struct Turn {
    app: Arc<App>,
    plan: Plan,
}

impl Turn {
    /// None while somebody else has it.
    fn take(app: &Arc<App>, plan: &Plan) -> Option<Self> {
        let mut counting = app.dashboard.counting.lock().unwrap_or_else(PoisonError::into_inner);
        counting.insert(plan.clone()).then(|| Self { app: Arc::clone(app), plan: plan.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.app.dashboard.counting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.plan);
    }
}

/// Rollouts with their counts, some of them counted at once: each takes several requests to a store in Azure.
pub async fn counted(app: &App, rollouts: &[Rollout]) -> Result<Vec<RolloutView>, StoreError> {
    let store = app.engine.store();
    let mut views = Vec::with_capacity(rollouts.len());
    for some in rollouts.chunks(COUNTED_AT_ONCE) {
        let count = async |rollout: &Rollout| {
            let tally = store.tally(rollout.id).await?;
            Ok::<_, StoreError>(views::rollout(rollout, &tally))
        };
        views.extend(try_join_all(some.iter().map(count)).await?);
    }
    Ok(views)
}

/// One rollout as the API shows it; none if there is none.
pub async fn rollout(app: &App, id: RolloutId) -> Result<Option<Standings>, EngineError> {
    let Some(rollout) = app.engine.store().rollout(id).await? else { return Ok(None) };
    let mut standings = standings(app, &rollout.value).await?;
    standings.view.changes = app.engine.changes(id).await?.map(|changes| Box::new(changes.value));
    if !rollout.value.state.is_ended() {
        standings.view.held_by = app.engine.held_by().await?.into_iter().map(views::held_by).collect();
    }
    Ok(Some(standings))
}

async fn standings(app: &App, rollout: &Rollout) -> Result<Standings, EngineError> {
    let tally = app.engine.store().tally(rollout.id).await?;
    let mut course = app.engine.course(rollout.id).await?.samples;
    let now = Sample::of(rollout.ended_at.unwrap_or_else(|| app.engine.now()), &tally.counts());
    if course.last().is_none_or(|last| last.at < now.at || Sample { at: now.at, ..*last } != now) {
        course.push(now);
    }
    Ok(Standings {
        view: views::rollout(rollout, &tally),
        waves: waves(rollout, &tally),
        next_wave_at: rollout.next_wave_at.filter(|_| rollout.state == RolloutState::Running),
        asks_approval: rollout.waits_for_approval(),
        note: rollout.publish.note.clone(),
        course,
    })
}

fn waves(rollout: &Rollout, tally: &Tally) -> Vec<WaveRow> {
    let ends = rollout.publish.strategy.wave_ends(rollout.walk.whole);
    let planned = |wave: usize| {
        let before = if wave == 0 { 0 } else { ends.get(wave - 1).copied().unwrap_or_default() };
        ends.get(wave).filter(|_| wave + 1 < ends.len()).map(|end| end.saturating_sub(before))
    };
    let row = |number: u32| {
        let mut of_wave = Tally::default();
        for standing in Standing::ALL {
            of_wave.add(number, standing, tally.count_in(number, |one| one == standing));
        }
        WaveRow {
            number,
            is_canary: number == 1 && rollout.publish.strategy.has_canaries(),
            counts: of_wave.counts(),
            planned: planned(usize::try_from(number).unwrap_or(usize::MAX) - 1),
        }
    };
    (1..=rollout.waves()).map(row).collect()
}

/// Who has to act on what in a rollout, by the first of its failures.
pub async fn failures(app: &App, view: &RolloutView) -> Result<Failures, EngineError> {
    let waiting = view.counts.failed + view.counts.timed_out + view.counts.handed_over;
    if waiting == 0 {
        return Ok(Failures { groups: Vec::new(), unseen: 0 });
    }
    let page = PageRequest { continuation: None, top: GROUPED };
    let page = app.engine.store().refreshes(view.id, Some(&Standing::NEEDS_SOMEBODY), &page).await?;
    let seen = u64::try_from(page.items.len()).unwrap_or(u64::MAX);
    let mut groups: BTreeMap<(usize, bool, String), Group> = BTreeMap::new();
    for refresh in &page.items {
        let refresh = views::refresh(&refresh.value);
        let ErrorView { actor, code, message } = blame(&refresh);
        let is_handed_over = refresh.state == RefreshWord::HandedOver;
        let rank = advice::ORDER.iter().position(|known| *known == actor).unwrap_or(advice::ORDER.len());
        let group = groups.entry((rank, !is_handed_over, code.to_lowercase())).or_insert_with(|| Group {
            actor,
            is_handed_over,
            code,
            message,
            count: 0,
            named: Vec::new(),
        });
        group.count += 1;
        if group.named.len() < NAMED {
            group.named.push(refresh);
        }
    }
    Ok(Failures { groups: groups.into_values().collect(), unseen: waiting.saturating_sub(seen) })
}

/// Who has to act, and on what; a failure of which nothing was said is for us to look at.
fn blame(refresh: &RefreshView) -> ErrorView {
    refresh.error.clone().unwrap_or_else(|| ErrorView {
        actor: Actor::Publisher,
        code: "Unknown".to_owned(),
        message: "Nothing was said about why.".to_owned(),
    })
}

/// How many messages died in the last day, as far as the newest entries of the audit list tell.
async fn dead_letters(app: &App) -> Result<usize, StoreError> {
    let since = app.engine.now() - Duration::from_secs(24 * 60 * 60);
    let newest = app.engine.audit(&PageRequest { continuation: None, top: ROWS }).await?;
    let is_recent = |entry: &&AuditEntry| entry.at >= since && EntryKind::DeadLetters.is_of(entry);
    Ok(newest.items.iter().filter(is_recent).count())
}

/// A refresh of one deployment.
pub struct Current {
    /// The rollout that it belongs to; not counted.
    pub rollout: RolloutView,
    /// The refresh.
    pub refresh: RefreshView,
    /// The command that does the same by hand, where it failed.
    pub by_hand: Option<CommandView>,
}

/// What a deployment is going through now; else what somebody has to act on since its latest refresh.
pub async fn under_way(app: &App, deployment: &Deployment) -> Result<Vec<Current>, EngineError> {
    let store = app.engine.store();
    let mut found = Vec::new();
    let views = |rollout: &Rollout, refresh: &Refresh| Current {
        rollout: views::rollout(rollout, &Tally::default()),
        refresh: views::refresh(refresh),
        by_hand: matches!(refresh.state, RefreshState::Failed { .. } | RefreshState::TimedOut { .. })
            .then(|| views::by_hand(app.engine.by_hand(refresh))),
    };
    for rollout in store.open_rollouts().await? {
        if let Some(refresh) = store.refresh(rollout.value.id, &deployment.key).await? {
            found.push(views(&rollout.value, &refresh.value));
        }
    }
    if found.is_empty()
        && let Some((rollout, refresh)) = app.engine.latest_refresh(deployment).await?
        && Standing::NEEDS_SOMEBODY.contains(&Standing::of(&refresh))
    {
        found.push(views(&rollout, &refresh));
    }
    Ok(found)
}
