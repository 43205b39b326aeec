//! Permafresh as its users have it: `permafresh handler` alone, or `permafresh local` with its API. Settings are those
//! of design §10; nothing comes from the environment of whoever measures.

use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::azure::{Azure, OFFER, PLAN, PUBLISHER, Simulator};
use crate::load::{Connection, request, until_answered};
use crate::process::Process;

/// What notifications prove themselves with.
pub const SIG: &str = "a-sig-for-measuring-only";

/// The key of the API.
pub const KEY: &str = "a-key-for-measuring-only";

/// How many deployments one import holds.
const IMPORT: usize = 1_000;

/// `permafresh handler`, with nobody before it.
pub struct Handler {
    process: Process,
    address: SocketAddr,
}

impl Handler {
    /// Starts it and waits for its first answer; how long that took, from before the process was there.
    pub fn start(folder: &Path, azure: &Simulator) -> anyhow::Result<(Self, Duration)> {
        // Asked for and given back: the host of Azure picks the port the same way.
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let mut command = command(folder, azure);
        command.arg("handler").env("FUNCTIONS_CUSTOMHANDLER_PORT", address.port().to_string());
        command.env("FUNCTIONS_HTTPWORKER_PORT", address.port().to_string());
        let begin = Instant::now();
        let process = Process::start("permafresh handler", command.stdout(Stdio::null()))?;
        until_answered(address, begin + Duration::from_secs(30))?;
        Ok((Self { process, address }, begin.elapsed()))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it has its store and answers for it.
    pub async fn wait_until_initialised(&self) -> anyhow::Result<()> {
        let probe = request("GET", "/api/rollouts?top=1", "");
        for _ in 0..300 {
            if Connection::open(self.address).await?.ask(&probe).await? == 200 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the handler did not answer for its store within 30 s")
    }
}

/// The empty handler, started as the real one is.
pub struct Empty {
    process: Process,
    address: SocketAddr,
}

impl Empty {
    /// Starts it and waits for its first answer; how long that took, from before the process was there.
    pub fn start() -> anyhow::Result<(Self, Duration)> {
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let mut command = Command::new(crate::target_folder()?.join("release/examples/empty-handler"));
        command.env_clear().env("FUNCTIONS_CUSTOMHANDLER_PORT", address.port().to_string());
        let begin = Instant::now();
        let process = Process::start("the empty handler", command.stdout(Stdio::null()))?;
        until_answered(address, begin + Duration::from_secs(30))?;
        Ok((Self { process, address }, begin.elapsed()))
    }

    /// Builds it, with the profile that the binary is built with.
    pub fn build() -> anyhow::Result<()> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let arguments = ["build", "--release", "--locked", "--quiet", "--example", "empty-handler"];
        let status = Command::new(cargo).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).status()?;
        if !status.success() {
            bail!("the empty handler could not be built");
        }
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

/// `permafresh local`: the embedded host, and the handler under it.
pub struct Local {
    process: Process,
    url: String,
    client: reqwest::Client,
}

impl Local {
    /// Starts it and waits until it serves.
    pub fn start(folder: &Path, azure: &Simulator) -> anyhow::Result<Self> {
        Self::start_against(folder, azure, azure.endpoint())
    }

    /// The same with another Azure Resource Manager than the one that issues tokens.
    pub fn start_against(folder: &Path, azure: &Simulator, endpoint: &str) -> anyhow::Result<Self> {
        let mut command = command(folder, azure);
        command.env("ARM_ENDPOINT", endpoint);
        command.args(["local", "--port", "0"]).stdout(Stdio::piped());
        let mut process = Process::start("permafresh local", &mut command)?;
        let url = process.first_line("listening ")?;
        Ok(Self { process, url, client: reqwest::Client::new() })
    }

    /// The host's process.
    pub fn host(&self) -> u32 {
        self.process.id()
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The handler's process.
    pub fn handler(&self) -> anyhow::Result<u32> {
        self.process.only_child()
    }

    /// Registers the deployments with these numbers.
    pub async fn import(&self, azure: &Azure, numbers: Range<usize>) -> anyhow::Result<()> {
        let count = numbers.len();
        let all = numbers.collect::<Vec<_>>();
        let mut imported = 0;
        for part in all.chunks(IMPORT) {
            let row = |&number: &usize| {
                json!({"applicationId": azure.application_id(number), "publisher": PUBLISHER, "offer": OFFER, "plan": PLAN,
                       "version": "1.4.0"})
            };
            let rows = part.iter().map(row).collect::<Vec<_>>();
            let answer = self.call(reqwest::Method::PUT, "/api/deployments", Some(&json!(rows))).await?;
            imported += answer["imported"].as_u64().unwrap_or_default();
        }
        if imported != count as u64 {
            bail!("{imported} of {count} deployments were imported");
        }
        Ok(())
    }

    /// Publishes a version to all of them at once; the rollout's id.
    pub async fn publish(&self) -> anyhow::Result<String> {
        let publish = json!({
            "publisher": PUBLISHER, "offer": OFFER, "plan": PLAN, "version": "2.0.0", "target": "live",
            "strategy": {"canaries": 0, "waves": ["100%"], "maxInFlight": 100_000},
        });
        let answer = self.call(reqwest::Method::POST, "/api/offer-publishes", Some(&publish)).await?;
        Ok(answer["rolloutId"].as_str().context("an answer without a rollout")?.to_owned())
    }

    /// Begins to look for deployments.
    pub async fn start_sync(&self) -> anyhow::Result<()> {
        self.call(reqwest::Method::POST, "/api/deployments/sync", None).await.map(drop)
    }

    /// The last look for deployments.
    pub async fn sync(&self) -> anyhow::Result<Value> {
        self.call(reqwest::Method::GET, "/api/deployments/sync", None).await
    }

    /// One rollout.
    pub async fn rollout(&self, id: &str) -> anyhow::Result<Value> {
        self.call(reqwest::Method::GET, &format!("/api/rollouts/{id}"), None).await
    }

    /// Ends host and handler.
    pub fn end(self) -> anyhow::Result<()> {
        self.process.end()
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).header("x-functions-key", KEY);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{path} answered {status}: {text}");
        }
        Ok(serde_json::from_str(&text)?)
    }
}

/// The binary with the settings of the measurement, over a store in `folder`.
fn command(folder: &Path, azure: &Simulator) -> Command {
    let never = "0 0 0 1 1 *";
    let store = format!("sqlite:{}", folder.join("permafresh.db").display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_permafresh"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_clear();
    command.envs([
        ("PATH", std::env::var("PATH").unwrap_or_default().as_str()),
        ("FUNCTIONS_WORKER_RUNTIME", "custom"),
        ("STATE_STORE", store.as_str()),
        ("ServiceBusConnection", ""),
        ("ROLLOUT_QUEUE", "rollouts"),
        ("REFRESH_QUEUE", "refreshes"),
        ("POLL_SCHEDULE", "* * * * * *"),
        ("BULK_REFRESH_SCHEDULE", never),
        ("WATCH_OFFERS_SCHEDULE", never),
        ("SYNC_SCHEDULE", never),
        ("RENEW_TOKENS_SCHEDULE", never),
        ("MODE", "act"),
        ("ARM_ENDPOINT", azure.endpoint()),
        ("ARM_AUDIENCE", azure.endpoint()),
        ("ARM_MAX_CONCURRENCY", "64"),
        ("IDENTITY_ENDPOINT", azure.identity_endpoint()),
        ("IDENTITY_HEADER", azure.identity_header()),
        ("VERIFY_AFTER_SUCCESS", "false"),
        ("LOCAL_FUNCTION_KEYS", KEY),
        ("NOTIFICATION_SIG", SIG),
        ("RUST_LOG", "error"),
    ]);
    command.stderr(Stdio::inherit());
    command
}
