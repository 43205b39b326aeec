//! The places for calls to ARM (`ARM_MAX_CONCURRENCY`): what waits for one, and what becomes of it.

use std::cell::Cell;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use permafresh::arm::simulator::{OnPoll, OnPost};
use permafresh::rollout::{ApplicationId, RolloutId};
use serde_json::json;

use crate::crash::scene::{Scene, post};
use crate::faults::Faults;
use crate::interleaving::{between, sweep};
use crate::world::{Options, World, invoke_message, one_wave};

const HOUR: Duration = Duration::from_secs(3_600);
const LOCK: Duration = Duration::from_secs(300);

/// One place for calls, and two refreshes that are queued; their messages, in the order of the ids.
async fn two_for_one_place(place_patience: Duration) -> (Scene, RolloutId, [Vec<u8>; 2]) {
    let options =
        Options { operation: Duration::from_secs(20), calls_at_once: 1, place_patience, ..Options::default() };
    let strategy = json!({"canaries": 0, "waves": ["100%"]});
    let scene = Scene::with_all_sound(options, 2, strategy.clone()).await;
    let id = scene.world.publish(json!({"strategy": strategy})).await;
    let planning = take(&scene.world, "rollouts", 1).await.remove(0);
    assert_eq!(invoke_message(&scene.sound_handler(), "PlanRollout", &planning).await, StatusCode::OK);
    let messages = take(&scene.world, "refreshes", 2).await;
    let of = |id: &ApplicationId| {
        let key = id.key();
        messages.iter().find(|body| String::from_utf8_lossy(body).contains(key.as_str())).cloned().unwrap()
    };
    let messages = [of(&scene.ids[0]), of(&scene.ids[1])];
    (scene, id, messages)
}

async fn take(world: &World, queue: &str, count: usize) -> Vec<Vec<u8>> {
    let taken = world.queue.receive(queue, count, LOCK).await.unwrap();
    assert_eq!(taken.len(), count);
    taken.into_iter().map(|message| message.body).collect()
}

async fn step(router: &Router, message: &[u8]) -> StatusCode {
    invoke_message(router, "RefreshDeployment", message).await
}

#[tokio::test]
async fn a_refresh_that_gets_no_place_in_time_waits_in_its_rollout_and_is_posted_once() {
    let put_back = Cell::new(0);
    let counted = &put_back;
    sweep(|at| async move {
        let (scene, id, [first, second]) = two_for_one_place(Duration::from_millis(2)).await;
        let (world, faults) = (&scene.world, Faults::none());
        let handler = scene.handler(&faults);
        let other = async {
            assert_eq!(step(&handler, &second).await, StatusCode::OK, "at step {at}");
            world.refresh_of(id, &scene.ids[1]).await
        };
        let Some((_, refresh)) = between(&faults, at, step(&handler, &first), other).await else { return false };
        if refresh["state"] == "queued" {
            counted.set(counted.get() + 1);
            assert_eq!(refresh["attempts"], 0, "at step {at}: nobody was called");
        }
        let done = world.settle(id, HOUR).await;
        assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(2)), "at step {at}");
        assert_eq!(world.simulator.stats().posts, 2, "at step {at}");
        true
    })
    .await;
    assert!(put_back.get() > 0, "the only place was never taken");
}

#[tokio::test]
async fn what_was_put_on_hold_while_it_waited_for_a_place_is_not_posted() {
    let waited = Cell::new(0);
    let counted = &waited;
    sweep(|at| async move {
        let (scene, id, [first, second]) = two_for_one_place(Duration::from_secs(60)).await;
        let (world, faults) = (&scene.world, Faults::none());
        let handler = scene.handler(&faults);
        let state = async |at: usize| world.refresh_of(id, &scene.ids[at]).await["state"].clone();
        let other = async {
            // Saved and not posted: then it is stopped with the place in its hand.
            if state(0).await != "running" || world.simulator.stats().posts > 0 {
                return None;
            }
            let router = handler.clone();
            let late = tokio::spawn(async move { step(&router, &second).await });
            while state(1).await != "running" {
                tokio::task::yield_now().await;
            }
            let key = scene.ids[1].key();
            let hold = format!("/api/deployments/{key}/hold");
            let (status, answer) = post(&scene.sound_handler(), &hold, &json!({"why": "a freeze"})).await;
            assert_eq!(status, StatusCode::OK, "at step {at}: {answer}");
            world.advance(Duration::from_secs(2));
            Some(late)
        };
        let Some((_, late)) = between(&faults, at, step(&handler, &first), other).await else { return false };
        if let Some(late) = late {
            counted.set(counted.get() + 1);
            assert_eq!(late.await.unwrap(), StatusCode::OK, "at step {at}");
            let counts = &world.settle(id, HOUR).await["counts"];
            assert_eq!((&counts["succeeded"], &counts["skipped"]), (&json!(1), &json!(1)), "at step {at}");
            assert_eq!(world.simulator.operations_of(&scene.ids[1]), 0, "at step {at}: it was on hold");
        }
        true
    })
    .await;
    assert!(waited.get() > 0, "the only place was never taken");
}

#[tokio::test]
async fn an_azure_that_never_answers_has_only_so_many_calls_open_and_all_goes_on_once_it_does() {
    const MANY: usize = 12;
    let options = Options {
        operation: Duration::from_secs(20),
        calls_at_once: 4,
        posts_prepared: 4,
        place_patience: Duration::from_millis(5),
        // Short, since each call hangs once for so long; long enough for an answer on a machine that is busy.
        call_timeout: Duration::from_millis(500),
        ..Options::default()
    };
    let world = World::with(options).await;
    let ids = world.deploy(MANY).await;
    for id in &ids {
        world.simulator.on_post(id, [OnPost::Hang]);
        world.simulator.on_poll(id, [OnPoll::Hang]);
    }
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.deliver().await;
    let asked = world.simulator.stats();
    assert!(asked.posts >= 4 && asked.operations == 0, "{asked:?}");
    assert_eq!(world.rollout(id).await["counts"]["running"], 0, "nobody sits on a place that others need");

    let done = world.settle(id, 24 * HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(MANY)), "{done}");
    assert_eq!(world.simulator.stats().most_at_once, 4);
    assert!(ids.iter().all(|id| world.simulator.operations_of(id) == 1), "each was started once");
    world.assert_no_dead_letters().await;
}
