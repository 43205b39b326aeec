//! The embedded Azure Functions host: runs the functions on one machine by the protocol that Azure's host speaks.
//!
//! It reads `host.json` and the `function.json` files, starts the handler as a process of its own, and turns HTTP
//! requests, the clock and messages into calls of it. It listens on loopback only, knows nothing of what the functions
//! do, and refuses what it cannot do as Azure does rather than doing it differently (contracts/custom-handler.md).
//!
//! In reading order: what is configured ([`config`], [`metadata`], with [`app_settings`], [`route`], [`ncrontab`],
//! [`retry_policy`], [`timespan`]); the process ([`launch`], [`process`], [`crashes`], [`output_lines`]); one call
//! ([`invoke`], [`client`], [`envelope`], [`http_envelope`], [`acceptance`], [`outputs`], [`indent`]); what triggers calls
//! ([`http`] with [`keys`] and [`proxy`], [`timers`] with [`timer_status`], [`listener`]).

pub mod acceptance;
pub mod app_settings;
pub mod client;
pub mod config;
pub mod crashes;
pub mod envelope;
pub mod http;
pub mod http_envelope;
pub mod indent;
pub mod invoke;
pub mod keys;
pub mod launch;
pub mod listener;
pub mod metadata;
pub mod output_lines;
pub mod outputs;
pub mod process;
pub mod proxy;
pub mod retry_policy;
pub mod route;
pub mod stopping;
pub mod timer_status;
pub mod timers;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinSet,
};
use uuid::Uuid;

use self::{
    app_settings::AppSettings,
    client::HandlerClient,
    config::{ConfigError, HostJson},
    http::{ByHand, Front, HttpFunction},
    invoke::{Invoker, Target},
    launch::Launch,
    listener::Listener,
    metadata::{Function, Functions, Trigger},
    process::{HandlerProcess, Supervisor},
    stopping::{StopSignal, Stopping},
    timer_status::StatusFile,
    timers::Timer,
};
use crate::{clock::Clock, queue::Queue};

pub use self::{
    invoke::Fidelity,
    keys::FunctionKeys,
    metadata::FunctionError,
    output_lines::{HandlerLine, LineSink, Severity},
    process::StopReason,
};

/// As long as Service Bus locks by default.
const DEFAULT_LOCK: Duration = Duration::from_secs(60);
/// Connections are pinged for at least this much longer than an invocation may take (contract §2.4).
const PROBE_BEYOND_TIMEOUT: Duration = Duration::from_secs(60);
/// An invocation waits for the handler this many times as long as a start may take (contract §2.6).
const STARTS_WAITED_FOR: u32 = 4;
/// After the handler was killed: how long everything may take to notice.
const LAST_SETTLING: Duration = Duration::from_secs(5);

/// What a host needs.
#[derive(Clone)]
pub struct HostConfig {
    /// The folder with host.json; the handler runs there.
    pub script_root: PathBuf,
    /// The folder whose direct children hold the function.json files: the script root itself in a package.
    pub functions: PathBuf,
    /// The app settings. They are the handler's environment, besides the one of this process, and
    /// `AzureFunctionsJobHost__…` among them override host.json, the handler's executable included.
    pub settings: BTreeMap<String, String>,
    /// The port to listen on; 0 lets the machine choose.
    pub port: u16,
    /// Who may call functions that are not anonymous.
    pub keys: FunctionKeys,
    /// Where messages come from and go to.
    pub queue: Arc<dyn Queue>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// A folder for what has to survive a restart.
    pub state: PathBuf,
    /// How exact to be.
    pub fidelity: Fidelity,
    /// For how long a message is locked at a time; a message whose host was killed comes again after it.
    pub lock: Duration,
    /// Gets what the handler prints.
    pub sink: LineSink,
}

impl HostConfig {
    /// A host on a free port, without keys, that is kinder than the real one.
    pub fn new(
        script_root: PathBuf,
        functions: PathBuf,
        state: PathBuf,
        queue: Arc<dyn Queue>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            script_root,
            functions,
            settings: BTreeMap::new(),
            port: 0,
            keys: FunctionKeys::default(),
            queue,
            clock,
            state,
            fidelity: Fidelity::Kinder,
            lock: DEFAULT_LOCK,
            sink: LineSink::default(),
        }
    }
}

/// The host could not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// host.json cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The functions cannot be listed.
    #[error("could not list the functions in {folder}")]
    Functions {
        /// Where they are looked for.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is nothing to run.
    #[error("no function in {folder} can be run{}", listed(.in_error))]
    NoFunctions {
        /// Where they were looked for.
        folder: PathBuf,
        /// Those that are in error.
        in_error: Vec<FunctionError>,
    },
    /// The port is taken, or not allowed.
    #[error("could not listen on 127.0.0.1:{port}")]
    Listen {
        /// Which.
        port: u16,
        /// Why not.
        source: std::io::Error,
    },
    /// A folder's full path is unknown.
    #[error("could not find the full path of {folder}")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

fn listed(errors: &[FunctionError]) -> String {
    errors.iter().map(|error| format!("; {error}")).collect()
}

/// Starts hosts.
pub struct Host;

/// A host that runs. Dropping it kills the handler and stops everything at once.
#[derive(Debug)]
pub struct RunningHost {
    address: SocketAddr,
    in_error: Vec<FunctionError>,
    process: HandlerProcess,
    stop: StopSignal,
    reason: watch::Receiver<Option<StopReason>>,
    work: JoinSet<()>,
    supervisor: JoinSet<()>,
}

impl Host {
    /// Starts to listen, and the handler. It does not wait for the handler: what comes early waits.
    ///
    /// # Errors
    /// If host.json is wrong, no function can be run, or the port cannot be had. Single functions in error do not stop
    /// the others: see [`RunningHost::functions_in_error`].
    pub async fn start(config: HostConfig) -> Result<RunningHost, HostError> {
        let full = |folder: &PathBuf| {
            std::path::absolute(folder).map_err(|source| HostError::Folder { folder: folder.clone(), source })
        };
        let script_root = full(&config.script_root)?;
        let settings = AppSettings::new(config.settings.clone());
        let host_json = HostJson::load(&script_root, &settings)?;
        let folder = full(&config.functions)?;
        let functions = metadata::discover(&folder, &host_json, &settings)
            .map_err(|source| HostError::Functions { folder: folder.clone(), source })?;
        let Functions { loaded, in_error } = functions;
        if loaded.is_empty() {
            return Err(HostError::NoFunctions { folder, in_error });
        }
        for error in &in_error {
            tracing::error!("{error}");
        }
        let listening = |source| HostError::Listen { port: config.port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port)).await.map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;

        let (stop, stopping) = StopSignal::new();
        let client = HandlerClient::default();
        let supervisor = Supervisor {
            launch: Launch {
                description: host_json.handler.clone(),
                script_root,
                settings,
                worker_id: Uuid::new_v4().to_string(),
            },
            fixed_port: host_json.handler_port,
            initialization_timeout: host_json.initialization_timeout,
            probe_timeout: host_json.function_timeout.map(|limit| limit + PROBE_BEYOND_TIMEOUT),
            client: client.clone(),
            sink: config.sink.clone(),
            clock: Arc::clone(&config.clock),
            stop: stop.clone(),
        };
        let (process, supervising) = supervisor.start();
        let invoker = Arc::new(Invoker {
            client,
            process: process.clone(),
            function_timeout: host_json.function_timeout,
            ready_timeout: host_json.initialization_timeout * STARTS_WAITED_FOR,
            fidelity: config.fidelity,
            queue: Arc::clone(&config.queue),
            sink: config.sink.clone(),
            clock: Arc::clone(&config.clock),
            answered: Notify::new(),
        });

        let mut work = JoinSet::new();
        let front =
            Wiring { config: &config, host_json: &host_json, invoker, stopping: &stopping }.wire(loaded, &mut work);
        let mut until = stopping.clone();
        work.spawn(async move {
            let served = axum::serve(listener, http::router(front));
            if let Err(error) = served.with_graceful_shutdown(async move { until.wait().await }).await {
                tracing::error!(%error, "the host serves no more HTTP requests: {error}");
            }
        });

        let (stopped, reason) = watch::channel(None);
        let mut supervisor = JoinSet::new();
        supervisor.spawn(async move {
            let reason = supervising.await;
            stopped.send_replace(Some(reason));
        });
        Ok(RunningHost { address, in_error, process, stop, reason, work, supervisor })
    }
}

/// Ties each function to what triggers it.
struct Wiring<'a> {
    config: &'a HostConfig,
    host_json: &'a HostJson,
    invoker: Arc<Invoker>,
    stopping: &'a Stopping,
}

impl Wiring<'_> {
    fn wire(self, functions: Vec<Function>, work: &mut JoinSet<()>) -> Front {
        let mut front = Front {
            http: Vec::new(),
            by_hand: Vec::new(),
            keys: self.config.keys.clone(),
            invoker: Arc::clone(&self.invoker),
        };
        for function in functions {
            match function.trigger.clone() {
                Trigger::Http(trigger) => front.http.push(HttpFunction { target: Target::new(function), trigger }),
                Trigger::Timer(trigger) => {
                    let name = function.name.clone();
                    let timer = Arc::new(Timer::new(
                        Arc::new(Target::new(function)),
                        trigger,
                        Arc::clone(&self.invoker),
                        StatusFile::new(&self.config.state, &name),
                        self.stopping.clone(),
                    ));
                    front.by_hand.push(ByHand::Timer { name, timer: Arc::clone(&timer) });
                    work.spawn(async move { timer.run().await });
                }
                Trigger::ServiceBus(trigger) => {
                    let target = Arc::new(Target::new(function));
                    front.by_hand.push(ByHand::Queue { target: Arc::clone(&target), trigger: trigger.clone() });
                    let listener = Listener {
                        target,
                        trigger,
                        options: self.host_json.service_bus,
                        lock: self.config.lock,
                        queue: Arc::clone(&self.config.queue),
                        invoker: Arc::clone(&self.invoker),
                        stopping: self.stopping.clone(),
                    };
                    work.spawn(listener.run());
                }
            }
        }
        front
    }
}

impl RunningHost {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The functions that were not loaded, and why.
    pub fn functions_in_error(&self) -> &[FunctionError] {
        &self.in_error
    }

    /// Returns when the host has stopped by itself, with the reason. The rest of it has to be [shut
    /// down](RunningHost::shutdown) still.
    pub async fn stopped(&self) -> StopReason {
        let mut reason = self.reason.clone();
        let stopped = reason.wait_for(Option::is_some).await;
        stopped.ok().and_then(|reason| reason.clone()).unwrap_or(StopReason::Shutdown)
    }

    /// Takes no new work, lets what runs end within `grace`, then kills the handler. Messages that were not finished
    /// by then are given back to their queue.
    pub async fn shutdown(mut self, grace: Duration) -> StopReason {
        self.stop.send();
        let _out_of_grace = tokio::time::timeout(grace, join(&mut self.work)).await;
        self.process.stop(StopReason::Shutdown);
        let reason = self.stopped().await;
        join(&mut self.supervisor).await;
        let _cut_off = tokio::time::timeout(LAST_SETTLING, join(&mut self.work)).await;
        reason
    }
}

async fn join(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
