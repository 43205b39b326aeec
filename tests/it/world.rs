//! The whole service in one test: manual clock, temporary SQLite, embedded queue, ARM simulator, the real router.
//!
//! Work moves by [`World::run_due`], time by [`World::advance`] or [`World::settle`]. Messages are delivered through the
//! functions' own routes and envelopes, as the host does it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use permafresh::access::credential::TokenSource;
use permafresh::arm::simulator::{ApplicationSpec, Simulator, SimulatorConfig};
use permafresh::arm::{ArmClient, ArmConfig};
use permafresh::engine::{Engine, EngineConfig, Mode, OfferConfig};
use permafresh::functions::dashboard::Dashboard;
use permafresh::functions::wire::caller::IsVouched;
use permafresh::functions::{App, Handle, router};
use permafresh::ncrontab::Schedule;
use permafresh::partner_center;
use permafresh::queue::Queue;
use permafresh::queue::embedded::{EmbeddedQueue, EmbeddedQueueConfig};
use permafresh::rollout::jit::JitSetup;
use permafresh::rollout::submission::States;
use permafresh::rollout::{ApplicationId, Policy, Rollout, RolloutId, Timestamp, Way};
use permafresh::store::sqlite::SqliteStore;
use permafresh::store::{Store, Versioned};
use permafresh::webhook::Webhook;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::arm_fixture::Issued;
use crate::manual_clock::ManualClock;

pub const DASHBOARD_KEY: &str = "the-key-of-the-dashboard";
pub const SIG: &str = "the-sig";
const LOCK: Duration = Duration::from_secs(300);

/// What a test may choose.
pub struct Options {
    pub verify: bool,
    pub mode: Mode,
    pub offers: Vec<OfferConfig>,
    /// The ways where an offer names none.
    pub ways: Vec<Way>,
    pub operation: Duration,
    pub retry_after: Option<Duration>,
    pub looks_at_once: usize,
    /// How many calls to ARM may go at once.
    pub calls_at_once: usize,
    pub posts_prepared: usize,
    /// How long a step waits for one of those places, in real time.
    pub place_patience: Duration,
    /// How long a call to ARM may take, in real time.
    pub call_timeout: Duration,
    /// Whether the simulator keeps a journal of what it was asked.
    pub keeps_journal: bool,
    pub sigs: Vec<String>,
    pub dashboard_key: Option<String>,
    pub principals: IsVouched,
    pub retention: Duration,
    /// Where people are told, and the secret.
    pub webhook: Option<(String, String)>,
    /// Whether offers are watched, and with what.
    pub watch: Option<WatchOptions>,
    /// What just-in-time access is asked with.
    pub jit: Option<JitSetup>,
}

/// How offers are watched.
#[derive(Clone)]
pub struct WatchOptions {
    pub partner: Arc<partner_center::simulator::Simulator>,
    pub states: States,
    pub rollout_on_first_sight: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            verify: true,
            mode: Mode::Act,
            offers: Vec::new(),
            ways: vec![Way::Publisher, Way::HandOver],
            operation: Duration::from_secs(60),
            retry_after: Some(Duration::from_secs(15)),
            looks_at_once: 128,
            calls_at_once: 64,
            posts_prepared: 64,
            place_patience: Duration::from_secs(10),
            call_timeout: Duration::from_secs(2),
            keeps_journal: false,
            sigs: vec![SIG.into(), "the-next-sig".into()],
            dashboard_key: Some(DASHBOARD_KEY.into()),
            principals: IsVouched::No,
            retention: Duration::from_secs(400 * 86_400),
            webhook: None,
            watch: None,
            jit: None,
        }
    }
}

pub struct World {
    pub clock: ManualClock,
    pub simulator: Arc<Simulator>,
    pub store: Arc<dyn Store>,
    pub queue: Arc<dyn Queue>,
    options: Options,
    router: Router,
    folder: TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let clock = ManualClock::new();
        let folder = tempfile::tempdir().unwrap();
        let simulator = SimulatorConfig {
            operation: options.operation,
            retry_after: options.retry_after,
            keeps_journal: options.keeps_journal,
            clock: Arc::new(clock.clone()),
            token_lifetime: Duration::from_secs(365 * 86_400),
            ..SimulatorConfig::default()
        };
        let simulator = Arc::new(Simulator::start(simulator).await.unwrap());
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&folder.path().join("state.db")).unwrap());
        let queue = EmbeddedQueue::open(
            &folder.path().join("queue.db"),
            EmbeddedQueueConfig::default(),
            Arc::new(clock.clone()),
        );
        let mut world =
            Self { clock, simulator, store, queue: Arc::new(queue.unwrap()), options, router: Router::new(), folder };
        world.router = world.handler(Arc::clone(&world.store), Arc::clone(&world.queue));
        world
    }

    /// A handler of its own over the given parts: another instance, or one with faults.
    pub fn handler(&self, store: Arc<dyn Store>, queue: Arc<dyn Queue>) -> Router {
        router(Handle::ready(self.app(store, queue)))
    }

    /// What a handler over the given parts works with.
    pub fn app(&self, store: Arc<dyn Store>, queue: Arc<dyn Queue>) -> App {
        let clock = Arc::new(self.clock.clone());
        let tokens = TokenSource::from_credential(Arc::new(Issued::new(&self.simulator)), clock.clone());
        let mut arm = ArmConfig::for_endpoint(self.simulator.endpoint().clone());
        arm.audience = "https://management.azure.com".into();
        arm.call_timeout = self.options.call_timeout;
        arm.max_concurrency = self.options.calls_at_once;
        let arm = ArmClient::new(arm, Arc::new(tokens), clock.clone()).unwrap();
        let config = EngineConfig {
            policy: Policy {
                ways: self.options.ways.clone(),
                verify_after_success: self.options.verify,
                arm_endpoint: "https://management.azure.com".into(),
                arm_api_version: "2019-07-01".into(),
            },
            rollout_queue: "rollouts".into(),
            refresh_queue: "refreshes".into(),
            offers: self.options.offers.clone(),
            mode: self.options.mode,
            retention: self.options.retention,
            posts_prepared: self.options.posts_prepared,
            place_patience: self.options.place_patience,
            looks_at_once: self.options.looks_at_once,
        };
        let mut engine = Engine::new(store, queue, arm, clock.clone(), config);
        if let Some((url, secret)) = &self.options.webhook {
            let http = || {
                // Another test may have been first.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
                builder.build().map_err(|error| error.to_string())
            };
            engine = engine.with_webhook(Webhook::new(url, secret, http).unwrap());
        }
        if let Some(setup) = &self.options.jit {
            engine = engine.with_jit(setup.clone());
        }
        let engine = match &self.options.watch {
            Some(options) => engine.with_watch(crate::watch_offers::watch(options, clock)),
            None => engine,
        };
        App {
            dashboard: Dashboard::new(self.options.dashboard_key.clone(), self.options.principals),
            engine,
            notification_sigs: self.options.sigs.clone(),
            principals: self.options.principals,
            poll_schedule: Schedule::parse("*/15 * * * * *").unwrap(),
        }
    }

    /// The same world over what is in another folder: its queue, and the store that `store` finds there.
    pub fn over(mut self, folder: TempDir, store: impl FnOnce(&Path) -> Arc<dyn Store>) -> Self {
        self.store = store(folder.path());
        self.folder = folder;
        self.queue = self.another_queue();
        self.router = self.handler(Arc::clone(&self.store), Arc::clone(&self.queue));
        self
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The handler in use.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// The store as another process opens it.
    pub fn another_store(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&self.folder.path().join("state.db")).unwrap())
    }

    /// The queue as another process opens it.
    pub fn another_queue(&self) -> Arc<dyn Queue> {
        let path = self.folder.path().join("queue.db");
        Arc::new(EmbeddedQueue::open(&path, EmbeddedQueueConfig::default(), Arc::new(self.clock.clone())).unwrap())
    }

    /// Puts another handler in the place of the one in use.
    pub fn replace_handler(&mut self, router: Router) {
        self.router = router;
    }

    /// Starts the handler anew in another mode.
    pub fn set_mode(&mut self, mode: Mode) {
        self.options.mode = mode;
        self.router = self.handler(Arc::clone(&self.store), Arc::clone(&self.queue));
    }

    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// One request to the handler in use.
    pub async fn request(&self, request: Request<Body>) -> (StatusCode, String) {
        send(&self.router, request).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.request(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "GET {path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = Request::post(path).header("content-type", "application/json").body(body.to_string().into());
        let (status, body) = self.request(request.unwrap()).await;
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Adds applications to ARM and imports them, as an operator would.
    pub async fn deploy(&self, count: usize) -> Vec<ApplicationId> {
        let ids: Vec<_> = (0..count).map(application).collect();
        self.deploy_these(&ids).await;
        ids
    }

    pub async fn deploy_these(&self, ids: &[ApplicationId]) {
        self.simulator.add_applications(ids.iter().cloned().map(ApplicationSpec::new));
        let rows: Vec<_> = ids
            .iter()
            .map(|id| json!({"applicationId": id, "publisher": "fabrikam", "offer": "ledger", "plan": "standard"}))
            .collect();
        let request = Request::put("/api/deployments").header("content-type", "application/json");
        let (status, body) = self.request(request.body(json!(rows).to_string().into()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let result: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(result["rejected"], json!([]), "{body}");
    }

    /// Posts a publish and expects a new rollout.
    pub async fn publish(&self, body: Value) -> RolloutId {
        let (status, answer) = self.post("/api/offer-publishes", &publish(body)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        answer["rolloutId"].as_str().unwrap().parse().unwrap()
    }

    pub async fn rollout(&self, id: RolloutId) -> Value {
        self.get(&format!("/api/rollouts/{id}")).await
    }

    /// The refreshes of a rollout, up to a thousand.
    pub async fn refreshes(&self, id: RolloutId) -> Vec<Value> {
        let page = self.get(&format!("/api/rollouts/{id}/refreshes?top=1000")).await;
        page["value"].as_array().unwrap().clone()
    }

    pub async fn refresh_of(&self, id: RolloutId, application: &ApplicationId) -> Value {
        let all = self.refreshes(id).await;
        let wanted = json!(application);
        all.into_iter().find(|refresh| refresh["applicationId"] == wanted).expect("the refresh exists")
    }

    /// Delivers what is deliverable, all at once per round, until nothing is.
    pub async fn deliver(&self) -> usize {
        let mut delivered = 0;
        loop {
            let mut moved = 0;
            for (queue, function) in [("rollouts", "PlanRollout"), ("refreshes", "RefreshDeployment")] {
                let messages = self.queue.receive(queue, 256, LOCK).await.unwrap();
                moved += messages.len();
                let runs = messages.into_iter().map(|message| async move {
                    if invoke_message(&self.router, function, &message.body).await.is_success() {
                        self.queue.complete(queue, &[message.lock]).await.unwrap();
                    } else {
                        self.queue.abandon(queue, &message.lock).await.unwrap();
                    }
                });
                futures_util::future::join_all(runs).await;
            }
            delivered += moved;
            if moved == 0 {
                return delivered;
            }
        }
    }

    /// One tick of PollOperations.
    pub async fn tick(&self) {
        assert_eq!(invoke_timer(&self.router, "PollOperations", None).await, StatusCode::OK);
    }

    /// Everything that can be done without time passing.
    pub async fn run_due(&self) {
        self.deliver().await;
        self.tick().await;
        while self.deliver().await > 0 {
            self.tick().await;
        }
    }

    /// Moves time in steps until the rollout has ended or stopped; at most `limit`.
    pub async fn settle(&self, id: RolloutId, limit: Duration) -> Value {
        let end = self.now() + limit;
        loop {
            self.run_due().await;
            let rollout = self.rollout(id).await;
            if !matches!(rollout["state"].as_str().unwrap(), "planning" | "running" | "waiting") || self.now() >= end {
                return rollout;
            }
            self.advance(Duration::from_secs(15));
        }
    }

    /// Every message body that waits or is scheduled is of a kind that exists; used where dead letters would be a fault.
    pub async fn assert_no_dead_letters(&self) {
        for queue in ["rollouts", "refreshes"] {
            assert_eq!(self.queue.dead_letters(queue, 10).await.unwrap(), []);
        }
    }
}

/// A publish of version 1.5.0, with changes.
pub fn publish(changes: Value) -> Value {
    let mut body =
        json!({"publisher": "fabrikam", "offer": "ledger", "plan": "standard", "version": "1.5.0", "target": "live"});
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// Application number `number`, each in a subscription of its own.
pub fn application(number: usize) -> ApplicationId {
    format!("/subscriptions/a1000000-0000-4000-8000-{number:012}/resourceGroups/rg-apps/providers/Microsoft.Solutions/applications/ledger-{number:05}")
        .parse()
        .unwrap()
}

/// Everything in one wave, to keep a test short.
pub fn one_wave() -> Value {
    json!({"canaries": 0, "waves": ["100%"], "maxFailures": "100%"})
}

/// Stores so many rollouts like one of the world, each changed and a second younger than the one before.
pub async fn add_rollouts(world: &World, like: RolloutId, count: u64, change: impl Fn(&mut Rollout)) {
    let known = world.store.rollout(like).await.unwrap().unwrap().value;
    for number in 1..=count {
        let mut rollout = known.clone();
        rollout.id = format!("01990000-0000-7000-8000-{number:012}").parse().unwrap();
        rollout.created_at += Duration::from_secs(number);
        change(&mut rollout);
        assert!(world.store.save_rollout(&Versioned::new(rollout)).await.unwrap().is_stored());
    }
}

pub async fn send(router: &Router, request: Request<Body>) -> (StatusCode, String) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Delivers one message as the host does.
pub async fn invoke_message(router: &Router, function: &str, body: &[u8]) -> StatusCode {
    let envelope = json!({"Data": {"message": STANDARD.encode(body)}, "Metadata": {"sys": {"MethodName": function}}});
    let request = Request::post(format!("/{function}")).header("content-type", "application/json");
    let (status, body) = send(router, request.body(envelope.to_string().into()).unwrap()).await;
    if status.is_success() {
        assert_eq!(body, r#"{"Outputs":{},"Logs":[],"ReturnValue":null}"#);
    }
    status
}

/// Fires one timer as the host does.
pub async fn invoke_timer(router: &Router, function: &str, due: Option<Timestamp>) -> StatusCode {
    let status = due.map(|due| json!({"Last": due, "Next": due, "LastUpdated": due}));
    let tick = json!({"Schedule": {"AdjustForDST": true}, "ScheduleStatus": status, "IsPastDue": false});
    let envelope = json!({"Data": {"tick": tick}, "Metadata": {"sys": {"MethodName": function}}});
    let request = Request::post(format!("/{function}")).header("content-type", "application/json");
    send(router, request.body(envelope.to_string().into()).unwrap()).await.0
}
