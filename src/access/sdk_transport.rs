//! Lends our `reqwest` client to the Azure SDK, which is built without one of its own.
//!
//! Only carries requests: the SDK's retries are off, since a queue repeats what failed.

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::request::{Body, Request};
use azure_core::http::{AsyncRawResponse, ClientOptions, HttpClient, RetryOptions, Transport};
use std::sync::Arc;

/// Options for a credential of the SDK: our transport, no repeats.
pub fn client_options(http: &reqwest::Client) -> ClientOptions {
    ClientOptions {
        retry: RetryOptions::none(),
        transport: Some(Transport::new(Arc::new(Lent(http.clone())))),
        ..ClientOptions::default()
    }
}

#[derive(Debug)]
struct Lent(reqwest::Client);

#[async_trait]
impl HttpClient for Lent {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes())
            .map_err(|error| Error::with_error(ErrorKind::Other, error, "a method that HTTP does not know"))?;
        let mut outgoing = self.0.request(method, request.url().clone());
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
        let answer = outgoing.send().await.map_err(failed)?;
        let status = answer.status().as_u16();
        let mut headers = Headers::new();
        for (name, value) in answer.headers() {
            if let Ok(value) = value.to_str() {
                headers.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned()));
            }
        }
        let body = answer.bytes().await.map_err(failed)?;
        Ok(AsyncRawResponse::from_bytes(status.into(), headers, body))
    }
}
