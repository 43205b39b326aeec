//! Rollouts: list, show, refreshes of one, start by hand, dry run, commands, report (design §8).

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::future::try_join_all;
use serde::Deserialize;

use super::wire::api::{HeldByView, LastGoodView, Page, Problem, RefreshView, RefreshWord, RolloutView};
use super::wire::caller::Caller;
use super::wire::command_request::{self, CommandRequest};
use super::wire::list::{self, ListQuery};
use super::wire::{problem, publish_request, report, views};
use super::{App, offer_publishes};
use crate::engine::EngineError;
use crate::engine::audit::Act;
use crate::engine::commands::CommandError;
use crate::rollout::{Command, OfferPublish, Rollout, RolloutId};
use crate::store::PageRequest;

/// How many rollouts of a list are counted at once; in Azure each is sixteen requests.
const COUNTED_AT_ONCE: usize = 8;
/// How many rollouts a page has at most, whatever `top` allows: each of them is counted.
const MOST: usize = 100;

/// `GET /api/rollouts`, the newest first; a hundred of them a page at most.
pub async fn list(
    Extension(app): Extension<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<RolloutView>>, Problem> {
    let request = query.page_request()?;
    let page = app.engine.store().rollouts(&PageRequest { top: request.top.min(MOST), ..request }).await?;
    let held_by = held_by(&app).await?;
    let mut value = Vec::with_capacity(page.items.len());
    for rollouts in page.items.chunks(COUNTED_AT_ONCE) {
        value.extend(try_join_all(rollouts.iter().map(|rollout| view(&app, rollout, &held_by))).await?);
    }
    Ok(Json(Page { value, next_link: page.next.map(|next| list::next_link("/api/rollouts", &[], &query, &next)) }))
}

/// The query of `POST /api/rollouts`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartQuery {
    dry_run: Option<String>,
    format: Option<String>,
}

/// `POST /api/rollouts`: a rollout by hand, or a dry run of one.
pub async fn start(
    Extension(app): Extension<Arc<App>>,
    Query(query): Query<StartQuery>,
    headers: HeaderMap,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Problem> {
    let publish = publish_request::parse(&body, &app.engine)?;
    match query.dry_run.as_deref() {
        Some("true") => return dry_run(&app, &publish, query.format.as_deref()).await,
        None | Some("false") => {}
        Some(_) => return Err(problem::invalid_field("dryRun", "expected true or false")),
    }
    let identity = offer_publishes::header_identity(&headers)?;
    let started = offer_publishes::start(&app, &caller, "rollout.start", publish, &identity).await?;
    let status = if started.is_duplicate { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(stored(&app, started.rollout_id).await?)).into_response())
}

/// `POST /api/rollouts?dryRun=true&format=json|csv`.
async fn dry_run(app: &App, publish: &OfferPublish, format: Option<&str>) -> Result<Response, Problem> {
    let mut run = views::dry_run(app.engine.dry_run(publish).await?, publish.version);
    run.held_by = held_by(app).await?;
    match format {
        None | Some("json") => Ok(Json(run).into_response()),
        Some("csv") => {
            Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], report::dry_run_csv(&run)).into_response())
        }
        Some(_) => Err(problem::invalid_field("format", "expected json or csv")),
    }
}

/// `GET /api/rollouts/{id}`.
pub async fn show(Extension(app): Extension<Arc<App>>, Path(id): Path<String>) -> Result<Json<RolloutView>, Problem> {
    Ok(Json(stored(&app, rollout_id(&id)?).await?))
}

/// The query of `GET /api/rollouts/{id}/refreshes`.
#[derive(Deserialize)]
pub struct RefreshesQuery {
    state: Option<String>,
    #[serde(flatten)]
    list: ListQuery,
}

/// `GET /api/rollouts/{id}/refreshes?state=`.
pub async fn refreshes(
    Extension(app): Extension<Arc<App>>,
    Path(id): Path<String>,
    Query(query): Query<RefreshesQuery>,
) -> Result<Json<Page<RefreshView>>, Problem> {
    let id = rollout_id(&id)?;
    stored(&app, id).await?;
    let standings = match query.state.as_deref() {
        None => None,
        Some(word) => match RefreshWord::from_word(word) {
            Some(word) => Some(views::standings(word)),
            None => {
                let words: Vec<_> = RefreshWord::ALL.iter().map(|word| word.word()).collect();
                return Err(problem::invalid_field("state", format!("expected one of {}", words.join(", "))));
            }
        },
    };
    let page = app.engine.store().refreshes(id, standings.as_deref(), &query.list.page_request()?).await?;
    let filter: Vec<_> = query.state.as_deref().map(|state| ("state", state)).into_iter().collect();
    let path = format!("/api/rollouts/{id}/refreshes");
    Ok(Json(Page {
        value: page.items.iter().map(|refresh| views::refresh(&refresh.value)).collect(),
        next_link: page.next.map(|next| list::next_link(&path, &filter, &query.list, &next)),
    }))
}

/// `POST /api/rollouts/{id}/pause|resume|approve|cancel|retry`, the last with `?actor=` or `{"actor"}`.
pub async fn command(
    Extension(app): Extension<Arc<App>>,
    Path((id, word)): Path<(String, String)>,
    Query(query): Query<CommandRequest>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<RolloutView>, Problem> {
    let Some(command) = Command::from_word(&word) else {
        return Err(problem::missing("there is no such command: use pause, resume, approve, cancel or retry"));
    };
    let id = rollout_id(&id)?;
    let command = command_request::with_actor(command, query, &body)?;
    let rollout = carry_out(&app, caller.who(), id, command).await?;
    Ok(Json(view(&app, &rollout, &held_by(&app).await?).await?))
}

/// Carries a command out, and notes in the audit list who gave it.
pub async fn carry_out(app: &App, who: String, id: RolloutId, command: Command) -> Result<Rollout, CommandError> {
    let state = |rollout: &Rollout| rollout.state.name().to_owned();
    let from = app.engine.store().rollout(id).await.map_err(EngineError::from)?.map(|rollout| state(&rollout.value));
    let act = Act { who, what: audited_as(command), on: Some(id.to_string()), from, why: None };
    let work = async {
        let rollout = app.engine.command(id, command).await?;
        let to = state(&rollout);
        Ok::<_, CommandError>((rollout, Some(to)))
    };
    app.engine.audited(act, work).await
}

fn audited_as(command: Command) -> &'static str {
    match command {
        Command::Pause => "rollout.pause",
        Command::Resume => "rollout.resume",
        Command::Approve => "rollout.approve",
        Command::Cancel => "rollout.cancel",
        Command::Retry(_) => "rollout.retry",
    }
}

/// `GET /api/rollouts/{id}/last-good`: what the deployments could go back to from this rollout's version.
pub async fn last_good(
    Extension(app): Extension<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<LastGoodView>, Problem> {
    let id = rollout_id(&id)?;
    let Some(rollout) = app.engine.store().rollout(id).await? else {
        return Err(problem::missing(format!("there is no rollout {id}")));
    };
    let OfferPublish { plan, version, .. } = &rollout.value.publish;
    Ok(Json(views::last_good(&app.engine.last_good(plan, *version).await?)))
}

/// The query of a report.
#[derive(Deserialize)]
pub struct ReportQuery {
    format: Option<String>,
}

/// `GET /api/rollouts/{id}/report?format=json|csv`, streamed page by page.
pub async fn report(
    Extension(app): Extension<Arc<App>>,
    Path(id): Path<String>,
    Query(query): Query<ReportQuery>,
) -> Result<Response, Problem> {
    let id = rollout_id(&id)?;
    let rollout = stored(&app, id).await?;
    let (content_type, body) = match query.format.as_deref() {
        None | Some("json") => ("application/json", Body::from_stream(report::json(app, rollout))),
        Some("csv") => ("text/csv; charset=utf-8", Body::from_stream(report::csv(app, &rollout))),
        Some(_) => return Err(problem::invalid_field("format", "expected json or csv")),
    };
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

async fn stored(app: &App, id: RolloutId) -> Result<RolloutView, Problem> {
    match find(app, id).await? {
        Some(rollout) => Ok(rollout),
        None => Err(problem::missing(format!("there is no rollout {id}"))),
    }
}

/// One rollout, with what keeps it from posting and what it changes.
pub async fn find(app: &App, id: RolloutId) -> Result<Option<RolloutView>, EngineError> {
    let Some(rollout) = app.engine.store().rollout(id).await? else { return Ok(None) };
    let changes = app.engine.changes(id).await?.map(|changes| Box::new(changes.value));
    let held_by = held_by(app).await?;
    Ok(Some(RolloutView { changes, ..view(app, &rollout.value, &held_by).await? }))
}

async fn view(app: &App, rollout: &Rollout, held_by: &[HeldByView]) -> Result<RolloutView, EngineError> {
    let mut view = views::rollout(rollout, &app.engine.store().tally(rollout.id).await?);
    if !rollout.state.is_ended() {
        view.held_by = held_by.to_vec();
    }
    Ok(view)
}

async fn held_by(app: &App) -> Result<Vec<HeldByView>, EngineError> {
    Ok(app.engine.held_by().await?.into_iter().map(views::held_by).collect())
}

fn rollout_id(text: &str) -> Result<RolloutId, Problem> {
    text.parse().map_err(|_| problem::invalid_field("id", "expected the UUID of a rollout"))
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NotFound { .. } => problem::missing(error.to_string()),
            CommandError::Illegal(_) => problem::conflict(error.to_string()),
            CommandError::Engine(error) => error.into(),
        }
    }
}
