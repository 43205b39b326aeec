//! The wire to ARM: one pool of kept-alive connections, one request, one whole answer.
//!
//! Speaks hyper itself since reqwest takes its addresses as `url::Url`, which rewrites some bytes of a URL (`'` in a query
//! becomes `%27`), and ARM's polling URLs are signed. Follows no redirect, repeats nothing, and bounds time and size.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::Url;

use crate::rollout::RemoteError;

/// The largest body that is read; ARM's own limit (contracts/arm.md §2.5).
pub const LARGEST_BODY: usize = 8 * 1024 * 1024;
/// How long an idle connection is kept; shorter than the minutes after which Azure's front ends close theirs.
const IDLE: Duration = Duration::from_secs(60);

/// A proxy that encrypted calls are tunnelled through, so that it sees the host and nothing else.
#[derive(Clone)]
pub struct Proxy {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// The proxy that `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name for an endpoint; none for loopback's plain HTTP.
    pub fn from_environment(endpoint: &Url) -> Option<Self> {
        let endpoint = endpoint.as_str().parse::<Uri>().ok()?;
        if endpoint.scheme() != Some(&http::uri::Scheme::HTTPS) {
            return None;
        }
        let proxy = Matcher::from_env().intercept(&endpoint)?;
        Some(Self { uri: proxy.uri().clone(), authorization: proxy.basic_auth().cloned() })
    }

    /// The proxy at an address, without credentials.
    pub fn at(uri: Uri) -> Self {
        Self { uri, authorization: None }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({:?})", self.uri.host().unwrap_or_default())
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Received {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    #[error("ARM did not answer within {} s", within.as_secs_f64())]
    Timeout { within: Duration },
    #[error("ARM could not be reached: {reason}")]
    Unreachable { reason: String },
    #[error("the connection to ARM broke before the answer was whole: {reason}")]
    Broken { reason: String },
    #[error("ARM's answer is larger than {LARGEST_BODY} bytes")]
    TooLarge,
    #[error("the system's trusted certificates could not be read: {reason}")]
    NoTrust { reason: String },
}

impl NoAnswer {
    /// What kind of trouble it is, in a word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "Timeout",
            Self::Unreachable { .. } => "ConnectionFailed",
            Self::Broken { .. } => "ConnectionBroken",
            Self::TooLarge => "AnswerTooLarge",
            Self::NoTrust { .. } => "NoTrustedCertificates",
        }
    }
}

impl From<NoAnswer> for RemoteError {
    fn from(problem: NoAnswer) -> Self {
        Self { status: None, code: problem.code().to_owned(), message: problem.to_string() }
    }
}

/// The pool.
pub struct Transport {
    plain: Client<HttpConnector, Full<Bytes>>,
    // Reading the system's certificates takes longer than the whole start may, so it waits for the first call.
    encrypted: OnceLock<Encrypted>,
    connector: HttpConnector,
    proxy: Option<Proxy>,
    connections: usize,
    call_timeout: Duration,
}

enum Encrypted {
    Direct(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    Tunnelled(Client<HttpsConnector<Tunnel<HttpConnector>>, Full<Bytes>>),
}

impl Transport {
    pub fn new(connections: usize, connect_timeout: Duration, call_timeout: Duration, proxy: Option<Proxy>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(connect_timeout));
        connector.set_keepalive(Some(IDLE));
        connector.enforce_http(false);
        let plain = pool(connections).build(connector.clone());
        Self { plain, encrypted: OnceLock::new(), connector, proxy, connections, call_timeout }
    }

    /// Sends one request and reads the whole answer.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Received, NoAnswer> {
        tokio::time::timeout(self.call_timeout, self.exchange(request))
            .await
            .unwrap_or(Err(NoAnswer::Timeout { within: self.call_timeout }))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Received, NoAnswer> {
        let answer = if request.uri().scheme() == Some(&http::uri::Scheme::HTTPS) {
            self.request_encrypted(request).await?
        } else {
            self.plain.request(request).await
        };
        let answer = answer.map_err(|error| {
            let reason = whole_reason(&error);
            if error.is_connect() { NoAnswer::Unreachable { reason } } else { NoAnswer::Broken { reason } }
        })?;
        let (head, body) = answer.into_parts();
        let body = if body.is_end_stream() {
            Bytes::new()
        } else {
            let collected = Limited::new(body, LARGEST_BODY).collect().await;
            collected
                .map_err(|error| {
                    if error.is::<LengthLimitError>() {
                        NoAnswer::TooLarge
                    } else {
                        NoAnswer::Broken { reason: whole_reason(error.as_ref()) }
                    }
                })?
                .to_bytes()
        };
        Ok(Received { status: head.status, headers: head.headers, body })
    }

    async fn request_encrypted(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Result<Response<Incoming>, ClientError>, NoAnswer> {
        let client = match self.encrypted.get() {
            Some(client) => client,
            None => {
                let made = self.encrypted()?;
                self.encrypted.get_or_init(|| made)
            }
        };
        Ok(match client {
            Encrypted::Direct(client) => client.request(request).await,
            Encrypted::Tunnelled(client) => client.request(request).await,
        })
    }

    fn encrypted(&self) -> Result<Encrypted, NoAnswer> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_platform_verifier(provider)
            .map_err(|error| NoAnswer::NoTrust { reason: error.to_string() })?
            .https_only()
            .enable_http1();
        Ok(match &self.proxy {
            None => Encrypted::Direct(pool(self.connections).build(connector.wrap_connector(self.connector.clone()))),
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri.clone(), self.connector.clone());
                if let Some(authorization) = &proxy.authorization {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                Encrypted::Tunnelled(pool(self.connections).build(connector.wrap_connector(tunnel)))
            }
        })
    }
}

fn pool(connections: usize) -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_max_idle_per_host(connections).pool_idle_timeout(IDLE).pool_timer(TokioTimer::new());
    builder
}

/// An error with its causes: hyper's own text alone says only in which phase it happened.
fn whole_reason(error: &(dyn Error + 'static)) -> String {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        reason.push_str(": ");
        reason.push_str(&error.to_string());
        cause = error.source();
    }
    reason
}
