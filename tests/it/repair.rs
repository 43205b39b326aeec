//! Going back: repairs, restores, what the registry remembers of versions, drift, and what reports and dry runs say of them.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use permafresh::arm::simulator::{Acceptance, OnPost, Outcome, Reply};
use permafresh::engine::OfferConfig;
use permafresh::rollout::{ApplicationId, RolloutId, Way};
use serde_json::{Value, json};

use crate::world::{Options, World, application, invoke_timer, one_wave, publish};

const HOUR: Duration = Duration::from_secs(3_600);

async fn rolled_out(world: &World, changes: Value) -> RolloutId {
    let mut body = json!({"strategy": one_wave()});
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let id = world.publish(body).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!(done["state"], "completed", "{done}");
    id
}

async fn deployment(world: &World, id: &ApplicationId) -> Value {
    world.get(&format!("/api/deployments/{}", id.key())).await
}

fn failing(world: &World, id: &ApplicationId) {
    let failed = Acceptance::ending(Outcome::failed("ScopeLocked", "locked"));
    world.simulator.on_post(id, [OnPost::Accept(failed)]);
}

#[tokio::test]
async fn a_deployment_shows_which_versions_were_applied_when_and_which_last_succeeded() {
    let world = World::new().await;
    let ids = world.deploy(1).await;
    let first = rolled_out(&world, json!({})).await;
    world.advance(24 * HOUR);
    failing(&world, &ids[0]);
    let second = rolled_out(&world, json!({"version": "1.6.0"})).await;
    let shown = deployment(&world, &ids[0]).await;
    let history = shown["history"].as_array().unwrap();
    let told: Vec<_> = history.iter().map(|past| [&past["version"], &past["result"], &past["rolloutId"]]).collect();
    assert_eq!(
        told,
        [[&json!("1.5.0"), &json!("succeeded"), &json!(first)], [&json!("1.6.0"), &json!("failed"), &json!(second)]]
    );
    assert_eq!((&history[0]["verified"], &history[1]["code"]), (&json!(true), &json!("ScopeLocked")));
    assert!(history[0]["at"].as_str() < history[1]["at"].as_str());
    assert_eq!((&shown["applied"]["version"], &shown["applied"]["rolloutId"]), (&json!("1.5.0"), &json!(first)));
    world.post(&format!("/api/rollouts/{second}/retry"), &Value::Null).await;
    world.settle(second, HOUR).await;
    let again = deployment(&world, &ids[0]).await;
    assert_eq!((&again["applied"]["version"], again["history"].as_array().unwrap().len()), (&json!("1.6.0"), 3));
}

#[tokio::test]
async fn the_last_good_version_is_the_other_one_that_most_deployments_last_succeeded_with() {
    let world = World::new().await;
    let ids = world.deploy(10).await;
    rolled_out(&world, json!({"version": "1.3.0"})).await;
    for id in &ids[..2] {
        failing(&world, id);
    }
    rolled_out(&world, json!({"version": "1.4.0"})).await;
    let bad = rolled_out(&world, json!({})).await;
    world.deploy_these(&[application(50)]).await;
    let found = world.get(&format!("/api/rollouts/{bad}/last-good")).await;
    assert_eq!((&found["version"], &found["badVersion"]), (&json!("1.4.0"), &json!("1.5.0")), "{found}");
    let counts = ["deployments", "withBadVersion", "withoutOther"].map(|name| found[name].as_u64().unwrap());
    assert_eq!(counts, [11, 10, 1], "{found}");
    let versions: Vec<_> =
        found["versions"].as_array().unwrap().iter().map(|good| (&good["version"], &good["deployments"])).collect();
    assert_eq!(versions, [(&json!("1.4.0"), &json!(8)), (&json!("1.3.0"), &json!(2))]);

    let repair = rolled_out(&world, json!({"version": found["version"], "purpose": "repair"})).await;
    assert_eq!(world.rollout(repair).await["counts"]["succeeded"], 11);
    assert!(ids.iter().all(|id| world.simulator.refreshed_to(id).as_deref() == Some("1.4.0")));
    let first = world.get(&format!("/api/rollouts/{repair}/last-good")).await;
    assert_eq!(first["version"], "1.5.0", "seen from the repair the other one");
    let (status, _) = world.post("/api/offer-publishes", &publish(json!({"version": "1.3.5"}))).await;
    assert_eq!(status, StatusCode::CONFLICT, "1.4.0 is what is wanted now");
}

#[tokio::test]
async fn where_nothing_else_ever_succeeded_there_is_no_last_good_version() {
    let world = World::new().await;
    world.deploy(2).await;
    let id = rolled_out(&world, json!({})).await;
    let found = world.get(&format!("/api/rollouts/{id}/last-good")).await;
    assert_eq!((found.get("version"), &found["versions"]), (None, &json!([])), "{found}");
    let none = "01900000-0000-7000-8000-000000000000";
    let request = Request::get(format!("/api/rollouts/{none}/last-good")).body(Body::empty()).unwrap();
    assert_eq!(world.request(request).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_repair_of_a_scope_leaves_the_others_and_the_wanted_version_alone() {
    let world = World::new().await;
    let ids = world.deploy(5).await;
    rolled_out(&world, json!({})).await;
    let scope = json!({"applicationIds": [ids[1], ids[3]]});
    let repair = rolled_out(&world, json!({"version": "1.4.0", "purpose": "repair", "scope": scope})).await;
    assert_eq!(world.rollout(repair).await["counts"]["total"], 2);
    let versions: Vec<_> = ids.iter().map(|id| world.simulator.refreshed_to(id).unwrap()).collect();
    assert_eq!(versions, ["1.5.0", "1.4.0", "1.5.0", "1.4.0", "1.5.0"]);
    let (status, _) = world.post("/api/offer-publishes", &publish(json!({"version": "1.4.5"}))).await;
    assert_eq!(status, StatusCode::CONFLICT, "1.5.0 is still wanted");
}

#[tokio::test]
async fn a_restore_is_recorded_and_a_dry_run_of_it_calls_nobody() {
    let world = World::new().await;
    world.deploy(3).await;
    let body = publish(json!({"purpose": "restore"}));
    let (status, run) = world.post("/api/rollouts?dryRun=true", &body).await;
    assert_eq!((status, &run["called"], &run["skipped"]), (StatusCode::OK, &json!([]), &json!([])));
    let (status, _) = world.post("/api/offer-publishes", &body).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    world.run_due().await;
    let listed = world.get("/api/rollouts").await["value"][0].clone();
    assert_eq!((&listed["purpose"], &listed["state"]), (&json!("restore"), &json!("completed")));
    assert_eq!(world.simulator.stats().posts, 0);
}

#[tokio::test]
async fn a_scheduled_refresh_reports_whose_version_was_another_one() {
    let world = World::new().await;
    let ids = world.deploy(5).await;
    rolled_out(&world, json!({})).await;
    let scope = json!({"applicationIds": [ids[2]]});
    rolled_out(&world, json!({"version": "1.4.0", "purpose": "repair", "scope": scope})).await;
    world.advance(24 * HOUR);
    let router = world.handler(world.store.clone(), world.queue.clone());
    assert_eq!(invoke_timer(&router, "ScheduledRefresh", Some(world.now())).await, StatusCode::OK);
    let id: RolloutId = world.get("/api/rollouts").await["value"][0]["id"].as_str().unwrap().parse().unwrap();
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["purpose"], &done["counts"]["succeeded"]), (&json!("scheduled"), &json!(5)), "{done}");
    assert_eq!(done["changed"], 1, "{done}");
    let drifted = world.refresh_of(id, &ids[2]).await;
    assert_eq!((&drifted["versionBefore"], &drifted["version"]), (&json!("1.4.0"), &json!("1.5.0")));
    assert_eq!(world.refresh_of(id, &ids[0]).await["versionBefore"], "1.5.0");
}

#[tokio::test]
async fn a_report_says_who_version_way_result_actor_error_times_correlation_and_command() {
    let world = World::new().await;
    let ids = world.deploy(3).await;
    failing(&world, &ids[0]);
    world.simulator.on_post(&ids[1], [OnPost::Reply(Reply::forbidden())]);
    let id = rolled_out(&world, json!({})).await;
    let request = Request::get(format!("/api/rollouts/{id}/report?format=csv")).body(Body::empty()).unwrap();
    let (_, csv) = world.request(request).await;
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let heads = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    let cell = |number: usize, name: &str| {
        let row = rows.iter().find(|row| row[0] == ids[number].to_string()).expect("each is there");
        row[heads.iter().position(|head| head == name).unwrap_or_else(|| panic!("{name}"))].to_owned()
    };
    for number in 0..3 {
        assert_eq!([cell(number, "version"), cell(number, "wave")], ["1.5.0", "1"]);
        assert!(!cell(number, "correlationId").is_empty() && !cell(number, "endedAt").is_empty());
    }
    assert_eq!(
        ["state", "actor", "code", "message", "way"].map(|name| cell(0, name)),
        ["failed", "customer", "ScopeLocked", "locked", "publisher"]
    );
    assert_eq!(
        ["state", "actor", "code", "way"].map(|name| cell(1, name)),
        ["handedOver", "customer", "AuthorizationFailed", "handOver"]
    );
    assert!(cell(1, "command").contains("targetVersion=1.5.0") && cell(1, "commandPowerShell").contains("az rest"));
    assert_eq!(["state", "verified", "way", "actor"].map(|name| cell(2, name)), ["succeeded", "true", "publisher", ""]);
    assert!(!cell(2, "submittedAt").is_empty());
}

#[tokio::test]
async fn a_dry_run_says_the_same_of_what_would_be() {
    let offer = OfferConfig {
        ways: vec![Way::HandOver],
        publisher: "fabrikam".into(),
        offer: "ledger".into(),
        plans: vec![],
        strategy: permafresh::rollout::Strategy::default(),
        preview_applications: vec![],
    };
    let world = World::with(Options { offers: vec![offer], ..Options::default() }).await;
    let ids = world.deploy(2).await;
    let (_, run) = world.post("/api/rollouts?dryRun=true", &publish(json!({}))).await;
    let called = &run["called"][0];
    assert_eq!([&called["version"], &called["way"], &called["wave"]], [&json!("1.5.0"), &json!("handOver"), &json!(1)]);
    assert!(called["command"].as_str().unwrap().contains("targetVersion=1.5.0"), "{run}");
    let request = Request::post("/api/rollouts?dryRun=true&format=csv").body(publish(json!({})).to_string().into());
    let (status, csv) = world.request(request.unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(csv.lines().count(), 3, "{csv}");
    assert!(csv.contains(&format!("{},call,,handOver,1.5.0,", ids[0])), "{csv}");
    assert_eq!(world.get("/api/rollouts").await["value"], json!([]));
    let (status, _) = world.post("/api/rollouts?dryRun=true&format=xml", &publish(json!({}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_dry_run_of_what_would_be_refused_says_so() {
    let world = World::new().await;
    world.deploy(2).await;
    rolled_out(&world, json!({})).await;
    let (status, run) = world.post("/api/rollouts?dryRun=true", &publish(json!({"version": "1.4.0"}))).await;
    assert_eq!(status, StatusCode::OK);
    assert!(run["refused"].as_str().unwrap().contains("repair"), "{run}");
    let (_, run) = world.post("/api/rollouts?dryRun=true", &publish(json!({"version": "1.6.0"}))).await;
    assert_eq!((run.get("refused"), &run["called"][0]["versionBefore"]), (None, &json!("1.5.0")), "{run}");
}
