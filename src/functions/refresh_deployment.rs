//! RefreshDeployment: a message of the refresh queue: a refresh's next step, a check of one deployment, a share of
//! looks, a part of a sync.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::response::Response;

use super::App;
use super::invocation::Invocation;
use super::wire::envelope::{self, InvocationError};
use crate::queue::Message;

/// One step.
pub async fn invoke(
    Extension(app): Extension<Arc<App>>,
    Extension(invocation): Extension<Invocation>,
    body: Bytes,
) -> Response {
    envelope::answer(invocation.on_message(&body, app.engine.now(), |message| Box::pin(step(&app, message))).await)
}

async fn step(app: &App, message: Message) -> Result<(), InvocationError> {
    match message {
        Message::Refresh { rollout_id, key } => Ok(app.engine.refresh_deployment(rollout_id, &key).await?),
        Message::CheckDeployment { key } => Ok(app.engine.check_deployment(&key).await?),
        Message::ConsentOfTenant { tenant_id } => Ok(app.engine.consent_step(&tenant_id).await?),
        Message::LookAtRelationship { relationship_id } => {
            Ok(app.engine.look_at_relationship(&relationship_id).await?)
        }
        Message::SyncDeployments { run } => Ok(app.engine.go_on_with_sync(&run).await?),
        Message::PollShare { at_most } => Ok(app.engine.poll_share(at_most).await?),
        Message::Tell { note } => Ok(app.engine.tell_note(&note).await?),
        Message::PlanRollout { .. } => Err(InvocationError::WrongQueue),
    }
}
