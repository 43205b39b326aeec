//! Consent: the admin-consent call-back, and Partner Center's webhook (contracts/access.md §2.7, §2.8).
//!
//! Both come from the internet without a key, so neither is believed: a call-back has to bring a state that we signed, a
//! post a signature of Microsoft's; and all that either does is to have us look for ourselves.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tracing::{info, warn};

use super::App;
use super::wire::api::Problem;
use super::wire::problem;
use crate::access::gdap::scopes::Grant;
use crate::access::gdap::webhook::{self, Happened, NotBelieved};

pub use crate::access::gdap::webhook::BODY_LIMIT;

/// What Entra adds to the address, in its own spelling.
#[derive(Deserialize)]
pub struct Answer {
    state: Option<String>,
    tenant: Option<String>,
    admin_consent: Option<String>,
    error: Option<String>,
}

/// An administrator comes back from Entra.
pub async fn come_back(
    Extension(app): Extension<Arc<App>>,
    Path(what): Path<String>,
    Query(answer): Query<Answer>,
) -> Response {
    if what != "callback" {
        return problem::missing("there is no such route").into_response();
    }
    match receive(&app, &answer).await {
        Ok((status, heading, text)) => page(status, heading, text),
        Err(problem) => problem.into_response(),
    }
}

async fn receive(app: &App, answer: &Answer) -> Result<(StatusCode, &'static str, &'static str), Problem> {
    let key = app.engine.gdap().and_then(|gdap| gdap.state_key());
    let Some(key) = key else {
        return Err(problem::not_configured(
            "consent is not taken: set GDAP_CLIENT_ID, CONSENT_STATE_KEY and PUBLIC_URL",
        ));
    };
    let state = match key.verify(answer.state.as_deref().unwrap_or_default(), app.engine.now()) {
        Ok(state) => state,
        Err(error) => {
            info!("A consent call-back was refused: {error}");
            let text = "It may be too old, or changed on its way. Ask for a new one.";
            return Ok((StatusCode::BAD_REQUEST, "This link cannot be used", text));
        }
    };
    let tenant = answer.tenant.as_deref().unwrap_or_default().to_ascii_lowercase();
    if answer.error.is_some() || !answer.admin_consent.as_deref().is_some_and(|word| word.eq_ignore_ascii_case("true"))
    {
        info!(tenant.id = %state.tenant_id, "The administrator of tenant {} did not consent", state.tenant_id);
        return Ok((StatusCode::OK, "Nothing was changed", "You have not consented. The link can be used again."));
    }
    if !bool::from(tenant.as_bytes().ct_eq(state.tenant_id.as_bytes())) {
        warn!(tenant.id = %state.tenant_id, "A consent for tenant {} came back for another one", state.tenant_id);
        let text = "You consented in another directory than the one this link is for. Sign in to that one and use the link again.";
        return Ok((StatusCode::BAD_REQUEST, "This was another directory", text));
    }
    app.engine.want_consent(&state.tenant_id, &[Grant::arm()]).await?;
    Ok((
        StatusCode::OK,
        "Thank you",
        "Your consent is being checked with Microsoft, and the updates go on by themselves. You can close this page.",
    ))
}

/// Partner Center tells of a relationship.
pub async fn hear(
    Extension(app): Extension<Arc<App>>,
    Path(what): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if what != "webhook" {
        return problem::missing("there is no such route").into_response();
    }
    match listen(&app, &headers, &body).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn listen(app: &App, headers: &HeaderMap, body: &Bytes) -> Result<(), Problem> {
    let Some(gdap) = app.engine.gdap() else {
        return Err(problem::not_configured("Partner Center is not listened to: set GDAP_CLIENT_ID"));
    };
    let believed = gdap.verifier().verify(headers, body, app.engine.now()).await;
    let happened = believed.and_then(|()| webhook::read(body)).map_err(|error| {
        info!("A post that claims to be Partner Center's was refused: {error}");
        match error {
            // Partner Center posts again.
            NotBelieved::CertificateUnavailable => {
                problem::not_configured("the certificate could not be fetched; post again")
            }
            NotBelieved::Body => problem::invalid_field("body", "not an event of Partner Center"),
            _ => problem::unauthorized("the signature is missing or wrong"),
        }
    })?;
    match happened {
        Happened::Relationship { id, event } => {
            info!("Partner Center says {event}: the relationship is read again");
            // The same post again is the same message.
            let digest: String = Sha256::digest(body).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            Ok(app.engine.look_at_relationship_later(&id, &digest).await?)
        }
        Happened::Nothing { event } => {
            info!("Partner Center says {event}: there is nothing to do");
            Ok(())
        }
    }
}

/// A page for the person who came back, made of our own words alone.
fn page(status: StatusCode, heading: &str, text: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{heading}</title><h1>{heading}</h1><p>{text}</p></html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let headers: [(HeaderName, HeaderValue); 5] = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    (status, headers, html).into_response()
}
