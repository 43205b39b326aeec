//! Deployments: list, show, import and export (JSON, CSV), hold, release, forget, look for them in Azure (design §8).

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;

use super::App;
use super::wire::api::{DeploymentDetail, DeploymentView, ImportResult, Page, Problem, RejectedRow};
use super::wire::caller::Caller;
use super::wire::import::Rows;
use super::wire::jit_view::JitView;
use super::wire::list::{self, ListQuery};
use super::wire::reason::{self, HoldRequest};
use super::wire::sync_view::SyncView;
use super::wire::{export, problem, views};
use crate::engine::EngineError;
use crate::engine::audit::Act;
use crate::engine::hand_overs::RanError;
use crate::engine::jit::JitRefused;
use crate::engine::registry::Imported;
use crate::engine::sync::SyncError;
use crate::rollout::{Deployment, DeploymentKey, Hold, JitAccess, Plan, RefreshState, Timestamp};

/// How many rows of an import are taken at once.
const IMPORT_BATCH: usize = 1_000;

/// The query of `GET /api/deployments`: all three ids of a plan, or none; and the form of an export, or none for a page.
#[derive(Deserialize)]
pub struct DeploymentsQuery {
    publisher: Option<String>,
    offer: Option<String>,
    plan: Option<String>,
    format: Option<String>,
    #[serde(flatten)]
    list: ListQuery,
}

/// `GET /api/deployments`: a page, or with `?format=json|csv` all that are there, in the form that an import takes.
pub async fn list(
    Extension(app): Extension<Arc<App>>,
    Query(query): Query<DeploymentsQuery>,
) -> Result<Response, Problem> {
    let (plan, filter) = match (&query.publisher, &query.offer, &query.plan) {
        (None, None, None) => (None, Vec::new()),
        (Some(publisher), Some(offer), Some(plan)) => {
            let parsed = Plan::parse(publisher, offer, plan)
                .map_err(|error| problem::invalid_field(error.field, error.to_string()))?;
            (Some(parsed.0), vec![("publisher", publisher.as_str()), ("offer", offer), ("plan", plan)])
        }
        _ => return Err(problem::invalid_field("plan", "name publisher, offer and plan together, or none of them")),
    };
    if let Some(format) = &query.format {
        if !query.list.is_default() {
            return Err(problem::invalid_field("format", "an export is whole: leave out top and continuation"));
        }
        let (content_type, body) = match format.as_str() {
            "json" => ("application/json", Body::from_stream(export::json(app, plan))),
            "csv" => ("text/csv; charset=utf-8", Body::from_stream(export::csv(app, plan))),
            _ => return Err(problem::invalid_field("format", "expected json or csv")),
        };
        return Ok(([(header::CONTENT_TYPE, content_type)], body).into_response());
    }
    let page = app.engine.deployments(plan.as_ref(), &query.list.page_request()?).await?;
    let page: Page<DeploymentView> = Page {
        value: page.items.iter().map(|deployment| view(&app, &deployment.value)).collect(),
        next_link: page.next.map(|next| list::next_link("/api/deployments", &filter, &query.list, &next)),
    };
    Ok(Json(page).into_response())
}

/// `GET /api/deployments/{key}`: the deployment, the version it should have, and what becomes of its latest refresh.
pub async fn show(
    Extension(app): Extension<Arc<App>>,
    Path(key): Path<String>,
) -> Result<Json<DeploymentDetail>, Problem> {
    let key = parse_key(&key)?;
    let deployment = app.engine.deployment(&key).await?.ok_or_else(|| no_deployment(&key))?.value;
    let wanted_version = match &deployment.plan {
        Some(plan) => app.engine.wanted_version(plan).await?,
        None => None,
    };
    let latest = app.engine.latest_refresh(&deployment).await?;
    let failed = latest
        .as_ref()
        .filter(|(_, refresh)| matches!(refresh.state, RefreshState::Failed { .. } | RefreshState::TimedOut { .. }));
    Ok(Json(DeploymentDetail {
        by_hand: failed.map(|(_, refresh)| views::by_hand(app.engine.by_hand(refresh))),
        latest_refresh: latest.as_ref().map(|(rollout, refresh)| views::latest_refresh(rollout, refresh)),
        wanted_version,
        deployment: view(&app, &deployment),
    }))
}

/// One deployment; a hold that is over is not shown, and what is remembered only while it counts.
fn view(app: &App, deployment: &Deployment) -> DeploymentView {
    let mut view = views::deployment(deployment);
    view.hold.take_if(|hold| !hold.is_on(app.engine.now()));
    view.ways = views::ways(&deployment.ways, app.engine.now());
    view
}

/// `DELETE /api/deployments/{key}`: forgotten, until a notification or an import brings it back.
pub async fn forget(
    Extension(app): Extension<Arc<App>>,
    Path(key): Path<String>,
    caller: Caller,
) -> Result<Response, Problem> {
    let key = parse_key(&key)?;
    let act = act(&app, caller.who(), "deployment.forget", &key, None).await?.ok_or_else(|| no_deployment(&key))?;
    let work = async {
        app.engine.forget(&key).await?;
        Ok::<_, EngineError>(((), Some("forgotten".to_owned())))
    };
    app.engine.audited(act, work).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/deployments/{key}/hold` `{"until"?, "why"}`: it is not to be touched.
pub async fn hold(
    Extension(app): Extension<Arc<App>>,
    Path(key): Path<String>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<DeploymentView>, Problem> {
    let key = parse_key(&key)?;
    let HoldRequest { until, why } = reason::hold(&body, app.engine.now())?;
    let hold = Hold { until, why, since: app.engine.now() };
    held(&app, &key, put_on_hold(&app, caller.who(), &key, hold).await?)
}

/// `POST /api/deployments/{key}/release` with an optional `{"why"}`: it may be touched again.
pub async fn release(
    Extension(app): Extension<Arc<App>>,
    Path(key): Path<String>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<DeploymentView>, Problem> {
    let key = parse_key(&key)?;
    let why = reason::optional(&body)?;
    held(&app, &key, let_go(&app, caller.who(), &key, why).await?)
}

/// Puts a deployment on hold, and notes in the audit list who did; `None` if there is no such deployment.
pub async fn put_on_hold(
    app: &App,
    who: String,
    key: &DeploymentKey,
    hold: Hold,
) -> Result<Option<Deployment>, EngineError> {
    let Some(act) = act(app, who, "deployment.hold", key, Some(hold.why.clone())).await? else { return Ok(None) };
    change_hold(app, act, key, Some(hold)).await
}

/// Releases a deployment, and notes in the audit list who did; `None` if there is no such deployment.
pub async fn let_go(
    app: &App,
    who: String,
    key: &DeploymentKey,
    why: Option<String>,
) -> Result<Option<Deployment>, EngineError> {
    let Some(act) = act(app, who, "deployment.release", key, why).await? else { return Ok(None) };
    change_hold(app, act, key, None).await
}

/// `POST /api/deployments/{key}/refreshed` with an optional `{"version", "why"}`: the customer has run what was handed over.
pub async fn refreshed(
    Extension(app): Extension<Arc<App>>,
    Path(key): Path<String>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<DeploymentView>, Problem> {
    let key = parse_key(&key)?;
    let (version, why) = reason::ran(&body)?;
    let known = app.engine.deployment(&key).await?.ok_or_else(|| no_deployment(&key))?;
    let on = Some(known.value.application_id.to_string());
    let who = caller.who();
    let act = Act { who: who.clone(), what: "deployment.refreshed", on, from: None, why };
    let work = async {
        let (deployment, version) = app.engine.record_run(&key, version, &who).await?;
        Ok::<_, RanError>((deployment, Some(format!("refreshed to {version} by the customer"))))
    };
    match app.engine.audited(act, work).await {
        Ok(deployment) => Ok(Json(view(&app, &deployment))),
        Err(RanError::NotFound { key }) => Err(no_deployment(&key)),
        Err(refused @ RanError::NotHandedOver { .. }) => Err(problem::conflict(refused.to_string())),
        Err(RanError::Engine(error)) => Err(error.into()),
    }
}

async fn change_hold(
    app: &App,
    act: Act,
    key: &DeploymentKey,
    hold: Option<Hold>,
) -> Result<Option<Deployment>, EngineError> {
    let work = async {
        let changed = app.engine.change_hold(key, hold).await?;
        let to = changed.as_ref().map(|deployment| held_state(deployment, app.engine.now()));
        Ok::<_, EngineError>((changed, to))
    };
    app.engine.audited(act, work).await
}

fn held(app: &App, key: &DeploymentKey, changed: Option<Deployment>) -> Result<Json<DeploymentView>, Problem> {
    match changed {
        Some(deployment) => Ok(Json(view(app, &deployment))),
        None => Err(no_deployment(key)),
    }
}

/// What is to be done to a deployment, for the audit list; `None` if it is not there.
async fn act(
    app: &App,
    who: String,
    what: &'static str,
    key: &DeploymentKey,
    why: Option<String>,
) -> Result<Option<Act>, EngineError> {
    let Some(known) = app.engine.deployment(key).await? else { return Ok(None) };
    let from = Some(held_state(&known.value, app.engine.now()));
    Ok(Some(Act { who, what, on: Some(known.value.application_id.to_string()), from, why }))
}

fn held_state(deployment: &Deployment, now: Timestamp) -> String {
    match &deployment.hold {
        Some(Hold { until: Some(until), .. }) if deployment.is_on_hold(now) => format!("on hold until {until}"),
        Some(_) if deployment.is_on_hold(now) => "on hold".to_owned(),
        _ => "not on hold".to_owned(),
    }
}

fn no_deployment(key: &DeploymentKey) -> Problem {
    problem::missing(format!("there is no deployment {key}"))
}

/// `GET /api/deployments/jit`: the applications for which just-in-time access was asked.
pub async fn list_jit(
    Extension(app): Extension<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<JitView>>, Problem> {
    let page = app.engine.jit_accesses(&query.page_request()?).await?;
    let now = app.engine.now();
    Ok(Json(Page {
        value: page.items.iter().map(|access| JitView::new(access, None, now)).collect(),
        next_link: page.next.map(|next| list::next_link("/api/deployments/jit", &[], &query, &next)),
    }))
}

/// The query of `GET /api/deployments/{key}/jit`.
#[derive(Deserialize)]
pub struct JitQuery {
    azure: Option<String>,
}

/// `GET /api/deployments/{key}/jit`: what was asked for one deployment; `?azure=true` adds what Azure itself lists.
pub async fn show_jit(
    Extension(app): Extension<Arc<App>>,
    Path(key): Path<String>,
    Query(query): Query<JitQuery>,
) -> Result<Json<JitView>, Problem> {
    let key = parse_key(&key)?;
    let known = app.engine.deployment(&key).await?.ok_or_else(|| no_deployment(&key))?;
    let access = app.engine.jit_of(&key).await?;
    let access = access.unwrap_or_else(|| JitAccess::new(known.value.application_id.clone()));
    let mut view = JitView::new(&access, Some(&known.value), app.engine.now());
    match query.azure.as_deref() {
        Some("true") => match app.engine.jit_listed(&access).await.transpose() {
            Ok(listed) => view.listed = Some(listed.unwrap_or_default()),
            Err(error) => return Err(problem::bad_gateway(format!("Azure: {}: {}", error.code, error.message))),
        },
        None | Some("false") => {}
        Some(_) => return Err(problem::invalid_field("azure", "expected true or false")),
    }
    Ok(Json(view))
}

/// `POST /api/deployments/{key}/jit` with an optional `{"why"}`: asks the customer for a window now.
pub async fn request_jit(
    Extension(app): Extension<Arc<App>>,
    Path(key): Path<String>,
    caller: Caller,
    body: Bytes,
) -> Result<(StatusCode, Json<JitView>), Problem> {
    let key = parse_key(&key)?;
    let why = reason::optional(&body)?;
    let known = app.engine.deployment(&key).await?.ok_or_else(|| no_deployment(&key))?.value;
    let on = Some(known.application_id.to_string());
    let act = Act { who: caller.who(), what: "deployment.jit", on, from: None, why };
    let work = async {
        let request = app.engine.request_jit(&known.application_id).await?;
        let to = format!("just-in-time request {}", request.name);
        Ok::<_, JitRefused>((request, Some(to)))
    };
    match app.engine.audited(act, work).await {
        Ok(_) => {}
        Err(JitRefused::Engine(error)) => return Err(error.into()),
        Err(error @ JitRefused::NotSetUp) => return Err(problem::not_configured(&error.to_string())),
        Err(error @ JitRefused::Azure { .. }) => return Err(problem::bad_gateway(error.to_string())),
        Err(error) => return Err(problem::conflict(error.to_string())),
    }
    let access = app.engine.jit_of(&key).await?.unwrap_or_else(|| JitAccess::new(known.application_id.clone()));
    Ok((StatusCode::ACCEPTED, Json(JitView::new(&access, Some(&known), app.engine.now()))))
}

/// `GET /api/deployments/sync`: the last run of SyncDeployments, under way or ended.
pub async fn sync(Extension(app): Extension<Arc<App>>) -> Result<Json<SyncView>, Problem> {
    match app.engine.sync().await? {
        Some(run) => Ok(Json(run.into())),
        None => Err(problem::missing("nobody has looked for deployments yet")),
    }
}

/// The query of `POST /api/deployments/sync`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncQuery {
    dry_run: Option<String>,
}

/// `POST /api/deployments/sync?dryRun=true`: begins a run; the same that is under way is answered with.
pub async fn start_sync(
    Extension(app): Extension<Arc<App>>,
    Query(query): Query<SyncQuery>,
    caller: Caller,
) -> Result<(StatusCode, Json<SyncView>), Problem> {
    let is_dry_run = match query.dry_run.as_deref() {
        Some("true") => true,
        None | Some("false") => false,
        Some(_) => return Err(problem::invalid_field("dryRun", "expected true or false")),
    };
    let act = Act { who: caller.who(), what: "deployments.sync", on: None, from: None, why: None };
    let work =
        async { app.engine.start_sync(is_dry_run).await.map(|run| (run, is_dry_run.then(|| "dry run".to_owned()))) };
    match app.engine.audited(act, work).await {
        Ok(run) => Ok((StatusCode::ACCEPTED, Json(run.into()))),
        Err(error @ SyncError::UnderWay { .. }) => Err(problem::conflict(error.to_string())),
        Err(SyncError::Engine(error)) => Err(error.into()),
    }
}

/// `PUT /api/deployments`: rows that can be read are imported, the others named with their line.
pub async fn import(
    Extension(app): Extension<Arc<App>>,
    headers: HeaderMap,
    caller: Caller,
    body: Bytes,
) -> Result<Json<ImportResult>, Problem> {
    let rows = Rows::read(&headers, &body)?;
    let act = Act { who: caller.who(), what: "deployments.import", on: None, from: None, why: None };
    let work = async {
        let (taken, rejected) = take(&app, rows).await?;
        let Imported { imported, updated, windows_set, windows_lifted } = taken;
        let mut to = format!("{imported} imported, {updated} updated, {} rejected", rejected.len());
        for (count, what) in
            [(windows_set, "set"), (windows_lifted, "lifted")].into_iter().filter(|(count, _)| *count > 0)
        {
            to.push_str(&format!(", maintenance windows of {count} {what}"));
        }
        let result = ImportResult { imported: imported as u64, updated: updated as u64, rejected };
        Ok::<_, EngineError>((result, Some(to)))
    };
    Ok(Json(app.engine.audited(act, work).await?))
}

async fn take(app: &App, mut rows: Rows<'_>) -> Result<(Imported, Vec<RejectedRow>), EngineError> {
    let (mut taken, mut rejected) = (Imported::default(), Vec::new());
    loop {
        let mut imports = Vec::new();
        let read = rows.by_ref().take(IMPORT_BATCH).fold(0, |read, (line, row)| {
            match row {
                Ok(import) => imports.push(import),
                Err(why) => rejected.push(RejectedRow { line, why }),
            }
            read + 1
        });
        if read == 0 {
            return Ok((taken, rejected));
        }
        taken += app.engine.import(imports).await?;
    }
}

fn parse_key(text: &str) -> Result<DeploymentKey, Problem> {
    text.parse().map_err(|error: crate::rollout::resource_id::InvalidDeploymentKey| {
        problem::invalid_field("key", error.to_string())
    })
}
