//! The approval of the last wave, and how a publish overrides its offer's strategy.

use std::time::Duration;

use axum::http::StatusCode;
use permafresh::arm::simulator::{Acceptance, OnPost, Outcome};
use permafresh::engine::OfferConfig;
use permafresh::rollout::{RolloutId, Way};
use serde_json::{Value, json};

use crate::world::{Options, World};

const HOUR: Duration = Duration::from_secs(3_600);

async fn command(world: &World, id: RolloutId, word: &str) -> Value {
    let (status, rollout) = world.post(&format!("/api/rollouts/{id}/{word}"), &Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{word}: {rollout}");
    rollout
}

async fn refused(world: &World, id: RolloutId, word: &str, why: &str) {
    let (status, problem) = world.post(&format!("/api/rollouts/{id}/{word}"), &Value::Null).await;
    assert_eq!(status, StatusCode::CONFLICT, "{word}: {problem}");
    assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
}

fn waits_for_approval(rollout: &Value, remaining: &str) {
    assert_eq!(rollout["state"], "paused", "{rollout}");
    let why = rollout["why"].as_str().unwrap();
    assert!(why.contains("waits for approval") && why.contains(remaining) && why.contains("approve it"), "{why}");
}

#[tokio::test]
async fn the_last_wave_begins_when_a_person_approves_it_and_not_before() {
    let world = World::new().await;
    world.deploy(20).await;
    let strategy = json!({"canaries": 1, "waves": ["25%", "100%"], "approveLastWave": true});
    let id = world.publish(json!({"strategy": strategy})).await;
    waits_for_approval(&world.settle(id, HOUR).await, "1.5.0 to the remaining 15 of 20 deployments");
    world.advance(48 * HOUR);
    world.run_due().await;
    assert_eq!((world.simulator.stats().posts, &world.rollout(id).await["wave"]), (5, &json!(2)));
    assert_eq!(command(&world, id, "approve").await["state"], "running");
    assert_eq!(command(&world, id, "approve").await["state"], "running", "the same again");
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(20)), "{done}");
}

#[tokio::test]
async fn an_only_wave_is_approved_before_anybody_is_called() {
    let world = World::new().await;
    world.deploy(3).await;
    let strategy = json!({"canaries": 0, "waves": ["100%"], "approveLastWave": true});
    let id = world.publish(json!({"strategy": strategy})).await;
    waits_for_approval(&world.settle(id, HOUR).await, "remaining 3 of 3");
    assert_eq!(world.simulator.stats().posts, 0);
    command(&world, id, "approve").await;
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 3);
}

#[tokio::test]
async fn resuming_after_a_pause_is_no_approval() {
    let world = World::new().await;
    let ids = world.deploy(10).await;
    for id in &ids {
        let failed = Acceptance::ending(Outcome::failed("InternalServerError", "something broke"));
        world.simulator.on_post(id, [OnPost::Accept(failed)]);
    }
    let strategy = json!({"canaries": 0, "waves": [4, "100%"], "maxFailures": 0, "approveLastWave": true});
    let id = world.publish(json!({"strategy": strategy})).await;
    let over = world.settle(id, HOUR).await;
    assert!(over["why"].as_str().unwrap().contains("more than the 0 allowed"), "{over}");
    refused(&world, id, "approve", "nothing to approve: the rollout is paused").await;
    command(&world, id, "resume").await;
    waits_for_approval(&world.settle(id, HOUR).await, "remaining 6 of 10");
    // Somebody whose first one was not answered.
    refused(&world, id, "resume", "use approve").await;
    world.advance(HOUR);
    world.run_due().await;
    waits_for_approval(&world.rollout(id).await, "remaining 6 of 10");
    assert_eq!(world.simulator.stats().posts, 4);
    let audit = world.get("/api/audit").await;
    let told: Vec<_> =
        audit["value"].as_array().unwrap().iter().map(|entry| (&entry["what"], &entry["outcome"])).collect();
    assert!(told.contains(&(&json!("rollout.approve"), &json!("refused"))), "{audit}");
}

#[tokio::test]
async fn where_nothing_waits_for_approval_the_state_is_named() {
    let world = World::new().await;
    world.deploy(2).await;
    let id = world.publish(json!({"strategy": {"canaries": 0, "waves": ["100%"]}})).await;
    world.run_due().await;
    refused(&world, id, "approve", "running").await;
    command(&world, id, "pause").await;
    refused(&world, id, "approve", "paused").await;
    command(&world, id, "resume").await;
    assert_eq!(world.settle(id, HOUR).await["state"], "completed");
    refused(&world, id, "approve", "completed").await;
}

#[tokio::test]
async fn the_pause_between_waves_and_the_wait_for_approval_run_at_once() {
    let world = World::new().await;
    world.deploy(10).await;
    let strategy = json!({"canaries": 1, "waves": ["100%"], "approveLastWave": true, "pauseBetweenWaves": "PT1H"});
    let id = world.publish(json!({"strategy": strategy})).await;
    waits_for_approval(&world.settle(id, HOUR).await, "remaining 9 of 10");
    command(&world, id, "approve").await;
    world.run_due().await;
    assert_eq!(world.simulator.stats().posts, 1, "approved, and the hour is not over");
    world.advance(HOUR);
    world.run_due().await;
    assert_eq!(world.simulator.stats().posts, 10, "nobody has to be asked twice");
    assert_eq!(world.settle(id, HOUR).await["state"], "completed");
}

#[tokio::test]
async fn a_rollout_that_waits_for_approval_can_be_called_off() {
    let world = World::new().await;
    world.deploy(10).await;
    let id = world.publish(json!({"strategy": {"approveLastWave": true}})).await;
    waits_for_approval(&world.settle(id, HOUR).await, "remaining 8 of 10");
    assert_eq!(command(&world, id, "cancel").await["state"], "canceled");
    world.advance(HOUR);
    world.run_due().await;
    assert_eq!(world.simulator.stats().posts, 2, "the canary and the tenth of ten that adds one");
}

#[tokio::test]
async fn a_publish_overrides_what_it_names_of_the_offers_strategy_and_nothing_else() {
    let offer = OfferConfig {
        ways: vec![Way::Publisher],
        publisher: "fabrikam".into(),
        offer: "ledger".into(),
        plans: vec![],
        strategy: serde_json::from_value(json!({"canaries": 2, "waves": [6], "approveLastWave": true})).unwrap(),
        preview_applications: vec![],
    };
    let world = World::with(Options { offers: vec![offer], ..Options::default() }).await;
    world.deploy(10).await;
    let id = world.publish(json!({"strategy": {"maxInFlight": 1, "canaries": null}})).await;
    world.run_due().await;
    assert_eq!(world.simulator.stats().posts, 1, "one at a time");
    waits_for_approval(&world.settle(id, HOUR).await, "remaining 4 of 10");
    command(&world, id, "cancel").await;
    let unasked = json!({"version": "1.6.0", "strategy": {"approveLastWave": false, "canaries": 0}});
    let id = world.publish(unasked).await;
    assert_eq!(world.settle(id, HOUR).await["state"], "completed");
}

#[tokio::test]
async fn each_wrong_member_of_a_strategy_is_named() {
    let world = World::new().await;
    let strategy = json!({
        "canary": 1, "canaries": "some", "waves": ["10%", "many"], "maxFailures": "101%", "maxInFlight": 0,
        "pauseBetweenWaves": "10 minutes", "approveLastWave": "yes"
    });
    let (status, problem) =
        world.post("/api/offer-publishes", &crate::world::publish(json!({"strategy": strategy}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let mut fields: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    let expected =
        ["approveLastWave", "canaries", "canary", "maxFailures", "maxInFlight", "pauseBetweenWaves", "waves"];
    assert_eq!(fields, expected.map(|name| format!("strategy.{name}")), "{problem}");
}

#[tokio::test]
async fn the_failure_budget_is_a_count_or_a_share_of_the_wave_and_of_all_that_was_started() {
    for (budget, failing, wave) in [
        // 10 in each of two waves: 20 % of a wave are 2, and so many may fail in it.
        (json!("20%"), 2, 2),
        (json!("20%"), 3, 1),
        (json!(2), 2, 2),
        (json!(2), 3, 1),
    ] {
        let world = World::new().await;
        let mut ids = world.deploy(20).await;
        ids.sort_by_key(permafresh::rollout::ApplicationId::key);
        for id in &ids[..failing] {
            let failed = Acceptance::ending(Outcome::failed("InternalServerError", "something broke"));
            world.simulator.on_post(id, [OnPost::Accept(failed)]);
        }
        let strategy = json!({"canaries": 0, "waves": [10, "100%"], "maxFailures": budget});
        let id = world.publish(json!({"strategy": strategy})).await;
        let rested = world.settle(id, HOUR).await;
        let state = if wave == 2 { "completed" } else { "paused" };
        assert_eq!((&rested["state"], &rested["wave"]), (&json!(state), &json!(wave)), "{budget} {failing}: {rested}");
    }
}
