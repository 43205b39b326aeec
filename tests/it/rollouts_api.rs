//! Rollouts over HTTP (design §8): here lists, commands, reports, errors, and what the other files share.

mod audience;
mod once;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use permafresh::arm::simulator::{Acceptance, OnPost, Outcome, Reply};
use permafresh::engine::Mode;
use permafresh::rollout::{ApplicationId, RolloutId};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::faults::{Fault, Faults, FaultyQueue, FaultyStore};
use crate::world::{Options, World, add_rollouts, application, one_wave, publish, send};

const HOUR: Duration = Duration::from_secs(3_600);
const SECOND: Duration = Duration::from_secs(1);

async fn ask(world: &World, method: &str, path: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let (status, body) = world.request(request).await;
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

async fn command(world: &World, id: RolloutId, word: &str) -> (StatusCode, Value) {
    ask(world, "POST", &format!("/api/rollouts/{id}/{word}")).await
}

fn many(count: usize) -> Vec<ApplicationId> {
    (0..count).map(application).collect()
}

fn states(refreshes: &[Value]) -> Vec<&str> {
    refreshes.iter().map(|refresh| refresh["state"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn rollouts_are_listed_newest_first_page_by_page() {
    let world = World::new().await;
    let mut made = Vec::new();
    for number in 0..7 {
        world.advance(SECOND);
        made.push(world.publish(json!({"plan": format!("plan-{number}")})).await.to_string());
    }
    made.reverse();
    let mut found = Vec::new();
    let mut next = Some("/api/rollouts?top=3".to_owned());
    while let Some(link) = next {
        let page = world.get(&link).await;
        let items = page["value"].as_array().unwrap();
        assert!((1..=3).contains(&items.len()));
        found.extend(items.iter().map(|rollout| rollout["id"].as_str().unwrap().to_owned()));
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    assert_eq!(found, made);
    assert_eq!(world.get("/api/rollouts").await.get("nextLink"), None);
}

#[tokio::test]
async fn a_page_of_rollouts_counts_a_hundred_at_most_whatever_is_asked_for() {
    let world = World::new().await;
    let id = world.publish(json!({})).await;
    add_rollouts(&world, id, 249, |_| ()).await;
    let faults = Faults::none();
    let router = world.handler(FaultyStore::over(&world.store, &faults), Arc::clone(&world.queue));
    let (mut next, mut sizes) = (Some("/api/rollouts?top=1000".to_owned()), Vec::new());
    while let Some(link) = next {
        let before = faults.calls();
        let (status, body) = send(&router, Request::get(&link).body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let page: Value = serde_json::from_str(&body).unwrap();
        sizes.push(page["value"].as_array().unwrap().len());
        assert!(faults.calls() - before <= 105, "{link} read {} times", faults.calls() - before);
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    assert_eq!(sizes, [100, 100, 50]);
    let (status, problem) = ask(&world, "GET", "/api/rollouts?top=1001").await;
    assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::BAD_REQUEST, &json!("top")));
}

#[tokio::test]
async fn a_rollout_shows_all_that_the_api_promises() {
    let world = World::new().await;
    world.deploy(1).await;
    let id = world.publish(json!({})).await;
    let planning = world.rollout(id).await;
    let expected = json!({
        "id": id, "publisher": "fabrikam", "offer": "ledger", "plan": "standard", "version": "1.5.0", "target": "live",
        "audience": "all", "purpose": "rollOut", "state": "planning", "wave": 0, "waves": 0, "createdAt": world.now(),
        "counts": {"queued": 0, "awaitingAccess": 0, "running": 0, "verifying": 0, "succeeded": 0, "failed": 0,
                   "canceled": 0, "timedOut": 0, "skipped": 0, "handedOver": 0, "superseded": 0, "total": 0}
    });
    assert_eq!(planning, expected);
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["wave"], &done["waves"], &done["endedAt"]), (&json!(1), &json!(1), &json!(world.now())));
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_as_a_problem_that_says_why() {
    let world = World::new().await;
    world.deploy(1).await;
    let id = world.publish(json!({})).await;
    let none = "01900000-0000-7000-8000-000000000000";
    for (method, path, status, named) in [
        ("GET", format!("/api/rollouts/{none}"), 404, None),
        ("GET", format!("/api/rollouts/{none}/refreshes"), 404, None),
        ("GET", format!("/api/rollouts/{none}/report"), 404, None),
        ("POST", format!("/api/rollouts/{none}/pause"), 404, None),
        ("POST", format!("/api/rollouts/{none}/retry"), 404, None),
        ("POST", format!("/api/rollouts/{id}/explode"), 404, None),
        ("POST", format!("/api/rollouts/{id}/Pause"), 404, None),
        ("GET", "/api/rollouts/7".to_owned(), 400, Some("id")),
        ("GET", "/api/rollouts/7/refreshes".to_owned(), 400, Some("id")),
        ("GET", "/api/rollouts/7/report".to_owned(), 400, Some("id")),
        ("POST", "/api/rollouts/7/pause".to_owned(), 400, Some("id")),
        ("GET", "/api/rollouts/%FF".to_owned(), 400, None),
        ("GET", format!("/api/rollouts/{id}/refreshes?state=exploded"), 400, Some("state")),
        ("GET", format!("/api/rollouts/{id}/refreshes?state=unknown"), 400, Some("state")),
        ("GET", format!("/api/rollouts/{id}/refreshes?top=0"), 400, Some("top")),
        ("GET", format!("/api/rollouts/{id}/refreshes?continuation=x"), 400, Some("continuation")),
        ("GET", format!("/api/rollouts/{id}/report?format=xml"), 400, Some("format")),
        ("GET", "/api/rollouts?top=1001".to_owned(), 400, Some("top")),
        ("GET", "/api/rollouts?continuation=x".to_owned(), 400, Some("continuation")),
        ("GET", "/api/rollouts?top=1&top=2".to_owned(), 400, None),
        ("POST", "/api/rollouts".to_owned(), 400, Some("body")),
        ("POST", "/api/offer-publishes".to_owned(), 400, Some("body")),
        ("DELETE", "/api/rollouts".to_owned(), 405, None),
        ("GET", format!("/api/rollouts/{id}/pause"), 405, None),
        ("GET", "/api/offer-publishes".to_owned(), 405, None),
        ("GET", "/api/nowhere".to_owned(), 404, None),
    ] {
        let request = Request::builder().method(method).uri(&path).body(Body::empty()).unwrap();
        let response = world.handler(world.store.clone(), world.queue.clone()).oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{method} {path}");
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&problem["type"], &problem["status"]), (&json!("about:blank"), &json!(status)), "{path}");
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}: {problem}");
        }
        assert_eq!(problem["errors"][0]["field"].as_str(), named, "{method} {path}: {problem}");
    }
}

#[tokio::test]
async fn a_body_of_a_wrong_form_is_refused_by_name() {
    let world = World::new().await;
    for (path, body, field) in [
        ("/api/rollouts?dryRun=maybe", publish(json!({})), "dryRun"),
        ("/api/rollouts", json!([]), "body"),
        ("/api/rollouts", publish(json!({"purpose": "scheduled"})), "purpose"),
        ("/api/offer-publishes", publish(json!({"note": "x".repeat(2_001)})), "note"),
        ("/api/offer-publishes", publish(json!({"submissionId": ""})), "submissionId"),
        ("/api/offer-publishes", publish(json!({"strategy": {"canaries": ["nonsense"]}})), "strategy.canaries"),
        ("/api/offer-publishes", publish(json!({"strategy": {"approveLastWave": 1}})), "strategy.approveLastWave"),
        ("/api/offer-publishes", publish(json!({"strategy": [1]})), "strategy"),
        ("/api/offer-publishes", publish(json!({"supersede": "yes"})), "supersede"),
        ("/api/offer-publishes", publish(json!({"strategy": {"waves": vec!["10%"; 101]}})), "strategy.waves"),
        ("/api/offer-publishes", publish(json!({"strategy": {"canaries": many(300)}})), "strategy.canaries"),
        ("/api/offer-publishes", publish(json!({"scope": {"applicationIds": many(3_000)}})), "scope.applicationIds"),
        ("/api/offer-publishes", publish(json!({"publishedAt": "yesterday"})), "publishedAt"),
    ] {
        let (status, problem) = world.post(path, &body).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{problem}");
    }
    assert_eq!(world.get("/api/rollouts").await["value"], json!([]));
}

#[tokio::test]
async fn a_command_given_again_changes_nothing_and_an_ended_rollout_takes_none_but_retry() {
    let world = World::new().await;
    let ids = world.deploy(3).await;
    let failed = Acceptance::ending(Outcome::failed("InternalServerError", "something broke"));
    world.simulator.on_post(&ids[0], [OnPost::Accept(failed)]);
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.run_due().await;
    for (word, state) in [("pause", "paused"), ("resume", "running")] {
        let (status, first) = command(&world, id, word).await;
        assert_eq!((status, &first["state"]), (StatusCode::OK, &json!(state)));
        assert_eq!(command(&world, id, word).await, (StatusCode::OK, first));
    }
    assert_eq!(world.settle(id, HOUR).await["state"], "completed");
    for word in ["pause", "resume", "cancel"] {
        let (status, problem) = command(&world, id, word).await;
        assert_eq!(status, StatusCode::CONFLICT);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("completed") && detail.contains(word), "{detail}");
    }
    let (status, running) = command(&world, id, "retry").await;
    assert_eq!((status, &running["state"]), (StatusCode::OK, &json!("running")), "{running}");
    let (status, _) = command(&world, id, "retry").await;
    assert_eq!(status, StatusCode::OK);
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(3)));
    world.advance(HOUR);
    assert_eq!(command(&world, id, "retry").await, (StatusCode::OK, done), "nothing is left to retry");
    let canceled = world.publish(json!({"version": "1.6.0"})).await;
    for _ in 0..2 {
        let (status, rollout) = command(&world, canceled, "cancel").await;
        assert_eq!((status, &rollout["state"]), (StatusCode::OK, &json!("canceled")));
    }
    for word in ["pause", "resume", "retry"] {
        assert_eq!(command(&world, canceled, word).await.0, StatusCode::CONFLICT, "{word}");
    }
}

#[tokio::test]
async fn a_list_of_rollouts_asks_once_what_holds_them_all() {
    let world = World::new().await;
    for number in 0..4 {
        world.publish(json!({"plan": format!("plan-{number}")})).await;
    }
    let faults = Faults::none();
    let router = world.handler(FaultyStore::over(&world.store, &faults), world.queue.clone());
    let (status, listed) = send(&router, Request::get("/api/rollouts").body(Body::empty()).unwrap()).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((status, listed["value"].as_array().unwrap().len()), (StatusCode::OK, 4));
    assert_eq!(faults.calls(), 1 + 1 + 4, "the page, the switch, and a tally of each");
}

#[tokio::test]
async fn a_report_of_many_pages_is_complete_and_valid_in_both_formats() {
    const MANY: usize = 2_500;
    let world = World::with(Options { mode: Mode::Observe, ..Options::default() }).await;
    world.deploy(MANY).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.run_due().await;
    let expected: BTreeSet<_> = (0..MANY).map(|number| application(number).to_string()).collect();
    let report = world.get(&format!("/api/rollouts/{id}/report?format=json")).await;
    assert_eq!(report["rollout"], world.rollout(id).await);
    let refreshes = report["refreshes"].as_array().unwrap();
    let listed: BTreeSet<_> =
        refreshes.iter().map(|refresh| refresh["applicationId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(refreshes.len(), MANY);
    assert_eq!(listed, expected);
    let request = Request::get(format!("/api/rollouts/{id}/report?format=csv")).body(Body::empty()).unwrap();
    let (status, csv) = world.request(request).await;
    assert_eq!(status, StatusCode::OK);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(&reader.headers().unwrap()[1], "state");
    let records: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), MANY);
    assert_eq!(records.iter().map(|record| record[0].to_owned()).collect::<BTreeSet<_>>(), expected);
    assert!(records.iter().all(|record| &record[1] == "queued"));
}

#[tokio::test]
async fn the_report_of_a_rollout_without_refreshes_is_valid_too() {
    let world = World::new().await;
    let id = world.publish(json!({"purpose": "restore"})).await;
    let report = world.get(&format!("/api/rollouts/{id}/report")).await;
    assert_eq!(report["refreshes"], json!([]));
    let request = Request::get(format!("/api/rollouts/{id}/report?format=csv")).body(Body::empty()).unwrap();
    assert_eq!(world.request(request).await.1.lines().count(), 1);
}

#[tokio::test]
async fn refreshes_are_listed_by_state_page_by_page() {
    let world = World::new().await;
    let ids = world.deploy(12).await;
    for id in &ids[..5] {
        world.simulator.on_post(id, [OnPost::Reply(Reply::forbidden())]);
    }
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.settle(id, HOUR).await;
    let mut next = Some(format!("/api/rollouts/{id}/refreshes?state=handedOver&top=2"));
    let mut found = Vec::new();
    while let Some(link) = next {
        let page = world.get(&link).await;
        assert!(page["value"].as_array().unwrap().len() <= 2);
        found.extend(page["value"].as_array().unwrap().clone());
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    assert_eq!(states(&found), ["handedOver"; 5]);
    assert_eq!(found.iter().map(|refresh| refresh["applicationId"].to_string()).collect::<BTreeSet<_>>().len(), 5);
    let none = world.get(&format!("/api/rollouts/{id}/refreshes?state=timedOut")).await;
    assert_eq!(none, json!({"value": []}));
}

#[tokio::test]
async fn a_panic_in_a_function_is_a_500_and_the_next_request_works() {
    let world = World::new().await;
    let faults = Faults::none();
    let queue = FaultyQueue::over(&world.queue, &faults);
    let router = world.handler(world.store.clone(), queue.clone());
    let post = || Request::post("/api/offer-publishes").body(publish(json!({})).to_string().into()).unwrap();
    faults.set(Fault::Panic);
    let (status, body) = send(&router, post()).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["status"], 500);
    assert!(!body.contains("told to panic"), "what a panic says is for the log: {body}");
    faults.set(Fault::None);
    let (status, body) = send(&router, post()).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, StatusCode::OK, "the rollout had been stored: {body}");
    let id = answer["rolloutId"].as_str().unwrap().parse().unwrap();
    world.run_due().await;
    assert_eq!(world.rollout(id).await["state"], "completed", "and its message was sent now");
}
