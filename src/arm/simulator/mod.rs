//! An Azure Resource Manager that is none: the one thing that tests, the demo and the benchmarks call instead of Azure's.
//!
//! It behaves as contracts/arm.md says ARM does: operations with signed polling URLs that it insists on byte for byte, waits
//! that it notices when they are not kept, throttling per subscription, and a token endpoint for managed identities whose
//! tokens are the only ones it takes. What it does otherwise it is told call by call ([`scripts`]). It listens on loopback
//! only, and keeps everything in memory.

pub mod scripts;
mod serve;
mod signed_url;
mod world;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

pub use scripts::{Acceptance, Area, MonitorForm, OnPoll, OnPost, OnRead, Outcome, Reply, WaitForm};
use signed_url::UrlSigner;
use world::World;
pub use world::{ApplicationSpec, PlanSpec, Stats};

use crate::clock::{Clock, SystemClock};
use crate::rollout::{ApplicationId, Timestamp};

/// How a simulator behaves where no script says otherwise.
#[derive(Clone)]
pub struct SimulatorConfig {
    /// The port; 0 takes a free one.
    pub port: u16,
    /// How long each answer takes, in real time.
    pub latency: Duration,
    /// How long an operation takes, by the clock.
    pub operation: Duration,
    /// What Retry-After says in answers to POSTs and looks; none is said if `None`. Whole seconds, as ARM's are.
    pub retry_after: Option<Duration>,
    /// How long a token lasts, by the clock.
    pub token_lifetime: Duration,
    /// What has to be in `X-IDENTITY-HEADER` for a token.
    pub identity_header: String,
    /// Applications on one page of a list.
    pub page_size: usize,
    /// Whether answers spell their header names in capitals.
    pub title_case_headers: bool,
    /// How many of the last requests are kept for [`Simulator::requests`].
    pub keep_requests: usize,
    /// Decides when operations end and tokens expire.
    pub clock: Arc<dyn Clock>,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            port: 0,
            latency: Duration::ZERO,
            operation: Duration::from_secs(30),
            retry_after: Some(Duration::from_secs(10)),
            token_lifetime: Duration::from_secs(24 * 60 * 60),
            identity_header: "simulated".to_owned(),
            page_size: 100,
            title_case_headers: false,
            keep_requests: 0,
            clock: Arc::new(SystemClock),
        }
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// The request target, byte for byte.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
}

/// A running simulator; dropping it closes every connection.
pub struct Simulator {
    endpoint: Url,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    config: SimulatorConfig,
    /// Without a slash at the end.
    origin: String,
    signer: UrlSigner,
    world: Mutex<World>,
    requests: Mutex<VecDeque<Recorded>>,
    at_once: AtomicUsize,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Simulator {
    /// Starts one on loopback. Fails if the port cannot be had.
    pub async fn start(config: SimulatorConfig) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port)).await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let endpoint = origin.parse().map_err(std::io::Error::other)?;
        let shared = Arc::new(Shared {
            config,
            origin,
            signer: UrlSigner::default(),
            world: Mutex::default(),
            requests: Mutex::default(),
            at_once: AtomicUsize::new(0),
        });
        let server = tokio::spawn(serve::run(listener, Arc::clone(&shared)));
        Ok(Self { endpoint, shared, server })
    }

    /// Where it listens: `http://127.0.0.1:{port}/`.
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// What to set as `IDENTITY_ENDPOINT`.
    pub fn identity_endpoint(&self) -> String {
        format!("{}/msi/token", self.shared.origin)
    }

    /// What to set as `IDENTITY_HEADER`.
    pub fn identity_header(&self) -> &str {
        &self.shared.config.identity_header
    }

    /// A token as the identity endpoint issues them, and when it expires.
    pub fn issue_token(&self) -> (String, Timestamp) {
        serve::identity::issue(&self.shared, self.shared.config.token_lifetime)
    }

    /// From now on takes a token that another simulator issued in a customer's tenant, for subscriptions of that tenant.
    pub fn accept_token(&self, token: &str, tenant: &str, expires: Timestamp) {
        let mut world = self.shared.world();
        world.tokens.insert(token.to_owned(), expires);
        world.tenants.insert(token.to_owned(), tenant.to_ascii_lowercase());
    }

    /// From now on refuses our own identity everything in a subscription; tokens of its tenant are taken.
    pub fn close_to_publisher(&self, subscription: &str) {
        self.shared.world().closed.insert(subscription.to_ascii_lowercase().into());
    }

    /// Takes every token back that was issued.
    pub fn revoke_tokens(&self) {
        self.shared.world().tokens.clear();
    }

    /// Adds an application, or replaces what is said of one.
    pub fn add_application(&self, spec: ApplicationSpec) {
        self.shared.world().add(spec);
    }

    /// Adds many at once.
    pub fn add_applications(&self, specs: impl IntoIterator<Item = ApplicationSpec>) {
        let mut world = self.shared.world();
        specs.into_iter().for_each(|spec| world.add(spec));
    }

    /// What to do with the next POSTs for an application, one after the other; an application not there yet is added.
    pub fn on_post(&self, id: &ApplicationId, scripts: impl IntoIterator<Item = OnPost>) {
        self.scripted(id, |application| application.on_post.extend(scripts));
    }

    /// What to do with the next looks at operations of an application.
    pub fn on_poll(&self, id: &ApplicationId, scripts: impl IntoIterator<Item = OnPoll>) {
        self.scripted(id, |application| application.on_poll.extend(scripts));
    }

    /// What to do with the next readings of an application.
    pub fn on_read(&self, id: &ApplicationId, scripts: impl IntoIterator<Item = OnRead>) {
        self.scripted(id, |application| application.on_read.extend(scripts));
    }

    /// What to answer to the next calls for pages of lists, whichever they are, and to other paths of a subscription.
    pub fn on_list(&self, replies: impl IntoIterator<Item = Reply>) {
        self.shared.world().on_list.extend(replies);
    }

    /// What to answer to the next calls without a token, in place of the challenge.
    pub fn on_challenge(&self, replies: impl IntoIterator<Item = Reply>) {
        self.shared.world().on_challenge.extend(replies);
    }

    /// Adds a registration assignment to a scope (`/subscriptions/…`), as ARM shows it with its definition.
    pub fn add_registration_assignment(&self, scope: &str, assignment: serde_json::Value) {
        self.shared.world().assignments.entry(scope.to_lowercase()).or_default().push(assignment);
    }

    /// Defines a role, as ARM shows it.
    pub fn define_role(&self, id: &str, definition: serde_json::Value) {
        self.shared.world().roles.insert(id.to_ascii_lowercase(), definition);
    }

    /// What to answer to the next calls of another kind, one after the other.
    pub fn on_area(&self, area: Area, replies: impl IntoIterator<Item = Reply>) {
        self.shared.world().on_area.entry(area).or_default().extend(replies);
    }

    /// Deletes an application: it is in no list, and not found.
    pub fn delete_application(&self, id: &ApplicationId) {
        if let Some(application) = self.shared.world().find_mut(id) {
            application.is_gone = true;
        }
    }

    /// Takes a subscription out of the list of those that the caller can see.
    pub fn hide_subscription(&self, subscription: &str) {
        self.shared.world().hidden.insert(subscription.to_ascii_lowercase().into());
    }

    /// Adds a subscription that holds no application.
    pub fn add_subscription(&self, subscription: &str) {
        self.shared.world().empty_subscriptions.insert(subscription.to_ascii_lowercase().into());
    }

    /// From now on Resource Graph shows no application, only their managed resource groups.
    pub fn blind_graph(&self) {
        self.shared.world().graph_is_blind = true;
    }

    /// Adds a provider with its operations, each with whether it is a data action.
    pub fn add_provider(&self, namespace: &str, operations: &[(&str, bool)]) {
        let operations = operations.iter().map(|(name, is_data)| ((*name).to_owned(), *is_data)).collect();
        self.shared.world().providers.insert(namespace.to_ascii_lowercase().into(), operations);
    }

    /// From now on every operation that brings `version` fails because it names an action that does not exist.
    pub fn bad_version(&self, version: &str, action: &str) {
        let outcome = Arc::new(Outcome::bad_action(action));
        self.shared.world().bad_versions.insert(version.into(), outcome);
    }

    /// For `time`, by the clock, every call for a subscription is answered 429 with the time that is left.
    pub fn throttle(&self, subscription: &str, time: Duration) {
        let until = self.shared.config.clock.now() + time;
        self.shared.world().throttled.insert(subscription.to_ascii_lowercase().into(), until);
    }

    /// What was asked so far.
    pub fn stats(&self) -> Stats {
        self.shared.world().stats.clone()
    }

    /// How often an application was posted.
    pub fn posts_of(&self, id: &ApplicationId) -> u32 {
        self.shared.world().find(id).map_or(0, |application| application.posts)
    }

    /// How many operations were started for an application.
    pub fn operations_of(&self, id: &ApplicationId) -> u32 {
        self.shared.world().find(id).map_or(0, |application| application.operations)
    }

    /// The version that the last operation of an application brought, if it has ended well.
    pub fn refreshed_to(&self, id: &ApplicationId) -> Option<String> {
        let now = self.shared.config.clock.now();
        let world = self.shared.world();
        let last = &world.operations[world.find(id)?.last_operation? as usize];
        (last.ends <= now && last.outcome.is_success()).then(|| last.version.to_string())
    }

    /// The last requests, oldest first, as many as the configuration keeps.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Calls under way.
    pub fn calls_now(&self) -> usize {
        self.shared.at_once.load(Ordering::Acquire)
    }

    fn scripted(&self, id: &ApplicationId, change: impl FnOnce(&mut world::Application)) {
        let mut world = self.shared.world();
        if world.find(id).is_none() {
            world.add(ApplicationSpec::new(id.clone()));
        }
        if let Some(application) = world.find_mut(id) {
            change(application);
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.server.abort();
    }
}
