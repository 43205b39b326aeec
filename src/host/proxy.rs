//! Passes an HTTP request on to the handler as it is, streamed both ways, and the response back (contracts/
//! custom-handler.md §7, proxying mode). It decides neither who may call nor what.

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use uuid::Uuid;

use super::{
    client::{HOST_VERSION, address, invocation_header},
    invoke::{InvocationError, Invoker},
    process::Running,
};

/// Headers that belong to one connection, besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Passes it on. The handler has functionTimeout for the head of its response; the body takes as long as it takes.
///
/// # Errors
/// If the handler is not there, breaks off, or takes too long.
pub async fn forward(
    invoker: &Invoker,
    invocation: Uuid,
    mut request: Request<Body>,
) -> Result<Response<Body>, InvocationError> {
    let running = invoker.ready().await?;
    readdress(&mut request, running, invocation);
    let mut response = invoker.within_time(running, invoker.client.send(running.port, request)).await??;
    drop_hop_by_hop(response.headers_mut());
    Ok(response)
}

fn readdress(request: &mut Request<Body>, running: Running, invocation: Uuid) {
    let outside = request.headers().get(header::HOST).cloned();
    let outside = outside.or_else(|| HeaderValue::from_str(request.uri().authority()?.as_str()).ok());
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = address(running.port, path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")));
    *request.version_mut() = http::Version::HTTP_11;
    let headers = request.headers_mut();
    drop_hop_by_hop(headers);
    // The client writes the handler's own address.
    headers.remove(header::HOST);
    headers.insert("x-azure-functions-invocationid", invocation_header(invocation));
    headers.insert("x-azure-functions-hostversion", HOST_VERSION);
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    match outside {
        Some(outside) => headers.insert("x-forwarded-host", outside),
        None => headers.remove("x-forwarded-host"),
    };
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_one_connection_are_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private"),
            ("connection", "x-other"),
            ("x-private", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "x"),
            ("authorization", "kept"),
            ("x-kept", "1"),
            ("x-kept", "2"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        drop_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        left.sort_unstable();
        assert_eq!(left, [("authorization", &b"kept"[..]), ("x-kept", b"1"), ("x-kept", b"2")]);
    }
}
