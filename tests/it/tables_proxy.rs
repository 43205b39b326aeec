//! A small proxy before Azurite that lets a test lose, refuse and falsify what goes through it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use permafresh::store::tables::TablesConfig;
use url::Url;

use crate::azurite;

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It arrives, and its answer gets lost.
    LoseAnswer,
    /// It does not arrive.
    LoseRequest,
    /// It does not arrive, and is answered with this status.
    Answer(u16),
    /// It arrives, and is answered with this status.
    AnswerAfter(u16),
    /// It is answered with an empty page that others follow, without `NextRowKey` or with an empty one.
    EmptyPage { empty_row_key: bool },
    /// It does not arrive, and is answered as a batch of one that was done.
    PretendDone,
}

/// The proxy.
#[derive(Clone)]
pub struct Proxy {
    http: reqwest::Client,
    faults: Arc<Mutex<VecDeque<(&'static str, Fault)>>>,
    seen: Arc<Mutex<Vec<String>>>,
    tables: Arc<Mutex<Option<TablesConfig>>>,
}

impl Proxy {
    /// A proxy on a free port.
    pub async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let proxy = Self { http, faults: Arc::default(), seen: Arc::default(), tables: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{}", listener.local_addr().unwrap(), azurite::endpoint().path());
        *proxy.tables.lock().unwrap() = Some(azurite::tables_at(Url::parse(&url).unwrap()));
        let app = axum::Router::new().fallback(pass).with_state(proxy.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        proxy
    }

    /// The tables behind it, which are its own.
    pub fn tables(&self) -> TablesConfig {
        self.tables.lock().unwrap().clone().expect("it was started")
    }

    /// The next request in whose line or body `part` occurs suffers `fault`.
    pub fn next(&self, part: &'static str, fault: Fault) {
        self.faults.lock().unwrap().push_back((part, fault));
    }

    /// The lines of the requests since this was asked last.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// Whether all faults have happened.
    pub fn is_done(&self) -> bool {
        self.faults.lock().unwrap().is_empty()
    }

    fn fault(&self, request: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let at = faults.iter().position(|(part, _)| request.contains(part))?;
        faults.remove(at).map(|(_, fault)| fault)
    }

    async fn forward(&self, line: &str, headers: HeaderMap, body: Bytes) -> Response {
        let (method, path) = line.split_once(' ').unwrap();
        let mut to = azurite::endpoint();
        to.set_path("");
        let url = format!("{}{path}", to.as_str().trim_end_matches('/'));
        let mut request = self.http.request(method.parse().unwrap(), url).body(body);
        for (name, value) in headers.iter().filter(|(name, _)| !["host", "content-length"].contains(&name.as_str())) {
            request = request.header(name, value);
        }
        let answer = request.send().await.unwrap();
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers().iter().filter(|(name, _)| *name != "transfer-encoding") {
            response = response.header(name, value);
        }
        response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
    }
}

async fn pass(State(proxy): State<Proxy>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let line = format!("{} {}", head.method, head.uri);
    proxy.seen.lock().unwrap().push(line.clone());
    let fault = proxy.fault(&format!("{line}\n{}", String::from_utf8_lossy(&body)));
    if matches!(fault, None | Some(Fault::LoseAnswer | Fault::AnswerAfter(_) | Fault::EmptyPage { .. })) {
        let answer = proxy.forward(&line, head.headers, body).await;
        return match fault {
            Some(Fault::LoseAnswer) => broken_off(),
            Some(Fault::AnswerAfter(status)) => refusal(status),
            Some(Fault::EmptyPage { empty_row_key }) => empty_page(answer, empty_row_key),
            _ => answer,
        };
    }
    match fault {
        Some(Fault::Answer(status)) => refusal(status),
        Some(Fault::PretendDone) => pretended(),
        _ => broken_off(),
    }
}

fn broken_off() -> Response {
    let nothing = stream::iter([Err::<Bytes, _>(std::io::Error::other("lost"))]);
    Body::from_stream(nothing).into_response()
}

fn refusal(status: u16) -> Response {
    (StatusCode::from_u16(status).unwrap(), [("x-ms-error-code", "Made-up")], "{}").into_response()
}

fn empty_page(answer: Response, empty_row_key: bool) -> Response {
    let (mut head, _) = answer.into_parts();
    head.headers.remove("content-length");
    head.headers.insert("x-ms-continuation-nextpartitionkey", "!".parse().unwrap());
    if empty_row_key {
        head.headers.insert("x-ms-continuation-nextrowkey", "".parse().unwrap());
    }
    Response::from_parts(head, Body::from(r#"{"odata.metadata":"m","value":[]}"#))
}

fn pretended() -> Response {
    let headers = [
        ("x-ms-request-id", "00000000-0000-0000-0000-000000000000"),
        ("x-ms-version", "2019-02-02"),
        ("server", "made up"),
    ];
    let body = "--batchresponse_1\r\n\r\n--changesetresponse_1\r\n\r\nHTTP/1.1 204 No Content\r\nETag: W/\"1\"\r\n\r\n\
                --changesetresponse_1--\r\n--batchresponse_1--\r\n";
    (StatusCode::ACCEPTED, headers, body).into_response()
}
