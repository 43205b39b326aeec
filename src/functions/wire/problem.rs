//! Errors of the HTTP API as `application/problem+json` (RFC 9457): what was wrong, which member, what to do.

use axum::body::to_bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::Reason;
use super::api::{FieldError, PROBLEM_JSON, Problem};
use crate::engine::EngineError;
use crate::store::StoreError;

/// The longest refusal of the framework; each is one sentence.
const REJECTION_LIMIT: usize = 4_096;

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let reason = Reason(self.detail.clone().unwrap_or_else(|| self.title.clone()));
        (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], Extension(reason), Json(self)).into_response()
    }
}

fn problem(status: StatusCode, detail: impl Into<String>) -> Problem {
    Problem {
        kind: "about:blank".to_owned(),
        title: status.canonical_reason().unwrap_or("Error").to_owned(),
        status: status.as_u16(),
        detail: Some(detail.into()),
        errors: Vec::new(),
    }
}

/// 400: members of the request are wrong, each named.
pub fn invalid(errors: Vec<FieldError>) -> Problem {
    let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    let detail = format!("wrong or missing: {}", fields.join(", "));
    Problem { errors, ..problem(StatusCode::BAD_REQUEST, detail) }
}

/// 400: one member of the request is wrong.
pub fn invalid_field(field: &str, why: impl Into<String>) -> Problem {
    invalid(vec![FieldError { field: field.to_owned(), why: why.into() }])
}

/// 401: the caller did not show what it has to.
pub fn unauthorized(detail: &str) -> Problem {
    problem(StatusCode::UNAUTHORIZED, detail)
}

/// 404 with words.
pub fn missing(detail: impl Into<String>) -> Problem {
    problem(StatusCode::NOT_FOUND, detail)
}

/// 409: the state does not allow it.
pub fn conflict(detail: impl Into<String>) -> Problem {
    problem(StatusCode::CONFLICT, detail)
}

/// 502: Azure did not answer as it has to.
pub fn bad_gateway(detail: impl Into<String>) -> Problem {
    problem(StatusCode::BAD_GATEWAY, detail)
}

/// 503: settings are absent.
pub fn not_configured(detail: &str) -> Problem {
    problem(StatusCode::SERVICE_UNAVAILABLE, detail)
}

/// 500: ours.
pub fn internal(detail: &str) -> Problem {
    problem(StatusCode::INTERNAL_SERVER_ERROR, detail)
}

/// 404 for a path that is no route.
pub async fn not_found() -> Problem {
    missing("there is no such route")
}

/// 405 for a method that the route does not have.
pub async fn method_not_allowed() -> Problem {
    problem(StatusCode::METHOD_NOT_ALLOWED, "the route does not take this method")
}

/// The same answer as a problem, where it is an error that was not made here: the refusal of a query, path or body that
/// the framework could not read.
pub async fn of_rejection(response: Response) -> Response {
    let status = response.status();
    let is_ours = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| {
        // The dashboard says what went wrong on a page.
        kind == PROBLEM_JSON || kind.as_bytes().starts_with(b"text/html")
    });
    if is_ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let said = to_bytes(response.into_body(), REJECTION_LIMIT).await.unwrap_or_default();
    problem(status, String::from_utf8_lossy(&said)).into_response()
}

impl From<EngineError> for Problem {
    fn from(failure: EngineError) -> Self {
        match failure {
            EngineError::Store(StoreError::InvalidContinuation) => {
                invalid_field("continuation", "not one that this list gave out; start without it")
            }
            failure => internal(&format!("{failure}; nothing is half-done, try again")),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        EngineError::from(error).into()
    }
}
