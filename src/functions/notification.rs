//! Notification: ARM tells what happened to a managed application (contracts/arm.md §3.1). Stores the fact and answers
//! 200; what it means is decided by the check that follows.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::App;
use super::wire::api::{FieldError, Problem};
use super::wire::problem;
use crate::engine::registry::Notification;
use crate::rollout::{ApplicationId, Plan, Timestamp};

/// The largest notification that is read; Azure's are below 4 KB.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// The body. Only what is needed is required; what Azure leaves out, adds or spells oddly is tolerated, since a refused
/// notification is never sent again (contracts/arm.md §3.1).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    event_type: Option<String>,
    application_id: Option<String>,
    event_time: Option<Value>,
    provisioning_state: Option<String>,
    plan: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct BodyPlan {
    publisher: Option<String>,
    product: Option<String>,
    name: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct BodyError {
    code: Option<String>,
    message: Option<String>,
}

/// One notification.
pub async fn post(Extension(app): Extension<Arc<App>>, RawQuery(query): RawQuery, body: Bytes) -> Response {
    match receive(&app, query.as_deref().unwrap_or_default(), &body).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn receive(app: &App, query: &str, body: &Bytes) -> Result<(), Problem> {
    if app.notification_sigs.is_empty() {
        return Err(problem::not_configured("notifications are refused: set NOTIFICATION_SIG"));
    }
    let readings = guard(query)?;
    let pairs = app.notification_sigs.iter().flat_map(|accepted| readings.iter().map(move |sig| (accepted, sig)));
    if !pairs.fold(false, |known, (accepted, sig)| known | bool::from(accepted.as_bytes().ct_eq(sig))) {
        return Err(problem::unauthorized("the query parameter sig is missing or wrong"));
    }
    let notification = parse(body, app.engine.now())?;
    Ok(app.engine.notify(notification).await?)
}

/// The guard that the publisher put into the notification endpoint's URL, in every way it can be read: as it stands there, and
/// decoded, a plus sign being one or a blank. For publishers paste what a generator gave them, base64 more often than not.
fn guard(query: &str) -> Result<[Vec<u8>; 3], Problem> {
    let mut sigs = query.split('&').filter_map(|pair| pair.strip_prefix("sig="));
    let sig = sigs.next().unwrap_or_default();
    if sigs.next().is_some() {
        return Err(problem::invalid_field("sig", "it is there twice"));
    }
    let decoded = |text: &str| percent_decode_str(text).collect();
    Ok([sig.as_bytes().to_vec(), decoded(sig), decoded(&sig.replace('+', " "))])
}

fn parse(body: &Bytes, now: Timestamp) -> Result<Notification, Problem> {
    let body: Body = serde_json::from_slice(body).map_err(|error| problem::invalid_field("body", error.to_string()))?;
    let mut errors = Vec::new();
    let mut required = |field: &str, value: Option<String>| {
        if value.as_deref().is_none_or(str::is_empty) {
            errors.push(FieldError { field: field.to_owned(), why: "required".to_owned() });
        }
        value.unwrap_or_default()
    };
    let event_type = required("eventType", body.event_type);
    let provisioning_state = required("provisioningState", body.provisioning_state);
    let application_id = required("applicationId", body.application_id);
    let application_id = match application_id.parse::<ApplicationId>() {
        Ok(id) => Some(id),
        Err(_) if application_id.is_empty() => None,
        Err(error) => {
            errors.push(FieldError { field: "applicationId".to_owned(), why: error.to_string() });
            None
        }
    };
    let (Some(application_id), true) = (application_id, errors.is_empty()) else {
        return Err(problem::invalid(errors));
    };
    let event_time = readable::<Timestamp>(body.event_time).unwrap_or(now);
    let plan = readable::<BodyPlan>(body.plan);
    let version = plan.as_ref().and_then(|plan| plan.version.clone());
    let plan = plan.and_then(|plan| {
        // A plan whose ids cannot be read is left to the check, which asks ARM.
        Plan::parse(&plan.publisher?, &plan.product?, &plan.name?).ok()
    });
    let error = readable::<BodyError>(body.error).map(|error| {
        format!("{}: {}", error.code.as_deref().unwrap_or("Unknown"), error.message.as_deref().unwrap_or("no message"))
    });
    Ok(Notification { application_id, event_type, provisioning_state, event_time, plan, version, error })
}

/// A member that is as if it were not there when it is of another form.
fn readable<T: DeserializeOwned>(member: Option<Value>) -> Option<T> {
    serde_json::from_value(member?).ok()
}
