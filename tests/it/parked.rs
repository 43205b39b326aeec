//! Rollouts that were stored and wait for a person to decide whether they begin, and what else begins meanwhile: no two
//! versions of a plan are ever brought beside each other, and the newer knowledge wins.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use permafresh::engine::OfferConfig;
use permafresh::queue::Message;
use permafresh::rollout::{RolloutId, Way};
use serde_json::{Value, json};

use crate::crash::scene::post;
use crate::faults::{Faults, FaultyQueue, FaultyStore};
use crate::interleaving::{between, sweep};
use crate::world::{Options, World, application, invoke_message, invoke_timer, one_wave};

const SECOND: Duration = Duration::from_secs(1);

/// Three deployments of a plan whose wanted version is 1.4.0, and a lint that knows one action.
async fn world() -> World {
    let offer = OfferConfig {
        ways: vec![Way::Publisher],
        publisher: "fabrikam".into(),
        offer: "ledger".into(),
        plans: vec![("standard".into(), Some("1.4.0".parse().unwrap()))],
        strategy: serde_json::from_value(one_wave()).unwrap(),
        preview_applications: Vec::new(),
    };
    let world = World::with(Options { offers: vec![offer], ..Options::default() }).await;
    world.simulator.add_provider("Microsoft.Web", &[("Microsoft.Web/sites/restart/Action", false)]);
    world.deploy(3).await;
    world
}

/// A rollout that the lint has parked; time has moved on since.
async fn parked(world: &World, changes: &Value) -> RolloutId {
    let mut body = json!({"expected": {"allowedCustomerActions": ["Microsoft.Web/sites/restrat/Action"]}});
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let id = world.publish(body).await;
    world.run_due().await;
    assert_eq!(world.rollout(id).await["state"], "paused");
    world.advance(SECOND);
    id
}

fn sound(world: &World) -> Router {
    world.handler(world.store.clone(), world.queue.clone())
}

async fn schedule(world: &World, router: &Router) {
    assert_eq!(invoke_timer(router, "ScheduledRefresh", Some(world.now())).await, StatusCode::OK);
}

async fn plan(router: &Router, rollout_id: RolloutId) {
    let body = Message::PlanRollout { rollout_id }.to_body();
    assert!(invoke_message(router, "PlanRollout", body.as_bytes()).await.is_success());
}

/// A person resumes, and the rollout begins if nothing is in its way.
async fn resume(router: &Router, id: RolloutId) {
    assert_eq!(post(router, &format!("/api/rollouts/{id}/resume"), &Value::Null).await.0, StatusCode::OK);
    plan(router, id).await;
}

/// Version and state of every rollout, the newest first.
async fn rollouts(world: &World) -> Vec<String> {
    let all = world.get("/api/rollouts").await["value"].as_array().unwrap().clone();
    all.iter().map(|r| format!("{} {}", r["version"].as_str().unwrap(), r["state"].as_str().unwrap())).collect()
}

async fn scheduled(world: &World) -> Option<RolloutId> {
    let all = world.get("/api/rollouts").await["value"].as_array().unwrap().clone();
    let found = all.iter().find(|rollout| rollout["purpose"] == "scheduled")?;
    Some(found["id"].as_str().unwrap().parse().unwrap())
}

/// Moves time until no rollout is on its way; at most five hours.
async fn settle_all(world: &World) {
    for _ in 0..1_200 {
        world.run_due().await;
        let all = rollouts(world).await;
        if !all.iter().any(|r| ["waiting", "planning", "running"].iter().any(|state| r.ends_with(state))) {
            return;
        }
        world.advance(15 * SECOND);
    }
    panic!("{:?} do not end", rollouts(world).await);
}

/// Whatever came first: the rollout that a person wanted has brought its version to everybody, last and alone.
async fn assert_brought(world: &World, id: RolloutId, version: &str, when: &str) {
    settle_all(world).await;
    let done = world.rollout(id).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(3)), "{when}: {done}");
    for number in 0..3 {
        assert_eq!(world.simulator.refreshed_to(&application(number)).as_deref(), Some(version), "{when}");
    }
    assert_eq!(world.simulator.stats().overlapping_operations, 0, "{when}");
    world.assert_no_dead_letters().await;
}

fn slow(world: &World, faults: &std::sync::Arc<Faults>) -> Router {
    world.handler(FaultyStore::over(&world.store, faults), FaultyQueue::over(&world.queue, faults))
}

#[tokio::test]
async fn a_scheduled_refresh_that_is_stored_while_a_parked_rollout_begins_takes_nothing_back() {
    // The other one has only begun, or has even ended, before the scheduled one is stored.
    for to_its_end in [false, true] {
        sweep(|at| async move {
            let world = world().await;
            let id = parked(&world, &json!({})).await;
            let (faults, other) = (Faults::none(), sound(&world));
            let slow = slow(&world, &faults);
            let meanwhile = async {
                resume(&other, id).await;
                if to_its_end {
                    settle_all(&world).await;
                }
            };
            if between(&faults, at, schedule(&world, &slow), meanwhile).await.is_none() {
                return false;
            }
            assert_brought(&world, id, "1.5.0", &format!("at step {at}, to its end: {to_its_end}")).await;
            true
        })
        .await;
    }
}

#[tokio::test]
async fn a_scheduled_refresh_that_begins_while_a_parked_rollout_begins_runs_beside_it_at_no_step() {
    for scheduled_is_slow in [false, true] {
        sweep(|at| async move {
            let world = world().await;
            let id = parked(&world, &json!({})).await;
            let (faults, other) = (Faults::none(), sound(&world));
            let slow = slow(&world, &faults);
            let happened = if scheduled_is_slow {
                schedule(&world, &other).await;
                let scheduled = scheduled(&world).await.unwrap();
                between(&faults, at, plan(&slow, scheduled), resume(&other, id)).await.is_some()
            } else {
                let meanwhile = async {
                    schedule(&world, &other).await;
                    if let Some(scheduled) = scheduled(&world).await {
                        plan(&other, scheduled).await;
                    }
                };
                between(&faults, at, resume(&slow, id), meanwhile).await.is_some()
            };
            if happened {
                let when = format!("at step {at}, the scheduled one is slow: {scheduled_is_slow}");
                assert_brought(&world, id, "1.5.0", &when).await;
            }
            happened
        })
        .await;
    }
}

#[tokio::test]
async fn a_scheduled_refresh_that_gives_way_says_to_which() {
    let world = world().await;
    let id = parked(&world, &json!({})).await;
    let (faults, other) = (Faults::none(), sound(&world));
    let slow = slow(&world, &faults);
    // Behind its look at what is open.
    between(&faults, 4, schedule(&world, &slow), resume(&other, id)).await.unwrap();
    world.run_due().await;
    let scheduled = world.rollout(scheduled(&world).await.unwrap()).await;
    assert_eq!(scheduled["state"], "canceled", "{scheduled}");
    assert_eq!(scheduled["why"], format!("superseded by rollout {id}"));
    assert_brought(&world, id, "1.5.0", "at the end").await;
}

#[tokio::test]
async fn a_parked_one_that_takes_the_place_of_others_waits_too_for_what_began_meanwhile() {
    for (changes, version) in [
        (json!({"supersede": true}), "1.5.0"),
        (json!({"purpose": "repair", "version": "1.3.0"}), "1.3.0"),
        (json!({"purpose": "repair", "version": "1.6.0", "supersede": true}), "1.6.0"),
    ] {
        // Before the scheduled one has counted its deployments, and while it posts.
        for is_running in [false, true] {
            let world = world().await;
            let id = parked(&world, &changes).await;
            schedule(&world, &sound(&world)).await;
            if is_running {
                world.run_due().await;
            }
            resume(&sound(&world), id).await;
            world.run_due().await;
            let when = format!("{changes}, running: {is_running}");
            let both = vec!["1.4.0 running".to_owned(), format!("{version} waiting")];
            assert_eq!(rollouts(&world).await, both, "{when}");
            assert_brought(&world, id, version, &when).await;
            assert_eq!(rollouts(&world).await[0], "1.4.0 completed", "{when}");
        }
    }
}

#[tokio::test]
async fn a_parked_repair_has_called_off_what_was_on_its_way_before_it_and_gives_way_to_what_comes_after() {
    let world = world().await;
    let older = world.publish(json!({"version": "1.5.0"})).await;
    world.run_due().await;
    assert_eq!(rollouts(&world).await, ["1.5.0 running"]);
    world.advance(SECOND);
    let repair = parked(&world, &json!({"purpose": "repair", "version": "1.3.0"})).await;
    assert_eq!(rollouts(&world).await, ["1.3.0 paused", "1.5.0 canceled"]);
    assert_eq!(world.rollout(older).await["why"], format!("superseded by rollout {repair}"));
    // What was posted before is followed to its end.
    for _ in 0..8 {
        world.advance(15 * SECOND);
        world.run_due().await;
    }
    let newer = world.publish(json!({"version": "1.5.1"})).await;
    world.run_due().await;
    assert_eq!(rollouts(&world).await, ["1.5.1 running", "1.3.0 canceled", "1.5.0 canceled"]);
    let (status, refused) = world.post(&format!("/api/rollouts/{repair}/resume"), &json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    assert_brought(&world, newer, "1.5.1", "at the end").await;
}
