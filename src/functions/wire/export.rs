//! The registry as a file: every deployment that is there, as JSON or CSV, in the form that an import takes back.
//!
//! Written page by page, so that a hundred thousand deployments need no memory. What is gone is left out, since an import
//! would bring it back.

use std::sync::Arc;

use axum::body::Bytes;
use futures_util::stream::{self, Stream};

use super::api::DeploymentView;
use super::cell::harmless;
use super::views;
use crate::functions::App;
use crate::rollout::Plan;
use crate::store::{PageRequest, StoreError};

/// How many deployments are read at once.
const PAGE: usize = 1_000;

/// The columns: those that an import reads, then those that only people do.
const COLUMNS: &str = "applicationId,publisher,offer,plan,version,preview,confirmed,tenantId,managedResourceGroupId,location,maintenanceWindows,kind,provisioningState,appliedVersion,appliedAt\r\n";

/// Where the writing stands.
enum Place {
    Head,
    Page { continuation: Option<String>, is_first: bool },
    Foot,
    Done,
}

/// One array with an object for each deployment, as `GET /api/deployments/{key}` shows it.
pub fn json(app: Arc<App>, plan: Option<Plan>) -> impl Stream<Item = Result<Bytes, StoreError>> {
    pages(app, plan, "[", "\n]\n", |deployments, is_first| {
        let mut text = String::new();
        for (at, deployment) in deployments.iter().enumerate() {
            text.push_str(if at > 0 || !is_first { ",\n" } else { "\n" });
            text.push_str(&serde_json::to_string(deployment).unwrap_or_else(|_| "null".to_owned()));
        }
        text
    })
}

/// One line for each deployment under a line of names.
pub fn csv(app: Arc<App>, plan: Option<Plan>) -> impl Stream<Item = Result<Bytes, StoreError>> {
    pages(app, plan, COLUMNS, "", |deployments, _| {
        let mut writer = ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(Vec::new());
        for deployment in deployments {
            // Writing to memory cannot fail, and every record has as many fields as the first.
            let _ = writer.write_record(record(deployment));
        }
        String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
    })
}

fn record(deployment: &DeploymentView) -> impl Iterator<Item = String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let applied = deployment.applied.as_ref();
    [
        deployment.application_id.to_string(),
        text(&deployment.publisher),
        text(&deployment.offer),
        text(&deployment.plan),
        text(&deployment.version),
        deployment.preview.to_string(),
        deployment.confirmed.to_string(),
        text(&deployment.tenant_id),
        text(&deployment.managed_resource_group_id),
        text(&deployment.location),
        windows(deployment),
        text(&deployment.kind),
        text(&deployment.provisioning_state),
        applied.map(|applied| applied.version.to_string()).unwrap_or_default(),
        applied.map(|applied| applied.at.to_rfc3339()).unwrap_or_default(),
    ]
    .into_iter()
    .map(harmless)
}

/// The windows as an import reads them; nothing where there are none.
fn windows(deployment: &DeploymentView) -> String {
    match deployment.maintenance_windows.as_slice() {
        [] => String::new(),
        windows => serde_json::to_string(windows).unwrap_or_default(),
    }
}

fn pages(
    app: Arc<App>,
    plan: Option<Plan>,
    head: &'static str,
    foot: &'static str,
    write: impl Fn(&[DeploymentView], bool) -> String + Send + 'static,
) -> impl Stream<Item = Result<Bytes, StoreError>> {
    stream::try_unfold((Place::Head, app, plan, write), move |(place, app, plan, write)| async move {
        let (text, place) = match place {
            Place::Head => (Bytes::from_static(head.as_bytes()), Place::Page { continuation: None, is_first: true }),
            Place::Page { continuation, is_first } => {
                let request = PageRequest { continuation, top: PAGE };
                let page = app.engine.store().deployments(plan.as_ref(), &request).await?;
                let there = page.items.iter().filter(|deployment| deployment.value.gone_since.is_none());
                let there: Vec<_> = there.map(|deployment| views::deployment(&deployment.value)).collect();
                let is_first_still = is_first && there.is_empty();
                let place = match page.next {
                    Some(next) => Place::Page { continuation: Some(next), is_first: is_first_still },
                    None => Place::Foot,
                };
                (Bytes::from(write(&there, is_first)), place)
            }
            Place::Foot => (Bytes::from_static(foot.as_bytes()), Place::Done),
            Place::Done => return Ok(None),
        };
        Ok(Some((text, (place, app, plan, write))))
    })
}
