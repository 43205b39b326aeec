//! The simulated Azure Resource Manager as a process of its own, and the bare loop: the same calls without any state,
//! which is what latency, concurrency limit and this machine allow at best.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use axum::body::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use permafresh::arm::simulator::{ApplicationSpec, Simulator as ArmSimulator, SimulatorConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::peers::Took;
use crate::process::Process;

/// The publisher of [`ApplicationSpec::new`].
pub const PUBLISHER: &str = "fabrikam";
/// Its offer.
pub const OFFER: &str = "ledger";
/// Its plan.
pub const PLAN: &str = "standard";

/// How the simulated Azure behaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Azure {
    /// How many applications there are.
    pub applications: usize,
    /// How many of them share a subscription.
    pub a_subscription: usize,
    /// How long every answer takes.
    pub latency: Duration,
    /// How long an operation takes.
    pub operation: Duration,
    /// What `Retry-After` says.
    pub retry_after: Duration,
}

impl Default for Azure {
    fn default() -> Self {
        Self {
            applications: 0,
            a_subscription: 100,
            latency: Duration::from_millis(20),
            operation: Duration::from_secs(3),
            retry_after: Duration::from_secs(1),
        }
    }
}

impl Azure {
    /// Read back from the argument that [`Simulator::start`] gives.
    pub fn from_arguments(arguments: &[String]) -> anyhow::Result<Self> {
        let text = arguments.first().context("how Azure behaves was not said")?;
        serde_json::from_str(text).context("read how Azure behaves")
    }

    /// What no client can beat with `at_once` calls at once: each deployment needs its POST and one poll, and the last
    /// one posted has its operation still before it.
    pub fn bound(&self, at_once: usize) -> Duration {
        let once = self.latency.mul_f64(self.applications as f64 / at_once as f64);
        (once + self.operation + self.latency).max(once * 2)
    }

    /// The id of the application with that number.
    pub fn application_id(&self, number: usize) -> String {
        let subscription = uuid::Uuid::from_u128(0x5eed << 64 | (number / self.a_subscription) as u128);
        format!(
            "/subscriptions/{subscription}/resourceGroups/customers/providers/Microsoft.Solutions/applications/app-{number:06}"
        )
    }

    /// What [`Azure::from_arguments`] reads.
    pub fn argument(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What the simulator has seen.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Refreshes that were posted.
    pub posts: u64,
    /// Operations that were started.
    pub operations: u64,
    /// Polls.
    pub polls: u64,
    /// Polls that came sooner than `Retry-After` allowed.
    pub impatient_polls: u64,
    /// Questions about what there is: pages of subscriptions, of Resource Graph, of groups.
    pub inventory: u64,
}

impl Seen {
    /// Requests for each of `count` deployments.
    pub fn per_deployment(&self, count: usize) -> f64 {
        (self.posts + self.polls) as f64 / count as f64
    }
}

/// What the simulator's process says first.
#[derive(Debug, Serialize, Deserialize)]
pub struct Greeting {
    endpoint: String,
    identity_endpoint: String,
    identity_header: String,
    stats: String,
}

/// A simulator in a process of its own.
pub struct Simulator {
    _process: Process,
    greeting: Greeting,
}

impl Simulator {
    /// Starts it and waits until it serves.
    pub fn start(azure: &Azure) -> anyhow::Result<Self> {
        let arguments = ["--serve-azure".to_owned(), azure.argument()];
        let mut process = Process::this_program("the simulated Azure", &arguments)?;
        let greeting = serde_json::from_str(&process.first_line("")?).context("read where Azure is")?;
        Ok(Self { _process: process, greeting })
    }

    /// The value of `ARM_ENDPOINT`.
    pub fn endpoint(&self) -> &str {
        &self.greeting.endpoint
    }

    /// The value of `IDENTITY_ENDPOINT`.
    pub fn identity_endpoint(&self) -> &str {
        &self.greeting.identity_endpoint
    }

    /// The value of `IDENTITY_HEADER`.
    pub fn identity_header(&self) -> &str {
        &self.greeting.identity_header
    }

    /// What it said first.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// The same for [`Caller::new`].
    pub fn greeting_text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(&self.greeting)?)
    }

    /// What it has seen so far.
    pub async fn stats(&self) -> anyhow::Result<Seen> {
        Ok(reqwest::get(&self.greeting.stats).await?.error_for_status()?.json().await?)
    }
}

/// The mode `--serve-azure`.
pub async fn serve(azure: Azure) -> anyhow::Result<()> {
    let simulator = Arc::new(
        ArmSimulator::start(SimulatorConfig {
            latency: azure.latency,
            operation: azure.operation,
            retry_after: Some(azure.retry_after),
            ..SimulatorConfig::default()
        })
        .await?,
    );
    let specs = (0..azure.applications).map(|number| Ok(ApplicationSpec::new(azure.application_id(number).parse()?)));
    simulator.add_applications(specs.collect::<anyhow::Result<Vec<_>>>()?);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let greeting = Greeting {
        endpoint: simulator.endpoint().as_str().trim_end_matches('/').to_owned(),
        identity_endpoint: simulator.identity_endpoint(),
        identity_header: simulator.identity_header().to_owned(),
        stats: format!("http://{}/stats", listener.local_addr()?),
    };
    println!("{}", serde_json::to_string(&greeting)?);
    let stats = async move || {
        let seen = simulator.stats();
        let seen = Seen {
            posts: seen.posts,
            operations: seen.operations,
            polls: seen.polls,
            impatient_polls: seen.impatient_polls,
            inventory: seen.inventory + seen.pages,
        };
        serde_json::to_string(&seen).unwrap_or_default()
    };
    axum::serve(listener, axum::Router::new().route("/stats", axum::routing::get(stats))).await?;
    Ok(())
}

/// Who makes the calls of those that keep no state.
pub struct Caller {
    client: Client<HttpConnector, Empty<Bytes>>,
    endpoint: String,
    token: String,
}

impl Caller {
    /// With as many connections as it makes calls at once.
    pub async fn new(greeting: &str, at_once: usize) -> anyhow::Result<Self> {
        let greeting = serde_json::from_str::<Greeting>(greeting)?;
        // Not reqwest: it writes some characters of a signed polling URL in another way, and Azure wants them as they were.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(at_once).build_http();
        Ok(Self { client, token: token(&greeting).await?, endpoint: greeting.endpoint })
    }

    /// Asks for a refresh; where to look how it goes.
    pub async fn post(&self, id: &str) -> anyhow::Result<String> {
        let url = format!("{}{id}/refreshPermissions?api-version=2019-07-01&targetVersion=2.0.0", self.endpoint);
        let posted = self.call("POST", &url).await?;
        Ok(posted.headers().get("azure-asyncoperation").context("no polling URL")?.to_str()?.to_owned())
    }

    /// Looks; whether it has succeeded.
    pub async fn has_ended(&self, monitor: &str) -> anyhow::Result<bool> {
        let polled = self.call("GET", monitor).await?;
        let body = serde_json::from_slice::<serde_json::Value>(polled.body())?;
        match body["status"].as_str() {
            Some("Succeeded") => Ok(true),
            Some("Running") => Ok(false),
            _ => bail!("an operation ended with {body}"),
        }
    }

    async fn call(&self, method: &str, url: &str) -> anyhow::Result<Response<Bytes>> {
        let authorization = format!("Bearer {}", self.token);
        let request = Request::builder().method(method).uri(url).header("authorization", authorization);
        let request = if method == "POST" { request.header("content-length", "0") } else { request };
        let (head, body) = self.client.request(request.body(Empty::new())?).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        if !head.status.is_success() {
            bail!("a call was answered with {}: {}", head.status, String::from_utf8_lossy(&body));
        }
        Ok(Response::from_parts(head, body))
    }
}

/// The mode `--bare-loop`: POST, wait as long as is asked, poll until it has succeeded; no state, no queue, no retry.
pub async fn bare_loop(arguments: &[String]) -> anyhow::Result<()> {
    let azure = Azure::from_arguments(arguments)?;
    let at_once = arguments.get(1).context("the limit was not said")?.parse::<usize>()?;
    let caller = Caller::new(arguments.get(2).context("where Azure is was not said")?, at_once).await?;
    let caller = Arc::new(caller);
    let places = Arc::new(Semaphore::new(at_once));
    let mut tasks = JoinSet::new();
    let begin = Instant::now();
    for number in 0..azure.applications {
        let (caller, places, id) = (Arc::clone(&caller), Arc::clone(&places), azure.application_id(number));
        tasks.spawn(async move {
            let place = places.acquire().await?;
            let monitor = caller.post(&id).await?;
            drop(place);
            loop {
                tokio::time::sleep(azure.retry_after).await;
                let _place = places.acquire().await?;
                if caller.has_ended(&monitor).await? {
                    return anyhow::Ok(());
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    println!("{}", serde_json::to_string(&Took::by_this_process(begin.elapsed().as_secs_f64())?)?);
    Ok(())
}

/// A token the way a managed identity gets it.
pub async fn token(greeting: &Greeting) -> anyhow::Result<String> {
    let url = reqwest::Url::parse_with_params(
        &greeting.identity_endpoint,
        [("resource", greeting.endpoint.as_str()), ("api-version", "2019-08-01")],
    )?;
    let request = reqwest::Client::new().get(url).header("x-identity-header", &greeting.identity_header);
    let answer = request.send().await?.error_for_status()?.json::<serde_json::Value>().await?;
    Ok(answer["access_token"].as_str().context("no token")?.to_owned())
}
