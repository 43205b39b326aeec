//! Deployments: list, show, import (JSON, CSV), hold, release, forget (design §8).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::Value;

use super::App;
use super::wire::api::{DeploymentRow, DeploymentView, ImportResult, Page, Problem, RejectedRow};
use super::wire::caller::Caller;
use super::wire::list::{self, ListQuery};
use super::wire::reason::{self, HoldRequest};
use super::wire::{problem, views};
use crate::engine::EngineError;
use crate::engine::audit::Act;
use crate::engine::registry::Import;
use crate::rollout::openness::MOST_WINDOWS;
use crate::rollout::{Deployment, DeploymentKey, Hold, MaintenanceWindow, Plan, Timestamp};

/// The query of `GET /api/deployments`: all three ids of a plan, or none.
#[derive(Deserialize)]
pub struct DeploymentsQuery {
    publisher: Option<String>,
    offer: Option<String>,
    plan: Option<String>,
    #[serde(flatten)]
    list: ListQuery,
}

/// `GET /api/deployments`.
pub async fn list(
    Extension(app): Extension<Arc<App>>,
    Query(query): Query<DeploymentsQuery>,
) -> Result<Json<Page<DeploymentView>>, Problem> {
    let (plan, filter) = match (&query.publisher, &query.offer, &query.plan) {
        (None, None, None) => (None, Vec::new()),
        (Some(publisher), Some(offer), Some(plan)) => {
            let parsed = Plan::parse(publisher, offer, plan)
                .map_err(|error| problem::invalid_field(error.field, error.to_string()))?;
            (Some(parsed.0), vec![("publisher", publisher.as_str()), ("offer", offer), ("plan", plan)])
        }
        _ => return Err(problem::invalid_field("plan", "name publisher, offer and plan together, or none of them")),
    };
    let page = app.engine.deployments(plan.as_ref(), &query.list.page_request()?).await?;
    Ok(Json(Page {
        value: page.items.iter().map(|deployment| view(&app, &deployment.value)).collect(),
        next_link: page.next.map(|next| list::next_link("/api/deployments", &filter, &query.list, &next)),
    }))
}

/// `GET /api/deployments/{key}`.
pub async fn show(
    Extension(app): Extension<Arc<App>>,
    Path(key): Path<String>,
) -> Result<Json<DeploymentView>, Problem> {
    match app.engine.deployment(&parse_key(&key)?).await? {
        Some(deployment) => Ok(Json(view(&app, &deployment.value))),
        None => Err(problem::missing(format!("there is no deployment {key}"))),
    }
}

/// One deployment; a hold that is over is not shown.
fn view(app: &App, deployment: &Deployment) -> DeploymentView {
    let mut view = views::deployment(deployment);
    view.hold.take_if(|hold| !hold.is_on(app.engine.now()));
    view
}

/// `DELETE /api/deployments/{key}`: forgotten, until a notification or an import brings it back.
pub async fn forget(
    Extension(app): Extension<Arc<App>>,
    Path(key): Path<String>,
    caller: Caller,
) -> Result<Response, Problem> {
    let key = parse_key(&key)?;
    let act = act(&app, &caller, "deployment.forget", &key, None).await?;
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
    let act = act(&app, &caller, "deployment.hold", &key, Some(why.clone())).await?;
    let hold = Hold { until, why, since: app.engine.now() };
    change_hold(&app, act, &key, Some(hold)).await
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
    let act = act(&app, &caller, "deployment.release", &key, why).await?;
    change_hold(&app, act, &key, None).await
}

async fn change_hold(
    app: &App,
    act: Act,
    key: &DeploymentKey,
    hold: Option<Hold>,
) -> Result<Json<DeploymentView>, Problem> {
    let work = async {
        let changed = app.engine.change_hold(key, hold).await?;
        let to = changed.as_ref().map(|deployment| held_state(deployment, app.engine.now()));
        Ok::<_, EngineError>((changed, to))
    };
    match app.engine.audited(act, work).await? {
        Some(deployment) => Ok(Json(view(app, &deployment))),
        None => Err(no_deployment(key)),
    }
}

/// What is to be done to a deployment that is there, for the audit list.
async fn act(
    app: &App,
    caller: &Caller,
    what: &'static str,
    key: &DeploymentKey,
    why: Option<String>,
) -> Result<Act, Problem> {
    let known = app.engine.deployment(key).await?.ok_or_else(|| no_deployment(key))?;
    let from = Some(held_state(&known.value, app.engine.now()));
    Ok(Act { who: caller.who(), what, on: Some(known.value.application_id.to_string()), from, why })
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

/// `PUT /api/deployments`: rows that can be read are imported, the others named with their line.
pub async fn import(
    Extension(app): Extension<Arc<App>>,
    headers: HeaderMap,
    caller: Caller,
    body: Bytes,
) -> Result<Json<ImportResult>, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let rows = match content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => json_rows(&body)?,
        "text/csv" => csv_rows(&body)?,
        _ => return Err(problem::invalid_field("Content-Type", "expected application/json or text/csv")),
    };
    let mut imports = Vec::with_capacity(rows.len());
    let mut rejected = Vec::new();
    for (line, row) in rows {
        match row.and_then(check) {
            Ok(import) => imports.push(import),
            Err(why) => rejected.push(RejectedRow { line, why }),
        }
    }
    let act = Act { who: caller.who(), what: "deployments.import", on: None, from: None, why: None };
    let work = async {
        let imported = app.engine.import(imports).await?;
        let to = format!("{} imported, {} updated, {} rejected", imported.imported, imported.updated, rejected.len());
        Ok::<_, EngineError>((imported, Some(to)))
    };
    let imported = app.engine.audited(act, work).await?;
    Ok(Json(ImportResult { imported: imported.imported as u64, updated: imported.updated as u64, rejected }))
}

/// A row by its line, or why it cannot be read.
type Rows = Vec<(u64, Result<DeploymentRow, String>)>;

fn json_rows(body: &Bytes) -> Result<Rows, Problem> {
    let rows: Vec<serde_json::Value> = serde_json::from_slice(body)
        .map_err(|error| problem::invalid_field("body", format!("expected a JSON array of objects: {error}")))?;
    let row = |value| serde_json::from_value(value).map_err(|error: serde_json::Error| error.to_string());
    Ok((1..).zip(rows.into_iter().map(row)).collect())
}

fn csv_rows(body: &Bytes) -> Result<Rows, Problem> {
    // A byte order mark, as spreadsheets write it, would become part of the first name.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(body);
    let names = reader.headers().map_err(|error| problem::invalid_field("body", error.to_string()))?.clone();
    if !names.iter().any(|name| name == "applicationId") {
        return Err(problem::invalid_field("body", "the first line of the CSV has no column applicationId"));
    }
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    let mut lines = Lines { text: body, counted_to: 0, line: 1 };
    loop {
        let (begin, row) = match reader.read_record(&mut record) {
            Ok(false) => return Ok(rows),
            Ok(true) => (record.position().cloned(), record.deserialize(Some(&names))),
            Err(error) => (error.position().cloned(), Err(error)),
        };
        let line = lines.of_record_at(begin.map_or(0, |begin| begin.byte()));
        rows.push((line, row.map_err(|error| why(&error))));
    }
}

/// Counts lines, since the reader's own count is one behind after a line that ends in CRLF or is empty.
struct Lines<'b> {
    text: &'b [u8],
    counted_to: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line on which the record begins that the reader found at `byte`; records are asked for in their order.
    fn of_record_at(&mut self, byte: u64) -> u64 {
        let byte = usize::try_from(byte).unwrap_or(usize::MAX).clamp(self.counted_to, self.text.len());
        let ends = self.text[byte..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let begin = byte + ends;
        self.line += self.text[self.counted_to..begin].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.counted_to = begin;
        self.line
    }
}

/// What is wrong with a record, without the reader's own idea of where it is.
fn why(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.kind().to_string(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("it has {len} fields where the first line has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

fn check(row: DeploymentRow) -> Result<Import, String> {
    let text = |value: Option<String>| value.filter(|text| !text.is_empty());
    let application_id = text(row.application_id)
        .ok_or("applicationId is required")?
        .parse()
        .map_err(|error| format!("applicationId: {error}"))?;
    let plan = match (text(row.publisher), text(row.offer), text(row.plan)) {
        (None, None, None) => None,
        (Some(publisher), Some(offer), Some(plan)) => {
            let (plan, preview) = Plan::parse(&publisher, &offer, &plan).map_err(|error| error.to_string())?;
            Some((plan, row.preview.unwrap_or(preview)))
        }
        _ => return Err("publisher, offer and plan belong together: name all three, or none".to_owned()),
    };
    let tenant_id = text(row.tenant_id);
    if tenant_id.as_deref().is_some_and(|id| !crate::rollout::resource_id::is_guid(id)) {
        return Err("tenantId is not a GUID".to_owned());
    }
    let short = |name: &str, value: Option<String>| match text(value) {
        Some(text) if text.len() > 500 => Err(format!("{name} has more than 500 characters")),
        text => Ok(text),
    };
    let maintenance_windows = row.maintenance_windows.map(windows).transpose()?.flatten();
    Ok(Import {
        application_id,
        plan,
        version: short("version", row.version)?,
        tenant_id,
        managed_resource_group_id: short("managedResourceGroupId", row.managed_resource_group_id)?,
        location: short("location", row.location)?,
        maintenance_windows,
    })
}

/// Windows, as an array or as the text of one; an empty text says nothing of them.
fn windows(value: Value) -> Result<Option<Vec<MaintenanceWindow>>, String> {
    let named = |error: serde_json::Error| format!("maintenanceWindows: {error}");
    let windows: Vec<MaintenanceWindow> = match value {
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => serde_json::from_str(&text).map_err(named)?,
        value => serde_json::from_value(value).map_err(named)?,
    };
    if windows.len() > MOST_WINDOWS {
        return Err(format!("maintenanceWindows: more than {MOST_WINDOWS}"));
    }
    Ok(Some(windows))
}

fn parse_key(text: &str) -> Result<DeploymentKey, Problem> {
    text.parse().map_err(|error: crate::rollout::resource_id::InvalidDeploymentKey| {
        problem::invalid_field("key", error.to_string())
    })
}
