//! `permafresh handler`: what the Functions host starts.

use std::future::IntoFuture as _;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use tokio::net::TcpListener;

use super::failure::{Exit, Failure};
use super::wiring;
use crate::functions::{self, Handle};
use crate::settings::{self, Settings};
use crate::telemetry::{self, Format, Reader};

/// Serve the functions to an Azure Functions host (this is what the host starts)
///
/// Listens on 127.0.0.1 at the port in FUNCTIONS_CUSTOMHANDLER_PORT. Settings come from the environment; a wrong one stops
/// the start, with every problem named. To run the service by hand use `permafresh local`.
#[derive(Debug, Args)]
pub struct HandlerArgs {
    /// Form of the log [default: json inside Functions, text elsewhere]
    #[arg(long, value_name = "FORM")]
    log_format: Option<Format>,
}

/// Serves until the process is ended.
pub async fn run(args: HandlerArgs) -> Result<Exit, Failure> {
    let environment = settings::environment();
    let format = args.log_format.unwrap_or_else(|| Format::for_environment(&environment));
    let settings = wiring::settings(&environment)?;
    let Some(port) = settings.host.custom_handler_port else {
        let error =
            anyhow::anyhow!("FUNCTIONS_CUSTOMHANDLER_PORT is absent, so this was not started by a Functions host");
        return Err(Failure::new(error, "run `permafresh local`, which starts a host").exit(Exit::Usage));
    };
    let listener =
        TcpListener::bind(("127.0.0.1", port)).await.with_context(|| format!("cannot listen on port {port}"));
    let listener =
        listener.map_err(|error| Failure::new(error, "free the port, or let the host choose another one"))?;
    serve(listener, settings, format).await
}

/// Answers `GET /` on `listener` at once, then initialises; what else comes early waits for that.
async fn serve(listener: TcpListener, settings: Settings, format: Format) -> Result<Exit, Failure> {
    let (ready, handle) = Handle::later();
    let server = tokio::spawn(axum::serve(listener, functions::router(handle)).into_future());
    telemetry::start(Reader::FunctionsHost(format));
    wiring::log_remarks(&settings);
    // Opening files must not hold up the answers.
    let app = tokio::task::spawn_blocking(move || wiring::app(&settings)).await.context("the start was cut off");
    let app = app.and_then(|app| app).map_err(|error| Failure::new(error, "correct the setting that names it"))?;
    ready.send_replace(Some(Arc::new(app)));
    tracing::info!("The functions are ready");
    let served = server.await.context("the server was cut off").and_then(|served| Ok(served?));
    served.map_err(|error| Failure::new(error, "the host starts the handler again"))?;
    Ok(Exit::Success)
}
