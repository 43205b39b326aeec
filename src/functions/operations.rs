//! Operations: stop and go for everything, and the audit list (design §2, §8).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Query;
use axum::{Extension, Json};

use super::App;
use super::wire::api::{AuditView, Page, Problem, SwitchView};
use super::wire::caller::Caller;
use super::wire::list::{self, ListQuery};
use super::wire::{reason, views};
use crate::engine::EngineError;
use crate::engine::audit::Act;

/// `POST /api/stop` with an optional `{"why"}`: nothing is posted any more, by any instance.
pub async fn stop(
    Extension(app): Extension<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<SwitchView>, Problem> {
    turn(&app, caller.who(), Turn::Stop, reason::optional(&body)?).await?;
    state(&app).await
}

/// `POST /api/start` with an optional `{"why"}`: everything goes on.
pub async fn start(
    Extension(app): Extension<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<SwitchView>, Problem> {
    turn(&app, caller.who(), Turn::Start, reason::optional(&body)?).await?;
    state(&app).await
}

/// Stop or go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing is posted any more.
    Stop,
    /// Everything goes on.
    Start,
}

/// Stops everything, or lets it go on, and notes in the audit list who did.
pub async fn turn(app: &App, who: String, turn: Turn, why: Option<String>) -> Result<(), EngineError> {
    let from = if app.engine.stopped().await?.is_some() { "stopped" } else { "going" };
    let (what, to) = match turn {
        Turn::Stop => ("stop", "stopped"),
        Turn::Start => ("start", "going"),
    };
    let act = Act { who: who.clone(), what, on: None, from: Some(from.to_owned()), why: why.clone() };
    let work = async {
        match turn {
            Turn::Stop => _ = app.engine.stop(&who, why).await?,
            Turn::Start => app.engine.start(&who).await?,
        }
        Ok::<_, EngineError>(((), Some(to.to_owned())))
    };
    app.engine.audited(act, work).await
}

/// `GET /api/audit`, the newest first.
pub async fn audit(
    Extension(app): Extension<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<AuditView>>, Problem> {
    let page = app.engine.audit(&query.page_request()?).await?;
    Ok(Json(Page {
        value: page.items.into_iter().map(views::audit_entry).collect(),
        next_link: page.next.map(|next| list::next_link("/api/audit", &[], &query, &next)),
    }))
}

async fn state(app: &App) -> Result<Json<SwitchView>, Problem> {
    let held_by = app.engine.held_by().await?;
    Ok(Json(SwitchView { held_by: held_by.into_iter().map(views::held_by).collect() }))
}
