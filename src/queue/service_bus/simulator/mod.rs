//! A Service Bus namespace that is none: what tests, and a cloud-shaped run on one machine, call instead of Azure's.
//!
//! It speaks the part of the HTTP interface that contracts/service-bus-and-tables.md part 1 tells of: both forms of
//! sending, peek-lock, settling, dead letters, limits, signatures and tokens. What it does otherwise it is told call by call
//! ([`OnCall`]). It listens on loopback only, goes by a [`Clock`], and keeps everything in memory.

mod broker;
mod serve;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use url::Url;

use crate::clock::{Clock, SystemClock};
use crate::loopback::{Place, Server};
use broker::{BrokerQueue, Rules};

/// How a simulated namespace behaves where no script says otherwise.
#[derive(Clone)]
pub struct SimulatorConfig {
    /// The port; 0 takes a free one.
    pub port: u16,
    /// The queues that are there.
    pub queues: Vec<String>,
    /// For how long after a message was sent its id is a duplicate.
    pub duplicate_window: Duration,
    /// For how long a message is locked.
    pub lock: Duration,
    /// After so many deliveries a message is a dead letter.
    pub max_delivery_count: u32,
    /// The largest request body, in bytes.
    pub largest_body: usize,
    /// The name of the shared access policy.
    pub key_name: String,
    /// Its key.
    pub key: String,
    /// Which bearer tokens are taken.
    pub tokens: Tokens,
    /// How many of the last requests are kept for [`Simulator::requests`].
    pub keep_requests: usize,
    /// Decides what is due, locked and expired.
    pub clock: Arc<dyn Clock>,
}

/// Which bearer tokens a simulator takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// Those of [`Simulator::accept_token`].
    Listed,
    /// Any that is not empty: those of another simulator, for one.
    Any,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            port: 0,
            queues: vec!["rollouts".to_owned(), "refreshes".to_owned()],
            duplicate_window: Duration::from_secs(10 * 60),
            lock: Duration::from_secs(60),
            max_delivery_count: 10,
            largest_body: 256 * 1024,
            key_name: "RootManageSharedAccessKey".to_owned(),
            key: "simulated/key+of=no=account".to_owned(),
            tokens: Tokens::Listed,
            keep_requests: 0,
            clock: Arc::new(SystemClock),
        }
    }
}

/// What to do with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnCall {
    /// What it asks for.
    AsUsual,
    /// Answers, and does nothing.
    Answer(Answer),
    /// Does what it asks for, and answers otherwise.
    DoAndAnswer(Answer),
    /// Drops the connection and does nothing.
    Reset,
    /// Does what it asks for and drops the connection: the answer is lost.
    LoseAnswer,
    /// Never answers, and does nothing.
    Hang,
}

/// A canned answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A status and nothing else.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// Service Bus's error: XML with a code and a detail.
    pub fn error(status: u16, detail: &str) -> Self {
        let body = format!("<Error><Code>{status}</Code><Detail>{detail}</Detail></Error>");
        Self { body: body.into(), ..Self::status(status) }.with("content-type", "application/xml; charset=utf-8")
    }

    /// 503 as when a namespace is throttled, with a wait in seconds.
    pub fn busy(seconds: u64) -> Self {
        Self::error(503, "50009: the request was throttled, please wait 2 seconds and try again")
            .with("retry-after", &seconds.to_string())
    }

    /// The same with one more header.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// What a call is for; each has scripts of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Messages are sent.
    Send,
    /// A message is received.
    Receive,
    /// A delivery is completed, abandoned or renewed.
    Settle,
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
    /// The body.
    pub body: Bytes,
}

/// What one queue has seen, and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Messages taken.
    pub taken: u64,
    /// Messages thrown away as duplicates.
    pub duplicates: u64,
    /// Waiting, scheduled or locked.
    pub waiting: usize,
    /// Dead letters.
    pub dead: usize,
}

/// A running namespace; dropping it closes every connection.
pub struct Simulator {
    endpoint: Url,
    shared: Arc<Shared>,
    _server: Server,
}

struct Shared {
    config: SimulatorConfig,
    /// What a signature has to be for.
    origin: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queues: BTreeMap<String, BrokerQueue>,
    scripts: BTreeMap<Call, VecDeque<OnCall>>,
    tokens: HashSet<String>,
    requests: VecDeque<Recorded>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules(&self) -> Rules {
        let SimulatorConfig { duplicate_window, lock, max_delivery_count, .. } = self.config;
        Rules { duplicate_window, lock, max_delivery_count }
    }
}

impl Simulator {
    /// Starts one on loopback, within a Tokio runtime.
    ///
    /// # Errors
    /// If the port cannot be had.
    pub fn start(config: SimulatorConfig) -> std::io::Result<Self> {
        let Place { listener, origin, endpoint } = Place::take_now(config.port)?;
        let queues = config.queues.iter().map(|name| (name.to_ascii_lowercase(), BrokerQueue::default())).collect();
        let state = Mutex::new(State { queues, ..State::default() });
        let shared = Arc::new(Shared { config, origin, state });
        let server = Server::start(serve::run(listener, Arc::clone(&shared)));
        Ok(Self { endpoint, shared, _server: server })
    }

    /// Where it listens: `http://127.0.0.1:{port}/`.
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// What to set as `ServiceBusConnection`.
    pub fn connection_string(&self) -> String {
        let SimulatorConfig { key_name, key, .. } = &self.shared.config;
        let address = self.shared.origin.trim_start_matches("http://");
        format!(
            "Endpoint=sb://{address};SharedAccessKeyName={key_name};SharedAccessKey={key};UseDevelopmentEmulator=true"
        )
    }

    /// From now on this bearer token is taken.
    pub fn accept_token(&self, token: &str) {
        self.shared.state().tokens.insert(token.to_owned());
    }

    /// Takes every token back.
    pub fn revoke_tokens(&self) {
        self.shared.state().tokens.clear();
    }

    /// What to do with the next calls of a kind, one after the other.
    pub fn on(&self, call: Call, scripts: impl IntoIterator<Item = OnCall>) {
        self.shared.state().scripts.entry(call).or_default().extend(scripts);
    }

    /// What a queue has seen, and holds; nothing of a queue that is not there.
    pub fn stats(&self, queue: &str) -> QueueStats {
        let state = self.shared.state();
        let Some(queue) = state.queues.get(&queue.to_ascii_lowercase()) else { return QueueStats::default() };
        let ((taken, duplicates), (waiting, dead)) = (queue.counts(), queue.lengths());
        QueueStats { taken, duplicates, waiting, dead }
    }

    /// The ids that a queue holds, dead letters aside, in the order in which they become deliverable.
    pub fn ids(&self, queue: &str) -> Vec<String> {
        self.shared.state().queues.get(&queue.to_ascii_lowercase()).map(BrokerQueue::ids).unwrap_or_default()
    }

    /// The last requests, oldest first, as many as the configuration keeps.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.state().requests.iter().cloned().collect()
    }
}
