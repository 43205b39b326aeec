//! PollOperations: the timer that follows what is due and finds what was lost.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::response::Response;

use super::App;
use super::wire::envelope::{self, InvocationError};
use crate::engine::upkeep::TICK;

/// One tick.
pub async fn invoke(Extension(app): Extension<Arc<App>>, body: Bytes) -> Response {
    envelope::answer(tick(&app, &body).await)
}

async fn tick(app: &App, body: &Bytes) -> Result<(), InvocationError> {
    envelope::timer_due(body)?;
    let now = app.engine.now();
    let next = app.poll_schedule.next_after(now).unwrap_or(now + TICK);
    Ok(app.engine.tick(next).await?)
}
