//! The HTTP server of every simulator: takes connections on loopback, and may drop one without an answer.
//!
//! Knows nothing of what is asked and answered; it is no server for anybody else.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What an answer is here.
pub type Answer = Response<Full<Bytes>>;

/// Ends a connection without an answer.
#[derive(Debug)]
pub struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is dropped on purpose")
    }
}

impl std::error::Error for Dropped {}

/// How header names are spelt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderCase {
    /// As HTTP/2 would.
    #[default]
    Lower,
    /// With capitals, as older servers do.
    Title,
}

/// Serves until it is aborted, and its connections with it. `opened` is called for each connection.
pub async fn serve<O, A, F>(listener: TcpListener, case: HeaderCase, opened: O, answer: A) -> Infallible
where
    O: Fn() + Send,
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Answer, Dropped>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: those in use come back.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        opened();
        let _ = stream.set_nodelay(true);
        let answer = answer.clone();
        connections.spawn(async move {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.title_case_headers(case == HeaderCase::Title);
            // How a connection ends is the client's affair.
            let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}
