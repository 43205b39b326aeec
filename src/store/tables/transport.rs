//! Carries the requests of `azure_data_tables` over our `reqwest` client, and says who we are.
//!
//! The one place that knows tokens and account keys: the SDK is built without either, so that neither can reach its logs.
//! Repeats nothing, but once with a new token where the service did not take the old one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use azure_core_legacy::error::{Error, ErrorKind};
use azure_core_legacy::headers::{HeaderName, HeaderValue, Headers};
use azure_core_legacy::{Body, BytesStream, HttpClient, Request, Response, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::hmac;
use tokio::sync::Semaphore;
use url::Url;

use crate::access::credential::{BearerToken, TokenSource};

/// What a token for tables is for, by the end of their address: each cloud has its own. As the SDKs of .NET, Java and Go
/// have it (`TableAudience`; contracts/service-bus-and-tables.md §2.1 knows the public cloud only).
const SCOPES: &[(&str, &str)] = &[
    (".core.usgovcloudapi.net", "https://storage.azure.us/.default"),
    (".core.chinacloudapi.cn", "https://storage.azure.cn/.default"),
];
/// Of the public cloud, and wherever nothing else is known.
const PUBLIC_SCOPE: &str = "https://storage.azure.com/.default";
/// How long one request may take; the service itself gives up after 30 s (§2.3).
const PATIENCE: Duration = Duration::from_secs(35);
/// How many requests may be under way at once, so that a large batch does not open a connection for each.
const AT_ONCE: usize = 64;

/// Who we are to the service.
pub enum Signer {
    /// Whoever holds the account's key.
    SharedKey {
        /// The account's name.
        account: String,
        /// The key, decoded.
        key: hmac::Key,
    },
    /// An identity.
    Identity {
        /// Where its tokens come from.
        tokens: Arc<TokenSource>,
        /// What they are for.
        scope: &'static str,
    },
}

impl Signer {
    /// An identity, for the tables at `endpoint`.
    pub fn identity(tokens: Arc<TokenSource>, endpoint: &Url) -> Self {
        let host = endpoint.host_str().unwrap_or_default();
        let of_cloud = SCOPES.iter().find(|(end, _)| host.ends_with(end));
        Self::Identity { tokens, scope: of_cloud.map_or(PUBLIC_SCOPE, |(_, scope)| scope) }
    }

    /// A signer with an account key as the portal shows it; `None` if it is not base64.
    pub fn shared_key(account: &str, key: &str) -> Option<Self> {
        let key = STANDARD.decode(key).ok().filter(|key| !key.is_empty())?;
        Some(Self::SharedKey { account: account.to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, &key) })
    }
}

/// Our client, lent to the SDK.
pub struct Lent {
    http: reqwest::Client,
    signer: Signer,
    places: Semaphore,
    sent: AtomicU64,
}

impl Lent {
    /// Lends `http`, which should follow no redirects: the authorization is for the endpoint alone.
    pub fn new(http: reqwest::Client, signer: Signer) -> Self {
        Self { http, signer, places: Semaphore::new(AT_ONCE), sent: AtomicU64::new(0) }
    }

    /// How many requests were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    async fn send(&self, request: &Request, body: &Bytes, authorization: &str) -> azure_core_legacy::Result<Answer> {
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes())
            .map_err(|error| Error::full(ErrorKind::Other, error, "a method that HTTP does not know"))?;
        let mut outgoing = self.http.request(method, request.url().clone()).timeout(PATIENCE);
        // Its length is counted anew, since a batch is put into its documented form here.
        for (name, value) in request.headers().iter().filter(|(name, _)| name.as_str() != "content-length") {
            outgoing = outgoing.header(name.as_str(), value.as_str());
        }
        outgoing = outgoing.header(http::header::AUTHORIZATION, authorization);
        if !body.is_empty() {
            outgoing = outgoing.body(body.clone());
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        let answer = outgoing.send().await.map_err(failed)?;
        let status = answer.status().as_u16();
        let mut headers = Headers::new();
        for (name, value) in answer.headers() {
            // An empty continuation is none: sent back it would be refused (§2.3).
            if let Ok(value) = value.to_str().map(str::to_owned)
                && !(value.is_empty() && name.as_str().starts_with("x-ms-continuation"))
            {
                headers.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value));
            }
        }
        Ok(Answer { status, headers, body: answer.bytes().await.map_err(failed)? })
    }
}

struct Answer {
    status: u16,
    headers: Headers,
    body: Bytes,
}

/// [`ErrorKind::Io`] where the request may have arrived, [`ErrorKind::Other`] where it has not.
fn failed(error: reqwest::Error) -> Error {
    let (kind, what) = if error.is_connect() {
        (ErrorKind::Other, "no connection")
    } else if error.is_timeout() {
        (ErrorKind::Io, "no answer in time")
    } else {
        (ErrorKind::Io, "the connection broke off")
    };
    Error::full(kind, error.without_url(), what)
}

#[async_trait]
impl HttpClient for Lent {
    async fn execute_request(&self, request: &Request) -> azure_core_legacy::Result<Response> {
        let body = match request.body() {
            Body::Bytes(bytes) if request.url().path().ends_with("/$batch") => in_documented_form(bytes),
            Body::Bytes(bytes) => bytes.clone(),
            Body::SeekableStream(_) => return Err(Error::message(ErrorKind::Other, "a table row is never streamed")),
        };
        let closed = |_| Error::message(ErrorKind::Other, "the store is being closed");
        let _place = self.places.acquire().await.map_err(closed)?;
        let answer = match &self.signer {
            Signer::SharedKey { account, key } => self.send(request, &body, &shared_key(request, account, key)).await?,
            Signer::Identity { tokens, scope } => {
                let no_token = |error| Error::new(ErrorKind::Credential, error);
                let token = tokens.token(scope).await.map_err(no_token)?;
                let answer = self.send(request, &body, bearer(&token)).await?;
                if answer.status == 401 {
                    let fresh = tokens.fresh(scope, &token).await.map_err(no_token)?;
                    self.send(request, &body, bearer(&fresh)).await?
                } else {
                    answer
                }
            }
        };
        let status = StatusCode::try_from(answer.status)
            .map_err(|_| Error::message(ErrorKind::Io, "the answer has a status that HTTP does not know"))?;
        Ok(Response::new(status, answer.headers, Box::pin(BytesStream::new(answer.body))))
    }
}

fn bearer(token: &BearerToken) -> &str {
    token.authorization().to_str().unwrap_or_default()
}

/// The documented form of a batch: lines end in CRLF, rows that are added are not sent back, and the last boundary is closed.
/// The SDK leaves all three out. No line of a row's JSON is mistaken, since JSON has none and begins with a brace.
fn in_documented_form(batch: &Bytes) -> Bytes {
    let Ok(text) = std::str::from_utf8(batch) else { return batch.clone() };
    let mut form = String::with_capacity(text.len() + text.len() / 8);
    for line in text.trim_end().lines() {
        form.push_str(line);
        form.push_str("\r\n");
        if line.starts_with("POST ") {
            form.push_str("Prefer: return-no-content\r\n");
        }
    }
    form.truncate(form.trim_end().len());
    form.push_str("--\r\n");
    Bytes::from(form)
}

/// `SharedKey` for tables: the method, the content's type, the date, and the path below the account.
fn shared_key(request: &Request, account: &str, key: &hmac::Key) -> String {
    let header = |name: &'static str| request.headers().get_optional_str(&HeaderName::from_static(name));
    let text = format!(
        "{}\n\n{}\n{}\n/{account}{}",
        request.method().as_ref(),
        header("content-type").unwrap_or_default(),
        header("x-ms-date").unwrap_or_default(),
        request.url().path(),
    );
    format!("SharedKey {account}:{}", STANDARD.encode(hmac::sign(key, text.as_bytes())))
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SharedKey { account, .. } => write!(f, "the key of {account}"),
            Self::Identity { .. } => f.write_str("an identity"),
        }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("signer", &self.signer).field("sent", &self.sent()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_its_lines_and_itself_as_documented() {
        let sdk = "--batch_1\nContent-Type: x\n\n--changeset_2\n\nPOST http://h/T HTTP/1.1\naccept: y\n\n{\"a\":\"POST b\"}\n\
                   --changeset_2--\n--batch_1\n";
        let form = in_documented_form(&Bytes::from_static(sdk.as_bytes()));
        assert_eq!(
            std::str::from_utf8(&form).unwrap(),
            "--batch_1\r\nContent-Type: x\r\n\r\n--changeset_2\r\n\r\nPOST http://h/T HTTP/1.1\r\n\
             Prefer: return-no-content\r\naccept: y\r\n\r\n{\"a\":\"POST b\"}\r\n--changeset_2--\r\n--batch_1--\r\n"
        );
    }

    #[test]
    fn each_cloud_has_its_own_audience() {
        struct Never;
        impl crate::clock::Clock for Never {
            fn now(&self) -> crate::rollout::Timestamp {
                crate::rollout::Timestamp::default()
            }
        }
        let tokens = Arc::new(TokenSource::new(Default::default(), || Err(String::new()), Arc::new(Never)));
        for (endpoint, expected) in [
            ("https://fabrikam.table.core.windows.net", "https://storage.azure.com/.default"),
            ("https://fabrikam.table.core.usgovcloudapi.net/", "https://storage.azure.us/.default"),
            ("https://fabrikam.table.core.chinacloudapi.cn", "https://storage.azure.cn/.default"),
            ("http://127.0.0.1:10002/devstoreaccount1", "https://storage.azure.com/.default"),
        ] {
            match Signer::identity(Arc::clone(&tokens), &endpoint.parse().unwrap()) {
                Signer::Identity { scope, .. } => assert_eq!(scope, expected, "{endpoint}"),
                Signer::SharedKey { .. } => unreachable!("it was made of an identity"),
            }
        }
    }

    #[test]
    fn no_key_is_shown() {
        let signer = Signer::shared_key("fabrikam", "c2VjcmV0").unwrap();
        let shown = format!("{signer:?}");
        assert!(shown.contains("fabrikam") && !shown.contains("c2VjcmV0"), "{shown}");
        assert!(Signer::shared_key("fabrikam", "not base64!").is_none());
    }
}
