//! RenewTokens: the timer that keeps the GDAP refresh token alive. Does nothing, and says so, where GDAP is not set up.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::response::Response;
use tracing::debug;

use super::App;
use super::wire::envelope::{self, InvocationError};
use crate::engine::renewal::Renewal;

/// One run. A failure of Entra's is no failure of ours: it is logged, stored, and met again the next time.
pub async fn invoke(Extension(app): Extension<Arc<App>>, body: Bytes) -> Response {
    envelope::answer(run(&app, &body).await)
}

async fn run(app: &App, body: &Bytes) -> Result<(), InvocationError> {
    envelope::timer_due(body)?;
    if app.engine.renew_tokens().await? == Renewal::NotConfigured {
        debug!("No refresh token is renewed, since GDAP_CLIENT_ID is absent");
    }
    Ok(())
}
