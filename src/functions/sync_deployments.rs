//! SyncDeployments: the timer that looks for deployments which notifications missed, and for those that are gone.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::response::Response;

use super::App;
use super::wire::envelope::{self, InvocationError};
use crate::engine::sync::SyncError;

/// One run begins; the refresh queue carries it on.
pub async fn invoke(Extension(app): Extension<Arc<App>>, body: Bytes) -> Response {
    envelope::answer(begin(&app, &body).await)
}

async fn begin(app: &App, body: &Bytes) -> Result<(), InvocationError> {
    envelope::timer_due(body)?;
    match app.engine.start_sync(false).await {
        Ok(_) => Ok(()),
        Err(SyncError::Engine(error)) => Err(error.into()),
        Err(SyncError::UnderWay { .. }) => {
            tracing::info!("The daily sync is left out, since a dry run is under way");
            Ok(())
        }
    }
}
