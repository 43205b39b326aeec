//! Trying again what ended badly: everything that failed, or what waits for one actor; and operations that never end.

use std::time::Duration;

use axum::http::StatusCode;
use permafresh::arm::simulator::{Acceptance, OnPost, OnRead, Outcome, Reply};
use permafresh::rollout::{ApplicationId, RolloutId};
use serde_json::{Value, json};

use crate::world::{World, invoke_message, one_wave};

const HOUR: Duration = Duration::from_secs(3_600);

/// A rollout that has ended: one deployment each failed by customer, publisher and Microsoft, one was handed over, one is
/// well. On a second try all succeed.
async fn ended() -> (World, RolloutId, Vec<ApplicationId>) {
    let world = World::new().await;
    let ids = world.deploy(5).await;
    let failed = |code: &str| OnPost::Accept(Acceptance::ending(Outcome::failed(code, "no")));
    world.simulator.on_post(&ids[0], [failed("ScopeLocked")]);
    world.simulator.on_post(&ids[1], [failed("SomethingNew")]);
    world.simulator.on_post(&ids[2], [failed("InternalServerError")]);
    world.simulator.on_post(&ids[3], [OnPost::Reply(Reply::forbidden())]);
    let id = world.publish(json!({"strategy": one_wave()})).await;
    assert_eq!(world.settle(id, HOUR).await["state"], "completed");
    (world, id, ids)
}

async fn retry(world: &World, id: RolloutId, query: &str, body: Value) -> (StatusCode, Value) {
    world.post(&format!("/api/rollouts/{id}/retry{query}"), &body).await
}

fn posts(world: &World, ids: &[ApplicationId]) -> Vec<u32> {
    ids.iter().map(|id| world.simulator.posts_of(id)).collect()
}

#[tokio::test]
async fn a_retry_for_an_actor_brings_back_what_waits_for_that_actor_and_nothing_else() {
    for (actor, expected) in [
        ("customer", [2, 1, 1, 2, 1]),
        ("publisher", [1, 2, 1, 1, 1]),
        ("microsoft", [1, 1, 2, 1, 1]),
        ("offer", [1, 1, 1, 1, 1]),
    ] {
        let (world, id, ids) = ended().await;
        let (status, _) = retry(&world, id, &format!("?actor={actor}"), Value::Null).await;
        assert_eq!(status, StatusCode::OK);
        let done = world.settle(id, HOUR).await;
        assert_eq!(done["state"], "completed", "{actor}: {done}");
        assert_eq!(posts(&world, &ids), expected, "{actor}");
        let tried_again: u32 = expected.iter().sum::<u32>() - 5;
        assert_eq!(done["counts"]["succeeded"], 1 + tried_again, "{actor}: {done}");
    }
}

#[tokio::test]
async fn a_retry_without_an_actor_brings_back_what_failed_only() {
    let (world, id, ids) = ended().await;
    let (status, running) = retry(&world, id, "", json!({})).await;
    assert_eq!((status, &running["state"]), (StatusCode::OK, &json!("running")));
    world.settle(id, HOUR).await;
    assert_eq!(posts(&world, &ids), [2, 2, 2, 1, 1]);
}

#[tokio::test]
async fn the_actor_may_stand_in_the_body_and_what_cannot_be_meant_is_named() {
    let (world, id, ids) = ended().await;
    for (query, body, field) in [
        ("?actor=somebody", Value::Null, "actor"),
        ("", json!({"actor": 7}), "actor"),
        ("?actor=offer", json!({"actor": "customer"}), "actor"),
        ("", json!({"actors": "customer"}), "actors"),
        ("", json!([]), "body"),
    ] {
        let (status, problem) = retry(&world, id, query, body).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{problem}");
    }
    let (status, problem) = world.post(&format!("/api/rollouts/{id}/cancel?actor=customer"), &Value::Null).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::BAD_REQUEST, &json!("actor")), "{problem}");
    assert_eq!(posts(&world, &ids), [1; 5]);
    assert_eq!(retry(&world, id, "", json!({"actor": "microsoft"})).await.0, StatusCode::OK);
    world.settle(id, HOUR).await;
    assert_eq!(posts(&world, &ids), [1, 1, 2, 1, 1]);
}

#[tokio::test]
async fn a_retry_given_many_times_at_once_tries_each_once() {
    let (world, id, ids) = ended().await;
    let answers = (0..10).map(|turn| {
        let query = if turn % 2 == 0 { "" } else { "?actor=customer" };
        retry(&world, id, query, Value::Null)
    });
    for (status, answer) in futures_util::future::join_all(answers).await {
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    world.settle(id, HOUR).await;
    assert_eq!(posts(&world, &ids), [2, 2, 2, 2, 1]);
    assert_eq!(retry(&world, id, "", Value::Null).await.1["state"], "completed", "nothing is left to retry");
}

#[tokio::test]
async fn failures_that_a_person_left_alone_do_not_stop_a_retry_for_another_actor() {
    let world = World::new().await;
    let ids = world.deploy(10).await;
    let failed = |code: &str| OnPost::Accept(Acceptance::ending(Outcome::failed(code, "no")));
    for id in &ids[..3] {
        world.simulator.on_post(id, [failed("ScopeLocked"), failed("ScopeLocked")]);
    }
    world.simulator.on_post(&ids[3], [failed("InternalServerError")]);
    let id = world.publish(json!({"strategy": {"canaries": 0, "waves": ["100%"], "maxFailures": 0}})).await;
    assert_eq!(world.settle(id, HOUR).await["state"], "paused");
    world.post(&format!("/api/rollouts/{id}/resume"), &Value::Null).await;
    assert_eq!(world.settle(id, HOUR).await["state"], "completed");
    retry(&world, id, "?actor=microsoft", Value::Null).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["failed"]), (&json!("completed"), &json!(3)), "{done}");
    retry(&world, id, "?actor=customer", Value::Null).await;
    let again = world.settle(id, HOUR).await;
    assert_eq!(again["state"], "paused", "what is tried again and fails again counts: {again}");
}

#[tokio::test]
async fn an_operation_that_never_ends_is_verified_and_posted_again_once() {
    let world = World::new().await;
    let ids = world.deploy(2).await;
    let endless = || OnPost::Accept(Acceptance { duration: Some(1_000 * HOUR), ..Acceptance::default() });
    world.simulator.on_post(&ids[0], [endless(), endless(), endless()]);
    world.simulator.on_post(&ids[1], [endless()]);
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let done = world.settle(id, 12 * HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["timedOut"]), (&json!("completed"), &json!(1)), "{done}");
    assert_eq!(posts(&world, &ids), [2, 2]);
    assert!(world.simulator.stats().reads >= 3, "the application was read before each");
    let timed_out = world.refresh_of(id, &ids[0]).await;
    assert_eq!((&timed_out["state"], &timed_out["error"]["actor"]), (&json!("timedOut"), &json!("microsoft")));
    assert_eq!(world.refresh_of(id, &ids[1]).await["state"], "succeeded", "the second try ended");
    assert_eq!(world.simulator.stats().impatient_polls, 0);
}

#[tokio::test]
async fn an_operation_that_never_ends_of_an_application_that_is_gone_is_not_posted_again() {
    let world = World::new().await;
    let ids = world.deploy(1).await;
    let endless = OnPost::Accept(Acceptance { duration: Some(1_000 * HOUR), ..Acceptance::default() });
    world.simulator.on_post(&ids[0], [endless]);
    world.simulator.on_read(&ids[0], (0..3).map(|_| OnRead::Reply(Reply::resource_not_found())));
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let done = world.settle(id, 12 * HOUR).await;
    assert_eq!((&done["counts"]["skipped"], posts(&world, &ids)), (&json!(1), vec![1]), "{done}");
}

/// Days in each of which Azure wants no calls for the deployment's subscription.
async fn throttled_days(world: &World, id: &ApplicationId, days: u32) {
    for _ in 0..days {
        world.store.throttle(id.subscription(), world.now() + 48 * HOUR).await.unwrap();
        world.advance(24 * HOUR);
        world.run_due().await;
    }
}

#[tokio::test]
async fn a_subscription_that_is_throttled_for_weeks_ends_its_refresh_and_the_rollout() {
    let world = World::new().await;
    let ids = world.deploy(1).await;
    world.store.throttle(ids[0].subscription(), world.now() + 24 * HOUR).await.unwrap();
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.run_due().await;
    throttled_days(&world, &ids[0], 20).await;
    assert_eq!(world.rollout(id).await["counts"]["queued"], 1, "longer than a gate");
    throttled_days(&world, &ids[0], 2).await;
    let ended = world.settle(id, HOUR).await;
    assert_eq!((&ended["state"], &ended["counts"]["timedOut"]), (&json!("completed"), &json!(1)), "{ended}");
    let refresh = world.refresh_of(id, &ids[0]).await;
    let error = &refresh["error"];
    assert_eq!((&error["actor"], &error["code"]), (&json!("microsoft"), &json!("NotPosted")), "{refresh}");
    assert!(error["message"].as_str().unwrap().contains("for 21 days: Azure wanted no calls"), "{refresh}");
    assert_eq!(posts(&world, &ids), [0]);
    world.advance(72 * HOUR);
    retry(&world, id, "?actor=microsoft", Value::Null).await;
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 1);
}

#[tokio::test]
async fn what_is_stopped_or_paused_never_expires() {
    for (hold, go_on) in [("stop", "start"), ("pause", "resume")] {
        let world = World::new().await;
        let ids = world.deploy(1).await;
        world.store.throttle(ids[0].subscription(), world.now() + 24 * HOUR).await.unwrap();
        let id = world.publish(json!({"strategy": one_wave()})).await;
        world.run_due().await;
        throttled_days(&world, &ids[0], 2).await;
        let path = |word: &str| match word {
            "stop" | "start" => format!("/api/{word}"),
            _ => format!("/api/rollouts/{id}/{word}"),
        };
        assert_eq!(world.post(&path(hold), &json!({})).await.0, StatusCode::OK);
        throttled_days(&world, &ids[0], 50).await;
        assert_eq!(world.rollout(id).await["counts"]["queued"], 1, "{hold}");
        assert_eq!(world.post(&path(go_on), &json!({})).await.0, StatusCode::OK);
        world.advance(72 * HOUR);
        assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 1, "{hold}");
    }
}

#[tokio::test]
async fn an_old_message_that_comes_during_a_pause_does_not_shorten_the_wait_that_azure_named() {
    let world = World::new().await;
    let ids = world.deploy(1).await;
    world.simulator.on_post(&ids[0], [OnPost::Reply(Reply::busy().with("retry-after", 1_800))]);
    let id = world.publish(json!({"strategy": one_wave()})).await;
    for (queue, function) in [("rollouts", "PlanRollout"), ("refreshes", "RefreshDeployment")] {
        let message = world.queue.receive(queue, 1, HOUR).await.unwrap().remove(0);
        assert_eq!(invoke_message(&world.router(), function, &message.body).await, StatusCode::OK);
        world.queue.complete(queue, &[message.lock]).await.unwrap();
        if queue == "refreshes" {
            world.post(&format!("/api/rollouts/{id}/pause"), &Value::Null).await;
            // The same once more, as a queue may.
            assert_eq!(invoke_message(&world.router(), function, &message.body).await, StatusCode::OK);
            world.post(&format!("/api/rollouts/{id}/resume"), &Value::Null).await;
        }
    }
    for (minutes, posts) in [(0, 1), (15, 1), (14, 1), (2, 2)] {
        world.advance(Duration::from_secs(60 * minutes));
        world.run_due().await;
        assert_eq!(world.simulator.stats().posts, posts);
    }
}
