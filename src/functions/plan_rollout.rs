//! PlanRollout: a message of the rollout queue.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::response::Response;

use super::App;
use super::invocation::Invocation;
use super::wire::envelope::{self, InvocationError};
use crate::queue::Message;

/// One page of the walk over a plan's deployments.
pub async fn invoke(
    Extension(app): Extension<Arc<App>>,
    Extension(invocation): Extension<Invocation>,
    body: Bytes,
) -> Response {
    envelope::answer(invocation.on_message(&body, app.engine.now(), |message| plan(&app, message)).await)
}

async fn plan(app: &App, message: Message) -> Result<(), InvocationError> {
    match message {
        Message::PlanRollout { rollout_id } => Ok(app.engine.plan_rollout(rollout_id).await?),
        _ => Err(InvocationError::WrongQueue),
    }
}
