//! WatchOffers: the timer that asks Partner Center what was published.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::response::Response;

use super::App;
use super::wire::envelope::{self, InvocationError};

/// One run.
pub async fn invoke(Extension(app): Extension<Arc<App>>, _body: Bytes) -> Response {
    envelope::answer(run(&app).await)
}

async fn run(app: &App) -> Result<(), InvocationError> {
    Ok(app.engine.watch_offers().await?)
}
