//! One request to one configured host, and its whole answer: what all calls of GDAP have in common.
//!
//! Follows no redirect, repeats nothing, bounds time and size, and sends what is authorized only where a base address of the
//! settings leads. What went wrong is told without addresses, bodies or headers, since any of them may hold a secret.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use url::Url;
use zeroize::Zeroizing;

use crate::rollout::Timestamp;

/// How long a call may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read.
pub const LARGEST_BODY: usize = 4 * 1024 * 1024;
/// The longest wait that a service is believed to mean.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// A whole answer.
pub struct Received {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, overwritten when it is dropped: it may hold a token.
    pub body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer, or none that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Not in time.
    #[error("{service} did not answer in time")]
    Timeout {
        /// Who was asked.
        service: &'static str,
    },
    /// Not at all.
    #[error("{service} could not be reached, or broke off")]
    Unreachable {
        /// Who was asked.
        service: &'static str,
    },
    /// More than is read.
    #[error("the answer of {service} is too large")]
    TooLarge {
        /// Who was asked.
        service: &'static str,
    },
    /// Something else than it should be: a page of a proxy, half an object.
    #[error("the answer of {service} ({status}) is not what it should be")]
    Unreadable {
        /// Who was asked.
        service: &'static str,
        /// The HTTP status.
        status: u16,
    },
}

impl Received {
    /// Retry-After, clamped: seconds or a date.
    pub fn wait(&self, now: Timestamp) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let wait = match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => (chrono::DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().unwrap_or_default(),
        };
        Some(wait.min(LONGEST_WAIT))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`NoAnswer::Unreadable`].
    pub fn json<T: DeserializeOwned>(&self, service: &'static str) -> Result<T, NoAnswer> {
        serde_json::from_slice(&self.body).map_err(|_| NoAnswer::Unreadable { service, status: self.status.as_u16() })
    }
}

/// Sends one request; the client follows no redirect.
pub async fn send(service: &'static str, request: reqwest::RequestBuilder) -> Result<Received, NoAnswer> {
    send_for(service, request.timeout(CALL_TIMEOUT), LARGEST_BODY).await
}

/// The same for an answer of `largest` bytes at most, of a request that has its own time limit.
pub async fn send_for(
    service: &'static str,
    request: reqwest::RequestBuilder,
    largest: usize,
) -> Result<Received, NoAnswer> {
    let failed = |error: reqwest::Error| match error.is_timeout() {
        true => NoAnswer::Timeout { service },
        false => NoAnswer::Unreachable { service },
    };
    let mut answer = request.send().await.map_err(failed)?;
    // Room for all of it at once: what is moved to a larger place leaves a copy behind.
    let announced = answer.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    let mut body = Zeroizing::new(Vec::with_capacity(announced.clamp(16 * 1024, largest)));
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > largest {
            return Err(NoAnswer::TooLarge { service });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Received { status: answer.status(), headers: answer.headers().clone(), body })
}

/// A form as it is posted to a token endpoint, overwritten once it is sent.
pub fn form(request: reqwest::RequestBuilder, fields: &[(&str, &str)]) -> reqwest::RequestBuilder {
    // Each byte becomes three at most.
    let longest = fields.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
    let form = url::form_urlencoded::Serializer::new(String::with_capacity(longest)).extend_pairs(fields).finish();
    let body = Bytes::from_owner(Zeroizing::new(form.into_bytes()));
    request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
}

/// Whether two addresses have the same scheme, host and port.
pub fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}
