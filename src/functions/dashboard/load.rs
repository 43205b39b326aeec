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
use crate::functions::wire::api::{HeldByView, RefreshView, RefreshWord, RolloutView};
use crate::functions::wire::views;
use crate::rollout::course::Sample;
use crate::rollout::{
    Actor, Deployment, Plan, Refresh, Rollout, RolloutId, RolloutState, Standing, Tally, Timestamp, Version, advice,
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
/// How much longer a count is used than it took to count: counting takes at most a fiftieth of the time.
const WORTH: u32 = 50;

/// A count as it was made last, and until when it need not be made again.
pub struct Counted {
    coverage: Option<Coverage>,
    until: Timestamp,
}

/// A plan, the version that its deployments should have, and how many have it.
pub struct PlanRow {
    /// The plan.
    pub plan: Plan,
    /// The version; none until one was set, or a rollout has passed its canaries.
    pub wanted: Option<Version>,
    /// How many have it; none while they are being counted.
    pub coverage: Option<Coverage>,
}

/// One wave.
pub struct WaveRow {
    /// Its number, 1-based.
    pub number: u32,
    /// Whether it is the canaries.
    pub is_canary: bool,
    /// How many of its refreshes stand where.
    pub sample: Sample,
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
    let views = counted(app, &recent).await?;
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
        let coverage = match wanted {
            Some(version) => coverage(app, &plan, version).await?,
            None => Some(Coverage { deployments: store.count_deployments(&plan).await?, have: 0 }),
        };
        rows.push(PlanRow { plan, wanted, coverage });
    }
    let held_by = app.engine.held_by().await?.into_iter().map(views::held_by).collect();
    let dead_letters = dead_letters(app).await?;
    Ok(Overview { held_by, plans: rows, open, left, recent: views, dead_letters })
}

fn plan_of(view: &RolloutView) -> Plan {
    Plan { publisher: view.publisher.clone(), offer: view.offer.clone(), plan: view.plan.clone() }
}

/// How many deployments have a version: as it was counted last, while that is worth something. Counting goes on behind the
/// page where it takes long.
async fn coverage(app: &Arc<App>, plan: &Plan, version: Version) -> Result<Option<Coverage>, EngineError> {
    let name = (plan.clone(), version);
    let now = app.engine.now();
    {
        let mut counted = app.dashboard.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = counted.get(&name).filter(|known| known.until > now) {
            return Ok(known.coverage);
        }
        let coverage = counted.get(&name).and_then(|known| known.coverage);
        // Whoever comes meanwhile makes do with what there is.
        counted.insert(name.clone(), Counted { coverage, until: now + Duration::from_secs(60) });
    }
    let counting = tokio::spawn({
        let (app, name) = (Arc::clone(app), name.clone());
        async move {
            let result = app.engine.coverage(&name.0, name.1).await;
            let ended = app.engine.now();
            let took = (ended - now).to_std().unwrap_or_default();
            let mut counted = app.dashboard.counted.lock().unwrap_or_else(PoisonError::into_inner);
            let coverage = result.as_ref().ok().copied().or_else(|| counted.get(&name)?.coverage);
            let worth = took.saturating_mul(WORTH).max(Duration::from_secs(1));
            let until = if result.is_ok() { ended + worth } else { ended };
            counted.insert(name, Counted { coverage, until });
            result
        }
    });
    if let Ok(Ok(result)) = tokio::time::timeout(PATIENCE, counting).await {
        return result.map(Some);
    }
    let counted = app.dashboard.counted.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(counted.get(&name).and_then(|known| known.coverage))
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

/// One rollout; none if there is none.
pub async fn rollout(app: &App, id: RolloutId) -> Result<Option<Standings>, EngineError> {
    match app.engine.store().rollout(id).await? {
        Some(rollout) => Ok(Some(standings(app, &rollout.value).await?)),
        None => Ok(None),
    }
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
            sample: Sample::of(rollout.created_at, &of_wave.counts()),
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
    let mut groups: BTreeMap<(usize, String), Group> = BTreeMap::new();
    for refresh in &page.items {
        let refresh = views::refresh(&refresh.value);
        let (actor, code, message) = blame(&refresh);
        let rank = advice::ORDER.iter().position(|known| *known == actor).unwrap_or(advice::ORDER.len());
        let group = groups.entry((rank, code.to_lowercase())).or_insert_with(|| Group {
            actor,
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

fn blame(refresh: &RefreshView) -> (Actor, String, String) {
    match (refresh.state, &refresh.error) {
        (RefreshWord::TimedOut, None) => (
            Actor::Microsoft,
            "TimedOut".to_owned(),
            "Azure accepted the refresh, but its operation never ended.".to_owned(),
        ),
        (RefreshWord::HandedOver, error) => (
            Actor::Customer,
            "HandedOver".to_owned(),
            error.as_ref().map_or_else(
                || "Nobody but the customer may refresh it.".to_owned(),
                |error| format!("{}: {}", error.code, error.message),
            ),
        ),
        (_, Some(error)) => (error.actor, error.code.clone(), error.message.clone()),
        (_, None) => (Actor::Publisher, "Unknown".to_owned(), "Nothing was said about why.".to_owned()),
    }
}

/// How many messages died in the last day, as far as the newest entries of the audit list tell.
async fn dead_letters(app: &App) -> Result<usize, StoreError> {
    let since = app.engine.now() - Duration::from_secs(24 * 60 * 60);
    let newest = app.engine.audit(&PageRequest { continuation: None, top: ROWS }).await?;
    let is_recent = |entry: &&AuditEntry| entry.at >= since && EntryKind::DeadLetters.is_of(entry);
    Ok(newest.items.iter().filter(is_recent).count())
}

/// What a deployment is going through now; else what somebody has to act on since its latest refresh.
pub async fn under_way(app: &App, deployment: &Deployment) -> Result<Vec<(RolloutView, RefreshView)>, EngineError> {
    let store = app.engine.store();
    let mut found = Vec::new();
    let views =
        |rollout: &Rollout, refresh: &Refresh| (views::rollout(rollout, &Tally::default()), views::refresh(refresh));
    for rollout in store.open_rollouts().await? {
        if let Some(refresh) = store.refresh(rollout.value.id, &deployment.key).await? {
            found.push(views(&rollout.value, &refresh.value));
        }
    }
    if found.is_empty()
        && let Some((rollout, refresh)) = app.engine.latest_refresh(deployment).await?
    {
        if Standing::NEEDS_SOMEBODY.contains(&Standing::of(&refresh)) {
            found.push(views(&rollout, &refresh));
        }
    }
    Ok(found)
}
