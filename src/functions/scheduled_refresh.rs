//! ScheduledRefresh: the timer that brings every deployment back to the wanted version.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::response::Response;

use super::App;
use super::wire::envelope::{self, InvocationError};

/// One run.
pub async fn invoke(Extension(app): Extension<Arc<App>>, body: Bytes) -> Response {
    envelope::answer(run(&app, &body).await)
}

async fn run(app: &App, body: &Bytes) -> Result<(), InvocationError> {
    let due = envelope::timer_due(body)?.unwrap_or_else(|| app.engine.now());
    Ok(app.engine.scheduled_refresh(due).await?)
}
