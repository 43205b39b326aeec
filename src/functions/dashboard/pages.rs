//! The pages: what was asked for, one load, one page. Nothing here changes anything.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::Markup;
use serde::Deserialize;

use super::guard::Visitor;
use super::html::entry::{self, Message};
use super::html::{self, Nav};
use super::lists::{self, EntryKind};
use super::load;
use crate::engine::EngineError;
use crate::functions::wire::Reason;
use crate::functions::wire::api::RefreshWord;
use crate::functions::wire::report;
use crate::functions::{App, rollouts};
use crate::rollout::{Deployment, DeploymentKey, Plan, RolloutId};
use crate::store::{PageRequest, StoreError};

/// Why there is no page: said on a page.
pub struct Refused(Message);

/// What a list is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ListQuery {
    /// A word of [`RefreshWord`], or of [`EntryKind`] in the audit list; empty for all.
    pub state: String,
    /// `publisher/offer/plan`; empty for all.
    pub plan: String,
    /// A part of a name, or a whole ARM id.
    pub find: String,
    /// Where the page before ended; empty for the first.
    pub continuation: String,
    /// The command that was just carried out.
    pub done: String,
}

impl ListQuery {
    fn continuation(&self) -> Option<String> {
        Some(self.continuation.clone()).filter(|text| !text.is_empty())
    }
}

/// The front page.
pub async fn overview(
    Extension(app): Extension<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, Refused> {
    let found = load::overview(&app).await?;
    let page = html::overview::page(&found, app.engine.now());
    Ok(show(&visitor, Nav::Overview, page))
}

/// Every rollout, the newest first.
pub async fn rollouts(
    Extension(app): Extension<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Refused> {
    let store = app.engine.store();
    let page = store.rollouts(&PageRequest { continuation: query.continuation(), top: lists::ROWS / 2 }).await?;
    let items = load::counted(&app, &page.items).await?;
    let rows = lists::Rows { items, next: page.next, was_cut: false };
    Ok(show(&visitor, Nav::Rollouts, html::rollout::list(&rows, &query, app.engine.now())))
}

/// One rollout.
pub async fn rollout(
    Extension(app): Extension<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Refused> {
    let id = rollout_id(&id)?;
    let standings = load::rollout(&app, id).await?.ok_or_else(no_rollout)?;
    let failures = load::failures(&app, &standings.view).await?;
    let word = RefreshWord::from_word(&query.state);
    let rows = lists::refreshes(&app, id, word, &query.find, query.continuation()).await?;
    let page = html::rollout::page(&standings, &failures, &rows, &query, app.engine.now());
    Ok(show(&visitor, Nav::Rollouts, page))
}

/// The report of a rollout as CSV, streamed.
pub async fn report(Extension(app): Extension<Arc<App>>, Path(id): Path<String>) -> Result<Response, Refused> {
    let id = rollout_id(&id)?;
    let Some(rollout) = rollouts::find(&app, id).await? else { return Err(no_rollout()) };
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"rollout-{id}.csv\"")),
    ];
    Ok((headers, Body::from_stream(report::csv(app, &rollout))).into_response())
}

/// The registry.
pub async fn deployments(
    Extension(app): Extension<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Refused> {
    let plan = match query.plan.as_str() {
        "" => None,
        text => Some(plan(text).ok_or_else(|| Refused(entry::missing("That is no plan: publisher/offer/plan.")))?),
    };
    let rows = lists::deployments(&app, plan.as_ref(), &query.find, query.continuation()).await?;
    let plans = app.engine.wanted_versions().await?;
    let page = html::deployment::list(&rows, &plans, &query, app.engine.now());
    Ok(show(&visitor, Nav::Deployments, page))
}

/// One deployment and its history.
pub async fn deployment(
    Extension(app): Extension<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Path(key): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Refused> {
    let deployment = the_deployment(&app, &key).await?;
    let under_way = load::under_way(&app, &deployment).await?;
    let wanted = match &deployment.plan {
        Some(plan) => app.engine.wanted_version(plan).await?,
        None => None,
    };
    let page = html::deployment::page(&deployment, wanted, &under_way, &query.done, app.engine.now());
    Ok(show(&visitor, Nav::Deployments, page))
}

/// The deployment that a path names.
pub async fn the_deployment(app: &App, key: &str) -> Result<Deployment, Refused> {
    let key: DeploymentKey = key.parse().map_err(|_| no_deployment())?;
    Ok(app.engine.deployment(&key).await?.ok_or_else(no_deployment)?.value)
}

/// There is no such deployment.
pub fn no_deployment() -> Refused {
    Refused(entry::missing("There is no such deployment."))
}

/// Who did what, the latest first.
pub async fn audit(
    Extension(app): Extension<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Refused> {
    let kind = EntryKind::from_word(&query.state);
    let rows = lists::audit(&app, kind, &query.find, query.continuation()).await?;
    Ok(show(&visitor, Nav::Audit, html::audit::page(&rows, &query, app.engine.now())))
}

/// For addresses that are none.
pub async fn not_found() -> Response {
    entry::missing("There is no such page.").into_response()
}

/// The whole page around its content.
pub fn show(visitor: &Visitor, nav: Nav, page: html::Page) -> Response {
    html_response(StatusCode::OK, &html::frame(visitor, nav, page))
}

/// A page as an answer.
pub fn html_response(status: StatusCode, page: &Markup) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page.0.clone()).into_response()
}

/// The rollout that a path names.
pub fn rollout_id(text: &str) -> Result<RolloutId, Refused> {
    text.parse().map_err(|_| no_rollout())
}

/// There is no such rollout.
pub fn no_rollout() -> Refused {
    Refused(entry::missing("There is no such rollout."))
}

/// A plan by the text that links carry.
fn plan(text: &str) -> Option<Plan> {
    let mut parts = text.split('/');
    let (publisher, offer, plan) = (parts.next()?, parts.next()?, parts.next()?);
    Plan::parse(publisher, offer, plan).ok().map(|(plan, _)| plan).filter(|_| parts.next().is_none())
}

impl From<Message> for Refused {
    fn from(message: Message) -> Self {
        Self(message)
    }
}

impl From<EngineError> for Refused {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(StoreError::InvalidContinuation) => {
                Self(entry::missing("This page of the list is no more. Start with its first page."))
            }
            error => Self(entry::failed(Reason(error.to_string()))),
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        EngineError::from(error).into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}
