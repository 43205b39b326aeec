//! OfferPublishes: an offer publish, posted from CI or by hand, starts a rollout once.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::App;
use super::wire::api::{LintResult, Problem, PublishAccepted};
use super::wire::caller::Caller;
use super::wire::{problem, publish_request};
use crate::engine::audit::Act;
use crate::engine::publish::{Identity, PublishError, Started};
use crate::rollout::lint::rejection;
use crate::rollout::{OfferPublish, Purpose};

/// One publish.
pub async fn post(Extension(app): Extension<Arc<App>>, headers: HeaderMap, caller: Caller, body: Bytes) -> Response {
    match accept(&app, &headers, &caller, &body).await {
        Ok((status, accepted)) => (status, Json(accepted)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn accept(
    app: &App,
    headers: &HeaderMap,
    caller: &Caller,
    body: &Bytes,
) -> Result<(StatusCode, PublishAccepted), Problem> {
    let publish = publish_request::parse(body, &app.engine)?;
    let identity = identity(&publish, headers)?;
    let started = start(app, caller, "publish", publish, &identity).await?;
    let status = if started.is_duplicate { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, view(started)))
}

/// Starts the rollout of a publish, and notes in the audit list who did.
pub async fn start(
    app: &App,
    caller: &Caller,
    what: &'static str,
    publish: OfferPublish,
    identity: &Identity,
) -> Result<Started, PublishError> {
    let on = format!("{} {}", publish.plan, publish.version);
    let act = Act { who: caller.who(), what, on: Some(on), from: None, why: publish.note.clone() };
    let work = async {
        let started = app.engine.start_rollout(publish, identity).await?;
        let known = if started.is_duplicate { ", known already" } else { "" };
        let to = format!("rollout {}{known}", started.rollout_id);
        Ok::<_, PublishError>((started, Some(to)))
    };
    app.engine.audited(act, work).await
}

/// `POST /api/offer-publishes/lint`: what the lint says of a version, without bringing it to anybody. The body is that of a
/// publish, whose target may be left out; without `expected` the version is looked up in what Partner Center showed.
pub async fn lint(Extension(app): Extension<Arc<App>>, body: Bytes) -> Result<Json<LintResult>, Problem> {
    let publish = publish_request::parse_for_lint(&body, &app.engine)?;
    let Some(actions) = app.engine.published_actions(&publish).await? else {
        let OfferPublish { plan, version, .. } = publish;
        return Err(problem::missing(format!(
            "the actions of version {version} of {plan} are not known: Partner Center has not shown them; give them as `expected`"
        )));
    };
    let findings = app.engine.lint(&actions).await;
    Ok(Json(LintResult { rejected: rejection(&findings).is_some(), findings }))
}

/// By what the publish is known again (design §3.1).
pub fn identity(publish: &OfferPublish, headers: &HeaderMap) -> Result<Identity, Problem> {
    if publish.purpose == Purpose::RollOut {
        return Ok(Identity::Content);
    }
    header_identity(headers)
}

/// The `Idempotency-Key` header, where there is one.
pub fn header_identity(headers: &HeaderMap) -> Result<Identity, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(Identity::None) };
    match key.to_str() {
        Ok(key) if (1..=200).contains(&key.len()) => Ok(Identity::Header(key.to_owned())),
        _ => Err(problem::invalid_field("Idempotency-Key", "expected 1 to 200 visible ASCII characters")),
    }
}

fn view(started: Started) -> PublishAccepted {
    PublishAccepted {
        rollout_id: started.rollout_id,
        idempotency_key: started.idempotency_key,
        duplicate_of: started.is_duplicate.then_some(started.rollout_id),
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::OnItsWay { .. } | PublishError::Lower { .. } => problem::conflict(error.to_string()),
            PublishError::Engine(error) => error.into(),
        }
    }
}
