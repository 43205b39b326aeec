//! A small rollout, what its end looks like, and a host that delivers one message at a time, so that a run is the same
//! each time.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use permafresh::arm::simulator::{Acceptance, OnPost, Outcome, Reply};
use permafresh::rollout::{
    ApplicationId, Counts, Plan, Refresh, RefreshState, RolloutId, RolloutState, Standing, Tally, WantedVersion,
};
use permafresh::store::{PageRequest, document};
use serde_json::{Value, json};

use crate::faults::{Faults, FaultyQueue, FaultyStore};
use crate::world::{Options, World, invoke_message, invoke_timer, publish, send};
use std::sync::Arc;

pub const LOCK: Duration = Duration::from_secs(300);
/// Far longer than anything may take: whoever needs it all has lost something.
pub const LIMIT: Duration = Duration::from_secs(24 * 3_600);
const STEP: Duration = Duration::from_secs(20);

/// A world with deployments: the last one fails, the one before it is throttled at first.
pub struct Scene {
    pub world: World,
    pub ids: Vec<ApplicationId>,
    pub publish: Value,
}

/// How a rollout ended, as far as nobody may see a difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    pub state: &'static str,
    pub counts: Counts,
    /// Per deployment: the refresh's state and who has to act.
    pub results: BTreeMap<String, String>,
    /// Per deployment: the version that the registry says it has.
    pub applied: BTreeMap<String, Option<String>>,
    /// The wanted version, and whether it could still be taken back.
    pub wanted: Option<(String, bool)>,
}

impl Scene {
    /// Canary and three more; a look at an operation after 15 seconds, its end after 20.
    pub async fn small() -> Self {
        Self::of(4, json!({"canaries": 1, "waves": ["100%"], "maxFailures": "100%"})).await
    }

    pub async fn of(count: usize, strategy: Value) -> Self {
        Self::with(Options { operation: STEP, ..Options::default() }, count, strategy).await
    }

    /// The same, but nobody fails and nobody is throttled.
    pub async fn with_all_sound(options: Options, count: usize, strategy: Value) -> Self {
        let world = World::with(options).await;
        let ids = world.deploy(count).await;
        Self { world, ids, publish: publish(json!({"strategy": strategy})) }
    }

    pub async fn with(options: Options, count: usize, strategy: Value) -> Self {
        let scene = Self::with_all_sound(options, count, strategy).await;
        let world = &scene.world;
        if let [.., throttled, failing] = scene.ids.as_slice() {
            world.simulator.on_post(throttled, [OnPost::Reply(Reply::throttled(120))]);
            let failed = || OnPost::Accept(Acceptance::ending(Outcome::failed("InternalServerError", "it broke")));
            // As often as it is posted.
            world.simulator.on_post(failing, std::iter::repeat_with(failed).take(50));
        }
        scene
    }

    /// A handler over the world's store and queue, as `faults` let it.
    pub fn handler(&self, faults: &Arc<Faults>) -> Router {
        let (store, queue) = (&self.world.store, &self.world.queue);
        self.world.handler(FaultyStore::over(store, faults), FaultyQueue::over(queue, faults))
    }

    /// A handler without faults.
    pub fn sound_handler(&self) -> Router {
        self.world.handler(Arc::clone(&self.world.store), Arc::clone(&self.world.queue))
    }

    /// Posts the publish, until it is answered; its rollout.
    pub async fn post_publish(&self, router: &Router) -> RolloutId {
        let (status, answer) = post(router, "/api/offer-publishes", &self.publish).await;
        assert!(status.is_success(), "{answer}");
        answer["rolloutId"].as_str().unwrap().parse().unwrap()
    }

    /// Posts the publish unless `known` says that it was answered, and brings the rollout to its end.
    pub async fn run(&self, router: &Router, known: &Cell<Option<RolloutId>>) -> RolloutId {
        let id = match known.get() {
            Some(id) => id,
            None => self.post_publish(router).await,
        };
        known.set(Some(id));
        self.settle(router, id).await;
        id
    }

    /// Moves time until the rollout has ended or stopped.
    pub async fn settle(&self, router: &Router, id: RolloutId) -> RolloutState {
        let end = self.world.now() + LIMIT;
        loop {
            self.run_due(router).await;
            let state = self.state(id).await;
            if !matches!(state, RolloutState::Planning | RolloutState::Running | RolloutState::Waiting { .. }) {
                return state;
            }
            assert!(self.world.now() < end, "the rollout is still {}", state.name());
            self.world.advance(STEP);
        }
    }

    /// Everything that can be done without time passing, one thing after the other.
    pub async fn run_due(&self, router: &Router) {
        run_due(&self.world, router).await;
    }

    /// Delivers one message after the other, until none is deliverable. Given back is what the handler could not do.
    pub async fn deliver(&self, router: &Router) -> usize {
        deliver(&self.world, router).await
    }

    /// The same for one queue.
    pub async fn deliver_from(&self, router: &Router, queue: &str, function: &str) -> usize {
        deliver_from(&self.world, router, queue, function).await
    }

    pub async fn state(&self, id: RolloutId) -> RolloutState {
        self.world.store.rollout(id).await.unwrap().expect("the rollout is stored").value.state
    }

    /// Every refresh of a rollout.
    pub async fn refreshes(&self, id: RolloutId) -> Vec<Refresh> {
        let page = PageRequest { continuation: None, top: 10_000 };
        let page = self.world.store.refreshes(id, None, &page).await.unwrap();
        assert_eq!(page.next, None);
        page.items.into_iter().map(|refresh| refresh.value).collect()
    }

    /// The rollouts there are.
    pub async fn rollouts(&self) -> Vec<RolloutId> {
        let page = PageRequest { continuation: None, top: 100 };
        self.world.store.rollouts(&page).await.unwrap().items.into_iter().map(|rollout| rollout.id).collect()
    }

    /// How the rollout ended; checks on the way that every deployment has exactly one result and that the tally is true.
    pub async fn ending(&self, id: RolloutId) -> Ending {
        let rollout = self.world.store.rollout(id).await.unwrap().unwrap().value;
        let refreshes = self.refreshes(id).await;
        let mut tally = Tally::default();
        let (mut results, mut applied) = (BTreeMap::new(), BTreeMap::new());
        for refresh in &refreshes {
            assert!(refresh.state.is_terminal(), "{} is {}", refresh.application_id, refresh.state.name());
            tally.add(refresh.wave, Standing::of(refresh), 1);
            let actor = match &refresh.state {
                RefreshState::Failed { failure, .. } => format!(" {:?} {}", failure.actor, failure.code),
                RefreshState::Skipped { why } => format!(" {why:?}"),
                RefreshState::Succeeded { evidence } => format!(" {evidence:?}"),
                _ => String::new(),
            };
            results.insert(refresh.application_id.to_string(), format!("{}{actor}", refresh.state.name()));
            let deployment = self.world.store.deployments_by_key(std::slice::from_ref(&refresh.key)).await.unwrap();
            let version = deployment[0].as_ref().and_then(|known| known.value.applied.clone());
            applied.insert(refresh.application_id.to_string(), version.map(|applied| applied.version.to_string()));
        }
        let mut known: Vec<_> = self.ids.iter().map(ToString::to_string).collect();
        known.sort_unstable();
        assert_eq!(results.keys().cloned().collect::<Vec<_>>(), known, "each deployment has one result");
        assert_eq!(self.world.store.tally(id).await.unwrap(), tally, "the tally is what the refreshes say");
        let plan = Plan::parse("fabrikam", "ledger", "standard").unwrap().0;
        let wanted = document::get::<WantedVersion>(&*self.world.store, &plan.to_string())
            .await
            .unwrap()
            .map(|wanted| wanted.value);
        Ending {
            state: rollout.state.name(),
            counts: tally.counts(),
            results,
            applied,
            wanted: wanted.and_then(|wanted| Some((wanted.version?.to_string(), wanted.raised.is_some()))),
        }
    }

    /// How many operations each deployment should have had in the end, seen from a moment at which no handler lives: one
    /// more than now where ARM's answer to the POST is not stored, or was not asked for yet.
    pub async fn operations_to_come(&self, id: Option<RolloutId>) -> BTreeMap<String, u32> {
        self.wait_for_silence().await;
        let refreshes = match id {
            Some(id) if self.world.store.rollout(id).await.unwrap().is_some() => self.refreshes(id).await,
            _ => Vec::new(),
        };
        let accepted = |id: &ApplicationId| {
            refreshes.iter().any(|refresh| {
                let to_post = matches!(refresh.state, RefreshState::Queued { .. } | RefreshState::Submitting { .. });
                refresh.application_id == *id && !to_post
            })
        };
        let expected = |id: &ApplicationId| self.world.simulator.operations_of(id) + u32::from(!accepted(id));
        self.ids.iter().map(|id| (id.to_string(), expected(id))).collect()
    }

    /// How many operations each deployment has had.
    pub fn operations(&self) -> BTreeMap<String, u32> {
        self.ids.iter().map(|id| (id.to_string(), self.world.simulator.operations_of(id))).collect()
    }

    async fn wait_for_silence(&self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while self.world.simulator.calls_now() > 0 {
            assert!(tokio::time::Instant::now() < deadline, "a call to ARM never ends");
            tokio::task::yield_now().await;
        }
    }
}

/// A JSON request to a handler.
pub async fn post(router: &Router, path: &str, body: &Value) -> (StatusCode, Value) {
    let request = Request::post(path).header("content-type", "application/json");
    let (status, body) = send(router, request.body(Body::from(body.to_string())).unwrap()).await;
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

/// Everything that can be done in a world without time passing, one thing after the other.
pub async fn run_due(world: &World, router: &Router) {
    deliver(world, router).await;
    invoke_timer(router, "PollOperations", None).await;
    while deliver(world, router).await > 0 {
        invoke_timer(router, "PollOperations", None).await;
    }
}

async fn deliver(world: &World, router: &Router) -> usize {
    let mut delivered = 0;
    loop {
        let planned = deliver_from(world, router, "rollouts", "PlanRollout").await;
        let refreshed = deliver_from(world, router, "refreshes", "RefreshDeployment").await;
        if planned + refreshed == 0 {
            return delivered;
        }
        delivered += planned + refreshed;
    }
}

/// Delivers the messages of one queue, one after the other.
pub async fn deliver_from(world: &World, router: &Router, queue: &str, function: &str) -> usize {
    let mut delivered = 0;
    loop {
        let messages = world.queue.receive(queue, 1, LOCK).await.unwrap();
        if messages.is_empty() {
            return delivered;
        }
        delivered += messages.len();
        for message in messages {
            if invoke_message(router, function, &message.body).await.is_success() {
                world.queue.complete(queue, &[message.lock]).await.unwrap();
            } else {
                world.queue.abandon(queue, &message.lock).await.unwrap();
            }
        }
    }
}
