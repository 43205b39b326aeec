//! The scene of the samples: a rollout in which a refresh is in every state that can be met, another one that has ended in
//! every way, messages under way; and its end.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use permafresh::arm::simulator::{Acceptance, ApplicationSpec, MonitorForm, OnPost, OnRead, Outcome, Question, Reply};
use permafresh::queue::Message;
use permafresh::rollout::refresh::Gate;
use permafresh::rollout::{
    ApplicationId, DeploymentKey, Refresh, RefreshState, RolloutId, RolloutState, Standing, Timestamp,
};
use permafresh::store::{PageRequest, Versioned};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contracts::samples;
use crate::world::{Options, SIG, World, application, send};

/// What stands in the samples for the simulator's address.
pub const ORIGIN: &str = "http://arm.sample";
const MINUTE: Duration = Duration::from_secs(60);

/// What a sample needs besides what is stored.
#[derive(Serialize, Deserialize)]
pub struct Sample {
    pub now: Timestamp,
    /// The application of each operation that ARM knows of.
    pub operations: Vec<ApplicationId>,
    /// How each refresh ended in the version that wrote the sample.
    pub ending: BTreeMap<String, String>,
}

pub fn options() -> Options {
    Options { keeps_journal: true, ..Options::default() }
}

/// One message of each kind.
pub fn every_message() -> Vec<Message> {
    let (rollout_id, key): (RolloutId, DeploymentKey) = (samples::rollout_id(1), application(0).key());
    vec![
        Message::PlanRollout { rollout_id },
        Message::Refresh { rollout_id, key: key.clone() },
        Message::CheckDeployment { key },
        Message::SyncDeployments { run: "2026-03-10T12:00:00Z".into() },
        Message::ConsentOfTenant { tenant_id: "5d0f7a10-0000-4000-8000-00000000c001".into() },
        Message::LookAtRelationship { relationship_id: "72a8b1c0-0000-4000-8000-000000000001".into() },
        Message::PollShare { at_most: 10 },
        Message::Tell { note: "0198-1".into() },
    ]
}

/// The world in the middle of a rollout.
pub async fn prepare(world: World) -> World {
    let ids = world.deploy(16).await;
    let on_post = |at: usize, script: OnPost| world.simulator.on_post(&ids[at], [script]);
    let accept = |acceptance| OnPost::Accept(acceptance);
    let lasting = |minutes| Acceptance { duration: Some(minutes * MINUTE), ..Acceptance::default() };
    on_post(0, accept(lasting(30)));
    on_post(1, accept(Acceptance { monitor: MonitorForm::Both, ..lasting(30) }));
    on_post(2, accept(Acceptance { monitor: MonitorForm::Location, ..lasting(30) }));
    on_post(3, accept(Acceptance::ending(Outcome::failed("Conflict", "it's a lock"))));
    on_post(4, OnPost::Reply(Reply::throttled(900)));
    on_post(5, OnPost::Reply(Reply::denied()));
    on_post(6, OnPost::Reply(Reply::resource_not_found()));
    world.simulator.on_read(&ids[7], std::iter::repeat_n(OnRead::State("Updating".into()), 4));
    on_post(8, OnPost::LoseAnswer(lasting(1)));
    on_post(9, accept(Acceptance::monitored_by(MonitorForm::None)));
    world.simulator.on_read(&ids[9], std::iter::repeat_n(OnRead::State("Updating".into()), 4));
    let windows = json!([{"days": ["sat"], "start": "22:00", "duration": "PT4H", "utcOffset": "+02:00"}]);
    put(&world, json!([{"applicationId": ids[10], "maintenanceWindows": windows}])).await;
    let hold = format!("/api/deployments/{}/hold", ids[11].key());
    assert_eq!(world.post(&hold, &json!({"why": "asked for by the customer"})).await.0, StatusCode::OK);
    for word in ["stop", "start"] {
        assert_eq!(world.post(&format!("/api/{word}"), &json!({"why": "to see"})).await.0, StatusCode::OK);
    }
    ended(&world).await;
    let strategy = json!({"canaries": 0, "waves": ["100%"], "maxFailures": "100%", "maxInFlight": 15});
    let id = world.publish(json!({"strategy": strategy, "note": "of spring"})).await;
    world.run_due().await;
    for _ in 0..5 {
        world.advance(Duration::from_secs(15));
        world.run_due().await;
    }
    let now = world.now();
    let parked =
        |gate| RefreshState::AwaitingAccess { attempt: 1, gate, next_look: now + MINUTE, deadline: now + 60 * MINUTE };
    for (at, state) in [
        (12, RefreshState::Submitting { attempt: 1, lease_until: now + 2 * MINUTE }),
        (13, parked(Gate::Jit { request: "ledger-1".to_owned(), approval: Default::default() })),
        (14, parked(Gate::Consent { tenant_id: "5d0f7a10-0000-4000-8000-00000000c001".to_owned() })),
    ] {
        force(&world, id, &ids[at], state).await;
    }
    let joiner = application(20);
    world.simulator.add_application(ApplicationSpec::new(joiner.clone()));
    let body = json!({"eventType": "PUT", "applicationId": joiner, "provisioningState": "Succeeded", "eventTime": now});
    assert_eq!(world.post(&format!("/api/notification/resource?sig={SIG}"), &body).await.0, StatusCode::OK);
    world
}

async fn put(world: &World, rows: Value) {
    let request = Request::put("/api/deployments").header("content-type", "application/json");
    let (status, body) = world.request(request.body(Body::from(rows.to_string())).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

/// A rollout that has ended, with a refresh for each way to end.
async fn ended(world: &World) {
    let mut rollout = samples::rollout(1);
    rollout.state = RolloutState::Completed;
    rollout.ended_at = Some(samples::at(60_000));
    assert!(world.store.save_rollout(&Versioned::new(rollout)).await.unwrap().is_stored());
    let ended = Standing::ALL.into_iter().filter(|standing| standing.has_result());
    let refreshes: Vec<_> = (1..)
        .zip(ended)
        .map(|(number, standing)| Refresh {
            state: samples::standing(standing, samples::at(0)),
            ..samples::refresh(1, number)
        })
        .collect();
    world.store.insert_refreshes(&refreshes).await.unwrap();
}

async fn force(world: &World, id: RolloutId, application: &ApplicationId, state: RefreshState) {
    let read = world.store.refresh(id, &application.key()).await.unwrap().unwrap();
    let forced = read.with(Refresh { state, ended_at: None, ..read.value.clone() });
    assert!(world.store.save_refreshes(&[forced]).await.unwrap()[0].is_stored());
}

impl Sample {
    /// What the world is in the middle of.
    pub fn of(world: &World) -> Self {
        let started = |asked: permafresh::arm::simulator::Asked| match asked.what {
            Question::Post { operation: Some(_) } => Some(asked.application),
            _ => None,
        };
        let operations = world.simulator.take_journal().into_iter().filter_map(started).collect();
        Self { now: world.now(), operations, ending: BTreeMap::new() }
    }

    /// Makes ARM and the clock what they were.
    pub async fn arrange(&self, world: &World) {
        world.advance((self.now - world.now()).to_std().unwrap());
        let ids: Vec<_> = (0..16).chain([20]).map(application).collect();
        world.simulator.add_applications(ids.into_iter().map(ApplicationSpec::new));
        let (token, _) = world.simulator.issue_token();
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for id in &self.operations {
            let lasting = Acceptance { duration: Some(10 * MINUTE), ..Acceptance::default() };
            world.simulator.on_post(id, [OnPost::Accept(lasting)]);
            let path = format!("{}/refreshPermissions?api-version=2019-07-01&targetVersion=1.5.0", id.url_path());
            let url = world.simulator.endpoint().join(&path).unwrap();
            let answer = client.post(url).bearer_auth(&token).header("content-length", "0").send().await.unwrap();
            assert_eq!(answer.status(), 202);
        }
    }
}

/// Brings everything to its end, and says what that is.
pub async fn finish(world: &World) -> BTreeMap<String, String> {
    for round in 0..500 {
        world.run_due().await;
        let open = world.store.open_rollouts().await.unwrap();
        if open.is_empty() {
            break;
        }
        assert!(round < 499, "{open:?} never ends");
        let wake = world.store.next_wake().await.unwrap().unwrap_or(world.now());
        world.advance((wake - world.now()).to_std().unwrap_or_default().max(Duration::from_secs(30)));
    }
    let mut ending = BTreeMap::new();
    let page = PageRequest { continuation: None, top: 100 };
    for rollout in world.store.rollouts(&page).await.unwrap().items {
        ending.insert(format!("{}", rollout.publish.version), rollout.state.name().to_owned());
        for refresh in world.store.refreshes(rollout.id, None, &page).await.unwrap().items {
            let Refresh { application_id, state, version, .. } = refresh.value;
            ending.insert(format!("{version} {}", application_id.name()), state.name().to_owned());
        }
    }
    ending
}

/// Everything that can be looked at can be.
pub async fn everything_is_shown(world: &World) {
    for path in ["/api/rollouts", "/api/deployments", "/api/audit", "/api/offers"] {
        world.get(path).await;
    }
    for rollout in world.get("/api/rollouts").await["value"].as_array().unwrap() {
        let id = rollout["id"].as_str().unwrap();
        world.get(&format!("/api/rollouts/{id}")).await;
        let report = Request::get(format!("/api/rollouts/{id}/report?format=csv")).body(Body::empty()).unwrap();
        let (status, csv) = send(&world.router(), report).await;
        assert_eq!(status, StatusCode::OK);
        assert!(csv.lines().count() > 3, "{csv}");
    }
}
