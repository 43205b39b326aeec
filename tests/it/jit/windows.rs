//! Work is done within a window only: what does not fit waits for a new request, and nothing is asked outside.

use std::time::Duration;

use permafresh::arm::simulator::{OnJit, OnPost, Reply};
use serde_json::{Value, json};

use super::{AUTOMATIC, HOUR, MANUAL, MINUTE, Scene, options};
use crate::world::Options;

#[tokio::test]
async fn a_window_that_was_approved_too_late_leads_to_another_request() {
    let scene = Scene::new(&MANUAL.replace("PT8H", "PT40M")).await;
    let rollout = scene.publish().await;
    for _ in 0..25 {
        scene.pass(MINUTE).await;
    }
    scene.world.simulator.decide_jit(&scene.id, "Approved");
    for _ in 0..20 {
        scene.pass(MINUTE).await;
    }
    assert_eq!(scene.refresh(rollout).await["state"], "awaitingAccess", "the next one waits");
    let names: Vec<_> = scene.requests().into_iter().map(|request| request.name).collect();
    assert_eq!(names.len(), 2);
    assert_ne!(names[0], names[1]);
    assert_eq!(scene.world.simulator.stats().posts, 1, "nothing was begun in what was left of the first");
    scene.world.simulator.decide_jit(&scene.id, "Approved");
    scene.until(rollout, "succeeded", MINUTE, HOUR).await;
    assert_eq!(scene.world.simulator.stats().outside_windows, 1, "the publisher's own try");
}

#[tokio::test]
async fn a_customer_who_is_always_too_late_is_asked_six_times_and_no_more() {
    let scene = Scene::new(&MANUAL.replace("PT8H", "PT30M")).await;
    scene.world.simulator.on_jit(&scene.id, (0..9).map(|_| OnJit::after(25 * MINUTE, "Approved")));
    let rollout = scene.publish().await;
    let ended = scene.until(rollout, "handedOver", 5 * MINUTE, 12 * HOUR).await;
    assert_eq!(ended["error"]["code"], "JitTooManyRequests", "{ended}");
    assert_eq!(scene.requests().len(), 6);
    let path = format!("/api/deployments/{}/jit", scene.id.key());
    assert_eq!(scene.world.post(&path, &json!({})).await.0, 202, "a person may ask for more");
    assert_eq!(scene.requests().len(), 7);
}

#[tokio::test]
async fn no_status_is_asked_for_once_the_window_is_over() {
    let options = Options { operation: 100 * MINUTE, ..options() };
    let scene = Scene::with(options, |spec| spec.jit_access_policy = Some(AUTOMATIC.into())).await;
    let rollout = scene.publish().await;
    for _ in 0..50 {
        scene.pass(MINUTE).await;
    }
    let polls = scene.world.simulator.stats().polls;
    assert!(polls > 40, "{polls}");
    let ended = scene.until(rollout, "succeeded", MINUTE, 2 * HOUR).await;
    assert_eq!(ended["why"], "judged by reading the application; the operation's end was not seen", "{ended}");
    let stats = scene.world.simulator.stats();
    assert_eq!(stats.outside_windows, 1, "the publisher's own try, and nothing later");
    assert!(stats.polls <= polls + 30, "{} after {polls}", stats.polls);
}

#[tokio::test]
async fn a_refusal_right_after_the_approval_is_tried_again_and_a_late_one_is_believed() {
    let scene = Scene::new(AUTOMATIC).await;
    scene.world.simulator.on_post(&scene.id, [OnPost::Reply(Reply::forbidden()), OnPost::Reply(Reply::forbidden())]);
    let rollout = scene.publish().await;
    assert_eq!(scene.refresh(rollout).await["state"], "queued");
    scene.until(rollout, "succeeded", MINUTE, HOUR).await;

    let scene = Scene::new(AUTOMATIC).await;
    scene.world.simulator.on_post(&scene.id, (0..20).map(|_| OnPost::Reply(Reply::forbidden())));
    let rollout = scene.publish().await;
    let ended = scene.until(rollout, "handedOver", MINUTE, HOUR).await;
    assert_eq!(ended["error"]["code"], "AuthorizationFailed", "{ended}");
    let posts = scene.world.simulator.stats().posts;
    assert!((6..=8).contains(&posts), "{posts}");
}

#[tokio::test]
async fn a_rollout_that_was_paused_beyond_the_window_asks_again() {
    let scene = Scene::new(MANUAL).await;
    let rollout = scene.publish().await;
    scene.world.post(&format!("/api/rollouts/{rollout}/pause"), &Value::Null).await;
    scene.world.simulator.decide_jit(&scene.id, "Approved");
    for _ in 0..20 {
        scene.pass(HOUR / 2).await;
    }
    let stats = scene.world.simulator.stats();
    assert_eq!((stats.posts, stats.jit_filings), (1, 1), "nothing is begun while it is paused");
    scene.world.post(&format!("/api/rollouts/{rollout}/resume"), &Value::Null).await;
    scene.until(rollout, "awaitingAccess", MINUTE, HOUR).await;
    assert_eq!(scene.requests().len(), 2);
    scene.world.simulator.decide_jit(&scene.id, "Approved");
    scene.until(rollout, "succeeded", MINUTE, HOUR).await;
}

#[tokio::test]
async fn nothing_is_filed_while_everything_is_stopped() {
    let scene = Scene::new(MANUAL).await;
    scene.world.post("/api/stop", &json!({"why": "look"})).await;
    let rollout = scene.publish().await;
    scene.pass(5 * MINUTE).await;
    let path = format!("/api/deployments/{}/jit", scene.id.key());
    let (status, problem) = scene.world.post(&path, &json!({})).await;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(scene.world.simulator.stats().jit_filings, 0);
    scene.world.post("/api/start", &json!({})).await;
    scene.until(rollout, "awaitingAccess", MINUTE, HOUR).await;
    assert_eq!(scene.requests().len(), 1);
}

#[tokio::test]
async fn a_slow_approval_that_is_automatic_is_waited_for() {
    let scene = Scene::new(AUTOMATIC).await;
    scene.world.simulator.on_jit(&scene.id, [OnJit::after(7 * MINUTE, "Approved")]);
    let rollout = scene.publish().await;
    let parked = scene.refresh(rollout).await;
    assert!(parked["why"].as_str().unwrap().contains("approved automatically"), "{parked}");
    scene.until(rollout, "succeeded", Duration::from_secs(30), HOUR).await;
}
