//! The least that answers where a Functions host expects a handler: an empty axum router. What start-up and protocol cost
//! is measured beside it. A program of its own, built as the binary is, so that it pays for nothing it does not use.
#![allow(clippy::disallowed_methods, reason = "a program of its own, which has no settings to read")]

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::routing::{get, post};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::var("FUNCTIONS_CUSTOMHANDLER_PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(0);
    let answer = async |_: Bytes| ([(header::CONTENT_TYPE, "application/json")], r#"{"Outputs":{},"Logs":[]}"#);
    let router = Router::new().route("/{function}", post(answer)).route("/", get(async || ""));
    axum::serve(TcpListener::bind(("127.0.0.1", port)).await?, router).await
}
