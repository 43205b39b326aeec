//! The store is locked and the queue cannot be reached, for minutes or every now and then. Invocations fail, their messages
//! come back or become dead letters, and afterwards the end is the same.

use std::cell::Cell;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use permafresh::arm::simulator::{OnPoll, Reply};
use permafresh::rollout::RolloutId;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::scene::{Ending, Scene};
use crate::faults::{Fault, Faults};
use crate::world::{Options, SIG, application, invoke_timer};

async fn without_faults() -> Ending {
    let scene = Scene::small().await;
    let id = scene.run(&scene.sound_handler(), &Cell::new(None)).await;
    scene.ending(id).await
}

#[tokio::test]
async fn an_outage_of_minutes_at_any_time_changes_nothing_about_the_end() {
    let expected = without_faults().await;
    let mut buried = 0;
    // So many steps of the rollout come before the outage.
    for steps in 0..8 {
        let scene = Scene::small().await;
        let faults = Faults::new(Fault::None);
        let router = scene.handler(&faults);
        let id = scene.post_publish(&router).await;
        for _ in 0..steps {
            scene.run_due(&router).await;
            scene.world.advance(Duration::from_secs(10));
        }
        faults.set(Fault::Outage);
        for _ in 0..40 {
            // The host redelivers at once, until it gives up.
            scene.deliver(&router).await;
            let tick = invoke_timer(&router, "PollOperations", None).await;
            assert_eq!(tick, StatusCode::INTERNAL_SERVER_ERROR, "after {steps} steps");
            scene.world.advance(Duration::from_secs(15));
        }
        faults.set(Fault::None);
        for queue in ["rollouts", "refreshes"] {
            buried += scene.world.queue.dead_letters(queue, 100).await.unwrap().len();
        }
        scene.settle(&router, id).await;
        assert_eq!(scene.ending(id).await, expected, "after {steps} steps");
        assert!(scene.operations().values().all(|count| *count == 1), "after {steps} steps");
        let stats = scene.world.simulator.stats();
        assert_eq!((stats.impatient_polls, stats.impatient_posts), (0, 0), "after {steps} steps");
    }
    assert!(buried >= 3, "the outages were long enough for dead letters: {buried}");
}

#[tokio::test]
async fn callers_are_told_of_an_outage_and_nothing_is_half_done() {
    let scene = Scene::small().await;
    let faults = Faults::new(Fault::None);
    let router = scene.handler(&faults);
    let id = scene.post_publish(&router).await;
    faults.set(Fault::Outage);
    let notification = json!({"eventType": "PUT", "applicationId": application(9), "provisioningState": "Succeeded"});
    let import = json!([{"applicationId": application(9)}]);
    let requests = [
        (Method::POST, "/api/offer-publishes".to_owned(), scene.publish.clone()),
        (Method::POST, format!("/api/notification/resource?sig={SIG}"), notification),
        (Method::PUT, "/api/deployments".to_owned(), import),
        (Method::GET, "/api/deployments".to_owned(), Value::Null),
        (Method::GET, "/api/rollouts".to_owned(), Value::Null),
        (Method::GET, format!("/api/rollouts/{id}"), Value::Null),
        (Method::GET, format!("/api/rollouts/{id}/report"), Value::Null),
        (Method::POST, format!("/api/rollouts/{id}/pause"), Value::Null),
        (Method::POST, format!("/api/rollouts/{id}/cancel"), Value::Null),
        (Method::POST, format!("/api/rollouts/{id}/retry"), Value::Null),
    ];
    for (method, path, body) in requests {
        let request = Request::builder().method(&method).uri(&path).header("content-type", "application/json");
        let answer = router.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR, "{method} {path}");
        let content = answer.headers()[header::CONTENT_TYPE].to_str().unwrap();
        assert!(content.starts_with("application/problem+json"), "{method} {path}: {content}");
    }
    faults.set(Fault::None);
    assert_eq!(scene.world.store.deployments_by_key(&[application(9).key()]).await.unwrap(), [None]);
    scene.settle(&router, id).await;
    assert_eq!(scene.ending(id).await, without_faults().await);
}

#[tokio::test]
async fn a_message_that_fails_is_given_back_and_not_lost() {
    let scene = Scene::small().await;
    let faults = Faults::new(Fault::Outage);
    scene.post_publish(&scene.sound_handler()).await;
    let message = scene.world.queue.receive("rollouts", 1, super::scene::LOCK).await.unwrap().remove(0);
    let status = crate::world::invoke_message(&scene.handler(&faults), "PlanRollout", &message.body).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    scene.world.queue.abandon("rollouts", &message.lock).await.unwrap();
    let again = scene.world.queue.receive("rollouts", 1, super::scene::LOCK).await.unwrap().remove(0);
    assert_eq!((again.id, again.body, again.delivery_count), (message.id, message.body, 2));
}

/// Runs the small rollout with a fault that never stops; callers ask again until they are answered.
async fn run_with(fault: Fault) -> (Scene, RolloutId, usize) {
    let scene = Scene::small().await;
    let faults = Faults::new(fault);
    let router = scene.handler(&faults);
    let id = publish_until_answered(&scene, &router).await;
    scene.settle(&router, id).await;
    (scene, id, faults.failures())
}

async fn publish_until_answered(scene: &Scene, router: &Router) -> RolloutId {
    for _ in 0..200 {
        let (status, answer) = super::scene::post(router, "/api/offer-publishes", &scene.publish).await;
        if status.is_success() {
            return answer["rolloutId"].as_str().unwrap().parse().unwrap();
        }
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{answer}");
    }
    panic!("the publish is never answered");
}

#[tokio::test]
async fn a_store_and_a_queue_that_fail_every_now_and_then_only_cost_time() {
    let expected = without_faults().await;
    for (count, seed) in [(3, 1), (4, 2), (5, 3), (8, 4), (8, 5), (20, 6)] {
        let context = format!("one in {count} calls fails, seed {seed}");
        let (scene, id, failures) = run_with(Fault::OneIn { count, seed }).await;
        assert_eq!(scene.ending(id).await, expected, "{context}");
        assert_eq!(scene.rollouts().await, [id], "{context}");
        let operations = u64::try_from(scene.ids.len() + failures).unwrap();
        let stats = scene.world.simulator.stats();
        assert!(stats.operations <= operations, "{context}: more operations than answers that could not be stored");
        let broken = (stats.impatient_polls, stats.impatient_posts, stats.overlapping_operations);
        assert_eq!(broken, (0, 0, 0), "{context}");
        assert!(failures >= 5, "{context}: {failures}");
    }
}

#[tokio::test]
async fn effects_that_are_done_and_answered_with_an_error_are_not_done_twice() {
    let expected = without_faults().await;
    for (count, seed) in [(2, 1), (3, 2), (4, 3), (6, 4)] {
        let context = format!("one in {count} effects is unclear, seed {seed}");
        let (scene, id, failures) = run_with(Fault::UnclearOneIn { count, seed }).await;
        assert_eq!(scene.ending(id).await, expected, "{context}");
        assert_eq!(scene.rollouts().await, [id], "{context}");
        assert!(scene.operations().values().all(|count| *count == 1), "{context}: {:?}", scene.operations());
        let stats = scene.world.simulator.stats();
        assert_eq!((stats.impatient_polls, stats.impatient_posts), (0, 0), "{context}");
        assert!(failures >= 5, "{context}: {failures}");
    }
}

#[tokio::test]
async fn a_part_of_the_timer_that_fails_holds_back_no_other_part() {
    for broken in ["open_rollouts", "tally", "due_checks", "forget_gone"] {
        let scene = Scene::small().await;
        let faults = Faults::new(Fault::None);
        let router = scene.handler(&faults);
        let id = scene.post_publish(&router).await;
        scene.deliver(&router).await;
        faults.set(Fault::OutageOf { name: broken, after: 0 });
        for _ in 0..4 {
            let tick = invoke_timer(&router, "PollOperations", None).await;
            assert_eq!(tick, StatusCode::INTERNAL_SERVER_ERROR, "{broken}");
            scene.world.advance(Duration::from_secs(15));
        }
        let refreshes = scene.refreshes(id).await;
        assert_eq!(refreshes[0].state.name(), "succeeded", "{broken} fails, and the operation is followed to its end");
    }
}

#[tokio::test]
async fn a_wait_that_arm_named_is_kept_although_the_store_fails_while_the_answer_is_on_its_way() {
    let options = Options { looks_at_once: 512, operation: Duration::from_secs(20), ..Options::default() };
    let scene = Scene::with_all_sound(options, 3, json!({"canaries": 0, "waves": ["100%"]})).await;
    let faults = Faults::new(Fault::None);
    let router = scene.handler(&faults);
    let id = scene.post_publish(&router).await;
    scene.run_due(&router).await;
    for application in &scene.ids {
        scene.world.simulator.on_poll(application, [OnPoll::Reply(Reply::throttled(600))]);
    }
    scene.world.advance(Duration::from_secs(15));
    // The first claim is won; the second fails while the looks of the first are under way.
    faults.set(Fault::OutageOf { name: "due_refreshes", after: 1 });
    assert_eq!(invoke_timer(&router, "PollOperations", None).await, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(scene.world.simulator.stats().polls, 3);
    faults.set(Fault::None);
    scene.settle(&router, id).await;
    assert_eq!(scene.world.simulator.stats().impatient_polls, 0);
    assert_eq!(scene.ending(id).await.counts.succeeded, 3);
}
