//! The HTTP connections to the handler: loopback only, kept alive, redirects followed. It knows no envelope.
//!
//! hyper-util's client is used rather than reqwest because every queue message pays for this call.

use std::net::Ipv4Addr;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use url::{Host, Url};
use uuid::Uuid;

/// What this host says it is.
pub const HOST_VERSION: HeaderValue = HeaderValue::from_static("4.1037.0.0");
const USER_AGENT: HeaderValue = HeaderValue::from_static("Azure-Functions-Host/4.1037.0.0");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// As .NET's client does.
const MOST_REDIRECTS: usize = 50;

/// A pool of connections.
#[derive(Clone, Debug)]
pub struct HandlerClient {
    pool: Client<HttpConnector, Body>,
}

/// The handler could not be asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("the handler cannot be reached on port {port}")]
    Unreachable {
        /// Its port.
        port: u16,
        /// Why.
        source: hyper_util::client::legacy::Error,
    },
    /// The connection broke before the answer was read.
    #[error("the connection to the handler broke")]
    Broken {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It sent the caller elsewhere than to itself, or round in circles.
    #[error("the handler redirected to where it cannot be followed")]
    Redirect,
}

impl Default for HandlerClient {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { pool: Client::builder(TokioExecutor::new()).build(connector) }
    }
}

impl HandlerClient {
    /// Sends a request whose URI is complete.
    ///
    /// # Errors
    /// If the handler cannot be reached or the connection breaks.
    pub async fn send(&self, port: u16, request: Request<Body>) -> Result<Response<Body>, ClientError> {
        match self.pool.request(request).await {
            Ok(response) => Ok(response.map(Body::new)),
            Err(source) if source.is_connect() => Err(ClientError::Unreachable { port, source }),
            Err(source) => Err(ClientError::Broken { source: source.into() }),
        }
    }

    /// `GET /`, as the host asks whether the handler is there.
    ///
    /// # Errors
    /// As [`HandlerClient::send`].
    pub async fn probe(&self, port: u16) -> Result<StatusCode, ClientError> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = address(port, PathAndQuery::from_static("/"));
        Ok(self.send(port, request).await?.status())
    }

    /// Posts an envelope and follows redirects as .NET's client does.
    ///
    /// # Errors
    /// As [`HandlerClient::send`], and if a redirect leads away from this machine.
    pub async fn post(
        &self,
        port: u16,
        path: PathAndQuery,
        invocation: Uuid,
        body: Bytes,
    ) -> Result<Response<Body>, ClientError> {
        let mut uri = address(port, path);
        let mut method = Method::POST;
        for _ in 0..=MOST_REDIRECTS {
            let with_body = method == Method::POST;
            let mut request = Request::new(if with_body { Body::from(body.clone()) } else { Body::empty() });
            *request.uri_mut() = uri.clone();
            *request.method_mut() = method.clone();
            let headers = request.headers_mut();
            headers.insert("x-azure-functions-hostversion", HOST_VERSION);
            headers.insert("x-azure-functions-invocationid", invocation_header(invocation));
            headers.insert(header::USER_AGENT, USER_AGENT);
            if with_body {
                headers.insert(header::CONTENT_TYPE, JSON);
            }
            let response = self.send(port, request).await?;
            if !response.status().is_redirection() || !response.headers().contains_key(header::LOCATION) {
                return Ok(response);
            }
            let keeps_method = matches!(response.status().as_u16(), 307 | 308);
            uri = redirected(&uri, response.headers().get(header::LOCATION)).ok_or(ClientError::Redirect)?;
            method = if keeps_method { method } else { Method::GET };
        }
        Err(ClientError::Redirect)
    }
}

/// The invocation id as a header.
pub fn invocation_header(invocation: Uuid) -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    HeaderValue::from_str(invocation.hyphenated().encode_lower(&mut text)).expect("a GUID is hex digits and dashes")
}

/// An address of the handler.
pub fn address(port: u16, path: PathAndQuery) -> Uri {
    let builder = Uri::builder().scheme("http").authority(format!("{}:{port}", Ipv4Addr::LOCALHOST));
    builder.path_and_query(path).build().expect("scheme, authority and path are valid each by itself")
}

fn redirected(from: &Uri, location: Option<&HeaderValue>) -> Option<Uri> {
    let to = Url::parse(&from.to_string()).ok()?.join(location?.to_str().ok()?).ok()?;
    let loopback = match to.host()? {
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
        Host::Domain(name) => name == "localhost",
    };
    if to.scheme() == "http" && loopback { to.as_str().parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_this_machine() {
        let from = Uri::from_static("http://127.0.0.1:7000/Function");
        for (location, to) in [
            ("/other?x=1", Some("http://127.0.0.1:7000/other?x=1")),
            ("http://localhost:1/x", Some("http://localhost:1/x")),
            ("https://127.0.0.1/x", None),
            ("http://example.org/x", None),
            ("//example.org/x", None),
        ] {
            let followed = redirected(&from, Some(&HeaderValue::from_static(location)));
            assert_eq!(followed.map(|uri| uri.to_string()).as_deref(), to, "{location}");
        }
    }
}
