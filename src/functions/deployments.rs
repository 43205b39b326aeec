//! Deployments: list, show, import (JSON, CSV), forget (design §8).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;

use super::App;
use super::wire::api::{DeploymentRow, DeploymentView, ImportResult, Page, Problem, RejectedRow};
use super::wire::list::{self, ListQuery};
use super::wire::{problem, views};
use crate::engine::registry::Import;
use crate::rollout::{DeploymentKey, Plan};

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
        value: page.items.iter().map(|deployment| views::deployment(&deployment.value)).collect(),
        next_link: page.next.map(|next| list::next_link("/api/deployments", &filter, &query.list, &next)),
    }))
}

/// `GET /api/deployments/{key}`.
pub async fn show(
    Extension(app): Extension<Arc<App>>,
    Path(key): Path<String>,
) -> Result<Json<DeploymentView>, Problem> {
    match app.engine.deployment(&parse_key(&key)?).await? {
        Some(deployment) => Ok(Json(views::deployment(&deployment.value))),
        None => Err(problem::missing(format!("there is no deployment {key}"))),
    }
}

/// `DELETE /api/deployments/{key}`: forgotten, until a notification or an import brings it back.
pub async fn forget(Extension(app): Extension<Arc<App>>, Path(key): Path<String>) -> Result<Response, Problem> {
    if app.engine.forget(&parse_key(&key)?).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(problem::missing(format!("there is no deployment {key}")))
    }
}

/// `PUT /api/deployments`: rows that can be read are imported, the others named with their line.
pub async fn import(
    Extension(app): Extension<Arc<App>>,
    headers: HeaderMap,
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
    let imported = app.engine.import(imports).await?;
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
    Ok(Import {
        application_id,
        plan,
        version: short("version", row.version)?,
        tenant_id,
        managed_resource_group_id: short("managedResourceGroupId", row.managed_resource_group_id)?,
        location: short("location", row.location)?,
    })
}

fn parse_key(text: &str) -> Result<DeploymentKey, Problem> {
    text.parse().map_err(|error: crate::rollout::resource_id::InvalidDeploymentKey| {
        problem::invalid_field("key", error.to_string())
    })
}
