//! `permafresh handler`: what the Functions host starts.

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::failure::{Exit, Failure};
use super::wiring::{self, OpenStore};
use crate::functions::{self, App, Handle};
use crate::settings::{self, Settings};
use crate::telemetry::{self, Format, Reader};

/// How often the handler looks whether its host is still there.
const PARENT_LOOK: Duration = Duration::from_secs(1);

/// Serve the functions to an Azure Functions host (this is what the host starts)
///
/// Listens on 127.0.0.1 at the port in FUNCTIONS_CUSTOMHANDLER_PORT. Settings come from the environment; a wrong one stops
/// the start, with every problem named. To run the service by hand use `permafresh local`.
#[derive(Debug, Default, Args)]
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
    let host = parent();
    let (ready, handle) = Handle::later();
    let server = tokio::spawn(axum::serve(listener, functions::router(handle)).into_future());
    let export = wiring::export(&settings)
        .map_err(|error| Failure::new(error, "correct the variables of OpenTelemetry").exit(Exit::Usage))?;
    telemetry::start(Reader::FunctionsHost(format), export.as_ref());
    let Some(export) = export else { return run_functions(server, host, settings, ready).await };
    // Whoever wants the end with a signal gets it, once what is still to be told to the collector is told.
    let served = tokio::select! {
        served = run_functions(server, host, settings, ready) => served,
        () = is_told_to_end() => Ok(Exit::Failure),
    };
    export.end().await;
    served
}

/// Initialises, and serves until something ends it.
async fn run_functions(
    server: JoinHandle<std::io::Result<()>>,
    host: Option<u32>,
    settings: Settings,
    ready: watch::Sender<Option<Arc<App>>>,
) -> Result<Exit, Failure> {
    wiring::log_remarks(&settings);
    // Opening files must not hold up the answers.
    let app = tokio::task::spawn_blocking(move || wiring::app(&settings)).await.context("the start was cut off");
    let (app, store) =
        app.and_then(|app| app).map_err(|error| Failure::new(error, "correct the setting that names it"))?;
    ready.send_replace(Some(Arc::new(app)));
    tracing::info!("The functions are ready");
    tokio::spawn(create_tables(store));
    let server = async { server.await.context("the server was cut off").and_then(|served| Ok(served?)) };
    // Code 0 would tell the host that all is well (contracts/custom-handler.md §3).
    tokio::select! {
        served = server => {
            let error = served.err().unwrap_or_else(|| anyhow::anyhow!("the server ended"));
            Err(Failure::new(error, "the host starts the handler again"))
        }
        () = is_gone(host) => Err(Failure::new(anyhow::anyhow!("the host that started this handler is gone"), "start the host again")),
    }
}

/// Creates the tables that are missing, beside what else goes on: the host waits for an answer on the port, not for state.
/// Whatever needs a table sooner creates it itself; and where that fails, ending would help nobody, since storage that
/// cannot be reached now may be reached later.
async fn create_tables(store: OpenStore) {
    if let Err(error) = store.create_tables().await {
        tracing::error!("The tables are not there yet, and are tried again by what needs them: {error:#}");
    }
}

/// The process that started this one, or who took its place; nothing where the system does not say.
#[cfg(unix)]
fn parent() -> Option<u32> {
    Some(std::os::unix::process::parent_id())
}

#[cfg(not(unix))]
fn parent() -> Option<u32> {
    None
}

/// Resolves when a service manager, a terminal or the platform wants the end; whoever sends no signal kills.
#[cfg(unix)]
async fn is_told_to_end() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[cfg(not(unix))]
async fn is_told_to_end() {
    let _asked = tokio::signal::ctrl_c().await;
}

/// Resolves when the process that started this one has ended without a word: nobody else would ever end this one.
async fn is_gone(host: Option<u32>) {
    let mut look = tokio::time::interval(PARENT_LOOK);
    while parent() == host {
        look.tick().await;
    }
}
