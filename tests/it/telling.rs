//! The outgoing webhook, on the whole loop: who is told what, once and signed, whatever fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use permafresh::arm::simulator::{OnPost, Reply};
use ring::hmac;
use serde_json::{Value, json};

use crate::faults::{Fault, Faults, FaultyQueue, FaultyStore, Moment};
use crate::world::{Options, World, application, one_wave, publish, send};

const HOUR: Duration = Duration::from_secs(3_600);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[derive(Clone, Default)]
struct Receiver {
    got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    /// What the next answers are; 200 when there are no more.
    answers: Arc<Mutex<Vec<u16>>>,
}

impl Receiver {
    /// A receiver on a free port, and where it is.
    async fn start() -> (Self, String) {
        let receiver = Self::default();
        let router = Router::new().route("/hook", post(Self::take)).with_state(receiver.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?token=private", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    #[expect(clippy::unused_async, reason = "a handler has to be async")]
    async fn take(State(receiver): State<Self>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
        receiver.got.lock().unwrap().push((headers, body));
        let mut answers = receiver.answers.lock().unwrap();
        let status = if answers.is_empty() { 200 } else { answers.remove(0) };
        (StatusCode::from_u16(status).unwrap(), [("location", "http://127.0.0.1:1/elsewhere")], "x".repeat(100_000))
    }

    /// What came, in its order: id, type, body.
    fn events(&self) -> Vec<(String, String, Value)> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(&SECRET[6..]).unwrap());
        let got = self.got.lock().unwrap();
        let event = |(headers, body): &(HeaderMap, Bytes)| {
            let header = |name: &str| headers[name].to_str().unwrap().to_owned();
            let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
            let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
            let signature = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
            hmac::verify(&key, &signed, &signature).expect("the signature is over id, timestamp and the exact body");
            assert_eq!(header("content-type"), "application/json");
            let body: Value = serde_json::from_slice(body).unwrap();
            (id, body["type"].as_str().unwrap().to_owned(), body)
        };
        got.iter().map(event).collect()
    }

    fn types(&self) -> Vec<String> {
        self.events().into_iter().map(|(_, what, _)| what).collect()
    }
}

async fn world() -> (World, Receiver) {
    let (receiver, url) = Receiver::start().await;
    let options = Options { webhook: Some((url, SECRET.to_owned())), ..Options::default() };
    (World::with(options).await, receiver)
}

#[tokio::test]
async fn people_are_told_when_a_rollout_starts_stops_goes_on_and_ends() {
    let (world, receiver) = world().await;
    world.deploy(3).await;
    let id = world.publish(json!({"strategy": {"canaries": 1, "waves": ["100%"], "pauseBetweenWaves": "PT10M"}})).await;
    world.run_due().await;
    world.post(&format!("/api/rollouts/{id}/pause"), &json!({})).await;
    world.post(&format!("/api/rollouts/{id}/pause"), &json!({})).await;
    world.post(&format!("/api/rollouts/{id}/resume"), &json!({})).await;
    assert_eq!(world.settle(id, HOUR).await["state"], "completed");
    world.run_due().await;
    let events = receiver.events();
    let mut told: Vec<_> = events.iter().map(|(id, what, _)| (id.as_str(), what.as_str())).collect();
    told.sort();
    let ids: Vec<_> = (1..=4).map(|number| format!("{id}.{number}")).collect();
    let expected = ["rollout.started", "rollout.paused", "rollout.resumed", "rollout.completed"];
    assert_eq!(told, ids.iter().map(String::as_str).zip(expected).collect::<Vec<_>>());
    let of = |what: &str| &events.iter().find(|(_, told, _)| told == what).unwrap().2;
    assert_eq!(of("rollout.paused")["data"]["needsPerson"], true);
    let completed = &of("rollout.completed")["data"];
    assert_eq!((&completed["needsPerson"], &completed["counts"]["succeeded"]), (&json!(false), &json!(3)));
    assert_eq!((&completed["version"], &completed["rolloutId"]), (&json!("1.5.0"), &json!(id)));
}

#[tokio::test]
async fn a_last_wave_that_waits_for_approval_is_told_as_a_pause_that_needs_a_person() {
    let (world, receiver) = world().await;
    world.deploy(3).await;
    let strategy = json!({"canaries": 1, "waves": ["100%"], "approveLastWave": true});
    let id = world.publish(json!({"strategy": strategy})).await;
    assert_eq!(world.settle(id, HOUR).await["state"], "paused");
    world.run_due().await;
    let events = receiver.events();
    let (_, _, paused) = events.iter().find(|(_, what, _)| what == "rollout.paused").expect("it is told");
    assert_eq!(paused["data"]["needsPerson"], true);
    let why = paused["data"]["why"].as_str().unwrap();
    assert!(why.contains("waits for approval") && why.contains("remaining 2 of 3"), "{paused}");
    world.advance(48 * HOUR);
    world.run_due().await;
    assert_eq!(receiver.types().len(), 2, "told once, with its beginning");
    world.post(&format!("/api/rollouts/{id}/approve"), &json!({})).await;
    assert_eq!(world.settle(id, HOUR).await["state"], "completed");
    world.run_due().await;
    let mut told = receiver.types();
    told.sort();
    assert_eq!(told, ["rollout.completed", "rollout.paused", "rollout.resumed", "rollout.started"]);
}

#[tokio::test]
async fn a_version_that_the_lint_rejects_is_told_as_a_pause_that_needs_a_person() {
    let (world, receiver) = world().await;
    world.deploy(1).await;
    let damaged = json!({"allowedCustomerActions": ["Microsoft. Web/sites/restart/action"]});
    let id = world.publish(json!({"strategy": one_wave(), "expected": damaged})).await;
    assert_eq!(world.settle(id, HOUR).await["state"], "paused");
    world.run_due().await;
    let events = receiver.events();
    let [(_, what, paused)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((what.as_str(), &paused["data"]["needsPerson"]), ("rollout.paused", &json!(true)));
    assert!(paused["data"]["why"].as_str().unwrap().contains("the lint rejects"), "{paused}");
}

#[tokio::test]
async fn a_halt_is_told_with_the_offending_action() {
    let (world, receiver) = world().await;
    world.deploy(2).await;
    world.simulator.on_post(&application(0), [bad_permission()]);
    world.simulator.on_post(&application(1), [bad_permission()]);
    let id = world.publish(json!({})).await;
    assert_eq!(world.settle(id, HOUR).await["state"], "halted");
    world.run_due().await;
    let events = receiver.events();
    let (_, _, halted) = events.iter().find(|(_, what, _)| what == "rollout.halted").expect("it is told");
    assert_eq!(halted["data"]["needsPerson"], true);
    assert!(halted["data"]["why"].as_str().unwrap().contains("would fail at every customer"), "{halted}");
}

fn bad_permission() -> OnPost {
    let error = json!({"error": {"code": "InvalidActionOrNotAction", "message": "no such action"}});
    OnPost::Reply(Reply::json(400, error.to_string()))
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_under_the_same_id_and_holds_up_nothing() {
    let (world, receiver) = world().await;
    world.deploy(1).await;
    // A redirect is a failure like any other: it is not followed.
    *receiver.answers.lock().unwrap() = vec![500, 307, 429];
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let rollout = world.settle(id, HOUR).await;
    assert_eq!(rollout["state"], "completed", "the rollout goes on meanwhile");
    for _ in 0..40 {
        world.advance(Duration::from_secs(30));
        world.run_due().await;
    }
    let ids: Vec<_> = receiver.events().into_iter().map(|(id, ..)| id).collect();
    let started = format!("{id}.1");
    let ended = format!("{id}.2");
    assert_eq!(
        ids.iter().filter(|told| **told == ended).count() + ids.iter().filter(|told| **told == started).count(),
        5
    );
    let taken = receiver.got.lock().unwrap().len();
    world.advance(HOUR);
    world.run_due().await;
    assert_eq!(receiver.got.lock().unwrap().len(), taken, "what was taken is not told again");
}

#[tokio::test]
async fn a_receiver_that_never_takes_it_is_given_up_and_that_is_noted() {
    let (world, receiver) = world().await;
    *receiver.answers.lock().unwrap() = vec![503; 1_000];
    world.publish(json!({"purpose": "restore"})).await;
    for _ in 0..80 {
        world.advance(HOUR);
        world.run_due().await;
    }
    let told = receiver.types();
    assert_eq!(told, vec!["rollout.completed"; 10], "ten tries, then an end");
    let audit = world.get("/api/audit").await;
    let given_up: Vec<_> =
        audit["value"].as_array().unwrap().iter().filter(|entry| entry["what"] == "webhook.givenUp").collect();
    assert_eq!(given_up.len(), 1, "{audit}");
    assert!(given_up[0]["problem"].as_str().unwrap().contains("503"));
    assert!(!audit.to_string().contains("private"), "the address is a secret");
}

/// Dies before and after each effect from the publish to the end: all of it is told, and each thing under one id.
#[tokio::test]
async fn nothing_is_left_untold_wherever_the_process_dies() {
    let mut deaths = 0;
    for moment in [Moment::Before, Moment::After] {
        for effect in 1.. {
            let (mut world, receiver) = world().await;
            let faults = Faults::new(Fault::Death { effect, moment });
            let faulty =
                world.handler(FaultyStore::over(&world.store, &faults), FaultyQueue::over(&world.queue, &faults));
            let restored = publish(json!({"purpose": "restore"}));
            let sound = world.handler(world.store.clone(), world.queue.clone());
            let request = |key: &str| {
                Request::post("/api/offer-publishes")
                    .header("idempotency-key", key)
                    .body(restored.to_string().into())
                    .unwrap()
            };
            world.replace_handler(faulty.clone());
            let lived = faults
                .until_death(async {
                    send(&faulty, request("once")).await;
                    world.run_due().await;
                })
                .await;
            if lived.is_some() {
                break;
            }
            deaths += 1;
            world.replace_handler(sound.clone());
            // Whoever heard no answer posts again.
            send(&sound, request("once")).await;
            for _ in 0..12 {
                world.advance(Duration::from_secs(150));
                world.run_due().await;
            }
            let ids: std::collections::BTreeSet<_> = receiver.events().into_iter().map(|(id, ..)| id).collect();
            assert_eq!(ids.len(), 1, "{effect} {moment:?}: {ids:?}");
            let notes =
                world.store.documents("note", "", &permafresh::store::PageRequest { continuation: None, top: 10 });
            assert_eq!(notes.await.unwrap().items.len(), 0, "{effect} {moment:?}: nothing is left to tell");
        }
    }
    assert!(deaths >= 12, "{deaths}");
}

#[tokio::test]
async fn without_a_webhook_nothing_is_kept_to_be_told() {
    let world = World::new().await;
    world.deploy(1).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.settle(id, HOUR).await;
    let notes = world.store.documents("note", "", &permafresh::store::PageRequest { continuation: None, top: 10 });
    assert_eq!(notes.await.unwrap().items.len(), 0);
}
