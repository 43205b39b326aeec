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
    let (who, why) = (caller.who(), reason::optional(&body)?);
    let act = act(&app, who.clone(), "stop", why.clone()).await?;
    let stop = async {
        app.engine.stop(&who, why).await?;
        Ok::<_, EngineError>(((), Some("stopped".to_owned())))
    };
    app.engine.audited(act, stop).await?;
    state(&app).await
}

/// `POST /api/start` with an optional `{"why"}`: everything goes on.
pub async fn start(
    Extension(app): Extension<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<SwitchView>, Problem> {
    let who = caller.who();
    let act = act(&app, who.clone(), "start", reason::optional(&body)?).await?;
    let start = async {
        app.engine.start(&who).await?;
        Ok::<_, EngineError>(((), Some("going".to_owned())))
    };
    app.engine.audited(act, start).await?;
    state(&app).await
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

async fn act(app: &App, who: String, what: &'static str, why: Option<String>) -> Result<Act, Problem> {
    let from = if app.engine.stopped().await?.is_some() { "stopped" } else { "going" };
    Ok(Act { who, what, on: None, from: Some(from.to_owned()), why })
}

async fn state(app: &App) -> Result<Json<SwitchView>, Problem> {
    let held_by = app.engine.held_by().await?;
    Ok(Json(SwitchView { held_by: held_by.into_iter().map(views::held_by).collect() }))
}
