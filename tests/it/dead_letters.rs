//! Messages that nobody could work off: noticed, shown, sent again, given up, and brought back by `retry`.

use std::time::Duration;

use axum::http::StatusCode;
use permafresh::queue::{Message, Outgoing};
use serde_json::{Value, json};

use crate::faults::{Fault, Faults, FaultyQueue, FaultyStore};
use crate::world::{World, application, invoke_timer, one_wave};

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Delivers everything that is due on a queue until it is dead.
pub async fn let_die(world: &World, queue: &str) {
    loop {
        let messages = world.queue.receive(queue, 100, HOUR).await.unwrap();
        if messages.is_empty() {
            return;
        }
        for message in messages {
            world.queue.abandon(queue, &message.lock).await.unwrap();
        }
    }
}

async fn dead_entries(world: &World) -> Vec<Value> {
    let audit = world.get("/api/audit").await;
    audit["value"].as_array().unwrap().iter().filter(|entry| entry["what"] == "message.dead").cloned().collect()
}

#[tokio::test]
async fn a_dead_message_is_shown_and_sent_again_and_the_tenth_death_fails_until_a_retry() {
    let world = World::new().await;
    world.deploy(1).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let planning = world.queue.receive("rollouts", 1, HOUR).await.unwrap().remove(0);
    let router = world.handler(world.another_store(), world.another_queue());
    crate::world::invoke_message(&router, "PlanRollout", &planning.body).await;
    world.queue.complete("rollouts", &[planning.lock]).await.unwrap();
    for death in 1..=10 {
        let_die(&world, "refreshes").await;
        world.advance(MINUTE);
        world.tick().await;
        let entries = dead_entries(&world).await;
        assert_eq!(entries.len(), death, "{entries:?}");
        assert_eq!(entries[0]["on"], json!(application(0)));
        assert!(entries[0]["problem"].as_str().unwrap().contains("10 times"), "{entries:?}");
        let refresh = &world.refreshes(id).await[0];
        assert_eq!(refresh["error"]["code"], "DeadLettered", "{refresh}");
        assert_eq!(refresh["state"], if death < 10 { "queued" } else { "failed" });
        assert_eq!(refresh["attempts"], 0);
        world.advance(5 * MINUTE * 2u32.pow(u32::try_from(death.min(4)).unwrap() - 1));
        world.tick().await;
    }
    world.assert_no_dead_letters().await;
    let (status, _) = world.post(&format!("/api/rollouts/{id}/retry"), &json!({})).await;
    assert_eq!(status, StatusCode::OK);
    let rollout = world.settle(id, HOUR).await;
    assert_eq!((&rollout["state"], &rollout["counts"]["succeeded"]), (&json!("completed"), &json!(1)));
}

#[tokio::test]
async fn a_dead_message_that_cannot_be_noted_holds_back_no_other() {
    let world = World::new().await;
    let nobody = Message::Refresh {
        rollout_id: "01900000-0000-7000-8000-000000000000".parse().unwrap(),
        key: application(0).key(),
    };
    let message = |id: &str, body: String| Outgoing { id: id.into(), body, due: None };
    let messages = [message("first", nobody.to_body()), message("second", "nonsense".into())];
    world.queue.send("refreshes", &messages).await.unwrap();
    let_die(&world, "refreshes").await;
    let faults = Faults::new(Fault::OutageOf { name: "refresh", after: 0 });
    let broken = world.handler(FaultyStore::over(&world.store, &faults), world.queue.clone());
    invoke_timer(&broken, "PollOperations", None).await;
    let problems = async || {
        let entries = dead_entries(&world).await;
        entries.iter().map(|entry| entry["problem"].as_str().unwrap().split(':').next().unwrap().to_owned()).collect()
    };
    let noted: Vec<String> = problems().await;
    assert_eq!(noted, ["second"]);
    world.advance(MINUTE);
    world.tick().await;
    let noted: Vec<String> = problems().await;
    assert_eq!(noted.len(), 2, "{noted:?}");
    world.assert_no_dead_letters().await;
}

#[tokio::test]
async fn a_dead_message_whose_place_was_taken_by_another_changes_nothing() {
    let world = World::new().await;
    world.deploy(1).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let router = world.handler(world.another_store(), world.another_queue());
    let planning = world.queue.receive("rollouts", 1, HOUR).await.unwrap().remove(0);
    crate::world::invoke_message(&router, "PlanRollout", &planning.body).await;
    world.queue.complete("rollouts", &[planning.lock]).await.unwrap();
    let_die(&world, "refreshes").await;
    // Noticed by two at once: one death.
    let other = world.handler(world.another_store(), world.another_queue());
    let tick = |router| crate::world::invoke_timer(router, "PollOperations", None);
    tokio::join!(tick(&router), tick(&other));
    assert_eq!(dead_entries(&world).await.len(), 1);
    let key = application(0).key();
    let refresh = world.store.refresh(id, &key).await.unwrap().unwrap().value;
    assert_eq!(refresh.dead_letters, 1);
    assert_eq!(world.settle(id, HOUR).await["state"], "completed");
}

#[tokio::test]
async fn a_rollout_whose_planning_dies_again_and_again_pauses_and_says_so() {
    let world = World::new().await;
    world.deploy(1).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    for _ in 0..30 {
        let_die(&world, "rollouts").await;
        world.advance(3 * MINUTE);
        world.tick().await;
    }
    let rollout = world.rollout(id).await;
    assert_eq!(rollout["state"], "paused");
    assert!(rollout["why"].as_str().unwrap().contains("cannot be planned"), "{rollout}");
    let (status, _) = world.post(&format!("/api/rollouts/{id}/resume"), &json!({})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(world.settle(id, HOUR).await["state"], "completed");
}

#[tokio::test]
async fn what_is_no_message_of_ours_is_noted_and_taken_away() {
    let world = World::new().await;
    let stray = |id: &str, body: &str| permafresh::queue::Outgoing { id: id.into(), body: body.into(), due: None };
    let share = Message::PollShare { at_most: 5 }.to_body();
    world.queue.send("refreshes", &[stray("stray", "{\"kind\": \"poem\"}"), stray("share", &share)]).await.unwrap();
    let_die(&world, "refreshes").await;
    world.run_due().await;
    let mut problems: Vec<_> =
        dead_entries(&world).await.iter().map(|entry| entry["problem"].as_str().unwrap()[..5].to_owned()).collect();
    problems.sort();
    assert_eq!(problems, ["share", "stray"]);
    world.assert_no_dead_letters().await;
}

#[tokio::test]
async fn a_queue_that_is_slow_to_show_its_dead_letters_holds_up_no_operation() {
    let mut world = World::new().await;
    world.deploy(1).await;
    let queue = FaultyQueue::slow(&world.queue, &world.clock);
    world.replace_handler(world.handler(world.store.clone(), queue));
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.deliver().await;
    world.advance(15 * SECOND);
    let began = world.now();
    world.tick().await;
    assert_eq!(world.refreshes(id).await[0]["polls"], 1);
    assert!(world.now() >= began + 2 * MINUTE, "it was slow");
}
