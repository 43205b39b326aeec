//! The walk over the deployments: cut off half-way, and over many for whom there is nothing to do.

use std::time::Duration;

use axum::http::StatusCode;
use permafresh::rollout::{Refresh, RolloutId};
use serde_json::{Value, json};

use crate::faults::{Fault, Faults, FaultyStore};
use crate::world::{World, invoke_message, one_wave, publish};

const HOUR: Duration = Duration::from_secs(3_600);

/// Delivers planning messages until there are none; how many there were.
async fn plan(world: &World) -> usize {
    let mut delivered = 0;
    loop {
        let messages = world.queue.receive("rollouts", 1, HOUR).await.unwrap();
        let Some(message) = messages.into_iter().next() else { return delivered };
        assert_eq!(invoke_message(&world.router(), "PlanRollout", &message.body).await, StatusCode::OK);
        world.queue.complete("rollouts", &[message.lock]).await.unwrap();
        delivered += 1;
    }
}

async fn by_hand(world: &World, changes: Value) -> RolloutId {
    let (status, answer) = world.post("/api/rollouts", &publish(changes)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    answer["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn named_canaries_of_which_only_some_were_written_are_completed_before_anybody_else_goes_first() {
    let world = World::new().await;
    let mut ids = world.deploy(4).await;
    // The last in the order of the walk, so that whoever walks meets others first.
    ids.sort_by_key(permafresh::rollout::ApplicationId::key);
    let named = [&ids[2], &ids[3]];
    let id = world.publish(json!({"strategy": {"canaries": named, "waves": ["100%"]}})).await;
    let faults = Faults::new(Fault::OutageOf { name: "insert_refreshes", after: 0 });
    let broken = world.handler(FaultyStore::over(&world.store, &faults), world.queue.clone());
    let planning = world.queue.receive("rollouts", 1, HOUR).await.unwrap().remove(0);
    assert!(invoke_message(&broken, "PlanRollout", &planning.body).await.is_server_error());
    // What a store whose records lie in several places has written by then.
    let first = Refresh::planned(id, ids[2].clone(), "1.5.0".parse().unwrap(), 1);
    assert_eq!(world.store.insert_refreshes(&[first]).await.unwrap(), 1);
    world.queue.abandon("rollouts", &planning.lock).await.unwrap();
    assert_eq!(plan(&world).await, 1);
    let mut canaries: Vec<_> = world.refreshes(id).await.iter().map(|of| of["applicationId"].clone()).collect();
    canaries.sort_by_key(ToString::to_string);
    let mut expected = named.map(|id| json!(id));
    expected.sort_by_key(ToString::to_string);
    assert_eq!(canaries, expected);
    assert_eq!(world.settle(id, 2 * HOUR).await["counts"]["succeeded"], 4);
}

#[tokio::test]
async fn a_version_that_everybody_has_is_walked_through_in_pages_and_not_canary_by_canary() {
    let world = World::new().await;
    world.deploy(120).await;
    let first = world.publish(json!({"strategy": one_wave()})).await;
    assert_eq!(world.settle(first, HOUR).await["counts"]["succeeded"], 120);
    let again = by_hand(&world, json!({})).await;
    assert_eq!(plan(&world).await, 1);
    assert_eq!(world.rollout(again).await["counts"]["skipped"], 120);
    assert_eq!(world.settle(again, HOUR).await["state"], "completed");
}

#[tokio::test]
async fn behind_many_that_have_the_version_exactly_one_canary_goes_first() {
    let world = World::new().await;
    let mut ids: Vec<_> = (0..60).map(crate::world::application).collect();
    ids.sort_by_key(permafresh::rollout::ApplicationId::key);
    // The last two of the walk come later.
    world.deploy_these(&ids[..58]).await;
    let first = world.publish(json!({"strategy": one_wave()})).await;
    world.settle(first, HOUR).await;
    world.post(&format!("/api/rollouts/{first}/cancel"), &json!({})).await;
    world.deploy_these(&ids[58..]).await;
    let again = by_hand(&world, json!({})).await;
    assert_eq!(plan(&world).await, 1);
    let counts = world.rollout(again).await["counts"].clone();
    assert_eq!((&counts["skipped"], &counts["queued"]), (&json!(58), &json!(1)), "{counts}");
}
