//! Lends the old line of the Azure SDK (0.21: Service Bus, Tables) our `reqwest` client, our authorization and our endpoint.
//!
//! Whatever host the SDK has in mind, a request goes to the configured endpoint and nowhere else. Repeats nothing, but once
//! with a new token after a 401. The SDK signs with a key it was given for form's sake; that signature is thrown away.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core_legacy::error::{Error, ErrorKind};
use azure_core_legacy::headers::{HeaderName, HeaderValue, Headers};
use azure_core_legacy::{Body, BytesStream, CollectedResponse, HttpClient, Request, Response, StatusCode};
use bytes::{Bytes, BytesMut};
use http::header::AUTHORIZATION;
use url::Url;

use super::credential::{BearerToken, NoToken, TokenSource};
use super::shared_access::SharedAccess;
use crate::clock::Clock;
use crate::rollout::Timestamp;

/// The largest body that is read; a page of Tables stays below half of it.
const LARGEST_BODY: usize = 8 * 1024 * 1024;
/// How much of an error's text is kept, in characters.
const LONGEST_DETAIL: usize = 300;

/// What a request is authorized with.
#[derive(Debug)]
pub enum Authorization {
    /// A token of an identity.
    Bearer {
        /// Where it comes from.
        tokens: Arc<TokenSource>,
        /// What it is for, such as `https://servicebus.azure.net/.default`.
        scope: String,
    },
    /// A shared access signature of Service Bus.
    SharedAccess(SharedAccess),
    /// Whatever the SDK has signed (a storage account's key). It has to know the endpoint's own address.
    AsSigned,
}

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("HTTP {status}{}", .detail.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// What Retry-After says.
    pub wait: Option<Duration>,
    /// The beginning of what the service wrote, unless it repeats what we authorized ourselves with.
    pub detail: Option<String>,
}

/// Why there is no answer. The service may have done what was asked, but for [`NoAnswer::NoToken`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// It took too long.
    #[error("no answer came within {} s", within.as_secs_f64())]
    Timeout {
        /// How long it was waited for.
        within: Duration,
    },
    /// There is no connection, or it broke.
    #[error("the connection failed: {reason}")]
    Connection {
        /// Why, without the address.
        reason: String,
    },
    /// Nothing was sent, since there is nothing to authorize it with.
    #[error(transparent)]
    NoToken(NoToken),
}

/// The transport to one endpoint.
pub struct LegacyTransport {
    http: reqwest::Client,
    endpoint: Url,
    authorization: Authorization,
    call_timeout: Duration,
    clock: Arc<dyn Clock>,
}

/// An authorization that was sent.
enum Sent {
    Bearer(BearerToken),
    SharedAccess(http::HeaderValue),
    AsSigned,
}

impl LegacyTransport {
    /// A transport to `endpoint`, of which scheme, host and port count; every call takes `call_timeout` at most.
    pub fn new(
        http: reqwest::Client,
        endpoint: Url,
        authorization: Authorization,
        call_timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { http, endpoint, authorization, call_timeout, clock }
    }

    /// Sends a request and reads the whole answer, whatever it says.
    ///
    /// # Errors
    /// [`NoAnswer`] within the SDK's error, for `downcast_ref`.
    pub async fn call(&self, request: &Request) -> azure_core_legacy::Result<CollectedResponse> {
        let first = self.authorize().await.map_err(unauthorized)?;
        let answer = self.exchange(request, &first).await?;
        if *answer.status() != StatusCode::Unauthorized {
            return Ok(answer);
        }
        match self.authorize_anew(&first).await.map_err(unauthorized)? {
            Some(second) => self.exchange(request, &second).await,
            None => Ok(answer),
        }
    }

    async fn authorize(&self) -> Result<Sent, NoToken> {
        Ok(match &self.authorization {
            Authorization::Bearer { tokens, scope } => Sent::Bearer(tokens.token(scope).await?),
            Authorization::SharedAccess(key) => Sent::SharedAccess(key.authorization()?),
            Authorization::AsSigned => Sent::AsSigned,
        })
    }

    async fn authorize_anew(&self, refused: &Sent) -> Result<Option<Sent>, NoToken> {
        Ok(match (&self.authorization, refused) {
            (Authorization::Bearer { tokens, scope }, Sent::Bearer(token)) => {
                Some(Sent::Bearer(tokens.fresh(scope, token).await?))
            }
            (Authorization::SharedAccess(key), _) => Some(Sent::SharedAccess(key.fresh()?)),
            _ => None,
        })
    }

    async fn exchange(&self, request: &Request, authorization: &Sent) -> azure_core_legacy::Result<CollectedResponse> {
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes())
            .map_err(|error| Error::full(ErrorKind::Other, error, "a method that HTTP does not know"))?;
        let mut outgoing = self.http.request(method, self.address(request.url())).timeout(self.call_timeout);
        let authorization = match authorization {
            Sent::Bearer(token) => Some(token.authorization()),
            Sent::SharedAccess(value) => Some(value),
            Sent::AsSigned => None,
        };
        for (name, value) in request.headers().iter() {
            if authorization.is_none() || name.as_str() != AUTHORIZATION.as_str() {
                outgoing = outgoing.header(name.as_str(), value.as_str());
            }
        }
        if let Some(value) = authorization {
            outgoing = outgoing.header(AUTHORIZATION, value);
        }
        outgoing = match request.body() {
            Body::Bytes(bytes) => outgoing.body(bytes.clone()),
            Body::SeekableStream(_) => return Err(Error::message(ErrorKind::Other, "no request of ours is a stream")),
        };
        let answer = outgoing.send().await.map_err(|error| self.failed(error))?;
        self.whole(answer).await
    }

    async fn whole(&self, mut answer: reqwest::Response) -> azure_core_legacy::Result<CollectedResponse> {
        let status = StatusCode::try_from(answer.status().as_u16())
            .map_err(|_| connection_failed("the answer has a status that HTTP does not know"))?;
        let mut headers = Headers::new();
        for (name, value) in answer.headers() {
            // Service Bus may write properties of a message as they are, so a value need not be ASCII.
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.failed(error))? {
            if body.len() + chunk.len() > LARGEST_BODY {
                return Err(connection_failed("the answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(CollectedResponse::new(status, headers, body.freeze()))
    }

    /// The same path and query at our endpoint.
    fn address(&self, url: &Url) -> Url {
        let mut address = self.endpoint.clone();
        address.set_path(url.path());
        address.set_query(url.query());
        address
    }

    fn failed(&self, error: reqwest::Error) -> Error {
        if error.is_timeout() {
            return Error::new(ErrorKind::Io, NoAnswer::Timeout { within: self.call_timeout });
        }
        let error = error.without_url();
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        connection_failed(&reason)
    }

    /// What an answer without success says.
    pub fn refusal(&self, answer: &CollectedResponse) -> Refusal {
        let wait = answer.headers().get_optional_str(&azure_core_legacy::headers::RETRY_AFTER);
        Refusal {
            status: u16::from(*answer.status()),
            wait: wait.and_then(|text| wait_of(text, self.clock.now())),
            detail: detail_of(answer.body()),
        }
    }
}

/// Retry-After: seconds, or an HTTP date.
fn wait_of(text: &str, now: Timestamp) -> Option<Duration> {
    match text.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => chrono::DateTime::parse_from_rfc2822(text.trim())
            .ok()
            .map(|at| (at.to_utc() - now).to_std().unwrap_or_default()),
    }
}

/// One line of an error's body. A service that repeats a signature or a token to us does not get it into our logs.
fn detail_of(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    if ["sig=", "Bearer ", "SharedAccess", "eyJ"].iter().any(|secret| text.contains(secret)) {
        return Some("(withheld, since it repeats credentials)".to_owned());
    }
    let line: Vec<&str> = text.split_whitespace().collect();
    Some(line.join(" ").chars().take(LONGEST_DETAIL).collect()).filter(|line: &String| !line.is_empty())
}

fn connection_failed(reason: &str) -> Error {
    Error::new(ErrorKind::Io, NoAnswer::Connection { reason: reason.to_owned() })
}

fn unauthorized(error: NoToken) -> Error {
    Error::new(ErrorKind::Credential, NoAnswer::NoToken(error))
}

#[async_trait]
impl HttpClient for LegacyTransport {
    async fn execute_request(&self, request: &Request) -> azure_core_legacy::Result<Response> {
        let answer = self.call(request).await?;
        let body: Bytes = answer.body().clone();
        Ok(Response::new(*answer.status(), answer.headers().clone(), Box::pin(BytesStream::new(body))))
    }

    /// A [`Refusal`] within the SDK's error, which would lose Retry-After otherwise.
    async fn execute_request_check_status(&self, request: &Request) -> azure_core_legacy::Result<CollectedResponse> {
        let answer = self.call(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let kind = ErrorKind::http_response(*answer.status(), None);
        Err(Error::new(kind, self.refusal(&answer)))
    }
}

impl fmt::Debug for LegacyTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyTransport")
            .field("endpoint", &self.endpoint.as_str())
            .field("authorization", &self.authorization)
            .field("call_timeout", &self.call_timeout)
            .finish_non_exhaustive()
    }
}
