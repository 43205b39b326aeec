//! One call to ARM: what goes out, from which of the process's places, and what became of it. It is sent by
//! [`super::client`], and understood by [`super::operation`].

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use uuid::Uuid;

use super::admission::Permit;
use super::remote_error;
use super::transport::Received;
use crate::access::credential::{BearerToken, NoToken};
use crate::rollout::RemoteError;
use crate::rollout::failure::{HELD_BACK, NO_TOKEN};
use crate::trace;

const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");

/// From which of the process's places a call is made.
pub(super) enum Turn {
    /// This one, for this call alone: kept until the call is over.
    Given(#[expect(dead_code, reason = "a place is given back by dropping it")] Permit),
    /// The one that its caller goes on holding.
    Held,
    /// One that it waits for.
    Wanted,
}

/// One call, ready to go out as often as needed.
pub(super) struct Call<'a> {
    /// What it is, for measures and traces; its address is in neither.
    pub(super) name: &'static str,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) request_id: Uuid,
    /// Lower-case; empty if the call is nobody's.
    pub(super) subscription: &'a str,
    /// JSON, or nothing.
    pub(super) body: Bytes,
}

impl<'a> Call<'a> {
    pub(super) fn look(uri: Uri, subscription: &'a str) -> Self {
        let (method, request_id) = (Method::GET, Uuid::new_v4());
        Self { name: "look", method, uri, request_id, subscription, body: Bytes::new() }
    }

    /// Something that is to be as `body` says, however often it is sent.
    pub(super) fn put(uri: Uri, subscription: &'a str, body: Bytes) -> Self {
        Self { name: "put", method: Method::PUT, uri, request_id: Uuid::new_v4(), subscription, body }
    }

    /// A question that is posted, and changes nothing.
    pub(super) fn query(uri: Uri, scope: &'a str, body: Bytes) -> Self {
        Self { name: "query", method: Method::POST, uri, request_id: Uuid::new_v4(), subscription: scope, body }
    }

    pub(super) fn request(&self, token: Option<&BearerToken>) -> Option<Request<Full<Bytes>>> {
        let mut id = Uuid::encode_buffer();
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("permafresh/", env!("CARGO_PKG_VERSION"))));
        headers
            .insert(CLIENT_REQUEST_ID, HeaderValue::from_str(self.request_id.hyphenated().encode_lower(&mut id)).ok()?);
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token.authorization().clone());
        }
        // Only where spans are drawn, as Azure's own clients do it: Azure ignores it, or shows it in its logs.
        if let Some(trace) = trace::drawn().and_then(|trace| HeaderValue::from_str(&trace.to_string()).ok()) {
            headers.insert(trace::HEADER, trace);
        }
        if self.method == Method::POST {
            // Azure's front end answers 411 to a POST without it (contracts/arm.md §2.5).
            headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        }
        if !self.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Some(request)
    }
}

/// What became of a call.
pub(super) enum Outcome {
    Answered { received: Received, throttled_for: Option<Duration> },
    Unanswered { error: RemoteError, wait: Option<Duration>, throttled_for: Option<Duration> },
}

impl Outcome {
    /// Whether the door is closed: 401, 403, or a subscription that the caller cannot see.
    pub(super) fn is_refusal(&self) -> bool {
        let Self::Answered { received, .. } = self else { return false };
        match received.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => true,
            StatusCode::NOT_FOUND => {
                let error = remote_error::from_answer(received.status, &received.body);
                error.code.eq_ignore_ascii_case("SubscriptionNotFound")
            }
            _ => false,
        }
    }

    pub(super) fn lacks_token(&self) -> bool {
        matches!(self, Self::Unanswered { error, .. } if error.status.is_none() && error.code == NO_TOKEN)
    }

    pub(super) fn held_back(rest: Duration) -> Self {
        let message = format!(
            "not called: ARM throttles this subscription and wants no call for another {} s",
            rest.as_secs_f64().ceil()
        );
        let error = RemoteError { status: None, code: HELD_BACK.to_owned(), message };
        Self::Unanswered { error, wait: Some(rest), throttled_for: Some(rest) }
    }

    pub(super) fn without_token(error: NoToken) -> Self {
        let error = RemoteError { status: None, code: NO_TOKEN.to_owned(), message: error.to_string() };
        Self::Unanswered { error, wait: None, throttled_for: None }
    }
}
