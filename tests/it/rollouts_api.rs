//! Rollouts over HTTP: lists, commands, rollouts by hand, who belongs to one, reports, errors (design §8).

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use permafresh::arm::simulator::{Acceptance, OnPost, Outcome, Reply};
use permafresh::engine::{Mode, OfferConfig};
use permafresh::rollout::strategy::Canaries;
use permafresh::rollout::{ApplicationId, RolloutId, Strategy};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::faults::{Fault, Faults, FaultyQueue, FaultyStore};
use crate::world::{Options, World, application, one_wave, publish, send};

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

/// Posts a publish with an `Idempotency-Key`; the status and the rollout it is answered with.
async fn keyed(world: &World, path: &str, key: &str, body: &Value) -> (StatusCode, String) {
    let request = Request::post(path).header("idempotency-key", key).body(body.to_string().into()).unwrap();
    let (status, answer) = world.request(request).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let id = answer["rolloutId"].as_str().or(answer["id"].as_str());
    (status, id.map_or_else(|| answer.to_string(), str::to_owned))
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
async fn an_idempotency_key_holds_for_a_day() {
    let world = World::new().await;
    world.deploy(1).await;
    let repair = publish(json!({"purpose": "repair"}));
    for (path, body) in [("/api/offer-publishes", &repair), ("/api/rollouts", &publish(json!({})))] {
        let (status, first) = keyed(&world, path, "key-1", body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{first}");
        world.settle(first.parse().unwrap(), HOUR).await;
        assert_eq!(keyed(&world, path, "key-1", body).await, (StatusCode::OK, first.clone()));
        let (status, other) = keyed(&world, path, "key-2", body).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        assert_ne!(other, first);
        let other = other.parse().unwrap();
        let age = world.now() - created(&world, &first).await;
        world.advance(24 * HOUR - age.to_std().unwrap());
        assert_eq!(keyed(&world, path, "key-1", body).await, (StatusCode::OK, first.clone()), "at the edge");
        world.settle(other, HOUR).await;
        world.advance(SECOND);
        let (status, later) = keyed(&world, path, "key-1", body).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        assert_ne!(later, first);
        assert_eq!(keyed(&world, path, "key-1", body).await, (StatusCode::OK, later.clone()));
        world.settle(later.parse().unwrap(), HOUR).await;
        world.advance(48 * HOUR);
    }
    for bad in [String::new(), "k".repeat(201)] {
        let (status, answer) = keyed(&world, "/api/rollouts", &bad, &repair).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer.contains("Idempotency-Key"), "{answer}");
    }
}

async fn created(world: &World, id: &str) -> permafresh::rollout::Timestamp {
    let rollout = world.get(&format!("/api/rollouts/{id}")).await;
    rollout["createdAt"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn without_a_key_every_rollout_by_hand_is_a_new_one() {
    let world = World::new().await;
    world.deploy(1).await;
    for path in ["/api/rollouts", "/api/offer-publishes"] {
        let body = publish(json!({"purpose": "repair"}));
        let (first, second) = (world.post(path, &body).await, world.post(path, &body).await);
        assert_eq!((first.0, second.0), (StatusCode::ACCEPTED, StatusCode::ACCEPTED));
        assert_ne!(first.1, second.1);
    }
}

#[tokio::test]
async fn the_same_key_a_hundred_times_at_once_is_one_rollout() {
    let world = World::new().await;
    world.deploy(1).await;
    let body = publish(json!({"purpose": "repair"}));
    let answers = (0..100).map(|_| keyed(&world, "/api/rollouts", "key", &body));
    let answers = futures_util::future::join_all(answers).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == StatusCode::ACCEPTED).count(), 1);
    assert_eq!(answers.iter().map(|(_, id)| id).collect::<BTreeSet<_>>().len(), 1);
}

#[tokio::test]
async fn a_restore_is_written_down_and_refreshes_nobody_unless_asked() {
    let world = World::new().await;
    let ids = world.deploy(3).await;
    let id = world.publish(json!({"purpose": "restore", "note": "the old permissions are back"})).await;
    world.run_due().await;
    let restored = world.rollout(id).await;
    assert_eq!((&restored["state"], &restored["purpose"]), (&json!("completed"), &json!("restore")));
    assert_eq!((&restored["counts"]["total"], world.simulator.stats().posts), (&json!(0), 0));
    let asked = world.publish(json!({"purpose": "restore", "scope": {"applicationIds": [ids[1]]}})).await;
    assert_eq!(world.settle(asked, HOUR).await["counts"]["total"], 1);
    assert_eq!(ids.iter().map(|id| world.simulator.posts_of(id)).collect::<Vec<_>>(), [0, 1, 0]);
}

#[tokio::test]
async fn whoever_is_named_twice_counts_once() {
    let world = World::new().await;
    let ids = world.deploy(3).await;
    let twice = [ids[0].to_string(), ids[0].to_string().to_uppercase()];
    let id = world.publish(json!({"scope": {"applicationIds": twice}})).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["waves"], &done["counts"]["total"]), (&json!(1), &json!(1)), "{done}");
    let strategy = json!({"canaries": twice, "waves": ["100%"]});
    let id = world.publish(json!({"version": "1.6.0", "strategy": strategy})).await;
    let done = world.settle(id, HOUR).await;
    let first = world.refreshes(id).await.iter().filter(|refresh| refresh["wave"] == 1).count();
    assert_eq!((&done["counts"]["succeeded"], first), (&json!(3), 1), "nobody stands in for the second");
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
async fn a_publish_that_was_cut_off_and_the_same_with_its_submission_are_one_rollout() {
    let world = World::new().await;
    world.deploy(1).await;
    let faults = Faults::new(crate::faults::Fault::OutageOf { name: "save_rollout", after: 0 });
    let broken = world.handler(FaultyStore::over(&world.store, &faults), world.queue.clone());
    let request = Request::post("/api/offer-publishes").body(publish(json!({})).to_string().into()).unwrap();
    assert_eq!(send(&broken, request).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    let (_, watched) = world.post("/api/offer-publishes", &publish(json!({"submissionId": "115"}))).await;
    let (_, again) = world.post("/api/offer-publishes", &publish(json!({}))).await;
    assert_eq!(watched["rolloutId"], again["rolloutId"]);
    assert_eq!(world.get("/api/rollouts").await["value"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_scope_leaves_everybody_else_alone() {
    let world = World::new().await;
    let ids = world.deploy(30).await;
    let scope = [ids[4].to_string().to_uppercase(), ids[20].to_string(), application(99).to_string()];
    let id = world.publish(json!({"scope": {"applicationIds": scope}})).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["total"]), (&json!("completed"), &json!(2)), "{done}");
    assert_eq!(world.simulator.stats().posts, 2);
    assert_eq!(world.simulator.posts_of(&ids[4]) + world.simulator.posts_of(&ids[20]), 2);
}

#[tokio::test]
async fn an_offer_that_is_only_to_be_handed_over_is_never_posted() {
    let offer = OfferConfig {
        ways: vec![permafresh::rollout::Way::HandOver],
        publisher: "fabrikam".into(),
        offer: "ledger".into(),
        plans: vec![],
        strategy: Strategy { canaries: Canaries::Count(0), ..Strategy::default() },
        preview_applications: vec![],
    };
    let world = World::with(Options { offers: vec![offer], ..Options::default() }).await;
    world.deploy(3).await;
    let id = world.publish(json!({})).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["handedOver"]), (&json!("completed"), &json!(3)), "{done}");
    assert_eq!(world.simulator.stats().posts, 0);
}

#[tokio::test]
async fn a_preview_reaches_preview_purchases_listed_applications_and_named_canaries_only() {
    let offer = OfferConfig {
        ways: vec![permafresh::rollout::Way::Publisher],
        publisher: "fabrikam".into(),
        offer: "ledger".into(),
        plans: vec![("standard".into(), None)],
        strategy: Strategy { canaries: Canaries::Count(0), ..Strategy::default() },
        preview_applications: vec![application(1).to_string().to_uppercase().parse().unwrap()],
    };
    let world = World::with(Options { offers: vec![offer], ..Options::default() }).await;
    let ids = world.deploy(6).await;
    let rows =
        json!([{"applicationId": ids[0], "publisher": "fabrikam", "offer": "ledger-preview", "plan": "standard"}]);
    let request = Request::put("/api/deployments").header("content-type", "application/json");
    world.request(request.body(rows.to_string().into()).unwrap()).await;
    let id = world.publish(json!({"target": "preview"})).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["audience"], &done["counts"]["succeeded"]), (&json!("preview"), &json!(2)), "{done}");
    let posts = || ids.iter().map(|id| world.simulator.posts_of(id)).collect::<Vec<_>>();
    assert_eq!(posts(), [1, 1, 0, 0, 0, 0]);
    let strategy = json!({"canaries": [ids[2]]});
    let id = world.publish(json!({"target": "preview", "version": "1.6.0", "strategy": strategy})).await;
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 3);
    assert_eq!(posts(), [2, 2, 1, 0, 0, 0]);
    let id = world.publish(json!({"target": "preview", "audience": "all", "version": "1.7.0"})).await;
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 6);
}

#[tokio::test]
async fn named_canaries_go_first_and_alone() {
    let world = World::new().await;
    let ids = world.deploy(20).await;
    let named = [ids[7].to_string().to_uppercase(), ids[13].to_string()];
    let id = world.publish(json!({"strategy": {"canaries": named, "waves": ["100%"]}})).await;
    world.run_due().await;
    let canaries: BTreeSet<_> =
        world.refreshes(id).await.iter().map(|refresh| refresh["applicationId"].to_string()).collect();
    let expected: BTreeSet<_> = [&ids[7], &ids[13]].map(|id| json!(id).to_string()).into();
    assert_eq!(canaries, expected);
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(20)), "{done}");
    assert!(ids.iter().all(|id| world.simulator.operations_of(id) == 1));
}

#[tokio::test]
async fn canaries_that_prove_nothing_are_stood_in_for() {
    let world = World::new().await;
    let ids = world.deploy(20).await;
    world.simulator.on_post(&ids[7], [OnPost::Reply(Reply::forbidden())]);
    let named = [ids[7].to_string(), application(99).to_string()];
    let id = world.publish(json!({"strategy": {"canaries": named, "waves": ["100%"]}})).await;
    world.run_due().await;
    world.run_due().await;
    let canaries = world.rollout(id).await;
    assert_eq!(canaries["wave"], 1, "{canaries}");
    let counts = &canaries["counts"];
    assert_eq!((&counts["handedOver"], &counts["running"]), (&json!(1), &json!(2)), "{canaries}");
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(19)), "{done}");
}

#[tokio::test]
async fn after_five_stand_ins_the_rollout_pauses_and_goes_on_when_a_person_says_so() {
    let world = World::new().await;
    let ids = world.deploy(20).await;
    for id in &ids {
        world.simulator.on_post(id, [OnPost::Reply(Reply::forbidden())]);
    }
    let id = world.publish(json!({})).await;
    let paused = world.settle(id, HOUR).await;
    assert_eq!((&paused["state"], &paused["wave"]), (&json!("paused"), &json!(1)), "{paused}");
    assert_eq!(paused["counts"]["handedOver"], 6, "{paused}");
    assert!(paused["why"].as_str().unwrap().contains("0 of 1 canaries"), "{paused}");
    let (_, resumed) = command(&world, id, "resume").await;
    assert_eq!(resumed["state"], "running", "{resumed}");
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["handedOver"]), (&json!("completed"), &json!(20)), "{done}");
}

#[tokio::test]
async fn a_canary_that_turns_out_to_be_gone_is_replaced_by_one_other() {
    let world = World::new().await;
    let ids = world.deploy(20).await;
    let mut in_order = ids.clone();
    in_order.sort_by_key(ApplicationId::key);
    world.simulator.on_post(
        &in_order[0],
        [OnPost::Reply(Reply::resource_not_found()), OnPost::Reply(Reply::resource_not_found())],
    );
    let id = world.publish(json!({"strategy": {"canaries": 1, "waves": ["100%"], "pauseBetweenWaves": "PT30M"}})).await;
    let mut counts = Value::Null;
    for _ in 0..60 {
        world.run_due().await;
        counts = world.rollout(id).await["counts"].clone();
        if counts["skipped"] == 1 && counts["running"] == 1 {
            break;
        }
        world.advance(15 * SECOND);
    }
    assert_eq!((&counts["total"], &counts["skipped"]), (&json!(2), &json!(1)), "{counts}");
    assert_eq!(world.settle(id, 3 * HOUR).await["counts"]["succeeded"], 19);
}

#[tokio::test]
async fn a_failure_by_the_offer_after_a_pause_halts() {
    let world = World::new().await;
    world.deploy(5).await;
    world.simulator.bad_version("1.5.0", "Microsoft.Foo/bars/secret/action");
    let id = world.publish(json!({})).await;
    world.run_due().await;
    command(&world, id, "pause").await;
    world.advance(HOUR);
    world.run_due().await;
    let halted = world.rollout(id).await;
    assert_eq!(halted["state"], "halted", "{halted}");
    assert!(halted["why"].as_str().unwrap().contains("Microsoft.Foo/bars/secret/action"));
}

#[tokio::test]
async fn observing_plans_and_posts_nothing_and_acting_again_goes_on() {
    let mut world = World::with(Options { mode: Mode::Observe, ..Options::default() }).await;
    world.deploy(5).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let observed = world.settle(id, HOUR).await;
    assert_eq!((&observed["state"], &observed["counts"]["queued"]), (&json!("running"), &json!(5)), "{observed}");
    assert_eq!(world.simulator.stats().posts, 0);
    world.set_mode(Mode::Act);
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(5)), "{done}");
}

#[tokio::test]
async fn observing_begun_half_way_posts_nothing_more() {
    let mut world = World::new().await;
    world.deploy(5).await;
    let id = world.publish(json!({"strategy": {"canaries": 1, "waves": ["100%"]}})).await;
    world.run_due().await;
    world.set_mode(Mode::Observe);
    let observed = world.settle(id, HOUR).await;
    assert_eq!((&observed["counts"]["succeeded"], &observed["counts"]["queued"]), (&json!(1), &json!(4)), "{observed}");
    assert_eq!(world.simulator.stats().posts, 1);
    world.set_mode(Mode::Act);
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 5);
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

#[tokio::test]
async fn a_publish_that_supersedes_and_could_not_send_is_completed_by_the_callers_second_try() {
    let mut world = World::new().await;
    world.deploy(5).await;
    let slow = json!({"canaries": 0, "waves": ["100%"], "maxInFlight": 1});
    let first = world.publish(json!({"strategy": slow})).await;
    world.run_due().await;
    world.advance(SECOND);
    let faults = Faults::none();
    let queue = FaultyQueue::over(&world.queue, &faults);
    world.replace_handler(world.handler(world.store.clone(), queue.clone()));
    faults.set(Fault::Panic);
    let body = publish(json!({"version": "1.6.0", "supersede": true, "strategy": one_wave()}));
    assert_eq!(world.post("/api/offer-publishes", &body).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    faults.set(Fault::None);
    let (status, answer) = world.post("/api/offer-publishes", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    world.run_due().await;
    let superseded = world.rollout(first).await;
    assert_eq!(superseded["state"], "canceled");
    assert!(superseded["why"].as_str().unwrap().contains(answer["rolloutId"].as_str().unwrap()), "{superseded}");
    let second = answer["rolloutId"].as_str().unwrap().parse().unwrap();
    assert_eq!(world.settle(second, HOUR).await["counts"]["succeeded"], 5);
}

#[tokio::test]
async fn another_plan_goes_its_own_way() {
    let world = World::new().await;
    world.deploy(2).await;
    let first = world.publish(json!({})).await;
    let other = world.publish(json!({"plan": "premium", "version": "1.0.0"})).await;
    assert_eq!(world.settle(other, HOUR).await["counts"]["total"], 0);
    assert_eq!(world.settle(first, HOUR).await["counts"]["succeeded"], 2);
}
