//! Lends our `reqwest` client to the Azure SDK, which is built without one of its own.
//!
//! Only carries requests: the SDK's retries are off, since a queue repeats what failed.

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::request::{Body, Request};
use azure_core::http::{AsyncRawResponse, ClientOptions, HttpClient, RetryOptions, Transport};
use std::sync::Arc;

/// The largest answer that is read: tokens and secrets are a few KB.
const LARGEST_BODY: usize = 1024 * 1024;

/// Where the SDK asks for tokens.
///
/// It insists on https, also to a simulator on this machine; there the scheme is put back just before the call.
#[derive(Clone, Debug, Default)]
pub struct Authority {
    configured: Option<String>,
    plain: Option<(String, u16)>,
}

impl Authority {
    /// The authority of the settings, if any.
    pub fn of(configured: Option<&str>) -> Self {
        let url = configured.and_then(|text| text.parse::<url::Url>().ok());
        let plain = url.filter(|url| url.scheme() == "http" && is_loopback(url));
        let plain = plain.and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)));
        Self { configured: configured.map(str::to_owned), plain }
    }

    /// As the SDK takes it.
    pub fn for_sdk(&self) -> Option<String> {
        match &self.plain {
            Some((host, port)) => Some(format!("https://{host}:{port}")),
            None => self.configured.clone(),
        }
    }

    fn called(&self, mut url: url::Url) -> url::Url {
        let is_plain =
            self.plain.as_ref().is_some_and(|(host, port)| url.host_str() == Some(host) && url.port() == Some(*port));
        if is_plain {
            // The port is named, so that it stays.
            let _ = url.set_scheme("http");
        }
        url
    }
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

/// Options for a credential of the SDK: our transport, no repeats.
pub fn client_options(http: &reqwest::Client, authority: &Authority) -> ClientOptions {
    options(Lent { http: http.clone(), authority: authority.clone(), only: None })
}

/// The same for a client that calls the host of `address` and no other, whatever an answer names as the next page.
pub fn options_for_one_host(http: &reqwest::Client, authority: &Authority, address: &url::Url) -> ClientOptions {
    options(Lent { http: http.clone(), authority: authority.clone(), only: Some(address.origin()) })
}

fn options(lent: Lent) -> ClientOptions {
    ClientOptions {
        retry: RetryOptions::none(),
        transport: Some(Transport::new(Arc::new(lent))),
        ..ClientOptions::default()
    }
}

#[derive(Debug)]
struct Lent {
    http: reqwest::Client,
    authority: Authority,
    only: Option<url::Origin>,
}

#[async_trait]
impl HttpClient for Lent {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes())
            .map_err(|error| Error::with_error(ErrorKind::Other, error, "a method that HTTP does not know"))?;
        let url = self.authority.called(request.url().clone());
        if self.only.as_ref().is_some_and(|only| url.origin() != *only) {
            return Err(Error::with_message(ErrorKind::Other, "a token goes to the configured host only"));
        }
        let mut outgoing = self.http.request(method, url);
        for (name, value) in request.headers().iter() {
            outgoing = outgoing.header(name.as_str(), value.as_str());
        }
        outgoing = match request.body() {
            Body::Bytes(bytes) => outgoing.body(bytes.clone()),
            Body::SeekableStream(_) => {
                return Err(Error::with_message(ErrorKind::Other, "a token request has no streamed body"));
            }
        };
        let failed = |error: reqwest::Error| {
            let kind = if error.is_connect() { ErrorKind::Connection } else { ErrorKind::Io };
            // The URL of a token request carries the identity's id; who reads the error knows where it went.
            Error::with_error(kind, error.without_url(), "the token endpoint did not answer")
        };
        let mut answer = outgoing.send().await.map_err(failed)?;
        let status = answer.status().as_u16();
        let mut headers = Headers::new();
        for (name, value) in answer.headers() {
            if let Ok(value) = value.to_str() {
                headers.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned()));
            }
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LARGEST_BODY {
                return Err(Error::with_message(ErrorKind::Io, "the answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(AsyncRawResponse::from_bytes(status.into(), headers, body))
    }
}
