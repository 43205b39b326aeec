//! A service that answers what a test tells it to, and remembers what it was asked.

use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, Response, StatusCode};
use serde_json::Value;

use super::{KEY, Run, command, run};

/// A request as the service got it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Got {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) key: Option<String>,
    pub(super) media: Option<String>,
    pub(super) body: String,
}

/// What the service answers: status, media type, body.
pub(super) type Answer = (u16, &'static str, String);

pub(super) fn ok(body: Value) -> Answer {
    (200, "application/json", body.to_string())
}

pub(super) fn problem(status: u16, body: Value) -> Answer {
    (status, "application/problem+json; charset=utf-8", body.to_string())
}

/// A service that answers by `answer`, given each request and how many were there before.
pub(super) struct Service {
    pub(super) url: String,
    got: Arc<Mutex<Vec<Got>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Service {
    pub(super) fn start(answer: impl Fn(&Got, usize) -> Answer + Send + Sync + 'static) -> Self {
        let got = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (got.clone(), Arc::new(answer));
        let router = Router::new().fallback(move |request: Request| {
            let (seen, answer) = (seen.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let header = |name: &str| Some(parts.headers.get(name)?.to_str().unwrap().to_owned());
                let got = Got {
                    method: parts.method.clone(),
                    path: parts.uri.to_string(),
                    key: header("x-functions-key"),
                    media: header("content-type"),
                    body: String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap(),
                };
                let before = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(got.clone());
                    seen.len() - 1
                };
                let (status, media, body) = answer(&got, before);
                let response = Response::builder().status(StatusCode::from_u16(status).unwrap());
                let response = if media.starts_with("http") {
                    response.header("location", media)
                } else {
                    response.header("content-type", media)
                };
                response.body(Body::from(body)).unwrap()
            }
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, got, _runtime: runtime }
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.env("PERMAFRESH_URL", &self.url).env("PERMAFRESH_KEY", KEY);
        command
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Run {
        let run = run(self.command(arguments));
        Run { err: run.err.replace(&self.url, "[URL]"), ..run }
    }

    pub(super) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub(super) fn paths(&self) -> Vec<String> {
        self.got().into_iter().map(|got| format!("{} {}", got.method, got.path)).collect()
    }
}
