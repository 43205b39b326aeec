//! What every simulator has in common: a port of loopback, an HTTP server on it that may drop a connection without an answer,
//! canned answers, and a memory of the last requests.
//!
//! Knows nothing of what is asked and answered; it is no server for anybody else.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

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

/// A port of loopback, and its address.
pub struct Place {
    /// Takes connections.
    pub listener: TcpListener,
    /// `http://127.0.0.1:{port}`.
    pub origin: String,
    /// The same as a URL.
    pub endpoint: Url,
}

impl Place {
    /// Takes a port, or a free one for 0.
    ///
    /// # Errors
    /// If the port cannot be had.
    pub async fn take(port: u16) -> io::Result<Self> {
        Self::of(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?)
    }

    /// The same where nobody can wait, within a Tokio runtime.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_now(port: u16) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        Self::of(TcpListener::from_std(listener)?)
    }

    fn of(listener: TcpListener) -> io::Result<Self> {
        let origin = format!("http://{}", listener.local_addr()?);
        let endpoint = origin.parse().map_err(io::Error::other)?;
        Ok(Self { listener, origin, endpoint })
    }
}

/// What serves somewhere; dropping it closes every connection.
pub struct Server(JoinHandle<()>);

impl Server {
    /// Begins to serve.
    pub fn start(serving: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(serving))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A canned answer; headers that HTTP does not know are left out.
pub fn response<N: AsRef<str>>(
    status: u16,
    headers: impl IntoIterator<Item = (N, String)>,
    body: impl Into<Bytes>,
) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_ref()), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Keeps a record as the last of at most `most`.
pub fn keep<R>(records: &mut VecDeque<R>, most: usize, record: impl FnOnce() -> R) {
    if most > 0 {
        let too_many = (records.len() + 1).saturating_sub(most);
        records.drain(..too_many);
        records.push_back(record());
    }
}
